//! What the proxy carries: the model API's few requests, by exact method and path. Everything else that the same
//! credential could do at the upstream (files, batches, administration) is not reachable from a container.

use http::{Method, Uri};

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `GET /aigo/health`: the preflight from inside the container, answered here.
    Health,
    /// `HEAD /api/hello`, the CLI's own look at whether its base URL answers. It is about this proxy, so it is answered
    /// here and never costs an upstream request.
    Hello,
    /// `POST /v1/messages`: model traffic, counted as activity.
    Messages,
    /// Other requests of the model API: token counts and the list of models.
    Other,
    /// A request for somewhere else: absolute-form or CONNECT, i.e. a client that takes us for a forward proxy.
    Elsewhere,
    /// Not carried.
    Unknown,
}

impl Route {
    /// Decides by request line only. Paths are compared as they came, not decoded: `/v1/messages/../files` or an
    /// encoded variant equals none of them.
    pub(super) fn of(method: &Method, uri: &Uri) -> Self {
        if method == Method::CONNECT || uri.authority().is_some() || uri.scheme().is_some() {
            return Self::Elsewhere;
        }
        let reads = method == Method::GET || method == Method::HEAD;
        match uri.path() {
            "/aigo/health" if reads => Self::Health,
            "/api/hello" | "/" if reads => Self::Hello,
            "/v1/messages" if method == Method::POST => Self::Messages,
            "/v1/messages/count_tokens" if method == Method::POST => Self::Other,
            "/v1/models" if method == Method::GET => Self::Other,
            path if method == Method::GET && path.strip_prefix("/v1/models/").is_some_and(is_model_name) => Self::Other,
            _ => Self::Unknown,
        }
    }
}

fn is_model_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_model_api_is_carried() {
        for (line, wanted) in [
            ("POST /v1/messages?beta=true", Route::Messages),
            ("POST /v1/messages", Route::Messages),
            ("POST /v1/messages/count_tokens", Route::Other),
            ("GET /v1/models?limit=5", Route::Other),
            ("GET /v1/models/claude-opus-5-5", Route::Other),
            ("HEAD /api/hello", Route::Hello),
            ("GET /aigo/health", Route::Health),
            ("GET /v1/messages", Route::Unknown),
            ("POST /v1/messages/", Route::Unknown),
            ("POST /v1/messages/batches", Route::Unknown),
            ("POST /v1/messages/../files", Route::Unknown),
            ("POST /v1/%6dessages", Route::Unknown),
            ("GET /v1/models/..", Route::Unknown),
            ("GET /v1/models/a/b", Route::Unknown),
            ("POST //v1/messages", Route::Unknown),
            ("DELETE /v1/files/1", Route::Unknown),
            ("OPTIONS *", Route::Unknown),
            ("POST http://api.anthropic.com/v1/messages", Route::Elsewhere),
            ("CONNECT api.anthropic.com:443", Route::Elsewhere),
        ] {
            let (method, uri) = line.split_once(' ').unwrap();
            let route = Route::of(&method.parse().unwrap(), &uri.parse().unwrap());
            assert_eq!(route, wanted, "{line}");
        }
    }
}
