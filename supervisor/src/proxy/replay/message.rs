//! Renders a scripted message as the API sends it: a stream of server-sent events, or one JSON document.
//!
//! A stream is `message_start`, `ping`, then for each block `content_block_start`, deltas, `content_block_stop`, and at the
//! end `message_delta` (with the stop reason and the output tokens) and `message_stop`.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::playback::Step;
use super::script::{Hang, MessageAnswer, ScriptedUsage};

/// A delta is about this long, in characters: a few words, as from a model.
const DELTA_CHARS: usize = 24;
/// Where the script states none, tokens are taken to be so many bytes.
const BYTES_PER_TOKEN: usize = 4;

/// What the request asks for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) stream: bool,
    pub(super) model: String,
}

/// Figures that make an answer unlike the one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    /// Counted from one over the whole replay: tool-use ids must not repeat in a conversation.
    pub(super) answer: u64,
    pub(super) request_bytes: usize,
}

/// Status, content type and body of an answer.
pub(super) fn render(answer: &MessageAnswer, asked: &Asked, numbers: Numbers) -> (StatusCode, &'static str, Vec<Step>) {
    let message = message(answer, asked, numbers);
    if asked.stream {
        return (StatusCode::OK, "text/event-stream; charset=utf-8", stream(answer, message));
    }
    if let Some(error) = &answer.stream_error {
        let status = if error.kind == "overloaded_error" { 529 } else { 500 };
        let body = error_event(&error.kind, &error.message).to_string();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return (status, "application/json", vec![Step::Data(Bytes::from(body))]);
    }
    let body = Bytes::from(message.to_string());
    let half = body.len() / 2;
    let steps = match (answer.cut_after, answer.hang) {
        (Some(_), _) => vec![Step::Data(body.slice(..half)), Step::Cut],
        (None, Some(Hang::Body)) => vec![Step::Data(body.slice(..half)), Step::Hang],
        (None, Some(Hang::Headers) | None) => vec![Step::Data(body)],
    };
    (StatusCode::OK, "application/json", steps)
}

fn message(answer: &MessageAnswer, asked: &Asked, numbers: Numbers) -> Value {
    let mut content = Vec::new();
    let mut bytes = 0;
    if let Some(text) = &answer.say {
        bytes += text.len();
        content.push(json!({ "type": "text", "text": text }));
    }
    for (index, call) in answer.tools.iter().enumerate() {
        bytes += call.input.to_string().len();
        let id = format!("toolu_replay_{:04}_{index}", numbers.answer);
        content.push(json!({ "type": "tool_use", "id": id, "name": call.tool, "input": call.input }));
    }
    let default_reason = if answer.tools.is_empty() { "end_turn" } else { "tool_use" };
    let ScriptedUsage { input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens } =
        answer.usage;
    json!({
        "id": format!("msg_replay_{:04}", numbers.answer),
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": content,
        "stop_reason": answer.stop_reason.as_deref().unwrap_or(default_reason),
        "stop_sequence": null,
        "usage": {
            "input_tokens": input_tokens.unwrap_or((numbers.request_bytes / BYTES_PER_TOKEN) as u64),
            "cache_creation_input_tokens": cache_creation_input_tokens.unwrap_or(0),
            "cache_read_input_tokens": cache_read_input_tokens.unwrap_or(0),
            "output_tokens": output_tokens.unwrap_or((bytes / BYTES_PER_TOKEN + 1) as u64),
        },
    })
}

fn stream(answer: &MessageAnswer, message: Value) -> Vec<Step> {
    let mut events = events(message);
    let end = match (&answer.stream_error, answer.cut_after, answer.hang) {
        (Some(error), _, _) => {
            events.truncate(error.after);
            events.push(error_event(&error.kind, &error.message));
            None
        }
        (None, Some(after), _) => {
            events.truncate(after);
            Some(Step::Cut)
        }
        (None, None, Some(Hang::Body)) => {
            events.truncate(1);
            Some(Step::Hang)
        }
        (None, None, Some(Hang::Headers) | None) => None,
    };
    let mut steps = Vec::with_capacity(events.len() * 2 + 1);
    for event in events {
        if !steps.is_empty() && !answer.chunk_delay.is_zero() {
            steps.push(Step::Wait(answer.chunk_delay));
        }
        let name = event.get("type").and_then(Value::as_str).unwrap_or_default();
        steps.push(Step::Data(Bytes::from(format!("event: {name}\ndata: {event}\n\n"))));
    }
    steps.extend(end);
    steps
}

fn error_event(kind: &str, message: &str) -> Value {
    json!({ "type": "error", "error": { "type": kind, "message": message } })
}

/// The events of a whole message.
fn events(mut message: Value) -> Vec<Value> {
    let content = message["content"].take();
    let usage = message["usage"].clone();
    let stop_reason = message["stop_reason"].take();
    message["content"] = json!([]);
    // The API states one token at the start and the sum at the end.
    message["usage"]["output_tokens"] = json!(1);
    let mut events = vec![json!({ "type": "message_start", "message": message }), json!({ "type": "ping" })];
    for (index, block) in content.as_array().into_iter().flatten().enumerate() {
        let (start, deltas) = open_block(block);
        events.push(json!({ "type": "content_block_start", "index": index, "content_block": start }));
        for delta in deltas {
            events.push(json!({ "type": "content_block_delta", "index": index, "delta": delta }));
        }
        events.push(json!({ "type": "content_block_stop", "index": index }));
    }
    events.push(json!({
        "type": "message_delta",
        "delta": { "stop_reason": stop_reason, "stop_sequence": null },
        "usage": usage,
    }));
    events.push(json!({ "type": "message_stop" }));
    events
}

/// A block as it starts, and the deltas that fill it.
fn open_block(block: &Value) -> (Value, Vec<Value>) {
    let mut start = block.clone();
    if let Some(text) = block.get("text").and_then(Value::as_str) {
        start["text"] = json!("");
        let deltas = pieces(text).map(|piece| json!({ "type": "text_delta", "text": piece }));
        return (start, deltas.collect());
    }
    let input = block.get("input").cloned().unwrap_or_else(|| Value::Object(Map::new())).to_string();
    start["input"] = json!({});
    let empty = std::iter::once("");
    let deltas = empty.chain(pieces(&input)).map(|piece| json!({ "type": "input_json_delta", "partial_json": piece }));
    (start, deltas.collect())
}

fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.char_indices().nth(DELTA_CHARS).map_or(rest.len(), |(at, _)| at);
        let (piece, next) = rest.split_at(end);
        rest = next;
        Some(piece)
    })
}
