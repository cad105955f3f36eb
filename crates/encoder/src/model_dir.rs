//! The sentence-transformers directory layout, in and out.
//!
//! ```text
//! config.json  model.safetensors  tokenizer.json  modules.json
//! 1_Pooling/config.json  2_Dense/  2_Normalize/  sentence_bert_config.json
//! config_sentence_transformers.json        prompts
//! asterism.json  asterism.safetensors      what the layout has no place for
//! ```
//!
//! A plain Hugging Face checkpoint (no `modules.json`) loads as well; its pooling is then the
//! caller's choice or the mean.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use burn::tensor::Device;
use kernels::Precision;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::bert::{BertModel, Linear, MlmHead};
use crate::config::BertConfig;
use crate::error::EncoderError;
use crate::families::{Architecture, Family};
use crate::init::Init;
use crate::pooling::Pooling;
use crate::prompts::Prompts;
use crate::sentence_encoder::SentenceEncoder;
use crate::template::Template;
use crate::tokenizer::TextTokenizer;
use crate::weights::{self, Export, Import, WeightTensor};

/// Files copied through unchanged, so that Python libraries find what they expect.
const CARRIED: [&str; 5] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
];

/// Modules of a model in the layout of sentence-transformers, in their order.
const MODULES: &str = "modules.json";

/// Names, versions and prompts, as Python keeps them.
const PYTHON_SETTINGS: &str = "config_sentence_transformers.json";

/// Kind of the module that Python readers do not know: they refuse the directory rather than
/// compute other vectors.
const MASK_MODULE: &str = "asterism.MaskPooling";

/// Activation of SimCSE's head where it is written as a module of its own.
const TANH: &str = "torch.nn.modules.activation.Tanh";

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
    /// Of the products with the layers' weights.
    pub precision: Precision,
}

/// Files of a model directory that are kept to be written back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Carried {
    /// `config.json` as it was read, with what it said: written back unless something changed.
    pub(crate) config: Option<(Vec<u8>, BertConfig)>,
    pub(crate) tokenizer_json: Option<Vec<u8>>,
    pub(crate) files: BTreeMap<&'static str, Vec<u8>>,
    /// `config_sentence_transformers.json` as it was read.
    pub(crate) settings: Option<(Vec<u8>, Prompts)>,
    pub(crate) position_ids: Option<usize>,
    /// Whether the pooling leaves the tokens of a prompt out.
    pub(crate) excludes_prompt: bool,
    /// Whether the file's encoder weights carry the prefix of checkpoints with a task head.
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

/// Parameters that a configuration may ask for beyond twice those of its file, 16 MiB: so that all but
/// absurd mistakes are reported tensor by tensor.
const SPARE_PARAMETERS: usize = 4 << 20;

/// Parameters of the large tables and maps of a model.
fn least_parameters(config: &BertConfig, architecture: &Architecture) -> usize {
    let hidden = config.hidden_size;
    let positions = match architecture.positions.table_offset() {
        Some(offset) => config.max_position_embeddings + offset,
        None => 0,
    };
    let segments = if architecture.segments {
        config.type_vocab_size
    } else {
        0
    };
    let tables = (config.vocab_size + positions + segments) * hidden;
    let layer = (4 * hidden + 2 * config.intermediate_size) * hidden;
    tables + config.num_hidden_layers * layer
}

impl SentenceEncoder {
    /// Loads a model directory onto a device.
    ///
    /// # Errors
    ///
    /// Any file missing, malformed or out of range; weights whose names or shapes do not fit the
    /// configuration (all of them are listed); NaN or infinite weights.
    pub fn load(dir: &Path, options: &LoadOptions, device: &Device) -> Result<Self, EncoderError> {
        if !options.precision.works_on(device) {
            return Err(EncoderError::Config {
                origin: "options".to_owned(),
                field: "precision",
                found: options.precision.to_string(),
                expected: "f32 on a device without bfloat16".to_owned(),
            });
        }
        let config_path = dir.join("config.json");
        let mut config = BertConfig::from_file(&config_path)?;
        let config_json =
            std::fs::read(&config_path).map_err(EncoderError::io("read", &config_path))?;
        let as_read = (config_json, config.clone());
        if let Some(rate) = options.dropout {
            config = config.with_dropout(rate);
            config.check("options")?;
        }
        let architecture = config.architecture(&config_path.display().to_string())?;
        let tokenizer_path = dir.join("tokenizer.json");
        let tokenizer = TextTokenizer::from_dir(dir)?;
        if tokenizer.vocab_size() > config.vocab_size {
            return Err(EncoderError::Config {
                origin: config_path.display().to_string(),
                field: "vocab_size",
                found: config.vocab_size.to_string(),
                expected: format!(
                    "at least the {} entries of the tokenizer",
                    tokenizer.vocab_size()
                ),
            });
        }
        let layout = Layout::read(dir, options.allow_non_finite)?;
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
        // The model is made before the file is compared with it; a small file must not make it huge.
        let (asked, held) = (
            least_parameters(&config, &architecture),
            tensors.values().map(|t| t.values.len()).sum::<usize>(),
        );
        if asked > held.saturating_mul(2).saturating_add(SPARE_PARAMETERS) {
            return Err(EncoderError::Weights {
                path: weights_path,
                problems: vec![format!(
                    "the sizes in config.json ask for {asked} values, the file holds {held}"
                )],
            });
        }
        let prefix = config.family.description().prefix;
        let prefixed = tensors.keys().any(|name| name.starts_with(prefix));
        let mut import = Import::new(tensors, config.family);
        let pooler = import.contains("pooler.weight");
        let mut bert = import.fill(BertModel::build(
            &config,
            &architecture,
            pooler,
            &mut Init::zeros(device),
        ));
        let mlm_head = import
            .contains("transform.weight")
            .then(|| import.fill(MlmHead::build(&config, &mut Init::zeros(device))));
        import.finish(&weights_path)?;
        bert.set_precision(options.precision);
        if let Some(head) = layout.head {
            bert.pooler = Some(head.into_linear(config.hidden_size, device)?);
        }

        let mut carried = Carried {
            config: Some(as_read),
            tokenizer_json: match tokenizer_path.exists() {
                true => Some(read_file(&tokenizer_path)?),
                false => None,
            },
            position_ids: weights::position_ids(&weights_path)?,
            excludes_prompt: layout.excludes_prompt,
            prefixed,
            ..Carried::default()
        };
        let settings = dir.join(PYTHON_SETTINGS);
        let mut prompts = Prompts::default();
        if settings.exists() {
            prompts =
                Prompts::read(&read_json(&settings)?).map_err(|message| EncoderError::Json {
                    path: settings.clone(),
                    message,
                })?;
            carried.settings = Some((read_file(&settings)?, prompts.clone()));
        }
        let template = layout
            .template
            .map(|text| Template::new(&text, &tokenizer))
            .transpose()?;
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
            template,
            prompts,
            truncate_dim: None,
            extension: read_extension(dir, options.allow_non_finite)?,
            carried,
        })
    }

    /// Writes the directory; existing files of the layout are replaced one by one, each atomically.
    ///
    /// # Errors
    ///
    /// A file cannot be written, the pooling needs a head or template that is not there, or it has
    /// no form in the layout (`avg_top2`, `avg_first_last`): Python readers would silently compute
    /// other vectors.
    pub fn save(&self, dir: &Path) -> Result<(), EncoderError> {
        self.check_pooling()?;
        if matches!(self.pooling, Pooling::AvgTop2 | Pooling::AvgFirstLast) {
            return Err(EncoderError::Config {
                origin: dir.display().to_string(),
                field: "pooling",
                found: self.pooling.to_string(),
                expected:
                    "cls_mlp, mask, cls or mean, the poolings the sentence-transformers layout can express"
                        .to_owned(),
            });
        }
        std::fs::create_dir_all(dir.join("1_Pooling")).map_err(EncoderError::io("create", dir))?;
        let config_path = dir.join("config.json");
        match &self.carried.config {
            Some((bytes, config)) if *config == self.config => write_file(&config_path, bytes)?,
            _ => {
                let value =
                    self.config
                        .family
                        .write(&self.config)
                        .map_err(|error| EncoderError::Json {
                            path: config_path.clone(),
                            message: error.to_string(),
                        })?;
                write_json(&config_path, &value)?;
            }
        }
        let mut export = Export::new(self.config.family);
        export.add(&self.bert);
        if let Some(head) = &self.mlm_head {
            export.add(head);
        }
        // A head beside the encoder needs the prefix, or Python would not find the encoder.
        if self.carried.prefixed || self.mlm_head.is_some() {
            let family = self.config.family;
            export.tensors = std::mem::take(&mut export.tensors)
                .into_iter()
                .map(|(name, tensor)| match family.is_head(&name) {
                    true => (name, tensor),
                    false => (format!("{}{name}", family.description().prefix), tensor),
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
            write_json(&dir.join("tokenizer_config.json"), &self.tokenizer_config())?;
        }
        self.save_settings(dir)?;
        self.save_modules(dir)?;
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

    /// What Python needs to know of a tokenizer that came without `tokenizer_config.json`.
    fn tokenizer_config(&self) -> Value {
        let tokenizer = &self.tokenizer;
        let length = self.config.max_position_embeddings;
        let token = |id: Option<u32>| id.and_then(|id| tokenizer.token(id));
        if token(tokenizer.cls_id()).as_deref() == Some("[CLS]")
            && self.config.family == Family::Bert
        {
            return json!({
                "tokenizer_class": "BertTokenizerFast", "model_max_length": length,
                "do_lower_case": true, "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]",
                "pad_token": "[PAD]", "mask_token": "[MASK]",
            });
        }
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": length,
            "pad_token": token(Some(tokenizer.pad_id())),
            "model_input_names": ["input_ids", "attention_mask"],
        });
        for (key, id) in [
            ("cls_token", tokenizer.cls_id()),
            ("sep_token", tokenizer.sep_id()),
            ("mask_token", tokenizer.mask_id()),
        ] {
            if let Some(token) = token(id) {
                config[key] = Value::from(token);
            }
        }
        config
    }

    /// Prompts, and whatever else Python keeps beside them.
    fn save_settings(&self, dir: &Path) -> Result<(), EncoderError> {
        let path = dir.join(PYTHON_SETTINGS);
        let mut settings = match &self.carried.settings {
            Some((bytes, prompts)) if *prompts == self.prompts => return write_file(&path, bytes),
            Some((bytes, _)) => serde_json::from_slice(bytes).unwrap_or_else(|_| json!({})),
            None if self.prompts == Prompts::default() => return Ok(()),
            None => json!({}),
        };
        settings["prompts"] = json!(self.prompts.texts);
        settings["default_prompt_name"] = json!(self.prompts.default);
        write_json(&path, &settings)
    }

    /// `modules.json` and the folders it names.
    fn save_modules(&self, dir: &Path) -> Result<(), EncoderError> {
        let hidden = self.config.hidden_size;
        let mut modules: Vec<Value> = Vec::new();
        let mut add = |folder: &str, kind: &str| {
            let index = modules.len();
            let kind = match kind.contains('.') {
                true => kind.to_owned(),
                false => format!("sentence_transformers.models.{kind}"),
            };
            modules.push(
                json!({"idx": index, "name": index.to_string(), "path": folder, "type": kind}),
            );
        };
        add("", "Transformer");
        let template = self.template.as_ref().map(Template::text);
        if self.pooling == Pooling::Mask {
            add("1_Pooling", MASK_MODULE);
            write_json(
                &dir.join("1_Pooling/config.json"),
                &json!({"word_embedding_dimension": hidden, "pooling_mode": "mask", "template": template}),
            )?;
        } else {
            add("1_Pooling", "Pooling");
            let mean = self.pooling == Pooling::Mean;
            let mut config = json!({
                "word_embedding_dimension": hidden,
                "pooling_mode_cls_token": !mean, "pooling_mode_mean_tokens": mean,
                "pooling_mode_max_tokens": false, "pooling_mode_mean_sqrt_len_tokens": false,
            });
            if self.carried.excludes_prompt {
                config["include_prompt"] = Value::from(false);
            }
            write_json(&dir.join("1_Pooling/config.json"), &config)?;
        }
        if let (Pooling::ClsMlp, Some(pooler)) = (self.pooling, &self.bert.pooler) {
            add("2_Dense", "Dense");
            let folder = dir.join("2_Dense");
            std::fs::create_dir_all(&folder).map_err(EncoderError::io("create", &folder))?;
            write_json(
                &folder.join("config.json"),
                &json!({"in_features": hidden, "out_features": hidden, "bias": true, "activation_function": TANH}),
            )?;
            let tensors = weights::dense_tensors(pooler);
            weights::write_safetensors(&folder.join("model.safetensors"), &tensors, None)?;
        }
        if self.normalize {
            let folder = match self.pooling {
                Pooling::ClsMlp => "3_Normalize",
                _ => "2_Normalize",
            };
            add(folder, "Normalize");
            let folder = dir.join(folder);
            std::fs::create_dir_all(&folder).map_err(EncoderError::io("create", &folder))?;
        }
        write_json(&dir.join(MODULES), &Value::from(modules))
    }

    /// Whether a model directory says how vectors of texts come about (`modules.json`), as one made to embed
    /// sentences does and a plain language model does not.
    pub fn says_how_to_embed(dir: &Path) -> bool {
        dir.join(MODULES).is_file()
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
    template: Option<String>,
    /// A dense layer with tanh behind the first token's state.
    head: Option<DenseHead>,
    normalize: bool,
    max_len: Option<usize>,
    excludes_prompt: bool,
}

impl Layout {
    fn read(dir: &Path, allow_non_finite: bool) -> Result<Self, EncoderError> {
        let path = dir.join(MODULES);
        let mut layout = Self::default();
        if !path.exists() {
            return Ok(layout);
        }
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
            let folder = || {
                let folder = Path::new(text("path"));
                let inside = folder
                    .components()
                    .all(|part| matches!(part, Component::Normal(_)));
                match inside {
                    true => Ok(dir.join(folder)),
                    false => Err(invalid(format!(
                        "path `{}` leaves the directory",
                        text("path")
                    ))),
                }
            };
            match text("type").rsplit('.').next().unwrap_or_default() {
                "Transformer" => {}
                "Normalize" => layout.normalize = true,
                "Pooling" | "MaskPooling" => {
                    layout.read_pooling(&folder()?.join("config.json"))?;
                }
                "Dense" if layout.pooling == Some(Pooling::Cls) => {
                    layout.head = Some(DenseHead::read(&folder()?, allow_non_finite)?);
                    layout.pooling = Some(Pooling::ClsMlp);
                }
                "Dense" => {
                    return Err(invalid(
                        "module type `Dense`, expected behind the pooling cls only".to_owned(),
                    ));
                }
                other => {
                    return Err(invalid(format!(
                        "module type `{other}`, expected Transformer, Pooling, Dense or Normalize"
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

    fn read_pooling(&mut self, path: &Path) -> Result<(), EncoderError> {
        let config = read_json(path)?;
        self.excludes_prompt = config.get("include_prompt") == Some(&Value::Bool(false));
        self.template = config
            .get("template")
            .and_then(Value::as_str)
            .map(str::to_owned);
        self.pooling = Some(pooling_mode(path, &config)?);
        Ok(())
    }
}

fn pooling_mode(path: &Path, config: &Value) -> Result<Pooling, EncoderError> {
    let invalid = |message: String| EncoderError::Json {
        path: path.to_owned(),
        message,
    };
    // Newer versions of the layout name the mode, older ones set one flag out of several.
    if let Some(mode) = config.get("pooling_mode").and_then(Value::as_str) {
        return match mode {
            "cls" => Ok(Pooling::Cls),
            "mean" => Ok(Pooling::Mean),
            "mask" => Ok(Pooling::Mask),
            other => Err(invalid(format!(
                "pooling_mode `{other}`, expected cls, mean or mask"
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

/// `tanh(W x + b)` as a module of its own: the form in which SimCSE's head is written for Python.
struct DenseHead {
    path: PathBuf,
    tensors: BTreeMap<String, WeightTensor>,
}

impl DenseHead {
    fn read(folder: &Path, allow_non_finite: bool) -> Result<Self, EncoderError> {
        let path = folder.join("config.json");
        let config = read_json(&path)?;
        let found = config.get("activation_function").and_then(Value::as_str);
        let residual = config.get("use_residual") == Some(&Value::Bool(true));
        if found.is_some_and(|name| name.rsplit('.').next() != Some("Tanh")) || residual {
            return Err(EncoderError::Json {
                path,
                message: format!(
                    "activation_function {}, use_residual {residual}; expected {TANH} and no residual",
                    found.unwrap_or_default()
                ),
            });
        }
        let path = folder.join("model.safetensors");
        Ok(Self {
            tensors: weights::read_safetensors(&path, allow_non_finite)?,
            path,
        })
    }

    fn into_linear(self, hidden: usize, device: &Device) -> Result<Linear, EncoderError> {
        let linear = Linear::new(hidden, hidden, &mut Init::zeros(device));
        weights::fill_dense(linear, self.tensors, &self.path)
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

fn read_file(path: &Path) -> Result<Vec<u8>, EncoderError> {
    std::fs::read(path).map_err(EncoderError::io("read", path))
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
