//! May a user work in a folder? Asked of the kernel, by a short-lived process of that user: no rule of ours could know
//! all of modes, ACLs, user namespaces, security modules and file systems that map owners.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use super::User;
use crate::init::OWN_EXECUTABLE;

/// The internal argument, followed by a path.
pub(crate) const ACCESS_ARG: &str = "__access";

/// Exit code for a folder that can be read, not written. Above every errno (asm-generic/errno.h ends at 133).
const READ_ONLY: u8 = 200;

/// What a user may do in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Write,
    ReadOnly,
    Denied(Errno),
}

/// Asks as that user.
pub(super) fn ask(user: &User, path: &Path) -> io::Result<Access> {
    let mut question = Command::new(OWN_EXECUTABLE);
    question.arg0("aigo-runner").arg(ACCESS_ARG).arg(path).env_clear().stdin(Stdio::null());
    if user.uid != 0 {
        question.uid(user.uid).gid(user.gid);
    }
    let status = question.status()?;
    match status.code() {
        Some(0) => Ok(Access::Write),
        Some(code) if code == i32::from(READ_ONLY) => Ok(Access::ReadOnly),
        Some(code) => Ok(Access::Denied(Errno::from_raw(code))),
        None => Err(io::Error::other(format!("the asking process ended with {status}"))),
    }
}

/// The short-lived process: the answer is its exit code.
pub(crate) fn answer(path: &str) -> ExitCode {
    if let Err(errno) = access(path, AccessFlags::R_OK | AccessFlags::X_OK) {
        // An errno is at most 133.
        return ExitCode::from(u8::try_from(errno as i32).unwrap_or(READ_ONLY - 1));
    }
    match access(path, AccessFlags::W_OK) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(READ_ONLY),
    }
}
