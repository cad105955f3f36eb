//! Damaged and hostile model directories: a typed error that names the file, never a panic.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use encoder::{EncoderError, LoadOptions, SentenceEncoder};
use tempfile::TempDir;

fn copy() -> TempDir {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny_bert");
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(from.join(name), dir.path().join(name)).unwrap();
    }
    dir
}

fn load(dir: &TempDir) -> Result<SentenceEncoder, EncoderError> {
    SentenceEncoder::load(dir.path(), &LoadOptions::default(), &Device::flex())
}

fn refused(dir: &TempDir, words: &[&str]) {
    let error = load(dir).err().unwrap().to_string();
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

fn weights(dir: &TempDir) -> PathBuf {
    dir.path().join("model.safetensors")
}

#[test]
fn every_missing_file_is_named() {
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        let dir = copy();
        fs::remove_file(dir.path().join(name)).unwrap();
        refused(&dir, &[name]);
    }
    let nowhere = SentenceEncoder::load(
        Path::new("no such model"),
        &LoadOptions::default(),
        &Device::flex(),
    );
    assert!(nowhere.err().unwrap().to_string().contains("no such model"));
}

#[test]
fn weights_cut_anywhere_are_refused() {
    let whole = fs::read(weights(&copy())).unwrap();
    let dir = copy();
    // Every length in the header's first kilobyte, then a spread over the rest.
    for length in (0..1024)
        .step_by(7)
        .chain((1024..whole.len()).step_by(4001))
    {
        fs::write(weights(&dir), &whole[..length]).unwrap();
        refused(&dir, &["model.safetensors"]);
    }
}

#[test]
fn a_header_of_absurd_length_is_refused() {
    let dir = copy();
    let mut bytes = fs::read(weights(&dir)).unwrap();
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(weights(&dir), bytes).unwrap();
    refused(&dir, &["model.safetensors"]);
}

#[test]
fn not_a_number_in_the_weights_is_refused_unless_allowed() {
    let dir = copy();
    let mut bytes = fs::read(weights(&dir)).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(weights(&dir), bytes).unwrap();
    refused(
        &dir,
        &[
            "model.safetensors",
            "NaN",
            "cls.predictions.transform.dense.weight",
        ],
    );
    let options = LoadOptions {
        allow_non_finite: true,
        ..LoadOptions::default()
    };
    assert!(SentenceEncoder::load(dir.path(), &options, &Device::flex()).is_ok());
}

/// Edits `config.json` as text.
fn edit(dir: &TempDir, from: &str, to: &str) {
    let path = dir.path().join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn a_configuration_of_other_shapes_lists_the_tensors() {
    let dir = copy();
    edit(
        &dir,
        "\"intermediate_size\": 40",
        "\"intermediate_size\": 48",
    );
    refused(
        &dir,
        &[
            "encoder.layer.0.intermediate.dense.weight",
            "[48, 24]",
            "[40, 24]",
        ],
    );
    let dir = copy();
    edit(&dir, "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4");
    refused(
        &dir,
        &["missing encoder.layer.3.attention.self.query.weight"],
    );
    let dir = copy();
    edit(&dir, "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2");
    refused(&dir, &["unexpected encoder.layer.2."]);
}

#[test]
fn configurations_out_of_range_name_the_field() {
    for (from, to, field) in [
        (
            "\"num_attention_heads\": 3",
            "\"num_attention_heads\": 5",
            "num_attention_heads",
        ),
        (
            "\"hidden_size\": 24",
            "\"hidden_size\": 999999999999",
            "hidden_size",
        ),
        (
            "\"hidden_act\": \"gelu\"",
            "\"hidden_act\": \"swish\"",
            "hidden_act",
        ),
        (
            "\"model_type\": \"bert\"",
            "\"model_type\": \"t5\"",
            "model_type",
        ),
        ("\"vocab_size\": 33", "\"vocab_size\": 20", "vocab_size"),
        (
            "\"vocab_size\": 33",
            "\"vocab_size\": \"many\"",
            "config.json",
        ),
        ("{", "", "config.json"),
    ] {
        let dir = copy();
        edit(&dir, from, to);
        refused(&dir, &[field]);
    }
}

#[test]
fn a_tokenizer_that_makes_the_library_panic_is_refused() {
    let dir = copy();
    let path = dir.path().join("tokenizer.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut file: serde_json::Value = serde_json::from_str(&text).unwrap();
    file["post_processor"] = serde_json::json!({
        "type": "TemplateProcessing", "pair": [], "special_tokens": {},
        "single": [{"SpecialToken": {"id": "[NOPE]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    });
    fs::write(&path, file.to_string()).unwrap();
    refused(&dir, &["tokenizer.json"]);
}

#[test]
fn modules_that_leave_the_directory_or_are_unknown_are_refused() {
    let pooling =
        r#"{"idx":1,"name":"1","path":"PATH","type":"sentence_transformers.models.KIND"}"#;
    for (path, kind, word) in [
        ("../elsewhere", "Pooling", "leaves"),
        ("/etc", "Pooling", "leaves"),
        ("2_Dense", "Dense", "Dense"),
    ] {
        let dir = copy();
        let module = pooling.replace("PATH", path).replace("KIND", kind);
        fs::write(dir.path().join("modules.json"), format!("[{module}]")).unwrap();
        refused(&dir, &["modules.json", word]);
    }
}

#[test]
fn two_pooling_modes_at_once_are_refused() {
    let dir = copy();
    fs::create_dir(dir.path().join("1_Pooling")).unwrap();
    fs::write(
        dir.path().join("1_Pooling/config.json"),
        r#"{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":true}"#,
    )
    .unwrap();
    fs::write(
        dir.path().join("modules.json"),
        r#"[{"path":"1_Pooling","type":"sentence_transformers.models.Pooling"}]"#,
    )
    .unwrap();
    refused(&dir, &["1_Pooling", "exactly one"]);
}

#[test]
fn pickled_weights_are_never_opened() {
    let dir = copy();
    fs::rename(weights(&dir), dir.path().join("pytorch_model.bin")).unwrap();
    refused(&dir, &["pickle", "safetensors"]);
}

#[test]
fn a_pooling_without_a_form_in_the_layout_is_not_saved_silently() {
    let mut encoder = load(&copy()).unwrap();
    encoder.pooling = encoder::Pooling::AvgTop2;
    let out = tempfile::tempdir().unwrap();
    assert!(
        encoder
            .save(out.path())
            .err()
            .unwrap()
            .to_string()
            .contains("avg_top2")
    );
}
