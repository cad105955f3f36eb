//! The `asterism` command as its users run it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod categories;
mod completions;
mod corpora;
mod data;
mod datagen;
mod discover;
mod encode;
mod evaluate;
mod explore;
mod help;
mod model;
mod predict;
mod report;
mod rfd;
mod serve;
mod simulate;
mod support;
mod train;
