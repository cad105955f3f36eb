//! One try of a request.

use std::borrow::Cow;
use std::io::{self, Read};
use std::time::{Instant, SystemTime};

use ureq::http::{self, HeaderMap, HeaderValue, header};
use ureq::unversioned::transport::DefaultConnector;
use url::Url;

use crate::address::{
    CheckedResolver, NotResolved, RefusedAddress, Rules, invalid, is_loopback_host, shown,
};
use crate::error::WebError;
use crate::key::ApiKey;
use crate::retry;

/// Largest header of a response, in bytes.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Connections kept open for further requests.
const MAX_IDLE: usize = 64;

/// What is asked of a server.
#[derive(Clone)]
pub struct Request<'a> {
    url: &'a str,
    json: Option<&'a [u8]>,
    authorization: Option<Cow<'a, str>>,
}

impl<'a> Request<'a> {
    /// `GET` of an address.
    pub fn get(url: &'a str) -> Self {
        Self {
            url,
            json: None,
            authorization: None,
        }
    }

    /// `POST` of a JSON body to an address.
    pub fn post_json(url: &'a str, body: &'a [u8]) -> Self {
        Self {
            url,
            json: Some(body),
            authorization: None,
        }
    }

    /// Sends this `Authorization` header, but only as long as redirects stay at the scheme, host and
    /// port of the first address.
    #[must_use]
    pub fn authorization(self, value: &'a str) -> Self {
        Self {
            authorization: Some(value.into()),
            ..self
        }
    }

    /// Sends a key as `Authorization: Bearer`, as [`Self::authorization`] does.
    #[must_use]
    pub fn bearer(self, key: &ApiKey) -> Self {
        Self {
            authorization: Some(key.bearer().into()),
            ..self
        }
    }
}

impl std::fmt::Debug for Request<'_> {
    /// Without body and authorization, which are not for logs.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let method = if self.json.is_some() { "POST" } else { "GET" };
        write!(out, "{method} {}", self.url)
    }
}

/// Sends requests under [`Rules`].
#[derive(Debug)]
pub struct Client {
    rules: Rules,
    agent: ureq::Agent,
}

impl Client {
    /// A client that names itself `user_agent`.
    pub fn new(rules: Rules, user_agent: &str) -> Self {
        let proxy = if rules.use_env_proxy {
            ureq::Proxy::try_from_env()
        } else {
            None
        };
        let proxied = proxy.is_some();
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .user_agent(user_agent)
            .max_idle_connections(MAX_IDLE)
            .max_idle_connections_per_host(MAX_IDLE)
            .max_response_header_size(MAX_HEADER_BYTES)
            .timeout_connect(Some(rules.connect_timeout))
            .build();
        let resolver = CheckedResolver::new(!rules.allow_private && !proxied);
        let agent = ureq::Agent::with_parts(config, DefaultConnector::default(), resolver);
        Self { rules, agent }
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Sends a request and follows redirects, each checked like the first address.
    ///
    /// A `POST` is sent again, with its body, to where 301, 302, 307 and 308 point; 303 asks for a
    /// `GET` and is returned as it is. Any other status, and a redirect without a target, is returned
    /// as well.
    ///
    /// # Errors
    /// [`WebError::Refused`], [`WebError::TooManyRedirects`] or [`WebError::Transport`].
    pub fn send(&self, request: &Request<'_>) -> Result<Response, WebError> {
        let first = self.rules.check(request.url)?;
        let loopback_allowed = self.rules.allow_private || is_loopback_host(&first);
        let mut authorization = request.authorization.as_deref();
        let mut url = first.clone();
        let start = Instant::now();
        let mut redirects = Vec::new();
        for hops in 0..=self.rules.max_redirects as usize {
            self.rules.check_url(&url, loopback_allowed)?;
            if url.origin() != first.origin() {
                // For good, even if a later redirect leads back.
                authorization = None;
            }
            let inner = self.exchange(&url, request.json, authorization, start)?;
            let follow = match inner.status().as_u16() {
                301 | 302 | 307 | 308 => true,
                303 => request.json.is_none(),
                _ => false,
            };
            // As long as it is the server that was asked.
            let asked = redirects.len() == hops && url.origin() == first.origin();
            let response = Response {
                url,
                inner,
                redirects,
                asked,
            };
            match response.header(&header::LOCATION) {
                Some(location) if follow => {
                    let target = response
                        .url
                        .join(location)
                        .map_err(|error| invalid(location, error))?;
                    redirects = response.redirects;
                    if asked {
                        redirects.push(response.inner.headers().clone());
                    }
                    url = target;
                }
                _ => return Ok(response),
            }
        }
        Err(WebError::TooManyRedirects {
            url: shown(&first),
            limit: self.rules.max_redirects,
        })
    }

    fn exchange(
        &self,
        url: &Url,
        json: Option<&[u8]>,
        authorization: Option<&str>,
        start: Instant,
    ) -> Result<http::Response<ureq::Body>, WebError> {
        let left = self.rules.total_timeout.saturating_sub(start.elapsed());
        let secret = match authorization.map(HeaderValue::from_str) {
            None => None,
            Some(Ok(mut value)) => {
                value.set_sensitive(true);
                Some(value)
            }
            // The reason would have to show the value.
            Some(Err(_)) => {
                return Err(WebError::Refused {
                    url: shown(url),
                    reason: "the authorization cannot be sent as a header".to_owned(),
                });
            }
        };
        let outcome = match json {
            None => {
                let mut request = self
                    .agent
                    .get(url.as_str())
                    .config()
                    .timeout_global(Some(left))
                    .build();
                if let Some(value) = secret {
                    request = request.header(header::AUTHORIZATION, value);
                }
                request.call()
            }
            Some(body) => {
                let mut request = self
                    .agent
                    .post(url.as_str())
                    .config()
                    .timeout_global(Some(left))
                    .build()
                    .header(header::CONTENT_TYPE, "application/json")
                    .header(header::ACCEPT, "application/json");
                if let Some(value) = secret {
                    request = request.header(header::AUTHORIZATION, value);
                }
                request.send(body)
            }
        };
        outcome.map_err(|error| failed(url, error))
    }
}

fn failed(url: &Url, error: ureq::Error) -> WebError {
    let sent = match &error {
        ureq::Error::Other(inner) if inner.is::<RefusedAddress>() => {
            return WebError::Refused {
                url: shown(url),
                reason: inner.to_string(),
            };
        }
        ureq::Error::Other(inner) if inner.is::<NotResolved>() => false,
        ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::BadUri(_)
        | ureq::Error::Tls(_)
        | ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => false,
        ureq::Error::Io(error) => error.kind() != io::ErrorKind::ConnectionRefused,
        _ => true,
    };
    WebError::Transport {
        url: shown(url),
        reason: error.to_string(),
        sent,
    }
}

/// Whether reading a body failed because the time is up, which comes wrapped.
fn is_timeout(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    error.kind() == io::ErrorKind::TimedOut || matches!(inner, Some(ureq::Error::Timeout(_)))
}

/// The head of an answer, and its body still to be read.
#[derive(Debug)]
pub struct Response {
    url: Url,
    inner: http::Response<ureq::Body>,
    /// Headers of the redirects of the server that was asked, until one led elsewhere.
    redirects: Vec<HeaderMap>,
    /// Whether none did.
    asked: bool,
}

impl Response {
    /// HTTP status.
    pub fn status(&self) -> u16 {
        self.inner.status().as_u16()
    }

    /// Where the answer comes from, after redirects.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Bytes that the header announces.
    pub fn content_length(&self) -> Option<u64> {
        self.inner.body().content_length()
    }

    /// Seconds that the server asks to wait before another try.
    pub fn retry_after(&self) -> Option<u64> {
        self.header(&header::RETRY_AFTER)
            .and_then(|value| retry::retry_after(value, SystemTime::now()))
    }

    /// Reads the body piece by piece and returns its length.
    ///
    /// # Errors
    /// [`WebError::TooLarge`] as soon as the header announces or the body reaches more than `limit`
    /// bytes, [`WebError::Truncated`] if the connection ends within the body,
    /// [`WebError::Transport`] if the time is up; or the error of `piece`.
    pub fn read_pieces<E: From<WebError>>(
        mut self,
        limit: u64,
        mut piece: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<u64, E> {
        let too_large = |url: &Url, found| WebError::TooLarge {
            url: shown(url),
            limit,
            found,
        };
        let expected = self.content_length();
        if let Some(length) = expected.filter(|length| *length > limit) {
            return Err(too_large(&self.url, length).into());
        }
        let mut reader = self.inner.body_mut().as_reader();
        let mut buffer = vec![0_u8; 1 << 16];
        let mut found = 0_u64;
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) => return Ok(found),
                Ok(count) => buffer.get(..count).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if is_timeout(&error) => {
                    return Err(WebError::Transport {
                        url: shown(&self.url),
                        reason: error.to_string(),
                        sent: true,
                    }
                    .into());
                }
                Err(_) => {
                    return Err(WebError::Truncated {
                        url: shown(&self.url),
                        expected,
                        found,
                    }
                    .into());
                }
            };
            let after = found.saturating_add(read.len() as u64);
            if after > limit {
                return Err(too_large(&self.url, after).into());
            }
            piece(read)?;
            found = after;
        }
    }

    /// Reads the whole body of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Self::read_pieces`].
    pub fn read(self, limit: u64) -> Result<Vec<u8>, WebError> {
        let mut body = Vec::new();
        self.read_pieces(limit, |piece| {
            body.extend_from_slice(piece);
            Ok::<(), WebError>(())
        })?;
        Ok(body)
    }

    /// Reads the start of the body, at most `limit` bytes, for a message. What cannot be read is
    /// left out.
    pub fn read_start(self, limit: usize) -> Vec<u8> {
        let mut body = Vec::new();
        let mut inner = self.inner;
        let reader = inner.body_mut().as_reader();
        // A failure ends the start where it is.
        let _ = reader.take(limit as u64).read_to_end(&mut body);
        body
    }

    /// A header that the server that was asked has set, and none that it redirected to: the first one
    /// among its redirects and, if they did not lead elsewhere, its answer. `None` if there is none or
    /// it is not ASCII; names are lower-case.
    pub fn header_of_asked(&self, name: &'static str) -> Option<&str> {
        let answer = self.asked.then(|| self.inner.headers());
        let value = self
            .redirects
            .iter()
            .chain(answer)
            .find_map(|headers| headers.get(name))?;
        value.to_str().ok()
    }

    fn header(&self, name: &header::HeaderName) -> Option<&str> {
        self.inner
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    }
}
