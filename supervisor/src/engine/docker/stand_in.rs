//! A scripted engine on a socket, for what a real one does only on a bad day.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::endpoint::Endpoint;

const PATIENCE: Duration = Duration::from_secs(10);

/// What is done with one request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    Status(u16, &'static str),
    /// Headers, a piece of a body that says it goes on, and then the end of the connection.
    Cut(&'static str),
}

#[derive(Debug)]
pub(super) struct StandIn {
    pub(super) endpoint: Endpoint,
    /// The request lines, without the protocol's name.
    pub(super) requests: JoinHandle<Vec<String>>,
    _folder: tempfile::TempDir,
}

pub(super) const VERSION: Answer = Answer::Status(200, r#"{"Version":"26.1.5","ApiVersion":"1.45"}"#);

/// Answers one request per connection, in this order.
pub(super) fn stand_in(answers: Vec<Answer>) -> StandIn {
    let folder = tempfile::tempdir().unwrap();
    let path = PathBuf::from(folder.path()).join("d.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let requests = tokio::spawn(async move {
        let mut lines = Vec::new();
        for answer in answers {
            let (mut stream, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
            let mut request = vec![0; 64 * 1024];
            let count = stream.read(&mut request).await.unwrap();
            let text = String::from_utf8_lossy(&request[..count]).into_owned();
            let line = text.lines().next().unwrap_or_default();
            lines.push(line.trim_end_matches(" HTTP/1.1").to_owned());
            let head = "Content-Type: application/json\r\nConnection: close\r\n";
            let answer = match answer {
                Answer::Status(status, body) => {
                    format!("HTTP/1.1 {status} X\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len())
                }
                Answer::Cut(body) => {
                    format!("HTTP/1.1 200 OK\r\n{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n", body.len())
                }
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        lines
    });
    StandIn { endpoint: Endpoint::Unix(path), requests, _folder: folder }
}
