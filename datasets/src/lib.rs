//! Typed loaders, validation and fetch manifests for benchmark data, and the bundled Pocket set.
//!
//! * [`category`]: texts with coarse and, if known, fine categories, from TSV, CSV or JSON lines;
//! * [`columns`]: named columns of a table, as they stand in the file;
//! * [`sentences`], [`ngcse`], [`nli`], [`scored`]: training texts of sentence embeddings;
//! * [`sts`], [`transfer`], [`pairs`]: what sentence embeddings are evaluated on;
//! * [`batches`]: the rows of an epoch as batches: without duplicates, by length, from several sets;
//! * [`kind`]: what a file of texts is for;
//! * [`leakage`]: which training rows occur in an evaluation set;
//! * [`report`]: what a loader saw (rows, skipped lines, duplicates, leakage, hashes, warnings);
//! * [`mod@pocket`]: the Pocket set, compiled in, so that everything runs without a download;
//! * [`mod@fetch`]: verified downloads described by a manifest of URL, size and SHA-256;
//! * [`hub`]: model directories from a hub, pinned to a commit;
//! * [`tfidf`]: TF-IDF vectors, the floor that an encoder has to beat;
//! * [`coarse_maps`], [`hash`], [`error`]: label tables, digests, error types.

pub mod batches;
pub mod category;
pub mod coarse_maps;
pub mod columns;
pub mod error;
pub mod fetch;
pub mod hash;
pub mod hub;
pub mod kind;
pub mod leakage;
pub mod ngcse;
pub mod nli;
pub mod pairs;
pub mod pocket;
mod records;
pub mod report;
pub mod scored;
pub mod sentences;
pub mod sts;
mod table;
pub mod tfidf;
pub mod transfer;

pub use batches::{BatchError, BatchOptions, EpochBatches, Mixing, RowKeys};
pub use category::{
    CategoryDataset, CategoryFiles, CoarseSource, LoadOptions, Split, load_category_dir,
    load_category_files,
};
pub use columns::{ColumnValues, TextColumns, WantedColumn, load_text_columns};
pub use error::{DatasetError, FetchError, HubError};
pub use fetch::{FetchOptions, Manifest, default_cache_dir, fetch};
pub use hub::{HubRequest, fetch_model, plan_model};
pub use leakage::{EvalSet, LeakIndex, LeakReport, TextRule, load_eval_sets, load_texts};
pub use ngcse::{NgcseOptions, NgcseRows, load_ngcse};
pub use nli::{NliOptions, NliRows, load_nli};
pub use pairs::{RetrievalPairs, load_pairs};
pub use pocket::pocket;
pub use report::{FileReport, Form, Leakage, LineList, LoadReport, RowNote, RowsReport, Warning};
pub use scored::{LabelQuantize, ScoredOptions, ScoredRows, load_scored};
pub use sentences::{RowNeed, SentenceOptions, SentenceRows, load_sentences};
pub use sts::{
    ScoredPair, StsName, StsPart, StsSplit, StsSubset, StsTask, load_sts_dir, load_sts_task,
};
pub use table::Limits;
pub use tfidf::{SparseRows, TfIdf};
pub use transfer::{TransferName, TransferTask, load_transfer_dir, load_transfer_task};
