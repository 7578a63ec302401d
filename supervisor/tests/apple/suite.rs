//! The list of behaviours that every engine is held to, on a stand-in with a state (`machine.py`, whose containers are
//! processes of this machine). It shows that the adapter keeps the trait's laws if the command does what its documentation
//! says; it shows nothing of macOS.

use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use supervisor::engine::apple::AppleEngine;
use supervisor::engine::conformance::run;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apple/machine.py");
const IMAGE: &str = "image:test";
const SUITE_DEADLINE: Duration = Duration::from_secs(300);
/// The stand-in has no file systems of its own to mount into.
const NOT_PLAYED: [&str; 1] = ["look::mounts_and_environment"];
/// The engine says itself that it cannot.
const NOT_POSSIBLE: [&str; 4] = [
    // An address of one's own for a container.
    "networks::chosen_subnet",
    // Processes are not bounded.
    "limits::on_record_and_changed",
    "limits::out_of_pids",
    "look::events_tell_of_memory",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_adapter_conforms_on_a_stand_in() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("container");
    symlink(SCRIPT, &program).unwrap();
    // Its one image is built like any other.
    let recipe = folder.path().join("Dockerfile");
    std::fs::write(&recipe, "FROM scratch\n").unwrap();
    let built =
        Command::new(&program).args(["build", "--tag", IMAGE, "--file"]).arg(&recipe).arg(folder.path()).output();
    assert!(built.unwrap().status.success());

    let engine = AppleEngine::connect(program).await.unwrap();
    let outcomes = tokio::time::timeout(SUITE_DEADLINE, run(Arc::new(engine), IMAGE)).await.expect("it ends in time");
    let mut not_played = Vec::from(NOT_PLAYED);
    if !nix::unistd::geteuid().is_root() {
        // It is about commands as other users.
        not_played.push("look::commands_inside");
    }
    for outcome in &outcomes {
        let verdict = match (&outcome.result, &outcome.cannot_run) {
            (Ok(()), None) => "ok".to_owned(),
            (Ok(()), Some(why)) => format!("not possible: {why}"),
            (Err(error), _) => format!("not played: {error:#}"),
        };
        println!("{:6} ms  {:32} {verdict}", outcome.took.as_millis(), outcome.check);
    }
    let failed: Vec<&str> =
        outcomes.iter().filter(|outcome| outcome.result.is_err()).map(|outcome| outcome.check).collect();
    assert_eq!(failed, not_played);
    let left_out: Vec<&str> =
        outcomes.iter().filter(|outcome| outcome.cannot_run.is_some()).map(|outcome| outcome.check).collect();
    assert_eq!(left_out, NOT_POSSIBLE);
}
