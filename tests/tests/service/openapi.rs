//! What the service really answers, held to its own OpenAPI document.
//!
//! The generated requests of schemathesis run without an engine, so that they never see an answer with a session in it. Here
//! sessions run and end, and each answer must be of the schema that the document gives for it, without a field more.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::http::Reply;
use tests::service::{API, claude, command, text};
use tests::{Home, Request, Script, Service, engine, host};

/// The document, and which of its answers were seen.
struct Document {
    document: Value,
    seen: BTreeSet<String>,
}

impl Document {
    fn of(service: &Service) -> Self {
        let mut document = service.get("//api/v1/openapi.json").json();
        close(&mut document);
        Self { document, seen: BTreeSet::new() }
    }

    /// Holds an answer to what the document says of `path`, as it is written there, and returns it.
    #[track_caller]
    fn holds(&mut self, method: &str, path: &str, status: u16, reply: &Reply) -> Value {
        assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
        let place = [path, method, "responses", &status.to_string(), "content"];
        let mut found = &self.document["paths"];
        for step in place {
            found = &found[step];
        }
        let content = found.as_object().unwrap_or_else(|| panic!("{method} {path} {status} is not in the document"));
        let media = reply.header("content-type").unwrap();
        let schema =
            &content.get(media).unwrap_or_else(|| panic!("{method} {path} {status} may not be {media}"))["schema"];
        let answer = if media.ends_with("json") { reply.json() } else { Value::from(reply.body.as_str()) };
        self.seen.insert(format!("{method} {path} {status}"));
        self.is_of(schema, &answer, &format!("{method} {path} {status}"));
        answer
    }

    /// Holds what is stored of a session's events to the schemas of a stream's messages and of their data.
    #[track_caller]
    fn holds_events(&self, service: &Service, session: &str, at_least: usize) {
        let schemas = &self.document["components"]["schemas"];
        let message = &schemas["EventStream"]["contentSchema"]["items"];
        let data = &schemas["EventMessage"]["properties"]["data"]["contentSchema"];
        let mut seen = 0;
        for event in service.watch(session, 0).take(at_least) {
            let id = event.id.map(|id| id.to_string());
            self.is_of(message, &json!({"id": id, "event": event.name, "data": event.data}), "a message of the stream");
            self.is_of(data, &serde_json::from_str(&event.data).unwrap(), &format!("the data of {}", event.name));
            seen += 1;
        }
        assert_eq!(seen, at_least, "the session {session} has told less");
    }

    #[track_caller]
    fn is_of(&self, schema: &Value, value: &Value, what: &str) {
        let whole = json!({"allOf": [schema], "components": self.document["components"]});
        let validator = jsonschema::draft202012::new(&whole).unwrap_or_else(|error| panic!("{what}: {error}"));
        let wrong: Vec<String> =
            validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{what}: {wrong:#?}\n{value:#}");
    }
}

/// Forbids what the document does not name: it describes everything that is answered. Schemas that are parts of others are
/// left as they are, those others are closed.
fn close(document: &mut Value) {
    let mut parts = BTreeSet::new();
    parts_of(document, false, &mut parts);
    let schemas = document["components"]["schemas"].as_object_mut().unwrap();
    for (name, schema) in schemas {
        if !parts.contains(name) && (schema.get("properties").is_some() || schema.get("allOf").is_some()) {
            schema["unevaluatedProperties"] = false.into();
        }
    }
}

/// The schemas that stand in an `allOf`.
fn parts_of(value: &Value, inside: bool, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let (true, Some(name)) = (inside, fields.get("$ref").and_then(Value::as_str)) {
                found.extend(name.rsplit('/').next().map(str::to_owned));
            }
            for (key, value) in fields {
                parts_of(value, key == "allOf", found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| parts_of(item, inside, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn below(path: &str) -> String {
    format!("{API}{path}")
}

#[test]
fn every_answer_is_of_its_schema() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let mut document = Document::of(&service);
    let of = |method: &str, path: &str| service.ask(&Request::new(&method.to_uppercase(), path));

    // One that has ended, with all that an agent with a model leaves.
    let script = Script::new().bash("echo x > made").say("done");
    let created = service.post("/sessions", &claude(&home, "make it", &script));
    let ended = text(&document.holds("post", &below("/sessions"), 201, &created)["id"]);
    let session = service.wait_for_end(&home, &ended);
    assert_eq!(session["reason"], "finished", "{session}");

    // One that runs, with its figures.
    let mut request = command(&home, "echo up; while read line; do :; done");
    request["keepOpen"] = true.into();
    let runs = service.create(&request);
    assert!(service.watch(&runs, 0).any(|event| event.data.contains("\"up\"")));
    host::wait_until("its figures", || {
        let session = service.get(&format!("/sessions/{runs}")).json();
        session["usage"].is_object().then_some(())
    });

    // One that waits.
    let limit = service.ask(&Request::new("PUT", &below("/agents/small")).json(&json!({"containers": 1, "cpus": 0.5})));
    document.holds("put", &below("/agents/{name}"), 200, &limit);
    let mut small = command(&home, "while read line; do :; done");
    (small["agent"], small["keepOpen"]) = (json!("small"), true.into());
    let first = service.create(&small);
    let queued = service.post("/sessions", &small);
    let waits = text(&document.holds("post", &below("/sessions"), 202, &queued)["id"]);

    for (id, status) in [(&ended, "completed"), (&runs, "running"), (&waits, "queued")] {
        let reply = service.get(&format!("/sessions/{id}"));
        let session = document.holds("get", &below("/sessions/{id}"), 200, &reply);
        assert_eq!(session["status"], status, "{session}");
        document.holds("get", &below("/sessions/{id}/logs"), 200, &service.get(&format!("/sessions/{id}/logs")));
    }
    for (id, at_least) in [(&ended, 10), (&waits, 1)] {
        document.holds_events(&service, id, at_least);
    }
    let items = |answer: &Value, at_least: usize| {
        assert!(answer["items"].as_array().is_some_and(|items| items.len() >= at_least), "{answer}");
    };
    items(&document.holds("get", &below("/sessions"), 200, &service.get("/sessions")), 4);
    items(&document.holds("get", &below("/run-history"), 200, &service.get("/run-history")), 4);
    items(&document.holds("get", &below("/audit-log"), 200, &service.get("/audit-log")), 4);
    items(&document.holds("get", &below("/queue"), 200, &service.get("/queue")), 1);
    document.holds("get", &below("/agents"), 200, &service.get("/agents"));
    document.holds("get", &below("/agents/{name}"), 200, &service.get("/agents/small"));
    let metrics = document.holds("get", &below("/metrics"), 200, &service.get("/metrics"));
    assert!(metrics["bySession"].as_array().is_some_and(|all| !all.is_empty()), "{metrics}");
    document.holds("get", "/metrics", 200, &service.get("//metrics"));
    let runtime = document.holds("get", &below("/runtime"), 200, &service.get("/runtime"));
    assert_eq!(runtime["available"], true, "{runtime}");
    document.holds("get", &below("/doctor"), 200, &service.get("/doctor"));
    let image = document.holds(
        "get",
        &below("/image/status"),
        200,
        &service.get(&format!("/image/status?imageTag={}", engine::image())),
    );
    assert_eq!(image["present"], true, "{image}");
    let message = service.post(&format!("/sessions/{runs}/messages"), &json!({"text": "hello"}));
    document.holds("post", &below("/sessions/{id}/messages"), 202, &message);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(service.get(&format!("/{path}")).status, 200);
    }

    // What is refused.
    for (method, path, at, status) in [
        ("get", "/sessions/{id}", "/sessions/0123456789ab".to_owned(), 404),
        ("post", "/sessions/{id}/interrupt", format!("/sessions/{ended}/interrupt"), 409),
        ("delete", "/queue/{id}", format!("/queue/{ended}"), 409),
        ("get", "/image/build/{id}", "/image/build/0123456789ab".to_owned(), 404),
    ] {
        document.holds(method, &below(path), status, &of(method, &below(&at)));
    }
    let refused =
        service.post("/sessions", &json!({"workspace": "/etc", "program": {"type": "command", "argv": ["x"]}}));
    document.holds("post", &below("/sessions"), 403, &refused);

    assert_eq!(of("delete", &below(&format!("/queue/{waits}"))).status, 204);
    for id in [&first, &runs] {
        assert_eq!(service.post(&format!("/sessions/{id}/cancel"), &json!({})).status, 202);
        service.wait_for_end(&home, id);
    }
    let reset = of("delete", &below("/agents/small"));
    document.holds("delete", &below("/agents/{name}"), 200, &reset);
    let left = document.document["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap();
        methods.keys().map(move |method| (path.clone(), method.clone()))
    });
    let json_answer = |(path, method): &(String, String)| {
        let responses = document.document["paths"][path][method]["responses"].as_object().unwrap();
        let json = |code: &String| responses[code]["content"].get("application/json").is_some();
        responses.keys().any(|code| code.starts_with('2') && json(code))
            && !document.seen.iter().any(|seen| seen.starts_with(&format!("{method} {path} 2")))
    };
    let unseen: Vec<_> = left.filter(json_answer).collect();
    // Builds take minutes: their answers are held to their schemas by the generated requests.
    let known = ["/api/v1/container/image/build", "/api/v1/container/image/build/{id}", "/api/v1/openapi.json"];
    let unseen: Vec<_> = unseen.iter().filter(|(path, _)| !known.contains(&path.as_str())).collect();
    assert!(unseen.is_empty(), "answers that nobody has looked at: {unseen:?}");
}
