//! What somebody may have meant by a key that does not exist.

/// Below this likeness (Jaro-Winkler, 0 to 1) a suggestion would mislead more than help.
const LIKENESS: f64 = 0.8;

/// The name that is most like `given`.
pub(super) fn nearest<'a>(given: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Keys are written with `-`; people also write `_`, or capitals.
    let given = given.to_lowercase().replace('_', "-");
    names
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&given, name), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}

/// The sentence about a key that does not exist: what is like it in the same table, or the same name in another table.
pub(super) fn unknown(table: &str, given: &str, here: &[String], everywhere: &[String]) -> String {
    let place = if table.is_empty() { "no such key".to_owned() } else { format!("no such key in [{table}]") };
    let hint = match nearest(given, here.iter().map(String::as_str)) {
        Some(name) => format!("did you mean `{name}`?"),
        None => {
            let last = |path: &&String| path.rsplit('.').next().is_some_and(|name| nearest(given, [name]).is_some());
            match everywhere.iter().find(last).and_then(|path| path.rsplit_once('.')) {
                Some((table, name)) => format!("did you mean `{name}` in [{table}]?"),
                None => format!("there are {}", here.join(", ")),
            }
        }
    };
    format!("`{given}`: {place}; {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_find_their_key() {
        let here = ["memory".to_owned(), "idle-timeout".to_owned()];
        let everywhere = ["session.memory".to_owned(), "queue.length".to_owned()];
        for (given, hint) in [
            ("memroy", "did you mean `memory`?"),
            ("idle_timeout", "did you mean `idle-timeout`?"),
            ("Memory", "did you mean `memory`?"),
            ("lenght", "did you mean `length` in [queue]?"),
            ("colour", "there are memory, idle-timeout"),
        ] {
            let text = unknown("session", given, &here, &everywhere);
            assert!(text.ends_with(hint) && text.contains(&format!("`{given}`")), "{text}");
        }
    }
}
