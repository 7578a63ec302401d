//! Replay scripts: what the model answers (`docs/replay.md`).

use serde_json::{Value, json};

/// A script that is being written, one answer after the other.
#[derive(Clone, Debug, Default)]
pub struct Script {
    lines: Vec<Value>,
}

impl Script {
    /// Without answers.
    pub fn new() -> Self {
        Self::default()
    }

    /// A script that lies in a file.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn from_file(path: impl AsRef<std::path::Path>) -> Self {
        let text = std::fs::read_to_string(path).expect("a script");
        Self { lines: text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect() }
    }

    /// The model speaks, and its turn is over.
    #[must_use]
    pub fn say(self, text: &str) -> Self {
        self.line(json!({ "say": text }))
    }

    /// The model lets the agent run a shell command.
    #[must_use]
    pub fn bash(self, command: &str) -> Self {
        self.line(json!({"tool": "Bash", "input": {"command": command, "description": "A step", "timeout": 600_000}}))
    }

    /// Any line.
    #[must_use]
    pub fn line(mut self, line: Value) -> Self {
        self.lines.push(line);
        self
    }

    /// Adds a field to the last answer.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.lines.last_mut().expect("an answer comes first")[field] = value.into();
        self
    }

    /// The last answer is only given to a request that contains this text.
    #[must_use]
    pub fn expect(self, text: &str) -> Self {
        self.with("expect", text)
    }

    /// The last answer comes after a pause.
    #[must_use]
    pub fn after_ms(self, pause: u64) -> Self {
        self.with("delayMs", pause)
    }

    /// As it stands in a file.
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
