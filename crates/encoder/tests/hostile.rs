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
fn a_configuration_that_asks_for_terabytes_is_refused_before_they_are_taken() {
    for (from, to) in [
        ("\"vocab_size\": 33", "\"vocab_size\": 10000000"),
        (
            "\"intermediate_size\": 40",
            "\"intermediate_size\": 1000000",
        ),
        ("\"hidden_size\": 24", "\"hidden_size\": 65535"),
    ] {
        let dir = copy();
        edit(&dir, from, to);
        refused(&dir, &["model.safetensors", "config.json ask for"]);
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

/// A safetensors file: length of the header, header, data.
fn container(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

mod containers {
    //! Weight files by themselves, small enough to be damaged in every way.

    use super::*;
    use encoder::{WeightTensor, read_safetensors};
    use std::collections::BTreeMap;

    fn read(bytes: &[u8]) -> Result<BTreeMap<String, WeightTensor>, EncoderError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        fs::write(&path, bytes).unwrap();
        read_safetensors(&path, false)
    }

    /// The message, which names the file.
    fn said(bytes: &[u8]) -> String {
        let said = match read(bytes) {
            Ok(tensors) => format!("taken: {tensors:?}"),
            Err(error) => error.to_string(),
        };
        assert!(said.contains("model.safetensors"), "{said}");
        said
    }

    const TWO: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]}}"#;
    const DATA: [u8; 12] = [0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 0x80, 0x3f, 0, 0x40];

    #[test]
    fn cut_at_every_byte() {
        let whole = container(TWO, &DATA);
        let tensors = read(&whole).unwrap();
        assert_eq!(tensors["a"].values, [1.0, 2.0]);
        assert_eq!(tensors["b"].values, [1.0, 2.0]);
        for length in 0..whole.len() {
            said(&whole[..length]);
        }
        // And one byte too many, which could hide another file.
        said(&[&whole[..], b"x"].concat());
    }

    #[test]
    fn one_bit_flipped_anywhere_in_the_header_is_an_error_or_harmless() {
        let whole = container(TWO, &DATA);
        for at in 0..whole.len() - DATA.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                if let Ok(tensors) = read(&bytes) {
                    for (name, tensor) in tensors {
                        let elements: usize = tensor.shape.iter().product();
                        assert_eq!(elements, tensor.values.len(), "{name} after {at}.{bit}");
                    }
                }
            }
        }
    }

    #[test]
    fn headers_of_any_length_are_refused() {
        let length = TWO.len() as u64;
        for wrong in [
            0,
            1,
            length - 1,
            length + 1,
            length + 12,
            length + 13,
            100_000_000,
            100_000_001,
            u64::from(u32::MAX),
            i64::MAX as u64,
            u64::MAX - 7,
            u64::MAX,
        ] {
            let mut bytes = container(TWO, &DATA);
            bytes[..8].copy_from_slice(&wrong.to_le_bytes());
            said(&bytes);
        }
    }

    #[test]
    fn overlaps_holes_and_overflows_are_refused() {
        let max = u64::MAX;
        for header in [
            // Overlap, a hole, the wrong order, the same place twice.
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#,
            r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[12,0]}}"#,
            r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},"b":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}"#,
            // Past the end, too short, too long for the shape.
            r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#,
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,12]}}"#,
            r#"{"a":{"dtype":"F64","shape":[3],"data_offsets":[0,12]}}"#,
            // No such type, no shape, a negative one, one that is no number.
            r#"{"a":{"dtype":"F31","shape":[3],"data_offsets":[0,12]}}"#,
            r#"{"a":{"dtype":"F32","data_offsets":[0,12]}}"#,
            r#"{"a":{"dtype":"F32","shape":[-3],"data_offsets":[0,12]}}"#,
            r#"{"a":{"dtype":"F32","shape":["3"],"data_offsets":[0,12]}}"#,
            "[]",
            "{",
            "null",
            "\u{0}",
        ] {
            said(&container(header, &DATA));
        }
        // Products that wrap around 64 bits.
        for shape in [
            format!("[{max},{max}]"),
            "[4294967296,4294967296]".to_owned(),
            "[4611686018427387907]".to_owned(),
            "[9223372036854775808,2,3]".to_owned(),
        ] {
            let header =
                format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,12]}}}}"#);
            said(&container(&header, &DATA));
        }
        // Offsets that wrap.
        let header = format!(
            r#"{{"a":{{"dtype":"F32","shape":[3],"data_offsets":[{},{max}]}}}}"#,
            max - 11
        );
        said(&container(&header, &DATA));
    }

    #[test]
    fn a_header_that_is_no_text_or_nested_without_end_is_refused() {
        let mut bytes = container(TWO, &DATA);
        bytes[20] = 0xff;
        said(&bytes);
        said(&container(&"[".repeat(1_000_000), &DATA));
        said(&container(&"{\"a\":".repeat(1_000_000), &DATA));
    }

    #[test]
    fn values_that_are_not_finite_are_refused_in_every_type() {
        let nan = [
            ("F32", 4, f32::NAN.to_le_bytes().to_vec()),
            ("F32", 4, f32::NEG_INFINITY.to_le_bytes().to_vec()),
            ("F64", 8, f64::NAN.to_le_bytes().to_vec()),
            // Finite, but not as an f32.
            ("F64", 8, 1e300f64.to_le_bytes().to_vec()),
            ("F16", 2, 0x7c00u16.to_le_bytes().to_vec()),
            ("F16", 2, 0x7e00u16.to_le_bytes().to_vec()),
            ("BF16", 2, 0x7f80u16.to_le_bytes().to_vec()),
            ("BF16", 2, 0xffc0u16.to_le_bytes().to_vec()),
        ];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        for (kind, size, value) in nan {
            let header = format!(
                r#"{{"layer.weight":{{"dtype":"{kind}","shape":[2],"data_offsets":[0,{}]}}}}"#,
                2 * size
            );
            let data = [vec![0; size], value].concat();
            let bytes = container(&header, &data);
            let said = said(&bytes);
            assert!(said.contains("layer.weight"), "{kind}: {said}");
            fs::write(&path, bytes).unwrap();
            let allowed = read_safetensors(&path, true).unwrap();
            assert!(!allowed["layer.weight"].values[1].is_finite(), "{kind}");
        }
    }

    #[test]
    fn a_tensor_of_another_type_is_missing_by_name() {
        // The file of a whole model in which one float tensor is declared as integers.
        let dir = copy();
        let bytes = fs::read(weights(&dir)).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = std::str::from_utf8(&bytes[8..8 + length]).unwrap();
        let mut header: serde_json::Value = serde_json::from_str(header).unwrap();
        let name = header
            .as_object()
            .unwrap()
            .keys()
            .find(|name| name.ends_with("embeddings.word_embeddings.weight"))
            .unwrap()
            .clone();
        header[&name]["dtype"] = "I32".into();
        fs::write(
            weights(&dir),
            container(&header.to_string(), &bytes[8 + length..]),
        )
        .unwrap();
        refused(&dir, &["missing embeddings.word_embeddings.weight"]);
    }

    #[test]
    fn an_empty_tensor_is_empty() {
        let header = r#"{"a":{"dtype":"F32","shape":[0,5],"data_offsets":[0,0]}}"#;
        let tensors = read(&container(header, &[])).unwrap();
        assert_eq!(
            (tensors["a"].shape.as_slice(), tensors["a"].values.len()),
            (&[0, 5][..], 0)
        );
    }
}

mod tokenizers {
    //! Files on which version 0.23.2 of the tokenizer library panics, and files of absurd size.

    use super::*;
    use encoder::TextTokenizer;

    const WORD_PIECE: &str = r#"{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"\u0023\u0023","max_input_chars_per_word":100,"vocab":{"[PAD]":0,"[UNK]":1,"a":2}}"#;

    /// A file with some fields replaced.
    fn tokenizer(fields: &[(&str, &str)]) -> String {
        let mut file = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        });
        file["model"] = serde_json::from_str(WORD_PIECE).unwrap();
        for (name, value) in fields {
            file[name] = serde_json::from_str(value).unwrap();
        }
        file.to_string()
    }

    /// The directory's tokenizer is this file; loading it says what is wrong.
    fn told(content: &[u8]) -> String {
        let dir = copy();
        fs::write(dir.path().join("tokenizer.json"), content).unwrap();
        let said = load(&dir).err().unwrap().to_string();
        assert!(said.contains("tokenizer.json"), "{said}");
        said
    }

    #[test]
    fn a_merge_longer_than_any_piece() {
        let model = r#"{"type":"BPE","vocab":{"[PAD]":0,"a":1,"b":2},"merges":["aaaaaaaa b"]}"#;
        told(tokenizer(&[("model", model)]).as_bytes());
    }

    #[test]
    fn a_precompiled_map_that_is_nonsense() {
        let map = r#"{"type":"Precompiled","precompiled_charsmap":"AAAA"}"#;
        told(tokenizer(&[("normalizer", map)]).as_bytes());
    }

    #[test]
    fn a_precompiled_map_that_is_null() {
        let map = r#"{"type":"Precompiled","precompiled_charsmap":null}"#;
        told(tokenizer(&[("normalizer", map)]).as_bytes());
    }

    #[test]
    fn a_template_with_a_special_token_that_nobody_defined() {
        let template = r#"{"type":"TemplateProcessing","pair":[],"special_tokens":{},
            "single":[{"SpecialToken":{"id":"[NOPE]","type_id":0}},{"Sequence":{"id":"A","type_id":0}}]}"#;
        told(tokenizer(&[("post_processor", template)]).as_bytes());
    }

    #[test]
    fn an_unknown_token_that_is_not_in_the_vocabulary() {
        let model = WORD_PIECE.replace("\"[UNK]\":1,", "");
        told(tokenizer(&[("model", &model)]).as_bytes());
    }

    #[test]
    fn an_empty_file_and_no_json() {
        for content in [
            &b""[..],
            b" ",
            b"\0\x01",
            b"{",
            b"null",
            b"[]",
            b"\xff\xfe{}",
        ] {
            told(content);
        }
    }

    #[test]
    fn nested_without_end() {
        for open in [
            "[",
            "{\"model\":",
            "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[",
        ] {
            told(open.repeat(200_000).as_bytes());
        }
    }

    #[test]
    fn a_hundred_megabytes_are_refused_by_their_size() {
        let dir = copy();
        // A hole in the file system: nothing is written and nothing may be read.
        let path = dir.path().join("tokenizer.json");
        fs::File::create(&path)
            .unwrap()
            .set_len(100_000_000)
            .unwrap();
        refused(&dir, &["tokenizer.json", "100000000", "at most"]);
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            let dir = copy();
            fs::File::create(dir.path().join(name))
                .unwrap()
                .set_len(100_000_000)
                .unwrap();
            refused(&dir, &[name, "at most"]);
        }
    }

    #[test]
    fn a_good_file_cut_at_every_byte() {
        let good = tokenizer(&[]);
        assert!(TextTokenizer::from_bytes(good.as_bytes(), "good").is_ok());
        for length in 0..good.len() {
            assert!(TextTokenizer::from_bytes(&good.as_bytes()[..length], "cut").is_err());
        }
    }

    #[test]
    fn a_stride_above_the_length_does_not_matter() {
        // The library accepts it; our own truncation replaces what the file says.
        let truncation =
            r#"{"direction":"Right","max_length":4,"strategy":"LongestFirst","stride":9}"#;
        let file = tokenizer(&[("truncation", truncation)]);
        let tokenizer = TextTokenizer::from_bytes(file.as_bytes(), "stride").unwrap();
        let ids = tokenizer.encode(&["a"], 16).unwrap();
        assert_eq!(ids, [[2]]);
    }
}

mod families {
    //! The same for the families beside BERT.

    use super::*;

    const FAMILIES: [&str; 6] = [
        "roberta",
        "distilbert",
        "mpnet",
        "nomic_bert",
        "jina_bert",
        "modernbert",
    ];

    fn copy_of(family: &str) -> TempDir {
        let from =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/tiny_{family}"));
        let dir = tempfile::tempdir().unwrap();
        for name in ["config.json", "model.safetensors", "tokenizer.json"] {
            fs::copy(from.join(name), dir.path().join(name)).unwrap();
        }
        dir
    }

    #[test]
    fn an_unknown_family_lists_the_known_ones() {
        let dir = copy_of("roberta");
        edit(&dir, "\"roberta\"", "\"deberta-v2\"");
        refused(
            &dir,
            &[
                "model_type",
                "deberta-v2",
                "bert",
                "roberta",
                "distilbert",
                "mpnet",
                "nomic_bert",
                "modernbert",
                "Jina",
            ],
        );
    }

    #[test]
    fn heads_that_do_not_divide_the_width_are_refused() {
        for (family, field) in [
            ("roberta", "num_attention_heads"),
            ("distilbert", "n_heads"),
            ("mpnet", "num_attention_heads"),
            ("nomic_bert", "num_attention_heads"),
            ("jina_bert", "num_attention_heads"),
            ("modernbert", "num_attention_heads"),
        ] {
            let heads = if family == "jina_bert" { 6 } else { 4 };
            for bad in ["5", "0", "-1", "18446744073709551615"] {
                let dir = copy_of(family);
                edit(
                    &dir,
                    &format!("\"{field}\": {heads}"),
                    &format!("\"{field}\": {bad}"),
                );
                refused(&dir, &["config.json"]);
            }
        }
        // Rotary heads pair their halves.
        for family in ["nomic_bert", "modernbert"] {
            let dir = copy_of(family);
            edit(
                &dir,
                "\"num_attention_heads\": 4",
                "\"num_attention_heads\": 8",
            );
            refused(&dir, &["num_attention_heads", "even"]);
        }
    }

    #[test]
    fn weights_of_other_shapes_are_listed_by_their_names() {
        for (family, edits, words) in [
            (
                "roberta",
                (
                    "\"max_position_embeddings\": 30",
                    "\"max_position_embeddings\": 31",
                ),
                [
                    "roberta",
                    "embeddings.position_embeddings.weight",
                    "[31, 24]",
                    "[30, 24]",
                ],
            ),
            (
                "distilbert",
                ("\"hidden_dim\": 28", "\"hidden_dim\": 30"),
                [
                    "transformer.layer.0.ffn.lin1.weight",
                    "transformer.layer.1.ffn.lin2.weight",
                    "[30, 24]",
                    "[28, 24]",
                ],
            ),
            (
                "mpnet",
                ("\"num_attention_heads\": 4", "\"num_attention_heads\": 6"),
                [
                    "encoder.relative_attention_bias.weight",
                    "[32, 6]",
                    "[32, 4]",
                    "model.safetensors",
                ],
            ),
            (
                "nomic_bert",
                ("\"intermediate_size\": 28", "\"intermediate_size\": 27"),
                [
                    "encoder.layers.0.mlp.fc11.weight",
                    "encoder.layers.1.mlp.fc2.weight",
                    "[27, 24]",
                    "[28, 24]",
                ],
            ),
            (
                "jina_bert",
                ("\"intermediate_size\": 28", "\"intermediate_size\": 27"),
                [
                    "encoder.layer.0.mlp.gated_layers.weight",
                    "encoder.layer.1.mlp.wo.weight",
                    "[54, 24]",
                    "[56, 24]",
                ],
            ),
            (
                "modernbert",
                ("\"intermediate_size\": 28", "\"intermediate_size\": 27"),
                [
                    "layers.0.mlp.Wi.weight",
                    "layers.1.mlp.Wo.weight",
                    "[54, 24]",
                    "[56, 24]",
                ],
            ),
        ] {
            let dir = copy_of(family);
            edit(&dir, edits.0, edits.1);
            if family == "roberta" {
                // One position more than the table has rows.
                refused(&dir, &words[1..]);
            } else {
                refused(&dir, &words);
            }
        }
    }

    #[test]
    fn missing_and_extra_tensors_are_listed() {
        for family in FAMILIES {
            let dir = copy_of(family);
            let mut tensors = encoder::read_safetensors(&weights(&dir), false).unwrap();
            let gone: Vec<String> = tensors
                .keys()
                .filter(|name| name.contains(".1."))
                .take(2)
                .cloned()
                .collect();
            for name in &gone {
                tensors.remove(name);
            }
            let stray = tensors.values().next().unwrap().clone();
            tensors.insert("stray.weight".to_owned(), stray);
            encoder::write_safetensors(&weights(&dir), &tensors, None).unwrap();
            let error = load(&dir).err().unwrap().to_string();
            for name in &gone {
                let plain = ["roberta.", "distilbert.", "mpnet.", "model."]
                    .iter()
                    .find_map(|prefix| name.strip_prefix(prefix))
                    .unwrap_or(name);
                assert!(
                    error.contains(&format!("missing {plain}")),
                    "{family}: {error}"
                );
            }
            assert!(
                error.contains("unexpected stray.weight"),
                "{family}: {error}"
            );
        }
    }

    #[test]
    fn arrangements_that_are_not_supported_name_the_key() {
        for (family, from, to, word) in [
            ("roberta", "\"gelu\"", "\"relu\"", "hidden_act"),
            (
                "roberta",
                "\"pad_token_id\": 1",
                "\"pad_token_id\": 4294967295",
                "pad_token_id",
            ),
            (
                "roberta",
                "\"max_position_embeddings\": 30",
                "\"max_position_embeddings\": 1",
                "max_position_embeddings",
            ),
            (
                "distilbert",
                "\"activation\": \"gelu\"",
                "\"activation\": \"relu\"",
                "hidden_act",
            ),
            (
                "mpnet",
                "\"relative_attention_num_buckets\": 32",
                "\"relative_attention_num_buckets\": 16",
                "relative_attention_num_buckets",
            ),
            (
                "nomic_bert",
                "\"rope_theta\": 1000.0",
                "\"rope_theta\": -1",
                "rope_theta",
            ),
            (
                "nomic_bert",
                "\"rope_type\": \"default\"",
                "\"rope_type\": \"yarn\"",
                "rope_parameters",
            ),
            ("nomic_bert", "\"silu\"", "\"gelu\"", "hidden_act"),
            (
                "nomic_bert",
                "\"head_dim\": 6",
                "\"head_dim\": 12",
                "head_dim",
            ),
            (
                "jina_bert",
                "\"geglu\"",
                "\"original\"",
                "feed_forward_type",
            ),
            (
                "modernbert",
                "\"norm_bias\": false",
                "\"norm_bias\": true",
                "norm_bias",
            ),
            (
                "modernbert",
                "\"local_attention\": 8",
                "\"local_attention\": -8",
                "local_attention",
            ),
            (
                "modernbert",
                "\"sliding_attention\"\n  ]",
                "\"half_attention\"\n  ]",
                "layer_types",
            ),
            (
                "modernbert",
                "\"embedding_dropout\": 0.0",
                "\"embedding_dropout\": 1.5",
                "embedding_dropout",
            ),
        ] {
            let dir = copy_of(family);
            edit(&dir, from, to);
            refused(&dir, &["config.json", word]);
        }
    }

    #[test]
    fn weights_cut_anywhere_are_refused() {
        for family in FAMILIES {
            let dir = copy_of(family);
            let whole = fs::read(weights(&dir)).unwrap();
            for length in (0..whole.len()).step_by(6007) {
                fs::write(weights(&dir), &whole[..length]).unwrap();
                refused(&dir, &["model.safetensors"]);
            }
        }
    }
}
