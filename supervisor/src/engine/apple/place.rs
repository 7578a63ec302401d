//! Where Apple Container can be, and whether it comes first: plain facts in, a choice out.

use std::path::{Path, PathBuf};

/// Where its installer puts the command.
const INSTALLED: &str = "/usr/local/bin/container";
/// Its name in `PATH`.
const NAME: &str = "container";
/// The first macOS on which it runs, and is preferred.
const FIRST_MACOS: u32 = 15;

/// What of this machine says whether Apple Container can be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The major version of macOS; `None` on other systems.
    pub macos: Option<u32>,
    pub apple_silicon: bool,
    /// The command, if it is installed.
    pub program: Option<PathBuf>,
}

impl Place {
    /// Looks at this machine.
    #[must_use]
    pub fn here() -> Self {
        if !cfg!(target_os = "macos") {
            return Self::default();
        }
        let release = nix::sys::utsname::uname().ok().map(|name| name.release().to_string_lossy().into_owned());
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self {
            macos: release.and_then(|release| of_darwin(&release)),
            apple_silicon: cfg!(target_arch = "aarch64"),
            program: find(&path),
        }
    }

    /// Whether it is asked before Docker and Podman by `auto`: on Apple silicon with macOS 15 or newer, where it is
    /// installed.
    #[must_use]
    pub fn is_preferred(&self) -> bool {
        self.is_possible().is_ok() && self.program.is_some()
    }

    /// Whether it can run here.
    ///
    /// # Errors
    /// Why not.
    pub fn is_possible(&self) -> Result<(), &'static str> {
        match (self.macos, self.apple_silicon) {
            (None, _) => Err("it runs on macOS only"),
            (Some(_), false) => Err("it needs Apple silicon"),
            (Some(version), true) if version < FIRST_MACOS => Err("it needs macOS 15 or newer"),
            (Some(_), true) => Ok(()),
        }
    }
}

/// The major version of macOS by that of its kernel (`uname -r`): 24 is macOS 15, and 25 is macOS 26, where the numbers
/// jumped.
fn of_darwin(release: &str) -> Option<u32> {
    let kernel: u32 = release.split('.').next()?.parse().ok()?;
    match kernel {
        20..=24 => Some(kernel - 9),
        25.. => Some(kernel + 1),
        0..=19 => None,
    }
}

fn find(path: &std::ffi::OsStr) -> Option<PathBuf> {
    let folders = std::env::split_paths(path).filter(|folder| folder.is_absolute());
    let named = folders.map(|folder| folder.join(NAME));
    named.chain([Path::new(INSTALLED).to_owned()]).find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(macos: Option<u32>, apple_silicon: bool, program: bool) -> Place {
        Place { macos, apple_silicon, program: program.then(|| INSTALLED.into()) }
    }

    #[test]
    fn it_is_preferred_where_it_runs_and_is_installed() {
        for (macos, silicon, program, preferred) in [
            (Some(15), true, true, true),
            (Some(26), true, true, true),
            (Some(26), true, false, false),
            (Some(14), true, true, false),
            (Some(26), false, true, false),
            (None, true, true, false),
        ] {
            assert_eq!(place(macos, silicon, program).is_preferred(), preferred, "{macos:?} {silicon} {program}");
        }
        assert_eq!(place(Some(14), true, true).is_possible(), Err("it needs macOS 15 or newer"));
        assert_eq!(place(None, false, false).is_possible(), Err("it runs on macOS only"));
    }

    #[test]
    fn the_kernel_tells_the_system() {
        for (release, macos) in [
            ("23.6.0", Some(14)),
            ("24.0.0", Some(15)),
            ("24.6.0", Some(15)),
            ("25.1.0", Some(26)),
            ("26.0.0", Some(27)),
        ] {
            assert_eq!(of_darwin(release), macos, "{release}");
        }
        assert_eq!(of_darwin("6.18.0-generic"), None);
        assert_eq!(of_darwin(""), None);
    }

    #[test]
    fn the_command_is_looked_for_in_absolute_folders() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join(NAME);
        std::fs::write(&program, "").unwrap();
        assert_eq!(find(folder.path().as_os_str()), Some(program));
        assert!(find(std::ffi::OsStr::new("bin:.")).is_none_or(|found| found == Path::new(INSTALLED)));
    }
}
