//! A model API on this host: answers as a test says, and remembers what it was asked.
//!
//! It speaks just enough HTTP/1.1 for the one client that it has, aigo's credential proxy: one request a connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// The credential that [`crate::Home::live`] gives to aigo.
pub const KEY: &str = "sk-test-0123456789abcdef";

/// Longest silence of the other side.
const SILENCE: Duration = Duration::from_secs(60);

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    fn asks_for_a_stream(&self) -> bool {
        serde_json::from_slice::<Value>(&self.body).is_ok_and(|body| body["stream"] == true)
    }
}

/// What a request gets.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    pieces: Vec<String>,
    /// What a request gets that asks for no stream.
    whole: Option<Value>,
    before: Duration,
    cut: bool,
}

impl Answer {
    /// The assistant says something: a stream, or one message where no stream is asked for.
    pub fn say(text: &str) -> Self {
        let delta = json!({"type": "text_delta", "text": text});
        Self::message(&json!({"type": "text", "text": ""}), &delta, &json!({"type": "text", "text": text}), "end_turn")
    }

    /// The assistant calls a shell command.
    pub fn bash(command: &str) -> Self {
        let input = json!({"command": command, "description": "A step", "timeout": 60_000});
        let block = |input: Value| json!({"type": "tool_use", "id": "toolu_0001", "name": "Bash", "input": input});
        let delta = json!({"type": "input_json_delta", "partial_json": input.to_string()});
        Self::message(&block(json!({})), &delta, &block(input), "tool_use")
    }

    /// A status with a JSON body.
    pub fn status(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { status, headers, pieces: vec![body.to_string()], whole: None, before: Duration::ZERO, cut: false }
    }

    /// The API's usual error of a kind, such as `overloaded_error`.
    pub fn error(status: u16, kind: &str, message: &str) -> Self {
        Self::status(status, &json!({"type": "error", "error": {"type": kind, "message": message}}))
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The first byte comes late.
    #[must_use]
    pub fn after(mut self, pause: Duration) -> Self {
        self.before = pause;
        self
    }

    /// The connection breaks after so many events of the stream.
    #[must_use]
    pub fn cut_after(mut self, events: usize) -> Self {
        self.pieces.truncate(events);
        self.cut = true;
        self
    }

    /// The stream tells of an error after so many events, and ends.
    #[must_use]
    pub fn error_after(mut self, events: usize, kind: &str) -> Self {
        self.pieces.truncate(events);
        let error = json!({"type": "error", "error": {"type": kind, "message": "in the middle of the stream"}});
        self.pieces.push(event(&error));
        self
    }

    fn without_stream(self) -> Self {
        match self.whole {
            Some(whole) if !self.cut => Self { before: self.before, ..Self::status(self.status, &whole) },
            Some(_) | None => self,
        }
    }

    fn message(block: &Value, delta: &Value, content: &Value, stop: &str) -> Self {
        let message = json!({"id": "msg_local", "type": "message", "role": "assistant", "model": "local", "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 7, "output_tokens": 1}});
        let mut whole = message.clone();
        whole["content"] = json!([content]);
        whole["stop_reason"] = stop.into();
        let events = [
            json!({"type": "message_start", "message": message}),
            json!({"type": "content_block_start", "index": 0, "content_block": block}),
            json!({"type": "content_block_delta", "index": 0, "delta": delta}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null},
                "usage": {"output_tokens": 5}}),
            json!({"type": "message_stop"}),
        ];
        let headers = vec![("content-type".to_owned(), "text/event-stream".to_owned())];
        let pieces = events.iter().map(event).collect();
        Self { status: 200, headers, pieces, whole: Some(whole), before: Duration::ZERO, cut: false }
    }
}

fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
}

/// The API; gone with this value.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    requests: Mutex<Vec<Request>>,
    closed: AtomicBool,
}

impl Upstream {
    /// One on loopback whose answers `answer` gives, by the number of the request (from 0) and the request.
    pub fn start(answer: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), answer)
    }

    /// One on another address of this host.
    ///
    /// # Panics
    /// If it cannot listen there.
    pub fn start_at(ip: IpAddr, answer: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((ip, 0)).expect("an address of this host");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let (state, answer) = (Arc::clone(&shared), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if state.closed.load(Ordering::SeqCst) {
                    return;
                }
                let (state, answer) = (Arc::clone(&state), Arc::clone(&answer));
                // A client that breaks off is no fault of the test's.
                std::thread::spawn(move || serve(&stream, &state, &*answer));
            }
        });
        Self { address, shared }
    }

    /// One that gives these answers in their order, and then the last one again and again.
    ///
    /// # Panics
    /// If there is none.
    pub fn script(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers: Vec<Answer> = answers.into_iter().collect();
        let last = answers.len().checked_sub(1).expect("at least one answer");
        Self::start(move |number, _| answers[number.min(last)].clone())
    }

    /// For `ANTHROPIC_BASE_URL`, with a path such as `/gateway/v2`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What was asked so far.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().expect("no holder panics").clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        // Wakes the listener, which then goes.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: &TcpStream, shared: &Shared, answer: &dyn Fn(usize, &Request) -> Answer) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let Some(request) = read(&mut BufReader::new(stream))? else { return Ok(()) };
    let number = {
        let mut requests = shared.requests.lock().expect("no holder panics");
        requests.push(request.clone());
        requests.len() - 1
    };
    let answer = answer(number, &request);
    write(stream, &if request.asks_for_a_stream() { answer } else { answer.without_stream() })
}

fn read(from: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request { method, path, headers, body: Vec::new() };
    if request.all("transfer-encoding").contains(&"chunked") {
        loop {
            let mut size = String::new();
            from.read_line(&mut size)?;
            let size = u64::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            from.take(size).read_to_end(&mut request.body)?;
            from.read_line(&mut String::new())?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(size) = request.all("content-length").first().and_then(|size| size.parse().ok()) {
        from.take(size).read_to_end(&mut request.body)?;
    }
    Ok(Some(request))
}

/// Chunked, so that a cut is seen as one: without the last chunk the answer is not whole.
fn write(mut to: &TcpStream, answer: &Answer) -> io::Result<()> {
    std::thread::sleep(answer.before);
    write!(to, "HTTP/1.1 {} Answer\r\nconnection: close\r\ntransfer-encoding: chunked\r\n", answer.status)?;
    for (name, value) in &answer.headers {
        write!(to, "{name}: {value}\r\n")?;
    }
    to.write_all(b"\r\n")?;
    for piece in &answer.pieces {
        write!(to, "{:x}\r\n{piece}\r\n", piece.len())?;
    }
    if !answer.cut {
        to.write_all(b"0\r\n\r\n")?;
    }
    Ok(())
}
