//! Progress on the terminal: nothing, plain lines, or burn-train's dashboard.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::signals::StopFlag;

/// What one step did; also one line of `metrics.jsonl`, with the values beside the other fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Part of the run, such as `pretrain` or `star`.
    pub stage: String,
    /// 0-based epoch.
    pub epoch: u64,
    /// 0-based step within the stage.
    pub step: u64,
    /// Steps of the stage.
    pub total_steps: u64,
    /// Learning rate of this step.
    pub lr: f64,
    /// Loss and whatever else was measured. Names of the fields above are taken.
    #[serde(flatten)]
    pub values: BTreeMap<String, f64>,
}

/// Names a value of a report may not have.
pub(crate) const RESERVED: [&str; 5] = ["stage", "epoch", "step", "total_steps", "lr"];

/// Receives reports. A face must never fail a run, so nothing here returns an error.
pub trait Progress: Send {
    /// One step is done.
    fn report(&mut self, report: &StepReport);
    /// A line of text between steps.
    fn message(&mut self, text: &str);
    /// No more reports; gives the terminal back.
    fn finish(&mut self) {}
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn report(&mut self, _: &StepReport) {}
    fn message(&mut self, _: &str) {}
}

/// One line per percent, but at most one every few seconds; the first and last step of a stage are
/// always shown.
///
/// ```text
/// star    epoch 3   step 846/7050 (12 %)  loss 2.1374  lr 1.51e-5  left 1 h 02 min
/// ```
pub struct Plain {
    out: Box<dyn Write + Send>,
    now: Box<dyn FnMut() -> Duration + Send>,
    every: Duration,
    stage: Option<Stage>,
}

struct Stage {
    name: String,
    began: Duration,
    first: u64,
    shown: Duration,
    percent: u64,
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plain")
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

impl Plain {
    /// Lines to standard error, at most one every 5 seconds.
    pub fn stderr() -> Self {
        let start = Instant::now();
        Self::new(
            Box::new(std::io::stderr()),
            Duration::from_secs(5),
            Box::new(move || start.elapsed()),
        )
    }

    /// Lines to `out`, at most one per `every` of the clock `now`.
    pub fn new(
        out: Box<dyn Write + Send>,
        every: Duration,
        now: Box<dyn FnMut() -> Duration + Send>,
    ) -> Self {
        Self {
            out,
            now,
            every,
            stage: None,
        }
    }

    fn line(&mut self, text: &str) {
        // A closed terminal must not end a run.
        let _ = writeln!(self.out, "{text}");
        let _ = self.out.flush();
    }
}

impl Progress for Plain {
    fn report(&mut self, report: &StepReport) {
        let now = (self.now)();
        let done = report.step.saturating_add(1);
        let percent = done.saturating_mul(100) / report.total_steps.max(1);
        let last = done >= report.total_steps;
        let same = self
            .stage
            .as_mut()
            .filter(|stage| stage.name == report.stage && stage.first <= report.step);
        let left = match same {
            Some(stage) => {
                let due = percent > stage.percent && now.saturating_sub(stage.shown) >= self.every;
                if !(due || last) {
                    return;
                }
                (stage.shown, stage.percent) = (now, percent);
                // The first step seen ended at `began`: it is not part of the time measured.
                let measured = report.step.saturating_sub(stage.first);
                let remaining = report.total_steps.saturating_sub(done);
                (measured > 0).then(|| {
                    now.saturating_sub(stage.began).as_secs_f64() * remaining as f64
                        / measured as f64
                })
            }
            None => {
                self.stage = Some(Stage {
                    name: report.stage.clone(),
                    began: now,
                    first: report.step,
                    shown: now,
                    percent,
                });
                None
            }
        };
        let text = line(report, done, percent, left.filter(|_| !last));
        self.line(&text);
    }

    fn message(&mut self, text: &str) {
        self.line(text);
    }
}

fn line(report: &StepReport, done: u64, percent: u64, left: Option<f64>) -> String {
    let mut text = format!(
        "{:<8} epoch {:<3} step {done}/{} ({percent} %)",
        report.stage, report.epoch, report.total_steps
    );
    // Writing to a string cannot fail.
    for (name, value) in &report.values {
        let _ = write!(text, "  {name} {}", number(*value));
    }
    let _ = write!(text, "  lr {:.2e}", report.lr);
    if let Some(seconds) = left {
        let _ = write!(text, "  left {}", duration(seconds));
    }
    text
}

/// A value in few characters.
pub(crate) fn number(value: f64) -> String {
    if value == 0.0 || (1e-3..1e6).contains(&value.abs()) {
        format!("{value:.4}")
    } else {
        format!("{value:.3e}")
    }
}

fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

/// The face that suits the situation: [`Quiet`] if asked for, the dashboard if standard output is a
/// terminal and the `tui` feature is on, [`Plain`] otherwise. Quitting in the dashboard sets `stop`.
pub fn auto(quiet: bool, stop: &StopFlag) -> Box<dyn Progress> {
    if quiet {
        return Box::new(Quiet);
    }
    #[cfg(feature = "tui")]
    if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        return Box::new(crate::Dashboard::new(stop.clone()));
    }
    #[cfg(not(feature = "tui"))]
    let _ = stop;
    Box::new(Plain::stderr())
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Shared {
        fn lines(&self) -> Vec<String> {
            let bytes = self.0.lock().unwrap();
            let text = String::from_utf8(bytes.clone()).unwrap();
            text.lines().map(str::to_owned).collect()
        }
    }

    pub(crate) fn report(stage: &str, step: u64, total_steps: u64) -> StepReport {
        StepReport {
            stage: stage.into(),
            epoch: 0,
            step,
            total_steps,
            lr: 1.5e-5,
            values: BTreeMap::from([("loss".into(), 2.0)]),
        }
    }

    /// A clock that moves on by `seconds` whenever it is read.
    fn plain(seconds: u64, every: u64) -> (Plain, Shared) {
        let out = Shared::default();
        let mut time = 0;
        let now = move || {
            time += seconds;
            Duration::from_secs(time)
        };
        let plain = Plain::new(
            Box::new(out.clone()),
            Duration::from_secs(every),
            Box::new(now),
        );
        (plain, out)
    }

    #[test]
    fn lines_are_sparse_and_end_with_the_last_step() {
        // 1000 steps of 1 s, at most a line per 100 s: first, then one per 100 steps, then last.
        let (mut plain, out) = plain(1, 100);
        (0..1000).for_each(|step| plain.report(&report("star", step, 1000)));
        let lines = out.lines();
        assert!((10..=12).contains(&lines.len()), "{lines:#?}");
        assert_eq!(
            lines[0],
            "star     epoch 0   step 1/1000 (0 %)  loss 2.0000  lr 1.50e-5"
        );
        assert!(lines.last().unwrap().contains("step 1000/1000 (100 %)"));
        assert!(!lines.last().unwrap().contains("left"));
    }

    #[test]
    fn time_left_is_extrapolated_from_the_steps_seen() {
        // Resumed at step 500 of 1000, 2 s a step: after 100 more steps 399 are left.
        let (mut plain, out) = plain(2, 200);
        (500..=600).for_each(|step| plain.report(&report("star", step, 1000)));
        let lines = out.lines();
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(lines[1].ends_with("left 13 min 18 s"), "{}", lines[1]);
    }

    #[test]
    fn slow_steps_show_each_percent_and_stages_start_anew() {
        let (mut plain, out) = plain(60, 5);
        (0..3).for_each(|step| plain.report(&report("pretrain", step, 3)));
        plain.report(&report("star", 0, 3));
        plain.message("done");
        let lines = out.lines();
        assert_eq!(lines.len(), 5);
        assert!(lines[3].starts_with("star "));
        assert_eq!(lines[4], "done");
    }

    #[test]
    fn numbers_and_durations_are_short() {
        assert_eq!(number(0.0), "0.0000");
        assert_eq!(number(-12.34567), "-12.3457");
        assert_eq!(number(1e-7), "1.000e-7");
        assert_eq!(number(f64::NAN), "NaN");
        assert_eq!(duration(59.6), "1 min 00 s");
        assert_eq!(duration(7322.0), "2 h 02 min");
        assert_eq!(duration(3.0), "3 s");
    }

    #[test]
    fn a_report_is_one_flat_object() {
        let text = serde_json::to_string(&report("star", 4, 9)).unwrap();
        assert_eq!(
            text,
            r#"{"stage":"star","epoch":0,"step":4,"total_steps":9,"lr":0.000015,"loss":2.0}"#
        );
        let back: StepReport = serde_json::from_str(&text).unwrap();
        assert_eq!(back, report("star", 4, 9));
    }

    #[test]
    fn quiet_is_a_choice() {
        let stop = StopFlag::new();
        let mut quiet = auto(true, &stop);
        quiet.report(&report("star", 0, 1));
        quiet.message("nothing");
        quiet.finish();
        assert_eq!(stop.requested(), None);
    }
}
