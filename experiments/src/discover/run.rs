//! A discovery: vectors, categories, evidence, threshold, run directory.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use categories::{Calibration, Catalogue, Category, Status, Store};
use clustering::majority;
use datagen::naming::{CategoryTexts, NameSource, NamedCategory};
use encoder::{LoadOptions, SentenceEncoder};
use kernels::DeviceSpec;
use metrics::{adjusted_rand_index, clustering_accuracy, normalized_mutual_information};
use ndarray::Array2;
use serde::Serialize;
use serde_json::json;
use training::{RunManifest, StopFlag, Streams, peak_rss_mb, stream};

use super::error::DiscoverError;
use super::evidence::{Described, Members, describe, id, matrix};
use super::files::{self, Member};
use super::input::{TEST, TRAIN, Texts};
use super::map::Map;
use super::partition::{Curve, Partition, classes, estimate, given_k, partition};
use super::report;
use super::settings::{DiscoverConfig, Mode};
use super::staging::{EXPERIMENT, Staging, check_target, manifest, no_json};
use super::threshold::{Labelled, measure};
use super::trained;
use super::vectors::{dot, encode};
use crate::config::to_toml;
use crate::error::RunError;
use crate::result::{CategoryRow, DataInfo, ResultFile, Row, Timing, summarise};

/// What a discovery is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Something a person should know.
    Say(&'a str),
    /// Work of which a part is done.
    At {
        /// What is counted, such as `encoding texts`.
        what: &'static str,
        /// Done.
        done: usize,
        /// In all.
        of: usize,
    },
}

/// What a discovery is asked for.
pub struct Request<'a> {
    /// Settings.
    pub config: DiscoverConfig,
    /// The texts.
    pub texts: Texts,
    /// Directory to make.
    pub out: PathBuf,
    /// Command line, for the manifest.
    pub command: Vec<String>,
    /// Print nothing of the training.
    pub quiet: bool,
    /// Request to stop a training.
    pub stop: &'a StopFlag,
    /// Is told what happens.
    pub progress: &'a mut dyn FnMut(Step<'_>),
}

/// Categories without names.
#[derive(Debug)]
pub struct Found {
    config: DiscoverConfig,
    texts: Texts,
    staging: Staging,
    manifest: RunManifest,
    model: SentenceEncoder,
    model_name: String,
    vectors: Array2<f32>,
    partitions: Vec<Partition>,
    categories: Vec<Described>,
    /// Place of each text's category.
    assigned: Vec<usize>,
    calibration: Option<Calibration>,
    timing: Vec<Timing>,
    began: Instant,
}

/// How many categories a class has, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassSummary {
    /// Coarse label; `None` for all texts together.
    pub coarse: Option<String>,
    /// Texts.
    pub texts: usize,
    /// Categories.
    pub categories: usize,
    /// Criterion of the estimate; `None` where K was given or there was nothing to estimate.
    pub criterion: Option<&'static str>,
    /// What the estimate was read from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<Curve>,
}

/// What a discovery or an update did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Directory of the run.
    pub out: PathBuf,
    /// Texts.
    pub texts: usize,
    /// Categories in use.
    pub categories: usize,
    /// Classes with their numbers of categories.
    pub classes: Vec<ClassSummary>,
    /// Scores against fine labels, where there are some.
    pub scores: Vec<CategoryRow>,
    /// Cosine below which a text is unknown.
    pub threshold: Option<f32>,
    /// Wall time in seconds.
    pub seconds: f64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            |class: &ClassSummary| class.coarse.clone().unwrap_or(files::ALL_TEXTS.to_owned());
        let width = self
            .classes
            .iter()
            .map(|class| name(class).chars().count())
            .max()
            .unwrap_or(0);
        for class in &self.classes {
            writeln!(
                f,
                "{:<width$}  {:>7} texts  {:>4} categories  {}",
                name(class),
                class.texts,
                class.categories,
                class.criterion.map_or("", |_| "estimated")
            )?;
        }
        for row in &self.scores {
            let percent = |value: Option<f64>| 100.0 * value.unwrap_or(f64::NAN);
            writeln!(
                f,
                "{}, against fine labels: ACC {:.2}  ARI {:.2}  NMI {:.2}",
                row.split,
                percent(row.acc),
                percent(row.ari),
                percent(row.nmi)
            )?;
        }
        if let Some(threshold) = self.threshold {
            writeln!(f, "a text is unknown below cosine {threshold:.3}")?;
        }
        writeln!(
            f,
            "{} categories of {} texts in {} ({:.0} s)",
            self.categories,
            self.texts,
            self.out.display(),
            self.seconds
        )
    }
}

/// Makes vectors, clusters them and collects the evidence.
///
/// # Errors
/// Settings or data that cannot be; a model that cannot be loaded; [`RunError::Interrupted`] during
/// a training.
pub fn find(request: Request<'_>) -> Result<Found, DiscoverError> {
    let began = Instant::now();
    let Request {
        config,
        texts,
        out,
        command,
        quiet,
        stop,
        progress,
    } = request;
    config.check()?;
    texts.check()?;
    check_target(&out)?;
    if config.mode == Mode::Trained {
        trained::check(&texts)?;
    }
    let train: Vec<usize> = rows_of(&texts, TRAIN);
    let groups = classes(
        train.iter().filter_map(|row| {
            let text = texts.rows.get(*row)?;
            Some((*row, text.text.as_str(), text.coarse.as_deref()))
        }),
        config.across,
    );
    let k = given_k(&groups, &config)?;
    for line in texts.describe() {
        progress(Step::Say(&line));
    }

    let spec: DeviceSpec = config.device.parse()?;
    let device = spec.open()?;
    let source = datasets::pocket::model_dir(Path::new(&config.model))?;
    let mut model = SentenceEncoder::load(&source, &LoadOptions::default(), &device)?;
    let mut manifest = manifest(config.seed, &spec.resolve().to_string(), command.clone());
    for file in &texts.files {
        manifest
            .data
            .insert(file.path.display().to_string(), file.sha256.clone());
    }
    let hash = SentenceEncoder::weights_hash(&source)?;
    manifest.model.insert("model.safetensors".to_owned(), hash);
    let staging = Staging::open(&out, &to_toml(&config)?, &manifest)?;

    let mut timing = Vec::new();
    let mut clock = Instant::now();
    let mut lap = |stage: &str| {
        timing.push(Timing {
            stage: stage.to_owned(),
            evaluate_s: Some(clock.elapsed().as_secs_f64()),
            ..Timing::default()
        });
        clock = Instant::now();
    };
    let streams = Streams::new(config.seed);
    let seed = streams.seed(stream::CLUSTERING, &[]);
    if let (Mode::Trained, Some(settings)) = (config.mode, &config.training) {
        // The training reckons with a number of categories; the encoder as it is gives a first one.
        let mut total: usize = k.iter().flatten().sum();
        for (class, _) in groups.iter().zip(&k).filter(|(_, k)| k.is_none()) {
            let own: Vec<&str> = class
                .rows
                .iter()
                .filter_map(|row| Some(texts.rows.get(*row)?.text.as_str()))
                .collect();
            let points = encode(&model, &own, config.batch_size, |done, of| {
                progress(Step::At {
                    what: "encoding texts",
                    done,
                    of,
                });
            })?;
            let estimate = estimate(points.view(), class.different, &config, seed)?;
            total += estimate.map_or(1, |estimate| estimate.k);
        }
        let dir = trained::train(
            &staging,
            &texts,
            settings,
            total.max(2),
            command,
            quiet,
            stop,
        )?;
        model = SentenceEncoder::load(&dir, &LoadOptions::default(), &device)?;
        lap("train");
    }
    let all: Vec<&str> = texts.rows.iter().map(|row| row.text.as_str()).collect();
    let vectors = encode(&model, &all, config.batch_size, |done, of| {
        progress(Step::At {
            what: "encoding texts",
            done,
            of,
        });
    })?;
    lap("encode");

    let count = groups.len();
    let mut partitions = Vec::with_capacity(count);
    for (at, (class, k)) in groups.into_iter().zip(k).enumerate() {
        progress(Step::At {
            what: "clustering classes",
            done: at,
            of: count,
        });
        partitions.push(partition(vectors.view(), class, k, &config, seed)?);
    }
    progress(Step::At {
        what: "clustering classes",
        done: count,
        of: count,
    });
    lap("cluster");

    let members = members_of(&partitions, &texts)?;
    let categories = describe(vectors.view(), &all, members, config.keywords)?;
    let centroids = matrix(
        categories.iter().map(|c| c.centroid.as_slice()),
        vectors.ncols(),
    )?;
    let mut assigned = vec![0; texts.rows.len()];
    for (place, category) in categories.iter().enumerate() {
        for row in &category.rows {
            assigned[*row] = place;
        }
    }
    for row in rows_of(&texts, TEST) {
        let coarse = texts.rows.get(row).and_then(|text| text.coarse.as_deref());
        assigned[row] = nearest_of(
            vectors.row(row).to_slice().unwrap_or_default(),
            coarse,
            &categories,
        );
    }
    lap("describe");
    let labelled: Vec<Labelled<'_>> = train
        .iter()
        .map(|row| Labelled {
            row: *row,
            category: assigned[*row],
            text: all[*row],
        })
        .collect();
    let coarse: Vec<Option<&str>> = categories.iter().map(|c| c.coarse.as_deref()).collect();
    let calibration = measure(
        vectors.view(),
        &labelled,
        centroids.view(),
        &coarse,
        config.keep,
        config.seed,
    )?;
    lap("calibrate");
    Ok(Found {
        model_name: config.model.clone(),
        config,
        texts,
        staging,
        manifest,
        model,
        vectors,
        partitions,
        categories,
        assigned,
        calibration,
        timing,
        began,
    })
}

/// Rows of a split.
fn rows_of(texts: &Texts, split: &str) -> Vec<usize> {
    let rows = texts.rows.iter().enumerate();
    rows.filter(|(_, text)| text.split == split)
        .map(|(row, _)| row)
        .collect()
}

/// Rows of every category, class by class; a category found across classes belongs to the class most
/// of its texts have.
fn members_of(partitions: &[Partition], texts: &Texts) -> Result<Vec<Members>, DiscoverError> {
    let names = texts.coarse_names();
    let mut members = Vec::new();
    for partition in partitions {
        let coarse: Vec<Option<String>> = if partition.class.coarse.is_none() && texts.has_coarse {
            let values: Vec<usize> = partition
                .class
                .rows
                .iter()
                .map(|row| {
                    let coarse = texts.rows.get(*row).and_then(|text| text.coarse.as_ref());
                    coarse
                        .and_then(|name| names.binary_search(name).ok())
                        .unwrap_or(0)
                })
                .collect();
            let most = majority(&partition.labels, &values, partition.k)?;
            most.into_iter().map(|at| names.get(at).cloned()).collect()
        } else {
            vec![partition.class.coarse.clone(); partition.k]
        };
        let mut own: Vec<Members> = coarse
            .into_iter()
            .map(|coarse| Members {
                coarse,
                rows: Vec::new(),
            })
            .collect();
        for (row, label) in partition.class.rows.iter().zip(&partition.labels) {
            if let Some(category) = own.get_mut(*label) {
                category.rows.push(*row);
            }
        }
        members.append(&mut own);
    }
    Ok(members)
}

/// Place of the category nearest to a vector, among those of its coarse class if that has any.
fn nearest_of(vector: &[f32], coarse: Option<&str>, categories: &[Described]) -> usize {
    let inside = |category: &Described| coarse.is_some() && category.coarse.as_deref() == coarse;
    let gated = categories.iter().any(inside);
    let candidates = categories
        .iter()
        .enumerate()
        .filter(|(_, c)| !gated || inside(c));
    let mut best = (0, f64::NEG_INFINITY);
    for (place, category) in candidates {
        let cosine = dot(vector, &category.centroid);
        if cosine > best.1 {
            best = (place, cosine);
        }
    }
    best.0
}

impl Found {
    /// The categories, for whoever names them: in the order of their ids, the most typical texts first.
    pub fn to_name(&self) -> Vec<CategoryTexts> {
        let texts = self.all_texts();
        let categories = self.categories.iter().enumerate();
        categories
            .map(|(place, category)| category.to_name(place.to_string(), &texts))
            .collect()
    }

    fn all_texts(&self) -> Vec<&str> {
        self.texts
            .rows
            .iter()
            .map(|row| row.text.as_str())
            .collect()
    }

    /// Writes the run directory with the names given, one a category in the order of
    /// [`to_name`](Self::to_name).
    ///
    /// # Errors
    /// Files that cannot be written; names that are missing or not unique.
    pub fn finish(
        mut self,
        names: &[NamedCategory],
        progress: &mut dyn FnMut(Step<'_>),
    ) -> Result<Summary, DiscoverError> {
        let clock = Instant::now();
        let texts = self.all_texts();
        progress(Step::Say("drawing the map"));
        let seed = self.config.seed;
        let map = Map::new(self.vectors.view(), &texts, self.config.map_rows, seed)?;
        self.timing.push(Timing {
            stage: "map".to_owned(),
            evaluate_s: Some(clock.elapsed().as_secs_f64()),
            ..Timing::default()
        });
        progress(Step::Say("writing the run directory"));
        let draft = self.catalogue(names, "")?;
        files::write_model(
            &self.staging.path().join(files::MODEL),
            self.model.clone(),
            &draft,
        )?;
        let hash = SentenceEncoder::weights_hash(&self.staging.path().join(files::MODEL))?;
        let store = Store::create(self.staging.path(), self.catalogue(names, &hash)?)?;
        let catalogue = store.catalogue().clone();
        drop(store);

        let staging = &self.staging;
        staging.write(files::MEMBERS, &files::json_lines(&self.members())?)?;
        staging.write(
            files::VECTORS,
            &files::vectors_to_bytes(self.vectors.view())?,
        )?;
        if let Some(map) = &map {
            staging.write(files::MAP, &serde_json::to_vec(map).map_err(no_json)?)?;
        }
        let classes = self.classes();
        let estimates = json!({"schema": "asterism/estimates/1", "classes": classes});
        staging.write(files::ESTIMATES, format!("{estimates:#}\n").as_bytes())?;
        let scores = self.scores()?;
        let evaluated: Vec<Evaluated<'_>> = scores.iter().map(Evaluated::new).collect();
        staging.write("metrics.jsonl", &files::json_lines(&evaluated)?)?;
        let result = self.result(scores.clone());
        result.write(&staging.path().join("result.json"))?;
        let shown = report::Shown {
            texts: &self.texts,
            assigned: &self.assigned,
            map: map.as_ref(),
            classes: &classes,
        };
        report::write(staging.path(), result, &catalogue, &shown)?;
        let summary = Summary {
            out: PathBuf::new(),
            texts: self.texts.rows.len(),
            categories: self.categories.len(),
            classes,
            scores,
            threshold: self.calibration.as_ref().map(|c| c.threshold),
            seconds: self.began.elapsed().as_secs_f64(),
        };
        let out = self.staging.publish()?;
        Ok(Summary { out, ..summary })
    }

    fn catalogue(&self, names: &[NamedCategory], model: &str) -> Result<Catalogue, DiscoverError> {
        let texts = self.all_texts();
        if names.len() != self.categories.len() {
            let (expected, found) = (self.categories.len(), names.len());
            let problem = format!("expected {expected} names, found {found}");
            return Err(RunError::Data(problem).into());
        }
        let described = self.categories.iter().zip(names).enumerate();
        let categories = described.map(|(place, (category, named))| Category {
            id: id(place),
            name: named.name.clone(),
            name_source: source(named.source),
            coarse: category.coarse.clone(),
            keywords: category.keywords.clone(),
            medoids: category.medoids(&texts, self.config.medoids),
            size: category.rows.len(),
            coherence: category.coherence,
            nearest: Vec::new(),
            born: 1,
            status: Status::Active,
            centroid: category.centroid.clone(),
        });
        Ok(Catalogue::new(
            self.vectors.ncols(),
            model,
            self.texts.coarse_names(),
            categories.collect(),
            self.calibration.clone(),
        )?)
    }

    fn members(&self) -> Vec<Member> {
        let rows = self.texts.rows.iter().zip(&self.assigned).enumerate();
        rows.map(|(row, (text, place))| {
            let centroid = self.categories.get(*place).map(|c| c.centroid.as_slice());
            let vector = self.vectors.row(row);
            let cosine = dot(
                vector.to_slice().unwrap_or_default(),
                centroid.unwrap_or_default(),
            );
            Member {
                row,
                text: text.text.clone(),
                coarse: text.coarse.clone(),
                category: id(*place),
                cosine: cosine.clamp(-1.0, 1.0) as f32,
                fine: text.fine.clone(),
                split: text.split.to_owned(),
            }
        })
        .collect()
    }

    fn classes(&self) -> Vec<ClassSummary> {
        self.partitions
            .iter()
            .map(|partition| {
                let estimate = partition.estimate.as_ref();
                ClassSummary {
                    coarse: partition.class.coarse.clone(),
                    texts: partition.class.rows.len(),
                    categories: partition.k,
                    criterion: estimate.map(|estimate| estimate.criterion.name()),
                    curves: estimate
                        .map(|estimate| estimate.curves.clone())
                        .unwrap_or_default(),
                }
            })
            .collect()
    }

    /// Scores of the rows that have a fine label, split by split.
    fn scores(&self) -> Result<Vec<CategoryRow>, DiscoverError> {
        let mut rows = Vec::new();
        for (split, inference) in [(TRAIN, "cluster"), (TEST, "centroid")] {
            let (mut found, mut gold) = (Vec::new(), Vec::new());
            for row in rows_of(&self.texts, split) {
                if let Some(fine) = self
                    .texts
                    .rows
                    .get(row)
                    .and_then(|text| text.fine.as_deref())
                {
                    found.push(self.assigned[row]);
                    gold.push(fine);
                }
            }
            if found.is_empty() {
                continue;
            }
            rows.push(CategoryRow {
                stage: match self.config.mode {
                    Mode::Frozen => "frozen",
                    Mode::Trained => "trained",
                }
                .to_owned(),
                inference: inference.to_owned(),
                split: split.to_owned(),
                seed: self.config.seed,
                acc: Some(clustering_accuracy(&found, &gold)?.accuracy),
                ari: Some(adjusted_rand_index(&found, &gold)?),
                nmi: Some(normalized_mutual_information(&found, &gold)?),
                extra: BTreeMap::new(),
            });
        }
        Ok(rows)
    }

    fn result(&self, scores: Vec<CategoryRow>) -> ResultFile {
        let fine: std::collections::BTreeSet<&String> = self
            .texts
            .rows
            .iter()
            .filter_map(|text| text.fine.as_ref())
            .collect();
        let data = DataInfo {
            name: self.config.data.join(", "),
            train_rows: rows_of(&self.texts, TRAIN).len(),
            test_rows: rows_of(&self.texts, TEST).len(),
            n_coarse: self.texts.coarse_names().len(),
            n_fine: fine.len(),
            sha256: self.manifest.data.clone(),
        };
        let mut result = ResultFile::new(EXPERIMENT, data);
        result.device = self.manifest.device.clone();
        result.threads = self.manifest.threads;
        result.model = json!({"name": self.model_name, "sha256": self.manifest.model});
        result.config = serde_json::to_value(&self.config).unwrap_or_default();
        result.rows = scores.into_iter().map(Row::Category).collect();
        result.summary = summarise(&result.rows);
        result.timing = self.timing.clone();
        result.peak_rss_mb = peak_rss_mb().unwrap_or(0.0);
        result.total_s = self.began.elapsed().as_secs_f64();
        result
    }
}

/// A line of `metrics.jsonl`.
#[derive(Serialize)]
struct Evaluated<'a> {
    event: &'static str,
    #[serde(flatten)]
    row: &'a CategoryRow,
}

impl<'a> Evaluated<'a> {
    fn new(row: &'a CategoryRow) -> Self {
        Self {
            event: "evaluation",
            row,
        }
    }
}

/// Who chose a name, as the catalogue says it.
pub(crate) fn source(source: NameSource) -> categories::NameSource {
    match source {
        NameSource::Keyword => categories::NameSource::Keywords,
        NameSource::Model => categories::NameSource::Model,
    }
}
