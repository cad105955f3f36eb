//! Helpers of the tests of fused operations.
#![allow(clippy::unwrap_used)]

use burn::tensor::{Device, Tensor, TensorData};

/// Smooth values in `(-1, 1)` that differ from one another.
pub(crate) fn values(shape: [usize; 2], phase: f32) -> TensorData {
    let data: Vec<f32> = (0..shape[0] * shape[1])
        .map(|i| (i as f32 * 0.618 + phase * 1.7).sin() * (1.0 - 0.3 * (i as f32 * 0.11).cos()))
        .collect();
    TensorData::new(data, shape)
}

/// Waves of different phase in every element.
pub(crate) fn wave<const D: usize>(shape: [usize; D], speed: f32, device: &Device) -> Tensor<D> {
    let len = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..len).map(|i| (speed * i as f32).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The nearest bfloat16: rounding to 8 significant bits, ties to even, by arithmetic.
pub(crate) fn nearest_bf16(x: f32) -> f64 {
    if x == 0.0 {
        return 0.0;
    }
    let x = f64::from(x);
    let unit = 2f64.powi(x.abs().log2().floor() as i32 - 7);
    (x / unit).round_ties_even() * unit
}

/// Largest magnitude.
pub(crate) fn magnitude(values: &[f32]) -> f64 {
    values.iter().fold(0.0f64, |m, x| m.max(f64::from(x.abs())))
}

/// Largest difference relative to the largest magnitude of the reference, or to `floor` if that is
/// larger: a gradient that is zero but for rounding (the bias of the keys) has no scale of its own.
pub(crate) fn relative_difference(got: &[f32], want: &[f32], floor: f64) -> f64 {
    assert_eq!(got.len(), want.len());
    let scale = magnitude(want).max(floor);
    let worst = got
        .iter()
        .zip(want)
        .map(|(g, w)| (f64::from(*g) - f64::from(*w)).abs())
        .fold(
            0.0f64,
            |m, x| if x.is_nan() { f64::INFINITY } else { m.max(x) },
        );
    if scale == 0.0 { worst } else { worst / scale }
}

/// Runs `work` right after seeding the device; one at a time, since the generator is shared by all
/// tests of the process.
pub(crate) fn with_seed<T>(device: &Device, seed: u64, work: impl FnOnce() -> T) -> T {
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    device.seed(seed);
    work()
}

/// Runs both forms on the same inputs and compares value and every gradient of a weighted sum of the
/// output, to 1e-5 of the largest magnitude.
pub(crate) fn assert_same_gradients(
    inputs: &[TensorData],
    fused: impl Fn(&[Tensor<2>]) -> Tensor<2>,
    composed: impl Fn(&[Tensor<2>]) -> Tensor<2>,
) {
    for device in [
        Device::flex().autodiff(),
        Device::flex().autodiff().gradient_checkpointing(),
    ] {
        let run = |form: &dyn Fn(&[Tensor<2>]) -> Tensor<2>| {
            let tensors: Vec<Tensor<2>> = inputs
                .iter()
                .map(|data| Tensor::from_data(data.clone(), &device).require_grad())
                .collect();
            let y = form(&tensors);
            let weights = Tensor::<2>::from_data(values(y.dims(), 9.7), &device);
            let grads = (y.clone() * weights).sum().backward();
            let mut all: Vec<Vec<f32>> = vec![y.into_data().try_to_vec().unwrap()];
            for tensor in &tensors {
                all.push(
                    tensor
                        .grad(&grads)
                        .unwrap()
                        .into_data()
                        .try_to_vec()
                        .unwrap(),
                );
            }
            all
        };
        let (got, want) = (run(&fused), run(&composed));
        let floor = 0.1 * want.iter().map(|v| magnitude(v)).fold(0.0, f64::max);
        for (index, (got, want)) in got.iter().zip(&want).enumerate() {
            let difference = relative_difference(got, want, floor);
            assert!(
                difference <= 1e-5,
                "{}: relative difference {difference:e}",
                if index == 0 {
                    "value".to_owned()
                } else {
                    format!("gradient {index}")
                }
            );
        }
    }
}
