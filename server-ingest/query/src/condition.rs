//! What rows must be, in types: the filters of questions that are not SQL.
//!
//! Nothing a user wrote becomes SQL text here. Values become literals, and what no literal can say, such as the test of an attribute in
//! canonical JSON, becomes a function that carries its parameters.

mod attribute;
mod row_test;

#[cfg(test)]
mod tests;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::utils::{conjunction, disjunction};
use datafusion::logical_expr::{Expr, ScalarUDF, ident, lit};
use scouter_storage::columns::{Table, is_filled_in, promoted_column};

pub use attribute::{AttributeTest, Double, Operand, Operator, Wanted};
use row_test::{RowTest, Test};

/// Something that must hold of a row. Column names are those of [`Table::schema`].
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// A text column has one of these values.
    OneOf(&'static str, Vec<String>),
    /// A 32-bit column has one of these values, or none of them.
    Codes {
        /// The column.
        column: &'static str,
        /// The values.
        codes: Vec<i32>,
        /// Whether it must have none of them.
        is_negated: bool,
    },
    /// A 64-bit column is not smaller.
    AtLeast(&'static str, i64),
    /// A 64-bit column is not larger.
    AtMost(&'static str, i64),
    /// A 64-bit column is smaller, or it is equal and the row is of a trace with a larger id.
    Behind {
        /// The column.
        column: &'static str,
        /// What it is compared with.
        value: i64,
        /// The trace.
        trace: [u8; 16],
    },
    /// A 64-bit column is larger, or it is equal and the row is of a trace with a smaller id: what [`Condition::Behind`] is not, but for the
    /// place itself.
    Ahead {
        /// The column.
        column: &'static str,
        /// What it is compared with.
        value: i64,
        /// The trace.
        trace: [u8; 16],
    },
    /// A column has no value.
    Missing(&'static str),
    /// A column has a value.
    Present(&'static str),
    /// The row is of one of these traces.
    Traces(Vec<[u8; 16]>),
    /// The row is of none of these traces.
    OtherTraces(Vec<[u8; 16]>),
    /// The row is of this span.
    Span([u8; 8]),
    /// An attribute of the span, else of its resource.
    Attribute(AttributeTest),
    /// One of Scouter's tags.
    Tag(AttributeTest),
    /// A list column has one of these values.
    Lists(&'static str, Vec<String>),
    /// The text occurs in what a person reads of a span, in any case.
    Text(String),
    /// One of them holds.
    Any(Vec<Condition>),
    /// All of them hold.
    All(Vec<Condition>),
}

impl Condition {
    /// Rows from `from` on and before `until`, in nanoseconds since 1970, by the time column of `table`.
    pub fn time(table: Table, from: Option<i64>, until: Option<i64>) -> Vec<Self> {
        let column = time_column(table);
        let from = from.map(|from| Self::AtLeast(column, from));
        let until = until.map(|until| match until.checked_sub(1) {
            Some(last) => Self::AtMost(column, last),
            None => Self::Any(Vec::new()),
        });
        from.into_iter().chain(until).collect()
    }

    fn expression(&self) -> Expr {
        match self {
            Self::OneOf(column, values) => one_of(column, values.iter().map(|value| lit(value.as_str())).collect(), false),
            Self::Codes { column, codes, is_negated } => one_of(column, codes.iter().map(|code| lit(*code)).collect(), *is_negated),
            Self::AtLeast(column, value) => ident(*column).gt_eq(lit(*value)),
            Self::AtMost(column, value) => ident(*column).lt_eq(lit(*value)),
            Self::Behind { column, value, trace } => {
                let column = ident(*column);
                // The first comparison is what files and pages are left out by.
                let is_not_before = column.clone().lt_eq(lit(*value));
                is_not_before.and(column.lt(lit(*value)).or(ident("trace_id").gt(bytes(trace))))
            }
            Self::Ahead { column, value, trace } => {
                let column = ident(*column);
                let is_not_behind = column.clone().gt_eq(lit(*value));
                is_not_behind.and(column.gt(lit(*value)).or(ident("trace_id").lt(bytes(trace))))
            }
            Self::Missing(column) => ident(*column).is_null(),
            Self::Present(column) => ident(*column).is_not_null(),
            Self::Traces(ids) => one_of("trace_id", ids.iter().map(|id| bytes(id)).collect(), false),
            Self::OtherTraces(ids) => one_of("trace_id", ids.iter().map(|id| bytes(id)).collect(), true),
            Self::Span(id) => ident("span_id").eq(bytes(id)),
            Self::Attribute(test) => attribute(test),
            Self::Tag(test) => call(Test::Attribute(test.clone()), &["tags"]),
            Self::Lists(column, values) => call(Test::Lists(values.clone()), &[column]),
            Self::Text(text) => {
                let columns = ["name", "service_name", "status_message", "exception_type", "exception_message", "attributes", "events"];
                call(Test::Text(text.clone()), &columns)
            }
            Self::Any(conditions) => disjunction(conditions.iter().map(Self::expression)).unwrap_or_else(|| lit(false)),
            Self::All(conditions) => all_of(conditions).unwrap_or_else(|| lit(true)),
        }
    }
}

/// The nanoseconds by which the rows of a table are told apart in time.
pub(crate) fn time_column(table: Table) -> &'static str {
    if table == Table::Spans { "start_unix_nano" } else { "created_at_unix_nano" }
}

/// All of them hold; `None` if there are none.
pub(crate) fn all_of(conditions: &[Condition]) -> Option<Expr> {
    conjunction(conditions.iter().map(Condition::expression))
}

fn one_of(column: &str, values: Vec<Expr>, is_negated: bool) -> Expr {
    match <[Expr; 1]>::try_from(values) {
        Ok([value]) if is_negated => ident(column).not_eq(value),
        Ok([value]) => ident(column).eq(value),
        Err(values) if values.is_empty() => lit(is_negated),
        Err(values) => ident(column).in_list(values, is_negated),
    }
}

fn bytes(id: &[u8]) -> Expr {
    lit(ScalarValue::Binary(Some(id.to_vec())))
}

fn call(test: Test, columns: &[&str]) -> Expr {
    let function = RowTest::new(test, columns.len());
    ScalarUDF::from(function).call(columns.iter().map(|column| ident(*column)).collect())
}

/// Where an attribute has a column and the test says of which type it must be, the column answers: its values are the attribute's, or, in
/// some columns, those of another that says the same.
fn attribute(test: &AttributeTest) -> Expr {
    let from_json = || call(Test::Attribute(test.clone()), &["attributes", "resource_attributes"]);
    let Some(column) = promoted_column(&test.key) else { return from_json() };
    let is_integer = Table::Spans.schema().field_with_name(column).is_ok_and(|field| field.data_type().is_integer());
    // Exceptions are events: their attributes are in no span's.
    let is_of_event = column.starts_with("exception_");
    let column = ident(column);
    let compare = |operator, value| {
        let in_column = compare(column.clone(), operator, value);
        // Few are left for the attribute itself to decide.
        if is_filled_in(&test.key) { in_column.and(from_json()) } else { in_column }
    };
    match &test.wanted {
        Wanted::Present if is_of_event => column.is_not_null(),
        Wanted::Absent if is_of_event => column.is_null(),
        Wanted::Compare { operator, operand: Operand::Int(value) } if is_integer => compare(*operator, lit(*value)),
        Wanted::Compare { operator, operand: Operand::Text(text) } if !is_integer => compare(*operator, lit(text.as_str())),
        Wanted::Compare { operator, operand: Operand::Untyped(text) } if is_of_event => compare(*operator, lit(text.as_str())),
        Wanted::Contains(text) if is_of_event => ScalarUDF::from(RowTest::new(Test::Text(text.clone()), 1)).call(vec![column]),
        _ => from_json(),
    }
}

fn compare(column: Expr, operator: Operator, value: Expr) -> Expr {
    match operator {
        Operator::Equal => column.eq(value),
        Operator::NotEqual => column.not_eq(value),
        Operator::Less => column.lt(value),
        Operator::AtMost => column.lt_eq(value),
        Operator::Greater => column.gt(value),
        Operator::AtLeast => column.gt_eq(value),
    }
}
