//! Margins between graded levels of similarity to one anchor.

use burn::config::Config;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use crate::error::{LossError, check_count, check_not_empty, check_parameter, check_shape};
use crate::similarity::{NORM_EPS, l2_normalize, paired_dot};

/// How the terms of the pairs of levels are put together.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum LevelReduction {
    /// Divided by the number of pairs, as in the released code.
    Mean,
    /// Added.
    Sum,
}

/// Configuration of [`HierarchicalTriplet`].
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::HierarchicalTripletConfig;
///
/// # fn main() -> Result<(), losses::LossError> {
/// let loss = HierarchicalTripletConfig::new().with_margins(vec![0.1]).init()?;
/// let row = |x: f32, y: f32| Tensor::<2>::from_floats([[x, y]], &Device::flex());
/// // Cosines 1, 0.6 and 0: both levels are further apart than the margin.
/// let levels = [row(2.0, 0.0), row(3.0, 4.0), row(0.0, 1.0)];
/// let value: f32 = loss.forward(row(1.0, 0.0), &levels)?.into_scalar();
/// assert_eq!(value, 0.0);
/// # Ok(())
/// # }
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct HierarchicalTripletConfig {
    /// Margin of each pair of neighbouring levels, most similar pair first; the last one repeats
    /// where there are more pairs, and those behind the number of pairs are not used. At least one,
    /// each finite and not negative. Default: 0.005, 0.05
    #[config(default = "vec![5e-3, 5e-2]")]
    pub margins: Vec<f64>,
    /// Mean or sum over the pairs of levels. Default: mean
    #[config(default = "LevelReduction::Mean")]
    pub reduction: LevelReduction,
}

impl HierarchicalTripletConfig {
    /// Checks the parameters and builds the loss.
    ///
    /// # Errors
    ///
    /// [`LossError::Count`] without any margin, [`LossError::Parameter`] for a margin that is
    /// negative or not finite.
    pub fn init(&self) -> Result<HierarchicalTriplet, LossError> {
        check_count(OP, "margins", self.margins.len(), 1)?;
        for margin in &self.margins {
            let expected = "a finite number that is not negative";
            check_parameter(OP, "margins", *margin, expected, |m| m >= 0.0)?;
        }
        Ok(HierarchicalTriplet {
            config: self.clone(),
        })
    }
}

/// Hinges between neighbouring levels of similarity (NGCSE).
///
/// # Mathematical Definition
///
/// With an anchor `a`, levels `l_1` (most similar) to `l_K` and margins `m_k`:
///
/// ```text
/// t_ik = max(0, cos(a_i, l_{k+1,i}) - cos(a_i, l_{k,i}) + m_k),   k = 1 .. K - 1
/// L_i  = 1/(K - 1) sum_k t_ik,   L = mean_i L_i
/// ```
///
/// With [`LevelReduction::Sum`] the factor `1/(K - 1)` is missing.
///
/// # Notes
///
/// - Cosines without temperature: margins are differences of cosines.
/// - 0 with gradient 0 once all levels of all rows keep their margins.
///
/// # Source
///
/// Released code of NGCSE; whether the printed formula has the factor `1/(K - 1)` is not settled,
/// hence the option.
#[derive(Clone, Debug, PartialEq)]
pub struct HierarchicalTriplet {
    config: HierarchicalTripletConfig,
}

impl HierarchicalTriplet {
    /// The checked configuration.
    pub fn config(&self) -> &HierarchicalTripletConfig {
        &self.config
    }

    /// Mean of [`HierarchicalTriplet::forward_per_item`] over the batch.
    ///
    /// # Shapes
    ///
    /// - `anchors`, every level: `[batch, dim]`
    /// - output: `[1]`
    ///
    /// # Errors
    ///
    /// As [`HierarchicalTriplet::hinges`].
    pub fn forward(
        &self,
        anchors: Tensor<2>,
        levels: &[Tensor<2>],
    ) -> Result<Tensor<1>, LossError> {
        Ok(self.forward_per_item(anchors, levels)?.mean())
    }

    /// The loss of every anchor.
    ///
    /// # Shapes
    ///
    /// - `anchors`, every level: `[batch, dim]`, most similar level first
    /// - output: `[batch]`
    ///
    /// # Errors
    ///
    /// As [`HierarchicalTriplet::hinges`].
    pub fn forward_per_item(
        &self,
        anchors: Tensor<2>,
        levels: &[Tensor<2>],
    ) -> Result<Tensor<1>, LossError> {
        let hinges = self.hinges(anchors, levels)?; // [batch, pairs]
        let items = match self.config.reduction {
            LevelReduction::Mean => hinges.mean_dim(1),
            LevelReduction::Sum => hinges.sum_dim(1),
        };
        Ok(items.squeeze_dim::<1>(1))
    }

    /// The hinge of every anchor and pair of neighbouring levels.
    ///
    /// # Shapes
    ///
    /// - `anchors`, every level: `[batch, dim]`, most similar level first
    /// - output: `[batch, levels - 1]`
    ///
    /// # Errors
    ///
    /// [`LossError::Count`] for fewer than two levels, [`LossError::Shape`] if the inputs are empty
    /// or differ in shape.
    pub fn hinges(&self, anchors: Tensor<2>, levels: &[Tensor<2>]) -> Result<Tensor<2>, LossError> {
        check_count(OP, "levels", levels.len(), 2)?;
        check_not_empty(OP, "anchors", anchors.dims())?;
        for level in levels {
            check_shape(OP, "levels", &level.dims(), &anchors.dims())?;
        }
        let anchors = l2_normalize(anchors, NORM_EPS);
        let cosines: Vec<Tensor<1>> = levels
            .iter()
            .map(|level| paired_dot(anchors.clone(), l2_normalize(level.clone(), NORM_EPS)))
            .collect();
        let hinges = cosines.windows(2).enumerate().filter_map(|(k, pair)| {
            let [nearer, farther] = pair else { return None };
            let gap = farther.clone() - nearer.clone();
            Some(relu(gap.add_scalar(self.margin(k))).unsqueeze_dim::<2>(1))
        });
        Ok(Tensor::cat(hinges.collect(), 1))
    }

    /// The margin of pair `k`; `init` has seen that there is one.
    fn margin(&self, k: usize) -> f64 {
        let margins = &self.config.margins;
        margins.get(k).or(margins.last()).copied().unwrap_or(0.0)
    }
}

const OP: &str = "hierarchical_triplet";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::Device;

    fn rows(rows: &[[f32; 2]]) -> Tensor<2> {
        let flat: Vec<f32> = rows.iter().flatten().copied().collect();
        let data = burn::tensor::TensorData::new(flat, [rows.len(), 2]);
        Tensor::from_data(data, &Device::flex())
    }

    /// One row per batch with the cosines 0.6, 0.8 and 0 to the anchor.
    fn levels() -> [Tensor<2>; 3] {
        [
            rows(&[[3.0, 4.0]]),
            rows(&[[4.0, 3.0]]),
            rows(&[[0.0, 2.0]]),
        ]
    }

    #[test]
    fn hinges_by_hand_and_both_reductions() {
        // 0.8 - 0.6 + 0.1 = 0.3 and max(0, 0 - 0.8 + 0.1) = 0; with margins 0.1 and 1: 0.3 and 0.2.
        let anchors = rows(&[[7.0, 0.0]]);
        let config = HierarchicalTripletConfig::new();
        for (margins, hinges) in [
            (vec![0.1], [0.3, 0.0]),
            (vec![0.1, 1.0], [0.3, 0.2]),
            (vec![0.1, 1.0, 9.0], [0.3, 0.2]),
        ] {
            let config = config.clone().with_margins(margins);
            let loss = config.init().unwrap();
            let got = loss.hinges(anchors.clone(), &levels()).unwrap();
            let got = got.try_to_vec_as::<f32>().unwrap();
            for (got, want) in got.iter().zip(hinges) {
                approx::assert_abs_diff_eq!(*got, want, epsilon = 1e-6);
            }
            let mean: f32 = loss
                .forward(anchors.clone(), &levels())
                .unwrap()
                .into_scalar();
            approx::assert_abs_diff_eq!(mean, (hinges[0] + hinges[1]) / 2.0, epsilon = 1e-6);
            let sum = config.with_reduction(LevelReduction::Sum).init().unwrap();
            let sum: f32 = sum
                .forward(anchors.clone(), &levels())
                .unwrap()
                .into_scalar();
            approx::assert_abs_diff_eq!(sum, hinges[0] + hinges[1], epsilon = 1e-6);
        }
    }

    #[test]
    fn bad_parameters_and_inputs_are_refused() {
        let config = HierarchicalTripletConfig::new();
        let empty = config.clone().with_margins(vec![]);
        assert!(matches!(
            empty.init(),
            Err(LossError::Count {
                what: "margins",
                ..
            })
        ));
        for margin in [-1e-3, f64::NAN, f64::INFINITY] {
            let config = config.clone().with_margins(vec![0.1, margin]);
            assert!(config.init().is_err(), "{margin}");
        }
        let loss = config.init().unwrap();
        let anchors = rows(&[[1.0, 0.0]]);
        for count in 0..2 {
            let error = loss.forward(anchors.clone(), &levels()[..count]);
            assert_eq!(
                error.unwrap_err().to_string(),
                format!("hierarchical_triplet: levels: found {count}, expected at least 2")
            );
        }
        let two = rows(&[[1.0, 0.0], [0.0, 1.0]]);
        let short = [two.clone(), anchors.clone()];
        assert!(matches!(
            loss.forward(two, &short),
            Err(LossError::Shape { what: "levels", .. })
        ));
        let none = Tensor::<2>::zeros([0, 2], &Device::flex());
        assert!(loss.forward(none.clone(), &[none.clone(), none]).is_err());
    }
}
