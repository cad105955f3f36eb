//! Training the encoder on the texts and their coarse labels before anything is clustered.
//!
//! ```text
//! training/data/train.tsv   texts and coarse labels
//! training/data/test.tsv    some of the same rows: STAR-DOWN wants a split to watch
//! training/run/             the run directory of STAR-DOWN
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use encoder::SentenceEncoder;
use training::{StopFlag, Streams, auto, shuffle, stream};

use super::error::DiscoverError;
use super::input::{TRAIN, Text, Texts};
use super::settings::DiscoverConfig;
use super::staging::{Staging, TRAINING};
use crate::error::RunError;
use crate::session;
use crate::star_down::{self, StarDownConfig};

/// Fewest rows that are watched.
const WATCHED: usize = 200;

/// Settings of the training: those of STAR-DOWN (of the bundled set for the bundled encoder), one
/// seed, the STAR objective alone, no floor rows; then the file and the assignments.
///
/// Coarse pre-training is for language models. An encoder made for sentences tells fine categories apart
/// already, and loses much of that to coarse labels (`docs/src/benchmarks/2026-11-star-down.md`).
///
/// # Errors
/// Keys or values that STAR-DOWN does not have; the bundled encoder cannot be unpacked.
pub fn training_settings(
    config: &DiscoverConfig,
    file: Option<&Path>,
    assignments: &[String],
) -> Result<StarDownConfig, DiscoverError> {
    let mut defaults = StarDownConfig {
        model: config.model.clone(),
        ..StarDownConfig::default()
    };
    if let Some(bundled) = defaults.bundled()? {
        defaults = bundled;
    }
    let dir = datasets::pocket::model_dir(Path::new(&config.model))?;
    let stages: &[&str] = match SentenceEncoder::says_how_to_embed(&dir) {
        true => &["train"],
        false => &["pretrain", "train"],
    };
    defaults.stages = stages.iter().map(|stage| (*stage).to_owned()).collect();
    defaults.train.objective = "star".to_owned();
    // Follows from the number of texts, which may be smaller than the bundled set's.
    defaults.train.topk = 0;
    let mut settings = crate::config::resolve(&defaults, file, assignments)?;
    for (key, given, known) in [
        ("data", &settings.data, &defaults.data),
        ("model", &settings.model, &defaults.model),
    ] {
        if given != known {
            let problem = format!("`{key}` follows from the other options");
            return Err(DiscoverError::Option {
                option: "--set",
                problem,
            });
        }
    }
    settings.data = String::new();
    settings.model.clone_from(&config.model);
    settings.device.clone_from(&config.device);
    settings.seeds = vec![config.seed];
    settings.check()?;
    Ok(settings)
}

/// Trains, or goes on with the training that stands in `staging`, and gives the model directory.
///
/// `k` is the number of categories that the training reckons with.
pub(crate) fn train(
    staging: &Staging,
    texts: &Texts,
    settings: &StarDownConfig,
    k: usize,
    command: Vec<String>,
    quiet: bool,
    stop: &StopFlag,
) -> Result<PathBuf, DiscoverError> {
    let rows: Vec<&Text> = texts
        .rows
        .iter()
        .filter(|text| text.split == TRAIN)
        .collect();
    let data = staging.path().join(TRAINING).join("data");
    let seed = settings.seeds.first().copied().unwrap_or(0);
    let mut watched = shuffle(rows.len(), &mut Streams::new(seed).rng(stream::SPLIT, &[]));
    watched.truncate(WATCHED.max(2 * k));
    watched.sort_unstable();
    let watched: Vec<&Text> = watched
        .iter()
        .filter_map(|at| rows.get(*at).copied())
        .collect();
    for (name, rows) in [("train.tsv", &rows), ("test.tsv", &watched)] {
        staging.write(&format!("{TRAINING}/data/{name}"), tsv(rows).as_bytes())?;
    }
    let out = staging.path().join(TRAINING).join("run");
    let config = StarDownConfig {
        data: data.display().to_string(),
        n_fine: k,
        ..settings.clone()
    };
    let model = out.join("model");
    if !out.join("result.json").is_file() {
        star_down::run(session::Request {
            config,
            resume: out.join("manifest.json").is_file(),
            out,
            progress: auto(quiet, stop),
            stop,
            command,
        })
        .map_err(|error| go_on(error, staging))?;
    }
    if !model.is_dir() {
        let problem = "the training left no model: set train.epochs above 0 and a pooling that the \
                       sentence-transformers layout has";
        return Err(RunError::Data(problem.to_owned()).into());
    }
    Ok(model)
}

/// A training inside a discovery is not continued with `--resume`.
fn go_on(error: RunError, staging: &Staging) -> DiscoverError {
    match error {
        RunError::Interrupted { interrupted, .. } => DiscoverError::Interrupted {
            interrupted,
            path: staging.path().to_owned(),
        },
        other => other.into(),
    }
}

/// Whether the data can be trained on.
pub(crate) fn check(texts: &Texts) -> Result<(), DiscoverError> {
    let coarse: BTreeSet<&String> = texts
        .rows
        .iter()
        .filter_map(|text| text.coarse.as_ref())
        .collect();
    if coarse.len() < 2 {
        return Err(DiscoverError::Option {
            option: "--mode",
            problem: format!(
                "training learns from coarse labels: expected at least 2 of them, found {}",
                coarse.len()
            ),
        });
    }
    Ok(())
}

/// Texts and coarse labels as a plain table; neither holds a tab or a line break.
fn tsv(rows: &[&Text]) -> String {
    let mut table = String::from("text\tcoarse\n");
    for text in rows {
        table.push_str(&text.text);
        table.push('\t');
        table.push_str(text.coarse.as_deref().unwrap_or_default());
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn settings_of_the_training_are_checked_and_keep_their_place() {
        let config = DiscoverConfig {
            seed: 5,
            ..DiscoverConfig::default()
        };
        let settings = training_settings(&config, None, &["train.epochs=2".to_owned()]).unwrap();
        assert_eq!((settings.train.epochs, &settings.seeds[..]), (2, &[5][..]));
        assert_eq!(settings.stages, ["train"]);
        assert_eq!(settings.train.objective, "star");
        for wrong in ["train.epoch=2", "train.tau=0", "data=x", "model=y"] {
            assert!(
                training_settings(&config, None, &[wrong.to_owned()]).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_plain_language_model_is_pre_trained() {
        let dir = tempfile::tempdir().unwrap();
        let config = DiscoverConfig {
            model: dir.path().display().to_string(),
            ..DiscoverConfig::default()
        };
        let stages = || training_settings(&config, None, &[]).unwrap().stages;
        assert_eq!(stages(), ["pretrain", "train"]);
        std::fs::write(dir.path().join("modules.json"), "[]").unwrap();
        assert_eq!(stages(), ["train"]);
        let given = training_settings(&config, None, &["stages=[\"pretrain\"]".to_owned()]);
        assert_eq!(given.unwrap().stages, ["pretrain"]);
    }

    #[test]
    fn one_coarse_class_teaches_nothing() {
        let mut texts = Texts::default();
        assert!(check(&texts).unwrap_err().to_string().contains("found 0"));
        texts
            .read(Path::new("pocket"), &super::super::Columns::default())
            .unwrap();
        assert!(check(&texts).is_ok());
    }
}
