//! A bank against the plainest model of it: a list of rows.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use burn::tensor::{Device, Tensor, TensorData};
use proptest::prelude::*;
use queue::{MemoryBank, MemoryBankConfig, NeighbourParams, RowStorage, nearest_neighbours};

const DIM: usize = 3;

fn tensor(values: &[f32]) -> Tensor<2> {
    let data = TensorData::new(values.to_vec(), [values.len() / DIM, DIM]);
    Tensor::from_data(data, &Device::flex())
}

fn values(bank: &MemoryBank) -> Vec<f32> {
    bank.to_data().unwrap().try_to_vec().unwrap()
}

/// Rows of small multiples of 1/8: exact in f32 and in f16, also as sums of products.
fn rows(count: impl Strategy<Value = usize>) -> impl Strategy<Value = Vec<f32>> {
    count.prop_flat_map(|count| {
        prop::collection::vec((-16i8..=16).prop_map(|x| f32::from(x) / 8.0), count * DIM)
    })
}

/// A batch: slots, which may repeat or lie outside, and a row for each.
fn batches() -> impl Strategy<Value = Vec<(Vec<usize>, Vec<f32>)>> {
    let batch = prop::collection::vec(0usize..14, 0..6).prop_flat_map(|ids| {
        let count = ids.len();
        (Just(ids), rows(Just(count)))
    });
    prop::collection::vec(batch, 0..8)
}

proptest! {
    #[test]
    fn updates_are_assignments_or_nothing(first in rows(1usize..13), batches in batches(), half: bool) {
        let row_storage = if half { RowStorage::F16 } else { RowStorage::F32 };
        let mut bank = MemoryBank::with_config(tensor(&first), MemoryBankConfig { row_storage }).unwrap();
        let mut model = first;
        for (ids, rows) in batches {
            let mut seen = ids.clone();
            seen.sort_unstable();
            seen.dedup();
            let fits = seen.len() == ids.len() && ids.iter().all(|id| *id < bank.len());
            let update = match ids.len() {
                0 => Tensor::zeros([0, DIM], &Device::flex()),
                _ => tensor(&rows),
            };
            prop_assert_eq!(bank.update(&ids, update).is_ok(), fits);
            if fits {
                for (id, row) in ids.iter().zip(rows.chunks(DIM)) {
                    model[id * DIM..][..DIM].copy_from_slice(row);
                }
            }
            prop_assert_eq!(&values(&bank), &model);
        }
    }

    #[test]
    fn a_bank_survives_its_checkpoint_bit_for_bit(first in rows(1usize..13), half: bool) {
        let row_storage = if half { RowStorage::F16 } else { RowStorage::F32 };
        let config = MemoryBankConfig { row_storage };
        let bank = MemoryBank::with_config(tensor(&first), config).unwrap();
        let data = bank.to_data().unwrap();
        let again = MemoryBank::from_data_with_config(data, &Device::flex(), config).unwrap();
        prop_assert_eq!(values(&again), values(&bank));
        prop_assert_eq!(again.bytes(), bank.bytes());
    }

    #[test]
    fn a_neighbour_more_keeps_the_neighbours_before_it(first in rows(2usize..13), k in 0usize..12) {
        let n = first.len() / DIM;
        let k = k.min(n - 2);
        let lists = |k| nearest_neighbours(tensor(&first), &NeighbourParams::new(k)).unwrap();
        let (short, long) = (lists(k), lists(k + 1));
        for row in 0..n {
            prop_assert_eq!(short.row(row).unwrap(), &long.row(row).unwrap()[..=k]);
        }
    }

    #[test]
    fn doubling_every_vector_changes_no_list(first in rows(2usize..13), k in 1usize..12) {
        let k = k.min(first.len() / DIM - 1);
        let doubled: Vec<f32> = first.iter().map(|x| 2.0 * x).collect();
        let params = NeighbourParams::new(k);
        let plain = nearest_neighbours(tensor(&first), &params).unwrap();
        prop_assert_eq!(plain, nearest_neighbours(tensor(&doubled), &params).unwrap());
    }
}
