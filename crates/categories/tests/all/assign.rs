use approx::assert_relative_eq;
use categories::{
    Assigned, Assigner, Calibration, Catalogue, CategoryId, DEFAULT_TEMPERATURE, Gate, Status,
};
use proptest::prelude::*;

use crate::support::{catalogue, category, unit};

/// The definition, slowly and in double precision.
fn slow(catalogue: &Catalogue, vector: &[f32], coarse: Option<&str>) -> Vec<(u32, f64)> {
    let length = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let mut scored: Vec<(u32, f64)> = catalogue
        .active()
        .filter(|c| coarse.is_none() || c.coarse.is_none() || c.coarse.as_deref() == coarse)
        .map(|c| {
            let dot: f64 = c
                .centroid
                .iter()
                .zip(vector)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum();
            (c.id.0, dot / (length(&c.centroid) * length(vector)))
        })
        .collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1));
    scored
}

fn wide(categories: u32, dim: usize) -> Catalogue {
    let list = (0..categories)
        .map(|id| {
            let mut category = category(id, &format!("c{id}"), &unit(id.into(), dim));
            category.coarse = match id % 3 {
                0 => None,
                1 => Some("bank".to_owned()),
                _ => Some("travel".to_owned()),
            };
            if id % 5 == 4 {
                category.status = Status::Merged {
                    into: CategoryId(0),
                };
            }
            category
        })
        .collect();
    let coarse = vec!["bank".to_owned(), "travel".to_owned(), "empty".to_owned()];
    Catalogue::new(dim, "", coarse, list, None).unwrap()
}

fn calibrated(threshold: f32, temperature: f32) -> Option<Calibration> {
    Some(Calibration {
        threshold,
        temperature,
        accepts_known: 0.95,
        rejects_unknown: 0.5,
        auroc: 0.9,
        held_out: vec![],
        n_known: 1,
        n_unknown: 1,
    })
}

#[test]
fn assignments_are_those_of_the_definition() {
    for (categories, dim) in [(1, 1), (7, 3), (23, 37), (50, 16)] {
        let mut catalogue = wide(categories, dim);
        catalogue.calibration = calibrated(0.3, 0.2);
        let assigner = Assigner::new(&catalogue).unwrap();
        for seed in 0..40 {
            let mut vector = unit(500 + seed, dim);
            vector.iter_mut().for_each(|x| *x *= seed as f32 + 0.1);
            for coarse in [None, Some("bank"), Some("travel")] {
                let expected = slow(&catalogue, &vector, coarse);
                let found = match coarse {
                    None => assigner.assign(&vector),
                    Some(name) => assigner.assign_in(&vector, assigner.gate(name).unwrap()),
                }
                .unwrap();
                let close = |at: usize| {
                    expected
                        .get(at + 1)
                        .is_some_and(|next| expected[at].1 - next.1 < 1e-6)
                };
                if close(0) || close(1) {
                    continue;
                }
                assert_eq!(found.id.0, expected[0].0);
                assert_relative_eq!(f64::from(found.cosine), expected[0].1, epsilon = 1e-6);
                assert_eq!(
                    found.runner_up.map(|near| near.id.0),
                    expected.get(1).map(|next| next.0)
                );
                let sum: f64 = expected
                    .iter()
                    .map(|c| (c.1 / f64::from(0.2_f32)).exp())
                    .sum();
                let confidence = (expected[0].1 / f64::from(0.2_f32)).exp() / sum;
                assert_relative_eq!(f64::from(found.confidence), confidence, epsilon = 1e-5);
                assert_eq!(found.unknown, found.cosine < 0.3);
            }
        }
    }
}

#[test]
fn many_at_once_have_the_bits_of_one_alone_on_any_number_of_threads() {
    let catalogue = wide(30, 20);
    let assigner = Assigner::new(&catalogue).unwrap();
    let rows = 700;
    let vectors: Vec<f32> = (0..rows).flat_map(|seed| unit(seed, 20)).collect();
    let choices = [
        None,
        Some(assigner.gate("bank").unwrap()),
        Some(assigner.gate("travel").unwrap()),
    ];
    let gates: Vec<Option<Gate>> = (0..rows as usize).map(|row| choices[row % 3]).collect();
    let alone: Vec<Assigned> = vectors
        .chunks(20)
        .zip(&gates)
        .map(|(vector, gate)| match gate {
            None => assigner.assign(vector).unwrap(),
            Some(gate) => assigner.assign_in(vector, *gate).unwrap(),
        })
        .collect();
    let cosines = assigner.cosines(&vectors).unwrap();
    assert_eq!(cosines.len(), rows as usize * assigner.ids().len());
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            assert_eq!(assigner.assign_many_in(&vectors, &gates).unwrap(), alone);
            assert_eq!(assigner.cosines(&vectors).unwrap(), cosines);
        });
    }
    let open = assigner.assign_many(&vectors).unwrap();
    for (row, found) in cosines.chunks(assigner.ids().len()).zip(&open) {
        let at = assigner
            .ids()
            .iter()
            .position(|id| *id == found.id)
            .unwrap();
        assert_eq!(row[at], found.cosine);
        assert!(row.iter().all(|cosine| *cosine <= found.cosine));
    }
    assert!(assigner.assign_many(&[]).unwrap().is_empty());
}

#[test]
fn ties_go_to_the_lowest_id_and_no_direction_is_unknown() {
    let same = [1.0, 0.0, 0.0];
    let list = (0..6)
        .map(|id| category(id, &format!("c{id}"), &same))
        .collect();
    let coarse = vec!["bank".to_owned(), "travel".to_owned()];
    let mut catalogue = Catalogue::new(3, "", coarse, list, None).unwrap();
    catalogue.categories[0].status = Status::Withdrawn;
    let assigner = Assigner::new(&catalogue).unwrap();
    let found = assigner.assign(&[2.0, 0.0, 0.0]).unwrap();
    assert_eq!((found.id.0, found.cosine, found.unknown), (1, 1.0, false));
    assert_eq!(found.runner_up.unwrap().id.0, 2);
    assert_relative_eq!(found.confidence, 0.2);
    let gated = assigner
        .assign_in(&same, assigner.gate("travel").unwrap())
        .unwrap();
    assert_eq!(gated.id.0, 3);
    let none = assigner.assign(&[0.0; 3]).unwrap();
    assert_eq!((none.id.0, none.cosine, none.unknown), (1, 0.0, true));
    assert_relative_eq!(none.confidence, 0.2);
    // The largest and smallest numbers have directions like any other.
    for scale in [f32::MAX, f32::from_bits(1)] {
        let found = assigner.assign(&[scale, 0.0, 0.0]).unwrap();
        assert_eq!((found.id.0, found.cosine), (1, 1.0));
    }
}

#[test]
fn without_a_calibration_nothing_is_unknown() {
    let catalogue = catalogue();
    let assigner = Assigner::new(&catalogue).unwrap();
    let away: Vec<f32> = unit(0, 3).iter().map(|x| -x).collect();
    let found = assigner.assign(&away).unwrap();
    assert!(!found.unknown);
    let (top, next) = (found.cosine, found.runner_up.unwrap().cosine);
    let odds = (f64::from(next - top) / f64::from(DEFAULT_TEMPERATURE)).exp();
    assert!(f64::from(found.confidence) < 1.0 / (1.0 + odds) + 1e-6);
}

#[test]
fn bad_vectors_and_gates_are_named() {
    let catalogue = wide(6, 3);
    let assigner = Assigner::new(&catalogue).unwrap();
    let message =
        |result: Result<Assigned, categories::CategoryError>| result.unwrap_err().to_string();
    assert_eq!(
        message(assigner.assign(&[1.0])),
        "vector: expected 3 values, found 1"
    );
    assert_eq!(
        message(assigner.assign(&[1.0, f32::NAN, 0.0])),
        "vectors[0][1]: expected a finite value, found NaN"
    );
    assert_eq!(
        assigner.assign_many(&[0.0; 7]).unwrap_err().to_string(),
        "vectors: expected 2 rows of 3 values, found 7"
    );
    assert_eq!(
        assigner.gate("bnak").unwrap_err().to_string(),
        "there is no coarse class `bnak`; did you mean `bank`?"
    );
    let mut only_bank = wide(2, 3);
    only_bank.categories.remove(0);
    let narrow = Assigner::new(&only_bank).unwrap();
    assert!(
        narrow
            .gate("empty")
            .unwrap_err()
            .to_string()
            .contains("found empty")
    );
    let foreign = assigner.gate("travel").unwrap();
    assert_eq!(
        narrow
            .assign_in(&[1.0, 0.0, 0.0], foreign)
            .unwrap_err()
            .to_string(),
        "gates[0]: expected a gate of this assigner, found another"
    );
    let mut retired = wide(2, 3);
    retired
        .categories
        .iter_mut()
        .for_each(|c| c.status = Status::Withdrawn);
    assert!(Assigner::new(&retired).is_err());
}

proptest! {
    #[test]
    fn length_does_not_matter(seed in 0_u64..10_000, scale in 0.001_f32..1000.0) {
        let catalogue = wide(20, 6);
        let assigner = Assigner::new(&catalogue).unwrap();
        let vector = unit(seed, 6);
        let longer: Vec<f32> = vector.iter().map(|x| scale * x).collect();
        let (a, b) = (assigner.assign(&vector).unwrap(), assigner.assign(&longer).unwrap());
        prop_assert!((a.cosine - b.cosine).abs() < 1e-6);
        prop_assert!((0.0..=1.0).contains(&a.confidence));
        let runner_up = a.runner_up.unwrap();
        prop_assert!(runner_up.cosine <= a.cosine && runner_up.id != a.id);
        prop_assert!(a.id == b.id || a.cosine - runner_up.cosine < 1e-6);
    }
}
