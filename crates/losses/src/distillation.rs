//! A student learns the embeddings of a teacher, or the order in which the teacher ranks the batch.

use std::cmp::Ordering;

use burn::config::Config;
use burn::tensor::{Tensor, TensorData};

use crate::cosent::log_add;
use crate::error::{LossError, check_count, check_not_empty, check_parameter, check_shape, read};
use crate::in_batch::own_mask;
use crate::known_gradient::with_row_gradient;
use crate::log_sum_exp::log_sum_exp;
use crate::similarity::{check_pairs, cosine_scores, paired_cosine};

/// How a row of the student is compared with that of the teacher.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum EmbeddingDistance {
    /// `1/dim |x - y|^2`
    MeanSquare,
    /// `|x - y|`; value and gradient 0 where the rows agree.
    Euclidean,
    /// `1 - cos(x, y)`
    Cosine,
}

/// Configuration of [`EmbeddingDistillation`].
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::{EmbeddingDistance, EmbeddingDistillationConfig};
///
/// # fn main() -> Result<(), losses::LossError> {
/// let student = Tensor::<2>::from_floats([[1.0, 2.0]], &Device::flex());
/// let teacher = Tensor::<2>::from_floats([[3.0, 2.0]], &Device::flex());
/// let loss = EmbeddingDistillationConfig::new().init();
/// let value: f32 = loss.forward(student, teacher)?.into_scalar();
/// assert_eq!(value, 2.0);
/// # Ok(())
/// # }
/// ```
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub struct EmbeddingDistillationConfig {
    /// Distance of two rows. Default: mean square
    #[config(default = "EmbeddingDistance::MeanSquare")]
    pub distance: EmbeddingDistance,
}

impl EmbeddingDistillationConfig {
    /// Builds the loss; there is nothing that could be wrong.
    pub fn init(&self) -> EmbeddingDistillation {
        EmbeddingDistillation { config: *self }
    }
}

/// Distance between the embeddings of a student and those of a teacher.
///
/// # Mathematical Definition
///
/// ```text
/// L_i = distance(student_i, teacher_i),   L = mean_i L_i
/// ```
///
/// # Notes
///
/// - The teacher is a constant.
/// - With [`EmbeddingDistance::MeanSquare`] the mean runs over rows and components.
///
/// # Source
///
/// Reimers, Gurevych, "Making Monolingual Sentence Embeddings Multilingual using Knowledge
/// Distillation" (arXiv 2004.09813), for the mean square; EmbedDistill (arXiv 2301.12005) for the
/// distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddingDistillation {
    config: EmbeddingDistillationConfig,
}

impl EmbeddingDistillation {
    /// The configuration.
    pub fn config(&self) -> &EmbeddingDistillationConfig {
        &self.config
    }

    /// Mean of [`EmbeddingDistillation::forward_per_item`] over the batch.
    ///
    /// # Shapes
    ///
    /// - `student`, `teacher`: `[batch, dim]`
    /// - output: `[1]`
    ///
    /// # Errors
    ///
    /// As [`EmbeddingDistillation::forward_per_item`].
    pub fn forward(&self, student: Tensor<2>, teacher: Tensor<2>) -> Result<Tensor<1>, LossError> {
        Ok(self.forward_per_item(student, teacher)?.mean())
    }

    /// The distance of every row.
    ///
    /// # Shapes
    ///
    /// - `student`, `teacher`: `[batch, dim]`
    /// - output: `[batch]`
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] if the inputs are empty or differ in shape.
    pub fn forward_per_item(
        &self,
        student: Tensor<2>,
        teacher: Tensor<2>,
    ) -> Result<Tensor<1>, LossError> {
        check_pairs(EMBEDDING, ("student", &student), ("teacher", &teacher))?;
        let teacher = teacher.without_autodiff();
        Ok(match self.config.distance {
            EmbeddingDistance::MeanSquare => {
                let squared = (student - teacher).square();
                squared.mean_dim(1).squeeze_dim::<1>(1)
            }
            EmbeddingDistance::Euclidean => {
                let squared = (student - teacher).square();
                let squared = squared.sum_dim(1).squeeze_dim::<1>(1);
                // The derivative of the root at 0 is never formed.
                let zero = squared.clone().without_autodiff().equal_scalar(0.0);
                let root = squared.mask_fill(zero.clone(), 1.0).sqrt();
                root.mask_fill(zero, 0.0)
            }
            EmbeddingDistance::Cosine => {
                let cosine = paired_cosine(student, teacher)?;
                cosine.neg().add_scalar(1.0)
            }
        })
    }
}

/// What of the teacher's ranking the student learns.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum RankingObjective {
    /// The distribution over the candidates: Kullback-Leibler divergence of the softmax.
    ListNet,
    /// The order alone: likelihood of the teacher's order under the Plackett-Luce model.
    ListMle,
}

/// Configuration of [`RankingDistillation`].
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use losses::RankingDistillationConfig;
///
/// # fn main() -> Result<(), losses::LossError> {
/// let device = Device::flex();
/// let student = Tensor::<2>::from_floats([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], &device);
/// // The teacher's embeddings may have another size.
/// let teacher = Tensor::<2>::from_floats([[1.0], [1.0], [-1.0]], &device);
/// let loss = RankingDistillationConfig::new().init()?;
/// let value: f32 = loss
///     .forward([student.clone(), student], [teacher.clone(), teacher])?
///     .into_scalar();
/// assert!(value > 0.0);
/// # Ok(())
/// # }
/// ```
#[derive(Config, Debug, Copy, PartialEq)]
pub struct RankingDistillationConfig {
    /// Temperature of the student's similarities. Finite and greater than 0. Default: 0.05
    #[config(default = 0.05)]
    pub student_temperature: f64,
    /// Temperature of the teacher's similarities; [`RankingObjective::ListMle`] does not use it.
    /// Finite and greater than 0. Default: 0.05
    #[config(default = 0.05)]
    pub teacher_temperature: f64,
    /// Distribution or order. Default: distribution
    #[config(default = "RankingObjective::ListNet")]
    pub objective: RankingObjective,
    /// Whether candidate `i` is left out of the list of row `i`. Default: yes
    #[config(default = true)]
    pub exclude_own: bool,
}

impl RankingDistillationConfig {
    /// Checks the parameters and builds the loss.
    ///
    /// # Errors
    ///
    /// [`LossError::Parameter`] if a temperature is not finite or not greater than 0.
    pub fn init(&self) -> Result<RankingDistillation, LossError> {
        for (name, value) in [
            ("student_temperature", self.student_temperature),
            ("teacher_temperature", self.teacher_temperature),
        ] {
            let expected = "a finite number greater than 0";
            check_parameter(RANKING, name, value, expected, |t| t.is_finite() && t > 0.0)?;
        }
        Ok(RankingDistillation { config: *self })
    }
}

/// Ranking of the batch, learned from a teacher.
///
/// # Mathematical Definition
///
/// With the similarities `s_ij` of the student and `t_ij` of the teacher, and the lists running over
/// all candidates but, with `exclude_own`, the own one:
///
/// ```text
/// ListNet:  p_i = softmax(t_i / tau_t),  q_i = softmax(s_i / tau_s)
///           L_i = sum_j p_ij ln ( p_ij / q_ij )
/// ListMLE:  o_i = the candidates of row i by falling t_ij, z_ik = s_{i, o_i(k)} / tau_s
///           L_i = sum_k ( ln sum_{l >= k} exp(z_il) - z_ik )
/// L = mean_i L_i
/// ```
///
/// # Notes
///
/// - The teacher is a constant. The cross entropy of ListNet differs from the divergence by the
///   entropy of the teacher alone: same gradient, and the divergence is 0 where the student agrees.
/// - Equal similarities of the teacher are ranked in the order of the candidates.
/// - For ListMLE the scores cross to the host; its sums are taken there in f64, so that a far
///   candidate at a small temperature does not underflow to an infinite loss.
///
/// # Source
///
/// Liu et al., "RankCSE: Unsupervised Sentence Representations Learning via Learning to Rank"
/// (arXiv 2305.16726), section 3.3; Cao et al. 2007 (ListNet), Xia et al. 2008 (ListMLE).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankingDistillation {
    config: RankingDistillationConfig,
}

impl RankingDistillation {
    /// The checked configuration.
    pub fn config(&self) -> &RankingDistillationConfig {
        &self.config
    }

    /// Mean of [`RankingDistillation::forward_per_item`] over the rows.
    ///
    /// # Shapes
    ///
    /// - `student`: rows and candidates, `[batch, dim]` each
    /// - `teacher`: rows and candidates, `[batch, teacher_dim]` each
    /// - output: `[1]`
    ///
    /// # Errors
    ///
    /// As [`RankingDistillation::forward_per_item`].
    pub fn forward(
        &self,
        student: [Tensor<2>; 2],
        teacher: [Tensor<2>; 2],
    ) -> Result<Tensor<1>, LossError> {
        Ok(self.forward_per_item(student, teacher)?.mean())
    }

    /// The loss of every row, from cosines.
    ///
    /// # Shapes
    ///
    /// - `student`: rows and candidates, `[batch, dim]` each
    /// - `teacher`: rows and candidates, `[batch, teacher_dim]` each
    /// - output: `[batch]`
    ///
    /// # Errors
    ///
    /// [`LossError::Shape`] if inputs are empty or do not fit together, [`LossError::Count`] for
    /// lists of one candidate, which nobody can rank wrongly, [`LossError::Read`] if values cannot
    /// be read.
    pub fn forward_per_item(
        &self,
        student: [Tensor<2>; 2],
        teacher: [Tensor<2>; 2],
    ) -> Result<Tensor<1>, LossError> {
        let [rows, candidates] = student;
        let [teacher_rows, teacher_candidates] = teacher.map(Tensor::without_autodiff);
        self.forward_similarities(
            cosine_scores(rows, candidates)?,
            cosine_scores(teacher_rows, teacher_candidates)?,
        )
    }

    /// The loss of every row, from given similarities.
    ///
    /// # Shapes
    ///
    /// - `student`, `teacher`: `[rows, candidates]`
    /// - output: `[rows]`
    ///
    /// # Errors
    ///
    /// As [`RankingDistillation::forward_per_item`].
    pub fn forward_similarities(
        &self,
        student: Tensor<2>,
        teacher: Tensor<2>,
    ) -> Result<Tensor<1>, LossError> {
        let [rows, candidates] = student.dims();
        check_not_empty(RANKING, "student", [rows, candidates])?;
        check_shape(RANKING, "teacher", &teacher.dims(), &[rows, candidates])?;
        let least = if self.config.exclude_own { 3 } else { 2 };
        check_count(RANKING, "candidates", candidates, least)?;
        let teacher = teacher.without_autodiff();
        match self.config.objective {
            RankingObjective::ListNet => Ok(self.list_net(student, teacher)),
            RankingObjective::ListMle => self.list_mle(student, teacher),
        }
    }

    fn list_net(&self, student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
        let [rows, candidates] = student.dims();
        let z = student.div_scalar(self.config.student_temperature);
        let t = teacher.div_scalar(self.config.teacher_temperature);
        let listed = |x: Tensor<2>| {
            if !self.config.exclude_own {
                return x;
            }
            let own = own_mask(rows, 0, candidates, &x.device());
            x.mask_fill(own, f32::NEG_INFINITY)
        };
        let log_sum = log_sum_exp(listed(t.clone())); // [rows]
        let share = (listed(t.clone()) - log_sum.clone().reshape([rows, 1])).exp(); // p
        // A candidate that is left out has p = 0 and a finite t - z.
        let gaps = (share * (t - z.clone())).sum_dim(1).squeeze_dim::<1>(1);
        gaps + log_sum_exp(listed(z)) - log_sum
    }

    fn list_mle(&self, student: Tensor<2>, teacher: Tensor<2>) -> Result<Tensor<1>, LossError> {
        let [rows, candidates] = student.dims();
        let scores = read(RANKING, "student", &student)?;
        let ranks = read(RANKING, "teacher", &teacher)?;
        let (mut losses, mut gradients) = (Vec::with_capacity(rows), Vec::new());
        let lists = scores.chunks(candidates).zip(ranks.chunks(candidates));
        for (row, (scores, ranks)) in lists.enumerate() {
            let left_out = self.config.exclude_own.then_some(row);
            let mut order: Vec<usize> = (0..candidates).filter(|j| Some(*j) != left_out).collect();
            let unordered = order.iter().any(|j| ranks[*j].is_nan());
            order.sort_by(|a, b| ranks[*b].partial_cmp(&ranks[*a]).unwrap_or(Ordering::Equal));
            let scale = 1.0 / self.config.student_temperature;
            // A list that has no order has no likelihood.
            let score = |j: &usize| {
                if unordered {
                    f64::NAN
                } else {
                    scale * f64::from(scores[*j])
                }
            };
            let (loss, gradient) = plackett_luce(&order.iter().map(score).collect::<Vec<_>>());
            losses.push(loss as f32);
            let mut placed = vec![0.0; candidates];
            for (j, gradient) in order.iter().zip(gradient) {
                placed[*j] = (gradient * scale) as f32;
            }
            gradients.extend(placed);
        }
        let device = teacher.device();
        let losses = Tensor::<1>::from_data(TensorData::new(losses, [rows]), &device);
        let shape = [rows, candidates];
        let gradients = Tensor::<2>::from_data(TensorData::new(gradients, shape), &device);
        Ok(with_row_gradient(losses, &student, gradients))
    }
}

const EMBEDDING: &str = "embedding_distillation";
const RANKING: &str = "ranking_distillation";

/// `sum_k (ln sum_{l >= k} exp(z_l) - z_k)` and its gradient `exp(z_l) sum_{k <= l} 1/S_k - 1`, `S_k`
/// the inner sums. Scores that are not finite make both `NaN`.
fn plackett_luce(z: &[f64]) -> (f64, Vec<f64>) {
    if z.iter().any(|z| !z.is_finite()) {
        return (f64::NAN, vec![f64::NAN; z.len()]);
    }
    let mut log_sums = vec![0.0; z.len()];
    let mut rest = f64::NEG_INFINITY;
    for (log_sum, z) in log_sums.iter_mut().zip(z).rev() {
        rest = log_add(rest, *z);
        *log_sum = rest;
    }
    let loss = log_sums.iter().zip(z).map(|(log_sum, z)| log_sum - z).sum();
    let mut inverse = f64::NEG_INFINITY;
    let gradient = log_sums.iter().zip(z).map(|(log_sum, z)| {
        inverse = log_add(inverse, -log_sum);
        (z + inverse).exp() - 1.0
    });
    (loss, gradient.collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use burn::tensor::Device;

    fn rows<const N: usize, const M: usize>(rows: [[f32; M]; N]) -> Tensor<2> {
        Tensor::from_floats(rows, &Device::flex())
    }

    fn floats<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.try_into_vec_as::<f32>().unwrap()
    }

    #[test]
    fn distances_by_hand() {
        let (student, teacher) = (
            rows([[3.0, 4.0], [1.0, 0.0]]),
            rows([[0.0, 0.0], [1.0, 0.0]]),
        );
        for (distance, want) in [
            (EmbeddingDistance::MeanSquare, [12.5, 0.0]),
            (EmbeddingDistance::Euclidean, [5.0, 0.0]),
            (EmbeddingDistance::Cosine, [1.0, 0.0]),
        ] {
            let config = EmbeddingDistillationConfig::new().with_distance(distance);
            let items = config
                .init()
                .forward_per_item(student.clone(), teacher.clone());
            assert_eq!(floats(items.unwrap()), want, "{distance}");
        }
    }

    #[test]
    fn equal_rows_have_no_gradient_and_the_teacher_never_has_one() {
        let device = Device::flex().autodiff();
        for distance in [
            EmbeddingDistance::MeanSquare,
            EmbeddingDistance::Euclidean,
            EmbeddingDistance::Cosine,
        ] {
            let x = Tensor::<2>::from_floats([[0.6, 0.8]], &device).require_grad();
            let teacher = Tensor::<2>::from_floats([[0.6, 0.8]], &device).require_grad();
            let config = EmbeddingDistillationConfig::new().with_distance(distance);
            let loss = config.init().forward(x.clone(), teacher.clone()).unwrap();
            let grads = loss.backward();
            let gradient = floats(x.grad(&grads).unwrap());
            assert!(gradient.iter().all(|g| g.abs() < 1e-6), "{gradient:?}");
            assert!(teacher.grad(&grads).is_none());
        }
    }

    #[test]
    fn list_net_by_hand() {
        // p = (3/4, 1/4), q = (1/2, 1/2): 3/4 ln 3/2 + 1/4 ln 1/2.
        let config = RankingDistillationConfig::new()
            .with_student_temperature(1.0)
            .with_teacher_temperature(1.0)
            .with_exclude_own(false);
        let loss = config.init().unwrap();
        let (student, teacher) = (rows([[7.0, 7.0]]), rows([[3f32.ln(), 0.0]]));
        let items = floats(loss.forward_similarities(student, teacher).unwrap());
        let want = 0.75 * 1.5f32.ln() + 0.25 * 0.5f32.ln();
        approx::assert_abs_diff_eq!(items[0], want, epsilon = 1e-6);
        // With the own candidate left out of each row, the other two decide.
        let loss = config.with_exclude_own(true).init().unwrap();
        let student = rows([[9.0, 7.0, 7.0], [7.0, -9.0, 7.0]]);
        let teacher = rows([[5.0, 3f32.ln(), 0.0], [3f32.ln(), 1.0, 0.0]]);
        let items = floats(loss.forward_similarities(student, teacher).unwrap());
        for item in items {
            approx::assert_abs_diff_eq!(item, want, epsilon = 1e-6);
        }
    }

    #[test]
    fn list_mle_by_hand() {
        // Teacher order 2, 0, 1; scores there 1, 0, 0: ln(e + 2) - 1 + ln 2 + 0.
        let config = RankingDistillationConfig::new()
            .with_student_temperature(1.0)
            .with_objective(RankingObjective::ListMle)
            .with_exclude_own(false);
        let loss = config.init().unwrap();
        let (student, teacher) = (rows([[0.0, 0.0, 1.0]]), rows([[0.5, -3.0, 2.0]]));
        let items = floats(loss.forward_similarities(student, teacher).unwrap());
        let e = std::f32::consts::E;
        let want = (e + 2.0).ln() - 1.0 + 2f32.ln();
        approx::assert_abs_diff_eq!(items[0], want, epsilon = 1e-6);
        // Far apart at a small temperature, in the wrong order: 2 / 0.001, not infinite.
        let loss = config.with_student_temperature(0.001).init().unwrap();
        let items = loss.forward_similarities(rows([[-1.0, 1.0]]), rows([[1.0, 0.0]]));
        approx::assert_abs_diff_eq!(floats(items.unwrap())[0], 2000.0, epsilon = 1e-2);
    }

    #[test]
    fn bad_parameters_and_inputs_are_refused() {
        let config = RankingDistillationConfig::new();
        assert!(config.with_student_temperature(0.0).init().is_err());
        let error = config
            .with_teacher_temperature(f64::NAN)
            .init()
            .unwrap_err();
        assert!(matches!(
            error,
            LossError::Parameter {
                name: "teacher_temperature",
                ..
            }
        ));
        let loss = config.init().unwrap();
        let ones = |rows, columns| Tensor::<2>::ones([rows, columns], &Device::flex());
        let forward = |student, teacher| loss.forward_similarities(student, teacher);
        assert!(forward(ones(3, 3), ones(3, 3)).is_ok());
        assert!(forward(ones(3, 3), ones(3, 4)).is_err());
        assert!(forward(ones(0, 3), ones(0, 3)).is_err());
        let error = forward(ones(2, 2), ones(2, 2)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ranking_distillation: candidates: found 2, expected at least 3"
        );
        let nan = rows([[f32::NAN, 0.0, 1.0]]);
        let config = config.with_exclude_own(false);
        for objective in [RankingObjective::ListNet, RankingObjective::ListMle] {
            let loss = config.with_objective(objective).init().unwrap();
            let finite = rows([[0.0, 0.5, 1.0]]);
            for (student, teacher) in [(nan.clone(), finite.clone()), (finite, nan.clone())] {
                let items = loss.forward_similarities(student, teacher);
                assert!(floats(items.unwrap())[0].is_nan(), "{objective}");
            }
        }
        let distance = EmbeddingDistillationConfig::new().init();
        assert!(distance.forward(ones(2, 3), ones(2, 2)).is_err());
        assert!(distance.forward(ones(0, 3), ones(0, 3)).is_err());
    }
}
