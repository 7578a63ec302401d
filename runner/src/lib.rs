//! aigo-runner: PID 1 of an agent container.
//!
//! ```text
//! init (PID 1) ── starts ──► worker ── starts ──► agent (its own process group, the folder owner's uid)
//!  │ sole waitpid(-1)          │ boot phases, session driver, journal, heartbeat thread
//!  │ forwards signals          │
//!  └ at the end kills what is left, exits with the worker's code
//! ```
//!
//! It is a library with a thin binary so that fuzz targets reach the parser of the agent's bytes
//! ([`adapter::Translator`]).

pub mod adapter;
mod agent;
mod boot;
pub mod cli;
mod http;
mod init;
mod inputs;
pub mod lines;
mod log;
mod outbox;
mod record;
mod recorded;
pub mod session;
mod signals;
mod worker;
