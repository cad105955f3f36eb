//! Answers that have to meet a JSON schema.
//!
//! A server that can hold the model to a schema is asked to ([`ChatClient`](super::ChatClient) does
//! that where [`ChatRequest::schema`](super::ChatRequest::schema) is set); others are asked in the
//! prompt. Either way the answer is text, so it is read here: found leniently, checked strictly.
//!
//! Finding: the value may stand alone, in a code fence, or between other sentences. It has to be
//! JSON as it is: typographic quotes, single quotes, comments, trailing commas and missing brackets
//! are not repaired, because a repair is a guess about what the texts inside are. Of a key that an
//! object repeats, the last value counts.
//!
//! Checking: `type`, `properties`, `required`, `additionalProperties` (a boolean), `items`,
//! `minItems`, `maxItems`, `uniqueItems`, `enum`, `minLength` and `maxLength` (in characters) mean
//! what JSON Schema (draft 2020-12) says; `title`, `description` and `$schema` are remarks. Any other
//! keyword is an error, so that no rule goes unchecked.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};
use thiserror::Error;

use super::error::shortened;

/// Longest text that is searched for a value, in bytes.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;

/// Deepest nesting of lists and objects.
pub const MAX_DEPTH: usize = 32;

/// Characters of a value or a name that an error shows.
const MAX_SHOWN: usize = 80;

/// Brackets that are tried as the start of a value and turn out not to be one.
const MAX_FALSE_STARTS: usize = 40;

/// An answer does not hold what was asked for, or the schema is not one that is understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StructuredError {
    /// The text is too long to be searched.
    #[error("an answer of {found} bytes; at most {limit} are read")]
    TooLong {
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// There is no JSON value in the text.
    #[error("no JSON value in the answer")]
    NoJson,
    /// The value is nested too deeply.
    #[error("a value nested more than {limit} deep")]
    TooDeep {
        /// Depth allowed.
        limit: usize,
    },
    /// A part of the value is not what the schema says.
    #[error("{path}: expected {expected}, found {found}")]
    Mismatch {
        /// Where, as in `$.names[2]`.
        path: String,
        /// What the schema says.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The schema itself cannot be used.
    #[error("schema, {path}: {problem}")]
    Schema {
        /// Where in the schema, as in `$.properties.names`.
        path: String,
        /// What is wrong.
        problem: String,
    },
}

/// Finds the first JSON value in an answer that meets a schema.
///
/// Tried in this order: the whole text, the content of each code fence, and what starts at each `{`
/// or `[` outside a value that was found before.
///
/// ```
/// let schema = serde_json::json!({
///     "type": "object",
///     "properties": {"name": {"type": "string", "minLength": 1}},
///     "required": ["name"],
///     "additionalProperties": false,
/// });
/// let answer = "Sure! [1]\n```json\n{\"name\": \"lost card\"}\n```\nDoes that help?";
/// let value = datagen::chat::structured::parse_answer(answer, &schema)?;
/// assert_eq!(value["name"], "lost card");
/// # Ok::<(), datagen::chat::structured::StructuredError>(())
/// ```
///
/// # Errors
///
/// [`StructuredError`]; if there are values but none meets the schema, what is wrong with the first
/// list or object.
pub fn parse_answer(text: &str, schema: &Value) -> Result<Value, StructuredError> {
    check_schema(schema)?;
    if text.len() > MAX_TEXT_BYTES {
        return Err(StructuredError::TooLong {
            found: text.len(),
            limit: MAX_TEXT_BYTES,
        });
    }
    let mut first_problem = None;
    let mut meets = |value: &Value| match validate(value, schema) {
        Ok(()) => true,
        Err(problem) => {
            first_problem.get_or_insert(problem);
            false
        }
    };
    let whole = std::iter::once(text).chain(fences(text));
    for part in whole {
        if let Ok(value) = serde_json::from_str(part)
            && meets(&value)
        {
            return Ok(value);
        }
    }
    let mut rest = text;
    let mut false_starts = 0;
    while let Some(start) = rest.find(['{', '[']) {
        rest = rest.get(start..).unwrap_or_default();
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let step = match values.next() {
            Some(Ok(value)) => {
                if meets(&value) {
                    return Ok(value);
                }
                values.byte_offset().max(1)
            }
            _ => {
                false_starts += 1;
                if false_starts > MAX_FALSE_STARTS {
                    break;
                }
                1
            }
        };
        rest = rest.get(step..).unwrap_or_default();
    }
    Err(first_problem.unwrap_or(StructuredError::NoJson))
}

/// The contents of the code fences of a text; the last one may lack its end.
fn fences(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").skip(1).step_by(2).map(|fence| {
        // The first line names the language.
        fence.split_once('\n').map_or(fence, |(_, content)| content)
    })
}

/// Checks that a schema uses only what [`validate`] understands, and rightly.
///
/// # Errors
///
/// [`StructuredError::Schema`].
pub fn check_schema(schema: &Value) -> Result<(), StructuredError> {
    check_schema_at(schema, "$", 0)
}

const TYPES: [&str; 7] = [
    "object", "array", "string", "integer", "number", "boolean", "null",
];

fn check_schema_at(schema: &Value, path: &str, depth: usize) -> Result<(), StructuredError> {
    let bad = |path: String, problem: &str| {
        Err(StructuredError::Schema {
            path,
            problem: problem.to_owned(),
        })
    };
    if depth > MAX_DEPTH {
        return bad(path.to_owned(), "nested too deeply");
    }
    let Some(keywords) = schema.as_object() else {
        return bad(path.to_owned(), "not an object");
    };
    for (keyword, value) in keywords {
        let at = child(path, keyword);
        let fine = match keyword.as_str() {
            "title" | "description" | "$schema" => value.is_string(),
            "type" => match value {
                Value::Array(names) => !names.is_empty() && names.iter().all(is_type_name),
                name => is_type_name(name),
            },
            "properties" => match value {
                Value::Object(properties) => {
                    for (name, property) in properties {
                        check_schema_at(property, &child(&at, name), depth + 1)?;
                    }
                    true
                }
                _ => false,
            },
            "items" => {
                check_schema_at(value, &at, depth + 1)?;
                true
            }
            "required" => value
                .as_array()
                .is_some_and(|names| names.iter().all(Value::is_string)),
            "additionalProperties" | "uniqueItems" => value.is_boolean(),
            "enum" => value.as_array().is_some_and(|values| !values.is_empty()),
            "minItems" | "maxItems" | "minLength" | "maxLength" => value.is_u64(),
            _ => return bad(at, "a keyword that is not supported"),
        };
        if !fine {
            return bad(at, "not a value that this keyword may have");
        }
    }
    Ok(())
}

fn is_type_name(name: &Value) -> bool {
    name.as_str().is_some_and(|name| TYPES.contains(&name))
}

/// Checks a value against a schema that [`check_schema`] accepts; parts of other schemas that are
/// not understood are ignored.
///
/// # Errors
///
/// [`StructuredError::Mismatch`] with the path of the first part that differs, or
/// [`StructuredError::TooDeep`].
pub fn validate(value: &Value, schema: &Value) -> Result<(), StructuredError> {
    if depth(value) > MAX_DEPTH {
        return Err(StructuredError::TooDeep { limit: MAX_DEPTH });
    }
    validate_at(value, schema, "$")
}

fn validate_at(value: &Value, schema: &Value, path: &str) -> Result<(), StructuredError> {
    let keyword = |name: &str| schema.get(name);
    let mismatch = |expected: String, found: String| {
        Err(StructuredError::Mismatch {
            path: path.to_owned(),
            expected,
            found,
        })
    };
    if let Some(types) = keyword("type") {
        let names: Vec<&str> = match types {
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            name => name.as_str().into_iter().collect(),
        };
        if !names.iter().any(|name| has_type(value, name)) {
            return mismatch(names.join(" or "), type_of(value).to_owned());
        }
    }
    if let Some(allowed) = keyword("enum").and_then(Value::as_array) {
        let canonical = canonical(value);
        if !allowed.iter().any(|one| self::canonical(one) == canonical) {
            let list: Vec<String> = allowed.iter().map(Value::to_string).collect();
            return mismatch(
                format!("one of {}", shown(&list.join(", "))),
                shown(&value.to_string()),
            );
        }
    }
    // Checks a count against a lower and an upper bound.
    let within = |count: usize, low: &str, high: &str, what: &str| {
        let bound = |name: &str| keyword(name).and_then(Value::as_u64);
        let count = count as u64;
        match (bound(low), bound(high)) {
            (Some(least), _) if count < least => {
                mismatch(format!("at least {least} {what}"), count.to_string())
            }
            (_, Some(most)) if count > most => {
                mismatch(format!("at most {most} {what}"), count.to_string())
            }
            _ => Ok(()),
        }
    };
    match value {
        Value::String(text) => within(text.chars().count(), "minLength", "maxLength", "characters"),
        Value::Array(items) => {
            within(items.len(), "minItems", "maxItems", "items")?;
            if let Some(schema) = keyword("items") {
                for (index, item) in items.iter().enumerate() {
                    validate_at(item, schema, &format!("{path}[{index}]"))?;
                }
            }
            if keyword("uniqueItems") == Some(&Value::Bool(true)) {
                let mut seen = BTreeSet::new();
                if let Some(index) = items.iter().position(|item| !seen.insert(canonical(item))) {
                    return mismatch(
                        "items that all differ".to_owned(),
                        format!("item {index} again"),
                    );
                }
            }
            Ok(())
        }
        Value::Object(members) => validate_members(members, schema, path),
        _ => Ok(()),
    }
}

fn validate_members(
    members: &Map<String, Value>,
    schema: &Value,
    path: &str,
) -> Result<(), StructuredError> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let required = schema.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        if !members.contains_key(name) {
            return Err(StructuredError::Mismatch {
                path: child(path, name),
                expected: "a value".to_owned(),
                found: "nothing".to_owned(),
            });
        }
    }
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    for (name, member) in members {
        match properties.and_then(|properties| properties.get(name)) {
            Some(schema) => validate_at(member, schema, &child(path, name))?,
            None if closed => {
                return Err(StructuredError::Mismatch {
                    path: child(path, name),
                    expected: "no such key".to_owned(),
                    found: type_of(member).to_owned(),
                });
            }
            None => {}
        }
    }
    Ok(())
}

/// Levels of lists and objects. The parser stops at 128, so the recursion is bounded.
fn depth(value: &Value) -> usize {
    let inner = match value {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(members) => members.values().map(depth).max(),
        _ => return 0,
    };
    1 + inner.unwrap_or(0)
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "integer" => match value {
            Value::Number(number) => {
                number.is_i64()
                    || number.is_u64()
                    || number.as_f64().is_some_and(|x| x.fract() == 0.0)
            }
            _ => false,
        },
        name => type_of(value) == name,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A text that is the same for equal values: keys sorted, whole numbers without a fraction.
fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut String) {
    // Writing to a `String` cannot fail.
    match value {
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_unstable();
            out.push('{');
            for name in names {
                let _ = write!(out, "{name:?}:");
                write_canonical(members.get(name).unwrap_or(&Value::Null), out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Number(number) => {
            let whole = number
                .as_f64()
                .filter(|x| !number.is_i64() && !number.is_u64() && x.fract() == 0.0);
            let _ = match whole {
                Some(x) => write!(out, "{x:.0}"),
                None => write!(out, "{number}"),
            };
        }
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

/// The path of a member. Names come from the model, so they are escaped and shortened.
fn child(path: &str, name: &str) -> String {
    format!("{path}.{}", shown(name))
}

fn shown(text: &str) -> String {
    shortened(text, MAX_SHOWN)
}

/// What a server that knows no schemas is told, after the task.
pub(super) fn instruction(schema: &Value) -> String {
    format!(
        "Answer with one JSON value and nothing else: no sentence before or after it, no code fence. \
         The value has to meet this JSON schema:\n{schema}"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn names() -> Value {
        json!({
            "type": "object",
            "properties": {
                "names": {
                    "type": "array", "minItems": 1, "maxItems": 3, "uniqueItems": true,
                    "items": {"type": "string", "minLength": 2, "maxLength": 6},
                },
                "kind": {"enum": ["a", 1, null]},
            },
            "required": ["names"],
            "additionalProperties": false,
        })
    }

    fn found(text: &str) -> Result<Value, StructuredError> {
        parse_answer(text, &names())
    }

    #[test]
    fn a_value_is_found_wherever_it_stands() {
        let expected = json!({"names": ["one"]});
        for text in [
            r#"{"names": ["one"]}"#,
            "  {\"names\": [\"one\"]}\n",
            "```json\n{\"names\": [\"one\"]}\n```",
            "```\n{\"names\": [\"one\"]}```",
            "```json\n{\"names\": [\"one\"]}",
            "Here it is: {\"names\": [\"one\"]}",
            "{\"names\": [\"one\"]} I hope that helps {really}.",
            "As [1] says: {x} {\"other\": 1} and {\"names\": [\"one\"]} or {\"names\": [\"two\"]}",
            "{\"draft\": {\"names\": [\"no\"]}} {\"names\": [\"one\"]}",
            "\u{feff}{\"names\": [\"one\"]}",
        ] {
            assert_eq!(found(text).as_ref(), Ok(&expected), "{text}");
        }
        let schema = json!({"type": "integer"});
        assert_eq!(parse_answer(" 7 ", &schema), Ok(json!(7)));
        assert_eq!(parse_answer("```\n7\n```", &schema), Ok(json!(7)));
    }

    #[test]
    fn nothing_is_repaired() {
        for text in [
            "",
            "no value",
            "{\"names\": [\"one\"]",
            "{“names”: [“one”]}",
            "{'names': ['one']}",
            "{\"names\": [\"one\",],}",
            "{names: [one]}",
            "{\"names\": /* c */ [\"one\"]}",
        ] {
            let error = found(text).unwrap_err();
            assert!(
                matches!(
                    error,
                    StructuredError::NoJson | StructuredError::Mismatch { .. }
                ),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn differences_name_their_place() {
        for (text, message) in [
            ("[]", "$: expected object, found array"),
            ("{}", "$.names: expected a value, found nothing"),
            (r#"{"names": 1}"#, "$.names: expected array, found number"),
            (
                r#"{"names": []}"#,
                "$.names: expected at least 1 items, found 0",
            ),
            (
                r#"{"names": ["aa","bb","cc","dd"]}"#,
                "$.names: expected at most 3 items, found 4",
            ),
            (
                r#"{"names": ["aa", null]}"#,
                "$.names[1]: expected string, found null",
            ),
            (
                r#"{"names": ["aa", "ü"]}"#,
                "$.names[1]: expected at least 2 characters, found 1",
            ),
            (
                r#"{"names": ["aaaaaaa"]}"#,
                "$.names[0]: expected at most 6 characters, found 7",
            ),
            (
                r#"{"names": ["aa", "bb", "aa"]}"#,
                "$.names: expected items that all differ, found item 2 again",
            ),
            (
                r#"{"names": ["aa"], "kind": "b"}"#,
                r#"$.kind: expected one of "a", 1, null, found "b""#,
            ),
            (
                r#"{"names": ["aa"], "e\nx": {}}"#,
                r"$.e\nx: expected no such key, found object",
            ),
        ] {
            assert_eq!(found(text).unwrap_err().to_string(), message, "{text}");
        }
        for text in [
            r#"{"names": ["üüüüüü"], "kind": 1.0}"#,
            r#"{"names": ["aa"], "kind": null}"#,
        ] {
            assert!(found(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn equality_and_integers_are_those_of_numbers() {
        let schema = json!({"type": "array", "uniqueItems": true, "items": {"type": "integer"}});
        let check = |text: &str| parse_answer(text, &schema).map(drop);
        assert_eq!(check("[1, 2.0, -3]"), Ok(()));
        assert!(check("[1, 1.0]").is_err());
        assert!(check("[1.5]").is_err());
        let objects = json!({"uniqueItems": true});
        assert!(parse_answer(r#"[{"a":1,"b":2},{"b":2,"a":1}]"#, &objects).is_err());
        assert!(parse_answer(r#"[{"a":1,"b":2},{"b":1,"a":2}]"#, &objects).is_ok());
        // Every pair of equal text has to be found by comparison of values alone.
        assert!(parse_answer(r#"["1", 1, [1], ["1"]]"#, &objects).is_ok());
        let either = json!({"type": ["string", "null"]});
        assert!(parse_answer("null", &either).is_ok());
        assert_eq!(
            parse_answer("true", &either).unwrap_err().to_string(),
            "$: expected string or null, found boolean"
        );
    }

    #[test]
    fn unknown_keywords_of_a_schema_are_errors() {
        for (schema, path) in [
            (json!(true), "$"),
            (json!({"pattern": "a"}), "$.pattern"),
            (json!({"type": "text"}), "$.type"),
            (json!({"type": []}), "$.type"),
            (json!({"minItems": -1}), "$.minItems"),
            (json!({"enum": []}), "$.enum"),
            (json!({"required": [1]}), "$.required"),
            (
                json!({"additionalProperties": {}}),
                "$.additionalProperties",
            ),
            (
                json!({"properties": {"a": {"anyOf": []}}}),
                "$.properties.a.anyOf",
            ),
            (json!({"items": {"items": 1}}), "$.items.items"),
        ] {
            let error = parse_answer("{}", &schema).unwrap_err();
            assert!(
                matches!(&error, StructuredError::Schema { path: p, .. } if p == path),
                "{schema}: {error}"
            );
        }
        assert_eq!(check_schema(&names()), Ok(()));
    }

    #[test]
    fn sizes_and_depths_are_limited() {
        let long = format!("{{\"names\": [\"one\"]}}{}", " ".repeat(MAX_TEXT_BYTES));
        assert!(matches!(found(&long), Err(StructuredError::TooLong { .. })));
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let any = json!({});
        assert!(parse_answer(&nested(MAX_DEPTH), &any).is_ok());
        for depth in [MAX_DEPTH + 1, 120, 200, 30_000] {
            let error = parse_answer(&nested(depth), &any).unwrap_err();
            assert!(
                matches!(
                    error,
                    StructuredError::TooDeep { .. } | StructuredError::NoJson
                ),
                "{depth}: {error}"
            );
        }
        let mut deep = json!({});
        for _ in 0..100 {
            deep = json!({"items": deep});
        }
        assert!(matches!(
            check_schema(&deep),
            Err(StructuredError::Schema { .. })
        ));
    }

    #[test]
    fn many_false_starts_end_quickly() {
        for text in [
            "[".repeat(MAX_TEXT_BYTES),
            "{\"a\": ".repeat(MAX_TEXT_BYTES / 6),
            "[\"".repeat(MAX_TEXT_BYTES / 2),
            format!(
                "{}{}",
                "[".repeat(100),
                "12345678,".repeat(MAX_TEXT_BYTES / 10)
            ),
        ] {
            assert_eq!(found(&text), Err(StructuredError::NoJson));
        }
    }

    #[test]
    fn the_instruction_holds_the_schema() {
        let text = instruction(&names());
        assert!(text.ends_with(&names().to_string()), "{text}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,120}") {
            let _ = found(&text);
        }

        #[test]
        fn no_json_like_text_panics(text in "[\\[\\]{}\",:a1`\\\\ \n]{0,80}") {
            let _ = found(&text);
            let _ = parse_answer(&text, &json!({}));
        }

        /// A value that meets the schema is found between any sentences without brackets.
        #[test]
        fn surroundings_do_not_matter(
            before in "[^\\[\\]{}`]{0,30}", after in "[^`]{0,30}",
            list in prop::collection::btree_set("[a-z\\[\\]{}\"\\\\]{2,6}", 1..=3),
        ) {
            let value = json!({"names": list});
            prop_assert_eq!(found(&format!("{before}{value}{after}")), Ok(value));
        }
    }
}
