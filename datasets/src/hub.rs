//! Model directories from a hub, in the layout of Hugging Face, pinned to a commit.
//!
//! ```text
//! GET {hub}/api/models/{model}/revision/{revision}?blobs=true    the commit, names, sizes, digests of large files
//! GET {hub}/{model}/resolve/{commit}/{file}                      a file
//! ```
//!
//! Rules, each with a test:
//!
//! * only files that a model directory is made of, by name ([`is_model_file`]); never a pickle file;
//! * a listing with a name that leaves the folder is refused as a whole;
//! * branches and tags are turned into the commit they stand for, once; files are asked for by commit;
//! * size and SHA-256 of a file are compared with the listing, the headers `X-Linked-Size`,
//!   `X-Linked-Etag` and `X-Repo-Commit`, and the digests that the caller has, as far as they are given;
//! * [`SOURCE_FILE`] in the directory holds the commit and the SHA-256 of every file. Once it is there,
//!   the directory is only ever compared with it; a file that differs is an error;
//! * a directory gets its name when it is complete. Until then it is called `DIR.unfinished`, and the
//!   next call takes up the files in it that verify.
//!
//! Connections, time limits, tries and the writing of files are those of [`mod@crate::fetch`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;
use web::ApiKey;

use crate::error::{FetchError, HubError};
use crate::fetch::{
    Announced, Downloads, FetchOptions, FetchStatus, PartFile, Progress, Remote, io_error, prepare,
    sync_directory,
};
use crate::hash::{is_sha256_hex, sha256_file};

/// The hub that is asked unless another one is named.
pub const DEFAULT_HUB: &str = "https://huggingface.co";

/// File of a model directory that says where it comes from: a [`Source`].
pub const SOURCE_FILE: &str = "asterism-source.json";

/// Value of `schema` in [`SOURCE_FILE`].
pub const SOURCE_SCHEMA: &str = "asterism/source/1";

/// Revision that is asked for unless another one is named.
const DEFAULT_REVISION: &str = "main";

/// Largest listing, in bytes.
const MAX_LISTING: u64 = 8 << 20;

/// Largest file that holds no weights, in bytes.
const MAX_SMALL_FILE: u64 = 64 << 20;

/// Longest name of a model or a revision.
const MAX_NAME: usize = 200;

/// Files that a model directory is made of, and the terms they come under.
const MODEL_FILES: [&str; 18] = [
    "LICENSE",
    "LICENSE.md",
    "LICENSE.txt",
    "NOTICE",
    "README.md",
    "asterism.json",
    "asterism.safetensors",
    "config.json",
    "config_sentence_transformers.json",
    "merges.txt",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
];

/// Whether a file of this name is downloaded: one of a fixed list, or the settings or safetensors
/// weights of a numbered module (`1_Pooling/config.json`, `2_Dense/model.safetensors`).
///
/// ```
/// use datasets::hub::is_model_file;
///
/// assert!(is_model_file("model.safetensors") && is_model_file("1_Pooling/config.json"));
/// assert!(!is_model_file("pytorch_model.bin") && !is_model_file("../config.json"));
/// ```
pub fn is_model_file(name: &str) -> bool {
    if MODEL_FILES.contains(&name) {
        return true;
    }
    let Some((folder, file)) = name.split_once('/') else {
        return false;
    };
    let Some((number, module)) = folder.split_once('_') else {
        return false;
    };
    let numbered =
        (1..=2).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    numbered
        && match module {
            "Pooling" | "Normalize" => file == "config.json",
            "Dense" => matches!(file, "config.json" | "model.safetensors"),
            _ => false,
        }
}

/// What is asked of a hub.
#[derive(Debug)]
pub struct HubRequest {
    /// Address of the hub.
    pub hub: String,
    /// `OWNER/NAME`, or a single name.
    pub model: String,
    /// Branch, tag or commit. Without it `main`, or what the directory is pinned to.
    pub revision: Option<String>,
    /// Sent to the hub, and not to where it redirects.
    pub key: Option<ApiKey>,
    /// SHA-256 by file name. Each of these files must be part of the model and agree.
    pub sha256: BTreeMap<String, String>,
    /// Sends nothing: compares a directory with its pin.
    pub offline: bool,
    /// Limits and permissions.
    pub options: FetchOptions,
}

impl HubRequest {
    /// Asks [`DEFAULT_HUB`] for a model: weights of up to 16 GiB, an hour for each file.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            hub: DEFAULT_HUB.to_owned(),
            model: model.into(),
            revision: None,
            key: None,
            sha256: BTreeMap::new(),
            offline: false,
            options: FetchOptions {
                total_timeout: Duration::from_secs(3600),
                max_file_bytes: 16 << 30,
                ..FetchOptions::default()
            },
        }
    }

    fn check(&self) -> Result<Url, HubError> {
        let wrong = |field, found: &str, expected| {
            Err(HubError::Request {
                field,
                found: found.chars().take(MAX_NAME).collect::<String>(),
                expected,
            })
        };
        if !is_model_name(&self.model) {
            return wrong("model", &self.model, "OWNER/NAME of a-z, A-Z, 0-9, -, _, .");
        }
        if let Some(revision) = &self.revision
            && !is_revision(revision)
        {
            return wrong("revision", revision, "a branch, a tag or a commit");
        }
        let hub = Url::parse(&self.hub).ok().filter(|url| {
            !url.cannot_be_a_base() && url.query().is_none() && url.fragment().is_none()
        });
        match hub {
            Some(url) => Ok(url),
            None => wrong("hub", &self.hub, "an absolute URL without ? and #"),
        }
    }
}

/// One or two names of letters, digits, `-`, `_`, `.`, as hubs allow them.
fn is_model_name(text: &str) -> bool {
    let plain = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && !name.contains("..")
            && !name.ends_with('.')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    text.len() <= MAX_NAME && text.split('/').count() <= 2 && text.split('/').all(plain)
}

fn is_revision(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_NAME
        && text
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
        && !text.contains(['\\', '?', '#', ' '])
        && !text.chars().any(char::is_control)
}

/// Whether this is the name of a commit: 40 hexadecimal digits (SHA-1), or 64 (SHA-256).
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether a name of a listing leads out of the folder it is joined to.
fn leaves_folder(name: &str) -> bool {
    name.contains('\\')
        || name.chars().any(char::is_control)
        || name
            .split('/')
            .any(|part| part.is_empty() || part == "." || part == "..")
        // A drive letter.
        || name.as_bytes().get(1) == Some(&b':')
}

/// A file of a model as the hub lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedFile {
    /// Name, with `/` between folders.
    pub path: String,
    /// Size in bytes, where the hub says it.
    pub bytes: Option<u64>,
    /// Digest, where the hub or the caller says it.
    pub sha256: Option<String>,
}

/// What [`fetch_model`] would download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Address of the hub.
    pub hub: String,
    /// `OWNER/NAME`.
    pub model: String,
    /// What was asked for.
    pub revision: String,
    /// What it stands for.
    pub commit: String,
    /// The files, by name.
    pub files: Vec<PlannedFile>,
}

/// Size and digest of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 as 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// Where a model directory comes from: the content of [`SOURCE_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// [`SOURCE_SCHEMA`].
    pub schema: String,
    /// Address of the hub.
    pub hub: String,
    /// `OWNER/NAME`.
    pub model: String,
    /// What was asked for: a branch, a tag or a commit.
    pub revision: String,
    /// What that stood for.
    pub commit: String,
    /// The files, by name.
    pub files: BTreeMap<String, Pinned>,
}

impl Source {
    /// Reads the pin of a directory; `None` if it has none.
    ///
    /// # Errors
    /// [`FetchError::Io`] (in [`HubError::Fetch`]), or [`HubError::Source`] for a file that is no pin or
    /// names files that no model directory has.
    pub fn read(dir: &Path) -> Result<Option<Self>, HubError> {
        let path = dir.join(SOURCE_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // A file stands where the directory would be.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error).into()),
        };
        let wrong = |problem: String| HubError::Source {
            path: path.clone(),
            problem,
        };
        let source: Self = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if source.schema != SOURCE_SCHEMA {
            return Err(wrong(format!(
                "schema: expected {SOURCE_SCHEMA}, found {}",
                source.schema.escape_debug()
            )));
        }
        if !is_model_name(&source.model) || !is_commit(&source.commit) {
            return Err(wrong(
                "model, commit: expected OWNER/NAME and 40 or 64 hexadecimal digits".to_owned(),
            ));
        }
        for (name, file) in &source.files {
            if !is_model_file(name) || !is_sha256_hex(&file.sha256) {
                return Err(wrong(format!(
                    "files: `{}` is no file of a model, or its SHA-256 is none",
                    name.escape_debug()
                )));
            }
        }
        Ok(Some(source))
    }

    fn write(&self, dir: &Path) -> Result<(), HubError> {
        let path = dir.join(SOURCE_FILE);
        let mut text = serde_json::to_string_pretty(self).map_err(|error| HubError::Source {
            path: path.clone(),
            problem: error.to_string(),
        })?;
        text.push('\n');
        let mut out = PartFile::create(&path)?;
        out.write(text.as_bytes())?;
        Ok(out.finish()?)
    }
}

/// What [`fetch_model`] has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedModel {
    /// The pin of the directory.
    pub source: Source,
    /// How each file came to be there, by name.
    pub status: BTreeMap<String, FetchStatus>,
}

impl Plan {
    fn ask(
        request: &HubRequest,
        hub: &Url,
        revision: &str,
        downloads: &Downloads<'_>,
    ) -> Result<Self, HubError> {
        let listing = Listing::ask(request, hub, revision, downloads)?;
        let mut files: BTreeMap<String, PlannedFile> = BTreeMap::new();
        let mut others: BTreeSet<String> = BTreeSet::new();
        for Sibling {
            rfilename: name,
            size,
            lfs,
        } in listing.siblings
        {
            if leaves_folder(&name) {
                return Err(HubError::Listing {
                    model: request.model.clone(),
                    problem: format!(
                        "the file name `{}` leaves the folder",
                        name.chars()
                            .take(MAX_NAME)
                            .collect::<String>()
                            .escape_debug()
                    ),
                });
            }
            if !is_model_file(&name) {
                others.insert(name);
                continue;
            }
            let (large_size, sha256) = lfs.map_or((None, None), |lfs| (lfs.size, lfs.sha256));
            let sha256 = sha256.filter(|text| is_sha256_hex(text));
            let file = PlannedFile {
                bytes: large_size.or(size),
                sha256: agreed(request, &name, sha256)?,
                path: name.clone(),
            };
            let limit = size_limit(&name, &request.options);
            if let Some(found) = file.bytes.filter(|bytes| *bytes > limit) {
                return Err(FetchError::TooLarge {
                    url: name,
                    limit,
                    found,
                }
                .into());
            }
            if files.insert(name.clone(), file).is_some() {
                return Err(HubError::Listing {
                    model: request.model.clone(),
                    problem: format!("the file `{name}` stands there twice"),
                });
            }
        }
        complete(request, &files, &others)?;
        Ok(Self {
            hub: hub.as_str().trim_end_matches('/').to_owned(),
            model: request.model.clone(),
            revision: revision.to_owned(),
            commit: listing.sha,
            files: files.into_values().collect(),
        })
    }
}

/// The digest of a file that the caller and another source agree on.
fn agreed(
    request: &HubRequest,
    name: &str,
    other: Option<String>,
) -> Result<Option<String>, HubError> {
    match (request.sha256.get(name), other) {
        (Some(expected), Some(found)) if *expected != found => Err(FetchError::WrongHash {
            url: name.to_owned(),
            expected: expected.clone(),
            found,
        }
        .into()),
        (Some(expected), _) => Ok(Some(expected.clone())),
        (None, other) => Ok(other),
    }
}

/// Largest size of a file of this name.
fn size_limit(name: &str, options: &FetchOptions) -> u64 {
    if name.ends_with(".safetensors") {
        options.max_file_bytes
    } else {
        options.max_file_bytes.min(MAX_SMALL_FILE)
    }
}

/// Whether the files make a model.
fn complete(
    request: &HubRequest,
    files: &BTreeMap<String, PlannedFile>,
    others: &BTreeSet<String>,
) -> Result<(), HubError> {
    let model = || request.model.clone();
    let missing = |file: &str| {
        Err(HubError::Missing {
            model: model(),
            file: file.to_owned(),
        })
    };
    let has = |name: &str| files.contains_key(name);
    if !has("config.json") {
        return missing("config.json");
    }
    if !has("model.safetensors") {
        if others.contains("model.safetensors.index.json") {
            return Err(HubError::Sharded { model: model() });
        }
        let weights = |name: &&String| {
            [".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx"]
                .iter()
                .any(|ending| name.ends_with(ending))
        };
        return Err(HubError::NoSafetensors {
            model: model(),
            found: match others.iter().find(weights) {
                Some(name) => format!("`{}`", name.escape_debug()),
                None => "no weights".to_owned(),
            },
        });
    }
    if !(has("tokenizer.json") || has("vocab.txt") || has("vocab.json") && has("merges.txt")) {
        return missing("tokenizer.json");
    }
    match request.sha256.keys().find(|name| !has(name)) {
        Some(name) => missing(name),
        None => Ok(()),
    }
}

/// Asks the hub which commit a revision stands for and which of its files belong to a model directory.
///
/// # Errors
/// [`HubError`]: the hub does not answer or answers something else, a name leaves the folder, there
/// are no weights as safetensors in one file, a file is missing that a model needs or that
/// [`HubRequest::sha256`] names.
pub fn plan_model(request: &HubRequest) -> Result<Plan, HubError> {
    let hub = request.check()?;
    if request.offline {
        return Err(HubError::Offline {
            what: format!("the files of {}", request.model),
        });
    }
    let revision = request.revision.as_deref().unwrap_or(DEFAULT_REVISION);
    let downloads = Downloads::new(&request.options, request.key.as_ref());
    Plan::ask(request, &hub, revision, &downloads)
}

#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Listing {
    fn ask(
        request: &HubRequest,
        hub: &Url,
        revision: &str,
        downloads: &Downloads<'_>,
    ) -> Result<Self, HubError> {
        let parts = ["api", "models"]
            .into_iter()
            .chain(request.model.split('/'))
            .chain(["revision", revision]);
        let mut url = address(hub, parts);
        url.set_query(Some("blobs=true"));
        let body = downloads.body(url.as_str(), MAX_LISTING)?;
        let wrong = |problem: String| HubError::Listing {
            model: request.model.clone(),
            problem,
        };
        let listing: Self =
            serde_json::from_slice(&body).map_err(|error| wrong(error.to_string()))?;
        if !is_commit(&listing.sha) {
            return Err(wrong("`sha` is no commit".to_owned()));
        }
        if is_commit(revision) && listing.sha != revision {
            return Err(wrong(format!(
                "expected the commit {revision}, found {}",
                listing.sha
            )));
        }
        Ok(listing)
    }
}

/// An address below the hub; a part is one segment of the path, whatever is in it.
fn address<'a>(hub: &Url, parts: impl IntoIterator<Item = &'a str>) -> Url {
    let mut url = hub.clone();
    // Fails only for addresses without a path, which were refused.
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(parts);
    }
    url
}

/// Brings a model into the directory `dir`, or compares a directory that has a pin with it. Of a pinned
/// directory only files that are missing are downloaded.
///
/// The callback is called at the start of each try of a file and after each piece received.
///
/// # Errors
/// [`HubError`]. Files already finished stay, in `DIR.unfinished` if the directory is new.
pub fn fetch_model(
    request: &HubRequest,
    dir: &Path,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> Result<FetchedModel, HubError> {
    let hub = request.check()?;
    let downloads = Downloads::new(&request.options, request.key.as_ref());
    if let Some(source) = Source::read(dir)? {
        let job = Job {
            request,
            hub: &hub,
            dir,
            downloads,
        };
        return job.complete_pinned(source, progress);
    }
    if !is_empty(dir)? {
        return Err(HubError::NotEmpty {
            path: dir.to_owned(),
        });
    }
    let plan = plan_model(request)?;
    let staging = staging(dir)?;
    let job = Job {
        request,
        hub: &hub,
        dir: &staging,
        downloads,
    };
    let done = job.fill(&plan, progress)?;
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("replace the folder", dir)(error).into());
        }
        _ => {}
    }
    fs::rename(&staging, dir).map_err(io_error("rename", &staging))?;
    sync_directory(&std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()))?;
    Ok(done)
}

/// Whether nothing would be replaced: no such folder, or nothing in it.
fn is_empty(dir: &Path) -> Result<bool, FetchError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(io_error("list", dir)(error)),
    }
}

/// Where a directory is put together.
fn staging(dir: &Path) -> Result<PathBuf, HubError> {
    match dir.file_name() {
        Some(name) => {
            let mut name = name.to_owned();
            name.push(".unfinished");
            Ok(dir.with_file_name(name))
        }
        None => Err(HubError::Request {
            field: "directory",
            found: dir.display().to_string(),
            expected: "a path that ends in a name",
        }),
    }
}

/// Files on their way into a directory.
struct Job<'a> {
    request: &'a HubRequest,
    hub: &'a Url,
    dir: &'a Path,
    downloads: Downloads<'a>,
}

impl Job<'_> {
    /// Fills an unfinished directory, taking up what an earlier call has left of the same commit.
    fn fill(
        &self,
        plan: &Plan,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<FetchedModel, HubError> {
        let mut source = Source {
            schema: SOURCE_SCHEMA.to_owned(),
            hub: plan.hub.clone(),
            model: plan.model.clone(),
            revision: plan.revision.clone(),
            commit: plan.commit.clone(),
            files: BTreeMap::new(),
        };
        let left = Source::read(self.dir)?;
        match &left {
            None if is_empty(self.dir)? => {}
            None => {
                return Err(HubError::NotEmpty {
                    path: self.dir.to_owned(),
                });
            }
            Some(old) if old.model == source.model && old.commit == source.commit => {}
            // Of another commit nothing can be kept.
            Some(_) => fs::remove_dir_all(self.dir).map_err(io_error("remove", self.dir))?,
        }
        let left = left.map_or_else(BTreeMap::new, |old| old.files);
        fs::create_dir_all(self.dir).map_err(io_error("make the folder", self.dir))?;
        source.write(self.dir)?;
        let mut status = BTreeMap::new();
        for (index, file) in plan.files.iter().enumerate() {
            let kept = match left.get(&file.path) {
                Some(old)
                    if file
                        .sha256
                        .as_ref()
                        .is_none_or(|sha256| *sha256 == old.sha256)
                        && self.state(&file.path)?.as_ref() == Some(old) =>
                {
                    Some(old.clone())
                }
                _ => None,
            };
            let how = match kept {
                Some(_) => FetchStatus::AlreadyVerified,
                None => FetchStatus::Downloaded,
            };
            let pinned = match kept {
                Some(old) => old,
                None => self.download(file, &plan.commit, (index, plan.files.len()), progress)?,
            };
            source.files.insert(file.path.clone(), pinned);
            status.insert(file.path.clone(), how);
            source.write(self.dir)?;
        }
        Ok(FetchedModel { source, status })
    }

    /// Compares a directory with its pin and downloads what is missing.
    fn complete_pinned(
        &self,
        source: Source,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<FetchedModel, HubError> {
        if source.model != self.request.model {
            return Err(HubError::OtherModel {
                path: self.dir.to_owned(),
                pinned: source.model,
                asked: self.request.model.clone(),
            });
        }
        self.check_revision(&source)?;
        for name in self.request.sha256.keys() {
            let Some(pinned) = source.files.get(name) else {
                return Err(HubError::Missing {
                    model: source.model,
                    file: name.clone(),
                });
            };
            agreed(self.request, name, Some(pinned.sha256.clone()))?;
        }
        let mut status = BTreeMap::new();
        let mut missing = Vec::new();
        for (name, pinned) in &source.files {
            match self.state(name)? {
                Some(found) if found == *pinned => {
                    status.insert(name.clone(), FetchStatus::AlreadyVerified);
                }
                Some(found) => {
                    return Err(HubError::Changed {
                        path: self.dir.join(name),
                        expected: pinned.sha256.clone(),
                        found: found.sha256,
                    });
                }
                None => missing.push((name, pinned)),
            }
        }
        for (index, (name, pinned)) in missing.iter().enumerate() {
            if self.request.offline {
                return Err(HubError::Offline {
                    what: format!("`{name}`, which is missing"),
                });
            }
            let file = PlannedFile {
                path: (*name).clone(),
                bytes: Some(pinned.bytes),
                sha256: Some(pinned.sha256.clone()),
            };
            self.download(&file, &source.commit, (index, missing.len()), progress)?;
            status.insert((*name).clone(), FetchStatus::Downloaded);
        }
        Ok(FetchedModel { source, status })
    }

    /// A revision that is named must stand for the commit of the pin.
    fn check_revision(&self, source: &Source) -> Result<(), HubError> {
        let Some(revision) = &self.request.revision else {
            return Ok(());
        };
        let commit = if is_commit(revision) {
            revision.clone()
        } else if self.request.offline {
            // Nobody can be asked; what the directory was made for is fine.
            if *revision == source.revision {
                return Ok(());
            }
            return Err(HubError::Offline {
                what: format!("the commit of `{revision}`"),
            });
        } else {
            Listing::ask(self.request, self.hub, revision, &self.downloads)?.sha
        };
        if commit == source.commit {
            return Ok(());
        }
        Err(HubError::OtherCommit {
            path: self.dir.to_owned(),
            pinned: source.commit.clone(),
            revision: revision.clone(),
            found: commit,
        })
    }

    /// Size and digest of a file of the directory; `None` if it is not there.
    fn state(&self, name: &str) -> Result<Option<Pinned>, FetchError> {
        let path = self.dir.join(name);
        match sha256_file(&path) {
            Ok((sha256, bytes)) => Ok(Some(Pinned { bytes, sha256 })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    fn download(
        &self,
        file: &PlannedFile,
        commit: &str,
        (index, files): (usize, usize),
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<Pinned, HubError> {
        let parts = self
            .request
            .model
            .split('/')
            .chain(["resolve", commit])
            .chain(file.path.split('/'));
        let url = address(self.hub, parts);
        let target = prepare(self.dir, &file.path)?;
        let remote = Remote {
            url: url.as_str(),
            bytes: file.bytes,
            sha256: file.sha256.as_deref(),
            limit: size_limit(&file.path, &self.request.options),
        };
        let received = self.downloads.file(
            &remote,
            &target,
            &|response| announced(response, commit),
            &mut |attempt, received| {
                progress(&Progress {
                    file: &file.path,
                    index,
                    files,
                    attempt,
                    received,
                    total: file.bytes.unwrap_or(0),
                });
            },
        )?;
        Ok(Pinned {
            bytes: received.bytes,
            sha256: received.sha256,
        })
    }
}

/// What the hub itself, not a server it redirects to, says about a file.
fn announced(response: &web::Response, commit: &str) -> Result<Announced, FetchError> {
    if let Some(found) = response.header_of_asked("x-repo-commit")
        && found != commit
    {
        return Err(FetchError::Header {
            url: response.url().to_string(),
            header: "X-Repo-Commit",
            expected: commit.to_owned(),
            found: found.to_owned(),
        });
    }
    // Of large files the tag is the SHA-256; of small ones git's own digest, which is shorter.
    let tag = response
        .header_of_asked("x-linked-etag")
        .or_else(|| response.header_of_asked("etag"))
        .map(|tag| tag.trim_start_matches("W/").trim_matches('"'));
    Ok(Announced {
        bytes: response
            .header_of_asked("x-linked-size")
            .and_then(|size| size.parse().ok()),
        sha256: tag.filter(|tag| is_sha256_hex(tag)).map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;
    use crate::fetch::is_safe_relative;

    #[test]
    fn only_files_of_a_model_directory_are_taken() {
        for name in MODEL_FILES {
            assert!(is_model_file(name) && is_safe_relative(name), "{name}");
        }
        for name in [
            "1_Pooling/config.json",
            "2_Dense/model.safetensors",
            "12_Normalize/config.json",
        ] {
            assert!(is_model_file(name) && is_safe_relative(name), "{name}");
        }
        for name in [
            "",
            "pytorch_model.bin",
            "1_Pooling/model.safetensors",
            "2_Dense/pytorch_model.bin",
            "1_Pooling/../config.json",
            "../config.json",
            "_Pooling/config.json",
            "123_Pooling/config.json",
            "x_Pooling/config.json",
            "1_Code/config.json",
            "1_Pooling/a/config.json",
            "modeling.py",
            "Config.json",
            "onnx/model.onnx",
            SOURCE_FILE,
        ] {
            assert!(!is_model_file(name), "{name}");
        }
    }

    #[test]
    fn names_of_models_revisions_and_commits() {
        for name in ["bert-base-uncased", "a/b", "A0/b.c_d-e", "0/1"] {
            assert!(is_model_name(name), "{name}");
        }
        for name in [
            "", "a/", "/a", "a/b/c", "..", "a/..", "a..b/c", ".a", "a/b.", "a b", "a?b", "a/b#c",
            "ü/x", "-a",
        ] {
            assert!(!is_model_name(name), "{name}");
        }
        for name in ["main", "v1.0", "refs/pr/1", "feature/x"] {
            assert!(is_revision(name), "{name}");
        }
        for name in [
            "", "..", "a/../b", "/a", "a//b", "a\\b", "a?b", "a b", "a\n",
        ] {
            assert!(!is_revision(name), "{name}");
        }
        assert!(is_commit(&"0a".repeat(20)) && is_commit(&"0a".repeat(32)));
        for text in ["", "main", &"0A".repeat(20), &"0a".repeat(19)] {
            assert!(!is_commit(text), "{text}");
        }
    }

    #[test]
    fn parts_of_an_address_stay_parts() {
        let hub = Url::parse("https://example.org/mirror/").unwrap();
        let url = address(&hub, ["api", "a", "refs/pr/1", "x?y#z"]);
        assert_eq!(
            url.as_str(),
            "https://example.org/mirror/api/a/refs%2Fpr%2F1/x%3Fy%23z"
        );
    }

    proptest! {
        #[test]
        fn names_that_are_taken_stay_in_the_folder(name in "[a-c_0-9./\\\\: ]{0,12}|[0-9_]{0,3}(Pooling|Dense)[/.]{0,3}config.json") {
            if is_model_file(&name) {
                prop_assert!(is_safe_relative(&name) && !leaves_folder(&name));
            }
            if is_safe_relative(&name) {
                prop_assert!(!leaves_folder(&name), "{}", name);
            }
        }
    }
}
