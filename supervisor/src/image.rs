//! The image that agents run in: built from what the binary carries, and looked at.
//!
//! ```text
//!            embedded files ─┐
//!   host's CA certificates ──┼─► context (tar) ─► engine.build ─► versions (one container) ─► engine.build (labels) ─► tag
//!   prebuilt runner, if any ─┘        ▲
//!                                base image: present, else pulled, else made from Debian's archive
//! ```
//!
//! The versions of the tools are known only after the build, and labels can only be given with one; so a second build
//! adds them, without content of its own. Nothing here knows a terminal: [`build()`] reports [`Progress`] and the caller
//! shows it.

pub mod base;
pub mod build;
pub mod certificates;
pub mod context;
pub mod embedded;
pub mod error;
pub mod lock;
pub mod log;
pub mod prebuilt;
pub mod progress;
pub mod recipe;
pub mod status;
pub mod versions;

pub use build::{BuildRequest, Built, HostSettings, build};
pub use error::ImageError;
pub use progress::{Phase, Progress};
pub use status::{ImageStatus, status};
pub use versions::Versions;

/// The base image that is used if none is named.
pub const DEFAULT_BASE: &str = "debian:trixie-slim";
