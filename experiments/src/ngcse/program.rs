//! The program: options to settings, the run, its table.

use clap::Args;

use super::config::NgcseConfig;
use super::run::run;
use crate::cli::{Common, Program};
use crate::error::RunError;

/// Options of the program.
#[derive(Args, Clone, Debug)]
pub struct NgcseArgs {
    /// Options that all experiments share.
    #[command(flatten)]
    pub common: Common,
    /// What to train, separated by commas: dropout, token_shuffle, token_cutoff, nli, sts, sts_ht, sup.
    #[arg(
        long,
        alias = "settings",
        value_name = "a,b",
        conflicts_with = "resume"
    )]
    pub setting: Option<String>,
    /// Train every setting with each of these values, for instance m1=0.005,0.05,0.1.
    #[arg(long, value_name = "KEY=a,b", conflicts_with = "resume")]
    pub sweep: Option<String>,
}

/// Does what the command line asks for.
///
/// # Errors
///
/// Bad settings, and anything [`run`] reports.
pub fn main_with(args: NgcseArgs) -> Result<(), RunError> {
    let mut common = args.common;
    if let Some(settings) = &args.setting {
        let names = settings.split(',').map(|name| quoted(name.trim()));
        let names: Vec<String> = names.collect();
        common.set.push(format!("settings=[{}]", names.join(",")));
    }
    if let Some(sweep) = &args.sweep {
        common.set.extend(sweep_settings(sweep)?);
    }
    Program {
        name: "ngcse",
        defaults: NgcseConfig::default,
        bundled: |config| {
            let bundled = config.data == "pocket" && config.model == "pocket";
            Ok(bundled.then(NgcseConfig::bundled))
        },
        check: NgcseConfig::check,
        run,
    }
    .main_with(&common)
}

/// `key=a,b` as two assignments.
fn sweep_settings(sweep: &str) -> Result<[String; 2], RunError> {
    let (key, values) = sweep
        .split_once('=')
        .ok_or_else(|| RunError::Config(format!("--sweep {sweep}: expected KEY=VALUE,VALUE")))?;
    let values: Vec<String> = values
        .split(',')
        .map(|value| {
            let value = value.trim();
            let plain = format!("v={value}").parse::<toml::Table>().is_ok();
            if plain {
                value.to_owned()
            } else {
                quoted(value)
            }
        })
        .collect();
    Ok([
        format!("sweep.key={}", quoted(key.trim())),
        format!("sweep.values=[{}]", values.join(",")),
    ])
}

/// Text as a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_of_a_sweep_are_numbers_flags_or_words() {
        assert_eq!(
            sweep_settings("m1=5e-3, 0.1").unwrap(),
            ["sweep.key=\"m1\"", "sweep.values=[5e-3,0.1]"]
        );
        let [_, values] = sweep_settings("ht_reduce=mean,sum").unwrap();
        assert_eq!(values, "sweep.values=[\"mean\",\"sum\"]");
        let [_, values] = sweep_settings("ht_keep_hard_neg=true,false").unwrap();
        assert_eq!(values, "sweep.values=[true,false]");
        assert!(sweep_settings("m1").is_err());
    }
}
