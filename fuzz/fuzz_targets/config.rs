//! Settings: a TOML file and assignments as in `--set`, merged into the defaults of every experiment.
//!
//! Lines that begin with `--set ` are assignments, all others are the file.
#![no_main]

use std::path::Path;

use asterism_fuzz::file;
use experiments::config::{resolve, to_toml};
use experiments::error::RunError;
use experiments::{distill, ngcse, regression_sts, simcse, star_down};
use libfuzzer_sys::fuzz_target;

fn check<C: Default + serde::Serialize + serde::de::DeserializeOwned>(
    path: &Path,
    assignments: &[String],
    checked: impl Fn(&C) -> Result<(), RunError>,
) {
    let Ok(config) = resolve(&C::default(), Some(path), assignments) else {
        return;
    };
    // Impossible values are refused here, not by a panic later.
    let _ = checked(&config);
    // What was accepted is written, read again and the same: `--resume` depends on it.
    let text = to_toml(&config).expect("accepted settings have a TOML form");
    let again = file("again.toml", text.as_bytes());
    let again: C = resolve(&C::default(), Some(&again), &[]).expect("our own file");
    assert_eq!(to_toml(&again).expect("TOML"), text);
}

fuzz_target!(|text: &str| {
    let (sets, lines): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with("--set "));
    let assignments: Vec<String> = sets
        .iter()
        .filter_map(|line| line.strip_prefix("--set "))
        .map(str::to_owned)
        .collect();
    let path = file("config.toml", lines.join("\n").as_bytes());
    check(&path, &assignments, star_down::StarDownConfig::check);
    check(&path, &assignments, simcse::SimcseConfig::check);
    check(
        &path,
        &assignments,
        regression_sts::RegressionStsConfig::check,
    );
    check(&path, &assignments, ngcse::NgcseConfig::check);
    check(&path, &assignments, distill::DistillConfig::check);
});
