//! A session: one agent at work on one folder in one container.
//!
//! ```text
//!            launch                 ready            close, timeout
//! queued ──► provisioning ────────► running ───────► closing
//!               │                      │                │
//!               └──────────────────────┴────────────────┴──► completed | failed | timeout | cancelled   (terminal)
//! ```
//!
//! - [`machine`] is the whole life as a pure function: inputs and the time go in, effects come out.
//! - [`driver`] is the one task that owns a session: it feeds the machine and carries out its effects.
//! - [`launch`] brings everything up in order; [`resources`] takes everything down again, whatever happened in between.
//! - [`remote`] is a session of another process, for whoever attends it.
//! - [`recover`] does the same for sessions whose owner died without a word; [`doubt`] says where the engine may still
//!   have something to show.
//! - [`event`] is what readers see; the store has it before any of them, within a budget for each session, whoever stores it:
//!   its driver, the one after it, or who stores the last words of a dead session.

mod budget;
pub mod control;
pub mod doubt;
pub mod driver;
pub mod event;
pub mod gap;
pub mod id;
pub mod launch;
mod ledger;
pub mod lock;
pub mod machine;
pub mod recover;
pub mod remote;
pub mod requests;
pub mod resources;
pub mod status;
pub mod waiting;

pub use id::SessionId;
