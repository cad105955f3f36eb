//! File operations behind a trait, so that a test can make any one of them fail.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{FileOperation, Result, file_error};

/// A file that only grows, open for as long as it does.
pub trait AppendFile: Send {
    /// Writes all of `bytes` at the end.
    ///
    /// # Errors
    /// The system's; a part of the bytes may have been written then.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Flushes the file to the disk.
    ///
    /// # Errors
    /// The system's.
    fn sync(&self) -> io::Result<()>;
}

/// The file operations a run directory is made of.
pub trait FileLayer: Send + Sync {
    /// Creates a directory and its parents; an existing one is fine.
    ///
    /// # Errors
    /// The system's.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Creates or replaces a file.
    ///
    /// # Errors
    /// The system's.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Opens or creates a file and cuts it to `length` bytes, to be continued there.
    ///
    /// # Errors
    /// The system's.
    fn append_after(&self, path: &Path, length: u64) -> io::Result<Box<dyn AppendFile>>;
    /// Flushes a file to the disk.
    ///
    /// # Errors
    /// The system's.
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Flushes the entries of a directory to the disk.
    ///
    /// # Errors
    /// The system's.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Renames a file or directory.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// The system's.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all it holds.
    ///
    /// # Errors
    /// The system's.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Reads a file.
    ///
    /// # Errors
    /// The system's.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Size of a file in bytes.
    ///
    /// # Errors
    /// The system's.
    fn size(&self, path: &Path) -> io::Result<u64>;
    /// Names of the entries of a directory, sorted; none if it does not exist. Names that are not
    /// UTF-8 are left out.
    ///
    /// # Errors
    /// The system's.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
}

/// The disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskLayer;

impl AppendFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

impl FileLayer for DiskLayer {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)
    }

    fn append_after(&self, path: &Path, length: u64) -> io::Result<Box<dyn AppendFile>> {
        let file = File::options().create(true).append(true).open(path)?;
        file.set_len(length)?;
        Ok(Box::new(file))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        // Opened for writing because Windows flushes nothing else.
        File::options().write(true).open(path)?.sync_all()
    }

    #[cfg(unix)]
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    // Elsewhere a directory cannot be opened as a file.
    #[cfg(not(unix))]
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        let metadata = fs::symlink_metadata(path)?;
        if metadata.is_file() {
            Ok(metadata.len())
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ))
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// Replaces a file: what `path` names afterwards is the old content or the new, never a part. The
/// bytes go to `<path>.tmp` first, which is flushed, renamed, and its directory flushed.
///
/// # Errors
/// [`Error::File`](crate::Error::File) with the operation that failed; the temporary file is removed
/// then, as far as the system lets it.
pub fn write_atomically(layer: &dyn FileLayer, path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = temporary_name(path);
    let replaced = layer
        .write(&temporary, bytes)
        .map_err(file_error(FileOperation::Write, &temporary))
        .and_then(|()| {
            layer
                .sync_file(&temporary)
                .map_err(file_error(FileOperation::Sync, &temporary))
        })
        .and_then(|()| {
            layer
                .rename(&temporary, path)
                .map_err(file_error(FileOperation::Rename, &temporary))
        });
    if replaced.is_err() {
        // Gives a full disk its space back. The error to report is the first one.
        let _ = layer.remove_file(&temporary);
        return replaced;
    }
    // A bare file name lies in the working directory.
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    layer
        .sync_dir(folder)
        .map_err(file_error(FileOperation::Sync, folder))
}

/// Where the bytes of `path` are before they are complete.
fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}
