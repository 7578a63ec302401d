//! Requests that were turned away at the door: no token, a foreign page, a name that is not ours. Anybody who reaches the
//! port can make any number of them, so they come into the audit log as one line a minute at most: the last one in words,
//! and how many there were. The log keeps 100,000 lines; a flood would need two months to push the others out.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipc_protocol::clip::ClippedText;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::manager::Manager;
use crate::store::{Decision, NewAudit};

/// Between two lines.
const PAUSE: Duration = Duration::from_secs(60);
/// Bytes of a refusal's words that are kept: they repeat headers of the caller's.
const MAX_WORDS: usize = 300;

/// Who was refused since the last line.
#[derive(Debug, Default)]
pub struct Refusals {
    since: Mutex<Since>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Since {
    count: u64,
    /// Who, and why.
    last: Option<(String, String)>,
}

impl Refusals {
    /// Somebody was refused.
    pub fn note(&self, who: String, why: &str) {
        let why = ClippedText::new(why, MAX_WORDS).text;
        let mut since = self.lock();
        *since = Since { count: since.count.saturating_add(1), last: Some((who, why)) };
        self.news.notify_one();
    }

    /// What there is to write down; then there is nothing any more.
    fn line(&self) -> Option<NewAudit> {
        let Since { count, last } = std::mem::take(&mut *self.lock());
        let (actor, why) = last?;
        let others = count.saturating_sub(1);
        let more = (others > 0).then(|| format!("the last of {count} that were refused since the line before"));
        let reasons = [why].into_iter().chain(more).collect();
        Some(NewAudit { actor, action: "request.refused", session: None, decision: Decision::Denied, reasons })
    }

    /// Writes lines until told to stop: the first refusal at once, those of the next minute together.
    pub async fn write_down(&self, manager: &Manager, stop: &CancellationToken) {
        while stop.run_until_cancelled(self.news.notified()).await.is_some() {
            if let Some(line) = self.line() {
                manager.audit(line).await;
            }
            // Cut short by the end, which the loop sees.
            let _ = stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
        if let Some(line) = self.line() {
            manager.audit(line).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Since> {
        // Nothing under it panics.
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
