//! Where the configuration, the data and the socket are, for the system's service and for people.
//!
//! Root's service has the system's folders (Filesystem Hierarchy Standard 3.0: `/etc`, `/var/lib`, `/run`), everybody else
//! the ones of the XDG Base Directory Specification.

use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::ConfigError;

/// Names another configuration file.
pub const CONFIG_VARIABLE: &str = "AIGO_CONFIG";

/// Names another data directory, as `--data-dir` does.
pub const DATA_DIR_VARIABLE: &str = "AIGO_DATA_DIR";

/// The configuration's name in its folder.
const FILE: &str = "config.toml";
/// The socket's name in its folder.
pub const SOCKET: &str = "aigo.sock";

/// Whose service it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The machine's, as root.
    System,
    /// One person's.
    User,
}

impl Scope {
    /// Root's is the system's.
    pub fn of_process() -> Self {
        if geteuid().is_root() { Self::System } else { Self::User }
    }
}

/// Where things are if nobody says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The configuration file.
    pub config: PathBuf,
    /// The data directory.
    pub data: PathBuf,
    /// The service's socket.
    pub socket: PathBuf,
}

impl Places {
    /// The system's.
    pub fn system() -> Self {
        Self {
            config: Path::new("/etc/aigo").join(FILE),
            data: PathBuf::from("/var/lib/aigo"),
            socket: Path::new("/run/aigo").join(SOCKET),
        }
    }

    /// Those of a scope. Without `XDG_RUNTIME_DIR` the socket is in the data directory. Relative paths in the XDG variables
    /// are ignored, as their specification asks.
    ///
    /// # Errors
    /// [`ConfigError::NoHome`] if a person has neither `HOME` nor the XDG variables.
    pub fn of(scope: Scope, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = |xdg: &str, below: &str| {
            let base = absolute(xdg).or_else(|| absolute("HOME").map(|home| home.join(below)));
            base.map(|base| base.join("aigo")).ok_or(ConfigError::NoHome)
        };
        match scope {
            Scope::System => Ok(Self::system()),
            Scope::User => {
                let data = home("XDG_DATA_HOME", ".local/share")?;
                let run = absolute("XDG_RUNTIME_DIR").map_or_else(|| data.clone(), |run| run.join("aigo"));
                Ok(Self { config: home("XDG_CONFIG_HOME", ".config")?.join(FILE), data, socket: run.join(SOCKET) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_have_their_own() {
        let env = |name: &str| match name {
            "HOME" => Some("/home/p".to_owned()),
            "XDG_RUNTIME_DIR" => Some("/run/user/7".to_owned()),
            "XDG_DATA_HOME" => Some("not/absolute".to_owned()),
            _ => None,
        };
        let places = Places::of(Scope::User, &env).unwrap();
        assert_eq!(places.config, Path::new("/home/p/.config/aigo/config.toml"));
        assert_eq!(places.data, Path::new("/home/p/.local/share/aigo"));
        assert_eq!(places.socket, Path::new("/run/user/7/aigo/aigo.sock"));
        let only_home = |name: &str| (name == "HOME").then(|| "/h".to_owned());
        assert_eq!(Places::of(Scope::User, &only_home).unwrap().socket, Path::new("/h/.local/share/aigo/aigo.sock"));
        assert!(matches!(Places::of(Scope::User, &|_| None), Err(ConfigError::NoHome)));
        assert_eq!(Places::of(Scope::System, &|_| None).unwrap(), Places::system());
    }
}
