//! Which folders of the host may never be mounted, whoever asks.

mod system;

use std::path::{Component, Path, PathBuf};

pub use system::SystemPath;

/// Path components that hold keys; compared without regard to case, since file systems may be.
pub const BLOCKED: [&str; 8] = [".ssh", ".gnupg", ".env", ".aws", ".azure", ".gcloud", ".docker", ".kube"];

/// Why a folder may not be mounted.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BlockedPath {
    /// A component that holds keys.
    #[error("`{0}` holds keys and is never mounted")]
    Component(String),
    /// Ours.
    #[error("it contains or lies in aigo's own folder {}", .0.display())]
    Own(PathBuf),
    /// A folder of the operating system.
    #[error("{0}")]
    System(SystemPath),
    /// Engines speak JSON, which has no way to say it.
    #[error("its path is not valid UTF-8; rename it")]
    NotUtf8,
    /// Not canonical: a bug of the caller's.
    #[error("the path is not absolute and free of `..`")]
    NotCanonical,
}

/// Why a name may not stand under `/workspace/extra`.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no name for a mount: use 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or digit")]
pub struct BadName(String);

/// Judges a canonical path.
pub fn check(path: &Path, own: &[PathBuf]) -> Result<(), BlockedPath> {
    if path.to_str().is_none() {
        return Err(BlockedPath::NotUtf8);
    }
    for component in path.components() {
        match component {
            Component::RootDir => {}
            Component::Normal(name) => {
                if let Some(blocked) = BLOCKED.iter().find(|blocked| name.eq_ignore_ascii_case(blocked)) {
                    return Err(BlockedPath::Component((*blocked).to_owned()));
                }
            }
            Component::Prefix(_) | Component::CurDir | Component::ParentDir => return Err(BlockedPath::NotCanonical),
        }
    }
    if !path.is_absolute() {
        return Err(BlockedPath::NotCanonical);
    }
    system::check(path).map_err(BlockedPath::System)?;
    match own.iter().find(|own| own.starts_with(path) || path.starts_with(own)) {
        Some(own) => Err(BlockedPath::Own(own.clone())),
        None => Ok(()),
    }
}

/// Judges a name under `/workspace/extra`.
pub fn check_name(name: &str) -> Result<(), BadName> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let starts = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if starts && name.len() <= 64 && name.chars().all(plain) { Ok(()) } else { Err(BadName(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_system_and_own_folders_are_blocked() {
        let own = [PathBuf::from("/home/u/.local/share/aigo")];
        let check = |path: &str| check(Path::new(path), &own);
        assert_eq!(check("/home/u/project"), Ok(()));
        assert_eq!(check("/home/u/.sshd"), Ok(()), "only whole components are keys");
        for bad in ["/home/u/.ssh", "/home/u/.SSH/x", "/home/u/p/.env", "/x/.Aws/y"] {
            assert!(matches!(check(bad), Err(BlockedPath::Component(_))), "{bad}");
        }
        for bad in ["/", "/etc", "/proc/1/root", "/dev/shm", "/root", "/home"] {
            assert!(matches!(check(bad), Err(BlockedPath::System(_))), "{bad}");
        }
        for bad in ["/home/u", "/home/u/.local/share/aigo", "/home/u/.local/share/aigo/sessions/x"] {
            assert!(matches!(check(bad), Err(BlockedPath::Own(_))), "{bad}");
        }
        for bad in ["relative", "/a/../b"] {
            assert_eq!(check(bad), Err(BlockedPath::NotCanonical), "{bad}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(check_name("data-1.2"), Ok(()));
        for bad in ["", ".", "..", "a/b", "-x", "ü", &"a".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
