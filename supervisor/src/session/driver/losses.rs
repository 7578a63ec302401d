//! What somebody in the container, or on this host, has removed of the session's mailbox.
//!
//! All of it is made again, so people only have to know that it happens: the first time, and then less and less often, since
//! an agent can do it as often as it likes.

use crate::session::event::HostEvent;

/// The word of such a warning for programs.
const CODE: &str = "ipc_repaired";

/// Losses so far.
#[derive(Debug, Default)]
pub(super) struct Losses {
    count: u64,
    /// That something cannot be made again was told.
    failed: bool,
    /// That the mailbox has lost its place in the workspace was told.
    unmounted: bool,
}

impl Losses {
    /// The event for parts of the mailbox that were missing at one look, and inputs that were written again; `None` for one of
    /// many.
    pub(super) fn repaired(&mut self, names: &[&str], inputs: usize) -> Option<HostEvent> {
        if names.is_empty() && inputs == 0 {
            return None;
        }
        self.count += 1;
        if !self.count.is_power_of_two() {
            return None;
        }
        let folders =
            (!names.is_empty()).then(|| names.iter().map(|name| format!("ipc/{name}")).collect::<Vec<_>>().join(", "));
        let files = (inputs > 0).then(|| format!("{inputs} files that the agent has not taken yet"));
        let lost: Vec<String> = folders.into_iter().chain(files).collect();
        let often = if self.count > 1 { format!("; that happened {} times so far", self.count) } else { String::new() };
        let message = format!(
            "a command of the agent removed {} from the mailbox; all of it is there again{often}",
            lost.join(" and ")
        );
        Some(HostEvent::HostWarning { code: CODE.into(), message })
    }

    /// The event for a part that cannot be made again, once.
    pub(super) fn failed(&mut self, why: &str) -> Option<HostEvent> {
        let first = !std::mem::replace(&mut self.failed, true);
        let message = format!("a part of the mailbox was removed and cannot be made again: {why}");
        first.then(|| HostEvent::HostWarning { code: "ipc_not_repaired".into(), message })
    }

    /// The event for mount points that were removed on this host, once.
    pub(super) fn unmounted(&mut self, points: &[std::path::PathBuf]) -> Option<HostEvent> {
        if points.is_empty() || std::mem::replace(&mut self.unmounted, true) {
            return None;
        }
        let points: Vec<String> = points.iter().map(|point| format!("/workspace/{}", point.display())).collect();
        let message = format!(
            "somebody removed an empty folder of the session on this host, and with it the mount {}; the mailbox goes on at \
             /run/aigo/ipc, which AIGO_IPC_DIR names in the container",
            points.join(" and ")
        );
        Some(HostEvent::HostWarning { code: "ipc_unmounted".into(), message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_loss_is_told_and_then_fewer_and_fewer() {
        let mut losses = Losses::default();
        assert!(losses.repaired(&[], 0).is_none());
        let told = (1..=1000).filter(|_| losses.repaired(&["input"], 1).is_some()).count();
        assert_eq!(told, 10);
        assert!(losses.failed("x").is_some() && losses.failed("x").is_none());
        assert!(losses.unmounted(&[]).is_none() && losses.unmounted(&["ipc".into()]).is_some());
        assert!(losses.unmounted(&["ipc".into()]).is_none());
    }
}
