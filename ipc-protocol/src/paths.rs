//! Names inside a session's two directories, and where a container sees these.

/// Where the container sees the user's folder.
pub const CONTAINER_WORKSPACE: &str = "/workspace";
/// The mailbox's place outside of the workspace. Exists in every session.
pub const CONTAINER_IPC_DIR: &str = "/run/aigo/ipc";
/// The mailbox's place in the workspace, which agents were promised. Missing where the user's folder does not allow a
/// mount point of that name.
pub const WORKSPACE_IPC_DIR: &str = "/workspace/ipc";
/// Names the mailbox's place in the environment of the agent.
pub const IPC_DIR_ENV: &str = "AIGO_IPC_DIR";
/// A folder of the container's own file system that only its root may enter, so that the agent's user cannot reach what is
/// mounted in it. The user that owns the mounted folder on the host can have the same number as the agent's user.
pub const CONTAINER_PRIVATE_DIR: &str = "/run/aigo/private";
/// Where the container's root sees the journal and the heartbeat.
pub const CONTAINER_RECORD_DIR: &str = "/run/aigo/private/record";
/// Where the container sees additional mounts, one folder each.
pub const CONTAINER_EXTRA_DIR: &str = "/workspace/extra";
/// The place of additional mounts where the user's folder does not allow a mount point named `extra`.
pub const OUTER_EXTRA_DIR: &str = "/run/aigo/extra";
/// Names the place of additional mounts in the environment of the agent.
pub const EXTRA_DIR_ENV: &str = "AIGO_EXTRA_DIR";

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

/// All folders of a fresh mailbox.
pub const MAILBOX_DIRS: [&str; 4] = [INPUT_DIR, MESSAGES_DIR, TASKS_DIR, REPLIES_DIR];
