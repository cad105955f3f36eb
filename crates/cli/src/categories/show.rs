//! `asterism categories list` and `show`.

use std::fmt::Write;

use categories::{Catalogue, Category, CategoryId, Keyword, NameSource, Near, Status};
use serde::Serialize;

use super::RunArgs;
use crate::error::CliError;
use crate::output::{Output, field};

/// Keywords on a line of the list.
const LISTED_KEYWORDS: usize = 4;

/// List the categories in use.
///
/// One line each: id, name, coarse class, size, coherence (mean cosine of the members to the
/// centroid) and the strongest keywords.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    run: RunArgs,
    /// List the retired ones as well, with what became of them.
    #[arg(long)]
    all: bool,
}

/// Show one category with its evidence.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Id or name.
    #[arg(value_name = "ID")]
    id: String,
}

/// A category without its centroid.
#[derive(Debug, Serialize)]
pub(super) struct Shown<'a> {
    id: CategoryId,
    name: &'a str,
    name_source: NameSource,
    coarse: Option<&'a str>,
    size: usize,
    coherence: f64,
    keywords: &'a [Keyword],
    medoids: &'a [String],
    nearest: &'a [Near],
    born: u64,
    status: &'a Status,
}

impl<'a> From<&'a Category> for Shown<'a> {
    fn from(category: &'a Category) -> Self {
        Self {
            id: category.id,
            name: &category.name,
            name_source: category.name_source,
            coarse: category.coarse.as_deref(),
            size: category.size,
            coherence: category.coherence,
            keywords: &category.keywords,
            medoids: &category.medoids,
            nearest: &category.nearest,
            born: category.born,
            status: &category.status,
        }
    }
}

/// Answer of `list --json`.
#[derive(Debug, Serialize)]
struct List<'a> {
    revision: u64,
    categories: Vec<Shown<'a>>,
}

/// Runs `list`.
pub(super) fn list(args: &ListArgs) -> Result<(), CliError> {
    let catalogue = args.run.read()?.catalogue;
    let wanted = |category: &&Category| args.all || category.is_active();
    let categories: Vec<&Category> = catalogue.categories.iter().filter(wanted).collect();
    let mut output = Output::stdout();
    if args.run.json {
        output.json(&List {
            revision: catalogue.revision,
            categories: categories.into_iter().map(Shown::from).collect(),
        })?;
        return output.flush();
    }
    let (mut name_width, mut coarse_width) = ("name".len(), "coarse".len());
    for category in &categories {
        name_width = name_width.max(category.name.chars().count());
        coarse_width = coarse_width.max(coarse(category).chars().count());
    }
    output.line(format_args!(
        "{:>5}  {:<name_width$}  {:<coarse_width$}  {:>6}  {:>9}  keywords",
        "id", "name", "coarse", "size", "coherence"
    ))?;
    for category in categories {
        let last = if category.is_active() {
            terms(&category.keywords, LISTED_KEYWORDS)
        } else {
            became(&category.status)
        };
        output.line(
            format!(
                "{:>5}  {:<name_width$}  {:<coarse_width$}  {:>6}  {:>9.3}  {last}",
                category.id.0,
                field(&category.name),
                coarse(category),
                category.size,
                category.coherence,
            )
            .trim_end(),
        )?;
    }
    output.flush()
}

/// Runs `show`.
pub(super) fn show(args: &ShowArgs) -> Result<(), CliError> {
    let catalogue = args.run.read()?.catalogue;
    let category = catalogue.by_name(&args.id).map_err(args.run.refuse())?;
    let mut output = Output::stdout();
    if args.run.json {
        output.json(&Shown::from(category))?;
    } else {
        output.text(page(&catalogue, category))?;
    }
    output.flush()
}

fn page(catalogue: &Catalogue, category: &Category) -> String {
    let source = match category.name_source {
        NameSource::Keywords => "made of keywords",
        NameSource::Model => "given by a model",
        NameSource::Human => "given by a person",
    };
    let mut page = format!("{}  {}\n", category.id, field(&category.name));
    let mut row = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(page, "  {name:<10} {value}");
    };
    row("name", source.to_owned());
    row("coarse", coarse(category));
    row("size", category.size.to_string());
    row("coherence", format!("{:.3}", category.coherence));
    row("born", format!("revision {}", category.born));
    if !category.is_active() {
        row("retired", became(&category.status));
    }
    row("keywords", terms(&category.keywords, usize::MAX));
    let mut label = "nearest";
    for near in &category.nearest {
        let name = catalogue.get(near.id).map_or("", |other| &other.name);
        row(
            label,
            format!("{:.3}  {}  {}", near.cosine, near.id, field(name)),
        );
        label = "";
    }
    label = "texts";
    for text in &category.medoids {
        row(label, field(text));
        label = "";
    }
    page
}

fn coarse(category: &Category) -> String {
    category.coarse.as_deref().map_or("-".to_owned(), field)
}

fn terms(keywords: &[Keyword], count: usize) -> String {
    let terms: Vec<String> = keywords
        .iter()
        .take(count)
        .map(|k| field(&k.term))
        .collect();
    terms.join(", ")
}

/// What became of a retired category.
fn became(status: &Status) -> String {
    match status {
        Status::Active => "in use".to_owned(),
        Status::Merged { into } => format!("merged into {into}"),
        Status::Split { into } => {
            let into: Vec<String> = into.iter().map(ToString::to_string).collect();
            format!("split into {}", into.join(", "))
        }
        Status::Withdrawn => "its birth was undone".to_owned(),
    }
}
