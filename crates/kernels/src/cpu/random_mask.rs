//! Dropout masks as a function of a seed, so that the backward pass recomputes them.
//!
//! Element `j` of row `r` is kept if a 32-bit hash of `(seed, r, j)` reaches a threshold. The hash is
//! the two-multiplication mixer "lowbias32" of Chris Wellons' hash-prospector, with the second word
//! of a 64-bit row key added half way: rows that start near each other do not repeat one another.

/// Dropout of one call: keep probability and the key of its masks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MaskKey {
    seed: u64,
    /// An element is dropped if the upper 24 bits of its hash are below this.
    threshold: i32,
    /// What kept elements are multiplied by, `1 / (1 - rate)`.
    pub(crate) scale: f32,
}

impl MaskKey {
    /// `None` if `rate` is 0.
    pub(crate) fn new(rate: f64, seed: u64) -> Option<Self> {
        (rate > 0.0).then(|| Self {
            seed,
            threshold: (rate.min(1.0) * f64::from(1 << 24)).round() as i32,
            scale: (1.0 / (1.0 - rate)) as f32,
        })
    }

    /// Key of row `row`, one round of SplitMix64.
    #[inline(always)]
    pub(crate) fn row(self, row: usize) -> RowKey {
        let mut z = self.seed.wrapping_add(
            (row as u64)
                .wrapping_add(1)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15),
        );
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        RowKey {
            start: z as u32,
            salt: (z >> 32) as u32,
            threshold: self.threshold,
            scale: self.scale,
        }
    }
}

/// Masks of one row.
#[derive(Clone, Copy)]
pub(crate) struct RowKey {
    start: u32,
    salt: u32,
    threshold: i32,
    scale: f32,
}

impl RowKey {
    /// 0 or `1 / (1 - rate)` for element `at`.
    #[inline(always)]
    pub(crate) fn factor(self, at: u32) -> f32 {
        let mut x = self.start.wrapping_add(at.wrapping_mul(0x9E37_79B9));
        x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
        x ^= self.salt;
        x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
        x ^= x >> 16;
        if ((x >> 8) as i32) < self.threshold {
            0.0
        } else {
            self.scale
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn masks(rate: f64, seed: u64, rows: usize, columns: u32) -> Vec<Vec<bool>> {
        let key = MaskKey::new(rate, seed).unwrap();
        (0..rows)
            .map(|row| {
                (0..columns)
                    .map(|at| key.row(row).factor(at) > 0.0)
                    .collect()
            })
            .collect()
    }

    #[test]
    fn rate_is_met_and_rows_columns_and_seeds_are_uncorrelated() {
        let (rows, columns) = (2000, 384);
        let n = (rows * columns as usize) as f64;
        for rate in [0.1, 0.5, 0.9] {
            let a = masks(rate, 7, rows, columns);
            let kept = a.iter().flatten().filter(|kept| **kept).count() as f64;
            // Six standard deviations of a binomial count.
            let spread = 6.0 * (n * rate * (1.0 - rate)).sqrt();
            assert!((kept - n * (1.0 - rate)).abs() < spread, "{rate}: {kept}");
            let agree = |b: &dyn Fn(usize, usize) -> bool| {
                let both = (0..rows - 1)
                    .flat_map(|r| (0..columns as usize - 1).map(move |c| (r, c)))
                    .filter(|(r, c)| a[*r][*c] && b(*r, *c))
                    .count() as f64;
                let n = ((rows - 1) * (columns as usize - 1)) as f64;
                let want = (1.0 - rate).powi(2);
                (both / n - want).abs() < 6.0 * (want * (1.0 - want) / n).sqrt() * 1.5
            };
            let other = masks(rate, 8, rows, columns);
            assert!(agree(&|r, c| other[r][c]), "another seed, {rate}");
            assert!(agree(&|r, c| a[r + 1][c]), "the next row, {rate}");
            assert!(agree(&|r, c| a[r][c + 1]), "the next column, {rate}");
        }
    }

    #[test]
    fn no_rate_no_mask_and_kept_elements_are_scaled() {
        assert!(MaskKey::new(0.0, 1).is_none());
        let key = MaskKey::new(0.25, 1).unwrap();
        let factors: Vec<f32> = (0..100).map(|at| key.row(3).factor(at)).collect();
        assert!(
            factors
                .iter()
                .all(|f| *f == 0.0 || (*f - 4.0 / 3.0).abs() < 1e-6)
        );
        let everything = MaskKey::new(1.0, 1).unwrap();
        assert!((0..100).all(|at| everything.row(0).factor(at) == 0.0));
    }
}
