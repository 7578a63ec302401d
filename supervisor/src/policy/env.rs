//! Which environment variables a caller may hand to an agent.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};

use super::keys;

/// Prefixes of names that are refused, with the reason.
const RESERVED_PREFIXES: [(&str, &str); 4] = [
    ("AIGO_", "names that begin with AIGO_ are kept for what aigo tells its runner"),
    (
        "ANTHROPIC_",
        "names that begin with ANTHROPIC_ are refused as a whole, because some of them decide where model requests go and \
         with which credential; aigo reads the credential and ANTHROPIC_BASE_URL from its own environment",
    ),
    (
        "CLAUDE_",
        "names that begin with CLAUDE_ are refused as a whole, because some of them decide where Claude Code sends its \
         model requests and which credential it uses",
    ),
    ("LD_", "names that begin with LD_ tell the dynamic linker what to load into every program of the container"),
];
/// Names that are refused, with the reason.
const RESERVED: [(&str, &str); 6] = [
    ("HOME", OF_THE_USER),
    ("USER", OF_THE_USER),
    ("LOGNAME", OF_THE_USER),
    ("IS_SANDBOX", OF_CLAUDE),
    ("DISABLE_AUTOUPDATER", OF_CLAUDE),
    ("BASH_ENV", "it names a script that every bash of the container would run first"),
];
const OF_THE_USER: &str = "the runner sets it for the user that the agent runs as";
const OF_CLAUDE: &str = "aigo sets it for Claude Code";
/// The code of the warning about a key, for programs.
pub const KEY_WARNING: &str = "env_key";
/// Longest value: the kernel's own limit for one string of argv and envp (MAX_ARG_STRLEN, execve(2)).
const MAX_BYTES: usize = 128 * 1024;
/// Shorter values are too common to be told from a secret.
const SECRET_MIN: usize = 8;

/// Why a variable is refused. Values are never shown: they may be secrets.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadEnv {
    /// Not a name.
    #[error("`{0}`: use letters, digits and _ in a name, not beginning with a digit")]
    Name(String),
    /// Kept for aigo, or dangerous to it.
    #[error("`{name}` cannot be given: {why}")]
    Reserved {
        /// The variable.
        name: String,
        /// What speaks against it.
        why: &'static str,
    },
    /// Would not start.
    #[error("`{0}`: the value is longer than 128 KiB or holds a NUL byte")]
    Value(String),
    /// A key.
    #[error("`{0}` would hand a real credential to the container; the credential proxy adds it on the host instead")]
    Secret(String),
}

/// Judges one variable.
pub fn check(name: &str, value: &str, secrets: &[SecretString]) -> Result<(), BadEnv> {
    if !is_name(name) {
        return Err(BadEnv::Name(name.to_owned()));
    }
    let upper = name.to_ascii_uppercase();
    let by_name = RESERVED.iter().find(|(reserved, _)| *reserved == upper);
    let reserved = by_name.or_else(|| RESERVED_PREFIXES.iter().find(|(prefix, _)| upper.starts_with(prefix)));
    if let Some((_, why)) = reserved {
        return Err(BadEnv::Reserved { name: name.to_owned(), why });
    }
    if value.len() + name.len() >= MAX_BYTES || value.contains('\0') {
        return Err(BadEnv::Value(name.to_owned()));
    }
    let secret = |secret: &SecretString| {
        let secret = secret.expose_secret();
        secret.len() >= SECRET_MIN && value.contains(secret)
    };
    if secrets.iter().any(secret) {
        return Err(BadEnv::Secret(name.to_owned()));
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(word) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// Sentences about variables that seem to hold a key of a known provider. They are handed on all the same: some agents need
/// them. Values are never shown.
pub fn warnings(env: &BTreeMap<String, String>) -> Vec<String> {
    let known = |(name, value): (&String, &String)| Some((name.clone(), keys::provider(name, value)?));
    let warn = |(name, provider): (String, &str)| {
        format!(
            "the variable {name} seems to hold a key of {provider}: the agent can read it in the container, and use it or \
             send it anywhere; credential mappings, which will keep such keys on the host, do not exist yet"
        )
    };
    env.iter().filter(|(name, _)| is_name(name)).filter_map(known).map(warn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_known_provider_is_warned_about_without_its_value() {
        let key = "gsk_0aB1cD2eF3gH4iJ5kL6mN7oP8qR9sT0u";
        let pairs = [("OTHER", key), ("RUST_LOG", "debug"), ("MISTRAL_API_KEY", &key[4..]), ("BAD NAME", key)];
        let env = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let [mistral, groq] = &warnings(&env)[..] else { panic!("two warnings") };
        assert!(mistral.contains("MISTRAL_API_KEY") && mistral.contains("Mistral"), "{mistral}");
        assert!(groq.contains("OTHER") && groq.contains("Groq"), "{groq}");
        assert!(!format!("{mistral}{groq}").contains(&key[4..]));
    }

    #[test]
    fn reserved_names_and_secrets_are_refused() {
        let secrets = [SecretString::from("sk-real-0123456789")];
        let check = |name: &str, value: &str| check(name, value, &secrets);
        assert_eq!(check("RUST_LOG", "debug"), Ok(()));
        for reserved in ["ANTHROPIC_BASE_URL", "anthropic_api_key", "AIGO_RUNNER_CONFIG", "LD_PRELOAD", "HOME"] {
            let error = check(reserved, "").unwrap_err();
            assert!(matches!(&error, BadEnv::Reserved { name, .. } if name == reserved), "{error:?}");
        }
        let error = check("CLAUDE_CODE_SUBAGENT_MODEL", "").unwrap_err().to_string();
        assert!(error.contains("begin with CLAUDE_") && !error.contains("set by aigo"), "{error}");
        for bad in ["", "A B", "1A", "A=B", "É"] {
            assert_eq!(check(bad, ""), Err(BadEnv::Name(bad.into())));
        }
        let error = check("TOKEN", "Bearer sk-real-0123456789").unwrap_err();
        assert!(matches!(error, BadEnv::Secret(_)) && !error.to_string().contains("sk-real"));
        assert!(matches!(check("X", "a\0b"), Err(BadEnv::Value(_))));
    }
}
