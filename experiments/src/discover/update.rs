//! More texts for a finished run: known ones join their categories, unknown ones found new ones.
//!
//! Files that change are written under temporary names first; then the edit of the catalogue is made
//! durable, which is the moment the update happens; then the files get their names. A process that
//! dies in between leaves either the old state or one that the next update sets right.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use categories::{Assigner, Catalogue, CategoryId, Edit, Event, Evidence, NewCategory, Store};
use datagen::naming::{CategoryTexts, NamedCategory};
use encoder::{LoadOptions, SentenceEncoder};
use kernels::DeviceSpec;
use ndarray::{Array2, Axis, concatenate};
use serde::{Deserialize, Serialize};
use training::{Streams, stream};

use super::error::DiscoverError;
use super::evidence::{Described, Members, describe};
use super::files::{self, Member, Pooled};
use super::input::{TEST, Text, Texts};
use super::map::Map;
use super::partition::{Class, partition};
use super::run::{Step, source};
use super::settings::{Criterion, DiscoverConfig};
use super::staging::{EXPERIMENT, no_json};
use super::vectors::{dot, encode, select};
use crate::error::RunError;
use crate::result::write_atomic;

/// Says that files under temporary names belong to an edit.
const MARKER: &str = "update.json";
/// Files that an update replaces.
const REPLACED: [&str; 4] = [files::MEMBERS, files::VECTORS, files::MAP, files::POOL];
/// Ending of the temporary names.
const NEXT: &str = "next";

/// What an update is asked for.
pub struct UpdateRequest<'a> {
    /// A finished run.
    pub run: PathBuf,
    /// The new texts.
    pub texts: Texts,
    /// Smallest new category; `None`: as the run was made.
    pub min_size: Option<usize>,
    /// How the number of new categories is estimated; `None`: as the run was made.
    pub estimate: Option<Criterion>,
    /// Device of the encoder.
    pub device: DeviceSpec,
    /// Is told what happens.
    pub progress: &'a mut dyn FnMut(Step<'_>),
}

/// An update whose new categories have no names yet.
#[derive(Debug)]
pub struct Updating {
    run: PathBuf,
    config: DiscoverConfig,
    store: Store,
    members: Vec<Member>,
    vectors: Array2<f32>,
    /// Category of each member, by place in `categories`; `None` for members of nothing.
    places: Vec<Option<usize>>,
    /// Active categories, then the new ones.
    categories: Vec<Described>,
    /// Ids of the active ones.
    active: Vec<CategoryId>,
    grown: BTreeSet<usize>,
    pool: Vec<Pooled>,
    summary: UpdateSummary,
}

/// What an update did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UpdateSummary {
    /// The run.
    pub run: PathBuf,
    /// Texts that the run had already, and repeats.
    pub seen: usize,
    /// Texts that joined a category.
    pub joined: usize,
    /// Texts that founded new categories.
    pub founding: usize,
    /// Texts that wait for more of their kind.
    pub waiting: usize,
    /// Old categories that grew.
    pub grown: usize,
    /// Ids of the new categories.
    pub born: Vec<CategoryId>,
    /// Revision of the catalogue.
    pub revision: u64,
}

/// The file that says which edit temporary files belong to.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    /// Revision that the edit leads to.
    revision: u64,
}

/// A text that is looked for a place for.
struct Candidate {
    text: Text,
    /// Row of a member whose category was withdrawn.
    row: Option<usize>,
}

/// Assigns new texts and clusters those that are unknown.
///
/// # Errors
/// A directory that is no finished run, is being edited, or was made by another model; data that
/// cannot be used.
pub fn update(request: UpdateRequest<'_>) -> Result<Updating, DiscoverError> {
    let UpdateRequest {
        run,
        texts,
        min_size,
        estimate,
        device,
        progress,
    } = request;
    texts.check()?;
    let mut config = read_config(&run)?;
    config.min_size = min_size.unwrap_or(config.min_size);
    config.estimate = estimate.unwrap_or(config.estimate);
    // Numbers that were given for the first texts say nothing about new ones.
    (config.k, config.k_of) = (0, BTreeMap::new());
    config.check()?;
    let store = Store::open(&run)?;
    for healed in store.healed() {
        progress(Step::Say(&healed.to_string()));
    }
    settle(&run, &store)?;
    let catalogue = store.catalogue().clone();
    if catalogue.coarse_names.is_empty() && texts.has_coarse {
        return Err(DiscoverError::Option {
            option: "--coarse",
            problem: format!("{} was made without coarse labels", run.display()),
        });
    }
    let members: Vec<Member> = files::read_json_lines(&run.join(files::MEMBERS))?;
    let vectors = files::read_vectors(&run.join(files::VECTORS), members.len(), catalogue.dim)?;
    let pool_path = run.join(files::POOL);
    let old_pool: Vec<Pooled> = if pool_path.exists() {
        files::read_json_lines(&pool_path)?
    } else {
        Vec::new()
    };

    let active: Vec<CategoryId> = catalogue.active().map(|category| category.id).collect();
    let place_of = |id: CategoryId| active.binary_search(&id).ok();
    let places: Vec<Option<usize>> = members
        .iter()
        .zip(vectors.outer_iter())
        .map(|(member, vector)| place_of(catalogue.resolve(member.category, vector.to_slice())?))
        .collect();

    let (candidates, seen) = candidates(&members, &places, &old_pool, texts);
    let mut updating = Updating {
        summary: UpdateSummary {
            run: run.clone(),
            seen,
            waiting: old_pool.len(),
            revision: catalogue.revision,
            ..UpdateSummary::default()
        },
        run,
        config,
        store,
        members,
        vectors,
        places,
        categories: Vec::new(),
        active,
        grown: BTreeSet::new(),
        pool: old_pool,
    };
    if candidates.iter().all(|candidate| candidate.1) {
        // Nothing but texts that waited before.
        return Ok(updating);
    }
    let candidates: Vec<Candidate> = candidates
        .into_iter()
        .map(|(candidate, _)| candidate)
        .collect();
    updating.place(candidates, &catalogue, device, progress)?;
    Ok(updating)
}

/// Texts without a category: new ones, those that wait, members of withdrawn categories. The flag says
/// that nothing about a text is new. Also the number of texts that were there already.
fn candidates(
    members: &[Member],
    places: &[Option<usize>],
    pool: &[Pooled],
    texts: Texts,
) -> (Vec<(Candidate, bool)>, usize) {
    let mut known: BTreeSet<(String, Option<String>)> = BTreeSet::new();
    let mut candidates = Vec::new();
    for ((row, member), place) in members.iter().enumerate().zip(places) {
        let key = (member.text.clone(), member.coarse.clone());
        if known.insert(key) && place.is_none() {
            let text = Text {
                text: member.text.clone(),
                coarse: member.coarse.clone(),
                fine: member.fine.clone(),
                split: "",
            };
            candidates.push((
                Candidate {
                    text,
                    row: Some(row),
                },
                true,
            ));
        }
    }
    for pooled in pool {
        if known.insert((pooled.text.clone(), pooled.coarse.clone())) {
            let text = Text {
                text: pooled.text.clone(),
                coarse: pooled.coarse.clone(),
                fine: pooled.fine.clone(),
                split: "",
            };
            candidates.push((Candidate { text, row: None }, true));
        }
    }
    let mut seen = 0;
    for text in texts.rows {
        if known.insert((text.text.clone(), text.coarse.clone())) {
            candidates.push((Candidate { text, row: None }, false));
        } else {
            seen += 1;
        }
    }
    (candidates, seen)
}

impl Updating {
    fn place(
        &mut self,
        candidates: Vec<Candidate>,
        catalogue: &Catalogue,
        device: DeviceSpec,
        progress: &mut dyn FnMut(Step<'_>),
    ) -> Result<(), DiscoverError> {
        let model = load_model(&self.run, catalogue, device)?;
        let texts: Vec<&str> = candidates.iter().map(|c| c.text.text.as_str()).collect();
        let found = encode(&model, &texts, self.config.batch_size, |done, of| {
            progress(Step::At {
                what: "encoding texts",
                done,
                of,
            });
        })?;

        // Known texts join, the others are gathered by coarse class.
        let assigner = Assigner::new(catalogue)?;
        let mut home: Vec<Option<usize>> = vec![None; candidates.len()];
        let mut unknown: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
        for (at, (candidate, vector)) in candidates.iter().zip(found.outer_iter()).enumerate() {
            let vector = vector.to_slice().unwrap_or_default();
            let coarse = candidate.text.coarse.as_deref();
            let assigned = match coarse {
                None => Some(assigner.assign(vector)?),
                // A class that the catalogue does not know, or that lost its categories.
                Some(name) => match assigner.gate(name) {
                    Ok(gate) => Some(assigner.assign_in(vector, gate)?),
                    Err(_) => None,
                },
            };
            match assigned.filter(|assigned| !assigned.unknown) {
                Some(assigned) => home[at] = self.active.binary_search(&assigned.id).ok(),
                None => unknown.entry(coarse).or_default().push(at),
            }
        }
        self.grown = home.iter().flatten().copied().collect();
        self.summary.joined = home.iter().flatten().count();
        self.summary.grown = self.grown.len();

        let mut new: Vec<Option<String>> = Vec::new();
        let threshold = catalogue
            .calibration
            .as_ref()
            .map_or(-1.0, |c| f64::from(c.threshold));
        let seed = Streams::new(self.config.seed).seed(stream::CLUSTERING, &[catalogue.revision]);
        for (coarse, rows) in unknown {
            let different: BTreeSet<&str> = rows.iter().map(|at| texts[*at]).collect();
            if different.len() < self.config.min_size {
                continue;
            }
            let class = Class {
                coarse: coarse.map(str::to_owned),
                rows,
                different: different.len(),
            };
            let parts = partition(found.view(), class, None, &self.config, seed)?;
            for label in 0..parts.k {
                let labelled = parts.class.rows.iter().zip(&parts.labels);
                let rows: Vec<usize> = labelled
                    .filter(|(_, own)| **own == label)
                    .map(|(row, _)| *row)
                    .collect();
                if rows.len() >= self.config.min_size && coherence(&found, &rows) >= threshold {
                    let place = self.active.len() + new.len();
                    for at in &rows {
                        home[*at] = Some(place);
                    }
                    self.summary.founding += rows.len();
                    new.push(parts.class.coarse.clone());
                }
            }
        }

        // Members, old rows first; what has no home waits.
        let split = format!("update-{}", catalogue.revision + 1);
        let mut rows_of_vectors = Vec::new();
        self.pool.clear();
        for (at, (candidate, home)) in candidates.iter().zip(&home).enumerate() {
            let Text {
                text, coarse, fine, ..
            } = &candidate.text;
            match (candidate.row, home) {
                (Some(row), home) => {
                    self.places[row] = *home;
                    if home.is_some() {
                        self.members[row].split.clone_from(&split);
                    }
                }
                (None, None) => self.pool.push(Pooled {
                    text: text.clone(),
                    coarse: coarse.clone(),
                    fine: fine.clone(),
                }),
                (None, Some(_)) => {
                    rows_of_vectors.push(at);
                    self.places.push(*home);
                    self.members.push(Member {
                        row: self.members.len(),
                        text: text.clone(),
                        coarse: coarse.clone(),
                        // The id of a new category is known when it is born.
                        category: CategoryId::default(),
                        cosine: 0.0,
                        fine: fine.clone(),
                        split: split.clone(),
                    });
                }
            }
        }
        self.summary.waiting = self.pool.len();
        let added = select(found.view(), &rows_of_vectors);
        self.vectors = concatenate(Axis(0), &[self.vectors.view(), added.view()])
            .map_err(|error| RunError::Data(format!("vectors: {error}")))?;

        let coarse = catalogue.active().map(|category| category.coarse.clone());
        let coarse: Vec<Option<String>> = coarse.chain(new).collect();
        let mut all: Vec<Members> = coarse
            .into_iter()
            .map(|coarse| Members {
                coarse,
                rows: Vec::new(),
            })
            .collect();
        for ((row, member), place) in self.members.iter().enumerate().zip(&self.places) {
            if member.split != TEST
                && let Some(category) = place.and_then(|place| all.get_mut(place))
            {
                category.rows.push(row);
            }
        }
        let texts: Vec<&str> = self
            .members
            .iter()
            .map(|member| member.text.as_str())
            .collect();
        self.categories = describe_filled(&self.vectors, &texts, all, self.config.keywords)?;
        Ok(())
    }

    /// The new categories, for whoever names them; names of the others are
    /// [`taken`](Self::taken).
    pub fn to_name(&self) -> Vec<CategoryTexts> {
        let texts: Vec<&str> = self
            .members
            .iter()
            .map(|member| member.text.as_str())
            .collect();
        let new = self.categories.iter().enumerate().skip(self.active.len());
        new.map(|(place, category)| category.to_name(place.to_string(), &texts))
            .collect()
    }

    /// Names in use.
    pub fn taken(&self) -> Vec<String> {
        self.store
            .catalogue()
            .active()
            .map(|category| category.name.clone())
            .collect()
    }

    /// What the update will do; ids of new categories are not known yet.
    pub fn summary(&self) -> &UpdateSummary {
        &self.summary
    }

    /// Makes the update, with the names given for the new categories in the order of
    /// [`to_name`](Self::to_name).
    ///
    /// # Errors
    /// Files that cannot be written, names that are missing or taken.
    pub fn finish(mut self, names: &[NamedCategory]) -> Result<UpdateSummary, DiscoverError> {
        let new = self.categories.len().saturating_sub(self.active.len());
        if names.len() != new {
            let problem = format!("expected {new} names, found {}", names.len());
            return Err(RunError::Data(problem).into());
        }
        if self.grown.is_empty() && new == 0 {
            // Texts may wait all the same.
            let bytes = files::json_lines(&self.pool)?;
            if !self.pool.is_empty() {
                write_atomic(&self.run.join(files::POOL), &bytes)?;
            }
            return Ok(self.summary);
        }
        let catalogue = self.store.catalogue().clone();
        let first = catalogue
            .categories
            .last()
            .map_or(0, |category| category.id.0 + 1);
        let ids: Vec<CategoryId> = self
            .active
            .iter()
            .copied()
            .chain((first..).take(new).map(CategoryId))
            .collect();
        let split = format!("update-{}", catalogue.revision + 1);
        for ((member, place), vector) in self
            .members
            .iter_mut()
            .zip(&self.places)
            .zip(self.vectors.outer_iter())
        {
            let Some(place) = place.filter(|_| member.split == split) else {
                continue;
            };
            if let (Some(id), Some(category)) = (ids.get(place), self.categories.get(place)) {
                member.category = *id;
                let cosine = dot(vector.to_slice().unwrap_or_default(), &category.centroid);
                member.cosine = cosine.clamp(-1.0, 1.0) as f32;
            }
        }
        let texts: Vec<&str> = self
            .members
            .iter()
            .map(|member| member.text.as_str())
            .collect();
        let medoids = self.config.medoids;
        let changed = self.grown.iter().filter_map(|place| {
            let category = self.categories.get(*place)?;
            Some(Evidence {
                id: *ids.get(*place)?,
                size: category.rows.len(),
                coherence: category.coherence,
                keywords: category.keywords.clone(),
                medoids: category.medoids(&texts, medoids),
                centroid: category.centroid.clone(),
            })
        });
        let born = self.categories.iter().skip(self.active.len()).zip(names);
        let born = born.map(|(category, named)| NewCategory {
            name: named.name.clone(),
            name_source: source(named.source),
            coarse: category.coarse.clone(),
            keywords: category.keywords.clone(),
            medoids: category.medoids(&texts, medoids),
            size: category.rows.len(),
            coherence: category.coherence,
            centroid: category.centroid.clone(),
        });
        let edit = Edit::Update {
            changed: changed.collect(),
            born: born.collect(),
            model_sha256: None,
        };
        self.prepare(catalogue.revision + 1)?;
        let revision = self.store.apply(edit)?.revision;
        settle(&self.run, &self.store)?;
        self.summary.revision = revision;
        self.summary.born = ids.into_iter().skip(self.active.len()).collect();
        Ok(self.summary)
    }

    /// Writes what changes under temporary names.
    fn prepare(&self, revision: u64) -> Result<(), DiscoverError> {
        let write = |name: &str, bytes: &[u8]| -> Result<(), DiscoverError> {
            Ok(write_atomic(&next(&self.run, name), bytes)?)
        };
        write(files::MEMBERS, &files::json_lines(&self.members)?)?;
        write(
            files::VECTORS,
            &files::vectors_to_bytes(self.vectors.view())?,
        )?;
        write(files::POOL, &files::json_lines(&self.pool)?)?;
        let map: Option<Map> = files::read_map(&self.run.join(files::MAP))?;
        if let Some(mut map) = map {
            let rows: Vec<usize> =
                (map.rows.min(self.vectors.nrows())..self.vectors.nrows()).collect();
            let old: Vec<usize> = (0..map.rows.min(self.vectors.nrows())).collect();
            map.extend(
                select(self.vectors.view(), &old).view(),
                select(self.vectors.view(), &rows).view(),
            );
            write(files::MAP, &serde_json::to_vec(&map).map_err(no_json)?)?;
        }
        let marker = serde_json::to_vec(&Marker { revision }).map_err(no_json)?;
        Ok(write_atomic(&self.run.join(MARKER), &marker)?)
    }
}

/// Describes the categories that have members; the others get no evidence.
fn describe_filled(
    vectors: &Array2<f32>,
    texts: &[&str],
    members: Vec<Members>,
    keywords: usize,
) -> Result<Vec<Described>, DiscoverError> {
    let dim = vectors.ncols();
    let filled: Vec<bool> = members
        .iter()
        .map(|members| !members.rows.is_empty())
        .collect();
    let coarse: Vec<Option<String>> = members.iter().map(|m| m.coarse.clone()).collect();
    let some = members
        .into_iter()
        .filter(|members| !members.rows.is_empty())
        .collect();
    let mut described = describe(vectors.view(), texts, some, keywords)?.into_iter();
    let empty = |coarse: Option<String>| Described {
        coarse,
        rows: Vec::new(),
        centroid: vec![0.0; dim],
        coherence: 0.0,
        typical: Vec::new(),
        keywords: Vec::new(),
    };
    Ok(filled
        .into_iter()
        .zip(coarse)
        .map(|(filled, coarse)| {
            let next = if filled { described.next() } else { None };
            next.unwrap_or_else(|| empty(coarse))
        })
        .collect())
}

/// Mean cosine of rows to their centre.
fn coherence(vectors: &Array2<f32>, rows: &[usize]) -> f64 {
    let own = select(vectors.view(), rows);
    let Some(centre) = super::vectors::mean_direction(own.view()) else {
        return -1.0;
    };
    let cosines = own
        .outer_iter()
        .map(|vector| dot(vector.to_slice().unwrap_or_default(), &centre));
    cosines.sum::<f64>() / rows.len().max(1) as f64
}

fn next(run: &Path, name: &str) -> PathBuf {
    run.join(format!("{name}.{NEXT}"))
}

/// Gives prepared files their names if the edit they belong to was made, and removes them otherwise.
fn settle(run: &Path, store: &Store) -> Result<(), DiscoverError> {
    let path = run.join(MARKER);
    let made = match std::fs::read(&path) {
        Ok(bytes) => {
            let marker: Marker =
                serde_json::from_slice(&bytes).map_err(|error| DiscoverError::NoRun {
                    path: path.clone(),
                    problem: error.to_string(),
                })?;
            let entry = store
                .log()
                .iter()
                .find(|entry| entry.revision == marker.revision);
            entry.is_some_and(|entry| matches!(entry.event, Event::Updated { .. }))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(DiscoverError::file("read", path)(error)),
    };
    for name in REPLACED {
        let prepared = next(run, name);
        if !prepared.exists() {
            continue;
        }
        if made {
            let target = run.join(name);
            std::fs::rename(&prepared, &target).map_err(DiscoverError::file("replace", target))?;
        } else {
            std::fs::remove_file(&prepared).map_err(DiscoverError::file("remove", prepared))?;
        }
    }
    if path.exists() {
        std::fs::remove_file(&path).map_err(DiscoverError::file("remove", path))?;
    }
    Ok(())
}

/// Settings of a finished run.
fn read_config(run: &Path) -> Result<DiscoverConfig, DiscoverError> {
    let wrong = |path: PathBuf, problem: String| DiscoverError::NoRun { path, problem };
    let path = run.join("manifest.json");
    let manifest = std::fs::read(&path).map_err(|error| wrong(path.clone(), error.to_string()))?;
    let manifest: training::RunManifest = serde_json::from_slice(&manifest)
        .map_err(|error| wrong(path.clone(), error.to_string()))?;
    if manifest.experiment != EXPERIMENT {
        return Err(wrong(path, format!("a run of `{}`", manifest.experiment)));
    }
    let path = run.join("config.toml");
    let text =
        std::fs::read_to_string(&path).map_err(|error| wrong(path.clone(), error.to_string()))?;
    toml::from_str(&text).map_err(|error| wrong(path, error.to_string()))
}

/// The encoder of the run.
fn load_model(
    run: &Path,
    catalogue: &Catalogue,
    device: DeviceSpec,
) -> Result<SentenceEncoder, DiscoverError> {
    let path = run.join(files::MODEL);
    let found = SentenceEncoder::weights_hash(&path)?;
    if found != catalogue.model_sha256 {
        return Err(DiscoverError::OtherModel {
            path,
            expected: catalogue.model_sha256.clone(),
            found,
        });
    }
    Ok(SentenceEncoder::load(
        &path,
        &LoadOptions::default(),
        &device.open()?,
    )?)
}

impl fmt::Display for UpdateSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            joined,
            founding,
            waiting,
            seen,
            grown,
            ..
        } = self;
        if joined + founding == 0 {
            writeln!(
                f,
                "nothing new: {seen} texts are there already, {waiting} wait for more of their kind"
            )?;
        } else {
            writeln!(
                f,
                "{joined} texts joined {grown} categories, {founding} founded {} new ones, {waiting} wait for more of \
                 their kind, {seen} were there already",
                self.born.len()
            )?;
        }
        writeln!(f, "{}: revision {}", self.run.display(), self.revision)
    }
}
