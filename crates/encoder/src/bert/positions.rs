//! Positions that enter the attention rather than the embeddings.

use burn::tensor::{Int, Tensor, TensorData};
use kernels::RotaryAngles;

use super::embeddings::Embedding;
use crate::batch::TokenBatch;

/// Distance from which on all distances share a bucket.
const FARTHEST: f32 = 128.0;

/// Added to scores that a window hides: far below every score, yet finite, so that a padded query
/// whose real keys are all hidden still has a softmax.
const OUT_OF_SIGHT: f32 = -1e30;

/// What a batch's positions do to queries, keys and scores.
#[derive(Clone, Debug, Default)]
pub(crate) struct PositionTerms {
    /// Angles of the batch's tokens.
    pub(crate) rotary: Option<RotaryAngles>,
    /// Added to the scores by key position minus query position, `[heads or 1, 2 longest - 1]`.
    pub(crate) bias: Option<Tensor<2>>,
}

impl PositionTerms {
    /// Whether positions do nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.rotary.is_none() && self.bias.is_none()
    }

    /// Rotary angles of base `theta`; tokens more than `window` apart do not see each other.
    pub(crate) fn rotary(batch: &TokenBatch, head: usize, theta: f64, window: usize) -> Self {
        let device = batch.ids.device();
        let positions: Vec<usize> = batch
            .sequences
            .bounds()
            .windows(2)
            .flat_map(|pair| 0..pair[1] - pair[0])
            .collect();
        let longest = batch.sequences.longest();
        let bias = (longest > window.saturating_add(1)).then(|| {
            by_distance(batch, 1, |_, distance| {
                if distance.unsigned_abs() as usize <= window {
                    0.0
                } else {
                    OUT_OF_SIGHT
                }
            })
        });
        Self {
            rotary: Some(RotaryAngles::new(&positions, head, theta, &device)),
            bias,
        }
    }

    /// `-slope_h |i - j|`, the slopes a geometric series.
    ///
    /// Source: Press et al., arXiv 2108.12409, section 3, on both sides of the query.
    pub(crate) fn slopes(batch: &TokenBatch, heads: usize) -> Self {
        let slopes = slopes(heads);
        let bias = by_distance(batch, heads, |head, distance| {
            -(slopes[head] * f64::from(distance.abs())) as f32
        });
        Self {
            rotary: None,
            bias: Some(bias),
        }
    }

    /// A learned bias a head and bucket, `[buckets, heads]`.
    pub(crate) fn buckets(batch: &TokenBatch, table: &Embedding) -> Self {
        let weight = table.weight.val();
        let [buckets, _] = weight.dims();
        let ids: Vec<i32> = distances(batch)
            .map(|distance| bucket(distance, buckets) as i32)
            .collect();
        let count = ids.len();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [count]), &batch.ids.device());
        let bias = weight.select(0, ids).transpose();
        Self {
            rotary: None,
            bias: Some(bias),
        }
    }
}

/// Key position minus query position, from the farthest to the left to the farthest to the right.
fn distances(batch: &TokenBatch) -> impl Iterator<Item = i32> {
    let longest = batch.sequences.longest() as i32;
    1 - longest..longest
}

/// `[heads, 2 longest - 1]` from a function of head and distance.
fn by_distance(batch: &TokenBatch, heads: usize, value: impl Fn(usize, i32) -> f32) -> Tensor<2> {
    let values: Vec<f32> = (0..heads)
        .flat_map(|head| distances(batch).map(move |distance| (head, distance)))
        .map(|(head, distance)| value(head, distance))
        .collect();
    let columns = values.len() / heads.max(1);
    Tensor::from_data(
        TensorData::new(values, [heads, columns]),
        &batch.ids.device(),
    )
}

/// One slope a head: `2^(-8 k / n)` for `n` a power of two; otherwise those of the next lower
/// power, then every other one of twice that power.
fn slopes(heads: usize) -> Vec<f64> {
    let geometric = |count: usize| -> Vec<f64> {
        (1..=count)
            .map(|k| 2f64.powf(-8.0 * k as f64 / count as f64))
            .collect()
    };
    if heads.is_power_of_two() {
        return geometric(heads);
    }
    let below = heads.next_power_of_two() / 2;
    let mut slopes = geometric(below);
    slopes.extend(geometric(2 * below).into_iter().step_by(2));
    slopes.truncate(heads);
    slopes
}

/// Bucket of a distance (key position minus query position): half of the buckets for each
/// direction, the first half of those for exact distances, the rest logarithmic up to [`FARTHEST`].
///
/// Source: Raffel et al., arXiv 1910.10683, section 2.1, in the arrangement of MPNet.
fn bucket(distance: i32, buckets: usize) -> usize {
    let half = buckets / 2;
    let start = if distance > 0 { half } else { 0 };
    let far = distance.unsigned_abs() as usize;
    let exact = half / 2;
    if far < exact {
        return start + far;
    }
    // In f32, as the reference counts: at bounds between buckets the rounding decides.
    let ratio = (far as f32 / exact as f32).ln() / (FARTHEST / exact as f32).ln();
    let steps = (ratio * (half - exact) as f32) as usize;
    start + (exact + steps).min(half - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by `relative_position_bucket` of transformers 5.23 for distances 0, 1, 2, ...
    #[test]
    fn buckets_are_those_of_the_reference() {
        let mut runs: Vec<(usize, i32)> = Vec::new();
        for distance in 0..200 {
            let bucket = bucket(distance, 32);
            if runs.last().is_none_or(|(last, _)| *last != bucket) {
                runs.push((bucket, distance));
            }
            assert_eq!(super::bucket(-distance, 32), bucket % 16);
        }
        let firsts = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];
        let want: Vec<(usize, i32)> = (16..).zip(firsts).collect();
        assert_eq!((runs[0], &runs[1..]), ((0, 0), &want[1..]));
    }

    /// The slopes that the ALiBi paper gives for 8 heads, and the 12 of base models.
    #[test]
    fn slopes_are_geometric() {
        let near = |got: Vec<f64>, want: &[f64]| {
            assert_eq!(got.len(), want.len());
            for (got, want) in got.iter().zip(want) {
                assert!((got - want).abs() < 1e-12, "{got} {want}");
            }
        };
        let eight: Vec<f64> = (1..=8).map(|k| 0.5f64.powi(k)).collect();
        near(slopes(8), &eight);
        let mut twelve = eight;
        twelve.extend([1, 3, 5, 7].map(|k| 0.5f64.powf(f64::from(k) / 2.0)));
        near(slopes(12), &twelve);
        near(slopes(1), &[1.0 / 256.0]);
    }
}
