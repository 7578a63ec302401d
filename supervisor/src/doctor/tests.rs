//! The whole report, on an engine in memory.

use std::sync::Arc;

use super::*;
use crate::engine::fake::{Call, FakeEngine};

const IMAGE: &str = "aigo-agent-runner:latest";

async fn report(fake: &FakeEngine, data: &Path) -> Report {
    let engine: SharedEngine = Arc::new(fake.clone());
    // Made by us, so that its mode is ours whatever the umask; a folder that exists is left as it is.
    let dirs = DataDir::open(Some(&data.join("data")), |_| None);
    // A port that nobody listens on, whatever runs on the machine of the test.
    let listen = ([127, 0, 0, 1], 9).into();
    let subject = Subject { engine: Ok(engine), dirs, image: IMAGE, listen, kernel_settings: data };
    // A port that nobody listens on: no test asks the real upstream.
    let env = |name: &str| (name == "ANTHROPIC_BASE_URL").then(|| OsString::from("http://127.0.0.1:9"));
    run(&subject, &env, &CancellationToken::new()).await
}

fn verdict(report: &Report, name: &str) -> Verdict {
    report.checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no check {name}")).status
}

#[tokio::test]
async fn every_check_is_reported_once_with_a_remedy_where_it_is_not_good() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeEngine::new();
    fake.add_image(IMAGE);
    let report = report(&fake, folder.path()).await;
    let mut names: Vec<&str> = report.checks.iter().map(|check| check.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    assert_eq!(verdict(&report, "engine"), Verdict::Ok);
    assert_eq!(verdict(&report, "credential"), Verdict::Failed);
    assert_eq!(verdict(&report, "model API"), Verdict::Warning);
    assert!(!report.is_good());
    for check in &report.checks {
        let needs = matches!(check.status, Verdict::Warning | Verdict::Failed);
        assert_eq!(check.remedy.is_some(), needs, "{check:?}");
        assert!(!check.detail.is_empty());
    }
    assert_eq!(fake.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn without_the_image_the_gateway_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let report = report(&FakeEngine::new(), folder.path()).await;
    assert_eq!(verdict(&report, "image"), Verdict::Failed);
    assert_eq!(verdict(&report, "network"), Verdict::Ok);
    assert_eq!(verdict(&report, "gateway"), Verdict::Skipped);
}

#[tokio::test]
async fn an_engine_that_is_away_is_one_failure_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let fake = FakeEngine::new();
    fake.engine_down();
    let report = report(&fake, folder.path()).await;
    assert_eq!(verdict(&report, "engine"), Verdict::Failed);
    for name in ["cgroups", "limits", "swap", "agent limits", "image", "network", "gateway", "engine disk", "leftovers"]
    {
        assert_eq!(verdict(&report, name), Verdict::Skipped, "{name}");
    }
    assert_eq!(verdict(&report, "data directory"), Verdict::Ok);
}

#[tokio::test]
async fn a_failing_lookup_is_told_where_it_happens() {
    let folder = tempfile::tempdir().unwrap();
    for (call, nth, name) in
        [(Call::Image, 1, "image"), (Call::CreateNetwork, 1, "network"), (Call::Containers, 2, "leftovers")]
    {
        let fake = FakeEngine::new();
        fake.add_image(IMAGE);
        fake.fail_at(call, nth, EngineError::Refused { what: "do it", message: "out of order".into() });
        let report = report(&fake, folder.path()).await;
        assert_eq!(verdict(&report, name), Verdict::Failed, "{report:?}");
    }
}
