use std::collections::BTreeMap;

use categories::{Catalogue, CategoryId, NewCentroid, match_old};
use pathfinding::kuhn_munkres::kuhn_munkres;
use pathfinding::matrix::Matrix;
use proptest::prelude::*;

use crate::support::{category, unit};

const COARSE: [&str; 2] = ["bank", "travel"];

/// Old categories and new clusters from seeds: centroid and coarse class.
fn old(seeds: &[(u64, usize)], dim: usize) -> Catalogue {
    let categories = (0_u32..)
        .zip(seeds)
        .map(|(id, (seed, coarse))| {
            let mut category = category(id, &format!("c{id}"), &unit(*seed, dim));
            category.coarse = COARSE.get(*coarse).map(|name| (*name).to_owned());
            category
        })
        .collect();
    let coarse = COARSE.map(str::to_owned).to_vec();
    Catalogue::new(dim, "", coarse, categories, None).unwrap()
}

/// The largest sum of gains over all one-to-one assignments, by trying all of them.
fn best(gains: &[Vec<f64>], row: usize, taken: u32) -> f64 {
    let Some(columns) = gains.get(row) else {
        return 0.0;
    };
    let mut top = best(gains, row + 1, taken);
    for (column, gain) in columns.iter().enumerate() {
        if *gain > 0.0 && taken & (1 << column) == 0 {
            top = top.max(gain + best(gains, row + 1, taken | (1 << column)));
        }
    }
    top
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(x, y)| f64::from(*x) * f64::from(*y))
        .sum()
}

proptest! {
    #[test]
    fn the_matching_is_the_best_there_is(
        old_seeds in prop::collection::vec((0_u64..1000, 0_usize..3), 0..6),
        new_seeds in prop::collection::vec((0_u64..1000, 0_usize..3), 0..6),
        min_cosine in prop::sample::select(vec![0.01_f32, 0.3, 0.7, 1.0]),
    ) {
        let old = old(&old_seeds, 2);
        let centroids: Vec<Vec<f32>> = new_seeds.iter().map(|(seed, _)| unit(*seed, 2)).collect();
        let new: Vec<NewCentroid<'_>> = centroids
            .iter()
            .zip(&new_seeds)
            .map(|(centroid, (_, coarse))| NewCentroid { centroid, coarse: COARSE.get(*coarse).copied() })
            .collect();
        let found = match_old(&old, &new, min_cosine).unwrap();

        let mut total = 0.0;
        for kept in &found.kept {
            let category = old.get(kept.id).unwrap();
            prop_assert_eq!(category.coarse.as_deref(), new[kept.new].coarse);
            prop_assert!(kept.cosine >= min_cosine);
            let cosine = dot(&category.centroid, new[kept.new].centroid);
            prop_assert!((f64::from(kept.cosine) - cosine).abs() < 1e-6);
            total += cosine;
        }
        // Everyone appears once.
        let mut olds: Vec<u32> = found.kept.iter().map(|k| k.id.0).chain(found.vanished.iter().map(|id| id.0)).collect();
        olds.sort_unstable();
        prop_assert_eq!(olds, (0..old_seeds.len() as u32).collect::<Vec<_>>());
        let mut news: Vec<usize> = found.kept.iter().map(|k| k.new).chain(found.born.iter().copied()).collect();
        news.sort_unstable();
        prop_assert_eq!(news, (0..new_seeds.len()).collect::<Vec<_>>());

        let gains: Vec<Vec<f64>> = old.categories.iter().map(|category| {
            new.iter().map(|new| {
                let cosine = dot(&category.centroid, new.centroid);
                let allowed = category.coarse.as_deref() == new.coarse && cosine as f32 >= min_cosine;
                if allowed { cosine } else { 0.0 }
            }).collect()
        }).collect();
        // Cosines at the very minimum may fall on either side.
        prop_assert!((total - best(&gains, 0, 0)).abs() < 1e-5 || min_cosine == 1.0);
    }
}

#[test]
fn forty_against_sixty_is_as_good_as_another_implementation() {
    for (rows, columns) in [(40, 60), (60, 40), (50, 50)] {
        let seeds: Vec<(u64, usize)> = (0..rows).map(|seed| (seed, 0)).collect();
        let old = old(&seeds, 4);
        let centroids: Vec<Vec<f32>> = (0..columns).map(|seed| unit(1000 + seed, 4)).collect();
        let new: Vec<NewCentroid<'_>> = centroids
            .iter()
            .map(|centroid| NewCentroid {
                centroid,
                coarse: Some("bank"),
            })
            .collect();
        let found = match_old(&old, &new, 0.2).unwrap();
        let total: f64 = found.kept.iter().map(|kept| f64::from(kept.cosine)).sum();
        let gain = |a: &[f32], b: &[f32]| match dot(a, b) {
            cosine if cosine >= 0.2 => (cosine * 1e9) as i64,
            _ => 0,
        };
        let weights: Vec<Vec<i64>> = old
            .categories
            .iter()
            .map(|category| {
                centroids
                    .iter()
                    .map(|new| gain(&category.centroid, new))
                    .collect()
            })
            .collect();
        let mut weights = Matrix::from_rows(weights).unwrap();
        if weights.rows > weights.columns {
            weights.transpose();
        }
        let (expected, _) = kuhn_munkres(&weights);
        assert!(
            (total - expected as f64 / 1e9).abs() < 1e-4,
            "{total} {expected}"
        );
    }
}

#[test]
fn the_order_of_the_clusters_does_not_matter() {
    let old = old(&[(1, 0), (2, 0), (3, 0), (4, 1)], 3);
    let seeds = [(11, 0), (12, 0), (13, 1), (14, 0), (15, 2)];
    let pairs = |order: &[usize]| -> BTreeMap<CategoryId, u64> {
        let centroids: Vec<Vec<f32>> = order.iter().map(|at| unit(seeds[*at].0, 3)).collect();
        let new: Vec<NewCentroid<'_>> = order
            .iter()
            .zip(&centroids)
            .map(|(at, centroid)| NewCentroid {
                centroid,
                coarse: COARSE.get(seeds[*at].1).copied(),
            })
            .collect();
        let found = match_old(&old, &new, 0.05).unwrap();
        found
            .kept
            .iter()
            .map(|kept| (kept.id, seeds[order[kept.new]].0))
            .collect()
    };
    let expected = pairs(&[0, 1, 2, 3, 4]);
    assert!(!expected.is_empty());
    for order in [[4, 3, 2, 1, 0], [2, 0, 4, 1, 3]] {
        assert_eq!(pairs(&order), expected);
    }
}

#[test]
fn retired_categories_take_no_part_and_bad_input_is_named() {
    let mut old = old(&[(1, 0), (2, 0)], 3);
    old.categories[0].status = categories::Status::Merged {
        into: CategoryId(1),
    };
    let own = unit(1, 3);
    let new = [NewCentroid {
        centroid: &own,
        coarse: Some("bank"),
    }];
    assert!(match_old(&old, &new, 0.999).unwrap().kept.is_empty());
    for min_cosine in [0.0, -0.5, 1.1, f32::NAN] {
        let error = match_old(&old, &new, min_cosine).unwrap_err().to_string();
        assert!(error.starts_with("min_cosine: "), "{error}");
    }
    for (centroid, found) in [
        (vec![1.0], "found 1"),
        (vec![f32::NAN; 3], "found NaN"),
        (vec![0.0; 3], "length 0"),
    ] {
        let new = [
            new[0],
            NewCentroid {
                centroid: &centroid,
                coarse: None,
            },
        ];
        let error = match_old(&old, &new, 0.5).unwrap_err().to_string();
        assert!(
            error.starts_with("new[1].centroid: ") && error.contains(found),
            "{error}"
        );
    }
}
