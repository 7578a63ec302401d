//! Long inputs: a text beyond one file's limit travels in several, and is one message again on the other side.
//!
//! All parts have the id of the whole. The first carries the sender and the attachments; all but the last say `more`.

use std::ffi::OsString;

use super::inbox::Item;
use crate::id::MessageId;
use crate::input::{Input, InputFile, Message};
use crate::limits::{MAX_INPUT_PART_BYTES, MAX_INPUT_TEXT_BYTES, MAX_MESSAGE_BYTES, MAX_OPEN_JOINS};

/// Room for what is in a file besides its text, sender and attachments, in bytes.
const ENVELOPE_BYTES: usize = 1024;

/// Why a message cannot be sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLong {
    /// The text.
    #[error("the message has {0} bytes, more than the limit of {MAX_INPUT_TEXT_BYTES}; put it in a file and name that")]
    Text(usize),
    /// Sender and attachments.
    #[error("the message's sender and attachments take {0} bytes, too many for one file; attach fewer files")]
    Envelope(usize),
}

/// Cuts a message into parts whose files stay below [`MAX_MESSAGE_BYTES`].
pub fn split(message: Message) -> Result<Vec<Message>, TooLong> {
    let Message { text, sender, attachments, more: _ } = message;
    if text.len() > MAX_INPUT_TEXT_BYTES {
        return Err(TooLong::Text(text.len()));
    }
    let envelope = serde_json::to_vec(&(&sender, &attachments)).map_or(usize::MAX, |bytes| bytes.len());
    let room = usize::try_from(MAX_MESSAGE_BYTES).unwrap_or(usize::MAX) - MAX_INPUT_PART_BYTES - ENVELOPE_BYTES;
    if envelope > room {
        return Err(TooLong::Envelope(envelope));
    }
    let mut parts: Vec<Message> = pieces(&text, MAX_INPUT_PART_BYTES)
        .map(|piece| Message { text: piece.to_owned(), more: true, ..Message::default() })
        .collect();
    if parts.is_empty() {
        parts.push(Message::default());
    }
    if let Some(last) = parts.last_mut() {
        last.more = false;
    }
    if let Some(first) = parts.first_mut() {
        first.sender = sender;
        first.attachments = attachments;
    }
    Ok(parts)
}

/// Pieces of `text` whose JSON encoding (without quotes) has at most `limit` bytes.
fn pieces(text: &str, limit: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut encoded = 0;
        let end = rest
            .char_indices()
            .find(|(_, c)| {
                encoded += encoded_len(*c);
                encoded > limit
            })
            .map_or(rest.len(), |(at, _)| at);
        let (piece, tail) = rest.split_at(end);
        rest = tail;
        Some(piece)
    })
}

/// Bytes of a character in a JSON string as serde_json writes it.
fn encoded_len(c: char) -> usize {
    match c {
        '"' | '\\' | '\u{8}' | '\u{c}' | '\n' | '\r' | '\t' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    }
}

/// What the runner gets from pushing one file.
#[derive(Debug)]
pub enum Joined {
    /// A whole input, and the files that it came in, to be removed once it was taken.
    Ready {
        /// The input's id.
        id: MessageId,
        /// The input.
        input: Input,
        /// Its files, the last one first: removing them in this order never leaves a tail that looks whole.
        files: Vec<OsString>,
    },
    /// More parts are to come.
    Waiting,
    /// An input that will never be whole.
    Dropped(Dropped),
}

/// An input that cannot be taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The input's id.
    pub id: MessageId,
    /// Why, for `input_dropped`; `None` if it was already said for this id.
    pub reason: Option<&'static str>,
    /// Its files so far, to be removed once the drop was reported.
    pub files: Vec<OsString>,
}

/// Puts the parts of long inputs together; bounded in number and size.
#[derive(Debug, Default)]
pub struct Joiner {
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    id: MessageId,
    message: Message,
    files: Vec<OsString>,
    /// Too long: its further parts are dropped, too.
    spoiled: bool,
}

impl Joiner {
    /// Takes the next file in order.
    pub fn push(&mut self, item: Item<InputFile>) -> Joined {
        let Item { name, id, body, bytes: _ } = item;
        let part = match body.input {
            Input::Interrupt {} => return Joined::Ready { id, input: Input::Interrupt {}, files: vec![name] },
            Input::Message(part) => part,
        };
        let Some(at) = self.open.iter().position(|open| open.id == id) else {
            if !part.more {
                return Joined::Ready { id, input: Input::Message(part), files: vec![name] };
            }
            let evicted = if self.open.len() < MAX_OPEN_JOINS { None } else { Some(self.open.remove(0)) };
            self.open.push(Open { id, message: part, files: vec![name], spoiled: false });
            return evicted.map_or(Joined::Waiting, |open| Joined::Dropped(open.drop("too many unfinished inputs")));
        };
        let open = &mut self.open[at];
        open.files.push(name);
        let more = part.more;
        if !open.spoiled {
            if open.message.text.len() + part.text.len() > MAX_INPUT_TEXT_BYTES {
                open.spoiled = true;
                open.message = Message::default();
                let dropped = Dropped {
                    id: open.id.clone(),
                    reason: Some("the text is longer than the limit"),
                    files: std::mem::take(&mut open.files),
                };
                if !more {
                    self.open.remove(at);
                }
                return Joined::Dropped(dropped);
            }
            open.message.text.push_str(&part.text);
            open.message.attachments.extend(part.attachments);
            open.message.sender = open.message.sender.take().or(part.sender);
        } else {
            let dropped = Dropped { id: open.id.clone(), reason: None, files: std::mem::take(&mut open.files) };
            if !more {
                self.open.remove(at);
            }
            return Joined::Dropped(dropped);
        }
        if more {
            return Joined::Waiting;
        }
        let Open { id, mut message, mut files, spoiled: _ } = self.open.remove(at);
        message.more = false;
        files.reverse();
        Joined::Ready { id, input: Input::Message(message), files }
    }

    /// At the end: what never became whole.
    pub fn abandon(&mut self) -> Vec<Dropped> {
        self.open.drain(..).filter(|open| !open.spoiled).map(|open| open.drop("its last part never came")).collect()
    }
}

impl Open {
    fn drop(self, reason: &'static str) -> Dropped {
        Dropped { id: self.id, reason: if self.spoiled { None } else { Some(reason) }, files: self.files }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_lengths_are_those_of_serde_json() {
        for c in (0..=0x2ff).chain([0x2028, 0xfeff, 0x1_f600]).filter_map(char::from_u32) {
            let encoded = serde_json::to_string(&c.to_string()).unwrap();
            assert_eq!(encoded_len(c), encoded.len() - 2, "{c:?}");
        }
    }

    #[test]
    fn every_file_of_a_long_input_is_below_the_limit() {
        for text in ["\u{1}".repeat(2_000_000), "é\"".repeat(1_000_000), "x".repeat(MAX_INPUT_TEXT_BYTES)] {
            let parts = split(Message { text: text.clone(), ..Message::default() }).unwrap();
            assert!(parts.len() > 1);
            assert_eq!(parts.iter().map(|part| part.text.as_str()).collect::<String>(), text);
            for part in parts {
                let file = InputFile { id: "x".repeat(64).parse().ok(), input: Input::Message(part) };
                assert!(serde_json::to_vec(&file).unwrap().len() as u64 <= MAX_MESSAGE_BYTES);
            }
        }
    }

    #[test]
    fn beyond_the_limits_is_an_error() {
        let text = "x".repeat(MAX_INPUT_TEXT_BYTES + 1);
        assert!(matches!(split(Message { text, ..Message::default() }), Err(TooLong::Text(_))));
        let sender = Some("x".repeat(200_000));
        assert!(matches!(split(Message { sender, ..Message::default() }), Err(TooLong::Envelope(_))));
    }

    fn part(id: &str, name: usize, text: &str, more: bool) -> Item<InputFile> {
        let message = Message { text: text.to_owned(), more, ..Message::default() };
        let body = InputFile { id: None, input: Input::Message(message) };
        Item { name: format!("{name}.json").into(), id: id.parse().unwrap(), body, bytes: 0 }
    }

    #[test]
    fn parts_join_and_others_pass_between_them() {
        let mut joiner = Joiner::default();
        assert!(matches!(joiner.push(part("a", 1, "one ", true)), Joined::Waiting));
        assert!(matches!(joiner.push(part("b", 2, "whole", false)), Joined::Ready { .. }));
        let Joined::Ready { id, input: Input::Message(message), files } = joiner.push(part("a", 3, "two", false))
        else {
            panic!("not joined");
        };
        assert_eq!((id.as_str(), message.text.as_str(), message.more), ("a", "one two", false));
        assert_eq!(files, ["3.json", "1.json"]);
        assert!(joiner.abandon().is_empty());
    }

    #[test]
    fn a_join_is_bounded_and_its_tail_is_not_taken_for_a_message() {
        let mut joiner = Joiner::default();
        let long = "x".repeat(MAX_INPUT_TEXT_BYTES);
        assert!(matches!(joiner.push(part("a", 1, &long, true)), Joined::Waiting));
        let Joined::Dropped(dropped) = joiner.push(part("a", 2, "y", true)) else { panic!("taken") };
        assert!(dropped.reason.is_some());
        assert_eq!(dropped.files, ["1.json", "2.json"]);
        let Joined::Dropped(dropped) = joiner.push(part("a", 3, "z", false)) else { panic!("taken") };
        assert_eq!((dropped.reason, dropped.files.len()), (None, 1));
        for n in 0..=MAX_OPEN_JOINS {
            let joined = joiner.push(part(&format!("id{n}"), n, "t", true));
            assert_eq!(matches!(joined, Joined::Dropped(_)), n == MAX_OPEN_JOINS);
        }
        assert_eq!(joiner.abandon().len(), MAX_OPEN_JOINS);
    }
}
