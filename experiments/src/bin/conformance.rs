//! Runs golden files through the public functions of the crates.
//!
//! ```text
//! conformance DIR... [--device D] [--model DIR] [--json FILE] [--filter NAME]
//! ```
//!
//! Exit codes: 0 everything passed, 1 an item failed, 2 bad input or usage, 3 nothing failed but
//! something is not covered.

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use experiments::conformance::{Line, Options, Report, Status, run};
use kernels::DeviceSpec;
use miette::{IntoDiagnostic, WrapErr};

/// Runs golden files through the public functions of the crates.
///
/// Prints one line per case and item: worst difference and tolerance. Exit codes: 0 everything
/// passed, 1 an item failed, 2 bad input or usage, 3 nothing failed but something is not covered.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Golden files, or directories with golden files in them.
    #[arg(required = true, value_name = "DIR")]
    paths: Vec<PathBuf>,
    /// Where to compute: flex, ndarray, wgpu, cuda or auto; `cuda:1` is the second GPU.
    #[arg(long, default_value = "auto", value_name = "D")]
    device: DeviceSpec,
    /// Model directory, needed by the files whose names begin with `bert`.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Writes the outcome as a list of objects.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Runs only cases whose `file/case` contains this.
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
}

fn main() -> ExitCode {
    kernels::tune_allocator();
    let arguments = Arguments::parse();
    match conformance(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(report) => {
            eprintln!("{report:?}");
            ExitCode::from(2)
        }
    }
}

fn conformance(arguments: Arguments) -> miette::Result<u8> {
    let options = Options {
        paths: arguments.paths,
        device: arguments.device,
        model: arguments.model,
        filter: arguments.filter,
    };
    let mut out = io::stdout().lock();
    let mut written = Ok(());
    let report = run(&options, |line| {
        if written.is_ok() {
            written = writeln!(out, "{line}");
        }
    })
    .into_diagnostic()?;
    let written = written.and_then(|()| summary(&mut out, &report));
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(error).into_diagnostic().wrap_err("standard output");
    }
    for error in &report.bad_input {
        let mut message = error.to_string();
        if let Some(source) = error.source() {
            message.push_str(&format!(": {source}"));
        }
        eprintln!("bad input: {message}");
    }
    if let Some(path) = &arguments.json {
        write_json(path, &report.lines)?;
    }
    Ok(report.exit_code())
}

fn summary(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let count = |status| report.count(status);
    writeln!(
        out,
        "\n{} passed, {} failed, {} not covered, {} without model, {} only shown, {} unusable",
        count(Status::Pass),
        count(Status::Fail),
        count(Status::NotCovered),
        count(Status::NoModel),
        count(Status::Shown),
        report.bad_input.len(),
    )?;
    for status in [Status::Fail, Status::NotCovered, Status::NoModel] {
        for file in report.files(status) {
            let of = |other: Option<Status>| {
                let lines = report.lines.iter().filter(|line| line.file == file);
                lines
                    .filter(|l| other.is_none_or(|s| s == l.status))
                    .count()
            };
            let (some, all) = (of(Some(status)), of(None));
            writeln!(out, "{status}: {file} ({some} of {all} items)")?;
        }
    }
    Ok(())
}

fn write_json(path: &Path, lines: &[Line]) -> miette::Result<()> {
    let place = || path.display().to_string();
    let json = serde_json::to_vec_pretty(lines)
        .into_diagnostic()
        .wrap_err_with(place)?;
    std::fs::write(path, json)
        .into_diagnostic()
        .wrap_err_with(place)
}
