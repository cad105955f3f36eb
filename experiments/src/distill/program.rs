//! The program: options to settings, the run, its table.

use super::config::DistillConfig;
use super::run::run;
use crate::cli::{Common, Program};
use crate::error::RunError;

/// Does what the command line asks for.
///
/// # Errors
///
/// Bad settings, and anything [`run`] reports.
pub fn main_with(common: Common) -> Result<(), RunError> {
    Program {
        name: "distill",
        defaults: DistillConfig::default,
        // There is no bundled teacher.
        bundled: |_| Ok(None),
        check: DistillConfig::check,
        run,
    }
    .main_with(&common)
}
