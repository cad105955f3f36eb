//! Evaluates a model directory: similarity tasks, transfer tasks, the embedding space, retrieval.
//!
//! ```text
//! evaluate --model DIR [--sts DIR] [--transfer DIR] [--pairs FILE] [--device D] [--json FILE]
//! ```
//!
//! Exit codes: 0 done, 1 failed work, 2 bad input or usage.

use std::process::ExitCode;

use clap::Parser;
use experiments::cli::conclude;
use experiments::evaluate::program::{EvaluateArgs, main_with};

/// Evaluates a model directory: similarity tasks, transfer tasks, the embedding space, retrieval.
#[derive(Parser)]
#[command(name = "evaluate", version)]
struct Args {
    #[command(flatten)]
    evaluate: EvaluateArgs,
}

fn main() -> ExitCode {
    kernels::tune_allocator();
    conclude(main_with(&Args::parse().evaluate))
}
