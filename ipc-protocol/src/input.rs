//! Host to runner: what arrives in `input/`.

use serde::{Deserialize, Serialize};

use crate::id::MessageId;

/// One file in `input/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InputFile {
    /// Unique in the session; a second file with the same id is dropped. Defaults to the file's stem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// What to do.
    #[serde(flatten)]
    pub input: Input,
}

/// What the host asks of the runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Input {
    /// A message for the agent, taken in mid-turn where the agent can.
    Message(Message),
    /// Stop the current turn; the session goes on.
    Interrupt {},
}

/// A message for the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// The text, or this part of it.
    pub text: String,
    /// Who speaks, if not the session's owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// Files for the agent to look at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// The text goes on in the next file (which has the id of the whole); used for texts beyond one file's limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// A file that comes with a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Where the container sees it, under `/workspace`.
    pub path: String,
    /// Its media type, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
}
