//! Which statements are answered.
//!
//! A statement is parsed once and judged three times: its text before parsing, its tree before planning, its plan before
//! optimizing. The first two and the last bound how deep and how large a query can be, because most code that works on queries
//! recurses, and a stack that overflows ends the server, acknowledged rows or not. [`expense`] bounds what one expression can cost.

mod expense;

use std::collections::HashMap;
use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, ObjectName, Query, SetExpr, Statement as SqlStatement, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::error::{Phase, QueryError};

/// The longest statement. [`crate::threads`] gives stacks that go with it.
pub(crate) const MAX_SQL_BYTES: usize = 64 << 10;

/// Set operations and joins in one statement.
const MAX_RELATIONS: usize = 100;

/// How deep expressions may be. A chain of `OR` of n terms is n deep; a list after `IN` is not.
const MAX_EXPRESSION_DEPTH: usize = 400;

/// Tables that a statement reads once its common table expressions stand where they are mentioned. Planning cannot be stopped
/// midway, and a chain of expressions that mention the one before twice doubles with each.
const MAX_EXPANDED_RELATIONS: usize = 500;

/// How deep plans may be.
const MAX_PLAN_DEPTH: usize = 400;

/// How deep the lists and structs of an answer may be nested.
const MAX_TYPE_DEPTH: usize = 50;

/// Structs and maps that a statement makes. Types are trees, and one in which each level holds the one below twice doubles with each.
const MAX_STRUCTS: usize = 8;

/// Functions that make them.
const STRUCT_FUNCTIONS: [&str; 5] = ["struct", "named_struct", "row", "map", "make_map"];

/// Steps of a plan, those of a common table expression counted at each use.
const MAX_PLAN_STEPS: usize = 4000;

/// Reads one statement and refuses it if it does anything but read, or is too large to be planned.
pub(crate) fn parse(sql: &str) -> Result<Statement, QueryError> {
    if sql.len() > MAX_SQL_BYTES {
        return Err(QueryError::TooComplex { what: "bytes", limit: MAX_SQL_BYTES });
    }
    judge_words(sql)?;
    let parsed = DFParserBuilder::new(sql).build().and_then(|mut parser| parser.parse_statements());
    let mut statements = parsed.map_err(|error| match QueryError::from_datafusion(&error, Phase::Plan, 0) {
        QueryError::Invalid { message } => QueryError::Syntax { message },
        other => other,
    })?;
    let statement = match (statements.pop_front(), statements.len()) {
        (None, _) => return Err(QueryError::Syntax { message: "it is empty".to_owned() }),
        (Some(statement), 0) => statement,
        (Some(_), more) => return Err(QueryError::Syntax { message: format!("there are {} of them", more + 1) }),
    };
    // Depth first: printing a refused statement recurses too.
    judge_tree(&statement)?;
    judge_kind(&statement)?;
    Ok(statement)
}

/// Refuses plans that write or change settings, and plans that are too large.
pub(crate) fn judge_plan(plan: &LogicalPlan) -> Result<(), QueryError> {
    judge_plan_size(plan)?;
    judge_types(plan)?;
    expense::judge(plan)?;
    let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    read_only.verify_plan(plan).map_err(|_| QueryError::NotReadOnly { statement: plan.display().to_string() })
}

/// What nests without the parser's own recursion limit is counted by its words.
fn judge_words(sql: &str) -> Result<(), QueryError> {
    let (mut relations, mut explains) = (0, 0);
    // What is not tokens is left to the parser to refuse.
    for token in Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap_or_default() {
        let Token::Word(word) = token else { continue };
        match word.keyword {
            Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT | Keyword::MINUS | Keyword::JOIN => relations += 1,
            Keyword::EXPLAIN | Keyword::DESCRIBE => explains += 1,
            _ => {}
        }
    }
    if relations > MAX_RELATIONS {
        return Err(QueryError::TooComplex { what: "joins and set operations", limit: MAX_RELATIONS });
    }
    if explains > 1 {
        return Err(QueryError::Syntax { message: "it has more than one EXPLAIN or DESCRIBE".to_owned() });
    }
    Ok(())
}

fn judge_kind(statement: &Statement) -> Result<(), QueryError> {
    let is_read_only = match statement {
        Statement::Statement(statement) => is_read_only(statement),
        Statement::Explain(explain) => return judge_kind(&explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => false,
    };
    if is_read_only { Ok(()) } else { Err(QueryError::NotReadOnly { statement: first_words(&statement.to_string()) }) }
}

fn is_read_only(statement: &SqlStatement) -> bool {
    match statement {
        SqlStatement::Query(query) => reads_only(&query.body),
        SqlStatement::Explain { statement, .. } => is_read_only(statement),
        SqlStatement::ExplainTable { .. } | SqlStatement::ShowTables { .. } | SqlStatement::ShowColumns { .. } => true,
        _ => false,
    }
}

fn reads_only(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(select) => select.into.is_none(),
        SetExpr::Query(query) => reads_only(&query.body),
        SetExpr::SetOperation { left, right, .. } => reads_only(left) && reads_only(right),
        SetExpr::Values(_) | SetExpr::Table(_) => true,
        _ => false,
    }
}

/// The words of a statement that say what it does, in capitals.
fn first_words(statement: &str) -> String {
    const KINDS: [&str; 9] = ["ALL", "DATABASE", "EXTERNAL", "FUNCTION", "INDEX", "SCHEMA", "TABLE", "TRANSACTION", "VIEW"];
    let words: Vec<String> = statement.split_whitespace().take(3).map(str::to_uppercase).collect();
    let kinds = words.iter().skip(1).take_while(|word| KINDS.contains(&word.as_str())).count();
    match words.first() {
        Some(verb) if verb.chars().all(|letter| letter.is_ascii_alphabetic()) => words[..=kinds].join(" "),
        _ => "this statement".to_owned(),
    }
}

fn judge_tree(statement: &Statement) -> Result<(), QueryError> {
    let statement = match statement {
        Statement::Statement(statement) => statement,
        Statement::Explain(explain) => return judge_tree(&explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => return Ok(()),
    };
    match statement.visit(&mut Measure::default()) {
        ControlFlow::Break(refusal) => Err(refusal),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn too_deep_expression() -> QueryError {
    QueryError::TooComplex { what: "levels of expressions (a list after IN is one level)", limit: MAX_EXPRESSION_DEPTH }
}

fn makes_struct(expression: &SqlExpr) -> bool {
    match expression {
        SqlExpr::Struct { .. } | SqlExpr::Dictionary(_) | SqlExpr::Map(_) | SqlExpr::Tuple(_) => true,
        SqlExpr::Function(call) => {
            let name = call.name.0.last().map(|part| part.to_string().trim_matches('"').to_lowercase());
            name.is_some_and(|name| STRUCT_FUNCTIONS.contains(&name.as_str()))
        }
        _ => false,
    }
}

/// Measures the visited tree. The visit ends at the limit of depth, so it never recurses further itself.
#[derive(Default)]
struct Measure {
    expression_depth: usize,
    structs: usize,
    /// For each query that is being visited: the tables it reads so far.
    open: Vec<usize>,
    /// The queries behind the names of common table expressions.
    named: HashMap<*const Query, String>,
    /// The tables behind those names. A name that is given twice counts as the larger, whatever its scope.
    sizes: HashMap<String, usize>,
}

impl Visitor for Measure {
    type Break = QueryError;

    fn pre_visit_expr(&mut self, expression: &SqlExpr) -> ControlFlow<QueryError> {
        self.expression_depth += 1;
        self.structs += usize::from(makes_struct(expression));
        if self.structs > MAX_STRUCTS {
            return ControlFlow::Break(QueryError::TooComplex { what: "structs and maps", limit: MAX_STRUCTS });
        }
        if self.expression_depth > MAX_EXPRESSION_DEPTH { ControlFlow::Break(too_deep_expression()) } else { ControlFlow::Continue(()) }
    }

    fn post_visit_expr(&mut self, _: &SqlExpr) -> ControlFlow<QueryError> {
        self.expression_depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        self.open.push(0);
        let named = query.with.iter().flat_map(|with| &with.cte_tables);
        self.named.extend(named.map(|named| (&raw const *named.query, named.alias.name.value.to_lowercase())));
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        let size = self.open.pop().unwrap_or(0);
        match self.named.get(&(&raw const *query)) {
            Some(name) => {
                let known = self.sizes.entry(name.clone()).or_insert(1);
                *known = size.max(*known);
                ControlFlow::Continue(())
            }
            None => self.read(size),
        }
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<QueryError> {
        let size = self.sizes.get(&name.to_string().replace('"', "").to_lowercase()).copied();
        self.read(size.unwrap_or(1))
    }
}

impl Measure {
    fn read(&mut self, relations: usize) -> ControlFlow<QueryError> {
        let Some(open) = self.open.last_mut() else { return ControlFlow::Continue(()) };
        *open += relations;
        if *open > MAX_EXPANDED_RELATIONS {
            let what = "tables, those of common table expressions counted at each use";
            return ControlFlow::Break(QueryError::TooComplex { what, limit: MAX_EXPANDED_RELATIONS });
        }
        ControlFlow::Continue(())
    }
}

/// Measures the plan as the tree that the optimizer will see: what is shared counts at each use.
fn judge_plan_size(plan: &LogicalPlan) -> Result<(), QueryError> {
    let (mut steps, mut is_too_deep) = (0, false);
    let visited = plan.apply_with_subqueries(|step| {
        steps += 1;
        step.apply_expressions(|expression| {
            is_too_deep |= is_deeper_than(expression, MAX_EXPRESSION_DEPTH)?;
            Ok(if is_too_deep { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        Ok(if is_too_deep || steps > MAX_PLAN_STEPS { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    visited.map_err(|error| QueryError::from_datafusion(&error, Phase::Plan, 0))?;
    if is_too_deep {
        return Err(too_deep_expression());
    }
    if steps > MAX_PLAN_STEPS {
        return Err(QueryError::TooComplex { what: "steps, common table expressions counted at each use", limit: MAX_PLAN_STEPS });
    }
    let mut stack = vec![(plan, 1)];
    while let Some((step, depth)) = stack.pop() {
        if depth > MAX_PLAN_DEPTH {
            return Err(QueryError::TooComplex { what: "nested steps", limit: MAX_PLAN_DEPTH });
        }
        stack.extend(step.inputs().into_iter().map(|input| (input, depth + 1)));
    }
    Ok(())
}

/// Values are as deep as their types, and an answer leaves the threads with large stacks.
fn judge_types(plan: &LogicalPlan) -> Result<(), QueryError> {
    let mut stack: Vec<(&DataType, usize)> = plan.schema().fields().iter().map(|field| (field.data_type(), 1)).collect();
    while let Some((data_type, depth)) = stack.pop() {
        if depth > MAX_TYPE_DEPTH {
            return Err(QueryError::TooComplex { what: "levels of lists and structs in a column", limit: MAX_TYPE_DEPTH });
        }
        match data_type {
            DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) | DataType::Map(field, _) => {
                stack.push((field.data_type(), depth + 1));
            }
            DataType::ListView(field) | DataType::LargeListView(field) => stack.push((field.data_type(), depth + 1)),
            DataType::Struct(fields) => stack.extend(fields.iter().map(|field| (field.data_type(), depth + 1))),
            DataType::Union(fields, _) => stack.extend(fields.iter().map(|(_, field)| (field.data_type(), depth + 1))),
            DataType::Dictionary(_, values) => stack.push((values, depth + 1)),
            DataType::RunEndEncoded(_, values) => stack.push((values.data_type(), depth + 1)),
            _ => {}
        }
    }
    Ok(())
}

fn is_deeper_than(expression: &Expr, limit: usize) -> DataFusionResult<bool> {
    let mut stack = vec![(expression, 1)];
    while let Some((expression, depth)) = stack.pop() {
        if depth > limit {
            return Ok(true);
        }
        expression.apply_children(|child| {
            stack.push((child, depth + 1));
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
