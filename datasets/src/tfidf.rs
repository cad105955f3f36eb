//! TF-IDF vectors of word 1-grams, the floor every encoder has to beat.
//!
//! For a corpus of `n` texts, term count `tf(t, d)` and document frequency `df(t)`:
//!
//! ```text
//! idf(t)  = ln((1 + n) / (1 + df(t))) + 1
//! w(t, d) = tf(t, d) * idf(t)
//! x(t, d) = w(t, d) / sqrt(sum_u w(u, d)^2)
//! ```
//!
//! These are the defaults of scikit-learn's `TfidfVectorizer` (smoothed idf, L2 norm, raw counts):
//! a term is a run of two or more word characters (letters, digits, `_`) of the lower-cased text,
//! and columns are in code point order. Sums run in f64 in column order, values are stored as f32.

use std::collections::BTreeMap;

/// A row-major sparse matrix `[rows, columns]` of f32.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SparseRows {
    /// Row `r` owns the entries `offsets[r]..offsets[r + 1]`; length `rows + 1`.
    offsets: Vec<usize>,
    columns: Vec<usize>,
    values: Vec<f32>,
    width: usize,
}

impl SparseRows {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Entries that are stored.
    pub fn stored(&self) -> usize {
        self.values.len()
    }

    /// Columns (ascending) and values of a row; both empty for a row that does not exist.
    pub fn row(&self, row: usize) -> (&[usize], &[f32]) {
        let range = match (self.offsets.get(row), self.offsets.get(row + 1)) {
            (Some(&start), Some(&end)) => start..end,
            _ => 0..0,
        };
        (
            self.columns.get(range.clone()).unwrap_or_default(),
            self.values.get(range).unwrap_or_default(),
        )
    }

    /// The matrix as `[rows * width]` values, row after row.
    pub fn to_dense(&self) -> Vec<f32> {
        let mut dense = vec![0.0; self.rows() * self.width];
        for (row, chunk) in dense.chunks_mut(self.width.max(1)).enumerate() {
            let (columns, values) = self.row(row);
            for (&column, &value) in columns.iter().zip(values) {
                if let Some(cell) = chunk.get_mut(column) {
                    *cell = value;
                }
            }
        }
        dense
    }
}

/// Terms of a text in reading order.
fn terms(text: &str) -> impl Iterator<Item = String> {
    let lower = text.to_lowercase();
    lower
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|term| term.chars().nth(1).is_some())
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter()
}

/// A fitted vectoriser.
///
/// ```
/// use datasets::TfIdf;
/// let model = TfIdf::fit(&["red apple", "green apple"]);
/// assert_eq!(model.terms(), ["apple", "green", "red"]);
/// let x = model.transform(&["apple pie"]);
/// assert_eq!(x.to_dense(), [1.0, 0.0, 0.0]); // "pie" is unknown, and rows have unit length
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TfIdf {
    terms: Vec<String>,
    idf: Vec<f64>,
}

impl TfIdf {
    /// Learns terms and inverse document frequencies from `texts`. Without any term the
    /// vectoriser has width 0.
    pub fn fit<T: AsRef<str>>(texts: &[T]) -> Self {
        let mut document_frequency: BTreeMap<String, usize> = BTreeMap::new();
        for text in texts {
            let mut own: Vec<String> = terms(text.as_ref()).collect();
            own.sort_unstable();
            own.dedup();
            for term in own {
                *document_frequency.entry(term).or_default() += 1;
            }
        }
        let n = texts.len() as f64;
        let idf = document_frequency
            .values()
            .map(|&df| ((1.0 + n) / (1.0 + df as f64)).ln() + 1.0)
            .collect();
        Self {
            terms: document_frequency.into_keys().collect(),
            idf,
        }
    }

    /// Terms in column order.
    pub fn terms(&self) -> &[String] {
        &self.terms
    }

    /// Inverse document frequencies in column order.
    pub fn idf(&self) -> &[f64] {
        &self.idf
    }

    /// Vectors `[texts, terms]` of unit length; a text without a known term is a zero row.
    pub fn transform<T: AsRef<str>>(&self, texts: &[T]) -> SparseRows {
        let mut out = SparseRows {
            offsets: vec![0],
            width: self.terms.len(),
            ..Default::default()
        };
        for text in texts {
            let mut counts: BTreeMap<usize, f64> = BTreeMap::new();
            for term in terms(text.as_ref()) {
                if let Ok(column) = self.terms.binary_search(&term) {
                    *counts.entry(column).or_default() += 1.0;
                }
            }
            let weighted: Vec<(usize, f64)> = counts
                .into_iter()
                .map(|(column, tf)| (column, tf * self.idf.get(column).copied().unwrap_or(0.0)))
                .collect();
            let norm = weighted.iter().map(|(_, w)| w * w).sum::<f64>().sqrt();
            for (column, weight) in weighted {
                out.columns.push(column);
                out.values.push((weight / norm) as f32);
            }
            out.offsets.push(out.columns.len());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hand_computed_example() {
        // n = 3; df: cat 2, dog 1, the 3. idf: ln(4/3)+1, ln(4/2)+1, ln(4/4)+1.
        let texts = ["the cat", "the the dog", "The CAT!"];
        let model = TfIdf::fit(&texts);
        assert_eq!(model.terms(), ["cat", "dog", "the"]);
        let idf = [(4.0_f64 / 3.0).ln() + 1.0, 2.0_f64.ln() + 1.0, 1.0];
        for (got, expected) in model.idf().iter().zip(idf) {
            assert!((got - expected).abs() < 1e-15);
        }
        let x = model.transform(&texts).to_dense();
        let norm = (idf[1] * idf[1] + 4.0).sqrt();
        let row: Vec<f32> = vec![0.0, (idf[1] / norm) as f32, (2.0 / norm) as f32];
        assert_eq!(x[3..6], row);
        assert_eq!(x[0..3], x[6..9]);
    }

    #[test]
    fn one_character_terms_are_dropped_and_underscores_kept() {
        let model = TfIdf::fit(&["a b_c d1 é üb"]);
        assert_eq!(model.terms(), ["b_c", "d1", "üb"]);
    }

    #[test]
    fn empty_inputs_give_empty_matrices() {
        let model = TfIdf::fit::<&str>(&[]);
        assert_eq!(model.transform(&["x y", ""]).to_dense(), Vec::<f32>::new());
        assert_eq!(model.transform(&["x"]).rows(), 1);
        assert_eq!(
            TfIdf::fit(&["word"]).transform(&["other"]).to_dense(),
            [0.0]
        );
        assert_eq!(SparseRows::default().rows(), 0);
        assert_eq!(SparseRows::default().row(3), (&[][..], &[][..]));
    }

    /// Straight from the formula, term by term, without sparse storage.
    fn slow(texts: &[String]) -> (Vec<String>, Vec<Vec<f64>>) {
        let words = |t: &String| -> Vec<String> {
            t.split(' ')
                .filter(|w| w.len() > 1)
                .map(str::to_owned)
                .collect()
        };
        let mut all: Vec<String> = texts.iter().flat_map(words).collect();
        all.sort();
        all.dedup();
        let n = texts.len() as f64;
        let rows = texts
            .iter()
            .map(|text| {
                let weights: Vec<f64> = all
                    .iter()
                    .map(|term| {
                        let tf = words(text).iter().filter(|w| *w == term).count() as f64;
                        let df = texts.iter().filter(|t| words(t).contains(term)).count() as f64;
                        tf * (((1.0 + n) / (1.0 + df)).ln() + 1.0)
                    })
                    .collect();
                let norm = weights.iter().map(|w| w * w).sum::<f64>().sqrt();
                weights
                    .iter()
                    .map(|w| if norm > 0.0 { w / norm } else { 0.0 })
                    .collect()
            })
            .collect();
        (all, rows)
    }

    proptest! {
        #[test]
        fn agrees_with_the_slow_form(
            texts in prop::collection::vec(prop::collection::vec("[a-c]{1,3}", 0..8).prop_map(|w| w.join(" ")), 0..8)
        ) {
            let model = TfIdf::fit(&texts);
            let (names, rows) = slow(&texts);
            prop_assert_eq!(model.terms(), &names[..]);
            let dense = model.transform(&texts).to_dense();
            let expected: Vec<f64> = rows.into_iter().flatten().collect();
            prop_assert_eq!(dense.len(), expected.len());
            for (got, expected) in dense.iter().zip(&expected) {
                prop_assert!((f64::from(*got) - expected).abs() < 1e-6);
            }
        }

        #[test]
        fn rows_have_unit_length_or_are_zero(texts in prop::collection::vec("\\PC{0,40}", 1..6)) {
            let model = TfIdf::fit(&texts);
            let x = model.transform(&texts);
            prop_assert_eq!(x.rows(), texts.len());
            for row in 0..x.rows() {
                let (columns, values) = x.row(row);
                prop_assert!(columns.windows(2).all(|w| w[0] < w[1]));
                let norm: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
                prop_assert!(values.is_empty() || (norm - 1.0).abs() < 1e-5);
            }
        }
    }
}
