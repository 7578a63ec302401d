//! The build from beginning to end. See [`image`](super) for the picture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Zoned;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::certificates::{self, Sources};
use super::context::Context;
use super::lock::{self, BuildLock};
use super::log::BuildLog;
use super::prebuilt::{self, Prebuilt};
use super::progress::{Phase, Progress, Tracker};
use super::recipe::Recipe;
use super::versions::{self, LABEL_BASE, LABEL_BUILD, Versions};
use super::{ImageError, base, embedded};
use crate::dirs::DataDir;
use crate::engine::{BuildOptions, BuildProgress, ContainerId, Engine, EngineError, Labels};
use crate::policy::image_name;

/// The build arguments that builders know without being declared, and that never enter the image.
const PROXY_VARIABLES: [&str; 8] =
    ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"];
/// Reports that wait to be taken in.
const QUEUE: usize = 256;

/// What to build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    pub tag: String,
    pub base: String,
    pub no_cache: bool,
    /// Files with CA certificates, beside those that are found on the host.
    pub certificates: Vec<PathBuf>,
    /// The runner to put in; if `None`, one that lies beside the executable, else it is built from source.
    pub runner: Option<PathBuf>,
    pub host: HostSettings,
}

/// What of this host goes into a build.
#[derive(Debug, Clone, Default)]
pub struct HostSettings {
    pub certificates: Sources,
    /// Proxy variables and their values.
    pub proxy: BTreeMap<String, String>,
    /// Places where a prebuilt runner may lie.
    pub runners: Vec<PathBuf>,
}

impl HostSettings {
    /// This process's.
    #[must_use]
    pub fn of_process() -> Self {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let exe = std::env::current_exe().and_then(|path| path.canonicalize()).ok();
        Self {
            certificates: Sources::of_host(env),
            proxy: PROXY_VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), env(name)?))).collect(),
            runners: exe.as_deref().map(prebuilt::candidates).unwrap_or_default(),
        }
    }
}

/// A new image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Built {
    pub tag: String,
    pub id: String,
    /// Bytes, shared layers included.
    pub size: u64,
    #[serde(flatten)]
    pub versions: Versions,
    pub millis: u64,
    pub log: PathBuf,
}

/// Builds the image and gives it its tag at the very end, so that a failed or cancelled build leaves the old one.
///
/// # Errors
/// See [`ImageError`]; after `cancel` it is [`ImageError::Cancelled`], with nothing of the build running any more.
pub async fn build(
    engine: &dyn Engine,
    dirs: &DataDir,
    request: &BuildRequest,
    cancel: &CancellationToken,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<Built, ImageError> {
    image_name::check(&request.tag)?;
    image_name::check(&request.base)?;
    let _lock = BuildLock::take(dirs.root(), &request.tag)?;
    let log = BuildLog::create(&dirs.logs(), &Zoned::now())
        .map_err(|source| ImageError::Log { path: dirs.logs(), source })?;
    let path = log.path().to_owned();
    let mut job = Job { engine, request, cancel, log, progress: &mut progress };
    let result = job.run(&path).await;
    if let Err(error) = &result {
        job.log.line(&format!("error: {error}"));
    }
    result
}

struct Job<'a> {
    engine: &'a dyn Engine,
    request: &'a BuildRequest,
    cancel: &'a CancellationToken,
    log: BuildLog,
    progress: &'a mut (dyn FnMut(Progress) + Send),
}

impl Job<'_> {
    async fn run(&mut self, log: &Path) -> Result<Built, ImageError> {
        let began = Instant::now();
        let tag = &self.request.tag;
        self.phase(Phase::Prepare, "collecting what goes in".to_owned());
        let engine = self.engine.detect().await?;
        let (context, arguments) = self.prepare(&engine.architecture).await?;
        self.base(&engine.endpoint).await?;

        // Only one build of this tag runs, so what carries these names is a dead build's.
        let unlabelled = format!("aigo-build:{}", lock::word(tag));
        self.sweep().await?;
        let result = self.build_and_label(context, arguments, &unlabelled, log).await;
        // In every case; the labelled image keeps the layers.
        let cleaned = self.engine.remove_image(&unlabelled).await;
        let versions = result?;
        cleaned?;

        let image = self.engine.image(tag).await?.ok_or_else(|| EngineError::ImageMissing { tag: tag.clone() })?;
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let built = Built { tag: tag.clone(), id: image.id.0, size: image.size, versions, millis, log: log.to_owned() };
        self.log.line(&format!("built {tag} as {}, {} bytes, in {} ms", built.id, built.size, built.millis));
        Ok(built)
    }

    /// The context and the build arguments.
    async fn prepare(&mut self, architecture: &str) -> Result<(Context, BTreeMap<String, String>), ImageError> {
        let mut context = Context::embedded();
        let extra = certificates::collect(&self.request.host.certificates, &self.request.certificates)?;
        for warning in &extra.warnings {
            self.warn(warning.clone());
        }
        self.note(format!("{} CA certificates beyond Debian's own go into the image", extra.len()));
        for (name, pem) in extra.files() {
            context.put(format!("image/ca/{name}"), pem);
        }
        let mut arguments = self.request.host.proxy.clone();
        for (name, value) in &self.request.host.proxy {
            if names_loopback(value) && !name.eq_ignore_ascii_case("no_proxy") {
                self.warn(format!("{name} names this host's loopback address, which the build cannot reach"));
            }
        }
        arguments.insert("BASE_IMAGE".to_owned(), self.request.base.clone());
        let runner = match self.runner(architecture).await? {
            Some(runner) => {
                self.note(format!("the runner is {}", runner.path.display()));
                context.put_program("image/prebuilt/aigo-runner", runner.bytes);
                "prebuilt"
            }
            None => {
                self.note("the runner is built from source".to_owned());
                "source"
            }
        };
        arguments.insert("RUNNER".to_owned(), runner.to_owned());
        Ok((context, arguments))
    }

    /// A named runner must be good; one that was found is used if it is.
    async fn runner(&mut self, architecture: &str) -> Result<Option<Prebuilt>, ImageError> {
        if let Some(path) = &self.request.runner {
            return Ok(Some(prebuilt::load(path, architecture).await?));
        }
        for path in self.request.host.runners.iter().filter(|path| path.is_file()) {
            match prebuilt::load(path, architecture).await {
                Ok(runner) => return Ok(Some(runner)),
                Err(error) => self.note(format!("not used: {error}")),
            }
        }
        Ok(None)
    }

    async fn base(&mut self, endpoint: &str) -> Result<(), ImageError> {
        let tag = self.request.base.clone();
        self.phase(Phase::Base, tag.clone());
        if self.engine.image(&tag).await?.is_some() {
            return Ok(());
        }
        let (log, progress) = (&mut self.log, &mut *self.progress);
        let mut said = |line: String| {
            log.line(&line);
            progress(Progress::Line { line });
        };
        Ok(base::make(&tag, endpoint, self.cancel, &mut said).await?)
    }

    /// Removes what a killed build of this tag left.
    async fn sweep(&mut self) -> Result<(), ImageError> {
        let labels = Labels::from([(LABEL_BUILD.to_owned(), self.request.tag.clone())]);
        for container in self.engine.containers(&labels).await? {
            self.engine.remove(&container.id, true).await?;
        }
        Ok(())
    }

    async fn build_and_label(
        &mut self,
        context: Context,
        arguments: BTreeMap<String, String>,
        unlabelled: &str,
        log: &Path,
    ) -> Result<Versions, ImageError> {
        let expected = Recipe::parse(embedded::recipe()).steps(&arguments);
        self.phase(Phase::Build, self.request.tag.clone());
        let options = BuildOptions {
            tag: unlabelled.to_owned(),
            args: arguments,
            no_cache: self.request.no_cache,
            ..BuildOptions::default()
        };
        self.engine_build(&context, &options, expected, log).await?;

        self.phase(Phase::Label, "reading the versions of the tools".to_owned());
        let versions = self.versions(unlabelled, log).await?;
        let mut labels = versions.labels();
        labels.insert(LABEL_BASE.to_owned(), self.request.base.clone());
        let mut context = Context::default();
        context.put("Dockerfile", format!("FROM {unlabelled}\n").into_bytes());
        let options = BuildOptions { tag: self.request.tag.clone(), labels, ..BuildOptions::default() };
        self.engine_build(&context, &options, 1, log).await?;
        Ok(versions)
    }

    async fn versions(&mut self, image: &str, log: &Path) -> Result<Versions, ImageError> {
        let name = format!("aigo-versions-{}", uuid::Uuid::new_v4().simple());
        let read = tokio::select! {
            read = versions::read(self.engine, image, &name, &self.request.tag) => {
                read.map_err(|source| ImageError::Versions { source, log: log.to_owned() })
            }
            () = self.cancel.cancelled() => Err(ImageError::Cancelled),
        };
        self.engine.remove(&ContainerId(name), true).await?;
        let versions = read?;
        for (tool, version) in &versions.tools {
            self.log.line(&format!("{tool} {version}"));
        }
        Ok(versions)
    }

    /// One build by the engine, with its reports on the way to log and model.
    async fn engine_build(
        &mut self,
        context: &Context,
        options: &BuildOptions,
        expected: u32,
        log: &Path,
    ) -> Result<(), ImageError> {
        let archive = context.tar().map_err(ImageError::Context)?;
        let (sink, mut reports) = mpsc::channel(QUEUE);
        let mut tracker = Tracker::new(expected);
        let result = {
            let building = self.engine.build(archive, options, &sink);
            tokio::pin!(building);
            loop {
                tokio::select! {
                    biased;
                    // Dropping the future cancels the build, which is a law of the trait.
                    () = self.cancel.cancelled() => return Err(ImageError::Cancelled),
                    Some(report) = reports.recv() => self.take(&mut tracker, report),
                    result = &mut building => break result,
                }
            }
        };
        while let Ok(report) = reports.try_recv() {
            self.take(&mut tracker, report);
        }
        match result {
            Ok(_id) => Ok(()),
            Err(EngineError::BuildFailed { step, message }) => {
                Err(ImageError::Failed { step, message, tail: tracker.tail_of_failure(), log: log.to_owned() })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn take(&mut self, tracker: &mut Tracker, report: BuildProgress) {
        match &report {
            BuildProgress::Step { name, .. } => self.log.line(&format!("==> {name}")),
            BuildProgress::Cached { name, .. } => self.log.line(&format!("==> {name} (cached)")),
            BuildProgress::Done { name, .. } => self.log.line(&format!("<== {name}")),
            BuildProgress::Log { line, .. } => self.log.line(line),
            BuildProgress::Warning { message } => self.log.line(&format!("warning: {message}")),
            BuildProgress::Failed { name, message, .. } => self.log.line(&format!("failed: {name}: {message}")),
        }
        if let Some(progress) = tracker.take(report, Instant::now()) {
            (self.progress)(progress);
        }
    }

    fn phase(&mut self, phase: Phase, detail: String) {
        self.log.line(&format!("# {phase:?}: {detail}"));
        (self.progress)(Progress::Phase { phase, detail });
    }

    fn note(&mut self, line: String) {
        self.log.line(&line);
        (self.progress)(Progress::Line { line });
    }

    fn warn(&mut self, message: String) {
        self.log.line(&format!("warning: {message}"));
        (self.progress)(Progress::Warning { message });
    }
}

/// Whether a proxy's URL names this host only.
fn names_loopback(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    ["127.", "localhost", "[::1]"].iter().any(|loopback| host.starts_with(loopback))
}

/// How long a build took, for people.
impl Built {
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_millis(self.millis)
    }
}

#[cfg(test)]
mod tests;
