//! Inputs that both sides make from the same rule; `benches/peers/star_peer.py` has the same functions.

use burn::tensor::{Device, Tensor, TensorData};

/// Numbers in [-0.5, 0.5) from a hash of the position.
///
/// ```
/// let numbers = benches::inputs::uniform(1, 4);
/// assert!(numbers.iter().all(|x| (-0.5..0.5).contains(x)));
/// assert_eq!(numbers[..2], benches::inputs::uniform(1, 2));
/// ```
#[must_use]
pub fn uniform(seed: u32, count: usize) -> Vec<f32> {
    let start = seed.wrapping_mul(0x9E37_79B9);
    (0..count as u32)
        .map(|at| {
            let mut x = at.wrapping_add(start);
            x ^= x >> 16;
            x = x.wrapping_mul(0x7FEB_352D);
            x ^= x >> 15;
            x = x.wrapping_mul(0x846C_A68B);
            x ^= x >> 16;
            (x >> 8) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect()
}

/// [`uniform()`] rows brought to unit length, `[rows, columns]`.
#[must_use]
pub fn unit_rows(seed: u32, rows: usize, columns: usize, device: &Device) -> Tensor<2> {
    let mut values = uniform(seed, rows * columns);
    for row in values.chunks_mut(columns.max(1)) {
        let square: f64 = row.iter().map(|x| f64::from(*x).powi(2)).sum();
        for x in row {
            *x = (f64::from(*x) / square.sqrt()) as f32;
        }
    }
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}

/// [`uniform()`] times `scale`, `[rows, columns]`.
#[must_use]
pub fn scaled(seed: u32, rows: usize, columns: usize, scale: f32, device: &Device) -> Tensor<2> {
    let mut values = uniform(seed, rows * columns);
    values.iter_mut().for_each(|x| *x *= scale);
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}

/// `count` numbers below `end`.
#[must_use]
pub fn indices(seed: u32, count: usize, end: usize) -> Vec<usize> {
    let unit = uniform(seed, count);
    unit.iter()
        .map(|x| ((f64::from(*x) + 0.5) * end as f64) as usize)
        .collect()
}
