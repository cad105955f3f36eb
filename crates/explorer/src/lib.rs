//! A page that shows a map of texts and their categories: one file, no outside requests.
//!
//! * [`explorer`]: what the page shows, as plain data;
//! * [`comparison`]: a second run on the same texts;
//! * [`page`]: the page, with a content policy that allows its own script and style and nothing else;
//! * [`error`]: why there is none.
//!
//! ```
//! use explorer::{Category, Explorer, Place, Point};
//!
//! let point = |x: f32, text: &str| Point::new(x, 0.0, text, 7);
//! let explorer = Explorer {
//!     title: "banking".to_owned(),
//!     points: vec![point(0.0, "my card is lost"), point(1.0, "where is my card?")],
//!     categories: vec![Category::new(7, "card")],
//!     ..Explorer::default()
//! };
//! let page = explorer.page(Place::File)?;
//! assert!(page.starts_with("<!doctype html>"));
//! # Ok::<(), explorer::ExplorerError>(())
//! ```

pub mod comparison;
pub mod error;
pub mod explorer;
pub mod page;

pub use comparison::{Comparison, Counterpart, align};
pub use error::ExplorerError;
pub use explorer::{Category, Explorer, Point};
pub use page::Place;
