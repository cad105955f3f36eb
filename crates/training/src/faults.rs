//! A file layer that fails on purpose, for tests.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Error;
use crate::file_layer::{AppendFile, DiskLayer, FileLayer};

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// The k-th operation fails, later ones work.
    Once(io::ErrorKind),
    /// Writes half of the bytes before it fails, as a full disk does.
    Torn,
    /// From the k-th operation on nothing works any more, as after a kill.
    Crash,
}

/// Every way.
pub(crate) const FAULTS: [Fault; 4] = [
    Fault::Once(io::ErrorKind::PermissionDenied),
    Fault::Once(io::ErrorKind::StorageFull),
    Fault::Torn,
    Fault::Crash,
];

impl Fault {
    /// An error that came of this fault says what failed, and whether the disk was full.
    pub(crate) fn check(self, error: &Error) {
        assert!(matches!(error, Error::File { .. }), "{self:?}: {error}");
        let full = self != Self::Once(io::ErrorKind::PermissionDenied);
        assert_eq!(error.is_disk_full(), full, "{error}");
    }
}

/// Counts operations and fails from or at the k-th.
#[derive(Clone)]
struct Trap {
    calls: Arc<AtomicUsize>,
    at: usize,
    fault: Fault,
}

impl Trap {
    fn hit(&self) -> io::Result<()> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let fails = match self.fault {
            Fault::Crash => call >= self.at,
            _ => call == self.at,
        };
        match (fails, self.fault) {
            (false, _) => Ok(()),
            (true, Fault::Once(kind)) => Err(io::Error::from(kind)),
            (true, _) => Err(io::Error::from(io::ErrorKind::StorageFull)),
        }
    }

    /// Writes all bytes, or on a hit what a full disk takes of them.
    fn write(&self, bytes: &[u8], write: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if let Err(error) = self.hit() {
            if self.fault == Fault::Torn {
                write(&bytes[..bytes.len() / 2])?;
            }
            return Err(error);
        }
        write(bytes)
    }
}

/// The disk, until it fails. Nothing is really flushed: no test pulls the plug, and thousands of
/// flushes take minutes.
pub(crate) struct Failing(Trap);

impl Failing {
    /// Fails at the operation with this 0-based number.
    pub(crate) fn new(fault: Fault, at: usize) -> Self {
        Self(Trap {
            calls: Arc::default(),
            at,
            fault,
        })
    }

    /// Never fails.
    pub(crate) fn never() -> Self {
        Self::new(Fault::Crash, usize::MAX)
    }

    /// Whether that operation has come.
    pub(crate) fn reached(&self) -> bool {
        self.0.calls.load(Ordering::SeqCst) > self.0.at
    }
}

struct FailingFile {
    file: Box<dyn AppendFile>,
    trap: Trap,
}

impl AppendFile for FailingFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self { file, trap } = self;
        trap.write(bytes, |bytes| file.append(bytes))
    }

    fn sync(&self) -> io::Result<()> {
        self.trap.hit()
    }
}

impl FileLayer for Failing {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.hit()?;
        DiskLayer.create_dir_all(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.0.write(bytes, |bytes| DiskLayer.write(path, bytes))
    }

    fn append_after(&self, path: &Path, length: u64) -> io::Result<Box<dyn AppendFile>> {
        self.0.hit()?;
        Ok(Box::new(FailingFile {
            file: DiskLayer.append_after(path, length)?,
            trap: self.0.clone(),
        }))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.0.hit()?;
        DiskLayer.size(path).map(drop)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.hit()?;
        fs::read_dir(path).map(drop)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.hit()?;
        DiskLayer.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.hit()?;
        DiskLayer.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        if let Err(error) = self.0.hit() {
            // A removal that is cut off has removed something already.
            let manifest = path.join("manifest.json");
            if manifest.exists() && self.0.fault != Fault::Crash {
                fs::remove_file(manifest)?;
            }
            return Err(error);
        }
        DiskLayer.remove_dir_all(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.hit()?;
        DiskLayer.read(path)
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        self.0.hit()?;
        DiskLayer.size(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.0.hit()?;
        DiskLayer.list(path)
    }
}
