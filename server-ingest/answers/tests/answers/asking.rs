//! Questions by their names in the API, answered as JSON.

use scouter_answers::{self as answers, AnswerError, Detail, Parameters, jaeger};
use scouter_query::Engine;
use serde::Serialize;
use serde_json::Value;

use super::stored::START;

/// Now, for relative times.
pub(crate) const NOW: i64 = START as i64 + 36 * 3600 * 1_000_000_000;

pub(crate) fn parameters(query: &str) -> Parameters {
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.to_owned())
    });
    Parameters::new(pairs.collect(), NOW)
}

fn json<T: Serialize>(answer: Result<T, AnswerError>) -> Result<Value, AnswerError> {
    answer.map(|answer| serde_json::to_value(answer).unwrap())
}

/// The answer to `GET /api/v1/{question}`, where the question has its parameters behind a `?`.
pub(crate) async fn try_ask(engine: &Engine, question: &str) -> Result<Value, AnswerError> {
    let (path, query) = question.split_once('?').unwrap_or((question, ""));
    let given = parameters(query);
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["services"] => json(answers::services(engine, given).await),
        ["operations"] => json(answers::operations(engine, given).await),
        ["attributes"] => json(answers::attribute_keys(engine, given).await),
        ["attributes", key, "values"] => json(answers::attribute_values(engine, key, given).await),
        ["traces"] => json(answers::search(engine, given).await),
        ["traces", id] => {
            json(answers::trace(engine, id, given.only("detail")?.map_or(Detail::Auto, |name| Detail::from_name(&name).unwrap())).await)
        }
        ["traces", id, "genai"] => json(answers::genai_of_trace(engine, id).await),
        ["traces", trace, "spans", span] => json(answers::span(engine, trace, span).await),
        ["series"] => json(answers::series(engine, given).await),
        ["service-graph"] => json(answers::service_graph(engine, given).await),
        ["genai", "summary"] => json(answers::genai_summary(engine, given).await),
        ["genai", "models"] => json(answers::genai_models(engine, given).await),
        ["genai", "tools"] => json(answers::genai_tools(engine, given).await),
        ["genai", "agents"] => json(answers::genai_agents(engine, given).await),
        ["genai", "errors"] => json(answers::genai_errors(engine, given).await),
        ["genai", "conversations"] => json(answers::conversations(engine, given).await),
        ["genai", "conversations", id] => json(answers::conversation(engine, id).await),
        ["records"] => json(answers::record_kinds(engine, given).await),
        ["records", kind] => json(answers::record_series(engine, kind, given).await),
        ["jaeger", "services"] => json(jaeger::services(engine).await),
        ["jaeger", "operations"] => json(jaeger::operations(engine, given).await),
        ["jaeger", "traces"] => json(jaeger::search(engine, given).await),
        ["jaeger", "traces", id] => json(jaeger::trace(engine, id).await),
        ["jaeger", "dependencies"] => json(jaeger::dependencies(engine, given).await),
        _ => panic!("there is no question {path}"),
    }
}

pub(crate) async fn ask(engine: &Engine, question: &str) -> Value {
    try_ask(engine, question).await.unwrap_or_else(|error| panic!("{question}: {error}"))
}

/// One member of every element of a list.
pub(crate) fn each(list: &Value, member: &str) -> Vec<Value> {
    list.as_array().unwrap_or_else(|| panic!("{list} is a list")).iter().map(|element| element[member].clone()).collect()
}
