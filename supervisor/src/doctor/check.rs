//! One check, and all of them.

use serde::Serialize;
use utoipa::ToSchema;

/// How a check ended: `ok`, `warning` (runs are possible, with less than they should have), `failed` (runs will fail), or
/// `skipped` (the check could not be made; `detail` says why).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// Runs are possible, with less than they should have.
    Warning,
    /// Runs will fail.
    Failed,
    /// It could not be looked at; the detail says why.
    Skipped,
}

/// One check of the report. Details may hold text of foreign origin: show them only escaped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Check {
    /// The name of the check, such as `engine`.
    pub name: &'static str,
    /// How the check ended.
    pub status: Verdict,
    /// What was found, as a sentence.
    pub detail: String,
    /// What to do about a warning or a failure, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    #[must_use]
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Verdict::Ok, detail: detail.into(), remedy: None }
    }

    #[must_use]
    pub fn warning(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Verdict::Warning, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    #[must_use]
    pub fn failed(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Verdict::Failed, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    #[must_use]
    pub fn skipped(name: &'static str, reason: impl Into<String>) -> Self {
        Self { name, status: Verdict::Skipped, detail: reason.into(), remedy: None }
    }
}

/// All checks, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Report {
    pub checks: Vec<Check>,
}

impl Report {
    /// Nothing failed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.count(Verdict::Failed) == 0
    }

    /// How many checks ended so.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.status == verdict).count()
    }
}
