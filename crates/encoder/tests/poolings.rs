//! Heads, templates, prompts and dimensions of sentence encoders, in memory and through a model
//! directory.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use encoder::{
    EncoderError, Init, LoadOptions, Pooling, Precision, Prompt, SentenceEncoder, Template,
    TextTokenizer, TokenBatch, bert::Linear, quantize, read_safetensors, write_safetensors,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const TEXTS: [&str; 4] = [
    "play the song",
    "",
    "turn off the kitchen light now please",
    "a b c",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn load_with(dir: &Path, options: &LoadOptions) -> Result<SentenceEncoder, EncoderError> {
    SentenceEncoder::load(dir, options, &Device::flex())
}

fn load(dir: &Path) -> SentenceEncoder {
    load_with(dir, &LoadOptions::default()).unwrap()
}

fn saved(encoder: &SentenceEncoder) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    encoder.save(dir.path()).unwrap();
    dir
}

fn json_of(dir: &TempDir, file: &str) -> Value {
    serde_json::from_slice(&fs::read(dir.path().join(file)).unwrap()).unwrap()
}

fn with_pooler(mut encoder: SentenceEncoder) -> SentenceEncoder {
    let hidden = encoder.config.hidden_size;
    encoder.bert.pooler = Some(Linear::new(
        hidden,
        hidden,
        &mut Init::seeded(5, 0.3, &Device::flex()),
    ));
    encoder.pooling = Pooling::ClsMlp;
    encoder
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

#[test]
fn mask_pooling_reads_the_token_before_the_last() {
    for (name, template) in [
        ("tiny_bert", "what {s} is [MASK]"),
        ("tiny_roberta", "This sentence : \"{s}\" means <mask>"),
        ("tiny_mpnet", "what {s} is {mask}"),
    ] {
        let mut encoder = load(&fixture(name));
        encoder.normalize = false;
        encoder.pooling = Pooling::Mask;
        let error = encoder.encode(&TEXTS, 4).unwrap_err();
        assert!(matches!(error, EncoderError::MissingHead { .. }), "{error}");
        encoder.set_template(template).unwrap();
        let ids = encoder.token_ids(&TEXTS, Prompt::Default).unwrap();
        let mask = encoder.tokenizer.mask_id().unwrap();
        assert!(ids.iter().all(|ids| ids[ids.len() - 2] == mask), "{name}");
        let got = encoder.encode(&TEXTS, 4).unwrap();
        for (text, ids) in ids.iter().enumerate() {
            let batch = TokenBatch::new(&[ids], &Device::flex()).unwrap();
            let states = values(encoder.bert.forward(&batch).unwrap().last);
            let width = got.dim;
            let want = &states[(ids.len() - 2) * width..(ids.len() - 1) * width];
            let worst = got
                .row(text)
                .iter()
                .zip(want)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(worst <= 1e-5, "{name} {text}: {worst}");
        }
        // The directory carries its template; Python refuses the module instead of pooling
        // otherwise.
        let dir = saved(&encoder);
        assert_eq!(
            json_of(&dir, "modules.json")[1]["type"],
            "asterism.MaskPooling"
        );
        let again = load(dir.path());
        assert_eq!(
            (again.pooling, again.template.as_ref()),
            (Pooling::Mask, encoder.template.as_ref())
        );
        assert_eq!(
            again.encode(&TEXTS, 4).unwrap().values,
            got.values,
            "{name}"
        );
    }
}

#[test]
fn a_text_is_cut_before_the_template_and_never_beyond_the_positions() {
    let mut encoder = load(&fixture("tiny_bert"));
    encoder.set_template("what {s} is [MASK]").unwrap();
    let long = ["a ".repeat(40)];
    encoder.max_len = 6;
    let length =
        |encoder: &SentenceEncoder| encoder.token_ids(&long, Prompt::None).unwrap()[0].len();
    assert_eq!(length(&encoder), 6 + 3);
    encoder.max_len = 16;
    assert_eq!(length(&encoder), 16);
}

#[test]
fn a_template_that_the_tokenizer_cannot_serve_is_refused() {
    let mut encoder = load(&fixture("tiny_bert"));
    let error = encoder
        .set_template("nothing here")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("template") && error.contains("{s}"),
        "{error}"
    );
    // The same when a directory says so.
    encoder.pooling = Pooling::Mask;
    encoder.set_template("what {s} is [MASK]").unwrap();
    let dir = saved(&encoder);
    let path = dir.path().join("1_Pooling/config.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("[MASK]", "it")).unwrap();
    let error = load_with(dir.path(), &LoadOptions::default())
        .err()
        .unwrap();
    assert!(error.to_string().contains("what {s} is it"), "{error}");
    let pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"];
    let tokenizer = TextTokenizer::from_word_pieces(&pieces).unwrap();
    assert!(Template::new("a {s} [MASK]", &tokenizer).is_ok());
}

#[test]
fn a_pooling_whose_head_is_missing_is_a_typed_error() {
    let options = LoadOptions {
        pooling: Some(Pooling::ClsMlp),
        ..LoadOptions::default()
    };
    let encoder = load_with(&fixture("tiny_bert"), &options).unwrap();
    let out = tempfile::tempdir().unwrap();
    for error in [
        encoder.encode(&TEXTS, 4).err().unwrap(),
        encoder.check_pooling().err().unwrap(),
        encoder.save(out.path()).err().unwrap(),
    ] {
        let EncoderError::MissingHead { pooling, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(pooling, "cls_mlp");
        assert!(error.to_string().contains("pooler.dense.weight"), "{error}");
    }
}

#[test]
fn the_head_of_cls_mlp_is_written_for_python_and_read_back() {
    let encoder = with_pooler(load(&fixture("tiny_bert")));
    let want = encoder.encode(&TEXTS, 4).unwrap();
    let dir = saved(&encoder);
    let modules = json_of(&dir, "modules.json");
    let kinds: Vec<&str> = modules
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|m| m["type"].as_str())
        .collect();
    assert!(
        kinds[1].ends_with("Pooling") && kinds[2].ends_with("Dense"),
        "{kinds:?}"
    );
    assert_eq!(
        json_of(&dir, "1_Pooling/config.json")["pooling_mode_cls_token"],
        true
    );
    // The pooler of the encoder and the dense module hold the same numbers.
    let weights = read_safetensors(&dir.path().join("model.safetensors"), false).unwrap();
    let dense = read_safetensors(&dir.path().join("2_Dense/model.safetensors"), false).unwrap();
    assert_eq!(weights["bert.pooler.dense.weight"], dense["linear.weight"]);
    assert_eq!(weights["bert.pooler.dense.bias"], dense["linear.bias"]);
    let again = load(dir.path());
    assert_eq!(again.pooling, Pooling::ClsMlp);
    let mut got = again.clone();
    got.normalize = encoder.normalize;
    assert_eq!(got.encode(&TEXTS, 4).unwrap(), want);

    // Another activation, another size, or no file at all.
    let config = dir.path().join("2_Dense/config.json");
    let text = fs::read_to_string(&config).unwrap();
    let refused = |words: &[&str]| {
        let error = load_with(dir.path(), &LoadOptions::default())
            .err()
            .unwrap()
            .to_string();
        for word in words {
            assert!(error.contains(word), "`{word}` is not in: {error}");
        }
    };
    fs::write(&config, text.replace("Tanh", "ReLU")).unwrap();
    refused(&["2_Dense", "ReLU", "Tanh"]);
    fs::write(&config, &text).unwrap();
    let mut narrow = dense.clone();
    for tensor in narrow.values_mut() {
        tensor.shape[0] -= 1;
        let count: usize = tensor.shape.iter().product();
        tensor.values.truncate(count);
    }
    write_safetensors(&dir.path().join("2_Dense/model.safetensors"), &narrow, None).unwrap();
    refused(&["2_Dense", "linear.weight", "[23, 24]", "[24, 24]"]);
    fs::remove_file(dir.path().join("2_Dense/model.safetensors")).unwrap();
    refused(&["2_Dense"]);
}

/// SimCSE's training code keeps its head as `mlp.dense`, beside an encoder with a prefix.
#[test]
fn the_head_of_simcse_becomes_the_pooler() {
    for (name, prefix) in [("tiny_bert", "bert."), ("tiny_roberta", "roberta.")] {
        let encoder = with_pooler(load(&fixture(name)));
        let dir = saved(&encoder);
        let path = dir.path().join("model.safetensors");
        let tensors = read_safetensors(&path, false)
            .unwrap()
            .into_iter()
            .map(|(key, tensor)| {
                (
                    key.replace(&format!("{prefix}pooler.dense"), "mlp.dense"),
                    tensor,
                )
            })
            .collect();
        write_safetensors(&path, &tensors, None).unwrap();
        assert!(tensors.contains_key("mlp.dense.weight"), "{name}");
        for file in ["modules.json", "sentence_bert_config.json"] {
            fs::remove_file(dir.path().join(file)).unwrap();
        }
        let options = LoadOptions {
            pooling: Some(Pooling::ClsMlp),
            ..LoadOptions::default()
        };
        let again = load_with(dir.path(), &options).unwrap();
        let mut want = encoder.clone();
        want.normalize = again.normalize;
        assert_eq!(
            again.encode(&TEXTS, 4).unwrap(),
            want.encode(&TEXTS, 4).unwrap(),
            "{name}"
        );
        let written =
            read_safetensors(&saved(&again).path().join("model.safetensors"), false).unwrap();
        assert!(
            written.contains_key(&format!("{prefix}pooler.dense.weight")),
            "{name}"
        );
    }
}

#[test]
fn prompts_go_in_front_and_survive_saving() {
    let dir = saved(&load(&fixture("tiny_bert")));
    let settings = dir.path().join("config_sentence_transformers.json");
    let config = json!({"__version__": {"x": "1"}, "prompts": {"query": "play the ", "document": ""},
                        "default_prompt_name": "query", "similarity_fn_name": "cosine"});
    fs::write(&settings, config.to_string()).unwrap();
    let encoder = load(dir.path());
    let with = |prompt: Prompt<'_>, text: &str| encoder.encode_with(&[text], 1, prompt).unwrap();
    let whole = with(Prompt::None, "play the song");
    assert_eq!(with(Prompt::Default, "song"), whole);
    assert_eq!(encoder.encode(&["song"], 1).unwrap(), whole);
    assert_eq!(with(Prompt::Named("query"), "song"), whole);
    assert_eq!(with(Prompt::Text("play "), "the song"), whole);
    assert_ne!(with(Prompt::Named("document"), "song"), whole);
    assert!(
        encoder
            .encode_with(&["a"], 1, Prompt::Named("passage"))
            .is_err()
    );

    // Unchanged prompts: the same bytes. Changed ones: the rest of the file stays.
    let again = saved(&encoder);
    let bytes = fs::read(again.path().join("config_sentence_transformers.json")).unwrap();
    assert_eq!(bytes, fs::read(&settings).unwrap());
    let mut changed = encoder.clone();
    changed.prompts.default = None;
    let written = json_of(&saved(&changed), "config_sentence_transformers.json");
    assert_eq!(written["default_prompt_name"], Value::Null);
    assert_eq!(written["similarity_fn_name"], "cosine");

    // Prompts that the pooling should leave out are not computed otherwise in silence.
    let pooling = dir.path().join("1_Pooling/config.json");
    let mut config = json_of(&dir, "1_Pooling/config.json");
    config["include_prompt"] = json!(false);
    fs::write(&pooling, config.to_string()).unwrap();
    let encoder = load(dir.path());
    assert!(
        encoder
            .encode(&["a"], 1)
            .unwrap_err()
            .to_string()
            .contains("include_prompt")
    );
    assert!(encoder.encode_with(&["a"], 1, Prompt::None).is_ok());
    assert_eq!(
        json_of(&saved(&encoder), "1_Pooling/config.json")["include_prompt"],
        false
    );

    fs::write(&settings, r#"{"prompts": 3}"#).unwrap();
    let error = load_with(dir.path(), &LoadOptions::default())
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("config_sentence_transformers.json"),
        "{error}"
    );
}

#[test]
fn vectors_are_cut_and_scaled_again() {
    let mut short = load(&fixture("tiny_bert"));
    short.set_truncate_dim(Some(8)).unwrap();
    let mut whole = load(&fixture("tiny_bert"));
    for normalize in [false, true] {
        short.normalize = normalize;
        whole.normalize = false;
        let (got, want) = (
            short.encode(&TEXTS, 4).unwrap(),
            whole.encode(&TEXTS, 4).unwrap(),
        );
        assert_eq!((got.dim, short.dim(), got.rows()), (8, 8, 4));
        for text in 0..4 {
            let want = &want.row(text)[..8];
            let norm: f32 = if normalize {
                want.iter().map(|v| v * v).sum::<f32>().sqrt()
            } else {
                1.0
            };
            for (a, b) in got.row(text).iter().zip(want) {
                assert!((a - b / norm).abs() < 1e-6);
            }
        }
    }
    for dim in [0, 25] {
        let error = whole.set_truncate_dim(Some(dim)).unwrap_err().to_string();
        assert!(
            error.contains("truncate_dim") && error.contains("24"),
            "{error}"
        );
    }
    let bytes = quantize(&short.encode(&TEXTS, 4).unwrap(), Precision::Int8, None).unwrap();
    assert_eq!(bytes.width, 8);
}

/// RoBERTa checkpoints of before `tokenizer.json`.
#[test]
fn a_vocabulary_and_merges_give_the_same_tokens() {
    let dir = tempfile::tempdir().unwrap();
    for file in [
        "config.json",
        "model.safetensors",
        "vocab.json",
        "merges.txt",
    ] {
        fs::copy(fixture("tiny_roberta").join(file), dir.path().join(file)).unwrap();
    }
    let (old, new) = (load(dir.path()), load(&fixture("tiny_roberta")));
    let texts = [
        "play the song",
        " play  the\tsong!",
        "",
        "naïve \u{4eca}\u{5929} \u{1f600}",
        "a <mask> b",
        "</s>x",
    ];
    let ids = |encoder: &SentenceEncoder| encoder.tokenizer.encode(&texts, 28).unwrap();
    assert_eq!(ids(&old), ids(&new));
    assert_eq!(old.tokenizer.special_ids(), new.tokenizer.special_ids());
    let specials = [
        old.tokenizer.cls_id(),
        old.tokenizer.sep_id(),
        old.tokenizer.mask_id(),
    ];
    assert_eq!(specials, [Some(0), Some(2), new.tokenizer.mask_id()]);
    assert_eq!(old.tokenizer.pad_id(), 1);

    // What is written has a tokenizer.json and keeps the older files.
    let again = saved(&old);
    assert_eq!(ids(&load(again.path())), ids(&new));
    assert!(again.path().join("merges.txt").exists());

    for (file, contents, word) in [
        ("merges.txt", "a b c", "line 1"),
        ("merges.txt", "qq zz", "vocab.json"),
        ("vocab.json", "[1]", "vocab.json"),
        ("vocab.json", r#"{"a": 0}"#, "<pad>"),
    ] {
        let kept = fs::read(dir.path().join(file)).unwrap();
        fs::write(dir.path().join(file), contents).unwrap();
        let error = load_with(dir.path(), &LoadOptions::default())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(word), "{error}");
        fs::write(dir.path().join(file), kept).unwrap();
    }
}

#[test]
fn a_list_of_word_pieces_gives_the_same_tokens() {
    for (name, cased) in [
        ("tiny_distilbert", false),
        ("tiny_mpnet", false),
        ("tiny_bert", true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(fixture(name).join(file), dir.path().join(file)).unwrap();
        }
        let tokenizer: Value =
            serde_json::from_slice(&fs::read(fixture(name).join("tokenizer.json")).unwrap())
                .unwrap();
        let mut pieces: Vec<(String, u64)> = tokenizer["model"]["vocab"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(piece, id)| (piece.clone(), id.as_u64().unwrap()))
            .collect();
        pieces.sort_by_key(|(_, id)| *id);
        let lines: Vec<String> = pieces.into_iter().map(|(piece, _)| piece).collect();
        fs::write(dir.path().join("vocab.txt"), lines.join("\n") + "\n").unwrap();
        let names = match name {
            "tiny_mpnet" => {
                json!({"cls_token": "<s>", "sep_token": {"content": "</s>"}, "pad_token": "<pad>",
                                   "mask_token": "<mask>", "unk_token": "[UNK]"})
            }
            _ => json!({"do_lower_case": !cased}),
        };
        fs::write(dir.path().join("tokenizer_config.json"), names.to_string()).unwrap();
        let (old, new) = (load(dir.path()), load(&fixture(name)));
        let texts = ["play the song", "word words unknown", "", "what is?!"];
        assert_eq!(
            old.tokenizer.encode(&texts, 16).unwrap(),
            new.tokenizer.encode(&texts, 16).unwrap(),
            "{name}"
        );
        let upper = |encoder: &SentenceEncoder| encoder.tokenizer.encode(&["PLAY"], 16).unwrap();
        assert_eq!(upper(&old) != upper(&new), cased, "{name}");
    }
}
