//! Every settings file under `configs/` is one that the program accepts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use experiments::config::{resolve, to_toml};
use experiments::star_down::StarDownConfig;
use toml::{Table, Value};

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
}

/// Settings files below `dir`, by name without folder and ending.
fn files(dir: &Path) -> BTreeMap<String, PathBuf> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            assert_eq!(path.extension().unwrap(), "toml", "{}", path.display());
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), path)
        })
        .collect()
}

/// `a.b = value` for every leaf of a table.
fn leaves(table: &Table, prefix: &str) -> BTreeMap<String, Value> {
    table
        .iter()
        .flat_map(|(key, value)| match value {
            Value::Table(inner) => leaves(inner, &format!("{prefix}{key}.")),
            leaf => BTreeMap::from([(format!("{prefix}{key}"), leaf.clone())]),
        })
        .collect()
}

fn resolved(config: &StarDownConfig) -> BTreeMap<String, Value> {
    leaves(&to_toml(config).unwrap().parse().unwrap(), "")
}

#[test]
fn every_file_resolves_over_both_defaults() {
    let mut all = files(&configs());
    assert_eq!(
        all.keys().collect::<Vec<_>>(),
        ["clinc", "hwu64", "pocket", "wos"]
    );
    all.extend(files(&configs().join("ablations")));
    for (name, path) in all {
        for defaults in [StarDownConfig::default(), StarDownConfig::pocket().unwrap()] {
            let config = resolve(&defaults, Some(&path), &[])
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            config
                .check()
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

#[test]
fn an_ablation_changes_what_its_name_says_and_nothing_else() {
    let base = |value: f64| {
        vec![
            ("train.base", Value::Float(value)),
            ("train.base_mode", Value::String("fixed".to_owned())),
        ]
    };
    let number = |key, value: f64| vec![(key, Value::Float(value))];
    let expected = BTreeMap::from([
        ("gamma_0", number("train.gamma", 0.0)),
        ("gamma_0.01", number("train.gamma", 0.01)),
        ("gamma_0.2", number("train.gamma", 0.2)),
        ("base_e", base(std::f64::consts::E)),
        ("base_10", base(10.0)),
        ("base_16", base(16.0)),
        ("base_66", base(66.0)),
        ("base_trainable", vec![]),
        ("no_kl_term", vec![("train.kl_term", Value::Boolean(false))]),
        (
            "no_kl_guidance",
            vec![("train.kl_guidance", Value::Boolean(false))],
        ),
        ("momentum_0.9", number("train.momentum", 0.9)),
        ("momentum_0.999", number("train.momentum", 0.999)),
        ("topk_60", vec![("train.topk", Value::Integer(60))]),
        ("topk_250", vec![("train.topk", Value::Integer(250))]),
    ]);
    let found = files(&configs().join("ablations"));
    assert!(found.keys().eq(expected.keys()), "{:?}", found.keys());
    let defaults = StarDownConfig::default();
    for (name, changes) in expected {
        let config = resolve(&defaults, Some(&found[name]), &[]).unwrap();
        let mut wanted = resolved(&defaults);
        wanted.extend(
            changes
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value)),
        );
        assert_eq!(resolved(&config), wanted, "{name}");
    }
}

#[test]
fn settings_for_published_sets_name_data_and_model() {
    let defaults = StarDownConfig::default();
    for (name, max_len, topk) in [("hwu64", 10, 120), ("clinc", 30, 120), ("wos", 200, 250)] {
        let config = resolve(
            &defaults,
            Some(&configs().join(format!("{name}.toml"))),
            &[],
        )
        .unwrap();
        assert!(config.data.ends_with(name), "{name}: {}", config.data);
        assert_ne!(config.model, "pocket", "{name}");
        assert_eq!(
            (config.max_len, config.train.topk),
            (max_len, topk),
            "{name}"
        );
        assert_eq!(config.pooling, "cls", "{name}");
    }
}

#[test]
fn the_bundled_settings_are_those_of_the_file() {
    let config = resolve(
        &StarDownConfig::default(),
        Some(&configs().join("pocket.toml")),
        &[],
    )
    .unwrap();
    assert_eq!(config, StarDownConfig::pocket().unwrap());
    assert_eq!(
        (config.data.as_str(), config.model.as_str()),
        ("pocket", "pocket")
    );
}

/// Settings that the program prints for these arguments.
fn dry(arguments: &[&str]) -> Table {
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_star_down"))
        .args(arguments)
        .arg("--dry-run")
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).unwrap().parse().unwrap()
}

#[test]
fn a_file_on_the_bundled_set_changes_the_bundled_settings() {
    let file = configs().join("ablations/gamma_0.2.toml");
    let file = file.to_str().unwrap();
    let (bundled, plain) = (StarDownConfig::pocket().unwrap(), StarDownConfig::default());
    for (arguments, base) in [
        (vec![], &bundled),
        (vec!["--data", "pocket"], &bundled),
        (vec!["--set", "model=pocket"], &bundled),
        (vec!["--data", "other"], &plain),
        (vec!["--set", "data=other"], &plain),
        (vec!["--model", "other"], &plain),
    ] {
        let got = leaves(&dry(&[&["--config", file], &arguments[..]].concat()), "");
        let mut wanted = resolved(base);
        for key in ["data", "model"] {
            wanted.insert(key.to_owned(), got[key].clone());
        }
        wanted.insert("train.gamma".to_owned(), Value::Float(0.2));
        assert_eq!(got, wanted, "{arguments:?}");
    }
}
