//! Which new cluster is which old category.

use std::collections::BTreeMap;

use crate::catalogue::{Catalogue, check_unit};
use crate::category::{Category, CategoryId};
use crate::error::{CategoryError, invalid};
use crate::vector::cosine;

/// A cluster found on more data.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct NewCentroid<'a> {
    /// Its centre, of unit length. `[dim]`
    pub centroid: &'a [f32],
    /// Coarse class.
    pub coarse: Option<&'a str>,
}

/// An old category and the new cluster that continues it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Kept {
    /// The old category.
    pub id: CategoryId,
    /// Index of the new cluster.
    pub new: usize,
    /// Cosine of their centroids.
    pub cosine: f32,
}

/// Result of [`match_old`].
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Matching {
    /// Old categories that go on, by id.
    pub kept: Vec<Kept>,
    /// New clusters that continue no old category, ascending.
    pub born: Vec<usize>,
    /// Active categories that no new cluster continues, ascending.
    pub vanished: Vec<CategoryId>,
}

/// Matches new clusters with the active categories, one to one.
///
/// ```text
/// maximise  sum of cosine(old, new) over the pairs
/// subject to  each old and each new in one pair at most,
///             both of the same coarse class (or both without), cosine >= min_cosine
/// ```
///
/// Solved exactly by shortest augmenting paths in each coarse class, `O(n^3)`. The result is a fixed
/// function of the input, and the pairs do not depend on the order of the clusters unless two
/// solutions are equally good.
///
/// # Errors
/// A centroid of another length than the catalogue's, not finite or not of unit length;
/// `min_cosine` outside (0, 1].
///
/// # Example
/// ```
/// use categories::{Catalogue, Category, CategoryId, NameSource, NewCentroid, Status, match_old};
/// # let category = |id: u32, name: &str, centroid: [f32; 2]| Category {
/// #     id: CategoryId(id), name: name.to_owned(), name_source: NameSource::Keywords,
/// #     coarse: None, keywords: vec![], medoids: vec![], size: 10, coherence: 0.8,
/// #     nearest: vec![], born: 1, status: Status::Active, centroid: centroid.to_vec(),
/// # };
/// let old = vec![category(0, "refund", [1.0, 0.0]), category(1, "delivery", [0.0, 1.0])];
/// let old = Catalogue::new(2, "", vec![], old, None)?;
/// let centroids = [[0.0, -1.0], [0.8, 0.6]];
/// let new = centroids.each_ref().map(|centroid| NewCentroid { centroid, coarse: None });
/// let found = match_old(&old, &new, 0.5)?;
/// assert_eq!((found.kept[0].id, found.kept[0].new), (CategoryId(0), 1));
/// assert_eq!((found.born, found.vanished), (vec![0], vec![CategoryId(1)]));
/// # Ok::<(), categories::CategoryError>(())
/// ```
pub fn match_old(
    old: &Catalogue,
    new: &[NewCentroid<'_>],
    min_cosine: f32,
) -> Result<Matching, CategoryError> {
    if !(min_cosine > 0.0 && min_cosine <= 1.0) {
        return Err(invalid(
            "min_cosine",
            "a cosine above 0 and at most 1",
            min_cosine,
        ));
    }
    old.check()?;
    for (at, new) in new.iter().enumerate() {
        check_unit(new.centroid, old.dim)
            .map_err(|(expected, found)| invalid(format!("new[{at}].centroid"), expected, found))?;
    }
    let mut classes: BTreeMap<Option<&str>, (Vec<&Category>, Vec<usize>)> = BTreeMap::new();
    for category in old.active() {
        let class = classes.entry(category.coarse.as_deref()).or_default();
        class.0.push(category);
    }
    for (at, new) in new.iter().enumerate() {
        classes.entry(new.coarse).or_default().1.push(at);
    }
    let mut matching = Matching::default();
    for (categories, clusters) in classes.values() {
        let cosines: Vec<Vec<f32>> = categories
            .iter()
            .map(|category| {
                let to = |at: &usize| cosine(&category.centroid, new[*at].centroid);
                clusters.iter().map(to).collect()
            })
            .collect();
        // A pair below the minimum is worth as much as none, so it never displaces another.
        let gain = |row: usize, column: usize| match cosines[row][column] {
            cosine if cosine >= min_cosine => f64::from(cosine),
            _ => 0.0,
        };
        let columns = best_assignment(categories.len(), clusters.len(), &gain);
        let mut continued = vec![false; clusters.len()];
        for (row, (category, column)) in categories.iter().zip(columns).enumerate() {
            match column.filter(|column| gain(row, *column) > 0.0) {
                None => matching.vanished.push(category.id),
                Some(column) => {
                    continued[column] = true;
                    matching.kept.push(Kept {
                        id: category.id,
                        new: clusters[column],
                        cosine: cosines[row][column],
                    });
                }
            }
        }
        let born = clusters
            .iter()
            .zip(continued)
            .filter(|(_, continued)| !continued);
        matching.born.extend(born.map(|(at, _)| *at));
    }
    matching.kept.sort_unstable_by_key(|kept| kept.id);
    matching.born.sort_unstable();
    matching.vanished.sort_unstable();
    Ok(matching)
}

/// The column of each row in the one-to-one assignment with the largest sum of gains; `None` for
/// rows left over when there are fewer columns.
///
/// Rows join one after the other along a path that is shortest in reduced costs (Jonker and
/// Volgenant 1987). Written out here, in floating point, because the crate stands beside `metrics`,
/// not above it.
fn best_assignment(
    rows: usize,
    columns: usize,
    gain: &dyn Fn(usize, usize) -> f64,
) -> Vec<Option<usize>> {
    if rows > columns {
        let mut of_row = vec![None; rows];
        let of_column = best_assignment(columns, rows, &|row, column| gain(column, row));
        for (column, row) in of_column.into_iter().enumerate() {
            if let Some(row) = row {
                of_row[row] = Some(column);
            }
        }
        return of_row;
    }
    let mut row_price = vec![0.0_f64; rows];
    let mut column_price = vec![0.0_f64; columns];
    let mut row_of = vec![None::<usize>; columns];
    for new_row in 0..rows {
        let mut distance = vec![f64::INFINITY; columns];
        // The column before each column on its shortest path; `None` is the start.
        let mut before = vec![None::<usize>; columns];
        let mut settled: Vec<usize> = Vec::new();
        let mut open: Vec<usize> = (0..columns).collect();
        let (mut row, mut last, mut so_far) = (new_row, None, 0.0);
        let end = loop {
            let mut nearest = 0;
            for (place, &column) in open.iter().enumerate() {
                let reduced = -gain(row, column) - row_price[row] - column_price[column];
                if so_far + reduced < distance[column] {
                    distance[column] = so_far + reduced;
                    before[column] = last;
                }
                if distance[column] < distance[open[nearest]] {
                    nearest = place;
                }
            }
            // `open` keeps its order, so that the lowest column wins ties.
            let column = open.remove(nearest);
            so_far = distance[column];
            match row_of[column] {
                None => break column,
                Some(taken) => {
                    settled.push(column);
                    (row, last) = (taken, Some(column));
                }
            }
        };
        row_price[new_row] += so_far;
        for column in settled {
            let slack = so_far - distance[column];
            column_price[column] -= slack;
            if let Some(row) = row_of[column] {
                row_price[row] += slack;
            }
        }
        let mut column = end;
        while let Some(earlier) = before[column] {
            row_of[column] = row_of[earlier];
            column = earlier;
        }
        row_of[column] = Some(new_row);
    }
    let mut of_row = vec![None; rows];
    for (column, row) in row_of.into_iter().enumerate() {
        if let Some(row) = row {
            of_row[row] = Some(column);
        }
    }
    of_row
}
