//! Engines whose users or addresses are not the host's: rootless Docker works, remapped users are refused.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use tests::engine::{RootlessDocker, docker};
use tests::host::unique;
use tests::service::command;
use tests::{Dockerd, Expect, Home, Look, Script, Service};

#[test]
fn rootless_docker_runs_an_agent_with_a_model() {
    let Some(home) = Home::on_rootless_docker() else { return };
    let user = RootlessDocker::user().uid.as_raw();
    home.put("notes", "before\n");
    home.give_workspace_to(user);
    let script = Script::new().bash("cat notes; echo after >> notes; mkdir made; echo x > made/file").say("all done");
    let run = home.claude("change the notes", &script).finish().expect(Expect::FINISHED);
    assert_eq!(run.texts(), ["all done"]);
    assert_eq!(run.ended().2.model_requests, 2);
    assert_eq!(std::fs::read_to_string(home.file("notes")).unwrap(), "before\nafter\n");
    for name in ["notes", "made", "made/file"] {
        assert_eq!(std::fs::metadata(home.file(name)).unwrap().uid(), user, "{name}");
    }
}

#[test]
fn rootless_docker_says_which_limits_do_not_hold() {
    let Some(home) = Home::on_rootless_docker() else { return };
    let run = home.command("true").finish().expect(Expect::FINISHED);
    let warned = run.events.iter().filter_map(tests::look::warning).any(|(_, text)| text.starts_with("not enforced: "));
    let doctor = home.aigo(["doctor"]).stdout;
    assert!(doctor.contains("reaches this host at"), "{doctor}");
    // Where the controllers are delegated to the user, all is held.
    assert_eq!(warned, doctor.contains("cannot enforce"), "{doctor}\n{run:?}");
}

#[test]
fn a_session_on_rootless_docker_keeps_its_model_through_a_kill_of_the_service() {
    let Some(home) = Home::on_rootless_docker() else { return };
    let service = Service::start(&home);
    let script = Script::new().bash("while [ ! -e go ]; do sleep 0.1; done").say("all done");
    let id = service.create(&tests::service::claude(&home, "wait", &script));
    assert!(service.watch(&id, 0).any(|event| event.name == "tool_call"), "the agent does nothing");
    service.kill();
    let service = Service::start(&home);
    home.put("go", "");
    let ended = service.wait_for_end(&home, &id);
    assert_eq!((&ended["status"], &ended["reason"]), (&"completed".into(), &"finished".into()), "{}", service.said());
    assert!(service.stop().success());
}

#[test]
fn the_runners_last_words_are_shown_when_nothing_else_explains_the_end() {
    let Some(home) = Home::open() else { return };
    let image = unique("aigo-test-silent") + ":latest";
    let context = home.root().join("context");
    std::fs::create_dir(&context).unwrap();
    let runner = "#!/bin/sh\necho 'aigo-runner: cannot open the journal: Permission denied' >&2\nexit 74\n";
    std::fs::write(context.join("runner"), runner).unwrap();
    std::fs::set_permissions(context.join("runner"), PermissionsExt::from_mode(0o755)).unwrap();
    let recipe = format!("FROM {}\nCOPY runner /usr/local/bin/aigo-runner\n", tests::engine::image());
    std::fs::write(context.join("Dockerfile"), recipe).unwrap();
    docker(&["build", "--quiet", "--tag", &image, context.to_str().unwrap()]).unwrap();
    let run = home.command("true").flags(["--image", &image]).finish();
    docker(&["image", "rm", "--force", &image]).unwrap();
    assert_eq!(run.ended().1.reason.word(), "runner_lost", "{run:?}");
    assert!(run.detail().contains("cannot open the journal: Permission denied"), "{run:?}");
}

#[test]
fn an_engine_that_maps_users_is_refused_before_anything_starts() {
    let Some(engine) = Dockerd::remapping() else { return };
    let home = Home::on(&engine);
    let refused = home.command("true").finish();
    refused.expect_refusal(3, "userns-remap");
    assert!(refused.stderr.contains("daemon.json"), "{refused:?}");
    let doctor = home.aigo(["doctor"]);
    assert!(
        doctor.code == Some(3) && doctor.stdout.contains("✗ engine") && doctor.stdout.contains("userns-remap"),
        "{doctor:?}"
    );
    let service = Service::start(&home);
    let reply = service.post("/sessions", &command(&home, "true"));
    assert!(reply.status == 503 && reply.json()["detail"].as_str().unwrap().contains("userns-remap"), "{reply:?}");
    assert!(service.stop().success());
}
