//! Tests of the objectives through their public functions.
//!
//! `golden` compares with the files under `tests/golden`, `reference` holds slow f64 loops written
//! from the definitions, `against_reference` compares with those, `properties` states what has to
//! hold for any input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod against_reference;
mod golden;
mod properties;
mod reference;
