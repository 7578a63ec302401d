//! Building an image: the context is unpacked into a folder of ours, which the command hands to its builder (BuildKit in a
//! virtual machine of its own). A root file system is imported by a recipe of two lines.

use std::io::Write as _;
use std::path::Path;

use bytes::Bytes;
use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::cli::Cli;
use super::progress::Tracker;
use super::{error, image};
use crate::engine::error::clip;
use crate::engine::{BuildOptions, BuildProgress, EngineError, ImageId, ProgressSink, TarStream, deadline};

const WHAT: &str = "build an image";
/// The longest line of output that is kept together; a longer one is cut.
const MAX_LINE: u64 = 8 * 1024;
/// A root file system as an image of one layer: `ADD` unpacks archives.
const IMPORT: &str = "FROM scratch\nADD root.tar /\n";
const ROOT: &str = "root.tar";
const RECIPE: &str = "Dockerfile";

fn broken(error: &std::io::Error) -> EngineError {
    EngineError::Refused { what: WHAT, message: format!("the context cannot be unpacked: {error}") }
}

pub(super) async fn build(
    cli: &Cli,
    context: Bytes,
    options: &BuildOptions,
    progress: &ProgressSink,
) -> Result<ImageId, EngineError> {
    let unpack = move || -> std::io::Result<TempDir> {
        let folder = tempfile::tempdir()?;
        tar::Archive::new(&*context).unpack(folder.path())?;
        Ok(folder)
    };
    let folder = blocking(unpack).await?;
    in_folder(cli, folder.path(), options, progress).await
}

pub(super) async fn import(cli: &Cli, mut root: TarStream, tag: &str) -> Result<ImageId, EngineError> {
    deadline::within("import a root file system", deadline::IMPORT, async {
        let (folder, mut file) = blocking(|| {
            let folder = tempfile::tempdir()?;
            std::fs::write(folder.path().join(RECIPE), IMPORT)?;
            let file = std::fs::File::create(folder.path().join(ROOT))?;
            Ok((folder, file))
        })
        .await?;
        while let Some(piece) = root.next().await {
            let piece = piece.map_err(|error| broken(&error))?;
            file = blocking(move || file.write_all(&piece).map(|()| file)).await?;
        }
        drop(file);
        // Nobody listens: of two steps there is nothing to tell.
        let (progress, _) = tokio::sync::mpsc::channel(1);
        let options = BuildOptions { tag: tag.to_owned(), ..BuildOptions::default() };
        in_folder(cli, folder.path(), &options, &progress).await
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, EngineError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other);
    done.flatten().map_err(|error| broken(&error))
}

fn arguments(folder: &str, options: &BuildOptions) -> Result<Vec<String>, EngineError> {
    let BuildOptions { tag, recipe, target, args, labels, no_cache, network } = options;
    if network.is_some() {
        return Err(error::unsupported("choose the network of a build", "leave it to its builder"));
    }
    let recipe = if recipe.is_empty() { RECIPE } else { recipe };
    let mut words: Vec<String> =
        ["build", "--progress", "plain", "--tag", tag, "--file", &format!("{folder}/{recipe}")]
            .map(str::to_owned)
            .into();
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    if let Some(target) = target {
        add("--target", target.clone());
    }
    for (key, value) in args {
        add("--build-arg", format!("{key}={value}"));
    }
    for (key, value) in labels {
        add("--label", format!("{key}={value}"));
    }
    if *no_cache {
        words.push("--no-cache".to_owned());
    }
    words.push(folder.to_owned());
    Ok(words)
}

async fn in_folder(
    cli: &Cli,
    folder: &Path,
    options: &BuildOptions,
    progress: &ProgressSink,
) -> Result<ImageId, EngineError> {
    let path = folder.to_str().ok_or_else(|| broken(&std::io::Error::other("TMPDIR is no UTF-8")))?;
    let mut run = cli.spawn_told(&arguments(path, options)?)?;
    let mut tracker = Tracker::default();
    if let Some(said) = run.stderr.take() {
        let mut said = BufReader::new(said);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = async {
                let count = (&mut said).take(MAX_LINE).read_until(b'\n', &mut line).await;
                count.map_err(|error| EngineError::Lost { what: WHAT, reason: error.to_string() })
            };
            if deadline::within("go on with the build", deadline::BUILD_SILENCE, read).await? == 0 {
                break;
            }
            tell(progress, tracker.line(&String::from_utf8_lossy(&line))).await;
        }
    }
    let lost = |error: std::io::Error| EngineError::Lost { what: WHAT, reason: error.to_string() };
    let status = deadline::within(WHAT, deadline::BUILD_SILENCE, async { run.wait().await.map_err(lost) }).await?;
    if !status.success() {
        let failure = tracker.failure();
        return Err(match &failure {
            EngineError::BuildFailed { message, .. } if message.to_lowercase().contains("no space left on device") => {
                EngineError::NoSpace { what: WHAT, message: clip(message) }
            }
            _ => failure,
        });
    }
    let made = image::inspect(cli, &options.tag).await?;
    let nothing = || EngineError::Malformed { what: WHAT, message: "the build ended without an image".to_owned() };
    made.map(|image| image.id).ok_or_else(nothing)
}

/// A reader that left is no reason to stop.
async fn tell(progress: &ProgressSink, said: Vec<BuildProgress>) {
    for event in said {
        if progress.send(event).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Labels;

    #[test]
    fn options_become_words() {
        let options = BuildOptions {
            tag: "i:1".into(),
            target: Some("t".into()),
            args: Labels::from([("A".to_owned(), "1".to_owned())]),
            labels: Labels::from([("l".to_owned(), "2".to_owned())]),
            no_cache: true,
            ..BuildOptions::default()
        };
        let expected = "build --progress plain --tag i:1 --file /c/Dockerfile --target t --build-arg A=1 --label l=2 --no-cache /c";
        assert_eq!(arguments("/c", &options).unwrap().join(" "), expected);
        let elsewhere = BuildOptions { network: Some("host".into()), ..options };
        assert!(arguments("/c", &elsewhere).is_err());
    }
}
