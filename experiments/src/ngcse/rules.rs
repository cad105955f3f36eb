//! Companions of sentences written by rules.

use datagen::chat::{AnswerSource, Call, ChatRequest};
use datagen::rules::RuleBased;
use datagen::simulation::{Pattern, Relation};

use crate::error::RunError;

/// Tries to write a companion that is neither the sentence nor another companion of it.
const TRIES: u32 = 3;

/// For every sentence its companions, most similar first; `None` where the rules find no way to write
/// one of them.
///
/// # Errors
///
/// [`RunError::Data`] if the rules do not know a relation.
pub(crate) fn companions(
    pattern: Pattern,
    sentences: &[String],
    seed: u64,
) -> Result<Vec<Option<Vec<String>>>, RunError> {
    let rules = RuleBased::new(seed, sentences.to_vec());
    sentences
        .iter()
        .map(|sentence| {
            let mut texts: Vec<String> = Vec::new();
            for relation in pattern.relations() {
                match companion(&rules, *relation, sentence, &texts)? {
                    Some(text) => texts.push(text),
                    None => return Ok(None),
                }
            }
            Ok(Some(texts))
        })
        .collect()
}

/// A sentence in this relation that is not there yet.
fn companion(
    rules: &RuleBased,
    relation: Relation,
    sentence: &str,
    others: &[String],
) -> Result<Option<String>, RunError> {
    let call = Call {
        id: String::new(),
        kind: relation.kind().to_owned(),
        source: sentence.to_owned(),
        request: ChatRequest {
            system: String::new(),
            user: sentence.to_owned(),
            temperature: 0.0,
            max_tokens: 0,
            schema: None,
        },
    };
    for attempt in 0..TRIES {
        let answer = rules.answer(&call, attempt);
        let text = answer
            .map_err(|error| RunError::Data(error.to_string()))?
            .text;
        if text != sentence && !others.contains(&text) {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn companions_differ_from_the_sentence_and_from_each_other() {
        let sentences = datasets::pocket().unwrap().train.texts[..200].to_vec();
        for pattern in [Pattern::Nli, Pattern::Sts] {
            let found = companions(pattern, &sentences, 1).unwrap();
            assert_eq!(found, companions(pattern, &sentences, 1).unwrap());
            assert_ne!(found, companions(pattern, &sentences, 2).unwrap());
            let complete = found.iter().flatten().count();
            assert!(complete > 150, "{complete}");
            for (sentence, texts) in sentences.iter().zip(&found) {
                let Some(texts) = texts else { continue };
                assert_eq!(texts.len(), pattern.relations().len());
                let mut all = texts.clone();
                all.push(sentence.clone());
                all.sort_unstable();
                all.dedup();
                assert_eq!(all.len(), texts.len() + 1, "{sentence}: {texts:?}");
            }
        }
    }
}
