//! The `result` line: a turn's end and what it used.

use ipc_protocol::clip::ClippedText;
use ipc_protocol::event::{EventKind, Tokens, TurnFinished, TurnOutcome};
use ipc_protocol::limits::{MAX_SHORT_BYTES, MAX_TEXT_BYTES};
use serde_json::Value;

/// Most models of one turn that get a `usage` event of their own.
const MAX_MODELS: usize = 16;

/// How a turn ended. `subtype` may say "success" for a turn that an API error ended; `is_error` is what counts.
pub(super) fn outcome(line: &Value) -> TurnOutcome {
    if line["is_error"] == false {
        return TurnOutcome::Success;
    }
    if line["subtype"] == "error_max_turns" || line["terminal_reason"] == "max_turns" {
        return TurnOutcome::MaxTurns;
    }
    match line["terminal_reason"].as_str() {
        Some("aborted_tools" | "aborted_streaming") => TurnOutcome::Interrupted,
        _ => TurnOutcome::Error,
    }
}

/// One `usage` for each model since the last result: exact, sub-agents included. (The figures of `assistant` lines are
/// those of the beginning of a stream and say 1 output token.)
pub(super) fn usage(line: &Value) -> Vec<EventKind> {
    let Some(models) = line["model_usage_since_last_result"].as_object() else { return Vec::new() };
    let usage = |(model, used): (&String, &Value)| EventKind::Usage {
        model: Some(ClippedText::new(model.as_str(), MAX_SHORT_BYTES).text),
        tokens: Tokens {
            input: number(&used["inputTokens"]),
            output: number(&used["outputTokens"]),
            cache_read: number(&used["cacheReadInputTokens"]),
            cache_write: number(&used["cacheCreationInputTokens"]),
        },
    };
    models.iter().take(MAX_MODELS).map(usage).collect()
}

/// The turn's end, without what only the translator knows: `turn`, `inputs`.
pub(super) fn finished(line: &Value) -> TurnFinished {
    let text = match line["result"].as_str() {
        Some(text) => text.to_owned(),
        None => {
            let errors = line["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
            errors.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
        }
    };
    let used = &line["usage"];
    TurnFinished {
        turn: 0,
        outcome: outcome(line),
        body: ClippedText::new(text, MAX_TEXT_BYTES),
        inputs: Vec::new(),
        unsolicited: line["origin"]["kind"].as_str().is_some_and(|kind| kind != "human"),
        tokens: Tokens {
            input: number(&used["input_tokens"]),
            output: number(&used["output_tokens"]),
            cache_read: number(&used["cache_read_input_tokens"]),
            cache_write: number(&used["cache_creation_input_tokens"]),
        },
        total_cost_usd: line["total_cost_usd"].as_f64(),
        api_status: line["api_error_status"].as_u64().and_then(|status| status.try_into().ok()),
        duration_ms: line["duration_ms"].as_u64(),
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}
