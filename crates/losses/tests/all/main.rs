//! Tests of the objectives through their public functions.
//!
//! `golden`, `sentence_losses` and `spec_values` compare with numbers made elsewhere, `reference`
//! holds slow f64 loops written from the definitions, `against_reference` compares with those,
//! `properties` states what has to hold for any input, `hostile` what happens with the smallest and with
//! impossible ones, `descent` what following the gradient leads to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod against_reference;
mod descent;
mod golden;
mod hostile;
mod properties;
mod reference;
mod sentence_losses;
mod spec_values;
