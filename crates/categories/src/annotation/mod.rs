//! Texts on their way to annotation tools and back.
//!
//! * [`label_studio`], [`argilla`]: tasks with suggestions as these tools import them, and judgements
//!   from what they export;
//! * [`review`]: what the judgements mean for the categories: edits where whole categories were given
//!   another name, a table of disagreements for all the rest.
//!
//! A list of any length is read record by record, so that no more than one record is in memory; a
//! record has a limit.

use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::rc::Rc;

use serde::de::{self, DeserializeOwned, SeqAccess, Visitor};
use thiserror::Error;

use crate::category::CategoryId;

pub mod argilla;
pub mod label_studio;
pub mod review;

/// Name of the question, and of the field that an answer belongs to, in both tools.
pub const QUESTION: &str = "category";

/// Answer for texts that belong to none of the categories.
pub const NONE: &str = "none of these";

/// Largest record, in bytes.
pub const MAX_RECORD: u64 = 16 << 20;

/// A text and the category it is in, for a person to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion<'a> {
    /// Number of the text in the run, from 0.
    pub row: usize,
    /// The text.
    pub text: &'a str,
    /// Coarse label of the text.
    pub coarse: Option<&'a str>,
    /// Category of the text.
    pub category: CategoryId,
    /// Name of the category.
    pub name: &'a str,
    /// Cosine to the centroid of the category, -1 to 1.
    pub cosine: f32,
    /// Whether the text probably belongs to none of the categories.
    pub unknown: bool,
}

impl Suggestion<'_> {
    /// The cosine as the tools want a score: 0 to 1, rounded to four digits.
    fn score(&self) -> f64 {
        (f64::from(self.cosine.clamp(0.0, 1.0)) * 1e4).round() / 1e4
    }
}

/// What people said about a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Place in the list, from 0.
    pub record: usize,
    /// Number of the text in the run.
    pub row: usize,
    /// The text.
    pub text: String,
    /// The category that was suggested, as far as the record has it.
    pub shown: Option<(CategoryId, String)>,
    /// One a person: names of categories, or [`NONE`].
    pub answers: Vec<String>,
}

/// An annotated list cannot be used.
#[derive(Debug, Error)]
pub enum AnnotationError {
    /// The system refused.
    #[error("cannot read the list: {0}")]
    Read(io::Error),
    /// It is no list of records.
    #[error("expected a JSON list of records: {problem}")]
    List {
        /// What was found.
        problem: String,
    },
    /// A record is none, or contradicts the run.
    #[error("records[{record}]: {problem}")]
    Record {
        /// Place in the list, from 0.
        record: usize,
        /// What was expected and found.
        problem: String,
    },
    /// A category has the name that stands for no category.
    #[error(
        "category {id} is called `{NONE}`, which is the answer for texts of no category; rename it first"
    )]
    Reserved {
        /// The category.
        id: CategoryId,
    },
}

impl AnnotationError {
    fn record(record: usize, problem: impl Into<String>) -> Self {
        Self::Record {
            record,
            problem: problem.into(),
        }
    }
}

/// Hands the elements of a JSON list to `each`, one after the other.
fn records<T: DeserializeOwned>(
    input: impl Read,
    each: &mut dyn FnMut(usize, T) -> Result<(), AnnotationError>,
) -> Result<(), AnnotationError> {
    let left = Rc::new(Cell::new(MAX_RECORD));
    let at = Cell::new(None);
    let mut refused = None;
    let limited = Limited {
        inner: input,
        left: Rc::clone(&left),
    };
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(limited));
    let list = List {
        each,
        left: &left,
        at: &at,
        refused: &mut refused,
        element: std::marker::PhantomData,
    };
    let outcome = de::Deserializer::deserialize_seq(&mut json, list).and_then(|()| {
        at.set(None);
        json.end()
    });
    if let Some(error) = refused {
        return Err(error);
    }
    outcome.map_err(|error| match (error.io_error_kind(), at.get()) {
        // What is too large has that kind.
        (Some(kind), _) if kind != io::ErrorKind::InvalidData => {
            AnnotationError::Read(error.into())
        }
        (_, Some(record)) => AnnotationError::record(record, error.to_string()),
        (_, None) => AnnotationError::List {
            problem: error.to_string(),
        },
    })
}

/// The elements of a list.
struct List<'a, T> {
    each: &'a mut dyn FnMut(usize, T) -> Result<(), AnnotationError>,
    left: &'a Cell<u64>,
    /// The element being read.
    at: &'a Cell<Option<usize>>,
    /// Why `each` stopped.
    refused: &'a mut Option<AnnotationError>,
    element: std::marker::PhantomData<T>,
}

impl<'de, T: DeserializeOwned> Visitor<'de> for List<'_, T> {
    type Value = ();

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        for record in 0.. {
            self.at.set(Some(record));
            self.left.set(MAX_RECORD);
            let Some(element) = list.next_element()? else {
                break;
            };
            if let Err(error) = (self.each)(record, element) {
                *self.refused = Some(error);
                return Err(de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

/// Ends where a record is too large.
struct Limited<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.get() == 0 {
            let problem = format!("a record is larger than {MAX_RECORD} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        let read = self.inner.read(buffer)?;
        self.left.set(self.left.get().saturating_sub(read as u64));
        Ok(read)
    }
}
