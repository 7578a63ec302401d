//! What is being brought up, in words.

use super::sanitize::field;
use crate::session::event::LaunchStep;

/// A line for one step.
pub fn launch_step(step: LaunchStep, detail: Option<&str>) -> String {
    let what = match step {
        LaunchStep::Network => "network",
        LaunchStep::Proxy => "credential proxy",
        LaunchStep::Container => "container",
        LaunchStep::Start => "started",
    };
    match detail {
        Some(detail) => format!("  · {what}: {}", field(detail)),
        None => format!("  · {what}"),
    }
}
