//! One line of a recording. Append-only: fields are added as optional ones, never renamed or reused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The format's number, in every line's `recorded`.
pub(crate) const FORMAT: u32 = 1;

/// A request with its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Exchange {
    pub(crate) recorded: u32,
    /// The place of the request in order of arrival; lines are in order of their end.
    pub(crate) n: u64,
    pub(crate) at: jiff::Timestamp,
    pub(crate) request: RecordedRequest,
    /// Absent when the agent left before there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) response: Option<RecordedResponse>,
    pub(crate) end: End,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RecordedRequest {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    #[serde(flatten)]
    pub(crate) body: RecordedBody,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RecordedResponse {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// When the head came, in milliseconds after the request.
    pub(crate) ms: u64,
    pub(crate) chunks: Vec<Chunk>,
}

/// Some bytes of an answer, as they came.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Chunk {
    /// Milliseconds after the request.
    pub(crate) ms: u64,
    #[serde(flatten)]
    pub(crate) bytes: ChunkBytes,
}

/// Text where it is UTF-8 (a chunk may end inside of a character).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ChunkBytes {
    Text(String),
    Base64(String),
}

impl ChunkBytes {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(STANDARD.encode(bytes)),
        }
    }

    pub(crate) fn decode(&self) -> Result<Vec<u8>, base64::DecodeError> {
        match self {
            Self::Text(text) => Ok(text.as_bytes().to_vec()),
            Self::Base64(text) => STANDARD.decode(text),
        }
    }
}

/// A request's body.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum RecordedBody {
    #[serde(rename = "body")]
    Json(Value),
    #[serde(rename = "bodyBytes")]
    Bytes(ChunkBytes),
    /// There was none, or it was larger than what is kept.
    #[serde(rename = "bodyAbsent")]
    Absent,
}

impl RecordedBody {
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        if bytes.is_empty() {
            return Self::Absent;
        }
        match serde_json::from_slice(&bytes) {
            Ok(value) => Self::Json(value),
            Err(_) => Self::Bytes(ChunkBytes::of(&bytes)),
        }
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    Complete,
    UpstreamCut,
    ClientLeft,
}
