//! What happened to a catalogue: the lines of the log.

use serde::{Deserialize, Serialize};

use crate::calibration::Calibration;
use crate::catalogue::{Catalogue, check_name};
use crate::category::{Category, CategoryId, Keyword, NameSource, Status};
use crate::error::{CategoryError, invalid};

/// What more data changes about a category.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// An active category.
    pub id: CategoryId,
    /// Members.
    pub size: usize,
    /// Mean cosine of the members to the centroid.
    pub coherence: f64,
    /// Words that tell it from the others, strongest first.
    pub keywords: Vec<Keyword>,
    /// Texts nearest the centre, nearest first.
    pub medoids: Vec<String>,
    /// Centre, of unit length. `[dim]`
    pub centroid: Vec<f32>,
}

/// A change that was made.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// The beginning.
    Created {
        /// The whole catalogue.
        catalogue: Catalogue,
    },
    /// Another name.
    Renamed {
        /// The category.
        id: CategoryId,
        /// Its name before.
        from: String,
        /// Its name since.
        to: String,
        /// Who chose it.
        source: NameSource,
    },
    /// Several categories became one.
    Merged {
        /// The retired ones, ascending.
        from: Vec<CategoryId>,
        /// The new one.
        into: Category,
    },
    /// One category became several.
    Split {
        /// The retired one.
        id: CategoryId,
        /// The new ones.
        into: Vec<Category>,
    },
    /// More data.
    Updated {
        /// New evidence for old categories.
        changed: Vec<Evidence>,
        /// New categories.
        born: Vec<Category>,
        /// SHA-256 of the model since, if it changed.
        model_sha256: Option<String>,
    },
    /// Threshold and temperature measured anew.
    Calibrated {
        /// The measurement.
        calibration: Calibration,
    },
    /// An earlier change was taken back; if that one took back another, this brings it back.
    Undone {
        /// Revision of the change taken back.
        revision: u64,
    },
}

/// One line of the log.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Revision the event led to; the number of its line, from 1.
    pub revision: u64,
    /// When, in seconds since 1970-01-01 UTC.
    pub at: u64,
    /// What.
    pub event: Event,
}

impl Event {
    /// Ids that came into being with the event.
    pub(crate) fn born(&self) -> Vec<CategoryId> {
        match self {
            Self::Merged { into, .. } => vec![into.id],
            Self::Split { into, .. } => into.iter().map(|part| part.id).collect(),
            Self::Updated { born, .. } => born.iter().map(|category| category.id).collect(),
            Self::Created { .. }
            | Self::Renamed { .. }
            | Self::Calibrated { .. }
            | Self::Undone { .. } => Vec::new(),
        }
    }

    /// Ids of categories there were before that the event changes or retires.
    pub(crate) fn touched(&self) -> Vec<CategoryId> {
        match self {
            Self::Renamed { id, .. } | Self::Split { id, .. } => vec![*id],
            Self::Merged { from, .. } => from.clone(),
            Self::Updated { changed, .. } => changed.iter().map(|evidence| evidence.id).collect(),
            Self::Created { .. } | Self::Calibrated { .. } | Self::Undone { .. } => Vec::new(),
        }
    }

    /// What becomes of a newborn when the event is undone.
    pub(crate) fn fate(&self) -> Status {
        match self {
            Self::Merged { from, .. } => Status::Split { into: from.clone() },
            Self::Split { id, .. } => Status::Merged { into: *id },
            _ => Status::Withdrawn,
        }
    }

    /// Makes the change. `Created` and `Undone` are none on their own: see `History`. `again` says that
    /// the change was made before and undone, so that its newborn exist already.
    ///
    /// # Errors
    /// The event does not fit the catalogue.
    pub(crate) fn apply(
        &self,
        catalogue: &mut Catalogue,
        again: bool,
    ) -> Result<(), CategoryError> {
        for id in self.touched() {
            catalogue.active_position(id)?;
        }
        match self {
            Self::Renamed {
                id,
                from,
                to,
                source,
            } => {
                let at = catalogue.active_position(*id)?;
                let category = &mut catalogue.categories[at];
                if &category.name != from {
                    return Err(invalid("from", &category.name, from));
                }
                check_name(to)?;
                category.name.clone_from(to);
                category.name_source = *source;
            }
            Self::Merged { from, into } => {
                if from.len() < 2 || !from.is_sorted_by(|a, b| a < b) {
                    let found = format!("{from:?}");
                    return Err(invalid("from", "two or more ids that ascend", found));
                }
                for id in from {
                    catalogue.retire(*id, Status::Merged { into: into.id });
                }
                catalogue.bear(into, again)?;
            }
            Self::Split { id, into } => {
                if into.len() < 2 {
                    return Err(invalid("into", "two or more categories", into.len()));
                }
                let parts = into.iter().map(|part| part.id).collect();
                catalogue.retire(*id, Status::Split { into: parts });
                for part in into {
                    catalogue.bear(part, again)?;
                }
            }
            Self::Updated {
                changed,
                born,
                model_sha256,
            } => {
                for evidence in changed {
                    let at = catalogue.active_position(evidence.id)?;
                    let category = &mut catalogue.categories[at];
                    category.size = evidence.size;
                    category.coherence = evidence.coherence;
                    category.keywords.clone_from(&evidence.keywords);
                    category.medoids.clone_from(&evidence.medoids);
                    category.centroid.clone_from(&evidence.centroid);
                }
                for category in born {
                    if let Some(coarse) = &category.coarse
                        && !catalogue.coarse_names.contains(coarse)
                    {
                        catalogue.coarse_names.push(coarse.clone());
                    }
                    catalogue.bear(category, again)?;
                }
                if let Some(model) = model_sha256 {
                    catalogue.model_sha256.clone_from(model);
                }
            }
            Self::Calibrated { calibration } => {
                catalogue.calibration = Some(calibration.clone());
            }
            Self::Created { .. } | Self::Undone { .. } => {}
        }
        catalogue.check()?;
        // A new name or threshold moves nothing.
        if !matches!(self, Self::Renamed { .. } | Self::Calibrated { .. }) {
            let moved = self.touched().into_iter().chain(self.born()).collect();
            catalogue.refresh_nearest(&moved);
        }
        Ok(())
    }
}

impl Catalogue {
    /// Takes an active category out of use.
    fn retire(&mut self, id: CategoryId, status: Status) {
        if let Some(at) = self.position(id) {
            self.categories[at].status = status;
        }
    }

    /// Adds a category with the next id, or brings one back that an undo retired.
    fn bear(&mut self, category: &Category, again: bool) -> Result<(), CategoryError> {
        if !category.is_active() {
            return Err(invalid("status", "a new category in use", category.id));
        }
        match self.position(category.id) {
            Some(at) if again => self.categories[at] = category.clone(),
            _ => {
                let next = self.next_id()?;
                if category.id != next {
                    return Err(invalid("id", format!("the next id, {next}"), category.id));
                }
                if category.born != self.revision {
                    let expected = format!("the revision {}", self.revision);
                    return Err(invalid("born", expected, category.born));
                }
                self.categories.push(category.clone());
            }
        }
        Ok(())
    }
}
