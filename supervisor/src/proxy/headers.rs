//! Which headers cross the proxy. Hop-by-hop ones end here (RFC 9110, section 7.6.1); so does everything that could
//! carry a credential in one direction or the other.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::credential::Credential;

/// RFC 9110 section 7.6.1, with the older ones that are still met.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// The framing is made anew on the other side, so a length that lies cannot smuggle a second request.
/// `Expect` is answered by our own server. `Forwarded` and its kin would only tell the upstream about our networks.
const REQUEST_ONLY: [HeaderName; 11] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::COOKIE,
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
];

/// A cookie that the upstream sets after it saw our credential is one itself.
const RESPONSE_ONLY: [HeaderName; 2] = [header::CONTENT_LENGTH, header::SET_COOKIE];

/// Makes the client's headers fit for the upstream: without credentials, and asking for a body that is not compressed,
/// so that tokens can be counted and recordings read. Model output is small; TLS is the cost, not the bytes.
pub(super) fn outbound(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    for name in &REQUEST_ONLY {
        headers.remove(name);
    }
    strip_proxy_headers(headers);
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

/// Makes the upstream's headers fit for the container.
pub(super) fn inbound(headers: &mut HeaderMap, credential: &Credential) {
    strip_hop_by_hop(headers);
    for name in &RESPONSE_ONLY {
        headers.remove(name);
    }
    strip_proxy_headers(headers);
    let echoing: Vec<HeaderName> = headers
        .iter()
        .filter(|(name, value)| {
            credential.occurs_in(value.as_bytes()) || credential.occurs_in(name.as_str().as_bytes())
        })
        .map(|(name, _)| name.clone())
        .collect();
    for name in echoing {
        headers.remove(name);
    }
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // What `Connection` names belongs to this hop too.
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn strip_proxy_headers(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with("proxy-")).cloned().collect();
    for name in named {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::credential::CredentialKind;
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn request_keeps_what_the_api_needs_and_nothing_else() {
        let mut headers = map(&[
            ("host", "host-gateway:3001"),
            ("connection", "keep-alive, x-secret-hop"),
            ("x-secret-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("x-api-key", "p"),
            ("authorization", "Bearer p"),
            ("proxy-authorization", "Basic p"),
            ("proxy-anything", "p"),
            ("cookie", "a=b"),
            ("accept-encoding", "gzip, br"),
            ("anthropic-beta", "one,two"),
            ("anthropic-version", "2023-06-01"),
            ("content-type", "application/json"),
        ]);
        outbound(&mut headers);
        let wanted = map(&[
            ("accept-encoding", "identity"),
            ("anthropic-beta", "one,two"),
            ("anthropic-version", "2023-06-01"),
            ("content-type", "application/json"),
        ]);
        assert_eq!(headers, wanted);
    }

    #[test]
    fn response_loses_echoes_and_cookies() {
        let credential = Credential::new(CredentialKind::ApiKey, "sk-marked-1".into()).unwrap();
        let mut headers = map(&[
            ("x-echo", "you sent sk-marked-1!"),
            ("location", "https://elsewhere/?key=sk-marked-1"),
            ("set-cookie", "session=1"),
            ("keep-alive", "timeout=5"),
            ("request-id", "req_1"),
            ("retry-after", "7"),
        ]);
        inbound(&mut headers, &credential);
        assert_eq!(headers, map(&[("request-id", "req_1"), ("retry-after", "7")]));
    }
}
