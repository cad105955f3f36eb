//! Bad input: exit code 2, a message that names file, line or key, and no run directory left.

use std::fs;

use crate::common::{Place, TRAIN_ROWS};
use crate::program::check_refusal;

#[test]
fn missing_data_directory() {
    Place::new().refuses(&["--data", "nowhere"], &["nowhere"]);
}

#[test]
fn empty_data_directory() {
    let place = Place::new();
    fs::create_dir(place.at("empty")).unwrap();
    place.refuses(&["--data", "empty"], &["empty", "`train`", "train.tsv"]);
}

#[test]
fn data_directory_without_test_file() {
    let place = Place::new();
    fs::remove_file(place.at("data/test.tsv")).unwrap();
    place.refuses(&[], &["data", "`test`", "test.tsv"]);
}

#[test]
fn empty_file() {
    let place = Place::new();
    for (text, words) in [
        ("", ["train.tsv", "empty"]),
        ("text\tcoarse\tfine\n", ["train.tsv", "no usable rows"]),
    ] {
        fs::write(place.at("data/train.tsv"), text).unwrap();
        place.refuses(&[], &words);
    }
}

#[test]
fn ragged_row() {
    let place = Place::new();
    // The header is line 1, so this is the sixth row.
    let mut lines: Vec<String> = place
        .read("data/train.tsv")
        .lines()
        .map(str::to_owned)
        .collect();
    lines[6] += "\tone more";
    fs::write(place.at("data/train.tsv"), lines.join("\n")).unwrap();
    place.refuses(&[], &["train.tsv:7", "4 fields", "3"]);
    lines[6] = "text only".into();
    fs::write(place.at("data/train.tsv"), lines.join("\n")).unwrap();
    place.refuses(&[], &["train.tsv:7", "1 field", "3"]);
}

#[test]
fn row_that_is_not_utf8() {
    let place = Place::new();
    let mut bytes = fs::read(place.at("data/test.tsv")).unwrap();
    let line = 1 + bytes.iter().position(|byte| *byte == b'\n').unwrap();
    bytes[line + 2] = 0xff;
    fs::write(place.at("data/test.tsv"), bytes).unwrap();
    place.refuses(&[], &["test.tsv:2", "UTF-8", "byte 2"]);
}

#[test]
fn one_coarse_class() {
    let place = Place::new();
    for split in ["train", "test"] {
        let name = format!("data/{split}.tsv");
        fs::write(
            place.at(&name),
            place.read(&name).replace("\tmedia", "\thome"),
        )
        .unwrap();
    }
    place.refuses(&[], &["train.tsv", "1 coarse", "at least 2"]);
}

#[test]
fn fine_class_with_one_row() {
    let place = Place::new();
    let mut text = place.read("data/train.tsv");
    text += "a lonely row\thome\tlonely\n";
    fs::write(place.at("data/train.tsv"), text).unwrap();
    place.refuses(
        &[],
        &["train.tsv", "single row", "`lonely`", "a lonely row"],
    );
}

#[test]
fn label_unknown_to_the_training_file() {
    let place = Place::new();
    place.edit("data/test.tsv", "\tmedia\tsong", "\tmedia\topera");
    place.refuses(&[], &["test.tsv:5", "`opera`"]);
}

#[test]
fn more_categories_than_rows() {
    let place = Place::new();
    place.refuses(&["--set", "n_fine=1000"], &["n_fine", "1000"]);
    place.refuses(&["--set", "n_fine=1"], &["n_fine", "1 fine"]);
}

#[test]
fn as_many_neighbours_as_rows() {
    let place = Place::new();
    for topk in [TRAIN_ROWS, TRAIN_ROWS + 1] {
        place.refuses(
            &["--set", &format!("train.topk={topk}")],
            &["train.topk", &topk.to_string(), &TRAIN_ROWS.to_string()],
        );
    }
}

#[test]
fn unknown_key() {
    let place = Place::new();
    place.refuses(
        &["--set", "train.temperture=1"],
        &["train.temperture", "did you mean `train."],
    );
    place.refuses(&["--set", "train.topkk=1"], &["did you mean `train.topk`"]);
    fs::write(place.at("my.toml"), "[pretrain]\nepoch = 3\n").unwrap();
    place.refuses(
        &["--config", "my.toml"],
        &[
            "my.toml",
            "pretrain.epoch",
            "did you mean `pretrain.epochs`",
        ],
    );
}

#[test]
fn config_file_that_is_missing_or_broken() {
    let place = Place::new();
    place.refuses(&["--config", "no.toml"], &["no.toml"]);
    fs::write(place.at("my.toml"), "lr = 1e-3\nseeds = [0,\n").unwrap();
    place.refuses(&["--config", "my.toml"], &["my.toml", "line 2"]);
}

#[test]
fn value_of_another_type_or_out_of_range() {
    let place = Place::new();
    for (set, words) in [
        ("train.epochs=many", ["train.epochs", "integer"]),
        ("train.epochs=-1", ["train.epochs", "-1"]),
        (
            "train.epochs=9000000000000000000",
            ["train.epochs", "at most"],
        ),
        ("lr=0", ["lr", "above 0"]),
        ("lr=nan", ["lr", "NaN"]),
        ("train.base=0", ["train.base", "above 0"]),
        ("train.gaussian_dim=0", ["train.gaussian_dim", "at least 1"]),
        ("train.decay_bases=[]", ["train.decay_bases", "[]"]),
        ("train.policy=up", ["train.policy", "prototype"]),
        ("optimizer.eps=0", ["optimizer.eps", "above 0"]),
        ("max_len=2", ["max_len", "3 to"]),
        ("random.heads=3", ["num_attention_heads", "divisor"]),
        ("pooling=max", ["pooling", "avg_top2"]),
        ("stages=[\"sleep\"]", ["stages", "sleep"]),
    ] {
        place.refuses(&["--set", set], &words);
    }
}

#[test]
fn unknown_option_or_value() {
    let place = Place::new();
    place.refuses(&["--no-such-option"], &["--no-such-option"]);
    place.refuses(&["--seeds", "one"], &["seeds", "one"]);
    place.refuses(&["--seeds", "0.5"], &["seeds", "0.5"]);
    place.refuses(&["--seeds", ""], &["seeds", "at least one"]);
    place.refuses(&["--stages", "sleep"], &["stages", "sleep"]);
    place.refuses(&["--set", "lr"], &["lr", "key=value"]);
}

#[test]
fn unknown_device() {
    Place::new().refuses(&["--device", "quantum"], &["--device", "`quantum`", "flex"]);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn device_cuda_without_its_feature() {
    let place = Place::new();
    place.refuses(
        &["--device", "cuda"],
        &["--device cuda:0", "--features cuda"],
    );
    place.refuses(
        &["--device", "cuda:3"],
        &["--device cuda:3", "--features cuda"],
    );
}

#[cfg(not(feature = "wgpu"))]
#[test]
fn device_wgpu_without_its_feature() {
    Place::new().refuses(
        &["--device", "wgpu"],
        &["--device wgpu:0", "--features wgpu"],
    );
}

#[test]
fn batch_order_that_does_not_fit() {
    let place = Place::new();
    for (text, word) in [
        ("[[0, 1], [0, 72]]", "batch 1: index 72, expected below 72"),
        ("[[0, 0]]", "batch 0: expected distinct"),
        ("[[]]", "batch 0"),
        ("[]", "at least one batch"),
        ("[[0, -1]]", "JSON list"),
        ("{", "JSON list"),
    ] {
        fs::write(place.at("order.json"), text).unwrap();
        place.refuses(
            &["--set", "batch_order_file=order.json"],
            &["order.json", word],
        );
    }
    place.refuses(&["--set", "batch_order_file=none.json"], &["none.json"]);
}

/// Runs with the fixture as model after `damage`.
fn with_damaged_model(damage: impl FnOnce(&Place), words: &[&str]) {
    let place = Place::new();
    place.model();
    damage(&place);
    place.refuses(&["--model", "model"], words);
}

#[test]
fn missing_model() {
    Place::new().refuses(&["--model", "nowhere"], &["nowhere", "config.json"]);
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        with_damaged_model(
            |place| fs::remove_file(place.at("model").join(name)).unwrap(),
            &[name],
        );
    }
}

#[test]
fn corrupt_safetensors() {
    with_damaged_model(
        |place| {
            let path = place.at("model/model.safetensors");
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
        },
        &["model.safetensors", "not a valid safetensors file"],
    );
    with_damaged_model(
        |place| fs::write(place.at("model/model.safetensors"), b"garbage").unwrap(),
        &["model.safetensors", "not a valid safetensors file"],
    );
}

/// The fixture with NaN as the last value of its weight file.
fn spoil_weights(place: &Place) {
    let path = place.at("model/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
}

#[test]
fn nan_safetensors() {
    with_damaged_model(
        spoil_weights,
        &[
            "model.safetensors",
            "NaN",
            "cls.predictions.transform.dense.weight",
            "allow_non_finite",
        ],
    );
}

#[test]
fn nan_safetensors_that_are_allowed_fail_in_the_first_step_that_uses_them() {
    let place = Place::new();
    place.model();
    spoil_weights(&place);
    let done = place.run(&[
        "--model",
        "model",
        "--set",
        "allow_non_finite=true",
        "--set",
        "pretrain.mlm=true",
    ]);
    // The run failed, the input was accepted as asked: code 1.
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("`loss_mlm` is NaN"), "{}", done.stderr);
    let rows = place.metrics("out");
    assert!(
        rows.iter().all(|row| row.get("loss").is_none()),
        "a NaN step was logged"
    );
}

#[test]
fn configuration_and_weights_of_different_shapes() {
    with_damaged_model(
        |place| {
            place.edit(
                "model/config.json",
                "\"intermediate_size\": 40",
                "\"intermediate_size\": 48",
            )
        },
        &[
            "model.safetensors",
            "encoder.layer.0.intermediate.dense.weight",
            "[48, 24]",
            "[40, 24]",
        ],
    );
    with_damaged_model(
        |place| {
            place.edit(
                "model/config.json",
                "\"num_hidden_layers\": 3",
                "\"num_hidden_layers\": 4",
            )
        },
        &["model.safetensors", "missing encoder.layer.3."],
    );
}

#[test]
fn configuration_out_of_range() {
    with_damaged_model(
        |place| {
            place.edit(
                "model/config.json",
                "\"hidden_size\": 24",
                "\"hidden_size\": 25",
            )
        },
        &["config.json", "num_attention_heads"],
    );
}

#[test]
fn tokenizer_that_makes_the_library_panic() {
    with_damaged_model(
        |place| {
            let mut file = place.json("model/tokenizer.json");
            file["post_processor"] = serde_json::json!({
                "type": "TemplateProcessing", "pair": [], "special_tokens": {},
                "single": [
                    {"SpecialToken": {"id": "[NOPE]", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                ],
            });
            fs::write(place.at("model/tokenizer.json"), file.to_string()).unwrap();
        },
        &["tokenizer.json", "not a usable tokenizer"],
    );
}

#[test]
fn longer_than_the_model_allows() {
    let place = Place::new();
    place.model();
    place.refuses(
        &["--model", "model", "--set", "max_len=17"],
        &["max_len", "16 positions", "17"],
    );
}

#[test]
fn out_directory_of_someone_else_is_left_alone() {
    let place = Place::new();
    fs::create_dir(place.at("thesis")).unwrap();
    fs::write(place.at("thesis/thesis.tex"), "words").unwrap();
    let done = place.run(&["--out", "thesis"]);
    check_refusal(&done, &["thesis", "thesis.tex", "not a run directory"]);
    assert_eq!(fs::read_dir(place.at("thesis")).unwrap().count(), 1);
    assert_eq!(place.read("thesis/thesis.tex"), "words");
    fs::write(place.at("file"), "words").unwrap();
    let done = place.run(&["--out", "file"]);
    check_refusal(&done, &["file"]);
    assert_eq!(place.read("file"), "words");
}

#[test]
fn out_directory_with_a_run_is_not_overwritten() {
    let place = Place::new();
    place.run_well(&["--stages", "frozen"]);
    let before = place.read("out/result.json");
    let done = place.run(&["--stages", "tfidf"]);
    check_refusal(&done, &["out", "already holds a run"]);
    assert_eq!(place.read("out/result.json"), before);
}

#[test]
fn resuming_what_is_no_run() {
    let place = Place::new();
    check_refusal(&place.program(&["--resume", "nowhere"]), &["nowhere"]);
    check_refusal(&place.program(&["--resume", "data"]), &["data"]);
    check_refusal(
        &place.program(&["--resume", "data", "--seeds", "1"]),
        &["--resume", "--seeds"],
    );
}

#[test]
fn resuming_with_other_data_or_another_model() {
    let place = Place::new();
    place.model();
    place.run_well(&["--model", "model", "--stages", "frozen"]);
    let before = place.read("out/result.json");
    let train = place.read("data/train.tsv");
    place.edit("data/train.tsv", "light", "lamp");
    check_refusal(&place.program(&["--resume", "out"]), &["data files differ"]);
    fs::write(place.at("data/train.tsv"), train).unwrap();
    let path = place.at("model/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&1.5f32.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    check_refusal(
        &place.program(&["--resume", "out"]),
        &["model files differ"],
    );
    assert_eq!(place.read("out/result.json"), before);
}

#[test]
fn damaged_checkpoints() {
    let place = Place::new();
    place.run_well(&["--stages", "frozen"]);
    for entry in fs::read_dir(place.at("out/checkpoints")).unwrap() {
        let file = entry.unwrap().path().join("run.json");
        let mut bytes = fs::read(&file).unwrap();
        bytes[3] ^= 1;
        fs::write(file, bytes).unwrap();
    }
    check_refusal(
        &place.program(&["--resume", "out"]),
        &["no usable checkpoint", "run.json"],
    );
}
