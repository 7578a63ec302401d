//! Which environment variables a caller may hand to an agent.

use secrecy::{ExposeSecret, SecretString};

/// Prefixes of names that only the plan sets: they decide where the agent's model requests and credentials go.
const RESERVED_PREFIXES: [&str; 4] = ["AIGO_", "ANTHROPIC_", "CLAUDE_", "LD_"];
/// Names that only the plan or the runner sets.
const RESERVED: [&str; 6] = ["HOME", "USER", "LOGNAME", "IS_SANDBOX", "DISABLE_AUTOUPDATER", "BASH_ENV"];
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
    /// Ours.
    #[error("`{0}` is set by aigo itself and cannot be given")]
    Reserved(String),
    /// Would not start.
    #[error("`{0}`: the value is longer than 128 KiB or holds a NUL byte")]
    Value(String),
    /// A key.
    #[error("`{0}` would hand a real credential to the container; the credential proxy adds it on the host instead")]
    Secret(String),
}

/// Judges one variable.
pub fn check(name: &str, value: &str, secrets: &[SecretString]) -> Result<(), BadEnv> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(word) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(BadEnv::Name(name.to_owned()));
    }
    let upper = name.to_ascii_uppercase();
    if RESERVED.contains(&upper.as_str()) || RESERVED_PREFIXES.iter().any(|prefix| upper.starts_with(prefix)) {
        return Err(BadEnv::Reserved(name.to_owned()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_and_secrets_are_refused() {
        let secrets = [SecretString::from("sk-real-0123456789")];
        let check = |name: &str, value: &str| check(name, value, &secrets);
        assert_eq!(check("RUST_LOG", "debug"), Ok(()));
        for reserved in ["ANTHROPIC_BASE_URL", "anthropic_api_key", "AIGO_RUNNER_CONFIG", "LD_PRELOAD", "HOME"] {
            assert_eq!(check(reserved, ""), Err(BadEnv::Reserved(reserved.into())));
        }
        for bad in ["", "A B", "1A", "A=B", "É"] {
            assert_eq!(check(bad, ""), Err(BadEnv::Name(bad.into())));
        }
        let error = check("TOKEN", "Bearer sk-real-0123456789").unwrap_err();
        assert!(matches!(error, BadEnv::Secret(_)) && !error.to_string().contains("sk-real"));
        assert!(matches!(check("X", "a\0b"), Err(BadEnv::Value(_))));
    }
}
