//! Every file operation fails once, with and without a trace, once or from then on.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use categories::file_layer::{DiskLayer, FileLayer};
use categories::{CategoryId, Edit, LOG_FILE, NameSource, Store, StoreError};

use crate::support::{Quick, catalogue, ids, part, view};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// This operation fails, the next ones work.
    Once,
    /// Nothing works any more, as after a crash.
    Dead,
}

/// The disk, until the operation with number `fail`.
#[derive(Debug, Clone)]
struct Faulty {
    fail: usize,
    fault: Fault,
    /// Whether half of the bytes are written before a write fails.
    half: bool,
    count: Arc<AtomicUsize>,
}

impl Faulty {
    fn turn(&self) -> io::Result<()> {
        let now = self.count.fetch_add(1, Ordering::SeqCst);
        if now == self.fail || (self.fault == Fault::Dead && now > self.fail) {
            Err(io::Error::other("out of order"))
        } else {
            Ok(())
        }
    }

    /// Whether this is the very operation that fails.
    fn now(&self) -> bool {
        self.count.load(Ordering::SeqCst) == self.fail + 1
    }
}

impl FileLayer for Faulty {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.turn().and_then(|()| DiskLayer.create_dir_all(path))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.turn().and_then(|()| DiskLayer.read(path))
    }
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.turn().or_else(|error| {
            if self.half && self.now() {
                File::create(path)?.write_all(&bytes[..bytes.len() / 2])?;
            }
            Err(error)
        })?;
        DiskLayer.write(path, bytes)
    }
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.turn().or_else(|error| {
            if self.half && self.now() {
                DiskLayer.append(path, &bytes[..bytes.len() / 2])?;
            }
            Err(error)
        })?;
        DiskLayer.append(path, bytes)
    }
    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        self.turn().and_then(|()| DiskLayer.truncate(path, length))
    }
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.turn().and_then(|()| Quick.sync_file(path))
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.turn().and_then(|()| Quick.sync_dir(path))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.turn().and_then(|()| DiskLayer.rename(from, to))
    }
}

/// Edits that take two undone steps and every kind of line.
fn edits(store: &mut Store, step: usize) -> Result<u64, StoreError> {
    let catalogue = match step {
        0 => store.apply(Edit::Rename {
            id: CategoryId(2),
            name: "wire".to_owned(),
            source: NameSource::Human,
        }),
        1 => store.apply(Edit::Merge {
            ids: ids(&[0, 1]),
            name: None,
        }),
        2 => store.undo(),
        3 => store.redo(),
        _ => store.apply(Edit::Split {
            id: CategoryId(3),
            parts: vec![part("a", 70), part("b", 71)],
        }),
    }?;
    Ok(catalogue.revision)
}

#[test]
fn no_acknowledged_edit_is_lost_and_every_failure_is_an_error() {
    let mut operations = usize::MAX;
    // Without a failure first, to count.
    let reference = tempfile::tempdir().unwrap();
    let mut states = Vec::new();
    {
        let count = Arc::new(AtomicUsize::new(0));
        let layer = Faulty {
            fail: usize::MAX,
            fault: Fault::Once,
            half: false,
            count: count.clone(),
        };
        let mut store = Store::create_with(layer, reference.path(), catalogue()).unwrap();
        states.push(store.catalogue().clone());
        for step in 0..5 {
            edits(&mut store, step).unwrap();
            states.push(store.catalogue().clone());
        }
        operations = operations.min(count.load(Ordering::SeqCst));
    }
    assert!(operations > 35, "{operations}");

    let mut seen = std::collections::BTreeSet::new();
    for fail in 0..operations {
        for fault in [Fault::Once, Fault::Dead] {
            for half in [false, true] {
                let dir = tempfile::tempdir().unwrap();
                let count = Arc::new(AtomicUsize::new(0));
                let layer = Faulty {
                    fail,
                    fault,
                    half,
                    count,
                };
                let mut acknowledged = 0;
                // The highest revision that may be on the disk without anybody having been told.
                let mut possible = 0;
                match Store::create_with(layer, dir.path(), catalogue()) {
                    Ok(mut store) => {
                        acknowledged = 1;
                        for step in 0..5 {
                            match edits(&mut store, step) {
                                Ok(revision) => acknowledged = revision,
                                Err(StoreError::Unpublished { revision, .. }) => {
                                    seen.insert("unpublished");
                                    assert_eq!(store.catalogue().revision, revision);
                                    acknowledged = revision;
                                }
                                Err(error) => {
                                    seen.insert(match error {
                                        StoreError::File { .. } => "file",
                                        StoreError::Poisoned { .. } => "poisoned",
                                        error => panic!("{error}"),
                                    });
                                    assert_eq!(store.catalogue().revision, acknowledged);
                                    possible = acknowledged + 1;
                                    break;
                                }
                            }
                            assert_eq!(
                                view(store.catalogue()),
                                view(&states[acknowledged as usize - 1])
                            );
                        }
                    }
                    Err(StoreError::Unpublished { revision, .. }) => acknowledged = revision,
                    Err(StoreError::File { .. }) => possible = 1,
                    Err(error) => panic!("{error}"),
                }
                possible = possible.max(acknowledged);
                if acknowledged == 0 && !dir.path().join(LOG_FILE).exists() {
                    // Nothing came to be, and nothing is in the way of another try.
                    Store::create_with(Quick, dir.path(), catalogue()).unwrap();
                    continue;
                }
                let mut store = Store::open_with(Quick, dir.path()).unwrap();
                let revision = store.catalogue().revision;
                assert!(
                    (acknowledged..=possible).contains(&revision),
                    "{fail} {fault:?} {half}"
                );
                assert_eq!(store.catalogue(), &states[revision as usize - 1]);
                let json = std::fs::read_to_string(dir.path().join("categories.json")).unwrap();
                assert_eq!(json, store.catalogue().to_json().unwrap());
                for step in revision as usize - 1..5 {
                    edits(&mut store, step).unwrap();
                }
                assert_eq!(store.catalogue(), &states[5]);
                assert_eq!(store.replay().unwrap(), states[5]);
            }
        }
    }
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        ["file", "poisoned", "unpublished"]
    );
}

#[test]
fn opening_fails_cleanly_wherever_it_fails() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::create_with(Quick, dir.path(), catalogue()).unwrap();
    let old = std::fs::read(dir.path().join("categories.json")).unwrap();
    edits(&mut store, 0).unwrap();
    let expected = store.catalogue().clone();
    drop(store);
    let log = std::fs::read(dir.path().join(LOG_FILE)).unwrap();
    let mut failures = 0;
    for fail in 0.. {
        // A torn line and a catalogue that is behind.
        std::fs::write(
            dir.path().join(LOG_FILE),
            [&log[..], b"{\"revision\":3,"].concat(),
        )
        .unwrap();
        std::fs::write(dir.path().join("categories.json"), &old).unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let layer = Faulty {
            fail,
            fault: Fault::Once,
            half: true,
            count: count.clone(),
        };
        let opened = Store::open_with(layer, dir.path());
        if count.load(Ordering::SeqCst) <= fail {
            assert_eq!(opened.unwrap().healed().len(), 2);
            break;
        }
        failures += 1;
        let error = opened.unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::File { .. } | StoreError::Unpublished { .. }
            ),
            "{error}"
        );
        assert_eq!(
            Store::open_with(Quick, dir.path()).unwrap().catalogue(),
            &expected
        );
    }
    assert_eq!(failures, 9);
}
