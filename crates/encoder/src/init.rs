//! Seeded random weights.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Draws initial weights from one seeded stream, in the order in which modules ask for them.
pub struct Init {
    /// `None` builds zeros: the caller is about to overwrite every parameter.
    rng: Option<ChaCha8Rng>,
    std: f64,
    device: Device,
}

impl Init {
    /// Normal weights of standard deviation `std`.
    pub fn seeded(seed: u64, std: f64, device: &Device) -> Self {
        Self {
            rng: Some(ChaCha8Rng::seed_from_u64(seed)),
            std,
            device: device.clone(),
        }
    }

    /// Zeros everywhere, for models whose weights are read from a file.
    pub(crate) fn zeros(device: &Device) -> Self {
        Self {
            rng: None,
            std: 0.0,
            device: device.clone(),
        }
    }

    /// A parameter of normal values.
    pub fn normal(&mut self, shape: [usize; 2]) -> Param<Tensor<2>> {
        let values = self.values(shape[0] * shape[1]);
        Param::from_data(TensorData::new(values, shape), &self.device)
    }

    /// As [`normal`](Self::normal) with one row zero.
    pub fn normal_with_zero_row(&mut self, shape: [usize; 2], row: usize) -> Param<Tensor<2>> {
        let mut values = self.values(shape[0] * shape[1]);
        if let Some(row) = values.chunks_mut(shape[1]).nth(row) {
            row.fill(0.0);
        }
        Param::from_data(TensorData::new(values, shape), &self.device)
    }

    /// A parameter of one repeated value.
    pub fn constant<const D: usize>(&mut self, shape: [usize; D], value: f32) -> Param<Tensor<D>> {
        let count = shape.iter().product();
        Param::from_data(TensorData::new(vec![value; count], shape), &self.device)
    }

    /// Zeros that never receive a gradient, for a part that a family lacks.
    pub(crate) fn absent<const D: usize>(&mut self, shape: [usize; D]) -> Param<Tensor<D>> {
        self.constant(shape, 0.0).set_require_grad(false)
    }

    fn values(&mut self, count: usize) -> Vec<f32> {
        let std = self.std;
        match &mut self.rng {
            None => vec![0.0; count],
            Some(rng) => {
                let mut values = Vec::with_capacity(count + 1);
                while values.len() < count {
                    let (a, b) = normal_pair(rng);
                    values.push((a * std) as f32);
                    values.push((b * std) as f32);
                }
                values.truncate(count);
                values
            }
        }
    }
}

/// Two independent standard normal values (Box and Muller, 1958).
fn normal_pair(rng: &mut impl Rng) -> (f64, f64) {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    let angle = 2.0 * std::f64::consts::PI * rng.random::<f64>();
    (radius * angle.cos(), radius * angle.sin())
}
