//! Options and exit codes that all experiment programs share.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::error::RunError;

/// Options of every experiment program.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// TOML file with settings.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Overrides one setting; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Data directory, or the name of a bundled set (`pocket`).
    #[arg(long, value_name = "DIR|NAME")]
    pub data: Option<String>,
    /// Model directory, or `pocket`.
    #[arg(long, value_name = "DIR|pocket")]
    pub model: Option<String>,
    /// flex, ndarray, wgpu, cuda or auto; `cuda:1` is the second GPU.
    #[arg(long, value_name = "D")]
    pub device: Option<String>,
    /// Seeds, separated by commas.
    #[arg(long, value_name = "0,1,2")]
    pub seeds: Option<String>,
    /// Run directory to create (default: runs/NAME-N).
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Continue the run in this directory.
    #[arg(long, value_name = "RUN_DIR", conflicts_with_all = ["config", "set", "data", "model", "device", "seeds", "out", "stages"])]
    pub resume: Option<PathBuf>,
    /// Stages to run, separated by commas.
    #[arg(long, value_name = "a,b")]
    pub stages: Option<String>,
    /// Print the resolved settings and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Print nothing but errors.
    #[arg(long, short)]
    pub quiet: bool,
}

/// `base/name-N` with the first N that is not taken.
pub fn fresh_run_dir(base: &Path, name: &str) -> PathBuf {
    (1..)
        .map(|number| base.join(format!("{name}-{number:03}")))
        .find(|path| !path.exists())
        .unwrap_or_else(|| base.join(name))
}

/// Sets miette up to print a message once and unbroken: messages name their causes already, and a
/// wrapped path cannot be copied. A hook that was set before stays.
pub fn show_plainly() {
    let _ = miette::set_hook(Box::new(|_| {
        Box::new(
            miette::MietteHandlerOpts::new()
                .without_cause_chain()
                .wrap_lines(false)
                .build(),
        )
    }));
}

/// Prints an error the way a person can use it and turns it into the exit code.
pub fn conclude(outcome: Result<(), RunError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.exit_code();
            // Wrapped lines would break paths and keys that a person copies or a script looks for.
            // Setting the form fails only if it is set already.
            let _ = miette::set_hook(Box::new(|_| {
                Box::new(miette::MietteHandlerOpts::new().wrap_lines(false).build())
            }));
            show_plainly();
            eprintln!("{:?}", miette::Report::new(error));
            ExitCode::from(code)
        }
    }
}
