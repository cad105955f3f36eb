//! `asterism model info`: what is in a model directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use datasets::hash::sha256_file;
use encoder::{LoadOptions, SentenceEncoder};
use kernels::DeviceSpec;
use serde::Serialize;
use serde_json::Value;

use super::load;
use crate::error::CliError;
use crate::output::{Output, field};

/// Files of the layout whose digests are shown, if they are there.
const FILES: [&str; 6] = [
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "modules.json",
    "asterism.json",
    "asterism.safetensors",
];

/// Print what is in a model directory.
///
/// Loads the model, so that a directory that cannot be used is an error.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Model directory.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Accept NaN and infinite weights.
    #[arg(long)]
    allow_non_finite: bool,
}

/// Parameters are numbers learned, sizes are widths and counts of the transformer.
#[derive(Debug, Serialize)]
struct Info {
    path: PathBuf,
    family: String,
    layers: usize,
    hidden: usize,
    heads: usize,
    intermediate: usize,
    positions: usize,
    config_vocab: usize,
    tokenizer_vocab: usize,
    max_len: usize,
    pooling: String,
    normalize: bool,
    parameters: Parameters,
    files: BTreeMap<&'static str, FileInfo>,
    extension: Option<ExtensionInfo>,
}

#[derive(Debug, Serialize)]
struct Parameters {
    encoder: usize,
    masked_lm_head: Option<usize>,
}

#[derive(Debug, Serialize)]
struct FileInfo {
    bytes: u64,
    sha256: String,
}

#[derive(Debug, Serialize)]
struct ExtensionInfo {
    /// Keys of asterism.json.
    keys: Vec<String>,
    /// Entries of `categories`.
    categories: Option<usize>,
    coarse_names: Vec<String>,
    /// Shapes of the tensors of asterism.safetensors.
    tensors: BTreeMap<String, Vec<usize>>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let options = LoadOptions {
        allow_non_finite: args.allow_non_finite,
        ..LoadOptions::default()
    };
    let model = load(&args.dir, &options, DeviceSpec::default())?;
    let info = Info::new(&args.dir, &model)?;
    let mut output = Output::stdout();
    if args.json {
        output.json(&info)?;
    } else {
        info.print(&mut output)?;
    }
    output.flush()
}

impl Info {
    fn new(dir: &Path, model: &SentenceEncoder) -> Result<Self, CliError> {
        let config = &model.config;
        let text = |key: &str| config.other.get(key).and_then(Value::as_str);
        let mut files = BTreeMap::new();
        for name in FILES {
            let path = dir.join(name);
            if path.is_file() {
                let (sha256, bytes) = sha256_file(&path).map_err(CliError::file("read", &path))?;
                files.insert(name, FileInfo { bytes, sha256 });
            }
        }
        Ok(Self {
            path: dir.to_owned(),
            family: text("model_type").unwrap_or("bert").to_owned(),
            layers: config.num_hidden_layers,
            hidden: config.hidden_size,
            heads: config.num_attention_heads,
            intermediate: config.intermediate_size,
            positions: config.max_position_embeddings,
            config_vocab: config.vocab_size,
            tokenizer_vocab: model.tokenizer.vocab_size(),
            max_len: model.max_len,
            pooling: model.pooling.to_string(),
            normalize: model.normalize,
            parameters: Parameters {
                encoder: model.bert.num_params(),
                masked_lm_head: model.mlm_head.as_ref().map(Module::num_params),
            },
            files,
            extension: ExtensionInfo::new(model),
        })
    }

    fn print(&self, output: &mut Output) -> Result<(), CliError> {
        let mut row = |name: &str, value: String| output.line(format_args!("{name:<16}{value}"));
        row("family", field(&self.family))?;
        row(
            "size",
            format!(
                "{} layers, {} wide, {} heads, feed-forward {}",
                self.layers, self.hidden, self.heads, self.intermediate
            ),
        )?;
        let head = match self.parameters.masked_lm_head {
            Some(count) => format!(" and {count} in the masked-language-model head"),
            None => String::new(),
        };
        row("parameters", format!("{}{head}", self.parameters.encoder))?;
        row(
            "vocabulary",
            format!(
                "{} tokens, table of {}",
                self.tokenizer_vocab, self.config_vocab
            ),
        )?;
        row(
            "longest text",
            format!("{} tokens of {} positions", self.max_len, self.positions),
        )?;
        let length = if self.normalize {
            "unit length"
        } else {
            "length as it is"
        };
        row("vectors", format!("{} pooling, {length}", self.pooling))?;
        match &self.extension {
            None => row("extension", "none".to_owned())?,
            Some(extension) => {
                let categories = match extension.categories {
                    Some(count) => format!("{count} categories"),
                    None => "no categories".to_owned(),
                };
                let coarse: Vec<String> = extension.coarse_names.iter().map(|n| field(n)).collect();
                row("extension", categories)?;
                if !coarse.is_empty() {
                    row("  coarse", coarse.join(", "))?;
                }
                for (name, shape) in &extension.tensors {
                    row("  tensor", format!("{} {shape:?}", field(name)))?;
                }
            }
        }
        for (name, file) in &self.files {
            output.line(format_args!(
                "{}  {name}  {} bytes",
                file.sha256, file.bytes
            ))?;
        }
        Ok(())
    }
}

impl ExtensionInfo {
    fn new(model: &SentenceEncoder) -> Option<Self> {
        let extension = &model.extension;
        if extension.json.is_empty() && extension.tensors.is_empty() {
            return None;
        }
        let list = |key: &str| extension.json.get(key).and_then(Value::as_array);
        Some(Self {
            keys: extension.json.keys().cloned().collect(),
            categories: list("categories").map(Vec::len),
            coarse_names: list("coarse_names")
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            tensors: extension
                .tensors
                .iter()
                .map(|(name, tensor)| (name.clone(), tensor.shape.clone()))
                .collect(),
        })
    }
}
