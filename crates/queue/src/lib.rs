//! Memory bank, momentum update, exact neighbour retrieval and neighbour policies.
//!
//! The pieces are independent of one another and of every encoder and loss:
//!
//! * [`MemoryBank`]: one constant vector a training sample, overwritten row by row;
//! * [`update_momentum`]: the slowly moving average of an online module;
//! * [`nearest_neighbours`]: exact, blocked retrieval of the best dot products;
//! * [`RankWeights`]: weights that fall with the neighbour rank and flatten over the epochs;
//! * [`NeighbourPolicy`]: which samples are positives of a query and with which weight. An
//!   objective consumes [`Targets`] and needs to know nothing about the policy behind them.
//!
//! Tensors carry no backend parameter and no function here keeps an autodiff graph.

mod bank;
mod ema;
mod error;
mod neighbours;
pub mod policy;
mod rank_weights;

pub use bank::MemoryBank;
pub use ema::{momentum_copy, update_momentum};
pub use error::{QueueError, Result};
pub use neighbours::{NeighbourParams, Neighbours, nearest_neighbours};
pub use policy::{
    Clusters, DnaParams, DnaPolicy, DownParams, DownPolicy, NeighbourFilter, NeighbourPolicy,
    PolicyState, PrototypeParams, PrototypePolicy, RefreshContext, Targets,
};
pub use rank_weights::RankWeights;
