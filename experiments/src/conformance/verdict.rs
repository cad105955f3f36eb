//! Computed against expected: the rule, one line per case and item, the outcome of a run.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::golden::{Case, GoldenError, Leaf, Tolerance};
use super::probe::Got;

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Within the tolerance.
    Pass,
    /// Outside the tolerance, of another size, or refused by the function under test.
    Fail,
    /// Nothing here computes it.
    NotCovered,
    /// It needs a model and none was given.
    NoModel,
    /// The file gives no tolerance because the value is not meant to be compared.
    Shown,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::NotCovered => "not covered",
            Self::NoModel => "no model",
            Self::Shown => "shown",
        })
    }
}

/// The outcome of one item of one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Name of the file, without directory.
    pub file: String,
    /// Name of the case.
    pub case: String,
    /// Name of the expected item.
    pub item: String,
    /// Largest difference, over the whole tensor; of several tensors the one nearest to its
    /// tolerance, or farthest outside. `None` if nothing was compared.
    pub worst: Option<f64>,
    /// `atol + rtol * max|expected|` of the same tensor.
    pub tolerance: Option<f64>,
    /// Whether the item passed; `None` if nothing was compared.
    pub pass: Option<bool>,
    /// What became of it.
    pub status: Status,
    /// Where the worst difference is, or why there is none; may be empty.
    pub detail: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = format!("{}/{}", self.file, self.case);
        let number = |name: &str, value: Option<f64>| {
            value.map_or(String::new(), |value| format!(" {name} {value:<10.3e}"))
        };
        let line = format!(
            "{:<11} {place:<46} {:<13}{}{} {}",
            self.status,
            self.item,
            number("worst", self.worst),
            number("tolerance", self.tolerance),
            self.detail
        );
        f.write_str(line.trim_end())
    }
}

/// The outcome of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// One line per case and item.
    pub lines: Vec<Line>,
    /// Files and cases that could not be used.
    pub bad_input: Vec<GoldenError>,
}

impl Report {
    /// 0 if every item passed; 2 if an input could not be used, else 1 if an item failed, else 3 if
    /// something was not compared for want of a function or a model.
    pub fn exit_code(&self) -> u8 {
        if !self.bad_input.is_empty() {
            2
        } else if self.count(Status::Fail) > 0 {
            1
        } else if self.count(Status::NotCovered) + self.count(Status::NoModel) > 0 {
            3
        } else {
            0
        }
    }

    /// Number of items with this outcome.
    pub fn count(&self, status: Status) -> usize {
        self.lines.iter().filter(|l| l.status == status).count()
    }

    /// Names of the files with at least one item of this outcome.
    pub fn files(&self, status: Status) -> BTreeSet<&str> {
        self.lines
            .iter()
            .filter(|line| line.status == status)
            .map(|line| line.file.as_str())
            .collect()
    }
}

/// One line for every expected item of a case.
pub(super) fn compare(
    file: &str,
    case: &Case,
    got: &[(String, Got)],
) -> Result<Vec<Line>, GoldenError> {
    let mut lines = Vec::new();
    for (item, leaves) in &case.expected {
        let mut worst: Option<Difference> = None;
        let mut not_covered = Vec::new();
        let mut shown = None;
        for leaf in leaves {
            let mut found = got.iter().filter(|(path, _)| *path == leaf.path).peekable();
            if found.peek().is_none() {
                not_covered.push(leaf.path.as_str());
            }
            for (_, got) in found {
                let tolerance = case.tolerance(item, &leaf.path);
                let difference = match (got, tolerance) {
                    (Got::Shown(value), None) => {
                        shown = Some(*value);
                        continue;
                    }
                    (Got::Texts(texts), _) => text_difference(leaf, texts),
                    (_, None) => return Err(case.no_tolerance(item)),
                    (got, Some(tolerance)) => {
                        number_difference(leaf, got, tolerance, case.ignored(item))
                    }
                };
                if worst.as_ref().is_none_or(|w| difference.worse_than(w)) {
                    worst = Some(difference);
                }
            }
        }
        let line = |item: &str, status, detail| Line {
            file: file.to_owned(),
            case: case.name.clone(),
            item: item.to_owned(),
            worst: None,
            tolerance: None,
            pass: None,
            status,
            detail,
        };
        if let Some(difference) = worst {
            let pass = difference.passes();
            let status = if pass { Status::Pass } else { Status::Fail };
            let detail = match pass {
                false => difference.detail,
                true if difference.path == *item || difference.worst == 0.0 => String::new(),
                true => difference.path,
            };
            lines.push(Line {
                worst: Some(difference.worst),
                tolerance: Some(difference.allowed),
                pass: Some(pass),
                ..line(item, status, detail)
            });
        } else if let Some(value) = shown {
            let detail = format!("{value} (no tolerance given)");
            lines.push(line(item, Status::Shown, detail));
        } else if leaves.is_empty() {
            let detail = "nothing to compare".to_owned();
            lines.push(line(item, Status::NotCovered, detail));
        }
        // Many missing leaves of one item are one gap.
        if let [first, rest @ ..] = not_covered.as_slice() {
            let whole = not_covered.len() == leaves.len();
            let detail = match rest.len() {
                0 => String::new(),
                more => format!("and {more} more of {item}"),
            };
            let name = if whole { item } else { *first };
            let detail = if whole { String::new() } else { detail };
            lines.push(line(name, Status::NotCovered, detail));
        }
    }
    Ok(lines)
}

/// The same outcome for every expected item of a case.
pub(super) fn uniform(file: &str, case: &Case, status: Status, detail: &str) -> Vec<Line> {
    case.expected
        .iter()
        .map(|(item, _)| Line {
            file: file.to_owned(),
            case: case.name.clone(),
            item: item.clone(),
            worst: None,
            tolerance: None,
            pass: (status == Status::Fail).then_some(false),
            status,
            detail: detail.to_owned(),
        })
        .collect()
}

/// The worst difference of one leaf.
struct Difference {
    path: String,
    worst: f64,
    allowed: f64,
    detail: String,
}

impl Difference {
    /// Written so that a NaN fails.
    fn passes(&self) -> bool {
        self.worst <= self.allowed
    }

    fn worse_than(&self, other: &Self) -> bool {
        self.ratio() > other.ratio()
    }

    /// Share of the tolerance used; a difference where none is allowed is worse than any share.
    fn ratio(&self) -> f64 {
        if self.worst == 0.0 {
            0.0
        } else {
            self.worst / self.allowed
        }
    }

    fn of_another_size(leaf: &Leaf, expected: usize, found: usize) -> Self {
        Self {
            path: leaf.path.clone(),
            worst: f64::INFINITY,
            allowed: 0.0,
            detail: format!("{}: expected {expected} values, got {found}", leaf.path),
        }
    }

    fn of_another_type(leaf: &Leaf) -> Self {
        Self {
            path: leaf.path.clone(),
            worst: f64::INFINITY,
            allowed: 0.0,
            detail: format!("{}: texts against numbers", leaf.path),
        }
    }
}

/// The largest `|got - expected|` against `atol + rtol * max|expected|`, the maximum over all finite
/// expected values. NaN equals NaN and an infinity equals itself; positions in `ignored` are skipped.
///
/// Files write expected values with nine digits, which name an f32 without being equal to it. Where no
/// difference is allowed, an f32 therefore has to be the one that is named, bit for bit.
fn number_difference(
    leaf: &Leaf,
    got: &Got,
    tolerance: Tolerance,
    ignored: &[usize],
) -> Difference {
    let Some(mut expected) = leaf.value.numbers() else {
        return Difference::of_another_type(leaf);
    };
    let largest = expected
        .iter()
        .filter(|x| x.is_finite())
        .fold(0.0_f64, |most, x| most.max(x.abs()));
    let mut allowed = tolerance.atol + tolerance.rtol * largest;
    let found = match got {
        Got::Numbers(values) => values.clone(),
        Got::Floats(values) => {
            if allowed == 0.0 {
                expected.iter_mut().for_each(|x| *x = f64::from(*x as f32));
            }
            values.iter().map(|x| f64::from(*x)).collect()
        }
        Got::Shown(value) => vec![*value],
        Got::Cost { value, below } => {
            if expected.first().is_some_and(|expected| value < expected) {
                allowed = allowed.min(below * largest);
            }
            vec![*value]
        }
        Got::Texts(_) => return Difference::of_another_type(leaf),
    };
    if expected.len() != found.len() {
        return Difference::of_another_size(leaf, expected.len(), found.len());
    }
    let mut worst = Difference {
        path: leaf.path.clone(),
        worst: 0.0,
        allowed,
        detail: leaf.path.clone(),
    };
    for (position, (expected, got)) in expected.iter().zip(&found).enumerate() {
        if ignored.contains(&position) {
            continue;
        }
        let difference = if expected == got || (expected.is_nan() && got.is_nan()) {
            0.0
        } else {
            // Whatever else is not finite is as wrong as can be.
            Some((got - expected).abs())
                .filter(|x| !x.is_nan())
                .unwrap_or(f64::INFINITY)
        };
        if difference > worst.worst {
            worst.worst = difference;
            worst.detail = format!("{}[{position}]: got {got}, expected {expected}", leaf.path);
        }
    }
    worst
}

/// Number of texts that differ; none may.
fn text_difference(leaf: &Leaf, found: &[String]) -> Difference {
    let Some(expected) = leaf.value.texts() else {
        return Difference::of_another_type(leaf);
    };
    if expected.len() != found.len() {
        return Difference::of_another_size(leaf, expected.len(), found.len());
    }
    let differing: Vec<(usize, (&String, &String))> = expected
        .iter()
        .zip(found)
        .enumerate()
        .filter(|(_, (expected, got))| expected != got)
        .collect();
    let detail = match differing.first() {
        Some((position, (expected, got))) => {
            format!(
                "{}[{position}]: got {got:?}, expected {expected:?}",
                leaf.path
            )
        }
        None => leaf.path.clone(),
    };
    Difference {
        path: leaf.path.clone(),
        worst: differing.len() as f64,
        allowed: 0.0,
        detail,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::path::Path;

    use super::super::golden::GoldenFile;
    use super::*;

    fn lines(case: &str, got: &[(&str, Got)]) -> Result<Vec<Line>, GoldenError> {
        let text = format!(
            r#"{{"schema":"golden/1","name":"x","cases":[{{"name":"c","inputs":{{}},{case}}}]}}"#
        );
        let file = GoldenFile::parse(text.as_bytes(), Path::new("x.json")).unwrap();
        let got: Vec<(String, Got)> = got
            .iter()
            .map(|(path, got)| ((*path).to_owned(), got.clone()))
            .collect();
        compare("x", &file.cases[0], &got)
    }

    fn status(case: &str, got: &[(&str, Got)]) -> Vec<(String, Status)> {
        lines(case, got)
            .unwrap()
            .into_iter()
            .map(|line| (line.item, line.status))
            .collect()
    }

    fn one(case: &str, got: Got) -> Status {
        let found = status(case, &[("a", got)]);
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].1
    }

    #[test]
    fn the_largest_expected_value_sets_the_tolerance_of_the_whole_tensor() {
        let case = r#""expected":{"a":[0,-10]},"tol":{"a":{"rtol":0.01,"atol":0.001}}"#;
        // 0.001 + 0.01 * 10 = 0.101, also for the value 0.
        assert_eq!(one(case, Got::Numbers(vec![0.1, -10.0])), Status::Pass);
        assert_eq!(one(case, Got::Numbers(vec![0.102, -10.0])), Status::Fail);
        assert_eq!(one(case, Got::Numbers(vec![0.0, -10.102])), Status::Fail);
        assert_eq!(one(case, Got::Numbers(vec![0.0])), Status::Fail);
        assert_eq!(one(case, Got::Numbers(vec![f64::NAN, -10.0])), Status::Fail);
    }

    #[test]
    fn without_tolerance_an_f32_has_to_be_the_one_named() {
        let case = r#""expected":{"a":[0.531869709]},"tol":{"a":{"rtol":0,"atol":0}}"#;
        let named = 0.531_869_7_f32;
        assert_ne!(f64::from(named), 0.531869709);
        assert_eq!(one(case, Got::Floats(vec![named])), Status::Pass);
        assert_eq!(one(case, Got::Floats(vec![named.next_up()])), Status::Fail);
        assert_eq!(one(case, Got::Numbers(vec![named.into()])), Status::Fail);
    }

    #[test]
    fn what_json_cannot_write_equals_itself_only() {
        let case = r#""expected":{"a":["nan","inf",1]},"tol":{"*":{"rtol":1,"atol":1}}"#;
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        assert_eq!(one(case, Got::Numbers(vec![nan, inf, 1.0])), Status::Pass);
        assert_eq!(one(case, Got::Numbers(vec![0.0, inf, 1.0])), Status::Fail);
        assert_eq!(one(case, Got::Numbers(vec![nan, -inf, 1.0])), Status::Fail);
        assert_eq!(one(case, Got::Numbers(vec![nan, 1e9, 1.0])), Status::Fail);
        let case = r#""expected":{"a":["nan","nan"]},"tol":{"*":{"rtol":0,"atol":0}}"#;
        assert_eq!(one(case, Got::Numbers(vec![nan, nan])), Status::Pass);
        let texts = vec!["nan".to_owned(), "nan".to_owned()];
        assert_eq!(one(case, Got::Texts(texts)), Status::Pass);
    }

    #[test]
    fn positions_without_a_defined_gradient_are_skipped() {
        let case = r#""expected":{"grad.p":[1,2]},"grad_any":{"p":[1]},
            "tol":{"grad.p":{"rtol":0,"atol":0}}"#;
        let got = |values: [f64; 2]| [("grad.p", Got::Numbers(values.to_vec()))];
        assert_eq!(status(case, &got([1.0, 7.0]))[0].1, Status::Pass);
        assert_eq!(status(case, &got([0.0, 2.0]))[0].1, Status::Fail);
    }

    #[test]
    fn an_item_or_a_part_of_it_that_was_not_computed_is_listed() {
        let case =
            r#""expected":{"a":1,"b":{"x":1,"y":2,"z":3},"c":2},"tol":{"*":{"rtol":0,"atol":0}}"#;
        let got = [
            ("a", Got::Numbers(vec![1.0])),
            ("b.x", Got::Numbers(vec![1.0])),
        ];
        assert_eq!(
            status(case, &got),
            [
                ("a".to_owned(), Status::Pass),
                ("b".to_owned(), Status::Pass),
                ("b.y".to_owned(), Status::NotCovered),
                ("c".to_owned(), Status::NotCovered),
            ]
        );
    }

    #[test]
    fn of_several_parts_or_attempts_the_worst_counts() {
        let case = r#""expected":{"a":[{"w":1},{"w":2}]},"tol":{"*":{"rtol":0,"atol":0.5}}"#;
        let got = [
            ("a[0].w", Got::Numbers(vec![1.1])),
            ("a[1].w", Got::Numbers(vec![2.0])),
            ("a[1].w", Got::Numbers(vec![2.75])),
        ];
        let lines = lines(case, &got).unwrap();
        assert_eq!(lines[0].worst, Some(0.75));
        assert_eq!(lines[0].status, Status::Fail);
        assert!(
            lines[0].detail.contains("a[1].w[0]: got 2.75"),
            "{}",
            lines[0]
        );
    }

    #[test]
    fn a_missing_tolerance_is_an_error_unless_the_value_is_only_shown() {
        let case = r#""expected":{"a":1},"tol":{}"#;
        let error = lines(case, &[("a", Got::Numbers(vec![1.0]))]).unwrap_err();
        assert!(error.to_string().contains("cases[0] (c).tol.a"), "{error}");
        assert_eq!(one(case, Got::Shown(4.0)), Status::Shown);
        let case = r#""expected":{"a":1},"tol":{"a":{"rtol":0,"atol":1}}"#;
        assert_eq!(one(case, Got::Shown(4.0)), Status::Fail);
    }

    #[test]
    fn a_cost_may_exceed_by_the_tolerance_and_fall_below_by_its_own() {
        let case = r#""expected":{"a":100},"tol":{"a":{"rtol":0.01,"atol":0}}"#;
        for (value, expected) in [
            (100.9, Status::Pass),
            (101.1, Status::Fail),
            (99.995, Status::Pass),
            (99.9, Status::Fail),
        ] {
            assert_eq!(
                one(case, Got::Cost { value, below: 1e-4 }),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn bad_input_before_failure_before_gaps() {
        let mut report = Report::default();
        assert_eq!(report.exit_code(), 0);
        let case = r#""expected":{"a":1,"b":1},"tol":{"*":{"rtol":0,"atol":0}}"#;
        report.lines = lines(case, &[("b", Got::Numbers(vec![1.0]))]).unwrap();
        assert_eq!(report.exit_code(), 3);
        report.lines = lines(case, &[("b", Got::Numbers(vec![2.0]))]).unwrap();
        assert_eq!(report.exit_code(), 1);
        let path = "x".into();
        report.bad_input.push(GoldenError::NoFiles { path });
        assert_eq!(report.exit_code(), 2);
    }

    #[test]
    fn an_empty_list_may_be_numbers_or_texts() {
        let case = r#""expected":{"a":[]},"tol":{"*":{"rtol":0,"atol":0}}"#;
        assert_eq!(one(case, Got::Texts(vec![])), Status::Pass);
        assert_eq!(one(case, Got::Numbers(vec![])), Status::Pass);
    }
}
