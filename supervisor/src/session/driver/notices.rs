//! What the proxy has to tell, as events: the first few of each kind, then fewer and fewer with their number. An agent can
//! make as many as it likes.

use std::collections::HashMap;

use crate::proxy::NoticeKind;
use crate::session::event::HostEvent;

/// Notices of one kind that are all told.
const TOLD: u64 = 5;

/// How many notices of each kind have come.
#[derive(Debug, Default)]
pub(super) struct Notices {
    counts: HashMap<&'static str, u64>,
}

impl Notices {
    /// The event for a notice; none for one of many of its kind.
    pub(super) fn event(&mut self, kind: &NoticeKind) -> Option<HostEvent> {
        let code = code(kind);
        let count = self.counts.entry(code).or_default();
        *count += 1;
        let message = match *count {
            0..=TOLD => kind.to_string(),
            count if count.is_power_of_two() => format!("{kind} ({count} of this kind so far)"),
            _ => return None,
        };
        Some(HostEvent::HostWarning { code: code.into(), message })
    }
}

/// A word for programs.
fn code(kind: &NoticeKind) -> &'static str {
    match kind {
        NoticeKind::Stranger { .. } => "proxy_stranger",
        NoticeKind::NotCarried { .. } => "proxy_not_carried",
        NoticeKind::CredentialRefused { .. } => "credential_refused",
        NoticeKind::UpstreamUntrusted { .. } => "upstream_untrusted",
        NoticeKind::BadRequest { .. } => "proxy_bad_request",
        NoticeKind::NoRoots { .. } => "host_certificates",
        NoticeKind::UpstreamUnreachable { .. } => "upstream_unreachable",
        NoticeKind::UpstreamFailed { .. } => "upstream_failed",
        NoticeKind::UpstreamCut { .. } => "upstream_cut",
        NoticeKind::UpstreamRedirects { .. } => "upstream_redirects",
        NoticeKind::TooManyConnections { .. } => "proxy_too_many_connections",
        NoticeKind::ReplayExhausted { .. } => "replay_exhausted",
        NoticeKind::ReplayMismatch { .. } => "replay_mismatch",
        NoticeKind::ReplayUnfit { .. } => "replay_unfit",
        NoticeKind::RecordingFailed { .. } => "recording_failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_kind_are_told_and_then_fewer_and_fewer() {
        let mut notices = Notices::default();
        let flood = NoticeKind::NotCarried { request: "GET /x".into() };
        let told: Vec<u64> = (1..=1000).filter(|_| notices.event(&flood).is_some()).collect();
        assert_eq!(told, [1, 2, 3, 4, 5, 8, 16, 32, 64, 128, 256, 512]);
        for _ in 0..23 {
            assert_eq!(notices.event(&flood), None);
        }
        let Some(HostEvent::HostWarning { code, message }) = notices.event(&flood) else { panic!() };
        assert_eq!(code, "proxy_not_carried");
        assert!(message.contains("GET /x") && message.ends_with("(1024 of this kind so far)"), "{message}");
        let other = NoticeKind::UpstreamFailed { host: "h".into(), reason: "r".into() };
        assert!(notices.event(&other).is_some(), "a flood of one kind hides no other");
    }
}
