//! Every bound of the proxy in one place, with the reason for its number.

use std::time::Duration;

/// TCP connect to the upstream, name look-up included.
const CONNECT: Duration = Duration::from_secs(10);
/// TLS handshake after the connect.
const TLS_HANDSHAKE: Duration = Duration::from_secs(10);
/// From the request to the head of the answer. The agent's CLI gives up after 360 s on a stream, and a non-streaming
/// answer may take the API's own ten minutes: whoever asked decides first, this is the backstop.
const RESPONSE_HEAD: Duration = Duration::from_secs(660);
/// Silence in the middle of a body. The CLI cuts a silent stream after 300 s, one with only pings after 600 s.
const BODY_IDLE: Duration = Duration::from_secs(660);
/// A client that holds its connection open between two requests or while it writes a request head. Longer than most
/// tool runs, so that an idle connection is seldom closed under the client's hands.
const CLIENT_HEAD: Duration = Duration::from_secs(300);
/// The same for callers without a session.
const STRANGER_HEAD: Duration = Duration::from_secs(5);
/// A client that stopped reading what it asked for: the upstream must not be held for it.
const WRITE_STALL: Duration = Duration::from_secs(300);
/// The CLI uses a handful; nine parallel subagents were seen to need about twenty.
const CONNECTIONS_PER_SESSION: usize = 128;
/// All sessions together.
const CONNECTIONS_IN_ALL: usize = 2048;
/// Callers without a session: enough to tell them so.
const STRANGER_CONNECTIONS: usize = 32;

/// Request head: the CLI sends about 25 headers in 2 KiB.
pub(super) const MAX_CLIENT_HEADERS: usize = 100;
/// Also the size of the read buffer, hence not smaller: bodies pass through it.
pub(super) const MAX_CLIENT_HEAD_BYTES: usize = 64 * 1024;
/// Response head; the API sends about 40 headers.
pub(super) const MAX_UPSTREAM_HEADERS: usize = 200;
pub(super) const MAX_UPSTREAM_HEAD_BYTES: u32 = 64 * 1024;
/// Error bodies that we read in full to explain a refused credential.
pub(super) const MAX_ERROR_BODY: usize = 64 * 1024;
/// Request bodies that a replay reads or a recording keeps; the API itself takes 32 MB.
pub(super) const MAX_KEPT_BODY: usize = 64 * 1024 * 1024;

/// The bounds that a proxy is started with. [`Default`] is right except in tests.
#[derive(Clone, Debug)]
pub struct Limits {
    /// TCP connect to the upstream, name look-up included.
    pub connect: Duration,
    /// TLS handshake after the connect.
    pub tls_handshake: Duration,
    /// From the request to the head of the upstream's answer.
    pub response_head: Duration,
    /// Silence in the middle of a body, either way.
    pub body_idle: Duration,
    /// A session's client between requests, or in the middle of a request head.
    pub client_head: Duration,
    /// The same for callers without a session.
    pub stranger_head: Duration,
    /// A client that does not take bytes that wait for it.
    pub write_stall: Duration,
    /// Open connections of one session.
    pub connections_per_session: usize,
    /// Open connections of all sessions.
    pub connections_in_all: usize,
    /// Open connections of callers without a session.
    pub stranger_connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: CONNECT,
            tls_handshake: TLS_HANDSHAKE,
            response_head: RESPONSE_HEAD,
            body_idle: BODY_IDLE,
            client_head: CLIENT_HEAD,
            stranger_head: STRANGER_HEAD,
            write_stall: WRITE_STALL,
            connections_per_session: CONNECTIONS_PER_SESSION,
            connections_in_all: CONNECTIONS_IN_ALL,
            stranger_connections: STRANGER_CONNECTIONS,
        }
    }
}
