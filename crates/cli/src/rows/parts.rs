//! Output that a killed run leaves usable: written in parts that are complete or absent, joined at
//! the end.
//!
//! ```text
//! FILE.parts/manifest.json     input, settings and model that the parts were made of
//! FILE.parts/lock              held by the process at work
//! FILE.parts/part-000000.tsv   a chunk of rows each
//! FILE.parts/part-000000.*     what is kept beside the output of this chunk
//! FILE.parts/finished          FILE is complete, the parts are being removed
//! ```
//!
//! A file of a part is written to a temporary name, flushed to the disk and renamed; the part itself
//! comes after what is kept beside it, so that a part that is there is whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use lockfile::{LockError, LockFile};
use serde_json::{Map, Value, json};

use crate::error::CliError;

const SCHEMA: &str = "asterism/parts/1";
const MANIFEST: &str = "manifest.json";
const LOCK: &str = "lock";
const FINISHED: &str = "finished";

/// The parts of one output file.
#[derive(Debug)]
pub(crate) struct Parts {
    dir: PathBuf,
    ending: &'static str,
    /// Held for as long as the value lives.
    _lock: LockFile,
}

/// Parts to work on, or nothing to do.
pub(crate) enum Opened {
    /// New or from an earlier run.
    Parts(Parts),
    /// The file was complete already; only its parts had not been removed.
    Complete,
}

/// What to do about what is there already.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Replace {
    /// Throw away the parts of an earlier run.
    pub(crate) restart: bool,
    /// Replace a file that is there.
    pub(crate) force: bool,
}

/// The folder beside `out`.
pub(crate) fn folder(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".parts");
    PathBuf::from(name)
}

impl Parts {
    /// Opens the parts of `out`. `made_of` says what they depend on; parts made of something else are
    /// refused. `targets` are the files that must not be there when a run begins.
    pub(crate) fn open(
        out: &Path,
        ending: &'static str,
        made_of: Map<String, Value>,
        targets: &[&Path],
        replace: Replace,
    ) -> Result<Opened, CliError> {
        let dir = folder(out);
        let failed = |operation| CliError::file(operation, &dir);
        let manifest = dir.join(MANIFEST);
        if dir.exists() && !manifest.exists() && !is_bare(&dir).map_err(failed("read"))? {
            return Err(CliError::Parts {
                path: dir,
                problem: "there is no manifest.json in it; nothing was changed".to_owned(),
                help: "remove the folder or choose another --out".to_owned(),
            });
        }
        if !manifest.exists() {
            refuse_existing(targets, replace)?;
        }
        fs::create_dir_all(&dir).map_err(failed("create"))?;
        let lock = LockFile::take(&dir.join(LOCK)).map_err(|error| match error {
            LockError::Held { holder, .. } => CliError::Parts {
                path: dir.clone(),
                problem: format!("another process is working on it ({holder})"),
                help: "wait for it to end".to_owned(),
            },
            LockError::File {
                operation,
                path,
                source,
            } => CliError::file(operation, &path)(source),
        })?;
        let parts = Self {
            dir,
            ending,
            _lock: lock,
        };
        if parts.dir.join(FINISHED).exists() && out.exists() && !replace.restart {
            parts.remove()?;
            return Ok(Opened::Complete);
        }
        if replace.restart && manifest.exists() {
            refuse_existing(targets, replace)?;
            parts.remove_parts()?;
        }
        if manifest.exists() {
            parts.check(&manifest, &made_of)?;
        } else {
            let mut content = Map::new();
            content.insert("schema".to_owned(), json!(SCHEMA));
            content.extend(made_of);
            let content = Value::Object(content).to_string();
            write_whole(&manifest, |out| out.write_all(content.as_bytes()))?;
        }
        Ok(Opened::Parts(parts))
    }

    /// Compares what the parts were made of with what they would be made of now.
    fn check(&self, manifest: &Path, made_of: &Map<String, Value>) -> Result<(), CliError> {
        let content = fs::read(manifest).map_err(CliError::file("read", manifest))?;
        let broken = |problem: String| CliError::Parts {
            path: self.dir.clone(),
            problem: format!("manifest.json: {problem}; nothing was changed"),
            help: "begin anew with --restart".to_owned(),
        };
        let found: Value =
            serde_json::from_slice(&content).map_err(|error| broken(error.to_string()))?;
        if found.get("schema") != Some(&json!(SCHEMA)) {
            return Err(broken(format!("expected the schema {SCHEMA}")));
        }
        let changed: Vec<String> = made_of
            .iter()
            .filter_map(|(key, now)| {
                let before = found.get(key).unwrap_or(&Value::Null);
                (before != now).then(|| format!("{key} was {before} and is {now}"))
            })
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        Err(CliError::Parts {
            path: self.dir.clone(),
            problem: format!(
                "the parts were made of something else: {}; nothing was changed",
                changed.join(", ")
            ),
            help: "repeat the command as it was, or begin anew with --restart".to_owned(),
        })
    }

    fn path(&self, index: u64, ending: &str) -> PathBuf {
        self.dir.join(format!("part-{index:06}.{ending}"))
    }

    /// The file of a part.
    pub(crate) fn part(&self, index: u64) -> PathBuf {
        self.path(index, self.ending)
    }

    /// Whether a part is there, which means that it is whole.
    pub(crate) fn has(&self, index: u64) -> bool {
        self.part(index).exists()
    }

    /// Writes a part and what is kept beside it.
    pub(crate) fn write(
        &self,
        index: u64,
        bytes: &[u8],
        beside: &[(&'static str, Vec<u8>)],
    ) -> Result<(), CliError> {
        for (ending, bytes) in beside {
            write_whole(&self.path(index, ending), |out| out.write_all(bytes))?;
        }
        write_whole(&self.part(index), |out| out.write_all(bytes))
    }

    /// What is kept beside a part.
    pub(crate) fn beside(&self, index: u64, ending: &str) -> Result<Vec<u8>, CliError> {
        let path = self.path(index, ending);
        fs::read(&path).map_err(CliError::file("read", &path))
    }

    /// The output is complete: removes the folder. A process that is killed meanwhile leaves the mark
    /// by which the next one knows.
    pub(crate) fn conclude(self) -> Result<(), CliError> {
        write_whole(&self.dir.join(FINISHED), |_| Ok(()))?;
        self.remove()
    }

    /// Removes parts and manifest, and then the rest of the folder.
    fn remove(&self) -> Result<(), CliError> {
        self.remove_parts()?;
        for name in [FINISHED, LOCK] {
            remove_file(&self.dir.join(name))?;
        }
        fs::remove_dir(&self.dir).map_err(CliError::file("remove", &self.dir))
    }

    /// Removes the parts and last of all the manifest.
    fn remove_parts(&self) -> Result<(), CliError> {
        let failed = || CliError::file("read", &self.dir);
        for entry in fs::read_dir(&self.dir).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("part-") || name.ends_with(TEMPORARY) {
                remove_file(&entry.path())?;
            }
        }
        remove_file(&self.dir.join(MANIFEST))
    }
}

/// Whether a folder holds nothing but what a run leaves that is killed before its manifest.
fn is_bare(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name != LOCK && !name.ends_with(TEMPORARY) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Files of an earlier run are not replaced unless that was asked for.
pub(crate) fn refuse_existing(targets: &[&Path], replace: Replace) -> Result<(), CliError> {
    match targets.iter().find(|path| path.exists()) {
        Some(path) if !replace.force => Err(CliError::Exists {
            path: (*path).to_owned(),
        }),
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> Result<(), CliError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CliError::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Ending of files that are being written.
const TEMPORARY: &str = ".tmp";

/// Writes a file that is there whole or not at all: temporary name, flush to the disk, rename, flush
/// of the folder.
pub(crate) fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), CliError> {
    write_whole_with(path, |out| {
        write(out).map_err(CliError::file("write", path))
    })
}

/// As [`write_whole`], for content with errors of its own.
pub(crate) fn write_whole_with(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY);
    let temporary = PathBuf::from(name);
    let failed = || CliError::file("write", path);
    let outcome = File::create(&temporary)
        .map_err(CliError::file("create", &temporary))
        .and_then(|file| {
            let mut out = BufWriter::new(file);
            write(&mut out)?;
            let file = out
                .into_inner()
                .map_err(|error| failed()(error.into_error()))?;
            file.sync_all().map_err(failed())?;
            fs::rename(&temporary, path).map_err(failed())
        });
    if outcome.is_err() {
        // Gives a full disk its space back. The error to report is the first one.
        let _ = fs::remove_file(&temporary);
        return outcome;
    }
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(CliError::file("flush", folder))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn made_of(chunk: usize) -> Map<String, Value> {
        json!({"input": "abc", "chunk": chunk})
            .as_object()
            .unwrap()
            .clone()
    }

    fn open(out: &Path, chunk: usize, replace: Replace) -> Result<Opened, CliError> {
        Parts::open(out, "tsv", made_of(chunk), &[out], replace)
    }

    fn parts(opened: Result<Opened, CliError>) -> Parts {
        match opened.unwrap() {
            Opened::Parts(parts) => parts,
            Opened::Complete => panic!("complete"),
        }
    }

    #[test]
    fn parts_are_found_again_and_removed_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out.tsv");
        let first = parts(open(&out, 2, Replace::default()));
        assert!(!first.has(0));
        first.write(0, b"a\n", &[("pool", b"p".to_vec())]).unwrap();
        // What a killed process leaves of a part.
        fs::write(dir.path().join("out.tsv.parts/part-000001.tsv.tmp"), "b").unwrap();
        drop(first);
        let second = parts(open(&out, 2, Replace::default()));
        assert!(second.has(0) && !second.has(1));
        assert_eq!(second.beside(0, "pool").unwrap(), b"p");
        assert!(second.beside(1, "pool").is_err());
        fs::write(&out, "a\n").unwrap();
        second.conclude().unwrap();
        assert!(!folder(&out).exists());
    }

    #[test]
    fn a_process_killed_while_it_tidies_up_has_done_its_work() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out.tsv");
        let first = parts(open(&out, 2, Replace::default()));
        first.write(0, b"a\n", &[]).unwrap();
        fs::write(first.dir.join(FINISHED), "").unwrap();
        drop(first);
        fs::write(&out, "a\n").unwrap();
        assert!(matches!(
            open(&out, 2, Replace::default()).unwrap(),
            Opened::Complete
        ));
        assert!(!folder(&out).exists());
    }

    #[test]
    fn other_settings_files_and_folders_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out.tsv");
        let first = parts(open(&out, 2, Replace::default()));
        first.write(0, b"a\n", &[]).unwrap();
        let error = open(&out, 2, Replace::default()).err().unwrap();
        assert!(error.to_string().contains("another process"), "{error}");
        drop(first);
        let error = open(&out, 3, Replace::default()).err().unwrap();
        assert!(
            error.to_string().contains("chunk was 2 and is 3"),
            "{error}"
        );
        let restart = Replace {
            restart: true,
            force: false,
        };
        assert!(!parts(open(&out, 3, restart)).has(0));
        fs::write(folder(&out).join(MANIFEST), "{").unwrap();
        let error = open(&out, 3, Replace::default()).err().unwrap();
        assert!(error.to_string().contains("manifest.json: "), "{error}");

        let other = dir.path().join("there.tsv");
        fs::write(&other, "precious").unwrap();
        let error = open(&other, 2, Replace::default()).err().unwrap();
        assert!(matches!(error, CliError::Exists { .. }), "{error}");
        assert!(!folder(&other).exists());
        let force = Replace {
            restart: false,
            force: true,
        };
        parts(open(&other, 2, force)).write(0, b"x", &[]).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"precious");
        // The run that replaces the file goes on without being told again.
        assert!(parts(open(&other, 2, Replace::default())).has(0));

        let strange = dir.path().join("strange.tsv");
        fs::create_dir(folder(&strange)).unwrap();
        fs::write(folder(&strange).join("notes"), "mine").unwrap();
        let error = open(&strange, 2, Replace::default()).err().unwrap();
        assert!(error.to_string().contains("no manifest.json"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_finished_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let error = write_whole(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert!(error.is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
