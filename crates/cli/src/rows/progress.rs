//! Rows done, rate and time left, on a terminal.

use std::time::{Duration, Instant};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Steps of the bar.
const STEPS: u64 = 1000;

/// A bar on standard error; nothing where that is no terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    start: Instant,
    /// Share of the input that was done before, by an earlier run.
    before: f64,
    rows: u64,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::new(STEPS);
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(4));
        if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self {
            bar,
            start: Instant::now(),
            before: 0.0,
            rows: 0,
        }
    }

    /// Rows that an earlier run has done.
    pub(crate) fn skip(&mut self, fraction: Option<f64>) {
        self.start = Instant::now();
        self.before = fraction.unwrap_or(0.0);
    }

    /// Rows done, and how much of the input was read.
    pub(crate) fn done(&mut self, rows: usize, fraction: Option<f64>) {
        self.rows += rows as u64;
        let elapsed = self.start.elapsed();
        let mut message = format!(
            "{} rows, {} rows/s",
            HumanCount(self.rows),
            HumanCount(self.rate(elapsed))
        );
        if let Some(fraction) = fraction {
            self.bar.set_position((fraction * STEPS as f64) as u64);
            if let Some(left) = time_left(elapsed, self.before, fraction) {
                message += &format!(", {} left", HumanDuration(left));
            }
        }
        self.bar.set_message(message);
    }

    fn rate(&self, elapsed: Duration) -> u64 {
        (self.rows as f64 / elapsed.as_secs_f64().max(1e-3)) as u64
    }

    /// Removes the bar; says how many rows were done and how fast.
    pub(crate) fn finish(self) -> String {
        self.bar.finish_and_clear();
        let rate = self.rate(self.start.elapsed());
        format!(
            "{} rows, {} rows/s",
            HumanCount(self.rows),
            HumanCount(rate)
        )
    }
}

/// Time left if the rest goes as fast as what was done since `before`.
fn time_left(elapsed: Duration, before: f64, fraction: f64) -> Option<Duration> {
    let (done, rest) = (fraction - before, 1.0 - fraction);
    if done <= 0.0 {
        return None;
    }
    Duration::try_from_secs_f64(elapsed.as_secs_f64() * rest / done).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_the_work_so_far_says() {
        let second = Duration::from_secs(1);
        assert_eq!(time_left(second, 0.0, 0.25), Some(3 * second));
        assert_eq!(time_left(second, 0.5, 0.75), Some(second));
        assert_eq!(time_left(second, 0.0, 1.0), Some(Duration::ZERO));
        assert_eq!(time_left(second, 0.5, 0.5), None);
        assert_eq!(time_left(second, 0.0, f64::MIN_POSITIVE), None);
    }
}
