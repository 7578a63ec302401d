//! What is wrong with a request of the container, told as the container's fault: neither the upstream nor the network has a
//! part in it.
//!
//! A head that is no HTTP/1.1 at all never becomes a request: hyper answers it with an empty 400 or 431, and [`head`] names
//! the reason for the notice.

use std::error::Error;
use std::io;
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderMap, Response, StatusCode, Version, header};

use super::body::OutBody;
use super::limits::{MAX_CLIENT_HEAD_BYTES, MAX_CLIENT_HEADERS};
use super::notice::{NoticeKind, Notices, quoted};
use super::reply::{Retry, refusal};

/// Why a request of the container cannot be carried. `Display` is the reason alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestFault {
    #[error("it has no Host header")]
    NoHost,
    #[error("it has {0} Host headers")]
    ManyHosts(usize),
    #[error("its Host header is not a host name or address with an optional port: {0}")]
    BadHost(String),
    #[error("its body is malformed: {0}")]
    MalformedBody(String),
    /// The client left, as it does after an interrupt.
    #[error("its body broke off")]
    BrokenOff,
    #[error("its body has more than {} MiB, which is all that a replay reads", .0 >> 20)]
    TooLarge(usize),
    #[error("nothing of its body came for {}s", .0.as_secs())]
    Silent(Duration),
}

impl RequestFault {
    /// Judges the Host header by RFC 9112, section 3.2: exactly one in HTTP/1.1, at most one before it. The value decides
    /// nothing here, but a gateway that reads the other one of two would.
    pub(super) fn of_host(version: Version, headers: &HeaderMap) -> Option<Self> {
        let mut hosts = headers.get_all(header::HOST).iter();
        match (hosts.next(), hosts.count()) {
            (None, _) => (version >= Version::HTTP_11).then_some(Self::NoHost),
            (Some(host), 0) => {
                let authority = Authority::try_from(host.as_bytes());
                let valid = authority.is_ok_and(|authority| !authority.as_str().contains('@'));
                (!valid).then(|| Self::BadHost(quoted(&String::from_utf8_lossy(host.as_bytes()))))
            }
            (Some(_), more) => Some(Self::ManyHosts(1 + more)),
        }
    }

    /// Tells a body that is no HTTP from one whose sender left. The chunk decoder reports what it cannot read as one of
    /// these two kinds of I/O error, and an end of the connection as others.
    pub(super) fn of_body(error: &hyper::Error) -> Self {
        let io = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        match io {
            Some(io) if matches!(io.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => {
                Self::MalformedBody(quoted(&io.to_string()))
            }
            Some(_) | None => Self::BrokenOff,
        }
    }

    /// Gives a notice to people, but for a client that left: interrupts are no news.
    pub(super) fn tell(&self, notices: &Notices, session: &str) {
        if *self != Self::BrokenOff {
            notices.tell(Some(session), NoticeKind::BadRequest { reason: self.to_string() });
        }
    }

    /// The answer to the container, after the notice to people.
    pub(super) fn refuse(&self, notices: &Notices, session: &str) -> Response<OutBody> {
        self.tell(notices, session);
        let (status, kind, retry) = match self {
            Self::NoHost | Self::ManyHosts(_) | Self::BadHost(_) | Self::MalformedBody(_) | Self::BrokenOff => {
                (StatusCode::BAD_REQUEST, "invalid_request_error", Retry::Never)
            }
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", Retry::Never),
            Self::Silent(_) => (StatusCode::REQUEST_TIMEOUT, "timeout_error", Retry::Usual),
        };
        let message = format!("the credential proxy cannot carry this request as the container sent it: {self}");
        refusal(status, kind, &message, retry)
    }
}

/// Why a connection ended before there was a request; none if the client only left, or was idle for too long.
pub(super) fn head(error: &hyper::Error) -> Option<NoticeKind> {
    if error.is_parse_too_large() {
        let reason =
            format!("its head has more than {MAX_CLIENT_HEADERS} headers or {} KiB", MAX_CLIENT_HEAD_BYTES / 1024);
        return Some(NoticeKind::BadRequest { reason });
    }
    let reason = || format!("its head is not HTTP/1.1: {}", quoted(&error.to_string()));
    error.is_parse().then(|| NoticeKind::BadRequest { reason: reason() })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_request_of_http_1_1_has_exactly_one_valid_host() {
        let judge = |version, hosts: &[&'static str]| {
            let headers = hosts.iter().map(|host| (header::HOST, HeaderValue::from_static(host))).collect();
            RequestFault::of_host(version, &headers)
        };
        for good in ["host-gateway:3001", "host-gateway", "172.20.0.1:3001", "[::1]:3001"] {
            assert_eq!(judge(Version::HTTP_11, &[good]), None, "{good}");
        }
        assert_eq!(judge(Version::HTTP_11, &[]), Some(RequestFault::NoHost));
        assert_eq!(judge(Version::HTTP_10, &[]), None, "HTTP/1.0 has no Host header");
        assert_eq!(judge(Version::HTTP_11, &["a", "a"]), Some(RequestFault::ManyHosts(2)));
        assert_eq!(judge(Version::HTTP_10, &["a", "b", "c"]), Some(RequestFault::ManyHosts(3)));
        for bad in ["", "a b", "user@a", "a/b", "a, b"] {
            assert!(matches!(judge(Version::HTTP_11, &[bad]), Some(RequestFault::BadHost(_))), "{bad}");
        }
    }
}
