//! One category: its identity, its name, the evidence for it, and what became of it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Identity of a category. Never reused and never given another meaning: a merge or a split makes
/// new ids and retires the old ones.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug, Default,
)]
#[serde(transparent)]
pub struct CategoryId(pub u32);

impl fmt::Display for CategoryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Who chose a name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum NameSource {
    /// The strongest keywords, strung together.
    Keywords,
    /// A language model.
    Model,
    /// A person; only a person replaces it.
    Human,
}

/// A word that tells a category from the others.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Keyword {
    /// The word.
    pub term: String,
    /// Class-based TF-IDF weight, larger is stronger.
    pub weight: f64,
}

/// Another category nearby.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Near {
    /// The other category.
    pub id: CategoryId,
    /// Cosine of the two centroids, or of a text and the centroid.
    pub cosine: f32,
}

/// What became of a category.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Status {
    /// In use.
    Active,
    /// Its members belong to another category now.
    Merged {
        /// That category.
        into: CategoryId,
    },
    /// Its members belong to one of several categories now: each to the nearest.
    Split {
        /// Those categories.
        into: Vec<CategoryId>,
    },
    /// Born by an update that was undone; nothing took its place.
    Withdrawn,
}

/// A category.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Category {
    /// Identity.
    pub id: CategoryId,
    /// Name, unique among the active categories without regard to case.
    pub name: String,
    /// Who chose the name.
    pub name_source: NameSource,
    /// Coarse class the category lies in; `None` if it spans several.
    pub coarse: Option<String>,
    /// Words that tell it from the others, strongest first.
    pub keywords: Vec<Keyword>,
    /// Texts nearest the centre, nearest first.
    pub medoids: Vec<String>,
    /// Members.
    pub size: usize,
    /// Mean cosine of the members to the centroid.
    pub coherence: f64,
    /// Active categories with the nearest centroids, nearest first; kept up to date by the store.
    pub nearest: Vec<Near>,
    /// Revision it came with.
    pub born: u64,
    /// What became of it.
    pub status: Status,
    /// Centre, of unit length. `[dim]`
    pub centroid: Vec<f32>,
}

impl Category {
    /// Whether the category is in use.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.status == Status::Active
    }
}
