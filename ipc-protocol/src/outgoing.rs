//! Container to host: what agents put in `messages/`.

use serde::{Deserialize, Serialize};

use crate::id::MessageId;

/// One file in `messages/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutgoingFile {
    /// Unique in the session; defaults to the file's stem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// What the agent says.
    #[serde(flatten)]
    pub outgoing: Outgoing,
}

/// What an agent says to people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Outgoing {
    /// A text for the session's people, or for a chat.
    Message {
        /// The text.
        text: String,
        /// The chat that it is meant for; without it, the session's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        chat_jid: Option<String>,
    },
    /// A question that wants an answer.
    Question {
        /// The question.
        text: String,
        /// Answers to choose from; empty for a free answer.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        options: Vec<String>,
    },
    /// A file to hand over.
    File {
        /// Its path under `/workspace`.
        path: String,
        /// A line that goes with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caption: Option<String>,
    },
}
