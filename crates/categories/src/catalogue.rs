//! All categories at one revision.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::calibration::Calibration;
use crate::category::{Category, CategoryId, Status};
use crate::error::{CategoryError, StoreError, invalid};
use crate::vector::{dot, length};

/// Schema of [`Catalogue`].
pub const SCHEMA: &str = "asterism/categories/1";

/// Longest name, in characters.
pub const MAX_NAME: usize = 200;

/// How far from 1 the length of a centroid may be.
const UNIT_TOLERANCE: f64 = 1e-3;

/// All categories at one revision: the content of `categories.json`.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// [`SCHEMA`].
    pub schema: String,
    /// Events so far.
    pub revision: u64,
    /// Length of the vectors.
    pub dim: usize,
    /// SHA-256 of the model that makes the vectors, hexadecimal; empty if unknown.
    pub model_sha256: String,
    /// Coarse classes.
    pub coarse_names: Vec<String>,
    /// By id, ascending; retired ones are kept.
    pub categories: Vec<Category>,
    /// When to trust an assignment, once measured.
    pub calibration: Option<Calibration>,
}

impl Catalogue {
    /// A first catalogue, revision 1.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn new(
        dim: usize,
        model_sha256: impl Into<String>,
        coarse_names: Vec<String>,
        categories: Vec<Category>,
        calibration: Option<Calibration>,
    ) -> Result<Self, CategoryError> {
        let catalogue = Self {
            schema: SCHEMA.to_owned(),
            revision: 1,
            dim,
            model_sha256: model_sha256.into(),
            coarse_names,
            categories,
            calibration,
        };
        catalogue.check()?;
        Ok(catalogue)
    }

    /// The categories in use, by id.
    pub fn active(&self) -> impl Iterator<Item = &Category> {
        self.categories
            .iter()
            .filter(|category| category.is_active())
    }

    /// The category with this id, retired or not.
    #[must_use]
    pub fn get(&self, id: CategoryId) -> Option<&Category> {
        self.position(id).map(|at| &self.categories[at])
    }

    /// Place of an id in `categories`.
    pub(crate) fn position(&self, id: CategoryId) -> Option<usize> {
        self.categories.binary_search_by_key(&id, |c| c.id).ok()
    }

    /// The active category that holds today what belonged to `id` once.
    ///
    /// Follows merges. Of the parts of a split it takes the one nearest to `vector`, without a
    /// vector (or with one of another length) the largest; the lowest id on ties. `None` for an id
    /// that was never given and for one whose birth was undone.
    #[must_use]
    pub fn resolve(&self, id: CategoryId, vector: Option<&[f32]>) -> Option<CategoryId> {
        let vector = vector.filter(|vector| vector.len() == self.dim);
        let mut at = self.get(id)?;
        // A checked catalogue has no cycles; the bound keeps an unchecked one from hanging.
        for _ in 0..=self.categories.len() {
            match &at.status {
                Status::Active => return Some(at.id),
                Status::Withdrawn => return None,
                Status::Merged { into } => at = self.get(*into)?,
                Status::Split { into } => at = self.nearest_part(into, vector)?,
            }
        }
        None
    }

    fn nearest_part(&self, parts: &[CategoryId], vector: Option<&[f32]>) -> Option<&Category> {
        let mut best: Option<(&Category, f32)> = None;
        for part in parts.iter().filter_map(|id| self.get(*id)) {
            let score = vector.map_or(part.size as f32, |vector| dot(vector, &part.centroid));
            let better =
                best.is_none_or(|(other, top)| score > top || (score == top && part.id < other.id));
            if better {
                best = Some((part, score));
            }
        }
        best.map(|(part, _)| part)
    }

    /// The category meant by an id in digits, retired or not, or by the name of an active category,
    /// without regard to case.
    ///
    /// # Errors
    /// Neither exists; the error carries the most similar name.
    pub fn by_name(&self, text: &str) -> Result<&Category, CategoryError> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let id = digits.then(|| text.parse().ok().map(CategoryId)).flatten();
        if let Some(category) = id.and_then(|id| self.get(id)) {
            return Ok(category);
        }
        if let Some(category) = self.named(text) {
            return Ok(category);
        }
        Err(match id {
            Some(id) => self.unknown(id),
            None => CategoryError::UnknownName {
                name: text.to_owned(),
                nearest: most_similar(text, self.active().map(|c| c.name.as_str())),
            },
        })
    }

    /// The active category with this name, without regard to case.
    pub(crate) fn named(&self, name: &str) -> Option<&Category> {
        let key = name_key(name);
        self.active()
            .find(|category| name_key(&category.name) == key)
    }

    pub(crate) fn unknown(&self, id: CategoryId) -> CategoryError {
        CategoryError::UnknownId {
            id,
            last: self.categories.last().map_or(CategoryId(0), |c| c.id),
        }
    }

    /// As [`by_name`](Self::by_name), for what can be done to categories in use alone.
    ///
    /// # Errors
    /// As `by_name`, and [`CategoryError::Retired`], which says what became of the category.
    pub fn active_by_name(&self, text: &str) -> Result<&Category, CategoryError> {
        let at = self.active_position(self.by_name(text)?.id)?;
        Ok(&self.categories[at])
    }

    /// Place of an active category.
    pub(crate) fn active_position(&self, id: CategoryId) -> Result<usize, CategoryError> {
        let at = self.position(id).ok_or_else(|| self.unknown(id))?;
        let became = match &self.categories[at].status {
            Status::Active => return Ok(at),
            Status::Withdrawn => "its birth was undone".to_owned(),
            Status::Merged { into } => format!("merged into {into}"),
            Status::Split { into } => {
                let parts: Vec<String> = into.iter().map(ToString::to_string).collect();
                format!("split into {}", parts.join(", "))
            }
        };
        Err(CategoryError::Retired { id, became })
    }

    /// The id the next new category gets.
    pub(crate) fn next_id(&self) -> Result<CategoryId, CategoryError> {
        match self.categories.last() {
            None => Ok(CategoryId(0)),
            Some(last) => last
                .id
                .0
                .checked_add(1)
                .map(CategoryId)
                .ok_or_else(|| invalid("id", "an id below 4294967295", last.id)),
        }
    }

    /// Checks every rule a catalogue keeps.
    ///
    /// Schema known; ids ascending; names of active categories not empty, at most [`MAX_NAME`]
    /// characters, without control characters and surrounding space, unique without regard to case;
    /// centroids of `dim` finite values and length 1; numbers finite; coarse classes listed once;
    /// categories named by `status` and `nearest` exist; no category is its own successor.
    ///
    /// # Errors
    /// [`CategoryError::Invalid`] with the first field that breaks a rule, or
    /// [`CategoryError::NameTaken`].
    pub fn check(&self) -> Result<(), CategoryError> {
        if self.schema != SCHEMA {
            return Err(invalid("schema", SCHEMA, &self.schema));
        }
        if self.revision == 0 {
            return Err(invalid("revision", "at least 1", 0));
        }
        if self.dim == 0 {
            return Err(invalid("dim", "at least 1", 0));
        }
        let mut coarse = BTreeSet::new();
        for (at, name) in self.coarse_names.iter().enumerate() {
            if !coarse.insert(name.as_str()) {
                let found = format!("`{name}` twice");
                return Err(invalid(
                    format!("coarse_names[{at}]"),
                    "each name once",
                    found,
                ));
            }
        }
        let mut names = BTreeMap::new();
        let mut before = None;
        for (at, category) in self.categories.iter().enumerate() {
            let field = |name: &str| format!("categories[{at}].{name}");
            if before.is_some_and(|before| category.id <= before) {
                return Err(invalid(field("id"), "ids that ascend", category.id));
            }
            before = Some(category.id);
            self.check_category(category, &coarse, &field)?;
            if category.is_active()
                && let Some(owner) = names.insert(name_key(&category.name), category.id)
            {
                return Err(CategoryError::NameTaken {
                    name: category.name.clone(),
                    owner,
                });
            }
        }
        if let Some(calibration) = &self.calibration {
            check_calibration(calibration)?;
        }
        self.check_successors()
    }

    fn check_category(
        &self,
        category: &Category,
        coarse: &BTreeSet<&str>,
        field: &dyn Fn(&str) -> String,
    ) -> Result<(), CategoryError> {
        check_name(&category.name).map_err(|error| match error {
            CategoryError::Invalid {
                expected, found, ..
            } => invalid(field("name"), expected, found),
            other => other,
        })?;
        if let Some(name) = &category.coarse
            && !coarse.contains(name.as_str())
        {
            return Err(invalid(field("coarse"), "one of coarse_names", name));
        }
        if !category.coherence.is_finite() {
            return Err(invalid(
                field("coherence"),
                "a finite number",
                category.coherence,
            ));
        }
        if let Some(keyword) = category.keywords.iter().find(|k| !k.weight.is_finite()) {
            return Err(invalid(field("keywords"), "finite weights", keyword.weight));
        }
        if category.born > self.revision {
            let expected = format!("at most the revision {}", self.revision);
            return Err(invalid(field("born"), expected, category.born));
        }
        for near in &category.nearest {
            if self.get(near.id).is_none() || near.id == category.id {
                return Err(invalid(field("nearest"), "other categories", near.id));
            }
            if !near.cosine.is_finite() {
                return Err(invalid(field("nearest"), "finite cosines", near.cosine));
            }
        }
        check_unit(&category.centroid, self.dim)
            .map_err(|(expected, found)| invalid(field("centroid"), expected, found))
    }

    /// Successors exist and lead to an end.
    fn check_successors(&self) -> Result<(), CategoryError> {
        let successors = |at: usize| -> &[CategoryId] {
            match &self.categories[at].status {
                Status::Active | Status::Withdrawn => &[],
                Status::Merged { into } => std::slice::from_ref(into),
                Status::Split { into } => into,
            }
        };
        // Predecessors that have not been settled; settled from the ends backwards.
        let mut open = vec![0_usize; self.categories.len()];
        let mut predecessors = vec![Vec::new(); self.categories.len()];
        for (at, category) in self.categories.iter().enumerate() {
            let field = || format!("categories[{at}].status");
            let into = successors(at);
            if matches!(category.status, Status::Split { .. }) && into.is_empty() {
                return Err(invalid(field(), "at least one part", "none"));
            }
            for id in into {
                let Some(target) = self.position(*id) else {
                    return Err(invalid(field(), "categories that exist", id));
                };
                open[at] += 1;
                predecessors[target].push(at);
            }
        }
        let mut ready: Vec<usize> = (0..open.len()).filter(|at| open[*at] == 0).collect();
        while let Some(at) = ready.pop() {
            for &before in &predecessors[at] {
                open[before] -= 1;
                if open[before] == 0 {
                    ready.push(before);
                }
            }
        }
        match open.iter().position(|open| *open > 0) {
            None => Ok(()),
            Some(at) => Err(invalid(
                format!("categories[{at}].status"),
                "successors that end at a category in use",
                "a circle",
            )),
        }
    }

    /// The bytes of `categories.json`: one category a line, so that two revisions can be compared.
    ///
    /// # Errors
    /// A number that JSON cannot express; a checked catalogue has none.
    pub fn to_json(&self) -> Result<String, CategoryError> {
        fn json(value: &impl Serialize) -> Result<String, CategoryError> {
            serde_json::to_string(value).map_err(|error| invalid("catalogue", "JSON values", error))
        }
        let categories: Result<Vec<String>, _> = self.categories.iter().map(json).collect();
        Ok(format!(
            "{{\"schema\":{},\n\"revision\":{},\n\"dim\":{},\n\"model_sha256\":{},\n\
             \"coarse_names\":{},\n\"calibration\":{},\n\"categories\":[\n{}\n]}}\n",
            json(&self.schema)?,
            self.revision,
            self.dim,
            json(&self.model_sha256)?,
            json(&self.coarse_names)?,
            json(&self.calibration)?,
            categories?.join(",\n"),
        ))
    }

    /// Reads and checks a `categories.json`. [`Store::read`](crate::Store::read) of the run directory
    /// also sees an edit whose crash left this file behind its log.
    ///
    /// # Errors
    /// A file that cannot be read, is not JSON, has another schema, or breaks a rule.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let bytes = std::fs::read(path).map_err(|source| StoreError::File {
            operation: "read",
            path: path.to_owned(),
            source,
        })?;
        Self::from_json(path, &bytes)
    }

    /// Parses and checks; `path` is for errors.
    pub(crate) fn from_json(path: &Path, bytes: &[u8]) -> Result<Self, StoreError> {
        /// Read first, so that another schema is not reported as a missing field.
        #[derive(Deserialize)]
        struct Head {
            schema: String,
        }
        let json = |error: serde_json::Error| StoreError::json(path, None, &error);
        let head: Head = serde_json::from_slice(bytes).map_err(json)?;
        if head.schema != SCHEMA {
            return Err(StoreError::Schema {
                path: path.to_owned(),
                expected: SCHEMA,
                found: head.schema,
            });
        }
        let catalogue: Self = serde_json::from_slice(bytes).map_err(json)?;
        catalogue.check().map_err(|source| StoreError::Invalid {
            path: path.to_owned(),
            source,
        })?;
        Ok(catalogue)
    }
}

/// What two names that count as the same have in common.
pub(crate) fn name_key(name: &str) -> String {
    name.trim().to_lowercase()
}

pub(crate) fn check_name(name: &str) -> Result<(), CategoryError> {
    let wrong = |expected: &str, found: String| Err(invalid("name", expected, found));
    if name.is_empty() {
        return wrong("a name", "nothing".to_owned());
    }
    if name.trim() != name {
        return wrong("no space around the name", format!("`{name}`"));
    }
    if let Some(control) = name.chars().find(|c| c.is_control()) {
        return wrong("no control characters", format!("{control:?}"));
    }
    match name.chars().count() {
        0..=MAX_NAME => Ok(()),
        long => wrong(
            &format!("at most {MAX_NAME} characters"),
            format!("{long} characters"),
        ),
    }
}

/// A centroid: `dim` finite values, length 1. On failure what was expected and found.
pub(crate) fn check_unit(centroid: &[f32], dim: usize) -> Result<(), (String, String)> {
    if centroid.len() != dim {
        return Err((format!("{dim} values"), centroid.len().to_string()));
    }
    if let Some(value) = centroid.iter().find(|x| !x.is_finite()) {
        return Err(("finite values".to_owned(), value.to_string()));
    }
    let length = length(centroid);
    if (length - 1.0).abs() > UNIT_TOLERANCE {
        return Err((
            "a vector of length 1".to_owned(),
            format!("length {length:.6}"),
        ));
    }
    Ok(())
}

fn check_calibration(calibration: &Calibration) -> Result<(), CategoryError> {
    let wrong = |name: &str, expected: &str, found: f64| {
        Err(invalid(format!("calibration.{name}"), expected, found))
    };
    let temperature = f64::from(calibration.temperature);
    if !calibration.threshold.is_finite() {
        return wrong("threshold", "a finite number", calibration.threshold.into());
    }
    if !(temperature > 0.0 && temperature.is_finite()) {
        return wrong("temperature", "a positive number", temperature);
    }
    for (name, share) in [
        ("accepts_known", calibration.accepts_known),
        ("rejects_unknown", calibration.rejects_unknown),
        ("auroc", calibration.auroc),
    ] {
        if !(0.0..=1.0).contains(&share) {
            return wrong(name, "a share of 0 to 1", share);
        }
    }
    Ok(())
}

/// The name most like `text`.
pub(crate) fn most_similar<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let text = name_key(text);
    let alike = |name: &str| strsim::jaro_winkler(&name_key(name), &text);
    names
        .map(|name| (alike(name), name))
        .filter(|(alike, _)| *alike > 0.6)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name.to_owned())
}
