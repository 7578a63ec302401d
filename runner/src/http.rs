//! One plain HTTP GET, for the preflight and for `aigo-runner probe`.
//!
//! Names are looked up in `/etc/hosts` only: the engine puts the gateway's name there, a static binary has no other name
//! services, and a resolver that does not answer would hide the real reason.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for the status line of one attempt.
pub(crate) const ATTEMPT_DEADLINE: Duration = Duration::from_secs(2);

/// Bytes of a response that are looked at for its status line.
const MAX_STATUS_LINE_BYTES: usize = 1024;

const HTTP_PORT: u16 = 80;

/// A URL of the form `http://host[:port][/path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// As in the `Host` header.
    authority: String,
    host: String,
    port: u16,
    path: String,
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GetError {
    #[error("{0} is not a URL of the form http://host[:port][/path]")]
    BadUrl(String),
    #[error("the name {0} is not in /etc/hosts of this container")]
    UnknownHost(String),
    #[error("nothing listens at {0} (connection refused)")]
    Refused(SocketAddr),
    #[error("{0} did not answer within {seconds} s", seconds = ATTEMPT_DEADLINE.as_secs())]
    Silent(SocketAddr),
    #[error("{0} cannot be reached: {1}")]
    Unreachable(SocketAddr, io::Error),
    #[error("{0} does not speak HTTP")]
    NotHttp(SocketAddr),
}

impl std::str::FromStr for Url {
    type Err = GetError;

    fn from_str(url: &str) -> Result<Self, GetError> {
        let bad = || GetError::BadUrl(url.to_owned());
        let rest = url.strip_prefix("http://").ok_or_else(bad)?;
        if rest.bytes().any(|byte| byte.is_ascii_control() || byte == b' ' || byte == b'@') {
            return Err(bad());
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => v6.split_once(']').ok_or_else(bad)?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(digits) => digits.parse().map_err(|_| bad())?,
            None if port.is_empty() => HTTP_PORT,
            None => return Err(bad()),
        };
        if host.is_empty() {
            return Err(bad());
        }
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { authority: authority.to_owned(), host: host.to_owned(), port, path: path.to_owned() })
    }
}

/// The status code of a GET.
pub(crate) async fn get(url: &Url) -> Result<u16, GetError> {
    let address = SocketAddr::new(look_up(&url.host, Path::new("/etc/hosts"))?, url.port);
    match timeout(ATTEMPT_DEADLINE, exchange(url, address)).await {
        Err(_) => Err(GetError::Silent(address)),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(GetError::Refused(address)),
        Ok(Err(error)) => Err(GetError::Unreachable(address, error)),
        Ok(Ok(head)) => status(&head).ok_or(GetError::NotHttp(address)),
    }
}

async fn exchange(url: &Url, address: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let Url { authority, path, .. } = url;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    let mut chunk = [0; 256];
    while head.len() < MAX_STATUS_LINE_BYTES && !head.contains(&b'\n') {
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            break;
        }
        head.extend_from_slice(&chunk[..count]);
    }
    Ok(head)
}

/// The status of `HTTP/1.1 200 OK`.
fn status(head: &[u8]) -> Option<u16> {
    let line = String::from_utf8_lossy(head.split(|&byte| byte == b'\n').next()?).into_owned();
    let mut words = line.split_ascii_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok().filter(|status| (100..600).contains(status))
}

fn look_up(host: &str, hosts: &Path) -> Result<IpAddr, GetError> {
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let hosts = std::fs::read_to_string(hosts).unwrap_or_default();
    let address_of = |line: &str| {
        let line = line.split('#').next()?;
        let mut words = line.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
    };
    hosts.lines().find_map(address_of).ok_or_else(|| GetError::UnknownHost(host.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = |text: &str| text.parse::<Url>().map(|url| (url.host, url.port, url.path)).ok();
        let is = |host: &str, port, path: &str| Some((host.to_owned(), port, path.to_owned()));
        assert_eq!(url("http://host-gateway:3001/health?x"), is("host-gateway", 3001, "/health?x"));
        assert_eq!(url("http://[::1]:8/"), is("::1", 8, "/"));
        assert_eq!(url("http://h"), is("h", 80, "/"));
        for bad in [
            "",
            "https://h/",
            "http://",
            "http://h:x/",
            "http://h:99999/",
            "http://h/a b",
            "http://a@b/",
            "http://[::1",
        ] {
            assert_eq!(url(bad), None, "{bad}");
        }
    }

    #[test]
    fn status_lines() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\nx"), Some(204));
        for bad in [&b""[..], b"SSH-2.0-x\r\n", b"HTTP/1.1", b"HTTP/1.1 9999 x", b"\xff\xff"] {
            assert_eq!(status(bad), None);
        }
    }

    #[test]
    fn names_come_from_the_hosts_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "127.0.0.1 localhost # host-gateway\n172.17.0.1\thost-gateway gw\n").unwrap();
        assert_eq!(look_up("GW", file.path()).unwrap().to_string(), "172.17.0.1");
        assert_eq!(look_up("10.0.0.1", file.path()).unwrap().to_string(), "10.0.0.1");
        assert!(matches!(look_up("example.org", file.path()), Err(GetError::UnknownHost(_))));
    }
}
