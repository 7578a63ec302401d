//! References between schemas: copies become references, names become words, and what nobody refers to is dropped.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Schemas;

/// Where schemas are.
const PLACE: &str = "#/components/schemas/";
/// How utoipa begins the name of a page of items.
const PAGE: &str = "Page_";

/// A reference to a schema.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("{PLACE}{name}") })
}

/// The schema that this one is a reference to.
pub(super) fn name_of(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix(PLACE)
}

/// Puts the references of a whole document in order.
pub(super) fn tidy(document: &mut Value) {
    let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas").map(Value::take) else { return };
    // Types with a parameter are written out with what they hold: `Page<Session>` has a copy of `Session`.
    let mut whole: Schemas = schemas
        .iter()
        .map(|(name, schema)| {
            let mut schema = schema.clone();
            for field in parts(&mut schema) {
                replace_copies(field, &schemas);
            }
            (page_name(name).unwrap_or_else(|| name.clone()), schema)
        })
        .collect();
    whole.values_mut().for_each(rename_pages);
    replace_copies(&mut document["paths"], &schemas);
    rename_pages(&mut document["paths"]);
    let mut used = BTreeSet::new();
    collect(&document["paths"], &whole, &mut used);
    whole.retain(|name, _| used.contains(name));
    close_requests(&document["paths"], &mut whole);
    document["components"]["schemas"] = whole.into();
}

/// Says of what is sent to the service that it may have no other fields: all these types refuse them.
fn close_requests(paths: &Value, schemas: &mut Schemas) {
    let mut sent = BTreeSet::new();
    let operations =
        paths.as_object().into_iter().flat_map(Schemas::values).filter_map(Value::as_object).flat_map(Schemas::values);
    for operation in operations {
        collect(&operation["requestBody"], schemas, &mut sent);
    }
    for schema in schemas.iter_mut().filter(|(name, _)| sent.contains(*name)).map(|(_, schema)| schema) {
        if schema.get("properties").is_some() {
            schema["additionalProperties"] = false.into();
        }
    }
}

fn parts(value: &mut Value) -> Vec<&mut Value> {
    match value {
        Value::Object(fields) => fields.values_mut().collect(),
        Value::Array(items) => items.iter_mut().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// Replaces a schema that is the same as a named one, but for its text, and what is below it.
fn replace_copies(value: &mut Value, schemas: &Schemas) {
    if let Some(name) = schemas.iter().find(|(_, named)| is_copy(value, named)).map(|(name, _)| name) {
        let text = value.get("description").cloned();
        *value = reference(name);
        if let Some(text) = text {
            value["description"] = text;
        }
        return;
    }
    for part in parts(value) {
        replace_copies(part, schemas);
    }
}

fn is_copy(value: &Value, named: &Value) -> bool {
    let worth_a_name = |schema: &Value| {
        schema.get("properties").and_then(Value::as_object).is_some_and(|fields| !fields.is_empty())
            || schema.get("enum").and_then(Value::as_array).is_some_and(|words| words.len() > 1)
    };
    let (Value::Object(value_fields), Value::Object(named_fields)) = (value, named) else { return false };
    let without_text = |fields: &'_ Schemas| fields.iter().filter(|(key, _)| *key != "description").count();
    worth_a_name(value)
        && without_text(value_fields) == without_text(named_fields)
        && value_fields.iter().all(|(key, part)| key == "description" || named_fields.get(key) == Some(part))
}

fn page_name(name: &str) -> Option<String> {
    name.strip_prefix(PAGE).map(|item| format!("{item}Page"))
}

fn rename_pages(value: &mut Value) {
    if let Some(name) = name_of(value).and_then(page_name) {
        value["$ref"] = reference(&name)["$ref"].take();
    }
    for part in parts(value) {
        rename_pages(part);
    }
}

/// Collects the names of all schemas that a value refers to, and those that they refer to.
fn collect(value: &Value, schemas: &Schemas, used: &mut BTreeSet<String>) {
    if let Some(name) = name_of(value)
        && used.insert(name.to_owned())
        && let Some(schema) = schemas.get(name)
    {
        collect(schema, schemas, used);
    }
    match value {
        Value::Object(fields) => fields.values().for_each(|field| collect(field, schemas, used)),
        Value::Array(items) => items.iter().for_each(|item| collect(item, schemas, used)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
