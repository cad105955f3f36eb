//! Sums of embedding rows and their scatter back.

use rayon::prelude::*;

use super::{ROWS, overwritten};

/// `word[ids[t]] + position[positions[t]] + segment[0]`, `[tokens, columns]`.
///
/// # Panics
///
/// If an id or a position is outside its table.
pub(crate) fn gather(
    word: &[f32],
    position: &[f32],
    segment: &[f32],
    ids: &[i32],
    positions: &[i32],
    columns: usize,
) -> Vec<f32> {
    assert_eq!(ids.len(), positions.len(), "embedding: ids and positions");
    let row = |table: &[f32], at: i32| {
        let start = usize::try_from(at).map_or(usize::MAX, |at| at.saturating_mul(columns));
        assert!(
            start.saturating_add(columns) <= table.len(),
            "embedding: row {at} outside a table of {} rows",
            table.len() / columns.max(1)
        );
        start..start + columns
    };
    // SAFETY: the chunks cover the buffer and every row is assigned before it is read.
    unsafe {
        overwritten(ids.len() * columns, |out| {
            out.par_chunks_mut(ROWS * columns)
                .zip(ids.par_chunks(ROWS))
                .zip(positions.par_chunks(ROWS))
                .for_each(|((out, ids), positions)| {
                    for ((out, id), at) in out.chunks_mut(columns).zip(ids).zip(positions) {
                        let word = &word[row(word, *id)];
                        let position = &position[row(position, *at)];
                        for (((out, a), b), c) in
                            out.iter_mut().zip(word).zip(position).zip(segment)
                        {
                            *out = a + (b + c);
                        }
                    }
                });
        })
    }
}

/// A table of `rows` rows that is zero but for `table[ids[t]] += grad[t]`, in the order of `t`.
pub(crate) fn scatter(grad: &[f32], ids: &[i32], rows: usize, columns: usize) -> Vec<f32> {
    // SAFETY: the fill covers the buffer before anything is added.
    unsafe {
        overwritten(rows * columns, |table| {
            table
                .par_chunks_mut(1 << 18)
                .for_each(|chunk| chunk.fill(0.0));
            for (grad, id) in grad.chunks_exact(columns).zip(ids) {
                // The forward pass has checked the ids.
                let start = *id as usize * columns;
                for (to, g) in table[start..start + columns].iter_mut().zip(grad) {
                    *to += g;
                }
            }
        })
    }
}
