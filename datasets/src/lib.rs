//! Typed loaders, validation and fetch manifests for benchmark data, and the bundled Pocket set.
//!
//! * [`category`]: texts with coarse and, if known, fine categories, from TSV, CSV or JSON lines;
//! * [`report`]: what a loader saw (rows, skipped lines, duplicates, leakage, hashes, warnings);
//! * [`mod@pocket`]: the Pocket set, compiled in, so that everything runs without a download;
//! * [`mod@fetch`]: verified downloads described by a manifest of URL, size and SHA-256;
//! * [`tfidf`]: TF-IDF vectors, the floor that an encoder has to beat;
//! * [`coarse_maps`], [`hash`], [`error`]: label tables, digests, error types.

pub mod category;
pub mod coarse_maps;
pub mod error;
pub mod fetch;
pub mod hash;
pub mod pocket;
pub mod report;
mod table;
pub mod tfidf;

pub use category::{
    CategoryDataset, CategoryFiles, CoarseSource, LoadOptions, Split, load_category_dir,
    load_category_files,
};
pub use error::{DatasetError, FetchError};
pub use fetch::{FetchOptions, Manifest, default_cache_dir, fetch};
pub use pocket::pocket;
pub use report::{FileReport, Form, Leakage, LineList, LoadReport, Warning};
pub use tfidf::{SparseRows, TfIdf};
