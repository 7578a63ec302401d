//! Where an agent's cgroup is, and by which name the engine is told. Pure.

use super::AgentName;
use super::enforcement::Holder;

/// The cgroup, and the slice, that holds everything of ours.
pub(super) const OURS: &str = "aigo";

/// The place of one agent of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The path in its hierarchy, from the root.
    pub(super) path: String,
    /// As the engine wants its cgroup parent: a path, or the name of a slice.
    pub(super) parent: String,
}

impl Place {
    pub(super) fn new(holder: Holder, instance: &str, agent: &AgentName, uid: u32) -> Self {
        match holder {
            Holder::Cgroup => {
                // Absolute: a relative one would be below the engine's own cgroup.
                let path = format!("{}/{agent}", folder(instance));
                Self { parent: path.clone(), path }
            }
            Holder::SystemSlice | Holder::UserSlice => {
                let slice = slice(instance, agent);
                let manager = match holder {
                    Holder::UserSlice => user_manager(uid),
                    Holder::SystemSlice | Holder::Cgroup => String::new(),
                };
                Self { path: format!("{manager}/{OURS}.slice/{OURS}-{instance}.slice/{slice}"), parent: slice }
            }
        }
    }
}

/// The cgroup of all agents of an instance.
pub(super) fn folder(instance: &str) -> String {
    format!("/{OURS}/{instance}")
}

/// A dash in a slice's name means "below" (systemd.slice(5)), so that one in an agent's name is written as
/// systemd-escape(1) does.
pub(super) fn slice(instance: &str, agent: &AgentName) -> String {
    format!("{}{}.slice", slice_prefix(instance), agent.as_str().replace('-', "\\x2d"))
}

/// How the names of all slices of an instance's agents begin.
pub(super) fn slice_prefix(instance: &str) -> String {
    format!("{OURS}-{instance}-")
}

/// The agent of a slice's name, if it is one of this instance's.
pub(super) fn agent_of(instance: &str, slice: &str) -> Option<AgentName> {
    let name = slice.strip_prefix(&slice_prefix(instance))?.strip_suffix(".slice")?;
    name.replace("\\x2d", "-").parse().ok()
}

/// The cgroup of a user's service manager.
pub(super) fn user_manager(uid: u32) -> String {
    format!("/user.slice/user-{uid}.slice/user@{uid}.service")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_of_one_instance_and_one_agent() {
        let agent: AgentName = "my-agent".parse().unwrap();
        let place = |holder| Place::new(holder, "0a1b", &agent, 1000);
        let cgroup = place(Holder::Cgroup);
        assert_eq!((cgroup.path.as_str(), cgroup.parent.as_str()), ("/aigo/0a1b/my-agent", "/aigo/0a1b/my-agent"));
        let slice = place(Holder::SystemSlice);
        assert_eq!(slice.parent, "aigo-0a1b-my\\x2dagent.slice");
        assert_eq!(slice.path, "/aigo.slice/aigo-0a1b.slice/aigo-0a1b-my\\x2dagent.slice");
        let users = place(Holder::UserSlice);
        assert!(users.path.starts_with("/user.slice/user-1000.slice/user@1000.service/aigo.slice/"), "{users:?}");
        assert_eq!(agent_of("0a1b", &slice.parent), Some(agent));
        for strange in ["aigo-0a1b.slice", "aigo-ffff-x.slice", "aigo-0a1b-x.service", "aigo-0a1b-a-b.slice.d"] {
            assert_eq!(agent_of("0a1b", strange), None, "{strange}");
        }
    }
}
