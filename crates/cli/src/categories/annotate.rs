//! `asterism categories export` and `import`: annotation tools.

use std::fs::File;
use std::path::{Path, PathBuf};

use categories::annotation::review::{
    Disagreement, Placed, Review, ReviewOptions, Reviewer, Target, check_names,
};
use categories::annotation::{AnnotationError, NONE, Suggestion, argilla, label_studio};
use categories::{Catalogue, CategoryId};
use clap::ValueEnum;
use experiments::result::write_atomic;
use serde::Serialize;

use super::RunArgs;
use super::edit::Made;
use super::log::describe;
use crate::error::CliError;
use crate::explore::Finder;
use crate::output::{Output, field};
use crate::run_files::{Members, Vectors};

/// Lines of the table of disagreements; JSON has all of them.
const TABLE_LINES: usize = 20;

/// An annotation tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Label Studio.
    LabelStudio,
    /// Argilla 2.
    Argilla,
}

/// Which run, and which tool.
#[derive(Debug, clap::Args)]
struct Place {
    /// Run directory of `asterism discover`.
    #[arg(long, value_name = "RUN")]
    run: PathBuf,
    /// The tool.
    #[arg(long, value_enum)]
    format: Format,
}

/// Write the texts of a run as tasks for an annotation tool, each with its category as a suggestion.
///
/// Label Studio imports the list as it is; Argilla with `dataset.records.from_json`. The score is the
/// cosine to the centroid of the category.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    place: Place,
    /// File to write (default: standard output).
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// File for what the tool needs to know about the categories: the labelling configuration of Label
    /// Studio (XML), the settings of Argilla (JSON).
    #[arg(long, value_name = "FILE")]
    label_config: Option<PathBuf>,
    /// Only texts below the threshold for unknown ones.
    #[arg(long)]
    unknown_only: bool,
    /// Only texts of these categories: ids or names.
    #[arg(long, value_name = "ID", num_args = 1..)]
    category: Vec<String>,
}

/// Read annotated texts back and make the edits that follow from them.
///
/// Edits follow for whole categories only: a new name that nearly all judged texts of a category got is
/// a rename, a name that two categories got is a merge. Everything else is listed with counts; single
/// texts are not moved. Reads the JSON export of Label Studio, or what Argilla writes with
/// `dataset.records.to_json`.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    place: Place,
    /// The annotated list.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Share of the judged texts of a category that must have got the same answer.
    #[arg(long, value_name = "SHARE", default_value_t = 0.9, value_parser = share)]
    min_share: f64,
    /// Judged texts that a category must have; all of them where it is smaller.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = crate::model::positive)]
    min_texts: usize,
    /// File for the texts that people put elsewhere, one JSON object a line.
    #[arg(long, value_name = "FILE.jsonl")]
    moved: Option<PathBuf>,
    /// Say what would be done and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// For clap: more than half, so that there is one such answer at most.
fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| *share > 0.5 && *share <= 1.0)
        .ok_or_else(|| "expected a number above 0.5 and at most 1".to_owned())
}

impl Place {
    fn run_args(&self, json: bool) -> RunArgs {
        RunArgs {
            run: self.run.clone(),
            json,
        }
    }
}

/// For `map_err`: names the file.
fn refuse(path: &Path) -> impl FnOnce(AnnotationError) -> CliError {
    move |error| CliError::Annotation {
        path: path.to_owned(),
        error,
    }
}

/// Runs `export`.
pub(super) fn export(args: &ExportArgs) -> Result<(), CliError> {
    let run = args.place.run_args(false);
    let catalogue = run.read()?.catalogue;
    check_names(&catalogue).map_err(refuse(&run.run))?;
    if args.unknown_only && catalogue.calibration.is_none() {
        return Err(CliError::Option {
            option: "--unknown-only",
            problem: "the run has no threshold for unknown texts".to_owned(),
        });
    }
    let wanted: Result<Vec<CategoryId>, CliError> = args
        .category
        .iter()
        .map(|text| run.active_id(&catalogue, text))
        .collect();
    let wanted = wanted?;
    let members = Members::read(&run.run)?;
    let vectors = Vectors::read(&run.run, members.len())?;
    let finder = Finder::new(&run.run, &catalogue, vectors.dim)?;
    let origin = format!("asterism revision {}", catalogue.revision);

    let mut list = Output::new(Vec::new());
    let mut written = 0_usize;
    for (member, vector) in members
        .rows
        .iter()
        .zip(vectors.values().chunks_exact(vectors.dim))
    {
        let id = finder.find(member, vector)?;
        let Some(category) = catalogue.get(id) else {
            continue;
        };
        let unknown = finder.assigner().assign(vector)?.unknown;
        if (args.unknown_only && !unknown) || !(wanted.is_empty() || wanted.contains(&id)) {
            continue;
        }
        let suggestion = Suggestion {
            row: member.row,
            text: &member.text,
            coarse: member.coarse.as_deref(),
            category: id,
            name: &category.name,
            cosine: cosine(vector, &category.centroid),
            unknown,
        };
        list.text(if written == 0 { "[\n" } else { ",\n" })?;
        list.text(match args.place.format {
            Format::LabelStudio => label_studio::task(&suggestion, &origin),
            Format::Argilla => argilla::record(&suggestion, &origin),
        })?;
        written += 1;
    }
    list.text(if written == 0 { "[]\n" } else { "\n]\n" })?;
    let list = list.into_inner()?;
    if let Some(path) = &args.label_config {
        let config = match args.place.format {
            Format::LabelStudio => label_studio::config(&catalogue),
            Format::Argilla => format!("{:#}\n", argilla::settings(&catalogue)),
        };
        write_atomic(path, config.as_bytes())?;
    }
    match &args.out {
        Some(path) => write_atomic(path, &list)?,
        None => {
            let mut output = Output::stdout();
            output.bytes(&list)?;
            output.flush()?;
        }
    }
    eprintln!("{written} of {} texts", members.len());
    Ok(())
}

/// Cosine of two vectors of length 1.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let sum: f64 = a
        .iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum();
    sum as f32
}

/// Answer of `import`.
#[derive(Debug, Serialize)]
struct Imported<'a> {
    records: usize,
    unanswered: usize,
    contested: usize,
    judged: usize,
    agreeing: usize,
    /// Share of the judged.
    agreement: Option<f64>,
    kappa: Option<f64>,
    disagreements: &'a [Disagreement],
    /// What would be done, where nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    planned: Option<Vec<String>>,
    #[serde(flatten)]
    made: Option<Made<'a>>,
}

/// Runs `import`.
pub(super) fn import(args: &ImportArgs) -> Result<(), CliError> {
    let run = args.place.run_args(args.json);
    let before = run.read()?.catalogue;
    let members = Members::read(&run.run)?;
    let review = review(args, &run, &before, &members)?;
    if let Some(path) = &args.moved {
        write_moved(path, &review, &members)?;
    }
    let planned: Vec<String> = review
        .edits
        .iter()
        .map(|edit| plan(&before, edit))
        .collect();
    let imported = Imported {
        records: review.records,
        unanswered: review.unanswered,
        contested: review.contested,
        judged: review.judged,
        agreeing: review.agreeing,
        agreement: review.agreement(),
        kappa: review.kappa,
        disagreements: &review.disagreements,
        planned: None,
        made: None,
    };
    let mut output = Output::stdout();
    if !args.json {
        output.text(page(&imported, &before))?;
    }
    if args.dry_run || review.edits.is_empty() {
        if args.json {
            output.json(&Imported {
                planned: Some(planned),
                ..imported
            })?;
        } else {
            for edit in &planned {
                output.line(format_args!("would {edit}"))?;
            }
        }
        return output.flush();
    }

    // Said before it is done: what follows may fail.
    output.flush()?;
    let mut store = run.open()?;
    if store.catalogue().revision != before.revision {
        return Err(CliError::Option {
            option: "--run",
            problem: "the run was edited in the meantime; nothing was changed".to_owned(),
        });
    }
    let entries = store.log().len();
    store
        .apply_all(review.edits.clone())
        .map_err(run.explain())?;
    let made = Made::new(&before, &store, entries);
    if args.json {
        output.json(&Imported {
            made: Some(made),
            ..imported
        })?;
    } else {
        for entry in store.log().get(entries..).unwrap_or_default() {
            output.line(describe(store.log(), entry))?;
        }
    }
    output.flush()
}

fn review(
    args: &ImportArgs,
    run: &RunArgs,
    catalogue: &Catalogue,
    members: &Members,
) -> Result<Review, CliError> {
    let vectors = Vectors::read(&run.run, members.len())?;
    let finder = Finder::new(&run.run, catalogue, vectors.dim)?;
    let mut texts = Vec::with_capacity(members.len());
    for (member, vector) in members
        .rows
        .iter()
        .zip(vectors.values().chunks_exact(vectors.dim))
    {
        texts.push(Placed {
            text: &member.text,
            category: finder.find(member, vector)?,
        });
    }
    let options = ReviewOptions {
        min_share: args.min_share,
        min_texts: args.min_texts,
    };
    let mut reviewer = Reviewer::new(catalogue, &texts, options);
    let file = File::open(&args.file).map_err(CliError::file("open", &args.file))?;
    let mut add = |judgement| reviewer.add(judgement);
    match args.place.format {
        Format::LabelStudio => label_studio::read(file, &mut add),
        Format::Argilla => argilla::read(file, &mut add),
    }
    .map_err(|error| match error {
        AnnotationError::Read(source) => CliError::file("read", &args.file)(source),
        error => refuse(&args.file)(error),
    })?;
    Ok(reviewer.finish())
}

/// An edit that was not made yet, in words.
fn plan(catalogue: &Catalogue, edit: &categories::Edit) -> String {
    let named = |id: &CategoryId| {
        let name = catalogue.get(*id).map_or("", |category| &category.name);
        format!("{id} `{}`", field(name))
    };
    match edit {
        categories::Edit::Rename { id, name, .. } => {
            format!("rename {} to `{}`", named(id), field(name))
        }
        categories::Edit::Merge { ids, name } => {
            let ids: Vec<String> = ids.iter().map(named).collect();
            let name = name.as_deref().unwrap_or_default();
            format!("merge {} into `{}`", ids.join(", "), field(name))
        }
        // A review makes no others.
        other => format!("{other:?}"),
    }
}

/// Counts, and the table of disagreements.
fn page(imported: &Imported<'_>, catalogue: &Catalogue) -> String {
    let named = |id: CategoryId| {
        let name = catalogue.get(id).map_or("", |category| &category.name);
        format!("{id} {}", field(name))
    };
    let mut page = format!(
        "{} records: {} judged, {} without an answer, {} with different ones\n",
        imported.records, imported.judged, imported.unanswered, imported.contested
    );
    if let Some(agreement) = imported.agreement {
        let kappa = imported
            .kappa
            .map_or(String::new(), |kappa| format!(", kappa {kappa:.3}"));
        page += &format!(
            "{} agree with the categories: {:.1} %{kappa}\n",
            imported.agreeing,
            100.0 * agreement
        );
    }
    let rows: Vec<(&Disagreement, String, String)> = imported
        .disagreements
        .iter()
        .take(TABLE_LINES)
        .map(|row| {
            let to = match &row.to {
                Target::Category(id) => named(*id),
                Target::New(name) => format!("new: {}", field(name)),
                Target::Nothing => NONE.to_owned(),
            };
            (row, named(row.from), to)
        })
        .collect();
    if rows.is_empty() {
        return page;
    }
    let width = |name: &str, cells: &mut dyn Iterator<Item = &String>| {
        let longest = cells.map(|cell| cell.chars().count()).max();
        longest.unwrap_or(0).max(name.len())
    };
    let from_width = width("category", &mut rows.iter().map(|(_, from, _)| from));
    let to_width = width("people say", &mut rows.iter().map(|(_, _, to)| to));
    page += &format!(
        "{:>6} {:>6}  {:<from_width$}  {:<to_width$}  first record\n",
        "texts", "of", "category", "people say"
    );
    for (row, from, to) in rows {
        let edited = if row.edited { "  (edit)" } else { "" };
        page += &format!(
            "{:>6} {:>6}  {from:<from_width$}  {to:<to_width$}  {:>12}{edited}\n",
            row.texts, row.judged, row.first_record
        );
    }
    let more = imported.disagreements.len().saturating_sub(TABLE_LINES);
    if more > 0 {
        page += &format!("{more:>6} lines more; --json has them, --moved FILE the texts\n");
    }
    page
}

/// A text that people put elsewhere, as a line of `--moved`.
#[derive(Serialize)]
struct MovedLine<'a> {
    row: usize,
    text: &'a str,
    from: CategoryId,
    to: &'a Target,
}

fn write_moved(path: &Path, review: &Review, members: &Members) -> Result<(), CliError> {
    let mut lines = Output::new(Vec::new());
    for moved in &review.moved {
        lines.json_line(&MovedLine {
            row: moved.row,
            text: members
                .rows
                .get(moved.row)
                .map_or("", |member| &member.text),
            from: moved.from,
            to: &moved.to,
        })?;
    }
    Ok(write_atomic(path, &lines.into_inner()?)?)
}
