//! The command line: each mistake is named with its value and what is allowed, before anything is touched.

use std::process::Stdio;

use tests::{Home, Script, Service};

/// Runs `aigo` and checks code 2 and what the error names.
#[track_caller]
fn refused(home: &Home, arguments: &[&str], names: &[&str]) {
    let said = home.aigo(arguments);
    assert_eq!(said.code, Some(2), "{arguments:?}: {}{}", said.stdout, said.stderr);
    assert!(said.stdout.is_empty(), "{arguments:?}: errors belong on standard error: {}", said.stdout);
    assert!(said.stderr.starts_with("error: "), "{arguments:?}: {}", said.stderr);
    for name in names {
        assert!(said.stderr.contains(name), "{arguments:?} does not name `{name}`: {}", said.stderr);
    }
    assert!(home.sessions().is_empty(), "{arguments:?} has made a session");
}

/// `aigo run` on the test's workspace, otherwise as [`refused`].
#[track_caller]
fn run_refused(home: &Home, arguments: &[&str], names: &[&str]) {
    let workspace = home.workspace();
    let workspace = workspace.to_str().expect("our own path");
    refused(home, &[&["run", "--workspace", workspace], arguments].concat(), names);
}

#[test]
fn bad_values_of_flags_are_named_with_what_is_allowed() {
    let home = Home::without_engine();
    for (flag, value, allowed) in [
        ("--memory", "5x", "such as 512m or 4g"),
        ("--memory", "", "such as 512m or 4g"),
        ("--memory", "-1g", "such as 512m or 4g"),
        ("--memory", "99999999t", "such as 512m or 4g"),
        ("--cpus", "many", "such as 2 or 0.5"),
        ("--cpus", "0", "0.01 to 1024"),
        ("--cpus", "NaN", "0.01 to 1024"),
        ("--timeout", "5", "90s or 2h30m"),
        ("--timeout", "soon", "90s or 2h30m"),
        ("--idle-timeout", "-5s", "90s or 2h30m"),
        ("--close-grace", "9999d", "at most 366d"),
        ("--pids", "0", "1.."),
        ("--max-turns", "0", "1..=10000"),
        ("--proxy-port", "0", "1..=65535"),
        ("--proxy-port", "70000", "1..=65535"),
        ("--program", "gpt", "claude, command"),
        ("--output", "xml", "text, json, stream-json"),
        ("--color", "blue", "auto, always, never"),
        ("--mount", "/a:b:c", "DIR:NAME:rw"),
        ("--mount", ":rw", "DIR:NAME:rw"),
        ("--mount", "/usr/share:../x", "/usr/share:../x"),
    ] {
        run_refused(&home, &[&format!("{flag}={value}"), "x"], &[flag, value, allowed]);
    }
}

#[test]
fn flags_that_do_not_exist_or_go_together_are_named() {
    let home = Home::without_engine();
    run_refused(&home, &["--memroy", "1g", "x"], &["--memroy", "--memory"]);
    run_refused(&home, &["--record", "a", "--replay", "b", "x"], &["--record", "--replay", "cannot be used with"]);
    run_refused(&home, &["--prompt-file", "a", "x"], &["--prompt-file", "PROMPT"]);
    run_refused(&home, &["--json", "--output", "text", "x"], &["--json", "--output"]);
    refused(&home, &["interupt"], &["interupt", "interrupt"]);
    refused(&home, &["image", "biuld"], &["biuld", "build"]);
    refused(&home, &["stop"], &["SESSION"]);
    refused(&home, &["completions", "tcsh"], &["tcsh", "bash"]);
}

#[test]
fn a_prompt_that_is_missing_empty_or_unreadable_is_named_before_anything_else() {
    let home = Home::without_engine();
    run_refused(&home, &[], &["no prompt", "--prompt-file"]);
    run_refused(&home, &[""], &["the prompt is empty"]);
    run_refused(&home, &[" \n\t "], &["the prompt is empty"]);
    run_refused(&home, &["--prompt-file", "/dev/null"], &["the prompt is empty"]);
    run_refused(&home, &["--prompt-file", "/no/such/file"], &["--prompt-file /no/such/file", "No such file"]);
    let latin = home.write("latin", b"caf\xe9");
    run_refused(&home, &["--prompt-file", latin.to_str().unwrap()], &["latin", "UTF-8"]);
}

#[test]
fn a_command_belongs_to_the_agent_that_runs_commands() {
    let home = Home::without_engine();
    run_refused(&home, &["--", "make", "all"], &["--program command -- make all"]);
}

#[test]
fn a_replay_script_is_checked_before_anything_starts() {
    let home = Home::without_engine();
    let file = |name: &str, text: &str| home.write(name, text).to_str().unwrap().to_owned();
    for (name, text, names) in [
        ("field.jsonl", "{\"say\":\"a\"}\n\n# people\n{\"sya\":\"b\"}\n", vec!["field.jsonl:4", "`sya`", "`say`"]),
        ("json.jsonl", "{\"say\":\"a\"}\nsay hello\n", vec!["json.jsonl:2"]),
        ("status.jsonl", "{\"status\":9999}\n", vec!["status.jsonl:1"]),
        ("empty.jsonl", "# nothing\n", vec!["empty.jsonl", "has no answers"]),
    ] {
        run_refused(&home, &["--replay", &file(name, text), "x"], &names);
    }
    run_refused(&home, &["--replay", "/no/such.jsonl", "x"], &["/no/such.jsonl", "No such file"]);
    run_refused(&home, &["--replay", "/etc", "x"], &["/etc"]);
}

#[test]
fn a_folder_that_is_not_there_is_named_with_its_remedy() {
    let home = Home::without_engine();
    let script = home.write("script", Script::new().say("hello").text());
    let replay = ["run", "--replay", script.to_str().unwrap(), "x"];
    refused(&home, &[&replay[..], &["--workspace", "/no/such/folder"]].concat(), &["/no/such/folder", "mkdir"]);
    run_refused(&home, &[&replay[1..], &["--mount", "/no/such/folder"]].concat(), &["/no/such/folder", "mkdir"]);
}

#[test]
fn more_than_the_engines_host_has_is_refused_without_leaving_anything() {
    let Some(home) = Home::open() else { return };
    run_refused(&home, &["--program", "command", "--cpus", "1000", "--", "true"], &["--cpus 1000", "has only"]);
    assert!(home.containers().is_empty());
}

#[test]
fn what_policy_refuses_is_named_before_the_engine_is_asked() {
    let home = Home::without_engine();
    let workspace = home.workspace();
    let command = ["run", "--workspace", workspace.to_str().unwrap(), "--program", "command"];
    let refused = |flags: &[&str], names: &[&str]| {
        let mut aigo = home.aigo_command([&command, flags].concat());
        let output = aigo.env("DOCKER_HOST", "unix:///no/engine.sock").output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {stderr}");
        assert!(names.iter().all(|name| stderr.contains(name)), "{flags:?} does not name {names:?}: {stderr}");
        assert!(home.sessions().is_empty(), "{flags:?} has made a session");
    };
    for (flags, names) in [
        (&["--memory", "1m"][..], &["--memory", "6m"][..]),
        (&["--image", "Not An Image"], &["`Not An Image`", "name[:tag]"]),
        (&["--image=--privileged"], &["`--privileged`", "name[:tag]"]),
        (&["--image", "a:b:c"], &["`a:b:c`", "name[:tag]"]),
        (&["--env", "1A=x"], &["--env `1A`", "letters, digits and _"]),
        (&["--env", "A-B=x"], &["--env `A-B`", "letters, digits and _"]),
        (&["--env", "=x"], &["--env ``", "letters, digits and _"]),
        (&["--env", "ANTHROPIC_BASE_URL=x"], &["--env `ANTHROPIC_BASE_URL`", "begin with ANTHROPIC_"]),
        (&["--env", "LD_PRELOAD=x"], &["--env `LD_PRELOAD`", "dynamic linker"]),
        (&["--env", "NOT_SET_ANYWHERE"], &["--env `NOT_SET_ANYWHERE`", "NAME=VALUE"]),
        (&["--mount", "/etc:x"], &["/etc"]),
        (&["--mount", "/usr/share:x", "--mount", "/usr/lib:x"], &["two mounts", "`x`"]),
    ] {
        refused(&[flags, &["--", "true"]].concat(), names);
    }
    refused(&[], &["no command", "`--`"]);
}

#[test]
fn readers_that_have_left_are_no_error() {
    let home = Home::without_engine();
    for (arguments, code) in [
        (&["--help"][..], 0),
        (&["run", "--help"], 0),
        (&["ps"], 0),
        (&["ps", "--json"], 0),
        (&["ps", "--all"], 0),
        (&["completions", "bash"], 0),
        (&["logs", "nobody"], 2),
        (&["stop", "--all"], 0),
        (&["image", "status"], 3),
        (&["doctor"], 3),
        (&["doctor", "--json"], 3),
        (&["--bogus"], 2),
    ] {
        // A pipe whose other end is closed, for both.
        let gone = || Stdio::from(std::io::pipe().unwrap().1);
        let mut aigo = home.aigo_command(arguments);
        aigo.env("DOCKER_HOST", "unix:///no/engine.sock").stdout(gone()).stderr(gone());
        assert_eq!(aigo.status().unwrap().code(), Some(code), "{arguments:?}");
    }
    // Whoever relies on what is written hears of a full disk.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = home.aigo_command(["ps", "--json"]).stdout(full).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard output"), "{output:?}");
}

#[test]
fn sessions_that_do_not_exist_are_named() {
    let home = Home::without_engine();
    for arguments in
        [&["logs", "nobody"][..], &["stop", "nobody"], &["send", "nobody", "hello"], &["interrupt", "nobody"]]
    {
        refused(&home, arguments, &["`nobody`", "aigo ps --all"]);
    }
    refused(&home, &["logs", ""], &["aigo ps --all"]);
    refused(&home, &["logs", "../../etc/passwd"], &["../../etc/passwd"]);
}

#[test]
fn help_teaches() {
    let home = Home::without_engine();
    let commands: [&[&str]; 24] = [
        &[],
        &["run"],
        &["ps"],
        &["logs"],
        &["stop"],
        &["send"],
        &["interrupt"],
        &["queue"],
        &["agents"],
        &["agents", "set"],
        &["agents", "unset"],
        &["audit"],
        &["image"],
        &["image", "build"],
        &["image", "status"],
        &["doctor"],
        &["config"],
        &["config", "check"],
        &["config", "show"],
        &["service"],
        &["service", "install"],
        &["service", "uninstall"],
        &["service", "status"],
        &["completions"],
    ];
    for command in commands {
        let said = home.aigo([command, &["--help"]].concat());
        assert_eq!(said.code, Some(0), "{command:?}");
        assert!(said.stderr.is_empty(), "{command:?}: {}", said.stderr);
        assert!(said.stdout.contains("Usage:"), "{command:?}: {}", said.stdout);
        if ![&["image"][..], &["config"], &["service"]].contains(&command) {
            let example = format!("  aigo {}", command.join(" "));
            assert!(said.stdout.contains(&example), "{command:?} shows no example: {}", said.stdout);
        }
    }
    let run = home.aigo(["run", "--help"]).stdout;
    for taught in ["512m or 4g", "90s or 2h30m", "2 or 0.5", "Exit codes:", "124 timeout", "Ctrl-C", "[default: 30m]"] {
        assert!(run.contains(taught), "the help of `run` does not teach `{taught}`: {run}");
    }
}

#[test]
fn a_configuration_is_checked_and_shown() {
    let home = Home::without_engine();
    let bad = home.write("bad.toml", "[session]\nmemroy = \"1g\"\ncpus = 9999\n");
    let bad = bad.to_str().unwrap();
    let names = ["bad.toml:2", "`memroy`", "did you mean `memory`?", "bad.toml:3", "0.01 to 1024"];
    refused(&home, &["config", "check", bad], &names);
    refused(&home, &["config", "show", "--config", bad], &names);
    refused(
        &home,
        &["config", "check", "/no/such.toml"],
        &["/no/such.toml", "No such file", "aigo config show --default"],
    );
    let said = home.aigo(["config", "check", "--json", bad]);
    let json: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((said.code, &json["ok"]), (Some(2), &false.into()));
    assert_eq!(json["problems"].as_array().unwrap().len(), 2, "{json}");

    let template = home.aigo(["config", "show", "--default"]);
    let good = home.write("good.toml", template.stdout.replace("#length = 1000", "length = 5"));
    let good = good.to_str().unwrap();
    let said = home.aigo(["config", "check", good]);
    assert_eq!((said.code, said.stdout.trim()), (Some(0), format!("ok: {good}").as_str()), "{}", said.stderr);
    let mut show = home.aigo_command(["config", "show", "--json"]);
    let output = show.env("AIGO_CONFIG", good).env("AIGO_SESSION_PIDS", "99").output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let value = |key: &str| json["values"].as_array().unwrap().iter().find(|value| value["key"] == key).unwrap();
    assert_eq!((&value("queue.length")["value"], &value("queue.length")["origin"]["path"]), (&5.into(), &good.into()));
    assert_eq!(value("session.pids")["origin"]["variable"], "AIGO_SESSION_PIDS");
    assert_eq!(value("data-dir")["origin"]["variable"], "AIGO_DATA_DIR");
    assert_eq!(value("proxy.port")["origin"]["from"], "default");
}

#[test]
fn what_the_flags_say_is_shown_and_the_files_socket_goes_before_the_one_of_a_data_directory() {
    let home = Home::without_engine();
    let show = |arguments: &[&str]| -> Vec<serde_json::Value> {
        let output =
            home.aigo_command(arguments).args(["config", "show", "--json"]).env_remove("AIGO_DATA_DIR").output();
        let json: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        json["values"].as_array().unwrap().clone()
    };
    let value =
        |values: &[serde_json::Value], key: &str| values.iter().find(|value| value["key"] == key).unwrap().clone();
    let values = show(&["--data-dir", "/srv/y", "--engine", "podman"]);
    let data = value(&values, "data-dir");
    assert_eq!((&data["value"], &data["origin"]["flag"]), (&"/srv/y".into(), &"--data-dir".into()), "{data}");
    assert_eq!(value(&values, "engine.backend")["origin"]["flag"], "--engine");
    let socket = value(&values, "socket.path");
    assert_eq!((&socket["value"], &socket["origin"]["from"]), (&"/srv/y/aigo.sock".into(), &"default".into()));

    let socket = home.root().join("file.sock");
    let config = home.write("config.toml", format!("[socket]\npath = \"{}\"\n", socket.display()));
    let mut serve = home.aigo_command(["serve", "--listen", "127.0.0.1:0", "--config"]);
    serve.arg(config).arg("--data-dir").arg(home.data()).stderr(Stdio::null());
    let mut service = serve.spawn().unwrap();
    tests::host::wait_until("the socket of the file", || socket.exists().then_some(()));
    assert!(!home.data().join("aigo.sock").exists());
    service.kill().unwrap();
    service.wait().unwrap();
}

#[test]
fn variables_that_nobody_reads_are_wrong() {
    let home = Home::without_engine();
    for command in [&["config", "check"][..], &["config", "show"], &["serve", "--listen", "127.0.0.1:0"]] {
        let output = home.aigo_command(command).env("AIGO_QUEUE_LENGHT", "3").output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command:?}: {stderr}");
        assert!(
            stderr.contains("AIGO_QUEUE_LENGHT") && stderr.contains("did you mean `AIGO_QUEUE_LENGTH`?"),
            "{stderr}"
        );
    }
}

#[test]
fn agents_and_the_audit_log_are_shown_and_agents_set_by_a_service() {
    let home = Home::without_engine();
    let said = home.aigo(["agents"]);
    assert!(said.code == Some(3) && said.stderr.contains("aigo serve"), "{said:?}");
    assert_eq!(home.aigo(["audit", "--json"]).stdout, "[]\n");
    let service = Service::start(&home);
    for wrong in [&["--cpus", "lots"][..], &[], &["--pids", "1"], &["--memory", "1"]] {
        let said = home.aigo([&["agents", "set", "builder"], wrong].concat());
        assert_eq!(said.code, Some(2), "{said:?}");
    }
    let set = ["agents", "set", "builder", "--cpus", "0.5", "--memory", "1g", "--pids", "none", "--policy", "reject"];
    let said = home.aigo(set);
    assert!(said.code == Some(0) && said.stdout.contains("0.5*"), "{said:?}");
    let agents: serde_json::Value = serde_json::from_str(&home.aigo(["agents", "--json"]).stdout).unwrap();
    let builder = agents.as_array().unwrap().iter().find(|agent| agent["name"] == "builder").unwrap();
    let limits =
        serde_json::json!({"cpus": 0.5, "memoryBytes": 1 << 30, "containers": null, "pids": null, "policy": "reject"});
    assert_eq!(builder["limits"], limits);
    assert_eq!(builder["sources"]["pids"], "set");
    let said = home.aigo(["agents", "unset", "--json", "builder"]);
    let builder: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(builder["sources"]["cpus"], "default");
    let lines = home.aigo(["audit"]).stdout;
    assert!(
        lines.contains("agent.limits") && lines.contains("cpus 0.5, memory 1g, pids unbounded, policy reject"),
        "{lines}"
    );
    let newest: serde_json::Value = serde_json::from_str(&home.aigo(["audit", "-n", "1", "--json"]).stdout).unwrap();
    assert_eq!((newest.as_array().unwrap().len(), &newest[0]["action"]), (1, &"agent.reset".into()));
    assert!(service.stop().success());
    assert!(home.aigo(["audit"]).stdout.contains("agent.reset"), "also without a service");
}

#[test]
fn the_version_is_said() {
    let home = Home::without_engine();
    let said = home.aigo(["--version"]);
    assert_eq!(said.code, Some(0));
    assert_eq!(said.stdout.trim(), format!("aigo {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_completion_script_for_bash_is_valid() {
    let home = Home::without_engine();
    let said = home.aigo(["completions", "bash"]);
    assert_eq!(said.code, Some(0));
    let script = home.write("completions.bash", &said.stdout);
    let bash = std::process::Command::new("bash").arg("-n").arg(script).output().expect("bash is there");
    assert!(bash.status.success() && bash.stderr.is_empty(), "{}", String::from_utf8_lossy(&bash.stderr));
    assert!(said.stdout.contains("--idle-timeout") && said.stdout.contains("stream-json"));
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named() {
    let home = Home::without_engine();
    let file = home.write("file", "");
    let below = file.join("data");
    for path in [below.to_str().unwrap(), "/proc/aigo"] {
        let said = home.aigo(["--data-dir", path, "ps"]);
        assert_eq!(said.code, Some(3), "{}", said.stderr);
        assert!(said.stderr.contains(path) && said.stderr.contains("--data-dir"), "{}", said.stderr);
    }
    let workspace = home.workspace();
    let run = ["run", "--workspace", workspace.to_str().unwrap(), "--data-dir", "/proc/aigo", "--program", "command"];
    let said = home.aigo([&run[..], &["--", "true"]].concat());
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert!(said.stderr.contains("/proc/aigo"), "{}", said.stderr);
}

#[test]
fn a_damaged_database_is_named() {
    let home = Home::without_engine();
    std::fs::create_dir(home.data()).unwrap();
    std::fs::write(home.data().join("aigo.db"), vec![b'x'; 8192]).unwrap();
    let said = home.aigo(["ps"]);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert!(said.stderr.contains("aigo.db"), "{}", said.stderr);
}

#[test]
fn an_engine_that_is_not_there_is_named_with_its_remedy() {
    let home = Home::without_engine();
    let socket = home.root().join("no-engine.sock");
    let workspace = home.workspace();
    let run = ["run", "--workspace", workspace.to_str().unwrap(), "--program", "command", "--", "true"];
    let output = home.aigo_command(run).env("DOCKER_HOST", format!("unix://{}", socket.display())).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("no-engine.sock") && stderr.contains("DOCKER_HOST"), "{stderr}");
}

#[test]
fn no_escapes_without_a_terminal_or_with_no_color() {
    let home = Home::without_engine();
    for arguments in [&["--help"][..], &["run", "--help"], &["ps", "--all"], &["logs", "nobody"], &["run", "--bogus"]] {
        for variable in [None, Some("NO_COLOR")] {
            let mut command = home.aigo_command(arguments);
            command.env("TERM", "xterm-256color").envs(variable.map(|name| (name, "1")));
            let output = command.output().unwrap();
            let bytes = [output.stdout, output.stderr].concat();
            assert!(!bytes.contains(&0x1b), "{arguments:?}: {}", String::from_utf8_lossy(&bytes));
        }
    }
    let said = home.aigo(["--color", "always", "logs", "nobody"]);
    assert!(said.stderr.contains("\x1b["), "colours can be asked for: {}", said.stderr);
}
