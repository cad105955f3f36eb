//! Changes asked for, and what they come to.

use std::collections::{BTreeMap, BTreeSet};

use crate::calibration::Calibration;
use crate::catalogue::{Catalogue, check_name};
use crate::category::{Category, CategoryId, Keyword, NameSource, Status};
use crate::error::{CategoryError, invalid};
use crate::event::{Event, Evidence};
use crate::vector::cosine;

/// A change asked for.
#[derive(Clone, PartialEq, Debug)]
pub enum Edit {
    /// Another name.
    Rename {
        /// An active category.
        id: CategoryId,
        /// The new name.
        name: String,
        /// Who chose it.
        source: NameSource,
    },
    /// Several categories become one new one.
    Merge {
        /// At least two active categories.
        ids: Vec<CategoryId>,
        /// Name of the new one, chosen by a person; without it the largest one's name stays.
        name: Option<String>,
    },
    /// One category becomes several new ones.
    Split {
        /// An active category.
        id: CategoryId,
        /// At least two parts.
        parts: Vec<SplitPart>,
    },
    /// More data: new evidence for old categories, and new categories.
    Update {
        /// Evidence for active categories.
        changed: Vec<Evidence>,
        /// New categories; their ids are given by the store.
        born: Vec<NewCategory>,
        /// SHA-256 of the model, if another one made the vectors.
        model_sha256: Option<String>,
    },
    /// Threshold and temperature measured anew.
    Calibrate(Calibration),
}

/// One part of a split.
#[derive(Clone, PartialEq, Debug)]
pub struct SplitPart {
    /// Members.
    pub size: usize,
    /// Centre, of unit length. `[dim]`
    pub centroid: Vec<f32>,
    /// Words that tell it from the others, strongest first.
    pub keywords: Vec<Keyword>,
    /// Texts nearest the centre, nearest first.
    pub medoids: Vec<String>,
    /// Mean cosine of the members to the centroid.
    pub coherence: f64,
    /// Name; that of the category being split may be used again.
    pub name: String,
    /// Who chose the name.
    pub name_source: NameSource,
}

/// A category that has no id yet.
#[derive(Clone, PartialEq, Debug)]
pub struct NewCategory {
    /// Name.
    pub name: String,
    /// Who chose the name.
    pub name_source: NameSource,
    /// Coarse class; one the catalogue does not know yet is added to it.
    pub coarse: Option<String>,
    /// Words that tell it from the others, strongest first.
    pub keywords: Vec<Keyword>,
    /// Texts nearest the centre, nearest first.
    pub medoids: Vec<String>,
    /// Members.
    pub size: usize,
    /// Mean cosine of the members to the centroid.
    pub coherence: f64,
    /// Centre, of unit length. `[dim]`
    pub centroid: Vec<f32>,
}

impl Edit {
    /// The event the edit comes to, as the next revision of a catalogue.
    ///
    /// # Errors
    /// The edit cannot be made.
    pub(crate) fn into_event(self, catalogue: &Catalogue) -> Result<Event, CategoryError> {
        let revision = catalogue.revision + 1;
        match self {
            Self::Rename { id, name, source } => rename(catalogue, id, name, source),
            Self::Merge { ids, name } => {
                let from: BTreeSet<CategoryId> = ids.iter().copied().collect();
                if from.len() != ids.len() {
                    return Err(invalid("ids", "each id once", "an id twice"));
                }
                if from.len() < 2 {
                    return Err(invalid("ids", "at least two categories", from.len()));
                }
                let old: Result<Vec<&Category>, _> = from
                    .iter()
                    .map(|id| Ok(&catalogue.categories[catalogue.active_position(*id)?]))
                    .collect();
                let old = old?;
                if let Some(name) = &name {
                    free_name(catalogue, name, &ids)?;
                }
                let into = merged(&old, name, catalogue.next_id()?, revision)?;
                Ok(Event::Merged {
                    from: from.into_iter().collect(),
                    into,
                })
            }
            Self::Split { id, parts } => {
                let parent = &catalogue.categories[catalogue.active_position(id)?];
                if parts.len() < 2 {
                    return Err(invalid("parts", "at least two", parts.len()));
                }
                for part in &parts {
                    free_name(catalogue, &part.name, &[id])?;
                }
                let coarse = parent.coarse.clone();
                let born = parts
                    .into_iter()
                    .map(|part| part.with(coarse.clone()))
                    .collect();
                let into = numbered(catalogue, born, revision)?;
                Ok(Event::Split { id, into })
            }
            Self::Update {
                changed,
                born,
                model_sha256,
            } => {
                let mut seen = BTreeSet::new();
                if let Some(twice) = changed.iter().find(|evidence| !seen.insert(evidence.id)) {
                    let found = format!("{} twice", twice.id);
                    return Err(invalid("changed", "each id once", found));
                }
                for category in &born {
                    free_name(catalogue, &category.name, &[])?;
                }
                let born = numbered(catalogue, born, revision)?;
                Ok(Event::Updated {
                    changed,
                    born,
                    model_sha256,
                })
            }
            Self::Calibrate(calibration) => Ok(Event::Calibrated { calibration }),
        }
    }
}

impl SplitPart {
    fn with(self, coarse: Option<String>) -> NewCategory {
        NewCategory {
            name: self.name,
            name_source: self.name_source,
            coarse,
            keywords: self.keywords,
            medoids: self.medoids,
            size: self.size,
            coherence: self.coherence,
            centroid: self.centroid,
        }
    }
}

fn rename(
    catalogue: &Catalogue,
    id: CategoryId,
    name: String,
    source: NameSource,
) -> Result<Event, CategoryError> {
    let category = &catalogue.categories[catalogue.active_position(id)?];
    if category.name_source == NameSource::Human && source != NameSource::Human {
        return Err(CategoryError::HumanName {
            id,
            name: category.name.clone(),
        });
    }
    if category.name == name && category.name_source == source {
        return Err(CategoryError::Unchanged { id, name });
    }
    free_name(catalogue, &name, &[id])?;
    Ok(Event::Renamed {
        id,
        from: category.name.clone(),
        to: name,
        source,
    })
}

/// The name is one, and belongs to none of the active categories but `leaving`.
fn free_name(
    catalogue: &Catalogue,
    name: &str,
    leaving: &[CategoryId],
) -> Result<(), CategoryError> {
    check_name(name)?;
    match catalogue.named(name) {
        Some(owner) if !leaving.contains(&owner.id) => Err(CategoryError::NameTaken {
            name: name.to_owned(),
            owner: owner.id,
        }),
        _ => Ok(()),
    }
}

/// Gives new categories their ids.
fn numbered(
    catalogue: &Catalogue,
    born: Vec<NewCategory>,
    revision: u64,
) -> Result<Vec<Category>, CategoryError> {
    let first = catalogue.next_id()?.0;
    let number = |(at, new): (usize, NewCategory)| {
        let id = u32::try_from(at).ok().and_then(|at| first.checked_add(at));
        Ok(Category {
            id: CategoryId(id.ok_or_else(|| invalid("id", "an id below 4294967296", at))?),
            name: new.name,
            name_source: new.name_source,
            coarse: new.coarse,
            keywords: new.keywords,
            medoids: new.medoids,
            size: new.size,
            coherence: new.coherence,
            nearest: Vec::new(),
            born: revision,
            status: Status::Active,
            centroid: new.centroid,
        })
    };
    born.into_iter().enumerate().map(number).collect()
}

/// One category out of several.
///
/// ```text
/// centroid  = m / |m|,  m = sum_i size_i centroid_i          (equal weights if all sizes are 0)
/// coherence = sum_i size_i coherence_i (centroid_i . centroid) / sum_i size_i
/// ```
///
/// The coherence is that of all members together if every centroid is the normalised mean of its
/// members. Keyword weights are averaged in the same way; the texts take turns, largest category
/// first. The coarse class stays if all have the same.
fn merged(
    old: &[&Category],
    name: Option<String>,
    id: CategoryId,
    revision: u64,
) -> Result<Category, CategoryError> {
    let mut by_size = old.to_vec();
    by_size.sort_by(|a, b| b.size.cmp(&a.size).then(a.id.cmp(&b.id)));
    let Some(largest) = by_size.first() else {
        return Err(invalid("ids", "at least two categories", "none"));
    };
    let size = old
        .iter()
        .try_fold(0_usize, |sum, category| sum.checked_add(category.size))
        .ok_or_else(|| invalid("size", "a sum that can be counted", "an overflow"))?;
    let weight = |category: &Category| match size {
        0 => 1.0 / old.len() as f64,
        size => category.size as f64 / size as f64,
    };

    let mut sum = vec![0.0_f64; largest.centroid.len()];
    for category in old {
        let weight = weight(category);
        for (sum, &x) in sum.iter_mut().zip(&category.centroid) {
            *sum += weight * f64::from(x);
        }
    }
    let length = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
    // Below this the direction is rounding error of single precision.
    if length < 1e-6 {
        let found = "centroids that cancel each other";
        return Err(invalid("ids", "categories with a common direction", found));
    }
    let centroid: Vec<f32> = sum.iter().map(|x| (x / length) as f32).collect();
    let coherence = old
        .iter()
        .map(|category| {
            let along = f64::from(cosine(&category.centroid, &centroid));
            weight(category) * category.coherence * along
        })
        .sum();

    let (name, name_source) = match name {
        Some(name) => (name, NameSource::Human),
        None => (largest.name.clone(), largest.name_source),
    };
    let same_coarse = old.iter().all(|category| category.coarse == largest.coarse);
    Ok(Category {
        id,
        name,
        name_source,
        coarse: largest.coarse.clone().filter(|_| same_coarse),
        keywords: joint_keywords(old, weight),
        medoids: in_turns(&by_size),
        size,
        coherence,
        nearest: Vec::new(),
        born: revision,
        status: Status::Active,
        centroid,
    })
}

/// Weighted means over all categories, heaviest first; as many as the longest list has.
fn joint_keywords(old: &[&Category], weight: impl Fn(&Category) -> f64) -> Vec<Keyword> {
    let mut weights: BTreeMap<&str, f64> = BTreeMap::new();
    for category in old {
        for keyword in &category.keywords {
            *weights.entry(&keyword.term).or_default() += weight(category) * keyword.weight;
        }
    }
    let mut keywords: Vec<Keyword> = weights
        .into_iter()
        .map(|(term, weight)| Keyword {
            term: term.to_owned(),
            weight,
        })
        .collect();
    // Stable: equal weights stay in the order of the terms.
    keywords.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let longest = old.iter().map(|category| category.keywords.len()).max();
    keywords.truncate(longest.unwrap_or(0));
    keywords
}

/// The first text of each category, then the second of each, no text twice; as many as the longest
/// list has.
fn in_turns(categories: &[&Category]) -> Vec<String> {
    let longest = categories
        .iter()
        .map(|category| category.medoids.len())
        .max();
    let longest = longest.unwrap_or(0);
    let mut texts: Vec<String> = Vec::new();
    for turn in 0..longest {
        for text in categories
            .iter()
            .filter_map(|category| category.medoids.get(turn))
        {
            if !texts.contains(text) {
                texts.push(text.clone());
            }
        }
    }
    texts.truncate(longest);
    texts
}
