//! The `star_down` program as its users see it: exit codes, messages, files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_input;
mod common;
mod contract;
mod determinism;
mod guard;
#[path = "../support/guard.rs"]
mod non_finite;
#[path = "../support/program.rs"]
mod program;
#[cfg(unix)]
mod replay;
#[cfg(unix)]
#[path = "../support/traces.rs"]
mod traces;
mod variants;
