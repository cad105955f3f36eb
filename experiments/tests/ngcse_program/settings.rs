//! What the settings do.

use std::collections::BTreeMap;
use std::fs;

use burn::tensor::Device;
use encoder::{LoadOptions, Pooling, SentenceEncoder, Template};
use training::{NonFinite, from_safetensors};

use crate::common::check_close;
use crate::place::NgcsePlace;
use crate::program::call;

const ALL: [&str; 7] = [
    "dropout",
    "token_shuffle",
    "token_cutoff",
    "nli",
    "sts",
    "sts_ht",
    "sup",
];

#[test]
fn every_setting_in_one_run() {
    let place = NgcsePlace::new();
    let done = place.run_well(&["--setting", &ALL.join(",")]);
    for word in ["sts_ht", "STSB", "RFD_a", "spearman/top5", "model/"] {
        assert!(done.stdout.contains(word), "{word}: {}", done.stdout);
    }
    let result = place.0.json("out/result.json");
    let stages: Vec<&str> = result["timing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["stage"].as_str().unwrap())
        .collect();
    assert_eq!(stages, [&["start"], &ALL[..]].concat());
    for entry in &result["timing"].as_array().unwrap()[1..] {
        // 28 of 40 rows train in groups of 8, twice.
        assert_eq!(entry["steps"], 8, "{entry}");
    }
    let traces = place.traces("out");
    assert_eq!(traces.len(), 7);
    let losses: Vec<Vec<f64>> = ALL.map(|one| place.series("out", one, "loss")).to_vec();
    for (at, (trace, setting)) in traces.iter().zip(ALL).enumerate() {
        assert_eq!((trace.setting.as_str(), trace.seed), (setting, 0));
        let steps: Vec<u64> = trace.looks.iter().map(|look| look.step).collect();
        assert_eq!(steps, [0, 3, 6]);
        assert!(trace.looks.iter().all(|look| look.probed.is_some()));
        // What result.json says of a setting follows from its trace.
        let found = trace.difficulty(1).unwrap();
        assert_eq!(found.steps, 2);
        let row = |task: &str, metric: &str| -> f64 {
            let rows = place.0.rows("out", setting);
            let mut of = rows
                .iter()
                .filter(|row| row["task"] == task && row["metric"] == metric);
            let row = of.find(|row| row["split"] == "dev").unwrap();
            assert_eq!(row["seed"], 0);
            row["value"].as_f64().unwrap()
        };
        assert_eq!(Some(row("RFD_a", "rfd")), found.rfd_a);
        assert_eq!(Some(row("RFD_u", "rfd")), found.rfd_u);
        assert_eq!(Some(row("STSB", "spearman")), found.top5);
        // No two settings train alike, but that no sentence has enough pieces to lose one.
        if setting == "token_cutoff" {
            assert_eq!(losses[at], losses[0]);
            continue;
        }
        assert!(
            losses[..at].iter().all(|other| *other != losses[at]),
            "{setting}"
        );
    }
    // All look at the same encoder and the same development set in the beginning.
    let start = |at: usize| traces[at].looks[0].probed.unwrap();
    for at in 1..7 {
        assert_eq!(start(at).eval_alignment, start(0).eval_alignment);
    }
    let report = place.0.read("out/report.html");
    for part in [
        "Relative fitting difficulty",
        "Wiki.sts_ht",
        "sts_ht",
        "top-5",
    ] {
        assert!(report.contains(part), "{part}");
    }
    for plot in ["rfd", "rfd-alignment", "rfd-uniformity", "loss-loss"] {
        let path = place.0.at(&format!("out/plots/{plot}.svg"));
        assert!(fs::read_to_string(path).unwrap().contains("<svg"), "{plot}");
    }
}

#[test]
fn the_bundled_texts_and_encoder_go_through() {
    let place = NgcsePlace::new();
    let settings = [
        "--set",
        "max_steps=2",
        "--set",
        "selection.every=1",
        "--set",
        "rfd.rows=40",
    ];
    let done = place.call(&settings);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let result = place.0.json("runs/ngcse-001/result.json");
    assert_eq!(result["data"]["name"], "pocket");
    assert_eq!(result["model"]["name"], "pocket");
    let names: Vec<String> = place
        .traces("runs/ngcse-001")
        .iter()
        .map(|trace| format!("{} {}", trace.setting, trace.looks.len()))
        .collect();
    assert_eq!(names, ["dropout 3", "sts_ht 3"]);
}

#[test]
fn a_setting_is_the_same_alone_and_in_company() {
    let place = NgcsePlace::new();
    place.train("both", "nli,sts_ht", &[]);
    place.train("alone", "sts_ht", &[]);
    assert_eq!(
        place.0.rows("both", "sts_ht"),
        place.0.rows("alone", "sts_ht")
    );
    assert_eq!(place.traces("both")[1], place.traces("alone")[0]);
    let weights = |run: &str| place.0.bytes(&format!("{run}/model/model.safetensors"));
    assert!(
        weights("both") == weights("alone"),
        "model/ is that of the last setting"
    );
}

#[test]
fn a_sweep_is_several_runs_in_one_table() {
    let place = NgcsePlace::new();
    let done = place.run_well(&[
        "--setting",
        "sts_ht",
        "--sweep",
        "m1=0.3,0.005",
        "--out",
        "sweep",
        "--stages",
        "train",
    ]);
    assert!(done.stdout.contains("sts_ht m1=0.3"), "{}", done.stdout);
    place.train("one", "sts_ht", &["m1=0.3"]);
    place.train("two", "sts_ht", &["m1=0.005"]);
    for (stage, run) in [("sts_ht m1=0.3", "one"), ("sts_ht m1=0.005", "two")] {
        assert_eq!(place.0.rows("sweep", stage), place.0.rows(run, "sts_ht"));
        let losses = place.series("sweep", stage, "loss");
        assert_eq!(losses, place.series(run, "sts_ht", "loss"));
    }
    assert_ne!(
        place.series("one", "sts_ht", "loss"),
        place.series("two", "sts_ht", "loss")
    );
}

#[test]
fn without_generated_rows_there_is_only_dropout() {
    let place = NgcsePlace::new();
    place.train("dropout", "dropout", &[]);
    place.train("none", "sts_ht", &["max_generated=0"]);
    place.train("some", "sts_ht", &["max_generated=4"]);
    let losses = |run: &str, stage: &str| place.series(run, stage, "loss");
    assert_eq!(losses("none", "sts_ht"), losses("dropout", "dropout"));
    assert_ne!(losses("some", "sts_ht"), losses("dropout", "dropout"));
}

#[test]
fn batches_follow_the_numbers_asked_for() {
    let place = NgcsePlace::new();
    // About 14 of the 28 training rows are generated: as often as they fill a batch of 5.
    place.train(
        "alone",
        "sts",
        &["only_aigen=true", "aigen_batch_size=5", "batch_size=5"],
    );
    let steps = place.series("alone", "sts", "loss").len();
    assert!((2..=6).contains(&steps), "{steps}");
    place.train("few", "sts", &["max_steps=3"]);
    assert_eq!(place.series("few", "sts", "loss").len(), 3);
    // The schedule is planned for what is run: the last rate is a third of the first.
    let rates = place.series("few", "sts", "lr");
    assert!((rates[2] / rates[0] - 1.0 / 3.0).abs() < 1e-9, "{rates:?}");
    place.train("waiting", "sts", &["dropout=0"]);
    place.train("interleaved", "sts", &["dropout=0", "aigen_batch_size=0"]);
    let losses = |run: &str| place.series(run, "sts", "loss");
    assert_ne!(losses("waiting"), losses("interleaved"));
}

#[test]
fn parts_of_a_batch_give_the_losses_of_the_whole() {
    let place = NgcsePlace::new();
    place.train("whole", "sts_ht", &["dropout=0"]);
    let whole = place.series("whole", "sts_ht", "loss");
    for size in ["7", "1"] {
        place.train(
            size,
            "sts_ht",
            &["dropout=0", &format!("micro_batch={size}")],
        );
        check_close(&place.series(size, "sts_ht", "loss"), &whole, 1e-5);
    }
}

#[test]
fn options_of_the_objective_change_it() {
    let place = NgcsePlace::new();
    let first = |out: &str, settings: &[&str]| {
        let settings = [
            &["dropout=0", "max_steps=4", "aigen_batch_size=0"],
            settings,
        ]
        .concat();
        place.train(out, "sts_ht", &settings);
        place.series(out, "sts_ht", "loss")[0]
    };
    let plain = first("plain", &["m1=0.4", "m2=0.4"]);
    assert!(first("wider", &["m1=0.8", "m2=0.8"]) > plain);
    assert!(first("sum", &["m1=0.4", "m2=0.4", "ht_reduce=sum"]) > plain);
    assert!(first("lighter", &["m1=0.4", "m2=0.4", "beta=0.5"]) < plain);
    // One more row of candidates.
    assert!(first("kept", &["m1=0.4", "m2=0.4", "ht_keep_hard_neg=true"]) > plain);
    assert_ne!(
        first("similar", &["m1=0.4", "m2=0.4", "sts_positive=positive"]),
        plain
    );
    assert_ne!(
        first("headless", &["m1=0.4", "m2=0.4", "head_dim=0"]),
        plain
    );
}

#[test]
fn the_start_pulls_where_it_is_asked_to() {
    let place = NgcsePlace::new();
    place.train("free", "dropout", &[]);
    place.train("held", "dropout", &["l2_to_initial=10"]);
    let terms = place.series("held", "dropout", "loss_l2");
    assert_eq!((terms.len(), terms[0]), (8, 0.0));
    assert!(terms[1..].iter().all(|term| *term > 0.0), "{terms:?}");
    assert!(place.series("free", "dropout", "loss_l2").is_empty());
    let main = place.series("held", "dropout", "loss_main");
    assert_eq!(main[0], place.series("free", "dropout", "loss")[0]);
    // Clipped gradients aside, what is held moves less.
    let moved = |run: &str| {
        let (before, after) = (
            weights(&place, "model"),
            weights(&place, &format!("{run}/model")),
        );
        let distance = |name: &String| -> f64 {
            let pairs = before[name].iter().zip(&after[name]);
            pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum()
        };
        before
            .keys()
            .filter(|name| after.contains_key(*name))
            .map(distance)
            .sum::<f64>()
    };
    assert!(
        moved("held") < moved("free"),
        "{} {}",
        moved("held"),
        moved("free")
    );
}

/// Tensors of a model directory.
fn weights(place: &NgcsePlace, dir: &str) -> BTreeMap<String, Vec<f32>> {
    let bytes = place.0.bytes(&format!("{dir}/model.safetensors"));
    let tensors = from_safetensors(&bytes, NonFinite::Allow).unwrap();
    tensors
        .into_iter()
        .map(|(name, data)| {
            let name = name.trim_start_matches("bert.").to_owned();
            (name, data.iter::<f32>().collect())
        })
        .collect()
}

#[test]
fn embeddings_and_lower_layers_stay_where_they_are() {
    let place = NgcsePlace::new();
    let before = weights(&place, "model");
    for (out, settings, moving) in [
        (
            "frozen",
            &[][..],
            ["layer.0.", "layer.1.", "layer.2."].as_slice(),
        ),
        ("top", &["train_layers=1"], &["layer.2."]),
        (
            "all",
            &["freeze_embeddings=false"],
            &["embeddings.", "layer.0.", "layer.1.", "layer.2."],
        ),
    ] {
        place.train(out, "sts_ht", settings);
        let after = weights(&place, &format!("{out}/model"));
        for part in ["embeddings.", "layer.0.", "layer.1.", "layer.2."] {
            let of = |name: &&String| name.contains(part) && after.contains_key(*name);
            let changed = before
                .keys()
                .filter(of)
                .any(|name| before[name] != after[name]);
            assert!(before.keys().any(|name| of(&name)), "{out}: {part}");
            assert_eq!(changed, moving.contains(&part), "{out}: {part}");
        }
        // The linear layer served training only.
        let names: Vec<&String> = after.keys().collect();
        assert!(
            !names
                .iter()
                .any(|name| name.contains("mlp") || name.contains("head")),
            "{names:?}"
        );
    }
}

#[test]
fn a_template_is_trained_and_saved() {
    let place = NgcsePlace::new();
    let settings = ["pooling=mask", "max_len=9", "eval_max_len=9"];
    place.train("mask", "dropout,sts_ht", &settings);
    let result = place.0.json("mask/result.json");
    assert_eq!(result["model"]["pooling"], "mask");
    assert_eq!(result["model"]["template"], Template::NGCSE);
    let options = LoadOptions::default();
    let model =
        SentenceEncoder::load(&place.0.at("mask/model"), &options, &Device::flex()).unwrap();
    assert_eq!(model.pooling, Pooling::Mask);
    assert_eq!(model.template.unwrap().text(), Template::NGCSE);
    // The two templates tell the copies of a sentence apart, without dropout too.
    let same = ["template=what is {s} [MASK]", "template_positive="];
    let other = [
        "template=what is {s} [MASK]",
        "template_positive=now set {s} [MASK]",
    ];
    let quiet = ["dropout=0", "max_steps=1"];
    place.train("two", "dropout", &[&settings[..], &quiet, &other].concat());
    place.train("one", "dropout", &[&settings[..], &quiet, &same].concat());
    let loss = |run: &str| place.series(run, "dropout", "loss")[0];
    assert_ne!(loss("two"), loss("one"));
}

#[test]
fn a_dry_run_prints_settings_that_resolve_to_themselves() {
    let place = NgcsePlace::new();
    for more in [
        vec![],
        vec!["--setting", "nli, sts"],
        vec!["--sweep", "ht_reduce=mean,sum", "--seeds", "3,4"],
        vec!["--sweep", "m2=0.1,2"],
    ] {
        let first = place.call(&[&more[..], &["--dry-run"]].concat());
        assert_eq!((first.code, first.stderr.as_str()), (0, ""));
        place.0.write("printed.toml", &first.stdout);
        let again = place.call(&["--config", "printed.toml", "--dry-run"]);
        assert_eq!(again.code, 0, "{}", again.stderr);
        assert_eq!(again.stdout, first.stdout, "{more:?}");
    }
}

#[test]
fn leaks_are_counted_and_dropped_on_request() {
    let place = NgcsePlace::new();
    let sts = place.0.read("sts/stsb.tsv");
    let line = sts.lines().find(|line| line.starts_with("dev")).unwrap();
    let leaked = line.split('\t').nth(3).unwrap();
    let file = place.0.read("triplets.csv") + &format!("{leaked},a b c,song\n");
    place.0.write("leaky.csv", &file);
    let rows = |out: &str, drop: bool| {
        let drop = format!("drop_leaks={drop}");
        let sets = crate::common::sets(&[&drop, "nli_rows=", "sts_rows=", "held_out=0.5"]);
        let more = [&sets[..], &["--data", "leaky.csv", "--out", out]].concat();
        let done = place.run_well(&more);
        let result = place.0.json(&format!("{out}/result.json"));
        (done.stderr, result["data"]["train_rows"].as_u64().unwrap())
    };
    let (_, all) = rows("with", false);
    assert_eq!(all, 41);
    let (said, fewer) = rows("without", true);
    let note = format!(
        "{} rows with a text of an evaluation set left out",
        41 - fewer
    );
    assert!(fewer < 41 && said.contains(&note), "{said}");
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let place = NgcsePlace::new();
    let mut found = Vec::new();
    for threads in ["1", "3"] {
        let out = format!("out{threads}");
        let arguments = NgcsePlace::arguments(&["--out", &out, "--setting", "sts_ht"]);
        let done = std::process::Command::new(crate::place::BINARY)
            .args(&arguments)
            .env("RAYON_NUM_THREADS", threads)
            .current_dir(place.0.path())
            .output()
            .unwrap();
        assert!(done.status.success());
        found.push(
            ["metrics.jsonl", "traces.csv"].map(|name| place.0.bytes(&format!("{out}/{name}"))),
        );
    }
    assert!(found[0] == found[1]);
    let quiet = call(
        crate::place::BINARY,
        place.0.path(),
        &NgcsePlace::arguments(&["--quiet", "--stages", "start"]),
    );
    assert_eq!(
        (quiet.code, quiet.stdout.as_str(), quiet.stderr.as_str()),
        (0, "", "")
    );
}
