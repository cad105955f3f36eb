//! Files of the run directory that are this experiment's own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use burn::tensor::TensorData;
use categories::{Catalogue, CategoryId};
use encoder::{SentenceEncoder, WeightTensor};
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};
use serde_json::json;
use training::{NonFinite, from_safetensors, to_safetensors};

use super::error::DiscoverError;
use super::evidence::matrix;
use super::map::Map;
use crate::error::RunError;

/// Texts of a run.
pub const MEMBERS: &str = "members.jsonl";
/// Vectors of these texts.
pub const VECTORS: &str = "vectors.safetensors";
/// Their places in the plane.
pub const MAP: &str = "map.json";
pub(crate) const MODEL: &str = "model";
pub(crate) const ESTIMATES: &str = "estimates.json";
/// Texts of updates that no category is made of yet.
pub(crate) const POOL: &str = "pool.jsonl";
/// The tensor in [`VECTORS`].
const TENSOR: &str = "vectors";
/// What predictions call the coarse class of data without coarse labels.
pub(crate) const ALL_TEXTS: &str = "all texts";

/// One line of `members.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Number of the line, from 0; the row of its vector.
    pub row: usize,
    /// The text.
    pub text: String,
    /// Its coarse label, where the data have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coarse: Option<String>,
    /// Category when the text came; merged and split ones are followed by
    /// [`Catalogue::resolve`].
    pub category: CategoryId,
    /// Cosine to the centroid of that category then.
    pub cosine: f32,
    /// Its true fine label, where the data have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fine: Option<String>,
    /// `train`, `test` or `update-N`.
    pub split: String,
}

/// One line of `pool.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Pooled {
    pub(crate) text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) coarse: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fine: Option<String>,
}

/// JSON lines.
pub(crate) fn json_lines<T: Serialize>(rows: &[T]) -> Result<Vec<u8>, DiscoverError> {
    let mut bytes = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut bytes, row)
            .map_err(|error| RunError::Data(error.to_string()))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// Reads JSON lines.
pub(crate) fn read_json_lines<T: serde::de::DeserializeOwned>(
    path: &Path,
) -> Result<Vec<T>, DiscoverError> {
    let file = File::open(path).map_err(DiscoverError::file("open", path))?;
    let mut rows = Vec::new();
    for (number, line) in (1_u64..).zip(BufReader::new(file).lines()) {
        let line = line.map_err(DiscoverError::file("read", path))?;
        let row = serde_json::from_str(&line).map_err(|error| DiscoverError::NoRun {
            path: path.to_owned(),
            problem: format!("line {number}: {error}"),
        })?;
        rows.push(row);
    }
    Ok(rows)
}

/// Bytes of `vectors.safetensors`.
pub(crate) fn vectors_to_bytes(vectors: ArrayView2<'_, f32>) -> Result<Vec<u8>, DiscoverError> {
    let values: Vec<f32> = vectors.iter().copied().collect();
    let data = TensorData::new(values, [vectors.nrows(), vectors.ncols()]);
    Ok(to_safetensors(&BTreeMap::from([(
        TENSOR.to_owned(),
        data,
    )]))?)
}

/// Reads `vectors.safetensors`, which must have `rows` rows of `dim` numbers.
pub(crate) fn read_vectors(
    path: &Path,
    rows: usize,
    dim: usize,
) -> Result<Array2<f32>, DiscoverError> {
    let bytes = std::fs::read(path).map_err(DiscoverError::file("read", path))?;
    let mut tensors = from_safetensors(&bytes, NonFinite::Refuse)?;
    let wrong = |problem: String| DiscoverError::NoRun {
        path: path.to_owned(),
        problem,
    };
    let data = tensors
        .remove(TENSOR)
        .ok_or_else(|| wrong(format!("no tensor `{TENSOR}`")))?;
    let shape = data.shape().to_vec();
    if shape != [rows, dim] {
        return Err(wrong(format!(
            "expected shape [{rows}, {dim}], found {shape:?}"
        )));
    }
    Array2::from_shape_vec((rows, dim), data.iter::<f32>().collect())
        .map_err(|error| wrong(error.to_string()))
}

/// Reads `map.json`, if there is one.
pub(crate) fn read_map(path: &Path) -> Result<Option<Map>, DiscoverError> {
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(DiscoverError::file("read", path))?;
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| DiscoverError::NoRun {
            path: path.to_owned(),
            problem: error.to_string(),
        })
}

/// Writes the model with the centroids and names of `catalogue`, for centroid inference.
pub(crate) fn write_model(
    dir: &Path,
    mut model: SentenceEncoder,
    catalogue: &Catalogue,
) -> Result<(), DiscoverError> {
    let centroids = matrix(
        catalogue
            .active()
            .map(|category| category.centroid.as_slice()),
        catalogue.dim,
    )?;
    let tensor = WeightTensor {
        shape: vec![centroids.nrows(), centroids.ncols()],
        values: centroids.iter().copied().collect(),
    };
    model
        .extension
        .tensors
        .insert("centroids".to_owned(), tensor);
    let mut coarse_names = catalogue.coarse_names.clone();
    if coarse_names.is_empty() {
        coarse_names.push(ALL_TEXTS.to_owned());
    }
    let categories: Vec<_> = catalogue
        .active()
        .enumerate()
        .map(|(at, category)| {
            let coarse = category.coarse.as_ref();
            let coarse = coarse.and_then(|name| coarse_names.iter().position(|other| other == name));
            json!({
                "id": at, "name": category.name, "coarse": coarse.unwrap_or(0), "examples": category.medoids,
            })
        })
        .collect();
    model.extension.json.extend([
        ("schema".to_owned(), json!("asterism/model/1")),
        ("coarse_names".to_owned(), json!(coarse_names)),
        ("categories".to_owned(), json!(categories)),
    ]);
    Ok(model.save(dir)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use ndarray::array;

    use super::*;

    #[test]
    fn members_and_vectors_come_back_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let member = Member {
            row: 0,
            text: "a \"b\"\u{2028}".to_owned(),
            coarse: None,
            category: CategoryId(3),
            cosine: 0.25,
            fine: Some("f".to_owned()),
            split: "train".to_owned(),
        };
        let path = dir.path().join(MEMBERS);
        std::fs::write(&path, json_lines(std::slice::from_ref(&member)).unwrap()).unwrap();
        assert_eq!(read_json_lines::<Member>(&path).unwrap(), [member]);
        assert!(!std::fs::read_to_string(&path).unwrap().contains("coarse"));
        std::fs::write(&path, "{\"row\":0}\n").unwrap();
        let error = read_json_lines::<Member>(&path).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");

        let vectors = array![[1.0_f32, 0.0], [0.6, 0.8], [0.0, 1.0]];
        let path = dir.path().join(VECTORS);
        std::fs::write(&path, vectors_to_bytes(vectors.view()).unwrap()).unwrap();
        assert_eq!(read_vectors(&path, 3, 2).unwrap(), vectors);
        let error = read_vectors(&path, 2, 2).unwrap_err().to_string();
        assert!(
            error.contains("expected shape [2, 2], found [3, 2]"),
            "{error}"
        );
        assert!(read_map(&dir.path().join(MAP)).unwrap().is_none());
    }
}
