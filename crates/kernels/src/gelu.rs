//! The Gaussian error linear unit, exact form.
//!
//! ```text
//! gelu(x)  = x * Phi(x),            Phi(x) = (1 + erf(x / sqrt 2)) / 2
//! gelu'(x) = Phi(x) + x * phi(x),   phi(x) = exp(-x^2 / 2) / sqrt(2 pi)
//! ```
//!
//! burn 0.22.1 differentiates its own GELU by the derivative of the tanh approximation on every
//! backend but flex, and flex evaluates erf one element at a time. Here forward and backward are
//! the pair above on every backend.
//!
//! Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", arXiv 1606.08415, section 2.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

/// Applies `x * Phi(x)` element by element; the shape is kept.
///
/// ```
/// # #[cfg(feature = "flex")] {
/// use burn::tensor::{Device, Tensor};
/// let x = Tensor::<1>::from_floats([-1.0, 0.0, 1.0], &Device::flex());
/// let y: Vec<f32> = kernels::gelu(x).into_data().try_to_vec().unwrap();
/// assert!((y[2] - 0.841_344_7).abs() < 1e-6 && y[1] == 0.0);
/// # }
/// ```
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as GeluBackend>::erf_gelu(x.into_dispatch()))
}

/// Backend side of [`gelu`]: the default bodies are the composed reference.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Autodiff
)]
pub trait GeluBackend: Backend {
    /// `x * Phi(x)`.
    fn erf_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let cdf = composed_cdf::<Self>(x.clone());
        Self::float_mul(x, cdf)
    }

    /// `grad * (Phi(x) + x * phi(x))`.
    fn erf_gelu_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        let cdf = composed_cdf::<Self>(x.clone());
        let square = Self::float_mul(x.clone(), x.clone());
        let pdf = Self::float_exp(Self::float_mul_scalar(square, (-0.5f32).into()));
        let pdf = Self::float_mul_scalar(pdf, INV_SQRT_2PI.into());
        let slope = Self::float_add(cdf, Self::float_mul(x, pdf));
        Self::float_mul(grad, slope)
    }
}

/// 1 / sqrt(2 pi).
const INV_SQRT_2PI: f32 = 0.398_942_3;

fn composed_cdf<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let scaled = B::float_mul_scalar(x, core::f32::consts::FRAC_1_SQRT_2.into());
    let erf = B::float_erf(scaled);
    B::float_mul_scalar(B::float_add_scalar(erf, 1.0f32.into()), 0.5f32.into())
}

#[cfg(feature = "ndarray")]
#[allow(deprecated)]
impl GeluBackend for burn::backend::NdArray {}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl GeluBackend for burn::backend::Cube {}

#[cfg(feature = "flex")]
impl GeluBackend for burn::backend::Flex {
    fn erf_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        use burn::backend::DType;
        if x.dtype() != DType::F32 {
            return <Self as burn::backend::ops::ActivationOps<Self>>::gelu(x);
        }
        crate::simd::map1(x, crate::simd::gelu_forward)
    }

    fn erf_gelu_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        use burn::backend::DType;
        if x.dtype() != DType::F32 || grad.dtype() != DType::F32 {
            return <Self as burn::backend::ops::ActivationOps<Self>>::gelu_backward(x, grad);
        }
        crate::simd::map2(x, grad, crate::simd::gelu_backward)
    }
}

/// Reverse-mode step of [`gelu`]; keeps the input, recomputes the rest.
#[derive(Debug)]
struct GeluStep;

impl<B: GeluBackend> Backward<B, 1> for GeluStep {
    type State = B::FloatTensorPrimitive;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let x = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            B::erf_gelu_backward(x, grad)
        });
    }
}

impl<B: GeluBackend, C: CheckpointStrategy> GeluBackend for Autodiff<B, C> {
    fn erf_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (input, node) = x.into_parts();
        match GeluStep.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(input.clone(), B::erf_gelu(input)),
            OpsKind::UnTracked(prep) => prep.finish(B::erf_gelu(input)),
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn::tensor::{Device, Tensor, TensorData};
    use proptest::prelude::*;

    /// The formula in f64, written out with its own series and continued fraction.
    fn reference(x: f64) -> (f64, f64) {
        let z = x / 2f64.sqrt();
        let cdf = 0.5 * (1.0 + erf(z));
        let pdf = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        (x * cdf, cdf + x * pdf)
    }

    /// erf by its Taylor series below 3 and by Lentz's continued fraction of erfc above.
    fn erf(z: f64) -> f64 {
        if z.abs() < 3.0 {
            let mut term = z;
            let mut sum = z;
            for n in 1..200 {
                term *= -z * z / n as f64;
                sum += term / (2 * n + 1) as f64;
            }
            return sum * 2.0 / std::f64::consts::PI.sqrt();
        }
        let a = z.abs();
        let mut fraction = 0.0;
        for n in (1..200).rev() {
            fraction = n as f64 / 2.0 / (a + fraction);
        }
        let erfc = (-a * a).exp() / std::f64::consts::PI.sqrt() / (a + fraction);
        z.signum() * (1.0 - erfc)
    }

    fn both(values: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let device = Device::flex().autodiff();
        let x = Tensor::<1>::from_data(TensorData::from(values), &device).require_grad();
        let y = gelu(x.clone());
        let grads = y.clone().sum().backward();
        (
            y.into_data().try_to_vec().unwrap(),
            x.grad(&grads).unwrap().into_data().try_to_vec().unwrap(),
        )
    }

    #[test]
    fn value_and_slope_agree_with_the_formula_in_f64() {
        // 40,000 points over [-20, 20] plus the corners.
        let mut xs: Vec<f32> = (-20_000..=20_000).map(|i| i as f32 * 1e-3).collect();
        xs.extend([0.0, -0.0, 1e-20, -1e-20, 1e-38, 100.0, -100.0, 1e30, -1e30]);
        let (y, dy) = both(&xs);
        for ((x, y), dy) in xs.iter().zip(&y).zip(&dy) {
            let (want, slope) = reference(f64::from(*x));
            let scale = 1e-6 * f64::from(x.abs()).max(1.0);
            assert!(
                (f64::from(*y) - want).abs() <= scale,
                "gelu({x}) = {y}, expected {want}"
            );
            assert!(
                (f64::from(*dy) - slope).abs() <= 2e-6,
                "gelu'({x}) = {dy}, expected {slope}"
            );
        }
    }

    #[test]
    fn not_a_number_stays_visible() {
        let (y, dy) = both(&[f32::NAN, 1.0]);
        assert!(y[0].is_nan() && dy[0].is_nan() && y[1].is_finite());
    }

    #[test]
    fn strided_views_are_read_in_logical_order() {
        let device = Device::flex().autodiff();
        let values: Vec<f32> = (0..12).map(|i| i as f32 * 0.3 - 2.0).collect();
        let x = Tensor::<2>::from_data(TensorData::new(values, [3, 4]), &device).require_grad();
        let a = gelu(x.clone().transpose()).transpose();
        let b = gelu(x.clone());
        assert_eq!(a.clone().into_data(), b.into_data());
        let weights = Tensor::<2>::from_data([[1.0, 2.0, 3.0, 4.0]], &device);
        let ga = x.grad(&(a * weights.clone()).sum().backward()).unwrap();
        let gb = x
            .grad(&(gelu(x.clone()) * weights).sum().backward())
            .unwrap();
        assert_eq!(ga.into_data(), gb.into_data());
    }

    #[test]
    fn specialised_and_composed_forms_agree() {
        let device = Device::flex();
        let values: Vec<f32> = (-400..400).map(|i| i as f32 * 0.02).collect();
        let x = Tensor::<1>::from_data(TensorData::from(values.as_slice()), &device);
        let composed =
            x.clone() * ((x.clone() * core::f32::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5;
        let difference = (gelu(x) - composed).abs().max().into_scalar::<f32>();
        assert!(difference <= 1e-6, "{difference}");
    }

    proptest! {
        #[test]
        fn bounded_by_zero_and_the_identity(x in -50.0f32..50.0) {
            // min(0, x) - 0.17 <= gelu(x) <= max(0, x); the minimum of gelu is about -0.16997.
            let (y, _) = both(&[x]);
            prop_assert!(y[0] <= x.max(0.0) + 1e-5 && y[0] >= -0.17);
        }

        #[test]
        fn odd_part_is_half_the_identity(x in -30.0f32..30.0) {
            // gelu(x) - gelu(-x) = x
            let (y, _) = both(&[x, -x]);
            prop_assert!((y[0] - y[1] - x).abs() <= 2e-6 * x.abs().max(1.0));
        }
    }
}
