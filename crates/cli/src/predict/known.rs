//! Where texts can be assigned: the categories of a run, or the centroids of a model directory.

use std::collections::BTreeMap;
use std::path::Path;

use categories::drift::Window;
use categories::{
    Assigned, Assigner, CATALOGUE_FILE, Calibration, Catalogue, CategoryId, Gate, Store,
};
use datasets::hash::sha256_hex;
use encoder::SentenceEncoder;

use crate::error::CliError;
use crate::model_categories::{Label, ModelCategories};

/// Categories with their names.
#[derive(Debug)]
pub(super) struct Categories {
    assigner: Assigner,
    labels: BTreeMap<CategoryId, Label>,
    /// Coarse classes with at least one category.
    usable: Vec<String>,
    /// SHA-256 of the catalogue; empty for those of a model directory, whose files have their own.
    pub(super) digest: String,
    /// Revision of the catalogue.
    pub(super) revision: u64,
    /// What new texts are compared with.
    pub(super) reference: Window,
    /// When to trust an answer, where that was measured.
    pub(super) calibration: Option<Calibration>,
}

impl Categories {
    /// The categories of a run as they are now.
    pub(super) fn of_run(run: &Path, model: &SentenceEncoder) -> Result<Self, CliError> {
        let catalogue = Store::read(run)?.catalogue;
        if catalogue.dim != model.dim() {
            return Err(CliError::Extension {
                path: run.join(CATALOGUE_FILE),
                field: "dim".to_owned(),
                expected: format!("{}, the width of model/", model.dim()),
                found: catalogue.dim.to_string(),
            });
        }
        let digest = sha256_hex(catalogue.to_json()?.as_bytes());
        let labels = catalogue.active().map(|category| {
            let label = Label {
                name: Some(category.name.clone()),
                coarse: category.coarse.clone(),
            };
            (category.id, label)
        });
        Self::new(&catalogue, labels.collect(), digest)
    }

    /// The centroids of a model directory and the names in its extension.
    pub(super) fn of_model(model: &SentenceEncoder, dir: &Path) -> Result<Self, CliError> {
        let found = ModelCategories::read(model, dir)?;
        Self::new(&found.catalogue, found.labels, String::new())
    }

    fn new(
        catalogue: &Catalogue,
        labels: BTreeMap<CategoryId, Label>,
        digest: String,
    ) -> Result<Self, CliError> {
        let assigner = Assigner::new(catalogue)?;
        let names = catalogue.coarse_names.iter();
        let own = |coarse: &String| {
            let mut known = catalogue.active();
            known.any(|category| category.coarse.as_ref() == Some(coarse))
        };
        let usable = names
            .filter(|coarse| own(coarse) && assigner.gate(coarse).is_ok())
            .cloned()
            .collect();
        Ok(Self {
            assigner,
            labels,
            usable,
            digest,
            revision: catalogue.revision,
            reference: Window::of_catalogue(catalogue),
            calibration: catalogue.calibration.clone(),
        })
    }

    /// The gate of a coarse class, if it has categories.
    pub(super) fn gate_of(&self, name: &str) -> Option<Gate> {
        self.assigner.gate(name).ok()
    }

    /// The gate of a coarse class that somebody asked for by name.
    pub(super) fn gate(&self, name: &str) -> Result<Gate, CliError> {
        if let Some(gate) = self.gate_of(name) {
            return Ok(gate);
        }
        let alike = |other: &str| strsim::jaro_winkler(other, name);
        let nearest = self
            .usable
            .iter()
            .max_by(|a, b| alike(a).total_cmp(&alike(b)))
            .map_or_else(|| "no gate".to_owned(), String::clone);
        Err(CliError::CoarseGate {
            problem: format!("no coarse category `{name}` with categories"),
            known: if self.usable.is_empty() {
                "none".to_owned()
            } else {
                self.usable.join(", ")
            },
            nearest,
        })
    }

    /// Assigns vectors, each among the candidates of its gate. `[gates.len(), dim]`
    pub(super) fn assign(
        &self,
        vectors: &[f32],
        gates: &[Option<Gate>],
    ) -> Result<Vec<Assigned>, CliError> {
        Ok(self.assigner.assign_many_in(vectors, gates)?)
    }

    /// Name of a category.
    pub(super) fn name(&self, id: CategoryId) -> Option<&str> {
        self.labels.get(&id)?.name.as_deref()
    }

    /// Coarse class of a category.
    pub(super) fn coarse(&self, id: CategoryId) -> Option<&str> {
        self.labels.get(&id)?.coarse.as_deref()
    }
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

    fn of_model(model: &SentenceEncoder) -> Result<Categories, CliError> {
        Categories::of_model(model, Path::new("m"))
    }

    fn assign(categories: &Categories, start: &[f32], gate: Option<Gate>) -> Assigned {
        let mut vector = vec![0.0; 128];
        vector[..start.len()].copy_from_slice(start);
        categories.assign(&vector, &[gate]).unwrap().remove(0)
    }

    #[test]
    fn the_nearest_category_answers_with_its_names() {
        let categories = of_model(&model()).unwrap();
        let found = assign(&categories, &[3.0, 4.0], None);
        assert_eq!(found.id, CategoryId(1));
        assert_eq!(categories.name(found.id), Some("second\tone"));
        assert_eq!(categories.coarse(found.id), Some("b"));
        assert!((found.cosine - 0.8).abs() < 1e-6);
        assert_eq!(found.runner_up.unwrap().id, CategoryId(0));
    }

    #[test]
    fn the_gate_keeps_other_categories_out() {
        let categories = of_model(&model()).unwrap();
        let gate = categories.gate("b").unwrap();
        let found = assign(&categories, &[9.0, 0.0, 1.0], Some(gate));
        assert_eq!((found.id, categories.name(found.id)), (CategoryId(2), None));
        for name in ["c", "empty", ""] {
            let error = categories.gate(name).unwrap_err();
            assert!(
                error.to_string().contains("this model has: a, b"),
                "{error}"
            );
            assert_eq!(error.exit_code(), 2);
            assert!(categories.gate_of(name).is_none());
        }
    }

    #[test]
    fn a_centroid_of_zeros_is_never_chosen() {
        let mut model = model();
        let tensor = model.extension.tensors.get_mut("centroids").unwrap();
        tensor.values[0] = 0.0;
        let categories = of_model(&model).unwrap();
        assert_eq!(assign(&categories, &[1.0, -1.0], None).id, CategoryId(2));
    }

    #[test]
    fn contradictions_in_the_extension_are_named() {
        type Spoil = fn(&mut SentenceEncoder);
        let cases: [(&str, Spoil); 10] = [
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
            ("centroids: expected a centroid with a direction", |m| {
                let tensor = m.extension.tensors.get_mut("centroids").unwrap();
                tensor.values.fill(0.0);
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
            let error = of_model(&model).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn centroids_alone_are_enough() {
        let mut model = model();
        model.extension.json.clear();
        let categories = of_model(&model).unwrap();
        let found = assign(&categories, &[0.0, 0.0, 1.0], None);
        assert_eq!(found.id, CategoryId(2));
        assert_eq!(categories.name(found.id), None);
        assert!(categories.gate("a").is_err());
    }
}
