//! Options of `simcse`.

use std::collections::BTreeSet;

use burn::tensor::Device;
use encoder::{LoadOptions, Pooling, SentenceEncoder, Template};

use crate::common::{Place, ROWS, Simcse, check_close, sets};

#[test]
fn parts_of_a_batch_give_the_losses_of_the_whole() {
    let place = Place::new(Simcse);
    place.run_into("whole", &["dropout=0"]);
    let whole = place.series("whole", "loss");
    let norms = place.series("whole", "grad_norm");
    for size in ["8", "5", "1"] {
        place.run_into(size, &["dropout=0", &format!("micro_batch={size}")]);
        check_close(&place.series(size, "loss"), &whole, 1e-5);
        check_close(&place.series(size, "grad_norm"), &norms, 1e-4);
    }
}

#[test]
fn columns_of_the_file_decide_the_objective() {
    let place = Place::new(Simcse);
    let columns = |count: usize| -> String {
        let file = place.read("triplets.csv");
        let short = |line: &str| line.split(',').take(count).collect::<Vec<_>>().join(",");
        file.lines().map(|line| short(line) + "\n").collect()
    };
    place.write("pairs.csv", &columns(2));
    place.write("one.csv", &columns(1));
    let first = |data: &str, out: &str| {
        place.run_well(&["--data", data, "--out", out, "--set", "dropout=0"]);
        place.series(out, "loss")
    };
    let (three, two) = (first("triplets.csv", "three"), first("pairs.csv", "two"));
    // The sums have further terms, and all batches are the same.
    assert!(three[0] > two[0]);
    // One column, wherever it comes from: a text beside itself.
    assert_eq!(first("one.csv", "one"), first("sentences.txt", "txt"));
    // Without dropout the two copies are the same; with it they are not.
    place.run_well(&["--data", "sentences.txt", "--out", "drop"]);
    assert!(place.series("drop", "loss")[0] > place.series("txt", "loss")[0]);
}

#[test]
fn masked_words_are_a_further_term() {
    let place = Place::new(Simcse);
    place.run_into("plain", &["dropout=0"]);
    place.run_into("mlm", &["dropout=0", "mlm=true", "mlm_weight=0.5"]);
    let of = |name: &str| place.series("mlm", name);
    let (sum, main, mlm) = (of("loss"), of("loss_main"), of("loss_mlm"));
    assert_eq!(sum.len(), 10);
    for step in 0..sum.len() {
        assert!((sum[step] - main[step] - mlm[step]).abs() < 1e-6);
        assert!(mlm[step] > 0.0);
    }
    // The objective itself is the same until the masked words have changed the weights.
    let plain = place.series("plain", "loss");
    assert_eq!(main[0], plain[0]);
    assert_ne!(main[1], plain[1]);
    // The trained head goes into the model directory.
    let device = Device::flex();
    let model =
        SentenceEncoder::load(&place.at("mlm/model"), &LoadOptions::default(), &device).unwrap();
    assert!(model.mlm_head.is_some());
}

#[test]
fn a_weight_of_zero_leaves_masked_words_out_of_the_gradient() {
    let place = Place::new(Simcse);
    place.run_into("plain", &["dropout=0"]);
    place.run_into("mlm", &["dropout=0", "mlm=true", "mlm_weight=0"]);
    check_close(
        &place.series("mlm", "loss"),
        &place.series("plain", "loss"),
        1e-6,
    );
}

#[test]
fn no_duplicates_keeps_equal_texts_apart() {
    let place = Place::new(Simcse);
    // Two anchors only: no batch can have more than two rows.
    let mut file = String::from("a,b\n");
    for row in 0..20 {
        let anchor = ["play the song", "turn on the light"][row % 2];
        file += &format!(
            "{anchor},{}\n",
            "word ".repeat(row / 2 + 1) + ["now", "off"][row % 2]
        );
    }
    place.write("few.csv", &file);
    let steps = |out: &str, set: &str| {
        place.run_well(&[
            "--data", "few.csv", "--out", out, "--set", set, "--set", "epochs=1",
        ]);
        place.steps(out).len()
    };
    assert_eq!(steps("with", "no_duplicates=false"), 3);
    assert_eq!(steps("without", "no_duplicates=true"), 10);
}

#[test]
fn leaks_are_counted_and_dropped_on_request() {
    let place = Place::new(Simcse);
    // A text of the development part and one of the test part, in other writing.
    let sts = place.read("sts/stsb.tsv");
    let first = |part: &str| -> String {
        let line = sts.lines().find(|line| line.starts_with(part)).unwrap();
        line.split('\t').nth(3).unwrap().to_uppercase()
    };
    let leaked = format!(
        "{} !,a b c,song\nword,word now,{}\n",
        first("dev"),
        first("test")
    );
    place.write("leaky.csv", &(place.read("triplets.csv") + &leaked));
    let rows = |out: &str, data: &str, set: &str| {
        let done = place.run_well(&["--data", data, "--out", out, "--set", set]);
        let rows = place.json(&format!("{out}/result.json"))["data"]["train_rows"].clone();
        (rows.as_u64().unwrap() as usize, done.stderr)
    };
    let (before, _) = rows("clean", "triplets.csv", "drop_leaks=true");
    let (kept, said) = rows("kept", "leaky.csv", "drop_leaks=false");
    assert_eq!(kept, ROWS + 2);
    assert!(said.contains("leak"), "no leak report: {said}");
    let (dropped, said) = rows("dropped", "leaky.csv", "drop_leaks=true");
    assert_eq!(dropped, before);
    let count = format!("{} rows with a text of an evaluation set", kept - dropped);
    assert!(said.contains(&count), "{count}: {said}");
}

#[test]
fn batches_of_a_file_are_replayed() {
    let place = Place::new(Simcse);
    place.write("order.json", "[[0, 1, 2], [3, 4], [5, 6, 7, 8]]");
    place.write("other.json", "[[5, 6, 7, 8], [3, 4], [0, 1, 2]]");
    let losses = |out: &str, file: &str, seed: &str| {
        let set = format!("batch_order_file={file}");
        let more = sets(&["dropout=0", &set]);
        place.run_well(&[&more[..], &["--out", out, "--seeds", seed]].concat());
        place.series(out, "loss")
    };
    let given = losses("one", "order.json", "0");
    assert_eq!(given.len(), 3);
    assert_eq!(losses("two", "order.json", "1"), given);
    assert_ne!(losses("three", "other.json", "0"), given);
}

#[test]
fn the_gradient_of_several_devices_is_smaller_the_loss_is_not() {
    let place = Place::new(Simcse);
    for part in ["micro_batch=0", "micro_batch=8"] {
        let run = |out: &str, scale: &str| {
            place.run_into(
                &format!("{part}{out}"),
                &["dropout=0", "mlm=true", part, scale],
            );
            let of = |name: &str| place.series(&format!("{part}{out}"), name)[0];
            (of("loss"), of("grad_norm"))
        };
        let (loss, norm) = run("one", "ddp_grad_scale=1");
        let (scaled_loss, scaled_norm) = run("four", "ddp_grad_scale=0.25");
        check_close(&[scaled_loss], &[loss], 1e-6);
        check_close(&[scaled_norm], &[0.25 * norm], 1e-4);
    }
}

#[test]
fn the_mlp_stays_or_goes() {
    let place = Place::new(Simcse);
    for (set, pooling, stays) in [
        ("mlp_only_train=true", Pooling::Cls, false),
        ("mlp_only_train=false", Pooling::ClsMlp, true),
    ] {
        place.run_into(set, &["pooling=cls_mlp", set]);
        let dir = place.at(set).join("model");
        let model = SentenceEncoder::load(&dir, &LoadOptions::default(), &Device::flex()).unwrap();
        assert_eq!(
            (model.pooling, model.bert.pooler.is_some()),
            (pooling, stays)
        );
        let result = place.json(&format!("{set}/result.json"));
        assert_eq!(result["model"]["pooling"], "cls_mlp");
        assert_eq!(result["model"]["inference_pooling"], pooling.to_string());
    }
}

#[test]
fn second_copies_have_a_template_of_their_own() {
    let place = Place::new(Simcse);
    let lines = |count: usize| -> String {
        let file = place.read("triplets.csv");
        let short = |line: &str| line.split(',').take(count).collect::<Vec<_>>().join(",");
        file.lines().map(|line| short(line) + "\n").collect()
    };
    place.write("pairs.csv", &lines(2));
    let mut runs = 0;
    let mut first = |data: &str, more: &[&str]| {
        runs += 1;
        let out = format!("run{runs}");
        let settings = [
            &["pooling=mask", "max_len=9", "dropout=0", "max_steps=1"],
            more,
        ]
        .concat();
        let arguments = sets(&settings);
        place.run_well(&[&arguments[..], &["--data", data, "--out", &out]].concat());
        place.series(&out, "loss")[0]
    };
    // Words that the vocabulary tells apart.
    let own = "template=the {s} is [MASK]";
    let other = "template_positive=a {s} is [MASK]";
    for data in ["sentences.txt", "pairs.csv"] {
        assert_ne!(first(data, &[own]), first(data, &[own, other]), "{data}");
    }
    // Two copies in one template are one text without dropout.
    assert!(first("sentences.txt", &[own]) < first("sentences.txt", &[own, other]));
    // Where there are hard negatives, all texts have the same.
    let plain = first("triplets.csv", &[own]);
    assert_eq!(first("triplets.csv", &[own, other]), plain);
    assert_ne!(first("triplets.csv", &[]), plain);
    let ngcse = format!("template={}", Template::NGCSE);
    assert_eq!(first("triplets.csv", &[]), first("triplets.csv", &[&ngcse]));
}

#[test]
fn the_objective_has_its_options() {
    let place = Place::new(Simcse);
    let mut first = BTreeSet::new();
    let options = [
        "temperature=0.05",
        "temperature=0.1",
        "symmetric=true",
        "include_anchors=true",
        "hard_negative_weight=1",
        "pooling=cls",
    ];
    for option in options {
        place.run_into(option, &["dropout=0", "max_steps=1", option]);
        first.insert(place.series(option, "loss")[0].to_bits());
    }
    assert_eq!(first.len(), options.len(), "two options give the same loss");
}

#[test]
fn a_last_batch_of_one_row_teaches_nothing_and_breaks_nothing() {
    let place = Place::new(Simcse);
    let text: String = place
        .read("sentences.txt")
        .lines()
        .take(9)
        .map(|line| format!("{line}\n"))
        .collect();
    place.write("nine.txt", &text);
    place.run_well(&["--data", "nine.txt", "--set", "epochs=1"]);
    let (losses, norms) = (
        place.series("out", "loss"),
        place.series("out", "grad_norm"),
    );
    assert_eq!(losses.len(), 2);
    assert_eq!((losses[1], norms[1]), (0.0, 0.0));
    assert!(losses[0] > 0.0);
}

#[test]
fn training_lowers_the_loss_and_orders_the_pairs() {
    let place = Place::new(Simcse);
    place.run_into("out", &["epochs=12", "lr=0.0003", "dropout=0"]);
    let losses = place.series("out", "loss");
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (early, late) = (mean(&losses[..5]), mean(&losses[losses.len() - 5..]));
    assert!(late < 0.7 * early, "{early} to {late}");
    let scores = place.series("out", "dev_spearman");
    assert!(scores.iter().copied().fold(f64::MIN, f64::max) > scores[0]);
}
