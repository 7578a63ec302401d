//! The namespaces that a rootless Docker runs in. They are made by RootlessKit, which keeps what it knows in a folder:
//!
//! ```text
//! $XDG_RUNTIME_DIR/docker.sock            the engine's socket
//! $XDG_RUNTIME_DIR/dockerd-rootless/      RootlessKit's folder, if nothing else was configured
//!     child_pid                           a process in the namespaces
//!     netns                               the network namespace, if the engine itself stays out of it (--detach-netns)
//! ```
//!
//! The kernel tells who listens on the socket (SO_PEERCRED, unix(7)), which is right wherever the folder is; who was started
//! by a socket unit listens on one that the user's systemd made, and is found by the folder.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

/// RootlessKit's folder beside the socket.
const FOLDER: &str = "dockerd-rootless";

/// The namespaces, as files of proc(5) or bind mounts of these.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Namespaces {
    user: PathBuf,
    net: PathBuf,
}

impl Namespaces {
    /// For nsenter(1).
    pub(super) fn arguments(&self) -> [String; 2] {
        [format!("--user={}", self.user.display()), format!("--net={}", self.net.display())]
    }

    fn of(pid: i32) -> Self {
        let folder = PathBuf::from(format!("/proc/{pid}/ns"));
        Self { user: folder.join("user"), net: folder.join("net") }
    }

    /// Whether its networks are others than this process's. What is no namespace is none of them: RootlessKit's file `netns` is a
    /// plain file for who does not see the mount on it.
    fn is_apart(&self) -> bool {
        let inode = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        // All namespaces are on one file system, nsfs.
        inode(Path::new("/proc/self/ns/net"))
            .zip(inode(&self.net))
            .is_some_and(|(ours, theirs)| ours.0 == theirs.0 && ours != theirs)
    }
}

/// Finds the namespaces of the engine that answers at `socket`.
pub(super) async fn find(socket: &Path) -> io::Result<Namespaces> {
    let listener = UnixStream::connect(socket).await?.peer_cred()?.pid().map(Namespaces::of);
    if let Some(found) = listener.filter(Namespaces::is_apart) {
        return Ok(found);
    }
    let beside = socket.canonicalize()?.parent().map(|folder| folder.join(FOLDER));
    let beside = beside.as_deref().and_then(by_folder);
    beside.filter(Namespaces::is_apart).ok_or_else(|| {
        io::Error::other(format!(
            "the namespaces of the rootless Docker at {} cannot be found: neither by the process that listens there nor by \
             a folder {FOLDER} beside it",
            socket.display()
        ))
    })
}

fn by_folder(folder: &Path) -> Option<Namespaces> {
    let pid = fs::read_to_string(folder.join("child_pid")).ok()?.trim().parse().ok()?;
    let detached = folder.join("netns");
    let found = Namespaces::of(pid);
    Some(if detached.exists() { Namespaces { net: detached, ..found } } else { found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rootlesskits_folder_tells_the_namespaces() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(by_folder(folder.path()), None);
        fs::write(folder.path().join("child_pid"), "4711\n").unwrap();
        let found = by_folder(folder.path()).unwrap();
        assert_eq!(found.arguments(), ["--user=/proc/4711/ns/user", "--net=/proc/4711/ns/net"]);
        let detached = folder.path().join("netns");
        fs::write(&detached, "").unwrap();
        assert_eq!(by_folder(folder.path()).unwrap().arguments()[1], format!("--net={}", detached.display()));
    }

    #[tokio::test]
    async fn an_engine_in_our_own_namespaces_is_not_a_rootless_one() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let error = find(&socket).await.unwrap_err().to_string();
        assert!(error.contains("docker.sock") && error.contains(FOLDER), "{error}");
    }
}
