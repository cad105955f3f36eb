//! `asterism categories split`: k-means among the members of one category.

use std::collections::{BTreeMap, BTreeSet};

use categories::{Catalogue, CategoryId, Edit, Keyword, NameSource, SplitPart};
use clustering::{Centroids, KMeansParams};
use datagen::ClassTfIdf;
use datagen::naming::{CategoryTexts, Evidence, NamingConfig, name_by_keywords};
use ndarray::Array2;

use super::RunArgs;
use super::edit::make;
use crate::error::CliError;
use crate::output::field;
use crate::run_files::{MEMBERS, Members, VECTORS, Vectors};

/// Keywords of a part.
const KEYWORDS: usize = 10;
/// Texts of a part that are kept as evidence.
const MEDOIDS: usize = 5;

/// Make several categories of one.
///
/// Clusters the vectors of its texts by k-means. The parts get ids of their own, keywords that tell
/// them from all other categories, and names made of them; rename them afterwards. The same seed gives
/// the same parts.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArgs,
    /// Id or name.
    #[arg(value_name = "ID")]
    id: String,
    /// Number of parts.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(2..=1000))]
    into: u32,
    /// Seed of the clustering.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let store = args.run.open()?;
    let catalogue = store.catalogue();
    let id = args.run.active_id(catalogue, &args.id)?;
    let members = Members::read(&args.run.run)?;
    let vectors = Vectors::read(&args.run.run, members.len())?;
    if vectors.dim != catalogue.dim {
        return Err(CliError::Extension {
            path: args.run.run.join(VECTORS),
            field: "vectors".to_owned(),
            expected: format!("{} values a row, as in the categories", catalogue.dim),
            found: vectors.dim.to_string(),
        });
    }
    let groups = group(catalogue, &members, &vectors);
    let rows = groups.get(&id).map_or(&[][..], Vec::as_slice);
    let k = args.into as usize;
    let refuse = |found: String| CliError::Option {
        option: "--into",
        problem: format!(
            "expected at most as many parts as there are different texts, found {found}"
        ),
    };
    let different: BTreeSet<&str> = rows.iter().filter_map(|row| text(&members, *row)).collect();
    if different.len() < k {
        let count = different.len();
        return Err(refuse(format!(
            "{k} for {count} in {MEMBERS} that belong to category {id}"
        )));
    }

    let values: Vec<f32> = rows
        .iter()
        .filter_map(|row| vectors.row(*row))
        .flatten()
        .copied()
        .collect();
    let points = Array2::from_shape_vec((rows.len(), vectors.dim), values)
        .map_err(|error| refuse(error.to_string()))?;
    let found = KMeansParams::new(k).seed(args.seed).fit(points.view())?;
    let centroids = Centroids::from_clusters(points.view(), &found.labels, k)?;
    // By cosine, as whoever looks for the members of a part later does.
    let mut parts: Vec<Vec<(f32, usize)>> = vec![Vec::new(); k];
    for (row, assigned) in rows.iter().zip(centroids.assign_all(points.view())?) {
        parts[assigned.id].push((assigned.cosine, *row));
    }
    if let Some(empty) = parts.iter().position(Vec::is_empty) {
        let problem = format!("{k}, of which part {} stays empty; take fewer", empty + 1);
        return Err(refuse(problem));
    }
    for part in &mut parts {
        part.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    }
    let parts = describe(catalogue, &members, &groups, id, &parts, &centroids)?;
    let edit = Edit::Split { id, parts };
    make(&args.run, store, |store| store.apply(edit).map(|_| ()))
}

/// Rows of each category in use, ascending.
fn group(
    catalogue: &Catalogue,
    members: &Members,
    vectors: &Vectors,
) -> BTreeMap<CategoryId, Vec<usize>> {
    let mut groups: BTreeMap<CategoryId, Vec<usize>> = BTreeMap::new();
    for (row, member) in members.rows.iter().enumerate() {
        if let Some(id) = catalogue.resolve(member.category, vectors.row(row)) {
            groups.entry(id).or_default().push(row);
        }
    }
    groups
}

fn text(members: &Members, row: usize) -> Option<&str> {
    members.rows.get(row).map(|member| member.text.as_str())
}

/// Evidence and names of the parts; each has its rows with their cosines, the nearest first.
fn describe(
    catalogue: &Catalogue,
    members: &Members,
    groups: &BTreeMap<CategoryId, Vec<usize>>,
    id: CategoryId,
    parts: &[Vec<(f32, usize)>],
    centroids: &Centroids,
) -> Result<Vec<SplitPart>, CliError> {
    let own = parts
        .iter()
        .map(|part| part.iter().map(|(_, row)| *row).collect());
    let others = groups.iter().filter(|(other, _)| **other != id);
    let classes: Vec<Vec<&str>> = own
        .chain(others.map(|(_, rows)| rows.clone()))
        .map(|rows: Vec<usize>| rows.iter().filter_map(|row| text(members, *row)).collect())
        .collect();
    let words = ClassTfIdf::fit(&classes);

    let mut described = Vec::with_capacity(parts.len());
    let mut to_name = Vec::with_capacity(parts.len());
    for (at, part) in parts.iter().enumerate() {
        let keywords: Vec<Keyword> = words
            .keywords(at, KEYWORDS)
            .iter()
            .map(|keyword| Keyword {
                term: keyword.term.clone(),
                weight: keyword.weight,
            })
            .collect();
        let mut seen = BTreeSet::new();
        let typical: Vec<(usize, &str)> = part
            .iter()
            .filter_map(|(_, row)| text(members, *row).map(|text| (*row, text)))
            .filter(|(_, text)| seen.insert(*text))
            .take(MEDOIDS)
            .collect();
        to_name.push(CategoryTexts {
            id: at.to_string(),
            coarse: catalogue
                .get(id)
                .and_then(|category| category.coarse.clone()),
            texts: typical
                .iter()
                .map(|(row, text)| Evidence {
                    row: *row,
                    text: (*text).to_owned(),
                })
                .collect(),
            keywords: keywords
                .iter()
                .map(|keyword| keyword.term.clone())
                .collect(),
        });
        let sum: f64 = part.iter().map(|(cosine, _)| f64::from(*cosine)).sum();
        described.push(SplitPart {
            size: part.len(),
            centroid: centroids.vectors().row(at).to_vec(),
            keywords,
            medoids: typical.iter().map(|(_, text)| (*text).to_owned()).collect(),
            coherence: sum / part.len() as f64,
            name: String::new(),
            name_source: NameSource::Keywords,
        });
    }
    let config = NamingConfig {
        taken: catalogue
            .active()
            .map(|category| category.name.clone())
            .collect(),
        ..NamingConfig::default()
    };
    let named = name_by_keywords(&to_name, &config).map_err(|error| CliError::Option {
        option: "names",
        problem: error.to_string(),
    })?;
    for (part, named) in described.iter_mut().zip(named) {
        part.name = field(&named.name).trim().to_owned();
    }
    Ok(described)
}
