//! The document as a whole: complete, in one form, and true of what serde writes and reads.

use std::collections::BTreeSet;

use ipc_protocol::clip::ClippedText;
use serde_json::{Value, json};

use crate::admission::Wait;
use crate::request::wire::NewSession;
use crate::serve::api::openapi;
use crate::session::SessionId;
use crate::session::event::{HostEvent, LaunchStep, SessionEvent, Summary, Throttled};
use crate::session::status::{EndReason, Ending, Status};
use crate::workspace::changes::Changes;

fn document() -> Value {
    openapi().unwrap()
}

/// Each operation with its method and path.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().iter().map(move |(method, operation)| (format!("{method} {path}"), operation))
        })
        .collect()
}

/// Calls a function with each schema of the document and where it is.
fn each_schema(value: &Value, place: &str, seen: &mut dyn FnMut(&str, &Value)) {
    match value {
        Value::Object(fields) => {
            if ["type", "oneOf", "allOf", "$ref"].iter().any(|word| fields.get(*word).is_some_and(|it| !it.is_object()))
            {
                seen(place, value);
            }
            fields.iter().for_each(|(key, field)| each_schema(field, &format!("{place}/{key}"), seen));
        }
        Value::Array(items) => items.iter().for_each(|item| each_schema(item, place, seen)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_operation_is_named_once_and_says_all_of_its_responses() {
    let document = document();
    let tags: BTreeSet<&str> =
        document["tags"].as_array().unwrap().iter().filter_map(|tag| tag["name"].as_str()).collect();
    let mut names = BTreeSet::new();
    for (at, operation) in operations(&document) {
        let name = operation["operationId"].as_str().unwrap_or_else(|| panic!("{at} has no operationId"));
        assert!(names.insert(name.to_owned()), "{at}: there are two operations {name}");
        assert!(operation["tags"].as_array().unwrap().iter().all(|tag| tags.contains(tag.as_str().unwrap())), "{at}");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{at} has no summary");
        let responses = operation["responses"].as_object().unwrap();
        for (status, response) in responses {
            let text = response["description"].as_str().unwrap_or_default();
            assert!(text.ends_with('.'), "{at} {status} is not described by a sentence: `{text}`");
        }
        for status in ["401", "403"] {
            let problem = &responses[status]["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(problem, "#/components/schemas/Problem", "{at} {status}");
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let text = parameter["description"].as_str().unwrap_or_default();
            assert!(text.ends_with('.'), "{at}: the parameter {} is not described: `{text}`", parameter["name"]);
        }
    }
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    assert_eq!(document["security"], json!([{"bearer": []}, {}]));
}

/// What a field's schema says of it, or what the schema says that it refers to.
fn text_of<'a>(document: &'a Value, field: &'a Value) -> &'a str {
    let one = || field["oneOf"].as_array().into_iter().flatten().find_map(|one| one["description"].as_str());
    let named = || document.pointer(field["$ref"].as_str()?.trim_start_matches('#'))?["description"].as_str();
    field["description"].as_str().or_else(one).or_else(named).unwrap_or_default()
}

#[test]
fn every_schema_has_a_shape_and_every_field_a_name_in_camel_case_and_a_text() {
    let document = document();
    each_schema(&document["components"]["schemas"], "", &mut |place, schema| {
        if let Some(reference) = schema["$ref"].as_str() {
            assert!(
                document.pointer(reference.trim_start_matches('#')).is_some(),
                "{place}: {reference} leads nowhere"
            );
        }
        assert_ne!(schema.get("default"), Some(&Value::Null), "{place}: null is no default");
        assert!(schema.get("allOf").is_none(), "{place} is not flat: {schema:#}");
        let is_object =
            schema["type"] == "object" || schema["type"].as_array().is_some_and(|all| all.contains(&json!("object")));
        let has_shape = schema.get("properties").is_some() || schema.get("additionalProperties").is_some();
        assert!(!is_object || has_shape, "{place} has no shape: {schema:#}");
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let mut letters = name.chars();
            let is_camel =
                letters.next().is_some_and(|c| c.is_ascii_lowercase()) && letters.all(|c| c.is_ascii_alphanumeric());
            assert!(is_camel, "{place}: `{name}` is not in camel case");
            let text = text_of(&document, field);
            assert!(
                text.trim_end().ends_with(['.', '`']),
                "{place}: `{name}` is not described by a sentence: `{text}`"
            );
        }
    });
}

#[test]
fn only_what_nobody_can_know_has_no_type() {
    let document = document();
    let mut open = BTreeSet::new();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            if ["type", "oneOf", "$ref", "const"].iter().all(|word| schema.get(*word).is_none()) {
                open.insert(format!("{name}.{field}"));
            }
        }
    }
    // What an agent gives to a tool, and what no version here knows.
    assert_eq!(open, BTreeSet::from(["ClippedValue.value".to_owned(), "RawEvent.value".to_owned()]));
}

/// A validator of a named schema that refuses fields which the document does not name.
fn closed(document: &Value, name: &str) -> jsonschema::Validator {
    let mut schemas = document["components"]["schemas"].clone();
    for schema in schemas.as_object_mut().unwrap().values_mut().filter(|schema| schema.get("properties").is_some()) {
        schema["additionalProperties"] = false.into();
    }
    let whole = json!({"$ref": format!("#/components/schemas/{name}"), "components": {"schemas": schemas}});
    jsonschema::draft202012::new(&whole).unwrap()
}

fn words(document: &Value, name: &str) -> BTreeSet<String> {
    let mapping = document["components"]["schemas"][name]["discriminator"]["mapping"].as_object();
    mapping.unwrap_or_else(|| panic!("{name} has no discriminator")).keys().cloned().collect()
}

#[track_caller]
fn all_are_of(document: &Value, name: &str, tag: &str, samples: &[Value]) {
    let validator = closed(document, name);
    for sample in samples {
        let wrong: Vec<String> = validator.iter_errors(sample).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{sample:#} is no {name}: {wrong:#?}");
    }
    let seen: BTreeSet<String> = samples.iter().map(|sample| sample[tag].as_str().unwrap().to_owned()).collect();
    assert_eq!(seen, words(document, name), "variants of {name} that the document has, or that were looked at");
}

fn of_host() -> Vec<HostEvent> {
    let text = |text: &str| ClippedText::new(text, 2);
    let id = || "0000000000001-abcdef".to_owned();
    let summary = Summary {
        cost_usd: Some(0.5),
        peak_memory_bytes: Some(1),
        throttled: Some(Throttled::default()),
        changes: Some(Box::new(Changes::default())),
        result: Some("r".into()),
        ..Summary::default()
    };
    let ended = |reason| HostEvent::Ended {
        status: Status::Failed,
        ending: Ending::because(reason, "d"),
        summary: summary.clone(),
    };
    vec![
        HostEvent::Queued { position: 1, reason: Wait::Turn { ahead: 2 }, message: "m".into() },
        HostEvent::Session {
            session: SessionId::random(),
            agent: "a".into(),
            program: "command".into(),
            image: "i".into(),
            workspace: "/w".into(),
        },
        HostEvent::Status { status: Status::Running },
        HostEvent::LaunchStep { step: LaunchStep::Proxy, detail: Some("d".into()) },
        HostEvent::InputSent { id: id(), body: text("long"), sender: Some("s".into()) },
        HostEvent::InterruptSent {},
        HostEvent::EndRequested { by: "b".into() },
        HostEvent::Escalation { step: "kill".into() },
        HostEvent::Message { id: id(), body: text("long"), chat_jid: Some("c".into()) },
        HostEvent::AgentQuestion { id: id(), body: text("long"), options: vec!["o".into()] },
        HostEvent::File { id: id(), path: "/p".into(), caption: Some("c".into()) },
        HostEvent::TaskRequest { id: id(), request: "list_tasks".into(), ok: false, error: Some("e".into()) },
        HostEvent::HostWarning { code: "c".into(), message: "m".into() },
        ended(EndReason::AgentExit { code: 3 }),
        ended(EndReason::AgentSignal { signal: 9 }),
        ended(EndReason::SetupFailed { step: "store".into() }),
        ended(EndReason::Finished),
    ]
}

#[test]
fn events_of_every_kind_are_of_their_schemas() {
    let mut samples: Vec<Value> = of_host()
        .into_iter()
        .map(|event| SessionEvent { seq: 1, at: jiff::Timestamp::UNIX_EPOCH, what: event.into() })
        .map(|event| serde_json::to_value(event).unwrap())
        .collect();
    // The golden files are what runners write; the service has a time of its own for each event.
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../ipc-protocol/tests/golden");
    for file in std::fs::read_dir(golden).unwrap().map(|file| file.unwrap().path()) {
        if !file.file_name().unwrap().to_str().unwrap().starts_with("event-") {
            continue;
        }
        let mut event: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        event["at"] = "2026-03-01T12:00:00Z".into();
        let read: SessionEvent = serde_json::from_value(event).unwrap();
        samples.push(serde_json::to_value(read).unwrap());
    }
    all_are_of(&document(), "Event", "kind", &samples);
}

#[test]
fn a_queue_reason_of_every_kind_is_of_its_schema() {
    let agent = "a".parse().unwrap();
    let waits = [
        Wait::AgentContainers { agent, running: 1, limit: 1 },
        Wait::Sessions { running: 1, limit: 1 },
        Wait::Cpus { taken: 1, needs: 1, limit: 1 },
        Wait::Memory { taken: 1, needs: 1, limit: 1 },
        Wait::HostMemory { free: 1, headroom: 1 },
        Wait::Turn { ahead: 1 },
    ];
    let mut samples: Vec<Value> = waits.iter().map(|wait| serde_json::to_value(wait).unwrap()).collect();
    all_are_of(&document(), "Wait", "code", &samples);
    samples.push(json!({"code": "engine"}));
    all_are_of(&document(), "QueueReason", "code", &samples);
}

#[test]
fn the_words_of_statuses_and_reasons_are_those_of_the_code() {
    let document = document();
    let words = |name: &str| document["components"]["schemas"][name]["enum"].as_array().cloned().unwrap_or_default();
    assert_eq!(words("Status"), Status::ALL.map(|status| json!(status.word())));
    let reasons = words("EndReason");
    for reason in [EndReason::Finished, EndReason::AgentExit { code: 1 }, EndReason::RunnerLost] {
        assert!(reasons.contains(&json!(reason.word())), "{reason} is not among {reasons:?}");
    }
    // The fields of a reason need it: without them it reads, if at all, as a reason of that name.
    for reason in &reasons {
        let read = serde_json::from_value::<EndReason>(json!({"reason": reason, "code": 1, "signal": 1, "step": "s"}));
        assert_eq!(json!(read.unwrap().word()), *reason);
    }
    let ended = &document["components"]["schemas"]["EndedEvent"];
    assert_eq!(ended["properties"]["reason"]["$ref"], "#/components/schemas/EndReason", "{ended:#}");
    let required: Vec<&str> = ended["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(required.contains(&"reason") && !required.contains(&"code"), "{required:?}");
}

/// A value with all that a schema has, each one another than its default, and of each enum the variant of that number, or the
/// last one.
fn sample(document: &Value, schema: &Value, variant: usize) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return sample(document, document.pointer(&reference[1..]).unwrap(), variant);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let choices: Vec<&Value> = choices.iter().filter(|choice| choice["type"] != "null").collect();
        return sample(document, choices[variant.min(choices.len() - 1)], variant);
    }
    if let Some(fields) = schema["properties"].as_object() {
        return fields.iter().map(|(name, field)| (name.clone(), sample(document, field, variant))).collect();
    }
    if let Some(word) = schema.get("const").or_else(|| schema["enum"].as_array().and_then(|words| words.last())) {
        return word.clone();
    }
    let is =
        |kind: &str| schema["type"] == kind || schema["type"].as_array().is_some_and(|all| all.contains(&json!(kind)));
    let least = schema["minimum"].as_f64().unwrap_or_default();
    match () {
        () if is("array") => json!([sample(document, &schema["items"], variant)]),
        () if is("object") => json!({"NAME": "value"}),
        () if is("boolean") => json!(schema["default"] != true),
        () if is("integer") => json!(least as u64 + 7),
        () if is("number") => json!(least + 0.5),
        () => json!(if schema["pattern"] == "^/" { "/x" } else { "x" }),
    }
}

#[test]
fn a_session_with_every_documented_field_is_read_and_comes_back_as_it_was() {
    let document = document();
    let defaults = crate::config::Config::default().session;
    for variant in 0..3 {
        let all = sample(&document, &document["components"]["schemas"]["NewSession"], variant);
        let new: NewSession = serde_json::from_value(all.clone()).unwrap_or_else(|error| panic!("{error}: {all:#}"));
        let request = new.into_request(&defaults, 1).unwrap();
        let mut back = serde_json::to_value(NewSession::from(request)).unwrap();
        // Thousandths of a CPU are what is kept.
        assert!((back["limits"]["cpus"].as_f64().unwrap() - all["limits"]["cpus"].as_f64().unwrap()).abs() < 1e-9);
        back["limits"]["cpus"] = all["limits"]["cpus"].clone();
        assert_eq!(back, all);
    }
}
