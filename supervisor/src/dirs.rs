//! Where aigo keeps its things: the folder that XDG names for people's data.
//!
//! `--data-dir` (or `AIGO_DATA_DIR`) moves everything, which is also how tests live side by side.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ipc_protocol::host::HostDirs;

mod identity;

pub use identity::Identity;

/// The rights of a file's group and of everybody (chmod(2)).
pub(crate) const OTHERS: u32 = 0o077;

/// The data directory and what is in it.
#[derive(Clone, Debug)]
pub struct DataDir {
    root: PathBuf,
}

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// Neither `--data-dir`, nor `XDG_DATA_HOME`, nor `HOME`.
    #[error("no data directory: neither HOME nor XDG_DATA_HOME is set; name one with --data-dir")]
    Unknown,
    /// Others can look into it.
    #[error("{path} is open to other users, and this one may not change that; its owner can: `chmod go= {path}`")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why it cannot be changed.
        #[source]
        source: io::Error,
    },
    /// It cannot be made or read.
    #[error("cannot use the data directory {path}; name another one with --data-dir")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Takes everybody else's rights to what is ours: it holds transcripts.
pub(crate) fn close(path: &Path) -> Result<(), DirError> {
    let open = |source| DirError::Open { path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(open)?.permissions().mode();
    if mode & OTHERS == 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode & 0o777 & !OTHERS)).map_err(open)
}

impl DataDir {
    /// Opens the given folder, or the person's own: `$XDG_DATA_HOME/aigo`, else `~/.local/share/aigo`. It is made with
    /// mode 0700 where it is missing, and closed to others where it is not: it holds transcripts.
    pub fn open(given: Option<&Path>, env: impl Fn(&str) -> Option<String>) -> Result<Self, DirError> {
        let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let root = match given {
            Some(path) => {
                std::path::absolute(path).map_err(|source| DirError::Unusable { path: path.to_owned(), source })?
            }
            None => absolute("XDG_DATA_HOME")
                .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
                .ok_or(DirError::Unknown)?
                .join("aigo"),
        };
        let unusable = |source| DirError::Unusable { path: root.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&root).map_err(unusable)?;
        // What was validated is what is used: later joins start from the canonical path.
        let root = root.canonicalize().map_err(unusable)?;
        let dirs = Self { root };
        // A folder that somebody named by mistake keeps its mode.
        if dirs.is_ours().map_err(unusable)? {
            close(&dirs.root)?;
        }
        for folder in [dirs.sessions(), dirs.logs()] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(unusable)?;
            close(&folder)?;
        }
        Ok(dirs)
    }

    /// It is new, or one of aigo's.
    fn is_ours(&self) -> io::Result<bool> {
        Ok(self.database().exists() || fs::read_dir(&self.root)?.next().is_none())
    }

    /// A folder that is there already; nothing is made.
    pub fn open_existing(root: &Path) -> Option<Self> {
        root.is_dir().then(|| Self { root: root.to_owned() })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.root.join("aigo.db")
    }

    /// Locked by the daemon that serves this folder; says who that is.
    pub fn daemon_lock(&self) -> PathBuf {
        self.root.join("daemon.lock")
    }

    /// Logs of image builds.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// One folder a session.
    pub fn sessions(&self) -> PathBuf {
        self.root.join("sessions")
    }

    /// The folder of one session.
    pub fn session(&self, id: &crate::session::SessionId) -> SessionDir {
        SessionDir { root: self.sessions().join(id.as_str()) }
    }
}

/// The folder of one session; gone when the session is.
#[derive(Clone, Debug)]
pub struct SessionDir {
    root: PathBuf,
}

impl SessionDir {
    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folders by which the supervisor and the container talk.
    pub fn ipc(&self) -> HostDirs {
        HostDirs::below(&self.root)
    }

    /// Holds the mount points of additional mounts; mounted at `/workspace/extra`.
    pub fn extra(&self) -> PathBuf {
        self.root.join("extra")
    }

    /// How the user's folder was before the agent.
    pub fn look(&self) -> PathBuf {
        self.root.join("look")
    }

    /// How far the session's script has been answered from.
    pub fn replay(&self) -> PathBuf {
        self.root.join("replay")
    }

    /// Locked by the process that owns the session for as long as it lives.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// There while it is not known whether the engine has made something of the session's.
    pub fn in_doubt(&self) -> PathBuf {
        self.root.join("in-doubt")
    }

    /// Where the owner listens for `aigo stop`, `send` and `interrupt`.
    pub fn control_socket(&self) -> PathBuf {
        self.root.join("control")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_closed_to_others_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let open = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        let ours = dir.path().join("ours");
        fs::create_dir(&ours).unwrap();
        open(&ours);
        let dirs = DataDir::open(Some(&ours), |_| None).unwrap();
        assert_eq!(mode(&ours), 0o700, "an empty one");
        fs::write(dirs.database(), "").unwrap();
        for path in [&ours, &dirs.sessions(), &dirs.logs()] {
            open(path);
        }
        DataDir::open(Some(&ours), |_| None).unwrap();
        assert_eq!([mode(&ours), mode(&dirs.sessions()), mode(&dirs.logs())], [0o700; 3], "one of before");
        fs::set_permissions(dirs.database(), Permissions::from_mode(0o644)).unwrap();
        let store = crate::store::Store::open(&dirs.database()).unwrap();
        let wal = dirs.root().join("aigo.db-wal");
        assert_eq!([mode(&dirs.database()), mode(&wal)], [0o600; 2]);
        drop(store);
        let theirs = dir.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("letter"), "").unwrap();
        open(&theirs);
        let dirs = DataDir::open(Some(&theirs), |_| None).unwrap();
        assert_eq!([mode(&theirs), mode(&dirs.sessions())], [0o755, 0o700]);
    }

    #[test]
    fn xdg_then_home_then_error() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let env = |set: Vec<(&'static str, String)>| {
            move |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone())
        };
        let xdg = DataDir::open(None, env(vec![("XDG_DATA_HOME", at("x")), ("HOME", at("h"))])).unwrap();
        assert!(xdg.root().ends_with("x/aigo"));
        let home = DataDir::open(None, env(vec![("XDG_DATA_HOME", "relative".into()), ("HOME", at("h"))])).unwrap();
        assert!(home.root().ends_with("h/.local/share/aigo"));
        assert_eq!(fs::metadata(home.root()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(home.instance().unwrap(), home.instance().unwrap());
        assert!(matches!(DataDir::open(None, env(vec![])), Err(DirError::Unknown)));
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(matches!(DataDir::open(Some(&dir.path().join("file")), env(vec![])), Err(DirError::Unusable { .. })));
    }
}
