//! How a query that nobody waits for any more is made to stop.
//!
//! Its task is aborted, which takes effect when the task is polled the next time. Two things see to it that this is soon:
//! - [`YieldOften`]: every step of a plan gives way after some batches. DataFusion's sources and exchanges do; a join that makes a
//!   million batches out of one, and whatever reads it, would not.
//! - [`guard_joins`]: the condition of a join asks whether the query still runs, each time it is evaluated. A join whose condition is never true
//!   has nothing to give, so it compares all rows with all rows without giving way.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::exec_err;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::SchedulingType;

/// Whether a query should end. Clones are of the same query.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Lets the conditions of all joins in an optimized plan fail once the query is stopped.
pub(crate) fn guard_joins(plan: LogicalPlan, stop: &Stop) -> Result<LogicalPlan> {
    let guard = ScalarUDF::from(UnlessStopped { stop: stop.clone(), signature: Signature::any(1, Volatility::Volatile) });
    let guarded = plan.transform_up_with_subqueries(|step| {
        let LogicalPlan::Join(mut join) = step else { return Ok(Transformed::no(step)) };
        match join.filter.take() {
            Some(filter) => {
                join.filter = Some(guard.call(vec![filter]));
                Ok(Transformed::yes(LogicalPlan::Join(join)))
            }
            None => Ok(Transformed::no(LogicalPlan::Join(join))),
        }
    });
    guarded.map(|transformed| transformed.data)
}

/// `unless_stopped(value)`: the value.
#[derive(Debug)]
struct UnlessStopped {
    stop: Stop,
    signature: Signature,
}

impl PartialEq for UnlessStopped {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.stop.0, &other.stop.0)
    }
}

impl Eq for UnlessStopped {}

impl Hash for UnlessStopped {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.stop.0).hash(state);
    }
}

impl ScalarUDFImpl for UnlessStopped {
    fn name(&self) -> &str {
        "unless_stopped"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(given[0].clone())
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.stop.is_set() {
            return exec_err!("the query was stopped");
        }
        Ok(args.args.swap_remove(0))
    }
}

/// The usual rules, and [`YieldOften`] before those that must see the plan as it will be.
pub(crate) fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    let cooperative = rules.iter().position(|rule| rule.name() == "EnsureCooperative");
    rules.insert(cooperative.map_or(rules.len(), |index| index + 1), Arc::new(YieldOften));
    rules
}

/// Puts a point where a task gives way on top of each step that has none.
#[derive(Debug)]
struct YieldOften;

impl PhysicalOptimizerRule for YieldOften {
    fn name(&self) -> &str {
        "yield_often"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let yielding = plan.transform_up(|step| {
            let gives_way = step.properties().scheduling_type == SchedulingType::Cooperative;
            // A scan gives way by itself; a statement about a plan has no rows worth it.
            if gives_way || step.children().is_empty() {
                return Ok(Transformed::no(step));
            }
            Ok(Transformed::yes(Arc::new(CooperativeExec::new(step)) as Arc<dyn ExecutionPlan>))
        });
        yielding.map(|transformed| transformed.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}
