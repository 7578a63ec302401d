//! What an agent may say and ask by files: messages become events, requests get replies.

use serde_json::{Value, json};
use supervisor::session::event::HostEvent;
use tests::{Expect, Home, Look, look};

/// One request of each kind, with what it needs.
fn requests() -> Vec<Value> {
    let schedule = json!({"type": "cron", "value": "0 9 * * *"});
    vec![
        json!({"type": "create_task", "prompt": "p"}),
        json!({"type": "schedule_task", "prompt": "p", "schedule": schedule}),
        json!({"type": "update_task", "taskId": "t"}),
        json!({"type": "pause_task", "taskId": "t"}),
        json!({"type": "resume_task", "taskId": "t"}),
        json!({"type": "cancel_task", "taskId": "t"}),
        json!({"type": "list_tasks"}),
        json!({"type": "run_container", "image": "i", "command": ["true"]}),
        json!({"type": "service_start", "name": "s", "image": "i", "ports": [80]}),
        json!({"type": "service_stop", "name": "s"}),
        json!({"type": "service_restart", "name": "s"}),
        json!({"type": "service_remove", "name": "s"}),
        json!({"type": "service_list"}),
        json!({"type": "service_logs", "name": "s", "tail": 5}),
        json!({"type": "host_command", "argv": ["rm", "-rf", "/"]}),
        json!({"type": "register_group", "chatJid": "c", "name": "g"}),
        json!({"type": "refresh_groups"}),
    ]
}

#[test]
fn every_kind_of_request_gets_a_reply_that_says_what_became_of_it() {
    let Some(home) = Home::open() else { return };
    home.give_workspace_to(1000);
    let requests = requests();
    for (number, request) in requests.iter().enumerate() {
        home.put(&format!("requests/r{number:02}.json"), request.to_string());
    }
    // One that nobody can read: it is answered, too.
    home.put("requests/r99.json", json!({"type": "make_coffee"}).to_string());
    let script = "for f in requests/*.json; do cp $f ipc/tasks/.tmp && mv ipc/tasks/.tmp ipc/tasks/${f##*/}; done
        for f in requests/*.json; do
          for i in $(seq 300); do [ -e ipc/replies/${f##*/} ] && break; sleep 0.1; done
          cat ipc/replies/${f##*/}; echo
        done
        ls ipc/tasks | wc -l";
    let run = home.command(script).finish().expect(Expect::FINISHED);
    let texts = run.texts();
    assert_eq!(texts.len(), requests.len() + 2, "{run:#?}");
    let replies: Vec<Value> = texts[..=requests.len()].iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    for (number, (reply, request)) in replies.iter().zip(&requests).enumerate() {
        let kind = request["type"].as_str().unwrap();
        assert_eq!(reply["requestId"], format!("r{number:02}"), "{kind}");
        assert_eq!(reply["ok"], false, "{kind}: {reply}");
        let group = kind.ends_with("_task") && kind != "create_task" || kind.contains("group") || kind == "list_tasks";
        assert_eq!(reply["error"]["code"], if group { "not_allowed" } else { "not_available" }, "{kind}: {reply}");
        assert!(reply["error"]["message"].as_str().is_some_and(|text| text.len() > 20), "{kind}: {reply}");
    }
    assert_eq!(replies[requests.len()]["error"]["code"], "bad_request");
    assert_eq!(texts.last(), Some(&"0"), "requests are taken away");
    let told: Vec<&str> = run
        .events
        .iter()
        .filter_map(|event| match look::host(event) {
            Some(HostEvent::TaskRequest { request, ok: false, error: Some(_), .. }) => Some(request.as_str()),
            _ => None,
        })
        .collect();
    let asked: Vec<&str> = requests.iter().map(|request| request["type"].as_str().unwrap()).collect();
    assert_eq!(told, asked);
}

#[test]
fn messages_questions_and_files_become_events() {
    let Some(home) = Home::open() else { return };
    home.give_workspace_to(1000);
    let script = r#"say() { printf '%s' "$2" > ipc/messages/.tmp && mv ipc/messages/.tmp ipc/messages/$1.json; }
        say 1 '{"type":"message","text":"half done ✓","chatJid":"room"}'
        say 2 '{"type":"question","text":"tabs or spaces?","options":["tabs","spaces"]}'
        say 3 '{"type":"file","path":"/workspace/report.pdf","caption":"the report"}'
        say 4 '{"type":"message","text":"done","id":"my-own-id","unknown":{"field":1}}'"#;
    let run = home.command(script).finish().expect(Expect::FINISHED);
    let mine = |event| match look::host(event) {
        Some(HostEvent::Message { id, body, chat_jid }) => Some(json!([id, body.text, chat_jid])),
        Some(HostEvent::AgentQuestion { id, body, options }) => Some(json!([id, body.text, options])),
        Some(HostEvent::File { id, path, caption }) => Some(json!([id, path, caption])),
        _ => None,
    };
    let told: Vec<Value> = run.events.iter().filter_map(mine).collect();
    assert_eq!(
        told,
        [
            json!(["1", "half done ✓", "room"]),
            json!(["2", "tabs or spaces?", ["tabs", "spaces"]]),
            json!(["3", "/workspace/report.pdf", "the report"]),
            json!(["my-own-id", "done", null]),
        ]
    );
}
