//! Why a try failed.

use thiserror::Error;

/// A request could not be sent or its answer could not be read.
///
/// A status other than success is no error here: see [`crate::Response::status`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WebError {
    /// The address is not allowed by the rules.
    #[error("refused to connect to {url}: {reason}")]
    Refused {
        /// The address.
        url: String,
        /// The rule.
        reason: String,
    },
    /// Too many redirects.
    #[error("{url}: more than {limit} redirects")]
    TooManyRedirects {
        /// The first address.
        url: String,
        /// The limit.
        limit: u32,
    },
    /// The connection failed, broke or took too long.
    #[error("{url}: {reason}")]
    Transport {
        /// The address.
        url: String,
        /// What happened.
        reason: String,
        /// Whether the request may have reached the server.
        sent: bool,
    },
    /// The body ended before its announced end.
    #[error("{url}: the body ended after {found} bytes")]
    Truncated {
        /// The address.
        url: String,
        /// Bytes announced, if any were.
        expected: Option<u64>,
        /// Bytes received.
        found: u64,
    },
    /// The body is larger than allowed.
    #[error("{url}: the body is larger than {limit} bytes")]
    TooLarge {
        /// The address.
        url: String,
        /// The limit, in bytes.
        limit: u64,
        /// Bytes announced, or received until then.
        found: u64,
    },
}
