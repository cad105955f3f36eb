//! Relative fitting difficulty in a report: a table with the published runs, the picture of difficulty
//! against score, and the traces.

use std::collections::BTreeMap;

use metrics::Summary;
use minijinja::{Value, context};

use super::svg::{LabelledPoint, LineChart, PointChart, PointGroup, Series};
use crate::ngcse::{Difficulty, Probed, Trace};

/// What the probes of a run saw.
#[derive(Debug, Clone, Default)]
pub struct RfdReport {
    /// One trace a setting and seed.
    pub traces: Vec<Trace>,
    /// First step that counts.
    pub start_step: u64,
    /// Whether the development set is that of the published runs.
    pub comparable: bool,
}

/// A published run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PublishedRun {
    /// Training sentences: Wikipedia or NLI premises.
    pub domain: &'static str,
    /// Name of the setting.
    pub setting: &'static str,
    /// Checkpoints that count.
    pub steps: usize,
    /// RFD_a.
    pub rfd_a: f64,
    /// RFD_u.
    pub rfd_u: f64,
    /// Mean of the five best STS-B dev scores, in percent.
    pub top5: f64,
    /// Best STS-B dev score, in percent, and its step.
    pub best: (f64, u64),
}

const fn run(
    domain: &'static str,
    setting: &'static str,
    steps: usize,
    [rfd_a, rfd_u]: [f64; 2],
    top5: f64,
    best: (f64, u64),
) -> PublishedRun {
    PublishedRun {
        domain,
        setting,
        steps,
        rfd_a,
        rfd_u,
        top5,
        best,
    }
}

/// The analysis runs of BERT-base, from the traces in the repository of NGCSE: steps from 125 on.
#[rustfmt::skip]
pub const RUNS: [PublishedRun; 13] = [
    run("Wiki", "dropout", 28, [-0.148791, -0.265078], 81.0973, (81.248, 2625)),
    run("Wiki", "token_shuffle", 28, [-0.150765, -0.235895], 79.6812, (80.473, 250)),
    run("Wiki", "token_cutoff", 28, [-0.130440, -0.252236], 81.1603, (81.215, 2250)),
    run("Wiki", "nli", 28, [0.034633, -0.440438], 81.5141, (82.047, 875)),
    run("Wiki", "sts", 28, [-0.046055, -0.472976], 81.3576, (81.918, 875)),
    run("Wiki", "sts_ht", 28, [0.026631, -0.389918], 83.3379, (83.378, 3375)),
    run("NLI", "dropout", 23, [-0.226906, -0.066784], 78.1204, (78.577, 1000)),
    run("NLI", "token_shuffle", 23, [-0.234595, 0.135775], 79.9831, (80.833, 125)),
    run("NLI", "token_cutoff", 23, [-0.197223, 0.007768], 79.5964, (79.797, 375)),
    run("NLI", "nli", 23, [0.115632, -0.080597], 82.9650, (83.385, 250)),
    run("NLI", "sts", 23, [0.003588, -0.017041], 84.0972, (84.250, 875)),
    run("NLI", "sts_ht", 23, [0.079037, 0.038875], 84.6010, (84.708, 1625)),
    run("NLI", "sup", 23, [0.074491, 0.209383], 85.5047, (85.555, 500)),
];

impl RfdReport {
    /// Settings in the order of their first trace, with what the trace of each seed comes to. Without a
    /// look that counts there is no difficulty.
    fn settings(&self) -> Vec<(&str, Vec<(u64, Difficulty)>)> {
        let mut settings: Vec<(&str, Vec<(u64, Difficulty)>)> = Vec::new();
        for trace in &self.traces {
            let found = trace
                .difficulty(self.start_step)
                .unwrap_or_else(|_| trace.scores());
            match settings.iter_mut().find(|(name, _)| *name == trace.setting) {
                Some((_, seeds)) => seeds.push((trace.seed, found)),
                None => settings.push((&trace.setting, vec![(trace.seed, found)])),
            }
        }
        settings
    }

    /// Difficulty of the positives against the scores reached, one point a setting and seed.
    pub(super) fn picture(&self) -> PointChart {
        let settings = self.settings();
        let mut groups: Vec<PointGroup> = settings
            .iter()
            .map(|(name, seeds)| PointGroup {
                name: (*name).to_owned(),
                reference: false,
                points: seeds
                    .iter()
                    .filter_map(|(seed, found)| {
                        let (x, y) = (found.rfd_a?, 100.0 * found.top5?);
                        Some(LabelledPoint {
                            x,
                            y,
                            label: String::new(),
                            hover: format!("{name}, seed {seed}: RFD_a {x:+.4}, top 5 {y:.2}"),
                        })
                    })
                    .collect(),
            })
            .collect();
        let published = ["Wiki", "NLI"].map(|domain| PointGroup {
            name: format!("published, {domain}"),
            reference: true,
            points: RUNS
                .iter()
                .filter(|run| run.domain == domain)
                .map(|run| LabelledPoint {
                    x: run.rfd_a,
                    y: run.top5,
                    label: run.setting.to_owned(),
                    hover: format!(
                        "{domain}.{}: RFD_a {:+.4}, top 5 {:.2}",
                        run.setting, run.rfd_a, run.top5
                    ),
                })
                .collect(),
        });
        if self.comparable {
            groups.extend(published);
        }
        PointChart {
            title: "Fitting difficulty and score".to_owned(),
            x_label: "RFD_a: alignment on training minus development set".to_owned(),
            y_label: "best 5 dev scores, Spearman × 100".to_owned(),
            groups,
        }
    }

    /// What the probes saw over the steps: alignment, then uniformity.
    pub(super) fn traces(&self) -> [LineChart; 2] {
        type Part = fn(&Probed) -> f64;
        let chart = |title: &str, y_label: &str, parts: [(&str, Part); 2]| LineChart {
            title: title.to_owned(),
            x_label: "step".to_owned(),
            y_label: y_label.to_owned(),
            series: self
                .traces
                .iter()
                .flat_map(|trace| {
                    parts.map(|(side, part)| Series {
                        name: format!("{}, {side}", trace.setting),
                        points: trace
                            .looks
                            .iter()
                            .filter_map(|look| Some((look.step as f64, part(&look.probed?))))
                            .collect(),
                    })
                })
                .collect(),
            log_y: false,
        };
        [
            chart(
                "Alignment of the probes",
                "alignment",
                [
                    ("training", |probed| probed.train_alignment),
                    ("development", |probed| probed.eval_alignment),
                ],
            ),
            chart(
                "Uniformity of the probes",
                "uniformity",
                [
                    ("training", |probed| probed.train_uniformity),
                    ("development", |probed| probed.eval_uniformity),
                ],
            ),
        ]
    }

    /// Rank correlations of RFD_a and RFD_u with the score over the means of the settings, where there
    /// are at least three; NaN for a column that is constant.
    fn ranks(&self) -> Option<[f64; 2]> {
        let mut columns: [Vec<f64>; 3] = Default::default();
        for (_, seeds) in self.settings() {
            let mean = |part: fn(&Difficulty) -> Option<f64>| Some(mean_of(&seeds, part)?.mean);
            let row = [mean(|d| d.rfd_a)?, mean(|d| d.rfd_u)?, mean(|d| d.top5)?];
            for (column, value) in columns.iter_mut().zip(row) {
                column.push(value);
            }
        }
        let [a, u, scores] = &columns;
        if scores.len() < 3 {
            return None;
        }
        let rank = |column: &[f64]| metrics::spearman(column, scores).ok();
        Some([rank(a)?, rank(u)?])
    }

    /// The table for the page.
    pub(super) fn view(&self) -> Value {
        let rows: Vec<Value> = self
            .settings()
            .iter()
            .map(|(name, seeds)| {
                let cell = |part: fn(&Difficulty) -> Option<f64>, scale: f64, digits: usize| {
                    mean_of(seeds, part).map(|found| {
                        let std = (found.n > 1).then(|| format!("{:.digits$}", scale * found.std));
                        context! { mean => format!("{:.digits$}", scale * found.mean), std }
                    })
                };
                // Steps of the probes may differ between seeds only where a run was changed.
                let steps = seeds.iter().map(|(_, found)| found.steps).max();
                context! {
                    name,
                    seeds => seeds.len(),
                    steps,
                    rfd_a => cell(|found| found.rfd_a, 1.0, 4),
                    rfd_u => cell(|found| found.rfd_u, 1.0, 4),
                    top5 => cell(|found| found.top5, 100.0, 2),
                    best => cell(|found| found.best, 100.0, 2),
                }
            })
            .collect();
        let published: Vec<BTreeMap<&str, String>> = RUNS
            .iter()
            .map(|run| {
                BTreeMap::from([
                    ("name", format!("{}.{}", run.domain, run.setting)),
                    ("steps", run.steps.to_string()),
                    ("rfd_a", format!("{:.4}", run.rfd_a)),
                    ("rfd_u", format!("{:.4}", run.rfd_u)),
                    ("top5", format!("{:.2}", run.top5)),
                    ("best", format!("{:.2}", run.best.0)),
                    ("best_step", run.best.1.to_string()),
                ])
            })
            .collect();
        let ranks = self.ranks().map(|ranks| {
            ranks.map(|rank| match rank.is_finite() {
                true => format!("{rank:.2}"),
                false => "–".to_owned(),
            })
        });
        context! {
            rows,
            published,
            ranks,
            start_step => self.start_step,
            comparable => self.comparable,
        }
    }
}

/// Mean and spread of a figure over the seeds that have it.
fn mean_of(seeds: &[(u64, Difficulty)], part: fn(&Difficulty) -> Option<f64>) -> Option<Summary> {
    let values: Vec<f64> = seeds.iter().filter_map(|(_, found)| part(found)).collect();
    Summary::of(&values).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ngcse::Look;

    fn trace(setting: &str, seed: u64, train: f64, dev: f64) -> Trace {
        let look = |step: u64, train: f64| Look {
            step,
            probed: Some(Probed {
                train_alignment: train,
                train_uniformity: -1.5,
                eval_alignment: 0.25,
                eval_uniformity: -2.0,
            }),
            dev_spearman: (step > 0).then_some(dev),
        };
        Trace {
            setting: setting.to_owned(),
            seed,
            looks: vec![look(0, 9.0), look(10, train), look(20, train)],
        }
    }

    fn report() -> RfdReport {
        RfdReport {
            traces: vec![
                trace("dropout", 0, 0.1, 0.70),
                trace("sts_ht", 0, 0.5, 0.80),
                trace("dropout", 1, 0.2, 0.72),
                trace("sup", 0, 0.6, 0.81),
            ],
            start_step: 1,
            comparable: true,
        }
    }

    #[test]
    fn the_picture_has_a_point_a_seed_beside_the_published_ones() {
        let chart = report().picture();
        let sizes: Vec<(&str, usize)> = chart
            .groups
            .iter()
            .map(|group| (group.name.as_str(), group.points.len()))
            .collect();
        assert_eq!(
            sizes,
            [
                ("dropout", 2),
                ("sts_ht", 1),
                ("sup", 1),
                ("published, Wiki", 6),
                ("published, NLI", 7)
            ]
        );
        let point = &chart.groups[1].points[0];
        assert!((point.x - 0.25).abs() < 1e-12 && (point.y - 80.0).abs() < 1e-9);
        let alone = RfdReport {
            comparable: false,
            ..report()
        };
        assert_eq!(alone.picture().groups.len(), 3);
    }

    #[test]
    fn the_table_has_means_over_seeds_and_ranks_of_the_settings() {
        let view = report().view();
        let row = view.get_attr("rows").unwrap().get_item_by_index(0).unwrap();
        let text = |value: &Value, key: &str| value.get_attr(key).unwrap().to_string();
        assert_eq!(
            (text(&row, "name"), text(&row, "seeds")),
            ("dropout".into(), "2".into())
        );
        let cell = row.get_attr("rfd_a").unwrap();
        assert_eq!(text(&cell, "mean"), "-0.1000");
        assert_eq!(text(&cell, "std"), "0.0707");
        let ranks = view.get_attr("ranks").unwrap();
        let rank = |at: usize| ranks.get_item_by_index(at).unwrap().to_string();
        assert_eq!((rank(0), rank(1)), ("1.00".into(), "–".into()));
        // Two settings have no rank correlation worth the name.
        let mut few = report();
        few.traces.pop();
        assert_eq!(few.ranks(), None);
    }

    #[test]
    fn traces_have_both_sides_of_every_run() {
        let [alignment, uniformity] = report().traces();
        assert_eq!((alignment.series.len(), uniformity.series.len()), (8, 8));
        assert_eq!(alignment.series[0].name, "dropout, training");
        assert_eq!(
            alignment.series[0].points,
            [(0.0, 9.0), (10.0, 0.1), (20.0, 0.1)]
        );
        assert_eq!(uniformity.series[1].points[2], (20.0, -2.0));
    }
}
