//! What an encoder in training looks like on sentences held out of training and on those of the
//! development set.

use burn::module::Module;
use burn::tensor::Device;
use datasets::{ScoredPair, StsName, StsPart, StsTask};
use encoder::{BertModel, Embeddings, Pooling, SentenceEncoder, encode_ids};
use metrics::{alignment, uniformity};
use training::Streams;

use super::trace::Probed;
use crate::embedding::{Column, TextTable, bundled};
use crate::error::RunError;

/// Name of the random stream of the probes' dropout. Keys: stage, steps done, set.
const STREAM: &str = "rfd";

/// Pairs of the development set with at least this score are positives.
const POSITIVE_FROM: f64 = 4.0;

/// Sentences of pairs with at most this score count for the uniformity beside those of positives.
const NEGATIVE_TO: f64 = 1.0;

/// Positive pairs, and sentences whose spread is measured.
#[derive(Clone, Debug)]
pub(crate) struct ProbeSet {
    texts: TextTable,
    pairs: Vec<(usize, usize)>,
    spread: Vec<usize>,
}

impl ProbeSet {
    /// Pairs and sentences as indices into `texts`; a sentence may come several times.
    pub(crate) fn new(texts: TextTable, pairs: Vec<(usize, usize)>, spread: Vec<usize>) -> Self {
        Self {
            texts,
            pairs,
            spread,
        }
    }

    /// The probes of the development set of STS-B, or of the pairs made from the bundled set where there
    /// are no tasks: the first `rows` pairs scored 4 or more, and the first `rows` sentences of pairs
    /// scored 4 or more or 1 or less.
    ///
    /// # Errors
    ///
    /// [`RunError::Data`] without such pairs.
    pub(crate) fn of_development_set(
        tasks: &[StsTask],
        encoder: &SentenceEncoder,
        rows: usize,
        max_len: usize,
    ) -> Result<Self, RunError> {
        let pairs: Vec<ScoredPair> = match tasks.iter().find(|task| task.name == StsName::StsB) {
            Some(task) => task
                .split(StsPart::Dev)
                .into_iter()
                .flat_map(|split| split.pairs().cloned())
                .collect(),
            None => bundled::evaluation_pairs()?.0,
        };
        let template = encoder.template.as_ref();
        let added = template.map_or(0, encoder::Template::added);
        let positions = encoder.config.max_position_embeddings;
        let max_len = max_len.min(positions.saturating_sub(added));
        let column = |text: fn(&ScoredPair) -> &String| -> Vec<String> {
            pairs.iter().map(|pair| text(pair).clone()).collect()
        };
        let columns = [column(|pair| &pair.first), column(|pair| &pair.second)];
        let views = columns.each_ref().map(|texts| Column { texts, template });
        let (texts, columns) = TextTable::new(&views, &encoder.tokenizer, max_len)?;
        let [first, second] = columns.as_slice() else {
            return Err(RunError::Data("development set: no pairs".to_owned()));
        };
        let indices = || {
            first
                .iter()
                .copied()
                .zip(second.iter().copied())
                .zip(&pairs)
        };
        let positives: Vec<(usize, usize)> = indices()
            .filter(|(_, pair)| pair.score >= POSITIVE_FROM)
            .map(|(indices, _)| indices)
            .take(rows)
            .collect();
        let spread: Vec<usize> = indices()
            .filter(|(_, pair)| pair.score >= POSITIVE_FROM || pair.score <= NEGATIVE_TO)
            .flat_map(|((first, second), _)| [first, second])
            .take(rows)
            .collect();
        if positives.is_empty() || spread.len() < 2 {
            return Err(RunError::Data(format!(
                "development set: expected pairs scored {POSITIVE_FROM} or more for the probes, found {} \
                 among {}",
                positives.len(),
                pairs.len()
            )));
        }
        Ok(Self::new(texts, positives, spread))
    }

    /// Number of positive pairs.
    pub(crate) fn rows(&self) -> usize {
        self.pairs.len()
    }

    /// Alignment of the pairs and uniformity of the sentences. Every occurrence of a text is embedded for
    /// itself, so that with dropout two of them differ.
    fn look(
        &self,
        backbone: &BertModel,
        pooling: Pooling,
        batch_size: usize,
    ) -> Result<(f64, f64), RunError> {
        let (first, second): (Vec<usize>, Vec<usize>) = self.pairs.iter().copied().unzip();
        let all = [first, second, self.spread.clone()].concat();
        let ids = self.texts.rows(&all);
        let vectors = encode_ids(backbone, pooling, true, &ids, batch_size, |_, _| {})?;
        let (first, rest) = split(&vectors, self.pairs.len());
        let (second, spread) = rest.split_at(first.len());
        Ok((
            alignment(first, second, vectors.dim)?,
            uniformity(spread, vectors.dim)?,
        ))
    }
}

/// The values of the first `rows` rows, and the others.
fn split(vectors: &Embeddings, rows: usize) -> (&[f32], &[f32]) {
    vectors.values.split_at(rows * vectors.dim)
}

/// Looks at an encoder through both probe sets.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    /// Sentences held out of training.
    pub(crate) train: ProbeSet,
    /// Sentences of the development set.
    pub(crate) eval: ProbeSet,
    pub(crate) pooling: Pooling,
    /// Dropout stays active.
    pub(crate) dropout: bool,
    pub(crate) device: Device,
    pub(crate) streams: Streams,
    /// Key of the stage in the random streams.
    pub(crate) key: u64,
    pub(crate) batch_size: usize,
}

impl Recorder {
    /// What both sets look like after `done` steps: a function of encoder, seed and `done` alone.
    ///
    /// # Errors
    ///
    /// Those of the encoder; vectors that are not finite.
    pub(crate) fn look(&self, backbone: &BertModel, done: u64) -> Result<Probed, RunError> {
        let backbone = backbone.valid();
        let side = |set: &ProbeSet, which: u64| {
            let look = || set.look(&backbone, self.pooling, self.batch_size);
            if !self.dropout {
                return look();
            }
            let keys = [self.key, done, which];
            self.device.clone().seed(self.streams.seed(STREAM, &keys));
            kernels::with_dropout(look)
        };
        let (train_alignment, train_uniformity) = side(&self.train, 0)?;
        let (eval_alignment, eval_uniformity) = side(&self.eval, 1)?;
        Ok(Probed {
            train_alignment,
            train_uniformity,
            eval_alignment,
            eval_uniformity,
        })
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use encoder::{BertConfig, TextTokenizer};

    use super::*;

    fn encoder(dropout: f64) -> SentenceEncoder {
        let pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"];
        let tokenizer = TextTokenizer::from_word_pieces(&pieces).unwrap();
        let config = BertConfig::tiny(pieces.len()).with_dropout(dropout);
        SentenceEncoder::random(config, tokenizer, Pooling::Mean, 1, &Device::flex()).unwrap()
    }

    const TEXTS: [&str; 4] = ["a b", "a b b", "c", "c a a b"];

    fn recorder(encoder: &SentenceEncoder, dropout: bool) -> Recorder {
        let set = |pairs: &[(usize, usize)], spread: &[usize]| {
            let texts = TEXTS.map(str::to_owned);
            let column = [Column::plain(&texts)];
            let (texts, _) = TextTable::new(&column, &encoder.tokenizer, 8).unwrap();
            ProbeSet::new(texts, pairs.to_vec(), spread.to_vec())
        };
        Recorder {
            train: set(&[(0, 0), (1, 1)], &[0, 1, 2, 0]),
            eval: set(&[(0, 1), (2, 3), (3, 0)], &[0, 1, 2, 3]),
            pooling: Pooling::Mean,
            dropout,
            device: Device::flex(),
            streams: Streams::new(5),
            key: 1,
            batch_size: 3,
        }
    }

    #[test]
    fn figures_without_dropout_are_those_of_the_vectors() {
        let encoder = encoder(0.0);
        let unit = |at: usize| -> Vec<f64> {
            let vectors = encoder.encode(&[TEXTS[at]], 1).unwrap();
            let values: Vec<f64> = vectors.row(0).iter().map(|x| f64::from(*x)).collect();
            let norm = values.iter().map(|x| x * x).sum::<f64>().sqrt();
            values.iter().map(|x| x / norm).collect()
        };
        let distance = |a: usize, b: usize| -> f64 {
            let pairs = unit(a).into_iter().zip(unit(b));
            pairs.map(|(x, y)| (x - y) * (x - y)).sum()
        };
        let aligned = |pairs: &[(usize, usize)]| {
            pairs.iter().map(|(a, b)| distance(*a, *b)).sum::<f64>() / pairs.len() as f64
        };
        let uniform = |spread: &[usize]| {
            let mut potentials = Vec::new();
            for (at, a) in spread.iter().enumerate() {
                for b in &spread[..at] {
                    potentials.push((-2.0 * distance(*a, *b)).exp());
                }
            }
            (potentials.iter().sum::<f64>() / potentials.len() as f64).ln()
        };
        for dropout in [false, true] {
            // The rate is 0: leaving it on changes nothing.
            let found = recorder(&encoder, dropout).look(&encoder.bert, 7).unwrap();
            assert!(found.train_alignment.abs() < 1e-6);
            for (found, expected) in [
                (found.train_uniformity, uniform(&[0, 1, 2, 0])),
                (found.eval_alignment, aligned(&[(0, 1), (2, 3), (3, 0)])),
                (found.eval_uniformity, uniform(&[0, 1, 2, 3])),
            ] {
                assert!(
                    (found - expected).abs() < 1e-5,
                    "{found}, expected {expected}"
                );
            }
        }
    }

    #[test]
    fn dropout_is_active_and_drawn_from_seed_and_step() {
        let encoder = encoder(0.3);
        let plain = recorder(&encoder, false).look(&encoder.bert, 7).unwrap();
        assert!(plain.train_alignment.abs() < 1e-6);
        // Other tests of this process draw from the same generator: look until two looks agree.
        let recorder = recorder(&encoder, true);
        let look = |done| recorder.look(&encoder.bert, done).unwrap();
        let repeated = (0..50).any(|_| look(7) == look(7));
        assert!(repeated, "no look was repeated");
        assert!(
            look(7).train_alignment > 1e-3,
            "a text beside itself differs"
        );
        assert_ne!(look(7), look(8));
        // A model with autodiff is looked at without it.
        let training = encoder.bert.clone().train();
        assert!((0..50).any(|_| recorder.look(&training, 7).unwrap() == look(7)));
    }

    #[test]
    fn the_development_set_gives_positives_and_extremes() {
        let encoder = encoder(0.0);
        let set = ProbeSet::of_development_set(&[], &encoder, 40, 8).unwrap();
        // Of the bundled pairs every third is a positive and every third of score 0.
        assert_eq!((set.pairs.len(), set.spread.len()), (40, 40));
        let few = ProbeSet::of_development_set(&[], &encoder, 3, 8).unwrap();
        assert_eq!(few.pairs, set.pairs[..3]);
        let first = set.pairs[0];
        assert_eq!(set.spread[..2], [first.0, first.1]);
    }
}
