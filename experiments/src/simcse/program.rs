//! The program: options to settings, the run, its table.

use super::config::SimcseConfig;
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
        name: "simcse",
        defaults: SimcseConfig::default,
        bundled: |config| {
            let bundled = config.data == "pocket" && config.model == "pocket";
            Ok(bundled.then(SimcseConfig::bundled))
        },
        check: SimcseConfig::check,
        run,
    }
    .main_with(&common)
}
