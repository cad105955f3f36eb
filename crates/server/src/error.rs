//! Why a server does not start, and what a client is told when a request is not answered.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use thiserror::Error;
use utoipa::ToSchema;

use crate::engine::EngineError;

/// Why a server does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address could be reached from elsewhere, and there is no key.
    #[error(
        "{addr} can be reached from other machines: an API key is required (environment variable \
         ASTERISM_API_KEY or a key file), or listen on 127.0.0.1"
    )]
    KeyRequired {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// Two settings, or a setting and the model, contradict each other.
    #[error("{setting}: expected {expected}, found {found}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What belongs there.
        expected: String,
        /// What was given.
        found: usize,
    },
    /// A text that cannot be a key; the text is not shown.
    #[error("{origin}: {problem}")]
    Key {
        /// Where the text comes from.
        origin: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A key file that cannot be used.
    #[error("key file {}: {problem}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The address is taken or not allowed.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// Reason given by the system.
        source: std::io::Error,
    },
    /// The model gave no engine.
    #[error("the model cannot be used: {0}")]
    Engine(#[from] EngineError),
    /// Categories or texts do not fit the model.
    #[error("{what}: expected {expected} dimensions as the model has, found {found}")]
    Dimensions {
        /// `categories` or `vectors of the texts`.
        what: &'static str,
        /// Dimensions of the model.
        expected: usize,
        /// Dimensions found.
        found: usize,
    },
    /// Texts and vectors of a run do not belong together.
    #[error("texts of the run: {0}")]
    Corpus(String),
    /// The thread of the model, or the handler of signals, could not be started.
    #[error("cannot start {what}: {source}")]
    System {
        /// What was to be started.
        what: &'static str,
        /// Reason given by the system.
        source: std::io::Error,
    },
}

/// Longest message for a client, in characters.
const LONGEST_MESSAGE: usize = 500;

/// Kind of an error: the status and the stable word that clients can compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The body is not JSON, or nested too deeply.
    BadJson,
    /// No key, or another one.
    Unauthorized,
    /// `Host` or `Origin` of another site.
    Forbidden,
    /// No such path, category, or nothing loaded that could answer.
    NotFound,
    /// The path has other methods.
    Method,
    /// The body took too long.
    Timeout,
    /// The edit does not fit the categories as they are.
    Conflict,
    /// Body, number of texts or a text beyond a limit.
    TooLarge,
    /// Not `application/json`, or compressed.
    MediaType,
    /// JSON that is not such a request.
    Invalid,
    /// The queue is full.
    Overloaded,
    /// The head is too large.
    HeadTooLarge,
    /// The model failed.
    Internal,
    /// The model is not ready.
    Unavailable,
}

impl Kind {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::BadJson => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The word in `error_type` and `code`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::BadJson => "invalid_json",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Method => "method_not_allowed",
            Self::Timeout => "timeout",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::MediaType => "unsupported_media_type",
            Self::Invalid => "invalid_request",
            Self::Overloaded => "overloaded",
            Self::HeadTooLarge => "head_too_large",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
        }
    }

    /// The class of errors that OpenAI's clients know.
    fn openai_type(self) -> &'static str {
        match self {
            Self::Unauthorized => "authentication_error",
            Self::Forbidden => "permission_error",
            Self::Overloaded => "rate_limit_error",
            Self::Internal | Self::Unavailable => "server_error",
            _ => "invalid_request_error",
        }
    }
}

/// A request that is not answered. Rendered in the shape of the route by [`render`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    /// Seconds after which another try makes sense.
    pub(crate) retry_after: Option<u64>,
}

impl ApiError {
    /// A message that quotes what a client sent is cut.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
            message.truncate(end);
            message.push_str(" ...");
        }
        Self {
            kind,
            message,
            retry_after: None,
        }
    }

    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.kind.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Body of an error outside of `/v1`, as text-embeddings-inference has it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// What was expected and found.
    error: String,
    /// Stable word: invalid_json, unauthorized, forbidden, not_found, method_not_allowed, timeout,
    /// conflict, too_large, unsupported_media_type, invalid_request, overloaded, head_too_large,
    /// internal, unavailable.
    error_type: &'static str,
}

/// Body of an error on `/v1`, as OpenAI has it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OpenAiErrorBody {
    error: OpenAiError,
}

/// What is in [`OpenAiErrorBody`].
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OpenAiError {
    /// What was expected and found.
    message: String,
    /// Class of the error.
    r#type: &'static str,
    /// Always null.
    param: Option<String>,
    /// Stable word, the same as `error_type` of the other routes.
    code: &'static str,
}

/// Gives an error the body that clients of this path expect.
pub(crate) fn render(path: &str, error: &ApiError) -> Response {
    let kind = error.kind;
    let body = if path == "/v1" || path.starts_with("/v1/") {
        serde_json::to_vec(&OpenAiErrorBody {
            error: OpenAiError {
                message: error.message.clone(),
                r#type: kind.openai_type(),
                param: None,
                code: kind.word(),
            },
        })
    } else {
        serde_json::to_vec(&ErrorBody {
            error: error.message.clone(),
            error_type: kind.word(),
        })
    };
    let json = HeaderValue::from_static("application/json");
    let headers = [(header::CONTENT_TYPE, json)];
    let mut response = (kind.status(), headers, body.unwrap_or_default()).into_response();
    if let Some(seconds) = error.retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if kind == Kind::Unauthorized {
        // Browsers ask for the key and use it as a password; programs send it as a bearer token.
        response.headers_mut().append(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"asterism\", Basic realm=\"asterism\""),
        );
    }
    response
}
