//! The engine as others see it: through the `docker` command line, not through the code that is tested.

use std::collections::BTreeSet;
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

/// `none` means that there is no Podman on this machine, and that this is known.
pub const PODMAN_VARIABLE: &str = "AIGO_TEST_PODMAN";

/// One of the Podman engines that `image/setup/podman.sh` sets up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Podman {
    /// Root's.
    Rootful,
    /// That of an unprivileged user.
    Rootless,
}

impl Podman {
    /// Where it answers.
    pub const fn address(self) -> &'static str {
        match self {
            Self::Rootful => "unix:///run/aigo-podman/podman.sock",
            Self::Rootless => "unix:///run/aigo-podman/user/podman/podman.sock",
        }
    }

    /// The `XDG_RUNTIME_DIR` of the rootless engine's user.
    pub const USER_DIR: &'static str = "/run/aigo-podman/user";

    /// The rootless engine's user.
    ///
    /// # Panics
    /// If there is none.
    pub fn user() -> nix::unistd::User {
        let user = nix::unistd::User::from_name("aigo-podman").ok().flatten();
        user.expect("image/setup/podman.sh makes the user aigo-podman; AIGO_TEST_PODMAN=none leaves these tests out")
    }

    /// Whether tests of it are to run. Says why, where they are not.
    ///
    /// # Panics
    /// If it does not answer and nobody said that this is as it should be.
    pub fn is_wanted(self) -> bool {
        if !is_wanted() {
            return false;
        }
        if std::env::var(PODMAN_VARIABLE).is_ok_and(|value| value == "none") {
            println!("not run: {PODMAN_VARIABLE}=none, and this behaviour needs Podman");
            return false;
        }
        if let Err(error) = docker_at(Some(self.address()), &["version", "--format", "{{.Server.Version}}"]) {
            panic!(
                "no Podman answers at {} ({error}); `make test` brings one up, {PODMAN_VARIABLE}=none leaves \
                    these tests out",
                self.address()
            );
        }
        true
    }
}

/// Runs `docker` and gives what it prints.
///
/// # Errors
/// What it prints on standard error if it fails.
pub fn docker(arguments: &[&str]) -> Result<String, String> {
    docker_at(None, arguments)
}

/// The same for the engine at an address, which may be Podman.
///
/// # Errors
/// As [`docker`].
pub fn docker_at(address: Option<&str>, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("docker");
    if let Some(address) = address {
        command.args(["--host", address]);
    }
    let output = command
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

/// `none` means that there is no rootless Docker on this machine, and that this is known.
pub const ROOTLESS_VARIABLE: &str = "AIGO_TEST_ROOTLESS";

/// The rootless Docker that `image/setup/rootless.sh` sets up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootlessDocker;

impl RootlessDocker {
    /// Where it answers.
    pub const ADDRESS: &'static str = "unix:///run/aigo-rootless/user/docker.sock";

    /// The `XDG_RUNTIME_DIR` of its user.
    pub const USER_DIR: &'static str = "/run/aigo-rootless/user";

    /// Its user.
    ///
    /// # Panics
    /// If there is none.
    pub fn user() -> nix::unistd::User {
        let user = nix::unistd::User::from_name("aigo-rootless").ok().flatten();
        user.expect(
            "image/setup/rootless.sh makes the user aigo-rootless; AIGO_TEST_ROOTLESS=none leaves these tests out",
        )
    }

    /// Whether tests of it are to run. Says why, where they are not.
    ///
    /// # Panics
    /// If it does not answer and nobody said that this is as it should be.
    pub fn is_wanted() -> bool {
        if !is_wanted() {
            return false;
        }
        if std::env::var(ROOTLESS_VARIABLE).is_ok_and(|value| value == "none") {
            println!("not run: {ROOTLESS_VARIABLE}=none, and this behaviour needs a rootless Docker");
            return false;
        }
        if let Err(error) = docker_at(Some(Self::ADDRESS), &["version", "--format", "{{.Server.Version}}"]) {
            panic!(
                "no rootless Docker answers at {} ({error}); `make test` brings one up, {ROOTLESS_VARIABLE}=none leaves \
                 these tests out",
                Self::ADDRESS
            );
        }
        true
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

/// The ids of what the instance has on the default engine.
pub fn objects(kind: Kind, instance: &str) -> Vec<String> {
    objects_at(None, kind, instance)
}

/// The same on the engine at an address.
pub fn objects_at(address: Option<&str>, kind: Kind, instance: &str) -> Vec<String> {
    let filter = format!("label={LABEL_INSTANCE}={instance}");
    let listed = docker_at(address, &[kind.list(), &["--filter", &filter]].concat()).unwrap_or_default();
    listed.lines().map(str::to_owned).collect()
}

/// The volumes of the default engine that it made without being told a name, for whatever container: the label is its own
/// (Docker 23 and later).
///
/// # Panics
/// If the engine does not tell.
pub fn anonymous_volumes() -> BTreeSet<String> {
    let listed = docker(&["volume", "ls", "--quiet", "--filter", "label=com.docker.volume.anonymous"]);
    listed.expect("a list of volumes").lines().map(str::to_owned).collect()
}

/// Removes it.
///
/// # Errors
/// What the engine says against it.
pub fn remove(kind: Kind, id: &str) -> Result<(), String> {
    remove_at(None, kind, id)
}

/// The same on the engine at an address.
///
/// # Errors
/// As [`remove`].
pub fn remove_at(address: Option<&str>, kind: Kind, id: &str) -> Result<(), String> {
    docker_at(address, &[kind.remove(), &[id]].concat()).map(drop)
}
