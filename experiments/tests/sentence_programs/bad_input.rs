//! Bad input: exit code 2, a message that names file, line or key, and no run directory left.

use std::fs;

use crate::common::{Place, Program, RegressionSts, Simcse, sets};
use crate::parity::safetensors;
use crate::program::check_refusal;

/// A program with one setting that it must refuse.
fn refuses(program: Program, settings: &[(&str, &[&str])]) {
    let place = Place::new(program);
    for (set, words) in settings {
        place.refuses(&["--set", set], words);
    }
}

#[test]
fn a_batch_of_one_has_no_negatives() {
    refuses(
        Simcse,
        &[("batch_size=1", &["batch_size", "at least 2", "found 1"])],
    );
    let place = Place::new(Simcse);
    place.write("order.json", "[[0, 1], [2]]");
    let order = ["--set", "batch_order_file=order.json"];
    place.refuses(
        &[&order[..], &["--data", "sentences.txt"]].concat(),
        &["order.json", "batch 1", "at least 2"],
    );
    // With a hard negative one row is enough.
    place.run_well(&order);
    place.write("one.txt", "play the song\n");
    let place = Place::new(Simcse);
    place.write("one.txt", "play the song\n");
    place.refuses(&["--data", "one.txt"], &["one.txt", "at least 2 rows"]);
}

#[test]
fn values_out_of_range() {
    refuses(
        Simcse,
        &[
            ("temperature=0", &["temperature", "above 0"]),
            ("temperature=nan", &["temperature", "NaN"]),
            (
                "hard_negative_weight=inf",
                &["hard_negative_weight", "finite"],
            ),
            ("lr=-1", &["lr", "above 0", "-1"]),
            ("epochs=0", &["epochs", "at least 1"]),
            ("epochs=many", &["epochs", "integer"]),
            ("dropout=1", &["dropout", "below 1"]),
            ("pooling=max", &["pooling", "avg_top2"]),
            ("template={s} [MASK]", &["template", "without pooling=mask"]),
            ("template_positive={s} [MASK]", &["template_positive"]),
            // Nine tokens and the template of seven would fit.
            ("pooling=mask", &["max_len", "at most 9", "template"]),
            ("mlm_probability=0", &["mlm_probability", "above 0"]),
            ("ddp_grad_scale=0", &["ddp_grad_scale", "above 0"]),
            ("optimizer.warmup=2", &["optimizer.warmup", "0 to 1"]),
            ("optimizer.eps=0", &["optimizer.eps", "above 0"]),
            ("selection.batch_size=0", &["selection.batch_size"]),
            ("max_len=2", &["max_len", "at least 3"]),
            ("max_len=17", &["max_len", "16 positions", "17"]),
            ("stages=[\"sleep\"]", &["stages", "sleep"]),
            ("pooling=avg_first_last", &["pooling", "model directory"]),
        ],
    );
    refuses(
        RegressionSts,
        &[
            ("nli.k=0", &["nli.k", "above 0"]),
            ("stage2.x0=-1", &["stage2.x0", "at least 0"]),
            ("nli.batch_size=0", &["nli.batch_size"]),
            ("stage2.lr=nan", &["stage2.lr", "NaN"]),
            ("left_clamp=some", &["left_clamp", "label_min_only"]),
            ("label_quantize=floor", &["label_quantize", "truncate"]),
            ("dedup_against_eval=all", &["dedup_against_eval", "texts"]),
            ("schedule=none", &["schedule", "textbook"]),
            ("embedding_lr=none", &["embedding_lr", "decayed"]),
            ("layer_decay=0", &["layer_decay", "above 0"]),
            ("loader_devices=0", &["loader_devices", "at least 1"]),
            ("pooling=mask", &["max_len", "at most 9", "template"]),
            ("max_len=17", &["max_len", "16 positions", "17"]),
        ],
    );
}

#[test]
fn what_cannot_be_accumulated() {
    refuses(
        Simcse,
        &[
            ("accumulate=2", &["no `accumulate` here", "micro_batch"]),
            ("devices=[\"flex\"]", &["no `devices` here", "micro_batch"]),
        ],
    );
    refuses(
        RegressionSts,
        &[
            ("accumulate=0", &["accumulate", "at least 1"]),
            ("devices=[\"gpu\"]", &["unknown device `gpu`"]),
            ("devices=flex", &["devices", "expected array"]),
            (
                "devices=[\"ndarray\"]",
                &["device: expected auto, or ndarray"],
            ),
        ],
    );
    let place = Place::new(RegressionSts);
    let both = sets(&["accumulate=2", "micro_batch=4"]);
    place.refuses(&both, &["micro_batch: expected 0"]);
}

#[test]
fn unknown_names_get_a_suggestion() {
    for program in Program::ALL {
        refuses(
            program,
            &[
                ("selection.evry=1", &["did you mean `selection.every`"]),
                ("poling=mean", &["did you mean `pooling`"]),
                ("max_length=9", &["did you mean `max_len`"]),
            ],
        );
        let place = Place::new(program);
        place.write("my.toml", "[optimizer]\nclip = 1\nclipp = 2\n");
        place.refuses(
            &["--config", "my.toml"],
            &[
                "my.toml",
                "optimizer.clipp",
                "did you mean `optimizer.clip`",
            ],
        );
        place.refuses(&["--config", "no.toml"], &["no.toml"]);
        place.refuses(&["--no-such-option"], &["--no-such-option"]);
        place.refuses(&["--seeds", ""], &["seeds", "at least one"]);
        place.refuses(&["--device", "quantum"], &["--device", "`quantum`", "flex"]);
    }
    refuses(
        RegressionSts,
        &[
            ("nli.los=mse", &["did you mean `nli.loss`"]),
            ("nli.loss=smooth_k3", &["loss", "smooth_k2", "smooth_k3"]),
            ("stage2.loss=", &["loss", "cross_entropy"]),
        ],
    );
}

#[test]
fn missing_files() {
    for program in Program::ALL {
        let place = Place::new(program);
        place.refuses(&["--data", "nowhere.csv"], &["nowhere.csv"]);
        place.refuses(&["--data", ""], &["data"]);
        place.refuses(&["--model", "nowhere"], &["nowhere", "config.json"]);
        place.refuses(&["--set", "sts=nowhere"], &["nowhere"]);
        place.refuses(&["--set", "batch_order_file=no.json"], &["no.json"]);
        fs::create_dir(place.at("empty")).unwrap();
        place.refuses(&["--set", "sts=empty"], &["empty", "stsb.tsv"]);
    }
    let place = Place::new(RegressionSts);
    place.refuses(&["--set", "scored=nowhere.tsv"], &["nowhere.tsv"]);
    place.refuses(
        &["--set", "head_init_file=no.safetensors"],
        &["no.safetensors"],
    );
}

#[test]
fn a_text_file_where_pairs_are_needed() {
    let place = Place::new(RegressionSts);
    place.refuses(
        &["--data", "sentences.txt"],
        &["sentences.txt:1", "unknown header", "gold_label"],
    );
    place.refuses(
        &["--set", "scored=sentences.txt"],
        &["sentences.txt:1", "unknown header", "score"],
    );
    // Columns without labels.
    place.refuses(&["--data", "triplets.csv"], &["triplets.csv:1", "label"]);
    place.refuses(
        &["--set", "scored=triplets.csv"],
        &["triplets.csv:1", "score"],
    );
}

#[test]
fn a_wrong_number_of_columns_has_its_line() {
    let place = Place::new(Simcse);
    let mut lines: Vec<String> = place
        .read("triplets.csv")
        .lines()
        .map(str::to_owned)
        .collect();
    lines[6] += ",one more";
    place.write("triplets.csv", &lines.join("\n"));
    place.refuses(&[], &["triplets.csv:7", "4 fields", "3"]);
    place.write("four.csv", "a,b,c,d\n1,2,3,4\n");
    place.refuses(&["--data", "four.csv"], &["four.csv:1", "4 columns"]);

    for file in ["pairs.tsv", "scored.tsv", "sts/stsb.tsv"] {
        let place = Place::new(RegressionSts);
        let mut lines: Vec<String> = place.read(file).lines().map(str::to_owned).collect();
        let width = lines[0].split('\t').count();
        lines[4] += "\tone more";
        place.write(file, &lines.join("\n"));
        let found = format!("{} fields", width + 1);
        place.refuses(&[], &[&format!("{file}:5"), &found]);
    }
}

#[test]
fn unknown_labels() {
    let place = Place::new(RegressionSts);
    place.edit("pairs.tsv", "neutral", "maybe");
    place.refuses(&[], &["pairs.tsv:3", "`maybe`", "entailment"]);
}

#[test]
fn scores_that_are_none() {
    for (score, words) in [
        ("", &["has no score"][..]),
        ("NaN", &["NaN"]),
        ("inf", &["inf"]),
        ("7", &["7", "0 to 5"]),
        ("-1", &["-1", "0 to 5"]),
        ("high", &["`high`", "not a number"]),
    ] {
        let place = Place::new(RegressionSts);
        place.edit("scored.tsv", "\n2\t", &format!("\n{score}\t"));
        let line = ["scored.tsv:3"];
        place.refuses(&[], &[&line, words].concat());
        if score.is_empty() {
            // SentEval's own rule: a task pair without a score is left out.
            continue;
        }
        for program in Program::ALL {
            let place = Place::new(program);
            place.edit("sts/stsb.tsv", "dev\tx\t3\t", &format!("dev\tx\t{score}\t"));
            place.refuses(&[], &["stsb.tsv:21"]);
        }
    }
}

#[test]
fn a_task_folder_without_development_part() {
    for program in Program::ALL {
        let place = Place::new(program);
        let text: String = place
            .read("sts/stsb.tsv")
            .lines()
            .filter(|line| !line.starts_with("dev"))
            .map(|line| format!("{line}\n"))
            .collect();
        place.write("sts/stsb.tsv", &text);
        place.refuses(&[], &["sts", "development", "STS-B"]);
        fs::remove_file(place.at("sts/stsb.tsv")).unwrap();
        place.refuses(&[], &["sts", "development", "STS-B"]);
    }
}

#[test]
fn nothing_left_to_train_on() {
    let place = Place::new(RegressionSts);
    let sts = place.read("sts/stsb.tsv");
    let line = sts.lines().find(|line| line.starts_with("test")).unwrap();
    let fields: Vec<&str> = line.split('\t').collect();
    let only = format!(
        "score\tsentence1\tsentence2\n5\t{}\t{}\n",
        fields[3], fields[4]
    );
    place.write("scored.tsv", &only);
    place.refuses(
        &["--set", "dedup_against_eval=pairs"],
        &["stage 2", "no pairs left"],
    );
}

#[test]
fn a_pooler_that_the_model_lacks() {
    let place = Place::new(Simcse);
    let more = sets(&["pooling=cls_mlp", "new_mlp=false"]);
    place.refuses(&more, &["cls_mlp", "pooler"]);
    // A new one needs none.
    place.run_well(&["--set", "pooling=cls_mlp"]);
    let place = Place::new(RegressionSts);
    place.refuses(&["--set", "pooling=cls_mlp"], &["cls_mlp", "pooler"]);
}

#[test]
fn batches_that_do_not_fit() {
    for program in Program::ALL {
        let place = Place::new(program);
        for (text, word) in [
            ("[[0, 1], [0, 40]]", "batch 1: index 40, expected below 40"),
            ("[[0, 0]]", "batch 0: expected distinct"),
            ("[]", "at least one batch"),
            ("[[0, -1]]", "JSON list"),
        ] {
            place.write("order.json", text);
            place.refuses(
                &["--set", "batch_order_file=order.json"],
                &["order.json", word],
            );
        }
    }
}

#[test]
fn a_head_that_does_not_fit() {
    let place = Place::new(RegressionSts);
    let bias = ("bias", vec![1], vec![0.0]);
    let weight = |shape: [usize; 2], value: f64| {
        let count = shape[0] * shape[1];
        ("weight", shape.to_vec(), vec![value; count])
    };
    for (file, word) in [
        (b"garbage".to_vec(), "safetensors"),
        (
            safetensors(std::slice::from_ref(&bias)),
            "`weight` of shape [1, 72], found none",
        ),
        (
            safetensors(&[weight([72, 1], 0.0), bias.clone()]),
            "found [72, 1]",
        ),
        (safetensors(&[weight([1, 72], 0.0)]), "`bias`"),
        (
            safetensors(&[weight([1, 72], f64::NAN), bias.clone()]),
            "weight",
        ),
    ] {
        fs::write(place.at("head.safetensors"), file).unwrap();
        place.refuses(
            &["--set", "head_init_file=head.safetensors"],
            &["head.safetensors", word],
        );
    }
}

#[test]
fn weights_that_are_not_finite() {
    for program in Program::ALL {
        let place = Place::new(program);
        let mut bytes = place.bytes("model/model.safetensors");
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(place.at("model/model.safetensors"), bytes).unwrap();
        place.refuses(&[], &["model.safetensors", "NaN", "allow_non_finite"]);
    }
}

#[test]
fn a_directory_of_someone_else_is_left_alone() {
    for program in Program::ALL {
        let place = Place::new(program);
        fs::create_dir(place.at("thesis")).unwrap();
        place.write("thesis/thesis.tex", "words");
        let done = place.run(&["--out", "thesis"]);
        check_refusal(&done, &["thesis", "not a run directory"]);
        assert_eq!(place.read("thesis/thesis.tex"), "words");
        place.run_well(&["--stages", "start"]);
        let before = place.read("out/result.json");
        check_refusal(&place.run(&[]), &["out", "already holds a run"]);
        assert_eq!(place.read("out/result.json"), before);
        check_refusal(&place.call(&["--resume", "sts"]), &["sts"]);
    }
}
