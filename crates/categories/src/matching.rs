//! Which new cluster is which old category.

use std::collections::BTreeMap;

use metrics::max_assignment;

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
        let (rows, width) = (categories.len(), clusters.len());
        let gains: Vec<f64> = (0..rows)
            .flat_map(|row| (0..width).map(move |column| (row, column)))
            .map(|(row, column)| gain(row, column))
            .collect();
        let best = max_assignment(&gains, rows, width)
            .map_err(|error| invalid("new", "centroids with finite cosines", error))?;
        let mut continued = vec![false; clusters.len()];
        for (row, (category, column)) in categories.iter().zip(best.column_of_row).enumerate() {
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
