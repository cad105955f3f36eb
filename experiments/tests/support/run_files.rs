//! The files of a run that must not depend on how often it was stopped. Used by the tests of the
//! programs and by the crash harness.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// Files with process numbers, command lines and measured times.
const MEASURED: [&str; 5] = [
    "lock",
    "manifest.json",
    "result.json",
    "run.json",
    "report.html",
];
/// Fields of `result.json` that hold measurements.
const MEASURED_FIELDS: [&str; 3] = ["timing", "total_s", "peak_rss_mb"];
/// A measurement within its field `model`.
const SPEED: &str = "texts_per_second";

/// Files by name, and `result.json` without its measurements.
#[derive(PartialEq)]
pub(crate) struct RunFiles {
    files: BTreeMap<String, Vec<u8>>,
    result: Value,
}

impl RunFiles {
    /// Those of a finished run. Fails if `result.json` is missing or lacks a measurement, or if a file
    /// is left that was not completed.
    pub(crate) fn of(run: &Path) -> Result<Self, String> {
        let mut files = read_folder(run)?;
        if let Some(name) = files.keys().find(|name| is_leftover(name)) {
            return Err(format!("{}: {name} was left behind", run.display()));
        }
        let text = files.get("result.json").map(Vec::as_slice);
        let mut result: Value = serde_json::from_slice(text.unwrap_or_default())
            .map_err(|error| format!("{}: result.json: {error}", run.display()))?;
        for name in MEASURED_FIELDS {
            let fields = result.as_object_mut();
            if fields.and_then(|fields| fields.remove(name)).is_none() {
                return Err(format!("{}: result.json has no {name}", run.display()));
            }
        }
        if let Some(model) = result.get_mut("model").and_then(Value::as_object_mut) {
            model.remove(SPEED);
        }
        files.retain(|name, _| !MEASURED.contains(&base(name)));
        Ok(Self { files, result })
    }

    /// Whether there is a file of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Fails at the first difference, with names instead of a page of bytes.
    pub(crate) fn check(&self, expected: &Self) -> Result<(), String> {
        same_files(&self.files, &expected.files)?;
        if self.result != expected.result {
            return Err("result.json differs".to_owned());
        }
        Ok(())
    }
}

/// Fails at the first file that is not the same in both.
pub(crate) fn same_files(
    found: &BTreeMap<String, Vec<u8>>,
    expected: &BTreeMap<String, Vec<u8>>,
) -> Result<(), String> {
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    if names(found) != names(expected) {
        return Err(format!(
            "expected the files {:?}, found {:?}",
            names(expected),
            names(found)
        ));
    }
    match found
        .iter()
        .find(|(name, bytes)| expected.get(*name) != Some(bytes))
    {
        Some((name, _)) => Err(format!("{name} differs")),
        None => Ok(()),
    }
}

/// All files below a folder by their names, parts joined by `/`.
pub(crate) fn read_folder(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut files = BTreeMap::new();
    collect(folder, "", &mut files).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(files)
}

fn collect(
    folder: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(())
}

fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// Whether something was begun under this name and not completed.
fn is_leftover(name: &str) -> bool {
    let ends = [".tmp", ".part", ".partial"];
    name.split('/')
        .any(|part| part.starts_with('.') || ends.iter().any(|end| part.ends_with(end)))
}
