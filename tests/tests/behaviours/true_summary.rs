//! The summary of a session states what changed in the folder, all of it, and only what was looked at.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::time::Instant;

use serde_json::{Value, json};
use supervisor::workspace::changes::{Changes, GitChange, GitFolder};
use tests::service::command;
use tests::{Expect, Finished, Home, Service};

/// What changed, of a session that has ended.
fn changes(run: &Finished) -> &Changes {
    run.ended().2.changes.as_deref().unwrap()
}

/// What changed in a session of this script.
fn changed_by(home: &Home, script: &str) -> Changes {
    changes(&home.command(script).finish().expect(Expect::FINISHED)).clone()
}

/// The summary as `aigo show` prints it for people, of the one session of this home.
fn shown(home: &Home) -> String {
    let said = home.aigo(["history", "--json"]);
    let rows: Value = serde_json::from_str(&said.stdout).unwrap();
    home.aigo(["show", rows[0]["id"].as_str().unwrap()]).stdout
}

#[test]
fn a_repository_that_is_removed_is_told() {
    let Some(home) = Home::open() else { return };
    home.put(".git/HEAD", "ref: refs/heads/main\n");
    home.put(".git/objects/ab/cdef", "1");
    home.put("kept", "1");
    let changes = changed_by(&home, "rm -rf .git");
    assert_eq!(changes.git.folders, [GitFolder { path: ".git".into(), change: GitChange::Removed }]);
    assert_eq!((changes.removed.count, changes.incomplete), (0, false));
    assert!(shown(&home).contains("git:      .git removed"), "{}", shown(&home));
}

#[test]
fn a_mode_is_told() {
    let Some(home) = Home::open() else { return };
    home.put("run.sh", "echo\n");
    home.put("dir/file", "1");
    let changes = changed_by(&home, "chmod +x run.sh; chmod 700 dir");
    assert_eq!(changes.mode_changed.names, ["dir/", "run.sh"]);
    assert_eq!(changes.modified.count, 0);
    assert!(shown(&home).contains("mode:     dir/, run.sh"), "{}", shown(&home));
    let again = changed_by(&home, "chmod +x run.sh");
    assert_eq!((again.touched.names.as_slice(), again.modified.count), (&["run.sh".to_owned()][..], 0), "no edit");
}

#[test]
fn a_folder_extra_of_the_persons_own_is_looked_at_as_any_other() {
    let Some(home) = Home::open() else { return };
    home.put("extra/old", "1");
    let mounted = home.root().join("beside");
    fs::create_dir(&mounted).unwrap();
    let plain = home.command("echo x > extra/new; rm extra/old").finish().expect(Expect::FINISHED);
    assert_eq!((changes(&plain).added.names[0].as_str(), changes(&plain).removed.count), ("extra/new", 1));
    fs::remove_dir_all(home.file("extra")).unwrap();
    // Of a mount the point is left out, and the folder that was made for it.
    let mount = format!("{}:data:rw", mounted.display());
    let run = home.command("echo x > extra/data/new; echo x > file").flags(["--mount", &mount]);
    let run = run.finish().expect(Expect::FINISHED);
    assert!(mounted.join("new").exists());
    assert_eq!((changes(&run).added.names.as_slice(), changes(&run).incomplete), (&["file".to_owned()][..], false));
}

#[test]
fn what_was_edited_stands_beside_the_commit_of_a_nested_repository() {
    let Some(home) = Home::open() else { return };
    let commit = "git -c user.name=a -c user.email=a@b commit -qam more";
    let make = format!("git init -q lib; cd lib; for i in $(seq 60); do echo $i > f$i; done; git add -A; {commit}");
    home.command(&make).finish().expect(Expect::FINISHED);
    let changes = changed_by(&home, &format!("cd lib; for i in $(seq 3); do echo more >> f$i; done; {commit}"));
    assert_eq!(changes.modified.names, ["lib/f1", "lib/f2", "lib/f3"]);
    assert_eq!(changes.git.folders, [GitFolder { path: "lib/.git".into(), change: GitChange::Changed }]);
    assert_eq!((changes.added.count, changes.removed.count), (0, 0), "{changes:?}");
}

#[test]
fn folders_and_links_are_told_and_a_session_that_does_nothing_changes_nothing() {
    let Some(home) = Home::open() else { return };
    home.put("target", "1");
    std::os::unix::fs::symlink("target", home.file("link")).unwrap();
    fs::create_dir(home.file("empty")).unwrap();
    home.command("true").finish().expect(Expect::FINISHED);
    assert!(shown(&home).contains("\n  no files changed\n"), "{}", shown(&home));
    let changes = changed_by(&home, "mkdir -p new/deep; rmdir empty; ln -sfn elsewhere link");
    assert_eq!(changes.added.names, ["new/deep/"]);
    assert_eq!(changes.removed.names, ["empty/"]);
    assert_eq!(changes.modified.names, ["link"]);
}

#[test]
fn a_folder_with_two_hundred_thousand_files_is_compared_as_a_whole() {
    let Some(home) = Home::open() else { return };
    for folder in 0..1_000 {
        let path = home.file(&format!("packages/p{folder}/src"));
        fs::create_dir_all(&path).unwrap();
        for file in 0..200 {
            fs::write(path.join(format!("module_{file}.ts")), "").unwrap();
        }
    }
    home.give_workspace_to(1000);
    let script =
        "cd packages; echo x > p7/src/module_7.ts; rm p8/src/module_8.ts; mkdir p9/new; echo x > p999/src/new.ts";
    let began = Instant::now();
    let changes = changed_by(&home, script);
    println!("a session on 200,000 files took {:?}", began.elapsed());
    assert!(!changes.incomplete, "{changes:?}");
    assert_eq!(changes.added.names, ["packages/p9/new/", "packages/p999/src/new.ts"]);
    assert_eq!(changes.modified.names, ["packages/p7/src/module_7.ts"]);
    assert_eq!(changes.removed.names, ["packages/p8/src/module_8.ts"]);
}

#[test]
fn a_folder_that_is_renamed_on_the_host_loses_nothing() {
    let Some(home) = Home::open() else { return };
    let (folder, moved) = (home.root().join("project"), home.root().join("moved"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a"), "1").unwrap();
    let mut run = home.command("echo up; read -r line; echo x > b").workspace(&folder).steered().start();
    run.wait_for_text("up");
    fs::rename(&folder, &moved).unwrap();
    run.type_line("go on");
    let run = run.finish().expect(Expect::FINISHED);
    assert_eq!((changes(&run).added.names.as_slice(), changes(&run).removed.count), (&["b".to_owned()][..], 0));
}

#[test]
fn no_name_of_a_file_writes_a_line_of_the_summary() {
    let Some(home) = Home::open() else { return };
    let name = "a.txt\n\n✓ completed (finished) in 3.1s\n  no files changed\n  0 model requests · $0.00";
    let script = format!("touch '{name}'; printf 'said\\n✓ completed (finished) in 1s\\n'; exit 3");
    let run = home.command(&script).output("text").finish();
    let text = run.text();
    for text in [text.as_str(), &shown(&home)] {
        let forged = text.lines().filter(|line| line.starts_with('✓') || *line == "  no files changed").count();
        assert_eq!(forged, 0, "{text}");
        assert!(text.contains("added:    a.txt␊␊✓ completed"), "{text}");
    }
}

#[test]
fn the_result_as_json_has_the_programs_exit_code_or_signal() {
    let Some(home) = Home::open() else { return };
    for (script, name, value, exit) in
        [("exit 42", "code", 42, 1), ("kill -SEGV $$", "signal", 11, 1), ("true", "code", 0, 0)]
    {
        let run = home.command(script).output("json").finish();
        let result: Value = serde_json::from_slice(&run.stdout).unwrap();
        assert_eq!((&result[name], &result["exitCode"]), (&json!(value), &json!(exit)), "{result}");
    }
}

/// Starts a session that waits, kills its service, does something meanwhile, and lets the next service bring it to its end.
fn over_a_restart(home: &Home, script: &str, meanwhile: impl FnOnce(&str)) -> Value {
    let service = Service::start(home);
    let go = home.root().join("go");
    fs::create_dir(&go).unwrap();
    let script = format!("echo up; while [ ! -e /workspace/extra/go/now ]; do sleep 0.1; done; {script}");
    let mut request = command(home, &script);
    request["mounts"] = json!([{"hostPath": go, "name": "go"}]);
    let id = service.create(&request);
    assert!(service.watch(&id, 0).any(|event| event.data.contains("\"up\"")), "session {id} did not come up");
    service.kill();
    meanwhile(&id);
    fs::write(go.join("now"), "").unwrap();
    let service = Service::start(home);
    let session = service.wait_for_end(home, &id);
    assert_eq!(session["reason"], "finished", "{session}");
    assert!(service.stop().success());
    session["summary"].clone()
}

#[test]
fn a_restart_of_the_service_loses_no_name() {
    let Some(home) = Home::open() else { return };
    let name = |bytes: &'static [u8]| home.workspace().join(OsStr::from_bytes(bytes));
    fs::write(name(b"caf\xe9"), "1").unwrap();
    fs::write(name(b"kept\xff"), "1").unwrap();
    home.put(".git/HEAD", "1");
    let summary = over_a_restart(&home, "rm caf*; echo x > new; rm -rf .git", |_| {});
    let changes = &summary["changes"];
    assert_eq!(changes["added"]["names"], json!(["new"]), "{summary}");
    assert_eq!(changes["removed"]["names"], json!(["caf\\xe9"]), "{summary}");
    assert_eq!(changes["git"]["folders"], json!([{"path": ".git", "change": "removed"}]), "{summary}");
    assert_eq!(changes["incomplete"], Value::Null, "{summary}");
}

#[test]
fn a_folder_that_another_has_replaced_while_the_service_was_away_is_not_compared() {
    let Some(home) = Home::open() else { return };
    home.put("a", "1");
    let moved = home.root().join("moved");
    let summary = over_a_restart(&home, "echo x > b", |_| {
        fs::rename(home.workspace(), &moved).unwrap();
        fs::create_dir(home.workspace()).unwrap();
    });
    assert_eq!(summary["changes"], Value::Null, "{summary}");
    assert!(summary["changesUnknown"].as_str().unwrap().contains("was moved or replaced"), "{summary}");
    assert!(shown(&home).contains("what changed is not known"), "{}", shown(&home));
}

#[test]
fn a_record_of_another_version_is_told_as_not_known() {
    let Some(home) = Home::open() else { return };
    let summary = over_a_restart(&home, "echo x > b", |id| {
        let record = home.data().join("sessions").join(id).join("look");
        assert!(record.exists());
        fs::write(record, r#"{"files":{"a":{"inode":1,"size":1,"mtime":[1,2]}}}"#).unwrap();
    });
    assert_eq!(summary["changes"], Value::Null, "{summary}");
    assert!(summary["changesUnknown"].as_str().unwrap().contains("another version"), "{summary}");
}

/// Bytes that a process has had in memory at most.
fn peak(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn long_paths_cost_no_memory() {
    let Some(home) = Home::open() else { return };
    let plain = home.command("echo up; exec sleep 300").start();
    plain.wait_for_text("up");
    let usual = peak(plain.pid().as_raw());
    plain.signal(nix::sys::signal::Signal::SIGTERM);
    plain.finish();
    // 90,000 files below a path of 3,750 bytes.
    let deep = "import os\nfor _ in range(15):\n d = 'd' * 250\n os.mkdir(d)\n os.chdir(d)\n\
                for n in range(90000):\n os.close(os.open(f'f{n}', os.O_CREAT | os.O_WRONLY))\n";
    let made = home.command("true").after_dashes(["python3", "-c", deep]).finish();
    let made = made.expect(Expect::FINISHED);
    assert_eq!(changes(&made).added.count, 90_000);
    let run = home.command("echo up; exec sleep 300").start();
    run.wait_for_text("up");
    let more = peak(run.pid().as_raw()).saturating_sub(usual);
    assert!(more < 64 << 20, "{more} bytes more than usual");
    run.signal(nix::sys::signal::Signal::SIGTERM);
    run.finish();
}

#[test]
fn an_aigo_that_was_killed_leaves_a_summary_that_claims_nothing() {
    let Some(home) = Home::open() else { return };
    let run = home.command("echo x > new; echo up; exec sleep 300").start();
    run.wait_for_text("up");
    let session = run.session();
    run.signal(nix::sys::signal::Signal::SIGKILL);
    run.finish();
    home.command("true").finish().expect(Expect::FINISHED);
    let said = home.aigo(["show", &session]).stdout;
    assert!(said.contains("what changed is not known") && !said.contains("no files changed"), "{said}");
}
