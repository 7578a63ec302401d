//! BuildKit's plain progress, line by line:
//!
//! ```text
//! #5 [2/3] RUN make          a step begins
//! #5 0.312 cc -c main.c      it prints
//! #5 CACHED                  it was at hand
//! #5 DONE 1.2s               it ended
//! #5 ERROR: …                it failed
//! ```
//!
//! Other lines are the command's own words; the last ones tell why a build failed that no step did.

use std::collections::{HashMap, VecDeque};

use crate::engine::error::clip;
use crate::engine::{BuildProgress, EngineError};

/// The command's own last words that are kept.
const LAST_WORDS: usize = 20;

#[derive(Debug, Default)]
pub(super) struct Tracker {
    /// Names of steps by their number.
    steps: HashMap<String, String>,
    /// The first step that failed, and what it said.
    failed: Option<(String, String)>,
    words: VecDeque<String>,
}

impl Tracker {
    /// Reads a line.
    pub(super) fn line(&mut self, line: &str) -> Vec<BuildProgress> {
        let line = line.trim_end();
        let Some((id, rest)) = step(line) else {
            if !line.is_empty() {
                self.words.truncate(LAST_WORDS - 1);
                self.words.push_front(line.to_owned());
            }
            return Vec::new();
        };
        let (id, name) = (id.to_owned(), self.steps.get(id).cloned());
        let Some(name) = name else {
            self.steps.insert(id.clone(), rest.to_owned());
            return vec![BuildProgress::Step { id, name: rest.to_owned() }];
        };
        vec![if rest == "CACHED" {
            BuildProgress::Cached { id, name }
        } else if rest.strip_prefix("DONE ").is_some_and(is_seconds) {
            BuildProgress::Done { id, name }
        } else if let Some(message) = rest.strip_prefix("ERROR: ") {
            self.failed.get_or_insert_with(|| (name.clone(), message.to_owned()));
            BuildProgress::Failed { id, name, message: message.to_owned() }
        } else {
            let text = rest.split_once(' ').filter(|(first, _)| is_seconds(first)).map_or(rest, |(_, text)| text);
            if text == name {
                // It is named again when it goes on after others.
                return Vec::new();
            }
            BuildProgress::Log { id, line: text.to_owned() }
        }]
    }

    /// Why the build failed.
    pub(super) fn failure(self) -> EngineError {
        let (step, message) = self.failed.unwrap_or_else(|| {
            let words: Vec<String> = self.words.into_iter().rev().collect();
            ("container build".to_owned(), words.join("\n"))
        });
        EngineError::BuildFailed { step, message: clip(&message) }
    }
}

/// The number of a step, and the rest of the line.
fn step(line: &str) -> Option<(&str, &str)> {
    let (number, rest) = line.strip_prefix('#')?.split_once(' ')?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some((number, rest))
}

/// `1.2s` or `0.312`
fn is_seconds(text: &str) -> bool {
    text.strip_suffix('s').unwrap_or(text).parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_steps() {
        let mut tracker = Tracker::default();
        let text = "#1 [internal] load\n#1 DONE 0.0s\n\n#5 [2/2] RUN x\n#5 0.312 built it\n#5 [2/2] RUN x\n#6 [1/2] FROM y\n\
                    #6 CACHED\n#5 DONE nothing\n#5 ERROR: process \"x\" did not complete: exit code: 3\nError: late";
        let said: Vec<BuildProgress> = text.lines().flat_map(|line| tracker.line(line)).collect();
        let name = |text: &str| text.to_owned();
        let message = name("process \"x\" did not complete: exit code: 3");
        assert_eq!(
            said,
            [
                BuildProgress::Step { id: name("1"), name: name("[internal] load") },
                BuildProgress::Done { id: name("1"), name: name("[internal] load") },
                BuildProgress::Step { id: name("5"), name: name("[2/2] RUN x") },
                BuildProgress::Log { id: name("5"), line: name("built it") },
                BuildProgress::Step { id: name("6"), name: name("[1/2] FROM y") },
                BuildProgress::Cached { id: name("6"), name: name("[1/2] FROM y") },
                BuildProgress::Log { id: name("5"), line: name("DONE nothing") },
                BuildProgress::Failed { id: name("5"), name: name("[2/2] RUN x"), message: message.clone() },
            ]
        );
        assert_eq!(tracker.failure(), EngineError::BuildFailed { step: name("[2/2] RUN x"), message });
    }

    #[test]
    fn the_last_words_tell_of_a_build_that_never_began() {
        let mut tracker = Tracker::default();
        for number in 0..LAST_WORDS + 5 {
            assert_eq!(tracker.line(&format!("word {number}")), []);
        }
        tracker.line("Error: Dockerfile size exceeds the maximum");
        let EngineError::BuildFailed { message, .. } = tracker.failure() else { panic!() };
        assert!(message.ends_with("maximum") && !message.contains("word 5\n"), "{message}");
    }
}
