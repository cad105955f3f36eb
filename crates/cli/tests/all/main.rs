//! The `asterism` command as its users run it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod completions;
mod corpora;
mod data;
mod datagen;
mod encode;
mod evaluate;
mod model;
mod predict;
mod report;
mod rfd;
mod simulate;
mod support;
mod train;
