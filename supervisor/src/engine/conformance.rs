//! One list of behaviours that every engine is held to, the fake like the real ones.
//!
//! A check says what it wants of a container as a [`Program`]; on a real engine that is a shell script, on the fake a
//! closure ([`fake_engine`]). Everything that a check makes carries the label of its run and is removed by that label.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{ContainerId, ContainerSpec, EngineError, ExitInfo, Labels, SharedEngine};

mod images;
mod life;
mod limits;
mod look;
mod networks;
mod program;
mod refusals;

pub use program::{Program, fake_engine};

/// The label by which everything of a run is found.
pub const LABEL: &str = "aigo.conformance";
/// What one check may take.
const CHECK_DEADLINE: Duration = Duration::from_secs(120);
/// What a container of a check may take to end.
const END_DEADLINE: Duration = Duration::from_secs(30);

/// An engine to examine.
#[derive(Debug, Clone)]
pub struct Bench {
    pub engine: SharedEngine,
    /// An image with a POSIX shell and the usual small tools, bash among them.
    pub image: String,
    run: String,
}

/// What became of one check.
#[derive(Debug)]
pub struct Outcome {
    pub check: &'static str,
    pub result: anyhow::Result<()>,
    /// Why this engine cannot be asked for it, as it says itself; the result is then good.
    pub cannot_run: Option<String>,
    pub took: Duration,
}

/// The engine says itself that it cannot do what a check is about.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct CannotRun(&'static str);

type Check = (&'static str, fn(&Bench) -> BoxFuture<'_, anyhow::Result<()>>);

/// Names a check by its function.
macro_rules! checks {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$((concat!(stringify!($module), "::", stringify!($name)), |bench| $module::$name(bench).boxed())),*]
    };
}

const CHECKS: &[Check] = checks![
    look::tells_who_it_is,
    images::present_and_missing,
    images::imported_and_removed,
    images::built_with_progress,
    life::exit_codes,
    life::killed,
    life::stopped_by_itself,
    life::stopped_by_force,
    life::removed,
    life::ended_ones_are_left_alone,
    refusals::unknown_containers,
    refusals::taken_name,
    refusals::missing_image,
    refusals::missing_mount,
    refusals::missing_network,
    networks::made_listed_removed,
    networks::the_gateway_answers,
    networks::chosen_subnet,
    limits::on_record_and_changed,
    limits::below_a_parent,
    limits::out_of_memory,
    limits::out_of_pids,
    look::mounts_and_environment,
    look::logs_are_bounded,
    look::lists_by_label,
    look::events_in_order,
    look::events_tell_of_memory,
    look::commands_inside,
];

/// Runs every check, one after the other, and cleans up after each.
pub async fn run(engine: SharedEngine, image: &str) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(CHECKS.len());
    for (check, act) in CHECKS {
        let run = Uuid::new_v4().simple().to_string();
        let bench = Bench { engine: engine.clone(), image: image.to_owned(), run };
        let began = tokio::time::Instant::now();
        let acted = tokio::time::timeout(CHECK_DEADLINE, act(&bench))
            .await
            .unwrap_or_else(|_elapsed| Err(anyhow!("it took longer than {CHECK_DEADLINE:?}")));
        let cleaned = bench.clean().await.context("cleaning up after the check");
        let (acted, cannot_run) = match acted {
            Err(error) if error.is::<CannotRun>() => (Ok(()), Some(error.to_string())),
            Err(error) if matches!(error.downcast_ref(), Some(EngineError::Unsupported { .. })) => {
                (Ok(()), Some(error.to_string()))
            }
            other => (other, None),
        };
        outcomes.push(Outcome { check, result: acted.and(cleaned), cannot_run, took: began.elapsed() });
    }
    outcomes
}

impl Bench {
    fn labels(&self) -> Labels {
        Labels::from([(LABEL.to_owned(), self.run.clone())])
    }

    /// A name of this run.
    fn name(&self, suffix: &str) -> String {
        format!("aigo-conformance-{}-{suffix}", &self.run[..12])
    }

    fn spec(&self, suffix: &str, program: &Program) -> ContainerSpec {
        let mut spec = ContainerSpec::new(self.name(suffix), &self.image);
        spec.entrypoint = Some(Vec::new());
        spec.command = Some(program.argv());
        spec.labels = self.labels();
        spec
    }

    async fn launch(&self, spec: &ContainerSpec) -> anyhow::Result<ContainerId> {
        let created = self.engine.create(spec).await?;
        self.engine.start(&created.id).await?;
        Ok(created.id)
    }

    async fn launch_program(&self, suffix: &str, program: &Program) -> anyhow::Result<ContainerId> {
        self.launch(&self.spec(suffix, program)).await
    }

    async fn end(&self, id: &ContainerId) -> anyhow::Result<ExitInfo> {
        tokio::time::timeout(END_DEADLINE, self.engine.wait(id))
            .await
            .map_err(|_elapsed| anyhow!("container {id} did not end in {END_DEADLINE:?}"))?
            .map_err(Into::into)
    }

    /// Runs a container to its end and gives what it printed.
    async fn output(&self, spec: &ContainerSpec) -> anyhow::Result<(ExitInfo, String)> {
        let id = self.launch(spec).await?;
        let end = self.end(&id).await?;
        let output = self.engine.logs(&id, &super::LogsQuery::default()).await?;
        Ok((end, String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// Waits until the container has printed `text`.
    async fn printed(&self, id: &ContainerId, text: &str) -> anyhow::Result<()> {
        let query = super::LogsQuery::default();
        tokio::time::timeout(END_DEADLINE, async {
            loop {
                let output = self.engine.logs(id, &query).await?;
                if String::from_utf8_lossy(&output.stdout).contains(text) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .map_err(|_elapsed| anyhow!("container {id} did not print {text:?}"))?
    }

    async fn clean(&self) -> anyhow::Result<()> {
        for container in self.engine.containers(&self.labels()).await? {
            self.engine.remove(&container.id, true).await?;
        }
        for network in self.engine.networks(&self.labels()).await? {
            self.engine.remove_network(&network.id.0).await?;
        }
        Ok(())
    }
}
