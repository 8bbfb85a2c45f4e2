//! What is kept of the rows counts against the memory of questions while it grows.

use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use scouter_answers::AnswerError;
use scouter_query::{Limits, QueryError};

use super::asking::{ask, try_ask};
use super::stored::{Stored, attribute, plain_span, request, store_with, text};

const GROUPS: u64 = 3000;

/// As many models, agents, tools, conversations, operations as there are traces, each with a span of a nanosecond and one of an hour, so that
/// the durations of each take as much as they can.
async fn many_groups(memory_bytes: usize) -> Stored {
    let stored = store_with(Duration::from_secs(3600), Limits { memory_bytes, ..Limits::default() });
    let span = |group: u64, id: u64, duration: u64| -> Span {
        let mut span = plain_span(u128::from(group) + 1, id, 0, &format!("operation {group}"), group * 1_000_000_000, duration);
        span.attributes = vec![
            text("gen_ai.request.model", &format!("model {group}")),
            text("gen_ai.agent.name", &format!("agent {group}")),
            text("gen_ai.tool.name", &format!("tool {group}")),
            text("gen_ai.conversation.id", &format!("conversation {group} {}", "x".repeat(2000))),
            attribute("gen_ai.usage.input_tokens", Any::IntValue(1)),
        ];
        span
    };
    for first in (0..GROUPS).step_by(500) {
        let spans = (first..first + 500).flat_map(|group| [span(group, 1, 1), span(group, 2, 3_600_000_000_000)]);
        stored.put(&request("a", spans.collect())).await;
    }
    stored
}

const QUESTIONS: [&str; 5] =
    ["genai/models", "genai/agents", "genai/tools", "series?by=operation&bucket=1d", "genai/conversations?limit=1"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folds_that_grow_too_large_are_refused_and_say_how_to_narrow_the_question() {
    let stored = many_groups(6 << 20).await;
    for question in QUESTIONS {
        let error = try_ask(&stored.engine, question).await.unwrap_err();
        assert!(matches!(error, AnswerError::Query(QueryError::Memory { .. })), "{question}: {error:?}");
        assert!(error.suggested_action().contains("narrow the time or the filter"), "{question}: {}", error.suggested_action());
        assert_eq!((stored.engine.running(), stored.engine.memory_used()), (0, 0), "{question} gave back what it had");
    }
    // And the narrowed question is answered.
    assert_eq!(ask(&stored.engine, "genai/models?end=2026-04-25T21:20:00Z").await["models"].as_array().unwrap().len(), 96);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_room_the_same_questions_are_answered() {
    let stored = many_groups(256 << 20).await;
    for question in QUESTIONS {
        ask(&stored.engine, question).await;
        assert_eq!(stored.engine.memory_used(), 0, "{question}");
    }
}
