//! Argilla 2: records with suggestions, settings of the data set, and records with responses.
//!
//! Format: `Dataset.records.from_json`, `Dataset.records.to_json` and `Settings.from_json` of the Python
//! package.

use std::io::Read;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{AnnotationError, Judgement, NONE, QUESTION, Suggestion, records};
use crate::catalogue::Catalogue;
use crate::category::CategoryId;

/// A record with one suggestion.
///
/// `metadata` carries what [`read`] needs to find the text again: `row`, `category_id`. (Names of metadata
/// and questions must differ.)
#[must_use]
pub fn record(suggestion: &Suggestion<'_>, agent: &str) -> Value {
    let mut metadata = Map::new();
    metadata.insert("row".to_owned(), json!(suggestion.row));
    metadata.insert("category_id".to_owned(), json!(suggestion.category));
    let unknown = if suggestion.unknown { "yes" } else { "no" };
    metadata.insert("unknown".to_owned(), json!(unknown));
    if let Some(coarse) = suggestion.coarse {
        metadata.insert("coarse".to_owned(), json!(coarse));
    }
    json!({
        "id": suggestion.row.to_string(),
        "fields": {"text": suggestion.text},
        "metadata": metadata,
        "suggestions": {QUESTION: {
            "value": suggestion.name,
            "score": suggestion.score(),
            "agent": agent,
        }},
        "responses": {},
        "vectors": {},
    })
}

/// Settings of the data set: one text field, one label question with the categories in use, metadata.
#[must_use]
pub fn settings(catalogue: &Catalogue) -> Value {
    let names = catalogue.active().map(|category| category.name.as_str());
    let options: Vec<Value> = names
        .chain([NONE])
        .map(|name| json!({"text": name, "value": name}))
        .collect();
    let integer = |name: &str| {
        json!({
            "name": name, "title": name, "visible_for_annotators": true,
            "settings": {"type": "integer", "min": null, "max": null},
        })
    };
    let terms = |name: &str| {
        json!({
            "name": name, "title": name, "visible_for_annotators": true,
            "settings": {"type": "terms", "values": null},
        })
    };
    json!({
        "guidelines": "Which category does the text belong to?",
        "fields": [{
            "name": "text", "title": "text", "required": true,
            "settings": {"type": "text", "use_markdown": false},
        }],
        "questions": [{
            "name": QUESTION, "title": QUESTION, "description": null, "required": true,
            "settings": {"type": "label_selection", "options": options, "visible_options": null},
        }],
        "metadata": [integer("row"), integer("category_id"), terms("coarse"), terms("unknown")],
        "vectors": [],
        "allow_extra_metadata": false,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "mapping": null,
    })
}

#[derive(Deserialize)]
struct Record {
    fields: Fields,
    metadata: Metadata,
    #[serde(default)]
    suggestions: Suggestions,
    #[serde(default)]
    responses: Responses,
}

#[derive(Deserialize)]
struct Fields {
    text: String,
}

#[derive(Deserialize)]
struct Metadata {
    row: usize,
    category_id: Option<CategoryId>,
}

#[derive(Default, Deserialize)]
struct Suggestions {
    category: Option<Suggested>,
}

#[derive(Deserialize)]
struct Suggested {
    value: String,
}

#[derive(Default, Deserialize)]
struct Responses {
    #[serde(default)]
    category: Vec<Response>,
}

#[derive(Deserialize)]
struct Response {
    value: Option<String>,
    status: Option<String>,
}

/// Reads records as `Dataset.records.to_json` writes them. Discarded responses and drafts are passed
/// over where the file tells them apart.
///
/// # Errors
/// [`AnnotationError`] with the place of the record.
pub fn read(
    input: impl Read,
    each: &mut dyn FnMut(Judgement) -> Result<(), AnnotationError>,
) -> Result<(), AnnotationError> {
    records(input, &mut |record, found: Record| {
        let submitted = |response: &Response| {
            let status = response.status.as_deref();
            status.is_none_or(|status| status == "submitted")
        };
        let mut answers = Vec::new();
        for (at, response) in found.responses.category.into_iter().enumerate() {
            if !submitted(&response) {
                continue;
            }
            let Some(value) = response.value else {
                let problem =
                    format!("responses.{QUESTION}[{at}]: value: expected a name, found nothing");
                return Err(AnnotationError::record(record, problem));
            };
            answers.push(value);
        }
        let name = found.suggestions.category.map(|suggested| suggested.value);
        each(Judgement {
            record,
            row: found.metadata.row,
            text: found.fields.text,
            shown: found.metadata.category_id.zip(name),
            answers,
        })
    })
}
