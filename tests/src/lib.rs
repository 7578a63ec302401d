//! The framework in which behaviours of aigo as a whole are written (`tests/tests/`). It knows aigo only as people do: by
//! its command line, its output and what it leaves behind.
//!
//! ```no_run
//! use tests::{Expect, Home};
//!
//! let Some(home) = Home::open() else { return };      // a fresh data directory and workspace; None: see `engine`
//! let run = home.command("echo hello").start();       // `aigo run --program command --output stream-json …`
//! run.wait_for_text("hello");                         // waits have deadlines; there are no fixed sleeps
//! run.finish().expect(Expect::FINISHED);              // status, reason, exit code
//! // When `home` goes, nothing may be left of it: container, network, volume, `ipc`, session folder.
//! ```
//!
//! | module | what it gives |
//! |---|---|
//! | [`home`] | a data directory and a workspace of one test; the check that nothing is left; cleaning up after failures |
//! | [`run`] | `aigo run` as a child process: builder, events as they come, signals, the end |
//! | [`expect`] | how a session is to end |
//! | [`look`] | questions to a list of events |
//! | [`script`] | replay scripts: what the model answers |
//! | [`terminal`] | `aigo` at a terminal |
//! | [`service`] | `aigo serve` as a child process, its death, its API |
//! | [`http`] | the client for it |
//! | [`engine`] | the engine as others see it, through its command line |
//! | [`dockerd`] | a Docker engine of the test's own, to be stopped and killed |
//! | [`held`] | what a service and its sessions hold, to be compared |
//! | [`host`] | processes of the host, waiting |
//! | [`upstream`] | a model API on this host that answers as a test says |
//! | [`user`] | the ordinary user as whom a part of the tests runs aigo |
//! | [`wire`] | a socket between aigo and the engine that can be cut |

#![expect(clippy::expect_used, reason = "a panic is how a test fails")]

pub mod binary;
pub mod dockerd;
pub mod engine;
pub mod expect;
pub mod held;
pub mod home;
pub mod host;
pub mod http;
pub mod look;
pub mod run;
pub mod script;
pub mod service;
pub mod terminal;
pub mod upstream;
pub mod user;
pub mod wire;

pub use dockerd::Dockerd;
pub use expect::Expect;
pub use home::Home;
pub use http::Request;
pub use look::Look;
pub use run::{Finished, Run};
pub use script::Script;
pub use service::Service;
pub use terminal::Terminal;
pub use upstream::{Answer, Upstream};
