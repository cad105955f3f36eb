//! Cross entropy of a batch over sets of candidates that the batch itself supplies, in one piece or
//! in blocks of columns.

use burn::tensor::{Bool, Device, Int, Tensor};

use crate::bank_info_nce::{bank_cross_entropy, scaled_scores};
use crate::coarse_cross_entropy::cross_entropy;
use crate::error::LossError;
use crate::known_gradient::with_gradient;
use crate::similarity::paired_dot;

/// Candidates that every row of the batch may choose from.
#[derive(Clone, Debug)]
pub(crate) struct Candidates {
    /// Unit rows, `[count, dim]`.
    pub(crate) rows: Tensor<2>,
    /// What row `i` of the batch makes of candidate `i`.
    pub(crate) own: Own,
}

/// The part that candidate `i` plays for row `i` of the batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Own {
    /// That of any other.
    Candidate,
    /// None: it is the row itself, or something that is no negative of it.
    LeftOut,
    /// Its logit is shifted.
    Shifted(f64),
}

impl Candidates {
    /// Candidates without a special one.
    pub(crate) fn all(rows: Tensor<2>) -> Self {
        let own = Own::Candidate;
        Self { rows, own }
    }

    /// Logits of the candidates `start..start + length`, `[batch, length]`.
    fn logits(&self, scaled: &Tensor<2>, start: usize, length: usize) -> Tensor<2> {
        let rows = self.rows.clone().narrow(0, start, length);
        let logits = scaled.clone().matmul(rows.transpose());
        self.own.apply(logits, start)
    }
}

impl Own {
    /// Applies the rule to the logits of the candidates from `start` on, `[batch, length]`.
    fn apply(self, logits: Tensor<2>, start: usize) -> Tensor<2> {
        let [batch, length] = logits.dims();
        let mask = || own_mask(batch, start, length, &logits.device());
        match self {
            Self::Candidate => logits,
            Self::LeftOut => {
                let mask = mask();
                logits.mask_fill(mask, f32::NEG_INFINITY)
            }
            Self::Shifted(by) => {
                let shift = mask().float().mul_scalar(by);
                logits + shift
            }
        }
    }
}

/// True where candidate `start + j` belongs to row `i`, that is `i = start + j`; `[batch, length]`.
pub(crate) fn own_mask(
    batch: usize,
    start: usize,
    length: usize,
    device: &Device,
) -> Tensor<2, Bool> {
    let rows = range(0, batch, device).reshape([batch, 1]);
    let columns = range(start, length, device).reshape([1, length]);
    rows.expand([batch, length])
        .equal(columns.expand([batch, length]))
}

/// `0, 1, ..., batch - 1`, `[batch]`: the places of the positives among the candidates.
pub(crate) fn own_ids(batch: usize, device: &Device) -> Tensor<1, Int> {
    range(0, batch, device)
}

/// `start, ..., start + length - 1`, `[length]`.
fn range(start: usize, length: usize, device: &Device) -> Tensor<1, Int> {
    let bound = |at: usize| i64::try_from(at).unwrap_or(i64::MAX);
    Tensor::arange(bound(start)..bound(start + length), device)
}

/// Logits of all sets side by side, `[batch, candidates]`.
pub(crate) fn logits(anchors: &Tensor<2>, sets: &[Candidates], temperature: f64) -> Tensor<2> {
    let all = sets.iter().map(|set| {
        let scores = scaled_scores(anchors.clone(), set.rows.clone(), temperature);
        set.own.apply(scores, 0)
    });
    Tensor::cat(all.collect(), 1)
}

/// `ln sum_j exp(z_ij) - z_ii` over the candidates of all sets, `[batch]`; candidate `i` of the
/// first set is the positive of row `i`.
pub(crate) fn candidate_cross_entropy(
    anchors: Tensor<2>,
    sets: Vec<Candidates>,
    temperature: f64,
) -> Tensor<1> {
    let [batch, _] = anchors.dims();
    let ids = own_ids(batch, &anchors.device());
    if sets.iter().any(|set| set.own != Own::Candidate) {
        return cross_entropy(logits(&anchors, &sets, temperature), ids);
    }
    // Without an exception among the logits, the candidates are a bank whose row `i` is the only
    // neighbour of row `i`: no matrix of logits is kept twice.
    let rows = sets.into_iter().map(|set| set.rows).collect();
    let weights = Tensor::ones([batch, 1], &anchors.device());
    let ids = ids.reshape([batch, 1]);
    bank_cross_entropy(anchors, Tensor::cat(rows, 0), ids, weights, temperature)
}

/// Mean of [`candidate_cross_entropy`] in blocks of `chunk` candidates, `[1]`.
///
/// Two passes over the blocks, both without a graph: the first keeps the running maximum and sum of
/// every row, the second forms the blocks again and with them the gradients
///
/// ```text
/// da_i = sum_j (P_ij - Y_ij) c_j / (batch tau)      dc_j = sum_i (P_ij - Y_ij) a_i / (batch tau)
/// ```
///
/// of the unit rows, `P` the softmax and `Y` the positives. Memory `O(batch (dim + chunk))` besides
/// the candidates, in the backward pass too.
pub(crate) fn chunked_cross_entropy(
    anchors: Tensor<2>,
    sets: &[Candidates],
    temperature: f64,
    chunk: usize,
) -> Tensor<1> {
    let [batch, dim] = anchors.dims();
    let factor = 1.0 / (batch as f64 * temperature);
    let fixed: Vec<Candidates> = sets
        .iter()
        .map(|set| Candidates {
            rows: set.rows.clone().without_autodiff(),
            own: set.own,
        })
        .collect();
    let unit = anchors.clone().without_autodiff();
    let scaled = unit.clone().div_scalar(temperature);
    let Some(first) = fixed.first() else {
        return Tensor::zeros([1], &anchors.device());
    };

    // The positive is one of the candidates, so its logit is a maximum to begin with that is finite.
    let positive = paired_dot(scaled.clone(), first.rows.clone().narrow(0, 0, batch));
    let positive = positive.reshape([batch, 1]);
    let mut largest = positive.clone(); // [batch, 1]
    let mut sum = largest.zeros_like();
    for set in &fixed {
        for (start, length) in blocks(set.rows.dims()[0], chunk) {
            let logits = set.logits(&scaled, start, length); // [batch, length]
            let now = largest.clone().max_pair(logits.clone().max_dim(1));
            let added = (logits - now.clone()).exp().sum_dim(1);
            sum = sum * (largest - now.clone()).exp() + added;
            largest = now;
        }
    }
    let log_sums = largest + sum.log(); // [batch, 1]
    let mut loss = (log_sums.clone() - positive).mean();

    let wanted = anchors.is_tracked() || sets.iter().any(|set| set.rows.is_tracked());
    if !wanted {
        return loss;
    }
    let mut anchor_gradient = Tensor::<2>::zeros([batch, dim], &unit.device());
    for (at, (set, tracked)) in fixed.iter().zip(sets).enumerate() {
        let mut gradients = Vec::new();
        for (start, length) in blocks(set.rows.dims()[0], chunk) {
            let logits = set.logits(&scaled, start, length);
            let mut share = (logits - log_sums.clone()).exp(); // P, [batch, length]
            if at == 0 && start < batch {
                share = share - own_mask(batch, start, length, &unit.device()).float();
            }
            let share = share.mul_scalar(factor);
            if tracked.rows.is_tracked() {
                gradients.push(share.clone().transpose().matmul(unit.clone()));
            }
            let rows = set.rows.clone().narrow(0, start, length);
            anchor_gradient = anchor_gradient + share.matmul(rows);
        }
        if tracked.rows.is_tracked() {
            loss = with_gradient(loss, &tracked.rows, Tensor::cat(gradients, 0));
        }
    }
    if anchors.is_tracked() {
        loss = with_gradient(loss, &anchors, anchor_gradient);
    }
    loss
}

/// Refuses a batch in which a row has no negative.
pub(crate) fn check_batch(
    op: &'static str,
    rows: usize,
    has_negatives: bool,
) -> Result<(), LossError> {
    let (least, expected) = if has_negatives {
        (1, "at least 1 with hard negatives")
    } else {
        (
            2,
            "at least 2: without hard negatives the other rows are the negatives",
        )
    };
    if rows >= least {
        return Ok(());
    }
    Err(LossError::Count {
        op,
        what: "rows of the batch",
        expected: expected.to_owned(),
        found: rows,
    })
}

/// Start and length of every block of `0..count`.
pub(crate) fn blocks(count: usize, chunk: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count)
        .step_by(chunk)
        .map(move |start| (start, chunk.min(count - start)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn blocks_cover_everything_once() {
        assert_eq!(blocks(7, 3).collect::<Vec<_>>(), [(0, 3), (3, 3), (6, 1)],);
        assert_eq!(blocks(2, 5).collect::<Vec<_>>(), [(0, 2)]);
        assert_eq!(blocks(0, 5).count(), 0);
    }

    #[test]
    fn the_own_candidate_stands_on_the_shifted_diagonal() {
        let mask = own_mask(3, 1, 2, &Device::flex()).int();
        let mask = mask.try_to_vec_as::<i64>().unwrap();
        assert_eq!(mask, [0, 0, 1, 0, 0, 1]);
    }

    #[test]
    fn a_left_out_candidate_counts_nothing_and_gets_no_gradient() {
        let device = Device::flex().autodiff();
        let eye = Tensor::<2>::eye(2, &device);
        let own = eye.clone().require_grad();
        let sets = vec![
            Candidates::all(eye.clone()),
            Candidates {
                rows: own.clone(),
                own: Own::LeftOut,
            },
        ];
        // ln(e + 1 + 1) - 1: the own row is not a candidate, the other one is.
        let want = (std::f32::consts::E + 2.0).ln() - 1.0;
        let dense = candidate_cross_entropy(eye.clone(), sets.clone(), 1.0).mean();
        let blocks = chunked_cross_entropy(eye, &sets, 1.0, 1);
        for loss in [dense, blocks] {
            let gradient = own.grad(&loss.backward()).unwrap();
            let gradient = gradient.try_to_vec_as::<f32>().unwrap();
            approx::assert_abs_diff_eq!(loss.into_scalar::<f32>(), want, epsilon = 1e-6);
            // Candidate 0 is seen by row 1 alone: P / 2 times (0, 1).
            let share = 0.5 / (std::f32::consts::E + 2.0);
            for (got, want) in gradient.iter().zip([0.0, share, share, 0.0]) {
                approx::assert_abs_diff_eq!(*got, want, epsilon = 1e-6);
            }
        }
    }
}
