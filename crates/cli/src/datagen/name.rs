//! `asterism datagen name`: names for categories from their texts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ::datagen::naming::{
    CategoryTexts, Evidence, NameSource, Naming, NamingConfig, NamingError, name_by_model,
    order_by_typicality,
};

use super::ask::{AskArgs, Source};
use super::corpus::{prompt, show, unanswered};
use super::error::DatagenError;
use crate::error::CliError;
use crate::input::Texts;

/// Name categories from their texts.
///
/// The input has one text a row with the category it is in, for instance the number of a cluster. OUT
/// gets a name for each category, with keywords and the texts that stand for it. Names differ in more
/// than case and punctuation. Without a server they are made of the words that tell a category from
/// the others.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// .tsv with a header and without quoting, or .jsonl with one object a line. Rows without a
    /// category are left out.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// File to write, .json.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace OUT.
    #[arg(long)]
    force: bool,
    /// Column or field of the text.
    #[arg(long, value_name = "NAME", default_value = "text")]
    text_column: String,
    /// Column or field of the category: a name or a number.
    #[arg(long, value_name = "NAME", default_value = "category")]
    category_column: String,
    /// Column or field of the coarse category, if there is one. A category belongs to the coarse one
    /// that most of its texts have.
    #[arg(long, value_name = "NAME", default_value = "coarse")]
    coarse_column: String,
    /// The texts of each category stand in their order already, the most typical first; without it
    /// those with most of the category's words come first.
    #[arg(long)]
    in_order: bool,
    /// File with names that are not to be used, one a line.
    #[arg(long, value_name = "FILE")]
    taken: Option<PathBuf>,
    /// Texts of each category to keep, and to show to a model.
    #[arg(long, value_name = "N", default_value_t = NamingConfig::default().evidence)]
    evidence: usize,
    /// Keywords of each category to keep.
    #[arg(long, value_name = "N", default_value_t = NamingConfig::default().keywords)]
    keywords: usize,
    /// Longest name in characters, 12 or more.
    #[arg(long, value_name = "N", default_value_t = NamingConfig::default().max_characters)]
    max_characters: usize,
    /// Most words of a name.
    #[arg(long, value_name = "N", default_value_t = NamingConfig::default().max_words)]
    max_words: usize,
    /// What the texts are, for the model: "messages to a bank".
    #[arg(long, value_name = "TEXT", default_value = "")]
    about: String,
    /// Language of the names that a model gives.
    #[arg(long, value_name = "NAME", default_value_t = NamingConfig::default().language)]
    language: String,
    /// Temperature of the model.
    #[arg(long, value_name = "X", default_value_t = NamingConfig::default().temperature)]
    temperature: f64,
    /// File with a prompt to use instead of the program's; it may use about, language, max_words and
    /// max_characters. --dry-run shows the program's.
    #[arg(long, value_name = "FILE")]
    prompt: Option<PathBuf>,
    /// Print the prompt, one question and the number of calls; ask nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    ask: AskArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let source = args.ask.source()?;
    let mut config = NamingConfig {
        keywords: args.keywords,
        evidence: args.evidence,
        max_characters: args.max_characters,
        max_words: args.max_words,
        about: args.about.clone(),
        language: args.language.clone(),
        temperature: args.temperature,
        ..NamingConfig::default()
    };
    if let Some(prompt) = prompt(args.prompt.as_deref())? {
        config.prompt = prompt;
    }
    if let Some(path) = &args.taken {
        let names = Texts::from_file(path)?.take(usize::MAX)?;
        config.taken = names
            .into_iter()
            .filter(|name| !name.trim().is_empty())
            .collect();
    }
    let (mut categories, without) = categories(args)?;
    if !args.in_order {
        order_by_typicality(&mut categories);
    }
    if args.dry_run {
        let mut shown = Ok(());
        name_by_model(&categories, &config, "", |calls, _| {
            shown = show(&calls);
            Ok(unanswered(&calls))
        })
        .map_err(DatagenError::from)?;
        return shown;
    }
    if args.out.exists() && !args.force && !args.ask.resume {
        let path = args.out.clone();
        return Err(DatagenError::Exists { path }.into());
    }
    let naming = if source == Source::Rules {
        Naming::by_keywords(&categories, &config).map_err(DatagenError::from)?
    } else {
        let asking = args.ask.open(&args.out, || {
            Err(CliError::Option {
                option: "--source",
                problem: "names of keywords need no source".to_owned(),
            })
        })?;
        name_by_model(
            &categories,
            &config,
            asking.source.name(),
            |calls, checks| asking.job("names").checks(checks).run(calls),
        )
        .map_err(|error| match error {
            NamingError::Job(error) => asking.failed(error),
            other => DatagenError::from(other).into(),
        })?
    };
    std::fs::write(&args.out, naming.to_json()).map_err(CliError::file("write", &args.out))?;
    if !args.ask.quiet {
        summary(&naming, without);
    }
    super::print_paths(std::slice::from_ref(&args.out))
}

fn summary(naming: &Naming, without: usize) {
    for round in &naming.rounds {
        eprint!("{round}");
    }
    let by = |source| {
        let all = naming.categories.iter();
        all.filter(|category| category.source == source).count()
    };
    eprintln!(
        "{} categories: {} names by the model, {} of keywords",
        naming.categories.len(),
        by(NameSource::Model),
        by(NameSource::Keyword)
    );
    if without > 0 {
        eprintln!("{without} rows without a category were left out");
    }
}

/// A row of the input.
struct Row {
    text: String,
    category: String,
    coarse: Option<String>,
}

/// Categories in the order of their first rows, and the number of rows without one.
fn categories(args: &Args) -> Result<(Vec<CategoryTexts>, usize), CliError> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut categories: Vec<(CategoryTexts, BTreeMap<String, usize>)> = Vec::new();
    let mut without = 0;
    for (number, row) in rows(args)?.into_iter().enumerate() {
        if row.category.is_empty() {
            without += 1;
            continue;
        }
        let place = *places
            .entry(row.category.clone())
            .or_insert(categories.len());
        if place == categories.len() {
            let category = CategoryTexts {
                id: row.category,
                ..CategoryTexts::default()
            };
            categories.push((category, BTreeMap::new()));
        }
        if let Some((category, coarse)) = categories.get_mut(place) {
            category.texts.push(Evidence {
                row: number,
                text: row.text,
            });
            if let Some(name) = row.coarse {
                *coarse.entry(name).or_default() += 1;
            }
        }
    }
    let categories = categories.into_iter().map(|(mut category, coarse)| {
        // The first of equally frequent ones in byte order.
        let most = coarse.into_iter().rev().max_by_key(|(_, rows)| *rows);
        category.coarse = most.map(|(name, _)| name);
        category
    });
    Ok((categories.collect(), without))
}

fn rows(args: &Args) -> Result<Vec<Row>, CliError> {
    let path = &args.input;
    let extension = path.extension().and_then(|extension| extension.to_str());
    let read: fn(&Args, &Lines<'_>) -> Result<Vec<Row>, CliError> = match extension {
        Some("tsv") => tsv,
        Some("jsonl") => jsonl,
        _ => {
            return Err(CliError::Option {
                option: "--input",
                problem: format!("{}: expected a .tsv or .jsonl file", path.display()),
            });
        }
    };
    let lines = Lines {
        path,
        lines: Texts::from_file(path)?.take(usize::MAX)?,
    };
    let rows = read(args, &lines)?;
    if rows.is_empty() {
        return Err(lines.bad(1, "the file has no rows".to_owned()));
    }
    Ok(rows)
}

/// The lines of the input.
struct Lines<'a> {
    path: &'a Path,
    lines: Vec<String>,
}

impl Lines<'_> {
    fn bad(&self, line: usize, problem: String) -> CliError {
        CliError::Line {
            origin: self.path.display().to_string(),
            line: line as u64,
            problem,
        }
    }
}

fn tsv(args: &Args, lines: &Lines<'_>) -> Result<Vec<Row>, CliError> {
    let mut all = lines.lines.iter().map(String::as_str).enumerate();
    let names: Vec<&str> = all
        .next()
        .map_or("", |(_, line)| line)
        .split('\t')
        .collect();
    let find = |name: &str| names.iter().position(|other| *other == name);
    let needed = |name: &str| {
        find(name).ok_or_else(|| {
            let known = names.join(", ");
            lines.bad(1, format!("no column `{name}`; the columns are: {known}"))
        })
    };
    let text = needed(&args.text_column)?;
    let category = needed(&args.category_column)?;
    let coarse = find(&args.coarse_column);
    all.map(|(at, line)| {
        let fields: Vec<&str> = line.split('\t').collect();
        if fields.len() != names.len() {
            let (expected, found) = (names.len(), fields.len());
            return Err(lines.bad(at + 1, format!("expected {expected} fields, found {found}")));
        }
        let field = |at: usize| fields.get(at).copied().unwrap_or_default().trim();
        Ok(Row {
            text: field(text).to_owned(),
            category: field(category).to_owned(),
            coarse: coarse
                .map(|at| field(at).to_owned())
                .filter(|name| !name.is_empty()),
        })
    })
    .collect()
}

fn jsonl(args: &Args, lines: &Lines<'_>) -> Result<Vec<Row>, CliError> {
    let mut rows = Vec::new();
    for (at, line) in lines.lines.iter().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let bad = |problem: String| lines.bad(at + 1, problem);
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(line).map_err(|error| bad(format!("no JSON object: {error}")))?;
        let label = |name: &str| match object.get(name) {
            None | Some(serde_json::Value::Null) => Ok(None),
            Some(serde_json::Value::String(text)) => Ok(Some(text.trim().to_owned())),
            Some(serde_json::Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(bad(format!("`{name}`: expected a text or a number"))),
        };
        let text = object.get(&args.text_column).and_then(|text| text.as_str());
        let text = text.ok_or_else(|| bad(format!("`{}`: expected a text", args.text_column)))?;
        if !object.contains_key(&args.category_column) {
            let known: Vec<&str> = object.keys().map(String::as_str).collect();
            let (name, known) = (&args.category_column, known.join(", "));
            return Err(bad(format!("no field `{name}`; the fields are: {known}")));
        }
        rows.push(Row {
            text: text.to_owned(),
            category: label(&args.category_column)?.unwrap_or_default(),
            coarse: label(&args.coarse_column)?.filter(|name| !name.is_empty()),
        });
    }
    Ok(rows)
}
