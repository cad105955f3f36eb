//! In-batch contrast without the candidates that a guide takes for positives.

use burn::config::Config;
use burn::tensor::Tensor;

use crate::bank_info_nce::{check_temperature, scaled_scores};
use crate::coarse_cross_entropy::cross_entropy;
use crate::error::{LossError, check_not_empty, check_parameter, check_shape};
use crate::in_batch::{own_ids, own_mask};
use crate::similarity::{NORM_EPS, l2_normalize};

/// How far below the guide's similarity of the positive a candidate has to stay.
#[derive(Config, Debug, Copy, PartialEq)]
pub enum GistMargin {
    /// `t_i = g_ii - m`. Finite and not negative.
    Absolute(f64),
    /// `t_i = g_ii - m |g_ii|`. Finite and not negative.
    Relative(f64),
}

/// Configuration of [`Gist`].
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::{GistColumns, GistConfig};
///
/// # fn main() -> Result<(), losses::LossError> {
/// let columns = |dim: usize| GistColumns {
///     anchors: Tensor::ones([2, dim], &Device::flex()),
///     positives: Tensor::ones([2, dim], &Device::flex()),
///     hard_negatives: None,
/// };
/// // The guide's embeddings may have another size.
/// let loss = GistConfig::new().init()?.forward(columns(3), columns(5))?;
/// assert_eq!(loss.dims(), [1]);
/// # Ok(())
/// # }
/// ```
#[derive(Config, Debug, Copy, PartialEq)]
pub struct GistConfig {
    /// Temperature tau that divides the cosines. Finite and greater than 0. Default: 0.01
    #[config(default = 0.01)]
    pub temperature: f64,
    /// Margin below the similarity of the positive. Default: 0, absolute
    #[config(default = "GistMargin::Absolute(0.0)")]
    pub margin: GistMargin,
    /// Whether other anchors are candidates. Default: yes
    #[config(default = true)]
    pub contrast_anchors: bool,
    /// Whether the cosines of an anchor's positive with other positives count as well. Default: yes
    #[config(default = true)]
    pub contrast_positives: bool,
}

impl GistConfig {
    /// Checks the parameters and builds the loss.
    ///
    /// # Errors
    ///
    /// [`LossError::Parameter`] if the temperature is not finite or not greater than 0, or the
    /// margin is negative or not finite.
    pub fn init(&self) -> Result<Gist, LossError> {
        check_temperature(OP, self.temperature)?;
        let (GistMargin::Absolute(margin) | GistMargin::Relative(margin)) = self.margin;
        let expected = "a finite number that is not negative";
        check_parameter(OP, "margin", margin, expected, |m| m >= 0.0)?;
        Ok(Gist { config: *self })
    }
}

/// Embeddings of a batch by one model.
#[derive(Clone, Debug)]
pub struct GistColumns {
    /// `[batch, dim]`
    pub anchors: Tensor<2>,
    /// `[batch, dim]`
    pub positives: Tensor<2>,
    /// `[batch, dim]`
    pub hard_negatives: Option<Tensor<2>>,
}

/// Guided in-sample selection of negatives (GISTEmbed).
///
/// # Mathematical Definition
///
/// With cosines `s` of the model and `g` of the guide, and the threshold `t_i` of [`GistMargin`]:
///
/// ```text
/// candidates of row i:  (a_i, p_j), (a_i, a_j) j != i, (p_i, p_j) j != i, (a_i, n_j)
/// kept:                 the positive (a_i, p_i), and every candidate with g <= t_i
/// L_i = ln sum_kept exp(s / tau) - s(a_i, p_i) / tau,   L = mean_i L_i
/// ```
///
/// # Notes
///
/// - A candidate that the guide finds more similar than the positive is likely a positive nobody
///   marked; it leaves the sum.
/// - The guide is a constant.
/// - Texts never meet themselves, whatever the guide says. The reference implementation lets its
///   guide decide this too, with the same result wherever the guide's similarity of the pair is
///   below 1 by more than rounding.
///
/// # Source
///
/// Solatorio, "GISTEmbed: Guided In-sample Selection of Training Negatives for Text Embedding
/// Fine-tuning" (arXiv 2402.16829); margins as in sentence-transformers 6.2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gist {
    config: GistConfig,
}

impl Gist {
    /// The checked configuration.
    pub fn config(&self) -> &GistConfig {
        &self.config
    }

    /// Mean of [`Gist::forward_per_item`] over the batch.
    ///
    /// # Shapes
    ///
    /// - output: `[1]`
    ///
    /// # Errors
    ///
    /// As [`Gist::forward_per_item`].
    pub fn forward(&self, model: GistColumns, guide: GistColumns) -> Result<Tensor<1>, LossError> {
        Ok(self.forward_per_item(model, guide)?.mean())
    }

    /// The loss of every anchor.
    ///
    /// # Shapes
    ///
    /// - columns of `model`: `[batch, dim]`, of `guide`: `[batch, guide_dim]`
    /// - output: `[batch]`
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] if columns are empty, differ in shape, or one side alone has hard
    /// negatives.
    pub fn forward_per_item(
        &self,
        model: GistColumns,
        guide: GistColumns,
    ) -> Result<Tensor<1>, LossError> {
        let batch = check_inputs(&model, &guide)?;
        let model = model.map(|x| l2_normalize(x, NORM_EPS));
        let guide = guide.map(|x| l2_normalize(x.without_autodiff(), NORM_EPS));
        let device = guide.anchors.device();

        let of_guide = |x: &Tensor<2>, y: &Tensor<2>| x.clone().matmul(y.clone().transpose());
        let itself = own_mask(batch, 0, batch, &device);
        let own = of_guide(&guide.anchors, &guide.positives) * itself.clone().float();
        let own = own.sum_dim(1); // [batch, 1]
        let threshold = match self.config.margin {
            GistMargin::Absolute(margin) => own.sub_scalar(margin),
            GistMargin::Relative(margin) => own.clone() - own.abs().mul_scalar(margin),
        };
        let threshold = threshold.expand([batch, batch]);
        // Logits of one kind of candidates; `own` decides over candidate `i` of row `i`.
        let logits = |model: [&Tensor<2>; 2], guide: [&Tensor<2>; 2], own: Itself| {
            let [x, y] = model.map(Tensor::clone);
            let similar = of_guide(guide[0], guide[1]).greater(threshold.clone());
            let dropped = match own {
                Itself::Positive => similar.bool_and(itself.clone().bool_not()),
                Itself::SameText => similar.bool_or(itself.clone()),
                Itself::Negative => similar,
            };
            scaled_scores(x, y, self.config.temperature).mask_fill(dropped, f32::NEG_INFINITY)
        };

        let (a, p) = (&model.anchors, &model.positives);
        let (guide_a, guide_p) = (&guide.anchors, &guide.positives);
        let mut all = vec![logits([a, p], [guide_a, guide_p], Itself::Positive)];
        if self.config.contrast_anchors {
            all.push(logits([a, a], [guide_a, guide_a], Itself::SameText));
        }
        if self.config.contrast_positives {
            all.push(logits([p, p], [guide_p, guide_p], Itself::SameText));
        }
        if let (Some(n), Some(guide_n)) = (&model.hard_negatives, &guide.hard_negatives) {
            all.push(logits([a, n], [guide_a, guide_n], Itself::Negative));
        }
        let ids = own_ids(batch, &model.anchors.device());
        Ok(cross_entropy(Tensor::cat(all, 1), ids))
    }
}

const OP: &str = "gist";

/// What candidate `i` of a kind is to row `i`.
#[derive(Clone, Copy)]
enum Itself {
    Positive,
    SameText,
    Negative,
}

impl GistColumns {
    /// Applies `f` to every column.
    fn map(self, f: impl Fn(Tensor<2>) -> Tensor<2>) -> Self {
        Self {
            anchors: f(self.anchors),
            positives: f(self.positives),
            hard_negatives: self.hard_negatives.map(f),
        }
    }

    /// Refuses columns that are empty or differ in shape.
    fn check(&self, names: [&'static str; 3]) -> Result<usize, LossError> {
        let dims = self.anchors.dims();
        check_not_empty(OP, names[0], dims)?;
        check_shape(OP, names[1], &self.positives.dims(), &dims)?;
        if let Some(negatives) = &self.hard_negatives {
            check_shape(OP, names[2], &negatives.dims(), &dims)?;
        }
        Ok(dims[0])
    }
}

/// The number of rows on both sides.
fn check_inputs(model: &GistColumns, guide: &GistColumns) -> Result<usize, LossError> {
    let batch = model.check(["model.anchors", "model.positives", "model.hard_negatives"])?;
    guide.check(["guide.anchors", "guide.positives", "guide.hard_negatives"])?;
    let [_, guide_dim] = guide.anchors.dims();
    check_shape(
        OP,
        "guide.anchors",
        &guide.anchors.dims(),
        &[batch, guide_dim],
    )?;
    match (&model.hard_negatives, &guide.hard_negatives) {
        (Some(_), None) | (None, Some(_)) => Err(LossError::Options {
            op: OP,
            expected: "hard negatives from both or from none",
            found: "hard negatives from one of model and guide",
        }),
        _ => Ok(batch),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::Device;

    fn rows(rows: [[f32; 2]; 2]) -> Tensor<2> {
        Tensor::from_floats(rows, &Device::flex())
    }

    /// Both texts on the axes for the model: every other candidate has logit 0.
    fn model() -> GistColumns {
        let axes = rows([[1.0, 0.0], [0.0, 1.0]]);
        GistColumns {
            anchors: axes.clone(),
            positives: axes,
            hard_negatives: None,
        }
    }

    /// Guide cosines: row 0 has its positive at 0.6 and the other one at 0.8, row 1 at 1 and 0.
    fn guide() -> GistColumns {
        GistColumns {
            anchors: rows([[1.0, 0.0], [0.8, 0.6]]),
            positives: rows([[0.6, 0.8], [0.8, 0.6]]),
            hard_negatives: None,
        }
    }

    fn items(config: GistConfig, model: GistColumns, guide: GistColumns) -> Vec<f32> {
        let loss = config.with_temperature(1.0).init().unwrap();
        let items = loss.forward_per_item(model, guide).unwrap();
        items.try_to_vec_as::<f32>().unwrap()
    }

    #[test]
    fn candidates_above_the_threshold_leave_the_sum() {
        let e = std::f32::consts::E;
        let of = |others: f32| (e + others).ln() - 1.0;
        let config = GistConfig::new()
            .with_contrast_anchors(false)
            .with_contrast_positives(false);
        let check = |config, others: [f32; 2]| {
            let got = items(config, model(), guide());
            for (got, others) in got.iter().zip(others) {
                approx::assert_abs_diff_eq!(*got, of(others), epsilon = 1e-6);
            }
        };
        // Row 0: 0.8 > 0.6 drops p_1. Row 1: cos(a_1, p_0) = 0.96 stays below 1.
        check(config, [0.0, 1.0]);
        check(config.with_margin(GistMargin::Absolute(0.05)), [0.0, 0.0]);
        check(config.with_margin(GistMargin::Relative(0.03)), [0.0, 1.0]);
        check(config.with_margin(GistMargin::Relative(0.05)), [0.0, 0.0]);
        // cos(a_0, a_1) = 0.8, cos(p_0, p_1) = 0.96: dropped for row 0, kept for row 1.
        check(config.with_contrast_anchors(true), [0.0, 2.0]);
        check(config.with_contrast_positives(true), [0.0, 2.0]);
        check(GistConfig::new(), [0.0, 3.0]);
    }

    #[test]
    fn a_relative_margin_lowers_a_negative_threshold_too() {
        // Row 0: the positive at -0.6, the other one at -0.62 and above -0.6 - 0.1 * 0.6. Row 1: the
        // other one at 0.8, above 0.784 - 0.1 * 0.784.
        let mut guide = guide();
        guide.anchors = rows([[1.0, 0.0], [0.0, 1.0]]);
        guide.positives = rows([[-0.6, 0.8], [-0.62, 0.784_6]]);
        let config = GistConfig::new()
            .with_contrast_anchors(false)
            .with_contrast_positives(false)
            .with_margin(GistMargin::Relative(0.1));
        for item in items(config, model(), guide) {
            approx::assert_abs_diff_eq!(item, 0.0, epsilon = 1e-6);
        }
    }

    #[test]
    fn hard_negatives_are_judged_one_by_one() {
        let (mut ours, mut theirs) = (model(), guide());
        ours.hard_negatives = Some(rows([[0.0, 1.0], [-1.0, 0.0]]));
        // Guide cosines of a_0: 0 and 1; of a_1: 0.6 and 0.8.
        theirs.hard_negatives = Some(rows([[0.0, 1.0], [1.0, 0.0]]));
        let config = GistConfig::new()
            .with_contrast_anchors(false)
            .with_contrast_positives(false);
        let got = items(config, ours, theirs);
        let e = std::f32::consts::E;
        // Row 0: p_1 and n_1 dropped, n_0 at logit 0. Row 1: p_0 at 0, n_0 at 1, n_1 at 0.
        approx::assert_abs_diff_eq!(got[0], (e + 1.0).ln() - 1.0, epsilon = 1e-6);
        approx::assert_abs_diff_eq!(got[1], (2.0 * e + 2.0).ln() - 1.0, epsilon = 1e-6);
    }

    #[test]
    fn a_text_never_meets_itself_and_a_perfect_guide_drops_nothing_else() {
        // The guide gives pairs the similarity 1, as a guide does for two copies of a text.
        let config = GistConfig::new();
        let e = std::f32::consts::E;
        for got in items(config, model(), model()) {
            approx::assert_abs_diff_eq!(got, (e + 3.0).ln() - 1.0, epsilon = 1e-6);
        }
    }

    #[test]
    fn bad_parameters_and_inputs_are_refused() {
        assert!(GistConfig::new().with_temperature(-1.0).init().is_err());
        for margin in [-0.1, f64::NAN] {
            for margin in [GistMargin::Absolute(margin), GistMargin::Relative(margin)] {
                assert!(GistConfig::new().with_margin(margin).init().is_err());
            }
        }
        let loss = GistConfig::new().init().unwrap();
        let ones = |rows| Tensor::<2>::ones([rows, 3], &Device::flex());
        let columns = |rows| GistColumns {
            anchors: ones(rows),
            positives: ones(rows),
            hard_negatives: None,
        };
        assert!(loss.forward(columns(2), columns(3)).is_err());
        assert!(loss.forward(columns(0), columns(0)).is_err());
        let mut hard = columns(2);
        hard.hard_negatives = Some(ones(2));
        let error = loss.forward(hard.clone(), columns(2)).unwrap_err();
        assert!(matches!(error, LossError::Options { .. }), "{error}");
        hard.hard_negatives = Some(ones(1));
        let error = loss.forward(columns(2), hard).unwrap_err();
        assert_eq!(
            error.to_string(),
            "gist: guide.hard_negatives has shape [1, 3], expected [2, 3]"
        );
    }
}
