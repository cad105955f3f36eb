//! The sentence-transformers directory layout, in and out.
//!
//! ```text
//! config.json  model.safetensors  tokenizer.json  modules.json
//! 1_Pooling/config.json  2_Normalize/  sentence_bert_config.json
//! asterism.json  asterism.safetensors      what the layout has no place for
//! ```
//!
//! A plain Hugging Face checkpoint (no `modules.json`) loads as well; its pooling is then the
//! caller's choice or the mean.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use burn::tensor::Device;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::bert::{BertModel, MlmHead};
use crate::config::BertConfig;
use crate::error::EncoderError;
use crate::init::Init;
use crate::pooling::Pooling;
use crate::sentence_encoder::SentenceEncoder;
use crate::tokenizer::TextTokenizer;
use crate::weights::{self, Export, Import, WeightTensor};

/// Files copied through unchanged, so that Python libraries find what they expect.
const CARRIED: [&str; 4] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "config_sentence_transformers.json",
];

/// What to accept while loading.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Accept NaN and infinite weights.
    pub allow_non_finite: bool,
    /// Pooling to use instead of what the directory says.
    pub pooling: Option<Pooling>,
    /// Longest text in tokens, instead of what the directory says.
    pub max_len: Option<usize>,
    /// Both dropout rates, instead of what the directory says.
    pub dropout: Option<f64>,
}

/// Files of a model directory that are kept to be written back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Carried {
    /// `config.json` as it was read, with what it said: written back unless something changed.
    pub(crate) config: Option<(Vec<u8>, BertConfig)>,
    pub(crate) tokenizer_json: Option<Vec<u8>>,
    pub(crate) files: BTreeMap<&'static str, Vec<u8>>,
    pub(crate) position_ids: Option<usize>,
    /// Whether the file's encoder weights carry the `bert.` prefix of checkpoints with a task head.
    pub(crate) prefixed: bool,
}

/// What the sentence-transformers layout has no place for: `asterism.json` and its tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extension {
    /// Contents of `asterism.json`.
    pub json: serde_json::Map<String, Value>,
    /// Contents of `asterism.safetensors`: heads, base, centroids.
    pub tensors: BTreeMap<String, WeightTensor>,
}

impl SentenceEncoder {
    /// Loads a model directory onto a device.
    ///
    /// # Errors
    ///
    /// Any file missing, malformed or out of range; weights whose names or shapes do not fit the
    /// configuration (all of them are listed); NaN or infinite weights.
    pub fn load(dir: &Path, options: &LoadOptions, device: &Device) -> Result<Self, EncoderError> {
        let config_path = dir.join("config.json");
        let mut config = BertConfig::from_file(&config_path)?;
        let config_json =
            std::fs::read(&config_path).map_err(EncoderError::io("read", &config_path))?;
        let as_read = (config_json, config.clone());
        if let Some(rate) = options.dropout {
            config = config.with_dropout(rate);
            config.check("options")?;
        }
        let tokenizer_path = dir.join("tokenizer.json");
        let tokenizer = TextTokenizer::from_file(&tokenizer_path)?;
        if tokenizer.vocab_size() > config.vocab_size {
            return Err(EncoderError::Config {
                origin: config_path.display().to_string(),
                field: "vocab_size",
                found: config.vocab_size.to_string(),
                expected: format!(
                    "at least the {} entries of tokenizer.json",
                    tokenizer.vocab_size()
                ),
            });
        }
        let layout = Layout::read(dir)?;
        let max_len = options
            .max_len
            .or(layout.max_len)
            .unwrap_or(config.max_position_embeddings)
            .min(config.max_position_embeddings);

        let weights_path = dir.join("model.safetensors");
        if !weights_path.exists() && dir.join("pytorch_model.bin").exists() {
            return Err(EncoderError::Safetensors {
                path: weights_path,
                message: "missing; pytorch_model.bin is a pickle file, which is never opened: convert it to safetensors".to_owned(),
            });
        }
        let tensors = weights::read_safetensors(&weights_path, options.allow_non_finite)?;
        let prefixed = tensors.keys().any(|name| name.starts_with("bert."));
        let mut import = Import::new(tensors);
        let pooler = import.contains("pooler.dense.weight");
        let bert = import.fill(BertModel::build(&config, pooler, &mut Init::zeros(device)));
        let mlm_head = import
            .contains("cls.predictions.transform.dense.weight")
            .then(|| import.fill(MlmHead::build(&config, &mut Init::zeros(device))));
        import.finish(&weights_path)?;

        let mut carried = Carried {
            config: Some(as_read),
            tokenizer_json: Some(
                std::fs::read(&tokenizer_path)
                    .map_err(EncoderError::io("read", &tokenizer_path))?,
            ),
            files: BTreeMap::new(),
            position_ids: weights::position_ids(&weights_path)?,
            prefixed,
        };
        for name in CARRIED {
            if let Ok(bytes) = std::fs::read(dir.join(name)) {
                carried.files.insert(name, bytes);
            }
        }
        Ok(Self {
            config,
            tokenizer,
            bert,
            mlm_head,
            pooling: options.pooling.or(layout.pooling).unwrap_or(Pooling::Mean),
            normalize: layout.normalize,
            max_len,
            extension: read_extension(dir, options.allow_non_finite)?,
            carried,
        })
    }

    /// Writes the directory; existing files of the layout are replaced one by one, each atomically.
    ///
    /// # Errors
    ///
    /// A file cannot be written, or the pooling has no form in the layout (`avg_top2`,
    /// `avg_first_last`, `cls_mlp`): Python readers would silently compute other vectors.
    pub fn save(&self, dir: &Path) -> Result<(), EncoderError> {
        let (cls, mean) = match self.pooling {
            Pooling::Cls => (true, false),
            Pooling::Mean => (false, true),
            other => {
                return Err(EncoderError::Config {
                    origin: dir.display().to_string(),
                    field: "pooling",
                    found: other.to_string(),
                    expected:
                        "cls or mean, the poolings the sentence-transformers layout can express"
                            .to_owned(),
                });
            }
        };
        std::fs::create_dir_all(dir.join("1_Pooling")).map_err(EncoderError::io("create", dir))?;
        let config_path = dir.join("config.json");
        match &self.carried.config {
            Some((bytes, config)) if *config == self.config => write_file(&config_path, bytes)?,
            _ => {
                let value =
                    serde_json::to_value(&self.config).map_err(|error| EncoderError::Json {
                        path: config_path.clone(),
                        message: error.to_string(),
                    })?;
                write_json(&config_path, &value)?;
            }
        }
        let mut export = Export::default();
        export.add(&self.bert);
        if let Some(head) = &self.mlm_head {
            export.add(head);
        }
        // A head beside the encoder needs the prefix, or Python would not find the encoder.
        if self.carried.prefixed || self.mlm_head.is_some() {
            export.tensors = std::mem::take(&mut export.tensors)
                .into_iter()
                .map(|(name, tensor)| match name.starts_with("cls.") {
                    true => (name, tensor),
                    false => (format!("bert.{name}"), tensor),
                })
                .collect();
        }
        weights::write_safetensors(
            &dir.join("model.safetensors"),
            &export.tensors,
            self.carried.position_ids,
        )?;
        match &self.carried.tokenizer_json {
            Some(bytes) => write_file(&dir.join("tokenizer.json"), bytes)?,
            None => write_file(
                &dir.join("tokenizer.json"),
                self.tokenizer.to_json()?.as_bytes(),
            )?,
        }
        for (name, bytes) in &self.carried.files {
            write_file(&dir.join(name), bytes)?;
        }
        if !self.carried.files.contains_key("tokenizer_config.json") {
            write_json(
                &dir.join("tokenizer_config.json"),
                &json!({
                    "tokenizer_class": "BertTokenizerFast", "model_max_length": self.config.max_position_embeddings,
                    "do_lower_case": true, "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]",
                    "pad_token": "[PAD]", "mask_token": "[MASK]",
                }),
            )?;
        }
        let mut modules = vec![
            json!({"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}),
            json!({"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}),
        ];
        if self.normalize {
            modules.push(json!({"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}));
            std::fs::create_dir_all(dir.join("2_Normalize"))
                .map_err(EncoderError::io("create", dir))?;
        }
        write_json(&dir.join("modules.json"), &Value::from(modules))?;
        write_json(
            &dir.join("1_Pooling/config.json"),
            &json!({
                "word_embedding_dimension": self.config.hidden_size,
                "pooling_mode_cls_token": cls, "pooling_mode_mean_tokens": mean,
                "pooling_mode_max_tokens": false, "pooling_mode_mean_sqrt_len_tokens": false,
            }),
        )?;
        write_json(
            &dir.join("sentence_bert_config.json"),
            &json!({"max_seq_length": self.max_len, "do_lower_case": false}),
        )?;
        if !self.extension.json.is_empty() {
            write_json(
                &dir.join("asterism.json"),
                &Value::Object(self.extension.json.clone()),
            )?;
        }
        if !self.extension.tensors.is_empty() {
            weights::write_safetensors(
                &dir.join("asterism.safetensors"),
                &self.extension.tensors,
                None,
            )?;
        }
        Ok(())
    }

    /// SHA-256 of the weights file of a model directory, for manifests.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn weights_hash(dir: &Path) -> Result<String, EncoderError> {
        let path = dir.join("model.safetensors");
        let bytes = std::fs::read(&path).map_err(EncoderError::io("read", &path))?;
        Ok(Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }
}

/// What `modules.json` and the files it names say.
#[derive(Default)]
struct Layout {
    pooling: Option<Pooling>,
    normalize: bool,
    max_len: Option<usize>,
}

impl Layout {
    fn read(dir: &Path) -> Result<Self, EncoderError> {
        let path = dir.join("modules.json");
        if !path.exists() {
            return Ok(Self::default());
        }
        let mut layout = Self::default();
        let invalid = |message: String| EncoderError::Json {
            path: path.clone(),
            message,
        };
        let modules = read_json(&path)?;
        let modules = modules
            .as_array()
            .ok_or_else(|| invalid("expected a list of modules".to_owned()))?;
        for module in modules {
            let text = |key: &str| module.get(key).and_then(Value::as_str).unwrap_or_default();
            match text("type").rsplit('.').next().unwrap_or_default() {
                "Transformer" => {}
                "Normalize" => layout.normalize = true,
                "Pooling" => {
                    let folder = Path::new(text("path"));
                    if !folder
                        .components()
                        .all(|part| matches!(part, Component::Normal(_)))
                    {
                        return Err(invalid(format!(
                            "path `{}` leaves the directory",
                            text("path")
                        )));
                    }
                    layout.pooling = Some(read_pooling(&dir.join(folder).join("config.json"))?);
                }
                other => {
                    return Err(invalid(format!(
                        "module type `{other}`, expected Transformer, Pooling or Normalize"
                    )));
                }
            }
        }
        let limits = dir.join("sentence_bert_config.json");
        if limits.exists() {
            layout.max_len = read_json(&limits)?
                .get("max_seq_length")
                .and_then(Value::as_u64)
                .map(|length| length as usize);
        }
        Ok(layout)
    }
}

fn read_pooling(path: &Path) -> Result<Pooling, EncoderError> {
    let config = read_json(path)?;
    let invalid = |message: String| EncoderError::Json {
        path: path.to_owned(),
        message,
    };
    // Newer versions of the layout name the mode, older ones set one flag out of several.
    if let Some(mode) = config.get("pooling_mode").and_then(Value::as_str) {
        return match mode {
            "cls" => Ok(Pooling::Cls),
            "mean" => Ok(Pooling::Mean),
            other => Err(invalid(format!(
                "pooling_mode `{other}`, expected cls or mean"
            ))),
        };
    }
    let on: Vec<&str> = config
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| key.starts_with("pooling_mode_") && **value == Value::Bool(true))
        .map(|(key, _)| key.as_str())
        .collect();
    match on.as_slice() {
        ["pooling_mode_cls_token"] => Ok(Pooling::Cls),
        ["pooling_mode_mean_tokens"] => Ok(Pooling::Mean),
        _ => Err(invalid(format!(
            "pooling modes {on:?}, expected exactly one of pooling_mode_cls_token, pooling_mode_mean_tokens"
        ))),
    }
}

fn read_extension(dir: &Path, allow_non_finite: bool) -> Result<Extension, EncoderError> {
    let mut extension = Extension::default();
    let path = dir.join("asterism.json");
    if path.exists() {
        match read_json(&path)? {
            Value::Object(map) => extension.json = map,
            _ => {
                return Err(EncoderError::Json {
                    path,
                    message: "expected an object".to_owned(),
                });
            }
        }
    }
    let path = dir.join("asterism.safetensors");
    if path.exists() {
        extension.tensors = weights::read_safetensors(&path, allow_non_finite)?;
    }
    Ok(extension)
}

fn read_json(path: &Path) -> Result<Value, EncoderError> {
    let text = std::fs::read_to_string(path).map_err(EncoderError::io("read", path))?;
    serde_json::from_str(&text).map_err(|error| EncoderError::Json {
        path: path.to_owned(),
        message: error.to_string(),
    })
}

fn write_json(path: &Path, value: &Value) -> Result<(), EncoderError> {
    write_file(path, format!("{value:#}\n").as_bytes())
}

/// Writes beside the target and renames, so that no reader sees half a file.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), EncoderError> {
    let temporary = path.with_extension("partial");
    std::fs::write(&temporary, bytes).map_err(EncoderError::io("write", &temporary))?;
    std::fs::rename(&temporary, path).map_err(EncoderError::io("write", path))
}
