//! The unknown threshold, from texts whose categories were left out.
//!
//! ```text
//! unknown   texts of a coarse class: largest cosine to a category of another class,
//!           for each class in turn
//! known     a tenth of the texts, held out: largest cosine to any category, centres
//!           fitted without them
//! ```
//!
//! Where there is one coarse class only, each category in turn is left out instead.

use categories::{Calibration, calibrate, fit_temperature};
use ndarray::{Array2, ArrayView2};
use training::{Streams, shuffle, stream};

use super::error::DiscoverError;
use super::evidence::matrix;
use super::vectors::{mean_direction, select};

/// One text of this many is held out.
const HELD_OUT: usize = 10;
/// Rows of one product with the centroids.
const BLOCK: usize = 1024;
/// Most held-out texts that the temperature is fitted on.
const TEMPERATURE_ROWS: usize = 2000;

/// What is measured: a text's row of the vectors, the place of its category, and its coarse class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Labelled<'a> {
    pub(crate) row: usize,
    pub(crate) category: usize,
    pub(crate) text: &'a str,
}

/// Measures threshold and temperature. `coarse` is the class of each category. `None` with a single
/// category, or too few texts to hold any out.
pub(crate) fn measure(
    vectors: ArrayView2<'_, f32>,
    members: &[Labelled<'_>],
    centroids: ArrayView2<'_, f32>,
    coarse: &[Option<&str>],
    keep: f64,
    seed: u64,
) -> Result<Option<Calibration>, DiscoverError> {
    let k = centroids.nrows();
    if k < 2 {
        return Ok(None);
    }
    let mut classes: Vec<&str> = coarse.iter().flatten().copied().collect();
    classes.sort_unstable();
    classes.dedup();
    let by_class = classes.len() > 1;
    let unknown = largest(vectors, members, centroids, |text, category| {
        if by_class {
            coarse.get(text) != coarse.get(category)
        } else {
            text != category
        }
    });

    // Sorted by content before the draw, so that the order of the rows does not matter.
    let mut order: Vec<&Labelled<'_>> = members.iter().collect();
    order.sort_by(|a, b| (a.category, a.text, a.row).cmp(&(b.category, b.text, b.row)));
    let mut rng = Streams::new(seed).rng(stream::EVALUATION, &[]);
    let drawn = shuffle(order.len(), &mut rng);
    let (mut held_out, mut rest) = (Vec::new(), vec![Vec::new(); k]);
    for (place, at) in drawn.into_iter().enumerate() {
        let Some(member) = order.get(at) else {
            continue;
        };
        if place % HELD_OUT == 0 {
            held_out.push(**member);
        } else if let Some(rows) = rest.get_mut(member.category) {
            rows.push(member.row);
        }
    }
    let fitted: Vec<Option<Vec<f32>>> = rest
        .iter()
        .map(|rows| mean_direction(select(vectors, rows).view()))
        .collect();
    // A category that lost all members is no longer known.
    held_out.retain(|member| fitted.get(member.category).is_some_and(Option::is_some));
    let places: Vec<usize> = (0..k).filter(|at| fitted[*at].is_some()).collect();
    let left = matrix(fitted.iter().flatten().map(Vec::as_slice), vectors.ncols())?;
    let truth: Vec<usize> = held_out
        .iter()
        .filter_map(|member| places.binary_search(&member.category).ok())
        .collect();
    if held_out.is_empty() || unknown.is_empty() || left.nrows() < 2 {
        return Ok(None);
    }
    let known = largest(vectors, &held_out, left.view(), |_, _| true);
    let threshold = calibrate(&known, &unknown, keep)?;
    let sample = held_out.len().min(TEMPERATURE_ROWS);
    let rows: Vec<usize> = held_out
        .iter()
        .take(sample)
        .map(|member| member.row)
        .collect();
    let cosines = select(vectors, &rows).dot(&left.t());
    let flat: Vec<f32> = cosines
        .iter()
        .map(|cosine| cosine.clamp(-1.0, 1.0))
        .collect();
    let temperature = fit_temperature(&flat, left.nrows(), truth.get(..sample).unwrap_or(&truth))?;
    let held_out_classes = if by_class { classes } else { Vec::new() };
    let names = held_out_classes.into_iter().map(str::to_owned).collect();
    Ok(Some(Calibration::new(threshold, temperature, names)))
}

/// The largest cosine of each member to a centroid that `admitted(category of the text, category)`
/// lets through; members without one are left out.
fn largest(
    vectors: ArrayView2<'_, f32>,
    members: &[Labelled<'_>],
    centroids: ArrayView2<'_, f32>,
    admitted: impl Fn(usize, usize) -> bool,
) -> Vec<f32> {
    let mut found = Vec::with_capacity(members.len());
    for block in members.chunks(BLOCK) {
        let rows: Vec<usize> = block.iter().map(|member| member.row).collect();
        let cosines: Array2<f32> = select(vectors, &rows).dot(&centroids.t());
        for (member, cosines) in block.iter().zip(cosines.outer_iter()) {
            let best = cosines
                .iter()
                .enumerate()
                .filter(|(category, _)| admitted(member.category, *category))
                .map(|(_, cosine)| cosine.clamp(-1.0, 1.0))
                .max_by(f32::total_cmp);
            found.extend(best);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// Three groups of unit vectors around three axes.
    fn groups() -> (Array2<f32>, Vec<String>) {
        let vectors = Array2::from_shape_fn((60, 3), |(row, axis)| {
            let angle = 0.2 + (row / 3) as f32 * 0.01;
            match (row % 3 == axis, (row + 1) % 3 == axis) {
                (true, _) => angle.cos(),
                (_, true) => angle.sin(),
                _ => 0.0,
            }
        });
        (vectors, (0..60).map(|row| format!("text {row}")).collect())
    }

    fn measured(
        coarse: &[Option<&str>],
        order: impl Iterator<Item = usize>,
    ) -> Option<Calibration> {
        let (vectors, texts) = groups();
        let members: Vec<Labelled<'_>> = order
            .map(|row| Labelled {
                row,
                category: row % 3,
                text: &texts[row],
            })
            .collect();
        let centroids = Array2::eye(3);
        measure(vectors.view(), &members, centroids.view(), coarse, 0.9, 1).unwrap()
    }

    #[test]
    fn texts_of_left_out_classes_fall_below_the_threshold() {
        let coarse = [Some("a"), Some("a"), Some("b")];
        let found = measured(&coarse, 0..60).unwrap();
        assert_eq!(found.held_out, ["a", "b"]);
        assert_eq!((found.n_known, found.n_unknown), (6, 60));
        assert!(
            found.accepts_known >= 0.9 && found.rejects_unknown > 0.9,
            "{found:?}"
        );
        assert!(found.threshold > 0.5 && found.temperature > 0.0);
        assert_eq!(measured(&coarse, (0..60).rev()), Some(found));
    }

    #[test]
    fn one_class_leaves_out_categories_and_one_category_nothing() {
        let found = measured(&[Some("a"); 3], 0..60).unwrap();
        assert!(found.held_out.is_empty());
        assert_eq!(found.n_unknown, 60);
        assert_eq!(measured(&[None; 3], 0..60), Some(found));
        let (vectors, texts) = groups();
        let one = [Labelled {
            row: 0,
            category: 0,
            text: &texts[0],
        }];
        let centroids = Array2::eye(3);
        let single = centroids.slice(ndarray::s![..1, ..]);
        assert_eq!(
            measure(vectors.view(), &one, single, &[None], 0.9, 0).unwrap(),
            None
        );
        let few = measure(vectors.view(), &one, centroids.view(), &[None; 3], 0.9, 0).unwrap();
        assert_eq!(few, None);
    }
}
