//! What a build is doing, as a model: the engine's reports become numbered steps, and the last lines of each step that
//! runs are kept for the case that it fails. Pure; time is an argument.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde::Serialize;
use utoipa::ToSchema;

use crate::engine::BuildProgress;

/// Lines of the failing step that an error shows.
pub const TAIL_LINES: usize = 20;
/// A line of the tail is cut here: compilers print whole command lines.
const TAIL_LINE_CHARS: usize = 500;

/// A part of an image build, in this order: `prepare` (certificates, runner, build context), `base` (the base image is looked
/// for, pulled or made), `build` (the engine follows the recipe), `label` (the versions of the tools become labels).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BuildPhase)]
pub enum Phase {
    /// Certificates, runner, context.
    Prepare,
    /// The base image is looked for, pulled or made.
    Base,
    /// The engine follows the recipe.
    Build,
    /// The tools' versions are read, and become labels.
    Label,
}

/// A report of an image build. Names and lines come from commands that ran in containers: show them only escaped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
#[schema(as = BuildProgress)]
pub enum Progress {
    /// A part of the build has begun.
    Phase {
        /// The part.
        phase: Phase,
        /// What is done in this part, as a sentence.
        detail: String,
    },
    /// A step of the recipe has begun.
    Step {
        /// The number of the step; the first step has 1.
        number: u32,
        /// How many steps there are, as far as the engine has said.
        total: u32,
        /// The instruction of the recipe.
        name: String,
    },
    /// A step of the recipe has ended well.
    StepDone {
        /// The number of the step; the first step has 1.
        number: u32,
        /// How many steps there are, as far as the engine has said.
        total: u32,
        /// The instruction of the recipe.
        name: String,
        /// Whether the engine took the result of an earlier build.
        cached: bool,
        /// How long the step took, in milliseconds.
        millis: u64,
    },
    /// A command of the build has printed a line.
    Line {
        /// The line.
        line: String,
    },
    /// The build warns of something and goes on.
    Warning {
        /// The warning, as a sentence.
        message: String,
    },
}

/// The model.
#[derive(Debug)]
pub struct Tracker {
    total: u32,
    steps: HashMap<String, Step>,
    next: u32,
    failed: Option<Vec<String>>,
}

#[derive(Debug)]
struct Step {
    /// `None` for what the builder does for itself.
    number: Option<u32>,
    name: String,
    began: Instant,
    tail: VecDeque<String>,
}

impl Tracker {
    /// A build of `expected` steps. If there turn out to be more, the total grows.
    #[must_use]
    pub fn new(expected: u32) -> Self {
        Self { total: expected, steps: HashMap::new(), next: 1, failed: None }
    }

    /// Takes a report in.
    pub fn take(&mut self, report: BuildProgress, now: Instant) -> Option<Progress> {
        match report {
            BuildProgress::Step { id, name } => {
                let step = self.step(id, &name, now);
                let (number, name) = (step.number?, step.name.clone());
                Some(Progress::Step { number, total: self.total, name })
            }
            BuildProgress::Cached { id, name } => self.end(id, &name, true, now),
            BuildProgress::Done { id, name } => self.end(id, &name, false, now),
            BuildProgress::Log { id, line } => {
                let step = self.step(id, "", now);
                if step.tail.len() == TAIL_LINES {
                    step.tail.pop_front();
                }
                step.tail.push_back(line.chars().take(TAIL_LINE_CHARS).collect());
                Some(Progress::Line { line })
            }
            BuildProgress::Warning { message } => Some(Progress::Warning { message }),
            BuildProgress::Failed { id, name, message } => {
                let step = self.step(id, &name, now);
                let tail: Vec<String> = step.tail.drain(..).collect();
                // Steps that ran beside the failing one are cancelled and say so, before or after it.
                if !message.ends_with("context canceled") && self.failed.is_none() {
                    self.failed = Some(tail);
                }
                None
            }
        }
    }

    /// The last lines of the step that failed.
    #[must_use]
    pub fn tail_of_failure(self) -> Vec<String> {
        self.failed.unwrap_or_default()
    }

    fn step(&mut self, id: String, name: &str, now: Instant) -> &mut Step {
        let (next, total) = (&mut self.next, &mut self.total);
        let step = self.steps.entry(id).or_insert_with(|| Step {
            number: None,
            name: String::new(),
            began: now,
            tail: VecDeque::new(),
        });
        if step.name.is_empty() && !name.is_empty() {
            step.name = readable(name);
            step.began = now;
            if is_of_recipe(name) {
                step.number = Some(*next);
                *total = (*total).max(*next);
                *next += 1;
            }
        }
        step
    }

    fn end(&mut self, id: String, name: &str, cached: bool, now: Instant) -> Option<Progress> {
        let total = self.total;
        let step = self.step(id, name, now);
        step.tail = VecDeque::new();
        let millis = millis(now.saturating_duration_since(step.began));
        let (number, name) = (step.number?, step.name.clone());
        Some(Progress::StepDone { number, total: total.max(number), name, cached, millis })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// BuildKit calls a step of the recipe `[stage 2/5] RUN …`, the classic builder `2/30 : RUN …`; what a builder does for
/// itself is called `[internal] …`, `exporting …` or the like.
fn is_of_recipe(name: &str) -> bool {
    let place = name
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .map_or_else(|| name.split_once(" : ").map(|(place, _)| place), |(place, _)| Some(place));
    place
        .and_then(|place| place.split_whitespace().last())
        .and_then(|place| place.split_once('/'))
        .is_some_and(|(number, of)| number.parse::<u32>().is_ok() && of.parse::<u32>().is_ok())
}

/// `[stage 2/5] RUN x` as `stage: RUN x`; the last stage has no name of its own.
fn readable(name: &str) -> String {
    if let Some((place, rest)) = name.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let stage = place.split_whitespace().next().unwrap_or_default();
        let unnamed = stage.contains('/') || stage.starts_with("stage-");
        let rest = rest.trim();
        return if unnamed { rest.to_owned() } else { format!("{stage}: {rest}") };
    }
    name.split_once(" : ").map_or(name, |(_, rest)| rest).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(id: &str, name: &str) -> BuildProgress {
        BuildProgress::Step { id: id.into(), name: name.into() }
    }

    fn log(id: &str, line: &str) -> BuildProgress {
        BuildProgress::Log { id: id.into(), line: line.into() }
    }

    #[test]
    fn steps_are_numbered_as_they_begin() {
        let start = Instant::now();
        let mut tracker = Tracker::new(2);
        assert_eq!(tracker.take(step("i", "[internal] load build context"), start), None);
        assert_eq!(
            tracker.take(step("a", "[base 1/3] FROM debian"), start),
            Some(Progress::Step { number: 1, total: 2, name: "base: FROM debian".into() })
        );
        let later = start + Duration::from_millis(1500);
        assert_eq!(
            tracker.take(BuildProgress::Done { id: "a".into(), name: "[base 1/3] FROM debian".into() }, later),
            Some(Progress::StepDone {
                number: 1,
                total: 2,
                name: "base: FROM debian".into(),
                cached: false,
                millis: 1500
            })
        );
        assert_eq!(
            tracker.take(BuildProgress::Cached { id: "b".into(), name: "[stage-5 2/3] RUN x".into() }, later),
            Some(Progress::StepDone { number: 2, total: 2, name: "RUN x".into(), cached: true, millis: 0 })
        );
        // More than were expected.
        assert_eq!(
            tracker.take(step("c", "[stage-5 3/3] RUN y"), later),
            Some(Progress::Step { number: 3, total: 3, name: "RUN y".into() })
        );
    }

    #[test]
    fn classic_names_count_too() {
        let mut tracker = Tracker::new(9);
        assert_eq!(
            tracker.take(step("1/9 : FROM x", "1/9 : FROM x"), Instant::now()),
            Some(Progress::Step { number: 1, total: 9, name: "FROM x".into() })
        );
        assert!(
            !is_of_recipe("exporting to image") && !is_of_recipe("[auth] x/y pull") && !is_of_recipe("[internal] a")
        );
    }

    #[test]
    fn a_failure_shows_the_end_of_its_own_step() {
        let now = Instant::now();
        let mut tracker = Tracker::new(2);
        tracker.take(step("a", "[x 1/2] RUN a"), now);
        tracker.take(step("b", "[y 1/2] RUN b"), now);
        for line in 0..50 {
            tracker.take(log("a", &format!("a{line}")), now);
            tracker.take(log("b", &format!("b{line}")), now);
        }
        let failed = |id: &str, message: &str| BuildProgress::Failed {
            id: id.into(),
            name: String::new(),
            message: message.into(),
        };
        tracker.take(failed("b", "rpc error: context canceled"), now);
        tracker.take(failed("a", "exit code: 1"), now);
        let tail = tracker.tail_of_failure();
        assert_eq!(tail.len(), TAIL_LINES);
        assert_eq!((tail[0].as_str(), tail[19].as_str()), ("a30", "a49"));
    }

    #[test]
    fn long_lines_are_kept_short() {
        let mut tracker = Tracker::new(1);
        tracker.take(log("a", &"é".repeat(5000)), Instant::now());
        assert_eq!(tracker.steps["a"].tail[0].chars().count(), TAIL_LINE_CHARS);
    }
}
