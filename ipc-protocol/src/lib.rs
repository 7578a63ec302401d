//! The words that the supervisor (host) and the runner (PID 1 of the container) share.
//!
//! Everything travels as files in two directories per session: the mailbox, which the agent may write to, and the record,
//! which only root of the container may enter. `docs/ipc.md` is the contract in prose. This crate knows no engine and no
//! HTTP.
//!
//! ```text
//! host             mailbox                            container
//! Input        ──► input/<name>.json ───────────────► runner ──► agent
//! `_close`     ──► input/_close      ───────────────► runner
//! ◄─────────────── messages/<name>.json    ◄───────── agent       (Outgoing)
//! ◄─────────────── tasks/<name>.json       ◄───────── agent       (TaskRequest)
//! Reply        ──► replies/<id>.json       ─────────► agent
//!                  record
//! ◄─────────────── events/<8 digits>.jsonl ◄───────── runner      (Event, the journal)
//! ◄─────────────── status.json             ◄───────── runner      (Status, the heartbeat)
//! ```
//!
//! The words: [`input`], [`outgoing`], [`task`], [`reply`], [`event`], [`status`], [`config`], [`exit`]. How they travel:
//! [`mailbox`], [`journal`], [`heartbeat`], [`watch`], all through [`dir`]; [`git_mark`] keeps git away. Who uses what: [`host`] and [`runner`].

pub mod clip;
pub mod config;
pub mod dir;
pub mod event;
pub mod exit;
pub mod git_mark;
pub mod heartbeat;
pub mod host;
pub mod id;
pub mod input;
pub mod journal;
pub mod limits;
pub mod mailbox;
pub mod name;
pub mod outgoing;
pub mod paths;
pub mod reply;
pub mod runner;
pub mod status;
pub mod task;
pub mod watch;

/// Generation of the protocol that this build speaks.
///
/// Rises only when an older peer could misread what a newer one writes; new optional fields do not raise it. Generation 2
/// moved the journal and the heartbeat out of the mailbox.
pub const PROTOCOL_VERSION: u32 = 2;

/// The oldest generation that this build still understands.
pub const OLDEST_SUPPORTED_VERSION: u32 = 1;
