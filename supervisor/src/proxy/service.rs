//! One request: who asks, for what, and which answer that gives.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::body::{Copy, Leftover, Meter, OutBody, Relay, RequestBody, Witness};
use super::explain;
use super::fault::RequestFault;
use super::grants::Session;
use super::limits::Limits;
use super::live::{Live, LiveError};
use super::notice::{NoticeKind, Notices, quoted};
use super::reply::{Retry, full, plain, refusal};
use super::route::Route;
use super::server::Shared;
use super::tokens::TokenTap;
use super::traffic::InFlight;
use super::upstream::Handler;

/// A refused request's body is read a little further, so that the client gets to read the refusal: closing a socket with
/// unread bytes resets it, and the answer is lost with it.
const DRAIN_BYTES: usize = 4 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(super) enum Caller {
    Session(Arc<Session>),
    Stranger(SocketAddr),
}

pub(super) async fn answer(
    shared: Arc<Shared>,
    caller: Arc<Caller>,
    request: Request<Incoming>,
) -> Result<Response<OutBody>, Infallible> {
    let line = || quoted(&format!("{} {}", request.method(), request.uri()));
    let session = match &*caller {
        Caller::Session(session) => session,
        Caller::Stranger(peer) => {
            shared.notices.tell(None, NoticeKind::Stranger { peer: *peer, request: line() });
            drain(request.into_body()).await;
            let message = "this address belongs to no session of this credential proxy, so it may not use it: a container \
                           may use the proxy of its own session only";
            return Ok(refusal(StatusCode::FORBIDDEN, "permission_error", message, Retry::Never));
        }
    };
    if let Some(fault) = RequestFault::of_host(request.version(), request.headers()) {
        let response = fault.refuse(&shared.notices, &session.id);
        drain(request.into_body()).await;
        return Ok(response);
    }
    let route = Route::of(request.method(), request.uri());
    Ok(match route {
        Route::Health => plain("ok"),
        Route::Hello => Response::new(full("")),
        Route::Messages | Route::Other => model(&shared, session, route, request).await,
        Route::Elsewhere => {
            shared.notices.tell(Some(&session.id), NoticeKind::NotCarried { request: line() });
            drain(request.into_body()).await;
            let message = "this is aigo's credential proxy for the model API, not a forward proxy: requests for other \
                           hosts are not carried";
            refusal(StatusCode::BAD_REQUEST, "invalid_request_error", message, Retry::Never)
        }
        Route::Unknown => {
            shared.notices.tell(Some(&session.id), NoticeKind::NotCarried { request: line() });
            let message = format!(
                "the credential proxy does not carry {}: it carries POST /v1/messages, POST /v1/messages/count_tokens \
                 and GET /v1/models",
                line()
            );
            drain(request.into_body()).await;
            refusal(StatusCode::NOT_FOUND, "not_found_error", &message, Retry::Never)
        }
    })
}

/// A request of the model API. Only `POST /v1/messages` is counted, kept and answered from scripts.
async fn model(shared: &Shared, session: &Arc<Session>, route: Route, request: Request<Incoming>) -> Response<OutBody> {
    let in_flight = (route == Route::Messages).then(|| session.traffic.begin());
    let counted = in_flight.is_some();
    let call = Call { session, limits: &shared.limits, notices: &shared.notices, in_flight };
    let response = match &shared.handler {
        Handler::Live(live) => call.relay(live, request, None).await,
        Handler::Record(live, recorder) if counted => {
            let kept = Copy::default();
            let exchange =
                recorder.begin(&request, kept.clone(), &live.access.credential, shared.notices.clone(), &session.id);
            let response = call.relay(live, request, Some(kept)).await;
            exchange.answer(response)
        }
        Handler::Record(live, _) => call.relay(live, request, None).await,
        Handler::Replay(replay) if counted => {
            let (parts, body) = replay.answer(request, shared, session).await.into_parts();
            let meter = call.meter(&parts);
            Response::from_parts(parts, Relay::new(body, shared.limits.body_idle, meter, None).boxed_unsync())
        }
        Handler::Replay(_) => {
            drain(request.into_body()).await;
            let message = "a replay answers POST /v1/messages only";
            refusal(StatusCode::NOT_FOUND, "not_found_error", message, Retry::Never)
        }
    };
    if counted {
        session.traffic.answered(response.status());
    }
    response
}

/// One request to a real upstream.
struct Call<'a> {
    session: &'a Arc<Session>,
    limits: &'a Limits,
    notices: &'a Notices,
    in_flight: Option<InFlight>,
}

impl Call<'_> {
    async fn relay(self, live: &Live, request: Request<Incoming>, copy: Option<Copy>) -> Response<OutBody> {
        let (parts, body) = request.into_parts();
        let traffic = self.in_flight.is_some().then(|| Arc::clone(&self.session.traffic));
        let leftover = Leftover::default();
        let body = RequestBody::new(body, self.limits.body_idle, traffic, copy, leftover.clone());
        match live.send(parts, body).await {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                match parts.status {
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                        let kind = NoticeKind::CredentialRefused {
                            host: live.access.url.host().to_owned(),
                            variable: live.access.credential.kind().variable(),
                            status: parts.status.as_u16(),
                        };
                        self.notices.tell(Some(&self.session.id), kind);
                        explain::refused_credential(&live.access, parts, body).await
                    }
                    status if status.is_redirection() && status != StatusCode::NOT_MODIFIED => {
                        let host = live.access.url.host().to_owned();
                        let target = explain::target(&parts.headers);
                        let kind = NoticeKind::UpstreamRedirects { host, status: status.as_u16(), target };
                        let response = explain::redirect(&kind, parts);
                        self.notices.tell(Some(&self.session.id), kind);
                        response
                    }
                    _ => {
                        let idle = self.limits.body_idle;
                        let witness = Witness {
                            notices: self.notices.clone(),
                            session: self.session.id.clone(),
                            host: live.access.url.host().to_owned(),
                            request: leftover,
                        };
                        let meter = self.meter(&parts);
                        Response::from_parts(parts, Relay::new(body, idle, meter, Some(witness)).boxed_unsync())
                    }
                }
            }
            Err(error) => {
                if let Some(body) = leftover.take() {
                    drain(body).await;
                }
                match leftover.fault() {
                    // The upstream cannot answer a request that never came whole: its silence is not its fault.
                    Some(fault) => fault.refuse(self.notices, &self.session.id),
                    None => self.failed(live, &error),
                }
            }
        }
    }

    fn meter(self, parts: &http::response::Parts) -> Option<Meter> {
        let tap = parts.status.is_success().then(|| TokenTap::of(&parts.headers));
        let traffic = Arc::clone(&self.session.traffic);
        self.in_flight.map(|in_flight| Meter { traffic, tap, in_flight })
    }

    /// The answer to the container, and the same sentence as a notice to people, about a call without an answer.
    fn failed(&self, live: &Live, error: &LiveError) -> Response<OutBody> {
        let host = live.access.url.host().to_owned();
        let reason = quoted(&error.to_string());
        let (status, word, kind, retry) = match error {
            LiveError::BadPath => {
                let kind = NoticeKind::BadRequest { reason };
                (StatusCode::BAD_REQUEST, "invalid_request_error", kind, Retry::Never)
            }
            LiveError::NoRoots(_) => {
                (StatusCode::BAD_GATEWAY, "api_error", NoticeKind::NoRoots { host, reason }, Retry::Never)
            }
            LiveError::Untrusted(_) => {
                (StatusCode::BAD_GATEWAY, "api_error", NoticeKind::UpstreamUntrusted { host, reason }, Retry::Never)
            }
            LiveError::Unreachable(_) => {
                (StatusCode::BAD_GATEWAY, "api_error", NoticeKind::UpstreamUnreachable { host, reason }, Retry::Usual)
            }
            LiveError::Handshake(_) | LiveError::Broken(_) | LiveError::NotHttp(_) => {
                (StatusCode::BAD_GATEWAY, "api_error", NoticeKind::UpstreamFailed { host, reason }, Retry::Usual)
            }
            LiveError::Silent(_) => {
                let kind = NoticeKind::UpstreamFailed { host, reason };
                (StatusCode::GATEWAY_TIMEOUT, "timeout_error", kind, Retry::Usual)
            }
        };
        let response = refusal(status, word, &kind.to_string(), retry);
        self.notices.tell(Some(&self.session.id), kind);
        response
    }
}

/// Reads what is left of a request, within bounds.
pub(super) async fn drain(body: Incoming) {
    // Whatever the outcome: the answer is the same, this only improves its chance to arrive.
    let _ = tokio::time::timeout(DRAIN_TIME, Limited::new(body, DRAIN_BYTES).collect()).await;
}
