//! From texts with broad labels to named fine categories (`asterism discover`).
//!
//! ```text
//! read      texts, coarse labels                       Texts
//! find      encode, K, cluster, evidence, threshold    find -> Found
//! name      keywords, or a language model              the caller, from Found::to_name
//! finish    run directory, in one rename               Found::finish
//! update    more texts into a finished run             update -> Updating
//! ```
//!
//! Naming stands between because asking a model for names needs a journal, a budget and a network,
//! which are the caller's.

mod error;
mod evidence;
mod files;
mod input;
mod map;
mod partition;
mod report;
mod run;
mod settings;
mod staging;
mod threshold;
mod trained;
mod update;
mod vectors;

pub use error::DiscoverError;
pub use files::{MAP, MEMBERS, Member, VECTORS};
pub use input::{Columns, InputFile, Table, Text, Texts};
pub use partition::{Curve, Estimate};
pub use run::{ClassSummary, Found, Request, Step, Summary, find};
pub use settings::{Criterion, DiscoverConfig, Mode, read_k};
pub use trained::training_settings;
pub use update::{UpdateRequest, UpdateSummary, Updating, update};
