//! The probes of a run against figures computed from its model.

use burn::tensor::Device;
use datasets::{Limits, ScoredPair, StsName, StsPart, load_sts_task};
use encoder::{LoadOptions, SentenceEncoder};
use metrics::{alignment, uniformity};

use crate::place::NgcsePlace;

/// Rows of these texts, one behind the other, without dropout.
fn vectors<'t>(model: &SentenceEncoder, texts: impl Iterator<Item = &'t str>) -> Vec<f32> {
    let texts: Vec<&str> = texts.collect();
    model.encode(&texts, 4).unwrap().values
}

#[test]
fn the_development_side_is_that_of_the_saved_model() {
    let place = NgcsePlace::new();
    // One look, after which the model is kept.
    let settings = ["max_steps=2", "selection.every=2", "rfd.dropout=false"];
    place.train("out", "sts_ht", &settings);
    let probed = place.traces("out")[0].looks[1].probed.unwrap();
    let options = LoadOptions::default();
    let mut model =
        SentenceEncoder::load(&place.0.at("out/model"), &options, &Device::flex()).unwrap();
    model.max_len = 16;
    let task = load_sts_task(&place.0.at("sts"), StsName::StsB, Limits::default()).unwrap();
    let pairs: Vec<&ScoredPair> = task.split(StsPart::Dev).unwrap().pairs().collect();
    let positives = || pairs.iter().filter(|pair| pair.score >= 4.0);
    let extremes = pairs
        .iter()
        .filter(|pair| pair.score >= 4.0 || pair.score <= 1.0);
    let dim = model.dim();
    let first = vectors(&model, positives().map(|pair| pair.first.as_str()));
    let second = vectors(&model, positives().map(|pair| pair.second.as_str()));
    let expected = alignment(&first, &second, dim).unwrap();
    assert!(
        (probed.eval_alignment - expected).abs() < 1e-5,
        "{probed:?}, {expected}"
    );
    let spread = extremes.flat_map(|pair| [pair.first.as_str(), pair.second.as_str()]);
    let expected = uniformity(&vectors(&model, spread), dim).unwrap();
    assert!(
        (probed.eval_uniformity - expected).abs() < 1e-5,
        "{probed:?}, {expected}"
    );
}

#[test]
fn the_training_side_is_that_of_the_held_out_rows() {
    let place = NgcsePlace::new();
    // All rows are held out but two, which are alike: whatever is drawn, the probes are known.
    let row = |sentence: &str| {
        format!(
            "{{\"sentence\":\"{sentence}\",\"5\":\"turn on\",\"4\":\"song\",\"3\":\"alarm now\",\
             \"split\":\"aigen\"}}\n"
        )
    };
    let file: String = (0..12).map(|_| row("play the song")).collect();
    place.0.write("same.jsonl", &file);
    let settings = [
        "sts_rows=same.jsonl",
        "nli_rows=",
        "held_out=0.5",
        "max_steps=2",
        "selection.every=2",
        "rfd.dropout=false",
        "rfd.rows=5",
    ];
    let options = LoadOptions::default();
    for (setting, pair, spread) in [
        ("dropout", ["play the song"; 2], vec!["play the song"; 5]),
        (
            "sts",
            ["play the song", "turn on"],
            vec![
                "play the song",
                "turn on",
                "alarm now",
                "play the song",
                "turn on",
            ],
        ),
        (
            "sts_ht",
            ["play the song", "song"],
            vec![
                "play the song",
                "turn on",
                "song",
                "alarm now",
                "play the song",
            ],
        ),
    ] {
        let mut more = crate::common::sets(&settings);
        let out = format!("run-{setting}");
        more.extend(["--data", "", "--setting", setting, "--out", &out]);
        place.run_well(&more);
        let probed = place.traces(&out)[0].looks[1].probed.unwrap();
        let path = place.0.at(&format!("{out}/model"));
        let model = SentenceEncoder::load(&path, &options, &Device::flex()).unwrap();
        let [first, second] = pair.map(|text| vectors(&model, std::iter::once(text)));
        let dim = model.dim();
        let expected = alignment(&first, &second, dim).unwrap();
        assert!(
            (probed.train_alignment - expected).abs() < 1e-5,
            "{setting}: {probed:?}"
        );
        let expected = uniformity(&vectors(&model, spread.into_iter()), dim).unwrap();
        assert!(
            (probed.train_uniformity - expected).abs() < 1e-5,
            "{setting}: {probed:?}"
        );
    }
}

#[test]
fn dropout_of_the_probes_leaves_the_training_alone() {
    let place = NgcsePlace::new();
    place.train("on", "dropout", &[]);
    place.train("off", "dropout", &["rfd.dropout=false"]);
    place.train("none", "dropout", &["rfd.rows=0"]);
    let losses = |run: &str| place.series(run, "dropout", "loss");
    assert_eq!(losses("on"), losses("off"));
    assert_eq!(losses("on"), losses("none"));
    let first = |run: &str| {
        place.traces(run)[0].looks[1]
            .probed
            .unwrap()
            .train_alignment
    };
    // A sentence beside itself.
    assert!(first("on") > 1e-4 && first("off").abs() < 1e-6);
    // Without probes the development scores are still there.
    let trace = &place.traces("none")[0];
    assert!(trace.looks.iter().all(|look| look.probed.is_none()));
    assert!(trace.looks[1].dev_spearman.is_some());
    let rows = place.0.rows("none", "dropout");
    assert!(!rows.iter().any(|row| row["metric"] == "rfd"));
}

#[test]
fn the_probes_of_all_settings_are_the_same_sentences() {
    let place = NgcsePlace::new();
    place.train("aligned", "dropout,token_cutoff", &["rfd.dropout=false"]);
    // No sentence has more than ten pieces, so that cutting leaves them as they are.
    let of = |at: usize| place.traces("aligned")[at].looks[0].probed.unwrap();
    assert_eq!(of(0), of(1));
    // Alone the same, because the generated files decide.
    place.train("alone", "token_cutoff", &["rfd.dropout=false"]);
    assert_eq!(place.traces("alone")[0].looks[0].probed, Some(of(1)));
    place.train(
        "own",
        "token_cutoff",
        &["rfd.dropout=false", "rfd.sentences=own"],
    );
    let own = place.traces("own")[0].looks[0].probed.unwrap();
    assert_ne!(own.train_uniformity, of(1).train_uniformity);
    assert_eq!(own.eval_uniformity, of(1).eval_uniformity);
}
