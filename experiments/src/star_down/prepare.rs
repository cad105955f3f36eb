//! Data, tokenizer and encoder of a run, checked against the configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use datasets::{CategoryDataset, FetchOptions, LoadOptions, Manifest, Split, load_category_dir};
use encoder::bert::Embedding;
use encoder::{BertConfig, Pooling, SentenceEncoder, TextTokenizer};
use kernels::Precision;
use sha2::{Digest, Sha256};
use training::{Streams, stream};

use super::config::StarDownConfig;
use crate::embedding::settings::{pooling, precision};
use crate::error::RunError;

/// Everything that stays the same for all seeds.
pub(crate) struct Prepared {
    pub(crate) data: CategoryDataset,
    /// Fine categories.
    pub(crate) k: usize,
    pub(crate) topk: usize,
    pub(crate) max_len: usize,
    pub(crate) train_ids: Vec<Vec<u32>>,
    pub(crate) test_ids: Vec<Vec<u32>>,
    /// Replayed batches of the training stages.
    pub(crate) batch_order: Option<Vec<Vec<usize>>>,
    pub(crate) device: Device,
    pub(crate) data_hashes: BTreeMap<String, String>,
    pub(crate) model_hashes: BTreeMap<String, String>,
    pub(crate) model_name: String,
    base: Option<SentenceEncoder>,
    precision: Precision,
    config: StarDownConfig,
}

impl Prepared {
    pub(crate) fn new(config: &StarDownConfig, device: Device) -> Result<Self, RunError> {
        let mut data = if config.data == "pocket" {
            datasets::pocket()?
        } else {
            load_category_dir(&data_directory(&config.data)?, &LoadOptions::default())?
        };
        check_single_rows(&data)?;
        if config.rows_by_content()? {
            let splits = [
                Some(&mut data.train),
                data.valid.as_mut(),
                Some(&mut data.test),
            ];
            splits.into_iter().flatten().for_each(sort_by_content);
        }
        let name = data.name.to_lowercase();
        let known = ["clinc", "hwu64", "wos"]
            .into_iter()
            .find(|set| name.starts_with(set));
        let mut max_len = match (config.max_len, known) {
            (0, Some("clinc")) => 30,
            (0, Some("hwu64")) => 10,
            (0, Some("wos")) => 200,
            (0, _) => 32,
            (given, _) => given,
        };
        let k = match (config.n_fine, &data.fine_names) {
            (0, Some(names)) => names.len(),
            (0, None) => {
                return Err(RunError::Data(
                    "no fine labels to count: set n_fine to the number of categories wanted".into(),
                ));
            }
            (given, _) => given,
        };
        let n = data.train.len();
        let smaller = n.min(data.test.len());
        if k < 2 || k > smaller {
            return Err(RunError::Data(format!(
                "n_fine: {k} fine categories: expected 2 to {smaller}, the rows of the smaller split"
            )));
        }
        let topk = match (config.train.topk, known) {
            (0, Some("clinc" | "hwu64")) => 120.min(n - 1),
            (0, Some(_)) => 250.min(n - 1),
            (0, None) => (n / k).clamp(1, n - 1),
            (given, _) => given,
        };
        if topk >= n {
            return Err(RunError::Config(format!(
                "train.topk: expected below the {n} training rows, found {topk}"
            )));
        }
        let precision = precision(&config.precision, &device)?;
        let (base, tokenizer, model_hashes, model_name) = if config.model == "random" {
            let tokenizer = pocket_tokenizer()?;
            (None, tokenizer, BTreeMap::new(), "random".to_owned())
        } else {
            let dir = datasets::pocket::model_dir(Path::new(&config.model))?;
            let options = encoder::LoadOptions {
                allow_non_finite: config.allow_non_finite,
                pooling: pooling(&config.pooling)?,
                max_len: Some(max_len),
                dropout: (config.dropout >= 0.0).then_some(config.dropout),
                ..encoder::LoadOptions::default()
            };
            let model = SentenceEncoder::load(&dir, &options, &device)?;
            let positions = model.config.max_position_embeddings;
            if config.max_len > positions {
                return Err(RunError::Config(format!(
                    "max_len: expected at most the {positions} positions of {}, found {}",
                    dir.display(),
                    config.max_len
                )));
            }
            max_len = max_len.min(positions);
            let hash = SentenceEncoder::weights_hash(&dir)?;
            let name = model
                .config
                .other
                .get("_name_or_path")
                .and_then(|value| value.as_str())
                .map_or_else(
                    || {
                        dir.file_name()
                            .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
                    },
                    str::to_owned,
                );
            let tokenizer = model.tokenizer.clone();
            (
                Some(model),
                tokenizer,
                BTreeMap::from([("model.safetensors".to_owned(), hash)]),
                name,
            )
        };
        let train_ids = tokenizer.encode(&data.train.texts, max_len)?;
        let test_ids = tokenizer.encode(&data.test.texts, max_len)?;
        let batch_order = crate::batch_file::read(&config.batch_order_file, n)?;
        let data_hashes = data
            .report
            .files
            .iter()
            .map(|file| {
                (
                    file.path.file_name().map_or_else(
                        || file.split.clone(),
                        |name| name.to_string_lossy().into_owned(),
                    ),
                    file.sha256.clone(),
                )
            })
            .collect();
        Ok(Self {
            data,
            k,
            topk,
            max_len,
            train_ids,
            test_ids,
            batch_order,
            device,
            data_hashes,
            model_hashes,
            model_name,
            base,
            precision,
            config: config.clone(),
        })
    }

    /// The encoder a seed starts from: the loaded one, or a new one drawn from the seed.
    pub(crate) fn encoder(&self, streams: &Streams) -> Result<SentenceEncoder, RunError> {
        let mut encoder = self.base_encoder(streams)?;
        encoder
            .bert
            .set_gradient_checkpointing(self.config.gradient_checkpointing);
        encoder.bert.set_precision(self.precision);
        Ok(encoder)
    }

    fn base_encoder(&self, streams: &Streams) -> Result<SentenceEncoder, RunError> {
        if let Some(base) = &self.base {
            return Ok(base.clone());
        }
        let tokenizer = pocket_tokenizer()?;
        let size = &self.config.random;
        let mut shape = BertConfig::tiny(tokenizer.vocab_size());
        shape.hidden_size = size.hidden;
        shape.num_hidden_layers = size.layers;
        shape.num_attention_heads = size.heads;
        shape.intermediate_size = size.intermediate;
        shape.initializer_range = size.init_std;
        if self.config.dropout >= 0.0 {
            shape = shape.with_dropout(self.config.dropout);
        }
        shape.max_position_embeddings = shape.max_position_embeddings.max(self.max_len);
        let pooling = pooling(&self.config.pooling)?.unwrap_or(Pooling::Mean);
        let seed = streams.seed(stream::INIT, &[0]);
        let mut encoder = SentenceEncoder::random(shape, tokenizer, pooling, seed, &self.device)?;
        // A layer norm follows the sum of the three tables, so only their proportions decide how much
        // of a word is left in its first vector; without pre-training nothing else carries it.
        let tables = &mut encoder.bert.embeddings;
        rescale(&mut tables.word_embeddings, size.init_std, size.word_std);
        rescale(
            &mut tables.position_embeddings,
            size.init_std,
            size.position_std,
        );
        rescale(
            &mut tables.token_type_embeddings,
            size.init_std,
            size.position_std,
        );
        encoder.max_len = self.max_len;
        Ok(encoder)
    }
}

/// Gives a table drawn with standard deviation `from` the standard deviation `to`; 0 leaves it.
fn rescale(table: &mut Embedding, from: f64, to: f64) {
    if from > 0.0 && to > 0.0 {
        table.weight = table
            .weight
            .clone()
            .map(|weight| weight.mul_scalar(to / from));
    }
}

/// Puts rows in the order of the SHA-256 of their text, then of their labels: one that does not depend
/// on the file's, and in which neighbours have nothing in common.
fn sort_by_content(split: &mut Split) {
    let mut rows: Vec<(Vec<u8>, usize, Option<usize>, usize)> = (0..split.len())
        .map(|row| {
            let fine = split.fine.as_ref().map(|fine| fine[row]);
            let digest = Sha256::digest(split.texts[row].as_bytes()).to_vec();
            (digest, split.coarse[row], fine, row)
        })
        .collect();
    rows.sort_unstable();
    let order: Vec<usize> = rows.into_iter().map(|(_, _, _, row)| row).collect();
    *split = Split {
        texts: order.iter().map(|row| split.texts[*row].clone()).collect(),
        coarse: order.iter().map(|row| split.coarse[*row]).collect(),
        fine: split
            .fine
            .as_ref()
            .map(|fine| order.iter().map(|row| fine[*row]).collect()),
    };
}

/// A fine class with one training row has no neighbour to be found by.
fn check_single_rows(data: &CategoryDataset) -> Result<(), RunError> {
    let (Some(names), Some(fine)) = (&data.fine_names, &data.train.fine) else {
        return Ok(());
    };
    let mut rows = vec![(0usize, 0usize); names.len()];
    for (at, label) in fine.iter().enumerate() {
        let (count, first) = &mut rows[*label];
        if *count == 0 {
            *first = at;
        }
        *count += 1;
    }
    let single: Vec<String> = rows
        .iter()
        .zip(names)
        .filter(|((count, _), _)| *count == 1)
        .map(|((_, at), name)| format!("`{name}` ({:?})", data.train.texts[*at]))
        .collect();
    if single.is_empty() {
        return Ok(());
    }
    let file = data
        .report
        .files
        .iter()
        .find(|file| file.split == "train")
        .map_or_else(|| data.name.clone(), |file| file.path.display().to_string());
    Err(RunError::Data(format!(
        "{file}: fine classes with a single row cannot be discovered: {}",
        single.join(", ")
    )))
}

/// A directory as it is; the name of a published set stands for its downloaded and verified files.
fn data_directory(data: &str) -> Result<PathBuf, RunError> {
    let path = PathBuf::from(data);
    if path.exists() || !Manifest::built_in_names().any(|name| name == data) {
        return Ok(path);
    }
    let manifest = Manifest::built_in(data)?;
    let cache = datasets::default_cache_dir();
    datasets::fetch(&manifest, &cache, &FetchOptions::default(), &mut |_| {})?;
    Ok(manifest.directory(&cache))
}

fn pocket_tokenizer() -> Result<TextTokenizer, RunError> {
    let pieces: Vec<&str> = datasets::pocket::vocabulary().collect();
    Ok(TextTokenizer::from_word_pieces(&pieces)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_of_the_rows_becomes_one() {
        let texts = ["b", "a", "c", "a", "a", "b"];
        let labels = [0, 1, 1, 0, 1, 0];
        let fine = [3, 1, 1, 0, 2, 3];
        let sorted = |order: &[usize]| {
            let mut split = Split {
                texts: order.iter().map(|at| texts[*at].to_owned()).collect(),
                coarse: order.iter().map(|at| labels[*at]).collect(),
                fine: Some(order.iter().map(|at| fine[*at]).collect()),
            };
            sort_by_content(&mut split);
            split
        };
        let expected = sorted(&[0, 1, 2, 3, 4, 5]);
        for order in [[5, 4, 3, 2, 1, 0], [2, 0, 4, 1, 5, 3], [3, 1, 4, 5, 0, 2]] {
            assert_eq!(sorted(&order), expected);
        }
        // Equal texts stay together, and every row keeps its labels.
        assert_eq!(expected.len(), texts.len());
        let at = expected.texts.iter().position(|text| text == "a");
        let of_a = at.map(|at| (&expected.texts[at..at + 3], &expected.coarse[at..at + 3]));
        let all = ["a", "a", "a"].map(str::to_owned);
        assert_eq!(of_a, Some((&all[..], &[0, 1, 1][..])));
    }
}
