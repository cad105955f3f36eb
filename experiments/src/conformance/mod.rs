//! Golden files against the public functions of the crates.
//!
//! A golden file holds cases: inputs, and what an independent f64 computation made of them. The
//! beginning of its `name` is its kind ([`covered_kinds`]); the function of that kind feeds the inputs
//! to our crates and hands back values by the names of the expected items. An item passes if
//!
//! ```text
//! max|got - expected| <= atol + rtol * max|expected|        (maxima over the whole tensor)
//! ```
//!
//! Items, kinds and variants that nothing here computes are reported as gaps, never passed over.
//!
//! To add a kind: write one function `fn(&mut Probe) -> CaseResult` and name it in `KINDS`.

mod encoder;
mod golden;
mod objectives;
mod optimisation;
mod partitions;
mod probe;
mod retrieval;
mod scores;
mod sentences;
mod verdict;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use ::encoder::{EncoderError, LoadOptions, SentenceEncoder};
use kernels::{DeviceError, DeviceSpec};
use thiserror::Error;

use golden::{Case, GoldenFile, list_files};
use probe::{CaseError, CaseResult, Context, Probe};
use verdict::{compare, uniform};

pub use golden::GoldenError;
pub use verdict::{Line, Report, Status};

type Check = fn(&mut Probe<'_>) -> CaseResult;

/// Every kind of file and the function that computes its items. A file belongs to the longest kind
/// that its name begins with.
const KINDS: &[(&str, Check)] = &[
    ("adamw", optimisation::adamw),
    ("alignment_uniformity", scores::alignment_uniformity),
    ("bert", encoder::sentence_vectors),
    ("bert_cosine", encoder::cosine),
    ("bert_tokens", encoder::tokens),
    ("bidirectional_kl", objectives::bidirectional_kl),
    ("centroid_inference", partitions::centroid_inference),
    ("clustering_metrics", partitions::clustering_metrics),
    ("correlations", scores::correlations),
    ("dna_loss", objectives::dna),
    ("down_loss", objectives::down),
    ("hierarchical_triplet", sentences::hierarchical_triplet),
    ("info_nce", objectives::info_nce),
    ("kmeans", partitions::kmeans),
    ("neighbour_weights", retrieval::neighbour_weights),
    ("queue", retrieval::queue),
    ("regression_losses", sentences::regression),
    ("schedule", optimisation::schedule),
    ("siamese_head", sentences::siamese_head),
    ("star_loss", objectives::star),
];

/// The kinds of files that are covered.
pub fn covered_kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(kind, _)| *kind)
}

/// What to run and where.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Golden files, or directories with golden files in them.
    pub paths: Vec<PathBuf>,
    /// Where losses, gradients and encoders are computed.
    pub device: DeviceSpec,
    /// Model directory for the encoder's files.
    pub model: Option<PathBuf>,
    /// Runs only cases whose `file/case` contains this.
    pub filter: Option<String>,
}

/// Why nothing was run.
#[derive(Debug, Error)]
pub enum ConformanceError {
    /// A path cannot be listed.
    #[error(transparent)]
    Golden(#[from] GoldenError),
    /// The device cannot be opened.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The model cannot be loaded.
    #[error("the model cannot be loaded")]
    Model(#[source] Box<EncoderError>),
    /// No case is left.
    #[error(
        "--filter {filter}: expected a part of `file/case`, found no such case in {files} files"
    )]
    NothingMatches {
        /// What was asked for.
        filter: String,
        /// Files looked through.
        files: usize,
    },
}

/// Runs the golden files; `each` sees every line as soon as it is known.
///
/// A file or a case that cannot be used is kept in [`Report::bad_input`] and the run goes on.
///
/// # Errors
///
/// The paths, the device, the model or the filter leave nothing to run.
pub fn run(options: &Options, mut each: impl FnMut(&Line)) -> Result<Report, ConformanceError> {
    let paths = list_files(&options.paths)?;
    let device = options.device.open()?;
    let encoder = options
        .model
        .as_deref()
        .map(|model| SentenceEncoder::load(model, &LoadOptions::default(), &device))
        .transpose()
        .map_err(|error| ConformanceError::Model(Box::new(error)))?;
    let context = Context { device, encoder };

    let mut report = Report::default();
    for path in &paths {
        let file = match GoldenFile::read(path) {
            Ok(file) => file,
            Err(error) => {
                report.bad_input.push(error);
                continue;
            }
        };
        let check = kind_of(&file.name);
        for case in &file.cases {
            if !selected(options.filter.as_deref(), &file.name, &case.name) {
                continue;
            }
            match run_case(&file.name, case, check, &context) {
                Ok(lines) => {
                    lines.iter().for_each(&mut each);
                    report.lines.extend(lines);
                }
                Err(error) => report.bad_input.push(error),
            }
        }
    }
    match &options.filter {
        Some(filter) if report.lines.is_empty() && report.bad_input.is_empty() => {
            Err(ConformanceError::NothingMatches {
                filter: filter.clone(),
                files: paths.len(),
            })
        }
        _ => Ok(report),
    }
}

/// The function of the longest kind that `name` begins with.
fn kind_of(name: &str) -> Option<Check> {
    KINDS
        .iter()
        .filter(|(kind, _)| name.starts_with(kind))
        .max_by_key(|(kind, _)| kind.len())
        .map(|(_, check)| *check)
}

fn selected(filter: Option<&str>, file: &str, case: &str) -> bool {
    filter.is_none_or(|filter| format!("{file}/{case}").contains(filter))
}

fn run_case(
    file: &str,
    case: &Case,
    check: Option<Check>,
    context: &Context,
) -> Result<Vec<Line>, GoldenError> {
    let Some(check) = check else {
        let detail = "no function for this kind of file";
        return Ok(uniform(file, case, Status::NotCovered, detail));
    };
    let mut probe = Probe::new(case, context);
    // One case that panics inside a library must not hide the outcome of the others.
    let outcome = catch_unwind(AssertUnwindSafe(|| check(&mut probe)));
    match outcome {
        Ok(Ok(())) => compare(file, case, &probe.into_got()),
        Ok(Err(CaseError::Golden(error))) => Err(error),
        Ok(Err(CaseError::NotCovered(what))) => Ok(uniform(file, case, Status::NotCovered, &what)),
        Ok(Err(CaseError::NoModel)) => Ok(uniform(file, case, Status::NoModel, "")),
        Ok(Err(CaseError::Refused(error))) => {
            Ok(uniform(file, case, Status::Fail, &error.to_string()))
        }
        Err(panic) => {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            let detail = format!("panicked: {message}");
            Ok(uniform(file, case, Status::Fail, &detail))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn kind(name: &str) -> Option<&'static str> {
        let check = kind_of(name)?;
        KINDS
            .iter()
            .find(|(_, other)| std::ptr::fn_addr_eq(*other, check))
            .map(|(kind, _)| *kind)
    }

    #[test]
    fn the_longest_kind_that_a_name_begins_with() {
        for (name, expected) in [
            ("bert_tokens", Some("bert_tokens")),
            ("bert_tokens_other", Some("bert_tokens")),
            ("bert_mean_norm_512", Some("bert")),
            ("bert_cosine", Some("bert_cosine")),
            ("info_nce_large", Some("info_nce")),
            ("star_loss", Some("star_loss")),
            ("hierarchical_triplet_wide", Some("hierarchical_triplet")),
            ("hierarchical", None),
            ("loss_star", None),
            ("", None),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
    }

    #[test]
    fn no_kind_occurs_twice() {
        let mut kinds: Vec<_> = covered_kinds().collect();
        kinds.dedup();
        assert_eq!(kinds.len(), KINDS.len());
    }

    #[test]
    fn the_filter_sees_file_and_case() {
        assert!(selected(None, "a", "b"));
        assert!(selected(Some("star_loss/wide"), "star_loss", "wide_queue"));
        assert!(!selected(Some("wide"), "star_loss", "paper_small"));
    }
}
