//! A user's retrieval pairs: a query and a document that answers it.
//!
//! | file | a row |
//! |---|---|
//! | `.tsv`, `.txt` | `query<TAB>document`, no quoting; a first line `query<TAB>document` is a header |
//! | `.csv` | columns `query` and `document` |
//! | `.jsonl`, `.json` | fields `query` and `document` |
//!
//! Each may be gzip-compressed. A query may come with several documents and a document with several
//! queries: equal queries are one query, equal documents one document.

use std::collections::HashMap;
use std::path::Path;

use crate::error::DatasetError;
use crate::records::{Layout, RowTally, column, for_each_record};
use crate::report::RowsReport;
use crate::table::{Limits, TextFile, header_error};

/// Queries, documents, and which belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct RetrievalPairs {
    /// Different queries in the order of their first row.
    pub queries: Vec<String>,
    /// Different documents in the order of their first row.
    pub documents: Vec<String>,
    /// For every query the ids of its documents, ascending.
    pub relevant: Vec<Vec<usize>>,
    /// What the loader saw.
    pub report: RowsReport,
}

/// Loads a file of query-document pairs.
///
/// # Errors
/// [`DatasetError`]: an unreadable file, a text file without tabs, a wrong number of columns, an
/// empty query or document.
///
/// ```
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("faq.tsv");
/// std::fs::write(&path, "reset password\tOpen settings.\nhow to pay\tBy card.\nhow to pay\tBy bank.\n")?;
/// let pairs = datasets::load_pairs(&path, Default::default())?;
/// assert_eq!(pairs.queries, ["reset password", "how to pay"]);
/// assert_eq!(pairs.relevant, [vec![0], vec![1, 2]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load_pairs(path: &Path, limits: Limits) -> Result<RetrievalPairs, DatasetError> {
    let layout = match Layout::of(path)? {
        Layout::Lines | Layout::Tabs { .. } => Layout::Tabs { header: false },
        other => other,
    };
    let file = TextFile::read(path, limits)?;
    if layout == (Layout::Tabs { header: false }) {
        check_tabs(&file)?;
    }
    let mut tally = RowTally::default();
    let (mut queries, mut documents) = (Distinct::default(), Distinct::default());
    let mut relevant: Vec<Vec<usize>> = Vec::new();
    let header = |names: &[String]| {
        if names.is_empty() {
            return Ok([0, 1]);
        }
        let find = |name: &str| {
            column(names, &[name])
                .ok_or_else(|| header_error(&file, "`query` and `document`", &names.join(" ")))
        };
        Ok([find("query")?, find("document")?])
    };
    let scan = for_each_record(&file, layout, limits, header, |columns, record| {
        let [query, document] = *columns;
        let (query, document) = (
            record.required_text(query)?,
            record.required_text(document)?,
        );
        if layout == (Layout::Tabs { header: false })
            && record.line == 1
            && (query, document) == ("query", "document")
        {
            return Ok(());
        }
        tally.keep(&[query, document], "");
        let (query, document) = (queries.id(query), documents.id(document));
        relevant.resize(queries.texts.len(), Vec::new());
        if let Some(known) = relevant.get_mut(query)
            && let Err(at) = known.binary_search(&document)
        {
            known.insert(at, document);
        }
        Ok(())
    })?;
    Ok(RetrievalPairs {
        queries: queries.texts,
        documents: documents.texts,
        relevant,
        report: tally.finish(file, scan)?,
    })
}

/// The first line with text must have two fields; [`for_each_record`] compares the rest with it.
fn check_tabs(file: &TextFile) -> Result<(), DatasetError> {
    let rows = (1_u64..).zip(file.text.lines());
    let mut rows = rows.filter(|(_, content)| !content.trim().is_empty());
    let Some((line, content)) = rows.next() else {
        return Ok(());
    };
    match content.split('\t').count() {
        2 => Ok(()),
        1 => Err(DatasetError::PairsNeeded {
            path: file.path.clone(),
            line,
            found: 1,
            needed: "pairs (query, tab, document)",
        }),
        found => Err(DatasetError::ColumnCount {
            path: file.path.clone(),
            line,
            found,
            expected: "2: query and document",
        }),
    }
}

/// Different texts and their ids.
#[derive(Default)]
struct Distinct {
    texts: Vec<String>,
    ids: HashMap<String, usize>,
}

impl Distinct {
    fn id(&mut self, text: &str) -> usize {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let id = self.texts.len();
        self.texts.push(text.to_owned());
        self.ids.insert(text.to_owned(), id);
        id
    }
}
