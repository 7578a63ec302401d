use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::step::{Outcome, Step};
use super::*;

/// `none` means that there is no systemd-analyze on this machine, and that this is known.
const VARIABLE: &str = "AIGO_TEST_SYSTEMD";

fn service(manager: Manager, scope: Scope) -> Service {
    Service {
        manager,
        scope,
        // systemd looks whether it is there and can be run.
        program: PathBuf::from("/bin/true"),
        config: PathBuf::from("/etc/aigo/config.toml"),
        data_dir: Some(PathBuf::from("/srv/agents & more/100%/$HOME <x>")),
        home: Home {
            home: PathBuf::from("/home/p"),
            config: PathBuf::from("/home/p/.config"),
            runtime: Some(PathBuf::from("/run/user/7")),
            uid: 7,
        },
    }
}

#[test]
fn the_machine_is_judged() {
    let good = Machine { systemd: true, user_session: true, root: true };
    let judge = |manager, scope, machine| service(manager, scope).judge(machine);
    assert_eq!(judge(Manager::Systemd, Scope::System, good), Ok(()));
    assert_eq!(judge(Manager::Systemd, Scope::System, Machine { systemd: false, ..good }), Err(Unfit::NoSystemd));
    assert_eq!(judge(Manager::Systemd, Scope::System, Machine { root: false, ..good }), Err(Unfit::NotRoot));
    assert_eq!(judge(Manager::Systemd, Scope::User, Machine { root: false, ..good }), Ok(()));
    assert_eq!(
        judge(Manager::Systemd, Scope::User, Machine { user_session: false, ..good }),
        Err(Unfit::NoUserSession)
    );
    assert_eq!(judge(Manager::Launchd, Scope::System, good), Err(Unfit::NoSystemEngine));
    assert_eq!(judge(Manager::Launchd, Scope::User, Machine { systemd: false, ..good }), Ok(()));
}

#[test]
fn the_unit_says_what_the_service_relies_on() {
    let text = service(Manager::Systemd, Scope::System).unit_text();
    for line in [
        "Type=notify",
        "ExecStart=\"/bin/true\" \"serve\" \"--config\" \"/etc/aigo/config.toml\" \"--data-dir\" \
         \"/srv/agents & more/100%%/$$HOME <x>\"",
        "ExecReload=\"/bin/true\" config check \"/etc/aigo/config.toml\"",
        "EnvironmentFile=-/etc/aigo/environment",
        "KillMode=process",
        "Delegate=yes",
        "LimitCORE=0",
        "NoNewPrivileges=yes",
        "StateDirectory=aigo",
        "WantedBy=multi-user.target",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    // Properties of the control group would hold for containers below it.
    for option in
        ["PrivateDevices", "DevicePolicy", "ProtectClock", "IPAddress", "MemoryMax", "ProtectHome", "PrivateTmp"]
    {
        assert!(!text.contains(&format!("\n{option}")), "{option}");
    }
    let user = service(Manager::Systemd, Scope::User).unit_text();
    assert!(user.contains("WantedBy=default.target") && user.contains("RuntimeDirectory=aigo"));
    for option in ["ProtectSystem", "CapabilityBoundingSet", "StateDirectory", "OOMScoreAdjust"] {
        assert!(!user.contains(option), "{option} takes root");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn systemd_finds_no_fault_with_the_units() {
    if std::env::var(VARIABLE).is_ok_and(|value| value == "none") {
        println!("not run: {VARIABLE}=none, and this needs systemd-analyze");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (scope, flag) in [(Scope::System, "--system"), (Scope::User, "--user")] {
        let unit = dir.path().join(systemd::UNIT);
        std::fs::write(&unit, service(Manager::Systemd, scope).unit_text()).unwrap();
        let analyze = |arguments: &[&str]| {
            let mut command = Command::new("systemd-analyze");
            command.args(arguments).env("XDG_RUNTIME_DIR", dir.path()).env("LC_ALL", "C");
            command.output().unwrap_or_else(|error| {
                panic!("systemd-analyze cannot be run ({error}); install systemd, or leave this out by {VARIABLE}=none")
            })
        };
        let unit = unit.to_str().unwrap();
        let output = analyze(&["verify", flag, "--man=no", "--recursive-errors=no", unit]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.trim().is_empty(), "{flag}: {said}");
    }
}

#[test]
fn launchd_can_read_the_list() {
    let service = service(Manager::Launchd, Scope::User);
    let list = plist::Value::from_reader(std::io::Cursor::new(service.unit_text())).unwrap();
    let list = list.as_dictionary().unwrap();
    let text = |key: &str| list[key].as_string().unwrap();
    assert_eq!(text("Label"), "aigo.serve");
    assert_eq!(text("StandardErrorPath"), "/home/p/Library/Logs/aigo.log");
    let arguments: Vec<&str> =
        list["ProgramArguments"].as_array().unwrap().iter().map(|value| value.as_string().unwrap()).collect();
    assert_eq!(arguments, super::launchd::command(&service));
    assert_eq!(list["Umask"].as_signed_integer(), Some(0o077));
    assert_eq!(list["RunAtLoad"].as_boolean(), Some(true));
    assert_eq!(list["KeepAlive"].as_dictionary().unwrap()["SuccessfulExit"].as_boolean(), Some(false));
    assert_eq!(service.unit_path(), Path::new("/home/p/Library/LaunchAgents/aigo.serve.plist"));
}

/// launchd has no file of variables: the shell that it starts reads it.
#[test]
fn what_launchd_starts_has_the_credential() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("a program");
    std::fs::write(&program, "#!/bin/sh\necho \"$ANTHROPIC_API_KEY|$*\"\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let config = folder.path().join("config's.toml");
    let service = Service { program, config, ..service(Manager::Launchd, Scope::User) };
    let said = || {
        let command = super::launchd::command(&service);
        let output =
            std::process::Command::new(&command[0]).args(&command[1..]).env_remove("ANTHROPIC_API_KEY").output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let arguments = service.arguments()[1..].join(" ");
    assert_eq!(said(), format!("|{arguments}\n"), "no file is no error");
    std::fs::write(service.environment_file(), "# the key\nANTHROPIC_API_KEY=canary-1\n").unwrap();
    assert_eq!(said(), format!("canary-1|{arguments}\n"));
}

fn commands(steps: &[Step]) -> Vec<String> {
    let command = |step: &Step| match step {
        Step::Run { command } => Some(command.join(" ")),
        Step::Try { command } => Some(format!("{} (may fail)", command.join(" "))),
        Step::Folder { .. } | Step::Write { .. } | Step::WriteIfMissing { .. } | Step::Remove { .. } => None,
    };
    steps.iter().filter_map(command).collect()
}

#[test]
fn a_second_install_restarts_nothing() {
    let system = service(Manager::Systemd, Scope::System);
    let start = ["systemctl daemon-reload", "systemctl enable aigo.service"];
    let first = commands(&plan::install(&system, None));
    assert_eq!(first, [&start[..], &["systemctl restart aigo.service"]].concat());
    let second = commands(&plan::install(&system, Some(&system.unit_text())));
    assert_eq!(second, [&start[..], &["systemctl start aigo.service"]].concat());
    let user = service(Manager::Systemd, Scope::User);
    assert_eq!(commands(&plan::install(&user, None))[2], "systemctl --user restart aigo.service");
    let mac = service(Manager::Launchd, Scope::User);
    let first = commands(&plan::install(&mac, None));
    assert_eq!(first[0], "launchctl bootout gui/7/aigo.serve (may fail)");
    assert!(first[1].starts_with("launchctl bootstrap gui/7 /home/p/Library/LaunchAgents/aigo.serve.plist"));
    assert_eq!(commands(&plan::install(&mac, Some(&mac.unit_text()))), ["launchctl kickstart gui/7/aigo.serve"]);
}

#[test]
fn an_uninstall_touches_nothing_but_the_unit() {
    let system = service(Manager::Systemd, Scope::System);
    let steps = plan::uninstall(&system, true);
    assert_eq!(commands(&steps), ["systemctl disable --now aigo.service", "systemctl daemon-reload"]);
    assert_eq!(steps[1], Step::Remove { path: PathBuf::from("/etc/systemd/system/aigo.service") });
    assert_eq!(plan::uninstall(&system, false).len(), 1);
}

#[tokio::test]
async fn steps_done_twice_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a/b");
    let file = folder.join("f");
    let text = |content: &str| content.to_owned();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let make = Step::Folder { path: folder.clone(), mode: 0o755 };
    let write = Step::Write { path: file.clone(), content: text("one"), mode: 0o644 };
    for step in [&make, &write] {
        assert_eq!(step.perform().await.unwrap(), Outcome::Done);
        assert_eq!(step.perform().await.unwrap(), Outcome::Unchanged);
    }
    assert_eq!((mode(&folder), mode(&file)), (0o755, 0o644));
    let other = Step::Write { path: file.clone(), content: text("two"), mode: 0o644 };
    assert_eq!(other.perform().await.unwrap(), Outcome::Done);
    let missing = Step::WriteIfMissing { path: file.clone(), content: text("three"), mode: 0o644 };
    assert_eq!(missing.perform().await.unwrap(), Outcome::Unchanged);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "two");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside the file");
    let remove = Step::Remove { path: file };
    assert_eq!(remove.perform().await.unwrap(), Outcome::Done);
    assert_eq!(remove.perform().await.unwrap(), Outcome::Unchanged);
}

#[tokio::test]
async fn programs_that_fail_are_named_with_their_words() {
    let command = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let fails = command(&["sh", "-c", "echo no such unit >&2; exit 5"]);
    let error = Step::Run { command: fails.clone() }.perform().await.unwrap_err().to_string();
    assert!(error.contains("`sh -c") && error.ends_with("no such unit"), "{error}");
    assert_eq!(Step::Try { command: fails }.perform().await.unwrap(), Outcome::Unchanged);
    let error = Step::Run { command: command(&["no-such-program-anywhere"]) }.perform().await.unwrap_err().to_string();
    assert!(error.contains("no-such-program-anywhere"), "{error}");
}
