//! Distillation of a sentence encoder into a small one: how the Pocket encoder is made.
//!
//! It needs a teacher (`--model`) and, beyond the short messages it makes itself, text (`--data`).

use std::process::ExitCode;

use clap::Parser;
use experiments::cli::{Common, conclude};
use experiments::distill::main_with;

#[derive(Parser)]
#[command(name = "distill", version, about)]
struct Args {
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    kernels::tune_allocator();
    conclude(main_with(Args::parse().common))
}
