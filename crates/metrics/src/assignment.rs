//! One-to-one assignment of rows to columns at least cost or largest gain.
//!
//! Shortest augmenting paths with dual prices: rows join the matching one after the other, each
//! along a cheapest alternating path in reduced costs (Edmonds and Karp 1972; Jonker and
//! Volgenant 1987; Crouse 2016 for the rectangular form). Time `O(r^2 * c)` with `r` the shorter
//! and `c` the longer side, memory `O(r * c)` for the input and `O(r + c)` beside it.

use std::ops::{Add, Neg, Sub};

use crate::error::MetricsError;

/// A number that can stand in a cost matrix.
///
/// `i64` costs are summed in `i128` and give exact results; `f64` costs are summed in `f64`.
pub trait Cost: Copy + sealed::Sealed {
    /// The type in which costs and prices are added up.
    type Sum: Copy
        + Default
        + PartialOrd
        + Add<Output = Self::Sum>
        + Sub<Output = Self::Sum>
        + Neg<Output = Self::Sum>;

    /// The cost as a summand.
    fn widen(self) -> Self::Sum;

    /// `None` if sums of `count` such costs stay representable, else the value to report.
    fn unusable(self, count: usize) -> Option<f64>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for i64 {}
    impl Sealed for f64 {}
}

impl Cost for i64 {
    type Sum = i128;

    fn widen(self) -> i128 {
        i128::from(self)
    }

    fn unusable(self, _count: usize) -> Option<f64> {
        None
    }
}

impl Cost for f64 {
    type Sum = f64;

    fn widen(self) -> f64 {
        self
    }

    fn unusable(self, count: usize) -> Option<f64> {
        // A price is a signed sum of at most 2 * count costs; the 4 leaves room for differences.
        let limit = f64::MAX / (4.0 * (count as f64 + 1.0));
        (!self.is_finite() || self.abs() > limit).then_some(self)
    }
}

/// The result of [`min_assignment`] and [`max_assignment`].
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment<S> {
    /// For each row its column; `None` for the rows left over when there are more rows than
    /// columns. Exactly `min(rows, columns)` entries are `Some`, all different.
    pub column_of_row: Vec<Option<usize>>,
    /// Sum of the chosen entries, added in ascending row order.
    pub total: S,
}

/// The one-to-one assignment with the smallest sum of costs.
///
/// `costs` is row-major `[rows, columns]`; `min(rows, columns)` entries are chosen, no two in one
/// row or column. Entries may be negative. Among equally good assignments the choice is a fixed
/// function of the input. A matrix with no row or no column gives an empty assignment.
///
/// # Errors
/// [`MetricsError::Shape`] if `costs.len() != rows * columns`; [`MetricsError::NonFinite`] for
/// NaN and infinities; [`MetricsError::Parameter`] for `f64` entries so large that sums would
/// overflow.
///
/// ```
/// // 4 + 1 = 5 beats 2 + 8 = 10.
/// let best = metrics::min_assignment(&[4_i64, 2, 8, 1], 2, 2)?;
/// assert_eq!((best.column_of_row, best.total), (vec![Some(0), Some(1)], 5));
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn min_assignment<C: Cost>(
    costs: &[C],
    rows: usize,
    columns: usize,
) -> Result<Assignment<C::Sum>, MetricsError> {
    assign("min_assignment", costs, rows, columns, |cost| cost)
}

/// The one-to-one assignment with the largest sum of gains.
///
/// Everything else is as for [`min_assignment`].
///
/// # Errors
/// As for [`min_assignment`].
///
/// ```
/// // Three rows compete for two columns: row 1 takes column 0, row 2 takes column 1.
/// let best = metrics::max_assignment(&[1.0, 1.0, 5.0, 4.0, 4.0, 3.5], 3, 2)?;
/// assert_eq!(best.column_of_row, [None, Some(0), Some(1)]);
/// assert_eq!(best.total, 8.5);
/// # Ok::<(), metrics::MetricsError>(())
/// ```
pub fn max_assignment<C: Cost>(
    gains: &[C],
    rows: usize,
    columns: usize,
) -> Result<Assignment<C::Sum>, MetricsError> {
    assign("max_assignment", gains, rows, columns, |gain| -gain)
}

fn assign<C: Cost>(
    operation: &'static str,
    entries: &[C],
    rows: usize,
    columns: usize,
    to_cost: impl Fn(C::Sum) -> C::Sum,
) -> Result<Assignment<C::Sum>, MetricsError> {
    if rows.checked_mul(columns) != Some(entries.len()) {
        return Err(MetricsError::Shape {
            operation,
            argument: "matrix",
            expected: format!("{rows} rows x {columns} columns"),
            found: entries.len(),
        });
    }
    for (index, entry) in entries.iter().enumerate() {
        match entry.unusable(rows.max(columns)) {
            None => {}
            Some(value) if value.is_finite() => {
                return Err(MetricsError::Parameter {
                    operation,
                    parameter: "matrix entry",
                    expected: "a magnitude whose sum over a whole assignment is finite",
                    found: format!(
                        "{value} at row {}, column {}",
                        index / columns,
                        index % columns
                    ),
                });
            }
            Some(value) => {
                return Err(MetricsError::NonFinite {
                    operation,
                    argument: "matrix",
                    index,
                    value,
                });
            }
        }
    }

    let mut column_of_row = vec![None; rows];
    if rows <= columns {
        let cost = |row: usize, column: usize| to_cost(entries[row * columns + column].widen());
        column_of_row = shortest_augmenting_paths(rows, columns, cost);
    } else {
        let cost = |column: usize, row: usize| to_cost(entries[row * columns + column].widen());
        let row_of_column = shortest_augmenting_paths(columns, rows, cost);
        for (column, row) in row_of_column.into_iter().enumerate() {
            if let Some(row) = row {
                column_of_row[row] = Some(column);
            }
        }
    }
    let mut total = C::Sum::default();
    for (row, column) in column_of_row.iter().enumerate() {
        if let Some(column) = column {
            total = total + entries[row * columns + column].widen();
        }
    }
    Ok(Assignment {
        column_of_row,
        total,
    })
}

/// Matches every agent with a task of its own; needs `agents <= tasks`.
///
/// Invariant with prices `u` (agents) and `v` (tasks): `cost(a, t) - u[a] - v[t] >= 0`, with
/// equality on matched pairs, and `v[t] = 0` on unmatched tasks. Together they prove optimality.
fn shortest_augmenting_paths<S>(
    agents: usize,
    tasks: usize,
    cost: impl Fn(usize, usize) -> S,
) -> Vec<Option<usize>>
where
    S: Copy + Default + PartialOrd + Add<Output = S> + Sub<Output = S>,
{
    let mut agent_price = vec![S::default(); agents];
    let mut task_price = vec![S::default(); tasks];
    let mut task_of: Vec<Option<usize>> = vec![None; agents];
    let mut agent_of: Vec<Option<usize>> = vec![None; tasks];
    let mut distance: Vec<Option<S>> = vec![None; tasks];
    let mut came_from = vec![0; tasks];
    let mut settled = vec![false; tasks];

    for newcomer in 0..agents {
        distance.fill(None);
        settled.fill(false);
        let mut agent = newcomer;
        let mut reached = S::default();

        // Dijkstra over tasks: a settled task hands the search on to the agent that holds it.
        let free_task = loop {
            let mut nearest: Option<(S, usize)> = None;
            for task in 0..tasks {
                if settled[task] {
                    continue;
                }
                let through = reached + cost(agent, task) - agent_price[agent] - task_price[task];
                let here = match distance[task] {
                    Some(known) if known <= through => known,
                    _ => {
                        distance[task] = Some(through);
                        came_from[task] = agent;
                        through
                    }
                };
                if nearest.is_none_or(|(least, _)| here < least) {
                    nearest = Some((here, task));
                }
            }
            // With agents <= tasks a free task is always left, so the search cannot run dry.
            let Some((least, task)) = nearest else {
                break None;
            };
            settled[task] = true;
            reached = least;
            match agent_of[task] {
                None => break Some(task),
                Some(holder) => agent = holder,
            }
        };
        let Some(free_task) = free_task else { break };

        // Prices change before the matching does: they belong to the tree that was searched.
        agent_price[newcomer] = agent_price[newcomer] + reached;
        for task in 0..tasks {
            if let (true, Some(at), Some(holder)) = (settled[task], distance[task], agent_of[task])
            {
                task_price[task] = task_price[task] - (reached - at);
                agent_price[holder] = agent_price[holder] + (reached - at);
            }
        }

        let mut task = free_task;
        loop {
            let agent = came_from[task];
            agent_of[task] = Some(agent);
            match task_of[agent].replace(task) {
                Some(released) => task = released,
                None => break,
            }
        }
    }
    task_of
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use pathfinding::kuhn_munkres::{kuhn_munkres, kuhn_munkres_min};
    use pathfinding::matrix::Matrix;
    use proptest::prelude::*;

    use super::*;

    /// Best total by trying every way to give each row of the shorter side its own column.
    fn brute_force(entries: &[i64], rows: usize, columns: usize, maximise: bool) -> i128 {
        fn search(
            row: usize,
            used: &mut Vec<bool>,
            shape: (usize, usize),
            cost: &dyn Fn(usize, usize) -> i128,
        ) -> i128 {
            if row == shape.0 {
                return 0;
            }
            let mut best = i128::MAX;
            for column in 0..shape.1 {
                if !used[column] {
                    used[column] = true;
                    best = best.min(cost(row, column) + search(row + 1, used, shape, cost));
                    used[column] = false;
                }
            }
            best
        }
        let sign = if maximise { -1 } else { 1 };
        let at = |row: usize, column: usize| sign * i128::from(entries[row * columns + column]);
        let best = if rows <= columns {
            search(0, &mut vec![false; columns], (rows, columns), &at)
        } else {
            search(0, &mut vec![false; rows], (columns, rows), &|c, r| at(r, c))
        };
        sign * best
    }

    fn check_is_matching<S>(found: &Assignment<S>, rows: usize, columns: usize) {
        assert_eq!(found.column_of_row.len(), rows);
        let mut used: Vec<usize> = found.column_of_row.iter().flatten().copied().collect();
        assert!(used.iter().all(|&column| column < columns));
        used.sort_unstable();
        used.dedup();
        assert_eq!(used.len(), rows.min(columns));
    }

    #[test]
    fn three_by_three_by_hand() {
        // All six permutations of      4 1 3
        //                              2 0 5
        //                              3 2 2
        // (0,1,2): 4+0+2=6  (0,2,1): 4+5+2=11  (1,0,2): 1+2+2=5
        // (1,2,0): 1+5+3=9  (2,0,1): 3+2+2=7   (2,1,0): 3+0+3=6
        let costs = [4_i64, 1, 3, 2, 0, 5, 3, 2, 2];
        let least = min_assignment(&costs, 3, 3).unwrap();
        assert_eq!(least.column_of_row, [Some(1), Some(0), Some(2)]);
        assert_eq!(least.total, 5);
        let most = max_assignment(&costs, 3, 3).unwrap();
        assert_eq!(most.column_of_row, [Some(0), Some(2), Some(1)]);
        assert_eq!(most.total, 11);
    }

    #[test]
    fn greedy_would_lose() {
        // Greedy takes 10 first and is left with 0; the best is 9 + 9 = 18.
        assert_eq!(max_assignment(&[10_i64, 9, 9, 0], 2, 2).unwrap().total, 18);
    }

    #[test]
    fn extremes_of_i64_do_not_overflow() {
        let costs = [i64::MAX, i64::MIN, i64::MIN, i64::MAX];
        assert_eq!(
            min_assignment(&costs, 2, 2).unwrap().total,
            2 * i128::from(i64::MIN)
        );
        assert_eq!(
            max_assignment(&costs, 2, 2).unwrap().total,
            2 * i128::from(i64::MAX)
        );
    }

    #[test]
    fn empty_sides() {
        let none: [i64; 0] = [];
        assert_eq!(min_assignment(&none, 0, 0).unwrap().column_of_row, []);
        assert_eq!(min_assignment(&none, 0, 5).unwrap().column_of_row, []);
        assert_eq!(
            min_assignment(&none, 2, 0).unwrap().column_of_row,
            [None, None]
        );
    }

    #[test]
    fn hostile_input_is_an_error() {
        assert!(matches!(
            min_assignment(&[1_i64, 2, 3], 2, 2),
            Err(MetricsError::Shape { found: 3, .. })
        ));
        assert!(matches!(
            min_assignment(&[1_i64], usize::MAX, 2),
            Err(MetricsError::Shape { .. })
        ));
        assert!(matches!(
            min_assignment(&[1.0, f64::NAN], 1, 2),
            Err(MetricsError::NonFinite { index: 1, .. })
        ));
        assert!(matches!(
            max_assignment(&[f64::INFINITY], 1, 1),
            Err(MetricsError::NonFinite { index: 0, .. })
        ));
        let error = max_assignment(&[0.0, 0.0, 1e308, 0.0], 2, 2).unwrap_err();
        assert!(matches!(error, MetricsError::Parameter { .. }));
        assert!(error.to_string().contains("row 1, column 0"), "{error}");
    }

    fn matrix(limit: usize, range: i64) -> impl Strategy<Value = (usize, usize, Vec<i64>)> {
        (1..=limit, 1..=limit).prop_flat_map(move |(rows, columns)| {
            let entries = proptest::collection::vec(-range..=range, rows * columns);
            (Just(rows), Just(columns), entries)
        })
    }

    proptest! {
        #[test]
        fn equals_brute_force((rows, columns, entries) in matrix(6, 4)) {
            let least = min_assignment(&entries, rows, columns).unwrap();
            let most = max_assignment(&entries, rows, columns).unwrap();
            check_is_matching(&least, rows, columns);
            check_is_matching(&most, rows, columns);
            prop_assert_eq!(least.total, brute_force(&entries, rows, columns, false));
            prop_assert_eq!(most.total, brute_force(&entries, rows, columns, true));
        }

        #[test]
        fn equals_kuhn_munkres((rows, columns, entries) in matrix(24, 1000)) {
            // The other implementation wants at least as many columns as rows.
            let (short, long, flat) = if rows <= columns {
                (rows, columns, entries.clone())
            } else {
                let turned = (0..columns)
                    .flat_map(|column| (0..rows).map(move |row| (row, column)))
                    .map(|(row, column)| entries[row * columns + column])
                    .collect();
                (columns, rows, turned)
            };
            let weights = Matrix::from_vec(short, long, flat).unwrap();
            let least = min_assignment(&entries, rows, columns).unwrap();
            let most = max_assignment(&entries, rows, columns).unwrap();
            prop_assert_eq!(least.total, i128::from(kuhn_munkres_min(&weights).0));
            prop_assert_eq!(most.total, i128::from(kuhn_munkres(&weights).0));
        }

        #[test]
        fn floats_agree_with_integers((rows, columns, entries) in matrix(12, 50)) {
            let floats: Vec<f64> = entries.iter().map(|&entry| entry as f64).collect();
            let exact = min_assignment(&entries, rows, columns).unwrap();
            let found = min_assignment(&floats, rows, columns).unwrap();
            check_is_matching(&found, rows, columns);
            prop_assert_eq!(found.total, exact.total as f64);
        }

        #[test]
        fn a_constant_per_row_moves_the_total_only(
            (rows, extra, entries) in (1_usize..6, 0_usize..3).prop_flat_map(|(rows, extra)| {
                let entries = proptest::collection::vec(-9_i64..9, rows * (rows + extra));
                (Just(rows), Just(extra), entries)
            }),
            shift in -50_i64..50,
        ) {
            // Every row is matched, so each pays its shift exactly once.
            let columns = rows + extra;
            let shifted: Vec<i64> = entries
                .iter()
                .enumerate()
                .map(|(index, entry)| entry + shift * (index / columns) as i64)
                .collect();
            let paid = i128::from(shift) * (rows * (rows - 1) / 2) as i128;
            prop_assert_eq!(
                min_assignment(&shifted, rows, columns).unwrap().total,
                min_assignment(&entries, rows, columns).unwrap().total + paid
            );
        }
    }
}
