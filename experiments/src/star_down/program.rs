//! The program: options to settings, the run, its table.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::config::StarDownConfig;
use super::run::{Request, run};
use crate::cli::{Common, fresh_run_dir};
use crate::config::{resolve, to_toml};
use crate::error::RunError;
use crate::report::text_table;

/// What the command line asks for: settings are resolved, the run is done (or continued) and its
/// table printed. With `--dry-run` the settings are printed instead.
///
/// Handlers for SIGINT and SIGTERM are installed; a signal ends the run after saving.
///
/// # Errors
///
/// Bad settings, and anything [`run`] reports.
pub fn main_with(common: Common) -> Result<(), RunError> {
    let config = settings(&common)?;
    if common.dry_run {
        return print(&to_toml(&config)?);
    }
    let out = match (&common.resume, &common.out) {
        (Some(dir), _) => dir.clone(),
        (None, Some(out)) => out.clone(),
        (None, None) => fresh_run_dir(&PathBuf::from("runs"), "star_down"),
    };
    let stop = training::StopFlag::install()?;
    let result = run(Request {
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

/// Settings of a resumed run as they were; otherwise defaults, file, `--set`, options, in that order.
/// When data and model come out as `pocket`, the defaults are those of `configs/pocket.toml`.
fn settings(common: &Common) -> Result<StarDownConfig, RunError> {
    let config = match &common.resume {
        Some(dir) => resolve(
            &StarDownConfig::default(),
            Some(&dir.join("config.toml")),
            &[],
        )?,
        None => {
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
                        .map(|item| {
                            if key == "seeds" {
                                item.trim().to_owned()
                            } else {
                                quoted(item.trim())
                            }
                        })
                        .collect();
                    assignments.push(format!("{key}=[{}]", items.join(",")));
                }
            }
            let file = common.config.as_deref();
            let plain = resolve(&StarDownConfig::default(), file, &assignments)?;
            // Wherever they were said: with the bundled data and model, what nobody set is bundled too.
            if plain.data == "pocket" && plain.model == "pocket" {
                resolve(&StarDownConfig::pocket()?, file, &assignments)?
            } else {
                plain
            }
        }
    };
    config.check()?;
    Ok(config)
}

/// Text as a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Prints text; a reader that closed the pipe has seen enough.
fn print(text: &str) -> Result<(), RunError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(RunError::File {
            path: Path::new("standard output").to_owned(),
            message: error.to_string(),
        }),
        _ => Ok(()),
    }
}
