//! Encoder and evaluation sets of a run, and what becomes of its results.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use datasets::leakage::{sts_eval_sets, transfer_eval_sets};
use datasets::{
    EvalSet, LeakIndex, Limits, ScoredPair, StsName, StsPart, StsTask, TextRule, load_sts_dir,
};
use encoder::{BertModel, LoadOptions, Pooling, Prompt, SentenceEncoder, Template};
use serde_json::{Value, json};

use super::bundled;
use super::dev_set::DevSet;
use super::settings::{bad, precision};
use crate::error::RunError;
use crate::evaluate::{Mode, Suite, encode_texts, evaluate};
use crate::result::{DataInfo, ResultFile, Row};
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
    pub(crate) precision: &'c str,
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
        let dir = datasets::pocket::model_dir(Path::new(options.model))?;
        let mut encoder = SentenceEncoder::load(&dir, &load, device)?;
        let (name, hashes) = if options.model == "pocket" {
            ("pocket".to_owned(), datasets::pocket::encoder_hashes())
        } else {
            let hash = SentenceEncoder::weights_hash(&dir)?;
            let hashes = BTreeMap::from([("model.safetensors".to_owned(), hash)]);
            (file_name(&dir), hashes)
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
        encoder
            .bert
            .set_precision(precision(options.precision, device)?);
        Ok(Self {
            encoder,
            name,
            source: options.model.to_owned(),
            hashes,
        })
    }

    /// How texts become vectors in a training: with the pooling asked for, else the model's own. `mask`
    /// wraps them in the template asked for, else the model's own, else that of NGCSE; second copies in
    /// `positive`, else in NGCSE's second template where the first is NGCSE's, else in the same one.
    ///
    /// # Errors
    ///
    /// [`RunError::Config`]: a template without `mask`, no room for it behind `max_len` tokens;
    /// [`encoder::EncoderError`] for one that does not fit the tokenizer.
    pub(crate) fn form(&self, asked: &Asked<'_>) -> Result<Form, RunError> {
        let given = [
            ("template", asked.template),
            ("template_positive", asked.positive),
        ];
        let given = given.iter().find(|(_, text)| !text.is_empty());
        let pooling = match (asked.pooling, given) {
            (Some(pooling), _) => pooling,
            (None, Some(_)) => Pooling::Mask,
            (None, None) => self.encoder.pooling,
        };
        if pooling != Pooling::Mask {
            return match given {
                Some((key, _)) => Err(bad(key, "nothing without pooling=mask", pooling)),
                None => Ok(Form {
                    pooling,
                    template: None,
                    positive: None,
                }),
            };
        }
        let tokenizer = &self.encoder.tokenizer;
        let template = match (asked.template, &self.encoder.template) {
            ("", Some(own)) => own.clone(),
            ("", None) => Template::new(Template::NGCSE, tokenizer)?,
            (text, _) => Template::new(text, tokenizer)?,
        };
        let positive = match asked.positive {
            "" if template.text() == Template::NGCSE => {
                Template::new(Template::NGCSE_POSITIVE, tokenizer)?
            }
            "" => template.clone(),
            text => Template::new(text, tokenizer)?,
        };
        let added = template.added().max(positive.added());
        let positions = self.encoder.config.max_position_embeddings;
        let room = positions.saturating_sub(added);
        if asked.max_len > room {
            let expected = format!(
                "at most {room}, the {positions} positions less the {added} tokens of the template"
            );
            return Err(bad("max_len", &expected, asked.max_len));
        }
        Ok(Form {
            pooling,
            template: Some(template),
            positive: Some(positive),
        })
    }

    /// The encoder in the form it is trained in.
    pub(crate) fn shaped(&self, form: &Form) -> SentenceEncoder {
        let mut encoder = self.encoder.clone();
        encoder.pooling = form.pooling;
        encoder.template = form.template.clone();
        encoder
    }

    /// What has become of it.
    pub(crate) fn trained(&self, form: &Form, backbone: &BertModel) -> SentenceEncoder {
        let mut encoder = self.shaped(form);
        encoder.bert = backbone.valid();
        encoder
    }

    /// Refuses a form to train in that the encoder has no weights for, and those that a model directory
    /// cannot express.
    ///
    /// # Errors
    ///
    /// [`encoder::EncoderError::MissingHead`]; [`RunError::Config`] for the others.
    pub(crate) fn check(&self, form: &Form) -> Result<(), RunError> {
        if matches!(form.pooling, Pooling::AvgTop2 | Pooling::AvgFirstLast) {
            return Err(bad(
                "pooling",
                "cls, cls_mlp, mean or mask, which a model directory can express",
                form.pooling,
            ));
        }
        Ok(self.shaped(form).check_pooling()?)
    }
}

/// What the settings of a run say about vectors.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked<'c> {
    pub(crate) pooling: Option<Pooling>,
    /// Empty: none is asked for.
    pub(crate) template: &'c str,
    /// The same for second copies.
    pub(crate) positive: &'c str,
    /// Longest text, without its template.
    pub(crate) max_len: usize,
}

/// How texts become vectors in a training.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Form {
    pub(crate) pooling: Pooling,
    /// What every text is wrapped in, then and later; only `mask` has one.
    pub(crate) template: Option<Template>,
    /// What the second copy of a text that is its own positive is wrapped in instead.
    pub(crate) positive: Option<Template>,
}

impl Form {
    /// What results say of it.
    pub(crate) fn facts(&self) -> Value {
        let mut facts = json!({"pooling": self.pooling.to_string()});
        if let Some(template) = &self.template {
            facts["template"] = json!(template.text());
        }
        facts
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
    /// cut at `max_len` tokens, 0 at what the model can take. `encoder` tells the form in which the
    /// development set is looked at.
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
        let dev_set = |pairs: &[ScoredPair]| DevSet::new(pairs, POSITIVE_FROM, encoder, max_len);
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
        let mut sets = sts_eval_sets(&sts, &held_out);
        sets.extend(transfer_eval_sets(
            Path::new(dir),
            &held_out,
            Limits::default(),
        )?);
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

    /// Scores an encoder on all test sets and books the results of the phase; the terminal gets `note`.
    ///
    /// # Errors
    ///
    /// Those of the encoder; a log that cannot be written.
    pub(crate) fn measure(
        &self,
        session: &mut Session<'_>,
        stage: &str,
        note: &str,
        encoder: &SentenceEncoder,
    ) -> Result<(), RunError> {
        let began = Instant::now();
        let seed = session.seed();
        session
            .progress
            .message(&format!("seed {seed}: {stage}: {note}"));
        let mut encoder = encoder.clone();
        encoder.bert = encoder.bert.valid();
        encoder.max_len = self.max_len;
        let found = evaluate(
            &self.suite,
            Mode::Test,
            &Mode::Test.transfer(),
            |texts| encode_texts(&encoder, texts, self.batch_size, Prompt::Default, |_, _| {}),
            &|_| {},
        )?;
        let mut rows = found.rows(stage);
        for row in &mut rows {
            row.seed = Some(seed);
        }
        let rows = rows.into_iter().map(Row::Embedding).collect();
        session.conclude(stage, rows, began)
    }
}

/// Last part of a path.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// What a result file says about a run, beside what the session knows.
pub(crate) struct Outcome<'r> {
    pub(crate) data_name: String,
    pub(crate) train_rows: usize,
    pub(crate) start: &'r Start,
    /// Further facts about the model's use, such as the pooling.
    pub(crate) facts: Value,
}

/// Writes `result.json` and `report.html`.
pub(crate) fn finish(
    session: &mut Session<'_>,
    outcome: Outcome<'_>,
    began: Instant,
) -> Result<ResultFile, RunError> {
    let mut model = json!({
        "name": outcome.start.name, "source": outcome.start.source, "sha256": outcome.start.hashes,
    });
    if let (Value::Object(model), Value::Object(facts)) = (&mut model, outcome.facts) {
        model.extend(facts);
    }
    let data = DataInfo {
        name: outcome.data_name,
        train_rows: outcome.train_rows,
        ..DataInfo::default()
    };
    let result = session.result(data, model, began);
    session.publish(&result, |dir, report| {
        report.curves = curves(&dir.metrics_path(), |name| {
            name.starts_with("loss") || name.starts_with("dev_")
        })?;
        Ok(())
    })?;
    Ok(result)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn start() -> Start {
        let options = StartOptions {
            model: "pocket",
            dropout: -1.0,
            allow_non_finite: false,
            gradient_checkpointing: false,
            precision: "f32",
            max_len: 8,
        };
        Start::load(&options, &Device::flex()).unwrap()
    }

    fn with(pooling: Pooling) -> Asked<'static> {
        Asked {
            pooling: Some(pooling),
            max_len: 8,
            ..Asked::default()
        }
    }

    #[test]
    fn poolings_that_cannot_be_trained_or_saved() {
        let mut none = start();
        none.encoder.bert.pooler = None;
        let check = |pooling| none.check(&none.form(&with(pooling)).unwrap());
        for pooling in [Pooling::Mean, Pooling::Cls, Pooling::Mask] {
            check(pooling).unwrap();
        }
        for (pooling, word) in [
            (Pooling::ClsMlp, "pooler"),
            (Pooling::AvgTop2, "model directory"),
            (Pooling::AvgFirstLast, "model directory"),
        ] {
            let error = check(pooling).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn templates_are_those_given_or_the_models_or_ngcses() {
        let mut start = start();
        let texts = |start: &Start, asked: &Asked<'_>| -> Vec<String> {
            let form = start.form(asked).unwrap();
            assert_eq!(form.pooling, Pooling::Mask);
            [form.template, form.positive]
                .map(|template| template.unwrap().text().to_owned())
                .to_vec()
        };
        let mask = with(Pooling::Mask);
        assert_eq!(
            texts(&start, &mask),
            [Template::NGCSE, Template::NGCSE_POSITIVE]
        );
        // A template asks for the pooling as well.
        let given = Asked {
            pooling: None,
            template: "{s} is [MASK]",
            ..mask
        };
        assert_eq!(texts(&start, &given), ["{s} is [MASK]"; 2]);
        let both = Asked {
            positive: "{s} means [MASK]",
            ..given
        };
        assert_eq!(texts(&start, &both), ["{s} is [MASK]", "{s} means [MASK]"]);
        start.encoder.set_template("so {s} [MASK]").unwrap();
        assert_eq!(texts(&start, &mask), ["so {s} [MASK]"; 2]);
        // Another pooling leaves a model's template out.
        let mean = start.form(&with(Pooling::Mean)).unwrap();
        assert_eq!((&mean.template, &mean.positive), (&None, &None));
        assert_eq!(start.shaped(&mean).template, None);
    }

    #[test]
    fn templates_that_fit_nothing_are_refused() {
        let start = start();
        let positions = start.encoder.config.max_position_embeddings;
        for (asked, word) in [
            (
                Asked {
                    template: "{s} [MASK]",
                    ..with(Pooling::Mean)
                },
                "template: expected nothing",
            ),
            (
                Asked {
                    positive: "{s} [MASK]",
                    ..with(Pooling::Cls)
                },
                "template_positive",
            ),
            (
                Asked {
                    template: "no place [MASK]",
                    ..with(Pooling::Mask)
                },
                "no place",
            ),
            (
                Asked {
                    max_len: positions,
                    ..with(Pooling::Mask)
                },
                "max_len",
            ),
        ] {
            let error = start.form(&asked).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
