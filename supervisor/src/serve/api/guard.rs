//! Who may call: nobody's web page; by TCP only users of this host who are known and allowed, or whoever has the token where
//! one is set.
//!
//! A page in a browser on this machine can send requests to loopback. What it cannot do is choose the `Host` header (so a
//! name that was pointed at 127.0.0.1 is seen), hide its `Origin`, or send JSON without asking first (see
//! [`super::extract::Json`]). Of an image or a link of the page there is no `Origin`, but there is `Sec-Fetch-Site`
//! (<https://www.w3.org/TR/fetch-metadata/>).
//!
//! Whose name a request carries is said by its target if that has an authority, else by the `Host` header (RFC 9112
//! section 3.2.2).

use std::sync::Arc;

use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::extract::MAX_BODY;
use super::problem::Problem;
use crate::serve::caller::Caller;
use crate::serve::refusals::Refusals;
use crate::store::socket_actor;

/// By whose page a browser was told to ask; `none` is a person.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Bytes of a request's line and headers. The listener reads little more than that of any.
pub const MAX_HEAD: usize = 32 << 10;
/// What a line of the head has besides its words: blanks, a colon, the version, the line's end.
const LINE: usize = 4;

/// What every user of this host may ask by TCP: it tells that the service lives, and nothing of anybody's work.
const OPEN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// How a request came in; the listener puts it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// By TCP, from this address and this user.
    Tcp(std::net::SocketAddr, Caller),
    /// By the unix socket, from this user: file permissions have let it in.
    Unix(u32),
}

impl Peer {
    /// In words, for the audit log.
    pub fn actor(&self) -> String {
        match self {
            Self::Tcp(address, caller) => match caller.uid() {
                Some(uid) => format!("api {address} uid {uid}"),
                None => format!("api {address}"),
            },
            Self::Unix(uid) => socket_actor(*uid),
        }
    }
}

/// What is asked of callers by TCP.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// The token that they must have. Without one they must be users whom the listener has found to be allowed.
    pub token: Option<Arc<SecretString>>,
    /// Who was refused.
    pub refusals: Arc<Refusals>,
}

/// Lets a request through, or refuses it.
pub async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let judged = match head_bytes(&request) {
        ..=MAX_HEAD => judge(&guard, &request),
        _ => Err(Problem::head_too_large(format!("a request's line and headers may have {MAX_HEAD} bytes"))),
    };
    let mut response = match judged {
        // Refused before it is sent, whatever the path would have made of it.
        Ok(()) if request.body().size_hint().lower() > MAX_BODY as u64 => Problem::body_too_large().into_response(),
        Ok(()) => next.run(request).await,
        Err(problem) => {
            let peer = request.extensions().get::<Peer>();
            let who = peer.map_or_else(|| "nobody".to_owned(), Peer::actor);
            guard.refusals.note(who, problem.detail());
            problem.into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn head_bytes(request: &Request) -> usize {
    let (method, uri) = (request.method().as_str(), request.uri().path_and_query());
    let line = method.len() + uri.map_or(0, |uri| uri.as_str().len()) + LINE;
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + LINE);
    line + headers.sum::<usize>()
}

fn judge<B>(guard: &Guard, request: &axum::http::Request<B>) -> Result<(), Problem> {
    let headers = request.headers();
    let host = one(headers, &header::HOST)?;
    if host.is_none() && request.version() == Version::HTTP_11 {
        return Err(Problem::bad_request("the header Host is missing; HTTP/1.1 needs it"));
    }
    let host = request.uri().authority().map(|authority| authority.as_str()).or(host);
    let caller = match request.extensions().get::<Peer>() {
        Some(Peer::Unix(_)) => return Ok(()),
        Some(Peer::Tcp(_, caller)) => caller,
        None => return Err(Problem::forbidden("the request came by no listener of ours")),
    };
    if let Some(site) = one(headers, &FETCH_SITE)?
        && !matches!(site, "same-origin" | "none")
    {
        return Err(Problem::forbidden("pages of other sites may not use this API"));
    }
    if let Some(origin) = one(headers, &header::ORIGIN)?
        && !host.is_some_and(|host| same_origin(origin, host))
    {
        return Err(Problem::forbidden(format!("pages of {origin} may not use this API")));
    }
    if let Some(token) = &guard.token {
        let given = one(headers, &header::AUTHORIZATION)?.and_then(|value| value.split_once(' '));
        return match given {
            Some((scheme, given)) if scheme.eq_ignore_ascii_case("bearer") && same(given.trim(), token) => Ok(()),
            Some(_) | None => Err(Problem::unauthorized("send `Authorization: Bearer TOKEN`")),
        };
    }
    if !host.is_some_and(is_loopback_name) {
        return Err(Problem::forbidden(format!(
            "the request's host (its Host header, or the authority of its target) must be a loopback name such as \
             localhost, not `{}`",
            host.unwrap_or_default()
        )));
    }
    if OPEN_PATHS.contains(&request.uri().path()) {
        return Ok(());
    }
    match caller {
        Caller::Allowed(_) => Ok(()),
        Caller::Refused(_, why) => Err(Problem::forbidden(&**why)),
        Caller::Unknown(why) => Err(Problem::unauthorized(format!(
            "{why}; such callers need a token: set one by `token-file` in the service's configuration, and send \
             `Authorization: Bearer TOKEN`"
        ))),
    }
}

fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(value), None) => Ok(Some(value)),
        (Err(_), _) | (_, Some(_)) => {
            Err(Problem::bad_request(format!("the header {name} must be there once, as text")))
        }
    }
}

/// Takes the same time wherever two texts of one length begin to differ.
fn same(given: &str, token: &SecretString) -> bool {
    given.as_bytes().ct_eq(token.expose_secret().as_bytes()).into()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        Some(_) | None => host,
    }
}

/// `localhost` and what is below it (RFC 6761 section 6.3), and the loopback addresses.
fn is_loopback_name(host: &str) -> bool {
    let name = without_port(host);
    let lower = name.to_ascii_lowercase();
    if lower == "localhost" || lower.ends_with(".localhost") {
        return true;
    }
    let address = lower.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&lower);
    address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn same_origin(origin: &str, host: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .filter_map(|scheme| origin.strip_prefix(scheme))
        .any(|rest| rest.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(token: Option<&str>, caller: Caller, target: &str, headers: &[(&'static str, &str)]) -> u16 {
        let token = token.map(|token| Arc::new(SecretString::from(token)));
        let guard = Guard { token, ..Guard::default() };
        let mut request = Request::builder().uri(target).body(()).unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
        }
        request.extensions_mut().insert(Peer::Tcp(([127, 0, 0, 1], 9).into(), caller));
        judge(&guard, &request).map_or_else(|problem| problem.into_response().status().as_u16(), |()| 200)
    }

    fn verdict(token: Option<&str>, headers: &[(&'static str, &str)]) -> u16 {
        ask(token, Caller::Allowed(7), "/x", headers)
    }

    #[test]
    fn only_loopback_names_and_own_pages() {
        for good in [
            "localhost",
            "localhost:55765",
            "127.0.0.1:55765",
            "[::1]:55765",
            "[::1]",
            "panel.localhost:1",
            "127.8.8.8",
        ] {
            assert_eq!(verdict(None, &[("host", good)]), 200, "{good}");
        }
        for bad in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1:55765",
            "",
            "evil:1@localhost",
        ] {
            assert_eq!(verdict(None, &[("host", bad)]), 403, "{bad}");
        }
        assert_eq!(verdict(None, &[]), 400, "HTTP/1.1 without a host");
        assert_eq!(verdict(None, &[("host", "localhost"), ("host", "localhost")]), 400);
        assert_eq!(verdict(None, &[("host", "localhost:1"), ("origin", "http://localhost:1")]), 200);
        for (site, status) in [("none", 200), ("same-origin", 200), ("same-site", 403), ("cross-site", 403)] {
            assert_eq!(verdict(None, &[("host", "localhost:1"), ("sec-fetch-site", site)]), status, "{site}");
        }
        for origin in ["http://evil.example", "null", "http://localhost:2"] {
            assert_eq!(verdict(None, &[("host", "localhost:1"), ("origin", origin)]), 403, "{origin}");
        }
    }

    #[test]
    fn a_token_is_asked_for_where_one_is_set() {
        let host = ("host", "box.example:55765");
        assert_eq!(verdict(Some("s3"), &[host]), 401);
        assert_eq!(verdict(Some("s3"), &[host, ("authorization", "Bearer s4")]), 401);
        assert_eq!(verdict(Some("s3"), &[host, ("authorization", "Basic s3")]), 401);
        assert_eq!(verdict(Some("s3"), &[host, ("authorization", "bearer s3")]), 200);
    }

    #[test]
    fn the_authority_of_the_target_goes_before_the_host_header() {
        let host = [("host", "localhost:1")];
        assert_eq!(ask(None, Caller::Allowed(7), "http://localhost:1/x", &host), 200);
        assert_eq!(ask(None, Caller::Allowed(7), "http://evil.example/x", &host), 403);
        assert_eq!(ask(None, Caller::Allowed(7), "http://localhost:1/x", &[("host", "evil.example")]), 200);
        assert_eq!(ask(None, Caller::Allowed(7), "http://localhost:1/x", &[]), 400);
    }

    #[test]
    fn other_users_are_refused_and_unknown_ones_asked_for_a_token() {
        let host = ("host", "localhost:1");
        let refused = || Caller::Refused(8, "uid 8 may not".into());
        let unknown = || Caller::Unknown("from elsewhere".into());
        for path in ["/metrics", "/api/v1/openapi.json", "/nothing", "/healthz/x"] {
            assert_eq!(ask(None, refused(), path, &[host]), 403, "{path}");
            assert_eq!(ask(None, unknown(), path, &[host]), 401, "{path}");
        }
        for path in OPEN_PATHS {
            assert_eq!(ask(None, refused(), path, &[host]), 200, "{path}");
            assert_eq!(ask(None, unknown(), path, &[host]), 200, "{path}");
        }
        let token = ("authorization", "Bearer s3");
        for caller in [refused(), unknown(), Caller::Allowed(7)] {
            assert_eq!(ask(Some("s3"), caller.clone(), "/x", &[host, token]), 200);
            assert_eq!(ask(Some("s3"), caller.clone(), "/x", &[host]), 401);
            assert_eq!(ask(Some("s3"), caller, "/x", &[host, ("authorization", "Bearer s4")]), 401);
        }
    }
}
