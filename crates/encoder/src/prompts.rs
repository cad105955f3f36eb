//! Texts that are put in front of what is encoded.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::EncoderError;

/// Prompts of a model by name, from `config_sentence_transformers.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompts {
    /// Text in front of every input, by name.
    pub texts: BTreeMap<String, String>,
    /// Name of the prompt that applies where nothing else is said.
    pub default: Option<String>,
}

/// Which prompt to put in front of texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prompt<'a> {
    /// The model's default prompt, if it has one.
    #[default]
    Default,
    /// None, whatever the model says.
    None,
    /// One of the model's prompts.
    Named(&'a str),
    /// This text.
    Text(&'a str),
}

impl Prompts {
    /// Prompts in the contents of `config_sentence_transformers.json`; prompts without a text are
    /// skipped.
    pub(crate) fn read(config: &Value) -> Result<Self, String> {
        let mut prompts = Self::default();
        match config.get("prompts") {
            None | Some(Value::Null) => {}
            Some(Value::Object(texts)) => {
                for (name, text) in texts {
                    match text {
                        Value::String(text) => {
                            prompts.texts.insert(name.clone(), text.clone());
                        }
                        Value::Null => {}
                        other => return Err(format!("prompt `{name}` = {other}, expected a text")),
                    }
                }
            }
            Some(other) => return Err(format!("prompts = {other}, expected an object of texts")),
        }
        if let Some(name) = config
            .get("default_prompt_name")
            .filter(|name| !name.is_null())
        {
            let known = name
                .as_str()
                .filter(|name| prompts.texts.contains_key(*name));
            let Some(name) = known else {
                return Err(format!(
                    "default_prompt_name = {name}, expected {}",
                    prompts.names()
                ));
            };
            prompts.default = Some(name.to_owned());
        }
        Ok(prompts)
    }

    /// The text to put in front; empty for none.
    ///
    /// # Errors
    ///
    /// The model has no prompt of the name.
    pub fn text<'a>(&'a self, prompt: Prompt<'a>) -> Result<&'a str, EncoderError> {
        let name = match prompt {
            Prompt::None => return Ok(""),
            Prompt::Text(text) => return Ok(text),
            Prompt::Default => match &self.default {
                Some(name) => name,
                None => return Ok(""),
            },
            Prompt::Named(name) => name,
        };
        self.texts
            .get(name)
            .map(String::as_str)
            .ok_or_else(|| EncoderError::Config {
                origin: "prompts".to_owned(),
                field: "prompt_name",
                found: name.to_owned(),
                expected: self.names(),
            })
    }

    /// The known names, for messages.
    fn names(&self) -> String {
        if self.texts.is_empty() {
            return "no name: the model has no prompts".to_owned();
        }
        let names: Vec<&str> = self.texts.keys().map(String::as_str).collect();
        format!("one of {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_default_applies_unless_another_is_named() {
        let config = json!({"prompts": {"query": "search_query: ", "document": "", "x": null},
                            "default_prompt_name": "query"});
        let prompts = Prompts::read(&config).unwrap();
        for (prompt, want) in [
            (Prompt::Default, "search_query: "),
            (Prompt::None, ""),
            (Prompt::Named("document"), ""),
            (Prompt::Text("q: "), "q: "),
        ] {
            assert_eq!(prompts.text(prompt).unwrap(), want);
        }
        let error = prompts
            .text(Prompt::Named("passage"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("document, query"), "{error}");
        assert_eq!(Prompts::default().text(Prompt::Default).unwrap(), "");
        assert!(Prompts::default().text(Prompt::Named("query")).is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for config in [
            json!({"prompts": ["query"]}),
            json!({"prompts": {"query": 3}}),
            json!({"prompts": {"query": ""}, "default_prompt_name": "passage"}),
            json!({"default_prompt_name": 1}),
        ] {
            assert!(Prompts::read(&config).is_err(), "{config}");
        }
    }
}
