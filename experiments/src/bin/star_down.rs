//! Fine categories from coarse labels: floors, coarse pre-training, DOWN and STAR from one start.
//!
//! Without arguments it runs on the bundled Pocket set with a small encoder drawn from the seed.

use std::process::ExitCode;

use clap::Parser;
use experiments::cli::{Common, conclude};
use experiments::star_down::main_with;

#[derive(Parser)]
#[command(name = "star_down", version, about)]
struct Args {
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    kernels::tune_allocator();
    conclude(main_with(Args::parse().common))
}
