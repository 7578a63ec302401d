//! The way to the model: a credential, and an upstream that answers. No credential is sent, and none is shown.

use std::ffi::OsString;
use std::time::Duration;

use http::{Method, Request, header};
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use tokio_util::sync::CancellationToken;

use super::check::Check;
use super::clock::Reading;
use crate::proxy::{AccessError, CredentialKind, DEFAULT_BASE_URL, ModelAccess};

const CREDENTIAL: &str = "credential";
const UPSTREAM: &str = "model API";
/// Name lookup, TCP, TLS and an answer; a firewall that drops packets must not hold the report up.
const ANSWER_DEADLINE: Duration = Duration::from_secs(8);
/// How the keys of the default upstream begin. Gateways have other forms.
const USUAL_KEY: &str = "sk-ant-";

type Env<'a> = &'a (dyn Fn(&str) -> Option<OsString> + Sync);

/// What the upstream said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    Answered {
        clock: Option<Reading>,
    },
    Silent {
        reason: String,
    },
    /// It could not be asked.
    Unknown {
        reason: &'static str,
    },
}

impl Upstream {
    /// The time by its `Date` header.
    #[must_use]
    pub fn clock(&self) -> Option<Reading> {
        match self {
            Upstream::Answered { clock } => *clock,
            Upstream::Silent { .. } | Upstream::Unknown { .. } => None,
        }
    }
}

/// The base URL, if it is one that the proxy would use.
fn base_url(env: Env<'_>) -> Option<String> {
    match env("ANTHROPIC_BASE_URL").filter(|url| !url.is_empty()) {
        None => Some(DEFAULT_BASE_URL.to_owned()),
        Some(url) => {
            let url = url.into_string().ok()?;
            crate::proxy::UpstreamUrl::parse(&url, true).ok().map(|_| url)
        }
    }
}

/// Asks the upstream for its front page, without a credential: any answer will do.
pub async fn ask(env: Env<'_>, cancel: &CancellationToken) -> Upstream {
    let Some(url) = base_url(env) else { return Upstream::Unknown { reason: "ANTHROPIC_BASE_URL cannot be used" } };
    tokio::select! {
        answer = tokio::time::timeout(ANSWER_DEADLINE, head(&url)) => match answer {
            Ok(Ok(clock)) => Upstream::Answered { clock },
            Ok(Err(reason)) => Upstream::Silent { reason },
            Err(_) => Upstream::Silent { reason: format!("no answer within {} s", ANSWER_DEADLINE.as_secs()) },
        },
        () = cancel.cancelled() => Upstream::Unknown { reason: "cancelled" },
    }
}

async fn head(url: &str) -> Result<Option<Reading>, String> {
    // Reading the host's roots takes tens of milliseconds of disk.
    let connector = tokio::task::spawn_blocking(|| {
        let builder = hyper_rustls::HttpsConnectorBuilder::new();
        let builder = builder.with_provider_and_native_roots(rustls::crypto::ring::default_provider());
        builder.map(|builder| builder.https_or_http().enable_http1().build())
    });
    let connector = connector.await.map_err(|error| error.to_string())?;
    let connector = connector.map_err(|error| format!("cannot load the host's CA certificates: {error}"))?;
    let client: Client<_, Empty<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let request =
        Request::builder().method(Method::HEAD).uri(url).body(Empty::new()).map_err(|error| error.to_string())?;
    let before = Timestamp::now();
    let response = client.request(request).await.map_err(|error| deepest(&error))?;
    let after = Timestamp::now();
    let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
    let theirs = date.and_then(|date| rfc2822::parse(date).ok()).map(|time| time.timestamp());
    Ok(theirs.map(|theirs| Reading { before, theirs, after }))
}

/// The innermost cause says what happened; the outer ones say `client error (Connect)`.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// Two checks: credential and upstream.
#[must_use]
pub fn judge(env: Env<'_>, upstream: &Upstream) -> Vec<Check> {
    vec![credential(env), judge_upstream(env, upstream)]
}

fn credential(env: Env<'_>) -> Check {
    let access = match ModelAccess::from_env(env, true) {
        Ok(access) => access,
        Err(AccessError::Credential(error)) => {
            return Check::failed(
                CREDENTIAL,
                error.to_string(),
                "export ANTHROPIC_API_KEY=… on the host (it stays there), or try aigo without one: aigo run --replay FILE",
            );
        }
        Err(
            error @ (AccessError::NotAUrl(_)
            | AccessError::UserInfo
            | AccessError::Query { .. }
            | AccessError::PlainHttp { .. }),
        ) => {
            return Check::failed(CREDENTIAL, error.to_string(), "mend or unset ANTHROPIC_BASE_URL");
        }
    };
    let kind = access.credential().kind();
    let set: Vec<&str> = CredentialKind::BY_PRECEDENCE
        .iter()
        .map(|kind| kind.variable())
        .filter(|name| env(name).is_some_and(|value| !value.is_empty()))
        .collect();
    let mut detail = format!("{} is set, for {}", kind.variable(), access.url().host());
    if set.len() > 1 {
        detail.push_str(&format!(" (it goes before {})", set[1..].join(" and ")));
    }
    if base_url(env).as_deref() == Some(DEFAULT_BASE_URL) && !looks_usual(env, kind) {
        return Check::warning(
            CREDENTIAL,
            format!("{detail}, but does not look like a key of that API (it would begin with {USUAL_KEY})"),
            "look whether the right value is set; behind a gateway of your own, set ANTHROPIC_BASE_URL too",
        );
    }
    Check::ok(CREDENTIAL, detail)
}

/// Looks at the beginning of the value only, and keeps nothing of it.
fn looks_usual(env: Env<'_>, kind: CredentialKind) -> bool {
    env(kind.variable()).is_some_and(|value| value.as_encoded_bytes().starts_with(USUAL_KEY.as_bytes()))
}

fn judge_upstream(env: Env<'_>, upstream: &Upstream) -> Check {
    let url = base_url(env).unwrap_or_default();
    match upstream {
        Upstream::Answered { .. } => Check::ok(UPSTREAM, format!("{url} answers")),
        Upstream::Silent { reason } => Check::warning(
            UPSTREAM,
            format!("{url} does not answer: {reason}"),
            "look at this host's network and firewall; for a certificate error, add your network's CA to the host",
        ),
        Upstream::Unknown { reason } => Check::skipped(UPSTREAM, *reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    const SECRET: &str = "sk-ant-canary-0123456789";

    fn env<'a>(set: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + Sync + 'a {
        move |name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
    }

    #[test]
    fn the_variable_is_named_never_the_value() {
        let unknown = Upstream::Unknown { reason: "x" };
        for (set, verdict) in [
            (vec![("ANTHROPIC_API_KEY", SECRET)], Verdict::Ok),
            (vec![("ANTHROPIC_API_KEY", SECRET), ("ANTHROPIC_AUTH_TOKEN", SECRET)], Verdict::Ok),
            (vec![("ANTHROPIC_API_KEY", "sk-other-canary-0123456789")], Verdict::Warning),
            (
                vec![("ANTHROPIC_API_KEY", "own-canary"), ("ANTHROPIC_BASE_URL", "https://gateway.example/x")],
                Verdict::Ok,
            ),
            (vec![("ANTHROPIC_API_KEY", "two canary words")], Verdict::Failed),
            (vec![("ANTHROPIC_API_KEY", SECRET), ("ANTHROPIC_BASE_URL", "https://a:canary@b")], Verdict::Failed),
            (vec![], Verdict::Failed),
        ] {
            let checks = judge(&env(&set), &unknown);
            assert_eq!(checks[0].status, verdict, "{checks:?}");
            assert!(!format!("{checks:?}").contains("canary"), "{checks:?}");
        }
    }

    #[tokio::test]
    async fn an_upstream_that_answers_tells_the_time() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 1024];
            let count = stream.read(&mut head).await.unwrap();
            let answer = "HTTP/1.1 404 Not Found\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&head[..count]).into_owned()
        });
        let set = [("ANTHROPIC_BASE_URL", url.as_str()), ("ANTHROPIC_API_KEY", SECRET)];
        let upstream = ask(&env(&set), &CancellationToken::new()).await;
        assert_eq!(upstream.clock().unwrap().theirs, Timestamp::from_second(1_700_000_000).unwrap());
        assert!(!server.await.unwrap().contains("canary"));
    }

    #[tokio::test]
    async fn one_that_does_not_is_a_warning() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let set = [("ANTHROPIC_BASE_URL", url.as_str())];
        let upstream = ask(&env(&set), &CancellationToken::new()).await;
        assert!(matches!(upstream, Upstream::Silent { .. }), "{upstream:?}");
        assert_eq!(judge(&env(&set), &upstream)[1].status, Verdict::Warning);
        let cancelled = CancellationToken::new();
        cancelled.cancel();
        let set = [("ANTHROPIC_BASE_URL", "https://192.0.2.1")];
        assert_eq!(judge(&env(&set), &ask(&env(&set), &cancelled).await)[1].status, Verdict::Skipped);
    }
}
