//! Journals on disks that fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use super::file::{Disk, Files, JournalFile};
use super::tests::{Scripted, calls, config, mixed, say};
use super::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The k-th operation fails, later ones work.
    Once(io::ErrorKind),
    /// Writes half of the bytes before it fails, as a full disk does.
    Torn,
    /// From the k-th operation on nothing works any more.
    Gone,
}

const FAULTS: [Fault; 4] = [
    Fault::Once(io::ErrorKind::PermissionDenied),
    Fault::Once(io::ErrorKind::StorageFull),
    Fault::Torn,
    Fault::Gone,
];

/// A disk that fails at its k-th operation, and forgets what was not flushed when the power goes.
#[derive(Debug, Clone)]
struct FailingDisk {
    fault: Fault,
    at: usize,
    calls: Arc<AtomicUsize>,
    /// Bytes of the file that are safe.
    flushed: Arc<AtomicU64>,
}

impl FailingDisk {
    fn new(fault: Fault, at: usize) -> Self {
        Self {
            fault,
            at,
            calls: Arc::default(),
            flushed: Arc::default(),
        }
    }

    fn reached(&self) -> bool {
        self.calls.load(Ordering::SeqCst) > self.at
    }

    fn hit(&self) -> io::Result<()> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let fails = match self.fault {
            Fault::Gone => call >= self.at,
            _ => call == self.at,
        };
        match (fails, self.fault) {
            (false, _) => Ok(()),
            (true, Fault::Once(kind)) => Err(io::Error::from(kind)),
            (true, _) => Err(io::Error::from(io::ErrorKind::StorageFull)),
        }
    }
}

#[derive(Debug)]
struct FailingFile {
    disk: FailingDisk,
    file: Arc<dyn JournalFile>,
    written: AtomicU64,
}

impl Files for FailingDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn JournalFile>> {
        self.hit()?;
        let file = Disk.open(path)?;
        let written = fs::metadata(path)?.len();
        self.flushed.store(written, Ordering::SeqCst);
        Ok(Arc::new(FailingFile {
            disk: self.clone(),
            file,
            written: AtomicU64::new(written),
        }))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.hit()?;
        Disk.sync_folder(folder)
    }
}

impl JournalFile for FailingFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let hit = self.disk.hit();
        let takes = match (&hit, self.disk.fault) {
            (Ok(()), _) => bytes,
            (Err(_), Fault::Torn) => &bytes[..bytes.len() / 2],
            (Err(_), _) => &[],
        };
        self.file.append(takes)?;
        self.written.fetch_add(takes.len() as u64, Ordering::SeqCst);
        hit
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.disk.hit()?;
        self.written.store(length, Ordering::SeqCst);
        self.file.cut(length)
    }

    fn sync(&self) -> io::Result<()> {
        // What comes after the call is not part of it.
        let written = self.written.load(Ordering::SeqCst);
        self.disk.hit()?;
        self.file.sync()?;
        self.disk.flushed.store(written, Ordering::SeqCst);
        Ok(())
    }

    fn read(&self, position: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.disk.hit()?;
        self.file.read(position, bytes)
    }
}

const CALLS: usize = 12;

/// Answers handed on, by the id of their call.
type Handed = Vec<(String, Option<String>)>;

/// Runs the job over a journal; what was handed on stays in `handed` however it ends.
fn run(journal: &Journal, asked: &AtomicU64, handed: &mut Handed) -> Result<JobSummary, JobError> {
    let source = Scripted::new(|call: &Call, attempt| {
        asked.fetch_add(1, Ordering::SeqCst);
        say(mixed(call, attempt))
    });
    let checks = TextChecks::default();
    Job::new(&source, journal)
        .config(config(2))
        .checks(Checks::Text(&checks))
        .run_each(calls(CALLS), |call, answer| {
            handed.push((call.id.clone(), answer.map(str::to_owned)));
            Ok(())
        })
}

/// A job with the k-th file operation of its journal failing, for every k until none fails; then the
/// power goes, and whatever was not flushed is lost. Every answer that was handed on is still there,
/// nothing that is there is asked again, and the job comes to the same end.
#[test]
fn no_fault_loses_an_answer_that_was_handed_on() {
    let (nothing, all) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut expected = Handed::new();
    let whole = run(&Journal::in_memory(), &all, &mut expected).unwrap();
    let mut injected = 0;
    for fault in FAULTS {
        // A journal that begins, one that goes on, one whose last line was cut off by a kill.
        for before in 0..3 {
            for at in 0.. {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("journal.jsonl");
                if before > 0 {
                    let journal = Journal::open(&path).unwrap();
                    run_some(&journal, 5);
                }
                if before > 1 {
                    let mut bytes = fs::read(&path).unwrap();
                    bytes.truncate(bytes.len() - 7);
                    fs::write(&path, bytes).unwrap();
                }
                let there = lines(&path);
                let disk = FailingDisk::new(fault, at);
                let length = fs::metadata(&path).map_or(0, |file| file.len());
                disk.flushed.store(length, Ordering::SeqCst);
                let mut handed = Handed::new();
                let broken = Journal::open_through(&disk, &path)
                    .map_err(JobError::from)
                    .and_then(|journal| run(&journal, &nothing, &mut handed));
                if let Err(error) = &broken {
                    let what = format!("{fault:?} at {at}, {before}: {error}");
                    let JobError::Journal(error) = error else {
                        panic!("{what}");
                    };
                    assert!(
                        matches!(
                            error,
                            JournalError::File { .. } | JournalError::Closed { .. }
                        ),
                        "{what}"
                    );
                }
                assert!(
                    expected.starts_with(&handed),
                    "{fault:?} at {at}: {handed:?}"
                );
                // The power goes.
                if path.exists() {
                    let file = fs::File::options().write(true).open(&path).unwrap();
                    file.set_len(disk.flushed.load(Ordering::SeqCst)).unwrap();
                }
                let kept = lines(&path);
                assert!(kept >= there, "{fault:?} at {at}, {before}");
                let asked = AtomicU64::new(0);
                let journal = Journal::open(&path).unwrap();
                assert_eq!(journal.opened().answers, kept);
                let mut again = Handed::new();
                let summary = run(&journal, &asked, &mut again).unwrap();
                assert_eq!((&again, &summary.report), (&expected, &whole.report));
                let of_handed = handed.len() as u64;
                assert!(
                    kept >= of_handed,
                    "{fault:?} at {at}: {kept} of {of_handed}"
                );
                let asked = asked.load(Ordering::SeqCst);
                assert_eq!(
                    asked + kept,
                    all.load(Ordering::SeqCst),
                    "{fault:?} at {at}"
                );
                if !disk.reached() {
                    broken.unwrap();
                    break;
                }
                injected += 1;
            }
        }
    }
    assert!(injected > 200, "{injected}");
}

/// Some of the calls, so that a journal has something in it.
fn run_some(journal: &Journal, count: usize) {
    let source = Scripted::new(|call: &Call, attempt| say(mixed(call, attempt)));
    let checks = TextChecks::default();
    Job::new(&source, journal)
        .config(config(1))
        .checks(Checks::Text(&checks))
        .run(calls(count))
        .unwrap();
}

fn lines(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap_or_default();
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// The system reports what it could not write once; the next flush succeeds and proves nothing.
#[test]
fn after_a_failed_flush_nothing_counts_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    // Opening is the first operation, the folder the second, a line the third, its flush the fourth.
    let disk = FailingDisk::new(Fault::Once(io::ErrorKind::Other), 3);
    let journal = Journal::open_through(&disk, &path).unwrap();
    let mut handed = Handed::new();
    let asked = AtomicU64::new(0);
    let error = run_one(&journal, &asked, &mut handed).unwrap_err();
    assert!(matches!(
        error,
        JobError::Journal(JournalError::File {
            operation: "flush to the disk",
            ..
        })
    ));
    let error = run_one(&journal, &asked, &mut handed).unwrap_err();
    assert!(
        matches!(error, JobError::Journal(JournalError::Closed { .. })),
        "{error}"
    );
    assert_eq!(handed, []);
}

fn run_one(
    journal: &Journal,
    asked: &AtomicU64,
    handed: &mut Handed,
) -> Result<JobSummary, JobError> {
    let source = Scripted::new(|_: &Call, _| {
        asked.fetch_add(1, Ordering::SeqCst);
        say("An answer.")
    });
    Job::new(&source, journal)
        .config(config(1))
        .run_each(calls(1), |call, answer| {
            handed.push((call.id.clone(), answer.map(str::to_owned)));
            Ok(())
        })
}
