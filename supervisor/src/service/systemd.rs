//! The systemd unit: systemd.service(5), systemd.exec(5), systemd.kill(5), systemd.resource-control(5).
//!
//! The service holds the engine's socket, which is as good as root; the sandbox is for what goes wrong without it. What is
//! left out is left out because the service's work needs it, or because it would reach into the containers:
//!
//! | not set | why |
//! |---|---|
//! | `ProtectHome`, `PrivateTmp`, `ProtectSystem=strict` | agents work on folders of people, wherever they are; the engine must see the same paths |
//! | `PrivateDevices`, `DevicePolicy`, `ProtectClock`, `IPAddressDeny` | they are properties of the control group, which may hold those of containers |
//! | `ProtectControlGroups` | limits of agents are control groups |
//! | `RestrictSUIDSGID`, `RestrictNamespaces=yes`, no `CAP_SYS_ADMIN` | making the base image unpacks Debian in a mount namespace of its own |
//! | `ProtectProc`, no `CAP_SYS_PTRACE` | usage of containers is read from `/proc` |

use std::path::Path;
use std::time::Duration;

use super::Service;
use crate::config::Scope;

/// The unit's name.
pub const UNIT: &str = "aigo.service";

/// Without a sign of life for so long, the service is started anew; sessions run on meanwhile.
const WATCHDOG: Duration = Duration::from_secs(60);
/// From start to readiness: what runs is found again before.
pub(super) const START_LIMIT: Duration = Duration::from_secs(120);
/// From SIGTERM to SIGKILL: answers that are under way are finished.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Between an end and the next start.
const RESTART_AFTER: Duration = Duration::from_secs(2);
/// Open files: some for each session, and connections.
const OPEN_FILES: u32 = 65_536;

/// What is left of root's capabilities: files of any owner, signals, /proc of containers, and Debian's unpacking.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
];

/// The unit's text. Pure.
pub fn unit(service: &Service) -> String {
    let line: Vec<String> = service.arguments().iter().map(|argument| quote(argument)).collect();
    let (program, config) = (path(&service.program), path(&service.config));
    let (after, target) = match service.scope {
        Scope::System => (
            "\nWants=network-online.target\nAfter=network-online.target docker.service podman.socket",
            "multi-user.target",
        ),
        Scope::User => ("\nAfter=podman.socket docker.service", "default.target"),
    };
    let sandbox = match service.scope {
        Scope::System => system_sandbox(),
        Scope::User => String::new(),
    };
    format!(
        "\
# Written by `aigo service install`, and again by the next one. What you add with `systemctl edit` stays.
[Unit]
Description=aigo, the agent runner
StartLimitIntervalSec=300
StartLimitBurst=10{after}

[Service]
Type=notify
NotifyAccess=main
ExecStart={start}
# The new configuration is judged before the service hears of it.
ExecReload={program} config check {config}
ExecReload=/bin/sh -c \"kill -HUP $$MAINPID\"
# ANTHROPIC_API_KEY=... and the like. Readable by its owner only.
EnvironmentFile=-{environment}
Restart=on-failure
RestartSec={restart}
# Exit code 2: the configuration is wrong, which no restart mends.
RestartPreventExitStatus=2
WatchdogSec={watchdog}
TimeoutStartSec={start_limit}
TimeoutStopSec={stop_limit}
# Sessions live on while the service is stopped, restarted or upgraded.
KillMode=process
Delegate=yes
TasksMax=infinity
LimitNOFILE={OPEN_FILES}
# The memory of the service holds the credential.
LimitCORE=0
UMask=0077
RuntimeDirectory=aigo
RuntimeDirectoryMode=0755
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictRealtime=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
{sandbox}
[Install]
WantedBy={target}
",
        start = line.join(" "),
        environment = escape(&service.environment_file().to_string_lossy()),
        restart = RESTART_AFTER.as_secs(),
        watchdog = WATCHDOG.as_secs(),
        start_limit = START_LIMIT.as_secs(),
        stop_limit = STOP_LIMIT.as_secs(),
    )
}

/// What a user's own systemd has no right to set.
fn system_sandbox() -> String {
    format!(
        "\
StateDirectory=aigo
StateDirectoryMode=0700
ConfigurationDirectory=aigo
# When memory is short, agents go first.
OOMScoreAdjust=-500
ProtectSystem=full
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictNamespaces=mnt pid ipc uts
SystemCallFilter=@system-service @mount
SystemCallErrorNumber=EPERM
CapabilityBoundingSet={}
",
        CAPABILITIES.join(" ")
    )
}

fn path(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

/// One word of a command line, as systemd.service(5) reads it: quotes and backslashes by backslash, `%` and `$` doubled.
fn quote(word: &str) -> String {
    let mut quoted = String::from("\"");
    for c in escape(word).chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '$' => quoted.push_str("$$"),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// `%` begins a specifier everywhere in a unit.
fn escape(text: &str) -> String {
    text.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted() {
        assert_eq!(quote("/opt/a b/100%/$x\"\\"), r#""/opt/a b/100%%/$$x\"\\""#);
    }
}
