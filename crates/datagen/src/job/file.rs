//! The file operations of a journal behind traits, so that a test can make any one of them fail.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Opens the files of journals.
pub(super) trait Files {
    /// Opens or creates a file that grows.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn JournalFile>>;
    /// Flushes the entries of a folder to the disk.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// A file that grows.
pub(super) trait JournalFile: Debug + Send + Sync {
    /// Writes all of `bytes` at the end; after an error a part of them may be there.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file to this length.
    fn cut(&self, length: u64) -> io::Result<()>;
    /// Flushes what was written to the disk.
    fn sync(&self) -> io::Result<()>;
    /// Fills `bytes` from this position on.
    fn read(&self, position: u64, bytes: &mut [u8]) -> io::Result<()>;
}

/// The disk.
#[derive(Debug)]
pub(super) struct Disk;

#[derive(Debug)]
struct DiskFile {
    append: File,
    /// Of its own, because reading moves the position.
    read: Mutex<File>,
}

impl Files for Disk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn JournalFile>> {
        let append = File::options().create(true).append(true).open(path)?;
        Ok(Arc::new(DiskFile {
            append,
            read: Mutex::new(File::open(path)?),
        }))
    }

    #[cfg(unix)]
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    // Elsewhere a folder cannot be opened as a file.
    #[cfg(not(unix))]
    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl JournalFile for DiskFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.append).write_all(bytes)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.append.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.append.sync_data()
    }

    fn read(&self, position: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut file = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(position))?;
        file.read_exact(bytes)
    }
}
