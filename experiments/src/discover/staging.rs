//! A run directory that appears all at once.
//!
//! Everything is written to `OUT.unfinished` beside `OUT` and renamed in the end, so a run that was
//! killed leaves nothing under the name of a finished one.

use std::path::{Path, PathBuf};

use training::{RunDir, RunManifest};

use super::error::DiscoverError;
use crate::error::RunError;

/// Name of the experiment in manifests and results.
pub(crate) const EXPERIMENT: &str = "discover";
/// Directory of the training inside the run.
pub(crate) const TRAINING: &str = "training";

/// An unfinished run directory, locked by this process.
#[derive(Debug)]
pub(crate) struct Staging {
    dir: RunDir,
    out: PathBuf,
}

/// The directory that `out` is prepared in.
pub(crate) fn unfinished(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".unfinished");
    PathBuf::from(name)
}

/// Refuses an `out` that holds anything.
pub(crate) fn check_target(out: &Path) -> Result<(), DiscoverError> {
    let not_empty = || DiscoverError::NotEmpty {
        path: out.to_owned(),
    };
    if out.file_name().is_none() {
        return Err(DiscoverError::Option {
            option: "--out",
            problem: format!("{} is no name for a new directory", out.display()),
        });
    }
    match std::fs::read_dir(out) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(not_empty()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(_) if out.is_file() => Err(not_empty()),
        Err(source) => Err(DiscoverError::file("open", out)(source)),
    }
}

impl Staging {
    /// Begins a run directory, or goes on with the one that an earlier process has left. Of that only
    /// the training is kept, and only if settings, data and model are the same.
    ///
    /// # Errors
    /// `out` holds something; another process is at work; an unfinished training of other settings.
    pub(crate) fn open(
        out: &Path,
        config_toml: &str,
        manifest: &RunManifest,
    ) -> Result<Self, DiscoverError> {
        check_target(out)?;
        let path = unfinished(out);
        if path.join("manifest.json").is_file() {
            let (dir, old) = RunDir::open(&path)?;
            let differs = |what| DiscoverError::Unfinished {
                path: path.clone(),
                what,
            };
            if old.experiment != EXPERIMENT {
                return Err(differs("another experiment"));
            }
            let same = old.data == manifest.data && old.model == manifest.model;
            let same_settings = dir.config()? == config_toml;
            if path.join(TRAINING).is_dir() {
                if !same {
                    return Err(differs("other data or another model"));
                }
                if !same_settings {
                    return Err(differs("other settings"));
                }
                return Ok(Self {
                    dir,
                    out: out.to_owned(),
                });
            }
            // Nothing in it is worth keeping.
            drop(dir);
            std::fs::remove_dir_all(&path).map_err(DiscoverError::file("remove", &path))?;
        }
        Ok(Self {
            dir: RunDir::create(&path, config_toml, manifest)?,
            out: out.to_owned(),
        })
    }

    /// The unfinished directory.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), DiscoverError> {
        self.dir.write(name, bytes)?;
        Ok(())
    }

    /// Gives the directory its name, which is returned. What is in it must be complete.
    pub(crate) fn publish(self) -> Result<PathBuf, DiscoverError> {
        let path = self.dir.path().to_owned();
        // The lock belongs to the unfinished run.
        let Self { dir, out } = self;
        drop(dir);
        check_target(&out)?;
        if out.is_dir() {
            std::fs::remove_dir(&out)
                .map_err(DiscoverError::file("replace the empty directory", &out))?;
        }
        std::fs::rename(&path, &out).map_err(DiscoverError::file("finish", &out))?;
        // The rename is durable when the directory it happened in is.
        let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Ok(parent) = std::fs::File::open(parent.unwrap_or(Path::new("."))) {
            // Not every file system can; the run is complete either way.
            let _ = parent.sync_all();
        }
        Ok(out)
    }
}

/// A manifest of this program on this machine.
pub(crate) fn manifest(seed: u64, device: &str, command: Vec<String>) -> RunManifest {
    let mut manifest = RunManifest::new(EXPERIMENT, seed);
    manifest
        .versions
        .insert("asterism".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    manifest
        .versions
        .insert("burn".to_owned(), "0.22.1".to_owned());
    manifest.device = device.to_owned();
    manifest.command = command;
    manifest.threads = rayon::current_num_threads();
    manifest
}

/// For `map_err`: what cannot be said in JSON.
pub(crate) fn no_json(error: serde_json::Error) -> DiscoverError {
    RunError::Data(error.to_string()).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_run_appears_complete_or_not_at_all() {
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("run");
        let manifest = manifest(0, "flex", Vec::new());
        let staging = Staging::open(&out, "a = 1\n", &manifest).unwrap();
        staging.write("x.json", b"{}").unwrap();
        assert!(!out.exists());
        assert!(Staging::open(&out, "a = 1\n", &manifest).is_err(), "locked");
        drop(staging);
        // Killed: what was written is not taken over.
        std::fs::create_dir(&out).unwrap();
        let staging = Staging::open(&out, "a = 2\n", &manifest).unwrap();
        assert!(!staging.path().join("x.json").exists());
        staging.write("y.json", b"{}").unwrap();
        staging.publish().unwrap();
        assert!(out.join("y.json").is_file() && out.join("manifest.json").is_file());
        assert!(!unfinished(&out).exists());
        let error = Staging::open(&out, "a = 2\n", &manifest).unwrap_err();
        assert!(error.to_string().contains("is not empty"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn an_unfinished_training_is_kept_for_the_same_run_only() {
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("run");
        let mut manifest = manifest(0, "flex", Vec::new());
        let staging = Staging::open(&out, "a = 1\n", &manifest).unwrap();
        staging.write("training/x", b"state").unwrap();
        drop(staging);
        let error = Staging::open(&out, "a = 2\n", &manifest).unwrap_err();
        assert!(error.to_string().contains("other settings"), "{error}");
        let again = Staging::open(&out, "a = 1\n", &manifest).unwrap();
        assert!(again.path().join("training/x").is_file());
        drop(again);
        manifest.data.insert("a".to_owned(), "b".to_owned());
        let error = Staging::open(&out, "a = 1\n", &manifest).unwrap_err();
        assert!(error.to_string().contains("other data"), "{error}");
    }

    #[test]
    fn a_target_that_is_no_directory_name_is_refused() {
        for bad in ["/", "..", "a/.."] {
            assert!(check_target(Path::new(bad)).is_err(), "{bad}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(check_target(file.path()).is_err());
    }
}
