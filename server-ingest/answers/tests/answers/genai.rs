//! Conversations and the tables of GenAI.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use serde_json::{Value, json};

use super::asking::{ask, each};
use super::stored::{SECOND, Stored, attribute, plain_span, request, store, text};

fn chat(trace: u128, id: u64, start: u64, conversation: Option<&str>, tokens: (i64, i64), more: Vec<KeyValue>) -> Span {
    let mut span = plain_span(trace, id, 1, "chat small", start * SECOND, 100);
    span.attributes = vec![
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.provider.name", "p"),
        text("gen_ai.request.model", "small"),
        attribute("gen_ai.usage.input_tokens", Any::IntValue(tokens.0)),
        attribute("gen_ai.usage.output_tokens", Any::IntValue(tokens.1)),
    ];
    span.attributes.extend(conversation.map(|id| text("gen_ai.conversation.id", id)));
    span.attributes.extend(more);
    span
}

fn tool(trace: u128, id: u64, start: u64) -> Span {
    let mut span = plain_span(trace, id, 1, "execute_tool search", start * SECOND, 50);
    span.attributes =
        vec![text("gen_ai.operation.name", "execute_tool"), text("gen_ai.tool.name", "search"), text("error.type", "Timeout")];
    span.status = Some(Status { code: 2, message: "too slow".into() });
    span
}

/// Two traces of conversation `c`, one of two conversations, one without any.
async fn talks() -> Stored {
    let stored = store();
    let messages = vec![text("gen_ai.input.messages", "[{\"role\":\"user\",\"parts\":[{\"type\":\"text\",\"content\":\"hi\"}]}]")];
    let spans = vec![
        plain_span(1, 1, 0, "request", 0, 10),
        chat(1, 2, 1, Some("c"), (10, 1), messages),
        tool(1, 3, 2),
        chat(2, 2, 5, Some("c"), (20, 2), vec![text("gen_ai.response.model", "small-1")]),
        chat(3, 2, 6, Some("d"), (30, 3), vec![]),
        chat(3, 3, 7, Some("e"), (40, 4), vec![]),
        tool(3, 4, 8),
        chat(4, 2, 9, None, (50, 5), vec![text("gen_ai.agent.name", "planner")]),
    ];
    stored.put(&request("answerer", spans)).await;
    stored
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversations_gather_what_belongs_to_them() {
    let stored = talks().await;
    let page = ask(&stored.engine, "genai/conversations").await;
    let third = "trace:00000000000000000000000000000003";
    let fourth = "trace:00000000000000000000000000000004";
    assert_eq!(each(&page["conversations"], "id"), [fourth, third, "e", "d", "c"].map(Value::from));
    let c = &page["conversations"][4];
    assert_eq!((&c["span_count"], &c["error_count"], &c["trace_count"], &c["input_tokens"]), (&json!(3), &json!(1), &json!(2), &json!(30)));
    assert_eq!((&c["models"], &c["tools"], &c["is_trace"]), (&json!(["small", "small-1"]), &json!(["search"]), &json!(false)));

    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = ask(&stored.engine, &format!("genai/conversations?limit=2{cursor}")).await;
        ids.extend(each(&page["conversations"], "id"));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(ids, each(&page["conversations"], "id"), "in pages");

    for (id, spans) in [("c", &[2, 3, 2][..]), ("d", &[2]), ("e", &[3]), (third, &[4]), (fourth, &[2])] {
        let talk = ask(&stored.engine, &format!("genai/conversations/{id}")).await;
        let expected: Vec<Value> = spans.iter().map(|span| format!("{span:016x}").into()).collect();
        assert_eq!(each(&talk["steps"], "span_id"), expected, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_are_whole_spans_with_what_genai_says_of_them() {
    let stored = talks().await;
    let talk = ask(&stored.engine, "genai/conversations/c").await;
    assert_eq!((&talk["input_tokens"], &talk["output_tokens"], &talk["error_count"]), (&json!(30), &json!(3), &json!(1)));
    let first = &talk["steps"][0];
    assert_eq!(
        (&first["operation"], &first["provider"], &first["request_model"], &first["input_tokens"]),
        (&json!("chat"), &json!("p"), &json!("small"), &json!(10))
    );
    let messages = first["attributes"].as_array().unwrap().iter().find(|attribute| attribute["key"] == "gen_ai.input.messages").unwrap();
    assert_eq!(messages["type"], "string");
    let second = &talk["steps"][1];
    assert_eq!(
        (&second["tool"], &second["error_type"], &second["status"], &second["input_tokens"]),
        (&json!("search"), &json!("Timeout"), &json!("error"), &Value::Null)
    );
    let of_trace = ask(&stored.engine, "traces/00000000000000000000000000000003/genai").await;
    assert_eq!(each(&of_trace["steps"], "operation"), ["chat", "chat", "execute_tool"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_sum_up_models_tools_agents_and_errors() {
    let stored = talks().await;
    let models = ask(&stored.engine, "genai/models").await;
    assert_eq!(each(&models["models"], "model"), ["small", "small-1"]);
    assert_eq!(
        (&models["models"][0]["span_count"], &models["models"][0]["input_tokens"], &models["models"][0]["p50_nano"]),
        (&json!(4), &json!(130), &json!("100"))
    );
    let tools = ask(&stored.engine, "genai/tools").await;
    assert_eq!((&tools["tools"][0]["tool"], &tools["tools"][0]["error_count"]), (&json!("search"), &json!(2)));
    assert_eq!(each(&ask(&stored.engine, "genai/agents").await["agents"], "agent"), ["planner"]);
    let errors = ask(&stored.engine, "genai/errors").await;
    assert_eq!(
        (&errors["errors"][0]["error_type"], &errors["errors"][0]["count"], &errors["errors"][0]["last"]["message"]),
        (&json!("Timeout"), &json!(2), &json!("too slow"))
    );
    assert_eq!(errors["errors"][0]["last"]["trace_id"], "00000000000000000000000000000003");
    let summary = ask(&stored.engine, "genai/summary?bucket=5s").await;
    assert_eq!(
        (&summary["span_count"], &summary["trace_count"], &summary["conversation_count"], &summary["input_tokens"]),
        (&json!(7), &json!(4), &json!(3), &json!(150))
    );
    // 21:18:24 is a second before a bucket of five.
    assert_eq!(each(&summary["points"], "count"), [3, 4]);
    assert_eq!(each(&summary["operations"], "operation"), ["chat", "execute_tool"]);
    assert_eq!(ask(&stored.engine, "genai/summary?service=nobody").await["span_count"], 0);
}

/// A conversation that was written in OpenInference's words: an agent that asks a model, calls a tool and asks again, in two traces.
async fn in_openinference(stored: &Stored) {
    let span = |trace: u128, id: u64, kind: &str, start: u64, more: Vec<KeyValue>| {
        let mut span = plain_span(trace, id, u64::from(id > 1), &format!("{kind} {id}"), start * SECOND, 100);
        span.attributes = vec![text("openinference.span.kind", kind)];
        span.attributes.extend(more);
        span
    };
    let llm = |tokens: (i64, i64), said: &str| {
        vec![
            text("llm.system", "p"),
            text("llm.model_name", "oi-model"),
            attribute("llm.token_count.prompt", Any::IntValue(tokens.0)),
            attribute("llm.token_count.completion", Any::IntValue(tokens.1)),
            text("llm.input_messages.0.message.role", "user"),
            text("llm.input_messages.0.message.content", said),
        ]
    };
    let session = || vec![text("session.id", "talk-1")];
    let spans = vec![
        span(11, 1, "AGENT", 20, [vec![text("agent.name", "planner")], session()].concat()),
        span(11, 2, "LLM", 21, [llm((100, 10), "hi"), session()].concat()),
        // Without the id, as tools often are: it is the only conversation of the trace.
        span(11, 3, "TOOL", 22, vec![text("tool.name", "lookup"), text("input.value", "{}")]),
        span(12, 1, "LLM", 23, [llm((200, 20), "and then?"), session()].concat()),
        // One of no session.
        span(13, 1, "LLM", 24, llm((7, 1), "alone")),
        // What uses some of the names is not of a model for that.
        plain_span(14, 1, 0, "not one", 25 * SECOND, 1),
    ];
    let mut spans = spans;
    spans[5].attributes = vec![text("tool.name", "hammer"), text("session.id", "talk-1")];
    // Nor is somebody's tool one of the model that the span is of.
    let mut of_opentelemetry = plain_span(15, 1, 0, "chat", 26 * SECOND, 1);
    of_opentelemetry.attributes =
        vec![text("gen_ai.operation.name", "chat"), text("gen_ai.conversation.id", "ours"), text("tool.name", "hammer")];
    spans.push(of_opentelemetry);
    stored.put(&request("notebook", spans)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_of_openinference_is_listed_with_its_tokens_models_and_messages() {
    for is_flushed in [false, true] {
        let stored = talks().await;
        in_openinference(&stored).await;
        if is_flushed {
            stored.store.flush().await.unwrap();
        }
        let page = ask(&stored.engine, "genai/conversations?service=notebook").await;
        let alone = "trace:0000000000000000000000000000000d";
        assert_eq!(each(&page["conversations"], "id"), ["ours", alone, "talk-1"].map(Value::from));
        let ours = ask(&stored.engine, "genai/conversations/ours").await;
        assert_eq!((&page["conversations"][0]["tools"], &ours["steps"][0]["tool"]), (&json!([]), &Value::Null));
        let talk = &page["conversations"][2];
        for (member, expected) in [
            ("is_trace", json!(false)),
            ("span_count", json!(4)),
            ("trace_count", json!(2)),
            ("input_tokens", json!(300)),
            ("output_tokens", json!(30)),
            ("models", json!(["oi-model"])),
            ("agents", json!(["planner"])),
            ("tools", json!(["lookup"])),
        ] {
            assert_eq!(talk[member], expected, "{member}");
        }
        // Beside those of OpenTelemetry.
        assert_eq!(ask(&stored.engine, "genai/conversations").await["conversations"].as_array().unwrap().len(), 8);

        let steps = ask(&stored.engine, "genai/conversations/talk-1").await;
        assert_eq!(each(&steps["steps"], "operation"), ["invoke_agent", "chat", "execute_tool", "chat"].map(Value::from));
        assert_eq!((&steps["input_tokens"], &steps["output_tokens"]), (&json!(300), &json!(30)));
        let first = &steps["steps"][1];
        assert_eq!(
            (&first["provider"], &first["request_model"], &first["input_tokens"], &first["genai"]),
            (&json!("p"), &json!("oi-model"), &json!(100), &json!("chat"))
        );
        let content = |step: &Value| {
            let attributes = step["attributes"].as_array().unwrap();
            attributes.iter().find(|attribute| attribute["key"] == "llm.input_messages.0.message.content").unwrap()["value"].clone()
        };
        assert_eq!((content(first), content(&steps["steps"][3])), (json!("hi"), json!("and then?")));
        assert_eq!((&steps["steps"][2]["tool"], &steps["steps"][2]["agent"]), (&json!("lookup"), &Value::Null));

        let models = ask(&stored.engine, "genai/models?service=notebook").await;
        assert_eq!(
            (each(&models["models"], "model"), each(&models["models"], "input_tokens")),
            (vec![json!("oi-model")], vec![json!(307)])
        );
        let listed = ask(&stored.engine, "traces?trace_id=0000000000000000000000000000000b").await;
        assert_eq!(listed["traces"][0]["genai"]["conversation_ids"], json!(["talk-1"]));
        // A test of an attribute is of that attribute, whatever else a column holds.
        for (question, expected) in [
            ("traces?attr=gen_ai.request.model[string]=oi-model", 0),
            ("traces?attr=gen_ai.usage.input_tokens[int]>=100", 0),
            ("traces?attr=gen_ai.request.model[string]=small", 4),
            ("traces?attr=gen_ai.usage.input_tokens[int]>=20", 3),
            ("traces?attr=llm.model_name=oi-model", 3),
        ] {
            assert_eq!(ask(&stored.engine, question).await["traces"].as_array().unwrap().len(), expected, "{question}");
        }
    }
}
