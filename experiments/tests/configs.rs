//! Every settings file under `configs/` is one that the program accepts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use experiments::config::{resolve, to_toml};
use experiments::ngcse::NgcseConfig;
use experiments::regression_sts::RegressionStsConfig;
use experiments::simcse::SimcseConfig;
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
        ["clinc", "hwu64", "pocket", "pocket_random", "wos"]
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
        ("pretrain_0", vec![("pretrain.epochs", Value::Integer(0))]),
        ("pretrain_1", vec![("pretrain.epochs", Value::Integer(1))]),
        ("pretrain_10", vec![("pretrain.epochs", Value::Integer(10))]),
        (
            "pooling_cls",
            vec![("pooling", Value::String("cls".to_owned()))],
        ),
        (
            "filter_coarse",
            vec![("train.neighbor_filter", Value::String("coarse".to_owned()))],
        ),
        (
            "bf16",
            vec![("precision", Value::String("bf16".to_owned()))],
        ),
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

#[test]
fn settings_of_published_simcse_runs() {
    let found = files(&configs().join("simcse"));
    // Batch, rate and epochs; whether the MLP is dropped after training.
    let expected = [
        ("sup_bert_base", (512, 5e-5, 3, false)),
        ("sup_bert_large", (512, 1e-5, 3, false)),
        ("sup_roberta_base", (512, 5e-5, 3, false)),
        ("sup_roberta_large", (512, 1e-5, 3, false)),
        ("unsup_bert_base", (64, 3e-5, 1, true)),
        ("unsup_bert_large", (64, 1e-5, 1, true)),
        ("unsup_roberta_base", (512, 1e-5, 1, true)),
        ("unsup_roberta_large", (512, 3e-5, 1, true)),
    ];
    assert!(found.keys().eq(expected.map(|(name, _)| name)), "{found:?}");
    for (name, (batch_size, lr, epochs, mlp_only_train)) in expected {
        let config = resolve(&SimcseConfig::default(), Some(&found[name]), &[]).unwrap();
        config
            .check()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            (
                config.batch_size,
                config.lr,
                config.epochs,
                config.mlp_only_train
            ),
            (batch_size, lr, epochs, mlp_only_train),
            "{name}"
        );
        assert_eq!((config.pooling.as_str(), config.new_mlp), ("cls_mlp", true));
        assert_eq!(
            (config.max_len, config.temperature, config.selection.every),
            (32, 0.05, 125)
        );
        assert_eq!(
            (config.optimizer.clip, config.optimizer.weight_decay),
            (1.0, 0.0)
        );
    }
}

#[test]
fn settings_of_published_regression_runs() {
    let found = files(&configs().join("regression_sts"));
    // Loss, k, x0, rate and batch of stage 1; clipping.
    let expected = [
        (
            "bert_base_smooth_k2",
            ("smooth_k2", 2.0, 0.25, 5e-5, 64),
            10.0,
        ),
        (
            "bert_base_translated_relu",
            ("translated_relu", 2.5, 0.25, 2e-5, 64),
            10.0,
        ),
        ("jina_v2_base", ("smooth_k2", 2.0, 0.2, 5e-5, 32), 10.0),
        ("nomic_v1", ("smooth_k2", 2.0, 0.25, 5e-5, 32), 10.0),
        (
            "roberta_base_smooth_k2",
            ("smooth_k2", 3.0, 0.25, 2e-5, 64),
            2.0,
        ),
        (
            "roberta_base_translated_relu",
            ("translated_relu", 1.0, 0.25, 2e-5, 64),
            10.0,
        ),
    ];
    assert!(
        found.keys().eq(expected.iter().map(|(name, _, _)| name)),
        "{found:?}"
    );
    for (name, (loss, k, x0, lr, batch_size), clip) in expected {
        let config = resolve(&RegressionStsConfig::default(), Some(&found[name]), &[]).unwrap();
        config
            .check()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let nli = &config.nli;
        assert_eq!(
            (nli.loss.as_str(), nli.k, nli.x0, nli.lr, nli.batch_size),
            (loss, k, x0, lr, batch_size),
            "{name}"
        );
        assert_eq!(config.optimizer.clip, clip, "{name}");
        let two_stages = config.stages.iter().any(|stage| stage == "sts");
        let frozen = matches!(name, "jina_v2_base" | "nomic_v1");
        assert_eq!((nli.frozen, two_stages), (frozen, frozen), "{name}");
        if frozen {
            let k = if name == "nomic_v1" { 3.0 } else { 3.5 };
            let second = &config.stage2;
            assert_eq!((second.k, second.x0, second.epochs), (k, 0.2, 4), "{name}");
            assert_eq!((config.loader_devices, second.frozen), (2, false), "{name}");
        }
        assert_eq!(
            (config.schedule.as_str(), config.max_len),
            ("executed", 256)
        );
    }
}

#[test]
fn settings_of_published_ngcse_runs() {
    let found = files(&configs().join("ngcse"));
    // Pooling, rate, epochs, second margin; number of settings, and of values of a sweep.
    let expected = [
        ("analysis_nli", ("cls", 3e-5, 3, 5e-2), (7, 0)),
        ("analysis_wiki", ("cls", 3e-5, 1, 5e-2), (6, 0)),
        ("final_nli", ("mask", 1e-5, 3, 1e-1), (1, 0)),
        ("final_wiki", ("mask", 1e-5, 1, 5e-2), (1, 0)),
        ("pocket", ("", 1e-4, 2, 5e-2), (2, 0)),
        ("sweep_generated", ("mask", 1e-5, 1, 5e-2), (1, 11)),
        ("sweep_m1", ("mask", 1e-5, 1, 5e-2), (1, 8)),
        ("sweep_m2", ("mask", 1e-5, 1, 5e-2), (1, 8)),
    ];
    assert!(
        found.keys().eq(expected.iter().map(|(name, ..)| name)),
        "{found:?}"
    );
    for (name, (pooling, lr, epochs, m2), (settings, values)) in expected {
        // Rows that the command line names.
        let rows = ["nli_rows=nli.jsonl", "sts_rows=sts.jsonl"].map(str::to_owned);
        let config = resolve(&NgcseConfig::default(), Some(&found[name]), &rows).unwrap();
        config
            .check()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            (config.pooling.as_str(), config.lr, config.epochs, config.m2),
            (pooling, lr, epochs, m2),
            "{name}"
        );
        assert_eq!(
            (config.settings.len(), config.sweep.values.len()),
            (settings, values),
            "{name}"
        );
        assert_eq!((config.m1, config.beta), (5e-3, 1.0), "{name}");
        if name != "pocket" {
            assert_eq!((config.batch_size, config.aigen_batch_size), (256, 48));
            assert_eq!((config.head_dim, config.head_std), (768, 6e-3));
            assert!(config.freeze_embeddings && config.selection.every == 125);
        }
    }
    let bundled = resolve(&NgcseConfig::default(), Some(&found["pocket"]), &[]).unwrap();
    assert_eq!(bundled, NgcseConfig::bundled());
}

#[test]
fn bundled_settings_pass() {
    NgcseConfig::bundled().check().unwrap();
    SimcseConfig::bundled().check().unwrap();
    RegressionStsConfig::bundled().check().unwrap();
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
