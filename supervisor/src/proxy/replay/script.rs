//! Reads a script: a JSON Lines file of answers, hand-written or recorded, in any mixture. Empty lines and lines that
//! start with `#` are for people. Anything that is not understood is an error with its file and line: a typing error must
//! not turn into an answer that nobody wrote.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::record::{Exchange, RecordedResponse};

/// Larger scripts are not read into memory.
const MAX_SCRIPT: u64 = 512 * 1024 * 1024;
/// A script's own pauses, so that a slip of the finger is not a night.
const MAX_DELAY_MS: u64 = 15 * 60 * 1000;
/// The recording format that is read here.
const RECORDED_FORMAT: u64 = 1;

/// Why a script cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    #[error("cannot read the replay script {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the replay script {} is larger than {limit} bytes", path.display())]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("{place}: {problem}")]
    Line { place: String, problem: String },
    #[error("the replay script {name} has no answers: write one line for each, like {{\"say\":\"hello\"}}")]
    Empty { name: String },
}

/// A script that was understood.
#[derive(Debug)]
pub struct Script {
    pub(super) name: String,
    pub(super) entries: Vec<Entry>,
    /// Where the place that was reached is kept.
    pub(super) kept_in: Option<PathBuf>,
}

/// One answer, given `repeat` times.
#[derive(Debug)]
pub(super) struct Entry {
    /// `file:line`.
    pub(super) place: String,
    pub(super) expect: Option<String>,
    pub(super) repeat: u32,
    pub(super) answer: Answer,
}

#[derive(Debug)]
pub(super) enum Answer {
    Message(MessageAnswer),
    Status(StatusAnswer),
    Recorded(Box<Exchange>),
}

/// An assistant's message. At most one of the three faults is set.
#[derive(Debug, Default)]
pub(super) struct MessageAnswer {
    pub(super) say: Option<String>,
    pub(super) tools: Vec<ToolCall>,
    pub(super) delay: Duration,
    pub(super) chunk_delay: Duration,
    pub(super) usage: ScriptedUsage,
    pub(super) stop_reason: Option<String>,
    pub(super) cut_after: Option<usize>,
    pub(super) stream_error: Option<StreamError>,
    pub(super) hang: Option<Hang>,
}

/// An HTTP error, or any other answer that is no message.
#[derive(Debug)]
pub(super) struct StatusAnswer {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Value,
    pub(super) delay: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToolCall {
    pub(super) tool: String,
    #[serde(default = "no_input")]
    pub(super) input: Value,
}

fn no_input() -> Value {
    Value::Object(Map::new())
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScriptedUsage {
    pub(super) input_tokens: Option<u64>,
    pub(super) output_tokens: Option<u64>,
    pub(super) cache_creation_input_tokens: Option<u64>,
    pub(super) cache_read_input_tokens: Option<u64>,
}

/// An error in the middle of a stream.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamError {
    /// Events before it.
    #[serde(default = "one")]
    pub(super) after: usize,
    #[serde(rename = "type", default = "overloaded")]
    pub(super) kind: String,
    #[serde(default = "overloaded_text")]
    pub(super) message: String,
}

fn one() -> usize {
    1
}

fn overloaded() -> String {
    "overloaded_error".to_owned()
}

fn overloaded_text() -> String {
    "Overloaded".to_owned()
}

/// Where an answer stops without an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Hang {
    /// Before its head.
    Headers,
    /// After its first event.
    Body,
}

/// A hand-written line as it stands in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Line {
    say: Option<String>,
    tool: Option<String>,
    input: Option<Value>,
    tools: Option<Vec<ToolCall>>,
    stop_reason: Option<String>,
    usage: Option<ScriptedUsage>,
    status: Option<u16>,
    headers: Option<Map<String, Value>>,
    body: Option<Value>,
    delay_ms: Option<u64>,
    chunk_delay_ms: Option<u64>,
    cut_after: Option<usize>,
    stream_error: Option<StreamError>,
    hang: Option<Hang>,
    repeat: Option<u32>,
    expect: Option<String>,
}

impl Script {
    /// Reads a script file.
    ///
    /// # Errors
    /// When it cannot be read, or one of its lines is no answer.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ScriptError> {
        let path = path.as_ref();
        let fail = |source| ScriptError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        let read = File::open(path).map_err(fail)?.take(MAX_SCRIPT + 1).read_to_string(&mut text).map_err(fail)?;
        if read as u64 > MAX_SCRIPT {
            return Err(ScriptError::TooLarge { path: path.to_owned(), limit: MAX_SCRIPT });
        }
        Self::parse(&path.display().to_string(), &text)
    }

    /// Keeps the place that is reached in a file, for the process that goes on with the session; goes on from there if
    /// the file is there.
    #[must_use]
    pub fn kept_in(self, file: PathBuf) -> Self {
        Self { kept_in: Some(file), ..self }
    }

    /// Reads a script's text; `name` stands for it in messages.
    ///
    /// # Errors
    /// When a line is no answer, or there is none.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScriptError> {
        let mut entries = Vec::new();
        // Recorded lines stand in the order in which their exchanges ended; they are asked for in that of arrival.
        let mut run = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let place = format!("{name}:{}", index + 1);
            let entry = parse_line(place.clone(), line).map_err(|problem| ScriptError::Line { place, problem })?;
            match &entry.answer {
                Answer::Recorded(exchange) => run.push((exchange.n, entry)),
                Answer::Message(_) | Answer::Status(_) => {
                    flush(&mut run, &mut entries);
                    entries.push(entry);
                }
            }
        }
        flush(&mut run, &mut entries);
        if entries.is_empty() {
            return Err(ScriptError::Empty { name: name.to_owned() });
        }
        Ok(Self { kept_in: None, name: name.to_owned(), entries })
    }

    /// How many answers it holds, repetitions included.
    pub fn answers(&self) -> u64 {
        self.entries.iter().map(|entry| u64::from(entry.repeat)).sum()
    }
}

fn flush(run: &mut Vec<(u64, Entry)>, entries: &mut Vec<Entry>) {
    run.sort_by_key(|(number, _)| *number);
    entries.extend(run.drain(..).map(|(_, entry)| entry));
}

fn parse_line(place: String, line: &str) -> Result<Entry, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    if let Some(format) = value.get("recorded") {
        if format.as_u64() != Some(RECORDED_FORMAT) {
            return Err(format!("recorded in format {format}, which this version does not read"));
        }
        let exchange: Exchange =
            serde_json::from_value(value).map_err(|error| format!("not a recorded exchange: {error}"))?;
        if let Some(response) = &exchange.response {
            check_recorded(response)?;
        }
        return Ok(Entry { place, expect: None, repeat: 1, answer: Answer::Recorded(Box::new(exchange)) });
    }
    let line: Line = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let repeat = line.repeat.unwrap_or(1);
    if repeat == 0 {
        return Err("\"repeat\" must be at least 1".to_owned());
    }
    let expect = line.expect.clone();
    let answer = if line.status.is_some() { status(line)? } else { message(line)? };
    Ok(Entry { place, expect, repeat, answer })
}

fn check_recorded(response: &RecordedResponse) -> Result<(), String> {
    StatusCode::from_u16(response.status).map_err(|_| format!("{} is no HTTP status", response.status))?;
    for (name, value) in &response.headers {
        HeaderName::try_from(name).map_err(|_| format!("{name:?} is no header name"))?;
        HeaderValue::try_from(value).map_err(|_| format!("the value of header {name:?} cannot be sent"))?;
    }
    for chunk in &response.chunks {
        chunk.bytes.decode().map_err(|error| format!("a chunk is not base64: {error}"))?;
    }
    Ok(())
}

fn pause(name: &str, ms: Option<u64>) -> Result<Duration, String> {
    match ms {
        Some(ms) if ms > MAX_DELAY_MS => Err(format!("{name:?} must be at most {MAX_DELAY_MS}")),
        Some(ms) => Ok(Duration::from_millis(ms)),
        None => Ok(Duration::ZERO),
    }
}

fn message(line: Line) -> Result<Answer, String> {
    let Line {
        say,
        tool,
        input,
        tools,
        stop_reason,
        usage,
        status: _,
        headers,
        body,
        delay_ms,
        chunk_delay_ms,
        cut_after,
        stream_error,
        hang,
        repeat: _,
        expect: _,
    } = line;
    if headers.is_some() || body.is_some() {
        return Err("\"headers\" and \"body\" need a \"status\"".to_owned());
    }
    let tools = match (tool, input, tools) {
        (Some(tool), input, None) => vec![ToolCall { tool, input: input.unwrap_or_else(no_input) }],
        (None, None, tools) => tools.unwrap_or_default(),
        (None, Some(_), _) => return Err("\"input\" needs a \"tool\"".to_owned()),
        (Some(_), _, Some(_)) => return Err("\"tool\" and \"tools\" exclude each other".to_owned()),
    };
    if let Some(call) = tools.iter().find(|call| !call.input.is_object()) {
        return Err(format!("the \"input\" of tool {:?} must be an object", call.tool));
    }
    if usize::from(cut_after.is_some()) + usize::from(stream_error.is_some()) + usize::from(hang.is_some()) > 1 {
        return Err("\"cutAfter\", \"streamError\" and \"hang\" exclude each other".to_owned());
    }
    if say.is_none() && tools.is_empty() && cut_after.is_none() && stream_error.is_none() && hang.is_none() {
        return Err("an answer needs \"say\", \"tool\", \"tools\", \"status\" or a fault".to_owned());
    }
    Ok(Answer::Message(MessageAnswer {
        say,
        tools,
        delay: pause("delayMs", delay_ms)?,
        chunk_delay: pause("chunkDelayMs", chunk_delay_ms)?,
        usage: usage.unwrap_or_default(),
        stop_reason,
        cut_after,
        stream_error,
        hang,
    }))
}

fn status(line: Line) -> Result<Answer, String> {
    let Line {
        say,
        tool,
        input,
        tools,
        stop_reason,
        usage,
        status,
        headers,
        body,
        delay_ms,
        chunk_delay_ms,
        cut_after,
        stream_error,
        hang,
        repeat: _,
        expect: _,
    } = line;
    let speaks = say.is_some() || tool.is_some() || input.is_some() || tools.is_some();
    let shaped = stop_reason.is_some() || usage.is_some() || chunk_delay_ms.is_some();
    if speaks || shaped || cut_after.is_some() || stream_error.is_some() || hang.is_some() {
        return Err("beside \"status\" only headers, body, delayMs, repeat and expect are allowed".to_owned());
    }
    let number = status.unwrap_or_default();
    let status = StatusCode::from_u16(number)
        .ok()
        .filter(|status| !status.is_informational())
        .ok_or_else(|| format!("{number} is no HTTP status (200 to 999)"))?;
    let headers = headers.unwrap_or_default().into_iter().map(header).collect::<Result<_, _>>()?;
    Ok(Answer::Status(StatusAnswer {
        status,
        headers,
        body: body.unwrap_or_else(|| default_body(number)),
        delay: pause("delayMs", delay_ms)?,
    }))
}

fn header((name, value): (String, Value)) -> Result<(HeaderName, HeaderValue), String> {
    let text = match &value {
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return Err(format!("header {name:?} must be a text")),
    };
    let bad = || format!("header {name:?} cannot be sent");
    let parsed = HeaderName::try_from(&name).map_err(|_| bad())?;
    // The body is framed by the server; a script that states a length could only get it wrong.
    if parsed == http::header::CONTENT_LENGTH || parsed == http::header::TRANSFER_ENCODING {
        return Err(bad());
    }
    Ok((parsed, HeaderValue::try_from(text).map_err(|_| bad())?))
}

/// What the API sends with its error codes.
fn default_body(status: u16) -> Value {
    let (kind, message) = match status {
        400 => ("invalid_request_error", "Invalid request"),
        401 => ("authentication_error", "invalid x-api-key"),
        403 => ("permission_error", "Permission denied"),
        404 => ("not_found_error", "Not found"),
        413 => ("request_too_large", "Request exceeds the maximum size"),
        429 => ("rate_limit_error", "Rate limited"),
        529 => ("overloaded_error", "Overloaded"),
        _ => ("api_error", "Internal server error"),
    };
    json!({ "type": "error", "error": { "type": kind, "message": message } })
}
