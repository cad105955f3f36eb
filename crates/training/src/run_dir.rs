//! The run directory.
//!
//! ```text
//! config.toml      settings, fully resolved
//! manifest.json    what a reader needs to repeat the run
//! metrics.jsonl    one object per logged step
//! events/          TensorBoard
//! checkpoints/     see `CheckpointStore`
//! lock             held by the process at work
//! ```
//!
//! A directory that holds anything else is never written to. The lock is the operating system's
//! (released when the process ends, however it ends), so a killed run needs no clearing up.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lockfile::{LockError, LockFile};
use serde::{Deserialize, Serialize};

use crate::error::{Error, FileOperation, Result, file_error};
use crate::file_layer::{DiskLayer, FileLayer, write_atomically};

const SCHEMA: &str = "asterism/run/1";
const MANIFEST: &str = "manifest.json";
const CONFIG: &str = "config.toml";
const LOCK: &str = "lock";

/// Contents of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunManifest {
    /// Format, `asterism/run/1`; filled in by [`RunManifest::new`].
    pub schema: String,
    /// Experiment, such as `star_down`.
    pub experiment: String,
    /// Seed of the run.
    pub seed: u64,
    /// SHA-256 of each data file by name.
    pub data: BTreeMap<String, String>,
    /// SHA-256 of each file of the model by name.
    pub model: BTreeMap<String, String>,
    /// Versions of this program and of the libraries that decide results.
    pub versions: BTreeMap<String, String>,
    /// Device, as given with `--device`.
    pub device: String,
    /// Command line, program first.
    pub command: Vec<String>,
    /// Threads of the CPU backend.
    pub threads: usize,
}

impl RunManifest {
    /// A manifest with the given experiment and seed and nothing else filled in.
    pub fn new(experiment: impl Into<String>, seed: u64) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            experiment: experiment.into(),
            seed,
            data: BTreeMap::new(),
            model: BTreeMap::new(),
            versions: BTreeMap::new(),
            device: String::new(),
            command: Vec::new(),
            threads: 0,
        }
    }
}

/// A run directory whose lock this process holds.
pub struct RunDir {
    path: PathBuf,
    layer: Arc<dyn FileLayer>,
    // Dropping it releases the lock.
    _lock: LockFile,
}

impl std::fmt::Debug for RunDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunDir")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl RunDir {
    /// Makes a new run directory, or takes an empty one.
    ///
    /// # Errors
    /// [`Error::RunExists`] for one that already holds a run, [`Error::ForeignDirectory`] for one
    /// that holds anything else, [`Error::Locked`] if another process is making it, [`Error::File`].
    pub fn create(
        path: impl Into<PathBuf>,
        config_toml: &str,
        manifest: &RunManifest,
    ) -> Result<Self> {
        Self::create_with(Arc::new(DiskLayer), path, config_toml, manifest)
    }

    /// The same through another file layer, which everything but the lock goes through.
    ///
    /// # Errors
    /// As there.
    pub fn create_with(
        layer: Arc<dyn FileLayer>,
        path: impl Into<PathBuf>,
        config_toml: &str,
        manifest: &RunManifest,
    ) -> Result<Self> {
        let path = path.into();
        if path.join(MANIFEST).is_file() && read_manifest(&*layer, &path).is_ok() {
            return Err(Error::RunExists { path });
        }
        // A run that died before its manifest was written leaves these and nothing else.
        let entries = layer
            .list(&path)
            .map_err(file_error(FileOperation::List, &path))?;
        let ours = [LOCK, CONFIG, "config.toml.tmp", "manifest.json.tmp"];
        let beginning = entries.iter().any(|entry| entry == LOCK);
        if let Some(entry) = entries
            .iter()
            .find(|e| !(beginning && ours.contains(&e.as_str())))
        {
            return Err(Error::ForeignDirectory {
                path,
                entry: entry.clone(),
            });
        }
        layer
            .create_dir_all(&path)
            .map_err(file_error(FileOperation::CreateDir, &path))?;
        let lock = take_lock(&path)?;
        // Another process may have finished between the look and the lock.
        if path.join(MANIFEST).exists() {
            return Err(Error::RunExists { path });
        }
        write_atomically(&*layer, &path.join(CONFIG), config_toml.as_bytes())?;
        let mut text = serde_json::to_vec_pretty(manifest).map_err(|source| Error::Json {
            operation: "write the run manifest",
            source,
        })?;
        text.push(b'\n');
        write_atomically(&*layer, &path.join(MANIFEST), &text)?;
        Ok(Self {
            path,
            layer,
            _lock: lock,
        })
    }

    /// Opens an existing run directory to resume it.
    ///
    /// # Errors
    /// [`Error::NotARun`] if it holds no readable manifest, [`Error::Locked`] if a run is at work in
    /// it, [`Error::File`].
    pub fn open(path: impl Into<PathBuf>) -> Result<(Self, RunManifest)> {
        Self::open_with(Arc::new(DiskLayer), path)
    }

    /// The same through another file layer, which everything but the lock goes through.
    ///
    /// # Errors
    /// As there.
    pub fn open_with(
        layer: Arc<dyn FileLayer>,
        path: impl Into<PathBuf>,
    ) -> Result<(Self, RunManifest)> {
        let path = path.into();
        let manifest = read_manifest(&*layer, &path)?;
        let lock = take_lock(&path)?;
        let run = Self {
            path,
            layer,
            _lock: lock,
        };
        Ok((run, manifest))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `metrics.jsonl`.
    pub fn metrics_path(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The TensorBoard event file. Its name carries no time or host, so that a resumed run goes on
    /// in the same file.
    pub fn events_path(&self) -> PathBuf {
        self.path
            .join("events")
            .join("events.out.tfevents.0.asterism")
    }

    /// Text of `config.toml`.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn config(&self) -> Result<String> {
        let path = self.path.join(CONFIG);
        self.layer
            .read(&path)
            .and_then(|bytes| {
                String::from_utf8(bytes)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
            })
            .map_err(file_error(FileOperation::Read, &path))
    }

    /// Writes a file of the run (`result.json`, `report.html`) under a temporary name, then renames
    /// it. `name` may contain directories, which are made.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::Setting`] if `name` would leave the directory.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let relative = Path::new(name);
        let inside = relative
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        if !inside || relative.file_name().is_none() {
            return Err(Error::Setting {
                operation: "write a file of the run",
                field: "name".into(),
                expected: "a relative path without `..`".into(),
                found: name.into(),
            });
        }
        let path = self.path.join(relative);
        if let Some(parent) = path.parent() {
            self.layer
                .create_dir_all(parent)
                .map_err(file_error(FileOperation::CreateDir, parent))?;
        }
        write_atomically(&*self.layer, &path, bytes)?;
        Ok(path)
    }
}

fn read_manifest(layer: &dyn FileLayer, path: &Path) -> Result<RunManifest> {
    let refuse = |reason: String| Error::NotARun {
        path: path.to_owned(),
        reason,
    };
    let file = path.join(MANIFEST);
    let bytes = layer.read(&file).map_err(|source| match source.kind() {
        // What is there is no run directory; otherwise nothing is known of it.
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            refuse(format!("{MANIFEST}: {source}"))
        }
        _ => file_error(FileOperation::Read, file.as_path())(source),
    })?;
    let manifest: RunManifest =
        serde_json::from_slice(&bytes).map_err(|e| refuse(format!("{MANIFEST}: {e}")))?;
    if manifest.schema != SCHEMA {
        return Err(refuse(format!(
            "{MANIFEST}: field `schema`: expected `{SCHEMA}`, found `{}`",
            manifest.schema
        )));
    }
    Ok(manifest)
}

fn take_lock(directory: &Path) -> Result<LockFile> {
    LockFile::take(&directory.join(LOCK)).map_err(|error| match error {
        LockError::Held { holder, .. } => Error::Locked {
            path: directory.to_owned(),
            holder,
        },
        LockError::File { path, source, .. } => file_error(FileOperation::Lock, &path)(source),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::fs;

    use super::*;

    fn manifest() -> RunManifest {
        let mut manifest = RunManifest::new("star_down", 3);
        manifest.data.insert("train.tsv".into(), "ab".into());
        manifest.command = vec!["star_down".into(), "--seeds".into(), "3".into()];
        manifest.device = "flex".into();
        manifest.threads = 2;
        manifest
    }

    #[test]
    fn create_then_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs/first");
        let run = RunDir::create(&path, "lr = 5e-5\n", &manifest()).unwrap();
        assert_eq!(run.config().unwrap(), "lr = 5e-5\n");
        drop(run);
        let (run, found) = RunDir::open(&path).unwrap();
        assert_eq!(found, manifest());
        assert!(run.metrics_path().starts_with(run.path()));
        assert!(run.events_path().starts_with(run.path()));
        let names = DiskLayer.list(run.path()).unwrap();
        assert_eq!(names, ["config.toml", "lock", "manifest.json"]);
    }

    #[test]
    fn an_existing_run_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        drop(RunDir::create(dir.path(), "a = 1\n", &manifest()).unwrap());
        let refused = RunDir::create(dir.path(), "a = 2\n", &manifest());
        assert!(matches!(refused, Err(Error::RunExists { .. })));
        let (run, _) = RunDir::open(dir.path()).unwrap();
        assert_eq!(run.config().unwrap(), "a = 1\n");
    }

    #[test]
    fn a_foreign_directory_is_left_alone() {
        for entry in ["thesis.tex", "manifest.json", "config.toml"] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(entry), "{}").unwrap();
            let refused = RunDir::create(dir.path(), "", &manifest());
            assert!(
                matches!(&refused, Err(Error::ForeignDirectory { entry: found, .. }) if found == entry),
                "{refused:?}"
            );
            assert_eq!(DiskLayer.list(dir.path()).unwrap(), [entry]);
            assert!(RunDir::open(dir.path()).is_err());
        }
    }

    #[test]
    fn a_run_that_died_before_its_manifest_can_begin_again() {
        let dir = tempfile::tempdir().unwrap();
        drop(RunDir::create(dir.path(), "a = 1\n", &manifest()).unwrap());
        fs::rename(
            dir.path().join("manifest.json"),
            dir.path().join("manifest.json.tmp"),
        )
        .unwrap();
        RunDir::create(dir.path(), "a = 2\n", &manifest()).unwrap();
    }

    #[test]
    fn one_run_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = RunDir::create(dir.path(), "", &manifest()).unwrap();
        let second = RunDir::open(dir.path());
        assert!(
            matches!(&second, Err(Error::Locked { holder, .. }) if holder.ends_with(&format!("process {}", std::process::id()))),
            "{second:?}"
        );
        drop(first);
        RunDir::open(dir.path()).unwrap();
    }

    #[test]
    fn other_manifests_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "{", "[]", "{\"schema\":\"asterism/run/1\"}"] {
            fs::write(dir.path().join("manifest.json"), text).unwrap();
            assert!(
                matches!(RunDir::open(dir.path()), Err(Error::NotARun { .. })),
                "{text}"
            );
        }
        let mut other = manifest();
        other.schema = "asterism/run/9".into();
        fs::write(
            dir.path().join("manifest.json"),
            serde_json::to_vec(&other).unwrap(),
        )
        .unwrap();
        assert!(matches!(
            RunDir::open(dir.path()),
            Err(Error::NotARun { .. })
        ));
    }

    #[test]
    fn files_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(dir.path(), "", &manifest()).unwrap();
        let written = run.write("plots/acc.svg", b"<svg/>").unwrap();
        assert_eq!(fs::read(written).unwrap(), b"<svg/>");
        for name in ["../x", "/x", "", "a/../../x"] {
            assert!(
                matches!(run.write(name, b""), Err(Error::Setting { .. })),
                "{name}"
            );
        }
    }
}
