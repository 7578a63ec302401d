//! A session of another process, seen as one of ours: whoever attends it need not know who owns it.
//!
//! Wishes go to the owner's control socket, news come from the store, and the owner is told when this process has gone: what
//! a person started and left by accident is not to run on.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::SessionId;
use super::control::{self, Answer, Pending, Request};
use super::launch::{COMMANDS, Session};
use super::status::{EndReason, Ending};
use super::waiting;
use crate::dirs::DataDir;
use crate::error_chain::chain;
use crate::store::{Store, StoreError};

/// How often the store is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long after the owner has gone (it may be started anew) it is told again whose session it is.
const AGAIN: Duration = Duration::from_millis(500);
/// How long the store may not answer.
const STORE_AWAY: Duration = Duration::from_secs(30);

/// Attends the session `id`, which another process owns.
pub fn attend(id: SessionId, store: Store, dirs: &DataDir) -> Session {
    let (commands, wishes) = mpsc::channel(COMMANDS);
    let (latest, latest_seen) = watch::channel(0);
    let socket = dirs.session(&id).control_socket();
    let remote = Remote { id: id.clone(), store, socket, latest, wishes };
    Session::of(id, latest_seen, commands, tokio::spawn(remote.run()))
}

struct Remote {
    id: SessionId,
    store: Store,
    socket: PathBuf,
    latest: watch::Sender<u64>,
    wishes: mpsc::Receiver<Pending>,
}

impl Remote {
    async fn run(mut self) -> Ending {
        let hold = tokio::spawn(hold(self.socket.clone()));
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        let ending = loop {
            tokio::select! {
                _ = looks.tick() => match self.look().await {
                    Ok(Some(ending)) => break ending,
                    Ok(None) => heard = Instant::now(),
                    Err(error) if heard.elapsed() > STORE_AWAY => {
                        break Ending::because(EndReason::SetupFailed { step: "store".into() }, chain(&error));
                    }
                    Err(_) => {}
                },
                Some(Pending { request, answer }) = self.wishes.recv() => {
                    if self.leaves_the_queue(&request).await {
                        drop(answer.send(Answer::taken(None)));
                        continue;
                    }
                    let kills = matches!(request, Request::Cancel { .. });
                    match control::ask(&self.socket, &request).await {
                        // Whoever asked may have left.
                        Ok(said) => drop(answer.send(said)),
                        Err(error) if kills => {
                            let said = "the service is away, and the session runs on without it; `aigo stop` ends it";
                            drop(answer.send(Answer::refused(said)));
                            break Ending::because(EndReason::Cancelled, format!("left alone: {}", chain(&error)));
                        }
                        Err(error) => drop(answer.send(Answer::refused(chain(&error)))),
                    }
                }
            }
        };
        hold.abort();
        ending
    }

    /// A session that waits for room has no owner to ask: whoever does not want it any more ends it in the store, where the
    /// service looks before it starts anything.
    async fn leaves_the_queue(&self, request: &Request) -> bool {
        let (Request::Close { by, .. } | Request::Cancel { by }) = request else { return false };
        waiting::leave(&self.store, &self.id, by).await.unwrap_or(false)
    }

    async fn look(&self) -> Result<Option<Ending>, StoreError> {
        // Read before the events: what was written before its end is then seen, too.
        let row = self.store.session(&self.id).await?;
        let last = self.store.last_event(&self.id).await?;
        self.latest.send_if_modified(|seen| std::mem::replace(seen, last) != last);
        // Only ended sessions are forgotten.
        let Some(row) = row else { return Ok(Some(unknown("the service has forgotten it since it ended"))) };
        Ok(row.ended_at.map(|_| row.ending.unwrap_or_else(|| unknown("nobody wrote down why it ended"))))
    }
}

fn unknown(why: &str) -> Ending {
    Ending::because(EndReason::RunnerLost, why)
}

/// Holds the line to the owner for as long as this process lives.
async fn hold(socket: PathBuf) {
    loop {
        if let Ok(mut line) = control::hold(&socket).await {
            // It ends when the owner does.
            control::until_closed(&mut line).await;
        }
        tokio::time::sleep(AGAIN).await;
    }
}
