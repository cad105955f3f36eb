//! Label Studio: tasks with predictions, the labelling configuration, and the JSON export.
//!
//! Format: the project's documentation on importing pre-annotated data and on the JSON export.

use std::io::Read;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{AnnotationError, Judgement, NONE, QUESTION, Suggestion, records};
use crate::catalogue::Catalogue;
use crate::category::CategoryId;

/// A task with one prediction.
///
/// `data` carries what [`read`] needs to find the text again: `row`, `category`, `name`.
#[must_use]
pub fn task(suggestion: &Suggestion<'_>, model_version: &str) -> Value {
    json!({
        "data": {
            "row": suggestion.row,
            "text": suggestion.text,
            "coarse": suggestion.coarse,
            "category": suggestion.category,
            "name": suggestion.name,
            "unknown": suggestion.unknown,
        },
        "predictions": [{
            "model_version": model_version,
            "score": suggestion.score(),
            "result": [{
                "from_name": QUESTION,
                "to_name": "text",
                "type": "choices",
                "value": {"choices": [suggestion.name]},
            }],
        }],
    })
}

/// The labelling configuration (XML): the text, its coarse label, and one choice a category in use, with
/// keywords as a hint.
#[must_use]
pub fn config(catalogue: &Catalogue) -> String {
    let mut xml = String::from(
        "<View>\n  <Header value=\"$coarse\" size=\"5\"/>\n  <Text name=\"text\" value=\"$text\"/>\n",
    );
    xml += &format!(
        "  <Choices name=\"{QUESTION}\" toName=\"text\" choice=\"single\" required=\"true\" showInline=\"false\">\n"
    );
    for category in catalogue.active() {
        let keywords: Vec<&str> = category
            .keywords
            .iter()
            .take(5)
            .map(|keyword| keyword.term.as_str())
            .collect();
        xml += &format!(
            "    <Choice value=\"{}\" hint=\"{}\"/>\n",
            attribute(&category.name),
            attribute(&keywords.join(", "))
        );
    }
    xml += &format!("    <Choice value=\"{NONE}\"/>\n  </Choices>\n</View>\n");
    xml
}

/// A text as the value of an attribute.
fn attribute(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&apos;",
            // No document of XML 1.0 may have these, escaped or not.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[derive(Deserialize)]
struct Task {
    data: Data,
    #[serde(default)]
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Data {
    row: usize,
    text: String,
    category: Option<CategoryId>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Annotation {
    #[serde(default)]
    was_cancelled: bool,
    result: Vec<Region>,
}

#[derive(Deserialize)]
struct Region {
    from_name: Option<String>,
    value: Option<Choices>,
}

#[derive(Deserialize)]
struct Choices {
    choices: Option<Vec<String>>,
}

/// Reads an export in the format `JSON`. Skipped tasks and answers to other questions are passed over.
///
/// # Errors
/// [`AnnotationError`] with the place of the record.
pub fn read(
    input: impl Read,
    each: &mut dyn FnMut(Judgement) -> Result<(), AnnotationError>,
) -> Result<(), AnnotationError> {
    records(input, &mut |record, task: Task| {
        let mut answers = Vec::new();
        for (at, annotation) in task.annotations.into_iter().enumerate() {
            if annotation.was_cancelled {
                continue;
            }
            let wrong = |problem: &str| {
                let place = format!("annotations[{at}]: {problem}");
                Err(AnnotationError::record(record, place))
            };
            let mut answer = None;
            for region in annotation.result {
                if region.from_name.as_deref() != Some(QUESTION) {
                    continue;
                }
                let Some(choices) = region.value.and_then(|value| value.choices) else {
                    return wrong("value.choices: expected a list, found nothing");
                };
                match (<[String; 1]>::try_from(choices), &answer) {
                    (Ok([choice]), None) => answer = Some(choice),
                    (Ok(_), Some(_)) => return wrong("expected one choice, found more"),
                    (Err(others), _) => {
                        let found = others.len();
                        return wrong(&format!("choices: expected one, found {found}"));
                    }
                }
            }
            answers.extend(answer);
        }
        each(Judgement {
            record,
            row: task.data.row,
            text: task.data.text,
            shown: task.data.category.zip(task.data.name),
            answers,
        })
    })
}
