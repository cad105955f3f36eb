//! Scores of several tasks as the papers print them.

use std::fmt;

use crate::error::MetricsError;
use crate::sts::{TaskAverage, average_of_tasks_by};

/// A table with one column a task, one row a model or measure, and the average at the end.
///
/// Fractions become percentages with two decimals. The "Avg." column is the mean over the columns,
/// by default of the *rounded* percentages, which is what the published tables hold. A missing value
/// prints as `-`, and so does the average of a row with one. The text is a Markdown table with
/// aligned columns.
///
/// ```
/// use metrics::{TaskAverage, TaskTable};
/// let mut table = TaskTable::new("Model", ["STS12", "STS13"], TaskAverage::Rounded);
/// table.push("ours", &[Some(0.70126), Some(0.8)])?;
/// table.push("theirs", &[Some(0.5), None])?;
/// assert_eq!(
///     table.to_string(),
///     "| Model  | STS12 | STS13 |  Avg. |\n\
///      |--------|------:|------:|------:|\n\
///      | ours   | 70.13 | 80.00 | 75.06 |\n\
///      | theirs | 50.00 |     - |     - |\n"
/// );
/// # Ok::<(), metrics::MetricsError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TaskTable {
    corner: String,
    tasks: Vec<String>,
    average: TaskAverage,
    rows: Vec<(String, Vec<Option<f64>>)>,
}

impl TaskTable {
    /// A table without rows. `corner` heads the column of names.
    pub fn new<S: Into<String>>(
        corner: impl Into<String>,
        tasks: impl IntoIterator<Item = S>,
        average: TaskAverage,
    ) -> Self {
        Self {
            corner: corner.into(),
            tasks: tasks.into_iter().map(Into::into).collect(),
            average,
            rows: Vec::new(),
        }
    }

    /// Adds a row of fractions, one a task; `None` and numbers that are not finite are missing.
    ///
    /// # Errors
    /// [`MetricsError::Shape`] for another number of values than tasks.
    pub fn push(
        &mut self,
        name: impl Into<String>,
        values: &[Option<f64>],
    ) -> Result<(), MetricsError> {
        if values.len() != self.tasks.len() {
            return Err(MetricsError::Shape {
                operation: "TaskTable::push",
                argument: "values",
                expected: format!("one for each of {} tasks", self.tasks.len()),
                found: values.len(),
            });
        }
        let values = values
            .iter()
            .map(|value| value.filter(|value| value.is_finite()))
            .collect();
        self.rows.push((name.into(), values));
        Ok(())
    }

    /// The "Avg." of a row, in percent; `None` for a row that is not there or has a value missing.
    pub fn average(&self, row: usize) -> Option<f64> {
        let (_, values) = self.rows.get(row)?;
        let values: Vec<f64> = values.iter().copied().collect::<Option<_>>()?;
        average_of_tasks_by(self.average, &values).ok()
    }
}

impl fmt::Display for TaskTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |value: Option<f64>| value.map_or("-".to_owned(), |x| format!("{x:.2}"));
        let head = [self.corner.clone()]
            .into_iter()
            .chain(self.tasks.iter().cloned())
            .chain(["Avg.".to_owned()])
            .collect::<Vec<_>>();
        let mut lines = vec![head];
        for (at, (name, values)) in self.rows.iter().enumerate() {
            let mut line = vec![name.clone()];
            line.extend(values.iter().map(|value| percent(value.map(|x| x * 100.0))));
            line.push(percent(self.average(at)));
            lines.push(line);
        }
        let widths: Vec<usize> = (0..self.tasks.len() + 2)
            .map(|column| {
                let cells = lines.iter().filter_map(|line| line.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        for (at, line) in lines.iter().enumerate() {
            for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
                if column == 0 {
                    write!(f, "| {cell:<width$} |")?;
                } else {
                    write!(f, " {cell:>width$} |")?;
                }
            }
            writeln!(f)?;
            if at == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let dashes = "-".repeat(width + 1);
                    if column == 0 {
                        write!(f, "|{dashes}-|")?;
                    } else {
                        write!(f, "{dashes}:|")?;
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn published_row_has_its_published_average() {
        // Unsupervised SimCSE, BERT-base (arXiv 2104.08821, table 5): 76.25.
        let values = [68.40, 82.41, 74.38, 80.91, 78.56, 76.85, 72.23].map(|x| Some(x / 100.0));
        let tasks = [
            "STS12", "STS13", "STS14", "STS15", "STS16", "STS-B", "SICK-R",
        ];
        let mut table = TaskTable::new("Model", tasks, TaskAverage::Rounded);
        table.push("SimCSE", &values).unwrap();
        assert!((table.average(0).unwrap() - 76.2485714).abs() < 1e-6);
        assert!(table.to_string().ends_with("|  72.23 | 76.25 |\n"));
        assert_eq!(table.average(1), None);
    }

    #[test]
    fn missing_is_never_zero() {
        let mut table = TaskTable::new("", ["a", "b"], TaskAverage::Unrounded);
        table.push("x", &[Some(f64::NAN), Some(0.0)]).unwrap();
        assert_eq!(table.average(0), None);
        assert!(
            table.to_string().ends_with("| x | - | 0.00 |    - |\n"),
            "{table}"
        );
        assert!(matches!(
            table.push("y", &[None]),
            Err(MetricsError::Shape { .. })
        ));
    }

    #[test]
    fn the_average_rounds_first_or_not() {
        // 10.004 -> 10.00 and 10.016 -> 10.02: 10.01 both ways, told apart by the third value.
        let values = [Some(0.10004), Some(0.10004), Some(0.10016)];
        let average = |kind| {
            let mut table = TaskTable::new("", ["a", "b", "c"], kind);
            table.push("x", &values).unwrap();
            table.average(0).unwrap()
        };
        assert!((average(TaskAverage::Rounded) - (10.0 + 10.0 + 10.02) / 3.0).abs() < 1e-12);
        assert!((average(TaskAverage::Unrounded) - 10.008).abs() < 1e-12);
    }
}
