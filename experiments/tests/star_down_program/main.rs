//! The `star_down` program as its users see it: exit codes, messages, files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_input;
mod common;
mod contract;
#[cfg(unix)]
mod replay;
mod variants;
