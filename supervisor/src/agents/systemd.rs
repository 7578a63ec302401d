//! Agents' slices, for engines with the systemd driver: a slice's quota is the service manager's to write, so it is asked,
//! by systemctl(1), which knows the system's and the user's alike. What is set lasts until the next boot (`--runtime`). The
//! slice is also started: one that only has a quota is in no list of units.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::error::AgentError;
use super::{AgentName, place};
use crate::units::MilliCpus;

/// How long the service manager may take: it answers in milliseconds, but `revert` reads all units again, which took more
/// than 10 s on an emulated machine.
const DEADLINE: Duration = Duration::from_secs(45);
/// Most of what systemctl says that is passed on, in characters.
const LONGEST_MESSAGE: usize = 400;

/// The service manager that owns the slices.
#[derive(Clone, Debug)]
pub(super) struct Manager {
    program: OsString,
    user: bool,
}

impl Manager {
    pub(super) fn new(user: bool) -> Self {
        Self { program: "systemctl".into(), user }
    }

    /// Sets a slice's quota, also while it has containers, and starts it.
    pub(super) async fn hold(&self, slice: &str, cpus: Option<MilliCpus>) -> Result<(), AgentError> {
        self.ask(&["set-property", "--runtime", slice, &format!("CPUQuota={}", percent(cpus))]).await?;
        self.ask(&["start", slice]).await.map(drop)
    }

    /// The agents of an instance that have a slice.
    pub(super) async fn list(&self, instance: &str) -> Result<Vec<AgentName>, AgentError> {
        let pattern = format!("{}*.slice", place::slice_prefix(instance));
        let said = self.ask(&["list-units", "--all", "--plain", "--no-legend", "--type=slice", &pattern]).await?;
        let names = said.lines().filter_map(|line| line.split_whitespace().next());
        Ok(names.filter_map(|name| place::agent_of(instance, name)).collect())
    }

    /// Takes a slice and its quota away. Stopping it would stop what is in it: the caller has looked.
    pub(super) async fn remove(&self, slice: &str) -> Result<(), AgentError> {
        self.ask(&["stop", slice]).await?;
        self.ask(&["revert", slice]).await.map(drop)
    }

    async fn ask(&self, arguments: &[&str]) -> Result<String, AgentError> {
        let failed = |message: String| AgentError::Systemctl { command: arguments.join(" "), message };
        let mut command = Command::new(&self.program);
        command.args(self.user.then_some("--user")).args(["--no-ask-password", "--no-pager"]).args(arguments);
        command.env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(DEADLINE, command.output())
            .await
            .map_err(|_elapsed| failed(format!("no answer in {DEADLINE:?}")))?
            .map_err(|error| failed(format!("it cannot be run: {error}")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(failed(said.trim().chars().take(LONGEST_MESSAGE).collect()))
    }
}

/// As systemd.resource-control(5) wants it: percent of one CPU; empty takes the quota away.
fn percent(cpus: Option<MilliCpus>) -> String {
    match cpus {
        None => String::new(),
        Some(MilliCpus(thousandths)) if thousandths % 10 == 0 => format!("{}%", thousandths / 10),
        Some(MilliCpus(thousandths)) => format!("{}.{}%", thousandths / 10, thousandths % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn quotas_are_percent_of_one_cpu() {
        let said = [None, Some(MilliCpus(500)), Some(MilliCpus(2500)), Some(MilliCpus(15))].map(percent);
        assert_eq!(said, ["", "50%", "250%", "1.5%"]);
    }

    /// A stand-in that writes down how it was called, and answers.
    fn stand_in(folder: &std::path::Path, answer: &str) -> Manager {
        let program = folder.join("systemctl");
        let script = format!("#!/bin/sh\nprintf '%s\\n' \"$*\" >> '{}/calls'\n{answer}\n", folder.display());
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Manager { program: program.into(), user: true }
    }

    #[tokio::test]
    async fn the_manager_is_asked_in_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let answer = "case \"$*\" in *list-units*) echo 'aigo-0a-x\\x2dy.slice loaded active active Slice'; \
                      echo 'aigo-0a-z.slice loaded inactive dead';; esac";
        let manager = stand_in(folder.path(), answer);
        manager.hold("aigo-0a-z.slice", Some(MilliCpus(1500))).await.unwrap();
        manager.hold("aigo-0a-z.slice", None).await.unwrap();
        let names: Vec<String> = manager.list("0a").await.unwrap().into_iter().map(String::from).collect();
        assert_eq!(names, ["x-y", "z"]);
        manager.remove("aigo-0a-z.slice").await.unwrap();
        let calls = std::fs::read_to_string(folder.path().join("calls")).unwrap();
        let expected = [
            "set-property --runtime aigo-0a-z.slice CPUQuota=150%",
            "start aigo-0a-z.slice",
            "set-property --runtime aigo-0a-z.slice CPUQuota=",
            "start aigo-0a-z.slice",
            "list-units --all --plain --no-legend --type=slice aigo-0a-*.slice",
            "stop aigo-0a-z.slice",
            "revert aigo-0a-z.slice",
        ];
        let expected = expected.map(|call| format!("--user --no-ask-password --no-pager {call}"));
        assert_eq!(calls.lines().collect::<Vec<_>>(), expected);
    }

    #[tokio::test]
    async fn a_refusal_is_passed_on() {
        let folder = tempfile::tempdir().unwrap();
        let manager = stand_in(folder.path(), "echo 'Access denied' >&2; exit 1");
        let error = manager.hold("aigo-0a-z.slice", None).await.unwrap_err().to_string();
        assert!(error.contains("set-property --runtime aigo-0a-z.slice") && error.contains("Access denied"), "{error}");
        let missing = Manager { program: "/nowhere/systemctl".into(), user: false };
        assert!(missing.list("0a").await.unwrap_err().to_string().contains("cannot be run"));
    }
}
