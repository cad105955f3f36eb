//! A tiny random model on disk, and the command.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use encoder::{BertConfig, Pooling, SentenceEncoder, TextTokenizer, WeightTensor};
use kernels::DeviceSpec;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Texts that stand for the categories of [`TestModel::with_categories`].
pub(crate) const PROTOTYPES: [&str; 3] = [
    "renew the library book",
    "my parcel has not arrived",
    "cancel the train ticket for monday",
];

pub(crate) fn asterism() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("asterism"));
    // Whoever runs the tests may have set these.
    command.env_remove("RUST_BACKTRACE").env("NO_COLOR", "1");
    command
}

/// What a command that must fail with this code wrote to standard error.
pub(crate) fn failure(command: &mut Command, code: i32) -> String {
    let output = command.assert().code(code).get_output().clone();
    String::from_utf8(output.stderr).unwrap()
}

/// What a command that must succeed wrote to standard output.
pub(crate) fn success(command: &mut Command) -> String {
    let output = command.assert().success().get_output().clone();
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub(crate) fn numbers(value: &Value) -> Vec<f32> {
    let numbers = value.as_array().unwrap().iter();
    numbers
        .map(|number| number.as_f64().unwrap() as f32)
        .collect()
}

pub(crate) struct TestModel {
    pub(crate) dir: TempDir,
    pub(crate) encoder: SentenceEncoder,
}

impl TestModel {
    /// 2 layers, 128 wide, mean pooling, unit length, vocabulary of the bundled set.
    pub(crate) fn plain() -> Self {
        let encoder = random();
        let dir = tempfile::tempdir().unwrap();
        encoder.save(dir.path()).unwrap();
        Self { dir, encoder }
    }

    /// The same with the vectors of [`PROTOTYPES`] as centroids: `loan` in `library`, `lost` and an
    /// unnamed one in `transport`.
    pub(crate) fn with_categories() -> Self {
        let mut encoder = random();
        let vectors = encoder.encode(&PROTOTYPES, 8).unwrap();
        let shape = vec![vectors.rows(), vectors.dim];
        let values = vectors.values;
        encoder
            .extension
            .tensors
            .insert("centroids".to_owned(), WeightTensor { shape, values });
        let json = json!({
            "schema": "asterism/model/1",
            "coarse_names": ["library", "transport"],
            "categories": [
                {"id": 0, "name": "loan", "coarse": 0, "examples": []},
                {"id": 1, "name": "lost", "coarse": 1, "examples": []},
                {"id": 2, "name": null, "coarse": 1, "examples": []},
            ],
        });
        encoder.extension.json = json.as_object().unwrap().clone();
        let dir = tempfile::tempdir().unwrap();
        encoder.save(dir.path()).unwrap();
        Self { dir, encoder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A file beside the model, with this content.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

fn random() -> SentenceEncoder {
    let pieces: Vec<&str> = datasets::pocket::vocabulary().collect();
    let tokenizer = TextTokenizer::from_word_pieces(&pieces).unwrap();
    let device = DeviceSpec::default().open().unwrap();
    let config = BertConfig::tiny(tokenizer.vocab_size());
    SentenceEncoder::random(config, tokenizer, Pooling::Mean, 7, &device).unwrap()
}
