//! Sessions on Podman, as root's engine and as an unprivileged user's own.

use std::os::unix::fs::MetadataExt;

use tests::engine::Podman;
use tests::{Expect, Home, Look, Script};

/// An unprivileged user of this host.
const OWNER: u32 = 1234;

/// What the agent makes belongs to the folder's owner, the user can edit and remove it, and the model is reached.
fn a_session_with_a_model(home: &Home, owner: u32) {
    home.put("notes", "before\n");
    home.give_workspace_to(owner);
    let script = Script::new().bash("cat notes; echo after >> notes; mkdir made; echo x > made/file").say("all done");
    let run = home.claude("change the notes", &script).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["all done"]);
    assert_eq!(run.ended().2.model_requests, 2);
    assert_eq!(std::fs::read_to_string(home.file("notes")).unwrap(), "before\nafter\n");
    for name in ["notes", "made", "made/file"] {
        let meta = std::fs::metadata(home.file(name)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (owner, owner), "{name}");
    }
}

#[test]
fn rootful_podman_runs_an_agent_with_a_model() {
    let Some(home) = Home::on_podman(Podman::Rootful) else { return };
    a_session_with_a_model(&home, OWNER);
}

#[test]
fn rootless_podman_runs_an_agent_with_a_model() {
    let Some(home) = Home::on_podman(Podman::Rootless) else { return };
    a_session_with_a_model(&home, Podman::user().uid.as_raw());
}

#[test]
fn rootful_podman_holds_a_command_to_its_limits() {
    let Some(home) = Home::on_podman(Podman::Rootful) else { return };
    home.give_workspace_to(OWNER);
    let run = home.command("id -u; id -g").finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), [OWNER.to_string(), OWNER.to_string()]);
    // Podman does not tell: the kernel's counters do.
    let run = home.command("exec tail /dev/zero").flags(["--memory", "64m"]).finish().expect(Expect::OUT_OF_MEMORY);
    assert!(run.detail().contains("--memory"), "{run:?}");
    let script = "for i in $(seq 100); do sleep 100 & done";
    home.command(script).flags(["--pids", "32"]).finish().expect(Expect::PIDS_EXHAUSTED);
}

#[test]
fn rootless_podman_says_which_limits_it_cannot_enforce() {
    let Some(home) = Home::on_podman(Podman::Rootless) else { return };
    let doctor: serde_json::Value = serde_json::from_str(&home.aigo(["doctor", "--json"]).stdout).unwrap();
    let checks = doctor.as_array().unwrap();
    let check = |name: &str| checks.iter().find(|check| check["name"] == name).unwrap();
    assert!(check("engine")["detail"].as_str().unwrap().contains("podman"), "{doctor:#}");
    assert_eq!(check("gateway")["status"], "ok", "{doctor:#}");
    let all_hold = check("limits")["status"] == "ok";
    let run = home.command("id -u").finish().expect(Expect::FINISHED);
    // Root of the container is the user.
    assert_eq!(run.texts(), ["0"]);
    assert_eq!(run.warnings().contains(&"engine"), !all_hold, "{run:?}");
    // Without a cgroup of its own, the host's figures would be shown for its own.
    assert_eq!(run.ended().2.peak_memory_bytes.is_some(), all_hold, "{run:?}");
}

#[test]
fn root_is_told_that_it_cannot_use_a_users_engine() {
    let Some(home) = Home::on_podman(Podman::Rootful) else { return };
    let run = home.command("true").env("CONTAINER_HOST", Podman::Rootless.address()).finish();
    run.expect_refusal(2, "run aigo as that user");
}
