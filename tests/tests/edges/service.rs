//! `aigo service`: what is asked of systemd, seen by a stand-in for `systemctl`.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Output;

use tests::Home;

/// A person's folders, and a `systemctl` that writes down what it is asked and answers as one that runs the service.
struct Person {
    home: Home,
    _session: UnixListener,
}

impl Person {
    fn new() -> Self {
        let home = Home::without_engine();
        let bin = home.root().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let log = home.root().join("asked");
        let script = format!(
            "#!/bin/sh\necho \"$*\" >> {}\ncase \"$*\" in *show*) echo ActiveState=active; echo SubState=running; \
             echo UnitFileState=enabled; echo MainPID=7;; esac\n",
            log.display()
        );
        std::fs::write(bin.join("systemctl"), script).unwrap();
        std::fs::set_permissions(bin.join("systemctl"), PermissionsExt::from_mode(0o755)).unwrap();
        let session = home.root().join("run/systemd");
        std::fs::create_dir_all(&session).unwrap();
        let session = UnixListener::bind(session.join("private")).unwrap();
        Self { home, _session: session }
    }

    fn service(&self, arguments: &[&str]) -> Output {
        let path = std::env::var("PATH").unwrap();
        let mut command = self.home.aigo_command([&["service"], arguments].concat());
        command
            .env("PATH", format!("{}:{path}", self.home.root().join("bin").display()))
            .env("HOME", self.home.root())
            .env("XDG_RUNTIME_DIR", self.home.root().join("run"))
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_DATA_HOME");
        command.output().unwrap()
    }

    #[track_caller]
    fn good(&self, arguments: &[&str]) -> String {
        let output = self.service(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn unit(&self) -> PathBuf {
        self.home.root().join(".config/systemd/user/aigo.service")
    }

    fn config(&self) -> PathBuf {
        self.home.root().join(".config/aigo/config.toml")
    }

    /// What `systemctl` was asked since the last time.
    fn asked(&self) -> Vec<String> {
        let log = self.home.root().join("asked");
        let asked = std::fs::read_to_string(&log).unwrap_or_default();
        let _ = std::fs::remove_file(log);
        asked.lines().map(str::to_owned).collect()
    }
}

#[test]
fn it_is_installed_again_asked_after_and_taken_away() {
    let person = Person::new();
    let dry = person.good(&["install", "--user", "--dry-run"]);
    assert!(dry.contains("ExecStart=") && dry.contains("would run systemctl --user daemon-reload"), "{dry}");
    assert!(!person.unit().exists() && !person.config().exists() && person.asked().is_empty());

    person.good(&["install", "--user"]);
    let unit = std::fs::read_to_string(person.unit()).unwrap();
    let start = format!("\"serve\" \"--config\" \"{}\"", person.config().display());
    assert!(unit.contains(&start), "{unit}");
    assert_eq!(person.asked(), ["--user daemon-reload", "--user enable aigo.service", "--user restart aigo.service"]);
    let config = std::fs::read_to_string(person.config()).unwrap();
    assert_eq!(config, person.home.aigo(["config", "show", "--default"]).stdout);

    let mine = format!("{config}\n# mine\n");
    std::fs::write(person.config(), &mine).unwrap();
    person.good(&["install", "--user"]);
    assert_eq!(std::fs::read_to_string(person.config()).unwrap(), mine, "people's configuration is theirs");
    assert_eq!(person.asked()[2], "--user start aigo.service", "what has not changed is not restarted");

    let status: serde_json::Value = serde_json::from_str(&person.good(&["status", "--user", "--json"])).unwrap();
    assert_eq!((&status["running"], &status["current"], &status["pid"]), (&true.into(), &true.into(), &7.into()));
    person.asked();

    person.good(&["uninstall", "--user"]);
    assert_eq!(person.asked(), ["--user disable --now aigo.service", "--user daemon-reload"]);
    assert!(!person.unit().exists() && person.config().exists());
    let again: serde_json::Value = serde_json::from_str(&person.good(&["uninstall", "--user", "--json"])).unwrap();
    assert_eq!(again["steps"][0]["outcome"], "unchanged", "{again}");
    assert!(person.asked().is_empty());
}

#[test]
fn a_wrong_configuration_is_not_installed() {
    let person = Person::new();
    std::fs::create_dir_all(person.config().parent().unwrap()).unwrap();
    std::fs::write(person.config(), "[queue]\nlenght = 1\n").unwrap();
    let output = person.service(&["install", "--user"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("config.toml:2") && stderr.contains("did you mean `length`?"), "{stderr}");
    assert!(!person.unit().exists() && person.asked().is_empty());
}

#[test]
fn without_a_session_of_systemd_the_remedy_is_named() {
    let person = Person::new();
    std::fs::remove_file(person.home.root().join("run/systemd/private")).unwrap();
    let output = person.service(&["install", "--user"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("enable-linger") && stderr.contains("--dry-run"), "{stderr}");
    assert!(!person.unit().exists() && person.asked().is_empty());
    let output = person.service(&["status", "--user", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["installed"], false, "{status}");
}
