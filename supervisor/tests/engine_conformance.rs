//! The one list of engine behaviours, on the fake and on the real engine of this machine.
//!
//! `AIGO_TEST_ENGINE=none` says that there is no engine here, and then nothing is asked of one; without it an engine
//! that does not answer fails the test. `AIGO_TEST_IMAGE` names an image with a shell (default: the base image).

use std::time::Duration;

use supervisor::engine::SharedEngine;
use supervisor::engine::conformance::{HostSide, Outcome, fake_engine, run};
use supervisor::engine::detect::{Choice, connect};
use supervisor::engine::docker::HostEnv;

const DEFAULT_IMAGE: &str = "debian:trixie-slim";

fn judge(outcomes: &[Outcome]) {
    for outcome in outcomes {
        let verdict = if outcome.result.is_ok() { "ok" } else { "FAILED" };
        println!("{verdict:6} {:6} ms  {}", outcome.took.as_millis(), outcome.check);
    }
    let failed: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| Some(format!("{}: {:#}", outcome.check, outcome.result.as_ref().err()?)))
        .collect();
    assert!(failed.is_empty(), "{} of {} checks failed:\n{}", failed.len(), outcomes.len(), failed.join("\n"));
}

/// The real engine, or `None` where the environment says that there is none.
async fn real_engine() -> Option<(SharedEngine, String)> {
    if std::env::var("AIGO_TEST_ENGINE").is_ok_and(|value| value == "none") {
        println!("no real engine is asked: AIGO_TEST_ENGINE=none");
        return None;
    }
    let engine = connect(Choice::Auto, &HostEnv::from_process())
        .await
        .unwrap_or_else(|error| panic!("{error}; or set AIGO_TEST_ENGINE=none to run without"));
    let image = std::env::var("AIGO_TEST_IMAGE").unwrap_or_else(|_| DEFAULT_IMAGE.to_owned());
    let present = engine.image(&image).await;
    assert!(
        matches!(present, Ok(Some(_))),
        "the test image {image} is not present; build the base image, or name one with AIGO_TEST_IMAGE"
    );
    Some((engine, image))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fake_conforms() {
    judge(&run(fake_engine("image:test"), "image:test", HostSide::Loopback).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_engine_conforms() {
    let Some((engine, image)) = real_engine().await else { return };
    let all = tokio::time::timeout(Duration::from_secs(600), run(engine, &image, HostSide::Gateway)).await;
    judge(&all.expect("the suite takes less than ten minutes"));
}
