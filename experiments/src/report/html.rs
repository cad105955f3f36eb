//! The page: view of the input, template, content policy.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::svg::{
    Bar, BarChart, BarSeries, Colouring, HeatMap, LineChart, Scatter, Series, Svg, palette, shorten,
};
use super::{
    CategorySummary, PublishedData, ReportError, ReportInput, SOURCES, STS_TASKS, ScoreTable,
    TaskTable, mean_and_spread, metric_title, model_label, percent, published_value,
};
use crate::result::{Gain, ResultError, ResultFile, Row, Timing, Verdict};

/// The page with its style and script.
const TEMPLATE: &str = include_str!("report.html.j2");

/// Stands in the page until its style and script can be hashed. It occurs in the first line that
/// the template writes, before any text of the user.
const POLICY_MARK: &str = "@policy@";

/// Examples shown of a category.
const EXAMPLES: usize = 10;

/// Characters of an example that are shown before it has to be opened.
const EXAMPLE_LENGTH: usize = 220;

/// Up to this many categories all of them start opened.
const OPEN_CATEGORIES: usize = 12;

/// Renders the page and the drawings that stand beside it, by file name without extension.
pub(super) fn render(input: &ReportInput) -> Result<(String, Vec<(String, Svg)>), ReportError> {
    let result = &input.result;
    let mut plots: Vec<(String, Svg)> = Vec::new();
    let mut inline = Vec::new();

    let table = ScoreTable::new(result);
    let scores: Vec<Value> = score_charts(&table)
        .into_iter()
        .map(|(inference, chart)| {
            let drawing = chart.render();
            let markup = Value::from_safe_string(drawing.inline());
            plots.push((format!("scores-{}", slug(&inference)), drawing));
            markup
        })
        .collect();
    for (group, chart) in loss_charts(input) {
        let drawing = chart.render();
        inline.push(Value::from_safe_string(drawing.inline()));
        plots.push((format!("loss-{}", slug(&group)), drawing));
    }
    if let Some(chart) = space_path(input) {
        let drawing = chart.render();
        inline.push(Value::from_safe_string(drawing.inline()));
        plots.push(("alignment-uniformity".to_owned(), drawing));
    }

    let mut rfd = Value::from(());
    if let Some(report) = &input.rfd {
        let mut draw = |name: &str, drawing: Svg| {
            let markup = Value::from_safe_string(drawing.inline());
            plots.push((name.to_owned(), drawing));
            markup
        };
        let picture = draw("rfd", report.picture().render());
        let [alignment, uniformity] = report.traces();
        let traces = [
            draw("rfd-alignment", alignment.render()),
            draw("rfd-uniformity", uniformity.render()),
        ];
        rfd = context! { picture, traces, table => report.view() };
    }

    let mut numbers = Vec::new();
    for (name, chart) in &input.charts {
        let drawing = chart.render();
        numbers.push(Value::from_safe_string(drawing.inline()));
        plots.push((slug(name), drawing));
    }

    let mut palette_rules = String::new();
    let mut map = Value::from(());
    if let Some((scatter, title)) = scatter(input) {
        for (which, colouring) in scatter.colourings.iter().enumerate() {
            let mut single = scatter.clone();
            single.title = format!("{title}, coloured by {}", colouring.title());
            plots.push((format!("tsne-{}", colouring.key), single.render(which)));
        }
        let (drawing, rules) = scatter.render_switchable();
        palette_rules = rules;
        let options: Vec<Value> = scatter
            .colourings
            .iter()
            .map(|c| context! { key => c.key, title => c.title(), count => distinct(&c.ids) })
            .collect();
        map = context! { svg => Value::from_safe_string(drawing.inline()), options };
    }

    let order = category_order(&input.categories);
    let mut confusion = Value::from(());
    if !order.is_empty() && !input.coarse_names.is_empty() {
        let drawing = confusion_map(input, &order).render();
        confusion = Value::from_safe_string(drawing.inline());
        plots.push(("confusion".to_owned(), drawing));
    }

    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_template("report.html", TEMPLATE)?;
    let page = environment.get_template("report.html")?.render(context! {
        policy => POLICY_MARK,
        palette_rules => Value::from_safe_string(palette_rules),
        head => head(result),
        table => score_view(&table),
        tasks => task_view(result),
        gains => gains(&table),
        sampling => sampling(result, &table),
        published => published(result),
        scores,
        losses => inline,
        numbers,
        rfd,
        map,
        confusion,
        groups => category_groups(input, &order),
        n_categories => input.categories.len(),
        open => input.categories.len() <= OPEN_CATEGORIES,
        timing => result.timing.iter().map(timing_view).collect::<Vec<_>>(),
        hashes => result.data.sha256,
        model => pretty(&result.model)?,
        config => pretty(&result.config)?,
    })?;
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; \
         form-action 'none'",
        hash_of(&page, "<style>", "</style>"),
        hash_of(&page, "<script>", "</script>"),
    );
    Ok((page.replacen(POLICY_MARK, &policy, 1), unique(plots)))
}

// ---------------------------------------------------------------------------------------------
// Charts

/// One chart for every inference that was scored on the test split.
fn score_charts(table: &ScoreTable) -> Vec<(String, BarChart)> {
    let rows = || table.rows.iter().filter(|row| row.split == "test");
    let mut inferences: Vec<&str> = Vec::new();
    for row in rows() {
        if !inferences.contains(&row.inference.as_str()) {
            inferences.push(&row.inference);
        }
    }
    inferences
        .into_iter()
        .map(|inference| {
            let members: Vec<_> = rows().filter(|row| row.inference == inference).collect();
            let series = ["acc", "ari", "nmi"]
                .into_iter()
                .filter_map(|metric| {
                    let column = table.metrics.iter().position(|known| known == metric)?;
                    let bars: Vec<Option<Bar>> = members
                        .iter()
                        .map(|row| {
                            let cell = row.cells.get(column)?.as_ref()?;
                            let published = row.published.as_ref();
                            Some(Bar {
                                mean: 100.0 * cell.mean,
                                std: cell.std.map(|std| 100.0 * std),
                                reference: published.and_then(|p| p.scores.metric(metric)),
                            })
                        })
                        .collect();
                    let name = metric_title(metric);
                    bars.iter()
                        .any(Option::is_some)
                        .then_some(BarSeries { name, bars })
                })
                .collect();
            let chart = BarChart {
                title: format!("Scores by stage, inference: {inference}"),
                y_label: "score × 100".to_owned(),
                groups: members.iter().map(|row| row.stage.clone()).collect(),
                series,
            };
            (inference.to_owned(), chart)
        })
        .collect()
}

/// One chart for every group of curves, in the order of their first curve.
fn loss_charts(input: &ReportInput) -> Vec<(String, LineChart)> {
    let mut groups: Vec<(String, Vec<Series>)> = Vec::new();
    for curve in &input.curves {
        let (group, name) = curve.name.split_once('/').unwrap_or(("all", &curve.name));
        let series = Series {
            name: name.to_owned(),
            points: curve.points.clone(),
        };
        match groups.iter_mut().find(|(known, _)| known == group) {
            Some((_, members)) => members.push(series),
            None => groups.push((group.to_owned(), vec![series])),
        }
    }
    groups
        .into_iter()
        .map(|(group, series)| {
            let log_y = LineChart::prefers_log(&series);
            let title = if group == "all" {
                "Training".to_owned()
            } else {
                format!("Training: {group}")
            };
            let y_label = if log_y { "value (log)" } else { "value" };
            let chart = LineChart {
                title,
                x_label: "step".to_owned(),
                y_label: y_label.to_owned(),
                series,
                log_y,
            };
            (group, chart)
        })
        .collect()
}

/// Where training moves an encoder between alignment and uniformity (lower is better in both), one
/// path a stage and seed; from the development set.
fn space_path(input: &ReportInput) -> Option<LineChart> {
    let series: Vec<Series> = input
        .curves
        .iter()
        .filter_map(|alignment| {
            let stage = alignment.name.strip_prefix("dev_alignment/")?;
            let name = format!("dev_uniformity/{stage}");
            let same = |curve: &&super::Curve| curve.name == name && curve.seed == alignment.seed;
            let uniformity = input.curves.iter().find(same)?;
            let points = uniformity.points.iter().zip(&alignment.points);
            Some(Series {
                name: stage.to_owned(),
                points: points.map(|((_, x), (_, y))| (*x, *y)).collect(),
            })
        })
        .collect();
    (!series.is_empty()).then(|| LineChart {
        title: "Alignment against uniformity".to_owned(),
        x_label: "uniformity".to_owned(),
        y_label: "alignment".to_owned(),
        series,
        log_y: false,
    })
}

fn scatter(input: &ReportInput) -> Option<(Scatter, &'static str)> {
    let projection = input.projection.as_ref()?;
    let title = "t-SNE of the embeddings";
    let labels: BTreeMap<usize, String> = input
        .categories
        .iter()
        .map(|category| (category.id, category.label()))
        .collect();
    let most = projection.found.iter().chain(labels.keys()).max().copied();
    let found_names: Vec<String> = (0..most.map_or(0, |id| id + 1))
        .map(|id| labels.get(&id).cloned().unwrap_or_else(|| format!("#{id}")))
        .collect();
    let mut colourings = vec![Colouring {
        key: "coarse".to_owned(),
        ids: projection.coarse.clone(),
        names: input.coarse_names.clone(),
    }];
    if let (Some(ids), Some(names)) = (&projection.fine, &input.fine_names) {
        colourings.push(Colouring {
            key: "fine".to_owned(),
            ids: ids.clone(),
            names: names.clone(),
        });
    }
    colourings.push(Colouring {
        key: "found".to_owned(),
        ids: projection.found.clone(),
        names: found_names,
    });
    let hover = projection
        .texts
        .iter()
        .enumerate()
        .map(|(i, text)| {
            let labels: Vec<&str> = colourings
                .iter()
                .filter_map(|c| Some(c.names.get(*c.ids.get(i)?)?.as_str()))
                .collect();
            format!("{} — {text}", labels.join(" / "))
        })
        .collect();
    let scatter = Scatter {
        title: title.to_owned(),
        points: projection.xy.clone(),
        colourings,
        hover,
    };
    Some((scatter, title))
}

impl Colouring {
    fn title(&self) -> &'static str {
        match self.key.as_str() {
            "coarse" => "coarse label",
            "fine" => "fine label",
            _ => "found category",
        }
    }
}

fn distinct(ids: &[usize]) -> usize {
    ids.iter().collect::<BTreeSet<_>>().len()
}

fn confusion_map(input: &ReportInput, order: &[&CategorySummary]) -> HeatMap {
    HeatMap {
        title: "Found categories against coarse labels".to_owned(),
        row_names: order
            .iter()
            .map(|category| format!("{} ({})", shorten(&category.label(), 40), category.size))
            .collect(),
        column_names: input.coarse_names.clone(),
        counts: order
            .iter()
            .map(|category| category.coarse_counts.clone())
            .collect(),
    }
}

/// Categories by majority coarse label, then by size: pure categories form a diagonal.
fn category_order(categories: &[CategorySummary]) -> Vec<&CategorySummary> {
    let mut order: Vec<&CategorySummary> = categories.iter().collect();
    order.sort_by_key(|category| {
        let coarse = category.majority().map_or(usize::MAX, |(coarse, _)| coarse);
        (coarse, std::cmp::Reverse(category.size), category.id)
    });
    order
}

// ---------------------------------------------------------------------------------------------
// Views

#[derive(Serialize)]
struct Head {
    experiment: String,
    data: String,
    facts: Vec<(&'static str, String)>,
    tiles: Vec<Tile>,
    schema: String,
}

#[derive(Serialize)]
struct Tile {
    value: String,
    spread: Option<String>,
    label: String,
}

fn head(result: &ResultFile) -> Head {
    let data = &result.data;
    let mut facts = vec![(
        "data",
        format!("{} train, {} test rows", data.train_rows, data.test_rows),
    )];
    if data.n_coarse > 0 {
        let fine = match data.n_fine {
            0 => "fine unknown".to_owned(),
            n => format!("{n} fine"),
        };
        facts.push(("labels", format!("{} coarse, {fine}", data.n_coarse)));
    }
    let model = model_label(&result.model);
    if !model.is_empty() {
        facts.push(("model", model));
    }
    let seeds: Vec<String> = result.seeds().iter().map(u64::to_string).collect();
    if !seeds.is_empty() {
        facts.push(("seeds", seeds.join(", ")));
    }
    let threads = match result.threads {
        0 => String::new(),
        1 => ", 1 thread".to_owned(),
        n => format!(", {n} threads"),
    };
    if !result.device.is_empty() {
        facts.push(("device", format!("{}{threads}", result.device)));
    }
    if result.total_s.is_finite() {
        facts.push(("wall time", duration(result.total_s)));
    }
    if result.peak_rss_mb.is_finite() && result.peak_rss_mb > 0.0 {
        facts.push(("peak memory", format!("{:.0} MiB", result.peak_rss_mb)));
    }
    for (name, hash) in &data.sha256 {
        let start: String = hash.chars().take(12).collect();
        facts.push(("sha-256", format!("{start}… {name}")));
    }
    Head {
        experiment: result.experiment.clone(),
        data: data.name.clone(),
        facts,
        tiles: tiles(result),
        schema: result.schema.clone(),
    }
}

/// The figures of the last stage, clustering first.
fn tiles(result: &ResultFile) -> Vec<Tile> {
    let table = ScoreTable::new(result);
    let rows = || table.rows.iter().filter(|row| row.split == "test").rev();
    let clustered = rows().find(|row| row.inference == "cluster");
    if let Some(row) = clustered.or_else(|| rows().next()) {
        return table
            .metrics
            .iter()
            .zip(&row.cells)
            .filter_map(|(metric, cell)| Some((metric, cell.as_ref()?)))
            .filter(|(metric, _)| ["acc", "ari", "nmi"].contains(&metric.as_str()))
            .map(|(metric, cell)| Tile {
                value: percent(cell.mean),
                spread: cell.std.map(percent),
                label: format!("{} · {}", metric_title(metric), row.stage),
            })
            .collect();
    }
    let tables = TaskTable::all(result);
    let averages = tables.iter().filter_map(|table| {
        let row = table.rows.iter().rfind(|row| row.average.is_some())?;
        Some(Tile {
            value: percent(row.average?),
            spread: None,
            label: format!("STS avg, {} · {}", table.metric, row.stage),
        })
    });
    averages.collect()
}

fn score_view(table: &ScoreTable) -> Value {
    let show_split = table.rows.iter().any(|row| row.split != "test");
    let show_published = table.rows.iter().any(|row| row.published.is_some());
    // The best mean of every column among rows of one inference and split is set in bold.
    let best = |row: &super::ScoreRow, column: usize| {
        let mean = |row: &super::ScoreRow| {
            row.cells
                .get(column)
                .and_then(|cell| cell.as_ref().map(|cell| cell.mean))
        };
        let peers = table
            .rows
            .iter()
            .filter(|peer| peer.inference == row.inference && peer.split == row.split);
        let means: Vec<f64> = peers.filter_map(mean).collect();
        let own = mean(row);
        means.len() > 1 && own.is_some_and(|own| means.iter().all(|other| own >= *other))
    };
    let mut previous = None;
    let rows: Vec<Value> = table
        .rows
        .iter()
        .map(|row| {
            let cells: Vec<Value> = row
                .cells
                .iter()
                .enumerate()
                .map(|(column, cell)| {
                    context! {
                        mean => cell.as_ref().map(|cell| percent(cell.mean)),
                        std => cell.as_ref().and_then(|cell| cell.std).map(percent),
                        best => best(row, column),
                    }
                })
                .collect();
            let published = row.published.as_ref().map(|published| {
                context! {
                    values => [published.scores.acc, published.scores.ari, published.scores.nmi]
                        .map(published_value),
                    method => published.counterpart.row.method,
                    source => published.counterpart.row.source,
                    same => published.counterpart.same_method,
                }
            });
            let first = previous != Some(&row.stage);
            previous = Some(&row.stage);
            context! {
                stage => row.stage,
                first,
                inference => row.inference,
                split => row.split,
                cells,
                seeds => row.seeds,
                published,
            }
        })
        .collect();
    let metrics: Vec<String> = table.metrics.iter().map(|m| metric_title(m)).collect();
    context! { metrics, rows, show_split, show_published, notes => table.notes }
}

fn task_view(result: &ResultFile) -> Vec<Value> {
    let view = |table: &TaskTable| {
        let rows: Vec<Value> = table
            .rows
            .iter()
            .map(|row| {
                let cells: Vec<String> = row
                    .cells
                    .iter()
                    .map(|cell| mean_and_spread(cell.as_ref()))
                    .collect();
                let average = row.average.map_or("-".to_owned(), percent);
                context! { stage => row.stage, cells, average }
            })
            .chain(table.published.iter().map(|row| {
                context! { stage => row.label, cells => row.cells, average => row.average }
            }))
            .collect();
        context! {
            metric => table.metric,
            scaled => table.is_scaled(),
            tasks => table.tasks,
            rows,
            averaged => table.with_average().then(|| STS_TASKS.join(", ")),
        }
    };
    TaskTable::all(result).iter().map(view).collect()
}

/// Differences between successive stages, and between the last and the first, for every inference
/// on the test split.
fn gains(table: &ScoreTable) -> Vec<Value> {
    let rows = || table.rows.iter().filter(|row| row.split == "test");
    let mut inferences: Vec<&str> = Vec::new();
    for row in rows() {
        if !inferences.contains(&row.inference.as_str()) {
            inferences.push(&row.inference);
        }
    }
    let mut out = Vec::new();
    for inference in inferences {
        let stages: Vec<_> = rows().filter(|row| row.inference == inference).collect();
        let mut pairs: Vec<_> = stages
            .windows(2)
            .filter_map(|w| Some((w.first()?, w.last()?)))
            .collect();
        if let (true, Some(first), Some(last)) = (stages.len() > 2, stages.first(), stages.last()) {
            pairs.push((first, last));
        }
        for (base, other) in pairs {
            let cells: Vec<Value> = ["acc", "ari", "nmi"]
                .iter()
                .map(|metric| {
                    let column = table.metrics.iter().position(|known| known == metric);
                    let gain = column.and_then(|column| {
                        let base = base.cells.get(column)?.as_ref()?;
                        let other = other.cells.get(column)?.as_ref()?;
                        Some(Gain::between(base, other))
                    });
                    gain.map_or(Value::from(()), gain_view)
                })
                .collect();
            out.push(context! {
                inference,
                base => base.stage,
                other => other.stage,
                cells,
            });
        }
    }
    out
}

fn gain_view(gain: Gain) -> Value {
    let (class, verdict) = match (gain.verdict, gain.gain > 0.0) {
        (Verdict::AboveSpread, true) => ("up", "gain above the seed spread"),
        (Verdict::AboveSpread, false) => ("down", "loss above the seed spread"),
        (Verdict::WithinSpread, _) => ("none", "within the seed spread"),
        (Verdict::TooFewSeeds, _) => ("none", "too few seeds to tell"),
    };
    context! {
        gain => format!("{:+.2}", 100.0 * gain.gain),
        half => gain.half.map(percent),
        class,
        verdict,
    }
}

/// Standard error of the last accuracy that comes from the size of the test set alone.
fn sampling(result: &ResultFile, table: &ScoreTable) -> Option<Value> {
    let column = table.metrics.iter().position(|metric| metric == "acc")?;
    let first = table.rows.iter().find(|row| row.split == "test")?;
    let row = table
        .rows
        .iter()
        .rev()
        .find(|row| row.split == "test" && row.inference == first.inference)?;
    let mean = row.cells.get(column)?.as_ref()?.mean;
    let rows = result.data.test_rows;
    if rows == 0 {
        return None;
    }
    let error = (mean * (1.0 - mean)).max(0.0) / rows as f64;
    Some(context! { acc => percent(mean), rows, error => percent(error.sqrt()) })
}

fn published(result: &ResultFile) -> Option<Value> {
    // Embedding runs on data of the same name would not be comparable.
    result
        .rows
        .iter()
        .find(|row| matches!(row, Row::Category(_)))?;
    let data = PublishedData::from_name(&result.data.name)?;
    let rows: Vec<Value> = super::ROWS
        .iter()
        .filter(|row| row.scores(data).is_known())
        .map(|row| {
            let scores = row.scores(data);
            context! {
                method => row.method,
                group => row.group,
                source => row.source,
                values => [scores.acc, scores.ari, scores.nmi].map(published_value),
            }
        })
        .collect();
    Some(context! { rows, sources => SOURCES, encoder => super::ENCODER })
}

#[derive(Serialize)]
struct Group {
    coarse: Option<String>,
    size: usize,
    categories: Vec<CategoryView>,
}

#[derive(Serialize)]
struct CategoryView {
    id: usize,
    label: String,
    named: bool,
    colour: String,
    size: usize,
    share: Option<String>,
    others: String,
    teaser: String,
    examples: Vec<Example>,
}

#[derive(Serialize)]
struct Example {
    start: String,
    whole: Option<String>,
}

fn category_groups(input: &ReportInput, order: &[&CategorySummary]) -> Vec<Group> {
    let found = input.projection.as_ref().map(|p| p.found.as_slice());
    let ids = input.categories.iter().map(|category| category.id);
    let most = ids.chain(found.unwrap_or_default().iter().copied()).max();
    let colours = palette(most.map_or(0, |id| id + 1));
    let coarse_name = |coarse: usize| input.coarse_names.get(coarse).cloned();
    let mut groups: Vec<(Option<usize>, Group)> = Vec::new();
    for category in order {
        let majority = category.majority();
        let key = majority.map(|(coarse, _)| coarse);
        if groups.last().is_none_or(|(last, _)| *last != key) {
            groups.push((
                key,
                Group {
                    coarse: key.and_then(coarse_name),
                    size: 0,
                    categories: Vec::new(),
                },
            ));
        }
        if let Some((_, group)) = groups.last_mut() {
            group.size += category.size;
            let colour = colours.get(category.id).cloned();
            group
                .categories
                .push(category_view(input, category, colour.unwrap_or_default()));
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn category_view(input: &ReportInput, category: &CategorySummary, colour: String) -> CategoryView {
    let total: usize = category.coarse_counts.iter().sum();
    let majority = category.majority();
    let mut others: Vec<(usize, &str)> = category
        .coarse_counts
        .iter()
        .zip(&input.coarse_names)
        .enumerate()
        .filter(|(coarse, (count, _))| {
            **count > 0 && majority.is_some_and(|(most, _)| most != *coarse)
        })
        .map(|(_, (count, name))| (*count, name.as_str()))
        .collect();
    others.sort_by_key(|other| std::cmp::Reverse(other.0));
    let others: Vec<String> = others
        .iter()
        .take(4)
        .map(|(count, name)| format!("{} ({count})", shorten(name, 40)))
        .collect();
    let examples: Vec<Example> = category
        .examples
        .iter()
        .take(EXAMPLES)
        .map(|text| {
            let start = shorten(text, EXAMPLE_LENGTH);
            let whole = (start != *text).then(|| text.clone());
            Example { start, whole }
        })
        .collect();
    CategoryView {
        id: category.id,
        label: category.label(),
        named: category.label() != format!("#{}", category.id),
        colour,
        size: category.size,
        share: majority
            .map(|(_, count)| format!("{:.0} %", 100.0 * count as f64 / total.max(1) as f64)),
        others: others.join(", "),
        teaser: category
            .examples
            .first()
            .map_or(String::new(), |text| shorten(text, 110)),
        examples,
    }
}

fn timing_view(timing: &Timing) -> Value {
    let step = timing.step_ms.map(|step| {
        [step.min, step.median, step.max].map(|ms| {
            if ms.is_finite() {
                format!("{ms:.1}")
            } else {
                "–".to_owned()
            }
        })
    });
    let sum = |values: &[f64]| {
        let total: f64 = values.iter().filter(|s| s.is_finite()).sum();
        if values.is_empty() {
            "–".to_owned()
        } else {
            format!(
                "{} × {}",
                values.len(),
                duration(total / values.len() as f64)
            )
        }
    };
    context! {
        stage => timing.stage,
        steps => timing.steps,
        step,
        epochs => sum(&timing.epoch_s),
        refills => sum(&timing.refill_s),
        evaluate => timing
            .evaluate_s
            .filter(|s| s.is_finite())
            .map_or("–".to_owned(), duration),
    }
}

fn duration(seconds: f64) -> String {
    if seconds < 1.0 {
        return format!("{:.0} ms", 1000.0 * seconds);
    }
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round().min(1e15) as u64;
    if whole < 3600 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{} h {:02} min", whole / 3600, whole % 3600 / 60)
    }
}

fn pretty(value: &serde_json::Value) -> Result<Option<String>, ReportError> {
    if value.is_null() {
        return Ok(None);
    }
    let text = serde_json::to_string_pretty(value).map_err(ResultError::from)?;
    Ok(Some(text))
}

// ---------------------------------------------------------------------------------------------
// Names and hashes

/// A part of a file name: lower-case letters, digits and hyphens.
fn slug(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars().take(60) {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.ends_with('-') {
            out.push('-');
        }
    }
    let out = out.trim_matches('-');
    if out.is_empty() { "other" } else { out }.to_owned()
}

/// Numbers the names that occur more than once.
fn unique(plots: Vec<(String, Svg)>) -> Vec<(String, Svg)> {
    let mut used: BTreeSet<String> = BTreeSet::new();
    plots
        .into_iter()
        .map(|(name, plot)| {
            let mut candidate = name.clone();
            let mut number = 2;
            while !used.insert(candidate.clone()) {
                candidate = format!("{name}-{number}");
                number += 1;
            }
            (candidate, plot)
        })
        .collect()
}

/// SHA-256 in base 64 of what stands between the first `open` and the next `close`, as content
/// policies want it.
fn hash_of(page: &str, open: &str, close: &str) -> String {
    let inside = page
        .split_once(open)
        .and_then(|(_, rest)| rest.split_once(close))
        .map_or("", |(inside, _)| inside);
    base64(&Sha256::digest(inside.as_bytes()))
}

/// Base 64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let group = (0..3).fold(0_u32, |group, i| {
            group << 8 | u32::from(chunk.get(i).copied().unwrap_or(0))
        });
        for i in 0..4 {
            let index = (group >> (18 - 6 * i) & 63) as usize;
            let digit = ALPHABET.get(index).filter(|_| i <= chunk.len());
            out.push(digit.map_or('=', |digit| char::from(*digit)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn base64_agrees_with_the_vectors_of_rfc_4648() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (text, code) in vectors {
            assert_eq!(base64(text.as_bytes()), code);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn names_of_files_are_plain_and_distinct() {
        assert_eq!(slug("../Star DOWN/\u{e9}"), "star-down");
        assert_eq!(slug("///"), "other");
        let plot = || Scatter::default().render(0);
        let names: Vec<String> = unique(vec![
            ("loss-a".into(), plot()),
            ("loss-a".into(), plot()),
            ("loss-a-2".into(), plot()),
        ])
        .into_iter()
        .map(|(name, _)| name)
        .collect();
        assert_eq!(names, ["loss-a", "loss-a-2", "loss-a-2-2"]);
    }

    #[test]
    fn durations_read_naturally() {
        assert_eq!(duration(0.25), "250 ms");
        assert_eq!(duration(59.94), "59.9 s");
        assert_eq!(duration(61.0), "1 min 01 s");
        assert_eq!(duration(7260.0), "2 h 01 min");
    }
}
