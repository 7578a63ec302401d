//! The build's order and what it leaves, on an engine in memory.

use std::fs;

use super::*;
use crate::engine::fake::{Call, FakeEngine};

const TAG: &str = "t:1";
const BASE: &str = "base:1";
const VERSIONS: &str = r#"{"version":{"python":"3.12.1","runner":"0.1.0"},"pythonSource":"uv"}"#;

struct Setup {
    fake: FakeEngine,
    folder: tempfile::TempDir,
    request: BuildRequest,
}

fn setup() -> Setup {
    let fake = FakeEngine::with(BASE, |run| async move {
        assert_eq!(run.argv(), ["cat", "/usr/share/aigo/versions.json"]);
        run.print(VERSIONS);
        0
    });
    let request = BuildRequest {
        tag: TAG.into(),
        base: BASE.into(),
        no_cache: false,
        certificates: vec![],
        runner: None,
        host: HostSettings::default(),
    };
    Setup { fake, folder: tempfile::tempdir().unwrap(), request }
}

impl Setup {
    async fn build(&self, cancel: &CancellationToken) -> (Result<Built, ImageError>, Vec<Progress>) {
        let dirs = DataDir::open(Some(self.folder.path()), |_| None).unwrap();
        let mut said = Vec::new();
        let result = build(&self.fake, &dirs, &self.request, cancel, |progress| said.push(progress)).await;
        (result, said)
    }

    /// Tags that were removed.
    fn untagged(&self) -> Vec<String> {
        let calls = self.fake.calls();
        calls.into_iter().filter(|record| record.call == Call::RemoveImage).map(|record| record.subject).collect()
    }
}

#[tokio::test]
async fn the_new_image_carries_the_versions() {
    let setup = setup();
    let (built, said) = setup.build(&CancellationToken::new()).await;
    let built = built.unwrap();
    assert_eq!(built.versions.tool("python"), Some("3.12.1"));
    let image = setup.fake.image(TAG).await.unwrap().unwrap();
    assert_eq!(image.labels["aigo.image.version.runner"], "0.1.0");
    assert_eq!(image.labels["aigo.image.python.source"], "uv");
    assert_eq!(image.labels["aigo.image.base"], BASE);
    assert_eq!(setup.untagged(), ["aigo-build:t_1"]);
    assert_eq!(setup.fake.leftovers(), Vec::<String>::new());
    let log = fs::read_to_string(&built.log).unwrap();
    assert!(log.contains("FROM scratch") && log.contains("python 3.12.1"), "{log}");
    let phases: Vec<Phase> = said
        .iter()
        .filter_map(|progress| match progress {
            Progress::Phase { phase, .. } => Some(*phase),
            Progress::Step { .. } | Progress::StepDone { .. } | Progress::Line { .. } | Progress::Warning { .. } => {
                None
            }
        })
        .collect();
    assert_eq!(phases, [Phase::Prepare, Phase::Base, Phase::Build, Phase::Label]);
    let status = crate::image::status(&setup.fake, TAG).await.unwrap();
    assert_eq!(status.image.unwrap().runner_matches, Some(true));
}

#[tokio::test]
async fn a_failed_step_names_itself_and_the_log() {
    let setup = setup();
    let failure = EngineError::BuildFailed { step: "[1/2] RUN x".into(), message: "exit code: 1".into() };
    setup.fake.fail_at(Call::Build, 1, failure);
    let (result, _) = setup.build(&CancellationToken::new()).await;
    let error = result.unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, ImageError::Failed { .. }) && text.contains("RUN x") && text.contains("image-build-"),
        "{text}"
    );
    assert!(setup.fake.image(TAG).await.unwrap().is_none());
    // The lock went with the failed build.
    setup.build(&CancellationToken::new()).await.0.unwrap();
}

#[tokio::test]
async fn whatever_call_fails_nothing_is_left() {
    for (call, nth) in
        [(Call::Build, 1), (Call::Build, 2), (Call::Create, 1), (Call::Start, 1), (Call::Wait, 1), (Call::Logs, 1)]
    {
        let setup = setup();
        setup.fake.fail_at(call, nth, EngineError::Refused { what: "do it", message: "no".into() });
        setup.build(&CancellationToken::new()).await.0.unwrap_err();
        assert_eq!(setup.untagged(), ["aigo-build:t_1"], "{call:?}");
        assert_eq!(setup.fake.leftovers(), Vec::<String>::new(), "{call:?}");
        assert!(setup.fake.image(TAG).await.unwrap().is_none(), "{call:?}");
    }
}

#[tokio::test]
async fn cancelling_ends_a_build_that_hangs() {
    for (call, nth) in [(Call::Build, 1), (Call::Wait, 1)] {
        let setup = setup();
        setup.fake.hang_at(call, nth);
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            stop.cancel();
        });
        assert!(matches!(setup.build(&cancel).await.0, Err(ImageError::Cancelled)), "{call:?}");
        assert_eq!(setup.fake.leftovers(), Vec::<String>::new());
        assert_eq!(setup.untagged(), ["aigo-build:t_1"]);
    }
}

#[tokio::test]
async fn wrong_words_are_refused_before_anything_starts() {
    for (tag, base) in [("Bad Tag", BASE), (TAG, "../x")] {
        let mut setup = setup();
        (setup.request.tag, setup.request.base) = (tag.into(), base.into());
        let error = setup.build(&CancellationToken::new()).await.0.unwrap_err();
        assert!(error.is_usage() && setup.fake.calls().is_empty(), "{error}");
    }
}

#[test]
fn proxies_on_loopback_are_known() {
    for url in ["http://127.0.0.1:3128", "localhost:8080", "http://user:word@localhost:1", "http://[::1]:1"] {
        assert!(names_loopback(url), "{url}");
    }
    for url in ["http://proxy.example:3128", "http://10.0.0.1"] {
        assert!(!names_loopback(url), "{url}");
    }
}
