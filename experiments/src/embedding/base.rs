//! Encoder and evaluation sets of a run, and what becomes of its results.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use datasets::{
    EvalSet, LeakIndex, Limits, ScoredPair, StsName, StsPart, StsTask, TextRule, load_eval_sets,
    load_sts_dir,
};
use encoder::{BertModel, LoadOptions, Pooling, SentenceEncoder};
use kernels::DeviceSpec;
use serde_json::{Value, json};
use training::{RunManifest, peak_rss_mb};

use super::bundled;
use super::dev_set::DevSet;
use super::settings::bad;
use crate::error::RunError;
use crate::evaluate::{Mode, Suite, encode_texts, evaluate};
use crate::report::{ReportInput, write_report};
use crate::result::{DataInfo, ResultFile, Row, summarise};
use crate::session::{Session, curves};

/// Pairs of STS-B with at least this score are positives of the alignment.
const POSITIVE_FROM: f64 = 4.0;

/// The encoder a run starts from.
pub(crate) struct Start {
    pub(crate) encoder: SentenceEncoder,
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) hashes: BTreeMap<String, String>,
}

/// How to load the encoder.
pub(crate) struct StartOptions<'c> {
    pub(crate) model: &'c str,
    pub(crate) dropout: f64,
    pub(crate) allow_non_finite: bool,
    pub(crate) gradient_checkpointing: bool,
    /// Longest text in training.
    pub(crate) max_len: usize,
}

impl Start {
    /// Loads a model directory, or the bundled encoder for `pocket`.
    pub(crate) fn load(options: &StartOptions<'_>, device: &Device) -> Result<Self, RunError> {
        let load = LoadOptions {
            allow_non_finite: options.allow_non_finite,
            dropout: (options.dropout >= 0.0).then_some(options.dropout),
            ..LoadOptions::default()
        };
        let (mut encoder, name, hashes) = if options.model == "pocket" {
            let encoder = crate::pocket::encoder(&load, device)?;
            (encoder, "pocket".to_owned(), crate::pocket::hashes())
        } else {
            let dir = Path::new(options.model);
            let encoder = SentenceEncoder::load(dir, &load, device)?;
            let hash = SentenceEncoder::weights_hash(dir)?;
            let name = dir
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let hashes = BTreeMap::from([("model.safetensors".to_owned(), hash)]);
            (encoder, name, hashes)
        };
        let positions = encoder.config.max_position_embeddings;
        if options.max_len > positions {
            return Err(RunError::Config(format!(
                "max_len: expected at most the {positions} positions of {}, found {}",
                options.model, options.max_len
            )));
        }
        encoder
            .bert
            .set_gradient_checkpointing(options.gradient_checkpointing);
        Ok(Self {
            encoder,
            name,
            source: options.model.to_owned(),
            hashes,
        })
    }

    /// Refuses a pooling to train with that the encoder has no weights for, `mask`, whose template the
    /// texts of a training step do not get, and those that a model directory cannot express.
    ///
    /// # Errors
    ///
    /// [`encoder::EncoderError::MissingHead`]; [`RunError::Config`] for the others.
    pub(crate) fn check_pooling(&self, pooling: Pooling) -> Result<(), RunError> {
        if !matches!(pooling, Pooling::Cls | Pooling::ClsMlp | Pooling::Mean) {
            return Err(bad(
                "pooling",
                "cls, cls_mlp or mean, which need no template and which a model directory can express",
                pooling,
            ));
        }
        let mut encoder = self.encoder.clone();
        encoder.pooling = pooling;
        Ok(encoder.check_pooling()?)
    }
}

/// Sets that an encoder is measured on.
pub(crate) struct Evaluation {
    /// For choosing a checkpoint.
    pub(crate) dev: DevSet,
    /// Test sets, or pairs made from the bundled set.
    suite: Suite,
    /// Texts of the development and test sets, to be compared with training rows.
    pub(crate) leaks: LeakIndex,
    /// SHA-256 of every file read, by name.
    pub(crate) hashes: BTreeMap<String, String>,
    max_len: usize,
    batch_size: usize,
}

impl Evaluation {
    /// Reads the tasks of `dir`; an empty `dir` stands for pairs made from the bundled set. Texts are
    /// cut at `max_len` tokens, 0 at what the model can take.
    ///
    /// # Errors
    ///
    /// A task that cannot be read; no development split of STS-B in the directory.
    pub(crate) fn new(
        dir: &str,
        encoder: &SentenceEncoder,
        max_len: usize,
        batch_size: usize,
    ) -> Result<Self, RunError> {
        let positions = encoder.config.max_position_embeddings;
        let max_len = match max_len {
            0 => positions,
            given => given.min(positions),
        };
        let dev_set =
            |pairs: &[ScoredPair]| DevSet::new(pairs, POSITIVE_FROM, &encoder.tokenizer, max_len);
        if dir.is_empty() {
            let (dev, test) = bundled::evaluation_pairs()?;
            let texts = |pairs: &[ScoredPair], name: &str| EvalSet {
                name: name.to_owned(),
                rows: pairs
                    .iter()
                    .map(|pair| vec![pair.first.clone(), pair.second.clone()])
                    .collect(),
            };
            let sets = [texts(&dev, "pocket dev"), texts(&test, "pocket test")];
            return Ok(Self {
                dev: dev_set(&dev)?,
                leaks: LeakIndex::new(&sets, TextRule::default()),
                suite: Suite {
                    scored: vec![("POCKET".to_owned(), test)],
                    ..Suite::default()
                },
                hashes: BTreeMap::new(),
                max_len,
                batch_size,
            });
        }
        let sts = load_sts_dir(Path::new(dir), Limits::default())?;
        let dev: Vec<ScoredPair> = sts
            .iter()
            .find(|task| task.name == StsName::StsB)
            .and_then(|task| task.split(StsPart::Dev))
            .ok_or_else(|| {
                RunError::Data(format!(
                    "{dir}: no development split of STS-B, by which the checkpoint is chosen"
                ))
            })?
            .pairs()
            .cloned()
            .collect();
        let held_out = [StsPart::Dev, StsPart::Test];
        let sets = load_eval_sets(Path::new(dir), &held_out, Limits::default())?;
        let hashes = sts
            .iter()
            .flat_map(|task| &task.reports)
            .map(|report| (file_name(&report.path), report.sha256.clone()))
            .collect();
        Ok(Self {
            dev: dev_set(&dev)?,
            leaks: LeakIndex::new(&sets, TextRule::default()),
            suite: Suite {
                sts,
                ..Suite::default()
            },
            hashes,
            max_len,
            batch_size,
        })
    }

    /// The tasks with all their parts; none for the bundled pairs.
    pub(crate) fn tasks(&self) -> &[StsTask] {
        &self.suite.sts
    }

    /// Scores of an encoder on all test sets.
    pub(crate) fn rows(
        &self,
        stage: &str,
        encoder: &SentenceEncoder,
        backbone: &BertModel,
        pooling: Pooling,
    ) -> Result<Vec<Row>, RunError> {
        let mut encoder = encoder.clone();
        encoder.bert = backbone.valid();
        encoder.pooling = pooling;
        encoder.max_len = self.max_len;
        let found = evaluate(
            &self.suite,
            Mode::Test,
            &Mode::Test.transfer(),
            |texts| encode_texts(&encoder, texts, self.batch_size, |_, _| {}),
            &|_| {},
        )?;
        Ok(found.rows(stage).into_iter().map(Row::Embedding).collect())
    }
}

/// Last part of a path.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// What a result file says about the run beside its rows.
pub(crate) struct Outcome<'r> {
    pub(crate) experiment: &'r str,
    pub(crate) data_name: String,
    pub(crate) train_rows: usize,
    pub(crate) start: &'r Start,
    pub(crate) manifest: &'r RunManifest,
    pub(crate) device: DeviceSpec,
    pub(crate) config: Value,
    /// Further facts about the model's use, such as the pooling.
    pub(crate) facts: Value,
}

/// Writes `result.json` and `report.html`.
pub(crate) fn finish(
    session: &mut Session<'_>,
    outcome: Outcome<'_>,
    began: Instant,
) -> Result<ResultFile, RunError> {
    let mut result = ResultFile::new(
        outcome.experiment,
        DataInfo {
            name: outcome.data_name,
            train_rows: outcome.train_rows,
            sha256: outcome.manifest.data.clone(),
            ..DataInfo::default()
        },
    );
    result.device = outcome.device.resolve().to_string();
    result.threads = rayon::current_num_threads();
    result.model = json!({
        "name": outcome.start.name, "source": outcome.start.source, "sha256": outcome.start.hashes,
    });
    if let (Value::Object(model), Value::Object(facts)) = (&mut result.model, outcome.facts) {
        model.extend(facts);
    }
    result.config = outcome.config;
    result.rows = session.rows().to_vec();
    result.summary = summarise(&result.rows);
    result.timing = session.timing().to_vec();
    result.peak_rss_mb = peak_rss_mb().unwrap_or(0.0);
    result.total_s = began.elapsed().as_secs_f64();
    result.write(&session.dir.path().join("result.json"))?;
    let mut input = ReportInput::new(result.clone());
    input.curves = curves(&session.dir.metrics_path(), |name| {
        name.starts_with("loss") || name.starts_with("dev_")
    })?;
    write_report(session.dir.path(), &input)?;
    session.progress.finish();
    Ok(result)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn poolings_that_cannot_be_trained_or_saved() {
        let mut none = Start::load(
            &StartOptions {
                model: "pocket",
                dropout: -1.0,
                allow_non_finite: false,
                gradient_checkpointing: false,
                max_len: 8,
            },
            &Device::flex(),
        )
        .unwrap();
        none.encoder.bert.pooler = None;
        none.check_pooling(Pooling::Mean).unwrap();
        none.check_pooling(Pooling::Cls).unwrap();
        for (pooling, word) in [
            (Pooling::ClsMlp, "pooler"),
            (Pooling::Mask, "template"),
            (Pooling::AvgTop2, "model directory"),
            (Pooling::AvgFirstLast, "model directory"),
        ] {
            let error = none.check_pooling(pooling).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
