//! Lock files: one process at a time in a directory or at a file.
//!
//! The lock belongs to the operating system, which releases it however its process ends: a file
//! that a killed process left behind locks nothing. What stands in the file says who holds it.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! let path = dir.path().join("lock");
//! let lock = lockfile::LockFile::take(&path)?;
//! let error = lockfile::LockFile::take(&path).unwrap_err();
//! assert!(matches!(error, lockfile::LockError::Held { .. }));
//! drop(lock);
//! lockfile::LockFile::take(&path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Most bytes read of what another process left in its lock file.
const HOLDER_BYTES: u64 = 200;

/// Why a lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error("{} is locked by {holder}", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Program and process number, as far as known.
        holder: String,
    },
    /// The lock file cannot be opened, locked or written.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A lock that is held until it is dropped. Its file stays.
#[derive(Debug)]
pub struct LockFile {
    file: File,
}

impl LockFile {
    /// Takes the lock of the file at `path`, which is made if there is none, and does not wait for
    /// it.
    ///
    /// # Errors
    /// [`LockError::Held`] while another process, or another [`LockFile`] of this one, has it;
    /// [`LockError::File`].
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let failed = |operation| {
            move |source| LockError::File {
                operation,
                path: path.to_owned(),
                source,
            }
        };
        // Not truncated here: until the lock is ours, its content is another's.
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held {
                    path: path.to_owned(),
                    holder: holder(&mut file),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
        }
        let mut lock = Self { file };
        lock.sign().map_err(failed("write"))?;
        Ok(lock)
    }

    /// For whoever comes too late; the lock itself does not depend on it.
    fn sign(&mut self) -> io::Result<()> {
        let program = std::env::current_exe().ok();
        let program = program.as_deref().and_then(Path::file_stem);
        let program = program.map_or_else(|| "a program".into(), |name| name.to_string_lossy());
        self.file.set_len(0)?;
        writeln!(self.file, "{program}, process {}", std::process::id())
    }
}

impl Drop for LockFile {
    /// Closing the file is not enough. A process started by another thread holds a copy of every
    /// open file until it executes its program, and with it the lock, which is that of the open
    /// file and not of the process.
    fn drop(&mut self) {
        // What fails here is released when the file is closed.
        let _ = self.file.unlock();
    }
}

/// Who wrote the lock file, as far as it can be read.
fn holder(file: &mut File) -> String {
    let mut text = Vec::new();
    let read = file
        .rewind()
        .and_then(|()| file.take(HOLDER_BYTES).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text).replace(|c: char| c.is_control(), " ");
    match (read, text.trim()) {
        (Err(_), _) | (_, "") => "another process".to_owned(),
        (Ok(_), text) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::fs;

    use super::*;

    #[test]
    fn a_second_lock_is_refused_and_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = LockFile::take(&path).unwrap();
        let error = LockFile::take(&path).unwrap_err();
        let LockError::Held { holder, .. } = &error else {
            panic!("{error}")
        };
        let process = format!(", process {}", std::process::id());
        assert!(holder.ends_with(&process), "{holder}");
        drop(lock);
        LockFile::take(&path).unwrap();
    }

    #[test]
    fn a_copy_of_the_open_file_does_not_keep_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = LockFile::take(&path).unwrap();
        // What a process holds that was started but has not executed its program yet.
        let copy = lock.file.try_clone().unwrap();
        drop(lock);
        LockFile::take(&path).unwrap();
        drop(copy);
    }

    #[test]
    fn what_another_left_locks_nothing_and_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        fs::write(
            &path,
            "a much longer program name than ours, process 1\n".repeat(9),
        )
        .unwrap();
        let _lock = LockFile::take(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let process = format!(", process {}\n", std::process::id());
        assert!(
            text.ends_with(&process) && text.lines().count() == 1,
            "{text}"
        );
    }

    #[test]
    fn whatever_stands_in_a_lock_file_is_shown_safely() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let _lock = LockFile::take(&path).unwrap();
        for (bytes, shown) in [
            (&b""[..], "another process"),
            (b" \n", "another process"),
            (b"\x1b[2Jx\xff\n", "[2Jx\u{fffd}"),
        ] {
            fs::write(&path, bytes).unwrap();
            let LockError::Held { holder, .. } = LockFile::take(&path).unwrap_err() else {
                panic!("not held")
            };
            assert_eq!(holder, shown);
        }
        fs::write(&path, "x".repeat(1_000)).unwrap();
        let LockError::Held { holder, .. } = LockFile::take(&path).unwrap_err() else {
            panic!("not held")
        };
        assert_eq!(holder.len(), 200);
    }

    #[test]
    fn a_place_that_does_not_exist_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = LockFile::take(&dir.path().join("none/lock")).unwrap_err();
        let said = error.to_string();
        assert!(
            said.starts_with("cannot open ") && said.contains("none"),
            "{said}"
        );
    }
}
