//! What the OpenAPI document says can be sent, sent: each field of each request body, and each query parameter.
//!
//! A service that refuses unknown fields takes a field that it does not refuse. So every object of every body is sent once with
//! all of its documented fields, and once with a field of no meaning, which must be refused by its name.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use tests::http::Reply;
use tests::service::text;
use tests::{Home, Request, Script, Service, engine, host};

/// A field that no version has.
const UNHEARD_OF: &str = "unheardOf";
/// Variants of enums in one body at most.
const VARIANTS: usize = 3;

/// Makes bodies from schemas: values come from a table, by the pointer of the field.
struct Bodies<'a> {
    document: &'a Value,
    values: BTreeMap<&'static str, Value>,
    /// Where there are objects in the body that is being made.
    objects: Vec<String>,
}

impl Bodies<'_> {
    /// A value with all that the schema has, and of each enum the variant of that number, or the last one.
    fn fill(&mut self, schema: &Value, pointer: &str, variant: usize) -> Value {
        if let Some(reference) = schema["$ref"].as_str() {
            let schema = self.document.pointer(&reference[1..]).unwrap_or_else(|| panic!("{reference} leads nowhere"));
            return self.fill(schema, pointer, variant);
        }
        if let Some(choices) = schema["oneOf"].as_array() {
            let choices: Vec<&Value> = choices.iter().filter(|choice| choice["type"] != "null").collect();
            return self.fill(choices[variant.min(choices.len() - 1)], pointer, variant);
        }
        if let Some(fields) = schema["properties"].as_object() {
            self.objects.push(pointer.to_owned());
            let filled = fields
                .iter()
                .map(|(name, field)| (name.clone(), self.fill(field, &format!("{pointer}/{name}"), variant)));
            return Value::Object(filled.collect::<Map<_, _>>());
        }
        if let Some(word) = schema.get("const") {
            return word.clone();
        }
        let given = self.values.get(pointer).cloned();
        match (given, schema["items"].is_object()) {
            (Some(value), _) => value,
            (None, true) => json!([self.fill(&schema["items"], &format!("{pointer}/0"), variant)]),
            (None, false) => panic!("the document has a field {pointer}: give this test a value for it"),
        }
    }
}

fn insert(body: &Value, object: &str, name: &str, value: Value) -> Value {
    let mut body = body.clone();
    body.pointer_mut(object).unwrap()[name] = value;
    body
}

/// Bodies of an operation with all of its fields, a variant of each enum in each. Each object of them was sent with a field
/// of no meaning before, to `path`, and that was refused by its name.
fn bodies(
    service: &Service,
    document: &Value,
    (method, path, at): (&str, &str, &str),
    values: &[(&'static str, Value)],
) -> Vec<Value> {
    let schema = &document["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"];
    assert!(!schema.is_null(), "{method} {path} takes no JSON");
    let mut made: Vec<Value> = Vec::new();
    for variant in 0..VARIANTS {
        let mut maker = Bodies { document, values: values.iter().cloned().collect(), objects: Vec::new() };
        let body = maker.fill(schema, "", variant);
        if made.contains(&body) {
            continue;
        }
        for object in maker.objects {
            let wrong = insert(&body, &object, UNHEARD_OF, 1.into());
            let refused = send(service, method, at, &wrong);
            assert_eq!(refused.status, 422, "{method} {path} takes `{UNHEARD_OF}` in `{object}`: {refused:?}");
            let detail = text(&refused.json()["errors"][0]["detail"]);
            assert!(detail.contains(UNHEARD_OF), "{method} {path} {object}: {detail}");
        }
        made.push(body);
    }
    made
}

fn send(service: &Service, method: &str, path: &str, body: &Value) -> Reply {
    service.ask(&Request::new(&method.to_uppercase(), path).json(body))
}

fn folder(home: &Home, name: &str) -> String {
    let folder = home.root().join(name);
    std::fs::create_dir(&folder).unwrap();
    Path::to_str(&folder).unwrap().to_owned()
}

#[test]
fn every_documented_field_is_taken() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let document = service.get("//api/v1/openapi.json").json();
    let script = home.write("script", Script::new().say("done").text());
    let session = [
        ("/agent", json!("research")),
        ("/workspace", json!(home.workspace())),
        ("/workspaceReadOnly", json!(true)),
        ("/coverIpc", json!(true)),
        ("/mounts/0/hostPath", json!(folder(&home, "reference"))),
        ("/mounts/0/name", json!("docs")),
        ("/mounts/0/readOnly", json!(false)),
        ("/image", json!(engine::image())),
        ("/program/argv", json!(["cat"])),
        ("/program/output", json!("json")),
        ("/program/model", json!("sonnet")),
        ("/program/maxTurns", json!(3)),
        ("/program/appendSystemPrompt", json!("Be brief.")),
        ("/program/projectSettings", json!(true)),
        ("/prompt", json!("say it")),
        ("/keepOpen", json!(true)),
        ("/limits/cpus", json!(0.5)),
        ("/limits/memoryBytes", json!(256 << 20)),
        ("/limits/pids", json!(200)),
        ("/timeoutSecs", json!(100)),
        ("/idleTimeoutSecs", json!(90)),
        ("/graces/saveMs", json!(1)),
        ("/graces/closeMs", json!(2)),
        ("/graces/termMs", json!(3)),
        ("/env", json!({"NAME": "value"})),
        ("/root", json!(false)),
        ("/proxyPort", json!(3002)),
        ("/model/file", json!(home.root().join("recording"))),
    ];
    let sessions = "/api/v1/container/sessions";
    let mut runs = String::new();
    let all = bodies(&service, &document, ("post", sessions, sessions), &session);
    assert!(all.len() >= 2, "{all:#?}");
    for mut body in all {
        if body["model"]["source"] == "replay" {
            body["model"]["file"] = json!(script);
        }
        let mut reply = send(&service, "post", sessions, &body);
        if reply.status == 503 {
            // The model's API needs a credential, which the service looks for in a request that it has taken.
            assert!(text(&reply.json()["detail"]).contains("credential"), "{body:#}: {reply:?}");
            body["model"] = json!({"source": "replay", "file": script});
            reply = send(&service, "post", sessions, &body);
        }
        assert!([201, 202].contains(&reply.status), "{body:#} is refused: {reply:?}");
        let before = std::mem::replace(&mut runs, text(&reply.json()["id"]));
        if !before.is_empty() {
            service.ask(&Request::new("POST", &format!("{sessions}/{before}/cancel")));
            service.wait_for_end(&home, &before);
        }
    }

    host::wait_until("the last of them to run", || {
        (service.get(&format!("/sessions/{runs}")).json()["status"] == "running").then_some(())
    });

    let messages = format!("{sessions}/{runs}/messages");
    let path = "/api/v1/container/sessions/{id}/messages";
    for body in bodies(&service, &document, ("post", path, &messages), &[("/text", json!("hello"))]) {
        assert_eq!(send(&service, "post", &messages, &body).status, 202);
    }
    let close = format!("{sessions}/{runs}/close");
    let path = "/api/v1/container/sessions/{id}/close";
    for body in bodies(&service, &document, ("post", path, &close), &[("/graceSecs", json!(0))]) {
        assert_eq!(send(&service, "post", &close, &body).status, 202);
    }
    service.wait_for_end(&home, &runs);

    let limits = [
        ("/cpus", json!(0.5)),
        ("/memoryBytes", json!(64 << 20)),
        ("/containers", json!(2)),
        ("/pids", json!(99)),
        ("/policy", json!("reject")),
    ];
    let (path, at) = ("/api/v1/container/agents/{name}", "/api/v1/container/agents/research");
    for body in bodies(&service, &document, ("put", path, at), &limits) {
        let reply = send(&service, "put", at, &body);
        assert_eq!((reply.status, &reply.json()["limits"]), (200, &body), "{reply:?}");
    }

    // A build takes minutes: a name that cannot be is refused by the field that it is in.
    let build = "/api/v1/container/image/build";
    for body in bodies(&service, &document, ("post", build, build), &[("/imageTag", json!("not a tag"))]) {
        let reply = send(&service, "post", build, &body);
        assert_eq!((reply.status, &reply.json()["errors"][0]["pointer"]), (422, &json!("/imageTag")), "{reply:?}");
    }

    let taken =
        [path, build, sessions, "/api/v1/container/sessions/{id}/messages", "/api/v1/container/sessions/{id}/close"];
    for (path, methods) in document["paths"].as_object().unwrap() {
        let has_body = methods.as_object().unwrap().values().any(|operation| operation.get("requestBody").is_some());
        assert!(!has_body || taken.contains(&path.as_str()), "{path} takes a body that nobody has sent");
    }
}

#[test]
fn every_documented_query_parameter_is_taken() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let document = service.get("//api/v1/openapi.json").json();
    let session = service.create(&tests::service::command(&home, "true"));
    service.wait_for_end(&home, &session);
    let value = |name: &str, path: &str| match name {
        "status" => "completed".to_owned(),
        "agent" => "default".to_owned(),
        "limit" | "after" => "1".to_owned(),
        "cursor" if path.ends_with("/audit-log") => "1".to_owned(),
        "cursor" => session.clone(),
        "follow" => "true".to_owned(),
        "imageTag" => engine::image(),
        other => panic!("the document has a query parameter `{other}`: give this test a value for it"),
    };
    let mut sent = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let names: Vec<&str> = methods["get"]["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == "query")
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        let at = path.replace("{id}", &session);
        for name in &names {
            let reply = service.ask(&Request::new("GET", &format!("{at}?{name}={}", value(name, path))));
            assert_eq!(reply.status, 200, "{at} with {name}: {reply:?}");
            sent += 1;
        }
        if !names.is_empty() {
            let reply = service.ask(&Request::new("GET", &format!("{at}?{UNHEARD_OF}=1")));
            assert_eq!(reply.status, 400, "{at}: {reply:?}");
        }
    }
    assert!(sent >= 10, "only {sent} parameters were sent");
}
