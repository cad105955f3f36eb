//! SimCSE: contrastive sentence embeddings from plain sentences or from triplets.
//!
//! Without arguments it runs on the bundled texts with the bundled encoder.

use std::process::ExitCode;

use clap::Parser;
use experiments::cli::{Common, conclude};
use experiments::simcse::main_with;

#[derive(Parser)]
#[command(name = "simcse", version, about)]
struct Args {
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    kernels::tune_allocator();
    conclude(main_with(Args::parse().common))
}
