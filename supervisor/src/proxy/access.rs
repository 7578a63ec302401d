//! Where model requests go and as whom: the upstream's address with its credential.

use std::ffi::OsString;
use std::net::IpAddr;

use http::uri::{Authority, InvalidUri, PathAndQuery, Scheme, Uri};

use super::credential::{Credential, CredentialError};

/// The upstream when `ANTHROPIC_BASE_URL` is not set.
pub const DEFAULT_BASE_URL: &str = "https://api.anthropic.com";
const BASE_URL_VARIABLE: &str = "ANTHROPIC_BASE_URL";

/// Why an upstream cannot be used. The URL is shown only after it was seen to hold no password.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error("the upstream (ANTHROPIC_BASE_URL) is not a URL like https://host/path: {0}")]
    NotAUrl(String),
    #[error(
        "the upstream (ANTHROPIC_BASE_URL) contains a user name or password: put the credential into ANTHROPIC_AUTH_TOKEN instead"
    )]
    UserInfo,
    #[error("the upstream (ANTHROPIC_BASE_URL) {url:?} has a query: only scheme, host, port and path are allowed")]
    Query { url: String },
    #[error(
        "the upstream (ANTHROPIC_BASE_URL) {url:?} is plain http, which would show the credential to the network: use https, or \
         --allow-plain-http (of a service: `proxy.allow-plain-http`) if that network is yours"
    )]
    PlainHttp { url: String },
}

/// An upstream with its path prefix: `https://host:port/some/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    scheme: Scheme,
    authority: Authority,
    /// Without a slash at its end; empty for the root.
    prefix: String,
}

impl Default for UpstreamUrl {
    fn default() -> Self {
        let host = DEFAULT_BASE_URL.trim_start_matches("https://");
        Self { scheme: Scheme::HTTPS, authority: Authority::from_static(host), prefix: String::new() }
    }
}

impl std::fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.prefix)
    }
}

impl UpstreamUrl {
    /// Parses a base URL. Plain http goes to loopback only, unless `allow_plain_http`.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub fn parse(url: &str, allow_plain_http: bool) -> Result<Self, AccessError> {
        let malformed = |why: &str| AccessError::NotAUrl(why.to_owned());
        if url.contains('@') {
            return Err(AccessError::UserInfo);
        }
        // http::Uri drops a fragment in silence.
        if url.contains(['?', '#']) {
            return Err(AccessError::Query { url: url.to_owned() });
        }
        let parts = url.parse::<Uri>().map_err(|error| malformed(&error.to_string()))?.into_parts();
        let scheme = parts.scheme.ok_or_else(|| malformed("it has no scheme"))?;
        let authority = parts.authority.filter(|a| !a.host().is_empty()).ok_or_else(|| malformed("it has no host"))?;
        if scheme != Scheme::HTTPS && scheme != Scheme::HTTP {
            return Err(malformed("its scheme is neither https nor http"));
        }
        let prefix = parts.path_and_query.map(|path| path.path().trim_end_matches('/').to_owned()).unwrap_or_default();
        let url = Self { scheme, authority, prefix };
        if url.is_plain_beyond_loopback() && !allow_plain_http {
            return Err(AccessError::PlainHttp { url: url.to_string() });
        }
        Ok(url)
    }

    /// The address of a request that came in with this path and query.
    pub(super) fn join(&self, path: &PathAndQuery) -> Result<Uri, InvalidUri> {
        let path = if self.prefix.is_empty() {
            path.clone()
        } else {
            PathAndQuery::try_from(format!("{}{path}", self.prefix))?
        };
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        // Scheme, authority and path are all present: from_parts refuses only combinations with one of them missing.
        Ok(Uri::from_parts(parts).unwrap_or_default())
    }

    /// The credential would be seen by the network beyond this host.
    pub fn is_plain_beyond_loopback(&self) -> bool {
        self.scheme == Scheme::HTTP && !is_loopback(self.authority.host())
    }

    /// Host name or address, for messages.
    pub fn host(&self) -> &str {
        self.authority.host()
    }

    /// The port, with the scheme's default.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.scheme == Scheme::HTTPS { 443 } else { 80 })
    }

    pub(super) fn is_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// An upstream and the credential for it: they travel together, so that neither can be used with another.
#[derive(Clone, Debug)]
pub struct ModelAccess {
    pub(super) url: UpstreamUrl,
    pub(super) credential: Credential,
}

impl ModelAccess {
    /// Joins an upstream and its credential.
    pub fn new(url: UpstreamUrl, credential: Credential) -> Self {
        Self { url, credential }
    }

    /// Reads `ANTHROPIC_BASE_URL` and the credential from the host's environment, e.g. with `|name| std::env::var_os(name)`.
    ///
    /// # Errors
    /// See [`AccessError`]; nothing has been started then.
    pub fn from_env(env: impl Fn(&str) -> Option<OsString>, allow_plain_http: bool) -> Result<Self, AccessError> {
        let credential = Credential::from_env(&env)?;
        let url = match env(BASE_URL_VARIABLE).filter(|url| !url.is_empty()) {
            Some(url) => {
                let url = url.into_string().map_err(|_| AccessError::NotAUrl("it is not valid UTF-8".to_owned()))?;
                UpstreamUrl::parse(&url, allow_plain_http)?
            }
            None => UpstreamUrl::default(),
        };
        Ok(Self { url, credential })
    }

    /// The same credential for another upstream.
    #[must_use]
    pub fn with_url(self, url: UpstreamUrl) -> Self {
        Self { url, ..self }
    }

    /// The upstream.
    pub fn url(&self) -> &UpstreamUrl {
        &self.url
    }

    /// The credential; its `Debug` output is redacted.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(base: &str, path: &'static str) -> String {
        let url = UpstreamUrl::parse(base, false).unwrap();
        url.join(&PathAndQuery::from_static(path)).unwrap().to_string()
    }

    #[test]
    fn keeps_the_path_prefix_and_the_query() {
        let path = "/v1/messages?beta=true";
        assert_eq!(joined("https://h.example", path), "https://h.example/v1/messages?beta=true");
        assert_eq!(joined("https://h.example/", path), "https://h.example/v1/messages?beta=true");
        assert_eq!(joined("https://h.example:8443/a/b/", path), "https://h.example:8443/a/b/v1/messages?beta=true");
    }

    #[test]
    fn plain_http_needs_loopback_or_a_word() {
        for local in ["http://127.0.0.1:8080/x", "http://localhost:1", "http://[::1]:9"] {
            UpstreamUrl::parse(local, false).unwrap();
        }
        assert!(matches!(UpstreamUrl::parse("http://10.0.0.1/", false), Err(AccessError::PlainHttp { .. })));
        UpstreamUrl::parse("http://10.0.0.1/", true).unwrap();
    }

    #[test]
    fn refuses_what_is_no_base_url() {
        assert!(matches!(UpstreamUrl::parse("https://user:marked@h/", false), Err(AccessError::UserInfo)));
        assert!(!UpstreamUrl::parse("https://user:marked@h/", false).unwrap_err().to_string().contains("marked"));
        assert!(matches!(UpstreamUrl::parse("https://h/?a=b", false), Err(AccessError::Query { .. })));
        for bad in ["", "h.example", "ftp://h/", "https://", "/path"] {
            assert!(matches!(UpstreamUrl::parse(bad, false), Err(AccessError::NotAUrl(_))), "{bad}");
        }
    }
}
