//! Summation whose error does not grow with the number of terms.

/// Running sum with a correction term (Neumaier, ZAMM 54, 1974).
///
/// The correction holds the low-order parts that each addition rounded away. The result differs
/// from the exact sum by about one rounding of the result plus `n * eps^2 * sum |x|`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CompensatedSum {
    sum: f64,
    lost: f64,
}

impl CompensatedSum {
    /// Adds one finite term.
    pub(crate) fn add(&mut self, term: f64) {
        let next = self.sum + term;
        // The smaller operand is the one whose low bits did not fit.
        self.lost += if self.sum.abs() >= term.abs() {
            (self.sum - next) + term
        } else {
            (term - next) + self.sum
        };
        self.sum = next;
    }

    /// The sum so far.
    pub(crate) fn value(self) -> f64 {
        self.sum + self.lost
    }
}

/// Sums in iteration order.
pub(crate) fn compensated_sum(terms: impl IntoIterator<Item = f64>) -> f64 {
    let mut sum = CompensatedSum::default();
    for term in terms {
        sum.add(term);
    }
    sum.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_plain_addition_loses() {
        // 1 + 1e100 + 1 - 1e100: plain addition gives 0, the exact sum is 2.
        assert_eq!(compensated_sum([1.0, 1e100, 1.0, -1e100]), 2.0);
        // Ten times 0.1 is 0.9999999999999999 when added plainly.
        assert_eq!(compensated_sum([0.1; 10]), 1.0);
        assert_eq!(compensated_sum([]), 0.0);
    }
}
