//! The engine as others see it: through the `docker` command line, not through the code that is tested.

use std::process::{Command, Stdio};

use supervisor::plan::LABEL_INSTANCE;

/// `none` means that there is no engine on this machine, and that this is known.
pub const VARIABLE: &str = "AIGO_TEST_ENGINE";

/// Names another image than the default one.
pub const IMAGE_VARIABLE: &str = "AIGO_TEST_IMAGE";

/// The image that tests run agents in.
#[must_use]
pub fn image() -> String {
    std::env::var(IMAGE_VARIABLE).unwrap_or_else(|_| supervisor::request::DEFAULT_IMAGE.to_owned())
}

/// Whether tests that need an engine are to run. Says why, where they are not.
///
/// # Panics
/// If no engine answers and nobody said that this is as it should be.
pub fn is_wanted() -> bool {
    if std::env::var(VARIABLE).is_ok_and(|value| value == "none") {
        println!("not run: {VARIABLE}=none, and this behaviour needs a container engine");
        return false;
    }
    if let Err(error) = docker(&["version", "--format", "{{.Server.Version}}"]) {
        panic!(
            "no container engine answers ({error}); `make test` brings one up, {VARIABLE}=none leaves these tests out"
        );
    }
    true
}

/// Runs `docker` and gives what it prints.
///
/// # Errors
/// What it prints on standard error if it fails.
pub fn docker(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("docker")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("the docker command cannot be run: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// What an instance of aigo has on the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Containers, those that have ended too.
    Container,
    /// Networks.
    Network,
    /// Volumes.
    Volume,
}

impl Kind {
    /// All of them, in the order in which they can be removed.
    pub const ALL: [Self; 3] = [Self::Container, Self::Network, Self::Volume];

    const fn list(self) -> &'static [&'static str] {
        match self {
            Self::Container => &["ps", "--all", "--quiet", "--no-trunc"],
            Self::Network => &["network", "ls", "--quiet", "--no-trunc"],
            Self::Volume => &["volume", "ls", "--quiet"],
        }
    }

    const fn remove(self) -> &'static [&'static str] {
        match self {
            Self::Container => &["rm", "--force", "--volumes"],
            Self::Network => &["network", "rm"],
            Self::Volume => &["volume", "rm"],
        }
    }
}

/// The ids of what the instance has.
pub fn objects(kind: Kind, instance: &str) -> Vec<String> {
    let filter = format!("label={LABEL_INSTANCE}={instance}");
    let listed = docker(&[kind.list(), &["--filter", &filter]].concat()).unwrap_or_default();
    listed.lines().map(str::to_owned).collect()
}

/// Removes it.
///
/// # Errors
/// What the engine says against it.
pub fn remove(kind: Kind, id: &str) -> Result<(), String> {
    docker(&[kind.remove(), &[id]].concat()).map(drop)
}
