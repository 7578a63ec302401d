//! An error with its causes, as one sentence: for people, once, at the top.

use std::error::Error;

/// The error's own words and those of its causes, joined by colons. A cause that was said already is left out: many
/// libraries repeat theirs.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Link(&'static str, #[source] Option<Box<Link>>);

    #[test]
    fn each_cause_is_said_once() {
        let link = |text, cause: Option<Link>| Link(text, cause.map(Box::new));
        let error = link("cannot open x: denied", Some(link("denied", Some(link("by policy", None)))));
        assert_eq!(chain(&error), "cannot open x: denied: by policy");
    }
}
