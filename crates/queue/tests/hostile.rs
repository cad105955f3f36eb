//! Banks and neighbourhoods of impossible sizes, and vectors without a direction.
//!
//! A list holds the row itself and `k` others, so it needs `k + 1` rows; a smaller bank is refused by
//! name instead of giving shorter lists. Vectors are compared as they are stored: a zero vector has the
//! product 0 with everything (in scikit-learn `cosine_similarity([[0, 0]], [[1, 0]])` is `[[0.]]`), ties
//! go to the lower id.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use burn::tensor::{Device, Tensor, TensorData};
use queue::{
    MemoryBank, NeighbourParams, PrototypeParams, PrototypePolicy, QueueError, RankWeights,
    nearest_neighbours, nearest_rows,
};

fn tensor(values: &[f32], dim: usize) -> Tensor<2> {
    let data = TensorData::new(values.to_vec(), [values.len() / dim, dim]);
    Tensor::from_data(data, &Device::flex())
}

#[test]
fn a_queue_smaller_than_the_neighbourhood_is_refused() {
    let bank = tensor(&[1.0, 0.0, 0.0, 1.0, 0.6, 0.8], 2);
    for k in [3, 4, 120, usize::MAX - 1, usize::MAX] {
        let error = nearest_neighbours(bank.clone(), &NeighbourParams::new(k)).unwrap_err();
        assert!(
            matches!(error, QueueError::TooFewRows { rows: 3, .. }),
            "{k}: {error}"
        );
        assert!(error.to_string().contains('3'), "{error}");
    }
    // The largest that fits: every row, itself first.
    let all = nearest_neighbours(bank.clone(), &NeighbourParams::new(2)).unwrap();
    assert_eq!(all.row(0), Some(&[0, 2, 1][..]));
    assert!(nearest_rows(bank.clone(), bank, 4).is_err());
}

#[test]
fn a_bank_of_one_row_has_only_itself() {
    let one = tensor(&[0.6, 0.8], 2);
    let found = nearest_neighbours(one.clone(), &NeighbourParams::new(0)).unwrap();
    assert_eq!(found.row(0), Some(&[0][..]));
    assert!(nearest_neighbours(one, &NeighbourParams::new(1)).is_err());
}

#[test]
fn a_bank_without_rows_or_columns_is_refused() {
    for shape in [[0, 4], [4, 0], [0, 0]] {
        assert!(
            MemoryBank::new(Tensor::zeros(shape, &Device::flex())).is_err(),
            "{shape:?}"
        );
    }
}

#[test]
fn equal_rows_and_zero_rows_tie_by_id() {
    for values in [[0.0; 8], [0.5; 8]] {
        let found = nearest_neighbours(tensor(&values, 2), &NeighbourParams::new(2)).unwrap();
        assert_eq!(found.row(0), Some(&[0, 1, 2][..]));
        assert_eq!(found.row(3), Some(&[3, 0, 1][..]));
    }
    // A zero row lists the others by id, and comes after what points the same way.
    let mixed = tensor(&[0.0, 0.0, 1.0, 0.0, 1.0, 0.0, -1.0, 0.0], 2);
    let found = nearest_neighbours(mixed, &NeighbourParams::new(3)).unwrap();
    assert_eq!(found.row(0), Some(&[0, 1, 2, 3][..]));
    assert_eq!(found.row(1), Some(&[1, 2, 0, 3][..]));
}

#[test]
fn updates_that_do_not_fit_leave_the_bank_as_it_was() {
    let mut bank = MemoryBank::new(tensor(&[1.0, 0.0, 0.0, 1.0], 2)).unwrap();
    let before = bank.to_data().unwrap();
    let row = || tensor(&[0.6, 0.8], 2);
    assert!(bank.update(&[2], row()).is_err());
    assert!(bank.update(&[usize::MAX], row()).is_err());
    assert!(bank.update(&[0, 1], row()).is_err());
    assert!(bank.update(&[0], tensor(&[1.0, 2.0, 3.0], 3)).is_err());
    assert!(bank.update(&[0, 0], tensor(&[1.0; 4], 2)).is_err());
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(bank.update(&[0], tensor(&[bad, 0.0], 2)).is_err());
        assert!(bank.refill(tensor(&[0.0, 0.0, 0.0, bad], 2)).is_err());
    }
    assert_eq!(bank.to_data().unwrap(), before);
    // An empty batch is no update and no error.
    bank.update(&[], Tensor::zeros([0, 2], &Device::flex()))
        .unwrap();
    assert_eq!(bank.to_data().unwrap(), before);
}

#[test]
fn impossible_weights_and_temperatures_are_refused() {
    assert!(RankWeights::new(0, vec![2.0], 1).is_err());
    assert!(RankWeights::new(5, vec![], 1).is_err());
    for base in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(RankWeights::new(5, vec![base], 1).is_err(), "{base}");
    }
    for temperature in [0.0, -0.1, f32::NAN, f32::INFINITY] {
        let params = PrototypeParams {
            temperature,
            ..PrototypeParams::default()
        };
        let error = PrototypePolicy::new(params).unwrap_err().to_string();
        assert!(error.contains("temperature"), "{error}");
    }
}
