//! `asterism predict`: centroid inference with a trained model.

use std::path::Path;

use clustering::Centroids;
use encoder::{LoadOptions, SentenceEncoder};
use ndarray::ArrayView2;
use serde::Serialize;
use serde_json::Value;

use crate::error::CliError;
use crate::inference::InferenceArgs;
use crate::model::load;
use crate::output::field;

/// Assign texts to the categories of a trained model.
///
/// Each text goes to the centroid with the largest cosine. Prints one row a text, at once: id,
/// name, coarse category, cosine and text separated by tabs (`-` where there is no name), or with
/// --json an object {"text", "id", "name", "coarse", "cosine"}.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    inference: InferenceArgs,
    /// Consider only the fine categories of this coarse category.
    #[arg(long, value_name = "NAME")]
    coarse_gate: Option<String>,
    /// Texts computed at once; more than 1 is faster on files, but answers wait for a full batch.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = crate::model::positive)]
    batch_size: usize,
}

/// Centroids of a model with what is known about them.
#[derive(Debug)]
struct Categories {
    centroids: Centroids,
    /// One a centroid.
    names: Vec<Option<String>>,
    /// One a coarse category.
    coarse_names: Vec<String>,
}

#[derive(Serialize)]
struct Answer<'a> {
    text: &'a str,
    id: usize,
    name: Option<&'a str>,
    coarse: Option<&'a str>,
    cosine: f32,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let inference = args.inference;
    let json = inference.json;
    let model = load(&inference.model, &LoadOptions::default(), inference.device)?;
    let categories = Categories::new(&model, &inference.model)?;
    let candidates = match &args.coarse_gate {
        Some(name) => categories.gate(name)?,
        None => (0..categories.centroids.k()).collect(),
    };
    inference.for_each_group(args.batch_size, |texts, output| {
        let vectors = model.encode(texts, args.batch_size)?;
        for (index, text) in texts.iter().enumerate() {
            let answer = categories.answer(text, vectors.row(index), &candidates)?;
            if json {
                output.json_line(&answer)?;
            } else {
                output.line(answer.tabs())?;
            }
        }
        Ok(())
    })
}

impl Categories {
    /// Reads and checks the extension of a model.
    fn new(model: &SentenceEncoder, dir: &Path) -> Result<Self, CliError> {
        let json = &model.extension.json;
        let wrong = |field: String, expected: String, found: String| CliError::Extension {
            path: dir.join("asterism.json"),
            field,
            expected,
            found,
        };
        let Some(tensor) = model.extension.tensors.get("centroids") else {
            return Err(CliError::NoCentroids {
                path: dir.to_owned(),
            });
        };
        let hidden = model.config.hidden_size;
        let k = tensor.values.len() / hidden;
        let bad_tensor = || CliError::Extension {
            path: dir.join("asterism.safetensors"),
            field: "centroids".to_owned(),
            expected: format!("a tensor of shape [categories, {hidden}]"),
            found: format!("{:?}", tensor.shape),
        };
        if k == 0 || tensor.shape != [k, hidden] {
            return Err(bad_tensor());
        }
        let means =
            ArrayView2::from_shape((k, hidden), &tensor.values).map_err(|_| bad_tensor())?;

        let coarse_names: Vec<String> = match json.get("coarse_names") {
            None => Vec::new(),
            Some(names) => serde_json::from_value(names.clone()).map_err(|error| {
                wrong(
                    "coarse_names".into(),
                    "a list of names".into(),
                    error.to_string(),
                )
            })?,
        };
        let mut names = vec![None; k];
        let mut coarse = vec![0; k];
        if let Some(list) = json.get("categories") {
            let entries = list
                .as_array()
                .ok_or_else(|| wrong("categories".into(), "a list".into(), kind(list)))?;
            if entries.len() != k {
                return Err(wrong(
                    "categories".into(),
                    format!("{k} entries, one a centroid"),
                    entries.len().to_string(),
                ));
            }
            let slots = names.iter_mut().zip(coarse.iter_mut());
            for ((id, entry), (name, coarse)) in entries.iter().enumerate().zip(slots) {
                let part = |key: &str| entry.get(key).unwrap_or(&Value::Null);
                let bad = |key: &str, expected: String| {
                    let found = match part(key) {
                        Value::Number(number) => number.to_string(),
                        other => kind(other),
                    };
                    wrong(format!("categories[{id}].{key}"), expected, found)
                };
                if part("id").as_u64() != Some(id as u64) {
                    return Err(bad("id", id.to_string()));
                }
                *name = match part("name") {
                    Value::Null => None,
                    Value::String(text) => Some(text.clone()),
                    _ => return Err(bad("name", "a name or null".into())),
                };
                *coarse = part("coarse")
                    .as_u64()
                    .and_then(|at| usize::try_from(at).ok())
                    .filter(|at| *at < coarse_names.len())
                    .ok_or_else(|| {
                        let count = coarse_names.len();
                        bad("coarse", format!("a number below the {count} coarse names"))
                    })?;
            }
        } else if !coarse_names.is_empty() {
            return Err(wrong(
                "categories".into(),
                format!("{k} entries, one a centroid"),
                "none".into(),
            ));
        }
        Ok(Self {
            centroids: Centroids::from_means(means)?.with_coarse(coarse)?,
            names,
            coarse_names,
        })
    }

    /// Categories of a coarse category, by name.
    fn gate(&self, name: &str) -> Result<Vec<usize>, CliError> {
        let candidates = self
            .coarse_names
            .iter()
            .position(|known| known == name)
            .map(|coarse| self.centroids.candidates(coarse));
        let problem = match candidates {
            Some(candidates) if !candidates.is_empty() => return Ok(candidates),
            Some(_) => format!("no category belongs to `{name}`"),
            None => format!("no coarse category `{name}`"),
        };
        let usable: Vec<&str> = (0..self.coarse_names.len())
            .filter(|coarse| !self.centroids.candidates(*coarse).is_empty())
            .filter_map(|coarse| self.coarse_names.get(coarse))
            .map(String::as_str)
            .collect();
        let alike = |other: &str| strsim::jaro_winkler(other, name);
        let nearest = usable
            .iter()
            .max_by(|a, b| alike(a).total_cmp(&alike(b)))
            .map_or_else(|| "no gate".to_owned(), |name| (*name).to_owned());
        Err(CliError::CoarseGate {
            problem,
            known: if usable.is_empty() {
                "none".to_owned()
            } else {
                usable.join(", ")
            },
            nearest,
        })
    }

    fn answer<'a>(
        &'a self,
        text: &'a str,
        vector: &[f32],
        candidates: &[usize],
    ) -> Result<Answer<'a>, CliError> {
        let found = self.centroids.assign_within(vector, candidates)?;
        let coarse = self.centroids.coarse().get(found.id).copied().unwrap_or(0);
        Ok(Answer {
            text,
            id: found.id,
            name: self.names.get(found.id).and_then(Option::as_deref),
            coarse: self.coarse_names.get(coarse).map(String::as_str),
            cosine: found.cosine,
        })
    }
}

impl Answer<'_> {
    fn tabs(&self) -> String {
        let name = |name: Option<&str>| name.map_or_else(|| "-".to_owned(), field);
        format!(
            "{}\t{}\t{}\t{:.4}\t{}",
            self.id,
            name(self.name),
            name(self.coarse),
            self.cosine,
            field(self.text)
        )
    }
}

/// What a JSON value is, for messages.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
    .to_owned()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use encoder::{BertConfig, Pooling, TextTokenizer, WeightTensor};
    use kernels::DeviceSpec;
    use serde_json::json;

    use super::*;

    /// Three centroids along the first axes; the last two belong to `b`.
    fn model() -> SentenceEncoder {
        let pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
        let tokenizer = TextTokenizer::from_word_pieces(&pieces).unwrap();
        let device = DeviceSpec::Flex.open().unwrap();
        let config = BertConfig::tiny(pieces.len());
        let dim = config.hidden_size;
        let mut model =
            SentenceEncoder::random(config, tokenizer, Pooling::Mean, 0, &device).unwrap();
        let mut values = vec![0.0; 3 * dim];
        for id in 0..3 {
            values[id * dim + id] = 2.0;
        }
        let shape = vec![3, dim];
        model
            .extension
            .tensors
            .insert("centroids".to_owned(), WeightTensor { shape, values });
        let json = json!({
            "coarse_names": ["a", "b", "empty"],
            "categories": [
                {"id": 0, "name": null, "coarse": 0},
                {"id": 1, "name": "second\tone", "coarse": 1},
                {"id": 2, "coarse": 1},
            ],
        });
        model.extension.json = json.as_object().unwrap().clone();
        model
    }

    fn vector(start: &[f32]) -> Vec<f32> {
        let mut vector = vec![0.0; 128];
        vector[..start.len()].copy_from_slice(start);
        vector
    }

    #[test]
    fn the_nearest_category_answers_with_its_names() {
        let categories = Categories::new(&model(), Path::new("m")).unwrap();
        let answer = categories
            .answer("x\ny", &vector(&[3.0, 4.0]), &[0, 1, 2])
            .unwrap();
        assert_eq!(
            (answer.id, answer.name, answer.coarse),
            (1, Some("second\tone"), Some("b"))
        );
        assert!((answer.cosine - 0.8).abs() < 1e-6);
        assert_eq!(answer.tabs(), "1\tsecond one\tb\t0.8000\tx y");
    }

    #[test]
    fn the_gate_keeps_other_categories_out() {
        let categories = Categories::new(&model(), Path::new("m")).unwrap();
        let gate = categories.gate("b").unwrap();
        assert_eq!(gate, [1, 2]);
        let answer = categories
            .answer("x", &vector(&[9.0, 0.0, 1.0]), &gate)
            .unwrap();
        assert_eq!((answer.id, answer.name), (2, None));
        for name in ["c", "empty", ""] {
            let error = categories.gate(name).unwrap_err();
            assert!(
                error.to_string().contains("this model has: a, b"),
                "{error}"
            );
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn contradictions_in_the_extension_are_named() {
        type Spoil = fn(&mut SentenceEncoder);
        let cases: [(&str, Spoil); 9] = [
            ("no centroids", |m| m.extension.tensors.clear()),
            ("[categories, 128], found [128, 3]", |m| {
                m.extension.tensors.get_mut("centroids").unwrap().shape = vec![128, 3];
            }),
            ("centroids: expected a tensor", |m| {
                let tensor = m.extension.tensors.get_mut("centroids").unwrap();
                *tensor = WeightTensor {
                    shape: vec![0, 128],
                    values: Vec::new(),
                };
            }),
            ("coarse_names: expected a list of names", |m| {
                m.extension.json["coarse_names"] = json!([1]);
            }),
            ("categories: expected a list, found an object", |m| {
                m.extension.json["categories"] = json!({});
            }),
            (
                "categories: expected 3 entries, one a centroid, found 1",
                |m| {
                    m.extension.json["categories"] = json!([{}]);
                },
            ),
            ("categories[2].id: expected 2, found 7", |m| {
                m.extension.json["categories"][2]["id"] = json!(7);
            }),
            (
                "categories[0].name: expected a name or null, found a list",
                |m| {
                    m.extension.json["categories"][0]["name"] = json!([]);
                },
            ),
            (
                "categories[1].coarse: expected a number below the 3 coarse names, found 3",
                |m| {
                    m.extension.json["categories"][1]["coarse"] = json!(3);
                },
            ),
        ];
        for (message, spoil) in cases {
            let mut model = model();
            spoil(&mut model);
            let error = Categories::new(&model, Path::new("m")).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn centroids_alone_are_enough() {
        let mut model = model();
        model.extension.json.clear();
        let categories = Categories::new(&model, Path::new("m")).unwrap();
        let answer = categories
            .answer("x", &vector(&[0.0, 0.0, 1.0]), &[0, 1, 2])
            .unwrap();
        assert_eq!(answer.tabs(), "2\t-\t-\t1.0000\tx");
        assert!(categories.gate("a").is_err());
    }
}
