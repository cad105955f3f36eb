//! Step times and peak memory, for `result.json`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Minimum, median and maximum of a set of times, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Shortest, milliseconds.
    pub min: f64,
    /// Middle value, or the mean of the two middle values; milliseconds.
    pub median: f64,
    /// Longest, milliseconds.
    pub max: f64,
}

/// Collects the times of single steps.
///
/// ```
/// use std::time::Duration;
/// let mut times = training::StepTimes::default();
/// for ms in [5, 1, 3] {
///     times.push(Duration::from_millis(ms));
/// }
/// assert_eq!(times.summary().map(|s| s.median), Some(3.0));
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepTimes {
    milliseconds: Vec<f64>,
}

impl StepTimes {
    /// Adds one step.
    pub fn push(&mut self, time: Duration) {
        self.milliseconds.push(time.as_secs_f64() * 1e3);
    }

    /// Number of steps seen.
    pub fn len(&self) -> usize {
        self.milliseconds.len()
    }

    /// Whether no step was seen.
    pub fn is_empty(&self) -> bool {
        self.milliseconds.is_empty()
    }

    /// Minimum, median and maximum; `None` without steps.
    pub fn summary(&self) -> Option<Summary> {
        let mut sorted = self.milliseconds.clone();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Summary {
            min,
            median: (lower + upper) / 2.0,
            max,
        })
    }
}

/// Largest resident set of this process so far, in MiB (`VmHWM` of `/proc/self/status`); `None`
/// where the system has no such file.
pub fn peak_rss_mb() -> Option<f64> {
    parse_high_water_mark(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse_high_water_mark(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn times(ms: &[u64]) -> StepTimes {
        let mut out = StepTimes::default();
        ms.iter().for_each(|&m| out.push(Duration::from_millis(m)));
        out
    }

    #[test]
    fn median_of_odd_even_and_none() {
        assert_eq!(times(&[]).summary(), None);
        assert_eq!(times(&[4]).summary().unwrap().median, 4.0);
        // (2 + 7) / 2
        let even = times(&[9, 2, 1, 7]).summary().unwrap();
        assert_eq!((even.min, even.median, even.max), (1.0, 4.5, 9.0));
    }

    #[test]
    fn high_water_mark_is_read_in_mib() {
        let status = "Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t    2048 kB\n";
        assert_eq!(parse_high_water_mark(status), Some(2.0));
        assert_eq!(parse_high_water_mark("Name:\tx\n"), None);
        assert_eq!(parse_high_water_mark("VmHWM:\t many kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_memory() {
        assert!(peak_rss_mb().unwrap() > 0.5);
    }
}
