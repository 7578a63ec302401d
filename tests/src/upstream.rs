//! A stand-in for the model API on this host's loopback, that answers every request with the same.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longest silence of a client within a request.
const SILENCE: Duration = Duration::from_secs(10);

/// The stand-in; it listens until the test's process ends.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    /// Answers with a status and a JSON body.
    ///
    /// # Panics
    /// If there is no port to be had.
    pub fn that_answers(status: &'static str, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it listens");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                // A client that breaks off has no more requests.
                std::thread::spawn(move || answer(client, &seen, status, body).is_ok());
            }
        });
        Self { address, heads }
    }

    /// For `ANTHROPIC_BASE_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of the requests to `/v1/messages` so far.
    pub fn requests(&self) -> Vec<String> {
        let heads = self.heads.lock().expect("no holder panics");
        heads.iter().filter(|head| head.starts_with("POST /v1/messages")).cloned().collect()
    }
}

/// One request, one answer, then the connection ends (RFC 9112, section 9.6).
fn answer(mut client: TcpStream, seen: &Mutex<Vec<String>>, status: &str, body: &str) -> std::io::Result<()> {
    client.set_read_timeout(Some(SILENCE))?;
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let value = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
        line[name.len()..].trim().parse::<u64>().ok()
    };
    let length = value("content-length:");
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    seen.lock().expect("no holder panics").push(head);
    match length {
        Some(length) => drop(std::io::copy(&mut reader.take(length), &mut std::io::sink())?),
        None if chunked => {
            // JSON holds no line ends of its own here; the last chunk is the only line that is just `0`.
            let mut line = Vec::new();
            while line != b"0\r\n" {
                line.clear();
                if reader.read_until(b'\n', &mut line)? == 0 {
                    return Ok(());
                }
            }
        }
        None => {}
    }
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}
