//! A small HTTP client for the one server that it has, `aigo serve`.
//!
//! It speaks HTTP/1.0: a connection carries one request, and a body ends with it, so that there are no chunks to undo.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longest silence of the service in the middle of an answer; event streams say something every 15 s.
const SILENCE: Duration = Duration::from_secs(40);

/// A request that is being written.
#[derive(Clone, Debug)]
pub struct Request {
    head: String,
    host: Option<String>,
    body: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

/// One event of a stream, see <https://html.spec.whatwg.org/multipage/server-sent-events.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEvent {
    /// Its `id`.
    pub id: Option<u64>,
    /// Its `event`.
    pub name: String,
    /// Its `data` as it came.
    pub data: String,
}

impl Request {
    /// A request without a body.
    pub fn new(method: &str, path: &str) -> Self {
        Self { head: format!("{method} {path} HTTP/1.0\r\n"), host: None, body: Vec::new() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// Another `Host` than the address.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// A body of JSON.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// A body of any kind.
    #[must_use]
    pub fn body(mut self, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.header("content-type", kind).header("content-length", &length)
    }

    fn send(&self, address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        let host = self.host.clone().unwrap_or_else(|| address.to_string());
        let mut bytes = format!("{}host: {host}\r\n\r\n", self.head).into_bytes();
        bytes.extend(&self.body);
        stream.write_all(&bytes)?;
        Ok(BufReader::new(stream))
    }

    /// Sends it, and reads the whole answer.
    ///
    /// # Errors
    /// When the service is not there, or goes away in the middle.
    pub fn ask(&self, address: SocketAddr) -> io::Result<Reply> {
        let mut from = self.send(address)?;
        let (status, headers) = head(&mut from)?;
        let mut body = String::new();
        from.read_to_string(&mut body)?;
        Ok(Reply { status, headers, body })
    }

    /// Sends it, and reads events as they come.
    ///
    /// # Errors
    /// When the service is not there, or answers something else.
    pub fn stream(&self, address: SocketAddr) -> io::Result<Stream> {
        let mut from = self.send(address)?;
        let (status, headers) = head(&mut from)?;
        let is_stream = headers.iter().any(|(name, value)| name == "content-type" && value == "text/event-stream");
        match (status, is_stream) {
            (200, true) => Ok(Stream { from }),
            _ => Err(io::Error::other(format!("{status} is no event stream: {headers:?}"))),
        }
    }
}

impl Reply {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }
}

/// Events as they come; ends where the stream does.
#[derive(Debug)]
pub struct Stream {
    from: BufReader<TcpStream>,
}

impl Iterator for Stream {
    type Item = StreamEvent;

    fn next(&mut self) -> Option<StreamEvent> {
        let mut event = StreamEvent { id: None, name: String::new(), data: String::new() };
        loop {
            let mut line = String::new();
            // A service that was killed ends its streams, too.
            if self.from.read_line(&mut line).unwrap_or_default() == 0 {
                return None;
            }
            let line = line.trim_end_matches('\n');
            match line.split_once(": ") {
                None if line.is_empty() && !event.name.is_empty() => return Some(event),
                Some(("id", id)) => event.id = id.parse().ok(),
                Some(("event", name)) => name.clone_into(&mut event.name),
                Some(("data", data)) => event.data.push_str(data),
                // A comment.
                Some(_) | None => {}
            }
        }
    }
}

fn head(from: &mut impl BufRead) -> io::Result<(u16, Vec<(String, String)>)> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let status = line.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, format!("no answer: `{line}`")))?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok((status, headers)) };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}
