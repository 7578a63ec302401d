//! What containers and the host use, at one moment: for all containers at once, from cgroup files and /proc. The engine's
//! own statistics take a second for each container; reading the files takes some tens of microseconds.

pub mod host;
pub mod survey;

pub use host::{HostError, HostUsage, booted_at};
pub use survey::{Survey, Usage};
