//! Bounded output of containers and of commands in them. The bytes are an attacker's: show them only escaped.

/// What was written, each stream in its own order, bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Something was left out to keep the bound.
    pub truncated: bool,
}

/// Which part of a log to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogsQuery {
    pub stdout: bool,
    pub stderr: bool,
    /// The last so many lines; `None` for all that the log driver kept.
    pub tail: Option<u32>,
    /// At most so many bytes of each stream, the last ones.
    pub max_bytes: usize,
}

impl Default for LogsQuery {
    fn default() -> Self {
        Self { stdout: true, stderr: true, tail: None, max_bytes: 64 * 1024 }
    }
}

/// The end of a command run by [`exec`](super::Engine::exec).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// The exit code; 128 + n after signal n; 126 or 127 if the command could not be run.
    pub code: i32,
    pub output: Output,
}

/// Keeps the last `max` bytes of what is pushed, with the work of a plain append on average.
#[derive(Debug)]
pub struct Tail {
    bytes: Vec<u8>,
    max: usize,
    truncated: bool,
}

impl Tail {
    pub fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), max, truncated: false }
    }

    pub fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
        // Trim only when twice too long, so that each byte is moved at most once.
        if self.bytes.len() > self.max.saturating_mul(2) {
            self.trim();
        }
    }

    fn trim(&mut self) {
        let excess = self.bytes.len().saturating_sub(self.max);
        if excess > 0 {
            self.bytes.drain(..excess);
            self.truncated = true;
        }
    }

    /// The kept bytes, and whether some were dropped.
    pub fn finish(mut self) -> (Vec<u8>, bool) {
        self.trim();
        (self.bytes, self.truncated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tail_is_the_end(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20), max in 0usize..100) {
            let all: Vec<u8> = chunks.concat();
            let mut tail = Tail::new(max);
            for chunk in &chunks {
                tail.push(chunk);
            }
            let (kept, truncated) = tail.finish();
            let start = all.len().saturating_sub(max);
            prop_assert_eq!(&kept[..], &all[start..]);
            prop_assert_eq!(truncated, start > 0);
        }
    }
}
