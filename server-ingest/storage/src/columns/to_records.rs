//! Rows of the record tables back to monitoring records.

use arrow::array::{Array, AsArray, BinaryArray, BooleanArray, Float64Array, Int32Array, Int64Array, ListArray, StringArray};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};
use arrow::record_batch::RecordBatch;
use scouter_tonic::message::monitoring_record::Record;
use scouter_tonic::message::{
    AgentTaskRecord, AgentWorkflowRecord, CustomMetricRecord, EvalRecord, MonitoringRecord, ObservabilityRecord, PsiRecord, SpcRecord,
    TagRecord,
};

use super::Table;
use super::table::string_element;
use super::to_otlp::{ReadError, converted};

/// All rows of a batch of a record table, in row order; none for [`Table::Spans`].
///
/// # Errors
/// The batch is not one of this table.
pub fn records_from_batch(table: Table, batch: &RecordBatch) -> Result<Vec<MonitoringRecord>, ReadError> {
    if table == Table::Spans {
        return Ok(Vec::new());
    }
    let rows = Rows(batch);
    let created_at = rows.long("created_at_unix_nano")?;
    let created_at = |row| created_at.value(row) as u64;
    let entity_uid = if table == Table::Tag { None } else { Some(rows.text("entity_uid")?) };
    let entity_uid = |row| entity_uid.as_ref().map_or_else(String::new, |column| string(column, row));
    match table {
        Table::Spans => Ok(Vec::new()),
        Table::Psi => {
            let (feature, bin_id, bin_count) = (rows.text("feature")?, rows.long("bin_id")?, rows.long("bin_count")?);
            rows.each(|row| {
                Record::Psi(PsiRecord {
                    created_at_unix_nano: created_at(row),
                    entity_uid: entity_uid(row),
                    feature: string(&feature, row),
                    bin_id: bin_id.value(row),
                    bin_count: bin_count.value(row),
                })
            })
        }
        Table::Spc => {
            let (feature, value) = (rows.text("feature")?, rows.double("value")?);
            rows.each(|row| {
                Record::Spc(SpcRecord {
                    created_at_unix_nano: created_at(row),
                    entity_uid: entity_uid(row),
                    feature: string(&feature, row),
                    value: value.value(row),
                })
            })
        }
        Table::Custom => {
            let (metric, value) = (rows.text("metric")?, rows.double("value")?);
            rows.each(|row| {
                Record::Custom(CustomMetricRecord {
                    created_at_unix_nano: created_at(row),
                    entity_uid: entity_uid(row),
                    metric: string(&metric, row),
                    value: value.value(row),
                })
            })
        }
        Table::Eval => {
            let (uid, record_id, session_id) = (rows.text("uid")?, rows.text("record_id")?, rows.text("session_id")?);
            let (context, trace_id, tags) = (rows.text("context")?, rows.binary("trace_id")?, rows.strings("tags")?);
            let (record_source, status) = (rows.text("record_source")?, rows.text("status")?);
            rows.each(|row| {
                Record::Eval(EvalRecord {
                    created_at_unix_nano: created_at(row),
                    entity_uid: entity_uid(row),
                    uid: string(&uid, row),
                    record_id: string(&record_id, row),
                    session_id: string(&session_id, row),
                    context_json: string(&context, row),
                    trace_id: if trace_id.is_null(row) { Vec::new() } else { trace_id.value(row).to_vec() },
                    tags: tags.value(row).as_string::<i32>().iter().map(|tag| tag.unwrap_or_default().to_owned()).collect(),
                    record_source: string(&record_source, row),
                    status: string(&status, row),
                })
            })
        }
        Table::Tag => {
            let (entity_type, entity_id) = (rows.text("entity_type")?, rows.text("entity_id")?);
            let (key, value) = (rows.text("key")?, rows.text("value")?);
            rows.each(|row| {
                Record::Tag(TagRecord {
                    created_at_unix_nano: created_at(row),
                    entity_type: string(&entity_type, row),
                    entity_id: string(&entity_id, row),
                    key: string(&key, row),
                    value: string(&value, row),
                })
            })
        }
        Table::Observability => {
            let (request_count, error_count) = (rows.long("request_count")?, rows.long("error_count")?);
            let route_metrics = rows.text("route_metrics")?;
            rows.each(|row| {
                Record::Observability(ObservabilityRecord {
                    created_at_unix_nano: created_at(row),
                    entity_uid: entity_uid(row),
                    request_count: request_count.value(row),
                    error_count: error_count.value(row),
                    route_metrics_json: string(&route_metrics, row),
                })
            })
        }
        Table::AgentTask => {
            let (record_uid, task_id, task_type) = (rows.text("record_uid")?, rows.text("task_id")?, rows.text("task_type")?);
            let (start, end) = (rows.long("start_time_unix_nano")?, rows.long("end_time_unix_nano")?);
            let (passed, value, assertion) = (rows.bool("passed")?, rows.double("value")?, rows.text("assertion")?);
            let (operator, expected, actual) = (rows.text("operator")?, rows.text("expected")?, rows.text("actual")?);
            let (message, condition, stage) = (rows.text("message")?, rows.bool("condition")?, rows.int("stage")?);
            rows.each(|row| {
                Record::AgentTask(AgentTaskRecord {
                    created_at_unix_nano: created_at(row),
                    entity_uid: entity_uid(row),
                    record_uid: string(&record_uid, row),
                    task_id: string(&task_id, row),
                    task_type: string(&task_type, row),
                    start_time_unix_nano: start.value(row) as u64,
                    end_time_unix_nano: end.value(row) as u64,
                    passed: passed.value(row),
                    value: value.value(row),
                    assertion_json: string(&assertion, row),
                    operator: string(&operator, row),
                    expected_json: string(&expected, row),
                    actual_json: string(&actual, row),
                    message: string(&message, row),
                    condition: condition.value(row),
                    stage: stage.value(row),
                })
            })
        }
        Table::AgentWorkflow => {
            let (record_uid, total, passed) = (rows.text("record_uid")?, rows.long("total_tasks")?, rows.long("passed_tasks")?);
            let (failed, pass_rate, duration) = (rows.long("failed_tasks")?, rows.double("pass_rate")?, rows.long("duration_ms")?);
            let execution_plan = rows.text("execution_plan")?;
            rows.each(|row| {
                Record::AgentWorkflow(AgentWorkflowRecord {
                    created_at_unix_nano: created_at(row),
                    entity_uid: entity_uid(row),
                    record_uid: string(&record_uid, row),
                    total_tasks: total.value(row),
                    passed_tasks: passed.value(row),
                    failed_tasks: failed.value(row),
                    pass_rate: pass_rate.value(row),
                    duration_ms: duration.value(row),
                    execution_plan_json: string(&execution_plan, row),
                })
            })
        }
    }
}

struct Rows<'a>(&'a RecordBatch);

impl Rows<'_> {
    fn each(&self, record: impl Fn(usize) -> Record) -> Result<Vec<MonitoringRecord>, ReadError> {
        Ok((0..self.0.num_rows()).map(|row| MonitoringRecord { record: Some(record(row)) }).collect())
    }

    fn column(&self, name: &'static str, data_type: &DataType) -> Result<arrow::array::ArrayRef, ReadError> {
        converted(self.0.column_by_name(name).map(AsRef::as_ref), name, data_type)
    }

    fn text(&self, name: &'static str) -> Result<StringArray, ReadError> {
        Ok(self.column(name, &DataType::Utf8)?.as_string::<i32>().clone())
    }

    fn binary(&self, name: &'static str) -> Result<BinaryArray, ReadError> {
        Ok(self.column(name, &DataType::Binary)?.as_binary::<i32>().clone())
    }

    fn long(&self, name: &'static str) -> Result<Int64Array, ReadError> {
        Ok(self.column(name, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
    }

    fn int(&self, name: &'static str) -> Result<Int32Array, ReadError> {
        Ok(self.column(name, &DataType::Int32)?.as_primitive::<Int32Type>().clone())
    }

    fn double(&self, name: &'static str) -> Result<Float64Array, ReadError> {
        Ok(self.column(name, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
    }

    fn bool(&self, name: &'static str) -> Result<BooleanArray, ReadError> {
        Ok(self.column(name, &DataType::Boolean)?.as_boolean().clone())
    }

    fn strings(&self, name: &'static str) -> Result<ListArray, ReadError> {
        Ok(self.column(name, &DataType::List(string_element()))?.as_list::<i32>().clone())
    }
}

fn string(column: &StringArray, row: usize) -> String {
    column.value(row).to_owned()
}
