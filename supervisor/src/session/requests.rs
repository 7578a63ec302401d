//! What becomes of the requests that an agent puts into `tasks/`. Identity is the session, never the payload.
//!
//! A session of its own (as opposed to one of a group) may start tasks, containers and host commands within its agent's
//! limits; schedules and groups are not its business. What this build cannot do yet is refused in so many words, so
//! that the agent can go on.

use ipc_protocol::task::TaskRequest;

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The request's type.
    pub request: &'static str,
    /// A word for programs.
    pub code: &'static str,
    /// A sentence for the agent.
    pub message: &'static str,
}

/// Judges a request of a single session.
pub fn judge(request: &TaskRequest) -> Refusal {
    let (request, group) = match request {
        TaskRequest::CreateTask { .. } => ("create_task", false),
        TaskRequest::RunContainer(_) => ("run_container", false),
        TaskRequest::ServiceStart { .. } => ("service_start", false),
        TaskRequest::ServiceStop(_) => ("service_stop", false),
        TaskRequest::ServiceRestart(_) => ("service_restart", false),
        TaskRequest::ServiceRemove(_) => ("service_remove", false),
        TaskRequest::ServiceList {} => ("service_list", false),
        TaskRequest::ServiceLogs { .. } => ("service_logs", false),
        TaskRequest::HostCommand { .. } => ("host_command", false),
        TaskRequest::ScheduleTask(_) => ("schedule_task", true),
        TaskRequest::UpdateTask { .. } => ("update_task", true),
        TaskRequest::PauseTask(_) => ("pause_task", true),
        TaskRequest::ResumeTask(_) => ("resume_task", true),
        TaskRequest::CancelTask(_) => ("cancel_task", true),
        TaskRequest::ListTasks {} => ("list_tasks", true),
        TaskRequest::RegisterGroup { .. } => ("register_group", true),
        TaskRequest::RefreshGroups {} => ("refresh_groups", true),
    };
    if group {
        let message = "schedules and groups are not available in a session of its own; ask your people to set them up";
        Refusal { request, code: "not_allowed", message }
    } else {
        let message =
            "this supervisor runs one session at a time and cannot do this for you; do it inside the container";
        Refusal { request, code: "not_available", message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_gets_an_answer_that_fits() {
        assert_eq!(judge(&TaskRequest::ListTasks {}).code, "not_allowed");
        assert_eq!(judge(&TaskRequest::ServiceList {}).code, "not_available");
    }
}
