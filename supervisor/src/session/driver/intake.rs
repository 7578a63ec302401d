//! What the container wrote, into the store first and then into the machine.

use std::time::Duration;

use ipc_protocol::dir::DirError;
use ipc_protocol::event::EventKind;
use ipc_protocol::mailbox::{Item, Missing, Scan, Warning};
use ipc_protocol::outgoing::Outgoing;
use ipc_protocol::reply::Reply;
use ipc_protocol::task::TaskFile;
use tokio::time::Instant;

use super::Driver;
use super::pace::Look;
use crate::error_chain::chain;
use crate::session::event::{HostEvent, What};
use crate::session::machine::Input;
use crate::session::requests;
use crate::store::{NewEvent, StoreError};

/// Rounds of reading at a container's end: with the journal's own bound this is far more than it may hold.
const MAX_ROUNDS: usize = 100_000;
/// How long an ended container's files are read. The journal is bounded by its runner, but an agent can put more into
/// `messages/` than is read in hours at the allowed rate, and must not hold up the session's end by that.
const DRAIN: Duration = Duration::from_secs(5);
/// For what is left of the journal after that; all that a runner of ours can leave takes a few seconds.
const DRAIN_JOURNAL: Duration = Duration::from_secs(30);

impl Driver {
    /// One round, after which [`Pace`](super::pace::Pace) knows when the next one is due.
    pub(super) async fn look(&mut self) -> Result<(), StoreError> {
        let look = self.intake().await?;
        self.pace.looked(Instant::now(), look);
        Ok(())
    }

    async fn intake(&mut self) -> Result<Look, StoreError> {
        // Before the answers are heard: see `Outbox::missing`.
        let missing = self.outbox.missing();
        let journal = self.intake_journal().await?;
        self.repair(missing, &journal).await?;
        let messages = self.intake_messages().await?;
        let tasks = self.intake_tasks().await?;
        Ok(journal.and(messages).and(tasks))
    }

    /// Everything that is there: the container has ended and writes no more.
    pub(super) async fn intake_all(&mut self) -> Result<(), StoreError> {
        let deadline = Instant::now() + DRAIN;
        for _ in 0..MAX_ROUNDS {
            match self.intake().await?.again {
                Some(wait) if Instant::now() + wait < deadline => tokio::time::sleep(wait).await,
                Some(_) => break,
                None => return Ok(()),
            }
        }
        let deadline = Instant::now() + DRAIN_JOURNAL;
        for _ in 0..MAX_ROUNDS {
            match self.intake_journal().await?.again {
                Some(wait) if Instant::now() + wait < deadline => tokio::time::sleep(wait).await,
                Some(_) | None => break,
            }
        }
        let message = format!(
            "the agent left more messages and requests than are read in {} s after its end; the rest is dropped",
            DRAIN.as_secs()
        );
        self.warn("ipc_backlog_dropped", message).await
    }

    async fn intake_journal(&mut self) -> Result<Look, StoreError> {
        let batch = self.journal.read();
        let found = !batch.events.is_empty();
        if !batch.events.is_empty() {
            if batch.events.iter().any(|event| matches!(event.kind, EventKind::AgentExited { .. })) {
                // The runner is about to end, and the counters with it.
                self.sample().await?;
            }
            let cursor = serde_json::to_string(&batch.cursor).ok();
            let events = batch
                .events
                .iter()
                .map(|event| NewEvent { runner_seq: Some(event.seq), what: What::Runner(event.kind.clone()) });
            self.note_checkpoint();
            self.ledger.append_journal(events.collect(), batch.bytes, cursor).await?;
            for event in &batch.events {
                self.hear(event.seq, &event.kind).await?;
            }
            if let Err(error) = self.journal.prune(batch.cursor) {
                self.warn("ipc_prune_failed", chain(&error)).await?;
            }
        }
        if let Some(fault) = batch.fault {
            let why = fault.to_string();
            if self.machine.status().is_terminal() || self.container.is_none() || self.faulty {
                return Ok(Look { found, again: None });
            }
            self.faulty = true;
            self.warn("ipc_journal_broken", why.clone()).await?;
            self.step(Input::Broken(&why)).await?;
            return Ok(Look { found: true, again: None });
        }
        Ok(Look { found, again: batch.again_in })
    }

    /// Makes again what somebody has removed of the mailbox. Inputs are written again only if all of the journal was read, in which
    /// their answers are.
    async fn repair(&mut self, missing: Result<Missing, DirError>, journal: &Look) -> Result<(), StoreError> {
        let repaired = self.ipc.repair();
        let was_read = journal.again.is_none() && !self.faulty;
        let inputs = match missing {
            Ok(missing) if was_read => self.outbox.repair(missing),
            Ok(_) => Ok(0),
            Err(error) => Err(error),
        };
        let (inputs, unwritten) = match inputs {
            Ok(inputs) => (inputs, None),
            Err(error) => (0, Some(error)),
        };
        let told = self.losses.repaired(&repaired.names, inputs);
        let failed = repaired.failed.or(unwritten).and_then(|error| self.losses.failed(&chain(&error)));
        for event in told.into_iter().chain(failed) {
            self.tell(event).await?;
        }
        Ok(())
    }

    async fn intake_messages(&mut self) -> Result<Look, StoreError> {
        let scan = self.messages.scan();
        let look = look_of(&scan);
        self.report(&scan).await?;
        for Item { name, id, body, .. } in scan.items {
            let event = HostEvent::outgoing(id.to_string(), &body);
            let question = matches!(body.outgoing, Outgoing::Question { .. });
            let json = serde_json::to_string(&body).unwrap_or_default();
            self.ledger.take("messages", id.as_str(), json, event).await?;
            // Also if it was taken before, by an owner that had no time for more; the file goes only after this.
            if question {
                self.step(Input::Asked).await?;
            }
            if let Some(warning) = self.messages.remove(&name) {
                self.warn(warning.code(), warning.to_string()).await?;
            }
        }
        Ok(look)
    }

    async fn intake_tasks(&mut self) -> Result<Look, StoreError> {
        let scan = self.tasks.scan();
        let look = look_of(&scan);
        self.report(&scan).await?;
        for refused in &scan.refused {
            let message = format!("the request could not be read: {refused}");
            let _ = self.ipc.reply(&Reply::failed(refused.id.clone(), "bad_request", message));
        }
        for Item { name, id, body, .. } in scan.items {
            self.answer_request(&id, &body).await?;
            if let Some(warning) = self.tasks.remove(&name) {
                self.warn(warning.code(), warning.to_string()).await?;
            }
        }
        Ok(look)
    }

    async fn answer_request(&mut self, id: &ipc_protocol::id::MessageId, body: &TaskFile) -> Result<(), StoreError> {
        let refusal = requests::judge(&body.request);
        let event = HostEvent::TaskRequest {
            id: id.to_string(),
            request: refusal.request.to_owned(),
            ok: false,
            error: Some(refusal.message.to_owned()),
        };
        let json = serde_json::to_string(body).unwrap_or_default();
        self.ledger.take("tasks", id.as_str(), json, event).await?;
        let reply = Reply::failed(id.clone(), refusal.code, refusal.message);
        match self.ipc.reply(&reply) {
            Ok(()) => Ok(()),
            Err(error) => self.warn("reply_failed", chain(&error)).await,
        }
    }

    async fn report<T>(&mut self, scan: &Scan<T>) -> Result<(), StoreError> {
        for refused in &scan.refused {
            self.warn("ipc_dead_letter", refused.to_string()).await?;
        }
        for warning in &scan.warnings {
            match warning {
                // Repaired, and told there.
                Warning::FolderReplaced { .. } | Warning::FolderLost { .. } => {}
                Warning::RateLimited { .. }
                | Warning::Backlog { .. }
                | Warning::Stuck { .. }
                | Warning::Halted { .. } => self.warn(warning.code(), warning.to_string()).await?,
            }
        }
        Ok(())
    }
}

fn look_of<T>(scan: &Scan<T>) -> Look {
    let found = !(scan.items.is_empty() && scan.refused.is_empty() && scan.warnings.is_empty());
    Look { found, again: scan.again_in }
}
