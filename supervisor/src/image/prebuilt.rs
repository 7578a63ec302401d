//! A runner that is already built: found beside the `aigo` executable or named, and looked at before it goes into an
//! image, where a dynamic one or one for another processor would fail at every start.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// The version that fits this `aigo`.
pub const OUR_VERSION: &str = env!("CARGO_PKG_VERSION");

/// A static runner has 2 MB; one with all debug information less than this.
const MAX_RUNNER: u64 = 64 << 20;
/// Printing a version takes milliseconds.
const VERSION_DEADLINE: Duration = Duration::from_secs(5);

/// Why a file cannot be the image's runner.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    #[error("cannot read the runner {path}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the runner {path} is not a 64-bit ELF program; build it with: cargo build --profile runner -p runner")]
    NotElf { path: PathBuf },
    #[error(
        "the runner {path} is linked dynamically; build a static one with: RUSTFLAGS=\"-C target-feature=+crt-static\" \
         cargo build --profile runner --target {needed}-unknown-linux-gnu -p runner"
    )]
    Dynamic { path: PathBuf, needed: String },
    #[error("the runner {path} is built for {found}, and the engine's machine is {needed}")]
    WrongArchitecture { path: PathBuf, found: &'static str, needed: String },
    #[error("{path} says that it is `{said}`, not aigo-runner {OUR_VERSION}")]
    WrongVersion { path: PathBuf, said: String },
}

/// A runner that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prebuilt {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

/// Where a runner may lie that belongs to the executable `exe`: beside it, or in the folder that an installation makes.
#[must_use]
pub fn candidates(exe: &Path) -> Vec<PathBuf> {
    let Some(folder) = exe.parent() else { return Vec::new() };
    let mut found = vec![folder.join("aigo-runner")];
    found.extend(folder.parent().map(|prefix| prefix.join("libexec/aigo/aigo-runner")));
    found
}

/// Reads a runner and checks that it is static and for the `needed` architecture (`x86_64`, `aarch64`). Where this host
/// can run it, it must be of our version too.
///
/// # Errors
/// What is wrong with it.
pub async fn load(path: &Path, needed: &str) -> Result<Prebuilt, RunnerError> {
    let bytes = read(path).map_err(|source| RunnerError::Unreadable { path: path.to_owned(), source })?;
    let elf = Elf::parse(&bytes).ok_or_else(|| RunnerError::NotElf { path: path.to_owned() })?;
    if elf.machine != needed {
        return Err(RunnerError::WrongArchitecture {
            path: path.to_owned(),
            found: elf.machine,
            needed: needed.to_owned(),
        });
    }
    if elf.dynamic {
        return Err(RunnerError::Dynamic { path: path.to_owned(), needed: needed.to_owned() });
    }
    if cfg!(target_os = "linux") && std::env::consts::ARCH == needed {
        let said = version(path).await.unwrap_or_else(|error| error.to_string());
        if said != format!("aigo-runner {OUR_VERSION}") {
            return Err(RunnerError::WrongVersion { path: path.to_owned(), said });
        }
    }
    Ok(Prebuilt { path: path.to_owned(), bytes })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_RUNNER + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_RUNNER {
        return Err(io::Error::other(format!("it is larger than {} MiB", MAX_RUNNER >> 20)));
    }
    Ok(bytes)
}

async fn version(path: &Path) -> io::Result<String> {
    let mut command = Command::new(path);
    command.arg("--version").env_clear().stdin(Stdio::null()).kill_on_drop(true);
    let output =
        tokio::time::timeout(VERSION_DEADLINE, command.output()).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let text: String = String::from_utf8_lossy(&output.stdout).trim().chars().take(100).collect();
    Ok(text)
}

/// What elf(5) headers say.
#[derive(Debug, PartialEq, Eq)]
struct Elf {
    machine: &'static str,
    /// It asks for an interpreter (ld.so).
    dynamic: bool,
}

impl Elf {
    /// Reads the header of a 64-bit little-endian file; `None` for anything else.
    fn parse(bytes: &[u8]) -> Option<Self> {
        const PT_INTERP: u32 = 3;
        let u16_at = |at: usize| bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes);
        let u32_at = |at: usize| bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes);
        // Magic, ELFCLASS64, ELFDATA2LSB.
        if bytes.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        let machine = match u16_at(18)? {
            62 => "x86_64",
            183 => "aarch64",
            243 => "riscv64",
            _ => "another processor",
        };
        let table = usize::try_from(u64::from_le_bytes(bytes.get(32..40)?.try_into().ok()?)).ok()?;
        let (size, count) = (usize::from(u16_at(54)?), usize::from(u16_at(56)?));
        let mut dynamic = false;
        for index in 0..count {
            dynamic |= u32_at(table.checked_add(index.checked_mul(size)?)?)? == PT_INTERP;
        }
        Some(Self { machine, dynamic })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// An ELF header with one program header.
    fn elf(machine: u16, program_header: u32) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&1_u16.to_le_bytes());
        bytes[64..68].copy_from_slice(&program_header.to_le_bytes());
        bytes
    }

    #[test]
    fn headers_are_read() {
        assert_eq!(Elf::parse(&elf(62, 1)), Some(Elf { machine: "x86_64", dynamic: false }));
        assert_eq!(Elf::parse(&elf(183, 3)), Some(Elf { machine: "aarch64", dynamic: true }));
        for end in 0..elf(62, 1).len() - 52 {
            assert_eq!(Elf::parse(&elf(62, 1)[..end]), None);
        }
        let mut far = elf(62, 1);
        far[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(Elf::parse(&far), None);
    }

    #[tokio::test]
    async fn what_would_not_run_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let ours = std::env::consts::ARCH;
        let (machine, other) = if ours == "x86_64" { (62, "aarch64") } else { (183, "x86_64") };
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let script = write("script", b"#!/bin/sh\necho aigo-runner 0.1.0\n");
        assert!(matches!(load(&script, ours).await, Err(RunnerError::NotElf { .. })));
        let dynamic = write("dynamic", &elf(machine, 3));
        assert!(load(&dynamic, ours).await.unwrap_err().to_string().contains("crt-static"));
        let wrong = write("wrong", &elf(machine, 1));
        assert!(load(&wrong, other).await.unwrap_err().to_string().contains(other));
        // A header alone does not run.
        assert!(matches!(load(&wrong, ours).await, Err(RunnerError::WrongVersion { .. })));
        assert!(matches!(load(&folder.path().join("none"), ours).await, Err(RunnerError::Unreadable { .. })));
    }

    #[test]
    fn places_of_an_installation() {
        assert_eq!(
            candidates(Path::new("/usr/local/bin/aigo")),
            ["/usr/local/bin/aigo-runner", "/usr/local/libexec/aigo/aigo-runner"].map(PathBuf::from)
        );
    }
}
