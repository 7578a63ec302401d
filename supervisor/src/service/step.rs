//! A step: shown, or done. Done twice, it changes nothing the second time.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// Longest that a service manager's tool may take: it waits for readiness, whose own limit is shorter.
const COMMAND_LIMIT: Duration = Duration::from_secs(180);
const _: () =
    assert!(COMMAND_LIMIT.as_secs() > super::systemd::START_LIMIT.as_secs() + super::systemd::STOP_LIMIT.as_secs() - 1);

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Make a folder, and those above it.
    Folder {
        /// Which.
        path: PathBuf,
        /// Its permission bits if it is made.
        mode: u32,
    },
    /// Write a file, all at once.
    Write {
        /// Which.
        path: PathBuf,
        /// What is in it.
        content: String,
        /// Its permission bits.
        mode: u32,
    },
    /// Write a file that people then own.
    WriteIfMissing {
        /// Which.
        path: PathBuf,
        /// What is in it.
        content: String,
        /// Its permission bits.
        mode: u32,
    },
    /// Remove a file.
    Remove {
        /// Which.
        path: PathBuf,
    },
    /// Run a program; it has to succeed.
    Run {
        /// Program and arguments.
        command: Vec<String>,
    },
    /// Run a program that fails where there is nothing to do.
    Try {
        /// Program and arguments.
        command: Vec<String>,
    },
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is done.
    Done,
    /// It was so already.
    Unchanged,
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A file or folder.
    #[error("cannot {verb} {path}")]
    File {
        /// What was to be done.
        verb: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program that cannot be started.
    #[error("cannot run {program}; is it in PATH?")]
    Start {
        /// Which.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program that failed.
    #[error("`{command}` failed: {said}")]
    Failed {
        /// The whole command line.
        command: String,
        /// What it said.
        said: String,
    },
    /// A program that hangs.
    #[error("`{command}` did not end within {} s", COMMAND_LIMIT.as_secs())]
    TooSlow {
        /// The whole command line.
        command: String,
    },
}

impl Step {
    /// Does it.
    ///
    /// # Errors
    /// [`StepError`]; what was done before stays, and the next try goes on from there.
    pub async fn perform(&self) -> Result<Outcome, StepError> {
        match self {
            Self::Folder { path, mode } => folder(path, *mode),
            Self::Write { path, content, mode } => write(path, content, *mode),
            Self::WriteIfMissing { path, .. } if path.exists() => Ok(Outcome::Unchanged),
            Self::WriteIfMissing { path, content, mode } => write(path, content, *mode),
            Self::Remove { path } => remove(path),
            Self::Run { command } => output(command).await.map(|_| Outcome::Done),
            Self::Try { command } => match output(command).await {
                Ok(_) => Ok(Outcome::Done),
                Err(StepError::Failed { .. }) => Ok(Outcome::Unchanged),
                Err(error) => Err(error),
            },
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder { path, .. } => write!(f, "make the folder {}", path.display()),
            Self::Write { path, .. } => write!(f, "write {}", path.display()),
            Self::WriteIfMissing { path, .. } => write!(f, "write {}, if it is missing", path.display()),
            Self::Remove { path } => write!(f, "remove {}", path.display()),
            Self::Run { command } | Self::Try { command } => write!(f, "run {}", command.join(" ")),
        }
    }
}

fn folder(path: &Path, mode: u32) -> Result<Outcome, StepError> {
    if path.is_dir() {
        return Ok(Outcome::Unchanged);
    }
    let failed = |source| StepError::File { verb: "make the folder", path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed)?;
    // The mode of mkdir(2) is cut by the umask.
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)?;
    Ok(Outcome::Done)
}

/// Writes beside the file and renames: a reader sees the old file or the new one, also after a power cut.
fn write(path: &Path, content: &str, mode: u32) -> Result<Outcome, StepError> {
    if fs::read_to_string(path).is_ok_and(|now| now == content) {
        return Ok(Outcome::Unchanged);
    }
    let attempt = || {
        let folder = path.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(content.as_bytes())?;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    };
    attempt().map_err(|source| StepError::File { verb: "write", path: path.to_owned(), source })?;
    Ok(Outcome::Done)
}

fn remove(path: &Path) -> Result<Outcome, StepError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(Outcome::Done),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Outcome::Unchanged),
        Err(source) => Err(StepError::File { verb: "remove", path: path.to_owned(), source }),
    }
}

/// Runs a program to its end and gives what it printed.
pub(super) async fn output(command: &[String]) -> Result<String, StepError> {
    let line = || command.join(" ");
    let (program, arguments) = command.split_first().map_or(("", &[][..]), |(program, rest)| (program.as_str(), rest));
    let mut child = Command::new(program);
    child.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(COMMAND_LIMIT, child.output()).await;
    let output = output.map_err(|_| StepError::TooSlow { command: line() })?;
    let output = output.map_err(|source| StepError::Start { program: program.to_owned(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let said = if said.is_empty() { output.status.to_string() } else { said };
    Err(StepError::Failed { command: line(), said })
}
