//! Regression STS: siamese regression on labelled pairs, then on scored pairs.
//!
//! Without arguments it runs on the bundled texts with the bundled encoder.

use std::process::ExitCode;

use clap::Parser;
use experiments::cli::{Common, conclude};
use experiments::regression_sts::main_with;

#[derive(Parser)]
#[command(name = "regression_sts", version, about)]
struct Args {
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    kernels::tune_allocator();
    conclude(main_with(Args::parse().common))
}
