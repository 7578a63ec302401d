//! From what builders say to steps and lines.
//!
//! BuildKit sends snapshots of the vertices of its graph, each many times, and output in pieces that end anywhere;
//! the classic builder sends text with `Step n/m :` lines. Both become the same events, each step's start and end once.

use std::collections::HashMap;

use bollard::moby::buildkit::v1::{StatusResponse, Vertex};

use crate::engine::{BuildProgress, EngineError};

/// The longest line of output that is kept together; a longer one is cut into lines.
const MAX_LINE: usize = 8 * 1024;

#[derive(Debug, Default)]
pub(super) struct Tracker {
    steps: HashMap<String, Step>,
    /// The step that classic output belongs to.
    current: Option<String>,
    /// The first step that failed, and what it said.
    failure: Option<(String, String)>,
}

#[derive(Debug, Default)]
struct Step {
    name: String,
    started: bool,
    ended: bool,
    partial: Vec<u8>,
}

impl Tracker {
    /// Reads one BuildKit report.
    pub(super) fn buildkit(&mut self, status: &StatusResponse) -> Vec<BuildProgress> {
        let mut said = Vec::new();
        // Starts and output before ends: a step's last line and its end may share a report.
        for vertex in &status.vertexes {
            let step = self.steps.entry(vertex.digest.clone()).or_default();
            step.name.clone_from(&vertex.name);
            if vertex.started.is_some() && !step.started && !vertex.cached {
                step.started = true;
                said.push(BuildProgress::Step { id: vertex.digest.clone(), name: vertex.name.clone() });
            }
        }
        for log in &status.logs {
            let step = self.steps.entry(log.vertex.clone()).or_default();
            step.partial.extend_from_slice(&log.msg);
            drain_lines(&log.vertex, &mut step.partial, &mut said);
        }
        for vertex in &status.vertexes {
            self.end(vertex, &mut said);
        }
        for warning in &status.warnings {
            let message = String::from_utf8_lossy(&warning.short).into_owned();
            said.push(BuildProgress::Warning { message });
        }
        said
    }

    fn end(&mut self, vertex: &Vertex, said: &mut Vec<BuildProgress>) {
        let step = self.steps.entry(vertex.digest.clone()).or_default();
        if vertex.completed.is_none() || step.ended {
            return;
        }
        step.ended = true;
        flush(&vertex.digest, &mut step.partial, said);
        let (id, name) = (vertex.digest.clone(), vertex.name.clone());
        if !vertex.error.is_empty() {
            // When one step fails the others are cancelled, and say so.
            if self.failure.is_none() && !vertex.error.ends_with("context canceled") {
                self.failure = Some((name.clone(), vertex.error.clone()));
            }
            said.push(BuildProgress::Failed { id, name, message: vertex.error.clone() });
        } else if vertex.cached {
            said.push(BuildProgress::Cached { id, name });
        } else {
            said.push(BuildProgress::Done { id, name });
        }
    }

    /// Reads a piece of classic output.
    pub(super) fn classic(&mut self, text: &str) -> Vec<BuildProgress> {
        let mut said = Vec::new();
        // Podman shouts.
        if let Some(name) = text.strip_prefix("Step ").or_else(|| text.strip_prefix("STEP ")) {
            self.close_current(&mut said);
            let name = name.trim_end().to_owned();
            let id = name.clone();
            self.steps.insert(id.clone(), Step { name: name.clone(), started: true, ..Step::default() });
            self.current = Some(id.clone());
            said.push(BuildProgress::Step { id, name });
            return said;
        }
        let id = self.current.clone().unwrap_or_default();
        let step = self.steps.entry(id.clone()).or_default();
        step.partial.extend_from_slice(text.as_bytes());
        drain_lines(&id, &mut step.partial, &mut said);
        said
    }

    fn close_current(&mut self, said: &mut Vec<BuildProgress>) {
        let Some(id) = self.current.take() else { return };
        if let Some(step) = self.steps.get_mut(&id) {
            step.ended = true;
            flush(&id, &mut step.partial, said);
            said.push(BuildProgress::Done { id, name: step.name.clone() });
        }
    }

    /// The build failed with `message`: what is left to tell, and the error that names the step.
    pub(super) fn failed(&mut self, message: &str) -> (Vec<BuildProgress>, EngineError) {
        let mut said = Vec::new();
        for (id, step) in &mut self.steps {
            flush(id, &mut step.partial, &mut said);
        }
        if let Some((step, why)) = self.failure.take() {
            let message = if message.is_empty() { why } else { message.to_owned() };
            return (said, EngineError::BuildFailed { step, message });
        }
        let step = match self.current.take() {
            Some(id) => {
                let name = self.steps.get(&id).map(|step| step.name.clone()).unwrap_or_default();
                said.push(BuildProgress::Failed { id, name: name.clone(), message: message.to_owned() });
                name
            }
            // Before any step: the recipe itself.
            None => "read the recipe".to_owned(),
        };
        (said, EngineError::BuildFailed { step, message: message.to_owned() })
    }

    /// The build ended well: what is left to tell.
    pub(super) fn finish(&mut self) -> Vec<BuildProgress> {
        let mut said = Vec::new();
        self.close_current(&mut said);
        for (id, step) in &mut self.steps {
            flush(id, &mut step.partial, &mut said);
        }
        said
    }
}

/// Takes whole lines out of `partial`; carriage returns end a line as well, so that progress bars stay readable.
fn drain_lines(id: &str, partial: &mut Vec<u8>, said: &mut Vec<BuildProgress>) {
    while let Some(end) = partial.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        let line: Vec<u8> = partial.drain(..=end).take(end).collect();
        push_line(id, &line, said);
    }
    while partial.len() > MAX_LINE {
        let line: Vec<u8> = partial.drain(..MAX_LINE).collect();
        push_line(id, &line, said);
    }
}

fn flush(id: &str, partial: &mut Vec<u8>, said: &mut Vec<BuildProgress>) {
    let rest = std::mem::take(partial);
    push_line(id, &rest, said);
}

fn push_line(id: &str, line: &[u8], said: &mut Vec<BuildProgress>) {
    if !line.is_empty() {
        said.push(BuildProgress::Log { id: id.to_owned(), line: String::from_utf8_lossy(line).into_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::moby::buildkit::v1::VertexLog;

    fn vertex(digest: &str, stage: &str) -> Vertex {
        // Presence is what counts; the time itself is not looked at.
        let time = Some(Default::default());
        let mut vertex = Vertex { digest: digest.into(), name: format!("[1/1] RUN {digest}"), ..Vertex::default() };
        match stage {
            "started" => vertex.started = time,
            "cached" => (vertex.started, vertex.completed, vertex.cached) = (time, time, true),
            "done" => (vertex.started, vertex.completed) = (time, time),
            _ => (vertex.started, vertex.completed, vertex.error) = (time, time, stage.into()),
        }
        vertex
    }

    fn report(vertexes: Vec<Vertex>, logs: Vec<(&str, &str)>) -> StatusResponse {
        StatusResponse {
            vertexes,
            logs: logs
                .into_iter()
                .map(|(vertex, text)| VertexLog { vertex: vertex.into(), msg: text.into(), ..VertexLog::default() })
                .collect(),
            ..StatusResponse::default()
        }
    }

    fn words(events: &[BuildProgress]) -> Vec<String> {
        events
            .iter()
            .map(|event| match event {
                BuildProgress::Step { id, .. } => format!("step {id}"),
                BuildProgress::Cached { id, .. } => format!("cached {id}"),
                BuildProgress::Done { id, .. } => format!("done {id}"),
                BuildProgress::Log { id, line } => format!("{id}: {line}"),
                BuildProgress::Warning { message } => format!("warning {message}"),
                BuildProgress::Failed { id, message, .. } => format!("failed {id} {message}"),
            })
            .collect()
    }

    #[test]
    fn buildkit_snapshots_become_single_events() {
        let mut tracker = Tracker::default();
        let mut all = Vec::new();
        all.extend(
            tracker.buildkit(&report(vec![vertex("a", "started"), vertex("c", "cached")], vec![("a", "one\ntw")])),
        );
        all.extend(tracker.buildkit(&report(vec![vertex("a", "started")], vec![("a", "o\n")])));
        all.extend(tracker.buildkit(&report(vec![vertex("a", "done")], vec![("a", "rest")])));
        all.extend(tracker.buildkit(&report(vec![vertex("a", "done")], vec![])));
        assert_eq!(words(&all), ["step a", "a: one", "cached c", "a: two", "a: rest", "done a"]);
        assert!(tracker.finish().is_empty());
    }

    #[test]
    fn a_failure_names_its_step_not_the_cancelled_ones() {
        let mut tracker = Tracker::default();
        tracker.buildkit(&report(vec![vertex("b", "context canceled"), vertex("a", "exit code: 3")], vec![]));
        let (_, error) = tracker.failed("process did not complete: exit code: 3");
        assert_eq!(
            error,
            EngineError::BuildFailed {
                step: "[1/1] RUN a".into(),
                message: "process did not complete: exit code: 3".into()
            }
        );
    }

    #[test]
    fn classic_text_becomes_steps() {
        let mut tracker = Tracker::default();
        let mut all = tracker.classic("Step 1/2 : FROM x");
        all.extend(tracker.classic("\n ---> 0a\n"));
        all.extend(tracker.classic("Step 2/2 : RUN false"));
        let (rest, error) = tracker.failed("returned a non-zero code: 1");
        all.extend(rest);
        assert_eq!(
            words(&all),
            [
                "step 1/2 : FROM x",
                "1/2 : FROM x:  ---> 0a",
                "done 1/2 : FROM x",
                "step 2/2 : RUN false",
                "failed 2/2 : RUN false returned a non-zero code: 1"
            ]
        );
        assert!(error.to_string().contains("2/2 : RUN false"));
    }

    #[test]
    fn long_lines_are_cut() {
        let mut tracker = Tracker::default();
        let text = "x".repeat(3 * MAX_LINE);
        let said = tracker.buildkit(&report(vec![vertex("a", "started")], vec![("a", &text)]));
        assert_eq!(said.len(), 3);
        assert_eq!(tracker.finish().len(), 1);
    }
}
