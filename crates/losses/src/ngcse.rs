//! The joint objective of NGCSE: one contrast over ordinary and generated rows, and margins between
//! the levels of the generated ones.

use burn::config::Config;
use burn::tensor::Tensor;

use crate::bank_info_nce::check_temperature;
use crate::error::{LossError, check_count, check_not_empty, check_parameter, check_shape};
use crate::hierarchical_triplet::{HierarchicalTriplet, HierarchicalTripletConfig};
use crate::in_batch::{Candidates, candidate_cross_entropy};
use crate::similarity::{NORM_EPS, l2_normalize};

/// Which level of a generated row is the positive of the contrast.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum GeneratedPositive {
    /// The second of three levels or more, else the first: the released code, which trains on the
    /// intermediate sentence.
    Intermediate,
    /// The first level, always.
    MostSimilar,
}

impl GeneratedPositive {
    /// Place of the positive among `levels` levels.
    fn place(self, levels: usize) -> usize {
        match self {
            Self::Intermediate if levels >= 3 => 1,
            Self::Intermediate | Self::MostSimilar => 0,
        }
    }
}

/// Configuration of [`Ngcse`].
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::{GeneratedRows, HierarchicalTripletConfig, NgcseConfig, OrdinaryRows};
///
/// # fn main() -> Result<(), losses::LossError> {
/// let rows = |seed: f32| {
///     let x = [[seed.sin(), 1.0, 0.2], [0.3, seed.cos(), -1.0]];
///     Tensor::<2>::from_floats(x, &Device::flex())
/// };
/// let loss = NgcseConfig::new()
///     .with_triplet(Some(HierarchicalTripletConfig::new()))
///     .init()?;
/// let ordinary = OrdinaryRows { anchors: rows(0.0), positives: rows(0.1), hard_negatives: None };
/// let generated = GeneratedRows {
///     anchors: rows(2.0),
///     levels: vec![rows(2.1), rows(2.3), rows(5.0)],
/// };
/// let output = loss.forward(Some(ordinary), Some(generated))?;
/// assert_eq!(output.loss.dims(), [1]);
/// # Ok(())
/// # }
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct NgcseConfig {
    /// Temperature tau of the contrast. Finite and greater than 0. Default: 0.05
    #[config(default = 0.05)]
    pub temperature: f64,
    /// Margins between the levels of generated rows; `None` leaves the term out. Default: none
    #[config(default = "None")]
    pub triplet: Option<HierarchicalTripletConfig>,
    /// Weight beta of the triplet term. Finite and not negative. Default: 1
    #[config(default = 1.0)]
    pub beta: f64,
    /// Whether the last level stays a negative of the contrast beside the triplet term.
    /// Default: no, as in the released code
    #[config(default = false)]
    pub keep_hard_negatives: bool,
    /// The positive of a generated row. Default: the intermediate level
    #[config(default = "GeneratedPositive::Intermediate")]
    pub positive: GeneratedPositive,
}

impl NgcseConfig {
    /// Checks the parameters and builds the loss.
    ///
    /// # Errors
    ///
    /// [`LossError::Parameter`] or [`LossError::Count`] naming the first field outside its range.
    pub fn init(&self) -> Result<Ngcse, LossError> {
        check_temperature(OP, self.temperature)?;
        let expected = "a finite number that is not negative";
        check_parameter(OP, "beta", self.beta, expected, |b| b >= 0.0)?;
        let triplet = self.triplet.as_ref().map(|config| config.init());
        Ok(Ngcse {
            triplet: triplet.transpose()?,
            config: self.clone(),
        })
    }
}

/// Rows of an ordinary corpus.
#[derive(Clone, Debug)]
pub struct OrdinaryRows {
    /// `[rows, dim]`
    pub anchors: Tensor<2>,
    /// `[rows, dim]`
    pub positives: Tensor<2>,
    /// `[rows, dim]`
    pub hard_negatives: Option<Tensor<2>>,
}

/// Rows whose similar and less similar companions were generated.
#[derive(Clone, Debug)]
pub struct GeneratedRows {
    /// `[rows, dim]`
    pub anchors: Tensor<2>,
    /// At least one level, most similar first, `[rows, dim]` each.
    pub levels: Vec<Tensor<2>>,
}

/// What [`Ngcse`] returns: `loss = contrast + beta * triplet`, each `[1]`.
#[derive(Clone, Debug)]
pub struct NgcseOutput {
    /// The objective.
    pub loss: Tensor<1>,
    /// Mean of the contrast over all rows.
    pub contrast: Tensor<1>,
    /// Mean of the triplet term over the generated rows, without beta; 0 where there is none.
    pub triplet: Tensor<1>,
}

/// Contrast over ordinary and generated rows together, and margins between generated levels.
///
/// # Mathematical Definition
///
/// With ordinary columns `o_0, o_1[, o_2]`, generated columns `g_0, g_1 .. g_K` and the level `p` of
/// [`GeneratedPositive`]:
///
/// ```text
/// anchors    a = [o_0 ; g_0]
/// candidates c = [o_1 ; g_p ; o_2 ; g_K]
/// L = mean_i ( ln sum_j exp(cos(a_i, c_j) / tau) - cos(a_i, c_i) / tau ) + beta HT(g_0 ; g_1 .. g_K)
/// ```
///
/// `o_2` is missing without ordinary hard negatives. `g_K` is a candidate if there are at least two
/// levels and either no triplet term or `keep_hard_negatives`. `HT` is [`HierarchicalTriplet`].
///
/// # Notes
///
/// - Without generated rows, or with a single level, the triplet term is 0; without triplet term and
///   generated rows this is [`InfoNce`](crate::InfoNce).
/// - With [`GeneratedPositive::Intermediate`] the level `g_1` appears in the triplet term alone.
///
/// # Source
///
/// Released code of NGCSE (`use_native_loss`).
#[derive(Clone, Debug, PartialEq)]
pub struct Ngcse {
    config: NgcseConfig,
    triplet: Option<HierarchicalTriplet>,
}

impl Ngcse {
    /// The checked configuration.
    pub fn config(&self) -> &NgcseConfig {
        &self.config
    }

    /// Both terms over the batch.
    ///
    /// # Errors
    ///
    /// [`LossError::Count`] without any rows or for generated rows without a level,
    /// [`LossError::Shape`] if the columns of a part are empty or differ in shape, or the parts in
    /// their dimension.
    pub fn forward(
        &self,
        ordinary: Option<OrdinaryRows>,
        generated: Option<GeneratedRows>,
    ) -> Result<NgcseOutput, LossError> {
        check_inputs(ordinary.as_ref(), generated.as_ref())?;
        let (mut anchors, mut positives, mut negatives) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(rows) = ordinary {
            anchors.push(rows.anchors);
            positives.push(rows.positives);
            negatives.extend(rows.hard_negatives);
        }
        let mut triplet = None;
        if let Some(rows) = generated {
            let count = rows.levels.len();
            if let Some(loss) = self.triplet.as_ref().filter(|_| count >= 2) {
                triplet = Some(loss.forward(rows.anchors.clone(), &rows.levels)?);
            }
            anchors.push(rows.anchors);
            positives.extend(rows.levels.get(self.config.positive.place(count)).cloned());
            if count >= 2 && (self.triplet.is_none() || self.config.keep_hard_negatives) {
                negatives.extend(rows.levels.last().cloned());
            }
        }
        let unit = |rows: Vec<Tensor<2>>| l2_normalize(Tensor::cat(rows, 0), NORM_EPS);
        let anchors = unit(anchors);
        positives.append(&mut negatives);
        let sets = vec![Candidates::all(unit(positives))];
        let contrast = candidate_cross_entropy(anchors, sets, self.config.temperature).mean();
        Ok(match triplet {
            Some(triplet) => NgcseOutput {
                loss: contrast.clone() + triplet.clone().mul_scalar(self.config.beta),
                contrast,
                triplet,
            },
            None => NgcseOutput {
                loss: contrast.clone(),
                triplet: contrast.zeros_like(),
                contrast,
            },
        })
    }
}

const OP: &str = "ngcse";

/// Refuses parts that are empty or do not fit together.
fn check_inputs(
    ordinary: Option<&OrdinaryRows>,
    generated: Option<&GeneratedRows>,
) -> Result<(), LossError> {
    let parts = usize::from(ordinary.is_some()) + usize::from(generated.is_some());
    check_count(OP, "parts of the batch", parts, 1)?;
    let mut dim = None;
    if let Some(rows) = ordinary {
        let dims = rows.anchors.dims();
        check_not_empty(OP, "ordinary.anchors", dims)?;
        check_shape(OP, "ordinary.positives", &rows.positives.dims(), &dims)?;
        if let Some(negatives) = &rows.hard_negatives {
            check_shape(OP, "ordinary.hard_negatives", &negatives.dims(), &dims)?;
        }
        dim = Some(dims[1]);
    }
    if let Some(rows) = generated {
        let dims = rows.anchors.dims();
        check_not_empty(OP, "generated.anchors", dims)?;
        check_count(OP, "generated.levels", rows.levels.len(), 1)?;
        for level in &rows.levels {
            check_shape(OP, "generated.levels", &level.dims(), &dims)?;
        }
        let dim = dim.unwrap_or(dims[1]);
        check_shape(OP, "generated.anchors", &dims, &[dims[0], dim])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::InfoNceConfig;
    use burn::tensor::Device;

    fn rows(count: usize, seed: f32) -> Tensor<2> {
        let values: Vec<f32> = (0..count * 3)
            .map(|i| (seed + 1.7 * i as f32).sin())
            .collect();
        let data = burn::tensor::TensorData::new(values, [count, 3]);
        Tensor::from_data(data, &Device::flex())
    }

    fn ordinary(hard: bool) -> OrdinaryRows {
        OrdinaryRows {
            anchors: rows(4, 0.0),
            positives: rows(4, 0.3),
            hard_negatives: hard.then(|| rows(4, 2.0)),
        }
    }

    fn generated(levels: usize) -> GeneratedRows {
        GeneratedRows {
            anchors: rows(3, 5.0),
            levels: (0..levels).map(|k| rows(3, 5.2 + 0.4 * k as f32)).collect(),
        }
    }

    fn value(x: Tensor<1>) -> f32 {
        x.into_scalar()
    }

    fn contrast(anchors: &[Tensor<2>], positives: &[Tensor<2>], negatives: &[Tensor<2>]) -> f32 {
        // Any further candidate row, wherever it stands, is one more term of the sum.
        let config = NgcseConfig::new().init().unwrap();
        let cat = |parts: &[Tensor<2>]| Tensor::cat(parts.to_vec(), 0);
        let anchors = l2_normalize(cat(anchors), NORM_EPS);
        let mut all = vec![cat(positives)];
        all.extend(negatives.iter().cloned());
        let sets = vec![Candidates::all(l2_normalize(cat(&all), NORM_EPS))];
        value(candidate_cross_entropy(anchors, sets, config.config().temperature).mean())
    }

    #[test]
    fn ordinary_rows_alone_are_info_nce() {
        let plain = InfoNceConfig::new().init().unwrap();
        for hard in [false, true] {
            let OrdinaryRows {
                anchors,
                positives,
                hard_negatives,
            } = ordinary(hard);
            let want = value(plain.forward(anchors, positives, hard_negatives).unwrap());
            let with = NgcseConfig::new().with_triplet(Some(HierarchicalTripletConfig::new()));
            for config in [NgcseConfig::new(), with] {
                let loss = config.init().unwrap();
                let got = loss.forward(Some(ordinary(hard)), None).unwrap();
                assert_eq!(value(got.loss), want);
                assert_eq!(value(got.triplet), 0.0);
            }
        }
    }

    #[test]
    fn which_level_is_positive_and_when_the_last_is_a_negative() {
        let o = ordinary(false);
        let anchors = [o.anchors, generated(3).anchors];
        let levels = generated(3).levels;
        let level = |k: usize| [o.positives.clone(), levels[k].clone()];
        let config = NgcseConfig::new();
        let triplet = Some(HierarchicalTripletConfig::new());
        let with = config.clone().with_triplet(triplet.clone());
        let run = |config: &NgcseConfig, count| {
            let loss = config.init().unwrap();
            let output = loss.forward(Some(ordinary(false)), Some(generated(count)));
            let output = output.unwrap();
            (value(output.contrast), value(output.triplet))
        };
        // Three levels: the second is the positive, the third a negative unless there are margins.
        assert_eq!(
            run(&config, 3).0,
            contrast(&anchors, &level(1), &levels[2..])
        );
        assert_eq!(run(&with, 3).0, contrast(&anchors, &level(1), &[]));
        let kept = with.clone().with_keep_hard_negatives(true);
        assert_eq!(run(&kept, 3).0, contrast(&anchors, &level(1), &levels[2..]));
        let first = with.clone().with_positive(GeneratedPositive::MostSimilar);
        assert_eq!(run(&first, 3).0, contrast(&anchors, &level(0), &[]));
        // Two levels: positive and negative. One level: a pair, and no margin to keep.
        assert_eq!(
            run(&config, 2).0,
            contrast(&anchors, &level(0), &levels[1..2])
        );
        assert_eq!(run(&with, 1), (contrast(&anchors, &level(0), &[]), 0.0));
        let loss = with.triplet.unwrap().init().unwrap();
        let want = value(loss.forward(generated(3).anchors, &levels).unwrap());
        let output = config
            .with_triplet(triplet)
            .with_beta(0.5)
            .init()
            .unwrap()
            .forward(None, Some(generated(3)))
            .unwrap();
        assert_eq!(value(output.triplet.clone()), want);
        let sum = value(output.contrast) + 0.5 * value(output.triplet);
        approx::assert_abs_diff_eq!(value(output.loss), sum, epsilon = 1e-6);
    }

    #[test]
    fn bad_parameters_and_inputs_are_refused() {
        let config = NgcseConfig::new();
        assert!(config.clone().with_temperature(0.0).init().is_err());
        assert!(config.clone().with_beta(-1.0).init().is_err());
        let margins = HierarchicalTripletConfig::new().with_margins(vec![]);
        assert!(config.clone().with_triplet(Some(margins)).init().is_err());
        let loss = config.init().unwrap();
        assert!(matches!(
            loss.forward(None, None),
            Err(LossError::Count { .. })
        ));
        let error = loss.forward(None, Some(generated(0))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ngcse: generated.levels: found 0, expected at least 1"
        );
        let mut short = ordinary(true);
        short.positives = rows(3, 0.0);
        assert!(loss.forward(Some(short), None).is_err());
        let mut other = generated(2);
        other.levels[1] = rows(2, 0.0);
        assert!(loss.forward(Some(ordinary(false)), Some(other)).is_err());
        let wide = Tensor::<2>::ones([3, 5], &Device::flex());
        let wide = GeneratedRows {
            anchors: wide.clone(),
            levels: vec![wide],
        };
        let error = loss.forward(Some(ordinary(false)), Some(wide)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ngcse: generated.anchors has shape [3, 5], expected [3, 3]"
        );
    }
}
