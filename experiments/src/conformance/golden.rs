//! Golden files: what they hold, how they are read, what can be wrong with them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use thiserror::Error;

/// The value of the field `schema`.
const SCHEMA: &str = "golden/1";

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 256 << 20;

/// Why a golden file, or a case of it, cannot be used.
#[derive(Debug, Error)]
pub enum GoldenError {
    /// A file or directory cannot be read.
    #[error("{path}: cannot be read")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is larger than any golden file has reason to be.
    #[error("{path}: {found} bytes, expected at most {MAX_FILE}")]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
    },
    /// A directory holds no file to run.
    #[error("{path}: expected at least one .json file, found none")]
    NoFiles {
        /// The directory.
        path: PathBuf,
    },
    /// A file is not JSON.
    #[error("{path}: not JSON: {message}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        message: String,
    },
    /// A field is missing or holds something else than it should.
    #[error("{path}: {field}: expected {expected}, found {found}")]
    Field {
        /// The file.
        path: PathBuf,
        /// The field, from the top of the file.
        field: String,
        /// What belongs there.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// One file.
#[derive(Debug)]
pub(super) struct GoldenFile {
    /// The field `name`; its beginning is the kind of the file.
    pub(super) name: String,
    pub(super) cases: Vec<Case>,
}

/// One case.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    /// Expected items in the order of the file, each taken apart into its leaves.
    pub(super) expected: Vec<(String, Vec<Leaf>)>,
    place: Place,
    params: Map<String, Value>,
    inputs: BTreeMap<String, Input>,
    tolerances: BTreeMap<String, Tolerance>,
    grad_any: BTreeMap<String, Vec<usize>>,
}

/// A number, list or tensor inside an expected item.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Leaf {
    /// `item`, `item.key`, `item[3].key`.
    pub(super) path: String,
    pub(super) value: LeafValue,
}

/// What a leaf holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum LeafValue {
    Numbers(Vec<f64>),
    Texts(Vec<String>),
}

impl LeafValue {
    /// The numbers, also where a list consists of the words for numbers JSON cannot write.
    pub(super) fn numbers(&self) -> Option<Vec<f64>> {
        match self {
            Self::Numbers(numbers) => Some(numbers.clone()),
            Self::Texts(texts) => texts.iter().map(|text| unwritable(text)).collect(),
        }
    }

    /// The texts; an empty list may be either.
    pub(super) fn texts(&self) -> Option<Vec<String>> {
        match self {
            Self::Texts(texts) => Some(texts.clone()),
            Self::Numbers(numbers) => numbers.is_empty().then(Vec::new),
        }
    }
}

/// `atol + rtol * max|expected|` is the largest difference allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tolerance {
    pub(super) rtol: f64,
    pub(super) atol: f64,
}

/// One input of a case.
#[derive(Debug)]
pub(super) enum Input {
    Tensor(InputTensor),
    Texts(Vec<String>),
}

/// Row-major numbers with a shape; a single number has the shape `[]`.
#[derive(Debug)]
pub(super) struct InputTensor {
    pub(super) shape: Vec<usize>,
    pub(super) data: Vec<f64>,
}

/// Where in which file a value stands.
#[derive(Debug, Clone)]
pub(super) struct Place {
    path: PathBuf,
    field: String,
}

impl Place {
    fn at(&self, part: impl fmt::Display) -> Self {
        let dot = if self.field.is_empty() { "" } else { "." };
        self.joined(dot, part)
    }

    fn index(&self, index: usize) -> Self {
        self.joined("", format_args!("[{index}]"))
    }

    fn joined(&self, separator: &str, part: impl fmt::Display) -> Self {
        Self {
            path: self.path.clone(),
            field: format!("{}{separator}{part}", self.field),
        }
    }

    fn error(&self, expected: impl fmt::Display, found: impl fmt::Display) -> GoldenError {
        GoldenError::Field {
            path: self.path.clone(),
            field: self.field.clone(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    fn unfit(&self, expected: impl fmt::Display, found: Option<&Value>) -> GoldenError {
        self.error(expected, found.map_or("nothing".to_owned(), describe))
    }
}

/// The `.json` files named by `paths`: files as they are, directories by their direct contents in
/// the order of names.
///
/// # Errors
///
/// A path does not exist, cannot be read, or is a directory without `.json` files.
pub(super) fn list_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, GoldenError> {
    let mut files = Vec::new();
    for path in paths {
        let read = |source| GoldenError::Read {
            path: path.clone(),
            source,
        };
        if !fs::metadata(path).map_err(read)?.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in fs::read_dir(path).map_err(read)? {
            let file = entry.map_err(read)?.path();
            if file.extension().is_some_and(|end| end == "json") && file.is_file() {
                inside.push(file);
            }
        }
        if inside.is_empty() {
            return Err(GoldenError::NoFiles { path: path.clone() });
        }
        inside.sort();
        files.append(&mut inside);
    }
    Ok(files)
}

impl GoldenFile {
    /// Reads and checks one file.
    pub(super) fn read(path: &Path) -> Result<Self, GoldenError> {
        let read = |source| GoldenError::Read {
            path: path.to_owned(),
            source,
        };
        let found = fs::metadata(path).map_err(read)?.len();
        if found > MAX_FILE {
            return Err(GoldenError::Size {
                path: path.to_owned(),
                found,
            });
        }
        Self::parse(&fs::read(path).map_err(read)?, path)
    }

    /// Checks the contents of a file; `path` is named in errors.
    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Self, GoldenError> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| GoldenError::Json {
            path: path.to_owned(),
            message: error.to_string(),
        })?;
        let place = Place {
            path: path.to_owned(),
            field: String::new(),
        };
        let file = value.as_object().ok_or_else(|| {
            place
                .joined("", "the file")
                .unfit("an object", Some(&value))
        })?;
        let schema = text_field(file, "schema", &place)?;
        if schema != SCHEMA {
            return Err(place.at("schema").error(SCHEMA, schema));
        }
        let name = text_field(file, "name", &place)?;
        let cases_place = place.at("cases");
        let cases = file
            .get("cases")
            .and_then(Value::as_array)
            .ok_or_else(|| cases_place.unfit("a list", file.get("cases")))?;
        if cases.is_empty() {
            return Err(cases_place.error("at least one case", "an empty list"));
        }
        let cases = cases
            .iter()
            .enumerate()
            .map(|(index, case)| Case::parse(case, &cases_place.index(index)))
            .collect::<Result<_, _>>()?;
        Ok(Self { name, cases })
    }
}

impl Case {
    fn parse(value: &Value, place: &Place) -> Result<Self, GoldenError> {
        let case = value
            .as_object()
            .ok_or_else(|| place.unfit("an object", Some(value)))?;
        let name = text_field(case, "name", place)?;
        let place = place.joined("", format_args!(" ({name})"));
        let params = match case.get("params") {
            None => Map::new(),
            Some(_) => object_field(case, "params", &place)?.clone(),
        };
        let mut inputs = BTreeMap::new();
        for (key, value) in object_field(case, "inputs", &place)? {
            let input = Input::parse(value, &place.at("inputs").at(key))?;
            inputs.insert(key.clone(), input);
        }
        let mut expected = Vec::new();
        for (key, value) in object_field(case, "expected", &place)? {
            let mut leaves = Vec::new();
            take_apart(value, key, &place.at("expected"), &mut leaves)?;
            expected.push((key.clone(), leaves));
        }
        if expected.is_empty() {
            return Err(place.at("expected").error("at least one item", "none"));
        }
        let mut tolerances = BTreeMap::new();
        for (key, value) in object_field(case, "tol", &place)? {
            let tolerance = Tolerance::parse(value, &place.at("tol").at(key))?;
            tolerances.insert(key.clone(), tolerance);
        }
        let mut grad_any = BTreeMap::new();
        if case.contains_key("grad_any") {
            for (key, value) in object_field(case, "grad_any", &place)? {
                let positions = value
                    .as_array()
                    .and_then(|list| list.iter().map(position).collect());
                let positions: Vec<usize> = positions.ok_or_else(|| {
                    let place = place.at("grad_any").at(key);
                    place.unfit("a list of positions", Some(value))
                })?;
                grad_any.insert(key.clone(), positions);
            }
        }
        Ok(Self {
            name,
            expected,
            place,
            params,
            inputs,
            tolerances,
            grad_any,
        })
    }

    /// The tolerance of a leaf: its own, that of its item, or that of the case.
    pub(super) fn tolerance(&self, item: &str, path: &str) -> Option<Tolerance> {
        [path, item, "*"]
            .into_iter()
            .find_map(|key| self.tolerances.get(key))
            .copied()
    }

    /// The error for an item that can be computed but has no tolerance.
    pub(super) fn no_tolerance(&self, item: &str) -> GoldenError {
        let place = self.place.at("tol").at(item);
        place.unfit("an object with rtol and atol", None)
    }

    /// Positions of an item that are not compared.
    pub(super) fn ignored(&self, item: &str) -> &[usize] {
        item.strip_prefix("grad.")
            .and_then(|leaf| self.grad_any.get(leaf))
            .map_or(&[], Vec::as_slice)
    }

    /// A parameter; absent and `null` are the same.
    pub(super) fn param(&self, name: &str) -> Option<&Value> {
        self.params.get(name).filter(|value| !value.is_null())
    }

    /// A parameter converted by `convert`, if it is there.
    pub(super) fn param_as<'a, T>(
        &'a self,
        name: &str,
        expected: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GoldenError> {
        self.param(name)
            .map(|value| {
                convert(value).ok_or_else(|| {
                    let place = self.place.at("params").at(name);
                    place.unfit(expected, Some(value))
                })
            })
            .transpose()
    }

    /// The error for a parameter that has to be there.
    pub(super) fn missing_param(&self, name: &str, expected: &str) -> GoldenError {
        self.place.at("params").at(name).unfit(expected, None)
    }

    /// Whether there is an input of this name.
    pub(super) fn has_input(&self, name: &str) -> bool {
        self.inputs.contains_key(name)
    }

    /// An input that has to be a tensor.
    pub(super) fn tensor(&self, name: &str) -> Result<&InputTensor, GoldenError> {
        match self.inputs.get(name) {
            Some(Input::Tensor(tensor)) => Ok(tensor),
            Some(Input::Texts(_)) => Err(self.unfit_input(name, "a tensor", "texts")),
            None => Err(self.unfit_input(name, "a tensor", "nothing")),
        }
    }

    /// An input that has to be a list of texts.
    pub(super) fn texts(&self, name: &str) -> Result<&[String], GoldenError> {
        match self.inputs.get(name) {
            Some(Input::Texts(texts)) => Ok(texts),
            // An empty list of texts reads as an empty list of numbers.
            Some(Input::Tensor(tensor)) if tensor.data.is_empty() => Ok(&[]),
            Some(Input::Tensor(_)) => Err(self.unfit_input(name, "a list of texts", "numbers")),
            None => Err(self.unfit_input(name, "a list of texts", "nothing")),
        }
    }

    /// The error for an input of the wrong type, shape or range.
    pub(super) fn unfit_input(
        &self,
        name: &str,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> GoldenError {
        self.place.at("inputs").at(name).error(expected, found)
    }
}

impl Input {
    fn parse(value: &Value, place: &Place) -> Result<Self, GoldenError> {
        if let Value::Array(list) = value {
            let texts: Option<Vec<String>> = list
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect();
            if let Some(texts) = texts
                && !texts.is_empty()
            {
                return Ok(Self::Texts(texts));
            }
            let data = numbers(list, place)?;
            let shape = vec![data.len()];
            return Ok(Self::Tensor(InputTensor { shape, data }));
        }
        if let Some(number) = number(value) {
            return Ok(Self::Tensor(InputTensor {
                shape: Vec::new(),
                data: vec![number],
            }));
        }
        let tensor = value
            .as_object()
            .filter(|object| is_tensor(object))
            .ok_or_else(|| place.unfit("a tensor, a list or a number", Some(value)))?;
        let (shape, mut data) = parse_tensor(tensor, place)?;
        match text_field(tensor, "dtype", place)?.as_str() {
            // The decimals name f32 values.
            "f32" => data.iter_mut().for_each(|x| *x = f64::from(*x as f32)),
            "f64" => {}
            "i64" => {
                if let Some(found) = data.iter().find(|x| x.fract() != 0.0 || !x.is_finite()) {
                    return Err(place.at("data").error("whole numbers", found));
                }
            }
            other => return Err(place.at("dtype").error("f32, f64 or i64", other)),
        }
        Ok(Self::Tensor(InputTensor { shape, data }))
    }
}

impl Tolerance {
    fn parse(value: &Value, place: &Place) -> Result<Self, GoldenError> {
        let field = |name: &str| {
            let found = value.get(name);
            found
                .and_then(Value::as_f64)
                .filter(|x| x.is_finite() && *x >= 0.0)
                .ok_or_else(|| {
                    let place = place.at(name);
                    place.unfit("a number of at least 0", found)
                })
        };
        Ok(Self {
            rtol: field("rtol")?,
            atol: field("atol")?,
        })
    }
}

/// Takes an expected item apart: tensors, numbers and flat lists are leaves, objects and lists of
/// anything else are walked through.
fn take_apart(
    value: &Value,
    path: &str,
    place: &Place,
    leaves: &mut Vec<Leaf>,
) -> Result<(), GoldenError> {
    let here = place.at(path);
    let mut leaf = |value| {
        leaves.push(Leaf {
            path: path.to_owned(),
            value,
        });
    };
    match value {
        Value::Object(object) if is_tensor(object) => {
            leaf(LeafValue::Numbers(parse_tensor(object, &here)?.1));
        }
        Value::Object(object) => {
            for (key, value) in object {
                take_apart(value, &format!("{path}.{key}"), place, leaves)?;
            }
        }
        Value::Array(list) => {
            let texts: Option<Vec<String>> = list
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect();
            let numbers: Option<Vec<f64>> = list.iter().map(number).collect();
            match (texts, numbers) {
                // A list of nothing but `nan` may be either; the computed value decides.
                (Some(texts), _) if !texts.is_empty() => leaf(LeafValue::Texts(texts)),
                (_, Some(numbers)) => leaf(LeafValue::Numbers(numbers)),
                _ => {
                    for (index, value) in list.iter().enumerate() {
                        take_apart(value, &format!("{path}[{index}]"), place, leaves)?;
                    }
                }
            }
        }
        Value::String(text) => match unwritable(text) {
            Some(number) => leaf(LeafValue::Numbers(vec![number])),
            None => leaf(LeafValue::Texts(vec![text.clone()])),
        },
        Value::Bool(flag) => leaf(LeafValue::Numbers(vec![f64::from(u8::from(*flag))])),
        Value::Number(_) => leaf(LeafValue::Numbers(vec![
            number(value).ok_or_else(|| here.unfit("a number", Some(value)))?,
        ])),
        Value::Null => return Err(here.unfit("a value", Some(value))),
    }
    Ok(())
}

fn is_tensor(object: &Map<String, Value>) -> bool {
    object.contains_key("shape") && object.contains_key("data")
}

/// Shape and numbers of `{shape, data}`, which have to agree.
fn parse_tensor(
    object: &Map<String, Value>,
    place: &Place,
) -> Result<(Vec<usize>, Vec<f64>), GoldenError> {
    let sizes = object
        .get("shape")
        .and_then(Value::as_array)
        .and_then(|shape| shape.iter().map(position).collect());
    let shape: Vec<usize> = sizes.ok_or_else(|| {
        let place = place.at("shape");
        place.unfit("a list of sizes", object.get("shape"))
    })?;
    let data_place = place.at("data");
    let list = object
        .get("data")
        .and_then(Value::as_array)
        .ok_or_else(|| data_place.unfit("a list of numbers", object.get("data")))?;
    let data = numbers(list, &data_place)?;
    let count = shape.iter().try_fold(1_usize, |n, &s| n.checked_mul(s));
    if count != Some(data.len()) {
        let expected = format!("as many numbers as shape {shape:?} says");
        return Err(data_place.error(expected, data.len()));
    }
    Ok((shape, data))
}

fn numbers(list: &[Value], place: &Place) -> Result<Vec<f64>, GoldenError> {
    list.iter()
        .enumerate()
        .map(|(index, value)| {
            number(value).ok_or_else(|| place.index(index).unfit("a number", Some(value)))
        })
        .collect()
}

/// A number, or a word for one that JSON cannot write.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => unwritable(text),
        _ => None,
    }
}

fn unwritable(text: &str) -> Option<f64> {
    match text.to_ascii_lowercase().as_str() {
        "nan" => Some(f64::NAN),
        "inf" | "+inf" | "infinity" => Some(f64::INFINITY),
        "-inf" | "-infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// A size, position or count.
pub(super) fn position(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}

fn text_field(
    object: &Map<String, Value>,
    name: &str,
    place: &Place,
) -> Result<String, GoldenError> {
    let found = object.get(name);
    let text = found.and_then(Value::as_str);
    text.map(str::to_owned)
        .ok_or_else(|| place.at(name).unfit("a text", found))
}

fn object_field<'a>(
    object: &'a Map<String, Value>,
    name: &str,
    place: &Place,
) -> Result<&'a Map<String, Value>, GoldenError> {
    let found = object.get(name);
    found
        .and_then(Value::as_object)
        .ok_or_else(|| place.at(name).unfit("an object", found))
}

/// A value in few words.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("the text {text:?}"),
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(object) => format!("an object with {} keys", object.len()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn parse(case: &str) -> Result<GoldenFile, GoldenError> {
        let text = format!(r#"{{"schema":"golden/1","name":"x","cases":[{case}]}}"#);
        GoldenFile::parse(text.as_bytes(), Path::new("x.json"))
    }

    #[test]
    fn items_are_taken_apart_into_leaves() {
        let file = parse(
            r#"{"name":"c","inputs":{},"tol":{"*":{"rtol":0,"atol":1}},"expected":{
                "a":1.5,"b":{"shape":[2],"data":[1,"nan"]},"c":{"all":2,"per":[3,"-inf"]},
                "d":[{"w":4},{"w":5}],"e":[[1,2],[]],"f":[["x","nan"]],"g":"inf"}}"#,
        )
        .unwrap();
        let leaves: Vec<String> = file.cases[0]
            .expected
            .iter()
            .flat_map(|(_, leaves)| leaves)
            .map(|leaf| format!("{}={:?}", leaf.path, leaf.value))
            .collect();
        assert_eq!(
            leaves,
            [
                "a=Numbers([1.5])",
                "b=Numbers([1.0, NaN])",
                "c.all=Numbers([2.0])",
                "c.per=Numbers([3.0, -inf])",
                "d[0].w=Numbers([4.0])",
                "d[1].w=Numbers([5.0])",
                "e[0]=Numbers([1.0, 2.0])",
                "e[1]=Numbers([])",
                "f[0]=Texts([\"x\", \"nan\"])",
                "g=Numbers([inf])",
            ]
        );
    }

    #[test]
    fn tolerance_of_a_leaf_before_item_before_case() {
        let file = parse(
            r#"{"name":"c","inputs":{},"expected":{"a":{"b":1,"c":2},"d":3},
                "tol":{"*":{"rtol":0,"atol":1},"a":{"rtol":0,"atol":2},"a.b":{"rtol":0,"atol":3}}}"#,
        )
        .unwrap();
        let atol = |item, path| file.cases[0].tolerance(item, path).map(|t| t.atol);
        assert_eq!(atol("a", "a.b"), Some(3.0));
        assert_eq!(atol("a", "a.c"), Some(2.0));
        assert_eq!(atol("d", "d"), Some(1.0));
    }

    #[test]
    fn f32_inputs_are_the_f32_values() {
        let file = parse(
            r#"{"name":"c","expected":{"a":1},"tol":{},
                "inputs":{"x":{"shape":[1],"dtype":"f32","data":[0.1]},"s":{"shape":[],"dtype":"f32","data":[2]}}}"#,
        )
        .unwrap();
        let x = file.cases[0].tensor("x").unwrap();
        assert_eq!(x.data, [f64::from(0.1_f32)]);
        assert!(file.cases[0].tensor("s").unwrap().shape.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_with_file_and_field() {
        for (case, field) in [
            (
                r#"{"inputs":{},"expected":{"a":1},"tol":{}}"#,
                "cases[0].name",
            ),
            (
                r#"{"name":"c","expected":{"a":1},"tol":{}}"#,
                "cases[0] (c).inputs",
            ),
            (
                r#"{"name":"c","inputs":{},"tol":{}}"#,
                "cases[0] (c).expected",
            ),
            (
                r#"{"name":"c","inputs":{},"expected":{},"tol":{}}"#,
                "cases[0] (c).expected",
            ),
            (
                r#"{"name":"c","inputs":{},"expected":{"a":null},"tol":{}}"#,
                "cases[0] (c).expected.a",
            ),
            (
                r#"{"name":"c","inputs":{},"expected":{"a":1}}"#,
                "cases[0] (c).tol",
            ),
            (
                r#"{"name":"c","inputs":{},"expected":{"a":1},"tol":{"a":{"rtol":-1,"atol":0}}}"#,
                "cases[0] (c).tol.a.rtol",
            ),
            (
                r#"{"name":"c","inputs":{"x":{"shape":[3],"dtype":"f32","data":[1]}},"expected":{"a":1},"tol":{}}"#,
                "cases[0] (c).inputs.x.data",
            ),
            (
                r#"{"name":"c","inputs":{"x":{"shape":[1],"dtype":"i64","data":[1.5]}},"expected":{"a":1},"tol":{}}"#,
                "cases[0] (c).inputs.x.data",
            ),
            (
                r#"{"name":"c","inputs":{"x":{"shape":[1],"dtype":"f16","data":[1]}},"expected":{"a":1},"tol":{}}"#,
                "cases[0] (c).inputs.x.dtype",
            ),
            (
                r#"{"name":"c","inputs":{"x":{"shape":[4294967296,4294967296],"dtype":"f32","data":[]}},"expected":{"a":1},"tol":{}}"#,
                "cases[0] (c).inputs.x.data",
            ),
        ] {
            let message = parse(case).unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("x.json: {field}: ")),
                "{message}"
            );
        }
    }

    #[test]
    fn other_schemas_and_other_things_are_refused() {
        for text in [
            "",
            "[]",
            "{}",
            "{\"schema\":\"golden/2\",\"name\":\"x\",\"cases\":[]}",
            "\u{0}",
        ] {
            assert!(GoldenFile::parse(text.as_bytes(), Path::new("x.json")).is_err());
        }
    }
}
