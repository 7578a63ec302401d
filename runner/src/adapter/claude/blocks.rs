//! The content blocks of `assistant` and `user` lines.

use ipc_protocol::clip::{ClippedText, ClippedValue};
use ipc_protocol::event::EventKind;
use ipc_protocol::limits::{MAX_SHORT_BYTES, MAX_TEXT_BYTES};
use serde_json::Value;

/// The source of [`EventKind::Raw`] for what this adapter does not know.
const SOURCE: &str = "claude";

/// Whatever nobody here knows.
pub(super) fn raw(value: Value) -> EventKind {
    EventKind::Raw { source: SOURCE.to_owned(), body: ClippedValue::new(value, MAX_TEXT_BYTES) }
}

/// A name, an id, a sentence.
pub(super) fn short(value: &Value) -> Option<String> {
    value.as_str().map(|text| ClippedText::new(text, MAX_SHORT_BYTES).text)
}

/// One block of an assistant's message. `parent_call` is set if a sub-agent speaks.
pub(super) fn of_assistant(block: &Value, parent_call: Option<String>) -> Vec<EventKind> {
    let kind = block["type"].as_str().unwrap_or_default();
    let event = match kind {
        "text" => clipped(&block["text"]).map(|body| EventKind::Text { body, parent_call }),
        "thinking" => clipped(&block["thinking"]).map(|body| EventKind::Thought { body, parent_call }),
        "tool_use" | "server_tool_use" | "mcp_tool_use" => tool_call(block, parent_call),
        // What tools that run at the service gave back, such as `web_search_tool_result`.
        _ if kind.ends_with("tool_result") => return of_tool_result(block),
        _ => None,
    };
    vec![event.unwrap_or_else(|| raw(block.clone()))]
}

fn tool_call(block: &Value, parent_call: Option<String>) -> Option<EventKind> {
    Some(EventKind::ToolCall {
        call_id: short(&block["id"])?,
        tool: short(&block["name"])?,
        input: ClippedValue::new(block["input"].clone(), MAX_TEXT_BYTES),
        parent_call,
    })
}

/// A tool's result; parts that are not text (images) follow as `raw`.
pub(super) fn of_tool_result(block: &Value) -> Vec<EventKind> {
    let Some(call_id) = short(&block["tool_use_id"]) else { return vec![raw(block.clone())] };
    let mut others = Vec::new();
    let text = match &block["content"] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(parts) => {
            let mut texts = Vec::new();
            for part in parts {
                match part["text"].as_str().filter(|_| part["type"] == "text") {
                    Some(text) => texts.push(text),
                    None => others.push(raw(part.clone())),
                }
            }
            texts.join("\n")
        }
        other => other.to_string(),
    };
    let is_error = block["is_error"].as_bool().unwrap_or(false);
    let body = ClippedText::new(text, MAX_TEXT_BYTES);
    std::iter::once(EventKind::ToolResult { call_id, is_error, body }).chain(others).collect()
}

fn clipped(text: &Value) -> Option<ClippedText> {
    text.as_str().map(|text| ClippedText::new(text, MAX_TEXT_BYTES))
}
