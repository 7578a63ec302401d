//! What a driver knows, stored with its events, so that another process can go on with the session.
//!
//! A checkpoint is written with events, and tells what was known *before* them: whoever goes on feeds the machine the
//! runner's events that came after it once more. Effects that were told are in the checkpoint that was stored with them, so
//! none is told twice.

use serde::{Deserialize, Serialize};

use super::facts::Counts;
use crate::session::event::Summary;
use crate::session::machine::Machine;

/// To write.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View<'a> {
    /// The runner's number of the last event that the machine has got.
    pub(super) heard: u64,
    pub(super) machine: &'a Machine,
    pub(super) summary: &'a Summary,
    pub(super) counts: Counts,
}

/// To read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Checkpoint {
    pub(super) heard: u64,
    pub(super) machine: Machine,
    pub(super) summary: Summary,
    pub(super) counts: Counts,
}
