//! The steps of an install and of an uninstall. Pure: what is there is an argument.

use std::path::Path;

use super::step::Step;
use super::{Manager, Service, launchd, systemd};
use crate::config::{Config, Scope};

/// Puts everything in place and starts it. `unit_now` is the unit that is there.
pub fn install(service: &Service, unit_now: Option<&str>) -> Vec<Step> {
    let text = service.unit_text();
    let is_new = unit_now != Some(text.as_str());
    let mut steps = Vec::new();
    // People's folders are their own; the system's is read by everybody who asks what is configured.
    let mode = match service.scope {
        Scope::System => 0o755,
        Scope::User => 0o700,
    };
    steps.extend(service.config.parent().map(|folder| Step::Folder { path: folder.to_owned(), mode }));
    steps.push(Step::WriteIfMissing {
        path: service.config.clone(),
        content: Config::template().to_owned(),
        mode: 0o644,
    });
    let path = service.unit_path();
    steps.extend(path.parent().map(|folder| Step::Folder { path: folder.to_owned(), mode: 0o755 }));
    steps.push(Step::Write { path: path.clone(), content: text, mode: 0o644 });
    match service.manager {
        Manager::Systemd => {
            steps.push(run(systemctl(service, &["daemon-reload"])));
            steps.push(run(systemctl(service, &["enable", systemd::UNIT])));
            // A unit that changed holds after a restart only; one that did not is left running.
            let verb = if is_new { "restart" } else { "start" };
            steps.push(run(systemctl(service, &[verb, systemd::UNIT])));
        }
        Manager::Launchd if is_new => {
            steps.push(Step::Try { command: bootout(service) });
            steps.push(run(launchctl(&["bootstrap", &domain(service), &text_of(&path)])));
        }
        Manager::Launchd => steps.push(run(launchctl(&["kickstart", &target(service)]))),
    }
    steps
}

/// Stops it and takes it away. Data and configuration stay.
pub fn uninstall(service: &Service, is_there: bool) -> Vec<Step> {
    let remove = Step::Remove { path: service.unit_path() };
    match service.manager {
        Manager::Systemd if is_there => vec![
            run(systemctl(service, &["disable", "--now", systemd::UNIT])),
            remove,
            run(systemctl(service, &["daemon-reload"])),
        ],
        Manager::Launchd if is_there => vec![Step::Try { command: bootout(service) }, remove],
        Manager::Systemd | Manager::Launchd => vec![remove],
    }
}

/// `systemctl` for the service's scope.
pub(super) fn systemctl(service: &Service, arguments: &[&str]) -> Vec<String> {
    let scope: &[&str] = match service.scope {
        Scope::System => &[],
        Scope::User => &["--user"],
    };
    [&["systemctl"], scope, arguments].concat().into_iter().map(str::to_owned).collect()
}

pub(super) fn launchctl(arguments: &[&str]) -> Vec<String> {
    [&["launchctl"], arguments].concat().into_iter().map(str::to_owned).collect()
}

fn bootout(service: &Service) -> Vec<String> {
    launchctl(&["bootout", &target(service)])
}

fn domain(service: &Service) -> String {
    format!("gui/{}", service.home.uid)
}

pub(super) fn target(service: &Service) -> String {
    format!("{}/{}", domain(service), launchd::LABEL)
}

fn run(command: Vec<String>) -> Step {
    Step::Run { command }
}

fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
