//! Which calls were made, and which are to go wrong.

use std::collections::HashMap;

use crate::engine::EngineError;

/// The verbs of the trait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    Detect,
    Image,
    Build,
    ImportImage,
    RemoveImage,
    CreateNetwork,
    RemoveNetwork,
    Networks,
    Create,
    Start,
    Inspect,
    Wait,
    Signal,
    Kill,
    Stop,
    Remove,
    Logs,
    Containers,
    Update,
    Exec,
    Events,
}

/// How a call goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It fails, without effect.
    Fail(EngineError),
    /// It gets no answer, and has no effect; it ends by its deadline.
    Hang,
    /// It is carried out, but the caller gets [`EngineError::Lost`].
    LoseAnswer,
    /// Of a call that makes a container or network: it gets this answer, or none, and has its effect only at
    /// [`FakeEngine::catch_up`](super::FakeEngine::catch_up). Other calls get the answer and have no effect.
    Late(Option<EngineError>),
}

/// A call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    pub call: Call,
    /// The name, id or tag that it was about; empty for lists.
    pub subject: String,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    planned: HashMap<(Call, usize), Fault>,
    counts: HashMap<Call, usize>,
    records: Vec<CallRecord>,
}

impl Faults {
    pub(super) fn plan(&mut self, call: Call, nth: usize, fault: Fault) {
        self.planned.insert((call, nth), fault);
    }

    /// Records a call and gives the fault planned for it.
    pub(super) fn record(&mut self, call: Call, subject: &str) -> Option<Fault> {
        self.records.push(CallRecord { call, subject: subject.to_owned() });
        let count = self.counts.entry(call).or_insert(0);
        *count += 1;
        self.planned.remove(&(call, *count))
    }

    pub(super) fn records(&self) -> &[CallRecord] {
        &self.records
    }
}
