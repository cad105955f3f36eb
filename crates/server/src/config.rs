//! Limits and settings of a server.

use std::net::SocketAddr;
use std::time::Duration;

use crate::error::StartError;
use crate::key::ApiKey;

/// Settings of a server. [`Config::default`] listens on `127.0.0.1:8080` without a key.
#[derive(Debug)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one.
    pub addr: SocketAddr,
    /// Key that requests have to carry; required where `addr` is not a loopback address.
    pub api_key: Option<ApiKey>,
    /// Names beside `localhost` and loopback addresses that the `Host` header of a request to a
    /// loopback address may have. On other addresses: if not empty, the only names allowed.
    pub allowed_hosts: Vec<String>,
    /// Most tokens computed at once.
    pub max_batch_tokens: usize,
    /// Most texts that wait for the model.
    pub queue: usize,
    /// Longest time a request should wait for the model; one that would wait longer, and for more
    /// than eight requests of the usual size, is refused with 429.
    pub max_wait: Duration,
    /// Limits of a request.
    pub limits: Limits,
    /// Time between the readiness turning 503 and the end of accepting connections.
    pub drain_notice: Duration,
    /// Longest time that requests in flight get to finish after that.
    pub drain_deadline: Duration,
}

/// Limits of a request and of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Texts of a request.
    pub inputs: usize,
    /// Characters (Unicode scalar values) of a text.
    pub characters: usize,
    /// Bytes of the request line and all header lines.
    pub head_bytes: usize,
    /// Time for the head of a request, and again for its body.
    pub read_timeout: Duration,
    /// Time that the client may leave a response unread.
    pub write_timeout: Duration,
    /// Time that a connection may stay open without a request.
    pub idle_timeout: Duration,
    /// Open connections; others wait to be accepted.
    pub connections: usize,
    /// Requests with a body handled at once; more are refused with 429.
    pub requests: usize,
    /// Most results of a search.
    pub results: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 2 * 1024 * 1024,
            inputs: 32,
            characters: 8192,
            head_bytes: 16 * 1024,
            read_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            connections: 1024,
            requests: 256,
            results: 100,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 8080)),
            api_key: None,
            allowed_hosts: Vec::new(),
            max_batch_tokens: 4096,
            queue: 512,
            max_wait: Duration::from_millis(25),
            limits: Limits::default(),
            drain_notice: Duration::from_secs(1),
            drain_deadline: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// Whether the settings go together and with a model of this length.
    ///
    /// # Errors
    ///
    /// [`StartError::KeyRequired`] or [`StartError::Setting`].
    pub fn check(&self, max_tokens: usize) -> Result<(), StartError> {
        if !self.addr.ip().is_loopback() && self.api_key.is_none() {
            return Err(StartError::KeyRequired { addr: self.addr });
        }
        let at_least = |setting, found: usize, least: usize, why: &'static str| {
            if found >= least {
                return Ok(());
            }
            Err(StartError::Setting {
                setting,
                expected: format!("at least {least}, {why}"),
                found,
            })
        };
        let limits = &self.limits;
        at_least(
            "token budget of a batch",
            self.max_batch_tokens,
            max_tokens,
            "the longest text of the model",
        )?;
        at_least(
            "queue",
            self.queue,
            limits.inputs,
            "the texts of one request",
        )?;
        at_least("inputs", limits.inputs, 1, "one text")?;
        at_least("connections", limits.connections, 1, "one connection")?;
        at_least("requests", limits.requests, 1, "one request")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_budget_below_the_longest_text_is_refused() {
        let config = Config::default();
        config.check(4096).unwrap();
        let error = config.check(4097).unwrap_err();
        assert_eq!(
            error.to_string(),
            "token budget of a batch: expected at least 4097, the longest text of the model, \
             found 4096"
        );
    }

    #[test]
    fn a_queue_takes_a_whole_request() {
        let config = Config {
            queue: 31,
            ..Config::default()
        };
        assert!(matches!(
            config.check(8),
            Err(StartError::Setting {
                setting: "queue",
                ..
            })
        ));
    }

    #[test]
    fn other_addresses_than_loopback_need_a_key() {
        for (addr, open) in [
            ("127.0.0.1:1", true),
            ("127.8.0.1:1", true),
            ("[::1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
            ("[::ffff:127.0.0.1]:1", false),
        ] {
            let mut config = Config {
                addr: addr.parse().unwrap(),
                ..Config::default()
            };
            assert_eq!(config.check(8).is_ok(), open, "{addr}");
            config.api_key = Some(ApiKey::new("secret-secret-secret").unwrap());
            config.check(8).unwrap();
        }
    }
}
