//! Names inside a session's IPC directory.

/// Where the container sees the IPC directory.
pub const CONTAINER_IPC_DIR: &str = "/workspace/ipc";
/// Where the container sees the user's folder.
pub const CONTAINER_WORKSPACE: &str = "/workspace";
/// Where the container sees additional mounts, one folder each.
pub const CONTAINER_EXTRA_DIR: &str = "/workspace/extra";

/// Host to runner: messages and interrupts.
pub const INPUT_DIR: &str = "input";
/// Host to runner: finish what is pending, then end.
pub const CLOSE_FILE: &str = "_close";
/// Container to host: messages, questions, files.
pub const MESSAGES_DIR: &str = "messages";
/// Container to host: requests.
pub const TASKS_DIR: &str = "tasks";
/// Host to container: what became of a request.
pub const REPLIES_DIR: &str = "replies";
/// Runner to host: the journal.
pub const EVENTS_DIR: &str = "events";
/// Runner to host: state and heartbeat.
pub const STATUS_FILE: &str = "status.json";
/// Host to agent: the tasks that its group may see.
pub const CURRENT_TASKS_FILE: &str = "current_tasks.json";
/// Host to agent: the groups that it may see.
pub const AVAILABLE_GROUPS_FILE: &str = "available_groups.json";

/// All folders of a fresh IPC directory.
pub const DIRS: [&str; 5] = [INPUT_DIR, MESSAGES_DIR, TASKS_DIR, REPLIES_DIR, EVENTS_DIR];
