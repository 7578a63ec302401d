//! Places at which a debug build can be told to die, as SIGKILL or a power failure would have it: between any two steps
//! that are written down. Release builds have none of this.
//!
//! `AIGO_FAILPOINT=NAME` ends the process when it comes to the point of that name, `NAME:3` when it comes there for the
//! third time. What must hold afterwards is in `tests/tests/service/crashes.rs`, with the list of all names.

#[cfg(debug_assertions)]
pub use armed::reach;

/// Nothing: this is no debug build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reach(_: &'static str) {}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::sys::signal::{Signal, raise};

    /// Names the point.
    const VARIABLE: &str = "AIGO_FAILPOINT";

    struct Point {
        name: String,
        /// How many more times it may be passed, and this one.
        left: AtomicU32,
    }

    static ARMED: LazyLock<Option<Point>> = LazyLock::new(|| std::env::var(VARIABLE).ok().map(|text| parse(&text)));

    fn parse(text: &str) -> Point {
        let (name, times) = match text.rsplit_once(':') {
            Some((name, times)) => (name, times.parse().unwrap_or(1)),
            None => (text, 1),
        };
        Point { name: name.to_owned(), left: AtomicU32::new(times) }
    }

    /// Ends the process if it is to end here.
    pub fn reach(name: &'static str) {
        if let Some(point) = &*ARMED
            && point.name == name
            && point.left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            // Nothing may run on: no destructor, no other task. SIGKILL cannot be caught (signal(7)).
            let _ = raise(Signal::SIGKILL);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_point_may_be_named_with_a_number() {
            for (text, name, times) in [("a", "a", 1), ("a:3", "a", 3)] {
                let point = parse(text);
                assert_eq!((point.name.as_str(), point.left.into_inner()), (name, times));
            }
        }
    }
}
