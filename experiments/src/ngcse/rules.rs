//! Companions of sentences written by rules.

use datagen::rules::RuleBased;
use datagen::simulation::{Pattern, Relation};

/// Tries to write a companion that is neither the sentence nor another companion of it.
const TRIES: u32 = 3;

/// For every sentence its companions, most similar first; `None` where the rules find no way to write
/// one of them.
pub(crate) fn companions(
    pattern: Pattern,
    sentences: &[String],
    seed: u64,
) -> Vec<Option<Vec<String>>> {
    let rules = RuleBased::new(seed, sentences.to_vec());
    let of_one = |sentence: &String| {
        let mut texts = Vec::new();
        for relation in pattern.relations() {
            texts.push(companion(&rules, *relation, sentence, &texts)?);
        }
        Some(texts)
    };
    sentences.iter().map(of_one).collect()
}

/// A sentence in this relation that is not there yet.
fn companion(
    rules: &RuleBased,
    relation: Relation,
    sentence: &str,
    others: &[String],
) -> Option<String> {
    (0..TRIES)
        .map(|attempt| rules.write(relation, sentence, attempt))
        .find(|text| text != sentence && !others.contains(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn companions_differ_from_the_sentence_and_from_each_other() {
        let sentences = datasets::pocket().unwrap().train.texts[..200].to_vec();
        for pattern in [Pattern::Nli, Pattern::Sts] {
            let found = companions(pattern, &sentences, 1);
            assert_eq!(found, companions(pattern, &sentences, 1));
            assert_ne!(found, companions(pattern, &sentences, 2));
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
