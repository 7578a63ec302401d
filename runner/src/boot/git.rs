//! Git in the container does not see what the session mounts in the workspace.
//!
//! A pattern in `core.excludesFile` is relative to the top of whichever repository git works in, so one for `/ipc` would hide
//! the folder `ipc` of every nested repository, too. The configuration is therefore included only for the repository that is
//! the workspace itself (git-config(1), conditional includes). `git clean -x` does not look at patterns: what it would remove
//! has a mark of its own (`ipc_protocol::git_mark`).

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use ipc_protocol::config::{Layout, MountedFolder};

use super::accounts::replace;

/// Git's configuration of the whole system (git-config(1)).
const SYSTEM_CONFIG: &str = "gitconfig";
/// The folder of our files in `/etc`.
const OURS: &str = "aigo";
const INCLUDED: &str = "gitconfig";
const PATTERNS: &str = "gitignore";

/// Hides what is mounted directly below the workspace. Returns what went wrong.
pub(super) fn hide(mounts: &[MountedFolder], layout: &Layout) -> Option<String> {
    let etc = Path::new(&layout.etc);
    let below = |mount: &MountedFolder| {
        let name = mount.target.strip_prefix(&layout.workspace)?.strip_prefix('/')?;
        (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
    };
    let names: Vec<String> = mounts.iter().filter_map(below).collect();
    if names.is_empty() || !etc.is_dir() {
        return None;
    }
    let written = write(etc, &names, &layout.workspace);
    written.err().map(|error| format!("git in the container sees {}: {error}", names.join(" and ")))
}

fn write(etc: &Path, names: &[String], workspace: &str) -> io::Result<()> {
    let ours = etc.join(OURS);
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&ours)?;
    let patterns: String = names.iter().map(|name| format!("/{name}\n")).collect();
    replace(&ours.join(PATTERNS), patterns.as_bytes(), 0o644)?;
    let included = format!("[core]\n\texcludesFile = {}\n", ours.join(PATTERNS).display());
    replace(&ours.join(INCLUDED), included.as_bytes(), 0o644)?;
    let path = ours.join(INCLUDED);
    let include = format!(
        "# What aigo mounts in the workspace is not a part of its repository.\n[includeIf \"gitdir:{workspace}/.git\"]\n\tpath = {}\n",
        path.display()
    );
    let system = etc.join(SYSTEM_CONFIG);
    let old = match fs::read_to_string(&system) {
        Ok(old) => old,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    if old.contains(&include) {
        return Ok(());
    }
    let gap = if old.is_empty() || old.ends_with('\n') { "" } else { "\n" };
    replace(&system, format!("{old}{gap}{include}").as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_direct_children_of_the_workspace_are_hidden_once() {
        let etc = tempfile::tempdir().unwrap();
        let layout = Layout { etc: etc.path().to_str().unwrap().to_owned(), ..Layout::default() };
        let mounts: Vec<MountedFolder> =
            ["/workspace", "/workspace/ipc", "/workspace/extra", "/workspace/extra/a", "/run/aigo/ipc"]
                .map(|target| MountedFolder { target: target.into(), device: 1, inode: 1 })
                .into();
        fs::write(etc.path().join("gitconfig"), "[user]\n\tname = n").unwrap();
        for _ in 0..2 {
            assert_eq!(hide(&mounts, &layout), None);
        }
        assert_eq!(fs::read_to_string(etc.path().join("aigo/gitignore")).unwrap(), "/ipc\n/extra\n");
        let system = fs::read_to_string(etc.path().join("gitconfig")).unwrap();
        assert!(
            system.starts_with("[user]\n\tname = n\n") && system.matches("gitdir:/workspace/.git").count() == 1,
            "{system}"
        );
        assert_eq!(hide(&mounts[..1], &layout), None);
    }
}
