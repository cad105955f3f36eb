//! `asterism explore`: the texts of a run on a map, as one HTML file.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use categories::{Assigner, Catalogue, CategoryId, NameSource, Store};
use clap::ValueEnum;
use clustering::TsneParams;
use experiments::result::write_atomic;
use explorer::{Category, Comparison, Counterpart, Explorer, Place, Point, align};
use indicatif::{ProgressBar, ProgressStyle};
use ndarray::ArrayView2;
use training::{Streams, shuffle, stream};

use crate::error::CliError;
use crate::output::Output;
use crate::run_files::{MEMBERS, MapFile, Member, Members, VECTORS, Vectors};

/// File that is written without --out, in the run directory.
const PAGE: &str = "explorer.html";
/// Catalogue of a run, for messages.
const CATALOGUE: &str = "categories.json";

/// Draw a map of the texts of a run with its categories, as one HTML file.
///
/// The page needs no network and no server. It shows the texts as points, the categories with their
/// keywords, typical texts and neighbours; it searches, selects, renames, merges, and saves edits as a
/// list for `asterism categories apply`. Prints the path of the file.
///
/// Places come from map.json of the run if it has one for every text, else from t-SNE.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run directory of `asterism discover`.
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// File to write; without it, explorer.html in the run directory.
    #[arg(long, short, value_name = "FILE.html")]
    out: Option<PathBuf>,
    /// Another run with the same texts, to see which of them moved.
    #[arg(long, value_name = "RUN2")]
    compare: Option<PathBuf>,
    /// Most texts on the page; of more, this many are drawn at random.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = crate::model::positive)]
    rows: usize,
    /// Seed of the draw and of t-SNE.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Open the page in the browser.
    #[arg(long, value_enum, default_value_t = Open::No)]
    open: Open,
}

/// Whether the page is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Open {
    Yes,
    No,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let catalogue = catalogue(&args.run)?;
    let map = RunMap::load(&args.run, args.rows, args.seed)?;
    let comparison = match &args.compare {
        Some(other) => Some(map.compare(other)?),
        None => None,
    };
    let page = map.page(&catalogue, comparison, Place::File)?;
    let out = args.out.unwrap_or_else(|| args.run.join(PAGE));
    write_atomic(&out, page.as_bytes())?;
    let mut output = Output::stdout();
    output.line(out.display())?;
    output.flush()?;
    if args.open == Open::Yes {
        open(&out);
    }
    Ok(())
}

/// The texts of a run with their places, ready to be shown with any state of its categories.
#[derive(Debug)]
pub(crate) struct RunMap {
    dir: PathBuf,
    /// Texts of the whole run, in its order, for comparisons.
    all: Vec<String>,
    /// Texts of the page.
    placed: Vec<Placed>,
    dim: usize,
}

/// A text of the page.
#[derive(Debug)]
struct Placed {
    member: Member,
    vector: Vec<f32>,
    x: f32,
    y: f32,
}

impl RunMap {
    /// Reads the texts of the run directory `dir` and places at most `rows` of them.
    ///
    /// # Errors
    /// A file is missing or broken, or does not fit the others.
    pub(crate) fn load(dir: &Path, rows: usize, seed: u64) -> Result<Self, CliError> {
        let members = Members::read(dir)?;
        let total = members.len();
        let vectors = Vectors::read(dir, total)?;
        let map = MapFile::read(dir)?.filter(|map| {
            let fits = map.fits(total);
            if !fits {
                eprintln!("map.json has not one place for each of the {total} texts; drawing anew");
            }
            fits
        });
        let mut chosen: Vec<usize> = (0..total).collect();
        if rows < total {
            eprintln!("showing {rows} of {total} texts, drawn at random; more with --rows");
            let mut rng = Streams::new(seed).rng(stream::PROJECTION, &[]);
            chosen = shuffle(total, &mut rng).into_iter().take(rows).collect();
            chosen.sort_unstable();
        }
        let places: Vec<(f32, f32)> = match map {
            Some(map) => map.x.into_iter().zip(map.y).collect(),
            None => {
                let mut places = vec![(0.0, 0.0); total];
                for (row, place) in chosen.iter().zip(draw(&vectors, &chosen, seed)?) {
                    if let Some(slot) = places.get_mut(*row) {
                        *slot = place;
                    }
                }
                places
            }
        };
        let mut shown = vec![false; total];
        for row in chosen {
            if let Some(slot) = shown.get_mut(row) {
                *slot = true;
            }
        }
        let all = members
            .rows
            .iter()
            .map(|member| member.text.clone())
            .collect();
        let placed = members
            .rows
            .into_iter()
            .zip(vectors.values().chunks_exact(vectors.dim))
            .zip(places)
            .zip(shown)
            .filter(|(_, shown)| *shown)
            .map(|(((member, vector), (x, y)), _)| Placed {
                member,
                vector: vector.to_vec(),
                x,
                y,
            })
            .collect();
        Ok(Self {
            dir: dir.to_owned(),
            all,
            placed,
            dim: vectors.dim,
        })
    }

    /// What another run made of these texts.
    fn compare(&self, other: &Path) -> Result<Comparison, CliError> {
        let catalogue = catalogue(other)?;
        let members = Members::read(other)?;
        let vectors = Vectors::read(other, members.len())?;
        let finder = Finder::new(other, &catalogue, vectors.dim)?;
        let theirs = members.rows.iter().map(|member| member.text.as_str());
        let aligned = align(self.all.iter().map(String::as_str), theirs);
        let mut category = Vec::with_capacity(self.placed.len());
        for placed in &self.placed {
            let theirs = aligned.get(placed.member.row).copied().flatten();
            let found = theirs.and_then(|row| members.rows.get(row).zip(vectors.row(row)));
            category.push(match found {
                Some((member, vector)) => Some(finder.find(member, vector)?.0),
                None => None,
            });
        }
        let common = category.iter().flatten().count();
        if common == 0 {
            return Err(CliError::Option {
                option: "--compare",
                problem: format!(
                    "expected a run with the same texts, found none of them in {}",
                    other.display()
                ),
            });
        }
        eprintln!("{common} of {} texts are in both runs", self.placed.len());
        Ok(Comparison {
            title: name(other),
            categories: catalogue
                .active()
                .map(|category| Counterpart {
                    id: category.id.0,
                    name: category.name.clone(),
                    coarse: category.coarse.clone(),
                })
                .collect(),
            category,
        })
    }

    /// The page with the categories as they are in `catalogue`.
    ///
    /// # Errors
    /// A text has a category that the catalogue never had, or vectors and catalogue differ in width.
    pub(crate) fn page(
        &self,
        catalogue: &Catalogue,
        comparison: Option<Comparison>,
        place: Place,
    ) -> Result<String, CliError> {
        let finder = Finder::new(&self.dir, catalogue, self.dim)?;
        let mut points = Vec::with_capacity(self.placed.len());
        for placed in &self.placed {
            let member = &placed.member;
            points.push(Point {
                x: placed.x,
                y: placed.y,
                text: member.text.clone(),
                category: finder.find(member, &placed.vector)?.0,
                coarse: member.coarse.clone(),
                fine: member.fine.clone(),
                split: Some(member.split.clone()),
            });
        }
        let explorer = Explorer {
            title: name(&self.dir),
            revision: catalogue.revision,
            next_id: catalogue
                .categories
                .last()
                .map_or(0, |last| last.id.0.saturating_add(1)),
            total: self.all.len(),
            points,
            categories: catalogue.active().map(describe).collect(),
            comparison,
        };
        Ok(explorer.page(place)?)
    }
}

/// Finds the category in use of a text.
pub(crate) struct Finder<'a> {
    dir: &'a Path,
    catalogue: &'a Catalogue,
    assigner: Assigner,
}

impl<'a> Finder<'a> {
    /// For vectors of length `dim`.
    pub(crate) fn new(
        dir: &'a Path,
        catalogue: &'a Catalogue,
        dim: usize,
    ) -> Result<Self, CliError> {
        if catalogue.dim != dim {
            return Err(CliError::Extension {
                path: dir.join(VECTORS),
                field: "vectors".to_owned(),
                expected: format!("{} columns, as {CATALOGUE} has", catalogue.dim),
                found: dim.to_string(),
            });
        }
        Ok(Self {
            dir,
            catalogue,
            assigner: Assigner::new(catalogue)?,
        })
    }

    /// What assigns vectors to the categories in use.
    pub(crate) fn assigner(&self) -> &Assigner {
        &self.assigner
    }

    /// The category in use of a text.
    pub(crate) fn find(&self, member: &Member, vector: &[f32]) -> Result<CategoryId, CliError> {
        if let Some(id) = self.catalogue.resolve(member.category, Some(vector)) {
            return Ok(id);
        }
        if self.catalogue.get(member.category).is_some() {
            // Its category went with an update that was undone.
            return Ok(self.assigner.assign(vector)?.id);
        }
        Err(CliError::Extension {
            path: self.dir.join(MEMBERS),
            field: format!("line {}: category", member.row + 1),
            expected: format!("an id of {CATALOGUE}"),
            found: member.category.to_string(),
        })
    }
}

/// The catalogue of a run as it is now.
pub(crate) fn catalogue(dir: &Path) -> Result<Catalogue, CliError> {
    if !dir.join(CATALOGUE).is_file() {
        return Err(CliError::NoRun {
            path: dir.to_owned(),
            missing: CATALOGUE,
        });
    }
    Ok(Store::read(dir)?.catalogue)
}

/// A category in the words of the page.
fn describe(category: &categories::Category) -> Category {
    Category {
        id: category.id.0,
        name: category.name.clone(),
        named_by_hand: category.name_source == NameSource::Human,
        coarse: category.coarse.clone(),
        keywords: category
            .keywords
            .iter()
            .map(|keyword| (keyword.term.clone(), keyword.weight))
            .collect(),
        medoids: category.medoids.clone(),
        size: category.size,
        coherence: Some(category.coherence),
        nearest: category
            .nearest
            .iter()
            .map(|near| (near.id.0, near.cosine))
            .collect(),
    }
}

/// Places of some rows by t-SNE.
fn draw(vectors: &Vectors, rows: &[usize], seed: u64) -> Result<Vec<(f32, f32)>, CliError> {
    // Fewer have no neighbourhoods to keep.
    if rows.len() < 4 {
        return Ok((0..rows.len()).map(|row| (row as f32, 0.0)).collect());
    }
    let chosen: Vec<f32> = rows
        .iter()
        .filter_map(|row| vectors.row(*row))
        .flatten()
        .copied()
        .collect();
    let points = ArrayView2::from_shape((rows.len(), vectors.dim), &chosen).map_err(|error| {
        CliError::Option {
            option: "--rows",
            problem: error.to_string(),
        }
    })?;
    eprintln!("drawing a map of {} texts", rows.len());
    let started = Instant::now();
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} t-SNE, {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut params = TsneParams::for_points(rows.len());
    params.seed = seed;
    let map = params.fit(points);
    bar.finish_and_clear();
    let map = map?;
    eprintln!("drawn in {:.0} s", started.elapsed().as_secs_f64());
    Ok(map
        .embedding
        .outer_iter()
        .map(|place| (place[0], place[1]))
        .collect())
}

/// Name of a run: that of its folder.
fn name(dir: &Path) -> String {
    let folder = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    folder.file_name().map_or_else(
        || dir.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Hands the page to the system's browser. The page is there either way, so that a failure is only said.
fn open(page: &Path) {
    let program = if cfg!(target_os = "macos") {
        "open"
    } else if cfg!(target_os = "windows") {
        "explorer"
    } else {
        "xdg-open"
    };
    let started = Command::new(program)
        .arg(page)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = started {
        eprintln!("cannot open the page with {program}: {error}");
    }
}
