//! The same training step on several back-ends, compared tensor by tensor.
//!
//! ```text
//! parity [--model DIR] [--devices flex,ndarray,wgpu,cuda] [--length N] [--batch N] [--json FILE]
//! ```
//!
//! Exit codes: 0 all devices agree, 1 a difference beyond the tolerance or a device that failed, 2 bad
//! input or usage, 3 nothing differs but a device was not run.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use experiments::cli::show_plainly;
use experiments::parity::{Options, ParityError, Tolerance, run};
use kernels::DeviceSpec;
use miette::{IntoDiagnostic, WrapErr};

/// The same training step on several back-ends, compared tensor by tensor.
///
/// Encoder forward, coarse cross entropy and STAR loss, gradients of every parameter, one AdamW step;
/// largest relative difference of each tensor from the first device. Exit codes: 0 all devices agree,
/// 1 a difference beyond the tolerance or a device that failed, 2 bad input or usage, 3 nothing differs
/// but a device was not run.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Model directory; without it a small random encoder.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Devices separated by commas, the reference first.
    #[arg(long, value_delimiter = ',', default_value = "flex,ndarray,wgpu,cuda")]
    devices: Vec<DeviceSpec>,
    /// Tokens of the longest text; the others go down to half of it.
    #[arg(long, default_value_t = Options::default().length, value_name = "N")]
    length: usize,
    /// Texts.
    #[arg(long, default_value_t = Options::default().batch, value_name = "N")]
    batch: usize,
    /// Rows of the bank.
    #[arg(long, default_value_t = Options::default().bank, value_name = "N")]
    bank: usize,
    /// Neighbours of a text.
    #[arg(long, default_value_t = Options::default().topk, value_name = "N")]
    topk: usize,
    /// Seed of everything random.
    #[arg(long, default_value_t = Options::default().seed)]
    seed: u64,
    /// Accepted relative difference of hidden states, vectors and losses.
    #[arg(long, default_value_t = Tolerance::default().forward, value_name = "R")]
    forward_tolerance: f64,
    /// Accepted relative difference of gradients.
    #[arg(long, default_value_t = Tolerance::default().gradient, value_name = "R")]
    gradient_tolerance: f64,
    /// Accepted relative difference of parameters after the step.
    #[arg(long, default_value_t = Tolerance::default().update, value_name = "R")]
    update_tolerance: f64,
    /// Tensors to print for each device, worst first.
    #[arg(long, default_value_t = 12, value_name = "N")]
    rows: usize,
    /// Writes the whole report.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    kernels::tune_allocator();
    show_plainly();
    match parity(Arguments::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(report) => {
            eprintln!("{report:?}");
            ExitCode::from(2)
        }
    }
}

fn parity(arguments: Arguments) -> miette::Result<u8> {
    let options = Options {
        model: arguments.model,
        devices: arguments.devices,
        batch: arguments.batch,
        length: arguments.length,
        bank: arguments.bank,
        topk: arguments.topk,
        seed: arguments.seed,
        tolerance: Tolerance {
            forward: arguments.forward_tolerance,
            gradient: arguments.gradient_tolerance,
            update: arguments.update_tolerance,
        },
    };
    let report = match run(&options) {
        Ok(report) => report,
        Err(error @ ParityError::NoDevice(_)) => {
            eprintln!("{error}");
            return Ok(3);
        }
        Err(error) => return Err(error).into_diagnostic(),
    };
    let mut out = io::stdout().lock();
    if let Err(error) = write!(out, "{}", report.table(arguments.rows))
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(error).into_diagnostic().wrap_err("standard output");
    }
    if let Some(path) = &arguments.json {
        let place = || path.display().to_string();
        let json = serde_json::to_vec_pretty(&report)
            .into_diagnostic()
            .wrap_err_with(place)?;
        std::fs::write(path, json)
            .into_diagnostic()
            .wrap_err_with(place)?;
    }
    Ok(report.exit_code())
}
