//! The real credential: where it comes from, how it is put on a request, and how it is kept out of everything else.
//!
//! The secret lives in this type only. It leaves it in one way, [`Credential::inject`], as a header value marked
//! sensitive, and it can be searched for and masked in bytes that are about to be shown or kept.

use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use memchr::memmem::Finder;
use secrecy::{ExposeSecret, SecretString};

/// What agents are given in place of a key. A real credential with this value would mean that aigo runs inside one of
/// its own containers and was handed the placeholder.
pub const PLACEHOLDER: &str = "CREDENTIAL_PROXY_PLACEHOLDER";

/// The beta that the API demands of OAuth bearers. The agent believes that it has an API key, so it does not ask for it.
const OAUTH_BETA: &str = "oauth-2025-04-20";
const ANTHROPIC_BETA: HeaderName = HeaderName::from_static("anthropic-beta");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Shorter values (`x`, `dummy`: usual for local gateways) are no secrets, and masking them would shred ordinary text.
const MIN_MASKED: usize = 8;

/// Which variable of the host a credential came from, which also says how it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// `ANTHROPIC_AUTH_TOKEN`, sent as `authorization: Bearer`.
    AuthToken,
    /// `ANTHROPIC_API_KEY`, sent as `x-api-key`.
    ApiKey,
    /// `CLAUDE_CODE_OAUTH_TOKEN`, sent as `authorization: Bearer` with the OAuth beta.
    OauthToken,
}

impl CredentialKind {
    /// Claude Code's own order where several are set: the token, then the key, then the subscription's token. (It sends
    /// the first two together when both are set; exactly one is sent here, the one that it prefers.)
    pub const BY_PRECEDENCE: [Self; 3] = [Self::AuthToken, Self::ApiKey, Self::OauthToken];

    /// The name of the variable.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::AuthToken => "ANTHROPIC_AUTH_TOKEN",
            Self::ApiKey => "ANTHROPIC_API_KEY",
            Self::OauthToken => "CLAUDE_CODE_OAUTH_TOKEN",
        }
    }
}

/// Why there is no usable credential. The value is never part of the text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CredentialError {
    #[error(
        "no credential for the model API: set ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN or CLAUDE_CODE_OAUTH_TOKEN on the \
         host, or work without one from a script: --replay FILE, in the API `model`"
    )]
    Missing,
    #[error("{variable} contains whitespace or a line break: set it to the bare credential")]
    Whitespace { variable: &'static str },
    #[error("{variable} contains characters that are not printable ASCII: set it to the bare credential")]
    NotAscii { variable: &'static str },
    #[error(
        "{variable} is the placeholder that agents get, not a real credential: start aigo outside of its containers, or \
         set a real one"
    )]
    Placeholder { variable: &'static str },
}

/// A real credential. `Debug` shows its kind only.
#[derive(Clone)]
pub struct Credential {
    kind: CredentialKind,
    secret: Arc<SecretString>,
    header: HeaderValue,
}

impl Credential {
    /// Checks a value and takes it.
    ///
    /// # Errors
    /// When it is empty, not printable ASCII without blanks (it could not be sent as a header), or the placeholder.
    pub fn new(kind: CredentialKind, value: String) -> Result<Self, CredentialError> {
        let variable = kind.variable();
        if value.is_empty() {
            return Err(CredentialError::Missing);
        }
        if value.contains(char::is_whitespace) {
            return Err(CredentialError::Whitespace { variable });
        }
        if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(CredentialError::NotAscii { variable });
        }
        if value == PLACEHOLDER {
            return Err(CredentialError::Placeholder { variable });
        }
        let text = match kind {
            CredentialKind::ApiKey => HeaderValue::from_str(&value),
            CredentialKind::AuthToken | CredentialKind::OauthToken => HeaderValue::try_from(format!("Bearer {value}")),
        };
        let mut header = text.map_err(|_| CredentialError::NotAscii { variable })?;
        header.set_sensitive(true);
        Ok(Self { kind, secret: Arc::new(SecretString::from(value)), header })
    }

    /// Takes the credential of the host's environment, in the order of [`CredentialKind::BY_PRECEDENCE`]. An empty
    /// variable counts as not set.
    ///
    /// # Errors
    /// When none is set, or the one that is preferred is unusable: falling back to another account in silence would
    /// surprise whoever pays for it.
    pub fn from_env(env: impl Fn(&str) -> Option<OsString>) -> Result<Self, CredentialError> {
        for kind in CredentialKind::BY_PRECEDENCE {
            let Some(value) = env(kind.variable()).filter(|value| !value.is_empty()) else { continue };
            let value = value.into_string().map_err(|_| CredentialError::NotAscii { variable: kind.variable() })?;
            return Self::new(kind, value);
        }
        Err(CredentialError::Missing)
    }

    /// Where it came from.
    pub fn kind(&self) -> CredentialKind {
        self.kind
    }

    /// Puts the credential on a request, in place of whatever the client sent as one.
    pub(super) fn inject(&self, headers: &mut HeaderMap) {
        headers.remove(AUTHORIZATION);
        headers.remove(X_API_KEY);
        match self.kind {
            CredentialKind::ApiKey => {
                headers.insert(X_API_KEY, self.header.clone());
            }
            CredentialKind::AuthToken => {
                headers.insert(AUTHORIZATION, self.header.clone());
            }
            CredentialKind::OauthToken => {
                headers.insert(AUTHORIZATION, self.header.clone());
                let asked = headers.get_all(ANTHROPIC_BETA).iter().any(|line| {
                    line.as_bytes().split(|byte| *byte == b',').any(|beta| beta.trim_ascii() == OAUTH_BETA.as_bytes())
                });
                if !asked {
                    headers.append(ANTHROPIC_BETA, HeaderValue::from_static(OAUTH_BETA));
                }
            }
        }
    }

    /// Whether the secret occurs in these bytes.
    pub(super) fn occurs_in(&self, bytes: &[u8]) -> bool {
        let secret = self.secret.expose_secret().as_bytes();
        secret.len() >= MIN_MASKED && Finder::new(secret).find(bytes).is_some()
    }

    /// Overwrites every occurrence of the secret with as many asterisks, so that offsets into the bytes stay valid.
    pub(super) fn mask(&self, bytes: &mut [u8]) {
        let secret = self.secret.expose_secret().as_bytes();
        if secret.len() < MIN_MASKED {
            return;
        }
        let finder = Finder::new(secret);
        let mut from = 0;
        while let Some(at) = finder.find(&bytes[from..]) {
            bytes[from + at..from + at + secret.len()].fill(b'*');
            from += at + secret.len();
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("kind", &self.kind).field("secret", &"[redacted]").finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
    }

    #[test]
    fn precedence_is_token_then_key_then_subscription() {
        let all = env(&[
            ("ANTHROPIC_API_KEY", "key-1234567"),
            ("ANTHROPIC_AUTH_TOKEN", "tok-1234567"),
            ("CLAUDE_CODE_OAUTH_TOKEN", "oat-1234567"),
        ]);
        assert_eq!(Credential::from_env(all).unwrap().kind(), CredentialKind::AuthToken);
        let two = env(&[("ANTHROPIC_API_KEY", "key-1234567"), ("CLAUDE_CODE_OAUTH_TOKEN", "oat-1234567")]);
        assert_eq!(Credential::from_env(two).unwrap().kind(), CredentialKind::ApiKey);
        let empty_first = env(&[("ANTHROPIC_AUTH_TOKEN", ""), ("CLAUDE_CODE_OAUTH_TOKEN", "oat-1234567")]);
        assert_eq!(Credential::from_env(empty_first).unwrap().kind(), CredentialKind::OauthToken);
    }

    #[test]
    fn unusable_values_are_refused_by_name_and_never_shown() {
        assert_eq!(Credential::from_env(|_| None).unwrap_err(), CredentialError::Missing);
        for (value, wanted) in [
            ("sk-marked\n", CredentialError::Whitespace { variable: "ANTHROPIC_API_KEY" }),
            ("sk marked", CredentialError::Whitespace { variable: "ANTHROPIC_API_KEY" }),
            ("sk-märked", CredentialError::NotAscii { variable: "ANTHROPIC_API_KEY" }),
            ("sk-marked\u{7}", CredentialError::NotAscii { variable: "ANTHROPIC_API_KEY" }),
            (PLACEHOLDER, CredentialError::Placeholder { variable: "ANTHROPIC_API_KEY" }),
        ] {
            let error = Credential::new(CredentialKind::ApiKey, value.to_owned()).unwrap_err();
            assert_eq!(error, wanted);
            assert!(!format!("{error} {error:?}").contains("marked"));
        }
    }

    #[test]
    fn injection_leaves_exactly_one_credential() {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", HeaderValue::from_static("from-the-agent"));
        headers.append("authorization", HeaderValue::from_static("Bearer a"));
        headers.append("authorization", HeaderValue::from_static("Bearer b"));
        headers.insert("anthropic-beta", HeaderValue::from_static("one, two"));
        let oauth = Credential::new(CredentialKind::OauthToken, "oat-marked-1".into()).unwrap();
        oauth.inject(&mut headers);
        oauth.inject(&mut headers);
        assert!(!headers.contains_key("x-api-key"));
        assert_eq!(headers.get_all("authorization").iter().count(), 1);
        let betas: Vec<_> = headers.get_all("anthropic-beta").iter().map(|v| v.to_str().unwrap()).collect();
        assert_eq!(betas, ["one, two", OAUTH_BETA]);
        assert!(!format!("{headers:?} {oauth:?}").contains("marked"));
    }

    #[test]
    fn masks_in_place() {
        let key = Credential::new(CredentialKind::ApiKey, "sk-12345".into()).unwrap();
        let mut text = b"a sk-12345sk-12345 b sk-1234".to_vec();
        assert!(key.occurs_in(&text));
        key.mask(&mut text);
        assert_eq!(text, b"a **************** b sk-1234");
        assert!(!key.occurs_in(&text));
    }
}
