//! The texts of a request: one, or a list.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Texts, given as a string or as a list of strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Texts(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a text or a list of texts")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts(vec![text.to_owned()]))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Texts, E> {
        Ok(Texts(vec![text]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some(Text(text)) = list.next_element()? {
            texts.push(text);
        }
        Ok(Texts(texts))
    }
}

/// An element of the list; knows what token ids look like.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextVisitor).map(Text)
    }
}

struct TextVisitor;

impl TextVisitor {
    fn tokens<T, E: de::Error>() -> Result<T, E> {
        Err(E::custom("token ids are not accepted, send texts"))
    }
}

impl<'de> Visitor<'de> for TextVisitor {
    type Value = String;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<String, E> {
        Ok(text)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<String, E> {
        Self::tokens()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<String, E> {
        Self::tokens()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Self::tokens()
    }
}

impl PartialSchema for Texts {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(SchemaType::new(Type::String));
        OneOfBuilder::new()
            .item(text())
            .item(ArrayBuilder::new().items(text()))
            .description(Some("A text, or a list of texts."))
            .into()
    }
}

impl ToSchema for Texts {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Texts")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_text_or_a_list() {
        for (json, want) in [
            ("\"a\"", vec!["a"]),
            ("[\"a\",\"b\\n\"]", vec!["a", "b\n"]),
            ("[]", vec![]),
        ] {
            assert_eq!(serde_json::from_str::<Texts>(json).unwrap().0, want);
        }
    }

    #[test]
    fn anything_else_is_named() {
        for (json, word) in [
            ("[1,2]", "token ids are not accepted"),
            ("[-1]", "token ids are not accepted"),
            ("[[1,2],[3]]", "token ids are not accepted"),
            ("3", "expected a text or a list of texts"),
            ("null", "expected a text or a list of texts"),
            ("{}", "expected a text or a list of texts"),
            ("[null]", "expected a text"),
            ("[{}]", "expected a text"),
        ] {
            let error = serde_json::from_str::<Texts>(json).unwrap_err();
            assert!(error.to_string().contains(word), "{json}: {error}");
        }
    }
}
