//! The rules of outgoing HTTP, in one place for everything that connects to a server.
//!
//! * [`address`]: which addresses may be contacted; checked before connecting, for every redirect,
//!   and again for what a name resolves to;
//! * [`client`]: one try of a request: time limits, redirects, bodies that are cut off at a limit;
//! * [`retry`]: which failures may pass and how long to wait: growing, jittered pauses and
//!   `Retry-After`;
//! * [`key`]: keys of servers, which are sent and never shown;
//! * [`error`]: why a try failed.
//!
//! ```no_run
//! use web::{Client, Request, Rules};
//!
//! let client = Client::new(Rules::default(), "example/1.0");
//! let response = client.send(&Request::get("https://example.org/list.txt"))?;
//! if response.status() == 200 {
//!     let body = response.read(1 << 20)?;
//!     println!("{} bytes", body.len());
//! }
//! # Ok::<(), web::WebError>(())
//! ```

pub mod address;
pub mod client;
pub mod error;
pub mod key;
pub mod retry;

pub use address::{Rules, is_loopback_host, is_public};
pub use client::{Client, Request, Response};
pub use error::{KeyError, WebError};
pub use key::ApiKey;
pub use retry::{Retries, status_may_pass};
