//! What a reader sees of a run: `report.html`, `plots/*.svg` and a table for the terminal.
//!
//! The page is one file that loads nothing: style and script stand inside and a content policy
//! admits exactly those two by their SHA-256. The same input gives the same bytes.

mod html;
mod published;
mod rfd;
pub mod svg;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::result::{ResultError, ResultFile, Row, Summary, summarise, write_atomic};

pub use published::{
    Counterpart, ENCODER, Published, PublishedData, ROWS, SOURCES, Scores, counterpart,
};
pub use rfd::{PublishedRun, RUNS, RfdReport};

/// Tasks whose average is customary as "STS avg".
const STS_TASKS: [&str; 7] = ["STS12", "STS13", "STS14", "STS15", "STS16", "STSB", "SICKR"];

/// Largest found category number accepted; a table of names is allocated up to it.
const MAX_CATEGORY: usize = 100_000;

// ---------------------------------------------------------------------------------------------
// Input

/// Everything a report shows.
#[derive(Debug, Clone)]
pub struct ReportInput {
    /// Scores, configuration, timings.
    pub result: ResultFile,
    /// Curves over training steps. Names of the form `group/name` share one chart per group.
    pub curves: Vec<Curve>,
    /// Texts placed in the plane.
    pub projection: Option<Projection>,
    /// Names of the coarse labels, by number.
    pub coarse_names: Vec<String>,
    /// Names of the fine labels, by number, where they are known.
    pub fine_names: Option<Vec<String>>,
    /// The categories found.
    pub categories: Vec<CategorySummary>,
    /// Relative fitting difficulty of the settings.
    pub rfd: Option<RfdReport>,
    /// Curves that numbers of categories were read from, by file name without ending.
    pub charts: Vec<(String, svg::LineChart)>,
}

impl ReportInput {
    /// A report of the scores alone.
    pub fn new(result: ResultFile) -> Self {
        Self {
            result,
            curves: Vec::new(),
            projection: None,
            coarse_names: Vec::new(),
            fine_names: None,
            categories: Vec::new(),
            rfd: None,
            charts: Vec::new(),
        }
    }
}

/// One curve of one seed.
#[derive(Debug, Clone, Default)]
pub struct Curve {
    /// For example `star/loss`.
    pub name: String,
    /// Seed of the run.
    pub seed: u64,
    /// Step and value, in ascending steps.
    pub points: Vec<(f64, f64)>,
}

/// Texts placed in the plane, for example by t-SNE. All lists have one entry a text.
#[derive(Debug, Clone, Default)]
pub struct Projection {
    /// Positions.
    pub xy: Vec<[f32; 2]>,
    /// Coarse label of every text.
    pub coarse: Vec<usize>,
    /// Fine label of every text, where known.
    pub fine: Option<Vec<usize>>,
    /// Found category of every text.
    pub found: Vec<usize>,
    /// The texts.
    pub texts: Vec<String>,
}

/// A category that was found.
#[derive(Debug, Clone, Default)]
pub struct CategorySummary {
    /// Number of the category.
    pub id: usize,
    /// Name, where one was given.
    pub name: Option<String>,
    /// Number of texts.
    pub size: usize,
    /// Texts of every coarse label.
    pub coarse_counts: Vec<usize>,
    /// Texts nearest to the centre first; ten are shown.
    pub examples: Vec<String>,
}

impl CategorySummary {
    /// The name, or `#id` where there is none.
    pub fn label(&self) -> String {
        match self.name.as_deref().map(str::trim) {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => format!("#{}", self.id),
        }
    }

    /// Coarse label with the most texts (the first of equals) and its count.
    pub fn majority(&self) -> Option<(usize, usize)> {
        let counts = self.coarse_counts.iter().copied().enumerate();
        counts
            .rev()
            .max_by_key(|(_, count)| *count)
            .filter(|(_, count)| *count > 0)
    }
}

/// Why a report could not be written.
#[derive(Debug, Error)]
pub enum ReportError {
    /// Two parts of the input do not fit together.
    #[error("report input `{field}`: expected {expected}, found {found}")]
    Input {
        /// The part concerned.
        field: String,
        /// What belongs there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A folder could not be made.
    #[error("cannot create the folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Reason given by the system.
        source: std::io::Error,
    },
    /// A file could not be written, or the configuration could not be printed.
    #[error(transparent)]
    Write(#[from] ResultError),
    /// The page could not be rendered.
    #[error("cannot render the page: {0}")]
    Template(#[from] minijinja::Error),
}

// ---------------------------------------------------------------------------------------------
// Output

/// Writes `report.html` and `plots/*.svg` under `dir`, each through one rename; the page comes
/// last, so a page that exists is complete. Returns the path of the page.
///
/// # Errors
/// [`ReportError::Input`] when lists differ in length or a label has no name, otherwise the file
/// or template that failed.
pub fn write_report(dir: &Path, input: &ReportInput) -> Result<PathBuf, ReportError> {
    check(input)?;
    let (page, plots) = html::render(input)?;
    let folder = dir.join("plots");
    std::fs::create_dir_all(&folder).map_err(|source| ReportError::Folder {
        path: folder.clone(),
        source,
    })?;
    for (name, plot) in &plots {
        write_atomic(
            &folder.join(format!("{name}.svg")),
            plot.standalone().as_bytes(),
        )?;
    }
    let path = dir.join("report.html");
    write_atomic(&path, page.as_bytes())?;
    Ok(path)
}

/// The scores as a table of plain text, in percent, with mean and sample standard deviation over
/// seeds and the published figure where one is known.
///
/// ```
/// use experiments::report::text_table;
/// use experiments::result::{CategoryRow, DataInfo, ResultFile, Row};
/// let mut result = ResultFile::new("demo", DataInfo::default());
/// result.rows.push(Row::Category(CategoryRow {
///     stage: "down".into(),
///     inference: "cluster".into(),
///     split: "test".into(),
///     acc: Some(0.789),
///     ..CategoryRow::default()
/// }));
/// assert!(text_table(&result).contains("down   cluster    78.90  1"));
/// ```
pub fn text_table(result: &ResultFile) -> String {
    let mut blocks = Vec::new();
    let scores = ScoreTable::new(result);
    if !scores.rows.is_empty() {
        let show_split = scores.rows.iter().any(|row| row.split != "test");
        let show_published = scores.rows.iter().any(|row| row.published.is_some());
        let mut head = vec!["stage".to_owned(), "inference".to_owned()];
        if show_split {
            head.push("split".to_owned());
        }
        head.extend(scores.metrics.iter().map(|name| metric_title(name)));
        head.push("seeds".to_owned());
        if show_published {
            head.push("published (ACC / ARI / NMI)".to_owned());
        }
        let mut lines = vec![head];
        for row in &scores.rows {
            let mut line = vec![row.stage.clone(), row.inference.clone()];
            if show_split {
                line.push(row.split.clone());
            }
            line.extend(row.cells.iter().map(|cell| mean_and_spread(cell.as_ref())));
            line.push(row.seeds.to_string());
            if let Some(published) = &row.published {
                let values = published.scores;
                line.push(format!(
                    "{} / {} / {}  {}{} [{}]",
                    published_value(values.acc),
                    published_value(values.ari),
                    published_value(values.nmi),
                    if published.counterpart.same_method {
                        ""
                    } else {
                        "nearest: "
                    },
                    published.counterpart.row.method,
                    published.counterpart.row.source,
                ));
            }
            lines.push(line);
        }
        let notes = scores.notes.iter().map(|note| format!("{note}\n"));
        blocks.push(align(&lines) + &notes.collect::<String>());
    }
    for table in TaskTable::all(result) {
        let mut head = vec![format!("stage, {}", table.metric)];
        head.extend(table.tasks.iter().cloned());
        if table.with_average() {
            head.push("STS avg".to_owned());
        }
        let mut lines = vec![head];
        for row in &table.rows {
            let mut line = vec![row.stage.clone()];
            line.extend(row.cells.iter().map(|cell| mean_and_spread(cell.as_ref())));
            if table.with_average() {
                line.push(row.average.map_or("-".to_owned(), percent));
            }
            lines.push(line);
        }
        for row in &table.published {
            let mut line = vec![row.label.clone()];
            line.extend(row.cells.iter().cloned());
            line.push(row.average.clone());
            lines.push(line);
        }
        blocks.push(align(&lines));
    }
    if blocks.is_empty() {
        return "no scores\n".to_owned();
    }
    blocks.join("\n")
}

/// Columns padded to their widest cell, a rule under the head.
fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (i, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| {
                // A line break inside a name would break the table.
                let cell: String = cell
                    .chars()
                    .map(|c| if c.is_control() { ' ' } else { c })
                    .collect();
                format!("{cell:<width$}")
            })
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
        if i == 0 {
            let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            out.push_str(&rule.join("  "));
            out.push('\n');
        }
    }
    out
}

// ---------------------------------------------------------------------------------------------
// Tables

/// Category scores, one row a stage, inference and split.
struct ScoreTable {
    metrics: Vec<String>,
    rows: Vec<ScoreRow>,
    /// What limits the comparison with published figures.
    notes: Vec<String>,
}

struct ScoreRow {
    stage: String,
    inference: String,
    split: String,
    /// Parallel to `metrics`.
    cells: Vec<Option<Summary>>,
    /// Largest `n` of the cells.
    seeds: usize,
    published: Option<PublishedCell>,
}

struct PublishedCell {
    counterpart: Counterpart,
    scores: Scores,
}

impl ScoreTable {
    fn new(result: &ResultFile) -> Self {
        let rows: Vec<Row> = result
            .rows
            .iter()
            .filter(|row| matches!(row, Row::Category(_)))
            .cloned()
            .collect();
        let summaries = summarise(&rows);
        let known = ["acc", "ari", "nmi"];
        let further: BTreeSet<&str> = summaries
            .iter()
            .map(|s| s.metric.as_str())
            .filter(|metric| !known.contains(metric))
            .collect();
        let metrics: Vec<String> = known
            .into_iter()
            .filter(|metric| summaries.iter().any(|s| s.metric == *metric))
            .chain(further)
            .map(str::to_owned)
            .collect();
        let data = PublishedData::from_name(&result.data.name);
        let mut rows: Vec<ScoreRow> = Vec::new();
        for summary in &summaries {
            let same = |row: &ScoreRow| {
                row.stage == summary.stage
                    && row.inference == summary.inference
                    && row.split == summary.split
            };
            let at = rows.iter().position(same).unwrap_or_else(|| {
                // Published figures cluster the test set, so only that row is comparable.
                let comparable = summary.inference == "cluster" && summary.split == "test";
                let published = data
                    .filter(|_| comparable)
                    .and_then(|data| {
                        let counterpart = counterpart(&summary.stage)?;
                        let scores = counterpart.row.scores(data);
                        Some(PublishedCell {
                            counterpart,
                            scores,
                        })
                    })
                    .filter(|cell| cell.scores.is_known());
                rows.push(ScoreRow {
                    stage: summary.stage.clone(),
                    inference: summary.inference.clone(),
                    split: summary.split.clone(),
                    cells: vec![None; metrics.len()],
                    seeds: 0,
                    published,
                });
                rows.len() - 1
            });
            let column = metrics.iter().position(|metric| *metric == summary.metric);
            if let (Some(row), Some(column)) = (rows.get_mut(at), column) {
                row.seeds = row.seeds.max(summary.n);
                if let Some(cell) = row.cells.get_mut(column) {
                    *cell = Some(summary.clone());
                }
            }
        }
        let mut notes = Vec::new();
        if let Some(data) = data.filter(|_| rows.iter().any(|row| row.published.is_some())) {
            if result.data.test_rows != data.test_rows() {
                notes.push(format!(
                    "This run scored {} test rows, the published figures {}: not directly comparable.",
                    result.data.test_rows,
                    data.test_rows()
                ));
            }
            let model = model_label(&result.model);
            if !model.to_lowercase().contains(ENCODER) {
                notes.push(format!(
                    "The published figures used {ENCODER}, this run {}.",
                    if model.is_empty() {
                        "another or an unnamed model"
                    } else {
                        model.as_str()
                    }
                ));
            }
        }
        Self {
            metrics,
            rows,
            notes,
        }
    }
}

/// Embedding scores of one metric, one row a stage. Each metric has a table of its own, since few
/// tasks share one.
struct TaskTable {
    /// `metric/aggregation`, and the split where it is not `test`.
    metric: String,
    tasks: Vec<String>,
    rows: Vec<TaskRow>,
    /// Published rows of the experiment's method, where all seven STS tasks are there.
    published: Vec<PublishedTaskRow>,
}

/// A published row in the columns of a [`TaskTable`].
struct PublishedTaskRow {
    label: String,
    /// Parallel to the tasks, as printed.
    cells: Vec<String>,
    average: String,
}

struct TaskRow {
    stage: String,
    /// Parallel to `tasks`.
    cells: Vec<Option<Summary>>,
    /// Mean over the seven STS tasks where all are there, each rounded first; a fraction.
    average: Option<f64>,
}

impl TaskTable {
    /// The tables in the order of their first row, the one of the papers before all others.
    fn all(result: &ResultFile) -> Vec<Self> {
        let rows: Vec<Row> = result
            .rows
            .iter()
            .filter(|row| matches!(row, Row::Embedding(_)))
            .cloned()
            .collect();
        let mut groups: Vec<(String, Vec<Summary>)> = Vec::new();
        for summary in summarise(&rows) {
            let metric = if summary.split == "test" {
                summary.metric.clone()
            } else {
                format!("{} ({})", summary.metric, summary.split)
            };
            match groups.iter_mut().find(|(known, _)| *known == metric) {
                Some((_, members)) => members.push(summary),
                None => groups.push((metric, vec![summary])),
            }
        }
        // What the papers print comes first.
        groups.sort_by_key(|(metric, _)| metric != PUBLISHED_METRIC);
        groups
            .into_iter()
            .map(|(metric, summaries)| Self::new(metric, summaries, &result.experiment))
            .collect()
    }

    fn new(metric: String, summaries: Vec<Summary>, experiment: &str) -> Self {
        let mut tasks: Vec<String> = Vec::new();
        for summary in &summaries {
            if !tasks.contains(&summary.inference) {
                tasks.push(summary.inference.clone());
            }
        }
        let mut rows: Vec<TaskRow> = Vec::new();
        for summary in summaries {
            let same = |row: &TaskRow| row.stage == summary.stage;
            let at = rows.iter().position(same).unwrap_or_else(|| {
                rows.push(TaskRow {
                    stage: summary.stage.clone(),
                    cells: vec![None; tasks.len()],
                    average: None,
                });
                rows.len() - 1
            });
            let column = tasks.iter().position(|task| *task == summary.inference);
            let cell = column.and_then(|column| rows.get_mut(at)?.cells.get_mut(column));
            if let Some(cell) = cell {
                *cell = Some(summary);
            }
        }
        for row in &mut rows {
            let values: Option<Vec<f64>> = STS_TASKS
                .iter()
                .map(|task| {
                    let column = tasks.iter().position(|known| known == task)?;
                    let mean = row.cells.get(column)?.as_ref()?.mean;
                    Some(mean).filter(|mean| mean.is_finite())
                })
                .collect();
            // Percent, each task rounded first: the average of the published tables.
            let average = values.and_then(|values| metrics::average_of_tasks(&values).ok());
            row.average = average.map(|percent| percent / 100.0);
        }
        let complete = STS_TASKS
            .iter()
            .all(|task| tasks.iter().any(|known| known == task));
        let published = if metric == PUBLISHED_METRIC && complete {
            published_rows(experiment, &tasks)
        } else {
            Vec::new()
        };
        Self {
            metric,
            tasks,
            rows,
            published,
        }
    }

    /// Whether the cells are percentages.
    fn is_scaled(&self) -> bool {
        !is_plain(&self.metric)
    }

    fn with_average(&self) -> bool {
        self.rows.iter().any(|row| row.average.is_some())
    }
}

/// Metric and aggregation of the published STS tables.
const PUBLISHED_METRIC: &str = "spearman/all";

/// Published rows beside which an experiment's own belong.
fn published_rows(experiment: &str, tasks: &[String]) -> Vec<PublishedTaskRow> {
    let cell = |scores: &[f64; 7], task: &String| {
        let column = STS_TASKS.iter().position(|known| known == task);
        let score = column.and_then(|column| scores.get(column));
        score.map_or("-".to_owned(), |score| format!("{score:.2}"))
    };
    crate::evaluate::published::beside(experiment)
        .map(|row| PublishedTaskRow {
            label: format!("published: {} [{}]", row.model, row.source),
            cells: tasks.iter().map(|task| cell(&row.scores, task)).collect(),
            average: format!("{:.2}", row.average),
        })
        .collect()
}

/// Heading of a metric column.
fn metric_title(name: &str) -> String {
    match name {
        "acc" | "ari" | "nmi" => name.to_uppercase(),
        other => other.replace('_', " "),
    }
}

/// A fraction as a percentage with two decimals.
fn percent(value: f64) -> String {
    format!("{:.2}", 100.0 * value)
}

fn mean_and_spread(cell: Option<&Summary>) -> String {
    match cell {
        Some(summary) if summary.mean.is_finite() => {
            let number = number_of(&summary.metric);
            match summary.std {
                Some(std) => format!("{} ± {}", number(summary.mean), number(std)),
                None => number(summary.mean),
            }
        }
        // No seed has a value where none is defined, as with constant gold scores.
        _ => "-".to_owned(),
    }
}

/// How the values of a metric are printed: the figures of an embedding space are no fractions.
fn number_of(metric: &str) -> fn(f64) -> String {
    if is_plain(metric) {
        |value| format!("{value:.4}")
    } else {
        percent
    }
}

/// Whether a metric is a plain number and no fraction.
fn is_plain(metric: &str) -> bool {
    let name = metric.split('/').next().unwrap_or(metric);
    [
        "alignment",
        "uniformity",
        "average_cosine",
        "iso_score",
        "rfd",
    ]
    .contains(&name)
}

fn published_value(value: Option<f64>) -> String {
    value.map_or("?".to_owned(), |value| format!("{value:.2}"))
}

/// One line for the model: a string as it is, of an object its `name`, `id` or `source`.
fn model_label(model: &serde_json::Value) -> String {
    let named = ["name", "id", "source", "model"]
        .iter()
        .find_map(|key| model.get(key)?.as_str());
    model.as_str().or(named).unwrap_or_default().to_owned()
}

// ---------------------------------------------------------------------------------------------
// Checks

fn check(input: &ReportInput) -> Result<(), ReportError> {
    let coarse = input.coarse_names.len();
    for (i, category) in input.categories.iter().enumerate() {
        let at = format!("categories[{i}]");
        equal(
            &format!("{at}.coarse_counts"),
            "entries, one a coarse name",
            coarse,
            category.coarse_counts.len(),
        )?;
        below(&format!("{at}.id"), [category.id].iter(), MAX_CATEGORY)?;
    }
    let Some(projection) = &input.projection else {
        return Ok(());
    };
    let rows = projection.xy.len();
    let lengths = [
        ("projection.coarse", projection.coarse.len()),
        ("projection.found", projection.found.len()),
        ("projection.texts", projection.texts.len()),
        (
            "projection.fine",
            projection.fine.as_ref().map_or(rows, Vec::len),
        ),
    ];
    for (field, found) in lengths {
        equal(field, "entries, one a point", rows, found)?;
    }
    below("projection.coarse", projection.coarse.iter(), coarse)?;
    below("projection.found", projection.found.iter(), MAX_CATEGORY)?;
    if let Some(fine) = &projection.fine {
        let names = input.fine_names.as_ref().map_or(0, Vec::len);
        below("projection.fine", fine.iter(), names)?;
    }
    Ok(())
}

fn equal(field: &str, what: &str, expected: usize, found: usize) -> Result<(), ReportError> {
    if expected == found {
        return Ok(());
    }
    Err(ReportError::Input {
        field: field.to_owned(),
        expected: format!("{expected} {what}"),
        found: found.to_string(),
    })
}

fn below<'a>(
    field: &str,
    mut ids: impl Iterator<Item = &'a usize>,
    limit: usize,
) -> Result<(), ReportError> {
    match ids.find(|id| **id >= limit) {
        None => Ok(()),
        Some(id) => Err(ReportError::Input {
            field: field.to_owned(),
            expected: format!("numbers below {limit}"),
            found: id.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::result::{CategoryRow, DataInfo, EmbeddingRow, Timing};
    use sha2::{Digest, Sha256};

    const EVIL: &str = "<script>alert(1)</script><img src=x onerror='y'> & \"quoted\"";

    fn category(stage: &str, inference: &str, seed: u64, acc: f64) -> Row {
        Row::Category(CategoryRow {
            stage: stage.into(),
            inference: inference.into(),
            split: "test".into(),
            seed,
            acc: Some(acc),
            ari: (inference == "cluster").then_some(acc - 0.1),
            nmi: (inference == "cluster").then_some(acc + 0.05),
            ..CategoryRow::default()
        })
    }

    fn scores(data: &str) -> ResultFile {
        let data = DataInfo {
            name: data.into(),
            train_rows: 8954,
            test_rows: 1031,
            n_coarse: 2,
            n_fine: 4,
            sha256: [("train.tsv".to_owned(), "0f".repeat(32))].into(),
        };
        let mut result = ResultFile::new("star_down", data);
        for (stage, acc) in [("down", 0.70), ("star", 0.80)] {
            for seed in 0..3 {
                let shift = 0.01 * (seed as f64 - 1.0);
                result
                    .rows
                    .push(category(stage, "cluster", seed, acc + shift));
                result
                    .rows
                    .push(category(stage, "centroid_mapped", seed, acc));
            }
        }
        result.summary = summarise(&result.rows);
        result.model = serde_json::json!({"name": "bert-base-uncased"});
        result.config = serde_json::json!({"note": EVIL, "tau": 0.07});
        result.timing = vec![Timing {
            stage: "down".into(),
            ..Timing::default()
        }];
        result
    }

    /// A report with `k` categories and hostile text wherever text can stand.
    fn input(k: usize) -> ReportInput {
        let n = 4 * k;
        let mut result = scores("hwu64");
        result.experiment = EVIL.into();
        result.rows.push(category(EVIL, EVIL, 0, 0.5));
        ReportInput {
            result,
            curves: vec![
                Curve {
                    name: format!("star/{EVIL}"),
                    seed: 0,
                    points: (1..50)
                        .map(|i| (f64::from(i), 1.0 / f64::from(i)))
                        .collect(),
                },
                Curve {
                    name: "../../etc/passwd".into(),
                    seed: 1,
                    points: vec![(0.0, f64::NAN)],
                },
            ],
            projection: Some(Projection {
                xy: (0..n).map(|i| [(i % 13) as f32, (i % 7) as f32]).collect(),
                coarse: (0..n).map(|i| i % 2).collect(),
                fine: Some((0..n).map(|i| i % 4).collect()),
                found: (0..n).map(|i| i % k).collect(),
                texts: (0..n).map(|i| format!("{EVIL} {i}")).collect(),
            }),
            coarse_names: vec![EVIL.into(), "travel".into()],
            fine_names: Some((0..4).map(|i| format!("{EVIL} {i}")).collect()),
            categories: (0..k)
                .map(|id| CategorySummary {
                    id,
                    name: (id % 2 == 0).then(|| EVIL.to_owned()),
                    size: 4,
                    coarse_counts: vec![3, 1],
                    examples: (0..12)
                        .map(|i| format!("{EVIL} example {id}-{i}."))
                        .collect(),
                })
                .collect(),
            rfd: Some(RfdReport {
                traces: vec![crate::ngcse::Trace {
                    setting: EVIL.into(),
                    seed: 0,
                    looks: vec![crate::ngcse::Look {
                        step: 5,
                        probed: None,
                        dev_spearman: Some(0.5),
                    }],
                }],
                start_step: 1,
                comparable: true,
            }),
            charts: vec![(
                format!("k-{EVIL}"),
                svg::LineChart {
                    title: EVIL.into(),
                    x_label: "K".into(),
                    y_label: EVIL.into(),
                    series: vec![svg::Series {
                        name: EVIL.into(),
                        points: vec![(2.0, 0.1), (3.0, f64::NAN), (4.0, 0.2)],
                    }],
                    log_y: false,
                },
            )],
        }
    }

    fn page(input: &ReportInput) -> String {
        html::render(input).unwrap().0
    }

    fn between<'a>(text: &'a str, open: &str, close: &str) -> &'a str {
        text.split_once(open)
            .unwrap()
            .1
            .split_once(close)
            .unwrap()
            .0
    }

    #[test]
    fn hostile_text_is_escaped() {
        let page = page(&input(4));
        assert_eq!(page.matches("<script").count(), 1);
        assert_eq!(page.matches("<style").count(), 1);
        assert!(!page.contains("<img"));
        assert!(page.contains("&lt;script&gt;alert(1)"));
    }

    #[test]
    fn the_page_loads_nothing() {
        let page = page(&input(4));
        for word in ["http:", "https:", "url(", "@import", "javascript:"] {
            assert!(!page.contains(word), "{word}");
        }
        let (before, rest) = page.split_once("<script>").unwrap();
        let (_, after) = rest.split_once("</script>").unwrap();
        for tag in before.split('<').chain(after.split('<').skip(1)).skip(1) {
            let tag = tag.split_once('>').unwrap().0;
            // Names of attributes only: their values are text of the user.
            let tag: String = tag.split('"').step_by(2).collect();
            for word in [" src=", " srcset=", " style=", " onclick=", " onerror="] {
                assert!(!tag.contains(word), "{tag}");
            }
            let name = tag.split(' ').next().unwrap();
            assert!(
                !["link", "img", "iframe", "object", "base"].contains(&name),
                "{tag}"
            );
        }
    }

    #[test]
    fn the_policy_admits_exactly_the_style_and_script_of_the_page() {
        let page = page(&input(4));
        let policy = between(&page, "Content-Security-Policy\" content=\"", "\"");
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(!policy.contains("unsafe"));
        for kind in ["style", "script"] {
            let inside = between(&page, &format!("<{kind}>"), &format!("</{kind}>"));
            let hash = Sha256::digest(inside.as_bytes());
            let stated = between(policy, &format!("{kind}-src 'sha256-"), "'");
            // Decoded here by hand, so that the encoder is not its own judge.
            let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            let bits: Vec<u8> = stated
                .trim_end_matches('=')
                .chars()
                .flat_map(|c| {
                    let value = digits.find(c).unwrap();
                    (0..6).rev().map(move |bit| (value >> bit & 1) as u8)
                })
                .collect();
            let bytes: Vec<u8> = bits
                .chunks_exact(8)
                .map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | bit))
                .collect();
            assert_eq!(bytes, hash.to_vec(), "{kind}");
        }
    }

    #[test]
    fn ten_examples_of_every_category_are_shown() {
        let page = page(&input(4));
        for id in 0..4 {
            assert!(page.contains(&format!("example {id}-9.")));
            assert!(!page.contains(&format!("example {id}-10.")));
        }
    }

    #[test]
    fn long_texts_can_be_opened_in_full() {
        let mut input = input(2);
        let long = "word ".repeat(400) + "final";
        input.categories[0].examples = vec![long.clone()];
        let page = page(&input);
        assert!(page.contains(&format!("</summary>{long}</details>")));
    }

    #[test]
    fn a_report_is_the_same_bytes_every_time() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let input = input(30);
        let mut contents = Vec::new();
        for folder in &folders {
            let path = write_report(folder.path(), &input).unwrap();
            assert_eq!(path, folder.path().join("report.html"));
            let mut files = vec![("report.html".to_owned(), std::fs::read(path).unwrap())];
            for entry in std::fs::read_dir(folder.path().join("plots")).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                files.push((name, std::fs::read(&path).unwrap()));
            }
            files.sort();
            contents.push(files);
        }
        assert_eq!(contents[0], contents[1]);
        let names: Vec<&str> = contents[0].iter().map(|f| f.0.as_str()).collect();
        for name in [
            "confusion.svg",
            "loss-star.svg",
            "scores-cluster.svg",
            "tsne-coarse.svg",
            "tsne-fine.svg",
            "tsne-found.svg",
        ] {
            assert!(names.contains(&name), "{name} {names:?}");
        }
        assert!(names.iter().all(|name| !name.starts_with('.')));
        // Writing over an existing report works.
        write_report(folders[0].path(), &input).unwrap();
    }

    #[test]
    fn a_result_without_anything_gives_a_page() {
        let empty = ResultFile::new("nothing", DataInfo::default());
        let page = page(&ReportInput::new(empty.clone()));
        assert!(page.contains("This run holds no scores."));
        assert!(!page.contains("id=\"map\"") && !page.contains("id=\"categories\""));
        assert_eq!(text_table(&empty), "no scores\n");
    }

    #[test]
    fn published_figures_stand_beside_the_matching_stage() {
        let result = scores("HWU64");
        let table = text_table(&result);
        let star = table.lines().find(|line| line.starts_with("star")).unwrap();
        assert!(star.contains("80.00 ± 1.00"), "{table}");
        assert!(star.ends_with("80.31 / ? / ?  STAR-DOWN [S]"), "{table}");
        let page = page(&ReportInput::new(result.clone()));
        assert!(page.contains("78.92") && page.contains("86.22"));
        assert!(!page.contains("not directly comparable"));
        // Another data set, or a stand-in for it, has none.
        for name in ["banking", "hwu64-standin"] {
            assert!(!text_table(&scores(name)).contains("published"));
        }
        // Other rows or another model are said to be so.
        let mut other = result;
        other.data.test_rows = 1076;
        other.model = serde_json::Value::Null;
        let table = text_table(&other);
        assert!(table.contains("scored 1076 test rows"), "{table}");
        assert!(table.contains("unnamed model"), "{table}");
    }

    #[test]
    fn a_table_for_the_terminal_is_aligned() {
        let table = text_table(&scores("own"));
        let expected = "\
stage  inference        ACC           ARI           NMI           seeds
-----  ---------------  ------------  ------------  ------------  -----
down   cluster          70.00 ± 1.00  60.00 ± 1.00  75.00 ± 1.00  3
down   centroid_mapped  70.00 ± 0.00  -             -             3
star   cluster          80.00 ± 1.00  70.00 ± 1.00  85.00 ± 1.00  3
star   centroid_mapped  80.00 ± 0.00  -             -             3
";
        assert_eq!(table, expected);
    }

    #[test]
    fn gains_are_judged_against_the_seeds() {
        let mut result = scores("own");
        let told = page(&ReportInput::new(result.clone()));
        // 10 points with a standard deviation of 1 on both sides.
        assert!(told.contains("+10.00") && told.contains("gain above the seed spread"));
        result.rows = vec![
            category("down", "cluster", 0, 0.70),
            category("down", "cluster", 1, 0.76),
            category("star", "cluster", 0, 0.71),
            category("star", "cluster", 1, 0.77),
        ];
        let told = page(&ReportInput::new(result.clone()));
        assert!(told.contains("within the seed spread") && !told.contains("gain above"));
        result.rows.retain(|row| row.seed() == Some(0));
        assert!(page(&ReportInput::new(result)).contains("too few seeds to tell"));
    }

    #[test]
    fn embedding_scores_have_their_own_table_and_average() {
        let mut result = ResultFile::new("simcse", DataInfo::default());
        for (i, task) in STS_TASKS.iter().enumerate() {
            result.rows.push(Row::Embedding(EmbeddingRow {
                stage: "unsup".into(),
                task: (*task).into(),
                split: "test".into(),
                metric: "spearman".into(),
                aggregation: "all".into(),
                value: 0.7 + 0.01 * i as f64,
                ..EmbeddingRow::default()
            }));
        }
        let table = text_table(&result);
        assert!(
            table.contains("STS avg") && table.contains("73.00"),
            "{table}"
        );
        assert!(page(&ReportInput::new(result.clone())).contains("STS avg"));
        result.rows.pop();
        assert!(!text_table(&result).contains("STS avg"));
    }

    #[test]
    fn the_average_rounds_each_task_first_and_missing_is_no_number() {
        let mut result = ResultFile::new("evaluate", DataInfo::default());
        let mut add = |task: &str, metric: &str, value: f64| {
            result.rows.push(Row::Embedding(EmbeddingRow {
                stage: "model".into(),
                task: task.into(),
                split: "test".into(),
                metric: metric.into(),
                aggregation: "all".into(),
                value,
                ..EmbeddingRow::default()
            }));
        };
        for (i, task) in STS_TASKS.into_iter().enumerate() {
            // Four times 70.0051 and three times 70.0001: 70.0030 as they are, (4 * 70.01 + 3 * 70)
            // / 7 = 70.0057 if each is rounded first.
            add(task, "spearman", if i < 4 { 0.700051 } else { 0.700001 });
            add(task, "pearson", if task == "STSB" { f64::NAN } else { 0.5 });
        }
        add("STSB", "uniformity", -2.337);
        let table = text_table(&result);
        let row = |metric: &str| {
            let block = table.split("\n\n").find(|block| block.contains(metric));
            block.unwrap().lines().last().unwrap().to_owned()
        };
        assert!(row("spearman").ends_with("70.00  70.01"), "{table}");
        let found = row("pearson");
        assert_eq!(found.split_whitespace().count(), 7, "{table}");
        assert!(!found.contains("NaN"), "{table}");
        assert!(row("uniformity").ends_with("-2.3370"), "{table}");
    }

    #[test]
    fn parts_that_do_not_fit_are_named() {
        let message = |change: fn(&mut ReportInput)| {
            let mut input = input(3);
            change(&mut input);
            let folder = tempfile::tempdir().unwrap();
            let error = write_report(folder.path(), &input).unwrap_err().to_string();
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
            error
        };
        assert_eq!(
            message(|input| input.projection.as_mut().unwrap().texts.truncate(2)),
            "report input `projection.texts`: expected 12 entries, one a point, found 2"
        );
        assert_eq!(
            message(|input| input.projection.as_mut().unwrap().coarse[1] = 2),
            "report input `projection.coarse`: expected numbers below 2, found 2"
        );
        assert_eq!(
            message(|input| input.fine_names = None),
            "report input `projection.fine`: expected numbers below 0, found 0"
        );
        assert!(message(|input| input.categories[1].id = usize::MAX).contains("categories[1].id"));
        assert_eq!(
            message(|input| input.categories[2].coarse_counts.push(1)),
            "report input `categories[2].coarse_counts`: expected 2 entries, one a coarse name, \
             found 3"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        std::fs::write(&taken, "a file").unwrap();
        let error = write_report(&taken, &ReportInput::new(scores("own"))).unwrap_err();
        assert!(error.to_string().contains("taken"), "{error}");
    }

    #[test]
    fn the_majority_is_the_first_of_equals() {
        let category = |counts: &[usize]| CategorySummary {
            coarse_counts: counts.to_vec(),
            ..CategorySummary::default()
        };
        assert_eq!(category(&[2, 5, 5]).majority(), Some((1, 5)));
        assert_eq!(category(&[0, 0]).majority(), None);
        assert_eq!(category(&[]).majority(), None);
        assert_eq!(category(&[]).label(), "#0");
    }
}
