//! The user who runs aigo in a test, where this is not the user of the test itself.
//!
//! Most tests run aigo as root, which hides faults: root reads a journal that nobody else may read yet, and writes into
//! folders of any owner. `tests/run.sh` therefore runs a part of the tests a second time as an ordinary user of the group
//! that may use the engine's socket, and names this user in [`VARIABLE`]. The tests themselves stay root: they look at what
//! sessions leave, whoever owns it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::User;

use crate::engine::{Podman, RootlessDocker};

/// Names the ordinary user as whom aigo runs. Without it aigo runs as the user of the tests.
pub const VARIABLE: &str = "AIGO_TEST_USER";

/// An account of this machine, as it is needed to run aigo with its rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user id.
    pub uid: u32,
    /// The id of the primary group.
    pub gid: u32,
    home: PathBuf,
    runtime: Option<PathBuf>,
}

impl Account {
    /// The user that [`VARIABLE`] names, if it is set.
    ///
    /// # Panics
    /// If there is no such user, or if it is root: the tests would then show nothing new.
    pub fn chosen() -> Option<Self> {
        let name = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty())?;
        let user = User::from_name(&name).ok().flatten();
        let user = user.unwrap_or_else(|| panic!("{VARIABLE} names {name}, but this machine has no such user"));
        assert!(!user.uid.is_root(), "{VARIABLE} names {name}, who is root; name an ordinary user");
        Some(Self::from(user))
    }

    /// The user of the rootless Podman.
    ///
    /// # Panics
    /// If there is none.
    pub fn of_rootless_podman() -> Self {
        Self { runtime: Some(Path::new(Podman::USER_DIR).to_owned()), ..Self::from(Podman::user()) }
    }

    /// The user of the rootless Docker.
    ///
    /// # Panics
    /// If there is none.
    pub fn of_rootless_docker() -> Self {
        let runtime = Some(Path::new(RootlessDocker::USER_DIR).to_owned());
        Self { runtime, ..Self::from(RootlessDocker::user()) }
    }

    /// Returns a command that runs the program with the rights of this user and of the user's groups. setpriv(1) replaces
    /// itself by the program, so that the process id is the program's.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let (uid, gid) = (self.uid.to_string(), self.gid.to_string());
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &uid, "--regid", &gid, "--init-groups"]).arg(program);
        command.env("HOME", &self.home);
        match &self.runtime {
            Some(folder) => command.env("XDG_RUNTIME_DIR", folder),
            None => command.env_remove("XDG_RUNTIME_DIR"),
        };
        command
    }
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self { uid: user.uid.as_raw(), gid: user.gid.as_raw(), home: user.dir, runtime: None }
    }
}
