//! Dot products and lengths.

/// Accumulators of a dot product. Four products side by side fill the registers of the smallest
/// x86-64.
const LANES: usize = 8;

/// Dot product in a fixed order of summation. Both slices have the same length.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let [product] = dots(a, [b]);
    product
}

/// Dot products of one vector with several, each with the same bits as [`dot`].
pub(crate) fn dots<const N: usize>(a: &[f32], others: [&[f32]; N]) -> [f32; N] {
    let mut lanes = [[0.0_f32; LANES]; N];
    let (blocks, tail) = a.as_chunks::<LANES>();
    let others = others.map(|other| other.as_chunks::<LANES>());
    for (at, block) in blocks.iter().enumerate() {
        for (lanes, (other, _)) in lanes.iter_mut().zip(&others) {
            let Some(other) = other.get(at) else { continue };
            for lane in 0..LANES {
                lanes[lane] += block[lane] * other[lane];
            }
        }
    }
    let mut products = [0.0; N];
    for ((product, lanes), (_, other)) in products.iter_mut().zip(&lanes).zip(&others) {
        let rest: f32 = tail.iter().zip(*other).map(|(x, y)| x * y).sum();
        *product = lanes.iter().sum::<f32>() + rest;
    }
    products
}

/// Cosine of two vectors of unit length; rounding does not take it out of -1 to 1.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    dot(a, b).clamp(-1.0, 1.0)
}

/// Euclidean length, in double precision so that no finite vector overflows.
pub(crate) fn length(vector: &[f32]) -> f64 {
    let square = |&x: &f32| f64::from(x) * f64::from(x);
    vector.iter().map(square).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_the_sum_over_pairs_whatever_the_length() {
        for dim in 0..40 {
            let row = |k: usize| -> Vec<f32> {
                (0..dim)
                    .map(|i| ((i * 7 + k * 5) % 11) as f32 - 5.0)
                    .collect()
            };
            let others = [row(1), row(2), row(3), row(4)];
            // Small whole numbers have exact sums in any order.
            let expected = others
                .each_ref()
                .map(|other| row(0).iter().zip(other).map(|(x, y)| x * y).sum::<f32>());
            assert_eq!(
                dots(&row(0), others.each_ref().map(Vec::as_slice)),
                expected
            );
            assert_eq!(dot(&row(0), &others[0]), expected[0]);
        }
    }

    #[test]
    fn lengths_neither_overflow_nor_vanish() {
        assert_eq!(length(&[3.0, -4.0]), 5.0);
        assert!(length(&[f32::MAX, f32::MAX]).is_finite());
        assert!(length(&[f32::from_bits(1)]) > 0.0);
    }
}
