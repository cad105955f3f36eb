//! Memory bank, momentum update, exact neighbour retrieval and neighbour policies.
//!
//! The pieces are independent of one another and of every encoder and loss:
//!
//! * [`MemoryBank`]: one constant vector a training sample, overwritten row by row, in f32 or f16;
//! * [`update_momentum`]: the slowly moving average of an online module;
//! * [`nearest_neighbours`] and [`nearest_rows`]: exact, blocked retrieval of the best dot products;
//! * `HnswIndex` and `approximate_neighbours`, with the feature `hnsw`: the same beyond about 1e5
//!   rows, by a graph that misses a few;
//! * [`RankWeights`]: weights that fall with the neighbour rank and flatten over the epochs;
//! * [`NeighbourPolicy`]: which samples are positives of a query and with which weight. An
//!   objective consumes [`Targets`] and needs to know nothing about the policy behind them.
//!
//! Tensors carry no backend parameter and no function here keeps an autodiff graph.

mod bank;
mod ema;
mod error;
#[cfg(feature = "hnsw")]
mod hnsw;
mod neighbours;
pub mod policy;
mod rank_weights;

pub use bank::{MemoryBank, MemoryBankConfig, RowStorage};
pub use ema::{momentum_copy, update_momentum};
pub use error::{QueueError, Result};
#[cfg(feature = "hnsw")]
pub use hnsw::{HnswIndex, HnswParams, approximate_neighbours};
pub use neighbours::{NeighbourParams, Neighbours, nearest_neighbours, nearest_rows};
pub use policy::{
    Clusters, DnaParams, DnaPolicy, DownParams, DownPolicy, NeighbourFilter, NeighbourPolicy,
    PolicyState, PrototypeParams, PrototypePolicy, RefreshContext, Targets,
};
pub use rank_weights::RankWeights;
