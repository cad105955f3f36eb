//! Verified downloads described by a manifest of URL, size and SHA-256.
//!
//! Rules, each with a test:
//!
//! * where connections may go, time limits and pauses between tries are those of the crate `web`;
//! * never more bytes than declared;
//! * a file is written under a temporary name, flushed to disk, checked for size and digest, and
//!   renamed: the final name never holds anything unverified. What is there and verifies is kept;
//! * file names are relative, without `..`, and no symbolic link is followed below the cache folder.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use crate::error::FetchError;
use crate::hash::{StreamingSha256, is_sha256_hex, sha256_file};

/// How the downloads name themselves to servers.
const USER_AGENT: &str = concat!("asterism-datasets/", env!("CARGO_PKG_VERSION"));

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

impl FetchOptions {
    fn rules(&self) -> web::Rules {
        web::Rules {
            connect_timeout: self.connect_timeout,
            total_timeout: self.total_timeout,
            max_redirects: self.max_redirects,
            allow_private: self.allow_private,
            allowed_hosts: self.allowed_hosts.clone(),
            use_env_proxy: self.use_env_proxy,
        }
    }

    fn retries(&self) -> web::Retries {
        web::Retries {
            max_tries: self.max_tries,
            backoff: self.backoff,
            max_pause: self.max_pause,
            seed: self.seed,
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
pub(crate) fn is_safe_relative(path: &str) -> bool {
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
    let downloads = Downloads::new(options, None);
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
        let target = prepare(cache_dir, &format!("{}/{}", manifest.name, file.path))?;
        if verified(&target, file.bytes, &file.sha256)? {
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
        let remote = Remote {
            url: &file.url,
            bytes: Some(file.bytes),
            sha256: Some(&file.sha256),
            limit: file.bytes,
        };
        downloads.file(&remote, &target, &|_| Ok(Announced::default()), &mut report)?;
        done.push(FetchedFile {
            path: target,
            status: FetchStatus::Downloaded,
        });
    }
    Ok(done)
}

pub(crate) fn io_error(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| FetchError::Io {
        operation,
        path,
        source,
    }
}

/// Makes the folders of a file one by one and refuses symbolic links among them. `path` is a safe
/// relative one.
pub(crate) fn prepare(cache_dir: &Path, path: &str) -> Result<PathBuf, FetchError> {
    fs::create_dir_all(cache_dir).map_err(io_error("make the folder", cache_dir))?;
    let mut at = cache_dir.to_owned();
    let mut parts: Vec<&str> = path.split('/').collect();
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

/// Whether a file is there with this size and digest.
fn verified(target: &Path, bytes: u64, sha256: &str) -> Result<bool, FetchError> {
    match fs::metadata(target) {
        Ok(meta) if meta.is_file() && meta.len() == bytes => {
            let (found, _) = sha256_file(target).map_err(io_error("read", target))?;
            Ok(found == sha256)
        }
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("inspect", target)(error)),
    }
}

/// A file on a server and what is known about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remote<'a> {
    pub(crate) url: &'a str,
    /// Exact size, if it is known beforehand.
    pub(crate) bytes: Option<u64>,
    /// Digest, if it is known beforehand.
    pub(crate) sha256: Option<&'a str>,
    /// Never more bytes than these.
    pub(crate) limit: u64,
}

/// What the head of an answer says about the body.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    pub(crate) bytes: Option<u64>,
    pub(crate) sha256: Option<String>,
}

/// Size and digest of a file that was received.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// Asks servers, again and again where that may help.
#[derive(Debug)]
pub(crate) struct Downloads<'a> {
    client: web::Client,
    retries: web::Retries,
    key: Option<&'a web::ApiKey>,
}

impl<'a> Downloads<'a> {
    pub(crate) fn new(options: &FetchOptions, key: Option<&'a web::ApiKey>) -> Self {
        Self {
            client: web::Client::new(options.rules(), USER_AGENT),
            retries: options.retries(),
            key,
        }
    }

    /// Downloads a file, verifies it and gives it its name. `announced` reads the head of the answer;
    /// `report` gets the try and the bytes received in it.
    pub(crate) fn file(
        &self,
        remote: &Remote<'_>,
        target: &Path,
        announced: &dyn Fn(&web::Response) -> Result<Announced, FetchError>,
        report: &mut dyn FnMut(u32, u64),
    ) -> Result<Received, FetchError> {
        self.tries(|attempt| {
            report(attempt, 0);
            let response = self.get(remote.url)?;
            let announced = announced(&response)?;
            receive(remote, target, response, announced, &mut |received| {
                report(attempt, received);
            })
        })
    }

    /// A body of at most `limit` bytes.
    pub(crate) fn body(&self, url: &str, limit: u64) -> Result<Vec<u8>, FetchError> {
        self.tries(|_| Ok(self.get(url)?.read(limit)?))
    }

    fn get(&self, url: &str) -> Result<web::Response, FetchError> {
        let mut request = web::Request::get(url);
        if let Some(key) = &self.key {
            request = request.bearer(key);
        }
        let response = self.client.send(&request)?;
        if response.status() == 200 {
            return Ok(response);
        }
        Err(FetchError::Status {
            url: response.url().to_string(),
            status: response.status(),
            retry_after: response.retry_after(),
        })
    }

    fn tries<T>(
        &self,
        mut once: impl FnMut(u32) -> Result<T, FetchError>,
    ) -> Result<T, FetchError> {
        let mut attempt = 1;
        loop {
            let error = match once(attempt) {
                Err(error) if may_pass(&error) => error,
                outcome => return outcome,
            };
            let retry_after = match &error {
                FetchError::Status { retry_after, .. } => *retry_after,
                _ => None,
            };
            match self.retries.pause(attempt, retry_after) {
                Some(pause) => std::thread::sleep(pause),
                None => {
                    return Err(FetchError::GaveUp {
                        tries: attempt,
                        last: Box::new(error),
                    });
                }
            }
            attempt += 1;
        }
    }
}

/// Whether another try may succeed.
fn may_pass(error: &FetchError) -> bool {
    match error {
        FetchError::Status { status, .. } => web::status_may_pass(*status),
        FetchError::Transport { .. } | FetchError::Truncated { .. } => true,
        _ => false,
    }
}

/// Removes a temporary file unless it was renamed away.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Nothing to do about a failure here, and after the rename there is nothing to remove.
        let _ = fs::remove_file(&self.0);
    }
}

/// A file under a temporary name, which is removed unless [`Self::finish`] gives it its own.
#[derive(Debug)]
pub(crate) struct PartFile {
    out: File,
    temporary: Temporary,
    target: PathBuf,
}

impl PartFile {
    pub(crate) fn create(target: &Path) -> Result<Self, FetchError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = target.with_file_name(format!(".{name}.{}.{number}.part", std::process::id()));
        Ok(Self {
            out: File::create_new(&path).map_err(io_error("create", &path))?,
            temporary: Temporary(path),
            target: target.to_owned(),
        })
    }

    pub(crate) fn write(&mut self, piece: &[u8]) -> Result<(), FetchError> {
        let written = self.out.write_all(piece);
        written.map_err(io_error("write", &self.temporary.0))
    }

    /// Flushes everything to the disk, then moves it to its place.
    pub(crate) fn finish(self) -> Result<(), FetchError> {
        let path = &self.temporary.0;
        self.out.sync_all().map_err(io_error("flush", path))?;
        // Some systems rename no file that is open.
        drop(self.out);
        fs::rename(path, &self.target).map_err(io_error("rename", path))?;
        sync_directory(&self.target)
    }
}

/// Reads a body into a file, which gets its name once size and digest are right.
fn receive(
    remote: &Remote<'_>,
    target: &Path,
    response: web::Response,
    announced: Announced,
    received: &mut dyn FnMut(u64),
) -> Result<Received, FetchError> {
    let url = || remote.url.to_owned();
    let wrong_hash = |expected: &str, found: String| FetchError::WrongHash {
        url: url(),
        expected: expected.to_owned(),
        found,
    };
    let mut bytes = remote.bytes;
    for found in [announced.bytes, response.content_length()]
        .into_iter()
        .flatten()
    {
        match bytes {
            Some(expected) if found != expected => {
                return Err(FetchError::WrongSize {
                    url: url(),
                    expected,
                    found,
                });
            }
            _ => bytes = Some(found),
        }
    }
    let sha256 = match (remote.sha256, announced.sha256) {
        (Some(expected), Some(found)) if found != expected => {
            return Err(wrong_hash(expected, found));
        }
        (expected, announced) => expected.map(str::to_owned).or(announced),
    };
    let limit = bytes.unwrap_or(remote.limit).min(remote.limit);
    let mut out = PartFile::create(target)?;
    let mut hasher = StreamingSha256::default();
    let body = response.read_pieces(limit, |piece| {
        hasher.update(piece);
        out.write(piece)?;
        received(hasher.bytes());
        Ok(())
    });
    match (body, bytes) {
        // A body that breaks off is reported with its size just below.
        (Ok(_), _) | (Err(FetchError::Truncated { .. }), Some(_)) => {}
        (Err(FetchError::TooLarge { found, .. }), Some(expected)) if expected <= remote.limit => {
            return Err(FetchError::WrongSize {
                url: url(),
                expected,
                found,
            });
        }
        (Err(error), _) => return Err(error),
    }
    if let Some(expected) = bytes.filter(|bytes| hasher.bytes() < *bytes) {
        return Err(FetchError::Truncated {
            url: url(),
            expected,
            found: hasher.bytes(),
        });
    }
    let found = Received {
        bytes: hasher.bytes(),
        sha256: hasher.finish(),
    };
    match sha256 {
        Some(expected) if found.sha256 != expected => Err(wrong_hash(&expected, found.sha256)),
        _ => {
            out.finish()?;
            Ok(found)
        }
    }
}

/// Flushes the rename itself.
#[cfg(unix)]
pub(crate) fn sync_directory(target: &Path) -> Result<(), FetchError> {
    match target.parent() {
        Some(dir) => File::open(dir)
            .and_then(|d| d.sync_all())
            .map_err(io_error("flush the folder", dir)),
        None => Ok(()),
    }
}

#[cfg(not(unix))]
pub(crate) fn sync_directory(_: &Path) -> Result<(), FetchError> {
    Ok(())
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
