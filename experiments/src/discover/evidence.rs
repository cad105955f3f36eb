//! What a category is: its centre, how tight it is, which texts and words stand for it, what is near.

use std::collections::BTreeSet;

use categories::{CategoryId, Keyword};
use datagen::ClassTfIdf;
use datagen::naming::{CategoryTexts, Evidence as NamedText};
use ndarray::{Array2, ArrayView2};

use super::error::DiscoverError;
use super::vectors::{dot, mean_direction, select};
use crate::error::RunError;

/// A category without a name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Described {
    /// Its coarse class.
    pub(crate) coarse: Option<String>,
    /// Rows of its members, ascending.
    pub(crate) rows: Vec<usize>,
    /// Unit length.
    pub(crate) centroid: Vec<f32>,
    /// Mean cosine of the members to the centroid.
    pub(crate) coherence: f64,
    /// Rows of different texts, the nearest to the centre first.
    pub(crate) typical: Vec<usize>,
    /// Strongest first.
    pub(crate) keywords: Vec<Keyword>,
}

/// Members of a category, before anything is known about it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Members {
    pub(crate) coarse: Option<String>,
    pub(crate) rows: Vec<usize>,
}

/// Describes categories; keywords tell each from the others of the list.
///
/// Texts equally near the centre stand in byte order, so that the order of the rows does not matter.
pub(crate) fn describe(
    vectors: ArrayView2<'_, f32>,
    texts: &[&str],
    categories: Vec<Members>,
    keywords: usize,
) -> Result<Vec<Described>, DiscoverError> {
    let text = |row: usize| texts.get(row).copied().unwrap_or_default();
    let classes: Vec<Vec<&str>> = categories
        .iter()
        .map(|category| category.rows.iter().map(|row| text(*row)).collect())
        .collect();
    let words = ClassTfIdf::fit(&classes);
    categories
        .into_iter()
        .enumerate()
        .map(|(at, Members { coarse, rows })| {
            let own = select(vectors, &rows);
            // Opposite vectors leave no direction; any member is as good a centre as another.
            let first = || own.outer_iter().next().map(|row| row.to_vec());
            let centroid = mean_direction(own.view())
                .or_else(first)
                .ok_or_else(|| RunError::Data(format!("category {at} has no members")))?;
            let mut near: Vec<(f64, &str, usize)> = rows
                .iter()
                .zip(own.outer_iter())
                .map(|(row, vector)| {
                    let cosine = vector
                        .as_slice()
                        .map_or(0.0, |vector| dot(vector, &centroid));
                    (cosine, text(*row), *row)
                })
                .collect();
            near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)).then(a.2.cmp(&b.2)));
            let coherence = near.iter().map(|(cosine, ..)| cosine).sum::<f64>() / near.len() as f64;
            let mut seen = BTreeSet::new();
            let typical = near
                .iter()
                .filter(|(_, text, _)| seen.insert(*text))
                .map(|(.., row)| *row)
                .collect();
            let keywords = words
                .keywords(at, keywords)
                .iter()
                .map(|keyword| Keyword {
                    term: keyword.term.clone(),
                    weight: keyword.weight,
                })
                .collect();
            Ok(Described {
                coarse,
                rows,
                centroid,
                coherence,
                typical,
                keywords,
            })
        })
        .collect()
}

impl Described {
    /// The texts nearest to the centre.
    pub(crate) fn medoids(&self, texts: &[&str], count: usize) -> Vec<String> {
        self.typical
            .iter()
            .take(count)
            .filter_map(|row| texts.get(*row))
            .map(|text| (*text).to_owned())
            .collect()
    }

    /// What whoever names the category is told.
    pub(crate) fn to_name(&self, id: String, texts: &[&str]) -> CategoryTexts {
        // `size` of the naming result counts these; a name needs no more than the first.
        let evidence = self.typical.iter().filter_map(|row| {
            texts.get(*row).map(|text| NamedText {
                row: *row,
                text: (*text).to_owned(),
            })
        });
        CategoryTexts {
            id,
            coarse: self.coarse.clone(),
            texts: evidence.collect(),
            keywords: self
                .keywords
                .iter()
                .map(|keyword| keyword.term.clone())
                .collect(),
        }
    }
}

/// Centroids as a matrix, `[categories, dim]`.
pub(crate) fn matrix<'a>(
    centroids: impl Iterator<Item = &'a [f32]>,
    dim: usize,
) -> Result<Array2<f32>, DiscoverError> {
    let values: Vec<f32> = centroids.flatten().copied().collect();
    let rows = values.len() / dim.max(1);
    Array2::from_shape_vec((rows, dim), values)
        .map_err(|error| RunError::Data(format!("centroids: {error}")).into())
}

/// The id of the category at a place of the first catalogue.
pub(crate) fn id(at: usize) -> CategoryId {
    CategoryId(u32::try_from(at).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use ndarray::array;

    use super::*;

    #[test]
    fn a_category_is_described_by_centre_words_and_texts() {
        let vectors = array![
            [1.0_f32, 0.0],
            [0.8, 0.6],
            [0.0, 1.0],
            [1.0, 0.0],
            [0.0, 1.0]
        ];
        let texts = [
            "lost card",
            "card stolen",
            "late parcel",
            "lost card",
            "parcel",
        ];
        let members = |coarse: Option<&str>, rows: &[usize]| Members {
            coarse: coarse.map(str::to_owned),
            rows: rows.to_vec(),
        };
        let found = describe(
            vectors.view(),
            &texts,
            vec![members(Some("bank"), &[0, 1, 3]), members(None, &[2, 4])],
            2,
        )
        .unwrap();
        let bank = &found[0];
        assert_eq!(bank.keywords[0].term, "card");
        assert_eq!(bank.keywords.len(), 2);
        assert_eq!(bank.medoids(&texts, 9), ["lost card", "card stolen"]);
        let length = (2.8_f64.powi(2) + 0.36).sqrt();
        let expected = (2.8 / length * 2.0 + (2.8 * 0.8 + 0.36) / length) / 3.0;
        assert!((bank.coherence - expected).abs() < 1e-6);
        assert_eq!(found[1].coherence, 1.0);
        let named = bank.to_name("0".to_owned(), &texts);
        assert_eq!(named.keywords, ["card", "lost"]);
        assert_eq!(named.texts[1].row, 1);
        let empty = describe(vectors.view(), &texts, vec![members(None, &[])], 2);
        assert!(empty.is_err());
    }
}
