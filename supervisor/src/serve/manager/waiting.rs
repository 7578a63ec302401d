//! The queue at work: who is offered, who waits, whose turn has come.
//!
//! ```text
//!  offer ──► admitted ──────────────────────────────► launched ──► ended ──► the next
//!    │  └──► queued: row, event ──► turn ──► judged again ──┘ └── cannot: ended with the reason
//!    └─────► rejected                  └── the engine is away: parked until it answers
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::told::News;
use super::{Manager, StartError, log_end};
use crate::admission::{Cancelled, Moved, Offered, Refusal, Ticket, Wait};
use crate::agents::AgentName;
use crate::door::{Admitted, Refused};
use crate::engine::EngineInfo;
use crate::error_chain::chain;
use crate::policy::Permit;
use crate::request::wire::NewSession;
use crate::session::control::{Answer, ControlError, Request};
use crate::session::event::HostEvent;
use crate::session::launch::{Account, Launcher};
use crate::session::status::{EndReason, Ending, Status};
use crate::session::{SessionId, waiting};
use crate::store::{Position, SessionFilter, SessionRow, StoreError};

/// How long somebody whose turn has just come may take to be reached: judging looks at folders, which may be slow.
const STARTING: Duration = Duration::from_secs(10);
/// The pace of looking whether it is reached.
const POLL: Duration = Duration::from_millis(20);

/// One who waits, as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InLine {
    /// What it asks for.
    pub ticket: Ticket,
    /// 1 is next; 0 if its turn has come, and the engine does not answer.
    pub position: usize,
    /// Why it waits; none if it waits for the engine.
    pub reason: Option<Wait>,
}

/// What a request that may be carried out is offered with.
pub(super) struct Offer {
    pub(super) admitted: Admitted,
    pub(super) launcher: Launcher,
}

impl Manager {
    /// Starts what was judged, or lets it wait.
    pub(super) async fn offer(self: &Arc<Self>, offer: Offer) -> Result<SessionId, StartError> {
        let Offer { admitted, launcher } = offer;
        let id = SessionId::random();
        let ticket = self.ticket(id.clone(), admitted.permit.request(), Timestamp::now());
        // Until its row is there nobody looks for it.
        let gate = self.gate.lock().await;
        let (offered, moved) = self.desk().offer(ticket);
        self.moved(moved);
        match offered {
            Offered::Admitted => {
                drop(gate);
                let begun = self.begin(&launcher, id.clone(), admitted).await;
                if begun.is_err() {
                    self.left(&id);
                }
                begun.map(|()| id)
            }
            Offered::Queued { position, reason } => {
                let kept = self.keep_waiting(&id, &admitted.permit, &launcher, position, reason).await;
                if kept.is_err() {
                    self.leave(&id);
                }
                kept?;
                Ok(id)
            }
            Offered::Rejected { reason } => Err(StartError::NoPlace(reason)),
        }
    }

    async fn keep_waiting(
        &self,
        id: &SessionId,
        permit: &Permit,
        launcher: &Launcher,
        position: usize,
        reason: Wait,
    ) -> Result<(), StoreError> {
        let request = permit.request();
        let workspace = permit.facts().workspace.canonical.clone();
        let mut row = SessionRow::new(id.clone(), request.agent.word(), &request.image, workspace);
        row.status = Status::Queued;
        row.agent = request.principal.to_string();
        row.request = serde_json::to_string(&NewSession::from(request.clone())).ok();
        self.store.insert_session(row.on(launcher.identity.clone())).await?;
        tracing::info!(session = %id, agent = %request.principal, position, "session {id} waits: {reason}");
        let news = News { id: id.clone(), position, reason };
        self.store.append(id, vec![queued(&news).into()], Position::default()).await?;
        self.desk().told.note(Instant::now(), news);
        Ok(())
    }

    /// Tells those who wait of their places, as far as these have changed.
    pub async fn tell_waiting(&self, now: Instant) {
        let due = self.desk().news(now);
        for news in due {
            // Whose turn has come meanwhile, or who does not want to any more, is left alone.
            if let Err(error) = self.store.tell_queued(&news.id, queued(&news)).await {
                tracing::error!("session {}: its place in the queue could not be stored: {}", news.id, chain(&error));
            }
        }
    }

    /// Brings up what may start now.
    async fn begin(self: &Arc<Self>, launcher: &Launcher, id: SessionId, admitted: Admitted) -> Result<(), StartError> {
        let Admitted { permit, upstream } = admitted;
        let agent = permit.request().principal.clone();
        let (program, image) = (permit.request().agent.word(), permit.request().image.clone());
        let hold = self.hold(&agent, permit.request().limits).await?;
        let held = hold.as_ref().map(|hold| hold.by.limits);
        let request = serde_json::to_string(&NewSession::from(permit.request().clone())).ok();
        let account = Account { id: id.clone(), agent: agent.to_string(), request, hold };
        let session = launcher.launch_on(account, permit, upstream).await?;
        tracing::info!(session = %id, %agent, program, image, "session {id} of agent {agent} starts");
        let mut container = session.container.clone();
        self.keep(session, agent.to_string());
        let manager = Arc::clone(self);
        self.tasks.spawn(async move {
            // Whatever was changed while it was being brought up; a session that ends before has no container to change.
            if container.wait_for(Option::is_some).await.is_ok() {
                manager.agree(&agent, held).await;
            }
        });
        Ok(())
    }

    fn ticket(&self, id: SessionId, request: &crate::request::SessionRequest, since: Timestamp) -> Ticket {
        let agent = request.principal.clone();
        let (limits, _) = self.limits(&agent).container(request.limits);
        Ticket { id, agent, cpus: limits.cpus, memory: limits.memory, since }
    }

    /// A session that ran, or was about to, is gone: others may start.
    pub(super) fn left(self: &Arc<Self>, id: &SessionId) {
        let (moved, was_last) = self.desk().left(id);
        self.moved(moved);
        if was_last {
            let manager = Arc::clone(self);
            self.tasks.spawn(async move {
                if let Err(error) = manager.sweep_agents().await {
                    tracing::warn!("the cgroup of an agent that has no session cannot be removed: {}", chain(&error));
                }
            });
        }
    }

    /// Takes one who waits out of the queue; whether it was there.
    fn leave(self: &Arc<Self>, id: &SessionId) -> bool {
        let cancelled = self.desk().queue.cancel(id);
        match cancelled {
            Cancelled::Left { moved, .. } => {
                self.moved(moved);
                true
            }
            Cancelled::NotWaiting => false,
        }
    }

    /// Launches those whose turn has come, and ends those whose turn cannot come any more.
    pub(super) fn moved(self: &Arc<Self>, moved: Moved) {
        for admission in moved.admitted {
            self.take_turn(admission.ticket);
        }
        for (ticket, refusal) in moved.rejected {
            let manager = Arc::clone(self);
            self.tasks.spawn(async move {
                drop(manager.gate.lock().await);
                manager.end_waiting(&ticket.id, admission_failed(&refusal)).await;
            });
        }
    }

    /// Has it launched, unless the daemon ends: then its row says that it waits, and the next one starts it.
    fn take_turn(self: &Arc<Self>, ticket: Ticket) {
        if !self.stopping.is_cancelled() {
            let manager = Arc::clone(self);
            self.turns.spawn(async move { manager.turn(ticket).await });
        }
    }

    async fn turn(self: Arc<Self>, ticket: Ticket) {
        let id = ticket.id.clone();
        // Its row may be just being written.
        drop(self.gate.lock().await);
        match self.launch_waiting(&id).await {
            Ok(true) => {}
            Ok(false) => self.left(&id),
            Err(StartError::Engine(error)) => {
                tracing::warn!("session {id} starts when the engine answers: {}", chain(&error));
                self.desk().parked.insert(id, ticket);
            }
            Err(error) => {
                self.end_waiting(&id, launch_failed(&error)).await;
                self.left(&id);
            }
        }
    }

    /// Judges again, and launches; false if it does not wait any more.
    async fn launch_waiting(self: &Arc<Self>, id: &SessionId) -> Result<bool, StartError> {
        let row = self.store.session(id).await?;
        let Some(row) = row.filter(|row| row.status == Status::Queued) else { return Ok(false) };
        let request = self.request_of(&row).ok_or(StartError::Unreadable)?;
        let (launcher, info) = self.launcher().await?;
        // The limits were fitted to the host when it was asked for.
        let admitted = self.ask_door(request).await?.admit(true, &info)?;
        self.begin(&launcher, id.clone(), admitted).await?;
        Ok(true)
    }

    /// Ends a session that never ran.
    async fn end_waiting(&self, id: &SessionId, ending: Ending) {
        // A launch that failed has left its row as it was, or has ended it.
        match waiting::end(&self.store, id, ending.clone()).await {
            Ok(true) => log_end(id, Some(&ending)),
            Ok(false) => {}
            Err(error) => tracing::error!("session {id}: its end could not be stored: {}", chain(&error)),
        }
    }

    /// Asks one who waits for something: only its end makes sense.
    pub(super) async fn ask_waiting(
        self: &Arc<Self>,
        row: &SessionRow,
        request: Request,
    ) -> Result<Answer, ControlError> {
        let by = match &request {
            Request::Cancel { by } | Request::Close { by, .. } => Some(by.clone()),
            Request::Message { .. } | Request::Interrupt {} | Request::Attached { .. } | Request::Hold {} => None,
        };
        let id = &row.id;
        if let Some(by) = &by {
            // A queued session's row is written under the gate, and must be there to be ended.
            drop(self.gate.lock().await);
            let parked = self.desk().parked.remove(id).is_some();
            if parked || self.leave(id) {
                self.end_waiting(id, Ending::because(EndReason::Cancelled, format!("cancelled by {by}"))).await;
                self.left(id);
                return Ok(Answer::taken(None));
            }
        } else if self.desk().queue.position(id).is_some() {
            return Ok(Answer::refused("the session waits in the queue; it takes messages once it runs"));
        }
        // Its turn has just come.
        let reached = async {
            loop {
                if self.latest(id).is_some() {
                    return true;
                }
                match self.store.session(id).await {
                    Ok(Some(row)) if row.ended_at.is_none() => tokio::time::sleep(POLL).await,
                    Ok(_) | Err(_) => return false,
                }
            }
        };
        match tokio::time::timeout(STARTING, reached).await {
            Ok(true) => self.ask_running(row, request).await,
            Ok(false) => Ok(Answer::refused(crate::session::control::HAS_ENDED)),
            Err(_) => Ok(Answer::refused("the session is just being started; try again")),
        }
    }

    /// Everybody who waits, the next one first.
    pub fn in_line(&self) -> Vec<InLine> {
        let desk = self.desk();
        let parked = desk.parked.values().map(|ticket| InLine { ticket: ticket.clone(), position: 0, reason: None });
        let waiting = desk.queue.positions().into_iter().map(|waiting| InLine {
            ticket: waiting.ticket.clone(),
            position: waiting.position,
            reason: Some(waiting.reason),
        });
        parked.chain(waiting).collect()
    }

    /// How many of an agent run and wait.
    pub fn of_agent(&self, agent: &AgentName) -> (u32, usize) {
        self.desk().queue.of_agent(agent)
    }

    /// How many count as running.
    pub fn running(&self) -> u32 {
        self.desk().queue.running()
    }

    /// Lets in whom the host's free memory kept out.
    pub fn tick(self: &Arc<Self>) {
        let moved = {
            let mut desk = self.desk();
            if desk.queue.waiting() == 0 { Moved::default() } else { desk.measure() }
        };
        self.moved(moved);
    }

    /// Takes back the queue that the service before this one left. Nobody starts before the engine has answered.
    ///
    /// # Errors
    /// The store's.
    pub async fn restore(self: &Arc<Self>) -> Result<(), StoreError> {
        let (mut running, mut waiting) = (Vec::new(), Vec::new());
        let set = self.store.agent_limits().await?;
        let config = self.config();
        self.desk().set = set;
        let mut rows = self.store.sessions(SessionFilter::Live).await?;
        rows.sort_by(|one, other| (one.created_at, &one.id).cmp(&(other.created_at, &other.id)));
        for row in rows.iter().filter(|row| row.request.is_some()) {
            match (self.request_of(row), row.status) {
                (Some(request), Status::Queued) => waiting.push(self.ticket(row.id.clone(), &request, row.created_at)),
                (Some(request), _) => running.push(self.ticket(row.id.clone(), &request, row.created_at)),
                (None, Status::Queued) => self.end_waiting(&row.id, launch_failed(&StartError::Unreadable)).await,
                // The comparison with the engine ends it.
                (None, _) => {}
            }
        }
        let moved = self.desk().restore(&config, running, waiting);
        self.moved(moved);
        Ok(())
    }

    /// The engine answers: those who waited for it go on.
    pub(super) fn engine_answers(self: &Arc<Self>, info: &EngineInfo) {
        let config = self.config();
        let (moved, parked) = {
            let mut desk = self.desk();
            (desk.opened(&self.instance, info, &config), std::mem::take(&mut desk.parked))
        };
        self.moved(moved);
        for ticket in parked.into_values() {
            self.take_turn(ticket);
        }
    }

    /// Forgets those who wait or count as running, and whose rows another process has ended.
    pub(super) async fn drop_ended(self: &Arc<Self>) -> Result<(), StoreError> {
        let running: Vec<SessionId> = self.desk().queue.running_ids().cloned().collect();
        for id in running.into_iter().filter(|id| self.latest(id).is_none()) {
            // Without a row it is just being launched.
            if self.store.session(&id).await?.is_some_and(|row| row.ended_at.is_some()) {
                self.left(&id);
            }
        }
        let waiting: Vec<SessionId> = self.in_line().into_iter().map(|waiting| waiting.ticket.id).collect();
        for id in waiting {
            drop(self.gate.lock().await);
            if self.store.session(&id).await?.is_none_or(|row| row.ended_at.is_some()) {
                self.leave(&id);
            }
        }
        Ok(())
    }
}

fn queued(News { position, reason, .. }: &News) -> HostEvent {
    HostEvent::Queued { position: *position, reason: reason.clone(), message: reason.to_string() }
}

fn admission_failed(refusal: &Refusal) -> Ending {
    Ending::because(EndReason::SetupFailed { step: "admission".into() }, refusal.to_string())
}

fn launch_failed(error: &StartError) -> Ending {
    let reason = match error {
        StartError::Engine(_) => EndReason::EngineLost,
        StartError::Refused(Refused::Denied(_)) => EndReason::SetupFailed { step: "policy".into() },
        StartError::Refused(_)
        | StartError::Hangs
        | StartError::Judging
        | StartError::Launch(_)
        | StartError::Stopping(_)
        | StartError::NoPlace(_)
        | StartError::Limits(_)
        | StartError::Store(_)
        | StartError::Unreadable => EndReason::SetupFailed { step: "admission".into() },
    };
    Ending::because(reason, chain(error))
}
