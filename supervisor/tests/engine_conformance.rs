//! The one list of engine behaviours, on the fake and on the real engines of this machine.
//!
//! `AIGO_TEST_ENGINE=none` says that there is no engine here, `AIGO_TEST_PODMAN=none` that there is no Podman; then nothing
//! is asked of it. Without them an engine that does not answer fails the test. `AIGO_TEST_IMAGE` names an image with a
//! shell (default: the base image). Podman is set up by `image/setup/podman.sh`.

#![expect(
    clippy::expect_used,
    reason = "a panic is how a test fails; the lint knows only of functions marked as tests"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use supervisor::engine::conformance::{Outcome, fake_engine, run};
use supervisor::engine::detect::{Choice, connect};
use supervisor::engine::docker::HostEnv;
use supervisor::engine::{Backend, EngineInfo};

const DEFAULT_IMAGE: &str = "debian:trixie-slim";
/// The suite on one engine.
const SUITE_DEADLINE: Duration = Duration::from_secs(600);

/// Where `image/setup/podman.sh` has its engines, and the user of the rootless one.
const PODMAN: &str = "unix:///run/aigo-podman/podman.sock";
const PODMAN_USER: &str = "aigo-podman";
const PODMAN_USER_DIR: &str = "/run/aigo-podman/user";
/// Tells the rootless half of a test which program is aigo.
const INSIDE: &str = "AIGO_TEST_INSIDE";

fn judge(outcomes: &[Outcome]) {
    for outcome in outcomes {
        let verdict = match (&outcome.result, &outcome.cannot_run) {
            (Ok(()), None) => "ok".to_owned(),
            (Ok(()), Some(why)) => format!("not run: {why}"),
            (Err(_), _) => "FAILED".to_owned(),
        };
        println!("{:6} ms  {:32} {verdict}", outcome.took.as_millis(), outcome.check);
    }
    let left_out = outcomes.iter().filter(|outcome| outcome.cannot_run.is_some()).count();
    println!("{} checks, {left_out} not run", outcomes.len());
    let failed: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| Some(format!("{}: {:#}", outcome.check, outcome.result.as_ref().err()?)))
        .collect();
    assert!(failed.is_empty(), "{} of {} checks failed:\n{}", failed.len(), outcomes.len(), failed.join("\n"));
}

/// Whether an engine is to be asked. Says so where not.
fn is_wanted(variables: &[&str]) -> bool {
    for variable in variables {
        if std::env::var(variable).is_ok_and(|value| value == "none") {
            println!("no real engine is asked: {variable}=none");
            return false;
        }
    }
    true
}

/// Runs the suite on the engine that `choice` finds; what it says of itself, and how many checks could not be run.
async fn conforms(choice: Choice, env: &HostEnv) -> (EngineInfo, usize) {
    let engine = connect(choice, env).await.unwrap_or_else(|error| {
        panic!("{error}; `make test` brings engines up, AIGO_TEST_ENGINE=none and AIGO_TEST_PODMAN=none leave them out")
    });
    let image = std::env::var("AIGO_TEST_IMAGE").unwrap_or_else(|_| DEFAULT_IMAGE.to_owned());
    let present = engine.image(&image).await;
    assert!(
        matches!(present, Ok(Some(_))),
        "the test image {image} is not present; build the base image, or name one with AIGO_TEST_IMAGE"
    );
    let info = engine.detect().await.unwrap_or_else(|error| panic!("{error}"));
    println!("{}", info.message);
    let all = tokio::time::timeout(SUITE_DEADLINE, run(engine, &image)).await;
    let all = all.expect("the suite takes less than ten minutes");
    judge(&all);
    (info, all.iter().filter(|outcome| outcome.cannot_run.is_some()).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fake_conforms() {
    judge(&run(fake_engine("image:test"), "image:test").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_engine_conforms() {
    if is_wanted(&["AIGO_TEST_ENGINE"]) {
        let (_, left_out) = conforms(Choice::Auto, &HostEnv::from_process()).await;
        assert_eq!(left_out, 0, "a rootful engine can do everything");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rootful_podman_conforms() {
    if is_wanted(&["AIGO_TEST_ENGINE", "AIGO_TEST_PODMAN"]) {
        let env = HostEnv { container_host: Some(PODMAN.to_owned()), ..HostEnv::from_process() };
        let (info, left_out) = conforms(Choice::Only(Backend::Podman), &env).await;
        assert!(info.backend == Backend::Podman && !info.rootless, "{info:?}");
        // It does not tell of out-of-memory kills.
        assert_eq!(left_out, 1);
    }
}

/// Rootless engines serve their own user: this test runs its other half as them.
#[test]
fn rootless_podman_conforms() {
    if !is_wanted(&["AIGO_TEST_ENGINE", "AIGO_TEST_PODMAN"]) {
        return;
    }
    // Where the user may read and run them.
    let folder = tempfile::tempdir_in("/tmp").expect("a folder of our own");
    open_to_all(folder.path());
    let copy = |from: &Path, name: &str| -> PathBuf {
        let to = folder.path().join(name);
        std::fs::copy(from, &to).unwrap_or_else(|error| panic!("copying {}: {error}", from.display()));
        open_to_all(&to);
        to
    };
    let test = copy(&std::env::current_exe().expect("a running program has a path"), "test");
    let aigo = copy(Path::new(env!("CARGO_BIN_EXE_aigo")), "aigo");
    let user = nix::unistd::User::from_name(PODMAN_USER).ok().flatten().unwrap_or_else(|| {
        panic!("there is no user {PODMAN_USER}; image/setup/podman.sh makes it, AIGO_TEST_PODMAN=none leaves this out")
    });
    let id = user.uid.to_string();
    let status = Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--init-groups"])
        .arg(test)
        .args(["--exact", "as_its_user_rootless_podman_conforms", "--ignored", "--nocapture"])
        .current_dir(folder.path())
        .env("HOME", &user.dir)
        .env("TMPDIR", "/tmp")
        .env("XDG_RUNTIME_DIR", PODMAN_USER_DIR)
        .env(INSIDE, aigo)
        .env_remove("CONTAINER_HOST")
        .status()
        .expect("setpriv is part of Debian");
    assert!(status.success(), "{status}");
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("it is ours");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by rootless_podman_conforms, as the engine's user"]
async fn as_its_user_rootless_podman_conforms() {
    let program = std::env::var_os(INSIDE).expect("run by rootless_podman_conforms");
    let env = HostEnv { program: Some(program.into()), docker_host: None, ..HostEnv::from_process() };
    let (info, left_out) = conforms(Choice::Only(Backend::Podman), &env).await;
    assert!(info.backend == Backend::Podman && info.rootless, "{info:?}");
    let missing = [info.limits.memory, info.limits.cpu, info.limits.pids].contains(&false);
    println!("{left_out} checks not run; limits that this user's engine can enforce: {:?}", info.limits);
    assert!(left_out <= 1 || missing, "only what cannot be enforced may be left out");
}
