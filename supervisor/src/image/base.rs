//! The base image where the engine does not have it: `image/setup/base-image.sh`, which the binary carries, pulls it with
//! a short deadline or makes it from Debian's archive.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::embedded;
use super::progress::TAIL_LINES;

/// The script has deadlines of its own for each part; this one is for a script that hangs.
const DEADLINE: Duration = Duration::from_secs(30 * 60);
/// For the script to unmount and remove what it has made.
const TERM_GRACE: Duration = Duration::from_secs(15);
/// For the output of a script that has ended: something that it left behind may hold the pipe.
const DRAIN: Duration = Duration::from_secs(2);
/// Lines that wait to be shown.
const QUEUE: usize = 256;

/// Why there is no base image.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    #[error("cannot run the script that makes base images (it needs bash, as every Debian has it)")]
    Start(#[source] io::Error),
    #[error("base image {tag}: {reason}")]
    Failed { tag: String, reason: String, tail: Vec<String> },
    #[error(
        "base image {tag} was not there after {DEADLINE:?}; pull or load it by hand, or name another one with --base"
    )]
    TooSlow { tag: String },
    #[error("cancelled")]
    Cancelled,
}

/// Makes `tag` present in the engine at `endpoint`.
///
/// # Errors
/// [`BaseError::Failed`] carries the script's reason, which names the remedy.
pub async fn make(
    tag: &str,
    endpoint: &str,
    cancel: &CancellationToken,
    said: &mut (dyn FnMut(String) + Send),
) -> Result<(), BaseError> {
    let folder = tempfile::tempdir().map_err(BaseError::Start)?;
    for file in embedded::files() {
        if let Some(name) = file.path.strip_prefix("image/setup/") {
            fs::write(folder.path().join(name), file.bytes).map_err(BaseError::Start)?;
        }
    }
    run(folder.path(), "base-image.sh", tag, endpoint, cancel, said).await
}

async fn run(
    folder: &Path,
    script: &str,
    tag: &str,
    endpoint: &str,
    cancel: &CancellationToken,
    said: &mut (dyn FnMut(String) + Send),
) -> Result<(), BaseError> {
    let mut child = Command::new("bash")
        .arg(folder.join(script))
        .arg(tag)
        .env("DOCKER_HOST", endpoint)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: a signal reaches mmdebstrap too, and the terminal's Ctrl-C only us.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(BaseError::Start)?;
    let (lines, mut queue) = mpsc::channel(QUEUE);
    let mut readers = tokio::task::JoinSet::new();
    if let Some(out) = child.stdout.take() {
        readers.spawn(forward(out, lines.clone()));
    }
    if let Some(err) = child.stderr.take() {
        readers.spawn(forward(err, lines));
    }
    let mut tail: Vec<String> = Vec::new();
    let mut keep = |line: String, tail: &mut Vec<String>| {
        if tail.len() == TAIL_LINES {
            tail.remove(0);
        }
        tail.push(line.clone());
        said(line);
    };
    let deadline = tokio::time::sleep(DEADLINE);
    tokio::pin!(deadline);
    let mut open = true;
    let status = loop {
        tokio::select! {
            () = cancel.cancelled() => {
                end(&mut child).await;
                return Err(BaseError::Cancelled);
            }
            () = &mut deadline => {
                end(&mut child).await;
                return Err(BaseError::TooSlow { tag: tag.to_owned() });
            }
            line = queue.recv(), if open => match line {
                Some(line) => keep(line, &mut tail),
                None => open = false,
            },
            status = child.wait() => break status.map_err(BaseError::Start)?,
        }
    };
    let rest = async {
        while let Some(line) = queue.recv().await {
            keep(line, &mut tail);
        }
    };
    // Nothing more is lost by the deadline than what a left-behind process would still say.
    let _ = tokio::time::timeout(DRAIN, rest).await;
    outcome(tag, status, tail)
}

fn outcome(tag: &str, status: ExitStatus, tail: Vec<String>) -> Result<(), BaseError> {
    if status.success() {
        return Ok(());
    }
    // The script's last word is `base-image: error: …`.
    let reason = tail.iter().rev().find_map(|line| line.split_once("error: ").map(|(_, reason)| reason.to_owned()));
    let reason = reason.unwrap_or_else(|| format!("the script that makes it ended with {status}"));
    Err(BaseError::Failed { tag: tag.to_owned(), reason, tail })
}

async fn forward(stream: impl AsyncRead + Unpin, lines: mpsc::Sender<String>) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if lines.send(text).await.is_err() {
            return;
        }
        line.clear();
    }
}

/// SIGTERM to the group, then kill.
async fn end(child: &mut Child) {
    // A child that was not waited for keeps its id, so the group is still the script's.
    let Some(group) = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) else { return };
    let _ = killpg(group, Signal::SIGTERM);
    if tokio::time::timeout(TERM_GRACE, child.wait()).await.is_err() {
        let _ = killpg(group, Signal::SIGKILL);
        let _ = child.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run_text(text: &str, cancel: &CancellationToken) -> (Result<(), BaseError>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("s.sh"), text).unwrap();
        let mut said = Vec::new();
        let result = run(folder.path(), "s.sh", "debian:x", "unix:///e", cancel, &mut |line| said.push(line)).await;
        (result, said)
    }

    #[tokio::test]
    async fn its_words_are_passed_on() {
        let (result, mut said) = run_text("echo $1 $DOCKER_HOST; echo two >&2", &CancellationToken::new()).await;
        result.unwrap();
        said.sort();
        assert_eq!(said, ["debian:x unix:///e", "two"]);
    }

    #[tokio::test]
    async fn its_reason_is_the_error() {
        let text = "echo 'base-image: error: needs root' >&2; exit 1";
        let (result, _) = run_text(text, &CancellationToken::new()).await;
        assert_eq!(result.unwrap_err().to_string(), "base image debian:x: needs root");
        let (result, _) = run_text("exit 9", &CancellationToken::new()).await;
        assert!(result.unwrap_err().to_string().contains('9'));
    }

    #[tokio::test]
    async fn cancelling_lets_it_clean_up() {
        let cancel = CancellationToken::new();
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let text =
            format!("trap 'echo cleaned >{0}; exit 1' TERM; echo ready; while :; do sleep 0.1; done", mark.display());
        fs::write(folder.path().join("s.sh"), text).unwrap();
        let stop = cancel.clone();
        let result = run(folder.path(), "s.sh", "t", "e", &cancel, &mut |_| stop.cancel()).await;
        assert!(matches!(result, Err(BaseError::Cancelled)));
        assert_eq!(fs::read_to_string(mark).unwrap(), "cleaned\n");
    }

    #[test]
    fn the_script_is_carried() {
        for name in ["image/setup/base-image.sh", "image/setup/lib.sh"] {
            assert!(embedded::bytes(name).is_some_and(|bytes| bytes.starts_with(b"#")), "{name}");
        }
    }
}
