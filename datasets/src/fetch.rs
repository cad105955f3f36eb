//! Verified downloads described by a manifest of URL, size and SHA-256.
//!
//! Rules, each with a test:
//!
//! * only `https`, except plain `http` to a loopback host; the same for every redirect, and a
//!   redirect may not lead to a loopback host unless the first address was one;
//! * private, link-local and other special addresses are refused, as literals and after name
//!   resolution (the addresses checked are the ones connected to);
//! * never more bytes than declared; connecting and the whole try have time limits;
//! * failures that may pass (429, 5xx, broken connections, short bodies) are tried again with
//!   growing, jittered pauses, and `Retry-After` in seconds is obeyed;
//! * a file is written under a temporary name, flushed to disk, checked for size and digest, and
//!   renamed: the final name never holds anything unverified. What is there and verifies is kept;
//! * file names are relative, without `..`, and no symbolic link is followed below the cache folder.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;
use ureq::config::Config;
use ureq::http::{Uri, header};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use url::{Host, Url};

use crate::error::FetchError;
use crate::hash::{StreamingSha256, is_sha256_hex, sha256_file};

/// The manifests that come with this crate, by name.
const BUILT_IN: [(&str, &str); 2] = [
    ("clinc", include_str!("../manifests/clinc.toml")),
    ("hwu64", include_str!("../manifests/hwu64.toml")),
];

/// Limits and permissions of a download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchOptions {
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time for one try of one file, from name resolution to the last byte.
    pub total_timeout: Duration,
    /// Tries a file, at least 1.
    pub max_tries: u32,
    /// Pause before the second try; doubled for each further one, then multiplied by a factor in
    /// `0.5..1`.
    pub backoff: Duration,
    /// Longest pause. A server that asks for more ends the download.
    pub max_pause: Duration,
    /// Redirects followed a try.
    pub max_redirects: u32,
    /// Largest size that a manifest may declare for one file, in bytes.
    pub max_file_bytes: u64,
    /// Allows private and link-local addresses, and redirects to loopback hosts.
    pub allow_private: bool,
    /// If given, the only hosts that may be contacted, redirects included.
    pub allowed_hosts: Option<Vec<String>>,
    /// Uses the proxy of the environment (`HTTPS_PROXY` and so on). Names are then resolved by the
    /// proxy, so only literal addresses are checked here.
    pub use_env_proxy: bool,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(60),
            max_tries: 5,
            backoff: Duration::from_millis(500),
            max_pause: Duration::from_secs(60),
            max_redirects: 5,
            max_file_bytes: 1 << 30,
            allow_private: false,
            allowed_hosts: None,
            use_env_proxy: false,
            seed: 0,
        }
    }
}

/// One file of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Where it goes, relative to the folder of the manifest, with `/` between names.
    pub path: String,
    /// Where it comes from.
    pub url: String,
    /// Exact size in bytes.
    pub bytes: u64,
    /// SHA-256 as 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// A set of files to download.
///
/// ```
/// let manifest = datasets::Manifest::built_in("hwu64")?;
/// assert_eq!(manifest.files.len(), 2);
/// assert_eq!(manifest.files[1].bytes, 53604);
/// # Ok::<(), datasets::FetchError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name, also of the folder below the cache folder: `a-z`, `0-9`, `-`, `_`.
    pub name: String,
    /// What it is.
    pub title: String,
    /// Where it was found.
    pub source: String,
    /// Terms as far as known.
    pub licence: String,
    /// The files.
    pub files: Vec<ManifestFile>,
}

impl Manifest {
    /// Parses and checks a manifest.
    ///
    /// # Errors
    /// [`FetchError::ManifestSyntax`] or [`FetchError::ManifestField`].
    pub fn parse(text: &str) -> Result<Self, FetchError> {
        let manifest: Self = toml::from_str(text).map_err(|error| FetchError::ManifestSyntax {
            reason: error.to_string(),
        })?;
        manifest.check()?;
        Ok(manifest)
    }

    /// A manifest that comes with this crate.
    ///
    /// # Errors
    /// [`FetchError::UnknownManifest`] lists the names there are.
    pub fn built_in(name: &str) -> Result<Self, FetchError> {
        match BUILT_IN.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => Self::parse(text),
            None => Err(FetchError::UnknownManifest {
                name: name.to_owned(),
                known: Self::built_in_names().collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// Names for [`Self::built_in`].
    pub fn built_in_names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// The folder that [`fetch`] fills.
    pub fn directory(&self, cache_dir: &Path) -> PathBuf {
        cache_dir.join(&self.name)
    }

    fn check(&self) -> Result<(), FetchError> {
        let bad = |field: String, found: &str, expected| FetchError::ManifestField {
            manifest: self.name.escape_debug().to_string(),
            field,
            found: found.escape_debug().to_string(),
            expected,
        };
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if self.name.is_empty() || !self.name.chars().all(word) || reserved(&self.name) {
            return Err(bad(
                "name".into(),
                &self.name,
                "a word of a-z, 0-9, - and _",
            ));
        }
        if self.files.is_empty() {
            return Err(bad("files".into(), "", "at least one file"));
        }
        let mut names: Vec<String> = Vec::new();
        for (number, file) in (1..).zip(&self.files) {
            let field = |name: &str| format!("file {number}, {name}");
            if !is_safe_relative(&file.path) {
                return Err(bad(
                    field("path"),
                    &file.path,
                    "a relative path of plain names joined by /, without . or ..",
                ));
            }
            let folded = file.path.to_lowercase();
            if names.contains(&folded) {
                return Err(bad(
                    field("path"),
                    &file.path,
                    "a path that no other file has",
                ));
            }
            names.push(folded);
            if !is_sha256_hex(&file.sha256) {
                return Err(bad(
                    field("sha256"),
                    &file.sha256,
                    "64 lower-case hexadecimal digits",
                ));
            }
            if file.bytes == 0 {
                return Err(bad(field("bytes"), "0", "a positive size"));
            }
            if Url::parse(&file.url).is_err() {
                return Err(bad(field("url"), &file.url, "an absolute URL"));
            }
        }
        Ok(())
    }
}

/// Whether a file name is reserved by an operating system, with or without an ending.
fn reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).to_ascii_lowercase();
    let numbered = |prefix: &str| {
        stem.strip_prefix(prefix)
            .is_some_and(|n| n.len() == 1 && n.bytes().all(|b| b.is_ascii_digit()))
    };
    ["con", "prn", "aux", "nul"].contains(&stem.as_str()) || numbered("com") || numbered("lpt")
}

/// Whether `path` stays inside the folder it is joined to, under the rules of every system.
fn is_safe_relative(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 200
        && path.split('/').all(|name| {
            !name.is_empty()
                && name != "."
                && name != ".."
                && !name.ends_with(['.', ' '])
                && !name.starts_with(' ')
                && !name.contains(['\\', ':', '*', '?', '"', '<', '>', '|'])
                && !name.chars().any(char::is_control)
                && !reserved(name)
        })
}

/// Where downloaded sets live unless a program is told otherwise:
/// `$ASTERISM_DATA`, else `$XDG_CACHE_HOME/asterism/data`, else `~/.cache/asterism/data`, else
/// `asterism-data` in the working directory.
pub fn default_cache_dir() -> PathBuf {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    variable("ASTERISM_DATA")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("asterism/data")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/asterism/data")))
        .unwrap_or_else(|| PathBuf::from("asterism-data"))
}

/// How far a download is; see [`fetch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Path in the manifest.
    pub file: &'a str,
    /// Position of the file, from 0.
    pub index: usize,
    /// Files in the manifest.
    pub files: usize,
    /// The try, from 1.
    pub attempt: u32,
    /// Bytes received in this try.
    pub received: u64,
    /// Bytes declared.
    pub total: u64,
}

/// How a file came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchStatus {
    /// It was there and its size and digest are right; nothing was sent over the network.
    AlreadyVerified,
    /// It was downloaded and verified.
    Downloaded,
}

/// A file that is in place and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedFile {
    /// Where it is.
    pub path: PathBuf,
    /// How it came there.
    pub status: FetchStatus,
}

/// Brings every file of `manifest` into `cache_dir/<name>/`, in order, and reports progress.
///
/// The callback is called at the start of each try and after each piece received.
///
/// # Errors
/// [`FetchError`]; files already finished stay. No unverified file is left, under any name.
pub fn fetch(
    manifest: &Manifest,
    cache_dir: &Path,
    options: &FetchOptions,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> Result<Vec<FetchedFile>, FetchError> {
    manifest.check()?;
    let mut done = Vec::with_capacity(manifest.files.len());
    for (index, file) in manifest.files.iter().enumerate() {
        if file.bytes > options.max_file_bytes {
            return Err(FetchError::ManifestField {
                manifest: manifest.name.clone(),
                field: format!("file {}, bytes", index + 1),
                found: file.bytes.to_string(),
                expected: "a size within the limit of the fetch options",
            });
        }
        let target = prepare(cache_dir, &manifest.name, &file.path)?;
        if verified(&target, file)? {
            done.push(FetchedFile {
                path: target,
                status: FetchStatus::AlreadyVerified,
            });
            continue;
        }
        let mut report = |attempt, received| {
            progress(&Progress {
                file: &file.path,
                index,
                files: manifest.files.len(),
                attempt,
                received,
                total: file.bytes,
            });
        };
        download(file, &target, options, &mut report)?;
        done.push(FetchedFile {
            path: target,
            status: FetchStatus::Downloaded,
        });
    }
    Ok(done)
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| FetchError::Io {
        operation,
        path,
        source,
    }
}

/// Makes the folders of a file one by one and refuses symbolic links among them.
fn prepare(cache_dir: &Path, name: &str, path: &str) -> Result<PathBuf, FetchError> {
    fs::create_dir_all(cache_dir).map_err(io_error("make the folder", cache_dir))?;
    let mut at = cache_dir.to_owned();
    let mut parts: Vec<&str> = std::iter::once(name).chain(path.split('/')).collect();
    let last = parts.pop().unwrap_or_default();
    let link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_symlink());
    let outside = |path: PathBuf| FetchError::OutsideCache {
        path,
        cache: cache_dir.to_owned(),
    };
    for part in parts {
        at.push(part);
        if link(&at) {
            return Err(outside(at));
        }
        match fs::create_dir(&at) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error("make the folder", &at)(error)),
        }
    }
    at.push(last);
    if link(&at) { Err(outside(at)) } else { Ok(at) }
}

fn verified(target: &Path, file: &ManifestFile) -> Result<bool, FetchError> {
    match fs::metadata(target) {
        Ok(meta) if meta.is_file() && meta.len() == file.bytes => {
            let (sha256, _) = sha256_file(target).map_err(io_error("read", target))?;
            Ok(sha256 == file.sha256)
        }
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("inspect", target)(error)),
    }
}

/// All tries of one file.
fn download(
    file: &ManifestFile,
    target: &Path,
    options: &FetchOptions,
    report: &mut dyn FnMut(u32, u64),
) -> Result<(), FetchError> {
    let tries = options.max_tries.max(1);
    let mut attempt = 1;
    loop {
        report(attempt, 0);
        let error = match try_once(file, target, options, &mut |received| {
            report(attempt, received)
        }) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if !may_pass(&error) {
            return Err(error);
        }
        match pause(&error, attempt, options) {
            Some(pause) if attempt < tries => std::thread::sleep(pause),
            _ => {
                return Err(FetchError::GaveUp {
                    tries: attempt,
                    last: Box::new(error),
                });
            }
        }
        attempt += 1;
    }
}

/// Whether another try may succeed.
fn may_pass(error: &FetchError) -> bool {
    match error {
        FetchError::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
        FetchError::Transport { .. } | FetchError::Truncated { .. } => true,
        _ => false,
    }
}

/// Pause before the next try, `None` if the server asks for more than the longest one.
fn pause(error: &FetchError, attempt: u32, options: &FetchOptions) -> Option<Duration> {
    let doubled = options
        .backoff
        .saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
    let jitter = 0.5 + 0.5 * unit(options.seed.wrapping_add(u64::from(attempt)));
    let own = doubled.min(options.max_pause).mul_f64(jitter);
    match error {
        FetchError::Status {
            retry_after: Some(seconds),
            ..
        } => {
            let asked = Duration::from_secs(*seconds);
            (asked <= options.max_pause).then_some(asked.max(own))
        }
        _ => Some(own),
    }
}

/// A number in `0..1` from a counter (SplitMix64, Steele et al. 2014).
fn unit(counter: u64) -> f64 {
    let mut z = counter
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Removes a temporary file unless it was renamed away.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Nothing to do about a failure here, and after the rename there is nothing to remove.
        let _ = fs::remove_file(&self.0);
    }
}

fn try_once(
    file: &ManifestFile,
    target: &Path,
    options: &FetchOptions,
    received: &mut dyn FnMut(u64),
) -> Result<(), FetchError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut response = open(&file.url, options)?;
    let url = &file.url;
    let announced = response.body().content_length();
    if let Some(found) = announced.filter(|found| *found != file.bytes) {
        return Err(FetchError::WrongSize {
            url: url.clone(),
            expected: file.bytes,
            found,
        });
    }
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let path = target.with_file_name(format!(".{name}.{}.{number}.part", std::process::id()));
    let mut out = File::create_new(&path).map_err(io_error("create", &path))?;
    let temporary = Temporary(path.clone());
    let mut reader = response.body_mut().as_reader();
    let mut hasher = StreamingSha256::default();
    let mut buffer = vec![0_u8; 1 << 16];
    loop {
        let piece = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(FetchError::Transport {
                    url: url.clone(),
                    reason: error.to_string(),
                });
            }
            Err(_) => {
                return Err(FetchError::Truncated {
                    url: url.clone(),
                    expected: file.bytes,
                    found: hasher.bytes(),
                });
            }
        };
        hasher.update(piece);
        if hasher.bytes() > file.bytes {
            return Err(FetchError::WrongSize {
                url: url.clone(),
                expected: file.bytes,
                found: hasher.bytes(),
            });
        }
        out.write_all(piece).map_err(io_error("write", &path))?;
        received(hasher.bytes());
    }
    if hasher.bytes() < file.bytes {
        return Err(FetchError::Truncated {
            url: url.clone(),
            expected: file.bytes,
            found: hasher.bytes(),
        });
    }
    let found = hasher.finish();
    if found != file.sha256 {
        return Err(FetchError::WrongHash {
            url: url.clone(),
            expected: file.sha256.clone(),
            found,
        });
    }
    out.sync_all().map_err(io_error("flush", &path))?;
    drop(out);
    fs::rename(&path, target).map_err(io_error("rename", &path))?;
    drop(temporary);
    sync_directory(target)
}

/// Flushes the rename itself.
#[cfg(unix)]
fn sync_directory(target: &Path) -> Result<(), FetchError> {
    match target.parent() {
        Some(dir) => File::open(dir)
            .and_then(|d| d.sync_all())
            .map_err(io_error("flush the folder", dir)),
        None => Ok(()),
    }
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> Result<(), FetchError> {
    Ok(())
}

/// Sends the request and follows redirects, each checked like the first address.
fn open(
    first: &str,
    options: &FetchOptions,
) -> Result<ureq::http::Response<ureq::Body>, FetchError> {
    let invalid = |url: &str, error: url::ParseError| FetchError::Refused {
        url: url.escape_debug().to_string(),
        reason: error.to_string(),
    };
    let mut url = Url::parse(first).map_err(|error| invalid(first, error))?;
    let loopback_allowed = options.allow_private || is_loopback_host(&url);
    let agent = agent(options);
    for _ in 0..=options.max_redirects {
        check_url(&url, loopback_allowed, options)?;
        let response = agent
            .get(url.as_str())
            .call()
            .map_err(|error| transport_error(&url, error))?;
        let header = |name| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        match response.status().as_u16() {
            200 => return Ok(response),
            status @ (301 | 302 | 303 | 307 | 308) => {
                let Some(location) = header(header::LOCATION) else {
                    return Err(FetchError::Status {
                        url: url.into(),
                        status,
                        retry_after: None,
                    });
                };
                url = url
                    .join(location)
                    .map_err(|error| invalid(location, error))?;
            }
            status => {
                let retry_after = header(header::RETRY_AFTER).and_then(|v| v.trim().parse().ok());
                return Err(FetchError::Status {
                    url: url.into(),
                    status,
                    retry_after,
                });
            }
        }
    }
    Err(FetchError::TooManyRedirects {
        url: first.to_owned(),
        limit: options.max_redirects,
    })
}

fn agent(options: &FetchOptions) -> ureq::Agent {
    let proxy = if options.use_env_proxy {
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
        .user_agent(concat!("asterism-datasets/", env!("CARGO_PKG_VERSION")))
        .max_response_header_size(16 * 1024)
        .timeout_connect(Some(options.connect_timeout))
        .timeout_global(Some(options.total_timeout))
        .build();
    let resolver = CheckedResolver {
        inner: DefaultResolver::default(),
        check: !options.allow_private && !proxied,
    };
    ureq::Agent::with_parts(config, DefaultConnector::default(), resolver)
}

fn transport_error(url: &Url, error: ureq::Error) -> FetchError {
    match error {
        ureq::Error::Other(inner) if inner.is::<RefusedAddress>() => FetchError::Refused {
            url: url.to_string(),
            reason: inner.to_string(),
        },
        other => FetchError::Transport {
            url: url.to_string(),
            reason: other.to_string(),
        },
    }
}

/// The rules that need no name resolution.
fn check_url(url: &Url, loopback_allowed: bool, options: &FetchOptions) -> Result<(), FetchError> {
    let refuse = |reason: &str| {
        Err(FetchError::Refused {
            url: url.to_string(),
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
    if let Some(hosts) = &options.allowed_hosts
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
        Some(ip) if !loopback && !options.allow_private && !is_public(ip) => {
            refuse("the address is not a public one")
        }
        _ => Ok(()),
    }
}

/// `localhost` or a literal loopback address.
fn is_loopback_host(url: &Url) -> bool {
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
fn is_public(ip: IpAddr) -> bool {
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
struct RefusedAddress {
    host: String,
    address: IpAddr,
    what: &'static str,
}

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
struct CheckedResolver {
    inner: DefaultResolver,
    check: bool,
}

impl Resolver for CheckedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let addresses = self.inner.resolve(uri, config, timeout)?;
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

    fn manifest_with(path: &str) -> String {
        format!(
            "name = \"x\"\ntitle = \"t\"\nsource = \"s\"\nlicence = \"l\"\n[[files]]\npath = {path:?}\n\
             url = \"https://example.org/f\"\nbytes = 3\nsha256 = \"{}\"\n",
            "0".repeat(64)
        )
    }

    #[test]
    fn built_in_manifests_parse() {
        for name in Manifest::built_in_names() {
            let manifest = Manifest::built_in(name).unwrap();
            assert_eq!(manifest.name, name);
            assert!(
                manifest
                    .files
                    .iter()
                    .all(|file| file.url.starts_with("https://"))
            );
            let paths: Vec<&str> = manifest
                .files
                .iter()
                .map(|file| file.path.as_str())
                .collect();
            assert_eq!(paths, ["train.tsv", "test.tsv"]);
        }
        let error = Manifest::built_in("nope").unwrap_err();
        assert_eq!(error.to_string(), "no manifest `nope`; known: clinc, hwu64");
    }

    #[test]
    fn paths_that_leave_the_folder_are_refused() {
        for path in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a/./b",
            "a//b",
            "a/",
            "C:/x",
            "c:x",
            r"a\b",
            r"\\host\share",
            "a\nb",
            "nul",
            "NUL.txt",
            "dir/COM1.tsv",
            "x.",
            "x ",
            " x",
            "a*b",
            "..",
        ] {
            let error = Manifest::parse(&manifest_with(path)).unwrap_err();
            assert!(
                matches!(&error, FetchError::ManifestField { field, .. } if field == "file 1, path"),
                "{path:?}: {error}"
            );
        }
        for path in ["a", "a/b.tsv", ".hidden", "a..b", "console.txt", "ü/x"] {
            Manifest::parse(&manifest_with(path)).unwrap();
        }
    }

    #[test]
    fn bad_manifest_fields_are_refused() {
        let good = manifest_with("a");
        for (from, to, field) in [
            ("name = \"x\"", "name = \"../x\"", "name"),
            ("name = \"x\"", "name = \"\"", "name"),
            ("bytes = 3", "bytes = 0", "file 1, bytes"),
            ("https://example.org/f", "example.org/f", "file 1, url"),
            (&"0".repeat(64), "00", "file 1, sha256"),
        ] {
            let error = Manifest::parse(&good.replace(from, to)).unwrap_err();
            assert!(
                matches!(&error, FetchError::ManifestField { field: f, .. } if f == field),
                "{error}"
            );
        }
        let twice = format!(
            "{good}{}",
            &good[good.find("[[").unwrap()..].replace("\"a\"", "\"A\"")
        );
        assert!(matches!(
            Manifest::parse(&twice),
            Err(FetchError::ManifestField { .. })
        ));
        for syntax in [
            "name = 3",
            "= =",
            "name = \"x\"",
            &format!("{good}extra = 1\n"),
        ] {
            assert!(matches!(
                Manifest::parse(syntax),
                Err(FetchError::ManifestSyntax { .. })
            ));
        }
        let negative = good.replace("bytes = 3", "bytes = -3");
        assert!(matches!(
            Manifest::parse(&negative),
            Err(FetchError::ManifestSyntax { .. })
        ));
    }

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
        let check = |text: &str, options: &FetchOptions| {
            let url = Url::parse(text).unwrap();
            check_url(&url, false, options).map_err(|error| error.to_string())
        };
        let standard = FetchOptions::default();
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
            assert!(check(text, &standard).is_err(), "{text}");
        }
        let private = FetchOptions {
            allow_private: true,
            ..FetchOptions::default()
        };
        assert!(check("https://10.0.0.1/x", &private).is_ok());
        let listed = FetchOptions {
            allowed_hosts: Some(vec!["Example.org".to_owned()]),
            ..FetchOptions::default()
        };
        assert!(check("https://example.org/x", &listed).is_ok());
        assert!(check("https://example.org.evil.net/x", &listed).is_err());
    }

    #[test]
    fn pauses_grow_obey_the_server_and_have_a_limit() {
        let options = FetchOptions::default();
        let broken = FetchError::Transport {
            url: String::new(),
            reason: String::new(),
        };
        let busy = |retry_after| FetchError::Status {
            url: String::new(),
            status: 429,
            retry_after,
        };
        for attempt in 1..=40 {
            let full = options.backoff.saturating_mul(1 << (attempt - 1).min(20));
            let full = full.min(options.max_pause);
            let got = pause(&broken, attempt, &options).unwrap();
            assert!(got >= full / 2 && got <= full, "{attempt}: {got:?}");
        }
        assert_eq!(
            pause(&busy(Some(7)), 1, &options),
            Some(Duration::from_secs(7))
        );
        assert_eq!(pause(&busy(Some(61)), 1, &options), None);
        assert_eq!(pause(&busy(None), 2, &options), pause(&broken, 2, &options));
    }

    proptest! {
        #[test]
        fn safe_paths_stay_inside(path in "[a-c./\\\\: ]{0,12}") {
            if is_safe_relative(&path) {
                let joined = Path::new("base").join(&path);
                prop_assert!(joined.starts_with("base"));
                let plain = joined.components().all(|c| matches!(c, std::path::Component::Normal(_)));
                prop_assert!(plain);
            }
        }

        #[test]
        fn manifests_never_panic(text in "\\PC{0,80}") {
            let _ = Manifest::parse(&text);
        }
    }
}
