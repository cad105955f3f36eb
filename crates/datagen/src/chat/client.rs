//! A client of any server that speaks the OpenAI chat protocol: `POST {base}/chat/completions`.
//!
//! * Where connections may go, time limits, redirects and pauses are those of the crate `web`; the
//!   key is not sent on to another host.
//! * Before every try its largest possible cost is reserved in the [`Budget`]: one call, and as many
//!   tokens as the request has bytes plus the longest answer. Afterwards it is settled with
//!   - the server's count, or [`estimated_usage`] where it gives none;
//!   - nothing, if the server was not reached or answered with an error status;
//!   - the estimate with a full-length answer, if the answer was lost on the way.
//! * Statuses 408, 429 and 5xx, broken connections, time-outs and short bodies are tried again.
//! * A server that refuses `response_format` is asked in the prompt from then on, and one that wants
//!   `max_completion_tokens` instead of `max_tokens` gets it. The refused try counts as a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use web::{Request, Response, Retries, Rules, WebError};

use super::error::shortened;
use super::{
    Answer, AnswerSource, ApiKey, Budget, Call, ChatError, ChatRequest, Usage, estimated_usage,
    structured,
};

/// How the client names itself to servers.
const USER_AGENT: &str = concat!("asterism-datagen/", env!("CARGO_PKG_VERSION"));

/// Bytes of an error page that are looked at.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// Characters of a server's text that an error shows.
const MAX_SHOWN: usize = 300;

/// How often a pause looks at the stop flag.
const STOP_INTERVAL: Duration = Duration::from_millis(50);

/// Where a model is served and how patiently it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatConfig {
    /// Address up to and without `/chat/completions`, for instance `http://127.0.0.1:8000/v1`.
    pub base_url: String,
    /// Name of the model.
    pub model: String,
    /// Seed sent with the first attempt of each call; further attempts count up from it.
    pub seed: Option<u32>,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time for one try, from name resolution to the last byte.
    pub total_timeout: Duration,
    /// Tries a call, at least 1.
    pub max_tries: u32,
    /// Pause before the second try; doubled for each further one, then multiplied by a factor in
    /// `0.5..1`.
    pub backoff: Duration,
    /// Longest pause. A server that asks for more ends the call.
    pub max_pause: Duration,
    /// Redirects followed a try.
    pub max_redirects: u32,
    /// Largest answer, in bytes.
    pub max_answer_bytes: u64,
    /// Allows private and link-local addresses, and redirects to loopback hosts.
    pub allow_private: bool,
    /// If given, the only hosts that may be contacted, redirects included.
    pub allowed_hosts: Option<Vec<String>>,
}

impl ChatConfig {
    /// The defaults for a model at an address: 10 s to connect, 60 s in all, 5 tries, pauses from
    /// half a second to a minute, 3 redirects, 8 MiB.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        let (rules, retries) = (Rules::default(), Retries::default());
        Self {
            base_url: base_url.into(),
            model: model.into(),
            seed: None,
            connect_timeout: rules.connect_timeout,
            total_timeout: rules.total_timeout,
            max_tries: retries.max_tries,
            backoff: retries.backoff,
            max_pause: retries.max_pause,
            max_redirects: rules.max_redirects,
            max_answer_bytes: 8 << 20,
            allow_private: rules.allow_private,
            allowed_hosts: rules.allowed_hosts,
        }
    }

    fn rules(&self) -> Rules {
        Rules {
            connect_timeout: self.connect_timeout,
            total_timeout: self.total_timeout,
            max_redirects: self.max_redirects,
            allow_private: self.allow_private,
            allowed_hosts: self.allowed_hosts.clone(),
            use_env_proxy: false,
        }
    }

    fn check(&self) -> Result<(), ChatError> {
        let bad = |field, found: String, expected| {
            Err(ChatError::Config {
                field,
                found,
                expected,
            })
        };
        if self.model.trim().is_empty() || self.model.chars().any(char::is_control) {
            let found = self.model.escape_debug().to_string();
            return bad("model", found, "the name of a model");
        }
        for (field, time) in [
            ("connect_timeout", self.connect_timeout),
            ("total_timeout", self.total_timeout),
        ] {
            if time.is_zero() {
                return bad(field, "0".to_owned(), "a positive time");
            }
        }
        if self.max_tries == 0 {
            return bad("max_tries", "0".to_owned(), "at least 1");
        }
        Ok(())
    }
}

/// Asks a model server.
///
/// ```no_run
/// use std::sync::Arc;
/// use datagen::chat::{
///     AnswerSource, ApiKey, Budget, BudgetLimits, Call, ChatClient, ChatConfig, ChatRequest,
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let budget = Arc::new(Budget::new(BudgetLimits { max_calls: Some(100), max_tokens: None }));
/// let client = ChatClient::new(
///     ChatConfig::new("https://models.example.org/v1", "some-model"),
///     Some(ApiKey::from_env("MODEL_KEY")?),
///     budget,
/// )?;
/// let call = Call {
///     id: "0/negation".into(),
///     kind: "nli/contradiction".into(),
///     source: "The train is late.".into(),
///     request: ChatRequest {
///         system: "Negate the sentence.".into(),
///         user: "The train is late.".into(),
///         temperature: 0.7,
///         max_tokens: 64,
///         schema: None,
///     },
/// };
/// println!("{}", client.answer(&call, 0)?.text);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ChatClient {
    config: ChatConfig,
    url: String,
    key: Option<ApiKey>,
    budget: Arc<Budget>,
    stop: Option<Arc<AtomicBool>>,
    http: web::Client,
    /// The server accepted a request only without `response_format`.
    no_schema: AtomicBool,
    /// The server accepted a request only with `max_completion_tokens`.
    completion_tokens: AtomicBool,
}

/// What a request says in which words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Form {
    response_format: bool,
    completion_tokens: bool,
}

impl ChatClient {
    /// Checks the settings; nothing is sent yet. A key is needed unless the server is on this machine
    /// or private addresses are allowed.
    ///
    /// # Errors
    ///
    /// [`ChatError::Config`] or [`ChatError::Refused`].
    pub fn new(
        config: ChatConfig,
        key: Option<ApiKey>,
        budget: Arc<Budget>,
    ) -> Result<Self, ChatError> {
        config.check()?;
        let http = web::Client::new(config.rules(), USER_AGENT);
        let mut client = Self {
            url: String::new(),
            config,
            key,
            budget,
            stop: None,
            http,
            no_schema: AtomicBool::new(false),
            completion_tokens: AtomicBool::new(false),
        };
        client.url = client.completions_url()?;
        Ok(client)
    }

    /// Ends pauses and starts no further try once the flag is raised; a try under way is finished.
    #[must_use]
    pub fn stopped_by(mut self, stop: Arc<AtomicBool>) -> Self {
        self.stop = Some(stop);
        self
    }

    /// The budget that every try is counted against.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    fn completions_url(&self) -> Result<String, ChatError> {
        let base = self.config.base_url.trim();
        let url = self
            .http
            .rules()
            .check(base)
            .map_err(|error| self.chat_error(error, Usage::default()))?;
        let bad = |expected| {
            Err(ChatError::Config {
                field: "base_url",
                found: self.shown(base),
                expected,
            })
        };
        if url.query().is_some() || url.fragment().is_some() {
            return bad("an address without ? and #");
        }
        if self.key.is_none() && !self.config.allow_private && !web::is_loopback_host(&url) {
            return bad("an API key for a server that is not on this machine");
        }
        let base = url.as_str().trim_end_matches('/');
        let base = base.strip_suffix("/chat/completions").unwrap_or(base);
        Ok(format!("{base}/chat/completions"))
    }

    /// One try, or a few more if the server only wants other words.
    fn try_once(&self, call: &Call, attempt: u32) -> Result<Answer, ChatError> {
        let request = &call.request;
        let mut form = Form {
            response_format: request.schema.is_some() && !self.no_schema.load(Ordering::Relaxed),
            completion_tokens: self.completion_tokens.load(Ordering::Relaxed),
        };
        loop {
            if self.stopped() {
                return Err(ChatError::Stopped);
            }
            let body = self.body(call, attempt, form).to_string();
            let most = (body.len() as u64).saturating_add(u64::from(request.max_tokens));
            let reservation = self.budget.reserve(most)?;
            let exchange = self.exchange(request, body.as_bytes());
            self.budget.settle(reservation, exchange.usage);
            if let Some(other) = exchange.in_other_words(form) {
                form = other;
                continue;
            }
            // Remembered only now: a server may refuse a request for other reasons.
            if exchange.accepted {
                if request.schema.is_some() && !form.response_format {
                    self.no_schema.store(true, Ordering::Relaxed);
                }
                if form.completion_tokens {
                    self.completion_tokens.store(true, Ordering::Relaxed);
                }
            }
            return exchange.outcome;
        }
    }

    fn body(&self, call: &Call, attempt: u32, form: Form) -> Value {
        let request = &call.request;
        let mut body = Map::new();
        let mut system = request.system.clone();
        if let Some(schema) = &request.schema {
            if form.response_format {
                let format = json!({
                    "type": "json_schema",
                    "json_schema": {
                        "name": schema_name(&call.kind),
                        "strict": true,
                        "schema": schema,
                    },
                });
                body.insert("response_format".to_owned(), format);
            } else {
                if !system.is_empty() {
                    system.push_str("\n\n");
                }
                system.push_str(&structured::instruction(schema));
            }
        }
        // Templates of some models know no system text, so an empty one is not sent.
        let messages: Vec<Value> = [("system", &system), ("user", &request.user)]
            .into_iter()
            .filter(|(role, text)| *role == "user" || !text.is_empty())
            .map(|(role, text)| json!({"role": role, "content": text}))
            .collect();
        let limit = if form.completion_tokens {
            "max_completion_tokens"
        } else {
            "max_tokens"
        };
        body.insert("model".to_owned(), json!(self.config.model));
        body.insert("messages".to_owned(), messages.into());
        body.insert("temperature".to_owned(), json!(request.temperature));
        body.insert(limit.to_owned(), json!(request.max_tokens));
        if let Some(seed) = self.config.seed {
            body.insert("seed".to_owned(), json!(seed.wrapping_add(attempt)));
        }
        body.into()
    }

    /// Sends a body and reads what comes back.
    fn exchange(&self, request: &ChatRequest, body: &[u8]) -> Exchange {
        let mut post = Request::post_json(&self.url, body);
        if let Some(key) = &self.key {
            post = post.bearer(key);
        }
        // What an answer counts as that was given but did not arrive.
        let lost = Usage {
            completion_tokens: u64::from(request.max_tokens),
            ..estimated_usage(request, "")
        };
        let response = match self.http.send(&post) {
            Ok(response) => response,
            Err(error) => {
                let usage = match &error {
                    WebError::Transport { sent: true, .. } => lost,
                    _ => Usage::default(),
                };
                return Exchange {
                    outcome: Err(self.chat_error(error, usage)),
                    usage,
                    accepted: false,
                    refusal: String::new(),
                };
            }
        };
        if response.status() != 200 {
            return self.refused(response);
        }
        let url = self.hidden(response.url().as_str());
        let completion = match response.read(self.config.max_answer_bytes) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                let url = url.clone();
                // Without an announced size a broken connection looks like this.
                if error.is_eof() {
                    let found = bytes.len() as u64;
                    return ChatError::Truncated { url, found };
                }
                ChatError::Garbled {
                    url,
                    reason: self.shown(&error.to_string()),
                    usage: lost,
                }
            }),
            Err(error) => Err(self.chat_error(error, lost)),
        };
        let (outcome, usage) = match completion {
            Ok(completion) => {
                let usage = usage(&completion, request);
                (self.read(&completion, request, url, usage), usage)
            }
            Err(error) => (Err(error), lost),
        };
        Exchange {
            outcome,
            usage,
            accepted: true,
            refusal: String::new(),
        }
    }

    /// The text of a completion.
    fn read(
        &self,
        completion: &Value,
        request: &ChatRequest,
        url: String,
        usage: Usage,
    ) -> Result<Answer, ChatError> {
        let model = self.config.model.clone();
        let garbled = |reason: String| ChatError::Garbled { url, reason, usage };
        let Some(choices) = completion.get("choices").and_then(Value::as_array) else {
            return Err(garbled(match completion.get("error") {
                Some(_) => format!("the server says: {}", self.shown(&message(completion))),
                None => "there is no list `choices`".to_owned(),
            }));
        };
        let Some(choice) = choices.first() else {
            return Err(ChatError::NoChoices { model, usage });
        };
        let Some(message) = choice.get("message").and_then(Value::as_object) else {
            return Err(garbled(
                "the first choice has no object `message`".to_owned(),
            ));
        };
        let text = match message.get("content") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.as_str()),
            Some(_) => return Err(garbled("`content` is no text".to_owned())),
        };
        let finish_reason = choice.get("finish_reason").and_then(Value::as_str);
        let filled = |name: &str| match message.get(name) {
            Some(Value::Array(items)) => !items.is_empty(),
            Some(Value::Object(_)) => true,
            _ => false,
        };
        if finish_reason == Some("length") {
            return Err(ChatError::CutOff {
                model,
                limit: request.max_tokens,
                start: self.shown(text.unwrap_or_default()),
                usage,
            });
        }
        if finish_reason == Some("content_filter") {
            let reason = "its content filter".to_owned();
            return Err(ChatError::Declined {
                model,
                reason,
                usage,
            });
        }
        if let Some(reason) = message.get("refusal").and_then(Value::as_str)
            && text.is_none_or(str::is_empty)
        {
            let reason = self.shown(reason);
            return Err(ChatError::Declined {
                model,
                reason,
                usage,
            });
        }
        if (filled("tool_calls") || filled("function_call")) && text.is_none_or(str::is_empty) {
            return Err(ChatError::ToolCall { model, usage });
        }
        match text {
            Some(text) => Ok(Answer {
                text: self.hidden(text),
                usage,
            }),
            None => Err(ChatError::NoText {
                model,
                finish_reason: self.shown(finish_reason.unwrap_or("none")),
                usage,
            }),
        }
    }

    /// What a status other than success means.
    fn refused(&self, response: Response) -> Exchange {
        let status = response.status();
        let retry_after = response.retry_after();
        let url = self.hidden(response.url().as_str());
        let body = response.read_start(MAX_ERROR_BYTES);
        let text = match serde_json::from_slice(&body) {
            Ok(body) => message(&body),
            Err(_) => String::from_utf8_lossy(&body).into_owned(),
        };
        let reason = match self.shown(&text) {
            empty if empty.is_empty() => "without a reason".to_owned(),
            reason => reason,
        };
        // The code stands beside the message.
        let out_of_credit = status == 402
            || status == 429
                && body
                    .windows(INSUFFICIENT_QUOTA.len())
                    .any(|part| part == INSUFFICIENT_QUOTA);
        let error = match status {
            _ if out_of_credit => ChatError::NoCredit {
                url,
                status,
                reason,
            },
            401 | 403 => ChatError::Unauthorized {
                url,
                status,
                reason,
                next_step: if self.key.is_some() {
                    "check that the key is right and may use this model"
                } else {
                    "give an API key"
                },
            },
            404 => ChatError::NotFound {
                url,
                model: self.config.model.clone(),
                reason,
            },
            400..=499 if !web::status_may_pass(status) => ChatError::Rejected {
                url,
                status,
                reason,
            },
            _ => ChatError::Status {
                url,
                status,
                retry_after,
                reason,
            },
        };
        Exchange {
            outcome: Err(error),
            usage: Usage::default(),
            accepted: false,
            refusal: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    fn chat_error(&self, error: WebError, usage: Usage) -> ChatError {
        match error {
            WebError::Refused { url, reason } => ChatError::Refused {
                url: self.hidden(&url),
                reason: self.hidden(&reason),
            },
            WebError::TooManyRedirects { url, limit } => ChatError::TooManyRedirects {
                url: self.hidden(&url),
                limit,
            },
            WebError::Transport { url, reason, .. } => ChatError::Transport {
                url: self.hidden(&url),
                reason: self.shown(&reason),
            },
            WebError::Truncated { url, found, .. } => ChatError::Truncated {
                url: self.hidden(&url),
                found,
            },
            WebError::TooLarge { url, limit, .. } => ChatError::TooLarge {
                url: self.hidden(&url),
                limit,
                usage,
            },
        }
    }

    fn hidden(&self, text: &str) -> String {
        match &self.key {
            Some(key) => key.hidden_in(text),
            None => text.to_owned(),
        }
    }

    /// A text from a server as errors show it. The key is replaced before the text is shortened, so
    /// that no part of it can be left at the end.
    fn shown(&self, text: &str) -> String {
        shortened(self.hidden(text).trim(), MAX_SHOWN)
    }

    fn stopped(&self) -> bool {
        self.stop
            .as_ref()
            .is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    /// Sleeps until the time is up or the stop flag is raised.
    fn sleep(&self, pause: Duration) {
        let end = Instant::now() + pause;
        while !self.stopped() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(STOP_INTERVAL));
        }
    }
}

impl AnswerSource for ChatClient {
    /// The name of the model.
    fn name(&self) -> &str {
        &self.config.model
    }

    fn answer(&self, call: &Call, attempt: u32) -> Result<Answer, ChatError> {
        if !call.request.temperature.is_finite() || call.request.temperature < 0.0 {
            return Err(ChatError::Config {
                field: "temperature",
                found: call.request.temperature.to_string(),
                expected: "a number from 0",
            });
        }
        let retries = Retries {
            max_tries: self.config.max_tries,
            backoff: self.config.backoff,
            max_pause: self.config.max_pause,
            seed: jitter_seed(&call.id, attempt),
        };
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match self.try_once(call, attempt) {
                Err(error) if error.may_pass() => error,
                outcome => return outcome,
            };
            let retry_after = match &error {
                ChatError::Status { retry_after, .. } => *retry_after,
                _ => None,
            };
            match retries.pause(tries, retry_after) {
                Some(pause) => self.sleep(pause),
                None => {
                    return Err(ChatError::GaveUp {
                        tries,
                        last: Box::new(error),
                    });
                }
            }
        }
    }
}

const INSUFFICIENT_QUOTA: &[u8] = b"insufficient_quota";

/// A request and what became of it.
struct Exchange {
    outcome: Result<Answer, ChatError>,
    /// What it counts as.
    usage: Usage,
    /// Whether the server took the request, whatever it made of it.
    accepted: bool,
    /// Body of an error status.
    refusal: String,
}

impl Exchange {
    /// How to ask again if the server only objects to how it was asked.
    fn in_other_words(&self, form: Form) -> Option<Form> {
        let Err(ChatError::Rejected { status, .. }) = self.outcome else {
            return None;
        };
        let mentions = |word| self.refusal.contains(word);
        if status == 400 && !form.completion_tokens && mentions("max_completion_tokens") {
            return Some(Form {
                completion_tokens: true,
                ..form
            });
        }
        let about_format = mentions("response_format") || mentions("json_schema");
        (form.response_format && (status == 422 || status == 400 && about_format)).then_some(Form {
            response_format: false,
            ..form
        })
    }
}

/// What the server counted; each number that it does not give is estimated.
fn usage(completion: &Value, request: &ChatRequest) -> Usage {
    let text = completion
        .pointer("/choices/0/message/content")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let estimate = estimated_usage(request, text);
    let counted = |name: &str| {
        completion
            .get("usage")
            .and_then(|usage| usage.get(name))
            .and_then(Value::as_u64)
    };
    Usage {
        prompt_tokens: counted("prompt_tokens").unwrap_or(estimate.prompt_tokens),
        completion_tokens: counted("completion_tokens").unwrap_or(estimate.completion_tokens),
    }
}

/// The message in an error body, in the places where servers put it; else the body itself.
fn message(body: &Value) -> String {
    let places = ["/error/message", "/error", "/message", "/detail"];
    places
        .iter()
        .find_map(|place| body.pointer(place).and_then(Value::as_str))
        .map_or_else(|| body.to_string(), str::to_owned)
}

/// A name for the schema of a call, in the characters that the protocol allows.
fn schema_name(kind: &str) -> String {
    let name: String = kind
        .chars()
        .take(64)
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if name.is_empty() {
        "answer".to_owned()
    } else {
        name
    }
}

/// Jitter that differs between calls, so that they do not come back all at once (FNV-1a).
fn jitter_seed(id: &str, attempt: u32) -> u64 {
    id.bytes()
        .chain(attempt.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}
