//! Configuration: defaults, a TOML file, `--set key=value`, in that order.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::error::RunError;

/// Merges defaults, files and assignments into a checked configuration.
///
/// Keys that the defaults do not have are errors with the nearest known key; so are values of
/// another type. An integer is accepted where a fraction is expected.
///
/// # Errors
///
/// [`RunError::Config`] or [`RunError::File`] naming the key or the file.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Example { epochs: u64, lr: f64 }
/// let config: Example =
///     experiments::config::resolve(&Example::default(), None, &["lr=1".into()]).unwrap();
/// assert_eq!(config.lr, 1.0);
/// let error =
///     experiments::config::resolve(&Example::default(), None, &["epoch=1".into()]).err().unwrap();
/// assert!(error.to_string().contains("epochs"));
/// ```
pub fn resolve<T: Serialize + DeserializeOwned>(
    defaults: &T,
    file: Option<&Path>,
    assignments: &[String],
) -> Result<T, RunError> {
    let mut table = to_table(defaults)?;
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|error| RunError::File {
            path: path.to_owned(),
            message: error.to_string(),
        })?;
        let given: Table = text
            .parse()
            .map_err(|error: toml::de::Error| RunError::File {
                path: path.to_owned(),
                message: error.to_string(),
            })?;
        merge(&mut table, given, "", &path.display().to_string())?;
    }
    for assignment in assignments {
        let (key, value) = assignment
            .split_once('=')
            .ok_or_else(|| RunError::Config(format!("--set {assignment}: expected key=value")))?;
        let path: Vec<&str> = key.trim().split('.').collect();
        let value = match (find(&table, &path), parse_value(value.trim())) {
            // Text that happens to look like a number or a date, such as a folder named 2024-05-01.
            (Some(Value::String(_)), parsed) if is_bare_scalar(&parsed) => {
                Value::String(value.trim().to_owned())
            }
            (_, parsed) => parsed,
        };
        let nested = path.iter().rev().fold(value, |inner, part| {
            Value::Table(Table::from_iter([((*part).to_owned(), inner)]))
        });
        if let Value::Table(given) = nested {
            merge(&mut table, given, "", &format!("--set {assignment}"))?;
        }
    }
    Value::Table(table)
        .try_into()
        .map_err(|error| RunError::Config(error.to_string()))
}

/// As [`resolve`] with one table instead of a file; `origin` is named in errors.
///
/// # Errors
///
/// [`RunError::Config`].
pub fn overlay<T: Serialize + DeserializeOwned>(
    defaults: &T,
    given: Table,
    origin: &str,
) -> Result<T, RunError> {
    let mut table = to_table(defaults)?;
    merge(&mut table, given, "", origin)?;
    Value::Table(table)
        .try_into()
        .map_err(|error| RunError::Config(error.to_string()))
}

/// The configuration as TOML text, for `config.toml` and `--dry-run`.
///
/// # Errors
///
/// [`RunError::Config`] if a value has no TOML form.
pub fn to_toml<T: Serialize>(config: &T) -> Result<String, RunError> {
    toml::to_string(config).map_err(|error| RunError::Config(error.to_string()))
}

fn to_table<T: Serialize>(value: &T) -> Result<Table, RunError> {
    match Value::try_from(value) {
        Ok(Value::Table(table)) => Ok(table),
        Ok(_) => Err(RunError::Config("expected a table of settings".to_owned())),
        Err(error) => Err(RunError::Config(error.to_string())),
    }
}

/// `10`, `0.5`, `true`, `[1, 2]`, `"text"`, or bare text.
fn parse_value(text: &str) -> Value {
    format!("v = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// The value at a dotted key.
fn find<'t>(table: &'t Table, path: &[&str]) -> Option<&'t Value> {
    let (first, rest) = path.split_first()?;
    match (table.get(*first)?, rest) {
        (value, []) => Some(value),
        (Value::Table(inner), rest) => find(inner, rest),
        _ => None,
    }
}

fn is_bare_scalar(value: &Value) -> bool {
    matches!(
        value,
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_)
    )
}

fn merge(base: &mut Table, given: Table, prefix: &str, origin: &str) -> Result<(), RunError> {
    for (key, value) in given {
        let path = format!("{prefix}{key}");
        let Some(old) = base.get_mut(&key) else {
            return Err(unknown(&path, &all_keys(base, prefix), origin));
        };
        match (old, value) {
            (Value::Table(old), Value::Table(new)) => {
                merge(old, new, &format!("{path}."), origin)?;
            }
            (old, new) => {
                *old = coerce(old, new).map_err(|(expected, found)| {
                    RunError::Config(format!(
                        "{origin}: {path}: expected {expected}, found {found}"
                    ))
                })?;
            }
        }
    }
    Ok(())
}

/// Lists of every depth below `base`, with dots.
fn all_keys(base: &Table, prefix: &str) -> Vec<String> {
    base.iter()
        .flat_map(|(key, value)| match value {
            Value::Table(inner) => all_keys(inner, &format!("{prefix}{key}.")),
            _ => vec![format!("{prefix}{key}")],
        })
        .collect()
}

fn unknown(key: &str, known: &[String], origin: &str) -> RunError {
    // Known from elsewhere, and the nearest key would not be what is meant.
    let cached = known.iter().any(|known| known == "micro_batch");
    if ["accumulate", "devices"].contains(&key) && cached {
        return RunError::Config(format!(
            "{origin}: there is no `{key}` here: the objective compares the rows of a batch with each \
             other, so smaller batches would be another objective; `micro_batch` gives the gradient of \
             the whole batch in their memory"
        ));
    }
    let nearest = known
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
    let hint = nearest.map_or_else(String::new, |nearest| {
        format!("; did you mean `{nearest}`?")
    });
    RunError::Config(format!("{origin}: unknown key `{key}`{hint}"))
}

fn coerce(old: &Value, new: Value) -> Result<Value, (String, String)> {
    match (old, &new) {
        (Value::Float(_), Value::Integer(number)) => Ok(Value::Float(*number as f64)),
        (Value::String(_), Value::Integer(number)) => Ok(Value::String(number.to_string())),
        (Value::String(_), Value::Float(number)) => Ok(Value::String(number.to_string())),
        (Value::Array(_), Value::Integer(_)) => Ok(Value::Array(vec![new])),
        _ if old.same_type(&new) => Ok(new),
        _ => Err((
            old.type_str().to_owned(),
            format!("{} {new}", new.type_str()),
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde::Deserialize;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Inner {
        epochs: u64,
        rate: f64,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Outer {
        name: String,
        seeds: Vec<u64>,
        train: Inner,
    }

    fn defaults() -> Outer {
        Outer {
            name: "a".into(),
            seeds: vec![0],
            train: Inner {
                epochs: 3,
                rate: 0.5,
            },
        }
    }

    #[test]
    fn later_sources_win_and_types_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, "name = \"b\"\n[train]\nepochs = 5\nrate = 1\n").unwrap();
        let sets = [
            "train.epochs=7".to_owned(),
            "seeds=[1, 2]".to_owned(),
            "name=c d".to_owned(),
        ];
        let got = resolve(&defaults(), Some(&file), &sets).unwrap();
        assert_eq!(
            got.train,
            Inner {
                epochs: 7,
                rate: 1.0
            }
        );
        assert_eq!((got.seeds, got.name.as_str()), (vec![1, 2], "c d"));
    }

    #[test]
    fn text_stays_as_it_was_written() {
        for text in ["1e3", "0x10", "2024-05-01", "true", "007", "a = b", "1.50"] {
            let got = resolve(&defaults(), None, &[format!("name={text}")]).unwrap();
            assert_eq!(got.name, text);
        }
        let got = resolve(&defaults(), None, &["name=\"1e3\"".to_owned()]).unwrap();
        assert_eq!(got.name, "1e3");
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        for (set, hint) in [
            ("train.epoch=1", "train.epochs"),
            ("sedes=1", "seeds"),
            ("train.rate.x=1", "train.rate"),
        ] {
            let error = resolve(&defaults(), None, &[set.to_owned()])
                .unwrap_err()
                .to_string();
            assert!(error.contains(hint), "{error}");
        }
    }

    #[test]
    fn other_types_and_broken_files_are_refused() {
        for set in [
            "train.epochs=fast",
            "train.epochs=-1",
            "name=[1]",
            "train=3",
            "epochs",
        ] {
            assert!(
                resolve(&defaults(), None, &[set.to_owned()]).is_err(),
                "{set}"
            );
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, "name = ").unwrap();
        let error = resolve(&defaults(), Some(&file), &[]).unwrap_err();
        assert!(error.to_string().contains("c.toml"));
        assert!(resolve(&defaults(), Some(Path::new("no such file")), &[]).is_err());
    }
}
