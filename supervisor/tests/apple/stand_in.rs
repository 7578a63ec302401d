//! The stand-in for the `container` command, and the form of its recordings:
//!
//! ```text
//! $ list --all --format json            the words; as a JSON array if one has a space; `*` stands for anything
//! = 0                                   what it ends with; then how: `late` (after half a second), `hang`, `endless`
//! < [{"id":"a"}]                        a line of standard output
//! ! Error: notFound: "…"                a line of standard error
//! ```

use std::path::{Path, PathBuf};

use supervisor::engine::apple::AppleEngine;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apple");

/// One run of the command.
#[derive(Debug, Default)]
struct Recording {
    words: Vec<String>,
    code: String,
    manner: String,
    stdout: String,
    stderr: String,
}

/// A folder with the command and what it is to answer.
pub(crate) struct StandIn {
    folder: tempfile::TempDir,
    recorded: Vec<String>,
}

impl StandIn {
    /// Plays the recordings of these files, one after the other.
    pub(crate) fn play(files: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(format!("{FOLDER}/container.sh"), folder.path().join("container")).unwrap();
        let text: String = files
            .iter()
            .map(|file| std::fs::read_to_string(format!("{FOLDER}/recordings/{file}.txt")).expect(file))
            .collect();
        let recordings = parse(&text);
        for (number, recording) in recordings.iter().enumerate() {
            let place = folder.path().join(format!("recordings/{number:03}"));
            std::fs::create_dir_all(&place).unwrap();
            let write = |name: &str, text: &str| std::fs::write(place.join(name), text).unwrap();
            write("argv", &recording.words.join("\n"));
            write("code", &recording.code);
            write("manner", &recording.manner);
            write("stdout", &recording.stdout);
            write("stderr", &recording.stderr);
            if recording.words.iter().any(|word| word.contains('*')) {
                write("pattern", "");
            }
        }
        let recorded = recordings.iter().map(|recording| recording.words.join(" ")).collect();
        Self { folder, recorded }
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.folder.path().join("container")
    }

    pub(crate) async fn connect(&self) -> AppleEngine {
        AppleEngine::connect(self.program()).await.unwrap()
    }

    pub(crate) fn file(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.folder.path().join(name)).ok()
    }

    /// Everything that was recorded was asked, in that order, and nothing else.
    pub(crate) fn was_asked_in_order(self) {
        let asked = self.check();
        for (asked, recorded) in asked.iter().zip(&self.recorded) {
            assert!(asked == recorded || recorded.contains('*'), "asked {asked:?}, recorded {recorded:?}");
        }
    }

    /// The same, in any order: some runs are beside each other.
    pub(crate) fn was_asked(self) {
        self.check();
    }

    fn check(&self) -> Vec<String> {
        assert_eq!(self.file("unknown"), None, "the command was given words that are not recorded");
        let asked: Vec<String> = split_runs(&self.file("asked").unwrap_or_default(), &self.recorded);
        assert_eq!(asked.len(), self.recorded.len(), "asked: {asked:#?}\nrecorded: {:#?}", self.recorded);
        asked
    }
}

/// A word may have line ends of its own, which a run's line in `asked` then has, too.
fn split_runs(asked: &str, recorded: &[String]) -> Vec<String> {
    let mut runs: Vec<String> = Vec::new();
    for line in asked.lines() {
        let first = line.split(' ').next().unwrap_or_default();
        let begins = recorded.iter().any(|words| words.split(' ').next() == Some(first));
        match runs.last_mut() {
            Some(last) if !begins => *last = format!("{last}\n{line}"),
            _ => runs.push(line.to_owned()),
        }
    }
    runs
}

fn parse(text: &str) -> Vec<Recording> {
    let mut recordings: Vec<Recording> = Vec::new();
    for line in text.lines() {
        let (sign, rest) = line.split_at(line.len().min(2));
        if sign == "$ " {
            recordings.push(Recording { words: words(rest), ..Recording::default() });
            continue;
        }
        let last = recordings.last_mut();
        match (sign, last) {
            ("= ", Some(last)) => {
                let (code, manner) = rest.split_once(' ').unwrap_or((rest, "plain"));
                (last.code, last.manner) = (code.to_owned(), manner.to_owned());
            }
            ("< ", Some(last)) => last.stdout.extend([rest, "\n"]),
            ("! ", Some(last)) => last.stderr.extend([rest, "\n"]),
            // A remark, or a gap.
            ("# ", _) | ("", _) => {}
            _ => panic!("no line of a recording: {line:?}"),
        }
    }
    assert!(recordings.iter().all(|recording| !recording.code.is_empty()), "a recording does not say how it ends");
    recordings
}

fn words(line: &str) -> Vec<String> {
    if line.starts_with('[') {
        return serde_json::from_str(line).expect(line);
    }
    line.split_whitespace().map(str::to_owned).collect()
}

/// Whether a process is there.
pub(crate) fn lives(pid: &str) -> bool {
    Path::new("/proc").join(pid.trim()).exists()
}
