//! Host to container: what became of a request, in `replies/<requestId>.json`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::MessageId;

/// The real outcome of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// The request that this answers.
    pub request_id: MessageId,
    /// Whether it was done.
    pub ok: bool,
    /// What came of it; present if `ok`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why not; present if not `ok`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ReplyError>,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplyError {
    /// A word for programs, such as `not_allowed` or `not_available`.
    pub code: String,
    /// A sentence for the agent.
    pub message: String,
}

impl Reply {
    /// The request was done.
    pub fn done(request_id: MessageId, result: Value) -> Self {
        Self { request_id, ok: true, result: Some(result), error: None }
    }

    /// The request was refused or failed.
    pub fn failed(request_id: MessageId, code: &str, message: impl Into<String>) -> Self {
        let error = ReplyError { code: code.to_owned(), message: message.into() };
        Self { request_id, ok: false, result: None, error: Some(error) }
    }
}
