//! Container to host: what agents put in `tasks/`. Each request gets a [`crate::reply::Reply`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::MessageId;

/// One file in `tasks/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskFile {
    /// Unique in the session, the name of the reply; defaults to the file's stem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// What is asked for.
    #[serde(flatten)]
    pub request: TaskRequest,
}

/// What an agent asks of the supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum TaskRequest {
    /// Start another session now.
    CreateTask {
        /// What that session is to do.
        prompt: String,
        /// Its name for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// Run a prompt by the clock.
    ScheduleTask(NewSchedule),
    /// Change a schedule; absent fields stay.
    UpdateTask {
        /// The schedule.
        task_id: String,
        /// New prompt.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prompt: Option<String>,
        /// New time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schedule: Option<Schedule>,
    },
    /// Stop a schedule for a while.
    PauseTask(TaskRef),
    /// Let a paused schedule go on.
    ResumeTask(TaskRef),
    /// Remove a schedule.
    CancelTask(TaskRef),
    /// All schedules that the session may see.
    ListTasks {},
    /// Run a command in a container of its own and get its output.
    RunContainer(ContainerSpec),
    /// Start a container that stays until stopped.
    ServiceStart {
        /// Its name within the session's agent.
        name: String,
        /// What to run.
        #[serde(flatten)]
        container: ContainerSpec,
        /// Container ports to publish on the host's loopback.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ports: Vec<u16>,
    },
    /// Stop a service.
    ServiceStop(ServiceRef),
    /// Stop and start a service.
    ServiceRestart(ServiceRef),
    /// Stop and forget a service.
    ServiceRemove(ServiceRef),
    /// All services of the session's agent.
    ServiceList {},
    /// The last lines of a service's output.
    ServiceLogs {
        /// The service.
        name: String,
        /// How many lines; the supervisor bounds it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tail: Option<u32>,
    },
    /// Run a command on the host, after a person's approval of exactly this command.
    HostCommand {
        /// Program and arguments; no shell is involved.
        argv: Vec<String>,
        /// Why, for the person who approves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Make a chat a group of its own.
    RegisterGroup {
        /// The chat.
        chat_jid: String,
        /// The group's name.
        name: String,
    },
    /// Read the list of chats anew.
    RefreshGroups {},
}

/// Names a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskRef {
    /// The schedule.
    pub task_id: String,
}

/// Names a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRef {
    /// The service.
    pub name: String,
}

/// A new schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewSchedule {
    /// What to do each time.
    pub prompt: String,
    /// When.
    pub schedule: Schedule,
    /// Its name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The group that it runs for; the supervisor decides if the session may name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Whether the group's conversation goes on or a fresh one starts.
    #[serde(default)]
    pub context_mode: ContextMode,
}

/// When a schedule runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// How to read `value`.
    #[serde(rename = "type")]
    pub kind: ScheduleKind,
    /// A cron line of 5 fields, an interval in milliseconds, or an RFC 3339 time.
    pub value: String,
}

/// How a schedule's value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// crontab(5), 5 fields.
    Cron,
    /// Milliseconds.
    Interval,
    /// One RFC 3339 time.
    Once,
}

/// Which conversation a schedule uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextMode {
    /// The group's.
    Group,
    /// A fresh one each time.
    #[default]
    Isolated,
}

/// A container that an agent asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSpec {
    /// The image; the supervisor decides if it may be used.
    pub image: String,
    /// Program and arguments; the image's own if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Seconds until it is stopped; the supervisor bounds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_secs: Option<u64>,
}
