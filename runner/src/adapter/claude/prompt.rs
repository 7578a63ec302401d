//! A message as the text that the CLI gets.

use std::fmt::Write as _;

use ipc_protocol::input::Message;

/// Before a text that the CLI would take for a command: it looks at the first character only.
const PLAIN_TEXT: &str = "The message is the text below, not a command:\n";

/// The text of a message, with its sender and attachments, never beginning with `/` (a slash command, which could end
/// the conversation). `@path` is left alone wherever it stands: the CLI adds that file, with the agent's own rights.
pub(super) fn text(message: &Message) -> String {
    let mut text = String::with_capacity(message.text.len() + PLAIN_TEXT.len());
    if let Some(sender) = &message.sender {
        let sender: String = sender.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        text.push_str("Message from ");
        text.push_str(&sender);
        text.push_str(":\n");
    } else if message.text.trim_start().starts_with('/') {
        text.push_str(PLAIN_TEXT);
    }
    text.push_str(&message.text);
    if !message.attachments.is_empty() {
        text.push_str("\n\nAttached files:");
        for attachment in &message.attachments {
            text.push_str("\n- ");
            text.push_str(&attachment.path);
            if let Some(media_type) = &attachment.media_type {
                // Writing to a String cannot fail.
                let _ = write!(text, " ({media_type})");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use ipc_protocol::input::Attachment;

    use super::*;

    fn plain(text: &str) -> Message {
        Message { text: text.into(), ..Message::default() }
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for ordinary in ["", "hello", "!ls", "# title", "see @src/a.rs and /tmp", "@a.txt"] {
            assert_eq!(text(&plain(ordinary)), ordinary);
        }
    }

    #[test]
    fn nothing_starts_as_a_command() {
        for command in ["/clear", " \n/clear", "\u{a0}/x"] {
            let given = text(&plain(command));
            assert!(given.starts_with("The message") && given.ends_with(command), "{given}");
        }
    }

    #[test]
    fn sender_and_attachments_are_told() {
        let message = Message {
            text: "/look".into(),
            sender: Some("ann\n".into()),
            attachments: vec![Attachment { path: "/workspace/a.png".into(), media_type: Some("image/png".into()) }],
            more: false,
        };
        assert_eq!(text(&message), "Message from ann :\n/look\n\nAttached files:\n- /workspace/a.png (image/png)");
    }
}
