//! Categories with a stable identity: names, evidence, a replayable log of edits, assignment,
//! calibration, drift; texts on their way to annotation tools and back.

pub mod annotation;
mod assign;
mod calibration;
mod catalogue;
mod category;
pub mod drift;
mod edit;
mod error;
mod event;
pub mod file_layer;
mod history;
mod matching;
mod nearest;
mod store;
mod vector;

pub use assign::{Assigned, Assigner, Gate};
pub use calibration::{
    Calibration, DEFAULT_KEEP, DEFAULT_TEMPERATURE, Threshold, calibrate, fit_temperature,
};
pub use catalogue::{Catalogue, MAX_NAME, SCHEMA};
pub use category::{Category, CategoryId, Keyword, NameSource, Near, Status};
pub use edit::{Edit, NewCategory, SplitPart};
pub use error::{CategoryError, StoreError};
pub use event::{Entry, Event, Evidence};
pub use matching::{Kept, Matching, NewCentroid, match_old};
pub use store::{CATALOGUE_FILE, Healed, LOCK_FILE, LOG_FILE, Snapshot, Store};
