//! K-means, centroid inference, agreement of partitions.

use clustering::{Centroids, KMeansParams};
use metrics::{
    accuracy_with_mapping, adjusted_rand_index, clustering_accuracy, normalized_mutual_information,
};

use super::probe::{CaseError, CaseResult, Got, Probe, refused};

/// How far an inertia may fall below the lowest one found by the reference, relative to it.
const INERTIA_BELOW: f64 = 1e-4;

/// `clustering_metrics`: inputs `y_true`, `y_pred`.
pub(super) fn clustering_metrics(probe: &mut Probe<'_>) -> CaseResult {
    let (labels, clusters) = (probe.integers("y_true")?, probe.integers("y_pred")?);
    put_agreement(probe, &clusters, &labels)
}

fn put_agreement<A: Ord + Copy, B: Ord + Copy>(
    probe: &mut Probe<'_>,
    clusters: &[A],
    labels: &[B],
) -> CaseResult {
    let fit = clustering_accuracy(clusters, labels).map_err(refused)?;
    probe.put_number("acc", fit.accuracy);
    probe.put_number("matched", fit.matched as f64);
    // Scoring by the mapping found has to give the same.
    let again = accuracy_with_mapping(&fit.mapping, clusters, labels).map_err(refused)?;
    probe.put_number("acc", again.accuracy);
    let ari = adjusted_rand_index(clusters, labels).map_err(refused)?;
    probe.put_number("ari", ari);
    let nmi = normalized_mutual_information(clusters, labels).map_err(refused)?;
    probe.put_number("nmi", nmi);
    Ok(())
}

/// `kmeans`: input `x`. The expected inertias were searched for, so ours may be lower, but hardly:
/// far below means that something else is summed.
pub(super) fn kmeans(probe: &mut Probe<'_>) -> CaseResult {
    let points = probe.matrix("x")?;
    let k = probe.size("k")?;
    let runs = probe.size("n_init")?;
    // More restarts than the reference had could honestly find less than it.
    let params = KMeansParams::new(k);
    let n_init = params.n_init.min(runs);
    let model = params.n_init(n_init).fit(points.view()).map_err(refused)?;
    let best = Got::Cost {
        value: model.inertia,
        below: INERTIA_BELOW,
    };
    probe.put("best_inertia", best);

    // The spread of single runs describes the reference; it has a tolerance only if a file says so.
    let mut single = Vec::new();
    for seed in 0..runs {
        let params = KMeansParams::new(k).n_init(1).seed(seed as u64);
        single.push(params.fit(points.view()).map_err(refused)?.inertia);
    }
    single.sort_by(f64::total_cmp);
    if let (Some(median), Some(worst)) = (single.get(single.len() / 2), single.last()) {
        probe.put("median_inertia", Got::Shown(*median));
        probe.put("worst_inertia", Got::Shown(*worst));
    }
    Ok(())
}

/// `centroid_inference`: inputs `train`, `train_cluster`, `test`, `test_label`.
pub(super) fn centroid_inference(probe: &mut Probe<'_>) -> CaseResult {
    let (train, test) = (probe.matrix("train")?, probe.matrix("test")?);
    let clusters = probe.ids("train_cluster")?;
    let centroids = Centroids::from_clusters(train.view(), &clusters, probe.size("k")?);
    let centroids = centroids.map_err(refused)?;
    let means: Vec<f32> = centroids.means().iter().copied().collect();
    probe.put_floats("centroids", means);

    let found = centroids.assign_all(test.view()).map_err(refused)?;
    let mut one_by_one = Vec::new();
    for row in test.outer_iter() {
        let row = row.to_vec();
        one_by_one.push(centroids.assign(&row).map_err(refused)?.id);
    }
    let found: Vec<usize> = found.iter().map(|assignment| assignment.id).collect();
    if found != one_by_one {
        let message = "a row alone and the same row in a batch go to different centroids";
        return Err(CaseError::Refused(message.into()));
    }
    probe.put_numbers("pred", found.iter().map(|&id| id as f64).collect());
    let labels = probe.integers("test_label")?;
    put_agreement(probe, &found, &labels)
}
