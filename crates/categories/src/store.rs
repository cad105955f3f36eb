//! A catalogue and its log in a run directory.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use lockfile::{LockError, LockFile};
use serde::Deserialize;

use crate::catalogue::{Catalogue, SCHEMA};
use crate::edit::Edit;
use crate::error::{CategoryError, StoreError, invalid};
use crate::event::{Entry, Event};
use crate::file_layer::{DiskLayer, FileLayer};
use crate::history::History;

/// Name of the catalogue in a run directory.
pub const CATALOGUE_FILE: &str = "categories.json";
/// Name of the log in a run directory.
pub const LOG_FILE: &str = "categories.log.jsonl";
/// Name of the lock in a run directory.
pub const LOCK_FILE: &str = "categories.lock";

/// What opening a run directory set right after a crash.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Healed {
    /// The last line of the log was not complete; it was cut.
    TornLine {
        /// Its bytes.
        bytes: u64,
    },
    /// `categories.json` was missing or not what the log gives; it was written anew.
    Rewritten {
        /// Its revision before; `None` if there was none or nobody looked.
        from: Option<u64>,
        /// Its revision since.
        to: u64,
    },
}

impl fmt::Display for Healed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TornLine { bytes } => write!(
                formatter,
                "{LOG_FILE} ended in {bytes} bytes of an edit that was never finished; they were cut"
            ),
            Self::Rewritten { from: None, to } => {
                write!(
                    formatter,
                    "{CATALOGUE_FILE} was written from its log, revision {to}"
                )
            }
            Self::Rewritten {
                from: Some(from),
                to,
            } => write!(
                formatter,
                "{CATALOGUE_FILE} stood at revision {from}; it was brought to revision {to} of its log"
            ),
        }
    }
}

/// A catalogue and its log, as read without a lock by [`Store::read`].
#[derive(Clone, PartialEq, Debug)]
pub struct Snapshot {
    /// The catalogue after the last complete line of the log.
    pub catalogue: Catalogue,
    /// The log, oldest first.
    pub log: Vec<Entry>,
}

/// A run directory that this process may edit, and no other as long as the value lives.
///
/// The log is the truth. An edit is a line at its end, flushed to the disk before anything else
/// happens; then `categories.json` is replaced in one step. A crash leaves the log complete, or with
/// the beginning of a line that nobody was told about, and `categories.json` at most one edit
/// behind; opening the directory sets both right.
///
/// # Example
/// ```
/// use categories::{Catalogue, Category, CategoryId, Edit, NameSource, Status, Store};
///
/// let category = |id: u32, name: &str, centroid: [f32; 2]| Category {
///     id: CategoryId(id),
///     name: name.to_owned(),
///     name_source: NameSource::Keywords,
///     coarse: None,
///     keywords: vec![],
///     medoids: vec![],
///     size: 10,
///     coherence: 0.8,
///     nearest: vec![],
///     born: 1,
///     status: Status::Active,
///     centroid: centroid.to_vec(),
/// };
/// let categories = vec![
///     category(0, "card lost", [1.0, 0.0]),
///     category(1, "lost card", [0.8, 0.6]),
/// ];
/// let run = tempfile::tempdir()?;
/// let first = Catalogue::new(2, "", vec![], categories, None)?;
/// let mut store = Store::create(run.path(), first)?;
///
/// let ids = vec![CategoryId(0), CategoryId(1)];
/// store.apply(Edit::Merge { ids, name: Some("lost cards".to_owned()) })?;
/// assert_eq!(store.catalogue().resolve(CategoryId(1), None), Some(CategoryId(2)));
///
/// store.undo()?;
/// assert_eq!(store.catalogue().active().count(), 2);
/// assert_eq!(&store.replay()?, store.catalogue());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Store {
    files: Files,
    history: History,
    /// Bytes of the complete lines of the log.
    log_bytes: u64,
    /// Why a line could not be written, if it could not be taken back either.
    poisoned: Option<String>,
    healed: Vec<Healed>,
    /// Released when it is dropped.
    _lock: LockFile,
}

impl Store {
    /// Begins the history of a run directory. The lists of nearest categories are computed.
    ///
    /// # Errors
    /// A catalogue that breaks a rule or is not at revision 1, a directory that has a catalogue, or
    /// is locked, or cannot be written.
    pub fn create(dir: impl AsRef<Path>, catalogue: Catalogue) -> Result<Self, StoreError> {
        Self::create_with(DiskLayer, dir, catalogue)
    }

    /// [`create`](Self::create) with file operations of your own.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_with(
        layer: impl FileLayer + 'static,
        dir: impl AsRef<Path>,
        mut catalogue: Catalogue,
    ) -> Result<Self, StoreError> {
        catalogue.check()?;
        catalogue.fill_nearest();
        let entry = Entry {
            revision: 1,
            at: now(),
            event: Event::Created { catalogue },
        };
        let line = line(&entry)?;
        let history = History::begin(entry)?;
        let files = Files::new(layer, dir.as_ref());
        files
            .layer
            .create_dir_all(&files.dir)
            .map_err(failed("create", &files.dir))?;
        let lock = files.lock()?;
        for path in [files.log(), files.catalogue()] {
            if files.read(&path)?.is_some() {
                return Err(StoreError::Exists { path });
            }
        }
        // Replaced as a whole too, so that there is no log without a first line.
        files
            .replace(&files.log(), line.as_bytes())
            .map_err(failed("write", &files.log()))?;
        let store = Self {
            files,
            history,
            log_bytes: line.len() as u64,
            poisoned: None,
            healed: Vec::new(),
            _lock: lock,
        };
        store.publish()?;
        Ok(store)
    }

    /// Opens a run directory for editing: locks it, replays the log, sets right what a crash left.
    ///
    /// # Errors
    /// No catalogue, a lock held by another process, files that are damaged or contradict each
    /// other, or cannot be read or written.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(DiskLayer, dir)
    }

    /// [`open`](Self::open) with file operations of your own.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        layer: impl FileLayer + 'static,
        dir: impl AsRef<Path>,
    ) -> Result<Self, StoreError> {
        Self::start(Files::new(layer, dir.as_ref()), true)
    }

    /// Opens a run directory and writes `categories.json` from the log, whatever stood there.
    ///
    /// # Errors
    /// As [`open`](Self::open), except that `categories.json` is not read.
    pub fn restore(dir: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::start(Files::new(DiskLayer, dir.as_ref()), false)
    }

    fn start(files: Files, trust_catalogue: bool) -> Result<Self, StoreError> {
        // Before the lock, which would leave a file in a directory that is none of ours.
        if files.read(&files.log())?.is_none() {
            return Err(files.missing()?);
        }
        let lock = files.lock()?;
        let loaded = files.load(trust_catalogue)?;
        let mut healed = Vec::new();
        if loaded.torn > 0 {
            let log = files.log();
            files
                .layer
                .truncate(&log, loaded.log_bytes)
                .and_then(|()| files.layer.sync_file(&log))
                .map_err(failed("cut the unfinished line of", &log))?;
            healed.push(Healed::TornLine { bytes: loaded.torn });
        }
        let mut store = Self {
            files,
            history: loaded.history,
            log_bytes: loaded.log_bytes,
            poisoned: None,
            healed,
            _lock: lock,
        };
        let to = store.catalogue().revision;
        if loaded.published != Some(to) {
            store.publish()?;
            store.healed.push(Healed::Rewritten {
                from: loaded.published,
                to,
            });
        }
        Ok(store)
    }

    /// Reads a run directory without locking it or writing to it. What a crash left, or another
    /// process is writing at this moment, is seen as [`open`](Self::open) would set it right.
    ///
    /// # Errors
    /// As [`open`](Self::open), without those of locking and writing.
    pub fn read(dir: impl AsRef<Path>) -> Result<Snapshot, StoreError> {
        let files = Files::new(DiskLayer, dir.as_ref());
        let (catalogue, log) = files.load(true)?.history.into_parts();
        Ok(Snapshot { catalogue, log })
    }

    /// The catalogue.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        self.history.catalogue()
    }

    /// The log, oldest first; the last entry is the last edit.
    #[must_use]
    pub fn log(&self) -> &[Entry] {
        self.history.log()
    }

    /// What opening set right.
    #[must_use]
    pub fn healed(&self) -> &[Healed] {
        &self.healed
    }

    /// Makes an edit and returns the catalogue after it.
    ///
    /// # Errors
    /// [`StoreError::Edit`] if the edit cannot be made. [`StoreError::Unpublished`] if it was made and
    /// is safe, but `categories.json` could not be replaced. [`StoreError::Poisoned`] if only opening
    /// the directory again tells. With every other error nothing was changed.
    pub fn apply(&mut self, edit: Edit) -> Result<&Catalogue, StoreError> {
        let event = edit.into_event(self.catalogue())?;
        self.record(event)
    }

    /// Takes back the last edit that is still in effect. Ids that came with it are retired and point
    /// to what is back in use, so that they are never given again.
    ///
    /// # Errors
    /// [`CategoryError::NothingToUndo`], and those of [`apply`](Self::apply).
    pub fn undo(&mut self) -> Result<&Catalogue, StoreError> {
        let event = self.history.undo()?;
        self.record(event)
    }

    /// Takes back the last undo, unless an edit followed it: the edit it undid is in effect again, with
    /// the same ids.
    ///
    /// # Errors
    /// [`CategoryError::NothingToRedo`], and those of [`apply`](Self::apply).
    pub fn redo(&mut self) -> Result<&Catalogue, StoreError> {
        let event = self.history.redo()?;
        self.record(event)
    }

    /// The catalogue that the log on the disk gives, from nothing.
    ///
    /// # Errors
    /// A log that cannot be read or is damaged.
    pub fn replay(&self) -> Result<Catalogue, StoreError> {
        Ok(self.files.load(false)?.history.into_parts().0)
    }

    /// Makes several edits as one: all of them or none. Each is an entry of the log, and is undone by
    /// itself.
    ///
    /// # Errors
    /// [`StoreError::EditAt`] with the place of the edit that cannot be made; otherwise as
    /// [`apply`](Self::apply).
    pub fn apply_all(&mut self, edits: Vec<Edit>) -> Result<&Catalogue, StoreError> {
        let mut history = self.history.clone();
        let mut lines = String::new();
        for (at, edit) in edits.into_iter().enumerate() {
            let refused = |source| StoreError::EditAt {
                number: at + 1,
                source,
            };
            let event = edit.into_event(history.catalogue()).map_err(refused)?;
            let entry = next_entry(&history, event);
            let next = history.next(&entry).map_err(refused)?;
            lines.push_str(&line(&entry)?);
            history.push(entry, next);
        }
        if !lines.is_empty() {
            self.append(&lines)?;
            self.history = history;
            self.publish()?;
        }
        Ok(self.catalogue())
    }

    fn record(&mut self, event: Event) -> Result<&Catalogue, StoreError> {
        let entry = next_entry(&self.history, event);
        let next = self.history.next(&entry)?;
        self.append(&line(&entry)?)?;
        self.history.push(entry, next);
        self.publish()?;
        Ok(self.catalogue())
    }

    /// Adds to the log and waits until it is on the disk.
    fn append(&mut self, lines: &str) -> Result<(), StoreError> {
        let log = self.files.log();
        if let Some(problem) = &self.poisoned {
            return Err(StoreError::Poisoned {
                path: log,
                problem: problem.clone(),
            });
        }
        let layer = &self.files.layer;
        let written = layer
            .append(&log, lines.as_bytes())
            .and_then(|()| layer.sync_file(&log));
        if let Err(source) = written {
            let taken_back = layer
                .truncate(&log, self.log_bytes)
                .and_then(|()| layer.sync_file(&log));
            if taken_back.is_ok() {
                return Err(failed("write", &log)(source));
            }
            let problem = source.to_string();
            self.poisoned = Some(problem.clone());
            return Err(StoreError::Poisoned { path: log, problem });
        }
        self.log_bytes += lines.len() as u64;
        Ok(())
    }

    /// Replaces `categories.json`.
    fn publish(&self) -> Result<(), StoreError> {
        let path = self.files.catalogue();
        let json = self.catalogue().to_json()?;
        self.files
            .replace(&path, json.as_bytes())
            .map_err(|source| StoreError::Unpublished {
                path,
                revision: self.catalogue().revision,
                source,
            })
    }
}

/// The files of a run directory.
#[derive(Debug)]
struct Files {
    layer: Box<dyn FileLayer>,
    dir: PathBuf,
}

/// What the files hold.
struct Loaded {
    history: History,
    /// Bytes of the complete lines of the log.
    log_bytes: u64,
    /// Bytes after them.
    torn: u64,
    /// Revision of `categories.json`.
    published: Option<u64>,
}

impl Files {
    fn new(layer: impl FileLayer + 'static, dir: &Path) -> Self {
        Self {
            layer: Box::new(layer),
            dir: dir.to_owned(),
        }
    }

    fn catalogue(&self) -> PathBuf {
        self.dir.join(CATALOGUE_FILE)
    }

    fn log(&self) -> PathBuf {
        self.dir.join(LOG_FILE)
    }

    /// The bytes of a file; `None` if there is none.
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        match self.layer.read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(failed("read", path)(source)),
        }
    }

    /// Which file is missing if the log is.
    fn missing(&self) -> Result<StoreError, StoreError> {
        let catalogue = self.read(&self.catalogue())?;
        Ok(StoreError::Missing {
            dir: self.dir.clone(),
            file: catalogue.map_or(CATALOGUE_FILE, |_| LOG_FILE),
        })
    }

    /// Writes a file beside its place and moves it there.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        self.layer.write(&part, bytes)?;
        self.layer.sync_file(&part)?;
        self.layer.rename(&part, path)?;
        self.layer.sync_dir(&self.dir)
    }

    /// Keeps other processes from writing.
    fn lock(&self) -> Result<LockFile, StoreError> {
        LockFile::take(&self.dir.join(LOCK_FILE)).map_err(|error| match error {
            LockError::Held { holder, .. } => StoreError::Locked {
                dir: self.dir.clone(),
                holder,
            },
            LockError::File {
                operation,
                path,
                source,
            } => failed(operation, &path)(source),
        })
    }

    /// Reads and replays. `categories.json` comes first: a writer appends to the log before it
    /// replaces `categories.json`, so that a reader in this order never sees the log behind.
    fn load(&self, trust_catalogue: bool) -> Result<Loaded, StoreError> {
        let json_path = self.catalogue();
        let json = if trust_catalogue {
            self.read(&json_path)?
        } else {
            None
        };
        let published = json
            .as_ref()
            .map(|bytes| Catalogue::from_json(&json_path, bytes))
            .transpose()?
            .map(|catalogue| catalogue.revision);
        let path = self.log();
        let Some(bytes) = self.read(&path)? else {
            return Err(self.missing()?);
        };

        let mut history: Option<History> = None;
        let mut log_bytes = 0;
        for (at, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let Some(text) = line.strip_suffix(b"\n") else {
                break;
            };
            let number = at as u64 + 1;
            let entry = parse(&path, number, text)?;
            let refused = |error: CategoryError| StoreError::Log {
                path: path.clone(),
                line: number,
                problem: error.to_string(),
            };
            match &mut history {
                None => history = Some(History::begin(entry).map_err(refused)?),
                Some(history) => {
                    let next = history.next(&entry).map_err(refused)?;
                    history.push(entry, next);
                }
            }
            log_bytes += line.len() as u64;
            let now = history.as_ref().map(History::catalogue);
            if let (Some(json), Some(now)) = (&json, now)
                && published == Some(now.revision)
                && now.to_json()?.as_bytes() != json
            {
                return Err(StoreError::Diverged {
                    path: json_path,
                    revision: now.revision,
                });
            }
        }
        let Some(history) = history else {
            return Err(StoreError::Log {
                path,
                line: 1,
                problem: "expected an event, found no complete line".to_owned(),
            });
        };
        let log = history.catalogue().revision;
        if let Some(catalogue) = published.filter(|published| *published > log) {
            return Err(StoreError::Ahead {
                path: json_path,
                catalogue,
                log,
            });
        }
        Ok(Loaded {
            history,
            log_bytes,
            torn: bytes.len() as u64 - log_bytes,
            published,
        })
    }
}

fn parse(path: &Path, line: u64, text: &[u8]) -> Result<Entry, StoreError> {
    /// The schema of the first line, so that another one is not reported as a wrong field.
    #[derive(Deserialize)]
    struct First {
        event: FirstEvent,
    }
    #[derive(Deserialize)]
    struct FirstEvent {
        created: Created,
    }
    #[derive(Deserialize)]
    struct Created {
        catalogue: Head,
    }
    #[derive(Deserialize)]
    struct Head {
        schema: String,
    }
    if line == 1
        && let Ok(first) = serde_json::from_slice::<First>(text)
        && first.event.created.catalogue.schema != SCHEMA
    {
        return Err(StoreError::Schema {
            path: path.to_owned(),
            expected: SCHEMA,
            found: first.event.created.catalogue.schema,
        });
    }
    serde_json::from_slice(text).map_err(|error| StoreError::json(path, Some(line), &error))
}

/// The entry of an event that happens now.
fn next_entry(history: &History, event: Event) -> Entry {
    Entry {
        revision: history.catalogue().revision + 1,
        at: now(),
        event,
    }
}

/// An entry as a line of the log.
fn line(entry: &Entry) -> Result<String, StoreError> {
    let mut line = serde_json::to_string(entry)
        .map_err(|error| invalid("event", "values that JSON can express", error))?;
    line.push('\n');
    Ok(line)
}

/// Seconds since 1970; 0 on a machine whose clock is before that.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// For `map_err`.
fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File {
        operation,
        path,
        source,
    }
}
