//! `report.html` and plots of a discovery.

use std::collections::BTreeMap;
use std::path::Path;

use categories::Catalogue;

use super::error::DiscoverError;
use super::files::ALL_TEXTS;
use super::input::Texts;
use super::map::Map;
use super::run::ClassSummary;
use crate::report::svg::{LineChart, Series};
use crate::report::{CategorySummary, Projection, ReportInput, write_report};
use crate::result::ResultFile;

/// Most points of the picture in the report.
const POINTS: usize = 3000;

/// What a report shows beside the catalogue.
pub(crate) struct Shown<'a> {
    pub(crate) texts: &'a Texts,
    /// Place of each text's category.
    pub(crate) assigned: &'a [usize],
    pub(crate) map: Option<&'a Map>,
    pub(crate) classes: &'a [ClassSummary],
}

/// Writes `report.html` and `plots/`.
pub(crate) fn write(
    dir: &Path,
    result: ResultFile,
    catalogue: &Catalogue,
    shown: &Shown<'_>,
) -> Result<(), DiscoverError> {
    let mut input = ReportInput::new(result);
    input.coarse_names = catalogue.coarse_names.clone();
    if input.coarse_names.is_empty() {
        input.coarse_names.push(ALL_TEXTS.to_owned());
    }
    let place = |name: Option<&String>| {
        let at = name.and_then(|name| input.coarse_names.iter().position(|other| other == name));
        at.unwrap_or(0)
    };
    let coarse: Vec<usize> = shown
        .texts
        .rows
        .iter()
        .map(|text| place(text.coarse.as_ref()))
        .collect();
    let mut counts = vec![vec![0; input.coarse_names.len()]; catalogue.categories.len()];
    for (category, coarse) in shown.assigned.iter().zip(&coarse) {
        if let Some(count) = counts
            .get_mut(*category)
            .and_then(|row| row.get_mut(*coarse))
        {
            *count += 1;
        }
    }
    input.categories = catalogue
        .active()
        .zip(counts)
        .map(|(category, coarse_counts)| CategorySummary {
            id: category.id.0 as usize,
            name: Some(category.name.clone()),
            size: category.size,
            coarse_counts,
            examples: category.medoids.clone(),
        })
        .collect();
    let mut fine: BTreeMap<&str, usize> = shown
        .texts
        .rows
        .iter()
        .filter_map(|text| Some((text.fine.as_deref()?, 0)))
        .collect();
    for (at, number) in fine.values_mut().enumerate() {
        *number = at;
    }
    if let Some(map) = shown.map {
        let n = shown.texts.rows.len();
        let step = n.div_ceil(POINTS).max(1);
        let rows: Vec<usize> = (0..n).step_by(step).collect();
        let known: Option<Vec<usize>> = rows
            .iter()
            .map(|row| {
                fine.get(shown.texts.rows.get(*row)?.fine.as_deref()?)
                    .copied()
            })
            .collect();
        input.projection = Some(Projection {
            xy: rows.iter().map(|row| [map.x[*row], map.y[*row]]).collect(),
            coarse: rows.iter().map(|row| coarse[*row]).collect(),
            fine: known,
            found: rows.iter().map(|row| shown.assigned[*row]).collect(),
            texts: rows
                .iter()
                .map(|row| shown.texts.rows[*row].text.clone())
                .collect(),
        });
        input.fine_names = Some(fine.keys().map(|name| (*name).to_owned()).collect());
    }
    let charts = (0..).zip(shown.classes);
    input.charts = charts
        .filter_map(|(at, class): (usize, _)| Some((format!("k-{at:03}"), chart(class)?)))
        .collect();
    write_report(dir, &input)?;
    Ok(())
}

/// The curves that K was read from, with a line at the K chosen.
pub(crate) fn chart(class: &ClassSummary) -> Option<LineChart> {
    let criterion = class.criterion?;
    let x_label = match criterion {
        "over_cluster" => "cluster, largest first",
        _ => "K",
    };
    let mut series: Vec<Series> = class
        .curves
        .iter()
        .map(|curve| Series {
            name: curve.name.to_owned(),
            points: curve.points.clone(),
        })
        .collect();
    let values = series
        .iter()
        .flat_map(|series| &series.points)
        .map(|(_, value)| *value);
    let (least, most) = values.fold(
        (f64::INFINITY, f64::NEG_INFINITY),
        |(least, most), value| (least.min(value), most.max(value)),
    );
    let k = class.categories as f64;
    series.push(Series {
        name: "chosen".to_owned(),
        points: vec![(k, least), (k, most)],
    });
    Some(LineChart {
        title: format!(
            "{}: K = {}",
            class.coarse.as_deref().unwrap_or(ALL_TEXTS),
            class.categories
        ),
        x_label: x_label.to_owned(),
        y_label: criterion.replace('_', " "),
        series,
        log_y: false,
    })
}
