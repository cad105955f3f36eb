//! What the probes of a run saw: `traces.csv`, and the relative fitting difficulty that follows.

use std::path::Path;

use metrics::{MetricsError, TracePoint, mean_of_best, relative_fitting_difficulty};
use serde::{Deserialize, Serialize};

use crate::error::RunError;
use crate::result::write_atomic;

/// Best scores of a run that are averaged beside its difficulty.
const BEST: usize = 5;

/// The file in the run directory.
pub const TRACES_FILE: &str = "traces.csv";

/// First line of the file.
const HEADER: &str = "setting,seed,step,train_alignment,train_uniformity,eval_alignment,eval_uniformity,dev_spearman";

/// What the probes saw after some steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probed {
    /// Alignment of the positives held out of the training set.
    pub train_alignment: f64,
    /// Uniformity of the sentences held out of the training set.
    pub train_uniformity: f64,
    /// Alignment of the positives of the development set.
    pub eval_alignment: f64,
    /// Uniformity of the sentences of the development set.
    pub eval_uniformity: f64,
}

impl Probed {
    /// Figures by their names in logs; `None` if one is missing.
    pub(crate) fn from_named(value: impl Fn(&str) -> Option<f64>) -> Option<Self> {
        Some(Self {
            train_alignment: value("rfd_train_alignment")?,
            train_uniformity: value("rfd_train_uniformity")?,
            eval_alignment: value("rfd_eval_alignment")?,
            eval_uniformity: value("rfd_eval_uniformity")?,
        })
    }

    /// Names for logs, in the order of the columns.
    pub(crate) fn named(&self) -> [(&'static str, f64); 4] {
        [
            ("rfd_train_alignment", self.train_alignment),
            ("rfd_train_uniformity", self.train_uniformity),
            ("rfd_eval_alignment", self.eval_alignment),
            ("rfd_eval_uniformity", self.eval_uniformity),
        ]
    }
}

/// One look at an encoder in training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Steps done; 0: the encoder that training starts from.
    pub step: u64,
    /// What the probes saw, if it was their turn.
    pub probed: Option<Probed>,
    /// Spearman correlation on the development set, if it was looked at.
    pub dev_spearman: Option<f64>,
}

/// All looks of one setting and seed, in ascending steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Name of the setting, with the value of a sweep.
    pub setting: String,
    /// Seed of the run.
    pub seed: u64,
    /// The looks.
    pub looks: Vec<Look>,
}

/// What a trace comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Difficulty {
    /// RFD_a: mean of training minus evaluation alignment.
    pub rfd_a: Option<f64>,
    /// RFD_u: mean of training minus evaluation uniformity.
    pub rfd_u: Option<f64>,
    /// Looks of the probes that counted.
    pub steps: usize,
    /// Mean of the five best development scores (of all, where there are fewer).
    pub top5: Option<f64>,
    /// Best development score; the first of equals.
    pub best: Option<f64>,
    /// Steps after which it came.
    pub best_step: Option<u64>,
}

impl Trace {
    /// Relative fitting difficulty over the looks from `start_step` on, and the best development scores
    /// of the whole trace.
    ///
    /// # Errors
    ///
    /// [`RunError::Data`]: no look of the probes at `start_step` or later although there are some before,
    /// or a figure that is not finite.
    pub fn difficulty(&self, start_step: u64) -> Result<Difficulty, RunError> {
        let mut found = self.scores();
        let (train, eval): (Vec<TracePoint>, Vec<TracePoint>) = self
            .looks
            .iter()
            .filter_map(|look| {
                let probed = look.probed?;
                let point = |alignment, uniformity| TracePoint {
                    step: look.step,
                    alignment,
                    uniformity,
                };
                Some((
                    point(probed.train_alignment, probed.train_uniformity),
                    point(probed.eval_alignment, probed.eval_uniformity),
                ))
            })
            .unzip();
        if !train.is_empty() {
            let rfd = relative_fitting_difficulty(&train, &eval, start_step)
                .map_err(|error| self.refuse(&error))?;
            found.rfd_a = Some(rfd.alignment);
            found.rfd_u = Some(rfd.uniformity);
            found.steps = rfd.steps;
        }
        Ok(found)
    }

    /// The best development scores alone.
    pub(crate) fn scores(&self) -> Difficulty {
        let mut found = Difficulty::default();
        let mut scores = Vec::new();
        for look in &self.looks {
            let Some(score) = look.dev_spearman else {
                continue;
            };
            scores.push(score);
            if found.best.is_none_or(|best| score > best) {
                (found.best, found.best_step) = (Some(score), Some(look.step));
            }
        }
        found.top5 = mean_of_best(&scores, BEST).ok();
        found
    }

    fn refuse(&self, error: &MetricsError) -> RunError {
        match self.setting.as_str() {
            "" => RunError::Data(error.to_string()),
            setting => RunError::Data(format!("{setting}, seed {}: {error}", self.seed)),
        }
    }
}

/// Reads `traces.csv`.
///
/// # Errors
///
/// [`RunError::File`] with the line: a file that cannot be read, another header, a cell that is no
/// number, steps that do not ascend within a setting and seed.
pub fn read_traces(path: &Path) -> Result<Vec<Trace>, RunError> {
    let text = std::fs::read_to_string(path).map_err(|error| refuse(path, error.to_string()))?;
    let mut lines = text.lines().zip(1_usize..);
    match lines.next() {
        Some((HEADER, _)) => {}
        other => {
            let found = other.map_or("an empty file", |(line, _)| line);
            return Err(refuse(
                path,
                format!("line 1: expected `{HEADER}`, found `{found}`"),
            ));
        }
    }
    let mut traces: Vec<Trace> = Vec::new();
    for (line, number) in lines {
        let wrong = |what: String| refuse(path, format!("line {number}: {what}"));
        let cells: Vec<&str> = line.split(',').collect();
        let [setting, seed, step, a, b, c, d, dev] = cells[..] else {
            return Err(wrong(format!("expected 8 cells, found {}", cells.len())));
        };
        let whole = |name: &str, cell: &str| {
            let value = cell.parse::<u64>();
            value.map_err(|_| wrong(format!("{name}: expected a whole number, found `{cell}`")))
        };
        let (seed, step) = (whole("seed", seed)?, whole("step", step)?);
        let probed = match [a, b, c, d] {
            ["", "", "", ""] => None,
            cells => {
                let mut values = [0.0; 4];
                let names = HEADER.split(',').skip(3);
                for ((value, cell), name) in values.iter_mut().zip(cells).zip(names) {
                    *value = parse_number(name, cell).map_err(wrong)?;
                }
                let [
                    train_alignment,
                    train_uniformity,
                    eval_alignment,
                    eval_uniformity,
                ] = values;
                Some(Probed {
                    train_alignment,
                    train_uniformity,
                    eval_alignment,
                    eval_uniformity,
                })
            }
        };
        let dev_spearman = match dev {
            "" => None,
            cell => Some(parse_number("dev_spearman", cell).map_err(wrong)?),
        };
        let look = Look {
            step,
            probed,
            dev_spearman,
        };
        let known = traces
            .iter_mut()
            .find(|trace| trace.setting == setting && trace.seed == seed);
        match known {
            Some(trace) => {
                if let Some(last) = trace.looks.last().filter(|last| last.step >= step) {
                    return Err(wrong(format!(
                        "step: expected more than {}, found {step}",
                        last.step
                    )));
                }
                trace.looks.push(look);
            }
            None => traces.push(Trace {
                setting: setting.to_owned(),
                seed,
                looks: vec![look],
            }),
        }
    }
    Ok(traces)
}

/// Reads the traces of one set: columns `step`, `alignment`, `uniformity` and, if there is one, `score`
/// by name, in any order, others ignored.
///
/// # Errors
///
/// [`RunError::File`] with line and column.
pub fn read_points(path: &Path) -> Result<Vec<(TracePoint, Option<f64>)>, RunError> {
    let text = std::fs::read_to_string(path).map_err(|error| refuse(path, error.to_string()))?;
    let mut lines = text.lines().zip(1_usize..);
    let header: Vec<&str> = lines
        .next()
        .map(|(line, _)| line.split(',').map(str::trim).collect())
        .unwrap_or_default();
    let column = |name: &str| header.iter().position(|known| *known == name);
    let needed = |name: &str| {
        column(name).ok_or_else(|| {
            let expected = "columns step, alignment and uniformity";
            refuse(
                path,
                format!("line 1: expected {expected}, found no {name}"),
            )
        })
    };
    let (step, alignment, uniformity) =
        (needed("step")?, needed("alignment")?, needed("uniformity")?);
    let score = column("score");
    let mut points = Vec::new();
    for (line, number) in lines.filter(|(line, _)| !line.trim().is_empty()) {
        let wrong = |what: String| refuse(path, format!("line {number}: {what}"));
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let cell = |at: usize| cells.get(at).copied().unwrap_or_default();
        let value = |name: &str, at: usize| parse_number(name, cell(at)).map_err(wrong);
        let point = TracePoint {
            step: cell(step).parse().map_err(|_| {
                wrong(format!(
                    "step: expected a whole number, found `{}`",
                    cell(step)
                ))
            })?,
            alignment: value("alignment", alignment)?,
            uniformity: value("uniformity", uniformity)?,
        };
        let score = match score {
            Some(at) if !cell(at).is_empty() => Some(value("score", at)?),
            _ => None,
        };
        points.push((point, score));
    }
    Ok(points)
}

/// Puts the traces of one set beside those of another.
///
/// # Errors
///
/// [`RunError::Data`] if they were not recorded at the same steps.
pub fn join_points(
    train: &[(TracePoint, Option<f64>)],
    eval: &[(TracePoint, Option<f64>)],
) -> Result<Trace, RunError> {
    let points = |side: &[(TracePoint, Option<f64>)]| -> Vec<TracePoint> {
        side.iter().map(|(point, _)| *point).collect()
    };
    // Checks lengths and steps.
    relative_fitting_difficulty(&points(train), &points(eval), 0)
        .map_err(|error| RunError::Data(error.to_string()))?;
    let looks = train
        .iter()
        .zip(eval)
        .map(|((train, first), (eval, second))| Look {
            step: train.step,
            probed: Some(Probed {
                train_alignment: train.alignment,
                train_uniformity: train.uniformity,
                eval_alignment: eval.alignment,
                eval_uniformity: eval.uniformity,
            }),
            dev_spearman: second.or(*first),
        });
    Ok(Trace {
        setting: String::new(),
        seed: 0,
        looks: looks.collect(),
    })
}

/// Writes `traces.csv` in one go. Numbers are written so that reading gives the same bits.
pub(crate) fn write_traces(path: &Path, traces: &[Trace]) -> Result<(), RunError> {
    let cell = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    let mut text = format!("{HEADER}\n");
    for trace in traces {
        for look in &trace.looks {
            let probed = look.probed;
            let cells = [
                trace.setting.clone(),
                trace.seed.to_string(),
                look.step.to_string(),
                cell(probed.map(|probed| probed.train_alignment)),
                cell(probed.map(|probed| probed.train_uniformity)),
                cell(probed.map(|probed| probed.eval_alignment)),
                cell(probed.map(|probed| probed.eval_uniformity)),
                cell(look.dev_spearman),
            ];
            text += &cells.join(",");
            text.push('\n');
        }
    }
    Ok(write_atomic(path, text.as_bytes())?)
}

/// Puts a trace in place of one of the same setting and seed, or behind all others. A phase that is
/// repeated after an interruption so leaves one trace.
pub(crate) fn put_trace(path: &Path, trace: Trace) -> Result<(), RunError> {
    let mut traces = if path.exists() {
        read_traces(path)?
    } else {
        Vec::new()
    };
    let same = |known: &Trace| known.setting == trace.setting && known.seed == trace.seed;
    match traces.iter().position(same) {
        Some(at) => traces[at] = trace,
        None => traces.push(trace),
    }
    write_traces(path, &traces)
}

fn parse_number(name: &str, cell: &str) -> Result<f64, String> {
    match cell.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(format!("{name}: expected a finite number, found `{cell}`")),
    }
}

fn refuse(path: &Path, message: String) -> RunError {
    RunError::File {
        path: path.to_owned(),
        message,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn look(step: u64, base: f64, dev: Option<f64>) -> Look {
        Look {
            step,
            probed: Some(Probed {
                train_alignment: base,
                train_uniformity: -2.0 * base,
                eval_alignment: 0.25,
                eval_uniformity: -2.0,
            }),
            dev_spearman: dev,
        }
    }

    fn trace() -> Trace {
        Trace {
            setting: "sts_ht".to_owned(),
            seed: 3,
            looks: vec![
                look(0, 9.0, None),
                look(10, 0.5, Some(0.7)),
                Look {
                    step: 15,
                    probed: None,
                    dev_spearman: Some(0.9),
                },
                look(20, 1.0, Some(0.9)),
            ],
        }
    }

    #[test]
    fn difficulty_of_a_trace_by_hand() {
        let found = trace().difficulty(1).unwrap();
        // ((0.5 - 0.25) + (1 - 0.25)) / 2 and ((-1 + 2) + (-2 + 2)) / 2.
        assert_eq!(
            (found.rfd_a, found.rfd_u, found.steps),
            (Some(0.5), Some(0.5), 2)
        );
        assert!((found.top5.unwrap() - 2.5 / 3.0).abs() < 1e-12);
        // The first of equals.
        assert_eq!((found.best, found.best_step), (Some(0.9), Some(15)));
        assert_eq!(trace().difficulty(0).unwrap().steps, 3);
        let late = trace().difficulty(21).unwrap_err();
        assert!(late.to_string().contains("sts_ht, seed 3"), "{late}");
        // The scores are there all the same.
        let scores = Difficulty {
            rfd_a: None,
            rfd_u: None,
            steps: 0,
            ..found
        };
        assert_eq!(trace().scores(), scores);
        let nothing = Trace {
            looks: Vec::new(),
            ..trace()
        };
        assert_eq!(nothing.difficulty(1).unwrap(), Difficulty::default());
    }

    #[test]
    fn a_file_keeps_every_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TRACES_FILE);
        let mut first = trace();
        first.looks[1] = look(10, 1.0 / 3.0, Some(0.1 + 0.2));
        let second = Trace { seed: 4, ..trace() };
        put_trace(&path, first.clone()).unwrap();
        put_trace(&path, second.clone()).unwrap();
        assert_eq!(read_traces(&path).unwrap(), [first, second.clone()]);
        // Again, after an interruption: in its place.
        put_trace(&path, trace()).unwrap();
        assert_eq!(read_traces(&path).unwrap(), [trace(), second]);
    }

    #[test]
    fn damaged_files_name_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        let refused = |lines: &str| {
            std::fs::write(&path, lines).unwrap();
            read_traces(&path).unwrap_err().to_string()
        };
        let good = "a,0,1,1,2,3,4,0.5\n";
        for (lines, words) in [
            (String::new(), ["line 1", "empty file"]),
            ("a,b\n".to_owned(), ["line 1", "a,b"]),
            (format!("{HEADER}\n{good}a,0,2,1\n"), ["line 3", "8 cells"]),
            (format!("{HEADER}\na,x,2,,,,,\n"), ["line 2", "seed"]),
            (
                format!("{HEADER}\na,0,2,1,,3,4,\n"),
                ["line 2", "train_uniformity"],
            ),
            (
                format!("{HEADER}\na,0,2,1,2,3,NaN,\n"),
                ["line 2", "eval_uniformity"],
            ),
            (format!("{HEADER}\n{good}{good}"), ["line 3", "more than 1"]),
        ] {
            let error = refused(&lines);
            for word in words {
                assert!(error.contains(word), "{word}: {error}");
            }
            assert!(error.contains("t.csv"), "{error}");
        }
        assert!(read_traces(&dir.path().join("none")).is_err());
    }

    #[test]
    fn two_files_of_points_make_a_trace() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let train = write("a.csv", "uniformity,step,alignment\n-1,0,0.5\n-3,10,0.75\n");
        let eval = write(
            "b.csv",
            "step, alignment, uniformity, score\n0,0.5,-2,\n10,0.25,-2,0.8\n\n",
        );
        let [train, eval] = [train, eval].map(|path| read_points(&path).unwrap());
        let found = join_points(&train, &eval).unwrap().difficulty(1).unwrap();
        assert_eq!((found.rfd_a, found.rfd_u), (Some(0.5), Some(-1.0)));
        assert_eq!((found.top5, found.best_step), (Some(0.8), Some(10)));
        assert!(join_points(&train[..1], &eval).is_err());
        assert!(join_points(&train[1..], &eval[..1]).is_err());
        for (text, word) in [
            ("step,alignment\n", "uniformity"),
            ("step,alignment,uniformity\n1,x,2\n", "line 2: alignment"),
            ("step,alignment,uniformity\n-1,2,2\n", "line 2: step"),
            ("step,alignment,uniformity\n1,2\n", "line 2: uniformity"),
        ] {
            let path = write("c.csv", text);
            let error = read_points(&path).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
