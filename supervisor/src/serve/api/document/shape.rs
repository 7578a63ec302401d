//! Flat objects instead of `allOf`, and a named schema for each variant of a tagged enum.
//!
//! Serde flattens structs into others and tags the variants of enums inside. utoipa writes the first as `allOf`, the second as
//! a list of schemas without names: both are true, but generators of clients make little of them.

use serde_json::{Map, Value, json};

use super::Schemas;
use super::refs::{name_of, reference};

/// The same schemas with flat objects. An enum with tagged variants becomes a list of references with a discriminator, and each
/// variant a schema of its own, named after its tag and the enum: `text` of `Event` is `TextEvent`.
pub(super) fn flat(schemas: Schemas) -> Schemas {
    let derived = Derived(&schemas);
    let mut flat = Schemas::new();
    for (name, schema) in &schemas {
        let variants = derived.variants(schema).filter(|_| schema.get("properties").is_none());
        match variants.and_then(|variants| tag(&variants).map(|tag| (tag, variants))) {
            Some((tag, variants)) => lift(name, schema, &tag, variants, &mut flat),
            None => {
                let mut schema = schema.clone();
                derived.flatten(&mut schema);
                flat.insert(name.clone(), schema);
            }
        }
    }
    flat
}

/// The schemas as they were derived.
struct Derived<'a>(&'a Schemas);

impl Derived<'_> {
    fn follow<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match name_of(schema).and_then(|name| self.0.get(name)) {
            Some(named) => self.follow(named),
            None => schema,
        }
    }

    /// The objects that a value of this schema may be, each flat. None if it may be something else than an object.
    fn variants(&self, schema: &Value) -> Option<Vec<Map<String, Value>>> {
        let schema = self.follow(schema);
        if let Some(items) = list(schema, "oneOf") {
            let variants = items.iter().map(|item| match list(self.follow(item), "oneOf") {
                Some(_) => self.variants(item),
                None => self.object(item).map(|object| vec![object]),
            });
            return Some(variants.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect());
        }
        if let Some(members) = list(schema, "allOf") {
            let mut all = vec![Map::new()];
            for member in members {
                let variants = self.variants(member)?;
                let several = variants.len() > 1;
                all = all
                    .iter()
                    .flat_map(|before| variants.iter().map(move |variant| join(before, variant, several)))
                    .collect();
            }
            return Some(all);
        }
        self.object(schema).map(|object| vec![object])
    }

    /// One flat object for all that a value of this schema may be. What only some variants have is not required.
    fn object(&self, schema: &Value) -> Option<Map<String, Value>> {
        let schema = self.follow(schema);
        if let Some(items) = list(schema, "oneOf") {
            let mut variants = items.iter().map(|item| self.object(item));
            let first = variants.next()??;
            return variants.try_fold(first, |all, variant| Some(either(all, variant?)));
        }
        if let Some(members) = list(schema, "allOf") {
            let mut all = Map::new();
            for member in members {
                // The text of a struct that is flattened in is not the text of the whole.
                let inline = name_of(member).is_none();
                all = join(&all, &self.object(member)?, inline);
            }
            if let Some(text) = schema.get("description") {
                all.insert("description".to_owned(), text.clone());
            }
            return Some(all);
        }
        let is_object = schema.get("type").is_some_and(|kind| kind == "object");
        let mut object = schema.as_object().filter(|_| is_object)?.clone();
        object.values_mut().for_each(|value| self.flatten(value));
        Some(object)
    }

    /// Replaces each `allOf` of objects in a schema.
    fn flatten(&self, schema: &mut Value) {
        if list(schema, "allOf").is_some()
            && let Some(object) = self.object(schema)
        {
            *schema = object.into();
            return;
        }
        match schema {
            Value::Object(fields) => fields.values_mut().for_each(|value| self.flatten(value)),
            Value::Array(items) => items.iter_mut().for_each(|value| self.flatten(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

fn list<'a>(schema: &'a Value, key: &str) -> Option<&'a Vec<Value>> {
    schema.get(key).and_then(Value::as_array)
}

/// The fields of both; the second one's text if `with_text`.
fn join(first: &Map<String, Value>, second: &Map<String, Value>, with_text: bool) -> Map<String, Value> {
    let mut all = first.clone();
    for (key, value) in second {
        match (key.as_str(), all.get_mut(key), value) {
            ("properties", Some(Value::Object(fields)), Value::Object(more)) => {
                fields.extend(more.iter().map(|(name, field)| (name.clone(), field.clone())));
            }
            ("required", Some(Value::Array(names)), Value::Array(more)) => names.extend(more.iter().cloned()),
            ("description", _, text) if with_text => {
                all.insert(key.clone(), text.clone());
            }
            ("description", ..) | (_, Some(_), _) => {}
            (_, None, value) => {
                all.insert(key.clone(), value.clone());
            }
        }
    }
    all
}

/// An object that has the fields of one or of the other: the values of both where both have a field.
fn either(first: Map<String, Value>, second: Map<String, Value>) -> Map<String, Value> {
    let required = |of: &Map<String, Value>| of.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let (here, there) = (required(&first), required(&second));
    let both: Vec<Value> = here.into_iter().filter(|name| there.contains(name)).collect();
    let mut all = join(&first, &second, false);
    let fields = second.get("properties").and_then(Value::as_object);
    for (name, field) in fields.into_iter().flatten() {
        let mine = first.get("properties").and_then(|fields| fields.get(name)).and_then(|field| list(field, "enum"));
        if let (Some(mine), Some(more)) = (mine, list(field, "enum")) {
            let values: Vec<&Value> = mine.iter().chain(more).collect();
            let mut field = field.clone();
            field["enum"] = json!(values);
            if let Some(Value::Object(fields)) = all.get_mut("properties") {
                fields.insert(name.clone(), field);
            }
        }
    }
    all.insert("required".to_owned(), both.into());
    all.remove("description");
    all
}

/// The field that tells variants apart: a single word in each, another one in every other.
fn tag(variants: &[Map<String, Value>]) -> Option<String> {
    let fields = variants.first()?.get("properties")?.as_object()?;
    let tells = |name: &&String| {
        let mut words: Vec<_> = variants.iter().map(|variant| word(variant, name)).collect();
        words.sort_unstable();
        words.dedup();
        words.len() == variants.len() && words.iter().all(Option::is_some)
    };
    fields.keys().find(tells).cloned()
}

fn word<'a>(variant: &'a Map<String, Value>, tag: &str) -> Option<&'a str> {
    let words = list(variant.get("properties")?.get(tag)?, "enum")?;
    words.first().filter(|_| words.len() == 1)?.as_str()
}

/// Names each variant after its tag, and makes the enum a choice among them.
fn lift(name: &str, schema: &Value, tag: &str, variants: Vec<Map<String, Value>>, into: &mut Schemas) {
    let (mut choices, mut mapping) = (Vec::new(), Map::new());
    for mut variant in variants {
        let Some(word) = word(&variant, tag).map(str::to_owned) else { continue };
        let variant_name = format!("{}{name}", pascal(&word));
        mapping.insert(word.clone(), reference(&variant_name)["$ref"].take());
        choices.push(reference(&variant_name));
        if let Some(Value::Object(fields)) = variant.get_mut("properties") {
            let text = format!("The word that tells this variant from others: always `{word}`.");
            fields.insert(tag.to_owned(), json!({"type": "string", "const": word, "description": text}));
        }
        into.insert(variant_name, variant.into());
    }
    let mut choice = json!({"oneOf": choices, "discriminator": {"propertyName": tag, "mapping": mapping}});
    if let Some(text) = schema.get("description") {
        choice["description"] = text.clone();
    }
    into.insert(name.to_owned(), choice);
}

/// `tool_call` as `ToolCall`.
fn pascal(word: &str) -> String {
    let capital =
        |part: &str| part.chars().take(1).flat_map(char::to_uppercase).chain(part.chars().skip(1)).collect::<String>();
    word.split('_').map(capital).collect()
}
