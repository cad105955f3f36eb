//! Relative fitting difficulty of the thirteen published NGCSE runs, from their recorded traces.
//!
//! `golden/ngcse_traces.csv` holds the traces as the authors recorded them (repository of NGCSE,
//! BDBC-KG-NLP), rounded to seven decimals; the facts follow from them by the authors' script for
//! figure 1: steps from 125 on, mean of training minus evaluation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metrics::{RFD_START_STEP, TracePoint, mean_of_best, relative_fitting_difficulty, spearman};

/// One published run.
struct Run {
    train: Vec<TracePoint>,
    eval: Vec<TracePoint>,
    /// STS-B dev Spearman where it was recorded, with its step.
    scores: Vec<(u64, f64)>,
}

fn run(name: &str) -> Run {
    let mut run = Run {
        train: Vec::new(),
        eval: Vec::new(),
        scores: Vec::new(),
    };
    let file = include_str!("golden/ngcse_traces.csv");
    for line in file.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        if cells[0] != name {
            continue;
        }
        let step = cells[1].parse().unwrap();
        let number = |at: usize| cells[at].parse::<f64>().unwrap();
        let point = |at| TracePoint {
            step,
            alignment: number(at),
            uniformity: number(at + 1),
        };
        run.train.push(point(2));
        run.eval.push(point(4));
        if !cells[6].is_empty() {
            run.scores.push((step, number(6)));
        }
    }
    run
}

/// Run, steps, RFD_a, RFD_u, mean of the five best STS-B dev scores, of the ten best, the best score
/// and its step.
type Fact = (&'static str, usize, f64, f64, f64, f64, f64, u64);

#[rustfmt::skip]
const FACTS: [Fact; 13] = [
    ("Wiki.dropout", 28, -0.148791, -0.265078, 81.0973, 80.8337, 81.248, 2625),
    ("Wiki.token_shuffle", 28, -0.150765, -0.235895, 79.6812, 79.4226, 80.473, 250),
    ("Wiki.token_cutoff", 28, -0.130440, -0.252236, 81.1603, 80.8938, 81.215, 2250),
    ("Wiki.NLI", 28, 0.034633, -0.440438, 81.5141, 81.0024, 82.047, 875),
    ("Wiki.STS", 28, -0.046055, -0.472976, 81.3576, 80.8965, 81.918, 875),
    ("Wiki.STS_HT", 28, 0.026631, -0.389918, 83.3379, 83.2049, 83.378, 3375),
    ("NLI.dropout", 23, -0.226906, -0.066784, 78.1204, 77.8421, 78.577, 1000),
    ("NLI.token_shuffle", 23, -0.234595, 0.135775, 79.9831, 79.5567, 80.833, 125),
    ("NLI.token_cutoff", 23, -0.197223, 0.007768, 79.5964, 79.4705, 79.797, 375),
    ("NLI.NLI", 23, 0.115632, -0.080597, 82.9650, 82.5930, 83.385, 250),
    ("NLI.STS", 23, 0.003588, -0.017041, 84.0972, 84.0080, 84.250, 875),
    ("NLI.STS_HT", 23, 0.079037, 0.038875, 84.6010, 84.4919, 84.708, 1625),
    ("NLI.SUP", 23, 0.074491, 0.209383, 85.5047, 85.3973, 85.555, 500),
];

/// RFD_a and RFD_u with the untrained model counted, in the order of [`FACTS`].
#[rustfmt::skip]
const FROM_THE_START: [(f64, f64); 13] = [
    (-0.148313, -0.265869), (-0.138680, -0.237866), (-0.129962, -0.255170), (0.033537, -0.431260),
    (-0.046096, -0.463910), (0.025118, -0.384516), (-0.223858, -0.068092), (-0.219900, 0.126675),
    (-0.193593, 0.004178), (0.111926, -0.077653), (0.002703, -0.017485), (0.076060, 0.038258),
    (0.072124, 0.205475),
];

#[test]
fn the_fact_table_follows_from_the_traces() {
    for (name, steps, rfd_a, rfd_u, top_5, top_10, best, best_step) in FACTS {
        let Run {
            train,
            eval,
            scores,
        } = run(name);
        let found = relative_fitting_difficulty(&train, &eval, RFD_START_STEP).unwrap();
        assert_eq!(found.steps, steps, "{name}");
        assert!((found.alignment - rfd_a).abs() < 1e-6, "{name}: {found:?}");
        assert!((found.uniformity - rfd_u).abs() < 1e-6, "{name}: {found:?}");
        let values: Vec<f64> = scores.iter().map(|(_, score)| 100.0 * score).collect();
        for (count, expected) in [(5, top_5), (10, top_10)] {
            let mean = mean_of_best(&values, count).unwrap();
            assert!((mean - expected).abs() < 1e-3, "{name}: {mean}");
        }
        let (step, score) = scores
            .into_iter()
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap();
        assert_eq!(step, best_step, "{name}");
        assert!((100.0 * score - best).abs() < 1e-3, "{name}: {score}");
    }
}

#[test]
fn counting_the_untrained_model_gives_the_other_column() {
    for ((name, ..), (rfd_a, rfd_u)) in FACTS.into_iter().zip(FROM_THE_START) {
        let Run { train, eval, .. } = run(name);
        let found = relative_fitting_difficulty(&train, &eval, 0).unwrap();
        assert!((found.alignment - rfd_a).abs() < 1e-6, "{name}: {found:?}");
        assert!((found.uniformity - rfd_u).abs() < 1e-6, "{name}: {found:?}");
    }
}

#[test]
fn alignment_ranks_the_settings_and_uniformity_does_not() {
    let (mut a, mut u, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    for (name, ..) in FACTS {
        let run = run(name);
        let rfd = relative_fitting_difficulty(&run.train, &run.eval, RFD_START_STEP).unwrap();
        let values: Vec<f64> = run.scores.iter().map(|(_, score)| *score).collect();
        a.push(rfd.alignment);
        u.push(rfd.uniformity);
        scores.push(mean_of_best(&values, 5).unwrap());
    }
    let rank = |difficulty: &[f64], scores: &[f64], expected: f64| {
        let found = spearman(difficulty, scores).unwrap();
        assert!(
            (found - expected).abs() < 5e-4,
            "{found}, expected {expected}"
        );
    };
    let both: Vec<f64> = a.iter().zip(&u).map(|(a, u)| a + u).collect();
    rank(&a, &scores, 0.874);
    rank(&u, &scores, 0.126);
    rank(&both, &scores, 0.478);
    // Six settings on Wikipedia, seven on NLI premises.
    rank(&a[..6], &scores[..6], 0.943);
    rank(&a[6..], &scores[6..], 0.643);
    rank(&u[..6], &scores[..6], -0.714);
    rank(&u[6..], &scores[6..], 0.500);
}
