//! The environment as a layer, and the variables of our prefix that nobody reads: a typing error there would be a setting that
//! silently does not hold.

use super::error::Problem;
use super::kind::Raw;
use super::layers::Layer;
use super::list::{Origin, entries};
use super::place::CONFIG_VARIABLE;
use super::sections::Config;
use super::suggest::nearest;

/// What every variable of ours begins with, but those that other programs know, too.
const PREFIX: &str = "AIGO_";
/// Variables of the prefix that are no keys, each with who reads it.
const OTHERS: [&str; 7] = [
    // Names the file itself.
    CONFIG_VARIABLE,
    // Debug builds die where it says: see `failpoint`.
    "AIGO_FAILPOINT",
    // The runner's, in every container: what works there may well work on aigo.
    "AIGO_RUNNER_CONFIG",
    // The Makefile's, and those of the tests that it starts: they hand their environment on.
    "AIGO_BIN",
    "AIGO_RUNNER",
    "AIGO_VM",
    "AIGO_SOAK_SESSIONS",
];
/// Variables by which people choose what is tested.
const TESTS: &str = "AIGO_TEST_";

/// The environment of a process.
#[derive(Clone)]
pub struct Environment<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    names: Vec<String>,
}

impl std::fmt::Debug for Environment<'_> {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("names", &self.names).finish_non_exhaustive()
    }
}

impl<'a> Environment<'a> {
    /// One in which `get` looks a variable up, and which has the variables `names`.
    pub fn new(get: &'a dyn Fn(&str) -> Option<String>, names: impl IntoIterator<Item = String>) -> Self {
        Self { get, names: names.into_iter().filter(|name| name.starts_with(PREFIX)).collect() }
    }

    /// One in which nothing is set.
    pub fn empty() -> Environment<'static> {
        Environment { get: &|_| None, names: Vec::new() }
    }

    /// An empty variable is as good as none.
    fn value(&self, variable: &str) -> Option<String> {
        (self.get)(variable).filter(|value| !value.is_empty())
    }

    /// What it says of the configuration's keys.
    pub(super) fn layer(&self, config: &Config) -> Layer<'static> {
        let set = |variable: String| self.value(&variable).map(|value| (variable, value));
        let found = entries(config).into_iter().filter_map(|entry| Some((entry.key, entry.variable.and_then(set)?)));
        found
            .map(|(key, (variable, value))| {
                (key, (Raw { text: value.into(), is_text: true }, Origin::Environment { variable }))
            })
            .collect()
    }

    /// Variables that are set and that nobody reads.
    pub(super) fn unknown(&self, config: &Config) -> Vec<Problem> {
        let keys: Vec<String> = entries(config).into_iter().filter_map(|entry| entry.variable).collect();
        let known =
            |name: &str| keys.iter().any(|key| key == name) || OTHERS.contains(&name) || name.starts_with(TESTS);
        // The likeness of keys is measured in their own letters, and without what they all begin with.
        let own = |name: &str| Some(name.strip_prefix(PREFIX)?.to_lowercase().replace('_', "-"));
        let forms: Vec<String> = keys.iter().filter_map(|key| own(key)).collect();
        let unknown = self.names.iter().filter(|name| !known(name) && self.value(name).is_some());
        unknown
            .map(|name| {
                let like =
                    own(name).and_then(|name| nearest(&name, forms.iter().map(String::as_str)).map(str::to_uppercase));
                let like = like.map(|form| format!("{PREFIX}{}", form.replace('-', "_")));
                let hint = match like {
                    Some(key) => format!("did you mean `{key}`?"),
                    None => "`aigo config show --json` has the variable of each key".to_owned(),
                };
                let place = Origin::Environment { variable: name.clone() };
                Problem { place, text: format!("no key of the configuration has this variable; {hint}") }
            })
            .collect()
    }
}
