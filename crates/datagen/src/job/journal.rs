//! The journal of a job: one line of JSON for every answer, on disk before the answer counts.
//!
//! ```text
//! {"v":1,"key":"<64 hex digits>","id":"17/positive","kind":"sts/positive","source":"<name>",
//!  "attempt":0,"prompt":"<64 hex digits>","text":"...","usage":{...},"rejected":"copy"}
//! ```
//!
//! (on one line). The journal is also the cache: a call whose key is in it is never asked again. The
//! key is the SHA-256 digest of the name of the source, the kind of call, the request (prompt, text,
//! temperature, longest answer, schema) and the attempt, so that any change of these asks anew.
//! `prompt` is the digest of the system text. `rejected` is for readers: answers are checked again
//! when they are read. A repeated text is found only when the answers are put in order, so its line
//! says nothing of it.
//!
//! A process that is killed while it writes leaves a last line without an end. The line is completed
//! where only the line break is missing and cut off otherwise; anything else that is no record is an
//! error. The lock `<journal>.lock` belongs to the operating system, which releases it however the
//! process ends; the empty file stays.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lockfile::{LockError, LockFile};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::checks::RejectReason;
use super::file::{Disk, Files, JournalFile};
use crate::chat::{Call, Spent, Usage};

/// Version of the lines.
pub const JOURNAL_VERSION: u32 = 1;

/// Longest line in bytes: an answer of 8 MB with every byte escaped.
const MAX_LINE: u64 = 64 << 20;

/// Identity of an answer, a SHA-256 digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// The key of a call's attempt at the source of this name.
    pub fn new(source: &str, call: &Call, attempt: u32) -> Self {
        let parts = (
            "asterism/answer/1",
            source,
            &call.kind,
            &call.request,
            attempt,
        );
        // Text, numbers and JSON always have a JSON form.
        let bytes = serde_json::to_vec(&parts).unwrap_or_default();
        Self(Sha256::digest(&bytes).into())
    }

    /// What the index keeps of a key; two of a billion keys share it with a probability below 1e-20.
    fn short(&self) -> [u8; 16] {
        let mut short = [0; 16];
        for (to, from) in short.iter_mut().zip(self.0) {
            *to = from;
        }
        short
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.as_bytes();
        let mut key = [0; 32];
        let mut right = digits.len() == 64;
        for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
            let value = std::str::from_utf8(pair).ok().filter(|pair| {
                pair.bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            });
            match value.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
                Some(value) => *byte = value,
                None => right = false,
            }
        }
        if right {
            Ok(Self(key))
        } else {
            Err(serde::de::Error::custom(
                "expected 64 lower-case hexadecimal digits",
            ))
        }
    }
}

/// SHA-256 digest of a text as 64 hexadecimal digits.
pub fn digest(text: &str) -> String {
    Key(Sha256::digest(text.as_bytes()).into()).to_string()
}

/// One answered attempt: a line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of the line, [`JOURNAL_VERSION`].
    pub v: u32,
    /// What was asked of whom.
    pub key: Key,
    /// Id of the call that asked first.
    pub id: String,
    /// Kind of the call.
    pub kind: String,
    /// Name of the source, for instance the model's.
    pub source: String,
    /// Attempt, from 0.
    pub attempt: u32,
    /// Digest of the system text.
    pub prompt: String,
    /// The answer as it came.
    pub text: String,
    /// What it cost.
    pub usage: Usage,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<RejectReason>,
    /// An answer was paid for and came without a usable text: what was wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A journal cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The operating system refused an operation.
    #[error("journal {}: cannot {operation}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The journal or its lock.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another process writes to it.
    #[error(
        "journal {}: another job ({holder}) is using it; wait for it or choose another journal",
        path.display()
    )]
    Locked {
        /// The journal.
        path: PathBuf,
        /// Program and process number, as far as known.
        holder: String,
    },
    /// A line that is no record.
    #[error("journal {}:{line}: {problem}; nothing was changed", path.display())]
    Corrupt {
        /// The journal.
        path: PathBuf,
        /// Number of the line, from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// A write or flush failed before, so that nothing more may be appended.
    #[error("journal {}: an earlier write failed", path.display())]
    Closed {
        /// The journal.
        path: PathBuf,
    },
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::File {
        operation,
        path,
        source,
    }
}

/// What was found when a journal was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Opened {
    /// Answers in it.
    pub answers: u64,
    /// Bytes of an unfinished last line that were cut off.
    pub cut_off: u64,
}

/// Where a record is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Location {
    /// 0 is the journal, others are the files read beside it.
    file: u32,
    length: u32,
    offset: u64,
}

/// The bytes of the journal.
#[derive(Debug)]
enum Store {
    Disk {
        file: Arc<dyn JournalFile>,
        path: PathBuf,
        _lock: LockFile,
    },
    Memory(Vec<u8>),
    Nowhere,
}

#[derive(Debug)]
struct State {
    store: Store,
    /// Length up to the end of the last whole line.
    length: u64,
    /// A write or flush failed: nothing more is appended.
    closed: bool,
    /// A flush failed: what was written before is not known to be on the disk, and never will be.
    in_doubt: bool,
}

/// Answers that were given, and the file that new ones are appended to.
///
/// ```
/// use datagen::job::Journal;
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("answers.jsonl");
/// let journal = Journal::open(&path)?;
/// assert_eq!(journal.opened().answers, 0);
/// assert!(Journal::open(&path).is_err(), "one job at a time");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Journal {
    state: Mutex<State>,
    /// For flushing to the disk while others append.
    sync: Option<(Arc<dyn JournalFile>, PathBuf)>,
    /// Journals that are only read.
    others: Vec<(Mutex<File>, PathBuf)>,
    index: Mutex<HashMap<[u8; 16], Location>>,
    spent: Mutex<Spent>,
    sources: BTreeSet<String>,
    opened: Opened,
}

/// Nothing is left half done while a lock is held, so a panic elsewhere does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Journal {
    /// A journal that is lost with the process.
    pub fn in_memory() -> Self {
        Self::empty(Store::Memory(Vec::new()))
    }

    /// A journal that keeps nothing and only counts, for sources that cost nothing: a call equal to
    /// an earlier one is asked again.
    pub fn nowhere() -> Self {
        Self::empty(Store::Nowhere)
    }

    fn empty(store: Store) -> Self {
        Self {
            state: Mutex::new(State {
                store,
                length: 0,
                closed: false,
                in_doubt: false,
            }),
            sync: None,
            others: Vec::new(),
            index: Mutex::default(),
            spent: Mutex::default(),
            sources: BTreeSet::new(),
            opened: Opened::default(),
        }
    }

    /// Opens or makes a journal and takes its lock.
    ///
    /// # Errors
    /// [`JournalError`]: a file that cannot be opened, a journal in use, a line that is no record.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Self::open_through(&Disk, path)
    }

    /// The same through other file operations.
    pub(super) fn open_through(files: &dyn Files, path: &Path) -> Result<Self, JournalError> {
        let lock_file = take_lock(path)?;
        let existed = path.exists();
        let file = files.open(path).map_err(failed("open", path))?;
        if !existed {
            // A new file survives a crash only once its folder is on the disk.
            let folder = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            let folder = folder.unwrap_or_else(|| Path::new("."));
            files
                .sync_folder(folder)
                .map_err(failed("flush the folder to the disk", folder))?;
        }
        let mut journal = Self::in_memory();
        let there = File::open(path).map_err(failed("open", path))?;
        let scan = journal.scan(&there, path, 0)?;
        if scan.complete_last {
            file.append(b"\n").map_err(failed("write", path))?;
        } else if scan.torn > 0 {
            file.cut(scan.length).map_err(failed("cut", path))?;
        }
        if scan.length > 0 {
            // A killed process may not have come to it.
            file.sync().map_err(failed("flush to the disk", path))?;
        }
        journal.opened = Opened {
            answers: scan.records,
            cut_off: if scan.complete_last { 0 } else { scan.torn },
        };
        journal.spent = Mutex::new(scan.spent);
        journal.state = Mutex::new(State {
            length: scan.length,
            closed: false,
            in_doubt: false,
            store: Store::Disk {
                file: file.clone(),
                path: path.to_owned(),
                _lock: lock_file,
            },
        });
        journal.sync = Some((file, path.to_owned()));
        Ok(journal)
    }

    /// Also answers from this journal, which stays as it is; an unfinished last line is passed over.
    /// What it cost is not counted. Where both have an answer, the earlier one is taken.
    ///
    /// # Errors
    /// [`JournalError`]: a file that cannot be opened, a line that is no record.
    pub fn also_read(&mut self, path: &Path) -> Result<Opened, JournalError> {
        let file = File::open(path).map_err(failed("open", path))?;
        let number = u32::try_from(self.others.len() + 1).unwrap_or(u32::MAX);
        let scan = self.scan(&file, path, number)?;
        self.others.push((Mutex::new(file), path.to_owned()));
        Ok(Opened {
            answers: scan.records,
            cut_off: 0,
        })
    }

    /// What was found when the journal was opened.
    pub fn opened(&self) -> Opened {
        self.opened
    }

    /// Calls and tokens of all answers in the journal, of this run and of earlier ones.
    pub fn spent(&self) -> Spent {
        *lock(&self.spent)
    }

    /// Names of the sources that gave the answers found on opening.
    pub fn sources(&self) -> &BTreeSet<String> {
        &self.sources
    }

    /// The answer with this key.
    ///
    /// # Errors
    /// [`JournalError`] if the file cannot be read or has changed meanwhile.
    pub fn get(&self, key: &Key) -> Result<Option<Record>, JournalError> {
        let Some(location) = lock(&self.index).get(&key.short()).copied() else {
            return Ok(None);
        };
        let (bytes, path) = self.bytes(location)?;
        let record = parse(&bytes).map_err(|problem| JournalError::Corrupt {
            path,
            line: 0,
            problem: format!("the file changed while it was in use: {problem}"),
        })?;
        Ok(Some(record).filter(|record| record.key == *key))
    }

    fn bytes(&self, location: Location) -> Result<(Vec<u8>, PathBuf), JournalError> {
        let mut bytes = vec![0; location.length as usize];
        let path = if location.file == 0 {
            match &lock(&self.state).store {
                Store::Disk { file, path, .. } => {
                    file.read(location.offset, &mut bytes)
                        .map_err(failed("read", path))?;
                    path.clone()
                }
                Store::Memory(memory) => {
                    let start = location.offset as usize;
                    let end = start.saturating_add(location.length as usize);
                    bytes = memory.get(start..end).unwrap_or_default().to_vec();
                    PathBuf::new()
                }
                Store::Nowhere => PathBuf::new(),
            }
        } else {
            match self.others.get(location.file as usize - 1) {
                Some((file, path)) => {
                    let mut file = lock(file);
                    file.seek(SeekFrom::Start(location.offset))
                        .and_then(|_| file.read_exact(&mut bytes))
                        .map_err(failed("read", path))?;
                    path.clone()
                }
                None => PathBuf::new(),
            }
        };
        Ok((bytes, path))
    }

    /// Writes a line. From then on a kill of the process does not lose the answer; [`Self::sync`]
    /// makes it safe from a crash of the system, and [`Self::publish`] makes it count.
    pub(super) fn append(&self, record: &Record) -> Result<Location, JournalError> {
        let mut line = serde_json::to_vec(record).map_err(|error| JournalError::File {
            operation: "write",
            path: self.path(),
            source: error.into(),
        })?;
        let length = line.len() as u64;
        line.push(b'\n');
        let mut state = lock(&self.state);
        let State {
            store,
            length: end,
            closed,
            ..
        } = &mut *state;
        let offset = *end;
        match store {
            Store::Disk { path, .. } if *closed => {
                return Err(JournalError::Closed { path: path.clone() });
            }
            Store::Disk { file, path, .. } => {
                if let Err(source) = file.append(&line) {
                    // Whatever was written of the line must not stand before the next one.
                    *closed = true;
                    let _ = file.cut(offset);
                    return Err(failed("write", path)(source));
                }
            }
            Store::Memory(memory) => memory.extend_from_slice(&line),
            Store::Nowhere => {}
        }
        *end = offset.saturating_add(line.len() as u64);
        Ok(Location {
            file: 0,
            // An answer is shorter than `MAX_LINE`, or it cannot be read again anyway.
            length: u32::try_from(length).unwrap_or(u32::MAX),
            offset,
        })
    }

    /// Flushes all lines written so far to the disk.
    pub(super) fn sync(&self) -> Result<(), JournalError> {
        let Some((file, path)) = &self.sync else {
            return Ok(());
        };
        if lock(&self.state).in_doubt {
            return Err(JournalError::Closed { path: path.clone() });
        }
        file.sync().map_err(|source| {
            // The system may have given up what it could not write, and says so only once: a later
            // flush that succeeds would prove nothing.
            let mut state = lock(&self.state);
            (state.closed, state.in_doubt) = (true, true);
            failed("flush to the disk", path)(source)
        })
    }

    /// Makes a line that is on the disk known to [`Self::get`] and counts what it cost.
    pub(super) fn publish(&self, key: &Key, location: Location, usage: Usage) {
        lock(&self.spent).add(usage);
        if !matches!(lock(&self.state).store, Store::Nowhere) {
            lock(&self.index).entry(key.short()).or_insert(location);
        }
    }

    fn path(&self) -> PathBuf {
        let path = self.sync.as_ref().map(|(_, path)| path.clone());
        path.unwrap_or_default()
    }

    /// Reads a file line by line into the index.
    fn scan(&mut self, file: &File, path: &Path, number: u32) -> Result<Scan, JournalError> {
        let mut reader = BufReader::new(file);
        let mut scan = Scan::default();
        let mut bytes = Vec::new();
        let index = self.index.get_mut().unwrap_or_else(PoisonError::into_inner);
        for line in 1_u64.. {
            bytes.clear();
            let read = (&mut reader)
                .take(MAX_LINE)
                .read_until(b'\n', &mut bytes)
                .map_err(failed("read", path))?;
            if read == 0 {
                break;
            }
            let corrupt = |problem: String| JournalError::Corrupt {
                path: path.to_owned(),
                line,
                problem,
            };
            let whole = bytes.last() == Some(&b'\n');
            if !whole && read as u64 == MAX_LINE {
                return Err(corrupt(format!("more than {MAX_LINE} bytes")));
            }
            let content = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            let record = match parse(content) {
                Ok(record) => record,
                Err(_) if !whole => {
                    scan.torn = read as u64;
                    break;
                }
                Err(problem) => return Err(corrupt(problem)),
            };
            scan.complete_last = !whole;
            index.entry(record.key.short()).or_insert(Location {
                file: number,
                length: u32::try_from(content.len()).unwrap_or(u32::MAX),
                offset: scan.length,
            });
            scan.length += content.len() as u64 + 1;
            scan.records += 1;
            scan.spent.add(record.usage);
            self.sources.insert(record.source);
        }
        Ok(scan)
    }
}

#[derive(Default)]
struct Scan {
    records: u64,
    spent: Spent,
    /// Up to the end of the last whole line, with a line break that is still to be written.
    length: u64,
    /// Bytes of an unfinished last line.
    torn: u64,
    /// The last line lacks nothing but its end.
    complete_last: bool,
}

fn parse(bytes: &[u8]) -> Result<Record, String> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    // Another version may have other fields.
    let version: Version =
        serde_json::from_slice(bytes).map_err(|error| format!("not a record: {error}"))?;
    if version.v != JOURNAL_VERSION {
        return Err(format!(
            "a record of version {}; this program reads version {JOURNAL_VERSION}",
            version.v
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| format!("not a record: {error}"))
}

fn take_lock(journal: &Path) -> Result<LockFile, JournalError> {
    let mut name = journal.as_os_str().to_owned();
    name.push(".lock");
    LockFile::take(Path::new(&name)).map_err(|error| match error {
        LockError::Held { holder, .. } => JournalError::Locked {
            path: journal.to_owned(),
            holder,
        },
        LockError::File {
            operation,
            path,
            source,
        } => failed(operation, &path)(source),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;
    use crate::chat::ChatRequest;

    fn call(number: usize) -> Call {
        Call {
            id: format!("{number}/positive"),
            kind: "sts/positive".into(),
            source: format!("Sentence {number}."),
            request: ChatRequest {
                system: "Say it in other words.".into(),
                user: format!("Sentence {number}."),
                temperature: 1.0,
                max_tokens: 64,
                schema: None,
            },
        }
    }

    fn record(number: usize, text: &str) -> Record {
        let call = call(number);
        Record {
            v: JOURNAL_VERSION,
            key: Key::new("model", &call, 0),
            id: call.id,
            kind: call.kind,
            source: "model".into(),
            attempt: 0,
            prompt: digest(&call.request.system),
            text: text.into(),
            usage: Usage {
                prompt_tokens: 10,
                completion_tokens: 3,
            },
            rejected: None,
            problem: None,
        }
    }

    fn write(journal: &Journal, record: &Record) {
        let location = journal.append(record).unwrap();
        journal.sync().unwrap();
        journal.publish(&record.key, location, record.usage);
    }

    fn filled(path: &Path, records: &[Record]) {
        let journal = Journal::open(path).unwrap();
        for record in records {
            write(&journal, record);
        }
    }

    #[test]
    fn keys_tell_apart_everything_that_matters() {
        let base = Key::new("model", &call(1), 0);
        let with = |change: &dyn Fn(&mut Call)| {
            let mut call = call(1);
            change(&mut call);
            Key::new("model", &call, 0)
        };
        assert_eq!(base, Key::new("model", &call(1), 0));
        // The same question under another id is the same question.
        assert_eq!(base, with(&|call| call.id = "2".into()));
        let others = [
            Key::new("other", &call(1), 0),
            Key::new("model", &call(1), 1),
            with(&|call| call.kind = "sts/negative".into()),
            with(&|call| call.request.system.push('.')),
            with(&|call| call.request.user.push('.')),
            with(&|call| call.request.temperature = 0.5),
            with(&|call| call.request.max_tokens = 65),
            with(&|call| call.request.schema = Some(serde_json::json!({}))),
        ];
        let different: BTreeSet<Key> = others.into_iter().chain([base]).collect();
        assert_eq!(different.len(), 9);
    }

    #[test]
    fn answers_come_back_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let records: Vec<Record> = (0..20).map(|n| record(n, &format!("é \n {n}"))).collect();
        filled(&path, &records);
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.opened().answers, 20);
        assert_eq!(
            journal.spent(),
            Spent {
                calls: 20,
                prompt_tokens: 200,
                completion_tokens: 60
            }
        );
        assert_eq!(Vec::from_iter(journal.sources()), ["model"]);
        for record in &records {
            assert_eq!(journal.get(&record.key).unwrap().as_ref(), Some(record));
        }
        assert_eq!(journal.get(&Key::new("m", &call(0), 0)).unwrap(), None);
    }

    #[test]
    fn memory_and_disk_behave_alike() {
        let journal = Journal::in_memory();
        let records: Vec<Record> = (0..5).map(|n| record(n, &n.to_string())).collect();
        for record in &records {
            write(&journal, record);
        }
        for record in &records {
            assert_eq!(journal.get(&record.key).unwrap().as_ref(), Some(record));
        }
        assert_eq!(journal.spent().calls, 5);
    }

    #[test]
    fn one_job_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let first = Journal::open(&path).unwrap();
        let error = Journal::open(&path).unwrap_err();
        assert!(matches!(error, JournalError::Locked { .. }), "{error}");
        let owner = format!("process {}", std::process::id());
        assert!(error.to_string().contains(&owner), "{error}");
        drop(first);
        Journal::open(&path).unwrap();
    }

    /// Every place where a kill may cut the file.
    #[test]
    fn a_torn_last_line_is_cut_off_wherever_it_is_torn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let records = [record(0, "zero"), record(1, "one")];
        filled(&path, &records);
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
        for length in (first..whole.len() - 2)
            .step_by(9)
            .chain(whole.len() - 2..=whole.len())
        {
            std::fs::write(&path, &whole[..length]).unwrap();
            let journal = Journal::open(&path).unwrap();
            // Only the line break is missing: nothing is lost.
            let kept = length + 1 >= whole.len();
            let cut = if kept { 0 } else { length - first };
            assert_eq!(journal.opened().cut_off, cut as u64, "{length}");
            assert_eq!(journal.opened().answers, 1 + u64::from(kept), "{length}");
            write(&journal, &record(2, "two"));
            drop(journal);
            let journal = Journal::open(&path).unwrap();
            assert_eq!(journal.opened().answers, 2 + u64::from(kept));
            assert_eq!(journal.get(&records[0].key).unwrap().unwrap().text, "zero");
            assert_eq!(journal.get(&records[1].key).unwrap().is_some(), kept);
            let two = journal.get(&record(2, "").key).unwrap().unwrap();
            assert_eq!(two.text, "two");
        }
    }

    #[test]
    fn a_bad_line_elsewhere_is_named_and_nothing_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let good = serde_json::to_string(&record(0, "zero")).unwrap();
        let short_key = good.replacen(&record(0, "").key.to_string(), "abc", 1);
        for bad in [
            "{".to_owned(),
            String::new(),
            "[]".to_owned(),
            good.replacen("\"v\":1", "\"v\":2", 1),
            good.replacen("\"attempt\":0", "\"attempt\":-1", 1),
            good.replacen("\"attempt\"", "\"attempts\"", 1),
            short_key,
            good.replacen("zero", "zero\",\"text\":\"", 1),
        ] {
            let content = format!("{good}\n{bad}\n{good}\n");
            std::fs::write(&path, &content).unwrap();
            let error = Journal::open(&path).unwrap_err().to_string();
            assert!(error.contains("journal.jsonl:2: "), "{bad}: {error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        std::fs::write(&path, [good.as_bytes(), b"\n\xff\n"].concat()).unwrap();
        assert!(Journal::open(&path).is_err());
    }

    #[test]
    fn other_journals_are_read_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old.jsonl"), dir.path().join("new.jsonl"));
        filled(&old, &[record(0, "old zero"), record(1, "old one")]);
        let torn = [&std::fs::read(&old).unwrap()[..], b"{\"v\""].concat();
        std::fs::write(&old, &torn).unwrap();
        let mut journal = Journal::open(&new).unwrap();
        write(&journal, &record(1, "new one"));
        assert_eq!(journal.also_read(&old).unwrap().answers, 2);
        let text = |n| journal.get(&record(n, "").key).unwrap().unwrap().text;
        assert_eq!((text(0), text(1)), ("old zero".into(), "new one".into()));
        assert_eq!(journal.spent().calls, 1);
        assert_eq!(std::fs::read(&old).unwrap(), torn);
        let error = journal.also_read(&dir.path().join("none")).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in any::<String>()) {
            let journal = Journal::in_memory();
            let record = record(0, &text);
            write(&journal, &record);
            prop_assert_eq!(journal.get(&record.key).unwrap(), Some(record));
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_file_is_opened_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("journal.jsonl");
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(journal) = Journal::open(&path) {
                prop_assert_eq!(journal.opened().answers, 0);
            }
        }
    }
}
