//! Places of texts in the plane: t-SNE of a sample, the others beside their nearest neighbours.

use clustering::TsneParams;
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};
use training::{Streams, shuffle, stream};

use super::error::DiscoverError;
use super::vectors::select;

const SCHEMA: &str = "asterism/map/1";
/// Fewest texts that are placed.
const FEWEST: usize = 10;
/// Neighbours that a text outside the sample is placed between.
const NEIGHBOURS: usize = 3;
/// How fast a neighbour's weight falls with its cosine.
const TEMPERATURE: f32 = 0.05;
/// Rows of one product with the placed vectors.
const BLOCK: usize = 512;

/// Contents of `map.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Map {
    schema: String,
    /// Texts placed, all members.
    pub(crate) rows: usize,
    /// Texts placed by t-SNE; the others stand between their neighbours.
    sampled: usize,
    pub(crate) x: Vec<f32>,
    pub(crate) y: Vec<f32>,
    seed: u64,
}

impl Map {
    /// Places all `vectors`, at most `limit` of them by t-SNE; `None` for very few texts or a limit
    /// below that. `texts` decide which are drawn, so that the order of the rows does not.
    pub(crate) fn new(
        vectors: ArrayView2<'_, f32>,
        texts: &[&str],
        limit: usize,
        seed: u64,
    ) -> Result<Option<Self>, DiscoverError> {
        let n = vectors.nrows();
        if n.min(limit) < FEWEST {
            return Ok(None);
        }
        let streams = Streams::new(seed);
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|row| (texts.get(*row), *row));
        let mut sample = order.clone();
        if limit < n {
            let drawn = shuffle(n, &mut streams.rng(stream::PROJECTION, &[]));
            sample = drawn
                .into_iter()
                .take(limit)
                .filter_map(|at| order.get(at).copied())
                .collect();
        }
        let points = select(vectors, &sample);
        let mut params = TsneParams::for_points(sample.len());
        params.seed = streams.seed(stream::PROJECTION, &[1]);
        let placed = params.fit(points.view())?.embedding;
        let mut map = Self {
            schema: SCHEMA.to_owned(),
            rows: n,
            sampled: sample.len(),
            x: vec![0.0; n],
            y: vec![0.0; n],
            seed,
        };
        let mut open = vec![true; n];
        for (row, place) in sample.iter().zip(placed.outer_iter()) {
            map.set(*row, place[0], place[1]);
            open[*row] = false;
        }
        let open: Vec<usize> = (0..n).filter(|row| open[*row]).collect();
        let between = between(select(vectors, &open).view(), points.view(), placed.view());
        for (row, (x, y)) in open.into_iter().zip(between) {
            map.set(row, x, y);
        }
        Ok(Some(map))
    }

    /// Adds texts between those that are placed already, which stay where they are.
    pub(crate) fn extend(&mut self, old: ArrayView2<'_, f32>, new: ArrayView2<'_, f32>) {
        let values = self
            .x
            .iter()
            .zip(&self.y)
            .flat_map(|(x, y)| [*x, *y])
            .collect();
        let Ok(placed) = Array2::from_shape_vec((self.x.len(), 2), values) else {
            return;
        };
        if placed.nrows() != old.nrows() {
            return;
        }
        for (x, y) in between(new, old, placed.view()) {
            self.x.push(x);
            self.y.push(y);
        }
        self.rows = self.x.len();
    }

    fn set(&mut self, row: usize, x: f32, y: f32) {
        if let (Some(at_x), Some(at_y)) = (self.x.get_mut(row), self.y.get_mut(row)) {
            (*at_x, *at_y) = (x, y);
        }
    }
}

/// Places of `vectors` between their nearest of `points`, whose places are `placed`.
fn between(
    vectors: ArrayView2<'_, f32>,
    points: ArrayView2<'_, f32>,
    placed: ArrayView2<'_, f32>,
) -> Vec<(f32, f32)> {
    let mut found = Vec::with_capacity(vectors.nrows());
    for block in vectors.axis_chunks_iter(ndarray::Axis(0), BLOCK) {
        for cosines in block.dot(&points.t()).outer_iter() {
            let mut near: Vec<(usize, f32)> = cosines.iter().copied().enumerate().collect();
            let by_cosine =
                |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
            if near.len() > NEIGHBOURS {
                near.select_nth_unstable_by(NEIGHBOURS - 1, by_cosine);
                near.truncate(NEIGHBOURS);
            }
            near.sort_by(by_cosine);
            let best = near.first().map_or(0.0, |(_, cosine)| *cosine);
            let (mut x, mut y, mut all) = (0.0, 0.0, 0.0);
            for (at, cosine) in near {
                let weight = ((cosine - best) / TEMPERATURE).exp();
                x += weight * placed[[at, 0]];
                y += weight * placed[[at, 1]];
                all += weight;
            }
            found.push((x / f32::max(all, 1e-6), y / f32::max(all, 1e-6)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn vectors(n: usize) -> (Array2<f32>, Vec<String>) {
        let vectors = Array2::from_shape_fn((n, 3), |(row, axis)| {
            let angle = 0.1 + row as f32 * 0.002;
            match (row % 3 == axis, (row + 1) % 3 == axis) {
                (true, _) => angle.cos(),
                (_, true) => angle.sin(),
                _ => 0.0,
            }
        });
        (vectors, (0..n).map(|row| format!("{row:04}")).collect())
    }

    fn map(n: usize, limit: usize) -> Option<Map> {
        let (vectors, texts) = vectors(n);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        Map::new(vectors.view(), &texts, limit, 3).unwrap()
    }

    #[test]
    fn every_text_has_a_place_whether_drawn_or_not() {
        let all = map(60, 60).unwrap();
        assert_eq!(
            (all.rows, all.sampled, all.x.len(), all.y.len()),
            (60, 60, 60, 60)
        );
        let some = map(60, 30).unwrap();
        assert_eq!((some.sampled, some.x.len()), (30, 60));
        assert!(some.x.iter().chain(&some.y).all(|value| value.is_finite()));
        assert_eq!(map(60, 0), None);
        assert_eq!(map(9, 60), None);
    }

    #[test]
    fn new_texts_stand_by_their_neighbours_and_old_ones_stay() {
        let (vectors, _) = vectors(60);
        let mut grown = map(60, 60).unwrap();
        let before = grown.clone();
        grown.extend(vectors.view(), vectors.slice(ndarray::s![5..6, ..]));
        assert_eq!(grown.x[..60], before.x[..]);
        assert_eq!(grown.rows, 61);
        let distance = (grown.x[60] - before.x[5]).hypot(grown.y[60] - before.y[5]);
        let spread = before.x.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        assert!(distance < spread, "{distance} of {spread}");
    }
}
