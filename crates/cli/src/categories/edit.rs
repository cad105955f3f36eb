//! `asterism categories rename`, `merge`, `undo`, `redo`, `apply`.

use std::path::PathBuf;

use categories::{Catalogue, Category, CategoryId, Edit, NameSource, Store, StoreError};
use serde::{Deserialize, Serialize};

use super::RunArgs;
use super::log::{Event, describe};
use super::show::Shown;
use crate::error::CliError;
use crate::output::Output;

/// Format of a list of edits.
const EDITS_SCHEMA: &str = "asterism/edits/1";

/// Give a category another name.
///
/// From then on the name belongs to a person: programs leave it alone.
#[derive(Debug, clap::Args)]
pub(crate) struct RenameArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Id or name.
    #[arg(value_name = "ID")]
    id: String,
    /// The new name; no other category in use may have it.
    #[arg(value_name = "NAME")]
    name: String,
}

/// Make one category of several.
///
/// The new one has an id of its own; the old ones lead to it.
#[derive(Debug, clap::Args)]
pub(crate) struct MergeArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Ids or names, two or more.
    #[arg(value_name = "ID", num_args = 2.., required = true)]
    ids: Vec<String>,
    /// Name of the new category (default: that of the largest).
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Take back the last edit that is still in effect.
///
/// Again and again, one edit a time; `redo` goes forward.
#[derive(Debug, clap::Args)]
pub(crate) struct UndoArgs {
    #[command(flatten)]
    run: RunArgs,
}

/// Take back the last undo, if no edit followed it.
#[derive(Debug, clap::Args)]
pub(crate) struct RedoArgs {
    #[command(flatten)]
    run: RunArgs,
}

/// Make the edits that were saved from the page of `asterism explore`.
///
/// All of them or none. The run must not have been edited since the page was made.
#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    run: RunArgs,
    /// The saved list.
    #[arg(value_name = "EDITS.json")]
    edits: PathBuf,
}

/// Runs `rename`.
pub(super) fn rename(args: RenameArgs) -> Result<(), CliError> {
    let store = args.run.open()?;
    let id = args.run.id(store.catalogue(), &args.id)?;
    let edit = Edit::Rename {
        id,
        name: args.name.trim().to_owned(),
        source: NameSource::Human,
    };
    make(&args.run, store, |store| store.apply(edit).map(|_| ()))
}

/// Runs `merge`.
pub(super) fn merge(args: MergeArgs) -> Result<(), CliError> {
    let store = args.run.open()?;
    let ids: Result<Vec<CategoryId>, CliError> = args
        .ids
        .iter()
        .map(|text| args.run.id(store.catalogue(), text))
        .collect();
    let edit = Edit::Merge {
        ids: ids?,
        name: args.name.map(|name| name.trim().to_owned()),
    };
    make(&args.run, store, |store| store.apply(edit).map(|_| ()))
}

/// Runs `undo`.
pub(super) fn undo(args: &UndoArgs) -> Result<(), CliError> {
    make(&args.run, args.run.open()?, |store| {
        store.undo().map(|_| ())
    })
}

/// Runs `redo`.
pub(super) fn redo(args: &RedoArgs) -> Result<(), CliError> {
    make(&args.run, args.run.open()?, |store| {
        store.redo().map(|_| ())
    })
}

/// Answer of an edit.
#[derive(Debug, Serialize)]
pub(super) struct Made<'a> {
    revision: u64,
    /// What was done, oldest first.
    events: Vec<Event>,
    /// The categories that came, went, or changed in more than their neighbours.
    changed: Vec<Shown<'a>>,
}

impl<'a> Made<'a> {
    /// What was done to a store since it had this catalogue and so many entries in its log.
    pub(super) fn new(before: &Catalogue, store: &'a Store, entries: usize) -> Self {
        let new = store.log().get(entries..).unwrap_or_default();
        Self {
            revision: store.catalogue().revision,
            events: new
                .iter()
                .map(|entry| Event::new(store.log(), entry))
                .collect(),
            changed: changed(before, store.catalogue())
                .map(Shown::from)
                .collect(),
        }
    }
}

/// Makes an edit and says what was done.
pub(super) fn make(
    run: &RunArgs,
    mut store: Store,
    edit: impl FnOnce(&mut Store) -> Result<(), StoreError>,
) -> Result<(), CliError> {
    let before = store.catalogue().clone();
    let entries = store.log().len();
    edit(&mut store).map_err(run.explain())?;
    let mut output = Output::stdout();
    if run.json {
        output.json(&Made::new(&before, &store, entries))?;
    } else {
        for entry in store.log().get(entries..).unwrap_or_default() {
            output.line(describe(store.log(), entry))?;
        }
    }
    output.flush()
}

fn changed<'a>(before: &Catalogue, after: &'a Catalogue) -> impl Iterator<Item = &'a Category> {
    after.categories.iter().filter(|category| {
        before.get(category.id).is_none_or(|old| {
            let neighbours_aside = Category {
                nearest: category.nearest.clone(),
                ..old.clone()
            };
            neighbours_aside != **category
        })
    })
}

/// A list of edits that was saved from a page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edits {
    schema: String,
    /// Revision of the catalogue on the page.
    revision: u64,
    edits: Vec<Saved>,
}

/// One of them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Saved {
    Rename {
        id: CategoryId,
        name: String,
    },
    Merge {
        ids: Vec<CategoryId>,
        name: Option<String>,
        /// The id that the page counted on; later edits may name it.
        into: CategoryId,
    },
}

/// Runs `apply`.
pub(super) fn apply(args: &ApplyArgs) -> Result<(), CliError> {
    let bytes = std::fs::read(&args.edits).map_err(CliError::file("read", &args.edits))?;
    let list: Edits = serde_json::from_slice(&bytes).map_err(|error| CliError::Line {
        origin: args.edits.display().to_string(),
        line: error.line() as u64,
        problem: error.to_string(),
    })?;
    let wrong = |field: String, expected: String, found: String| CliError::Extension {
        path: args.edits.clone(),
        field,
        expected,
        found,
    };
    if list.schema != EDITS_SCHEMA {
        return Err(wrong("schema".into(), EDITS_SCHEMA.into(), list.schema));
    }
    let store = args.run.open()?;
    let catalogue = store.catalogue();
    if list.revision != catalogue.revision {
        let expected = format!(
            "{}, that of the run; it was edited since",
            catalogue.revision
        );
        return Err(wrong(
            "revision".into(),
            expected,
            list.revision.to_string(),
        ));
    }
    let mut next = catalogue
        .categories
        .last()
        .map_or(0, |last| u64::from(last.id.0) + 1);
    let mut edits = Vec::with_capacity(list.edits.len());
    for (at, saved) in list.edits.into_iter().enumerate() {
        edits.push(match saved {
            Saved::Rename { id, name } => Edit::Rename {
                id,
                name,
                source: NameSource::Human,
            },
            Saved::Merge { ids, name, into } => {
                if u64::from(into.0) != next {
                    let field = format!("edits[{at}].merge.into");
                    return Err(wrong(field, next.to_string(), into.to_string()));
                }
                next += 1;
                Edit::Merge { ids, name }
            }
        });
    }
    make(&args.run, store, |store| store.apply_all(edits).map(|_| ()))
}
