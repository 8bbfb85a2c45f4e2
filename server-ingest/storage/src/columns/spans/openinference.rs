//! What OpenInference says of a span, in the columns of what OpenTelemetry's GenAI conventions call the same.
//!
//! Both describe calls of models, agents and tools, in other words, and whoever counts tokens means them all. A span is OpenInference's if it
//! has `openinference.span.kind`; a column is filled by OpenTelemetry's attribute where the span has it, whichever came first.

use super::{PromotedColumn, SpanColumns};
use crate::columns::promoted::{AGENT_NAME, INPUT_TOKENS, OPERATION_NAME, OUTPUT_TOKENS, PROVIDER_NAME, REQUEST_MODEL, TOOL_NAME};
use crate::otlp::AnyValue;

/// One of OpenInference's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::columns) enum Member {
    Kind,
    Provider,
    System,
    Model,
    EmbeddingModel,
    Agent,
    Tool,
    InputTokens,
    OutputTokens,
}

impl Member {
    pub(in crate::columns) fn of(key: &[u8]) -> Option<Self> {
        Some(match key {
            b"openinference.span.kind" => Self::Kind,
            b"llm.provider" => Self::Provider,
            b"llm.system" => Self::System,
            b"llm.model_name" => Self::Model,
            b"embedding.model_name" => Self::EmbeddingModel,
            b"agent.name" => Self::Agent,
            b"tool.name" => Self::Tool,
            b"llm.token_count.prompt" => Self::InputTokens,
            b"llm.token_count.completion" => Self::OutputTokens,
            _ => return None,
        })
    }
}

/// What the open span said so far: words by their keys in the columns they may come into. The first of a repeated attribute counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Said {
    operation: Option<i32>,
    provider: Option<i32>,
    system: Option<i32>,
    model: Option<i32>,
    embedding_model: Option<i32>,
    agent: Option<i32>,
    tool: Option<i32>,
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
}

impl SpanColumns {
    pub(super) fn hear(&mut self, member: Member, value: AnyValue<'_>) {
        match (member, value) {
            (Member::Kind, AnyValue::String(kind)) => {
                let operation = self.promoted_key(OPERATION_NAME, &operation(kind));
                self.said.operation = self.said.operation.or(operation);
            }
            (Member::InputTokens, AnyValue::Int(count)) => _ = self.said.input_tokens.get_or_insert(count),
            (Member::OutputTokens, AnyValue::Int(count)) => _ = self.said.output_tokens.get_or_insert(count),
            (_, AnyValue::String(word)) => {
                let column = match member {
                    Member::Provider | Member::System => PROVIDER_NAME,
                    Member::Model | Member::EmbeddingModel => REQUEST_MODEL,
                    Member::Agent => AGENT_NAME,
                    Member::Tool => TOOL_NAME,
                    Member::Kind | Member::InputTokens | Member::OutputTokens => return,
                };
                let key = self.promoted_key(column, word);
                let said = match member {
                    Member::Provider => &mut self.said.provider,
                    Member::System => &mut self.said.system,
                    Member::Model => &mut self.said.model,
                    Member::EmbeddingModel => &mut self.said.embedding_model,
                    Member::Agent => &mut self.said.agent,
                    _ => &mut self.said.tool,
                };
                *said = said.or(key);
            }
            _ => {}
        }
    }

    /// Fills in what the span did not say in OpenTelemetry's words.
    #[inline]
    pub(super) fn end_said(&mut self, row: usize) {
        if self.said != Said::default() {
            self.fill_in(row);
        }
    }

    #[cold]
    fn fill_in(&mut self, row: usize) {
        let said = std::mem::take(&mut self.said);
        // Names such as `tool.name` are others' too.
        if said.operation.is_none() {
            return;
        }
        let words = [
            (OPERATION_NAME, said.operation),
            (PROVIDER_NAME, said.provider.or(said.system)),
            (REQUEST_MODEL, said.model.or(said.embedding_model)),
            (AGENT_NAME, said.agent),
            (TOOL_NAME, said.tool),
        ];
        for (column, key) in words {
            if let Some(key) = key {
                self.put_promoted_key(row, column, key);
            }
        }
        for (column, count) in [(INPUT_TOKENS, said.input_tokens), (OUTPUT_TOKENS, said.output_tokens)] {
            if let (PromotedColumn::Integer(numbers), Some(count)) = (&mut self.promoted[column], count)
                && !numbers.has(row)
            {
                numbers.put(row, count);
            }
        }
    }
}

/// The operation that a kind of span is.
fn operation(kind: &[u8]) -> Vec<u8> {
    let kind = kind.to_ascii_lowercase();
    match kind.as_slice() {
        b"llm" => b"chat".to_vec(),
        b"tool" => b"execute_tool".to_vec(),
        b"agent" => b"invoke_agent".to_vec(),
        b"embedding" => b"embeddings".to_vec(),
        b"retriever" => b"retrieval".to_vec(),
        b"reranker" => b"rerank".to_vec(),
        b"evaluator" => b"evaluate".to_vec(),
        _ => kind,
    }
}
