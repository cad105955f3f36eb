//! NGCSE: training on generated sentences, and how hard training sets are to fit.
//!
//! Without arguments it runs on the bundled texts with the bundled encoder and rows written by rules.

use std::process::ExitCode;

use clap::Parser;
use experiments::cli::conclude;
use experiments::ngcse::{NgcseArgs, main_with};

#[derive(Parser)]
#[command(name = "ngcse", version, about)]
struct Args {
    #[command(flatten)]
    ngcse: NgcseArgs,
}

fn main() -> ExitCode {
    kernels::tune_allocator();
    conclude(main_with(Args::parse().ngcse))
}
