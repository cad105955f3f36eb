//! Whether new texts still look like the ones the categories were found in.
//!
//! Texts are counted in windows (a day, 10,000 texts); each is compared with a reference, such as
//! the texts at discovery or the first window. With the shares `p` of the categories in the
//! reference and `q` in the window, unknown texts left out:
//!
//! ```text
//! Jensen-Shannon divergence = H((p+q)/2) - (H(p) + H(q)) / 2,   H(p) = -sum_i p_i log2 p_i
//! population stability index = sum_i (q'_i - p'_i) ln(q'_i / p'_i),   p' = max(p, 0.0001)
//! ```
//!
//! The divergence is between 0 and 1 bit (Lin 1991). For the index a common reading is: below 0.1 no
//! shift, above 0.25 a large one; the floor keeps empty categories finite and is not rescaled.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::assign::Assigned;
use crate::catalogue::Catalogue;
use crate::category::CategoryId;
use crate::error::{CategoryError, invalid};

/// Smallest share that [`Drift::psi`] works with.
pub const PSI_FLOOR: f64 = 1e-4;

/// What was assigned during a stretch of texts.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Texts of each category, without the unknown ones.
    pub counts: BTreeMap<CategoryId, u64>,
    /// Texts flagged unknown.
    pub unknown: u64,
    /// Sum of the cosines of the texts in `counts`.
    pub cosine_sum: f64,
}

/// How far a window is from a reference.
#[derive(Clone, Copy, PartialEq, Serialize, Debug)]
pub struct Drift {
    /// Texts in the window, unknown ones included.
    pub rows: u64,
    /// Jensen-Shannon divergence of the shares, in bits: 0 the same, 1 nothing in common. `None` if
    /// every text of the window is unknown, as for the next two.
    pub jensen_shannon: Option<f64>,
    /// Population stability index of the shares.
    pub psi: Option<f64>,
    /// Mean cosine of the window minus that of the reference.
    pub mean_cosine_shift: Option<f64>,
    /// Share of unknown texts in the window.
    pub unknown_rate: f64,
}

impl Window {
    /// The texts the categories were found in: sizes and coherences of the active categories.
    #[must_use]
    pub fn of_catalogue(catalogue: &Catalogue) -> Self {
        let mut window = Self::default();
        for category in catalogue.active() {
            window.counts.insert(category.id, category.size as u64);
            window.cosine_sum += category.size as f64 * category.coherence;
        }
        window
    }

    /// Counts one text.
    pub fn add(&mut self, assigned: &Assigned) {
        if assigned.unknown {
            self.unknown += 1;
        } else {
            *self.counts.entry(assigned.id).or_default() += 1;
            self.cosine_sum += f64::from(assigned.cosine);
        }
    }

    /// Texts, unknown ones included.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.known().saturating_add(self.unknown)
    }

    fn known(&self) -> u64 {
        self.counts
            .values()
            .fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// How far this window is from a reference.
    ///
    /// # Errors
    /// A reference without a known text, a window without a text, a sum of cosines that is not finite.
    pub fn drift(&self, reference: &Self) -> Result<Drift, CategoryError> {
        let (known, expected) = (self.known(), reference.known());
        if expected == 0 {
            return Err(invalid(
                "reference",
                "at least one text of a category",
                "none",
            ));
        }
        if self.rows() == 0 {
            return Err(invalid("window", "at least one text", "none"));
        }
        for (field, sum) in [
            ("window.cosine_sum", self.cosine_sum),
            ("reference.cosine_sum", reference.cosine_sum),
        ] {
            if !sum.is_finite() {
                return Err(invalid(field, "a finite sum", sum));
            }
        }
        let ids: BTreeSet<&CategoryId> =
            self.counts.keys().chain(reference.counts.keys()).collect();
        let share = |window: &Self, id: &CategoryId, of: u64| {
            window.counts.get(id).copied().unwrap_or(0) as f64 / of as f64
        };
        let shares = || {
            ids.iter()
                .map(|id| (share(reference, id, expected), share(self, id, known)))
        };
        let some = |value: f64| (known > 0).then_some(value);
        let mean = |window: &Self, of: u64| window.cosine_sum / of as f64;
        Ok(Drift {
            rows: self.rows(),
            jensen_shannon: some(
                shares()
                    .map(|(p, q)| divergence(p, q))
                    .sum::<f64>()
                    .clamp(0.0, 1.0),
            ),
            psi: some(shares().map(|(p, q)| stability(p, q)).sum()),
            mean_cosine_shift: some(mean(self, known) - mean(reference, expected)),
            unknown_rate: self.unknown as f64 / self.rows() as f64,
        })
    }
}

/// One summand of the Jensen-Shannon divergence; 0 log 0 = 0.
fn divergence(p: f64, q: f64) -> f64 {
    let middle = f64::midpoint(p, q);
    let term = |x: f64| {
        if x > 0.0 {
            x * (x / middle).log2()
        } else {
            0.0
        }
    };
    f64::midpoint(term(p), term(q))
}

/// One summand of the population stability index.
fn stability(p: f64, q: f64) -> f64 {
    let (p, q) = (p.max(PSI_FLOOR), q.max(PSI_FLOOR));
    (q - p) * (q / p).ln()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use approx::assert_relative_eq;
    use proptest::prelude::*;

    use super::*;

    fn window(counts: &[u64], unknown: u64, mean: f64) -> Window {
        let ids = (0..).map(CategoryId);
        Window {
            counts: ids.zip(counts.iter().copied()).collect(),
            unknown,
            cosine_sum: mean * counts.iter().sum::<u64>() as f64,
        }
    }

    // p, q = r / r.sum(), w / w.sum(); jensenshannon(p, q, 2)**2 of scipy.spatial.distance, and
    // f = lambda x: np.maximum(x, 1e-4); np.sum((f(q) - f(p)) * np.log(f(q) / f(p)))
    #[test]
    fn the_figures_are_those_of_scipy_and_numpy() {
        let reference = window(&[40, 30, 20, 10], 0, 0.7);
        let drift = window(&[10, 25, 5, 40, 20], 25, 0.65)
            .drift(&reference)
            .unwrap();
        assert_relative_eq!(
            drift.jensen_shannon.unwrap(),
            0.275_436_632_539_235_56,
            max_relative = 1e-12
        );
        assert_relative_eq!(
            drift.psi.unwrap(),
            2.568_257_250_342_078,
            max_relative = 1e-12
        );
        assert_relative_eq!(
            drift.mean_cosine_shift.unwrap(),
            -0.05,
            max_relative = 1e-12
        );
        assert_eq!((drift.rows, drift.unknown_rate), (125, 0.2));
    }

    #[test]
    fn texts_are_counted_where_they_were_assigned() {
        let text = |id, cosine, unknown| Assigned {
            id: CategoryId(id),
            cosine,
            confidence: 0.5,
            unknown,
            runner_up: None,
        };
        let mut counted = Window::default();
        for text in [
            text(1, 0.5, false),
            text(1, 0.75, false),
            text(2, 0.1, true),
        ] {
            counted.add(&text);
        }
        assert_eq!(counted.counts, BTreeMap::from([(CategoryId(1), 2)]));
        assert_eq!(
            (counted.rows(), counted.unknown, counted.cosine_sum),
            (3, 1, 1.25)
        );
        let json = serde_json::to_string(&counted).unwrap();
        assert_eq!(json, r#"{"counts":{"1":2},"unknown":1,"cosine_sum":1.25}"#);
        assert_eq!(serde_json::from_str::<Window>(&json).unwrap(), counted);
    }

    #[test]
    fn nothing_to_compare_is_an_error_and_nothing_known_leaves_blanks() {
        let reference = window(&[1], 0, 0.5);
        assert!(reference.drift(&window(&[0], 3, 0.0)).is_err());
        assert!(window(&[], 0, 0.0).drift(&reference).is_err());
        let endless = Window {
            cosine_sum: f64::NAN,
            ..reference.clone()
        };
        assert!(endless.drift(&reference).is_err());
        let drift = window(&[], 4, 0.0).drift(&reference).unwrap();
        assert_eq!(drift.unknown_rate, 1.0);
        assert_eq!(
            (drift.jensen_shannon, drift.psi, drift.mean_cosine_shift),
            (None, None, None)
        );
    }

    proptest! {
        #[test]
        fn divergences_are_symmetric_and_zero_only_for_the_same_shares(
            p in prop::collection::vec(0_u64..50, 4), q in prop::collection::vec(0_u64..50, 4),
        ) {
            let (p, q) = (window(&p, 0, 0.5), window(&q, 0, 0.5));
            prop_assume!(p.known() > 0 && q.known() > 0);
            let (there, back) = (q.drift(&p).unwrap(), p.drift(&q).unwrap());
            let js = there.jensen_shannon.unwrap();
            prop_assert!((0.0..=1.0).contains(&js));
            prop_assert!((js - back.jensen_shannon.unwrap()).abs() < 1e-12);
            prop_assert!((there.psi.unwrap() - back.psi.unwrap()).abs() < 1e-9);
            let same = p.counts.iter().all(|(id, n)| n * q.known() == q.counts[id] * p.known());
            prop_assert_eq!(js < 1e-12, same);
            // Ten times the texts, the same shares.
            let more = Window { counts: p.counts.iter().map(|(id, n)| (*id, 10 * n)).collect(), ..p.clone() };
            prop_assert!(more.drift(&p).unwrap().jensen_shannon.unwrap() < 1e-12);
        }
    }
}
