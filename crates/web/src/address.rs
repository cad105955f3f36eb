//! Which addresses may be contacted.
//!
//! * only `https`, except plain `http` to a loopback host; the same for every redirect, and a
//!   redirect may not lead to a loopback host unless the first address was one;
//! * no user name or password in an address;
//! * private, link-local and other special addresses are refused, as literals and after name
//!   resolution (the addresses checked are the ones connected to);
//! * if there is a list of allowed hosts, nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use url::{Host, Url};

use crate::error::WebError;

/// Limits and permissions of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time for one request, from name resolution to the last byte, redirects included.
    pub total_timeout: Duration,
    /// Redirects followed.
    pub max_redirects: u32,
    /// Allows private and link-local addresses, and redirects to loopback hosts.
    pub allow_private: bool,
    /// If given, the only hosts that may be contacted, redirects included.
    pub allowed_hosts: Option<Vec<String>>,
    /// Uses the proxy of the environment (`HTTPS_PROXY` and so on). Names are then resolved by the
    /// proxy, so only literal addresses are checked here.
    pub use_env_proxy: bool,
}

impl Default for Rules {
    /// 10 s to connect, 60 s in all, 3 redirects, public and loopback addresses, no proxy.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(60),
            max_redirects: 3,
            allow_private: false,
            allowed_hosts: None,
            use_env_proxy: false,
        }
    }
}

impl Rules {
    /// Parses an address and checks it as the first one of a request.
    ///
    /// # Errors
    /// [`WebError::Refused`].
    pub fn check(&self, url: &str) -> Result<Url, WebError> {
        let parsed = Url::parse(url).map_err(|error| invalid(url, error))?;
        self.check_url(&parsed, self.allow_private || is_loopback_host(&parsed))?;
        Ok(parsed)
    }

    /// The rules that need no name resolution.
    pub(crate) fn check_url(&self, url: &Url, loopback_allowed: bool) -> Result<(), WebError> {
        let refuse = |reason: &str| {
            Err(WebError::Refused {
                url: shown(url),
                reason: reason.to_owned(),
            })
        };
        let loopback = is_loopback_host(url);
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            "http" => return refuse("plain http is only allowed to a loopback host"),
            _ => return refuse("only https is allowed"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("an address must not carry a user name or password");
        }
        if loopback && !loopback_allowed {
            return refuse("a redirect to a loopback host");
        }
        if let Some(hosts) = &self.allowed_hosts
            && !hosts
                .iter()
                .any(|host| url.host_str().is_some_and(|h| h.eq_ignore_ascii_case(host)))
        {
            return refuse("the host is not on the list of allowed hosts");
        }
        let literal = match url.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            Some(Host::Domain(_)) => None,
            None => return refuse("there is no host"),
        };
        match literal {
            Some(ip) if !loopback && !self.allow_private && !is_public(ip) => {
                refuse("the address is not a public one")
            }
            _ => Ok(()),
        }
    }
}

/// An address that does not parse.
pub(crate) fn invalid(url: &str, error: url::ParseError) -> WebError {
    WebError::Refused {
        url: url.chars().take(200).flat_map(char::escape_debug).collect(),
        reason: error.to_string(),
    }
}

/// An address as errors name it: without a password.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Fails only for addresses that cannot have a password.
    let _ = url.set_password(None);
    url.into()
}

/// Whether the host is `localhost` or a literal loopback address.
pub fn is_loopback_host(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => is_localhost(name),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
}

/// Whether an address is reachable by everyone: not loopback, private, link-local, shared,
/// documentation, benchmark, multicast or reserved (the special-purpose registries of RFC 6890 and
/// its updates), also when an IPv4 address is wrapped in an IPv6 one.
///
/// ```
/// assert!(web::is_public([1, 1, 1, 1].into()));
/// assert!(!web::is_public([169, 254, 169, 254].into()));
/// ```
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_documentation()
        || a == 0
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19)))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = ip.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    if let Some(mapped) = ip.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    match (s0, s1) {
        // NAT64 and 6to4 carry an IPv4 address.
        (0x64, 0xff9b) if [s2, s3, s4, s5] == [0; 4] => v4(s6, s7),
        (0x2002, high) => v4(high, s2),
        // Teredo and other protocol assignments, and documentation.
        (0x2001, second) if second < 0x200 || second == 0xdb8 => false,
        (0x3fff, second) if second < 0x1000 => false,
        // Everything else in use lies in 2000::/3.
        _ => s0 & 0xe000 == 0x2000,
    }
}

/// Why name resolution was stopped.
#[derive(Debug, thiserror::Error)]
#[error("`{host}` resolves to {address}, which is {what}")]
pub(crate) struct RefusedAddress {
    host: String,
    address: IpAddr,
    what: &'static str,
}

/// Why name resolution failed.
#[derive(Debug, thiserror::Error)]
#[error("the name does not resolve: {0}")]
pub(crate) struct NotResolved(String);

/// The rule for resolved addresses: loopback for loopback hosts, public for all others.
fn check_resolved(
    host: &str,
    addresses: impl IntoIterator<Item = SocketAddr>,
) -> Result<(), RefusedAddress> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let literal_loopback = bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let loopback = literal_loopback || is_localhost(bare);
    for address in addresses {
        let ip = address.ip();
        let (fine, what) = if loopback {
            (ip.is_loopback(), "not a loopback address")
        } else {
            (is_public(ip), "not a public address")
        };
        if !fine {
            return Err(RefusedAddress {
                host: host.to_owned(),
                address: ip,
                what,
            });
        }
    }
    Ok(())
}

/// Resolves names and refuses what [`check_resolved`] refuses. The connector gets exactly the
/// addresses that were checked, so a name cannot change its mind in between.
#[derive(Debug)]
pub(crate) struct CheckedResolver {
    inner: DefaultResolver,
    check: bool,
}

impl CheckedResolver {
    pub(crate) fn new(check: bool) -> Self {
        Self {
            inner: DefaultResolver::default(),
            check,
        }
    }
}

impl Resolver for CheckedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let addresses = match self.inner.resolve(uri, config, timeout) {
            // By itself it could not be told from a connection that broke.
            Err(ureq::Error::Io(error)) => {
                return Err(ureq::Error::Other(Box::new(NotResolved(error.to_string()))));
            }
            outcome => outcome?,
        };
        if self.check {
            check_resolved(uri.host().unwrap_or_default(), addresses.iter().copied())
                .map_err(|error| ureq::Error::Other(Box::new(error)))?;
        }
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn special_addresses_are_not_public() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "203.0.113.5",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "2001:db8::1",
            "2001::1",
            "::10.0.0.1",
            "64:ff9b:1::1",
        ] {
            assert!(!is_public(ip(text)), "{text}");
        }
    }

    #[test]
    fn ordinary_addresses_are_public() {
        for text in [
            "1.1.1.1",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "192.167.1.1",
            "223.255.255.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ] {
            assert!(is_public(ip(text)), "{text}");
        }
    }

    #[test]
    fn a_name_that_resolves_to_a_private_address_is_refused() {
        let at = |text: &str| SocketAddr::new(ip(text), 443);
        assert!(check_resolved("data.example.org", [at("1.1.1.1")]).is_ok());
        let error =
            check_resolved("data.example.org", [at("1.1.1.1"), at("10.0.0.7")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`data.example.org` resolves to 10.0.0.7, which is not a public address"
        );
        assert!(check_resolved("data.example.org", [at("127.0.0.1")]).is_err());
        assert!(check_resolved("localhost", [at("127.0.0.1"), at("::1")]).is_ok());
        assert!(check_resolved("localhost", [at("192.168.0.1")]).is_err());
        assert!(check_resolved("[::1]", [at("::1")]).is_ok());
    }

    #[test]
    fn addresses_are_checked_before_connecting() {
        let check = |text: &str, rules: &Rules| {
            let url = Url::parse(text).unwrap();
            rules
                .check_url(&url, false)
                .map_err(|error| error.to_string())
        };
        let standard = Rules::default();
        assert!(check("https://example.org/x", &standard).is_ok());
        for text in [
            "http://example.org/x",
            "ftp://example.org/x",
            "file:///etc/passwd",
            "https://user@example.org/x",
            "https://:pw@example.org/x",
            "https://10.0.0.1/x",
            "https://[fe80::1]/x",
            "https://169.254.169.254/latest",
            "https://0x7f.1/x",
            "https://2130706433/",
            "http://localhost./x",
        ] {
            let error = check(text, &standard).unwrap_err();
            assert!(!error.contains("pw"), "{error}");
        }
        let private = Rules {
            allow_private: true,
            ..Rules::default()
        };
        assert!(check("https://10.0.0.1/x", &private).is_ok());
        let listed = Rules {
            allowed_hosts: Some(vec!["Example.org".to_owned()]),
            ..Rules::default()
        };
        assert!(check("https://example.org/x", &listed).is_ok());
        assert!(check("https://example.org.evil.net/x", &listed).is_err());
    }

    #[test]
    fn the_first_address_may_be_a_loopback_one() {
        let rules = Rules::default();
        for text in [
            "http://127.0.0.1:80/v1",
            "http://[::1]/",
            "http://LOCALHOST:1",
        ] {
            assert!(rules.check(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "no address",
            "/relative",
            "http://",
            "http://192.168.0.1/",
            "data:,x",
        ] {
            assert!(
                matches!(rules.check(text), Err(WebError::Refused { .. })),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_address_panics(text in "\\PC{0,60}") {
            let _ = Rules::default().check(&text);
        }

        /// An IPv4 address is as public in its IPv6 wrappings as by itself.
        #[test]
        fn wrapped_addresses_are_judged_alike(bits in any::<u32>()) {
            let v4 = Ipv4Addr::from_bits(bits);
            let [high, low] = [(bits >> 16) as u16, bits as u16];
            let expected = is_public(IpAddr::V4(v4));
            for v6 in [
                v4.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            ] {
                prop_assert_eq!(is_public(IpAddr::V6(v6)), expected, "{}", v6);
            }
        }
    }
}
