//! The same training step on several back-ends, compared tensor by tensor.
//!
//! One step is: encoder forward (hidden states, pooled vectors), coarse cross entropy and STAR loss over
//! a bank, gradients of every parameter (encoder, heads, base `B`), clipping, one AdamW update. Weights,
//! texts, labels, bank and neighbours are made once on the host and are the same bits everywhere;
//! dropout is off. The first device that runs is the reference; [`compare`] defines the difference.
//!
//! A device that this build or this machine does not have is listed as not run, with the reason.

mod difference;
mod step;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Instant;

use kernels::{DeviceError, DeviceSpec};
use serde::Serialize;
use thiserror::Error;

pub use difference::{Difference, Summary, Tolerance, compare, summaries};
pub use step::{Group, Item, Task};

use crate::error::RunError;

/// What to run and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// Model directory; a random tiny BERT without it.
    pub model: Option<PathBuf>,
    /// Devices, the reference first.
    pub devices: Vec<DeviceSpec>,
    /// Texts. Default 8.
    pub batch: usize,
    /// Tokens of the longest text; the others go down to half of it. Default 16.
    pub length: usize,
    /// Rows of the bank. Default 200.
    pub bank: usize,
    /// Neighbours of a text. Default 10.
    pub topk: usize,
    /// Seed of everything random. Default 0.
    pub seed: u64,
    /// What counts as equal.
    pub tolerance: Tolerance,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            model: None,
            devices: vec![
                DeviceSpec::Flex,
                DeviceSpec::NdArray,
                DeviceSpec::Wgpu(0),
                DeviceSpec::Cuda(0),
            ],
            batch: 8,
            length: 16,
            bank: 200,
            topk: 10,
            seed: 0,
            tolerance: Tolerance::default(),
        }
    }
}

impl Options {
    pub(crate) fn check(&self, positions: usize) -> Result<(), ParityError> {
        // Limits keep a typing error from asking for terabytes.
        for (name, value, most) in [
            ("length", self.length, positions),
            ("batch", self.batch, 1 << 16),
            ("bank", self.bank, 1 << 24),
            ("topk", self.topk, self.bank),
        ] {
            if value == 0 || value > most {
                return Err(ParityError::Setting {
                    name,
                    most,
                    found: value.to_string(),
                });
            }
        }
        for (name, value) in [
            ("forward tolerance", self.tolerance.forward),
            ("gradient tolerance", self.tolerance.gradient),
            ("update tolerance", self.tolerance.update),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(ParityError::NotATolerance { name, found: value });
            }
        }
        Ok(())
    }
}

/// Why nothing was compared.
#[derive(Debug, Error)]
pub enum ParityError {
    /// A size is out of range.
    #[error("{name}: expected 1 to {most}, found {found}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its largest value.
        most: usize,
        /// What was given.
        found: String,
    },
    /// A tolerance is no tolerance.
    #[error("{name}: expected a finite number of at least 0, found {found}")]
    NotATolerance {
        /// Which one.
        name: &'static str,
        /// What was given.
        found: f64,
    },
    /// No device that was asked for can be opened.
    #[error("no device to run on: {0}")]
    NoDevice(String),
    /// The inputs cannot be made.
    #[error(transparent)]
    Step(Box<RunError>),
}

/// What became of one device.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    /// The others are compared with it.
    Reference,
    /// It was compared.
    Compared {
        /// One line for each group.
        groups: Vec<Summary>,
        /// Every tensor, worst first.
        tensors: Vec<Difference>,
    },
    /// Not compiled in, or not on this machine.
    NotRun {
        /// What [`DeviceSpec::open`] said.
        reason: String,
    },
    /// It was opened, but the step did not end.
    Failed {
        /// The error or the panic.
        reason: String,
    },
}

/// One device of a report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceReport {
    /// As asked for.
    pub device: String,
    /// Seconds of the step, compilation of kernels included; `None` if it was not run.
    pub seconds: Option<f64>,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The whole comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Sizes of model and inputs.
    pub task: String,
    /// What counts as equal.
    pub tolerance: Tolerance,
    /// In the order asked for.
    pub devices: Vec<DeviceReport>,
}

impl Report {
    /// 1 if a device failed or a tensor is beyond the tolerance, else 3 if a device was not run or
    /// nothing was compared, else 0.
    pub fn exit_code(&self) -> u8 {
        let (mut compared, mut absent) = (0, 0);
        for device in &self.devices {
            match &device.outcome {
                Outcome::Failed { .. } => return 1,
                Outcome::Compared { tensors, .. } if tensors.iter().any(|t| !t.pass) => return 1,
                Outcome::Compared { .. } => compared += 1,
                Outcome::NotRun { .. } => absent += 1,
                Outcome::Reference => {}
            }
        }
        if absent > 0 || compared == 0 { 3 } else { 0 }
    }

    /// The report as a table; at most `rows` tensors a device, worst first.
    pub fn table(&self, rows: usize) -> impl fmt::Display + '_ {
        Table { report: self, rows }
    }
}

struct Table<'a> {
    report: &'a Report,
    rows: usize,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tolerance = &self.report.tolerance;
        writeln!(f, "{}", self.report.task)?;
        for device in &self.report.devices {
            write!(f, "\n{}: ", device.device)?;
            let seconds = device.seconds.unwrap_or(0.0);
            match &device.outcome {
                Outcome::Reference => writeln!(f, "reference ({seconds:.2} s)")?,
                Outcome::NotRun { reason } => writeln!(f, "not run: {reason}")?,
                Outcome::Failed { reason } => writeln!(f, "FAILED: {reason}")?,
                Outcome::Compared { groups, tensors } => {
                    writeln!(f, "compared ({seconds:.2} s)")?;
                    writeln!(
                        f,
                        "  group    tensors  over  tolerance      worst     median  worst tensor"
                    )?;
                    for s in groups {
                        writeln!(
                            f,
                            "  {:<8} {:>7} {:>5} {:>10.1e} {:>10.3e} {:>10.3e}  {}",
                            s.group,
                            s.tensors,
                            s.over,
                            tolerance.of(s.group),
                            s.worst,
                            s.median,
                            s.name
                        )?;
                    }
                    writeln!(
                        f,
                        "       group      relative   absolute      scale  tensor"
                    )?;
                    for tensor in tensors.iter().take(self.rows) {
                        writeln!(f, "  {tensor}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Runs the step on every device and compares with the first that runs.
///
/// # Errors
///
/// [`ParityError`] if the inputs cannot be made or no device can be opened. A device that is absent or
/// fails is part of the report.
pub fn run(options: &Options) -> Result<Report, ParityError> {
    let opened: Vec<_> = options.devices.iter().map(|spec| spec.open()).collect();
    let first = opened.iter().find_map(|device| device.as_ref().ok());
    let Some(first) = first else {
        let reasons: Vec<_> = opened
            .iter()
            .filter_map(|device| device.as_ref().err().map(DeviceError::to_string))
            .collect();
        return Err(ParityError::NoDevice(reasons.join("; ")));
    };
    let task = Task::new(options, first)?;

    let mut reference: Option<Vec<Item>> = None;
    let mut devices = Vec::new();
    for (spec, device) in options.devices.iter().zip(opened) {
        let began = Instant::now();
        let result = device.map(|device| guarded(|| task.run(&device)));
        let seconds = result.is_ok().then(|| began.elapsed().as_secs_f64());
        let outcome = match (result, &reference) {
            (Err(error), _) => Outcome::NotRun {
                reason: error.to_string(),
            },
            (Ok(Err(reason)), _) => Outcome::Failed { reason },
            (Ok(Ok(items)), None) => {
                reference = Some(items);
                Outcome::Reference
            }
            (Ok(Ok(items)), Some(reference)) => {
                let tensors = compare(reference, &items, &options.tolerance);
                Outcome::Compared {
                    groups: summaries(&tensors),
                    tensors,
                }
            }
        };
        devices.push(DeviceReport {
            device: spec.to_string(),
            seconds,
            outcome,
        });
    }
    Ok(Report {
        task: task.describe(),
        tolerance: options.tolerance,
        devices,
    })
}

/// One back-end that panics inside its driver must not hide the outcome of the others.
fn guarded<T>(step: impl FnOnce() -> Result<T, RunError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(panic) => {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(format!("panicked: {message}"))
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn tiny(devices: &[DeviceSpec]) -> Options {
        Options {
            devices: devices.to_vec(),
            batch: 3,
            length: 6,
            bank: 12,
            topk: 4,
            ..Options::default()
        }
    }

    fn items() -> Vec<Item> {
        let options = tiny(&[DeviceSpec::Flex]);
        let device = DeviceSpec::Flex.open().unwrap();
        Task::new(&options, &device).unwrap().run(&device).unwrap()
    }

    #[test]
    fn a_device_agrees_with_itself_bit_for_bit() {
        let report = run(&tiny(&[DeviceSpec::Flex, DeviceSpec::Flex])).unwrap();
        assert_eq!(report.exit_code(), 0);
        assert_eq!(report.devices[0].outcome, Outcome::Reference);
        let Outcome::Compared { groups, tensors } = &report.devices[1].outcome else {
            panic!("{report:?}")
        };
        assert!(
            tensors
                .iter()
                .all(|t| t.absolute == 0.0 && t.detail.is_empty())
        );
        let counts: Vec<_> = groups.iter().map(|s| (s.group, s.over)).collect();
        assert_eq!(counts, Group::ALL.map(|group| (group, 0)));
        // Every parameter but the unused pooler has a gradient, and all are compared after the step.
        let tensors = |group| groups.iter().find(|s| s.group == group).unwrap().tensors;
        assert_eq!(tensors(Group::Update), tensors(Group::Gradient) + 2);
        let table = report.table(3).to_string();
        assert!(
            table.contains("flex: reference") && table.contains("flex: compared"),
            "{table}"
        );
    }

    #[test]
    fn the_step_is_a_real_one() {
        let items = items();
        let find = |group, name: &str| {
            let found = items.iter().find(|i| i.group == group && i.name == name);
            &found.unwrap().values
        };
        // 3 texts of 6, 5 and 4 tokens, width 64.
        assert_eq!(find(Group::Forward, "hidden.last").len(), 15 * 64);
        assert_eq!(find(Group::Forward, "pooled").len(), 3 * 64);
        let base = find(Group::Gradient, "star.base")[0];
        assert!(base != 0.0 && base.is_finite());
        assert_ne!(find(Group::Update, "star.base")[0], 10.0);
        for (group, name) in [
            (Group::Gradient, "star.heads.fc_var.weight"),
            (
                Group::Gradient,
                "backbone.embeddings.word_embeddings.weight",
            ),
            (Group::Gradient, "output.bias"),
            (Group::Loss, "star.kl"),
        ] {
            assert!(find(group, name).iter().any(|x| *x != 0.0), "{name}");
        }
        let parts = ["coarse", "star.kl", "star.euclidean"].map(|n| find(Group::Loss, n)[0]);
        let total = find(Group::Loss, "total")[0];
        assert!((parts.iter().sum::<f32>() - total).abs() <= 1e-5 * total.abs());
    }

    #[test]
    fn the_gradients_said_to_cancel_do() {
        let items = items();
        let largest = |name: &str| {
            let item = items
                .iter()
                .find(|i| i.group == Group::Gradient && i.name == name);
            item.unwrap()
                .values
                .iter()
                .fold(0.0_f32, |m, x| m.max(x.abs()))
        };
        let mut seen = 0;
        for item in &items {
            if let Some(weight) = difference::cancels(item.group, &item.name) {
                let (bias, weight) = (largest(&item.name), largest(&weight));
                assert!(
                    bias < 1e-4 * weight,
                    "{}: {bias} beside {weight}",
                    item.name
                );
                seen += 1;
            }
        }
        assert_eq!(seen, 3, "two layers and the head of means");
    }

    #[test]
    fn a_perturbed_copy_is_caught_where_it_differs() {
        let reference = items();
        for at in 0..reference.len() {
            let mut other = reference.clone();
            let item = &mut other[at];
            // A gradient that cancels is small beside its layer's weight; no other tensor is.
            let weight = difference::cancels(item.group, &item.name);
            let weight = weight.map(|w| {
                reference
                    .iter()
                    .find(|i| i.name == w && i.group == item.group)
            });
            let values = weight.map_or(&reference[at].values, |found| &found.unwrap().values);
            let largest = values.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
            item.values[0] += 0.01 * largest;
            let found = compare(&reference, &other, &Tolerance::default());
            let over: Vec<_> = found.iter().filter(|d| !d.pass).collect();
            assert_eq!(over.len(), 1, "{}", reference[at].name);
            assert_eq!(
                (over[0].group, &over[0].name),
                (reference[at].group, &reference[at].name)
            );
            assert_eq!(&found[0], over[0]);
        }
    }

    #[test]
    fn exit_codes_and_absent_devices() {
        let mut report = run(&tiny(&[DeviceSpec::Flex])).unwrap();
        assert_eq!(report.exit_code(), 3, "nothing was compared");

        // 99 devices are on no machine, and the default build has no wgpu at all.
        let absent = DeviceSpec::Wgpu(99);
        report = run(&tiny(&[absent, DeviceSpec::Flex, DeviceSpec::Flex])).unwrap();
        assert_eq!(report.exit_code(), 3);
        assert_eq!(report.devices[1].outcome, Outcome::Reference);
        let Outcome::NotRun { reason } = &report.devices[0].outcome else {
            panic!("{report:?}")
        };
        assert!(reason.contains("wgpu:99"), "{reason}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["devices"][0]["status"], "not_run");
        assert_eq!(json["devices"][2]["status"], "compared");
        assert!(json["devices"][2]["tensors"].as_array().unwrap().len() > 50);

        let Outcome::Compared { tensors, .. } = &mut report.devices[2].outcome else {
            panic!("{report:?}")
        };
        tensors[0].pass = false;
        assert_eq!(report.exit_code(), 1);
        report.devices[2].outcome = Outcome::Failed {
            reason: "driver".into(),
        };
        assert_eq!(report.exit_code(), 1);

        let error = run(&tiny(&[absent])).unwrap_err();
        assert!(matches!(error, ParityError::NoDevice(_)), "{error}");
    }

    #[test]
    fn a_panic_becomes_a_reason() {
        let reason = guarded::<()>(|| panic!("no {}", "memory")).unwrap_err();
        assert_eq!(reason, "panicked: no memory");
    }

    #[test]
    fn impossible_settings_are_named() {
        let base = tiny(&[DeviceSpec::Flex]);
        type Spoil = fn(&mut Options);
        let cases: [(&str, Spoil); 6] = [
            ("length", |o| o.length = 0),
            ("batch", |o| o.batch = 0),
            ("bank", |o| o.bank = usize::MAX),
            ("topk", |o| o.topk = 13),
            ("gradient tolerance", |o| o.tolerance.gradient = f64::NAN),
            ("update tolerance", |o| o.tolerance.update = -1.0),
        ];
        for (name, spoil) in cases {
            let mut options = base.clone();
            spoil(&mut options);
            let error = run(&options).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
        let mut options = base;
        options.model = Some("does-not-exist".into());
        assert!(matches!(run(&options), Err(ParityError::Step(_))));
    }
}
