//! What aigo puts into a session stays out of the person's project, and whatever a command does to the project, the session
//! goes on.

use std::fs;
use std::path::Path;
use std::process::Command;

use tests::{Expect, Home, Look, Run, Script, look};

/// A repository with one commit and a remote-free history, as its owner has it.
fn repository(home: &Home) {
    home.put("a.txt", "WORD\n");
    git(&home.workspace(), &["init", "-q", "."]);
    git(&home.workspace(), &["config", "user.email", "ada@example.org"]);
    git(&home.workspace(), &["config", "user.name", "Ada"]);
    git(&home.workspace(), &["add", "-A"]);
    git(&home.workspace(), &["commit", "-qm", "one"]);
    // The test's own git may run as somebody else than aigo.
    home.give_workspace_to(home.uid());
}

/// Runs git in a folder of the host's; its output.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let output =
        Command::new("git").args(["-c", "safe.directory=*", "-C"]).arg(folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Has the real Claude Code run one command as a tool; its output.
fn one_tool_call(home: &Home, command: &str) -> String {
    let script = Script::new().bash(command).say("done");
    let run = home.claude("work", &script).finish().expect(Expect::FINISHED);
    let results = run.tool_results();
    assert_eq!(results.len(), 1, "{run:?}");
    assert!(!results[0].0, "the command failed: {run:?}");
    results[0].1.to_owned()
}

fn send(home: &Home, run: &Run<'_>, text: &str) {
    let said = home.aigo(["send", &run.session(), text]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
}

#[test]
fn git_add_and_commit_take_nothing_of_the_session() {
    let Some(home) = Home::open() else { return };
    repository(&home);
    one_tool_call(&home, "echo new > b.txt; git add -A && git commit -qm x && git status --porcelain");
    assert_eq!(git(&home.workspace(), &["ls-files"]), "a.txt\nb.txt\n");
    assert_eq!(git(&home.workspace(), &["status", "--porcelain"]), "");
    // The next session starts in the same folder.
    home.command("true").finish().expect(Expect::FINISHED);
}

#[test]
fn a_clean_repository_looks_clean_while_the_session_runs() {
    let Some(home) = Home::open() else { return };
    repository(&home);
    assert_eq!(one_tool_call(&home, "git status --porcelain; echo end"), "end");
}

#[test]
fn git_stash_and_git_clean_leave_the_session_alone() {
    let Some(home) = Home::open() else { return };
    repository(&home);
    for command in ["git stash -u", "git clean -fd", "git clean -fdx"] {
        home.put("new.txt", "new");
        one_tool_call(&home, command);
        assert!(!home.file("new.txt").exists(), "{command}");
        git(&home.workspace(), &["checkout", "-q", "."]);
        home.give_workspace_to(home.uid());
    }
}

#[test]
fn a_recursive_search_and_replace_leaves_the_session_alone() {
    let Some(home) = Home::open() else { return };
    repository(&home);
    one_tool_call(&home, "grep -rl WORD . --exclude-dir=.git | xargs sed -i s/WORD/X/g");
    assert_eq!(fs::read_to_string(home.file("a.txt")).unwrap(), "X\n");
}

#[test]
fn a_nested_repository_keeps_its_own_ipc_folder() {
    let Some(home) = Home::open() else { return };
    repository(&home);
    let script =
        "mkdir -p lib/ipc && echo 1 > lib/ipc/f && git -C lib init -q . && git -C lib status --porcelain -uall";
    assert_eq!(one_tool_call(&home, script), "?? ipc/f");
}

#[test]
fn removing_everything_three_times_changes_nothing_about_messages_and_closing() {
    let Some(home) = Home::open() else { return };
    let remove = "rm -rf /workspace/* /workspace/.[!.]* 2>/dev/null";
    let script = format!(
        "for i in 1 2 3; do {remove}; printf '{{\"type\":\"message\",\"text\":\"out %s\"}}' $i > /workspace/ipc/messages/m$i.json; \
         echo ready $i; read -r line; echo \"in $line\"; done; {remove}; cat; echo end"
    );
    let mut run = home.command(&script).steered().start();
    for number in 1..=3 {
        run.wait_for_text(&format!("ready {number}"));
        run.type_line(&format!("line {number}"));
    }
    run.wait_for_text("in line 3");
    run.close_stdin();
    let run = run.finish().expect(Expect::CLOSED);
    let expected = ["ready 1", "in line 1", "ready 2", "in line 2", "ready 3", "in line 3", "end"];
    assert_eq!(run.texts(), expected);
    assert_eq!(run.messages(), ["out 1", "out 2", "out 3"]);
    let told = run.warnings().iter().filter(|code| **code == "ipc_repaired").count();
    assert!((1..=3).contains(&told), "told once, and then less and less often: {run:?}");
}

#[test]
fn an_input_that_is_removed_before_it_was_taken_arrives_exactly_once() {
    let Some(home) = Home::open() else { return };
    // Nobody reads, so that the pipe fills up, and what comes then waits in the mailbox.
    let script = "echo ready; while [ ! -e go ]; do sleep 0.05; done; n=0; \
                  while [ $n -lt 20 ]; do rm -f /workspace/ipc/input/*.json; n=$((n+1)); sleep 0.1; done; \
                  while read -r line; do echo ${#line} ${line%%x*}; done";
    let run = home.command(script).flags(["--keep-open"]).start();
    run.wait_for_text("ready");
    for number in 0..6 {
        send(&home, &run, &format!("{number}{}", "x".repeat(50_000)));
    }
    home.put("go", "");
    run.wait("the last message", |events| {
        events.iter().filter_map(look::text).find(|text| text.ends_with(" 5")).map(|_| ())
    });
    let said = home.aigo(["stop", &run.session()]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let run = run.finish();
    let expected: Vec<String> = (0..6).map(|number| format!("50001 {number}")).collect();
    assert_eq!(run.texts()[1..], expected, "{run:?}");
    assert!(run.warnings().contains(&"ipc_repaired"), "{run:?}");
}

#[test]
fn nothing_in_the_workspace_changes_while_nobody_works() {
    let Some(home) = Home::open() else { return };
    let script = "sleep 2; touch /tmp/stamp; sleep 12; find /workspace -newer /tmp/stamp; find /workspace -newercc /tmp/stamp; echo end";
    let run = home.command(script).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["end"]);
}

#[test]
fn a_project_with_an_ipc_and_an_extra_of_its_own_starts_without_a_flag() {
    let Some(home) = Home::open() else { return };
    let home = home.keeping("ipc").keeping("extra");
    home.put("ipc/mine.txt", "mine");
    home.put("extra/mine.txt", "mine");
    fs::create_dir(home.root().join("other")).unwrap();
    let other = home.write("other/file", "other");
    let mount = format!("{}:data", other.parent().unwrap().display());
    let script = "cat ipc/mine.txt extra/mine.txt; ls ipc; cat $AIGO_EXTRA_DIR/data/file; echo $AIGO_IPC_DIR; \
                  printf '{\"type\":\"message\",\"text\":\"hello\"}' > $AIGO_IPC_DIR/messages/m.json; echo more > ipc/new.txt";
    let run = home.command(script).flags(["--mount", &mount]).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts().concat(), "minemine\nmine.txt\nother/run/aigo/ipc".replace('\n', ""));
    assert_eq!(run.messages(), ["hello"]);
    assert_eq!(fs::read_to_string(home.file("ipc/new.txt")).unwrap(), "more\n");
    assert_eq!(fs::read_to_string(home.file("extra/mine.txt")).unwrap(), "mine");
}

#[test]
fn a_read_only_file_system_can_be_worked_on() {
    let Some(home) = Home::open() else { return };
    let place = home.root().join("media");
    fs::create_dir(&place).unwrap();
    let mount =
        |arguments: &[&str]| assert!(Command::new("mount").args(arguments).arg(&place).status().unwrap().success());
    mount(&["-t", "tmpfs", "tmpfs"]);
    fs::write(place.join("file"), "content\n").unwrap();
    mount(&["-o", "remount,ro"]);
    let script = "cat file; ls; printf '{\"type\":\"message\",\"text\":\"hello\"}' > $AIGO_IPC_DIR/messages/m.json";
    let run = home.command(script).workspace(&place).flags(["--workspace-read-only"]).finish();
    assert!(Command::new("umount").arg(&place).status().unwrap().success());
    let run = run.expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["content", "file"]);
    assert_eq!(run.messages(), ["hello"]);
}

#[test]
fn a_mount_point_that_is_removed_on_the_host_is_reported_and_the_session_goes_on() {
    let Some(home) = Home::open() else { return };
    let script = "echo ready; read -r line; printf '{\"type\":\"message\",\"text\":\"hello\"}' > $AIGO_IPC_DIR/messages/m.json; \
                  echo \"in $line\"";
    let mut run = home.command(script).steered().start();
    run.wait_for_text("ready");
    fs::remove_dir(home.file("ipc")).unwrap();
    run.wait_for("the report", |event| look::warning(event).is_some_and(|(code, _)| code == "ipc_unmounted"));
    run.type_line("line");
    let run = run.finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["ready", "in line"]);
    assert_eq!(run.messages(), ["hello"]);
}

#[test]
fn the_agents_user_cannot_reach_the_journal() {
    let Some(home) = Home::open() else { return };
    home.give_workspace_to(1000);
    let script =
        "ls /run/aigo/private 2>/dev/null || echo closed; ls /run/aigo/private/record 2>/dev/null || echo closed";
    let run = home.command(script).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["closed", "closed"]);
}

#[test]
fn a_writable_mount_survives_git_clean() {
    let Some(home) = Home::open() else { return };
    repository(&home);
    fs::create_dir(home.root().join("other")).unwrap();
    let other = home.write("other/file", "other");
    let mount = format!("{}:data:rw", other.parent().unwrap().display());
    let run =
        home.command("git clean -fdx; ls extra/data").flags(["--mount", &mount]).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["file"]);
    assert!(other.exists());
}

#[test]
fn what_the_agent_takes_for_a_folder_of_the_project_is_named_at_the_end() {
    let Some(home) = Home::open() else { return };
    let run = home.command("mkdir -p ipc; echo 1 > ipc/mod.rs").finish().expect(Expect::FINISHED);
    let told = run.events.iter().filter_map(look::warning).find(|(code, _)| *code == "ipc_not_kept");
    assert!(told.is_some_and(|(_, text)| text.contains("mod.rs")), "{run:?}");
}

#[test]
fn a_recursive_chmod_leaves_steering_and_closing_alone() {
    let Some(home) = Home::open() else { return };
    home.give_workspace_to(1000);
    let mut run = home.command("chmod -R 555 /workspace; echo ready; cat").steered().start();
    run.wait_for_text("ready");
    run.type_line("line");
    run.wait_for_text("line");
    run.close_stdin();
    run.finish().expect(Expect::CLOSED);
}
