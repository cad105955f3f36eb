//! How often retrieved neighbours share the label of their query.

use crate::compensated_sum::CompensatedSum;
use crate::error::MetricsError;

/// What to do with a row that lists itself among its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SelfNeighbour {
    /// Leave it out of the row's share: a row says nothing about the quality of its retrieval.
    #[default]
    Exclude,
    /// Count it like any other neighbour; it always agrees.
    Include,
}

/// The result of [`neighbour_precision`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NeighbourPrecision {
    /// Mean over the counted rows of the share of neighbours with the row's own label, in `[0, 1]`.
    /// NaN if no row was counted.
    pub precision: f64,
    /// Rows with at least one neighbour left after [`SelfNeighbour`] was applied.
    pub rows: usize,
}

/// Mean share of a row's listed neighbours that carry its label.
///
/// `precision = mean_i |{j in N_i : label_j = label_i}| / |N_i|`
///
/// `neighbours` is row-major `[rows, k]` and holds row indices; `labels` is `[rows]`. An index may
/// occur more than once in a row and then counts as often. Rows whose list is only themselves
/// are skipped under [`SelfNeighbour::Exclude`].
///
/// # Errors
/// [`MetricsError::Empty`] without labels; [`MetricsError::Parameter`] for `k = 0`;
/// [`MetricsError::Shape`] if `neighbours` is not `[labels.len(), k]`;
/// [`MetricsError::OutOfRange`] for an index past the last row.
///
/// ```
/// use metrics::{SelfNeighbour, neighbour_precision};
///
/// // Row 0 lists rows 0, 1, 2: itself is left out, 1 agrees, 2 does not.
/// let neighbours = [0, 1, 2, 0, 2, 2, 2, 0, 1];
/// let found = neighbour_precision(&neighbours, 3, &['a', 'a', 'b'], SelfNeighbour::Exclude)?;
/// assert!((found.precision - (1.0 / 2.0 + 1.0 / 3.0 + 0.0) / 3.0).abs() < 1e-12);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn neighbour_precision<L: PartialEq>(
    neighbours: &[u32],
    k: usize,
    labels: &[L],
    own: SelfNeighbour,
) -> Result<NeighbourPrecision, MetricsError> {
    let operation = "neighbour_precision";
    if labels.is_empty() {
        return Err(MetricsError::Empty {
            operation,
            argument: "labels",
        });
    }
    if k == 0 {
        return Err(MetricsError::Parameter {
            operation,
            parameter: "k",
            expected: "at least 1 neighbour per row",
            found: k.to_string(),
        });
    }
    if labels.len().checked_mul(k) != Some(neighbours.len()) {
        return Err(MetricsError::Shape {
            operation,
            argument: "neighbours",
            expected: format!("{} rows x {k} neighbours", labels.len()),
            found: neighbours.len(),
        });
    }
    let mut shares = CompensatedSum::default();
    let mut rows = 0;
    for (row, (list, label)) in neighbours.chunks_exact(k).zip(labels).enumerate() {
        let (mut same, mut counted) = (0_usize, 0_usize);
        for (place, &neighbour) in list.iter().enumerate() {
            let Some(other) = labels.get(neighbour as usize) else {
                return Err(MetricsError::OutOfRange {
                    operation,
                    argument: "neighbours",
                    index: row * k + place,
                    found: u64::from(neighbour),
                    limit: labels.len() as u64,
                });
            };
            if own == SelfNeighbour::Exclude && neighbour as usize == row {
                continue;
            }
            counted += 1;
            same += usize::from(other == label);
        }
        if counted > 0 {
            rows += 1;
            shares.add(same as f64 / counted as f64);
        }
    }
    let precision = if rows == 0 {
        f64::NAN
    } else {
        shares.value() / rows as f64
    };
    Ok(NeighbourPrecision { precision, rows })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn worked_example() {
        // labels a a b;   row 0: 0 1 (self, agree), row 1: 2 0 (no, agree), row 2: 2 2 (self twice)
        let neighbours = [0, 1, 2, 0, 2, 2];
        let labels = ["a", "a", "b"];
        // Exclude: 1/1, 1/2, skipped -> 0.75 over 2 rows. Include: 2/2, 1/2, 2/2 -> 2.5/3.
        let exclude = neighbour_precision(&neighbours, 2, &labels, SelfNeighbour::Exclude).unwrap();
        assert_eq!(
            exclude,
            NeighbourPrecision {
                precision: 0.75,
                rows: 2
            }
        );
        let include = neighbour_precision(&neighbours, 2, &labels, SelfNeighbour::Include).unwrap();
        assert_eq!(include.rows, 3);
        assert!((include.precision - 2.5 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn nothing_to_count_is_nan() {
        let found = neighbour_precision(&[0, 1], 1, &[5, 6], SelfNeighbour::default()).unwrap();
        assert!(found.precision.is_nan());
        assert_eq!(found.rows, 0);
    }

    #[test]
    fn hostile_input_is_an_error() {
        let own = SelfNeighbour::Exclude;
        let none: [u8; 0] = [];
        assert!(matches!(
            neighbour_precision(&[], 1, &none, own),
            Err(MetricsError::Empty { .. })
        ));
        assert!(matches!(
            neighbour_precision(&[], 0, &[1], own),
            Err(MetricsError::Parameter { .. })
        ));
        assert!(matches!(
            neighbour_precision(&[0, 0, 0], 2, &[1, 1], own),
            Err(MetricsError::Shape { found: 3, .. })
        ));
        assert!(matches!(
            neighbour_precision(&[0], usize::MAX, &[1, 1], own),
            Err(MetricsError::Shape { .. })
        ));
        assert!(matches!(
            neighbour_precision(&[0, 2], 1, &[1, 1], own),
            Err(MetricsError::OutOfRange {
                index: 1,
                found: 2,
                limit: 2,
                ..
            })
        ));
        assert!(matches!(
            neighbour_precision(&[u32::MAX], 1, &[1], own),
            Err(MetricsError::OutOfRange { .. })
        ));
    }

    proptest! {
        #[test]
        fn bounds_and_relabelling(
            (labels, neighbours) in (1_usize..20).prop_flat_map(|rows| (
                proptest::collection::vec(0_u8..4, rows),
                proptest::collection::vec(0..rows as u32, rows * 3),
            )),
        ) {
            let exclude = neighbour_precision(&neighbours, 3, &labels, SelfNeighbour::Exclude).unwrap();
            let include = neighbour_precision(&neighbours, 3, &labels, SelfNeighbour::Include).unwrap();
            prop_assert!((0.0..=1.0).contains(&include.precision));
            prop_assert_eq!(include.rows, labels.len());
            let renamed: Vec<i32> = labels.iter().map(|&id| -i32::from(id)).collect();
            let again = neighbour_precision(&neighbours, 3, &renamed, SelfNeighbour::Include).unwrap();
            prop_assert_eq!(include, again);
            if exclude.rows == labels.len() {
                // Every row keeps a neighbour: dropping an entry that always agrees cannot help.
                prop_assert!(exclude.precision <= include.precision + 1e-15);
            }
            let one = neighbour_precision(&neighbours, 3, &vec![(); labels.len()], SelfNeighbour::Include).unwrap();
            prop_assert_eq!(one.precision, 1.0);
        }
    }
}
