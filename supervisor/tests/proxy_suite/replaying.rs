//! Scripts: what they can say, what the agent gets, and what they are told when they are wrong.

use std::time::{Duration, Instant};

use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use supervisor::proxy::{ReplaySpeed, Script, ScriptError, TokenCounts, Upstream};

use crate::support::{Rig, body, message, soon, whole};

const STREAM: &str = r#"{"stream":true,"model":"claude-test","messages":[{"content":"say \"hi\" to me"}]}"#;

async fn rig(script: &str) -> Rig {
    Rig::start(Upstream::Replay(Script::parse("demo.jsonl", script).unwrap(), ReplaySpeed::Fast)).await
}

/// Parses a stream strictly: an event line, a data line of the same type, an empty line.
fn events(text: &str) -> Vec<Value> {
    assert!(text.ends_with("\n\n"), "{text:?}");
    text.trim_end()
        .split("\n\n")
        .map(|block| {
            let (event, data) = block.split_once('\n').unwrap();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(event.strip_prefix("event: ").unwrap(), data["type"]);
            data
        })
        .collect()
}

/// Puts a message together again as the API's clients do.
fn assemble(events: &[Value]) -> Value {
    let mut message = Value::Null;
    let mut partial = String::new();
    let mut open = None;
    for event in events {
        match event["type"].as_str().unwrap() {
            "message_start" => message = event["message"].clone(),
            "ping" => {}
            "content_block_start" => {
                assert_eq!(open, None);
                open = event["index"].as_u64();
                let content = message["content"].as_array_mut().unwrap();
                assert_eq!(open.unwrap(), content.len() as u64);
                content.push(event["content_block"].clone());
            }
            "content_block_delta" => {
                assert_eq!(event["index"].as_u64(), open);
                let block = message["content"].as_array_mut().unwrap().last_mut().unwrap();
                match event["delta"]["type"].as_str().unwrap() {
                    "text_delta" => {
                        let text =
                            block["text"].as_str().unwrap().to_owned() + event["delta"]["text"].as_str().unwrap();
                        block["text"] = json!(text);
                    }
                    "input_json_delta" => partial.push_str(event["delta"]["partial_json"].as_str().unwrap()),
                    other => panic!("delta {other}"),
                }
            }
            "content_block_stop" => {
                assert_eq!(event["index"].as_u64(), open.take());
                let block = message["content"].as_array_mut().unwrap().last_mut().unwrap();
                if block["type"] == "tool_use" {
                    block["input"] = serde_json::from_str(&std::mem::take(&mut partial)).unwrap();
                }
            }
            "message_delta" => {
                for (key, value) in event["delta"].as_object().unwrap() {
                    message[key] = value.clone();
                }
                message["usage"] = event["usage"].clone();
            }
            "message_stop" => assert_eq!(open, None),
            other => panic!("event {other}"),
        }
    }
    assert_eq!(events.last().unwrap()["type"], "message_stop");
    message
}

#[tokio::test]
async fn streamed_and_plain_answers_are_the_same_message() {
    let line = r#"{"say":"Ich prüfe — die Tests, 🦀 und mehr als einen Happen Text.","tools":[{"tool":"Bash","input":{"command":"echo \"ä\"","n":[1,2]}},{"tool":"Read"}],"usage":{"input_tokens":10,"output_tokens":20},"repeat":2}"#;
    let rig = rig(line).await;
    let (parts, text) = rig.ask(STREAM).await;
    assert_eq!(parts.headers["content-type"], "text/event-stream; charset=utf-8");
    let streamed = assemble(&events(&text));
    let wanted = json!({
        "id": "msg_replay_0001", "type": "message", "role": "assistant", "model": "claude-test",
        "content": [
            {"type": "text", "text": "Ich prüfe — die Tests, 🦀 und mehr als einen Happen Text."},
            {"type": "tool_use", "id": "toolu_replay_0001_0", "name": "Bash", "input": {"command": "echo \"ä\"", "n": [1, 2]}},
            {"type": "tool_use", "id": "toolu_replay_0001_1", "name": "Read", "input": {}},
        ],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 10, "output_tokens": 20, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
    });
    assert_eq!(streamed, wanted);
    let (parts, text) = rig.ask(r#"{"model":"claude-test"}"#).await;
    assert_eq!(parts.headers["content-type"], "application/json");
    let plain: Value = serde_json::from_str(&text.replace("_0002", "_0001")).unwrap();
    assert_eq!(plain, wanted);
    let usage = rig.grant.traffic().usage();
    assert_eq!(usage.tokens, TokenCounts { input: 20, output: 40, ..TokenCounts::default() });
    assert_eq!((usage.requests, usage.uncounted), (2, 0));
    assert_eq!(usage.bytes_up as usize, STREAM.len() + r#"{"model":"claude-test"}"#.len());
}

#[tokio::test]
async fn the_stream_of_a_short_answer_is_as_the_api_sends_it() {
    let rig = rig(r#"{"say":"hello","usage":{"input_tokens":3,"output_tokens":2}}"#).await;
    let events = events(&rig.ask(STREAM).await.1);
    let usage = |output| json!({"input_tokens": 3, "output_tokens": output, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0});
    let message = json!({
        "id": "msg_replay_0001", "type": "message", "role": "assistant", "model": "claude-test", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage(1),
    });
    let wanted = [
        json!({"type": "message_start", "message": message}),
        json!({"type": "ping"}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({
            "type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": usage(2),
        }),
        json!({"type": "message_stop"}),
    ];
    assert_eq!(events, wanted);
}

#[test]
fn the_scripts_of_the_manual_are_understood() {
    let manual = include_str!("../../../docs/replay.md");
    let scripts: Vec<_> = manual.split("```jsonl\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(scripts.len(), 3);
    for script in scripts {
        Script::parse("docs/replay.md", script).unwrap();
    }
}

#[tokio::test]
async fn answers_come_in_order_and_their_end_is_told() {
    let mut rig = rig("# a comment\n\n{\"say\":\"one\"}\n  {\"say\":\"two\",\"repeat\":2}\n").await;
    let hello = Request::head("/api/hello").body(body("")).unwrap();
    assert_eq!(rig.send(hello).await.status(), 200);
    let count = Request::post("/v1/messages/count_tokens").body(body("{}")).unwrap();
    let (parts, _) = whole(rig.send(count).await).await;
    assert_eq!((parts.status.as_u16(), parts.headers["x-should-retry"].as_bytes()), (404, &b"false"[..]));
    for word in ["one", "two", "two"] {
        assert!(rig.ask("{}").await.1.contains(word));
    }
    let (parts, text) = rig.ask("{}").await;
    assert_eq!((parts.status.as_u16(), parts.headers["x-should-retry"].as_bytes()), (410, &b"false"[..]));
    assert!(text.contains("demo.jsonl has no answers left: it had 3"), "{text}");
    assert!(rig.notice().await.contains("has no answers left"));
}

#[tokio::test]
async fn an_expectation_that_is_not_met_takes_no_answer() {
    let mut rig = rig("{\"say\":\"one\",\"expect\":\"say \\\"hi\\\" to me\"}\n").await;
    let (parts, text) = rig.ask(r#"{"messages":["something else"]}"#).await;
    assert_eq!((parts.status.as_u16(), parts.headers["x-should-retry"].as_bytes()), (410, &b"false"[..]));
    assert!(text.contains("demo.jsonl:1 expected a request with"), "{text}");
    assert!(rig.notice().await.contains("demo.jsonl:1"));
    assert_eq!(assemble(&events(&rig.ask(STREAM).await.1))["content"][0]["text"], "one");
}

#[tokio::test]
async fn statuses_and_headers_are_sent_as_written() {
    let rig = rig(concat!(
        r#"{"status":529,"headers":{"retry-after":1}}"#,
        "\n",
        r#"{"status":503,"body":"out of order","headers":{"x-should-retry":"false"}}"#,
        "\n",
        r#"{"status":400,"body":{"a":1}}"#
    ))
    .await;
    let (parts, text) = rig.ask("{}").await;
    assert_eq!((parts.status.as_u16(), parts.headers["retry-after"].as_bytes()), (529, &b"1"[..]));
    assert!(text.contains(r#""type":"overloaded_error""#), "{text}");
    let (parts, text) = rig.ask("{}").await;
    assert_eq!((parts.status.as_u16(), text.as_str()), (503, "out of order"));
    assert_eq!(parts.headers["x-should-retry"], "false");
    assert_eq!(rig.ask("{}").await.1, r#"{"a":1}"#);
}

#[tokio::test]
async fn faults_happen_where_the_script_says() {
    let rig = rig(concat!(
        "{\"say\":\"a long answer in many pieces, so that there are some\",\"cutAfter\":4}\n",
        "{\"say\":\"x\",\"streamError\":{\"after\":3}}\n",
        "{\"hang\":\"body\"}\n",
        "{\"hang\":\"headers\"}\n",
        "{\"say\":\"y\",\"cutAfter\":1}\n",
        "{\"say\":\"z\",\"streamError\":{}}\n",
    ))
    .await;
    let mut response = rig.send(message(STREAM)).await;
    let mut got = Vec::new();
    let end = loop {
        match soon(response.frame()).await {
            Some(Ok(frame)) => got.extend_from_slice(&frame.into_data().unwrap()),
            end => break end,
        }
    };
    assert!(end.is_some_and(|end| end.is_err()));
    assert_eq!(events(std::str::from_utf8(&got).unwrap()).len(), 4, "all events before the cut arrive");

    let with_error = events(&rig.ask(STREAM).await.1);
    assert_eq!(with_error.len(), 4);
    assert_eq!(with_error[3]["error"], json!({"type": "overloaded_error", "message": "Overloaded"}));

    let brief = Duration::from_millis(100);
    let mut response = rig.send(message(STREAM)).await;
    assert!(soon(response.frame()).await.unwrap().is_ok());
    assert!(tokio::time::timeout(brief, response.frame()).await.is_err());
    assert!(tokio::time::timeout(brief, rig.ask(STREAM)).await.is_err());

    let response = rig.send(message("{}")).await;
    assert!(soon(response.collect()).await.is_err());
    assert_eq!(rig.ask("{}").await.0.status.as_u16(), 529);
}

#[tokio::test]
async fn pauses_of_a_script_are_kept() {
    let rig = rig(r#"{"say":"x","delayMs":100,"chunkDelayMs":20}"#).await;
    let began = Instant::now();
    let mut response = rig.send(message(STREAM)).await;
    assert!(began.elapsed() >= Duration::from_millis(100));
    let mut arrivals = Vec::new();
    while let Some(frame) = soon(response.frame()).await {
        frame.unwrap();
        arrivals.push(began.elapsed());
    }
    assert_eq!(arrivals.len(), 7, "each event by itself");
    assert!(arrivals[6] - arrivals[0] >= Duration::from_millis(110));
}

#[test]
fn mistakes_are_named_with_file_and_line() {
    for (line, wanted) in [
        ("{\"say\":\"x\"", "not JSON"),
        (r#"{"sya":"x"}"#, "unknown field `sya`"),
        ("{}", "an answer needs"),
        ("[]", "invalid"),
        (r#"{"input":{}}"#, "\"input\" needs a \"tool\""),
        (r#"{"tool":"Bash","input":"ls"}"#, "must be an object"),
        (r#"{"tool":"A","tools":[]}"#, "exclude each other"),
        (r#"{"say":"x","repeat":0}"#, "at least 1"),
        (r#"{"say":"x","hang":"never"}"#, "unknown variant"),
        (r#"{"say":"x","hang":"body","cutAfter":1}"#, "exclude each other"),
        (r#"{"status":99}"#, "99 is no HTTP status"),
        (r#"{"status":500,"say":"x"}"#, "beside \"status\""),
        (r#"{"status":500,"headers":{"a b":"c"}}"#, "cannot be sent"),
        (r#"{"status":500,"headers":{"content-length":"3"}}"#, "cannot be sent"),
        (r#"{"say":"x","body":1}"#, "need a \"status\""),
        (r#"{"say":"x","delayMs":99999999}"#, "at most"),
        (r#"{"recorded":2}"#, "format 2"),
        (r#"{"recorded":1}"#, "not a recorded exchange"),
    ] {
        let error = Script::parse("demo.jsonl", &format!("{{\"say\":\"fine\"}}\n{line}\n")).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("demo.jsonl:2: ") && text.contains(wanted), "{line} gives {text}");
    }
    assert!(matches!(Script::parse("e", "# nothing\n"), Err(ScriptError::Empty { .. })));
    assert!(matches!(Script::load("/nonexistent"), Err(ScriptError::Read { .. })));
    assert_eq!(Script::parse("s", "{\"say\":\"x\",\"repeat\":3}\n{\"say\":\"y\"}").unwrap().answers(), 4);
}
