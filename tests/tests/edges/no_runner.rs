//! No success without the runner's own first and last word.

use supervisor::session::status::EndReason;
use tests::Home;

#[test]
fn an_image_without_a_runner_is_refused_before_anything_starts() {
    let Some(home) = Home::open() else { return };
    for program in ["true", "false"] {
        let run = home.command(program).flags(["--image", "debian:trixie-slim"]).finish();
        let (_, ending, _) = run.ended();
        assert_eq!(ending.reason, EndReason::SetupFailed { step: "image".into() }, "{run:?}");
        assert!(run.detail().contains("aigo image build") && run.detail().contains("FROM"), "{run:?}");
        assert_ne!(run.code(), Some(0), "{run:?}");
        assert_eq!(home.containers(), [""; 0]);
    }
}

#[test]
fn a_container_that_ends_without_its_runners_last_word_is_no_success() {
    let Some(home) = Home::open() else { return };
    // The agent's parent is the worker, which writes the journal. The folder is root's here, and so is the agent.
    let script = "echo up; kill -KILL $PPID; sleep 30";
    let run = home.command(script).finish();
    assert_ne!(run.code(), Some(0), "{run:?}");
    let (_, ending, _) = run.ended();
    assert_eq!(ending.reason, EndReason::RunnerLost, "{run:?}");
}
