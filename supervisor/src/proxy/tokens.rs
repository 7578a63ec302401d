//! Reads the token counts out of passing answers, without holding a byte back.
//!
//! Streams: `message_start` states the input and `message_delta` the output so far, both under `usage`; only these two
//! events are parsed, and only the tail of a chunk that ends in mid-line is copied. Plain JSON: handles of the chunks
//! are kept (the bytes are shared, not copied) and parsed at the end. Compressed answers are not looked into.

use std::collections::VecDeque;
use std::io::{BufReader, Read};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde::Deserialize;

/// A `message_start` is about 600 bytes; longer lines of these two kinds are not from the API.
const MAX_LINE: usize = 64 * 1024;
/// A non-streaming answer of 64k tokens is below 1 MiB.
const MAX_JSON: usize = 8 * 1024 * 1024;

/// Token counts as the API states them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct TokenCounts {
    /// Input that was neither written to nor read from the cache.
    pub input: u64,
    /// Output.
    pub output: u64,
    /// Input written to the cache.
    pub cache_creation: u64,
    /// Input read from the cache.
    pub cache_read: u64,
}

impl TokenCounts {
    pub(super) fn add(&mut self, other: Self) {
        let Self { input, output, cache_creation, cache_read } = other;
        self.input = self.input.saturating_add(input);
        self.output = self.output.saturating_add(output);
        self.cache_creation = self.cache_creation.saturating_add(cache_creation);
        self.cache_read = self.cache_read.saturating_add(cache_read);
    }

    /// Later statements of one answer replace earlier ones: the API's counts are cumulative.
    fn restate(&mut self, usage: WireUsage) {
        let WireUsage { input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens } = usage;
        self.input = input_tokens.unwrap_or(self.input);
        self.output = output_tokens.unwrap_or(self.output);
        self.cache_creation = cache_creation_input_tokens.unwrap_or(self.cache_creation);
        self.cache_read = cache_read_input_tokens.unwrap_or(self.cache_read);
    }
}

#[derive(Deserialize)]
struct WireUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct WithUsage {
    usage: Option<WireUsage>,
    message: Option<WireMessage>,
}

#[derive(Deserialize)]
struct WireMessage {
    usage: Option<WireUsage>,
}

/// Looks at one answer as it passes.
#[derive(Debug)]
pub(super) enum TokenTap {
    Stream { counts: Option<TokenCounts>, line: Vec<u8>, skipping: bool, wanted: bool },
    Json { chunks: Vec<Bytes>, len: usize },
    Blind,
}

impl TokenTap {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let plain = headers.get(CONTENT_ENCODING).is_none_or(|value| value == "identity");
        if !plain {
            Self::Blind
        } else if kind.starts_with("text/event-stream") {
            Self::Stream { counts: None, line: Vec::new(), skipping: false, wanted: false }
        } else if kind.starts_with("application/json") {
            Self::Json { chunks: Vec::new(), len: 0 }
        } else {
            Self::Blind
        }
    }

    pub(super) fn see(&mut self, chunk: &Bytes) {
        match self {
            Self::Stream { counts, line, skipping, wanted } => {
                let mut rest: &[u8] = chunk;
                while let Some(end) = memchr::memchr(b'\n', rest) {
                    let (head, tail) = (&rest[..end], &rest[end + 1..]);
                    rest = tail;
                    if std::mem::take(skipping) {
                        *wanted = false;
                    } else if line.is_empty() {
                        read_line(head, wanted, counts);
                    } else {
                        line.extend_from_slice(head);
                        read_line(line, wanted, counts);
                        line.clear();
                    }
                }
                if !*skipping && !rest.is_empty() {
                    // A long line of another event is not worth a copy: what matters starts with one of two words.
                    *skipping = line.len() + rest.len() > MAX_LINE;
                    if *skipping { line.clear() } else { line.extend_from_slice(rest) }
                }
            }
            Self::Json { chunks, len } => {
                *len += chunk.len();
                if *len > MAX_JSON {
                    *self = Self::Blind;
                } else {
                    chunks.push(chunk.clone());
                }
            }
            Self::Blind => {}
        }
    }

    /// The counts of the whole answer, or of what came of it.
    pub(super) fn finish(self) -> Option<TokenCounts> {
        match self {
            Self::Stream { counts, .. } => counts,
            Self::Json { chunks, .. } => {
                let parsed: WithUsage = match chunks.as_slice() {
                    // The usual answer is one chunk, and reading it in place costs a third.
                    [only] => serde_json::from_slice(only).ok()?,
                    _ => serde_json::from_reader(BufReader::new(ChunkReader { chunks: chunks.into() })).ok()?,
                };
                let mut counts = TokenCounts::default();
                counts.restate(parsed.usage?);
                Some(counts)
            }
            Self::Blind => None,
        }
    }
}

/// Reads kept chunks one after the other.
struct ChunkReader {
    chunks: VecDeque<Bytes>,
}

impl Read for ChunkReader {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        while let Some(first) = self.chunks.front_mut() {
            if first.has_remaining() {
                let len = first.len().min(into.len());
                first.copy_to_slice(&mut into[..len]);
                return Ok(len);
            }
            self.chunks.pop_front();
        }
        Ok(0)
    }
}

/// One line of a stream. `wanted` is set by an `event:` line that announces one of the two events with counts.
fn read_line(line: &[u8], wanted: &mut bool, counts: &mut Option<TokenCounts>) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if let Some(event) = line.strip_prefix(b"event:") {
        *wanted = matches!(event.trim_ascii(), b"message_start" | b"message_delta");
        return;
    }
    let Some(data) = line.strip_prefix(b"data:") else { return };
    if !std::mem::take(wanted) {
        return;
    }
    let Ok(event) = serde_json::from_slice::<WithUsage>(data) else { return };
    if let Some(usage) = event.message.and_then(|message| message.usage).or(event.usage) {
        counts.get_or_insert_default().restate(usage);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = concat!(
        "event: message_start\n",
        r#"data: {"type":"message_start","message":{"id":"m","usage":{"input_tokens":7,"cache_creation_input_tokens":3,"cache_read_input_tokens":100,"output_tokens":1}}}"#,
        "\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n",
        "event: content_block_delta\r\n",
        r#"data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"{\"usage\":{\"output_tokens\":999}} naïve €"}}"#,
        "\r\n\r\nevent: message_delta\n",
        r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":42}}"#,
        "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );
    const WANTED: TokenCounts = TokenCounts { input: 7, output: 42, cache_creation: 3, cache_read: 100 };

    fn tap(kind: &'static str) -> TokenTap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        TokenTap::of(&headers)
    }

    proptest! {
        #[test]
        fn counts_survive_any_chunking(mut cuts in proptest::collection::vec(0..STREAM.len(), 0..30)) {
            cuts.sort_unstable();
            let mut tap = tap("text/event-stream; charset=utf-8");
            let mut from = 0;
            for to in cuts.into_iter().chain([STREAM.len()]) {
                tap.see(&Bytes::copy_from_slice(&STREAM.as_bytes()[from..to]));
                from = to;
            }
            prop_assert_eq!(tap.finish(), Some(WANTED));
        }
    }

    #[test]
    fn cut_streams_count_what_was_stated() {
        let mut tap = tap("text/event-stream");
        tap.see(&Bytes::from_static(&STREAM.as_bytes()[..400]));
        assert_eq!(tap.finish(), Some(TokenCounts { output: 1, ..WANTED }));
    }

    #[test]
    fn overlong_lines_are_passed_over() {
        let mut tap = tap("text/event-stream");
        tap.see(&Bytes::from("event: x\ndata: ".to_owned() + &"y".repeat(2 * MAX_LINE)));
        tap.see(&Bytes::from("z".repeat(MAX_LINE) + "\n\n"));
        tap.see(&Bytes::from_static(STREAM.as_bytes()));
        assert_eq!(tap.finish(), Some(WANTED));
    }

    #[test]
    fn json_answers_are_counted_and_others_are_not() {
        let mut json = tap("application/json");
        for part in [r#"{"content":[],"us"#, r#"age":{"input_tokens":5,"#, r#""output_tokens":6}}"#] {
            json.see(&Bytes::from_static(part.as_bytes()));
        }
        assert_eq!(json.finish(), Some(TokenCounts { input: 5, output: 6, ..TokenCounts::default() }));
        let mut html = tap("text/html");
        html.see(&Bytes::from_static(b"{}"));
        assert_eq!(html.finish(), None);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(matches!(TokenTap::of(&headers), TokenTap::Blind));
    }
}
