//! What the proxy has to tell people, beside what it answers to agents: a bounded channel of sentences.
//!
//! The proxy never waits for its reader: when the channel is full the notice goes to the log only.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

/// Notices that may wait for the reader.
pub const NOTICE_QUEUE: usize = 256;
/// Text from a container or an upstream that is repeated in a notice, in characters.
const MAX_QUOTED: usize = 200;

/// One thing that somebody should know. `Display` of the kind is the sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The session that it is about; `None` for callers that have none.
    pub session: Option<String>,
    /// What happened.
    pub kind: NoticeKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoticeKind {
    /// For the audit log: somebody without a session asked.
    #[error("refused a request of {peer}, which belongs to no session of this credential proxy: {request}")]
    Stranger { peer: SocketAddr, request: String },
    #[error("refused a request that the credential proxy does not carry: {request}")]
    NotCarried { request: String },
    /// The container's own fault.
    #[error("refused a malformed request of the container: {reason}")]
    BadRequest { reason: String },
    #[error("{host} {}", refusal(variable, *status))]
    CredentialRefused { host: String, variable: &'static str, status: u16 },
    #[error("the TLS certificate of {host} is not trusted: {reason}; name your CA bundle in SSL_CERT_FILE on the host")]
    UpstreamUntrusted { host: String, reason: String },
    /// This host's fault, not the upstream's.
    #[error(
        "cannot check the TLS certificate of {host}, because this host's CA certificates cannot be loaded: \
         {reason}; install the package ca-certificates, or name a bundle in SSL_CERT_FILE on the host"
    )]
    NoRoots { host: String, reason: String },
    #[error(
        "{host} cannot be reached from this host: {reason}; look at this host's network, firewall and name service"
    )]
    UpstreamUnreachable { host: String, reason: String },
    #[error("{host} was reached and gave no answer: {reason}")]
    UpstreamFailed { host: String, reason: String },
    #[error("the answer of {host} broke off in the middle: {reason}")]
    UpstreamCut { host: String, reason: String },
    #[error(
        "{host} answered with a redirect (HTTP {status}) to {target}, which is passed back and not \
         followed; if you trust that address, set ANTHROPIC_BASE_URL to it on the host"
    )]
    UpstreamRedirects { host: String, status: u16, target: String },
    #[error("closed a connection over the limit of {limit} {whose}")]
    TooManyConnections { limit: usize, whose: &'static str },
    #[error("the replay script {script} has no answers left: it had {answers}")]
    ReplayExhausted { script: String, answers: u64 },
    #[error("{place} expected a request with {expected:?}, which this one does not contain")]
    ReplayMismatch { place: String, expected: String },
    #[error("{place} cannot answer this request: {reason}")]
    ReplayUnfit { place: String, reason: String },
    #[error("cannot write the recording {path}: {reason}; the exchanges from here on are missing from it", path = path.display())]
    RecordingFailed { path: PathBuf, reason: String },
}

/// A 403 may have other reasons than the key: a model or a region that is not allowed.
fn refusal(variable: &str, status: u16) -> String {
    if status == 403 {
        format!("does not allow this request with the credential of {variable} (HTTP 403)")
    } else {
        format!("refused the credential of {variable} (HTTP {status}): set a valid one on the host")
    }
}

/// The sending end, cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Notices {
    sender: mpsc::Sender<Notice>,
    lost: Arc<AtomicU64>,
}

impl Notices {
    pub(super) fn new(sender: mpsc::Sender<Notice>) -> Self {
        Self { sender, lost: Arc::default() }
    }

    pub(super) fn tell(&self, session: Option<&str>, kind: NoticeKind) {
        tracing::debug!(session, "{kind}");
        let notice = Notice { session: session.map(str::to_owned), kind };
        if let Err(mpsc::error::TrySendError::Full(_)) = self.sender.try_send(notice) {
            let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            // A container can make as many notices as it likes; it must not fill the log with them.
            if lost.is_power_of_two() {
                tracing::warn!("notices come faster than they are read: {lost} are in the debug log only");
            }
        }
    }
}

/// Foreign text made safe for terminals and logs: escaped and cut. Quotes do no harm there, and stay as they are.
pub(super) fn quoted(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len().min(MAX_QUOTED));
    for char in text.chars().take(MAX_QUOTED) {
        match char {
            '\'' | '"' => escaped.push(char),
            other => escaped.extend(other.escape_debug()),
        }
    }
    if text.chars().nth(MAX_QUOTED).is_some() {
        escaped.push('…');
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_is_safe_and_keeps_its_quotes() {
        assert_eq!(quoted("the user's \"body\""), "the user's \"body\"");
        assert_eq!(quoted("a\n\u{1b}[2J\\"), r"a\n\u{1b}[2J\\");
        assert_eq!(quoted(&"x".repeat(MAX_QUOTED + 1)).chars().count(), MAX_QUOTED + 1);
    }
}
