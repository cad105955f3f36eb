//! A WordPiece vocabulary built from a corpus, without any learning step.
//!
//! Order of the entries (the line number is the token id):
//! 1. `[PAD] [UNK] [CLS] [SEP] [MASK]`;
//! 2. the alphabet: `a-z`, `0-9` and every further character of the lower-cased corpus, by code
//!    point; then the same characters with the continuation mark `##`;
//! 3. whole words of two or more characters by falling corpus frequency, ties by byte order.
//!
//! Words are split as BERT's basic tokeniser does for such text: at white space and around every
//! ASCII punctuation character (Devlin et al. 2019, WordPiece as in Wu et al. 2016). Since every
//! character of the corpus is an entry both with and without `##`, no corpus word becomes `[UNK]`.

use std::collections::{BTreeMap, BTreeSet};

/// The special tokens, in id order.
pub const SPECIAL_TOKENS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// Limits of a vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VocabularyConfig {
    /// Largest number of entries. The special tokens and the alphabet are kept in any case.
    pub max_entries: usize,
    /// A word enters only with at least this many occurrences.
    pub min_count: usize,
}

impl Default for VocabularyConfig {
    fn default() -> Self {
        Self {
            max_entries: 1500,
            min_count: 1,
        }
    }
}

/// Lower-cased words and punctuation marks of a text.
fn tokens(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let mut out = Vec::new();
    for chunk in lower.split_whitespace() {
        let mut word = String::new();
        for c in chunk.chars() {
            if c.is_ascii_punctuation() {
                if !word.is_empty() {
                    out.push(std::mem::take(&mut word));
                }
                out.push(c.to_string());
            } else {
                word.push(c);
            }
        }
        if !word.is_empty() {
            out.push(word);
        }
    }
    out
}

/// Builds the vocabulary of `texts`; see the module page for the order of entries.
///
/// ```
/// use datagen::{VocabularyConfig, word_piece_vocabulary};
/// let entries = word_piece_vocabulary(["To be, or not to be"], VocabularyConfig::default());
/// assert_eq!(&entries[..5], ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]);
/// assert_eq!(&entries[entries.len() - 4..], ["be", "to", "not", "or"]);
/// ```
pub fn word_piece_vocabulary<'a>(
    texts: impl IntoIterator<Item = &'a str>,
    config: VocabularyConfig,
) -> Vec<String> {
    let mut alphabet: BTreeSet<char> = ('a'..='z').chain('0'..='9').collect();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for text in texts {
        for token in tokens(text) {
            alphabet.extend(token.chars());
            *counts.entry(token).or_default() += 1;
        }
    }
    let mut words: Vec<(String, usize)> = counts
        .into_iter()
        .filter(|(word, count)| *count >= config.min_count && word.chars().nth(1).is_some())
        .collect();
    // The map is in byte order already and the sort is stable, so ties stay in byte order.
    words.sort_by_key(|(_, count)| std::cmp::Reverse(*count));

    let mut entries: Vec<String> = SPECIAL_TOKENS.iter().map(|s| (*s).to_owned()).collect();
    entries.extend(alphabet.iter().map(char::to_string));
    entries.extend(alphabet.iter().map(|c| format!("##{c}")));
    let room = config.max_entries.saturating_sub(entries.len());
    entries.extend(words.into_iter().take(room).map(|(word, _)| word));
    entries
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn order_is_special_alphabet_continuations_words() {
        let v = word_piece_vocabulary(["Bee's é bee bee ox"], VocabularyConfig::default());
        assert_eq!(v[..5], SPECIAL_TOKENS);
        // ' , 0-9, a-z, é = 38 characters, twice.
        assert_eq!(v[5], "'");
        assert_eq!(v[5 + 37], "é");
        assert_eq!(v[5 + 38], "##'");
        assert_eq!(v[5 + 76..], ["bee", "ox"]);
    }

    #[test]
    fn limits_keep_the_alphabet_and_the_most_frequent_words() {
        let texts = ["aa bb bb cc cc cc"];
        let v = word_piece_vocabulary(
            texts,
            VocabularyConfig {
                max_entries: 79,
                min_count: 1,
            },
        );
        assert_eq!(v.len(), 79);
        assert_eq!(v[77..], ["cc", "bb"]);
        let v = word_piece_vocabulary(
            texts,
            VocabularyConfig {
                max_entries: 0,
                min_count: 1,
            },
        );
        assert_eq!(v.len(), 5 + 72);
        let v = word_piece_vocabulary(
            texts,
            VocabularyConfig {
                max_entries: 999,
                min_count: 3,
            },
        );
        assert_eq!(v[77..], ["cc"]);
    }

    #[test]
    fn an_empty_corpus_still_has_specials_and_alphabet() {
        let v = word_piece_vocabulary([], VocabularyConfig::default());
        assert_eq!(v.len(), 5 + 72);
    }

    proptest! {
        #[test]
        fn entries_are_unique_and_independent_of_text_order(
            mut texts in prop::collection::vec("[a-zA-Z,' ]{0,30}", 0..12)
        ) {
            let config = VocabularyConfig { max_entries: 120, min_count: 1 };
            let forward = word_piece_vocabulary(texts.iter().map(String::as_str), config);
            let distinct: BTreeSet<&String> = forward.iter().collect();
            prop_assert_eq!(distinct.len(), forward.len());
            texts.reverse();
            prop_assert_eq!(forward, word_piece_vocabulary(texts.iter().map(String::as_str), config));
        }
    }
}
