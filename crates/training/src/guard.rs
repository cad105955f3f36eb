//! The numerical guard: which number of a step is not finite, and which rows it came from.
//!
//! ```text
//! 1. every value of the report named `loss` or `loss_...`, the parts before the sum
//! 2. the global gradient norm; if it is not finite, the first gradient element that is not, in the
//!    order of the parameters
//! ```
//!
//! What follows is decided by whoever runs the steps: [`run_steps`](crate::run_steps) ends the run
//! with everything saved as it was before the step, or leaves the step out and goes on.

use std::collections::BTreeMap;
use std::fmt;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};
use serde::{Deserialize, Serialize};

use crate::clip::{Clip, clip};
use crate::error::{Error, Result};
use crate::module_state::Path;

/// What is not a finite number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// A value of the report.
    Loss,
    /// The gradient of a parameter.
    Gradient,
}

/// A number of a step that is not finite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What it belongs to.
    pub quantity: Quantity,
    /// Name of the loss, path of the parameter, or `gradient norm` where every element is finite and
    /// only the sum of their squares is not.
    pub tensor: String,
    /// `NaN`, `inf` or `-inf`: JSON has no such numbers.
    pub value: String,
    /// Row-major position of the element of a gradient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub element: Option<usize>,
    /// Rows of the batch, by kind.
    pub rows: BTreeMap<String, Vec<usize>>,
}

/// Rows that a message names; all of them are in [`Fault::rows`].
const ROWS_NAMED: usize = 8;
/// Name of the sum that overflowed although no element did.
const NORM: &str = "gradient norm";

impl Fault {
    fn new(quantity: Quantity, tensor: &str, value: f64) -> Self {
        Self {
            quantity,
            tensor: tensor.to_owned(),
            value: value.to_string(),
            element: None,
            rows: BTreeMap::new(),
        }
    }

    /// The same with the rows of the batch.
    #[must_use]
    pub fn with_rows(mut self, rows: BTreeMap<String, Vec<usize>>) -> Self {
        self.rows = rows;
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.quantity, self.element) {
            (Quantity::Loss, _) => write!(f, "`{}` is {}", self.tensor, self.value)?,
            (Quantity::Gradient, Some(element)) => write!(
                f,
                "the gradient of `{}` is {} at element {element}",
                self.tensor, self.value
            )?,
            (Quantity::Gradient, None) => write!(f, "the {} is {}", self.tensor, self.value)?,
        }
        f.write_str(", expected a finite number")?;
        for (at, (kind, rows)) in self.rows.iter().enumerate() {
            f.write_str(if at == 0 { "; batch: " } else { ", " })?;
            write!(f, "{kind}")?;
            for row in rows.iter().take(ROWS_NAMED) {
                write!(f, " {row}")?;
            }
            if rows.len() > ROWS_NAMED {
                write!(f, " and {} more", rows.len() - ROWS_NAMED)?;
            }
        }
        Ok(())
    }
}

/// What the guard says of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Examined {
    /// All is finite; norm and scale of the gradients.
    Sound(Clip),
    /// Something is not; the rows are still to be filled in.
    Faulty(Fault),
}

/// Steps that were left out because of a number that is not finite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skips {
    /// In all.
    pub total: u64,
    /// The last ones, one after the other.
    pub in_a_row: u64,
}

impl Skips {
    /// Counts a step that was done.
    pub fn done(&mut self) {
        self.in_a_row = 0;
    }

    /// Counts a step to be left out, unless `most` were left out one after the other already; says
    /// whether it may be.
    pub fn skip(&mut self, most: u64) -> bool {
        if self.in_a_row >= most {
            return false;
        }
        self.total += 1;
        self.in_a_row += 1;
        true
    }
}

/// Looks for numbers that are not finite among the losses of `values` and the gradients of `module`,
/// and clips. `step` is for errors only.
///
/// # Errors
/// [`Error::Setting`] if `max_norm` is not positive.
pub fn examine<M: Module>(
    module: &M,
    values: &BTreeMap<String, f64>,
    grads: &Gradients,
    max_norm: Option<f64>,
    step: u64,
) -> Result<Examined> {
    if let Some(fault) = faulty_loss(values) {
        return Ok(Examined::Faulty(fault));
    }
    match clip(module, grads, max_norm, step) {
        Ok(clip) => Ok(Examined::Sound(clip)),
        Err(Error::NotFiniteGradient { norm, .. }) => Ok(Examined::Faulty(
            faulty_gradient(module, grads)
                .unwrap_or_else(|| Fault::new(Quantity::Gradient, NORM, norm)),
        )),
        Err(other) => Err(other),
    }
}

/// Whether a value of a report is a loss, which has to be finite.
pub(crate) fn is_loss(name: &str) -> bool {
    name == "loss" || name.starts_with("loss_")
}

/// The loss that is not finite. From the back, so that a part such as `loss_mlm` is named before the
/// sum `loss`.
fn faulty_loss(values: &BTreeMap<String, f64>) -> Option<Fault> {
    values
        .iter()
        .rev()
        .find(|(name, value)| is_loss(name) && !value.is_finite())
        .map(|(name, value)| Fault::new(Quantity::Loss, name, *value))
}

/// The first gradient element that is not finite. Reads gradients to the host, so it is only for when
/// something is known to be wrong.
fn faulty_gradient<M: Module>(module: &M, grads: &Gradients) -> Option<Fault> {
    let mut visitor = Search {
        grads,
        path: Path::default(),
        found: None,
    };
    module.visit(&mut visitor);
    visitor.found
}

struct Search<'a> {
    grads: &'a Gradients,
    path: Path,
    found: Option<Fault>,
}

impl ModuleVisitor for Search<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.found.is_some() {
            return;
        }
        let Some(grad) = param.base().grad(self.grads) else {
            return;
        };
        let bad = grad
            .into_data()
            .iter::<f64>()
            .enumerate()
            .find(|(_, value)| !value.is_finite());
        if let Some((element, value)) = bad {
            let mut fault = Fault::new(Quantity::Gradient, &self.path.name(), value);
            fault.element = Some(element);
            self.found = Some(fault);
        }
    }
}

/// Mean, standard deviation (divisor: count) and largest absolute value of activations, computed in
/// f64 in the order of the elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activations {
    /// Arithmetic mean.
    pub mean: f64,
    /// Root of the mean squared distance from it.
    pub std: f64,
    /// Largest absolute value.
    pub max: f64,
}

impl Activations {
    /// Statistics of all elements of `tensor`, `None` for none. Reads it to the host.
    pub fn of<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        let values: Vec<f64> = tensor.clone().into_data().iter::<f64>().collect();
        let count = values.len() as f64;
        if values.is_empty() {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let max = values.iter().map(|x| x.abs()).fold(0.0, f64::max);
        Some(Self {
            mean,
            std: variance.sqrt(),
            max,
        })
    }

    /// The three figures as values of a report: `<prefix>_mean`, `<prefix>_std`, `<prefix>_max`.
    pub fn named(&self, prefix: &str) -> [(String, f64); 3] {
        [
            (format!("{prefix}_mean"), self.mean),
            (format!("{prefix}_std"), self.std),
            (format!("{prefix}_max"), self.max),
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use burn::tensor::Device;

    use super::*;

    #[derive(Module, Debug)]
    struct Inner {
        weight: Param<Tensor<2>>,
    }

    #[derive(Module, Debug)]
    struct Outer {
        first: Param<Tensor<1>>,
        inner: Inner,
    }

    /// Gradients equal to the given values: d/dw sum(w * c) = c.
    fn with_gradients(first: [f32; 2], second: [f32; 3]) -> (Outer, Gradients) {
        let device = Device::flex().autodiff();
        let module = Outer {
            first: Param::from_tensor(Tensor::zeros([2], &device)),
            inner: Inner {
                weight: Param::from_tensor(Tensor::zeros([1, 3], &device)),
            },
        };
        let a = Tensor::<1>::from_data(first, &device);
        let b = Tensor::<2>::from_data([second], &device);
        let loss = (module.first.val() * a).sum() + (module.inner.weight.val() * b).sum();
        let grads = loss.backward();
        (module, grads)
    }

    fn values(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
        let pairs = pairs.iter().map(|(name, x)| ((*name).to_owned(), *x));
        pairs.collect()
    }

    fn fault(examined: Examined) -> Fault {
        match examined {
            Examined::Faulty(fault) => fault,
            Examined::Sound(clip) => panic!("nothing was found: {clip:?}"),
        }
    }

    #[test]
    fn a_sound_step_is_clipped() {
        let (module, grads) = with_gradients([3.0, 0.0], [0.0, 4.0, 0.0]);
        let values = values(&[("loss", 1.0), ("accuracy", f64::NAN)]);
        let found = examine(&module, &values, &grads, Some(1.0), 0).unwrap();
        let clipped = clip(&module, &grads, Some(1.0), 0).unwrap();
        assert_eq!(found, Examined::Sound(clipped));
        assert_eq!(clipped.norm, 5.0);
        let refused = examine(&module, &values, &grads, Some(0.0), 0);
        assert!(matches!(refused, Err(Error::Setting { .. })));
    }

    #[test]
    fn a_part_of_the_loss_is_blamed_before_the_sum_and_losses_before_gradients() {
        let (module, grads) = with_gradients([f32::NAN, 0.0], [0.0; 3]);
        for (part, named) in [(f64::NAN, "loss_mlm"), (0.5, "loss")] {
            let values = values(&[("loss", f64::INFINITY), ("loss_mlm", part)]);
            let found = fault(examine(&module, &values, &grads, None, 3).unwrap());
            assert_eq!(
                (found.quantity, found.tensor.as_str()),
                (Quantity::Loss, named)
            );
            assert_eq!(found.value, if named == "loss" { "inf" } else { "NaN" });
        }
    }

    #[test]
    fn the_parameter_and_the_element_are_named() {
        let values = values(&[("loss", 1.0)]);
        for (bad, text) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
            let (module, grads) = with_gradients([1.0, 2.0], [0.0, 1.0, bad]);
            let found = fault(examine(&module, &values, &grads, Some(1.0), 3).unwrap());
            assert_eq!(found.tensor, "inner.weight");
            assert_eq!((found.element, found.value.as_str()), (Some(2), text));
            let rows = BTreeMap::from([("rows".to_owned(), (10..20).collect())]);
            let said = found.with_rows(rows).to_string();
            let expected = format!(
                "the gradient of `inner.weight` is {text} at element 2, expected a finite number; \
                 batch: rows 10 11 12 13 14 15 16 17 and 2 more"
            );
            assert_eq!(said, expected);
        }
        // Of several, the first.
        let (module, grads) = with_gradients([0.0, f32::NAN], [f32::NAN; 3]);
        let found = fault(examine(&module, &values, &grads, None, 3).unwrap());
        assert_eq!((found.tensor.as_str(), found.element), ("first", Some(1)));
    }

    #[test]
    fn a_norm_can_overflow_where_no_element_does() {
        let (module, grads) = with_gradients([3e38, 3e38], [3e38; 3]);
        let found = fault(examine(&module, &BTreeMap::new(), &grads, None, 3).unwrap());
        assert_eq!((found.tensor.as_str(), found.element), (NORM, None));
        assert!(found.to_string().starts_with("the gradient norm is inf"));
    }

    #[test]
    fn only_so_many_steps_are_left_out_in_a_row() {
        let mut skips = Skips::default();
        assert!(skips.skip(2) && skips.skip(2) && !skips.skip(2));
        skips.done();
        assert!(skips.skip(2));
        assert_eq!((skips.total, skips.in_a_row), (3, 1));
        assert!(!Skips::default().skip(0));
    }

    #[test]
    fn statistics_of_activations() {
        let device = Device::flex();
        let tensor = Tensor::<2>::from_data([[1.0f32, -3.0], [2.0, 4.0]], &device);
        let found = Activations::of(&tensor).unwrap();
        // mean 1; squared distances 0, 16, 1, 9
        assert_eq!((found.mean, found.max), (1.0, 4.0));
        assert_eq!(found.std, 6.5f64.sqrt());
        assert_eq!(
            found.named("vector")[1],
            ("vector_std".to_owned(), found.std)
        );
        assert!(Activations::of(&Tensor::<1>::zeros([0], &device)).is_none());
    }
}
