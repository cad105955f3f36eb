//! What a run leaves, and what may come between: signals, kills, full disks.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use training::{Checkpoint, CheckpointStore};

use crate::program::{Done, call, check_refusal};

// Not all of it is needed here.
#[allow(dead_code)]
#[path = "run_files.rs"]
mod run_files;

use run_files::RunFiles;

/// Everything that must not depend on how often a run was stopped.
#[derive(PartialEq)]
pub(crate) struct Traces(RunFiles);

impl Traces {
    /// Those of a run directory, which must have the files `needed`.
    pub(crate) fn of(run: &Path, needed: &[&str]) -> Self {
        let files = RunFiles::of(run).unwrap();
        for name in needed {
            assert!(files.has(name), "{}: {name}", run.display());
        }
        Self(files)
    }

    pub(crate) fn check(&self, expected: &Self, what: &str) {
        if let Err(difference) = self.0.check(&expected.0) {
            panic!("{what}: {difference}");
        }
    }
}

/// Lines of a file, 0 where there is none.
pub(crate) fn lines(path: &Path) -> usize {
    fs::read(path).map_or(0, |bytes| {
        bytes.iter().filter(|byte| **byte == b'\n').count()
    })
}

/// Continues the run in `out`.
pub(crate) const RESUME: [&str; 2] = ["--resume", "out"];

/// A program and the folder it runs in; its runs go to `out`.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'s> {
    pub(crate) binary: &'s str,
    pub(crate) dir: &'s Path,
}

impl Scene<'_> {
    /// The checkpoint that a run would go on from.
    fn checkpoint(&self) -> Option<Checkpoint> {
        CheckpointStore::new(self.dir.join("out")).latest().unwrap()
    }

    pub(crate) fn spawn<S: AsRef<str>>(&self, arguments: &[S]) -> Child {
        Command::new(self.binary)
            .args(arguments.iter().map(AsRef::as_ref))
            .current_dir(self.dir)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Whether the lock of `out` shows that the process has begun.
    pub(crate) fn is_at_work(&self, child: &Child) -> bool {
        let signature = format!(", process {}\n", child.id());
        fs::read_to_string(self.dir.join("out/lock")).is_ok_and(|found| found.ends_with(&signature))
    }

    /// Sends a signal once `out/metrics.jsonl` has this many lines and the lock shows that the process
    /// has begun (its handlers are in place then), and waits for the end.
    pub(crate) fn signal_at(
        &self,
        mut child: Child,
        signal: &str,
        at: usize,
    ) -> (ExitStatus, String) {
        let log = self.dir.join("out/metrics.jsonl");
        while lines(&log) < at || !self.is_at_work(&child) {
            if child.try_wait().unwrap().is_some() {
                break;
            }
            sleep(Duration::from_millis(1));
        }
        let sent = Command::new("kill")
            .args([format!("-{signal}"), child.id().to_string()])
            .stderr(Stdio::null())
            .status();
        assert!(sent.is_ok(), "there is no kill command");
        let output = child.wait_with_output().unwrap();
        (output.status, String::from_utf8(output.stderr).unwrap())
    }

    /// Stops a run by `signal` at growing numbers of log lines, resumes it each time, and compares what
    /// is left with `expected`. Returns how often a signal found the run at work.
    pub(crate) fn stop_and_resume(
        &self,
        arguments: &[String],
        signal: &str,
        moments: &[usize],
        expected: &Traces,
    ) -> usize {
        let _ = fs::remove_dir_all(self.dir.join("out"));
        let mut stopped = 0;
        let mut arguments = arguments.to_vec();
        for at in moments {
            let (status, stderr) = self.signal_at(self.spawn(&arguments), signal, *at);
            match (status.code(), signal) {
                (Some(0), _) => {}
                (None, "KILL") => stopped += 1,
                (Some(130), "INT") | (Some(143), "TERM") => {
                    assert!(stderr.contains("continue with --resume out"), "{stderr}");
                    stopped += 1;
                }
                _ => panic!("{signal} at line {at}: {status}: {stderr}"),
            }
            arguments = RESUME.map(str::to_owned).to_vec();
            arguments.push("--quiet".to_owned());
        }
        self.finish(&RESUME, expected, &format!("{signal} at {moments:?}"));
        stopped
    }

    /// As [`stop_and_resume`](Self::stop_and_resume). How far a run gets before a signal depends on the
    /// machine; what must come out does not. Tries again if a machine was too slow to send enough
    /// signals in time.
    pub(crate) fn survives(
        &self,
        arguments: &[String],
        signal: &str,
        moments: &[usize],
        at_least: usize,
        expected: &Traces,
    ) {
        let stops = || self.stop_and_resume(arguments, signal, moments, expected);
        let most = (0..5).any(|_| stops() >= at_least);
        assert!(most, "no attempt was stopped {at_least} times");
    }

    /// Ends the run in `out` and compares what is left with `expected`.
    pub(crate) fn finish<S: AsRef<str>>(&self, arguments: &[S], expected: &Traces, what: &str) {
        let done = call(self.binary, self.dir, arguments);
        assert_eq!(done.code, 0, "{what}: {}", done.stderr);
        Traces::of(&self.dir.join("out"), &[]).check(expected, what);
    }

    /// Runs the program with a limit on the size of every file it writes, in kilobytes: what a write
    /// meets then is what it meets on a full disk, an error after a part of the bytes.
    pub(crate) fn with_file_limit<S: AsRef<str>>(&self, kilobytes: usize, arguments: &[S]) -> Done {
        let output = Command::new("sh")
            .args(["-c", "ulimit -f \"$0\" && exec \"$@\""])
            // The unit is 512 bytes.
            .arg((2 * kilobytes).to_string())
            .arg(self.binary)
            .args(arguments.iter().map(AsRef::as_ref))
            .current_dir(self.dir)
            .output()
            .unwrap();
        output.into()
    }

    /// The disk is full at the first checkpoint with weights: those between stages are small.
    pub(crate) fn full_disk_at_a_checkpoint(&self, arguments: &[String], expected: &Traces) {
        let done = self.with_file_limit(64, arguments);
        check_refusal(
            &done,
            &["cannot write", "checkpoints", "safetensors", "large"],
        );
        let kept = self.checkpoint();
        let kept = kept.expect("the checkpoint before is still there");
        assert_eq!(kept.step, 0);
        let checkpoints = fs::read_dir(self.dir.join("out/checkpoints")).unwrap();
        assert_eq!(
            checkpoints.count(),
            1,
            "the unfinished checkpoint was not removed"
        );
        self.finish(&RESUME, expected, "full disk at the first checkpoint");
    }

    /// The disk is full at a checkpoint after the one with weights that was there at log line `at`.
    pub(crate) fn full_disk_at_a_later_checkpoint(
        &self,
        arguments: &[String],
        at: usize,
        expected: &Traces,
    ) {
        let mut attempts = 0;
        let kept = loop {
            attempts += 1;
            assert!(attempts <= 5, "never stopped with weights saved");
            let _ = fs::remove_dir_all(self.dir.join("out"));
            self.signal_at(self.spawn(arguments), "INT", at);
            let kept = self.checkpoint().unwrap();
            let finished = self.dir.join("out/result.json").exists();
            if kept.files.contains_key("optimizer.safetensors") && !finished {
                break kept;
            }
        };
        for _ in 0..2 {
            let done = self.with_file_limit(64, &RESUME);
            check_refusal(&done, &["cannot write", "checkpoints", "safetensors"]);
            let now = self.checkpoint().unwrap();
            assert!(now == kept, "the checkpoint before has changed");
        }
        self.finish(&RESUME, expected, "full disk at a later checkpoint");
    }

    /// The disk is full after `kilobytes` of a log, once the manifest is there.
    pub(crate) fn full_disk_at_the_log(
        &self,
        arguments: &[String],
        kilobytes: usize,
        expected: &Traces,
    ) {
        let done = self.with_file_limit(kilobytes, arguments);
        check_refusal(&done, &["cannot write", "out/"]);
        let begun = self.dir.join("out/manifest.json").exists();
        assert!(begun, "the limit leaves room for the manifest");
        self.finish(&RESUME, expected, "full disk at the log");
    }

    /// The disk is full when a finished run writes its results again: room for the lock and the logs,
    /// none for `result.json`.
    pub(crate) fn full_disk_at_the_results(&self, kilobytes: usize) {
        let files = ["out/result.json", "out/report.html"].map(|name| self.dir.join(name));
        let before = files.each_ref().map(|path| fs::read(path).unwrap());
        let done = self.with_file_limit(kilobytes, &RESUME);
        check_refusal(&done, &["result.json"]);
        assert!(files.map(|path| fs::read(path).unwrap()) == before);
        assert_eq!(call(self.binary, self.dir, &RESUME).code, 0);
    }
}
