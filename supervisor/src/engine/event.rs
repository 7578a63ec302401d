//! What an engine reports about containers while they live.

use futures_util::stream::BoxStream;
use jiff::Timestamp;

use super::Labels;
use super::container::ContainerId;
use super::error::EngineError;

/// Ends with an `Err` when the engine goes.
pub type EventStream = BoxStream<'static, Result<EngineEvent, EngineError>>;

/// One event about one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineEvent {
    pub container: ContainerId,
    pub kind: EventKind,
    /// By the engine's clock.
    pub at: Timestamp,
    /// The container's labels.
    pub labels: Labels,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    Start,
    /// The first process ended; 128 + n after signal n.
    Die {
        exit_code: i32,
    },
    /// The kernel killed a process of the container for memory. Docker reports it once or more, before or after `Die`,
    /// and on some kernels not at all for processes other than the first: the cgroup's counter is the truth.
    Oom,
    Destroy,
}
