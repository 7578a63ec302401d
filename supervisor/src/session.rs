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
//! - [`launch`] brings everything up in order and takes everything down again, whatever happened in between.
//! - [`event`] is what readers see; the store has it before any of them.

pub mod event;
pub mod id;
pub mod machine;
pub mod status;

pub use id::SessionId;
