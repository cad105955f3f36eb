//! The `simcse` and `regression_sts` programs as their users see them: exit codes, messages, files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(feature = "flex")]

mod bad_input;
mod common;
mod contract;
mod guard;
#[path = "../support/guard.rs"]
mod non_finite;
mod parity;
#[path = "../support/program.rs"]
mod program;
mod regression_sts;
#[cfg(unix)]
mod replay;
mod selection;
mod simcse;
#[cfg(unix)]
#[path = "../support/traces.rs"]
mod traces;
