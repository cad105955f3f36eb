//! SIGINT and SIGTERM: the first asks the run to stop after the step at work, the second ends the
//! process at once.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, Result};

/// Who asked the run to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// Ctrl-C, or quitting in the dashboard.
    Interrupt,
    /// A polite kill.
    Terminate,
}

impl Interruption {
    /// Exit code by convention: 128 + number of the signal.
    pub const fn exit_code(self) -> i32 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }

    const fn code(self) -> usize {
        match self {
            Self::Interrupt => 1,
            Self::Terminate => 2,
        }
    }
}

impl fmt::Display for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "interrupted",
            Self::Terminate => "terminated",
        })
    }
}

/// Error of a program that stopped on request, after saving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{interruption} after step {step}; everything up to there is saved")]
pub struct Interrupted {
    /// Who asked.
    pub interruption: Interruption,
    /// Steps done.
    pub step: u64,
}

impl Interrupted {
    /// 130 or 143.
    pub const fn exit_code(&self) -> i32 {
        self.interruption.exit_code()
    }
}

/// How long a request may stay unheeded while nothing is unsaved; what is at work then (an evaluation,
/// a clustering) is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the request is looked at.
const POLL: Duration = Duration::from_millis(20);

/// A shared request to stop. Clones share the request.
///
/// ```
/// use training::{Interruption, StopFlag};
/// let stop = StopFlag::new();
/// assert_eq!(stop.requested(), None);
/// stop.clone().request(Interruption::Interrupt);
/// assert_eq!(stop.requested().map(Interruption::exit_code), Some(130));
/// ```
#[derive(Debug, Clone, Default)]
pub struct StopFlag {
    code: Arc<AtomicUsize>,
    /// Parts of the program with something unsaved.
    busy: Arc<AtomicUsize>,
    /// What to say if the process has to be ended from outside of its work.
    farewell: Arc<Mutex<Option<String>>>,
}

/// Says for as long as it lives that something is unsaved.
#[derive(Debug)]
pub struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl StopFlag {
    /// A flag that only [`request`](Self::request) sets.
    pub fn new() -> Self {
        Self::default()
    }

    /// A flag that SIGINT and SIGTERM set; a second signal of either kind ends the process at once
    /// with code 130 or 143. Call it once, at the start of the program.
    ///
    /// On Unix, SIGXFSZ no longer ends the process: a write beyond the file size limit then fails
    /// like one to a full disk, as [`Error::File`], and what was saved before stays usable.
    ///
    /// # Errors
    /// [`Error::Signal`] if the system refuses the handler.
    pub fn install() -> Result<Self> {
        let stop = Self::new();
        let armed = Arc::new(AtomicBool::new(false));
        for (signal, name, interruption) in [
            (SIGINT, "SIGINT", Interruption::Interrupt),
            (SIGTERM, "SIGTERM", Interruption::Terminate),
        ] {
            // Handlers run in the order of registration: the one that exits comes before the one
            // that arms it, so that the first signal does not already exit.
            flag::register_conditional_shutdown(signal, interruption.exit_code(), armed.clone())
                .and_then(|_| flag::register(signal, armed.clone()))
                .and_then(|_| flag::register_usize(signal, stop.code.clone(), interruption.code()))
                .map_err(|source| Error::Signal {
                    signal: name,
                    source,
                })?;
        }
        #[cfg(unix)]
        flag::register(
            signal_hook::consts::SIGXFSZ,
            Arc::new(AtomicBool::new(false)),
        )
        .map_err(|source| Error::Signal {
            signal: "SIGXFSZ",
            source,
        })?;
        Ok(stop)
    }

    /// Has the process end itself if a request is not heeded within two seconds while nothing is
    /// [busy](Self::busy): evaluations and the like have nothing to lose. The exit code is that of
    /// the request. Call it once, in a program.
    ///
    /// # Errors
    /// [`Error::Thread`] if the system refuses the thread that watches.
    pub fn end_when_idle(&self) -> Result<()> {
        let stop = self.clone();
        std::thread::Builder::new()
            .name("stop".to_owned())
            .spawn(move || stop.watch())
            .map_err(|source| Error::Thread {
                purpose: "watch for requests to stop",
                source,
            })?;
        Ok(())
    }

    fn watch(&self) {
        let mut since: Option<Instant> = None;
        loop {
            std::thread::sleep(POLL);
            let Some(interruption) = self.requested() else {
                continue;
            };
            if self.busy.load(Ordering::SeqCst) > 0 {
                // Patience begins when all is saved.
                since = None;
                continue;
            }
            if since.get_or_insert_with(Instant::now).elapsed() < PATIENCE {
                continue;
            }
            let farewell = self.farewell.lock().unwrap_or_else(PoisonError::into_inner);
            match &*farewell {
                Some(text) => eprintln!("{interruption}: {text}"),
                None => eprintln!("{interruption}"),
            }
            std::process::exit(interruption.exit_code());
        }
    }

    /// What to say when the process ends itself, such as how to continue.
    pub fn set_farewell(&self, text: impl Into<String>) {
        *self.farewell.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.into());
    }

    /// Something is unsaved for as long as the guard lives.
    pub fn busy(&self) -> Busy {
        self.busy.fetch_add(1, Ordering::SeqCst);
        Busy(self.busy.clone())
    }

    /// Asks to stop. A request that is already there stays.
    pub fn request(&self, interruption: Interruption) {
        // Someone else's earlier request is as good.
        let _ =
            self.code
                .compare_exchange(0, interruption.code(), Ordering::SeqCst, Ordering::SeqCst);
    }

    /// The request, if there is one.
    pub fn requested(&self) -> Option<Interruption> {
        match self.code.load(Ordering::SeqCst) {
            0 => None,
            2 => Some(Interruption::Terminate),
            _ => Some(Interruption::Interrupt),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::process::Command;

    use signal_hook::low_level::raise;

    use super::*;

    const CHILD: &str = "TRAINING_SIGNAL_TEST";

    /// Body of a child that is asked to stop once: with something unsaved it finishes that, otherwise
    /// it is ended in the middle of what would take hours.
    fn idle_child(busy: bool) {
        let stop = StopFlag::install().unwrap();
        stop.end_when_idle().unwrap();
        stop.set_farewell("nothing is lost");
        let unsaved = busy.then(|| stop.busy());
        raise(SIGTERM).unwrap();
        if let Some(unsaved) = unsaved {
            std::thread::sleep(PATIENCE + 10 * POLL);
            println!("still here: {:?}", stop.requested());
            drop(unsaved);
        }
        std::thread::sleep(Duration::from_secs(10_000));
    }

    #[test]
    fn idle_programs_end_themselves() {
        match std::env::var(CHILD).as_deref() {
            Ok("busy") => return idle_child(true),
            Ok(_) => return idle_child(false),
            Err(_) => {}
        }
        for (how, reports) in [("idle", 0), ("busy", 1)] {
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["signals::tests::idle_programs_end_themselves", "--exact"])
                .arg("--nocapture")
                .env(CHILD, how)
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(143), "{how}");
            let out = String::from_utf8(output.stdout).unwrap();
            assert_eq!(out.matches("still here").count(), reports, "{how}");
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.contains("terminated: nothing is lost"), "{said}");
        }
    }

    /// Body of the child: reports the first signal by a line, ends at the second.
    fn child(signals: &str) {
        let stop = StopFlag::install().unwrap();
        for name in signals.split(' ') {
            let signal = if name == "int" { SIGINT } else { SIGTERM };
            raise(signal).unwrap();
            println!("still here: {:?}", stop.requested());
        }
        std::process::exit(stop.requested().map_or(1, Interruption::exit_code));
    }

    /// Handlers belong to the whole process, so each case runs in its own.
    fn run(signals: &str) -> (i32, usize) {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["signals::tests::signals", "--exact", "--nocapture"])
            .env(CHILD, signals)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (
            output.status.code().unwrap(),
            text.matches("still here").count(),
        )
    }

    #[test]
    fn signals() {
        if let Ok(signals) = std::env::var(CHILD) {
            return child(&signals);
        }
        // The first only asks; the second ends the process before it reports again.
        assert_eq!(run("int"), (130, 1));
        assert_eq!(run("term"), (143, 1));
        assert_eq!(run("int int int"), (130, 1));
        assert_eq!(run("int term int"), (143, 1));
        assert_eq!(run("term int term"), (130, 1));
    }

    #[test]
    fn the_first_request_stays() {
        let stop = StopFlag::new();
        stop.request(Interruption::Terminate);
        stop.request(Interruption::Interrupt);
        assert_eq!(stop.requested(), Some(Interruption::Terminate));
        let error = Interrupted {
            interruption: Interruption::Terminate,
            step: 12,
        };
        assert_eq!(error.exit_code(), 143);
        assert!(error.to_string().contains("step 12"));
    }
}
