//! A second run on the same texts.

use std::collections::BTreeMap;

/// The categories that another run gave the texts of a page.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// Name of the other run.
    pub title: String,
    /// Its categories.
    pub categories: Vec<Counterpart>,
    /// One a text of the page: id in that run; none where that run does not have the text.
    pub category: Vec<Option<u32>>,
}

/// A category of another run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counterpart {
    /// Id in that run.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its coarse category.
    pub coarse: Option<String>,
}

/// For every text of `texts` the row of the same text in `others`.
///
/// A text that is there several times is aligned in order: the first with the first, the second with
/// the second; what is left over gets none.
///
/// ```
/// let rows = explorer::align(["a", "b", "a", "a"], ["a", "c", "a"]);
/// assert_eq!(rows, [Some(0), None, Some(2), None]);
/// ```
pub fn align<'a>(
    texts: impl IntoIterator<Item = &'a str>,
    others: impl IntoIterator<Item = &'a str>,
) -> Vec<Option<usize>> {
    let mut rows: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (row, text) in others.into_iter().enumerate() {
        rows.entry(text).or_default().push(row);
    }
    // Taken from the end.
    for same in rows.values_mut() {
        same.reverse();
    }
    texts
        .into_iter()
        .map(|text| rows.get_mut(text).and_then(Vec::pop))
        .collect()
}
