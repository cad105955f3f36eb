//! The STAR objective: contrast over a memory bank, guided by the divergence between the query and
//! every bank row seen as distributions.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::tensor::activation::softplus;
use burn::tensor::{Device, Tensor};
use kernels::{GaussianStar, StarSettings, gaussian_star};

use crate::bank_info_nce::{
    bank_cross_entropy, check_bank_inputs, check_temperature, neighbour_cross_entropy,
    scaled_scores,
};
use crate::error::{LossError, check_parameter, check_shape};
use crate::gaussian_kl::{GaussianHeads, symmetric_gaussian_kl};
use crate::neighbour_targets::{NeighbourTargets, WeightNormalization};
use crate::similarity::{InputNormalization, check_same_dim};
use crate::softmax_kl::{KlForm, symmetric_softmax_kl};

/// Smallest base whose logarithm is taken.
const SMALLEST_BASE: f64 = 1e-6;

/// What turns two embeddings into the divergence `d` of [`Star`].
#[derive(Config, Debug, Copy, PartialEq)]
pub enum Divergence {
    /// Diagonal Gaussians from two trainable heads, half the sum of both divergences. The released
    /// code.
    Gaussian {
        /// Dimensions of the Gaussian, at least 1.
        dim: usize,
        /// Added to every variance, not negative.
        var_floor: f64,
        /// Whether the heads learn from the bank side as well. `false` is an approximation that
        /// leaves out the backward pass through the heads of the bank.
        bank_head_grad: bool,
    },
    /// Softmax distributions of the embeddings themselves, without trainable parts.
    Softmax {
        /// Temperature inside the softmax, greater than 0.
        temperature: f64,
        /// Sum or mean of the two directions.
        form: KlForm,
    },
}

/// How the base `B` of the weight `B^d` is stored and whether it learns.
///
/// The gradient of the loss in `ln B` is a weighted mean of divergences and so never negative:
/// training can only lower `B`.
#[derive(Config, Debug, Copy, PartialEq)]
pub enum BaseParameterization {
    /// `B` itself is the parameter; the loss takes `ln max(B, 1e-6)`. Initial value greater than 0.
    TrainableRaw(f64),
    /// `ln B` is the parameter. Initial `B` greater than 0.
    TrainableLog(f64),
    /// `B = 1 + softplus(theta)`, so that a larger divergence always weighs more. Initial `B`
    /// greater than 1.
    TrainableGreaterThanOne(f64),
    /// A constant greater than 0.
    Fixed(f64),
}

/// Configuration of [`Star`]. The defaults are those of the released code.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::{NeighbourTargets, StarConfig};
///
/// # fn main() -> Result<(), losses::LossError> {
/// let device = Device::flex().autodiff();
/// let star = StarConfig::new(2).init(&device, 0)?;
/// let bank = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], &device);
/// let queries = Tensor::<2>::from_floats([[0.9, 0.1]], &device).require_grad();
/// let targets = NeighbourTargets::from_rows(&[vec![(0, 1.0), (2, 0.5)]], &device)?;
/// let output = star.forward(queries.clone(), bank, &targets)?;
/// let gradients = output.loss.backward();
/// assert!(queries.grad(&gradients).is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Config, Debug, Copy, PartialEq)]
pub struct StarConfig {
    /// Size of the embeddings.
    pub hidden: usize,
    /// Temperature tau of both terms. Finite and greater than 0. Default: 0.07
    #[config(default = 0.07)]
    pub temperature: f64,
    /// Weight of the divergence term. Finite and not negative. Default: 0.05
    #[config(default = 0.05)]
    pub gamma: f64,
    /// Where the divergence comes from. Default: Gaussian, 128 dimensions, floor 1e-8
    #[config(default = "Divergence::Gaussian { dim: 128, var_floor: 1e-8, bank_head_grad: true }")]
    pub divergence: Divergence,
    /// The base `B`. Default: trainable as it is, from 10
    #[config(default = "BaseParameterization::TrainableRaw(10.0)")]
    pub base: BaseParameterization,
    /// Treatment of the neighbour weights. Default: divided by their row sum
    #[config(default = "WeightNormalization::Row")]
    pub weight_normalization: WeightNormalization,
    /// Whether the weight `B^d` is applied. Default: yes
    #[config(default = true)]
    pub kl_guidance: bool,
    /// Whether the divergence term is part of the loss. Default: yes
    #[config(default = true)]
    pub kl_term: bool,
    /// Which inputs are brought to unit length first. Default: the queries
    #[config(default = "InputNormalization::Queries")]
    pub normalize_inputs: InputNormalization,
}

impl StarConfig {
    /// Checks the parameters and builds the objective on `device`. `seed` decides the Gaussian
    /// heads and nothing else.
    ///
    /// # Errors
    ///
    /// [`LossError::Parameter`] naming the first field outside its range.
    pub fn init(&self, device: &Device, seed: u64) -> Result<Star, LossError> {
        self.check()?;
        let heads = match self.divergence {
            Divergence::Gaussian { dim, var_floor, .. } => Some(GaussianHeads::new(
                self.hidden,
                dim,
                var_floor,
                device,
                seed,
            )?),
            Divergence::Softmax { .. } => None,
        };
        let (stored, trainable) = match self.base {
            BaseParameterization::TrainableRaw(base) => (base, true),
            BaseParameterization::TrainableLog(base) => (base.ln(), true),
            // Inverse of softplus at base - 1, in the form that does not overflow.
            BaseParameterization::TrainableGreaterThanOne(base) => {
                let above = base - 1.0;
                (above + (-(-above).exp_m1()).ln(), true)
            }
            BaseParameterization::Fixed(base) => (base, false),
        };
        let base = Param::from_tensor(Tensor::from_floats([stored as f32], device))
            .set_require_grad(trainable);
        Ok(Star {
            base,
            heads,
            config: *self,
        })
    }

    fn check(&self) -> Result<(), LossError> {
        check_parameter(OP, "hidden", self.hidden as f64, "at least 1", |v| v >= 1.0)?;
        check_temperature(OP, self.temperature)?;
        check_parameter(
            OP,
            "gamma",
            self.gamma,
            "a finite number that is not negative",
            |v| v >= 0.0,
        )?;
        // The heads check their own size and floor.
        if let Divergence::Softmax { temperature, .. } = self.divergence {
            check_parameter(
                OP,
                "divergence.temperature",
                temperature,
                "a finite number greater than 0",
                |v| v > 0.0,
            )?;
        }
        let (base, smallest, expected) = match self.base {
            BaseParameterization::TrainableGreaterThanOne(base) => {
                (base, 1.0, "a finite number greater than 1")
            }
            BaseParameterization::TrainableRaw(base)
            | BaseParameterization::TrainableLog(base)
            | BaseParameterization::Fixed(base) => (base, 0.0, "a finite number greater than 0"),
        };
        check_parameter(OP, "base", base, expected, |v| {
            v > smallest && v <= f64::from(f32::MAX)
        })
    }
}

/// What [`Star`] returns: `loss = kl_term + euclidean_term`, each of shape `[1]` from
/// [`Star::forward`] and `[batch]` from [`Star::forward_per_item`].
#[derive(Clone, Debug)]
pub struct StarOutput {
    /// The objective.
    pub loss: Tensor<1>,
    /// The divergence term, already multiplied by gamma; 0 if it is switched off.
    pub kl_term: Tensor<1>,
    /// The guided contrast.
    pub euclidean_term: Tensor<1>,
}

/// STAR: fine-grained contrast over a memory bank, guided by a divergence.
///
/// # Mathematical Definition
///
/// With queries `q_i`, bank rows `h_j`, similarity `s_ij = q_i . h_j`, divergence `d_ij`
/// ([`symmetric_gaussian_kl`] or [`symmetric_softmax_kl`]), neighbours `n(i, r)` with weights
/// `w_ir`, `W_i = sum_r w_ir` and base `B`:
///
/// ```text
/// KL_i = W_i ln sum_j exp( -d_ij / tau )              + (1 / tau) sum_r w_ir d_{i, n(i,r)}
/// EU_i = W_i ln sum_j exp( s_ij / tau + d_ij ln B )   - (1 / tau) sum_r w_ir s_{i, n(i,r)}
/// L    = mean_i ( gamma KL_i + EU_i )
/// ```
///
/// The weight `B^d` stands in the denominator of the second term only.
///
/// # Notes
///
/// - All sums of exponentials are taken with the row maximum subtracted. `B^d exp(s / tau)` itself
///   overflows f32 from `d = 32` on with `B = 10`, and `exp(-d / tau)` is 0 for `d > 7.3`.
/// - Gradients reach the queries through `s` and through `d`, the heads from the query side and
///   from the bank side, the base, and the bank where it requires them.
/// - Weights divided by their row sum (the default, as released) make `W_i` 1; the printed formula
///   has no such division ([`WeightNormalization::None`]).
/// - With `kl_guidance` off or `B = 1`, and `kl_term` off or `gamma = 0`, this is
///   [`BankInfoNce`](crate::BankInfoNce).
/// - A query without neighbours contributes 0.
/// - Largest tensors: `[rows, hidden]`, `[rows, dim]` and `[batch, rows]`.
///
/// # Source
///
/// "A Generic Method for Fine-grained Category Discovery in Natural Language Texts"
/// (arXiv 2406.13103) and its released code.
#[derive(Module, Debug)]
pub struct Star {
    /// The parameter behind the base `B`; [`Star::base_value`] gives `B` itself.
    pub base: Param<Tensor<1>>,
    /// Heads of the Gaussian divergence; `None` for the softmax divergence.
    pub heads: Option<GaussianHeads>,
    #[module(skip)]
    config: StarConfig,
}

impl Star {
    /// The checked configuration.
    pub fn config(&self) -> &StarConfig {
        &self.config
    }

    /// The base `B`, `[1]`.
    pub fn base_value(&self) -> Tensor<1> {
        let stored = self.base.val();
        match self.config.base {
            BaseParameterization::TrainableRaw(_) | BaseParameterization::Fixed(_) => stored,
            BaseParameterization::TrainableLog(_) => stored.exp(),
            BaseParameterization::TrainableGreaterThanOne(_) => {
                softplus(stored, 1.0).add_scalar(1.0)
            }
        }
    }

    /// `ln B`, `[1]`, with a base below 1e-6 taken as 1e-6.
    pub fn ln_base(&self) -> Tensor<1> {
        match self.config.base {
            BaseParameterization::TrainableLog(_) => self.base.val(),
            _ => self.base_value().clamp_min(SMALLEST_BASE).log(),
        }
    }

    /// Means of [`Star::forward_per_item`] over the batch.
    ///
    /// # Shapes
    ///
    /// - `queries`: `[batch, hidden]`
    /// - `bank`: `[rows, hidden]`, normally without gradient
    /// - output: three times `[1]`
    ///
    /// # Errors
    ///
    /// As [`Star::forward_per_item`].
    pub fn forward(
        &self,
        queries: Tensor<2>,
        bank: Tensor<2>,
        targets: &NeighbourTargets,
    ) -> Result<StarOutput, LossError> {
        Ok(batch_mean(self.forward_per_item(queries, bank, targets)?))
    }

    /// The terms of every query.
    ///
    /// # Shapes
    ///
    /// - `queries`: `[batch, hidden]`
    /// - `bank`: `[rows, hidden]`
    /// - `targets`: `[batch, width]`
    /// - output: three times `[batch]`
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] if the shapes do not fit together, [`LossError::NeighbourOutOfBank`] if
    /// a neighbour id is not a row of the bank.
    pub fn forward_per_item(
        &self,
        queries: Tensor<2>,
        bank: Tensor<2>,
        targets: &NeighbourTargets,
    ) -> Result<StarOutput, LossError> {
        self.check_inputs(&queries, &bank, Some(targets))?;
        let (queries, bank) = self.config.normalize_inputs.apply(queries, bank);
        if !self.config.kl_guidance && !self.config.kl_term {
            return Ok(self.terms(queries, bank, None, targets));
        }
        if let Some(terms) = self.fused_terms(&queries, &bank, targets) {
            return Ok(terms);
        }
        let divergence = self.divergence_of(queries.clone(), bank.clone())?;
        Ok(self.terms(queries, bank, Some(divergence), targets))
    }

    /// Both terms as one operation, where the backend has it and the divergence is Gaussian.
    fn fused_terms(
        &self,
        queries: &Tensor<2>,
        bank: &Tensor<2>,
        targets: &NeighbourTargets,
    ) -> Option<StarOutput> {
        let config = &self.config;
        let Divergence::Gaussian { bank_head_grad, .. } = config.divergence else {
            return None;
        };
        let heads = self.heads.as_ref()?;
        let inputs = GaussianStar {
            queries: queries.clone(),
            bank: bank.clone(),
            mu_weight: heads.fc_mu.weight.val(),
            mu_bias: heads.fc_mu.bias.as_ref()?.val(),
            var_weight: heads.fc_var.weight.val(),
            var_bias: heads.fc_var.bias.as_ref()?.val(),
            ln_base: if config.kl_guidance {
                self.ln_base()
            } else {
                Tensor::zeros([1], &queries.device())
            },
            ids: targets.ids(),
            weights: targets.weights_with(config.weight_normalization),
            settings: StarSettings {
                temperature: config.temperature,
                var_floor: heads.var_floor,
                bank_head_grad,
            },
        };
        let terms = gaussian_star(inputs).ok()?; // [2, batch]
        let [_, batch] = terms.dims();
        let term = |at: usize| terms.clone().narrow(0, at, 1).reshape([batch]);
        let euclidean_term = term(1);
        Some(if config.kl_term {
            let kl_term = term(0).mul_scalar(config.gamma);
            StarOutput {
                loss: kl_term.clone() + euclidean_term.clone(),
                kl_term,
                euclidean_term,
            }
        } else {
            StarOutput {
                loss: euclidean_term.clone(),
                kl_term: euclidean_term.zeros_like(),
                euclidean_term,
            }
        })
    }

    /// As [`Star::forward`], with the divergences given instead of computed.
    ///
    /// # Shapes
    ///
    /// - `queries`: `[batch, hidden]`
    /// - `bank`: `[rows, hidden]`
    /// - `divergence`: `[batch, rows]`
    /// - output: three times `[1]`
    ///
    /// # Errors
    ///
    /// As [`Star::forward_per_item`], and [`LossError::Shape`] for a divergence matrix of another
    /// shape.
    pub fn forward_with_divergence(
        &self,
        queries: Tensor<2>,
        bank: Tensor<2>,
        divergence: Tensor<2>,
        targets: &NeighbourTargets,
    ) -> Result<StarOutput, LossError> {
        let items = self.forward_per_item_with_divergence(queries, bank, divergence, targets)?;
        Ok(batch_mean(items))
    }

    /// As [`Star::forward_per_item`], with the divergences given instead of computed.
    ///
    /// # Errors
    ///
    /// As [`Star::forward_with_divergence`].
    pub fn forward_per_item_with_divergence(
        &self,
        queries: Tensor<2>,
        bank: Tensor<2>,
        divergence: Tensor<2>,
        targets: &NeighbourTargets,
    ) -> Result<StarOutput, LossError> {
        self.check_inputs(&queries, &bank, Some(targets))?;
        let expected = [queries.dims()[0], bank.dims()[0]];
        check_shape(OP, "divergence", &divergence.dims(), &expected)?;
        let (queries, bank) = self.config.normalize_inputs.apply(queries, bank);
        Ok(self.terms(queries, bank, Some(divergence), targets))
    }

    /// The divergence of every query from every bank row, inputs normalised as configured.
    ///
    /// # Shapes
    ///
    /// - `queries`: `[batch, hidden]`
    /// - `bank`: `[rows, hidden]`
    /// - output: `[batch, rows]`
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] if the shapes do not fit together.
    pub fn divergence(&self, queries: Tensor<2>, bank: Tensor<2>) -> Result<Tensor<2>, LossError> {
        self.check_inputs(&queries, &bank, None)?;
        let (queries, bank) = self.config.normalize_inputs.apply(queries, bank);
        self.divergence_of(queries, bank)
    }

    fn divergence_of(&self, queries: Tensor<2>, bank: Tensor<2>) -> Result<Tensor<2>, LossError> {
        match (self.config.divergence, &self.heads) {
            (Divergence::Gaussian { bank_head_grad, .. }, Some(heads)) => {
                let queries = heads.forward(queries)?;
                let bank = if bank_head_grad {
                    heads.forward(bank)?
                } else {
                    heads.forward_frozen(bank)?
                };
                symmetric_gaussian_kl(queries, bank)
            }
            (Divergence::Gaussian { .. }, None) => Err(LossError::Shape {
                op: OP,
                what: "heads",
                expected: "Gaussian heads, because the divergence is Gaussian".to_owned(),
                found: Vec::new(),
            }),
            (Divergence::Softmax { temperature, form }, _) => {
                symmetric_softmax_kl(queries, bank, temperature, form)
            }
        }
    }

    fn terms(
        &self,
        queries: Tensor<2>,
        bank: Tensor<2>,
        divergence: Option<Tensor<2>>,
        targets: &NeighbourTargets,
    ) -> StarOutput {
        let config = &self.config;
        let weights = targets.weights_with(config.weight_normalization); // [batch, width]
        let kl_term = divergence
            .clone()
            .filter(|_| config.kl_term)
            .map(|divergence| {
                let logits = divergence.mul_scalar(-1.0 / config.temperature); // [batch, rows]
                neighbour_cross_entropy(logits.clone(), logits, targets.ids(), weights.clone())
                    .mul_scalar(config.gamma)
            });
        let euclidean_term = match divergence.filter(|_| config.kl_guidance) {
            Some(divergence) => {
                let logits = scaled_scores(queries, bank, config.temperature); // [batch, rows]
                let guided = logits.clone() + divergence * self.ln_base().reshape([1, 1]);
                neighbour_cross_entropy(guided, logits, targets.ids(), weights)
            }
            None => bank_cross_entropy(queries, bank, targets.ids(), weights, config.temperature),
        };
        match kl_term {
            Some(kl_term) => StarOutput {
                loss: kl_term.clone() + euclidean_term.clone(),
                kl_term,
                euclidean_term,
            },
            None => StarOutput {
                loss: euclidean_term.clone(),
                kl_term: euclidean_term.zeros_like(),
                euclidean_term,
            },
        }
    }

    fn check_inputs(
        &self,
        queries: &Tensor<2>,
        bank: &Tensor<2>,
        targets: Option<&NeighbourTargets>,
    ) -> Result<(), LossError> {
        match targets {
            Some(targets) => check_bank_inputs(OP, queries, bank, targets)?,
            None => check_same_dim(OP, queries, bank)?,
        }
        let [batch, hidden] = queries.dims();
        check_shape(
            OP,
            "queries",
            &[batch, hidden],
            &[batch, self.config.hidden],
        )
    }
}

const OP: &str = "star";

fn batch_mean(items: StarOutput) -> StarOutput {
    StarOutput {
        loss: items.loss.mean(),
        kl_term: items.kl_term.mean(),
        euclidean_term: items.euclidean_term.mean(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::TensorData;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn scalar(x: Tensor<1>) -> f32 {
        x.into_scalar()
    }

    fn plain(hidden: usize) -> StarConfig {
        StarConfig::new(hidden)
            .with_temperature(1.0)
            .with_gamma(0.5)
            .with_base(BaseParameterization::Fixed(std::f64::consts::E))
            .with_normalize_inputs(InputNormalization::None)
    }

    #[test]
    fn hand_computed_terms_with_a_given_divergence() {
        // s = (1, 0), d = (0, 2), neighbour 0 with weight 1, tau = 1, B = e, gamma = 1/2.
        // KL: ln(1 + e^-2) + 0 = 0.126928, times 1/2 = 0.063464
        // EU: ln(e^(1+0) + e^(0+2)) - 1 = ln(2.718282 + 7.389056) - 1 = 1.313262
        let device = Device::flex();
        let queries = Tensor::from_floats([[1.0, 0.0]], &device);
        let bank = Tensor::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
        let divergence = Tensor::from_floats([[0.0, 2.0]], &device);
        let targets = NeighbourTargets::from_rows(&[vec![(0, 1.0)]], &device).unwrap();
        let star = plain(2).init(&device, 0).unwrap();
        let output = star
            .forward_with_divergence(queries, bank, divergence, &targets)
            .unwrap();
        approx::assert_abs_diff_eq!(scalar(output.kl_term), 0.063_464, epsilon = 1e-6);
        approx::assert_abs_diff_eq!(scalar(output.euclidean_term), 1.313_261_7, epsilon = 1e-6);
        approx::assert_abs_diff_eq!(scalar(output.loss), 1.376_725_7, epsilon = 1e-6);
    }

    #[test]
    fn switches_remove_their_part() {
        let device = Device::flex();
        let queries = Tensor::<2>::from_floats([[1.0, 0.0]], &device);
        let bank = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
        let divergence = Tensor::<2>::from_floats([[0.0, 2.0]], &device);
        let targets = NeighbourTargets::from_rows(&[vec![(0, 1.0)]], &device).unwrap();
        let run = |config: StarConfig| {
            config
                .init(&device, 0)
                .unwrap()
                .forward_with_divergence(
                    queries.clone(),
                    bank.clone(),
                    divergence.clone(),
                    &targets,
                )
                .unwrap()
        };
        let output = run(plain(2).with_kl_guidance(false));
        // EU without weight: ln(e + 1) - 1 = 0.313262
        approx::assert_abs_diff_eq!(scalar(output.euclidean_term), 0.313_261_7, epsilon = 1e-6);
        approx::assert_abs_diff_eq!(scalar(output.kl_term), 0.063_464, epsilon = 1e-6);
        let output = run(plain(2).with_kl_term(false));
        assert_eq!(scalar(output.kl_term), 0.0);
        approx::assert_abs_diff_eq!(scalar(output.loss), 1.313_261_7, epsilon = 1e-6);
    }

    #[test]
    fn every_parameterization_starts_at_its_base() {
        let device = Device::flex().autodiff();
        for value in [1.01, 2.0, 10.0, 66.0, 200.0] {
            for (base, trainable) in [
                (BaseParameterization::TrainableRaw(value), true),
                (BaseParameterization::TrainableLog(value), true),
                (BaseParameterization::TrainableGreaterThanOne(value), true),
                (BaseParameterization::Fixed(value), false),
            ] {
                let star = StarConfig::new(4).with_base(base).init(&device, 0).unwrap();
                approx::assert_relative_eq!(
                    scalar(star.base_value()),
                    value as f32,
                    max_relative = 2e-6
                );
                approx::assert_relative_eq!(
                    scalar(star.ln_base()),
                    value.ln() as f32,
                    max_relative = 3e-5
                );
                assert_eq!(star.base.val().is_require_grad(), trainable);
            }
        }
    }

    #[test]
    fn a_base_driven_to_zero_or_below_stays_finite() {
        let device = Device::flex().autodiff();
        let mut star = StarConfig::new(2).init(&device, 0).unwrap();
        for value in [0.0, -3.0] {
            star.base = Param::from_tensor(Tensor::from_floats([value], &device));
            let ln = star.ln_base();
            let grads = ln.clone().sum().backward();
            approx::assert_abs_diff_eq!(scalar(ln), 1e-6f32.ln(), epsilon = 1e-4);
            let gradient = star.base.val().grad(&grads).map(scalar);
            assert_eq!(gradient, Some(0.0));
        }
    }

    #[test]
    fn the_module_carries_heads_and_base_as_parameters() {
        let device = Device::flex();
        let star = StarConfig::new(6)
            .with_divergence(Divergence::Gaussian {
                dim: 4,
                var_floor: 1e-4,
                bank_head_grad: true,
            })
            .init(&device, 1)
            .unwrap();
        // Two heads of 6 x 4 + 4, and the base.
        assert_eq!(star.num_params(), 2 * (6 * 4 + 4) + 1);
        let softmax = StarConfig::new(6)
            .with_divergence(Divergence::Softmax {
                temperature: 0.05,
                form: KlForm::Mean,
            })
            .init(&device, 1)
            .unwrap();
        assert_eq!(softmax.num_params(), 1);
    }

    #[test]
    fn bad_parameters_are_refused_by_name() {
        let device = Device::flex();
        let good = StarConfig::new(4);
        let gaussian = |dim, var_floor| Divergence::Gaussian {
            dim,
            var_floor,
            bank_head_grad: true,
        };
        let softmax = |temperature| Divergence::Softmax {
            temperature,
            form: KlForm::Sum,
        };
        let cases = [
            (StarConfig::new(0), "hidden"),
            (good.with_temperature(0.0), "temperature"),
            (good.with_temperature(f64::NAN), "temperature"),
            (good.with_gamma(-0.1), "gamma"),
            (good.with_gamma(f64::INFINITY), "gamma"),
            (good.with_divergence(gaussian(0, 0.0)), "dim"),
            (good.with_divergence(gaussian(4, -1.0)), "var_floor"),
            (good.with_divergence(softmax(0.0)), "divergence.temperature"),
            (good.with_base(BaseParameterization::Fixed(0.0)), "base"),
            (
                good.with_base(BaseParameterization::TrainableRaw(-1.0)),
                "base",
            ),
            (
                good.with_base(BaseParameterization::TrainableLog(f64::NAN)),
                "base",
            ),
            (
                good.with_base(BaseParameterization::TrainableGreaterThanOne(1.0)),
                "base",
            ),
            (good.with_base(BaseParameterization::Fixed(1e300)), "base"),
        ];
        for (config, field) in cases {
            match config.init(&device, 0) {
                Err(LossError::Parameter { name, .. }) => assert_eq!(name, field),
                other => panic!("{field}: {other:?}"),
            }
        }
    }

    #[test]
    fn inputs_that_do_not_fit_are_refused() {
        let device = Device::flex();
        let star = StarConfig::new(4).init(&device, 0).unwrap();
        let ones = |rows, columns| Tensor::<2>::ones([rows, columns], &device);
        let targets = NeighbourTargets::from_rows(&[vec![(2, 1.0)], vec![(0, 1.0)]], &device);
        let targets = targets.unwrap();
        assert!(star.forward(ones(2, 4), ones(3, 4), &targets).is_ok());
        assert!(star.forward(ones(2, 5), ones(3, 5), &targets).is_err());
        assert!(star.forward(ones(2, 4), ones(3, 5), &targets).is_err());
        assert!(star.forward(ones(1, 4), ones(3, 4), &targets).is_err());
        assert!(star.forward(ones(2, 4), ones(2, 4), &targets).is_err());
        assert!(star.divergence(ones(2, 4), ones(3, 5)).is_err());
        let error = star
            .forward_with_divergence(ones(2, 4), ones(3, 4), ones(3, 2), &targets)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "star: divergence has shape [3, 2], expected [2, 3]"
        );
        let mut headless = star;
        headless.heads = None;
        assert!(headless.forward(ones(2, 4), ones(3, 4), &targets).is_err());
    }

    fn random(rng: &mut ChaCha8Rng, rows: usize, columns: usize, device: &Device) -> Tensor<2> {
        let values: Vec<f32> = (0..rows * columns)
            .map(|_| rng.next_u32() as f32 / u32::MAX as f32 - 0.5)
            .collect();
        Tensor::from_data(TensorData::new(values, [rows, columns]), device)
    }

    /// Loss items and all gradients of a weighted sum of both terms.
    fn values_and_gradients(
        star: &Star,
        output: StarOutput,
        queries: &Tensor<2>,
    ) -> Vec<(&'static str, Vec<f32>)> {
        let floats = |x: Tensor<1>| x.try_into_vec_as::<f32>().unwrap();
        let [batch] = output.loss.dims();
        let cotangent: Vec<f32> = (0..batch).map(|i| 1.0 + 0.3 * (i as f32).sin()).collect();
        let cotangent = Tensor::<1>::from_floats(cotangent.as_slice(), &queries.device());
        let grads = ((output.loss.clone() + output.kl_term.clone().mul_scalar(0.5)) * cotangent)
            .sum()
            .backward();
        let mut all = vec![
            ("loss", floats(output.loss)),
            ("kl_term", floats(output.kl_term)),
            ("euclidean_term", floats(output.euclidean_term)),
        ];
        let flat = |x: Option<Tensor<2>>| {
            x.map(|x| x.try_into_vec_as::<f32>().unwrap())
                .unwrap_or_default()
        };
        let heads = star.heads.as_ref().unwrap();
        let bias = heads.fc_var.bias.as_ref().unwrap().val();
        all.push(("queries", flat(queries.grad(&grads))));
        all.push(("mu weight", flat(heads.fc_mu.weight.val().grad(&grads))));
        all.push(("var weight", flat(heads.fc_var.weight.val().grad(&grads))));
        all.push((
            "var bias",
            bias.grad(&grads).map(floats).unwrap_or_default(),
        ));
        let base = star.base.val().grad(&grads);
        all.push(("base", base.map(floats).unwrap_or_default()));
        all
    }

    /// The operation with its own backward pass against the composition of plain operations.
    #[test]
    fn fused_and_composed_terms_agree_in_value_and_gradient() {
        let device = Device::flex().autodiff();
        let plain = StarConfig::new(1).with_temperature(0.3);
        let raw = WeightNormalization::None;
        // Batch, bank rows, hidden, Gaussian dimension, neighbours.
        let sizes = [
            (1, 1, 3, 2, 1),
            (1, 300, 5, 1, 4),
            (3, 1, 8, 17, 2),
            (5, 255, 24, 16, 7),
            (2, 257, 33, 19, 3),
            (17, 1100, 48, 24, 30),
        ];
        for (case, (batch, rows, hidden, dim, width)) in sizes.into_iter().enumerate() {
            let configs = [
                plain,
                plain.with_temperature(0.07).with_kl_term(false),
                plain.with_kl_guidance(false),
                plain.with_weight_normalization(raw),
                plain.with_normalize_inputs(InputNormalization::Both),
                plain.with_base(BaseParameterization::TrainableGreaterThanOne(3.0)),
                plain.with_base(BaseParameterization::Fixed(16.0)),
            ];
            for (at, config) in configs.into_iter().enumerate() {
                for bank_head_grad in [true, false] {
                    let seed = (100 * case + at) as u64;
                    let mut rng = ChaCha8Rng::seed_from_u64(seed);
                    let mut star = StarConfig { hidden, ..config }
                        .with_divergence(Divergence::Gaussian {
                            dim,
                            var_floor: 1e-4,
                            bank_head_grad,
                        })
                        .init(&device, seed)
                        .unwrap();
                    // Heads large enough for activations on both sides of zero.
                    let heads = star.heads.as_mut().unwrap();
                    for head in [&mut heads.fc_mu, &mut heads.fc_var] {
                        let weight = head.weight.val().without_autodiff().mul_scalar(4.0);
                        head.weight = Param::from_data(weight.into_data(), &device);
                    }
                    let queries = random(&mut rng, batch, hidden, &device).require_grad();
                    let bank = random(&mut rng, rows, hidden, &device);
                    let mut neighbours: Vec<Vec<(usize, f32)>> = (0..batch)
                        .map(|_| {
                            (0..width)
                                .map(|_| {
                                    let id = rng.next_u32() as usize % rows;
                                    (id, rng.next_u32() as f32 / u32::MAX as f32)
                                })
                                .collect()
                        })
                        .collect();
                    if batch > 2 {
                        // A query without neighbours, and one with the same neighbour twice.
                        neighbours[1].clear();
                        neighbours[2] = vec![(0, 0.25), (0, 0.5)];
                    }
                    let targets = NeighbourTargets::from_rows(&neighbours, &device).unwrap();
                    let inputs = || config.normalize_inputs.apply(queries.clone(), bank.clone());
                    let (q, h) = inputs();
                    let fused = star.fused_terms(&q, &h, &targets).unwrap();
                    let fused = values_and_gradients(&star, fused, &queries);
                    let (q, h) = inputs();
                    let divergence = star.divergence_of(q.clone(), h.clone()).unwrap();
                    let composed = star.terms(q, h, Some(divergence), &targets);
                    let composed = values_and_gradients(&star, composed, &queries);
                    for ((name, fused), (_, composed)) in fused.iter().zip(&composed) {
                        let what = format!("{name}, sizes {case}, config {at}, {bank_head_grad}");
                        assert_eq!(fused.len(), composed.len(), "{what}");
                        let largest = composed.iter().fold(0f32, |most, x| most.max(x.abs()));
                        // One bank row makes the contrast's gradient pure cancellation.
                        let floor = if rows == 1 { 1e-6 } else { 1e-9 };
                        for (fused, composed) in fused.iter().zip(composed) {
                            assert!(
                                (fused - composed).abs() <= 1e-5 * largest + floor,
                                "{what}: {fused} against {composed}, largest {largest}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_bank_that_asks_for_a_gradient_gets_it() {
        let device = Device::flex().autodiff();
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let star = StarConfig::new(6).init(&device, 3).unwrap();
        let queries = random(&mut rng, 2, 6, &device).require_grad();
        let bank = random(&mut rng, 5, 6, &device).require_grad();
        let rows = [vec![(0, 1.0)], vec![(4, 1.0)]];
        let targets = NeighbourTargets::from_rows(&rows, &device).unwrap();
        assert!(star.fused_terms(&queries, &bank, &targets).is_none());
        let output = star.forward(queries, bank.clone(), &targets).unwrap();
        assert!(bank.grad(&output.loss.backward()).is_some());
    }

    #[test]
    fn not_a_number_in_the_bank_or_the_heads_reaches_the_loss() {
        let device = Device::flex().autodiff();
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let queries = random(&mut rng, 2, 4, &device);
        let rows = [vec![(0, 1.0)], vec![(1, 1.0)]];
        let targets = NeighbourTargets::from_rows(&rows, &device).unwrap();
        let nan = || Tensor::<2>::full([4, 128], f32::NAN, &device);
        let loss = |star: &Star, bank: Tensor<2>| {
            scalar(star.forward(queries.clone(), bank, &targets).unwrap().loss)
        };
        let bank = random(&mut rng, 3, 4, &device);
        let mut star = StarConfig::new(4).init(&device, 3).unwrap();
        assert!(loss(&star, bank.clone()).is_finite());
        assert!(loss(&star, bank.clone().mul_scalar(f32::NAN)).is_nan());
        let heads = star.heads.as_mut().unwrap();
        heads.fc_var.weight = Param::from_tensor(nan());
        assert!(loss(&star, bank.clone()).is_nan());
        let mut star = StarConfig::new(4).init(&device, 3).unwrap();
        let heads = star.heads.as_mut().unwrap();
        heads.fc_mu.weight = Param::from_tensor(nan());
        assert!(loss(&star, bank).is_nan());
    }

    #[test]
    fn a_configuration_survives_json() {
        let config = StarConfig::new(384)
            .with_divergence(Divergence::Softmax {
                temperature: 0.05,
                form: KlForm::Sum,
            })
            .with_base(BaseParameterization::TrainableGreaterThanOne(16.0));
        let text = config.to_string();
        let back: StarConfig = serde_json::from_str(&text).unwrap();
        assert_eq!(back, config);
    }
}
