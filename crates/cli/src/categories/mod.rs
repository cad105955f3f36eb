//! `asterism categories`: the categories of a run, looked at and corrected.

use std::path::{Path, PathBuf};

use categories::{CATALOGUE_FILE, Catalogue, CategoryError, CategoryId, Store, StoreError};
use miette::Diagnostic;
use thiserror::Error;

use crate::error::CliError;

mod annotate;
mod edit;
mod log;
mod show;
mod split;

/// Look at the categories of a run, rename, merge and split them, undo.
///
/// Every edit is a line of categories.log.jsonl and can be undone; ids are never given twice. ID is the
/// number of a category or the name of one in use.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    List(show::ListArgs),
    Show(show::ShowArgs),
    Rename(edit::RenameArgs),
    Merge(edit::MergeArgs),
    Split(split::Args),
    Undo(edit::UndoArgs),
    Redo(edit::RedoArgs),
    Apply(edit::ApplyArgs),
    Log(log::LogArgs),
    Replay(log::ReplayArgs),
    Export(annotate::ExportArgs),
    Import(annotate::ImportArgs),
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::List(args) => show::list(&args),
        Command::Show(args) => show::show(&args),
        Command::Rename(args) => edit::rename(args),
        Command::Merge(args) => edit::merge(args),
        Command::Split(args) => split::run(&args),
        Command::Undo(args) => edit::undo(&args),
        Command::Redo(args) => edit::redo(&args),
        Command::Apply(args) => edit::apply(&args),
        Command::Log(args) => log::log(&args),
        Command::Replay(args) => log::replay(&args),
        Command::Export(args) => annotate::export(&args),
        Command::Import(args) => annotate::import(&args),
    }
}

/// Which run, and how to answer.
#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Run directory of `asterism discover`.
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// An error of the catalogue or its files, and what to do about it.
#[derive(Debug, Error, Diagnostic)]
#[error("{error}")]
#[diagnostic(help("{help}"))]
pub(crate) struct CategoriesError {
    error: StoreError,
    help: String,
}

impl CategoriesError {
    /// Adds the next step for the run directory `run`.
    fn new(run: &Path, error: StoreError) -> Self {
        let run = run.display();
        let command = |name: &str| format!("asterism categories {name} {run}");
        let anew = || format!("write it anew from its log: {}", command("replay --write"));
        let help = match &error {
            StoreError::Edit(edit) | StoreError::EditAt { source: edit, .. } => match edit {
                CategoryError::UnknownId { .. }
                | CategoryError::UnknownName { .. }
                | CategoryError::Retired { .. } => {
                    format!("the categories in use: {}", command("list"))
                }
                CategoryError::NameTaken { owner, .. } => {
                    let merge = command("merge");
                    format!("choose another name, or merge the two: {merge} {owner} ID")
                }
                CategoryError::NothingToUndo | CategoryError::NothingToRedo => {
                    format!("what was done: {}", command("log"))
                }
                _ => "nothing was changed".to_owned(),
            },
            StoreError::Missing { .. } => "make a run: asterism discover --help".to_owned(),
            StoreError::Locked { .. } => {
                "wait until it is done; a server takes edits on its own page until it is stopped"
                    .to_owned()
            }
            StoreError::Diverged { .. } => anew(),
            StoreError::Ahead { .. } => format!(
                "put the whole log back, or give up what it lost: {}",
                command("replay --write")
            ),
            StoreError::Json { path, .. }
            | StoreError::Schema { path, .. }
            | StoreError::Invalid { path, .. }
                if path.ends_with(CATALOGUE_FILE) =>
            {
                anew()
            }
            StoreError::Json { .. } | StoreError::Schema { .. } | StoreError::Log { .. } => {
                "the log is damaged; put a copy back, the lines before this one are sound"
                    .to_owned()
            }
            StoreError::Unpublished { .. } => {
                "the edit is safe; make room on the disk and go on".to_owned()
            }
            StoreError::Poisoned { .. } => format!("see what is in the log: {}", command("log")),
            _ => "nothing was changed".to_owned(),
        };
        Self { error, help }
    }

    /// 1 if the request was fine and the work was not, 2 for bad input.
    pub(crate) fn exit_code(&self) -> u8 {
        match &self.error {
            StoreError::Locked { .. }
            | StoreError::Unpublished { .. }
            | StoreError::Poisoned { .. } => 1,
            _ => 2,
        }
    }
}

impl RunArgs {
    /// Adds the next step to an error.
    fn explain(&self) -> impl Fn(StoreError) -> CliError {
        move |error| CategoriesError::new(&self.run, error).into()
    }

    /// Adds the next step to an error of a look-up.
    fn refuse(&self) -> impl Fn(CategoryError) -> CliError {
        move |error| self.explain()(error.into())
    }

    fn read(&self) -> Result<categories::Snapshot, CliError> {
        Store::read(&self.run).map_err(self.explain())
    }

    /// Opens for editing and says what a crash had left.
    fn open(&self) -> Result<Store, CliError> {
        let store = Store::open(&self.run).map_err(self.explain())?;
        say_healed(&store);
        Ok(store)
    }

    /// The category meant by an id or a name.
    fn id(&self, catalogue: &Catalogue, text: &str) -> Result<CategoryId, CliError> {
        let category = catalogue.by_name(text).map_err(self.refuse())?;
        Ok(category.id)
    }

    /// As [`id`](Self::id), of a category that is still in use.
    fn active_id(&self, catalogue: &Catalogue, text: &str) -> Result<CategoryId, CliError> {
        let category = catalogue.active_by_name(text).map_err(self.refuse())?;
        Ok(category.id)
    }
}

fn say_healed(store: &Store) {
    for healed in store.healed() {
        eprintln!("{healed}");
    }
}
