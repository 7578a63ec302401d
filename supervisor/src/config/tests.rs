use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;
use crate::units::MilliCpus;

const NO_ENV: &dyn Fn(&str) -> Option<String> = &|_| None;

fn load(text: &str, env: &dyn Fn(&str) -> Option<String>, flags: &[Flag]) -> Result<Loaded, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    fs::write(&file, text).unwrap();
    let names = ["AIGO_QUEUE_LENGHT", "AIGO_QUEUE_LENGTH", "AIGO_COLOUR", "AIGO_TEST_X", "AIGO_BIN", "QUEUE_LENGHT"];
    let env = Environment::new(env, names.map(str::to_owned));
    Config::load(&Places::system(), Some(&file), &env, flags)
}

#[track_caller]
fn problems(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    match load(text, env, &[]) {
        Err(ConfigError::Bad(problems)) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("expected problems: {other:?}"),
    }
}

/// The template with every key switched on.
fn switched_on() -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase()) => key.to_owned(),
        Some(_) | None => line.to_owned(),
    };
    TEMPLATE.lines().map(on).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_template_names_every_key_with_its_default_and_nothing_else() {
    assert_eq!(load(TEMPLATE, NO_ENV, &[]).unwrap().config, Config::default(), "as it is");
    let loaded = load(&switched_on(), NO_ENV, &[]).unwrap();
    assert_eq!(loaded.config, Config::default(), "switched on");
    let mut last = 0;
    for entry in loaded.entries() {
        match entry.origin {
            Origin::File { line, .. } => {
                assert!(line > last, "{} is not in the order of the list", entry.key);
                last = line;
            }
            other => panic!("{} is not in the template: {other:?}", entry.key),
        }
    }
}

#[test]
fn the_template_says_how_each_key_applies() {
    let lines: Vec<&str> = TEMPLATE.lines().collect();
    let switched = switched_on();
    for entry in load(&switched, NO_ENV, &[]).unwrap().entries() {
        let Origin::File { line, .. } = entry.origin else { panic!("{}", entry.key) };
        let comment = lines[..line - 1].iter().rev().take_while(|line| line.starts_with("# ")).copied();
        let comment: String = comment.collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(" ");
        let word = match entry.applies {
            Applies::Live => "[live]",
            Applies::Restart => "[restart]",
        };
        assert!(comment.ends_with(word), "{}: {comment}", entry.key);
        if let Some(variable) = entry.variable {
            let rule = format!("AIGO_{}", entry.key.to_uppercase().replace(['.', '-'], "_"));
            assert!(variable == rule || comment.contains(&variable), "{}: {comment}", entry.key);
        }
    }
}

#[test]
fn later_layers_win_and_the_origin_is_known() {
    let env = |name: &str| match name {
        "AIGO_SESSION_MEMORY" => Some("3g".to_owned()),
        "AIGO_ENGINE" => Some("docker".to_owned()),
        "AIGO_QUEUE_LENGTH" => Some(String::new()),
        "AIGO_LISTEN" => Some("127.0.0.1:2".to_owned()),
        _ => None,
    };
    let flags = [Flag { key: "listen", flag: "--listen", value: "[::1]:3".to_owned() }];
    let text = "listen = \"127.0.0.1:1\"\n[session]\nmemory = \"2g\"\ncpus = 0.5\npids = 1_000\n[queue]\nlength = 7\n";
    let loaded = load(text, &env, &flags).unwrap();
    assert_eq!(loaded.config.session.limits.memory, 3 << 30);
    assert_eq!(loaded.config.session.limits.cpus, MilliCpus(500));
    assert_eq!(loaded.config.session.limits.pids, 1000);
    assert_eq!(loaded.config.listen, "[::1]:3".parse().unwrap());
    let origins: Vec<String> = loaded
        .entries()
        .into_iter()
        .filter(|entry| entry.origin != Origin::Default)
        .map(|entry| {
            let origin = match entry.origin {
                Origin::File { line, .. } => format!("line {line}"),
                other => other.to_string(),
            };
            format!("{} = {} ({origin})", entry.key, entry.value)
        })
        .collect();
    assert_eq!(
        origins,
        [
            "listen = \"[::1]:3\" (--listen)",
            "engine.backend = \"docker\" (AIGO_ENGINE)",
            "session.cpus = 0.5 (line 4)",
            "session.memory = \"3g\" (AIGO_SESSION_MEMORY)",
            "session.pids = 1000 (line 5)",
            "queue.length = 7 (line 7)",
        ]
    );
}

#[test]
fn every_problem_is_told_at_once_with_its_line_and_a_suggestion() {
    let text = "lisen = \"127.0.0.1:1\"\n[session]\nmemroy = \"1g\"\nmemory = \"5x\"\npids = 3\nidle_timeout = 0\n\
                image = 7\ntimeout = [1]\n[sesion]\nx = 1\n[agents.Big]\ncpus = 1\n[agents.a]\ncpu = 1\n\
                [queue]\npolicy = \"drop\"\nmemory = 1\n";
    let env = |name: &str| (name == "AIGO_PROXY_PORT").then(|| "70000".to_owned());
    let told = problems(text, &env);
    for (line, words) in [
        (":1: `lisen`", "did you mean `listen`?"),
        (":3: `memroy`", "no such key in [session]; did you mean `memory`?"),
        (":4: session.memory: `5x`", "such as 512m or 4g"),
        (":5: session.pids: `3`", "from 16 to 4194304"),
        (":6: `idle_timeout`", "did you mean `idle-timeout`?"),
        (":7: session.image: `7`", "put it in quotes"),
        (":8: session.timeout", "a list cannot be given here"),
        (":9: `sesion`", "did you mean `session`?"),
        (":11: `Big`", "lower-case"),
        (":14: `cpu`", "no such key in [agents.a]; did you mean `cpus`?"),
        (":16: queue.policy: `drop`", "use queue, reject"),
        (":17: `memory`", "did you mean `memory` in [session]?"),
        ("AIGO_PROXY_PORT: proxy.port: `70000`", "from 1 to 65535"),
    ] {
        let found = told.iter().find(|problem| problem.contains(line));
        let found = found.unwrap_or_else(|| panic!("{line} is not in {told:#?}"));
        assert!(found.contains(words), "{found}");
    }
    assert_eq!(told.len(), 13, "{told:#?}");
}

#[test]
fn broken_toml_is_told_by_line() {
    let told = problems("[queue]\nlength = = 1\npolicy =\n", NO_ENV);
    assert!(told.iter().any(|problem| problem.contains("c.toml:2: ")), "{told:#?}");
    assert!(told.iter().any(|problem| problem.contains("c.toml:3: ")), "{told:#?}");
    let told = problems("[queue]\nlength = 1\nlength = 2\n", NO_ENV);
    assert!(told[0].contains("c.toml:3: ") && told[0].contains("duplicate"), "{told:#?}");
}

#[test]
fn a_table_is_no_value_and_a_value_no_table() {
    let told = problems("session = 5\n[listen]\nx = 1\n", NO_ENV);
    assert!(told[0].contains("write [session]") || told[1].contains("write [session]"), "{told:#?}");
    assert!(told.iter().any(|problem| problem.contains("listen: a table cannot be given here")), "{told:#?}");
}

#[test]
fn rules_between_keys() {
    for (text, key, words) in [
        ("listen = \"0.0.0.0:1\"", "listen", "token-file"),
        ("[proxy]\nupstream = \"http://10.0.0.1\"", "proxy.upstream", "plain http"),
        ("[socket]\nmode = \"0660\"", "socket.mode", "socket.group"),
        ("[socket]\ngroup = \"aigo\"", "socket.group", "socket.mode"),
        ("[limits]\nmemory = \"1g\"", "limits.memory", "4g"),
        ("[limits]\ncpus = 1", "limits.cpus", "2 CPUs"),
    ] {
        let told = problems(text, NO_ENV);
        assert!(told.len() == 1 && told[0].contains(key) && told[0].contains(words), "{told:#?}");
        assert!(told[0].contains("c.toml:"), "the place is known: {told:#?}");
    }
    load("listen = \"0.0.0.0:1\"\ntoken-file = \"/t\"\n[socket]\nmode = \"0660\"\ngroup = \"g\"\n", NO_ENV, &[])
        .unwrap();
    load("[proxy]\nupstream = \"http://10.0.0.1\"\nallow-plain-http = true\n", NO_ENV, &[]).unwrap();
}

#[test]
fn values_are_judged() {
    for (text, words) in [
        ("data-dir = \"here\"", "absolute path"),
        ("token-file = \"t\"", "absolute path; or \"none\""),
        ("listen = \"localhost\"", "127.0.0.1:55765"),
        ("[socket]\nmode = \"0666\"", "0660"),
        ("[socket]\nmode = 660", "0660"),
        ("[engine]\nbackend = \"dokker\"", "docker"),
        ("[engine]\nhost = \"ssh://h\"", "ssh://h"),
        ("[log]\nlevel = \"loud\"", "error, warn, info"),
        ("[log]\nformat = \"xml\"", "auto, text, json, journald"),
        ("[session]\nmemory = \"1m\"", "at least 6 MiB"),
        ("[session]\ncpus = 0", "0.01 to 1024"),
        ("[session]\nimage = \"A B\"", "image tag"),
        ("[session]\ntimeout = 90", "90s or 2h30m"),
        ("[proxy]\nupstream = \"https://user:marked@h\"", "user name or password"),
        ("[proxy]\nallow-plain-http = \"yes\"", "true nor false"),
        ("[agents.a]\npolicy = \"none\"", "or \"inherit\""),
    ] {
        let told = problems(text, NO_ENV);
        assert!(told.len() == 1 && told[0].contains(words), "{text}: {told:#?}");
        assert!(!told[0].contains("marked"), "a password is not repeated: {told:#?}");
    }
}

/// A configuration in which every key differs from its default.
fn all_changed() -> Config {
    let text = "listen = \"127.0.0.2:1\"\ntoken-file = \"/t\"\ndata-dir = \"/d\"\n\
        [socket]\npath = \"/s\"\nmode = \"0660\"\ngroup = \"g\"\n\
        [engine]\nbackend = \"docker\"\nhost = \"tcp://h:1\"\nsubnets = \"10.9.0.0/16, 10.8.0.0/16\"\n\
        [log]\nformat = \"json\"\nlevel = \"supervisor::proxy=debug\"\n\
        [session]\nimage = \"i:1\"\ncpus = 1.25\nmemory = \"1000m\"\npids = 99\ntimeout = \"none\"\nidle-timeout = \"1h1m1s\"\n\
        save-grace = \"1s\"\nclose-grace = \"0\"\nterm-grace = \"250ms\"\n\
        [limits]\nmax-sessions = 1\ncpus = 8\nmemory = \"64g\"\nheadroom = \"none\"\n\
        [queue]\nlength = 1\npolicy = \"reject\"\n\
        [agents.default]\ncpus = 1\nmemory = \"1g\"\ncontainers = 2\npids = 64\npolicy = \"queue\"\n\
        [retention]\nmax-age = \"1d\"\nmax-size = \"none\"\n\
        [proxy]\nport = 1\nupstream = \"http://h:1/p\"\nallow-plain-http = true\n";
    load(text, NO_ENV, &[]).unwrap().config
}

#[test]
fn what_is_shown_can_be_read_again() {
    let changed = all_changed();
    let text = |config: &Config| {
        let line = |entry: &Entry| format!("{} = {}", entry.key, entry.value);
        config.entries().iter().map(line).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(load(&text(&changed), NO_ENV, &[]).unwrap().config, changed);
    for (new, default) in changed.entries().iter().zip(Config::default().entries()) {
        assert_ne!(new.value, default.value, "{} is not changed by this test", new.key);
    }
}

#[test]
fn every_key_but_the_agents_can_come_from_the_environment() {
    let changed = all_changed();
    let entries = changed.entries();
    let env = |name: &str| {
        let entry = entries.iter().find(|entry| entry.variable.as_deref() == Some(name))?;
        Some(entry.value.as_str().map_or_else(|| entry.value.to_string(), str::to_owned))
    };
    let loaded = load("", &env, &[]).unwrap();
    assert_eq!(loaded.config, Config { agents: Config::default().agents, ..changed });
}

#[test]
fn a_reload_takes_what_it_can_and_tells_what_waits() {
    let (old, new) = (Config::default(), all_changed());
    assert_eq!(old.reload(&old), Reload { config: old.clone(), live: vec![], restart: vec![] });
    let reload = old.reload(&new);
    assert_eq!(reload.live.len() + reload.restart.len(), old.entries().len());
    let restart: Vec<&str> = reload.restart.iter().map(|change| change.key.as_str()).collect();
    assert_eq!(
        restart,
        [
            "data-dir",
            "engine.backend",
            "engine.host",
            "engine.subnets",
            "listen",
            "log.format",
            "socket.group",
            "socket.mode",
            "socket.path",
            "token-file"
        ]
    );
    assert_eq!((&reload.config.listen, &reload.config.data_dir), (&old.listen, &old.data_dir));
    assert_eq!((&reload.config.socket, &reload.config.engine), (&old.socket, &old.engine));
    assert_eq!((reload.config.log.format, &reload.config.log.level), (old.log.format, &new.log.level));
    assert_eq!((&reload.config.session, &reload.config.agents), (&new.session, &new.agents));
    assert_eq!(reload.live[0].to_string(), "agents.default.containers: 2 instead of \"none\"");
}

#[test]
fn agents_come_and_go_with_a_reload() {
    let new = load("[agents.big]\ncpus = 4\n", NO_ENV, &[]).unwrap().config;
    assert_eq!(new.agents.len(), 2);
    let come = Config::default().reload(&new);
    assert_eq!(come.live[1].to_string(), "agents.big.cpus: 4 instead of not set");
    let gone = new.reload(&Config::default());
    assert_eq!(gone.live[1].to_string(), "agents.big.cpus: not set instead of 4");
    assert_eq!(gone.config.agents.len(), 1);
}

#[test]
fn a_file_that_was_named_has_to_be_there_and_to_be_ours() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let missing = Config::load(&Places::system(), Some(&file), &Environment::empty(), &[]).unwrap_err();
    assert!(missing.to_string().contains("config.toml") && missing.to_string().contains("--config"), "{missing}");
    let places = Places { config: file.clone(), ..Places::system() };
    assert_eq!(Config::load(&places, None, &Environment::empty(), &[]).unwrap().config, Config::default());
    fs::write(&file, "[queue]\nlength = 3\n").unwrap();
    assert_eq!(Config::load(&places, None, &Environment::empty(), &[]).unwrap().config.queue.length, 3);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let open = Config::load(&places, None, &Environment::empty(), &[]).unwrap_err();
    assert!(open.to_string().contains("chmod o-w"), "{open}");
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    assert!(matches!(Config::load(&places, None, &Environment::empty(), &[]), Err(ConfigError::Unreadable { .. })));
}

#[test]
fn levels_become_filters() {
    for (level, directives) in
        [("error", "error"), ("info", "warn,supervisor=info"), ("supervisor=trace", "supervisor=trace")]
    {
        assert_eq!(LogLevel::parse(level).unwrap().directives(), directives);
    }
}

#[test]
fn graces_and_limits_are_those_of_requests() {
    let session = Config::default().session;
    assert_eq!(session.graces, crate::session::machine::Graces::default());
    assert_eq!(session.timeout, Some(Duration::from_secs(1800)));
}

#[test]
fn variables_that_nobody_reads_are_wrong() {
    let env = |name: &str| match name {
        "AIGO_QUEUE_LENGHT" | "AIGO_COLOUR" | "AIGO_TEST_X" | "AIGO_BIN" | "QUEUE_LENGHT" => Some("3".to_owned()),
        _ => None,
    };
    let said = problems("", &env);
    let no_key = "no key of the configuration has this variable";
    assert_eq!(
        said,
        [
            format!("AIGO_QUEUE_LENGHT: {no_key}; did you mean `AIGO_QUEUE_LENGTH`?"),
            format!("AIGO_COLOUR: {no_key}; `aigo config show --json` has the variable of each key"),
        ]
    );
    let empty = |name: &str| (name == "AIGO_COLOUR").then(String::new);
    assert!(load("", &empty, &[]).is_ok());
}

#[test]
fn problems_come_in_the_order_of_the_file() {
    let env = |name: &str| (name == "AIGO_QUEUE_LENGTH").then(|| "many".to_owned());
    let text = "[session]\ncpus = \"x\"\n[agents.a]\npods = 1\n[queue]\nzzz = 1\npolicy = \"x\"\naaa = 2\n";
    let places: Vec<String> = problems(text, &env)
        .iter()
        .map(|problem| problem.split(": ").next().unwrap().rsplit('/').next().unwrap().to_owned())
        .collect();
    assert_eq!(places, ["c.toml:2", "c.toml:4", "c.toml:6", "c.toml:7", "c.toml:8", "AIGO_QUEUE_LENGTH"]);
}
