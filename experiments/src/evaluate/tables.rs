//! The figures as text.

use datasets::{StsName, TransferName};
use metrics::{Aggregation, MetricsError, StsScores, TaskAverage, TaskTable};

use super::published::{PublishedRow, STS, TRANSFER};
use super::{Evaluation, Mode, StsResult};

/// Column heads of the published STS tables.
pub const STS_COLUMNS: [&str; 7] = [
    "STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R",
];

/// Published rows shown below ours.
const SHOWN: [&str; 2] = ["SimCSE-BERT-base (unsup)", "SimCSE-BERT-base (sup)"];

/// Everything as text: the table of the papers, the other aggregations and Pearson, transfer tasks,
/// the space, retrieval.
///
/// # Errors
/// None with results of [`evaluate`](super::evaluate); [`MetricsError::Shape`] otherwise.
pub fn text(
    name: &str,
    evaluation: &Evaluation,
    average: TaskAverage,
) -> Result<String, MetricsError> {
    let mut blocks = Vec::new();
    let known: Vec<&StsResult> = StsName::ALL
        .into_iter()
        .filter_map(|task| find(&evaluation.sts, task.name()))
        .collect();
    if !known.is_empty() {
        blocks.push(published_table(name, evaluation, average)?);
        blocks.push(correlation_table(evaluation, average)?);
    }
    let own: Vec<&StsResult> = evaluation
        .sts
        .iter()
        .filter(|result| !known.iter().any(|known| known.task == result.task))
        .collect();
    for result in own {
        let [spearman, pearson] = [&result.scores.spearman, &result.scores.pearson]
            .map(|correlation| percent(Some(correlation.all)));
        blocks.push(format!(
            "{}: {} pairs, Spearman {spearman}, Pearson {pearson}\n",
            result.task, result.scores.pairs
        ));
    }
    if !evaluation.transfer.is_empty() {
        blocks.push(transfer_table(name, evaluation, average)?);
    }
    if let Some(space) = &evaluation.space {
        let figure = |value: Option<f64>| value.map_or("-".to_owned(), |x| format!("{x:.4}"));
        blocks.push(format!(
            "Space (STS-B {}, {} pairs above {}, {} distinct sentences)\n\
             alignment {}, uniformity {}, average cosine {}, IsoScore {}\n",
            evaluation.mode.part().name(),
            space.positives,
            super::POSITIVE_ABOVE,
            space.sentences,
            figure(space.alignment),
            figure(space.uniformity),
            figure(space.average_cosine),
            figure(space.iso_score),
        ));
    }
    for result in &evaluation.retrieval {
        let figures: Vec<String> = result
            .figures()
            .into_iter()
            .map(|(name, value)| format!("{name} {}", percent(Some(value))))
            .collect();
        blocks.push(format!(
            "{}: {} queries over {} documents, x 100\n{}\n",
            result.task,
            result.scores.queries,
            result.documents,
            figures.join(", ")
        ));
    }
    Ok(blocks.join("\n"))
}

/// Spearman over all pairs of each task, with published rows below when test parts were scored.
fn published_table(
    name: &str,
    evaluation: &Evaluation,
    average: TaskAverage,
) -> Result<String, MetricsError> {
    let tasks = sts_tasks(evaluation.mode);
    let mut table = TaskTable::new("Model", columns(&tasks), average);
    let spearman = |scores: &StsScores| scores.spearman.all;
    table.push(name, &values(evaluation, &tasks, spearman))?;
    if evaluation.mode != Mode::Dev {
        push_published(&mut table, &STS)?;
    }
    Ok(format!(
        "STS ({}), Spearman x 100, all pairs of a task together\n{table}",
        evaluation.mode.part().name()
    ))
}

fn correlation_table(
    evaluation: &Evaluation,
    average: TaskAverage,
) -> Result<String, MetricsError> {
    let tasks = sts_tasks(evaluation.mode);
    let mut table = TaskTable::new("Measure", columns(&tasks), average);
    for metric in ["Spearman", "Pearson"] {
        for aggregation in Aggregation::ALL {
            let value = |scores: &StsScores| {
                let correlation = match metric {
                    "Spearman" => &scores.spearman,
                    _ => &scores.pearson,
                };
                correlation.get(aggregation)
            };
            table.push(
                format!("{metric}, {}", aggregation.name()),
                &values(evaluation, &tasks, value),
            )?;
        }
    }
    Ok(format!(
        "Both correlations x 100; subsets joined (all), averaged (mean), averaged by size (wmean)\n{table}"
    ))
}

fn transfer_table(
    name: &str,
    evaluation: &Evaluation,
    average: TaskAverage,
) -> Result<String, MetricsError> {
    let find = |task: TransferName| evaluation.transfer.iter().find(|r| r.task == task);
    let names = TransferName::ALL.map(TransferName::name);
    let mut table = TaskTable::new("Model", names, average);
    let test =
        TransferName::ALL.map(|task| find(task)?.score.test.as_ref().map(|test| test.accuracy));
    if test.iter().any(Option::is_some) {
        table.push(name, &test)?;
        push_published(&mut table, &TRANSFER)?;
    }
    let dev = TransferName::ALL.map(|task| find(task).map(|result| result.score.dev_accuracy));
    table.push(format!("{name}, selection (devacc)"), &dev)?;
    let f1 = find(TransferName::Mrpc)
        .and_then(|result| result.score.test.as_ref()?.f1)
        .map_or(String::new(), |f1| {
            format!("MRPC F1 {}\n", percent(Some(f1)))
        });
    Ok(format!(
        "Transfer ({}), accuracy x 100\n{table}{f1}",
        evaluation.mode
    ))
}

fn push_published(table: &mut TaskTable, rows: &[PublishedRow]) -> Result<(), MetricsError> {
    for row in rows.iter().filter(|row| SHOWN.contains(&row.model)) {
        let values = row.scores.map(|score| Some(score / 100.0));
        table.push(format!("{}, published", row.model), &values)?;
    }
    Ok(())
}

/// Tasks with the part that a mode scores, in the order of the tables.
fn sts_tasks(mode: Mode) -> Vec<StsName> {
    match mode {
        Mode::Dev => vec![StsName::StsB, StsName::SickR],
        Mode::Test | Mode::FastTest => StsName::ALL.to_vec(),
    }
}

fn columns(tasks: &[StsName]) -> Vec<&'static str> {
    StsName::ALL
        .iter()
        .zip(STS_COLUMNS)
        .filter(|(task, _)| tasks.contains(task))
        .map(|(_, column)| column)
        .collect()
}

fn values(
    evaluation: &Evaluation,
    tasks: &[StsName],
    value: impl Fn(&StsScores) -> f64,
) -> Vec<Option<f64>> {
    tasks
        .iter()
        .map(|task| find(&evaluation.sts, task.name()).map(|result| value(&result.scores)))
        .collect()
}

fn find<'a>(results: &'a [StsResult], task: &str) -> Option<&'a StsResult> {
    results.iter().find(|result| result.task == task)
}

fn percent(value: Option<f64>) -> String {
    let value = value.filter(|value| value.is_finite());
    value.map_or("-".to_owned(), |value| format!("{:.2}", value * 100.0))
}
