//! aigo as a service of the machine or of a person: what the service manager is told, and how it is told.
//!
//! ```text
//!   Service (who, which binary, which configuration)
//!      │ pure                       effects
//!      ├─► systemd / launchd text ─┐
//!      └─► plan: the steps ────────┴─► step: each done, or shown by --dry-run
//! ```
//! Everything can be done twice: what is as it should be stays untouched. Data and configuration outlive an uninstall.

pub mod launchd;
pub mod plan;
pub mod status;
pub mod step;
pub mod systemd;

use std::path::{Path, PathBuf};

use crate::config::{Places, Scope};

/// Who starts services here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// systemd(1), on Linux.
    Systemd,
    /// launchd(8), on macOS.
    Launchd,
}

impl Manager {
    /// This host's.
    pub const fn of_host() -> Self {
        if cfg!(target_os = "macos") { Self::Launchd } else { Self::Systemd }
    }
}

/// The service to install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Who starts it.
    pub manager: Manager,
    /// Whose it is.
    pub scope: Scope,
    /// The binary, by its absolute path.
    pub program: PathBuf,
    /// The configuration that it reads.
    pub config: PathBuf,
    /// Another data directory than the configuration's.
    pub data_dir: Option<PathBuf>,
    /// Folders of the person whose service it is.
    pub home: Home,
}

/// Folders of a person that service managers look into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Home {
    /// `HOME`.
    pub home: PathBuf,
    /// `XDG_CONFIG_HOME`, or `.config` in the home.
    pub config: PathBuf,
    /// `XDG_RUNTIME_DIR`.
    pub runtime: Option<PathBuf>,
    /// The user's number.
    pub uid: u32,
}

/// Why a service cannot be installed here.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unfit {
    /// Another init, or a container.
    #[error(
        "systemd does not run this machine (there is no /run/systemd/system): start `aigo serve` by what does; --dry-run \
         shows what would be installed"
    )]
    NoSystemd,
    /// `su`, `sudo -u`, a cron job: no session of that user.
    #[error(
        "there is no systemd session of this user: log in as the user (not by su), or let it live without a login by \
         `loginctl enable-linger`; --dry-run shows what would be installed"
    )]
    NoUserSession,
    /// The system's service is root's to install.
    #[error("the system's service takes root: use sudo, or --user for a service of your own")]
    NotRoot,
    /// A launchd daemon could not reach the engine.
    #[error("container engines on macOS belong to a person: install as that person, with --user")]
    NoSystemEngine,
}

/// What is known of the machine, as values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// systemd is its init: sd_booted(3).
    pub systemd: bool,
    /// The user's own systemd answers.
    pub user_session: bool,
    /// We are root.
    pub root: bool,
}

impl Machine {
    /// Looks at the machine.
    pub fn look(home: &Home) -> Self {
        let private = home.runtime.as_ref().map(|runtime| runtime.join("systemd/private"));
        Self {
            systemd: Path::new("/run/systemd/system").is_dir(),
            user_session: private.is_some_and(|socket| socket.exists()),
            root: nix::unistd::geteuid().is_root(),
        }
    }
}

impl Service {
    /// Whether it can be installed on such a machine.
    ///
    /// # Errors
    /// [`Unfit`], with the remedy.
    pub fn judge(&self, machine: Machine) -> Result<(), Unfit> {
        match (self.manager, self.scope) {
            (Manager::Launchd, Scope::System) => Err(Unfit::NoSystemEngine),
            (Manager::Launchd, Scope::User) => Ok(()),
            (Manager::Systemd, Scope::System) if !machine.systemd => Err(Unfit::NoSystemd),
            (Manager::Systemd, Scope::System) if !machine.root => Err(Unfit::NotRoot),
            (Manager::Systemd, Scope::User) if !machine.user_session => Err(Unfit::NoUserSession),
            (Manager::Systemd, Scope::System | Scope::User) => Ok(()),
        }
    }

    /// The file that the service manager reads.
    pub fn unit_path(&self) -> PathBuf {
        match (self.manager, self.scope) {
            (Manager::Systemd, Scope::System) => Path::new("/etc/systemd/system").join(systemd::UNIT),
            (Manager::Systemd, Scope::User) => self.home.config.join("systemd/user").join(systemd::UNIT),
            (Manager::Launchd, Scope::System | Scope::User) => {
                self.home.home.join("Library/LaunchAgents").join(format!("{}.plist", launchd::LABEL))
            }
        }
    }

    /// Its content.
    pub fn unit_text(&self) -> String {
        match self.manager {
            Manager::Systemd => systemd::unit(self),
            Manager::Launchd => launchd::plist(self),
        }
    }

    /// The variables of the service, among them the model's credential: beside the configuration, for its owner only.
    pub fn environment_file(&self) -> PathBuf {
        self.config.with_file_name("environment")
    }

    /// What is started.
    pub fn arguments(&self) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut arguments = vec![text(&self.program), "serve".to_owned(), "--config".to_owned(), text(&self.config)];
        if let Some(data_dir) = &self.data_dir {
            arguments.extend(["--data-dir".to_owned(), text(data_dir)]);
        }
        arguments
    }
}

impl Home {
    /// From the environment.
    pub fn of(places: &Places, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
        // The configuration is in a folder of ours in the folder of all configurations.
        let config = places.config.parent().and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
        let home = absolute("HOME").unwrap_or_default();
        Self { home, config, runtime: absolute("XDG_RUNTIME_DIR"), uid: nix::unistd::getuid().as_raw() }
    }
}

#[cfg(test)]
mod tests;
