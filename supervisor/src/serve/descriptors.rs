//! How many files the service may have open.
//!
//! A session takes some twenty: the folders of its mailbox, its journal, its lock and control socket, the counters of its
//! cgroup, a file watch, a call to the engine that lasts as long as its container. A connection takes one. A shell gives its
//! programs 1,024 (getrlimit(2)), which is enough for fifty sessions and nobody who watches them; the kernel lets everybody
//! have as many as the hard limit says.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// Enough for a thousand sessions and all connections. Not all that the hard limit may allow: macOS refuses more than its
/// own bound.
const ENOUGH: rlim_t = 65_536;

/// Takes as many as there may be, if that is more than there are now: how many there are then.
///
/// # Errors
/// What the kernel says against it; then nothing has changed.
pub fn raise() -> Result<u64, Errno> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = enough(soft, hard);
    if wanted != soft {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    }
    Ok(wanted)
}

fn enough(soft: rlim_t, hard: rlim_t) -> rlim_t {
    soft.max(hard.min(ENOUGH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_is_taken_and_nothing_is_given_up() {
        assert_eq!(enough(1024, 4096), 4096);
        assert_eq!(enough(1024, rlim_t::MAX), ENOUGH);
        assert_eq!(enough(1 << 20, 1 << 20), 1 << 20);
        let (before, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(raise(), Ok(enough(before, hard)));
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((enough(before, hard), hard)));
    }
}
