//! Options and exit codes that all experiment programs share.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use kernels::Precision;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::{resolve, to_toml};
use crate::error::RunError;
use crate::report::text_table;
use crate::result::ResultFile;
use crate::session::Request;

/// The option of programs that compute with a model as it is.
#[derive(Args, Clone, Copy, Debug)]
pub struct PrecisionArgs {
    /// Round the operands of the products with the model's weights to bfloat16: up to 1.5 times as fast
    /// where the processor has instructions for it, slower where it has none.
    #[arg(long)]
    pub bf16: bool,
}

impl PrecisionArgs {
    /// What was asked for.
    pub fn precision(self) -> Precision {
        match self.bf16 {
            true => Precision::Bf16,
            false => Precision::F32,
        }
    }
}

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

/// An experiment as its program sees it.
pub(crate) struct Program<C> {
    /// Name of the experiment, for the run directory.
    pub(crate) name: &'static str,
    /// Settings of nobody's choosing.
    pub(crate) defaults: fn() -> C,
    /// Settings that go with these data and this model where they are bundled.
    pub(crate) bundled: fn(&C) -> Result<Option<C>, RunError>,
    /// Refuses settings that no run can have.
    pub(crate) check: fn(&C) -> Result<(), RunError>,
    /// The experiment.
    pub(crate) run: fn(Request<'_, C>) -> Result<ResultFile, RunError>,
}

impl<C: Serialize + DeserializeOwned> Program<C> {
    /// Does what the command line asks for: settings are resolved, the run is done (or continued) and
    /// its table printed. With `--dry-run` the settings are printed instead.
    ///
    /// Handlers for SIGINT and SIGTERM are installed; a signal ends the run after saving.
    pub(crate) fn main_with(&self, common: &Common) -> Result<(), RunError> {
        let config = self.settings(common)?;
        if common.dry_run {
            return print(&to_toml(&config)?);
        }
        let out = match (&common.resume, &common.out) {
            (Some(dir), _) => dir.clone(),
            (None, Some(out)) => out.clone(),
            (None, None) => fresh_run_dir(&PathBuf::from("runs"), self.name),
        };
        let stop = training::StopFlag::install()?;
        stop.end_when_idle()?;
        let result = (self.run)(Request {
            config,
            out: out.clone(),
            resume: common.resume.is_some(),
            progress: training::auto(common.quiet, &stop),
            stop: &stop,
            command: std::env::args_os()
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect(),
        })?;
        if common.quiet {
            return Ok(());
        }
        // Only a training stage leaves a model.
        let model = if out.join("model").is_dir() {
            " and model/"
        } else {
            ""
        };
        print(&format!(
            "{}\nresult.json, report.html, plots/{model} are in {}\n",
            text_table(&result),
            out.display()
        ))
    }

    /// Settings of a resumed run as they were; otherwise defaults, file, `--set`, options, in that
    /// order.
    fn settings(&self, common: &Common) -> Result<C, RunError> {
        let config = match &common.resume {
            Some(dir) => resolve(&(self.defaults)(), Some(&dir.join("config.toml")), &[])?,
            None => {
                let assignments = assignments(common);
                let file = common.config.as_deref();
                let plain = resolve(&(self.defaults)(), file, &assignments)?;
                // Wherever they were said: with the bundled data and model, what nobody set is bundled
                // too.
                match (self.bundled)(&plain)? {
                    Some(bundled) => resolve(&bundled, file, &assignments)?,
                    None => plain,
                }
            }
        };
        (self.check)(&config)?;
        Ok(config)
    }
}

/// What `--set` and the options of their own say, as assignments; the latter count more.
fn assignments(common: &Common) -> Vec<String> {
    let mut assignments = common.set.clone();
    for (key, value) in [
        ("data", &common.data),
        ("model", &common.model),
        ("device", &common.device),
    ] {
        if let Some(value) = value {
            assignments.push(format!("{key}={}", quoted(value)));
        }
    }
    for (key, list) in [("seeds", &common.seeds), ("stages", &common.stages)] {
        if let Some(list) = list {
            let items: Vec<String> = list
                .split(',')
                .map(|item| match key {
                    "seeds" => item.trim().to_owned(),
                    _ => quoted(item.trim()),
                })
                .collect();
            assignments.push(format!("{key}=[{}]", items.join(",")));
        }
    }
    assignments
}

/// Text as a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Prints text; a reader that closed the pipe has seen enough.
pub(crate) fn print(text: &str) -> Result<(), RunError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(RunError::File {
            path: Path::new("standard output").to_owned(),
            message: error.to_string(),
        }),
        _ => Ok(()),
    }
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
