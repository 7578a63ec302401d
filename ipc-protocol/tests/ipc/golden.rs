//! The wire is append-only: each golden file is read and written back unchanged. Files are added, never edited; a file
//! of an older generation stays and must still be read.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ipc_protocol::config::{AgentSpec, RunnerConfig};
use ipc_protocol::event::{Event, EventKind};
use ipc_protocol::input::{Input, InputFile};
use ipc_protocol::outgoing::{Outgoing, OutgoingFile};
use ipc_protocol::reply::Reply;
use ipc_protocol::status::{RunnerState, Status};
use ipc_protocol::task::{TaskFile, TaskRequest};
use serde_json::{Map, Value};

/// Every file: its name without `.json`, and its content.
fn golden() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = crate::common::names(&folder)
        .into_iter()
        .map(|name| {
            let value = serde_json::from_slice(&fs::read(folder.join(&name)).unwrap()).unwrap();
            (name.strip_suffix(".json").unwrap().to_owned(), value)
        })
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

/// What a file holds, by the first word of its name: read, its variant's name, and written again.
fn read(name: &str, bytes: &[u8]) -> (&'static str, Value) {
    let (family, _) = name.split_once('-').unwrap();
    fn parse<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> T {
        serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
    fn write(value: &impl serde::Serialize) -> Value {
        serde_json::to_value(value).unwrap()
    }
    match family {
        "input" => {
            let file: InputFile = parse(name, bytes);
            (input_name(&file.input), write(&file))
        }
        "outgoing" => {
            let file: OutgoingFile = parse(name, bytes);
            (outgoing_name(&file.outgoing), write(&file))
        }
        "task" => {
            let file: TaskFile = parse(name, bytes);
            (task_name(&file.request), write(&file))
        }
        "event" => {
            let event = Event::parse(bytes).unwrap();
            (event_name(&event.kind), write(&event))
        }
        "status" => {
            let status: Status = parse(name, bytes);
            (state_name(status.state), write(&status))
        }
        "reply" => {
            let reply: Reply = parse(name, bytes);
            (if reply.ok { "done" } else { "failed" }, write(&reply))
        }
        "config" => {
            let config: RunnerConfig = parse(name, bytes);
            (agent_name(&config.agent), write(&config))
        }
        other => panic!("{name}: what is {other}?"),
    }
}

#[test]
fn every_file_is_read_and_written_back_unchanged() {
    for (name, value) in golden() {
        let (variant, written) = read(&name, value.to_string().as_bytes());
        assert_eq!(written, value, "{name}");
        let (family, rest) = name.split_once('-').unwrap();
        assert!(rest == variant || rest.starts_with(&format!("{variant}-")), "{family}: {name} holds {variant}");
    }
}

#[test]
fn every_variant_has_a_file() {
    let have: BTreeSet<String> = golden().into_iter().map(|(name, _)| name).collect();
    let families: [(&str, &[&str]); 7] = [
        ("input", &INPUTS),
        ("outgoing", &OUTGOING),
        ("task", &TASKS),
        ("event", &EVENTS),
        ("status", &STATES),
        ("reply", &["done", "failed"]),
        ("config", &AGENTS),
    ];
    for (family, variants) in families {
        for variant in variants {
            assert!(have.contains(&format!("{family}-{variant}")), "tests/golden/{family}-{variant}.json is missing");
        }
    }
}

#[test]
fn fields_that_a_newer_peer_adds_are_ignored() {
    for (name, value) in golden() {
        let Value::Object(mut newer) = value.clone() else { panic!("{name}") };
        newer.insert("aFieldOfTheFuture".into(), serde_json::json!({"deep": [1, {"x": null}]}));
        let (_, written) = read(&name, Value::Object(newer).to_string().as_bytes());
        assert_eq!(written, value, "{name}");
    }
}

#[test]
fn a_newer_variant_is_refused_where_it_asks_and_kept_where_it_tells() {
    for family in ["input", "outgoing", "task"] {
        let body = br#"{"type":"of_the_future"}"#;
        let refused = match family {
            "input" => serde_json::from_slice::<InputFile>(body).is_err(),
            "outgoing" => serde_json::from_slice::<OutgoingFile>(body).is_err(),
            _ => serde_json::from_slice::<TaskFile>(body).is_err(),
        };
        assert!(refused, "{family}");
    }
    let mut line = Map::new();
    line.extend([("seq".into(), 1.into()), ("at".into(), 1.into()), ("kind".into(), "of_the_future".into())]);
    let event = Event::parse(Value::Object(line).to_string().as_bytes()).unwrap();
    assert_eq!(event_name(&event.kind), "raw");
}

/// For each enum of the wire: a function that no new variant gets past the compiler without a name, and the list of
/// these names (checked against each other by the files).
macro_rules! names {
    ($list:ident, $function:ident, $type:ty, $($pattern:pat => $name:literal),+ $(,)?) => {
        const $list: [&str; [$($name),+].len()] = [$($name),+];
        fn $function(value: $type) -> &'static str {
            match value { $($pattern => $name),+ }
        }
    };
}

names!(INPUTS, input_name, &Input, Input::Message(_) => "message", Input::Interrupt {} => "interrupt");
names!(OUTGOING, outgoing_name, &Outgoing,
    Outgoing::Message { .. } => "message", Outgoing::Question { .. } => "question", Outgoing::File { .. } => "file");
names!(TASKS, task_name, &TaskRequest,
    TaskRequest::CreateTask { .. } => "create_task",
    TaskRequest::ScheduleTask(_) => "schedule_task",
    TaskRequest::UpdateTask { .. } => "update_task",
    TaskRequest::PauseTask(_) => "pause_task",
    TaskRequest::ResumeTask(_) => "resume_task",
    TaskRequest::CancelTask(_) => "cancel_task",
    TaskRequest::ListTasks {} => "list_tasks",
    TaskRequest::RunContainer(_) => "run_container",
    TaskRequest::ServiceStart { .. } => "service_start",
    TaskRequest::ServiceStop(_) => "service_stop",
    TaskRequest::ServiceRestart(_) => "service_restart",
    TaskRequest::ServiceRemove(_) => "service_remove",
    TaskRequest::ServiceList {} => "service_list",
    TaskRequest::ServiceLogs { .. } => "service_logs",
    TaskRequest::HostCommand { .. } => "host_command",
    TaskRequest::RegisterGroup { .. } => "register_group",
    TaskRequest::RefreshGroups {} => "refresh_groups",
);
names!(EVENTS, event_name, &EventKind,
    EventKind::RunnerStarted { .. } => "runner_started",
    EventKind::SetupStep { .. } => "setup_step",
    EventKind::MountMismatch { .. } => "mount_mismatch",
    EventKind::AgentStarted { .. } => "agent_started",
    EventKind::Ready {} => "ready",
    EventKind::TurnStarted { .. } => "turn_started",
    EventKind::InputAccepted { .. } => "input_accepted",
    EventKind::InputDropped { .. } => "input_dropped",
    EventKind::Text { .. } => "text",
    EventKind::Thought { .. } => "thought",
    EventKind::ToolCall { .. } => "tool_call",
    EventKind::ToolResult { .. } => "tool_result",
    EventKind::Usage { .. } => "usage",
    EventKind::TurnFinished(_) => "turn_finished",
    EventKind::Output { .. } => "output",
    EventKind::Question { .. } => "question",
    EventKind::Warning { .. } => "warning",
    EventKind::Closing { .. } => "closing",
    EventKind::AgentExited { .. } => "agent_exited",
    EventKind::RunnerExiting { .. } => "runner_exiting",
    EventKind::Raw { .. } => "raw",
);
names!(STATES, state_name, RunnerState,
    RunnerState::Starting => "starting", RunnerState::Idle => "idle", RunnerState::Busy => "busy",
    RunnerState::Closing => "closing", RunnerState::Exiting => "exiting",
    RunnerState::Unknown => "unknown");
names!(AGENTS, agent_name, &AgentSpec, AgentSpec::Claude { .. } => "claude", AgentSpec::Command { .. } => "command");
