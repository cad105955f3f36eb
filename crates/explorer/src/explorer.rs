//! What the page shows.

use std::collections::{BTreeMap, BTreeSet};

use crate::comparison::Comparison;
use crate::error::ExplorerError;

/// Everything on the page, as plain data.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Explorer {
    /// Heading of the page.
    pub title: String,
    /// Revision of the categories, for the list of edits.
    pub revision: u64,
    /// Id of the next category that is born, where retired ones have larger ids than those in use; 0:
    /// the one after the largest in use.
    pub next_id: u32,
    /// Texts of the run, where `points` are a part of them; 0: `points` are all.
    pub total: usize,
    /// The texts on the map.
    pub points: Vec<Point>,
    /// The categories in use.
    pub categories: Vec<Category>,
    /// A second run on these texts.
    pub comparison: Option<Comparison>,
}

/// A text on the map.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Point {
    /// First coordinate.
    pub x: f32,
    /// Second coordinate.
    pub y: f32,
    /// The text. The page shows the first 2,000 characters of a longer one.
    pub text: String,
    /// Id of its category.
    pub category: u32,
    /// Its coarse label.
    pub coarse: Option<String>,
    /// Its true fine label.
    pub fine: Option<String>,
    /// Where it comes from: `train`, `test`; everything that begins with `update` counts as new.
    pub split: Option<String>,
}

/// A category with its evidence.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Category {
    /// Id.
    pub id: u32,
    /// Name.
    pub name: String,
    /// Whether a person gave the name.
    pub named_by_hand: bool,
    /// Its coarse category.
    pub coarse: Option<String>,
    /// Words that tell it from the others, with weights, most telling first.
    pub keywords: Vec<(String, f64)>,
    /// Texts nearest to its centre.
    pub medoids: Vec<String>,
    /// Texts in it, those not on the map included.
    pub size: usize,
    /// Mean cosine of its texts to its centroid.
    pub coherence: Option<f64>,
    /// Nearest categories with cosines, nearest first.
    pub nearest: Vec<(u32, f32)>,
}

impl Point {
    /// A text without labels.
    pub fn new(x: f32, y: f32, text: impl Into<String>, category: u32) -> Self {
        Self {
            x,
            y,
            text: text.into(),
            category,
            ..Self::default()
        }
    }
}

impl Category {
    /// A category without evidence.
    pub fn new(id: u32, name: impl Into<String>) -> Self {
        Self {
            id,
            name: name.into(),
            ..Self::default()
        }
    }
}

impl Explorer {
    /// Whether a page can be made of this.
    ///
    /// # Errors
    /// No texts; coordinates that are not finite; ids that are twice or not in the list; a
    /// comparison of other texts.
    pub fn check(&self) -> Result<(), ExplorerError> {
        if self.points.is_empty() {
            return Err(ExplorerError::Empty);
        }
        let mut ids = BTreeSet::new();
        for category in &self.categories {
            if !ids.insert(category.id) {
                return Err(ExplorerError::Twice { id: category.id });
            }
        }
        for (row, point) in self.points.iter().enumerate() {
            if !(point.x.is_finite() && point.y.is_finite()) {
                let (x, y) = (point.x, point.y);
                return Err(ExplorerError::NotFinite { row, x, y });
            }
            if !ids.contains(&point.category) {
                let id = point.category;
                return Err(ExplorerError::UnknownCategory { row, id });
            }
        }
        if let Some(comparison) = &self.comparison {
            if comparison.category.len() != self.points.len() {
                return Err(ExplorerError::Comparison {
                    expected: self.points.len(),
                    found: comparison.category.len(),
                });
            }
            let known: BTreeSet<u32> = comparison.categories.iter().map(|c| c.id).collect();
            for (row, id) in comparison.category.iter().enumerate() {
                if let Some(id) = *id
                    && !known.contains(&id)
                {
                    return Err(ExplorerError::UnknownCounterpart { row, id });
                }
            }
        }
        Ok(())
    }
}

/// Names in the order of the alphabet, and where each stands.
pub(crate) struct Names<'a> {
    places: BTreeMap<&'a str, u32>,
}

/// Stands for no name and no category in the arrays of the page.
pub(crate) const NONE: u32 = u32::MAX;

impl<'a> Names<'a> {
    pub(crate) fn new(names: impl Iterator<Item = Option<&'a str>>) -> Self {
        let sorted: BTreeSet<&str> = names.flatten().collect();
        Self {
            places: sorted.into_iter().zip(0..).collect(),
        }
    }

    pub(crate) fn list(&self) -> Vec<&'a str> {
        self.places.keys().copied().collect()
    }

    /// Place of a name.
    pub(crate) fn at(&self, name: Option<&str>) -> u32 {
        name.and_then(|name| self.places.get(name).copied())
            .unwrap_or(NONE)
    }
}
