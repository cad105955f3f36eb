//! The program: options to settings, the run, its table.

use super::config::StarDownConfig;
use super::run::run;
use crate::cli::{Common, Program};
use crate::error::RunError;

/// Does what the command line asks for. When data and model come out as bundled ones, the
/// defaults are those of [`StarDownConfig::bundled`].
///
/// # Errors
///
/// Bad settings, and anything [`run`] reports.
pub fn main_with(common: Common) -> Result<(), RunError> {
    Program {
        name: "star_down",
        defaults: StarDownConfig::default,
        bundled: StarDownConfig::bundled,
        check: StarDownConfig::check,
        run,
    }
    .main_with(&common)
}
