//! Options of `regression_sts`.

use std::collections::BTreeSet;

use burn::tensor::Device;
use encoder::{LoadOptions, SentenceEncoder};

use crate::common::{Place, ROWS, RegressionSts, check_close, sets};

#[test]
fn parts_of_a_batch_give_the_losses_of_the_whole() {
    let place = Place::new(RegressionSts);
    place.run_into("whole", &["dropout=0"]);
    let whole = place.series("whole", "loss");
    assert_eq!(whole.len(), 15);
    for size in ["8", "3"] {
        place.run_into(size, &["dropout=0", &format!("micro_batch={size}")]);
        check_close(&place.series(size, "loss"), &whole, 1e-5);
    }
}

#[test]
fn accumulated_steps_are_those_of_the_whole_batch() {
    let place = Place::new(RegressionSts);
    let run = |out: &str, more: &[&str]| {
        place.run_into(out, &[more, &["guard.statistics_every=1"]].concat());
        let names = ["loss", "grad_norm", "lr", "vector_std", "dev_spearman"];
        names.map(|name| place.series(out, name))
    };
    // Rows come in batches of 8, so that three parts are of 2 and 3 rows, and nine are eight.
    let whole = run("whole", &["dropout=0"]);
    assert_eq!([whole[0].len(), whole[4].len()], [15, 3]);
    let two = r#"devices=["flex", "flex"]"#;
    let three = r#"devices=["flex", "flex", "flex"]"#;
    for (parts, settings) in [
        ("3", &["accumulate=3"][..]),
        ("9", &["accumulate=9"]),
        ("2x1", &[two]),
        ("2x3", &[two, "accumulate=3"]),
    ] {
        let found = run(parts, &[settings, &["dropout=0"]].concat());
        for (found, expected) in found.iter().zip(&whole) {
            check_close(found, expected, 1e-4);
        }
        check_close(&found[0], &whole[0], 1e-5);
    }
    // Where the parts are computed changes nothing at all; dropout is drawn by part.
    let in_turn = run("turn", &["accumulate=6"]);
    assert_eq!(run("side", &[three, "accumulate=2"]), in_turn);
    assert_ne!(in_turn, run("dropped", &[]));
    let weights = |run: &str| place.bytes(&format!("{run}/model/model.safetensors"));
    assert!(weights("turn") == weights("side"));
}

#[test]
fn a_frozen_encoder_is_accumulated_too() {
    let place = Place::new(RegressionSts);
    for cache in ["nli.cache_frozen=true", "nli.cache_frozen=false"] {
        let run = |out: &str, more: &str| {
            let set = sets(&["nli.frozen=true", cache, "dropout=0", more]);
            let out = format!("{out}{cache}");
            place.run_well(&[&set[..], &["--stages", "nli", "--out", &out]].concat());
            place.series(&out, "loss")
        };
        let whole = run("whole", "accumulate=1");
        check_close(&run("parts", "accumulate=3"), &whole, 1e-5);
    }
}

#[test]
fn a_frozen_encoder_stays_and_its_vectors_may_be_kept() {
    let place = Place::new(RegressionSts);
    let run = |out: &str, more: &[&str]| {
        let settings = [&["nli.frozen=true", "nli.lr=0.02", "nli.epochs=4"], more].concat();
        let arguments = sets(&settings);
        place.run_well(&[&arguments[..], &["--stages", "nli", "--out", out]].concat());
        place.series(out, "loss")
    };
    let cached = run("cached", &["nli.cache_frozen=true", "dropout=0"]);
    let anew = run("anew", &["nli.cache_frozen=false", "dropout=0"]);
    check_close(&cached, &anew, 1e-5);
    let dropped = run("dropped", &["nli.cache_frozen=false"]);
    assert_ne!(dropped, anew);
    // Vectors made once are made without dropout.
    assert_eq!(run("kept", &["nli.cache_frozen=true"]), cached);
    let half = cached.len() / 2;
    let sum = |part: &[f64]| part.iter().sum::<f64>();
    assert!(
        sum(&cached[half..]) < 0.8 * sum(&cached[..half]),
        "the head learns: {cached:?}"
    );

    let texts = ["please turn the light off", "what is the weather"];
    let vectors = |dir: &str| {
        let options = LoadOptions::default();
        let mut model = SentenceEncoder::load(&place.at(dir), &options, &Device::flex()).unwrap();
        model.pooling = encoder::Pooling::Mean;
        model.encode(&texts, 2).unwrap().values
    };
    for run in ["cached", "anew", "dropped"] {
        assert_eq!(vectors(&format!("{run}/model")), vectors("model"), "{run}");
    }
}

#[test]
fn every_objective_in_both_stages() {
    let place = Place::new(RegressionSts);
    let mut first = BTreeSet::new();
    let names = ["smooth_k2", "translated_relu", "mse", "l1", "cross_entropy"];
    for name in names {
        let (nli, second) = (format!("nli.loss={name}"), format!("stage2.loss={name}"));
        place.run_into(name, &[&nli, &second, "dropout=0"]);
        first.insert(place.series(name, "loss")[0].to_bits());
    }
    assert_eq!(first.len(), names.len());
    // Another kind of head in stage 2: it is drawn anew, the encoder goes on.
    place.run_into("mixed", &["nli.loss=cross_entropy", "dropout=0"]);
    let losses = |run: &str| place.series(run, "loss");
    assert_eq!(losses("mixed")[..5], losses("cross_entropy")[..5]);
    assert_ne!(losses("mixed")[5..], losses("smooth_k2")[5..]);
}

#[test]
fn where_predictions_are_clamped_matters() {
    let place = Place::new(RegressionSts);
    let mut found = BTreeSet::new();
    for clamp in ["all", "label_min_only", "none"] {
        let set = format!("left_clamp={clamp}");
        // A head that gives -1 for every pair.
        let head = crate::parity::safetensors(&[
            ("weight", vec![1, 72], vec![0.0; 72]),
            ("bias", vec![1], vec![-1.0]),
        ]);
        std::fs::write(place.at("head.safetensors"), head).unwrap();
        place.run_into(
            clamp,
            &[&set, "head_init_file=head.safetensors", "dropout=0"],
        );
        found.insert((
            place.series(clamp, "loss")[0].to_bits(),
            place.series(clamp, "grad_norm")[0].to_bits(),
        ));
        // A row below 0 has no gradient where it is clamped.
        let still = place.series(clamp, "grad_norm")[0] == 0.0;
        assert_eq!(still, clamp == "all");
    }
    assert_eq!(found.len(), 3);
}

#[test]
fn pairs_and_texts_of_evaluation_sets_are_left_out() {
    let place = Place::new(RegressionSts);
    // A test pair the other way round, and a text of it beside another.
    let sts = place.read("sts/stsb.tsv");
    let line = sts.lines().find(|line| line.starts_with("test")).unwrap();
    let fields: Vec<&str> = line.split('\t').collect();
    let own = format!(
        "5\t{}\t{}\n2\t{}\tunknown word\n",
        fields[4], fields[3], fields[3]
    );
    place.write(
        "scored.tsv",
        &(String::from("score\tsentence1\tsentence2\n") + &own + "1\tunknown\tunplay\n"),
    );
    for (rule, left) in [("none", 3), ("pairs", 2), ("texts", 1)] {
        let set = format!("dedup_against_eval={rule}");
        let more = sets(&[&set]);
        let done = place.run_well(&[&more[..], &["--stages", "sts", "--out", rule]].concat());
        let said = format!("stage 2: {left} pairs, {} left out", 3 - left);
        assert!(done.stderr.contains(&said), "{said}: {}", done.stderr);
        let rows = &place.json(&format!("{rule}/result.json"))["data"]["train_rows"];
        assert_eq!(rows.as_u64(), Some(left as u64));
    }
}

#[test]
fn without_a_file_stage_2_takes_the_training_parts() {
    let place = Place::new(RegressionSts);
    let more = ["--set", "scored=", "--stages", "sts"];
    let done = place.run_well(&more);
    // STS-B and SICK-R have the same training texts here.
    let said = format!("stage 2: {} pairs", 2 * crate::common::STS_ROWS);
    assert!(done.stderr.contains(&said), "{}", done.stderr);
}

#[test]
fn scores_are_truncated_rounded_or_kept() {
    let place = Place::new(RegressionSts);
    let text = place
        .read("scored.tsv")
        .replace("\n5\t", "\n4.8\t")
        .replace("\n2\t", "\n1.5\t");
    place.write("scored.tsv", &text);
    let mut found = BTreeSet::new();
    for rule in ["truncate", "round", "none"] {
        let set = format!("label_quantize={rule}");
        let more = sets(&[&set, "dropout=0"]);
        place.run_well(&[&more[..], &["--stages", "sts", "--out", rule]].concat());
        found.insert(place.series(rule, "loss")[0].to_bits());
    }
    assert_eq!(found.len(), 3);
}

#[test]
fn the_schedule_follows_the_steps_really_run() {
    let place = Place::new(RegressionSts);
    let rates = |out: &str, settings: &[&str]| {
        let more = sets(settings);
        place.run_well(&[&more[..], &["--stages", "nli", "--out", out]].concat());
        place.series(out, "lr")
    };
    // 40 rows in batches of 8: one of five steps warms up.
    check_close(
        &rates("all", &[]),
        &[0.0, 1e-3, 7.5e-4, 5e-4, 2.5e-4],
        1e-12,
    );
    // Batches of a file count, not the rows.
    place.write(
        "order.json",
        "[[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [0, 2], [1, 3], [4, 6], [5, 7], [8, 0]]",
    );
    let given = rates("file", &["batch_order_file=order.json"]);
    assert_eq!(given.len(), 10);
    assert_eq!((given[0], given[2]), (0.0, 1e-3));
    assert!((given[9] - 1e-3 / 8.0).abs() < 1e-12, "{given:?}");
    // As executed on four devices: the schedule is four times as long as the run.
    let executed = rates("executed", &["schedule=executed", "loader_devices=4"]);
    let expected: Vec<f64> = (0..5).map(|step| 1e-3 * f64::from(step) / 4.0).collect();
    check_close(&executed[..5], &expected, 1e-12);
}

#[test]
fn rates_by_layer_change_the_run() {
    let place = Place::new(RegressionSts);
    let run = |out: &str, settings: &[&str]| {
        place.run_into(out, &[&["dropout=0"], settings].concat());
        place.series(out, "loss")
    };
    let (full, decayed) = (run("full", &[]), run("decayed", &["embedding_lr=decayed"]));
    let flat = run("flat", &["layer_decay=1"]);
    assert_ne!(full, decayed);
    assert_ne!(full, flat);
    assert_eq!(full[0], flat[0]);
}

#[test]
fn training_lowers_the_loss_and_orders_the_pairs() {
    let place = Place::new(RegressionSts);
    place.run_into("out", &["nli.epochs=6", "stage2.epochs=6", "dropout=0"]);
    let steps = place.steps("out");
    for stage in ["nli", "sts"] {
        let of: Vec<f64> = steps
            .iter()
            .filter(|line| line["stage"] == stage)
            .map(|line| line["loss"].as_f64().unwrap())
            .collect();
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let (early, late) = (mean(&of[..5]), mean(&of[of.len() - 5..]));
        assert!(late < early, "{stage}: {early} to {late}");
    }
    assert_eq!(steps.len(), 2 * 6 * ROWS / 8);
    let scores = place.series("out", "dev_spearman");
    assert!(scores.iter().copied().fold(f64::MIN, f64::max) > scores[0]);
}
