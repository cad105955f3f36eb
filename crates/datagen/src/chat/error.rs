//! What can go wrong between a call and its answer.

use thiserror::Error;

use super::Usage;

/// A call has no answer.
///
/// No variant ever holds an API key: texts that come from a server are shortened, their control
/// characters are escaped, and any occurrence of the key in them is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChatError {
    /// A setting of the client has a bad value.
    #[error("chat client: {field} = `{found}`: {expected}")]
    Config {
        /// The setting.
        field: &'static str,
        /// Its value.
        found: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// The address, or one that it redirects or resolves to, is not allowed by the network rules.
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
    /// The server does not accept the key, or wants one (status 401 or 403).
    #[error("{url}: the server answered {status}: {reason}; {next_step}")]
    Unauthorized {
        /// The address.
        url: String,
        /// HTTP status.
        status: u16,
        /// What the server says.
        reason: String,
        /// What to do about it.
        next_step: &'static str,
    },
    /// The account has no credit left (status 402, or 429 with the code `insufficient_quota`).
    #[error("{url}: the server answered {status}: {reason}; the account needs credit")]
    NoCredit {
        /// The address.
        url: String,
        /// HTTP status.
        status: u16,
        /// What the server says.
        reason: String,
    },
    /// The address or the model is unknown to the server (status 404).
    #[error(
        "{url}: the server answered 404 for the model `{model}`: {reason}; check the base URL \
         (it often ends in /v1) and the name of the model"
    )]
    NotFound {
        /// The address.
        url: String,
        /// The model asked for.
        model: String,
        /// What the server says.
        reason: String,
    },
    /// The budget does not allow the call; nothing was sent.
    #[error(
        "the budget of {limit} {unit} is spent: {spent} used, {asked} more needed for the next call"
    )]
    Budget {
        /// `calls` or `tokens`.
        unit: &'static str,
        /// The limit.
        limit: u64,
        /// What was used.
        spent: u64,
        /// What the call may need.
        asked: u64,
    },
    /// The stop flag was raised; nothing more was sent.
    #[error("stopped before the call was answered")]
    Stopped,
    /// The server refuses this request (a 4xx status that has no variant of its own).
    #[error("{url}: the server answered {status}: {reason}")]
    Rejected {
        /// The address.
        url: String,
        /// HTTP status.
        status: u16,
        /// What the server says.
        reason: String,
    },
    /// The server is busy or broken (status 408, 429 or 5xx), or answered with an unexpected status.
    #[error("{url}: the server answered {status}{}: {reason}", wish(*retry_after))]
    Status {
        /// The address.
        url: String,
        /// HTTP status.
        status: u16,
        /// Seconds the server asks to wait before another try.
        retry_after: Option<u64>,
        /// What the server says.
        reason: String,
    },
    /// The connection failed, broke or took too long.
    #[error("{url}: {reason}")]
    Transport {
        /// The address.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The body ended too early.
    #[error("{url}: the body ended after {found} bytes")]
    Truncated {
        /// The address.
        url: String,
        /// Bytes received.
        found: u64,
    },
    /// The body is larger than the limit.
    #[error("{url}: the answer is larger than {limit} bytes")]
    TooLarge {
        /// The address.
        url: String,
        /// The limit, in bytes.
        limit: u64,
        /// What the answer counts as, see [`ChatError::paid`].
        usage: Usage,
    },
    /// The body is no chat completion.
    #[error("{url}: not a chat completion: {reason}")]
    Garbled {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
        /// What the answer counts as, see [`ChatError::paid`].
        usage: Usage,
    },
    /// A completion with an empty list of choices.
    #[error("the model `{model}` gave no choice")]
    NoChoices {
        /// The model.
        model: String,
        /// What was paid.
        usage: Usage,
    },
    /// A choice without text.
    #[error("the model `{model}` gave no text (finish reason: {finish_reason})")]
    NoText {
        /// The model.
        model: String,
        /// Why the answer ended, in the server's words; `none` where it does not say.
        finish_reason: String,
        /// What was paid.
        usage: Usage,
    },
    /// A choice that calls tools instead of giving text.
    #[error("the model `{model}` called a tool instead of giving text")]
    ToolCall {
        /// The model.
        model: String,
        /// What was paid.
        usage: Usage,
    },
    /// The server or the model declined to answer, in a field of its own or by its content filter.
    #[error("the model `{model}` declined: {reason}")]
    Declined {
        /// The model.
        model: String,
        /// What it says.
        reason: String,
        /// What was paid.
        usage: Usage,
    },
    /// The answer reached the longest length allowed and is incomplete.
    #[error("the answer of the model `{model}` is cut off at {limit} tokens: `{start}`")]
    CutOff {
        /// The model.
        model: String,
        /// Longest answer, in tokens.
        limit: u32,
        /// How the answer starts.
        start: String,
        /// What was paid.
        usage: Usage,
    },
    /// A source other than a server has no answer to this call, for instance a recording that does
    /// not hold it.
    #[error("{answerer} has no answer: {reason}")]
    NoAnswer {
        /// Name of the source.
        answerer: String,
        /// Why.
        reason: String,
    },
    /// All tries failed.
    #[error("gave up after {tries} tries: {last}")]
    GaveUp {
        /// Tries made.
        tries: u32,
        /// The last failure.
        last: Box<ChatError>,
    },
}

impl ChatError {
    /// Whether every further call would fail the same way, so that a job has to stop: bad settings,
    /// a refused address, a key that is not accepted, no credit, an unknown model, a spent budget, a
    /// raised stop flag. Everything else concerns the one call, which failed after its tries.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::Config { .. }
                | Self::Refused { .. }
                | Self::TooManyRedirects { .. }
                | Self::Unauthorized { .. }
                | Self::NoCredit { .. }
                | Self::NotFound { .. }
                | Self::Budget { .. }
                | Self::Stopped
        )
    }

    /// What the last try cost if the server worked on it: an answer came, but not one to use. Asking
    /// again, as a further attempt, may help. `None` if no answer came.
    ///
    /// What earlier tries may have cost is in [`Budget::spent`](super::Budget::spent) alone.
    pub fn paid(&self) -> Option<Usage> {
        match self {
            Self::TooLarge { usage, .. }
            | Self::Garbled { usage, .. }
            | Self::NoChoices { usage, .. }
            | Self::NoText { usage, .. }
            | Self::ToolCall { usage, .. }
            | Self::Declined { usage, .. }
            | Self::CutOff { usage, .. } => Some(*usage),
            Self::GaveUp { last, .. } => last.paid(),
            _ => None,
        }
    }

    /// Whether another try of the same request may succeed.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Status { status, .. } => web::status_may_pass(*status),
            Self::Transport { .. } | Self::Truncated { .. } => true,
            _ => false,
        }
    }
}

fn wish(retry_after: Option<u64>) -> String {
    retry_after.map_or_else(String::new, |seconds| {
        format!(" and asks for a pause of {seconds} s")
    })
}

/// A text from elsewhere as errors show it: at most `longest` characters, those that could disturb a
/// terminal escaped.
pub(super) fn shortened(text: &str, longest: usize) -> String {
    let mut out = String::new();
    for c in text.chars().take(longest) {
        match c {
            '\'' | '"' | '\\' => out.push(c),
            c => out.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(longest).is_some() {
        out.push('…');
    }
    out
}
