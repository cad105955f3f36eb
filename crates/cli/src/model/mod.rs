//! `asterism model`: model directories; and what all commands with a model share.

use std::path::Path;

use datasets::pocket::model_dir;
use encoder::{LoadOptions, Pooling, SentenceEncoder};
use experiments::evaluate::program::mask_for_template;
use kernels::{DeviceSpec, Precision};

use crate::error::CliError;

mod export;
mod fetch;
mod info;

pub(crate) use fetch::ModelFetchError;

/// Fetch a model directory, look into one, write it anew.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Info(info::Args),
    Export(export::Args),
    Fetch(fetch::Args),
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Info(args) => info::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Fetch(args) => fetch::run(&args),
    }
}

/// Options that count more than what the model directory says.
#[derive(Debug, clap::Args)]
pub(crate) struct Overrides {
    /// cls, cls_mlp, mean, avg_top2, avg_first_last, or mask with a template (default: the model's).
    #[arg(long, value_name = "NAME")]
    pooling: Option<Pooling>,
    /// Sentence around every text: `{s}` stands for the text, the mask token comes last, written
    /// `[MASK]`; the pooling becomes mask.
    #[arg(long, value_name = "TEXT")]
    template: Option<String>,
    /// Longest text in tokens, special tokens included; longer ones are cut (default: the model's).
    #[arg(long, value_name = "N", value_parser = length)]
    max_len: Option<usize>,
    /// Scale vectors to unit length, whatever the model says.
    #[arg(long, overrides_with = "no_normalize")]
    normalize: bool,
    /// Leave vectors as long as they are, whatever the model says.
    #[arg(long, overrides_with = "normalize")]
    no_normalize: bool,
}

impl Overrides {
    /// Loads a model directory as [`load`] does, with these settings.
    pub(crate) fn load(
        &self,
        dir: &Path,
        allow_non_finite: bool,
        precision: Precision,
        device: DeviceSpec,
    ) -> Result<SentenceEncoder, CliError> {
        let refuse = |option, problem| Err(CliError::Option { option, problem });
        let pooling = match mask_for_template(self.pooling, self.template.as_deref()) {
            Ok(pooling) => pooling,
            Err(problem) => return refuse("--template", problem),
        };
        let options = LoadOptions {
            allow_non_finite,
            pooling,
            max_len: self.max_len,
            dropout: None,
            precision,
        };
        let mut model = load(dir, &options, device)?;
        if let Some(template) = &self.template {
            model
                .set_template(template)
                .map_err(CliError::option("--template"))?;
        }
        if self.normalize || self.no_normalize {
            model.normalize = self.normalize;
        }
        match (self.pooling, model.check_pooling()) {
            (Some(Pooling::Mask), Err(_)) => refuse(
                "--pooling",
                "mask needs --template TEXT: the model has no template".to_owned(),
            ),
            (Some(_), Err(error)) => refuse("--pooling", error.to_string()),
            _ => Ok(model),
        }
    }
}

/// Opens the device and loads a model directory onto it.
pub(crate) fn load(
    dir: &Path,
    options: &LoadOptions,
    device: DeviceSpec,
) -> Result<SentenceEncoder, CliError> {
    let dir = &model_dir(dir)?;
    check_dir(dir)?;
    let device = device.open()?;
    let model = SentenceEncoder::load(dir, options, &device)?;
    // The encoder takes what fits; whoever asks for more should know.
    let limit = model.config.max_position_embeddings;
    match options.max_len {
        Some(found) if found > limit => Err(CliError::Option {
            option: "--max-len",
            problem: format!(
                "expected at most the {limit} positions of {}, found {found}",
                dir.display()
            ),
        }),
        _ => Ok(model),
    }
}

/// Tells the usual mistakes apart before a file in the directory is missed.
pub(crate) fn check_dir(dir: &Path) -> Result<(), CliError> {
    let refuse = |problem, help: String| {
        Err(CliError::NoModel {
            path: dir.to_owned(),
            problem,
            help,
        })
    };
    let layout = "expected config.json, model.safetensors and tokenizer.json in one folder";
    if !dir.exists() {
        return refuse("it does not exist", layout.to_owned());
    }
    if !dir.is_dir() {
        return refuse("it is a file", layout.to_owned());
    }
    if !dir.join("config.json").exists() {
        let inner = dir.join("model");
        let help = if inner.join("config.json").exists() {
            format!(
                "this looks like a run directory; its model is {}",
                inner.display()
            )
        } else {
            layout.to_owned()
        };
        return refuse("config.json is missing", help);
    }
    Ok(())
}

/// For clap: a count of at least 1.
pub(crate) fn positive(text: &str) -> Result<usize, String> {
    at_least(text, 1)
}

/// For clap: a length in tokens with room for a text.
pub(crate) fn length(text: &str) -> Result<usize, String> {
    at_least(text, 3)
}

fn at_least(text: &str, least: usize) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| *number >= least)
        .ok_or_else(|| format!("expected a whole number of at least {least}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_least_value() {
        assert_eq!(positive("1"), Ok(1));
        assert_eq!(length("3"), Ok(3));
        for bad in ["0", "-1", "1.5", "", "x", "99999999999999999999999"] {
            assert!(positive(bad).is_err(), "{bad}");
        }
        assert!(length("2").is_err());
    }
}
