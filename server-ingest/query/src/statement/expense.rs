//! What a plan may cost where neither memory nor time is watched: inside the evaluation of one expression over one batch.
//!
//! - **Texts that grow.** A chain of expressions of which each joins the one before to itself, or writes it in twice as many digits, doubles with
//!   every link. Plans are weighed: how many values, at most, of the size of a stored one a value of theirs can hold.
//! - **Patterns.** Their cost grows with the pattern times the text, and a batch is matched without a pause. They are written out, and small once
//!   compiled.
//! - **Lists over windows.** A list of all rows so far, for each row, takes the square of the rows.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator, WindowFunctionDefinition};
use regex::RegexBuilder;

use crate::error::{Phase, QueryError};

/// Values that one value may be put together from.
const MAX_WEIGHT: usize = 64;

/// A literal of so many bytes counts as a value.
const LITERAL_BYTES: usize = 4096;

/// What an element of a list takes beside its text, in bytes, at least.
const ELEMENT_BYTES: usize = 4;

/// Values that a list of a group's counts as. What the group takes is watched while it is gathered; this is for what is made of it.
const GATHERED_WEIGHT: usize = 8;

/// The longest pattern of `LIKE`, and the longest regular expression.
const MAX_PATTERN_BYTES: usize = 1024;

/// What a regular expression may take once compiled.
const MAX_COMPILED_BYTES: usize = 512 << 10;

/// Refuses plans that could take much more than the rows they read. Its depth must have been judged.
pub(super) fn judge(plan: &LogicalPlan) -> Result<(), QueryError> {
    let mut refusal = None;
    let visited = plan.apply_with_subqueries(|step| {
        step.apply_expressions(|expression| {
            expression.apply(|part| {
                refusal = judge_patterns(part).and_then(|()| judge_window(part)).err();
                Ok(if refusal.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    });
    visited.map_err(|error| QueryError::from_datafusion(&error, Phase::Plan, 0))?;
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    match weigh(plan).map_err(|error| QueryError::from_datafusion(&error, Phase::Plan, 0))? {
        Some(_) => Ok(()),
        None => Err(QueryError::TooComplex { what: "texts joined into one", limit: MAX_WEIGHT }),
    }
}

fn judge_patterns(expression: &Expr) -> Result<(), QueryError> {
    match expression {
        Expr::Like(like) => literal_pattern(&like.pattern).map(drop),
        Expr::SimilarTo(like) => compiles(literal_pattern(&like.pattern)?),
        Expr::BinaryExpr(binary) => match binary.op {
            Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch => {
                compiles(literal_pattern(&binary.right)?)
            }
            Operator::LikeMatch | Operator::ILikeMatch | Operator::NotLikeMatch | Operator::NotILikeMatch => {
                literal_pattern(&binary.right).map(drop)
            }
            _ => Ok(()),
        },
        Expr::ScalarFunction(call) if call.func.name() == "array_to_string" => {
            // It is written behind every element.
            let is_written_out = call.args.iter().skip(1).all(|between| literal_bytes(between).is_some());
            if is_written_out { Ok(()) } else { Err(invalid("what array_to_string puts between elements has to be written out")) }
        }
        Expr::ScalarFunction(call) if call.func.name().starts_with("regexp_") => match call.args.get(1) {
            Some(pattern) => compiles(literal_pattern(pattern)?),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// The pattern, where it is a text that is written out.
fn literal_pattern(pattern: &Expr) -> Result<&str, QueryError> {
    let text = match pattern {
        Expr::Literal(value, _) if value.is_null() => return Ok(""),
        Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _) => text,
        Expr::Cast(cast) => return literal_pattern(&cast.expr),
        _ => return Err(invalid("a pattern has to be written out, not computed; contains(text, part) finds any text")),
    };
    if text.len() > MAX_PATTERN_BYTES {
        return Err(QueryError::TooComplex { what: "bytes in a pattern", limit: MAX_PATTERN_BYTES });
    }
    Ok(text)
}

/// Another fault of the pattern is left to who evaluates it.
fn compiles(pattern: &str) -> Result<(), QueryError> {
    match RegexBuilder::new(pattern).size_limit(MAX_COMPILED_BYTES).build() {
        Err(regex::Error::CompiledTooBig(_)) => {
            Err(QueryError::TooComplex { what: "bytes in a compiled regular expression", limit: MAX_COMPILED_BYTES })
        }
        _ => Ok(()),
    }
}

/// Aggregates whose value grows with the rows.
const GATHERING: [&str; 2] = ["array_agg", "string_agg"];

fn judge_window(expression: &Expr) -> Result<(), QueryError> {
    let Expr::WindowFunction(window) = expression else { return Ok(()) };
    match &window.fun {
        WindowFunctionDefinition::AggregateUDF(function) if GATHERING.contains(&function.name()) => {
            Err(invalid("array_agg and string_agg are not computed OVER a window"))
        }
        _ => Ok(()),
    }
}

fn invalid(message: &str) -> QueryError {
    QueryError::Invalid { message: message.to_owned() }
}

/// How many stored values a value of the plan may hold; `None` above the limit, here or below.
fn weigh(plan: &LogicalPlan) -> DataFusionResult<Option<usize>> {
    let mut below = 1;
    for input in plan.inputs() {
        let Some(weight) = weigh(input)? else { return Ok(None) };
        below = below.max(weight);
    }
    let schemas: Vec<&DFSchema> = match plan.inputs().as_slice() {
        [] => vec![plan.schema()],
        inputs => inputs.iter().map(|input| input.schema().as_ref()).collect(),
    };
    let mut own = 1;
    let mut scale = Scale { schemas, below, is_over: false };
    plan.apply_expressions(|expression| {
        own = own.max(scale.weigh(expression)?);
        Ok(TreeNodeRecursion::Continue)
    })?;
    if scale.is_over {
        return Ok(None);
    }
    // Other steps hand on the rows that they were given.
    let makes_values =
        matches!(plan, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) | LogicalPlan::Values(_));
    Ok(Some(if makes_values { below.saturating_mul(own) } else { below }))
}

struct Scale<'a> {
    schemas: Vec<&'a DFSchema>,
    below: usize,
    is_over: bool,
}

impl Scale<'_> {
    /// In values of the step below.
    fn weigh(&mut self, expression: &Expr) -> DataFusionResult<usize> {
        let weight = match expression {
            Expr::Column(_) => 1,
            Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _) => {
                1 + text.len() / LITERAL_BYTES
            }
            Expr::ScalarSubquery(subquery) => match weigh(&subquery.subquery)? {
                Some(weight) => weight,
                None => {
                    self.is_over = true;
                    1
                }
            },
            Expr::ScalarFunction(call) => self.call(call)?,
            Expr::AggregateFunction(call) if GATHERING.contains(&call.func.name()) => {
                self.sum(&mut call.params.args.iter())?.saturating_mul(GATHERED_WEIGHT)
            }
            Expr::BinaryExpr(binary) if binary.op == Operator::StringConcat => {
                self.sum(&mut [binary.left.as_ref(), binary.right.as_ref()].into_iter())?
            }
            _ => {
                let mut most = 1;
                expression.apply_children(|child| {
                    most = most.max(self.weigh(child)?);
                    Ok(TreeNodeRecursion::Continue)
                })?;
                most
            }
        };
        self.is_over |= self.below.saturating_mul(weight) > MAX_WEIGHT;
        Ok(if self.is_small(expression) { 1 } else { weight })
    }

    fn call(&mut self, call: &ScalarFunction) -> DataFusionResult<usize> {
        let sum = self.sum(&mut call.args.iter())?;
        Ok(match (call.func.name(), call.args.as_slice()) {
            // Two digits a byte, at most; other encodings have fewer.
            ("encode" | "hex", _) => sum.saturating_mul(2),
            ("string_to_array", _) => sum.saturating_mul(ELEMENT_BYTES),
            ("concat_ws", [separator, joined @ ..]) => {
                let places = joined.len().saturating_sub(1);
                let separators = match literal_bytes(separator) {
                    Some(bytes) => bytes.saturating_mul(places) / LITERAL_BYTES,
                    None => self.weigh(separator)?.saturating_mul(places),
                };
                sum.saturating_add(separators)
            }
            // Behind each element, of which there may be as many as the list has room for.
            ("array_to_string", [list, between @ ..]) => {
                let bytes: usize = between.iter().filter_map(literal_bytes).sum();
                self.weigh(list)?.saturating_mul(1 + bytes.div_ceil(ELEMENT_BYTES))
            }
            _ => sum,
        })
    }

    fn sum(&mut self, parts: &mut dyn Iterator<Item = &Expr>) -> DataFusionResult<usize> {
        let mut sum: usize = 0;
        for part in parts {
            // A short text beside others is not what makes a value large.
            let is_short = matches!(part, Expr::Literal(value, _) if value.size() < LITERAL_BYTES);
            sum = sum.saturating_add(if is_short { 0 } else { self.weigh(part)? });
        }
        Ok(sum.max(1))
    }

    /// A number, a time, a truth.
    fn is_small(&self, expression: &Expr) -> bool {
        let types = self.schemas.iter().find_map(|schema| expression.get_type(*schema).ok());
        types.is_some_and(|found| found.is_primitive() || found == DataType::Boolean || found == DataType::Null)
    }
}

/// How long a text is that is written out.
fn literal_bytes(expression: &Expr) -> Option<usize> {
    match expression {
        Expr::Literal(value, _) if value.is_null() => Some(0),
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::len),
        Expr::Cast(cast) => literal_bytes(&cast.expr),
        _ => None,
    }
}
