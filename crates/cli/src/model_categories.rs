//! The categories that a model directory carries: its centroids, and the names in `asterism.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use categories::{Catalogue, Category, CategoryId, NameSource, Status};
use encoder::SentenceEncoder;
use serde_json::Value;

use crate::error::CliError;

/// Longest name that is taken over into a catalogue, in characters.
const LONGEST_NAME: usize = 100;

/// Categories of a model directory.
#[derive(Debug)]
pub(crate) struct ModelCategories {
    /// Categories with a name each of its own: that of the extension, or `category N`, with the id
    /// behind it where a category before has the same.
    pub(crate) catalogue: Catalogue,
    /// What the extension says of each centroid, also of those that no text goes to.
    pub(crate) labels: BTreeMap<CategoryId, Label>,
}

/// Name and coarse class of a category.
#[derive(Debug, Default)]
pub(crate) struct Label {
    pub(crate) name: Option<String>,
    pub(crate) coarse: Option<String>,
}

impl ModelCategories {
    /// Reads and checks the extension of a model.
    ///
    /// # Errors
    ///
    /// The model has no centroids, or the extension contradicts itself; the message names the field.
    pub(crate) fn read(model: &SentenceEncoder, dir: &Path) -> Result<Self, CliError> {
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
        let bad_tensor = |expected: String, found: String| CliError::Extension {
            path: dir.join("asterism.safetensors"),
            field: "centroids".to_owned(),
            expected,
            found,
        };
        if k == 0 || tensor.shape != [k, hidden] {
            return Err(bad_tensor(
                format!("a tensor of shape [categories, {hidden}]"),
                format!("{:?}", tensor.shape),
            ));
        }

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
        let mut labels: Vec<Label> = (0..k).map(|_| Label::default()).collect();
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
            for ((id, entry), label) in entries.iter().enumerate().zip(&mut labels) {
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
                label.name = match part("name") {
                    Value::Null => None,
                    Value::String(text) => Some(text.clone()),
                    _ => return Err(bad("name", "a name or null".into())),
                };
                let coarse = part("coarse")
                    .as_u64()
                    .and_then(|at| coarse_names.get(usize::try_from(at).ok()?));
                let Some(coarse) = coarse else {
                    let count = coarse_names.len();
                    let expected = format!("a number below the {count} coarse names");
                    return Err(bad("coarse", expected));
                };
                label.coarse = Some(coarse.clone());
            }
        } else if !coarse_names.is_empty() {
            return Err(wrong(
                "categories".into(),
                format!("{k} entries, one a centroid"),
                "none".into(),
            ));
        }

        // A cluster without members has a centroid of zeros, to which no text goes.
        let mut categories = Vec::with_capacity(k);
        let mut taken = BTreeSet::new();
        for (id, (mean, label)) in (0_u32..).zip(tensor.values.chunks(hidden).zip(&labels)) {
            if let Some(centroid) = unit(mean) {
                let name = own_name(id, label.name.as_deref(), &mut taken);
                categories.push(category(id, name, label.coarse.clone(), centroid));
            }
        }
        if categories.is_empty() {
            return Err(bad_tensor(
                "a centroid with a direction".to_owned(),
                "zeros or numbers that are not finite".to_owned(),
            ));
        }
        Ok(Self {
            catalogue: Catalogue::new(hidden, "", coarse_names, categories, None)?,
            labels: (0_u32..).map(CategoryId).zip(labels).collect(),
        })
    }
}

/// A name that no category before has: names of a model directory may be missing, alike, or not fit
/// to be shown in a line.
fn own_name(id: u32, given: Option<&str>, taken: &mut BTreeSet<String>) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let cleaned: String = given.unwrap_or_default().chars().map(printable).collect();
    let short: String = cleaned.trim().chars().take(LONGEST_NAME).collect();
    let mut name = match short.trim_end() {
        "" => format!("category {id}"),
        short => short.to_owned(),
    };
    // Another category may be called `category 3`.
    while !taken.insert(name.to_lowercase()) {
        name = format!("{name} ({id})");
    }
    name
}

/// A category of which nothing is known but its name and centre.
fn category(id: u32, name: String, coarse: Option<String>, centroid: Vec<f32>) -> Category {
    Category {
        id: CategoryId(id),
        name,
        name_source: NameSource::Keywords,
        coarse,
        keywords: Vec::new(),
        medoids: Vec::new(),
        size: 0,
        coherence: 0.0,
        nearest: Vec::new(),
        born: 1,
        status: Status::Active,
        centroid,
    }
}

/// Scaled to unit length; `None` for zeros and what is not finite.
fn unit(vector: &[f32]) -> Option<Vec<f32>> {
    let square = |&x: &f32| f64::from(x) * f64::from(x);
    let length = vector.iter().map(square).sum::<f64>().sqrt();
    let scaled = |&x: &f32| (f64::from(x) / length) as f32;
    (length.is_finite() && length > 1e-12).then(|| vector.iter().map(scaled).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_category_gets_a_name_of_its_own() {
        let long = "x".repeat(300);
        let given = [
            Some("cards"),
            Some("Cards"),
            None,
            Some(" a\tb "),
            Some(""),
            Some("category 6"),
            None,
            Some("cards (1)"),
            Some(long.as_str()),
        ];
        let mut taken = BTreeSet::new();
        let names: Vec<String> = (0..)
            .zip(given)
            .map(|(id, name)| own_name(id, name, &mut taken))
            .collect();
        let expected = [
            "cards",
            "Cards (1)",
            "category 2",
            "a b",
            "category 4",
            "category 6",
            "category 6 (6)",
            "cards (1) (7)",
        ];
        assert_eq!(names[..8], expected);
        assert_eq!(names[8].len(), LONGEST_NAME);
    }
}
