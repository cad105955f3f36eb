//! Catalogues, their history and their files, as other crates use them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod annotation;
mod assign;
mod catalogue;
mod edits;
mod faults;
mod histories;
mod hostile;
mod matching;
mod store;
mod support;
