//! Bodies of requests: bounded in size, time and depth, JSON only.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tokio::sync::OwnedSemaphorePermit;

use crate::app::App;
use crate::error::{ApiError, Kind};

/// Deepest nesting of a body; what the routes read has at most 3.
const MAX_DEPTH: usize = 32;

/// A JSON body. With `MODEL`, the request is refused before its body is read if the model would
/// refuse it anyway.
#[derive(Debug)]
pub(crate) struct JsonBody<T, const MODEL: bool> {
    pub(crate) value: T,
    /// A place among the requests handled at once; given back with the response.
    _place: OwnedSemaphorePermit,
}

impl<T: DeserializeOwned, const MODEL: bool> FromRequest<Arc<App>> for JsonBody<T, MODEL> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let limits = &app.config.limits;
        let (parts, body) = request.into_parts();
        check_media_type(&parts.headers)?;
        let too_large = || {
            let limit = limits.body_bytes;
            ApiError::new(
                Kind::TooLarge,
                format!("the body is larger than {limit} bytes"),
            )
        };
        // Announced sizes are known before anything is read.
        if body.size_hint().lower() > limits.body_bytes as u64 {
            return Err(too_large());
        }
        let Ok(place) = Arc::clone(&app.places).try_acquire_owned() else {
            app.metrics.rejected.inc();
            let message = "too many requests at once";
            return Err(ApiError::new(Kind::Overloaded, message).retry_after(1));
        };
        if MODEL {
            app.batcher.admit()?;
        }
        let read = read(body, limits.body_bytes);
        let bytes = match tokio::time::timeout(limits.read_timeout, read).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(Unread::TooLarge)) => return Err(too_large()),
            Ok(Err(Unread::Broken)) => {
                return Err(ApiError::new(Kind::BadJson, "the body ended too early"));
            }
            Err(_) => {
                let message = format!(
                    "the body did not arrive within {} s",
                    limits.read_timeout.as_secs_f32()
                );
                return Err(ApiError::new(Kind::Timeout, message));
            }
        };
        if is_deeper(&bytes, MAX_DEPTH) {
            let message = format!("the body is nested more than {MAX_DEPTH} deep");
            return Err(ApiError::new(Kind::BadJson, message));
        }
        let value = serde_json::from_slice(&bytes).map_err(|error| {
            let kind = match error.classify() {
                Category::Data => Kind::Invalid,
                Category::Io | Category::Syntax | Category::Eof => Kind::BadJson,
            };
            ApiError::new(kind, error.to_string())
        })?;
        // The parser would also take the fields of an object as a list, without their names.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            let message = "expected an object, found a list";
            return Err(ApiError::new(Kind::Invalid, message));
        }
        Ok(Self {
            value,
            _place: place,
        })
    }
}

/// `application/json` or `application/...+json`, not compressed.
fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| {
        headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap_or("unreadable"))
    };
    let refuse = |message: &str| Err(ApiError::new(Kind::MediaType, message));
    let essence = text(header::CONTENT_TYPE)
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let json = essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"));
    if !json {
        return refuse("expected the header Content-Type: application/json");
    }
    match text(header::CONTENT_ENCODING) {
        "" | "identity" => Ok(()),
        _ => refuse("compressed bodies are not accepted; send the body without Content-Encoding"),
    }
}

/// Whether lists and objects are nested deeper than a limit. Fields that nobody knows are skipped
/// by the parser whatever their depth, so it is no help here.
fn is_deeper(json: &[u8], limit: usize) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

enum Unread {
    TooLarge,
    Broken,
}

async fn read(mut body: Body, limit: usize) -> Result<Vec<u8>, Unread> {
    // The announced size, which is within the limit, or nothing for bodies in chunks.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(0);
    // Memory follows what arrives, not what is announced.
    let mut bytes = Vec::with_capacity(announced.min(16 * 1024));
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|_| Unread::Broken)?;
        // Trailers carry nothing we use.
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > limit {
                return Err(Unread::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn depth_is_that_of_lists_and_objects() {
        for (json, depth) in [
            ("3", 0),
            ("[[],[[]]]", 3),
            (r#"{"a": [{"b": "[[[["}]}"#, 3),
            (r#"["\"[[[", "\\", [1]]"#, 2),
            ("[[[", 3),
            ("]]][", 1),
        ] {
            assert!(!is_deeper(json.as_bytes(), depth), "{json}");
            assert!(
                depth == 0 || is_deeper(json.as_bytes(), depth - 1),
                "{json}"
            );
        }
    }

    #[test]
    fn only_plain_json_is_taken() {
        for (media, encoding, taken) in [
            ("application/json", "", true),
            ("Application/JSON; charset=utf-8", "identity", true),
            ("application/vnd.x+json", "", true),
            ("", "", false),
            ("text/plain", "", false),
            ("application/jsonx", "", false),
            ("application/json", "gzip", false),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [
                (header::CONTENT_TYPE, media),
                (header::CONTENT_ENCODING, encoding),
            ] {
                if !value.is_empty() {
                    headers.insert(name, HeaderValue::from_static(value));
                }
            }
            let outcome = check_media_type(&headers);
            assert_eq!(outcome.is_ok(), taken, "{media} {encoding}");
        }
    }
}
