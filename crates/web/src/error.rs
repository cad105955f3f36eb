//! Why a try failed, or a key cannot be had.

use std::path::PathBuf;

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

/// An API key cannot be had. The key itself is never part of the error.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The environment variable is not set, or empty.
    #[error("the environment variable {variable} holds no API key; set it or name a key file")]
    Missing {
        /// Name of the variable.
        variable: String,
    },
    /// The file cannot be read.
    #[error("cannot read the key file {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// Other users may read or change the file.
    #[error(
        "the key file {} has mode {mode:04o}, so others may read or change it; run: chmod 600 {}",
        path.display(), path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The text cannot be sent as a key.
    #[error("the API key in {origin} {problem}")]
    Invalid {
        /// Where it comes from: the variable or the file.
        origin: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}
