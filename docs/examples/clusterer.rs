//! The clusterer of the recipe "add your own clusterer": leaders within a radius.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::cmp::Reverse;

use clustering::{Clusterer, Clustering, ClusteringError, canonical_order, check_points};
use ndarray::{ArrayView2, array};

// ANCHOR: clusterer
/// Walks over the points in canonical order: a point joins the first leader within `radius`, or
/// becomes a leader itself. One pass, no K, no randomness.
struct Leaders {
    radius: f32,
}

impl Clusterer for Leaders {
    fn name(&self) -> &'static str {
        "leaders"
    }

    fn cluster(&self, points: ArrayView2<'_, f32>) -> Result<Clustering, ClusteringError> {
        check_points(self.name(), points)?;
        let mut leaders: Vec<usize> = Vec::new();
        let mut sizes: Vec<usize> = Vec::new();
        let mut labels = vec![0; points.nrows()];
        // The order of the rows in a file must not decide who leads.
        for row in canonical_order(points) {
            let near = leaders.iter().position(|&leader| {
                let gap = &points.row(leader) - &points.row(row);
                gap.dot(&gap).sqrt() <= self.radius
            });
            let label = near.unwrap_or_else(|| {
                leaders.push(row);
                sizes.push(0);
                leaders.len() - 1
            });
            labels[row] = label;
            sizes[label] += 1;
        }
        // Numbered by size, the largest first; equal sizes by the order in which they were found.
        let mut order: Vec<usize> = (0..sizes.len()).collect();
        order.sort_by_key(|&label| (Reverse(sizes[label]), label));
        let mut number = vec![0; sizes.len()];
        for (new, &old) in order.iter().enumerate() {
            number[old] = new;
        }
        Ok(Clustering {
            labels: labels
                .into_iter()
                .map(|label| Some(number[label]))
                .collect(),
            n_clusters: sizes.len(),
        })
    }
}
// ANCHOR_END: clusterer

// ANCHOR: test
#[test]
fn row_order_does_not_matter() {
    let points = array![
        [0.0_f32, 0.0],
        [5.0, 5.0],
        [0.1, 0.0],
        [5.1, 5.0],
        [0.0, 0.2]
    ];
    let found = Leaders { radius: 1.0 }.cluster(points.view()).unwrap();
    assert_eq!(found.n_clusters, 2);
    assert_eq!(found.labels, [Some(0), Some(1), Some(0), Some(1), Some(0)]);

    let backwards = points.select(ndarray::Axis(0), &[4, 3, 2, 1, 0]);
    let mut again = Leaders { radius: 1.0 }
        .cluster(backwards.view())
        .unwrap()
        .labels;
    again.reverse();
    assert_eq!(again, found.labels);
    assert!(
        Leaders { radius: 1.0 }
            .cluster(ndarray::Array2::zeros((0, 2)).view())
            .is_err()
    );
}
// ANCHOR_END: test
