//! What the service manager says of the service.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::plan::{launchctl, systemctl, target};
use super::step::{StepError, output};
use super::{Manager, Service, systemd};

/// The state of the service.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Who starts it.
    pub manager: Manager,
    /// The file that the manager reads.
    pub unit: PathBuf,
    /// The file is there.
    pub installed: bool,
    /// The file is what this aigo would write.
    pub current: bool,
    /// It is started with the machine, or with the person's session.
    pub enabled: bool,
    /// It runs and is ready.
    pub running: bool,
    /// The manager's own words.
    pub state: String,
    /// What the service says of itself.
    pub text: Option<String>,
    /// Its process.
    pub pid: Option<u32>,
    /// How often the manager started it anew.
    pub restarts: Option<u32>,
}

/// Asks the service manager.
///
/// # Errors
/// Its tool cannot be run.
pub async fn ask(service: &Service, manager_runs: bool) -> Result<Status, StepError> {
    let unit = service.unit_path();
    let text = std::fs::read_to_string(&unit).ok();
    let status = Status {
        manager: service.manager,
        installed: text.is_some(),
        current: text.is_some_and(|text| text == service.unit_text()),
        unit,
        enabled: false,
        running: false,
        state: "not installed".to_owned(),
        text: None,
        pid: None,
        restarts: None,
    };
    if !manager_runs {
        return Ok(Status { state: "the service manager does not run".to_owned(), ..status });
    }
    match service.manager {
        Manager::Systemd => {
            let properties = "--property=ActiveState,SubState,UnitFileState,MainPID,NRestarts,StatusText,Result";
            let said = output(&systemctl(service, &["show", systemd::UNIT, properties])).await?;
            Ok(by_systemd(status, &said))
        }
        // It fails where the service is not loaded.
        Manager::Launchd => match output(&launchctl(&["print", &target(service)])).await {
            Ok(said) => Ok(by_launchd(status, &said)),
            Err(StepError::Failed { .. }) => Ok(Status { state: "not loaded".to_owned(), ..status }),
            Err(error) => Err(error),
        },
    }
}

/// `KEY=value` lines of `systemctl show`.
fn by_systemd(status: Status, said: &str) -> Status {
    let said: BTreeMap<&str, &str> = said.lines().filter_map(|line| line.split_once('=')).collect();
    let word = |name: &str| said.get(name).copied().unwrap_or_default();
    let number = |name: &str| word(name).parse().ok();
    let result = match word("Result") {
        "" | "success" => String::new(),
        result => format!(", {result}"),
    };
    Status {
        enabled: word("UnitFileState") == "enabled",
        // While it reads its configuration again it is ready for everybody else.
        running: matches!(word("ActiveState"), "active" | "reloading"),
        state: if status.installed {
            format!("{} ({}{result})", word("ActiveState"), word("SubState"))
        } else {
            status.state
        },
        text: Some(word("StatusText").to_owned()).filter(|text| !text.is_empty()),
        pid: number("MainPID").filter(|pid| *pid != 0),
        restarts: number("NRestarts"),
        ..status
    }
}

/// `key = value` lines of `launchctl print`; a loaded agent starts with the session.
fn by_launchd(status: Status, said: &str) -> Status {
    let value = |name: &str| {
        let line = said.lines().filter_map(|line| line.trim().split_once(" = ")).find(|(key, _)| *key == name);
        line.map(|(_, value)| value.to_owned())
    };
    let state = value("state").unwrap_or_else(|| "unknown".to_owned());
    Status {
        enabled: true,
        running: state == "running",
        state,
        pid: value("pid").and_then(|pid| pid.parse().ok()),
        restarts: None,
        ..status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed() -> Status {
        Status {
            manager: Manager::Systemd,
            unit: PathBuf::new(),
            installed: true,
            current: true,
            enabled: false,
            running: false,
            state: String::new(),
            text: None,
            pid: None,
            restarts: None,
        }
    }

    #[test]
    fn systemd_is_understood() {
        let said = "Result=success\nNRestarts=2\nMainPID=77\nStatusText=3 sessions = busy\nActiveState=active\n\
                    SubState=running\nUnitFileState=enabled\n";
        let status = by_systemd(installed(), said);
        assert!(status.running && status.enabled);
        assert_eq!((status.pid, status.restarts, status.state.as_str()), (Some(77), Some(2), "active (running)"));
        assert_eq!(status.text.as_deref(), Some("3 sessions = busy"));
        let said =
            "Result=watchdog\nNRestarts=0\nMainPID=0\nActiveState=failed\nSubState=failed\nUnitFileState=disabled\n";
        let status = by_systemd(installed(), said);
        assert!(!status.running && !status.enabled && status.pid.is_none());
        assert_eq!(status.state, "failed (failed, watchdog)");
    }

    #[test]
    fn launchd_is_understood() {
        let said = "gui/501/aigo.serve = {\n\tactive count = 1\n\tstate = running\n\n\tpid = 512\n}\n";
        let status = by_launchd(Status { manager: Manager::Launchd, ..installed() }, said);
        assert!(status.running && status.pid == Some(512));
    }
}
