//! The kinds of values: how each is read, what is allowed, and how it is shown so that it can be read again.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Value;
use tracing_subscriber::EnvFilter;

use crate::engine::detect::Choice;
use crate::engine::docker::Endpoint;
use crate::engine::subnets::Pools;
use crate::policy::image_name;
use crate::proxy::UpstreamUrl;
use crate::units::{
    MilliCpus, exact_duration, exact_size, format_size, parse_cpus, parse_duration, parse_grace, parse_size,
};

/// The word for a limit that is switched off.
const NONE: &str = "none";
/// Longest name of a group that useradd(8) makes.
const MAX_GROUP_CHARS: usize = 32;

/// A value as it stands in a file, a variable or a flag.
#[derive(Clone, Debug)]
pub(super) struct Raw<'a> {
    /// Its text, without quotes.
    pub(super) text: Cow<'a, str>,
    /// It is text; in a file that means in quotes.
    pub(super) is_text: bool,
}

/// A kind of value.
pub(super) trait Kind {
    /// What it is read into.
    type Value: Clone + PartialEq;

    /// Reads it; the error is a sentence that names the value and what is allowed.
    fn read(&self, raw: &Raw<'_>) -> Result<Self::Value, String>;

    /// As it would stand in a file.
    fn show(&self, value: &Self::Value) -> Value;
}

fn say(error: impl fmt::Display) -> String {
    error.to_string()
}

fn quoted<'a>(raw: &'a Raw<'_>) -> Result<&'a str, String> {
    if raw.is_text { Ok(&raw.text) } else { Err(format!("`{}` is not text: put it in quotes", raw.text)) }
}

/// Switched off by a word.
pub(super) struct Or<K> {
    word: &'static str,
    kind: K,
}

/// Switched off by `none`.
pub(super) const fn or_none<K>(kind: K) -> Or<K> {
    Or { word: NONE, kind }
}

/// Left to another setting by `inherit`.
pub(super) const fn or_inherit<K>(kind: K) -> Or<K> {
    Or { word: "inherit", kind }
}

impl<K: Kind> Kind for Or<K> {
    type Value = Option<K::Value>;

    fn read(&self, raw: &Raw<'_>) -> Result<Self::Value, String> {
        if raw.text == self.word {
            return Ok(None);
        }
        self.kind.read(raw).map(Some).map_err(|error| format!("{error}; or \"{}\"", self.word))
    }

    fn show(&self, value: &Self::Value) -> Value {
        value.as_ref().map_or_else(|| self.word.into(), |value| self.kind.show(value))
    }
}

/// A whole number.
pub(super) struct Number<N> {
    pub(super) min: N,
    pub(super) max: N,
}

impl<N: Copy + PartialOrd + fmt::Display + std::str::FromStr + Into<i64>> Kind for Number<N> {
    type Value = N;

    fn read(&self, raw: &Raw<'_>) -> Result<N, String> {
        let number = raw.text.trim().parse::<N>().ok().filter(|number| (self.min..=self.max).contains(number));
        number.ok_or_else(|| format!("`{}` is not a whole number from {} to {}", raw.text, self.min, self.max))
    }

    fn show(&self, value: &N) -> Value {
        Value::Integer((*value).into())
    }
}

/// True or false.
pub(super) struct Flag;

impl Kind for Flag {
    type Value = bool;

    fn read(&self, raw: &Raw<'_>) -> Result<bool, String> {
        raw.text.parse().map_err(|_| format!("`{}` is neither true nor false", raw.text))
    }

    fn show(&self, value: &bool) -> Value {
        Value::Boolean(*value)
    }
}

/// Bytes, at least as many.
pub(super) struct Size(pub(super) u64);

impl Kind for Size {
    type Value = u64;

    fn read(&self, raw: &Raw<'_>) -> Result<u64, String> {
        let size = parse_size(&raw.text).map_err(say)?;
        if size < self.0 {
            return Err(format!("`{}` is too little: at least {}", raw.text, format_size(self.0)));
        }
        Ok(size)
    }

    fn show(&self, value: &u64) -> Value {
        exact_size(*value).into()
    }
}

/// CPUs.
pub(super) struct Cpus;

impl Kind for Cpus {
    type Value = MilliCpus;

    fn read(&self, raw: &Raw<'_>) -> Result<MilliCpus, String> {
        parse_cpus(&raw.text).map_err(say)
    }

    fn show(&self, value: &MilliCpus) -> Value {
        if value.0.is_multiple_of(1000) {
            Value::Integer((value.0 / 1000).into())
        } else {
            Value::Float(f64::from(value.0) / 1000.0)
        }
    }
}

/// A time limit; `0` and `none` switch it off.
pub(super) struct TimeLimit;

impl Kind for TimeLimit {
    type Value = Option<Duration>;

    fn read(&self, raw: &Raw<'_>) -> Result<Option<Duration>, String> {
        parse_duration(&raw.text).map_err(say)
    }

    fn show(&self, value: &Option<Duration>) -> Value {
        value.map_or_else(|| NONE.to_owned(), exact_duration).into()
    }
}

/// A time that may be nothing.
pub(super) struct Grace;

impl Kind for Grace {
    type Value = Duration;

    fn read(&self, raw: &Raw<'_>) -> Result<Duration, String> {
        parse_grace(&raw.text).map_err(say)
    }

    fn show(&self, value: &Duration) -> Value {
        exact_duration(*value).into()
    }
}

/// A set of words.
pub(super) trait Words: Copy + PartialEq + 'static {
    /// Each with its word.
    const ALL: &'static [(&'static str, Self)];
}

/// One of a set of words.
pub(super) struct Word<T>(std::marker::PhantomData<T>);

/// One of the words of a type.
pub(super) const fn word<T>() -> Word<T> {
    Word(std::marker::PhantomData)
}

impl<T: Words> Kind for Word<T> {
    type Value = T;

    fn read(&self, raw: &Raw<'_>) -> Result<T, String> {
        let found = T::ALL.iter().find(|(word, _)| *word == raw.text).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let words: Vec<&str> = T::ALL.iter().map(|(word, _)| *word).collect();
            format!("`{}` is not allowed: use {}", raw.text, words.join(", "))
        })
    }

    fn show(&self, value: &T) -> Value {
        // Empty only for a value that is missing in its own list, which the test of all words would find.
        T::ALL.iter().find(|(_, known)| known == value).map_or("", |(word, _)| word).into()
    }
}

/// An absolute path.
pub(super) struct AbsolutePath;

impl Kind for AbsolutePath {
    type Value = PathBuf;

    fn read(&self, raw: &Raw<'_>) -> Result<PathBuf, String> {
        let text = quoted(raw)?;
        // A service has no working directory that a person would think of.
        if !Path::new(text).is_absolute() || text.contains('\0') {
            return Err(format!("`{text}` is not an absolute path"));
        }
        Ok(PathBuf::from(text))
    }

    fn show(&self, value: &PathBuf) -> Value {
        value.to_string_lossy().into_owned().into()
    }
}

/// An address to listen on.
pub(super) struct Address;

impl Kind for Address {
    type Value = SocketAddr;

    fn read(&self, raw: &Raw<'_>) -> Result<SocketAddr, String> {
        let bad = |_| format!("`{}` is not an address and a port, such as 127.0.0.1:55765 or [::1]:55765", raw.text);
        raw.text.parse().map_err(bad)
    }

    fn show(&self, value: &SocketAddr) -> Value {
        value.to_string().into()
    }
}

/// Permissions of the socket: nothing for others, and its owner always may.
pub(super) struct Permissions;

impl Kind for Permissions {
    type Value = u32;

    fn read(&self, raw: &Raw<'_>) -> Result<u32, String> {
        match raw.text.as_ref() {
            "0600" => Ok(0o600),
            "0660" => Ok(0o660),
            other => {
                Err(format!("`{other}` is not allowed: use \"0600\" for the owner, or \"0660\" for its group, too"))
            }
        }
    }

    fn show(&self, value: &u32) -> Value {
        format!("{value:04o}").into()
    }
}

/// The name of a group.
pub(super) struct Group;

impl Kind for Group {
    type Value = String;

    fn read(&self, raw: &Raw<'_>) -> Result<String, String> {
        let text = quoted(raw)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
        if text.is_empty() || text.len() > MAX_GROUP_CHARS || !text.chars().all(allowed) {
            return Err(format!("`{text}` is not the name of a group"));
        }
        Ok(text.to_owned())
    }

    fn show(&self, value: &String) -> Value {
        value.clone().into()
    }
}

/// The choice of an engine.
pub(super) struct Engine;

impl Kind for Engine {
    type Value = Choice;

    fn read(&self, raw: &Raw<'_>) -> Result<Choice, String> {
        raw.text.parse().map_err(say)
    }

    fn show(&self, value: &Choice) -> Value {
        match value {
            Choice::Auto => "auto".into(),
            Choice::Only(backend) => backend.word().into(),
        }
    }
}

/// Where an engine answers.
pub(super) struct EngineHost;

impl Kind for EngineHost {
    type Value = Endpoint;

    fn read(&self, raw: &Raw<'_>) -> Result<Endpoint, String> {
        Endpoint::parse("engine.host", &raw.text).map_err(say)
    }

    fn show(&self, value: &Endpoint) -> Value {
        value.to_string().into()
    }
}

/// Ranges of addresses.
pub(super) struct Subnets;

impl Kind for Subnets {
    type Value = Pools;

    fn read(&self, raw: &Raw<'_>) -> Result<Pools, String> {
        quoted(raw)?.parse().map_err(say)
    }

    fn show(&self, value: &Pools) -> Value {
        value.to_string().into()
    }
}

/// How much is logged: a level for aigo itself, or a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevel(String);

impl LogLevel {
    const WORDS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

    /// The level that is used where nothing else is said.
    pub(super) fn info() -> Self {
        Self("info".to_owned())
    }

    /// Reads a level or a filter.
    ///
    /// # Errors
    /// What is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_filter = || !text.trim().is_empty() && EnvFilter::try_new(text).is_ok();
        if Self::WORDS.contains(&text) || (text.contains('=') && is_filter()) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "`{text}` is not a level: use {}, or a filter such as supervisor::proxy=debug",
            Self::WORDS.join(", ")
        ))
    }

    /// The directives of `tracing_subscriber::EnvFilter`. A level is for aigo: libraries stay at warnings, since those of HTTP
    /// and TLS log headers at their finest levels.
    pub fn directives(&self) -> String {
        match self.0.as_str() {
            "error" => "error".to_owned(),
            level if Self::WORDS.contains(&level) => format!("warn,supervisor={level}"),
            filter => filter.to_owned(),
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How much is logged.
pub(super) struct Level;

impl Kind for Level {
    type Value = LogLevel;

    fn read(&self, raw: &Raw<'_>) -> Result<LogLevel, String> {
        LogLevel::parse(&raw.text)
    }

    fn show(&self, value: &LogLevel) -> Value {
        value.0.clone().into()
    }
}

/// An image's tag.
pub(super) struct Image;

impl Kind for Image {
    type Value = String;

    fn read(&self, raw: &Raw<'_>) -> Result<String, String> {
        let text = quoted(raw)?;
        image_name::check(text).map_err(say)?;
        Ok(text.to_owned())
    }

    fn show(&self, value: &String) -> Value {
        value.clone().into()
    }
}

/// The model's API. Whether plain http is allowed is another key's word: see [`super::layers`].
pub(super) struct Upstream;

impl Kind for Upstream {
    type Value = UpstreamUrl;

    fn read(&self, raw: &Raw<'_>) -> Result<UpstreamUrl, String> {
        UpstreamUrl::parse(&raw.text, true).map_err(say)
    }

    fn show(&self, value: &UpstreamUrl) -> Value {
        value.to_string().into()
    }
}
