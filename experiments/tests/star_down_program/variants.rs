//! Every method and every switch runs, and none is without effect.

use serde_json::Value;

use crate::common::Place;

/// Two steps an epoch and no picture, for the tests with many runs.
const SHORT: [&str; 4] = ["--set", "batch_size=36", "--set", "eval.tsne_points=0"];

/// Steps of the stage `stage`.
fn steps(place: &Place, run: &str, stage: &str) -> Vec<Value> {
    place
        .metrics(run)
        .into_iter()
        .filter(|row| row["stage"] == stage && row.get("loss").is_some())
        .collect()
}

fn losses(place: &Place, run: &str, stage: &str) -> Vec<f64> {
    steps(place, run, stage)
        .iter()
        .map(|row| row["loss"].as_f64().unwrap())
        .collect()
}

#[test]
fn every_policy_with_every_objective() {
    let place = Place::new();
    let mut seen: Vec<(String, Vec<f64>)> = Vec::new();
    for policy in ["down", "dna", "dna_compat", "prototype"] {
        for objective in ["info_nce", "star"] {
            let out = format!("{policy}_{objective}");
            let (policy_set, objective_set) = (
                format!("train.policy={policy}"),
                format!("train.objective={objective}"),
            );
            let more = [
                "--stages",
                "train",
                "--out",
                &out,
                "--set",
                &policy_set,
                "--set",
                &objective_set,
            ];
            place.run_well(&[&SHORT[..], &more].concat());
            let stage = match (objective, policy) {
                ("star", "down") => "star".to_owned(),
                ("star", policy) => format!("star_{policy}"),
                (_, policy) => policy.to_owned(),
            };
            let got = losses(&place, &out, &stage);
            assert_eq!(got.len(), 4, "{out}");
            assert!(got.iter().all(|loss| loss.is_finite()), "{out}: {got:?}");
            let rows = place.json(&format!("{out}/result.json"))["rows"].clone();
            assert!(
                rows.as_array()
                    .unwrap()
                    .iter()
                    .all(|row| row["stage"] == stage.as_str()),
                "{rows}"
            );
            assert!(
                place.at(&out).join("model/asterism.safetensors").is_file(),
                "{out}"
            );
            seen.push((out, got));
        }
    }
    for (index, (name, losses)) in seen.iter().enumerate() {
        for (other, others) in &seen[..index] {
            assert_ne!(losses, others, "{name} and {other} train the same");
        }
    }
}

#[test]
fn every_switch_of_the_objective_has_an_effect() {
    let place = Place::new();
    place.run_well(&[&SHORT[..], &["--stages", "star", "--out", "plain"]].concat());
    let plain = losses(&place, "plain", "star");
    for (index, set) in [
        "train.base_mode=trainable_log",
        "train.base_mode=trainable_gt1",
        "train.base_mode=fixed",
        "train.base=3",
        "train.divergence=softmax",
        "train.kl_term=false",
        "train.kl_guidance=false",
        "train.bank_head_grad=false",
        "train.gaussian_dim=8",
        "train.var_floor=0.01",
        "train.neighbor_filter=coarse",
        "train.exclude_self=true",
        "train.bank_refill=momentum",
        "train.bank_storage=f16",
        "train.weight_normalization=none",
        "train.tau=0.2",
        "train.gamma=0.5",
        "train.momentum=0.5",
        "train.rtr=0",
        "train.coarse_weight=0",
        "train.decay_bases=[5]",
        "train.decay_every=2",
        "train.topk=9",
        "train.schedule_epochs=9",
        "dropout=0",
        "optimizer.decay_order=before",
        "optimizer.clip=0",
        "optimizer.weight_decay=0.5",
        "optimizer.warmup=0.5",
        "pooling=cls",
        "pooling=avg_first_last",
        "batch_size=24",
        "lr=0.02",
        "random.init_std=0.1",
        "max_len=4",
    ]
    .into_iter()
    .enumerate()
    {
        let out = format!("out-{index}");
        place.run_well(
            &[
                &SHORT[..],
                &["--stages", "star", "--out", &out, "--set", set],
            ]
            .concat(),
        );
        let got = losses(&place, &out, "star");
        assert!(got.iter().all(|loss| loss.is_finite()), "{set}: {got:?}");
        assert_ne!(got, plain, "{set} has no effect");
        let rows = steps(&place, &out, "star");
        let values = |name: &str| {
            rows.iter()
                .map(|row| row[name].as_f64().unwrap())
                .collect::<Vec<f64>>()
        };
        match set {
            "train.base_mode=fixed" => assert!(values("base").iter().all(|base| *base == 10.0)),
            "train.kl_term=false" => assert!(values("loss_kl").iter().all(|kl| *kl == 0.0)),
            "train.base=3" => assert!((values("base")[0] - 3.0).abs() < 0.1),
            _ => {}
        }
    }
}

#[test]
fn every_switch_of_pre_training_has_an_effect() {
    let place = Place::new();
    place.run_well(&["--stages", "pretrain", "--out", "plain"]);
    let plain = losses(&place, "plain", "pretrain");
    assert_eq!(plain.len(), 4);
    for (index, set) in [
        "pretrain.mlm=false",
        "pretrain.mlm_probability=0.5",
        "pretrain.valid_fraction=0.5",
        "pretrain.epochs=2",
        "pretrain.schedule_epochs=9",
        "dropout=0",
    ]
    .into_iter()
    .enumerate()
    {
        let out = format!("out-{index}");
        place.run_well(&["--stages", "pretrain", "--out", &out, "--set", set]);
        assert_ne!(
            losses(&place, &out, "pretrain"),
            plain,
            "{set} has no effect"
        );
        let mlm = steps(&place, &out, "pretrain")
            .iter()
            .all(|row| row.get("loss_mlm").is_some());
        assert_eq!(mlm, set != "pretrain.mlm=false");
    }
}

#[test]
fn pre_training_stops_early() {
    let place = Place::new();
    place.run_well(&[
        "--stages",
        "pretrain",
        "--set",
        "pretrain.epochs=60",
        "--set",
        "pretrain.patience=1",
        "--set",
        "lr=1e-9",
    ]);
    // With next to no learning rate the first epoch stays the best; one epoch of patience.
    assert_eq!(losses(&place, "out", "pretrain").len(), 8);
}

#[test]
fn every_pooling() {
    let place = Place::new();
    for pooling in ["cls", "cls_mlp", "mean", "avg_top2", "avg_first_last"] {
        let set = format!("pooling={pooling}");
        let done = place.run_well(&["--stages", "frozen,down", "--out", pooling, "--set", &set]);
        // Python readers would compute other vectors from poolings their layout cannot express.
        let expressible = ["cls", "cls_mlp", "mean"].contains(&pooling);
        assert_eq!(
            place.at(pooling).join("model").exists(),
            expressible,
            "{pooling}"
        );
        assert_eq!(
            done.stderr.contains("model/ is not written"),
            !expressible,
            "{}",
            done.stderr
        );
        assert_eq!(
            done.stdout.contains("model/"),
            expressible,
            "{}",
            done.stdout
        );
    }
}
