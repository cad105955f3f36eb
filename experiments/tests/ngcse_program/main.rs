//! The `ngcse` program as its users see it: settings, probes, files, resuming, bad input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(feature = "flex")]

mod bad_input;
// Data and model of the other sentence programs; not all of it is needed here.
#[allow(dead_code, unused_imports)]
#[path = "../sentence_programs/common.rs"]
mod common;
#[allow(dead_code)]
#[path = "../support/guard.rs"]
mod non_finite;
mod place;
mod probes;
#[path = "../support/program.rs"]
mod program;
#[cfg(unix)]
mod replay;
mod settings;
#[cfg(unix)]
#[allow(dead_code)]
#[path = "../support/traces.rs"]
mod traces;
