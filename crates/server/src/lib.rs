//! HTTP server of vectors and categories: OpenAI and text-embeddings-inference routes, dynamic
//! batching, limits.
//!
//! The server knows no model: it computes with anything that implements [`Engine`], predicts and
//! edits categories of the crate `categories`, searches a [`Corpus`] and hands out a page that
//! somebody else makes. It asks no other server for anything.
//!
//! * Requests become batches by a token budget; one thread owns the model. What would wait too
//!   long is refused with 429 and `Retry-After`.
//! * Every size and time is bounded: [`Limits`].
//! * Loopback by default; any other address needs an [`ApiKey`].
//! * A server that is told to stop says so at `/health/ready` and finishes what it accepted:
//!   [`Server::run`].
//! * Nothing of a text is ever logged.
//!
//! ```
//! use std::sync::Arc;
//! use server::{Config, FakeEngine, Parts, Server, Signal, Outcome};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), server::StartError> {
//! let config = Config {
//!     addr: ([127, 0, 0, 1], 0).into(),
//!     drain_notice: std::time::Duration::ZERO,
//!     ..Config::default()
//! };
//! let parts = Parts::of_engine(Box::new(|| Ok(Arc::new(FakeEngine::new(8, 64)))));
//! let server = Server::bind(config, parts).await?;
//! println!("listening on {}", server.local_addr());
//! let (stop, signals) = tokio::sync::mpsc::channel(1);
//! stop.try_send(Signal::Terminate).ok();
//! assert_eq!(server.run(signals).await, Outcome::Drained);
//! # Ok(())
//! # }
//! ```

// A client must not be able to end the process: errors are answered, channels that are closed are
// handled, see the tests.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod app;
mod batcher;
mod body;
mod config;
mod connection;
mod corpus;
mod engine;
mod error;
mod guard;
mod health;
mod key;
mod metrics;
mod openapi;
mod routes;
mod serve;
mod taxonomy;
mod texts;

pub use app::{PageSource, Parts};
pub use config::{Config, Limits};
pub use corpus::{Corpus, CorpusText};
pub use engine::{Engine, EngineError, EngineSource, FakeEngine, ModelInfo, Tokenized};
pub use error::StartError;
pub use key::ApiKey;
pub use serve::{Outcome, Server, Signal, signals};
pub use taxonomy::Taxonomy;
