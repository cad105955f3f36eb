//! `asterism model export`: loads a model directory and writes it anew.

use std::path::{Path, PathBuf};

use encoder::SentenceEncoder;
use kernels::{DeviceSpec, Precision};
use serde_json::json;

use super::Overrides;
use crate::error::CliError;
use crate::output::Output;

/// Write a model directory anew, in the sentence-transformers layout.
///
/// Gives a plain Hugging Face checkpoint the files of the layout; weights are checked on the way and
/// written as f32.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Model directory to read.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Folder to write; made if it does not exist.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
    /// Accept NaN and infinite weights.
    #[arg(long)]
    allow_non_finite: bool,
    /// Replace files in a folder that is not empty.
    #[arg(long)]
    force: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    if !args.force && !is_empty(&args.to)? {
        return Err(CliError::NotEmpty {
            path: args.to.clone(),
        });
    }
    let model = args.overrides.load(
        &args.dir,
        args.allow_non_finite,
        Precision::F32,
        DeviceSpec::default(),
    )?;
    model.save(&args.to)?;
    let sha256 = SentenceEncoder::weights_hash(&args.to)?;
    let mut output = Output::stdout();
    if args.json {
        output.json(&json!({
            "path": args.to, "sha256": {"model.safetensors": sha256},
            "pooling": model.pooling, "normalize": model.normalize, "max_len": model.max_len,
        }))?;
    } else {
        output.line(format_args!(
            "{}\tmodel.safetensors {sha256}",
            args.to.display()
        ))?;
    }
    output.flush()
}

/// Whether nothing would be replaced: no such folder, or nothing in it.
fn is_empty(dir: &Path) -> Result<bool, CliError> {
    if !dir.exists() {
        return Ok(true);
    }
    let mut entries = std::fs::read_dir(dir).map_err(CliError::file("list", dir))?;
    Ok(entries.next().is_none())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_an_absent_or_bare_folder_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_empty(dir.path()).unwrap());
        assert!(is_empty(&dir.path().join("absent")).unwrap());
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(!is_empty(dir.path()).unwrap());
        assert!(is_empty(&file).is_err());
    }
}
