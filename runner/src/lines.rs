//! Cutting a byte stream into lines with bounded memory.
//!
//! A line may be split over reads anywhere, also inside a character: bytes are joined before anybody decodes them.
//! A line beyond the limit keeps its first `limit` bytes; the rest is skipped as it comes and only counted.

/// One line without its line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// At most the splitter's limit.
    pub bytes: Vec<u8>,
    /// Length of the whole line in bytes; larger than `bytes` if it was cut.
    pub full_bytes: u64,
}

impl Line {
    /// Whether a part of the line is missing.
    pub fn is_cut(&self) -> bool {
        self.full_bytes > self.bytes.len() as u64
    }
}

/// Joins chunks and gives out lines.
#[derive(Debug)]
pub struct LineSplitter {
    limit: usize,
    pending: Vec<u8>,
    /// `pending` is given out up to here.
    given: usize,
    /// No line end in `pending` before here.
    searched: usize,
    /// Bytes of the current line that were thrown away.
    skipped: u64,
}

/// A buffer that one long line has grown beyond this many bytes is given back.
const KEEP_CAPACITY: usize = 64 * 1024;

impl LineSplitter {
    /// `limit` is the most bytes of one line that are kept.
    pub fn new(limit: usize) -> Self {
        Self { limit, pending: Vec::new(), given: 0, searched: 0, skipped: 0 }
    }

    /// Takes the next bytes of the stream.
    pub fn feed(&mut self, chunk: &[u8]) {
        if self.given > 0 {
            self.pending.drain(..self.given);
            self.searched -= self.given;
            self.given = 0;
        }
        self.pending.extend_from_slice(chunk);
    }

    /// The next whole line, if there is one.
    pub fn next_line(&mut self) -> Option<Line> {
        let Some(at) = self.pending[self.searched..].iter().position(|&byte| byte == b'\n') else {
            self.searched = self.pending.len();
            self.skip_beyond_limit();
            return None;
        };
        let end = self.searched + at;
        let line = self.take(end);
        self.given = end + 1;
        self.searched = self.given;
        if self.given == self.pending.len() {
            self.reset();
        }
        Some(line)
    }

    /// What is left when the stream has ended without a line end.
    pub fn finish(&mut self) -> Option<Line> {
        if self.given == self.pending.len() && self.skipped == 0 {
            return None;
        }
        let line = self.take(self.pending.len());
        self.reset();
        Some(line)
    }

    fn take(&mut self, end: usize) -> Line {
        let whole = &self.pending[self.given..end];
        let full_bytes = whole.len() as u64 + std::mem::take(&mut self.skipped);
        Line { bytes: whole[..whole.len().min(self.limit)].to_vec(), full_bytes }
    }

    fn skip_beyond_limit(&mut self) {
        let keep = self.given + self.limit;
        if self.pending.len() > keep {
            self.skipped += (self.pending.len() - keep) as u64;
            self.pending.truncate(keep);
            self.searched = keep;
        }
    }

    fn reset(&mut self) {
        self.pending.clear();
        (self.given, self.searched) = (0, 0);
        if self.pending.capacity() > KEEP_CAPACITY {
            self.pending = Vec::new();
        }
    }
}

/// Splits a whole stream that is given in chunks; for recorded streams and tests.
pub fn split_all<'a>(limit: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Line> {
    let mut splitter = LineSplitter::new(limit);
    let mut lines = Vec::new();
    for chunk in chunks {
        splitter.feed(chunk);
        lines.extend(std::iter::from_fn(|| splitter.next_line()));
    }
    lines.extend(splitter.finish());
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(text: &str) -> Line {
        Line { bytes: text.into(), full_bytes: text.len() as u64 }
    }

    #[test]
    fn lines_and_a_rest() {
        assert_eq!(split_all(9, [&b"a\n\nb"[..]]), [line("a"), line(""), line("b")]);
        assert_eq!(split_all(9, [&b""[..]]), []);
        assert_eq!(split_all(9, [&b"a\n"[..]]), [line("a")]);
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_is_whole() {
        let long = Line { bytes: b"abc".into(), full_bytes: 7 };
        assert_eq!(split_all(3, [&b"abcd"[..], b"efg", b"\nxyz\n"]), [long.clone(), line("xyz")]);
        assert_eq!(split_all(3, [&b"abcdefg"[..]]), [long]);
    }

    #[test]
    fn memory_stays_bounded() {
        let mut splitter = LineSplitter::new(100);
        for _ in 0..1000 {
            splitter.feed(&[b'x'; 1000]);
            assert_eq!(splitter.next_line(), None);
            assert!(splitter.pending.len() <= 100);
        }
        assert_eq!(splitter.finish().map(|line| line.full_bytes), Some(1_000_000));
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(bytes in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
                              cuts in prop::collection::vec(0usize..200, 0..20), limit in 1usize..20) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(split_all(limit, chunks), split_all(limit, [&bytes[..]]));
        }
    }
}
