//! What happens to every request before and after its route: who may ask, what is counted and
//! logged, how errors look, and what browsers may do with the answer.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::app::App;
use crate::error::{ApiError, Kind, render};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// In the figures and the log, requests to paths that do not exist: the path itself may be a text.
const UNMATCHED: &str = "unmatched";

/// Routes that answer without a key, for whatever watches the server.
const OPEN: [&str; 2] = ["/health/live", "/health/ready"];

/// Longest request id that is taken over from a client.
const LONGEST_ID: usize = 64;

/// Methods by name; others are counted as one.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Counts a request in flight, also when its client goes away.
struct InFlight(Arc<App>);

impl InFlight {
    fn new(app: &Arc<App>) -> Self {
        app.metrics.in_flight.inc();
        Self(Arc::clone(app))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.metrics.in_flight.dec();
    }
}

/// The outermost layer.
pub(crate) async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let in_flight = InFlight::new(&app);
    let id = request_id(request.headers());
    let method = method_name(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| UNMATCHED.to_owned(), |path| path.as_str().to_owned());
    let path = request.uri().path().to_owned();
    let mut response = match allowed(&app, &request) {
        Ok(()) => without_panic(next.run(request)).await,
        Err(error) => error.into_response(),
    };
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        let allow = response.headers_mut().remove(header::ALLOW);
        response = render(&path, &error);
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, allow);
        }
    }
    let took = start.elapsed();
    let status = response.status().as_u16();
    app.metrics.finished(&route, method, status, took);
    drop(in_flight);
    let ms = took.as_secs_f64() * 1000.0;
    tracing::info!(request_id = %id, method, route, status, ms, "request");
    secure(&app, response.headers_mut());
    if let Ok(value) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// A handler that panics answers 500 instead of tearing the connection down.
async fn without_panic(handler: impl Future<Output = Response>) -> Response {
    let mut handler = pin!(handler);
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx)));
        polled.unwrap_or_else(|_| {
            tracing::error!("a route failed");
            let error = ApiError::new(Kind::Internal, "the route failed");
            Poll::Ready(error.into_response())
        })
    })
    .await
}

/// The id that a client or proxy gave, if it is a plain word, or the next of our own.
fn request_id(headers: &HeaderMap) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let given = headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|text| {
            (1..=LONGEST_ID).contains(&text.len())
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        });
    match given {
        Some(text) => text.to_owned(),
        None => format!("r{}", NEXT.fetch_add(1, Ordering::Relaxed)),
    }
}

/// Whether the request may be answered at all.
fn allowed(app: &App, request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    check_head(app, request)?;
    let host = check_host(app, headers, request.uri())?;
    check_origin(headers, host)?;
    match &app.config.api_key {
        Some(key) if !OPEN.contains(&request.uri().path()) => {
            if presented(headers).any(|text| key.is(&text)) {
                return Ok(());
            }
            Err(ApiError::new(
                Kind::Unauthorized,
                "expected the API key as Authorization: Bearer KEY or X-Api-Key: KEY",
            ))
        }
        _ => Ok(()),
    }
}

/// The stream bounds the bytes of a head as they arrive; this is for routes called without one, and
/// exact about what counts.
fn check_head(app: &App, request: &Request) -> Result<(), ApiError> {
    let limit = app.config.limits.head_bytes;
    let line = request
        .uri()
        .path_and_query()
        .map_or(0, |path| path.as_str().len());
    let fields: usize = request
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if line + fields <= limit {
        return Ok(());
    }
    let message = format!("the head is larger than {limit} bytes");
    Err(ApiError::new(Kind::HeadTooLarge, message))
}

/// Web pages of other sites reach a server on this machine under the name of their site, if they
/// make that name point here (DNS rebinding); the `Host` header gives them away.
fn check_host<'a>(
    app: &App,
    headers: &'a HeaderMap,
    uri: &'a Uri,
) -> Result<Option<&'a str>, ApiError> {
    let config = &app.config;
    let header = headers.get(header::HOST).map(HeaderValue::to_str);
    let host = match header {
        Some(Ok(host)) => Some(host),
        Some(Err(_)) => return Err(ApiError::new(Kind::Forbidden, "Host: not a name")),
        None => uri.authority().map(axum::http::uri::Authority::as_str),
    };
    let loopback = config.addr.ip().is_loopback();
    if !loopback && config.allowed_hosts.is_empty() {
        return Ok(host);
    }
    let name = host.map(name_of).unwrap_or_default();
    let listed = |name: &str| {
        config
            .allowed_hosts
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(name))
    };
    let local = name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if listed(name) || (loopback && local) {
        return Ok(host);
    }
    Err(ApiError::new(
        Kind::Forbidden,
        "Host: this name is not allowed; a proxy has to send an allowed one (--allow-host)",
    ))
}

/// The name in `name`, `name:port` or `[v6]:port`.
fn name_of(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// Browsers say which page a request comes from; pages of other sites have no business here.
fn check_origin(headers: &HeaderMap, host: Option<&str>) -> Result<(), ApiError> {
    let refuse = || {
        Err(ApiError::new(
            Kind::Forbidden,
            "requests of other sites are refused",
        ))
    };
    if let Some(origin) = headers.get(header::ORIGIN) {
        let site = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"))
            .map(|(_, site)| site);
        return match (site, host) {
            (Some(site), Some(host)) if site.eq_ignore_ascii_case(host) => Ok(()),
            _ => refuse(),
        };
    }
    Ok(())
}

/// Every text of a request that could be the key: bearer token, own header, password of a browser.
fn presented(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let own = headers
        .get(API_KEY)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let authorization = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .and_then(|(scheme, text)| {
            let text = text.trim();
            if scheme.eq_ignore_ascii_case("bearer") {
                return Some(text.to_owned());
            }
            if !scheme.eq_ignore_ascii_case("basic") {
                return None;
            }
            let pair = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
            Some(pair.split_once(':')?.1.to_owned())
        });
    own.into_iter().chain(authorization)
}

/// Headers of every response. Pages of the server bring their own content policy.
fn secure(app: &App, headers: &mut HeaderMap) {
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(
            "default-src 'none'; frame-ancestors 'none'",
        ));
    if app.health.draining() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn the_name_is_the_host_without_its_port() {
        for (host, name) in [
            ("localhost", "localhost"),
            ("localhost:80", "localhost"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("", ""),
        ] {
            assert_eq!(name_of(host), name);
        }
    }

    #[test]
    fn a_key_is_found_in_three_places() {
        let basic = STANDARD.encode("anybody:secret:1");
        for (pairs, want) in [
            (vec![(header::AUTHORIZATION, "Bearer abc")], vec!["abc"]),
            (vec![(header::AUTHORIZATION, "bearer  abc ")], vec!["abc"]),
            (vec![(API_KEY, "k")], vec!["k"]),
            (
                vec![(API_KEY, "k"), (header::AUTHORIZATION, "Bearer b")],
                vec!["k", "b"],
            ),
            (
                vec![(header::AUTHORIZATION, &format!("Basic {basic}") as &str)],
                vec!["secret:1"],
            ),
            (vec![(header::AUTHORIZATION, "Basic !!!")], vec![]),
            (vec![(header::AUTHORIZATION, "Digest abc")], vec![]),
            (vec![(header::AUTHORIZATION, "abc")], vec![]),
            (vec![], vec![]),
        ] {
            let found: Vec<String> = presented(&headers(&pairs)).collect();
            assert_eq!(found, want, "{pairs:?}");
        }
    }

    #[test]
    fn origins_have_to_be_the_host() {
        for (origin, host, fine) in [
            (None, Some("a:1"), true),
            (Some("http://a:1"), Some("a:1"), true),
            (Some("http://A:1"), Some("a:1"), true),
            (Some("http://b:1"), Some("a:1"), false),
            (Some("http://a:2"), Some("a:1"), false),
            (Some("null"), Some("a:1"), false),
            (Some("http://a:1"), None, false),
        ] {
            let pairs: Vec<_> = origin
                .map(|text| (header::ORIGIN, text))
                .into_iter()
                .collect();
            let outcome = check_origin(&headers(&pairs), host);
            assert_eq!(outcome.is_ok(), fine, "{origin:?} {host:?}");
        }
    }

    #[test]
    fn ids_of_clients_are_plain_words() {
        assert_eq!(
            request_id(&headers(&[(REQUEST_ID, "abc-1.2_3")])),
            "abc-1.2_3"
        );
        let long = "x".repeat(LONGEST_ID + 1);
        for bad in ["", "a b", "a\"b", &long] {
            assert_ne!(request_id(&headers(&[(REQUEST_ID, bad)])), bad);
        }
    }
}
