//! Vectors of texts: each different text once, unit length.

use std::collections::BTreeMap;

use burn::module::Module;
use encoder::{Prompt, SentenceEncoder};
use ndarray::{Array2, ArrayView2, Axis};

use super::error::DiscoverError;
use crate::error::RunError;

/// Unit vectors of `texts`, `[texts, dim]`.
///
/// Equal texts are encoded once. Batches are made of the different texts in byte order, so that the
/// vector of a text does not depend on the order of the rows. `progress` receives texts done and
/// texts in all, repeats not counted.
pub(crate) fn encode(
    model: &SentenceEncoder,
    texts: &[&str],
    batch_size: usize,
    progress: impl FnMut(usize, usize),
) -> Result<Array2<f32>, DiscoverError> {
    let mut places: BTreeMap<&str, usize> = texts.iter().map(|text| (*text, 0)).collect();
    for (at, place) in places.values_mut().enumerate() {
        *place = at;
    }
    let different: Vec<&str> = places.keys().copied().collect();
    model.check_pooling()?;
    let ids = model.token_ids(&different, Prompt::Default)?;
    let mut vectors = encoder::encode_ids(
        &model.bert.valid(),
        model.pooling,
        true,
        &ids,
        batch_size,
        progress,
    )?;
    if model.dim() < vectors.dim {
        vectors = vectors.truncated(model.dim(), true)?;
    }
    let shape = (vectors.rows(), vectors.dim);
    let once = Array2::from_shape_vec(shape, vectors.values)
        .map_err(|error| RunError::Data(format!("vectors: {error}")))?;
    let rows: Vec<usize> = texts
        .iter()
        .filter_map(|text| places.get(text).copied())
        .collect();
    Ok(once.select(Axis(0), &rows))
}

/// The rows `rows` of `vectors`.
pub(crate) fn select(vectors: ArrayView2<'_, f32>, rows: &[usize]) -> Array2<f32> {
    vectors.select(Axis(0), rows)
}

/// Sum of products.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum()
}

/// Mean direction of vectors, `None` where they cancel or there is none. The sum runs over the rows
/// in byte order of their values, so that their order does not matter.
pub(crate) fn mean_direction(vectors: ArrayView2<'_, f32>) -> Option<Vec<f32>> {
    let dim = vectors.ncols();
    let mut sum = vec![0.0_f64; dim];
    for row in clustering::canonical_order(vectors) {
        for (sum, value) in sum.iter_mut().zip(vectors.row(row)) {
            *sum += f64::from(*value);
        }
    }
    let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    (length > 1e-12).then(|| sum.iter().map(|value| (value / length) as f32).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use ndarray::array;

    use super::*;

    #[test]
    fn the_mean_direction_has_unit_length_and_no_order() {
        let vectors = array![[1.0_f32, 0.0], [0.0, 1.0], [0.6, 0.8]];
        let mean = mean_direction(vectors.view()).unwrap();
        assert!((dot(&mean, &mean) - 1.0).abs() < 1e-6);
        let turned = select(vectors.view(), &[2, 0, 1]);
        assert_eq!(mean_direction(turned.view()).unwrap(), mean);
        assert_eq!(
            mean_direction(array![[1.0_f32, 0.0], [-1.0, 0.0]].view()),
            None
        );
        assert_eq!(mean_direction(Array2::zeros((0, 2)).view()), None);
    }
}
