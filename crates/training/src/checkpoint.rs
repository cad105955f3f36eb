//! Checkpoints that are complete or absent.
//!
//! A checkpoint is one directory `checkpoints/step-NNNNNNNN/`, where `N` counts the steps done. It
//! is written under a temporary sibling name: every file is written and flushed, `manifest.json`
//! (size and SHA-256 of each file) comes last, the directory is flushed, renamed once, and the
//! parent flushed. A crash at any point leaves the previous checkpoint as it was.
//!
//! ```text
//! .tmp-step-N    being written
//! .old-step-N    predecessor of the same step, set aside while its replacement is renamed
//! .trash-step-N  being removed
//! ```
//!
//! [`CheckpointStore::latest`] takes the newest directory whose manifest verifies and clears such
//! leftovers (an `.old-` one goes back to its name if its replacement never arrived).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::deferred_tensors::DeferredTensors;
use crate::error::{CheckpointDefect, Error, FileOperation, Result, file_error};
use crate::file_layer::{DiskLayer, FileLayer};

const SCHEMA: &str = "asterism/checkpoint/1";
const MANIFEST: &str = "manifest.json";
const DIRECTORY: &str = "checkpoints";
const TEMPORARY: &str = ".tmp-";
const OLD: &str = ".old-";
const TRASH: &str = ".trash-";

/// Small parts of a file are written together up to so many bytes.
const GATHERED: usize = 1 << 16;

/// Contents of a checkpoint by plain file name.
pub type CheckpointFiles = BTreeMap<String, Vec<u8>>;

/// What a file of a checkpoint is written from.
pub trait CheckpointContent {
    /// Hands the bytes to `out`, in as many parts as suits.
    ///
    /// # Errors
    /// Its own and those of `out`.
    fn write(&self, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;
}

impl CheckpointContent for Vec<u8> {
    fn write(&self, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        out(self)
    }
}

/// A file of a checkpoint that need not be in memory before it is written.
#[derive(Debug)]
pub enum FileContent<'a> {
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
    /// A safetensors file, written tensor by tensor.
    Tensors(DeferredTensors),
}

/// Files of a checkpoint to be written, by plain file name.
pub type CheckpointParts<'a> = BTreeMap<String, FileContent<'a>>;

impl CheckpointContent for FileContent<'_> {
    fn write(&self, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match self {
            Self::Bytes(bytes) => out(bytes),
            Self::Tensors(tensors) => tensors.write(out),
        }
    }
}

impl From<Vec<u8>> for FileContent<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Cow::Owned(bytes))
    }
}

impl<'a> From<&'a [u8]> for FileContent<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(Cow::Borrowed(bytes))
    }
}

impl From<DeferredTensors> for FileContent<'_> {
    fn from(tensors: DeferredTensors) -> Self {
        Self::Tensors(tensors)
    }
}

/// The files as [`CheckpointStore::latest`] would read them back.
///
/// # Errors
/// Those of the contents.
pub fn in_memory(parts: &CheckpointParts<'_>) -> Result<CheckpointFiles> {
    let mut files = CheckpointFiles::new();
    for (name, content) in parts {
        let mut bytes = Vec::new();
        content.write(&mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        files.insert(name.clone(), bytes);
    }
    Ok(files)
}

/// A verified checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Steps done when it was written.
    pub step: u64,
    /// Its files, without the manifest.
    pub files: CheckpointFiles,
}

impl Checkpoint {
    /// The file of this name.
    ///
    /// # Errors
    /// [`Error::CheckpointFile`] if there is none.
    pub fn file(&self, name: &str) -> Result<&[u8]> {
        match self.files.get(name) {
            Some(bytes) => Ok(bytes),
            None => Err(Error::CheckpointFile {
                step: self.step,
                name: name.to_owned(),
            }),
        }
    }
}

/// A checkpoint directory that was passed over, and why.
#[derive(Debug)]
pub struct Rejected {
    /// The directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: Error,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    schema: String,
    step: u64,
    files: BTreeMap<String, Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    size: u64,
    sha256: String,
}

/// The checkpoints of one run directory.
///
/// ```
/// use training::{CheckpointFiles, CheckpointStore};
///
/// let run = tempfile::tempdir()?;
/// let store = CheckpointStore::new(run.path());
/// store.save(10, &CheckpointFiles::from([("weights".into(), vec![1, 2, 3])]))?;
/// let found = store.latest()?.expect("one was just written");
/// assert_eq!((found.step, found.file("weights")?), (10, &[1, 2, 3][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CheckpointStore {
    directory: PathBuf,
    layer: Arc<dyn FileLayer>,
    /// Steps whose contents were found damaged, which their manifests do not show.
    damaged: Mutex<BTreeSet<u64>>,
}

impl std::fmt::Debug for CheckpointStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointStore")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl CheckpointStore {
    /// Checkpoints of this run directory on disk. Nothing is created yet.
    pub fn new(run_dir: impl AsRef<Path>) -> Self {
        Self::with_layer(run_dir, Arc::new(DiskLayer))
    }

    /// The same through another file layer.
    pub fn with_layer(run_dir: impl AsRef<Path>, layer: Arc<dyn FileLayer>) -> Self {
        Self {
            directory: run_dir.as_ref().join(DIRECTORY),
            layer,
            damaged: Mutex::default(),
        }
    }

    /// Writes the checkpoint of `step` and returns its directory. One of the same step is replaced.
    ///
    /// # Errors
    /// [`Error::CheckpointFileName`] for a name that is not a plain file name; [`Error::File`] with
    /// the operation and path that failed (a full disk included); those of the contents. After an
    /// error every earlier checkpoint is as it was.
    pub fn save<C: CheckpointContent>(
        &self,
        step: u64,
        files: &BTreeMap<String, C>,
    ) -> Result<PathBuf> {
        if let Some(name) = files.keys().find(|name| !is_plain(name)) {
            return Err(Error::CheckpointFileName { name: name.clone() });
        }
        let name = directory_name(step);
        let temporary = self.directory.join(format!("{TEMPORARY}{name}"));
        let written = self
            .write_complete(&temporary, step, files)
            .and_then(|()| self.publish(&temporary, &name));
        if written.is_err() {
            // Best effort: gives a full disk its space back. The error to report is the first one.
            let _ = self.layer.remove_dir_all(&temporary);
        } else {
            self.damaged().remove(&step);
        }
        written
    }

    fn write_complete<C: CheckpointContent>(
        &self,
        target: &Path,
        step: u64,
        files: &BTreeMap<String, C>,
    ) -> Result<()> {
        self.remove_if_present(target)?;
        self.layer
            .create_dir_all(target)
            .map_err(file_error(FileOperation::CreateDir, target))?;
        let mut manifest = Manifest {
            schema: SCHEMA.to_owned(),
            step,
            files: BTreeMap::new(),
        };
        for (name, content) in files {
            let entry = self.write_content(&target.join(name), content)?;
            manifest.files.insert(name.clone(), entry);
        }
        let text = serde_json::to_vec_pretty(&manifest).map_err(|source| Error::Json {
            operation: "write the checkpoint manifest",
            source,
        })?;
        self.write_content(&target.join(MANIFEST), &text)?;
        self.sync_dir(target)
    }

    /// Writes and flushes a file part by part.
    fn write_content(&self, path: &Path, content: &impl CheckpointContent) -> Result<Entry> {
        let write = |source| file_error(FileOperation::Write, path)(source);
        let mut file = self.layer.append_after(path, 0).map_err(write)?;
        let (mut size, mut digest) = (0, Sha256::new());
        let mut gathered = Vec::new();
        content.write(&mut |part| {
            size += part.len() as u64;
            digest.update(part);
            if gathered.len() + part.len() <= GATHERED {
                gathered.extend_from_slice(part);
                return Ok(());
            }
            if !gathered.is_empty() {
                file.append(&gathered).map_err(write)?;
                gathered.clear();
            }
            file.append(part).map_err(write)
        })?;
        if !gathered.is_empty() {
            file.append(&gathered).map_err(write)?;
        }
        file.sync().map_err(file_error(FileOperation::Sync, path))?;
        Ok(Entry {
            size,
            sha256: hex(digest),
        })
    }

    fn publish(&self, temporary: &Path, name: &str) -> Result<PathBuf> {
        let target = self.directory.join(name);
        let old = self.directory.join(format!("{OLD}{name}"));
        let replaces = self.list()?.iter().any(|entry| entry == name);
        if replaces {
            // A directory cannot be renamed over one that is not empty.
            self.remove_if_present(&old)?;
            self.rename(&target, &old)?;
        }
        if let Err(error) = self.rename(temporary, &target) {
            if replaces {
                // Best effort; `latest` does the same.
                let _ = self.layer.rename(&old, &target);
            }
            return Err(error);
        }
        self.sync_dir(&self.directory)?;
        if replaces {
            self.remove_if_present(&old)?;
        }
        Ok(target)
    }

    /// The newest checkpoint that verifies; `None` if there is no checkpoint directory at all.
    /// Leftovers of interrupted writes are removed on the way. The run's lock must be held: another
    /// process could be writing.
    ///
    /// # Errors
    /// [`Error::NoUsableCheckpoint`] if there are checkpoints but none verifies (starting from
    /// nothing would hide the loss); [`Error::File`] if the directory cannot be read or cleared.
    pub fn latest(&self) -> Result<Option<Checkpoint>> {
        self.latest_with_rejected().map(|(found, _)| found)
    }

    /// [`latest`](Self::latest), with the newer directories that were passed over.
    ///
    /// # Errors
    /// As there.
    pub fn latest_with_rejected(&self) -> Result<(Option<Checkpoint>, Vec<Rejected>)> {
        self.clear_leftovers()?;
        let mut rejected = Vec::new();
        for step in self.steps()?.into_iter().rev() {
            match self.load(step) {
                Ok(checkpoint) => return Ok((Some(checkpoint), rejected)),
                Err(error @ Error::Checkpoint { .. }) => rejected.push(Rejected {
                    path: self.path_of(step),
                    error,
                }),
                Err(error) => return Err(error),
            }
        }
        let count = rejected.len();
        match rejected.into_iter().next() {
            None => Ok((None, Vec::new())),
            Some(newest) => Err(Error::NoUsableCheckpoint {
                path: self.directory.clone(),
                count,
                newest: Box::new(newest.error),
            }),
        }
    }

    /// Reads and verifies the checkpoint of `step`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] with the first defect found, [`Error::File`] if a file cannot be read.
    pub fn load(&self, step: u64) -> Result<Checkpoint> {
        let manifest = self.manifest(step)?;
        let mut files = CheckpointFiles::new();
        for (name, entry) in manifest.files {
            let bytes = self.read(&self.path_of(step).join(&name))?;
            let found = sha256(&bytes);
            if found != entry.sha256 {
                self.damaged().insert(step);
                return Err(self.defect(
                    step,
                    CheckpointDefect::Hash {
                        name,
                        expected: entry.sha256,
                        found,
                    },
                ));
            }
            files.insert(name, bytes);
        }
        Ok(Checkpoint { step, files })
    }

    /// Steps of the checkpoint directories present, ascending; not verified.
    ///
    /// # Errors
    /// [`Error::File`] if the directory cannot be listed.
    pub fn steps(&self) -> Result<Vec<u64>> {
        let mut steps: Vec<u64> = self.list()?.iter().filter_map(|n| parse_name(n)).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// Removes all but the newest `n` checkpoints (at least one stays). A directory whose manifest
    /// is damaged, whose file sizes are wrong, or that this store has read and found damaged does not
    /// count as one of the `n`; contents are not hashed again.
    ///
    /// # Errors
    /// [`Error::File`] with the operation and path that failed.
    pub fn keep_last(&self, n: usize) -> Result<()> {
        let mut good = 0;
        for step in self.steps()?.into_iter().rev() {
            if good < n.max(1) {
                match self.manifest(step) {
                    // Else a run that passed it over would lose what it writes after that.
                    Ok(_) if self.damaged().contains(&step) => {}
                    Ok(_) => good += 1,
                    Err(Error::Checkpoint { .. }) => {}
                    Err(error) => return Err(error),
                }
                continue;
            }
            let path = self.path_of(step);
            let trash = self
                .directory
                .join(format!("{TRASH}{}", directory_name(step)));
            self.remove_if_present(&trash)?;
            self.rename(&path, &trash)?;
            self.remove_if_present(&trash)?;
        }
        Ok(())
    }

    /// A set is never half changed, so a panic elsewhere does not matter.
    fn damaged(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Directory of the checkpoint of `step`, whether or not it exists.
    pub fn path_of(&self, step: u64) -> PathBuf {
        self.directory.join(directory_name(step))
    }

    /// The manifest, with names and sizes of all files checked.
    fn manifest(&self, step: u64) -> Result<Manifest> {
        let directory = self.path_of(step);
        let refuse = |defect| Err(self.defect(step, defect));
        let path = directory.join(MANIFEST);
        if self.size(&path)?.is_none() {
            return refuse(CheckpointDefect::NoManifest);
        }
        let manifest: Manifest = match serde_json::from_slice(&self.read(&path)?) {
            Ok(manifest) => manifest,
            Err(error) => {
                return refuse(CheckpointDefect::BadManifest {
                    reason: error.to_string(),
                });
            }
        };
        if manifest.schema != SCHEMA {
            return refuse(CheckpointDefect::Schema {
                expected: SCHEMA.to_owned(),
                found: manifest.schema,
            });
        }
        if manifest.step != step {
            return refuse(CheckpointDefect::Step {
                expected: step,
                found: manifest.step,
            });
        }
        for (name, entry) in &manifest.files {
            let name = name.clone();
            if !is_plain(&name) {
                return refuse(CheckpointDefect::FileName { name });
            }
            // The size first, so that a swapped file cannot fill the memory.
            match self.size(&directory.join(&name))? {
                None => return refuse(CheckpointDefect::MissingFile { name }),
                Some(found) if found != entry.size => {
                    return refuse(CheckpointDefect::Size {
                        name,
                        expected: entry.size,
                        found,
                    });
                }
                Some(_) => {}
            }
        }
        Ok(manifest)
    }

    fn clear_leftovers(&self) -> Result<()> {
        let entries = self.list()?;
        for entry in &entries {
            let path = self.directory.join(entry);
            if let Some(name) = entry.strip_prefix(OLD)
                && parse_name(name).is_some()
                && !entries.iter().any(|other| other == name)
            {
                self.rename(&path, &self.directory.join(name))?;
                self.sync_dir(&self.directory)?;
                continue;
            }
            let leftover = [TEMPORARY, OLD, TRASH]
                .iter()
                .filter_map(|prefix| entry.strip_prefix(prefix))
                .any(|name| parse_name(name).is_some());
            if leftover {
                self.remove_if_present(&path)?;
            }
        }
        Ok(())
    }

    fn defect(&self, step: u64, defect: CheckpointDefect) -> Error {
        Error::Checkpoint {
            path: self.path_of(step),
            defect,
        }
    }

    fn list(&self) -> Result<Vec<String>> {
        self.layer
            .list(&self.directory)
            .map_err(file_error(FileOperation::List, &self.directory))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        self.layer
            .read(path)
            .map_err(file_error(FileOperation::Read, path))
    }

    /// `None` if there is no such regular file.
    fn size(&self, path: &Path) -> Result<Option<u64>> {
        match self.layer.size(path) {
            Ok(size) => Ok(Some(size)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::NotADirectory
                        | io::ErrorKind::InvalidInput
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(file_error(FileOperation::Read, path)(error)),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.layer
            .rename(from, to)
            .map_err(file_error(FileOperation::Rename, from))
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.layer
            .sync_dir(path)
            .map_err(file_error(FileOperation::Sync, path))
    }

    fn remove_if_present(&self, path: &Path) -> Result<()> {
        match self.layer.remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(file_error(FileOperation::Remove, path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// The newest checkpoint of a run directory that verifies; see [`CheckpointStore::latest`].
///
/// # Errors
/// As there.
pub fn latest(run_dir: impl AsRef<Path>) -> Result<Option<Checkpoint>> {
    CheckpointStore::new(run_dir).latest()
}

fn directory_name(step: u64) -> String {
    format!("step-{step:08}")
}

/// Step of a directory name made by [`directory_name`]; other spellings of a number are not ours.
fn parse_name(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (directory_name(step) == name).then_some(step)
}

/// A name that stays inside its directory under the rules of every system, and is not the manifest.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name != MANIFEST
        && name.len() <= 200
        && !name.starts_with('.')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::new_with_prefix(bytes))
}

fn hex(digest: Sha256) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(64);
    for byte in digest.finalize() {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::fs;

    use super::*;
    use crate::faults::{FAULTS, Failing};

    fn files(tag: u8) -> CheckpointFiles {
        CheckpointFiles::from([
            ("model.safetensors".into(), vec![tag; 300]),
            ("state.json".into(), vec![tag, 1, 2]),
            ("empty".into(), vec![]),
        ])
    }

    /// Runs `scenario` with the k-th operation failing, for every k until none fails; after each,
    /// what the disk holds must satisfy `check`. Returns how many faults were injected.
    fn every_fault(
        prepare: impl Fn(&CheckpointStore),
        scenario: impl Fn(&CheckpointStore) -> Result<()>,
        check: impl Fn(Checkpoint, bool),
    ) -> usize {
        let mut injected = 0;
        for fault in FAULTS {
            for at in 0.. {
                let run = tempfile::tempdir().unwrap();
                prepare(&CheckpointStore::new(run.path()));
                let layer = Arc::new(Failing::new(fault, at));
                let result = scenario(&CheckpointStore::with_layer(run.path(), layer.clone()));
                let reached = layer.reached();
                if let Err(error) = &result {
                    fault.check(error);
                }
                let after = CheckpointStore::new(run.path());
                let found = after.latest().unwrap().expect("a checkpoint was lost");
                check(found, result.is_ok());
                let names = DiskLayer.list(&run.path().join(DIRECTORY)).unwrap();
                assert!(names.iter().all(|n| !n.starts_with('.')), "{names:?}");
                // And the run goes on.
                after.save(3, &files(3)).unwrap();
                assert_eq!(after.latest().unwrap().unwrap().files, files(3));
                if !reached {
                    assert!(result.is_ok());
                    break;
                }
                injected += 1;
            }
        }
        injected
    }

    /// Hands out parts of these lengths, then maybe an error.
    struct Parts(Vec<usize>, bool);

    impl CheckpointContent for Parts {
        fn write(&self, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
            for (byte, length) in (1..).zip(&self.0) {
                out(&vec![byte; *length])?;
            }
            let name = "parts".to_owned();
            self.1
                .then_some(())
                .ok_or(Error::CheckpointFileName { name })
        }
    }

    #[test]
    fn parts_of_any_length_are_one_file() {
        let run = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(run.path());
        let lengths = [
            vec![],
            vec![0],
            vec![3, 0, 5],
            vec![GATHERED, 1],
            vec![1, GATHERED],
            vec![7, GATHERED + 1, 2, 2 * GATHERED, 9],
        ];
        for (step, lengths) in (0..).zip(lengths) {
            let expected: Vec<u8> = (1..)
                .zip(&lengths)
                .flat_map(|(byte, length)| vec![byte; *length])
                .collect();
            let files = BTreeMap::from([("file".to_owned(), Parts(lengths, true))]);
            store.save(step, &files).unwrap();
            let found = store.latest().unwrap().unwrap();
            assert_eq!(
                (found.step, found.file("file").unwrap()),
                (step, &expected[..])
            );
        }
    }

    #[test]
    fn content_that_fails_leaves_what_was_there() {
        let run = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(run.path());
        store.save(1, &files(1)).unwrap();
        let broken = BTreeMap::from([("file".to_owned(), Parts(vec![3, 2 * GATHERED], false))]);
        for step in [1, 2] {
            let error = store.save(step, &broken).unwrap_err();
            assert!(matches!(error, Error::CheckpointFileName { .. }), "{error}");
            let names = DiskLayer.list(&run.path().join(DIRECTORY)).unwrap();
            assert_eq!(names, [directory_name(1)]);
            assert_eq!(store.latest().unwrap().unwrap().files, files(1));
        }
    }

    #[test]
    fn no_fault_loses_a_checkpoint() {
        let injected = every_fault(
            |store| {
                store.save(1, &files(1)).unwrap();
            },
            |store| {
                store.save(2, &files(2))?;
                store.keep_last(1)
            },
            |found, ok| {
                assert!(found.step == 1 || found.step == 2);
                assert_eq!(found.files, files(found.step as u8));
                if ok {
                    assert_eq!(found.step, 2);
                }
            },
        );
        assert!(injected > 60, "{injected}");
    }

    #[test]
    fn no_fault_loses_the_only_checkpoint_when_its_step_is_written_again() {
        let injected = every_fault(
            |store| {
                store.save(2, &files(1)).unwrap();
            },
            |store| store.save(2, &files(9)).map(drop),
            |found, ok| {
                assert_eq!(found.step, 2);
                assert!(found.files == files(1) || found.files == files(9));
                if ok {
                    assert_eq!(found.files, files(9));
                }
            },
        );
        assert!(injected > 50, "{injected}");
    }

    #[test]
    fn no_fault_in_reading_loses_anything() {
        every_fault(
            |store| {
                store.save(1, &files(1)).unwrap();
                store.save(2, &files(2)).unwrap();
                let crashed = store.directory.join(".tmp-step-00000003");
                fs::create_dir_all(crashed).unwrap();
                fs::rename(store.path_of(2), store.directory.join(".old-step-00000002")).unwrap();
            },
            |store| store.latest().map(drop),
            |found, _| assert_eq!((found.step, found.files), (2, files(2))),
        );
    }

    #[test]
    fn keep_last_keeps_the_newest() {
        let run = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(run.path());
        for step in [5, 100_000_000, 10, 20] {
            store.save(step, &files(1)).unwrap();
        }
        store.keep_last(2).unwrap();
        assert_eq!(store.steps().unwrap(), [20, 100_000_000]);
        store.keep_last(0).unwrap();
        assert_eq!(store.steps().unwrap(), [100_000_000]);
    }

    #[test]
    fn keep_last_does_not_count_damaged_ones() {
        let run = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(run.path());
        for step in 1..=3 {
            store.save(step, &files(step as u8)).unwrap();
        }
        fs::remove_file(store.path_of(3).join("state.json")).unwrap();
        store.keep_last(1).unwrap();
        assert_eq!(store.latest().unwrap().unwrap().step, 2);
    }

    #[test]
    fn what_is_written_after_a_damaged_one_was_passed_over_stays() {
        let run = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(run.path());
        store.save(10, &files(1)).unwrap();
        store.save(20, &files(2)).unwrap();
        // Of the right size, so that only reading shows it.
        fs::write(store.path_of(20).join("state.json"), [0, 0, 0]).unwrap();
        assert_eq!(store.latest().unwrap().unwrap().step, 10);
        store.save(15, &files(3)).unwrap();
        store.keep_last(1).unwrap();
        assert_eq!(store.latest().unwrap().unwrap().step, 15);
        // Written again it counts.
        store.save(20, &files(4)).unwrap();
        store.keep_last(1).unwrap();
        assert_eq!(store.steps().unwrap(), [20]);
        assert_eq!(store.latest().unwrap().unwrap().files, files(4));
    }

    #[test]
    fn an_empty_or_absent_directory_is_no_error() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(latest(run.path()).unwrap(), None);
        assert_eq!(latest(run.path().join("absent")).unwrap(), None);
    }

    /// Damages the only checkpoint; it must be refused with this defect, and a store with an older
    /// one must fall back to it.
    fn refused(damage: impl Fn(&Path), expected: impl Fn(&CheckpointDefect) -> bool) {
        for older in [false, true] {
            let run = tempfile::tempdir().unwrap();
            let store = CheckpointStore::new(run.path());
            if older {
                store.save(4, &files(4)).unwrap();
            }
            damage(&store.save(7, &files(7)).unwrap());
            let error = store.load(7).unwrap_err();
            assert!(
                matches!(&error, Error::Checkpoint { defect, .. } if expected(defect)),
                "{error}"
            );
            if older {
                let (found, rejected) = store.latest_with_rejected().unwrap();
                assert_eq!(found.unwrap().step, 4);
                assert_eq!(rejected.len(), 1);
                assert_eq!(rejected[0].path, store.path_of(7));
            } else {
                let lost = store.latest();
                assert!(matches!(
                    lost,
                    Err(Error::NoUsableCheckpoint { count: 1, .. })
                ));
            }
        }
    }

    fn edit_manifest(directory: &Path, change: impl Fn(&mut serde_json::Value)) {
        let path = directory.join(MANIFEST);
        let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        fs::write(&path, serde_json::to_vec(&value).unwrap()).unwrap();
    }

    #[test]
    fn hostile_checkpoints_are_refused() {
        use CheckpointDefect as D;
        refused(
            |d| fs::remove_file(d.join(MANIFEST)).unwrap(),
            |e| matches!(e, D::NoManifest),
        );
        refused(
            |d| fs::write(d.join(MANIFEST), b"{\"schema\":").unwrap(),
            |e| matches!(e, D::BadManifest { .. }),
        );
        refused(
            |d| fs::write(d.join(MANIFEST), "[".repeat(100_000)).unwrap(),
            |e| matches!(e, D::BadManifest { .. }),
        );
        refused(
            |d| edit_manifest(d, |m| m["schema"] = "other/1".into()),
            |e| matches!(e, D::Schema { .. }),
        );
        refused(
            |d| edit_manifest(d, |m| m["step"] = 8.into()),
            |e| {
                matches!(
                    e,
                    D::Step {
                        expected: 7,
                        found: 8
                    }
                )
            },
        );
        refused(
            |d| fs::remove_file(d.join("state.json")).unwrap(),
            |e| matches!(e, D::MissingFile { name } if name == "state.json"),
        );
        refused(
            |d| fs::write(d.join("model.safetensors"), [7; 299]).unwrap(),
            |e| {
                matches!(
                    e,
                    D::Size {
                        expected: 300,
                        found: 299,
                        ..
                    }
                )
            },
        );
        refused(
            |d| {
                let mut bytes = vec![7; 300];
                bytes[150] ^= 1;
                fs::write(d.join("model.safetensors"), bytes).unwrap();
            },
            |e| matches!(e, D::Hash { name, .. } if name == "model.safetensors"),
        );
        refused(
            |d| {
                fs::remove_file(d.join("empty")).unwrap();
                fs::create_dir(d.join("empty")).unwrap();
            },
            |e| matches!(e, D::MissingFile { name } if name == "empty"),
        );
        for name in [
            "../x",
            "/etc/passwd",
            "a/b",
            "a\\b",
            "c:x",
            "..",
            "",
            "manifest.json",
            "\0",
        ] {
            refused(
                |d| {
                    edit_manifest(d, |m| {
                        m["files"][name] = serde_json::json!({"size": 0, "sha256": ""});
                    });
                },
                |e| matches!(e, D::FileName { name: found } if found == name),
            );
        }
    }

    #[test]
    fn a_file_cut_at_any_byte_is_refused() {
        let run = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(run.path());
        let directory = store.save(1, &files(1)).unwrap();
        for name in ["model.safetensors", MANIFEST] {
            let whole = fs::read(directory.join(name)).unwrap();
            for cut in 0..whole.len() {
                fs::write(directory.join(name), &whole[..cut]).unwrap();
                let refused = store.load(1);
                assert!(
                    matches!(refused, Err(Error::Checkpoint { .. })),
                    "{name} {cut}"
                );
            }
            fs::write(directory.join(name), &whole).unwrap();
        }
        assert!(store.load(1).is_ok());
    }

    #[test]
    fn names_that_leave_the_directory_are_not_written() {
        let run = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(run.path());
        for name in ["../x", "a/b", "", ".hidden", MANIFEST] {
            let files = CheckpointFiles::from([(name.to_owned(), vec![])]);
            let refused = store.save(1, &files);
            assert!(
                matches!(refused, Err(Error::CheckpointFileName { .. })),
                "{name}"
            );
        }
        assert_eq!(DiskLayer.list(run.path()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn foreign_entries_are_left_alone() {
        let run = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(run.path());
        store.save(1, &files(1)).unwrap();
        for name in [".tmp-mine", "step-2", "notes", ".old-step-1"] {
            fs::create_dir(store.directory.join(name)).unwrap();
        }
        assert_eq!(store.latest().unwrap().unwrap().step, 1);
        assert_eq!(DiskLayer.list(&store.directory).unwrap().len(), 5);
    }

    #[test]
    fn a_missing_file_is_named() {
        let run = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(run.path());
        store.save(1, &files(1)).unwrap();
        let found = store.latest().unwrap().unwrap();
        assert_eq!(found.file("state.json").unwrap(), [1, 1, 2]);
        assert!(matches!(
            found.file("queue.safetensors"),
            Err(Error::CheckpointFile { step: 1, name }) if name == "queue.safetensors"
        ));
    }
}
