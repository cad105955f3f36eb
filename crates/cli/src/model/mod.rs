//! `asterism model`: model directories; and what all commands with a model share.

use std::path::Path;

use encoder::{LoadOptions, SentenceEncoder};
use kernels::DeviceSpec;

use crate::error::CliError;

mod export;
mod info;

/// Look into a model directory, write it anew.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Info(info::Args),
    Export(export::Args),
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Info(args) => info::run(&args),
        Command::Export(args) => export::run(&args),
    }
}

/// Opens the device and loads a model directory onto it.
pub(crate) fn load(
    dir: &Path,
    options: &LoadOptions,
    device: DeviceSpec,
) -> Result<SentenceEncoder, CliError> {
    check_dir(dir)?;
    let device = device.open()?;
    let model = SentenceEncoder::load(dir, options, &device)?;
    // The encoder takes what fits; whoever asks for more should know.
    let limit = model.config.max_position_embeddings;
    match options.max_len {
        Some(found) if found > limit => Err(CliError::MaxLen {
            path: dir.to_owned(),
            limit,
            found,
        }),
        _ => Ok(model),
    }
}

/// Tells the usual mistakes apart before a file in the directory is missed.
fn check_dir(dir: &Path) -> Result<(), CliError> {
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
