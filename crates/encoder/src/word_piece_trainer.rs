//! A WordPiece vocabulary learned from texts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

use crate::error::EncoderError;
use crate::tokenizer::TextTokenizer;

/// Special tokens, ids 0 to 4.
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
/// Mark of a piece inside a word.
const INSIDE: &str = "##";
/// Longer words are unknown to WordPiece anyway, in characters.
const LONGEST_WORD: usize = 100;

/// How a vocabulary is learned.
///
/// ```
/// use encoder::{TextTokenizer, WordPieceTraining};
/// let training = WordPieceTraining { vocab_size: 25, min_count: 2, alphabet: 30 };
/// let tokenizer = training.fit(&["low lower lowest", "low slow"]).unwrap();
/// assert_eq!(tokenizer.pieces("Low").unwrap().len(), 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WordPieceTraining {
    /// Entries at most, special tokens included; texts with little in common give fewer.
    pub vocab_size: usize,
    /// Two pieces are joined only where they occur next to each other this often.
    pub min_count: u64,
    /// Characters at most, the most frequent ones; words with others stay unknown.
    pub alphabet: usize,
}

impl Default for WordPieceTraining {
    fn default() -> Self {
        Self {
            vocab_size: 30_000,
            min_count: 2,
            alphabet: 1000,
        }
    }
}

impl WordPieceTraining {
    /// Learns a lower-casing tokenizer.
    ///
    /// Texts are normalised and split into words as BERT's tokenizer does. Every word begins as its characters, all
    /// but the first marked `##`; then, again and again, the pair of neighbouring pieces with the highest count is
    /// joined everywhere and becomes an entry. This is byte-pair encoding (Sennrich, Haddow, Birch, arXiv
    /// 1508.07909) with the marks of WordPiece, as in the trainer of the `tokenizers` library; ties go to the pair
    /// of the earlier entries, so that the same texts in any order give the same vocabulary.
    ///
    /// Ids: special tokens, characters by code point, `##` characters by code point, joined pieces as they arise.
    ///
    /// # Errors
    ///
    /// No word in the texts, or a vocabulary too small for special tokens and characters.
    pub fn fit<S: AsRef<str>>(&self, texts: &[S]) -> Result<TextTokenizer, EncoderError> {
        let words = count_words(texts)?;
        let pieces = self.pieces(&words)?;
        TextTokenizer::from_word_pieces(&pieces)
    }

    /// The entries, id = position.
    fn pieces(&self, words: &BTreeMap<String, u64>) -> Result<Vec<String>, EncoderError> {
        let alphabet = self.most_frequent(words);
        let known: Vec<(Vec<char>, u64)> = words
            .iter()
            .map(|(word, count)| (word.chars().collect::<Vec<char>>(), *count))
            .filter(|(word, _)| word.iter().all(|letter| alphabet.contains(letter)))
            .collect();
        let inside: BTreeSet<char> = known
            .iter()
            .flat_map(|(word, _)| word.iter().skip(1).copied())
            .collect();
        let mut entries = Entries::default();
        for token in SPECIAL {
            entries.id(token.to_owned());
        }
        for letter in &alphabet {
            entries.id(letter.to_string());
        }
        for letter in &inside {
            entries.id(format!("{INSIDE}{letter}"));
        }
        let fixed = entries.pieces.len();
        if words.is_empty() || fixed > self.vocab_size {
            return Err(EncoderError::Config {
                origin: "train word pieces".to_owned(),
                field: "vocab_size",
                found: self.vocab_size.to_string(),
                expected: match words.is_empty() {
                    true => "texts with at least one word".to_owned(),
                    false => format!("at least {fixed}: special tokens and characters"),
                },
            });
        }
        let words = known
            .iter()
            .map(|(word, count)| {
                let symbols = word.iter().enumerate().map(|(at, letter)| match at {
                    0 => entries.id(letter.to_string()),
                    _ => entries.id(format!("{INSIDE}{letter}")),
                });
                (symbols.collect(), *count)
            })
            .collect();
        self.join(words, &mut entries);
        Ok(entries.pieces)
    }

    /// The alphabet: most frequent characters, ties by code point.
    fn most_frequent(&self, words: &BTreeMap<String, u64>) -> BTreeSet<char> {
        let mut counts: BTreeMap<char, u64> = BTreeMap::new();
        for (word, count) in words {
            for letter in word.chars() {
                *counts.entry(letter).or_default() += count;
            }
        }
        let mut letters: Vec<(Reverse<u64>, char)> = counts
            .into_iter()
            .map(|(letter, count)| (Reverse(count), letter))
            .collect();
        letters.sort_unstable();
        letters
            .into_iter()
            .take(self.alphabet)
            .map(|(_, letter)| letter)
            .collect()
    }

    /// Joins pairs until the vocabulary is full or no pair is frequent enough.
    fn join(&self, mut words: Vec<(Vec<u32>, u64)>, entries: &mut Entries) {
        let mut counts: HashMap<Pair, u64> = HashMap::new();
        // Words that have, or once had, a pair.
        let mut places: HashMap<Pair, Vec<u32>> = HashMap::new();
        for (index, (symbols, count)) in (0_u32..).zip(&words) {
            for pair in pairs(symbols) {
                *counts.entry(pair).or_default() += count;
                places.entry(pair).or_default().push(index);
            }
        }
        let mut queue: BinaryHeap<(u64, Reverse<Pair>)> = counts
            .iter()
            .map(|(pair, count)| (*count, Reverse(*pair)))
            .collect();
        while entries.pieces.len() < self.vocab_size {
            let Some((count, Reverse(pair))) = queue.pop() else {
                break;
            };
            let current = counts.get(&pair).copied().unwrap_or(0);
            if current != count {
                // The count has fallen or risen since; a rise has put the pair in a second time.
                if current < count && current > 0 {
                    queue.push((current, Reverse(pair)));
                }
                continue;
            }
            if count < self.min_count.max(1) {
                break;
            }
            let joined = entries.join(pair);
            let mut touched = places.remove(&pair).unwrap_or_default();
            touched.dedup();
            let mut risen: BTreeSet<Pair> = BTreeSet::new();
            for index in touched {
                let Some((symbols, count)) = words.get_mut(index as usize) else {
                    continue;
                };
                for old in pairs(symbols) {
                    if let Some(total) = counts.get_mut(&old) {
                        *total -= *count;
                    }
                }
                replace(symbols, pair, joined);
                for new in pairs(symbols) {
                    *counts.entry(new).or_default() += *count;
                    if new.0 == joined || new.1 == joined {
                        places.entry(new).or_default().push(index);
                        risen.insert(new);
                    }
                }
            }
            counts.remove(&pair);
            for pair in risen {
                let count = counts.get(&pair).copied().unwrap_or(0);
                queue.push((count, Reverse(pair)));
            }
        }
    }
}

/// Two neighbouring pieces, by id.
type Pair = (u32, u32);

fn pairs(symbols: &[u32]) -> impl Iterator<Item = Pair> + '_ {
    symbols.windows(2).map(|two| (two[0], two[1]))
}

/// Replaces every occurrence of a pair, left to right.
fn replace(symbols: &mut Vec<u32>, pair: Pair, joined: u32) {
    let mut out = Vec::with_capacity(symbols.len());
    let mut rest = symbols.as_slice();
    loop {
        rest = match rest {
            [] => break,
            [a, b, after @ ..] if (*a, *b) == pair => {
                out.push(joined);
                after
            }
            [a, after @ ..] => {
                out.push(*a);
                after
            }
        };
    }
    *symbols = out;
}

/// Pieces and their ids.
#[derive(Default)]
struct Entries {
    pieces: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Entries {
    /// Id of a piece, a new one if need be.
    fn id(&mut self, piece: String) -> u32 {
        if let Some(id) = self.ids.get(&piece) {
            return *id;
        }
        let id = self.pieces.len() as u32;
        self.pieces.push(piece.clone());
        self.ids.insert(piece, id);
        id
    }

    /// Id of two pieces joined; two different pairs may give the same piece.
    fn join(&mut self, pair: Pair) -> u32 {
        let text = |id: u32| self.pieces.get(id as usize).cloned().unwrap_or_default();
        let second = text(pair.1);
        let second = second.strip_prefix(INSIDE).unwrap_or(&second);
        let joined = format!("{}{second}", text(pair.0));
        self.id(joined)
    }
}

/// Words of the texts with their counts, as BERT's tokenizer sees them.
fn count_words<S: AsRef<str>>(texts: &[S]) -> Result<BTreeMap<String, u64>, EncoderError> {
    let normalizer = BertNormalizer::new(true, true, None, true);
    let mut words: BTreeMap<String, u64> = BTreeMap::new();
    for (index, text) in texts.iter().enumerate() {
        let fail = |error: tokenizers::Error| EncoderError::Tokenize {
            index,
            message: error.to_string(),
        };
        let mut text = NormalizedString::from(text.as_ref());
        normalizer.normalize(&mut text).map_err(fail)?;
        let mut split = PreTokenizedString::from(text);
        BertPreTokenizer.pre_tokenize(&mut split).map_err(fail)?;
        for (word, _, _) in split.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            if word.is_empty() || word.chars().nth(LONGEST_WORD).is_some() {
                continue;
            }
            match words.get_mut(word) {
                Some(count) => *count += 1,
                None => {
                    words.insert(word.to_owned(), 1);
                }
            }
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXTS: [&str; 4] = [
        "Low lower lowest",
        "new newer newest, low",
        "slowly slow",
        "wide wider widest newest",
    ];

    fn training(vocab_size: usize) -> WordPieceTraining {
        WordPieceTraining {
            vocab_size,
            min_count: 2,
            alphabet: 100,
        }
    }

    fn pieces(tokenizer: &TextTokenizer) -> Vec<String> {
        (0..tokenizer.vocab_size() as u32)
            .map(|id| tokenizer.token(id).unwrap())
            .collect()
    }

    /// The same by counting everything anew before each join.
    fn slow(training: &WordPieceTraining, texts: &[&str]) -> Vec<String> {
        let words = count_words(texts).unwrap();
        let letters: BTreeSet<char> = words.keys().flat_map(|word| word.chars()).collect();
        let inner: BTreeSet<char> = words.keys().flat_map(|word| word.chars().skip(1)).collect();
        let mut entries: Vec<String> = SPECIAL.iter().map(|token| (*token).to_owned()).collect();
        entries.extend(letters.iter().map(char::to_string));
        entries.extend(inner.iter().map(|letter| format!("##{letter}")));
        let mut split: Vec<(Vec<String>, u64)> = words
            .iter()
            .map(|(word, count)| {
                let parts = word.chars().enumerate().map(|(at, letter)| match at {
                    0 => letter.to_string(),
                    _ => format!("##{letter}"),
                });
                (parts.collect(), *count)
            })
            .collect();
        while entries.len() < training.vocab_size {
            let mut counts: HashMap<(usize, usize), u64> = HashMap::new();
            let at = |piece: &String| entries.iter().position(|entry| entry == piece).unwrap();
            for (parts, count) in &split {
                for two in parts.windows(2) {
                    *counts.entry((at(&two[0]), at(&two[1]))).or_default() += count;
                }
            }
            let best = counts
                .into_iter()
                .max_by_key(|(pair, count)| (*count, Reverse(*pair)));
            let Some(((a, b), count)) = best.filter(|(_, count)| *count >= training.min_count)
            else {
                break;
            };
            assert!(count >= training.min_count);
            let (a, b) = (entries[a].clone(), entries[b].clone());
            let joined = format!("{a}{}", b.strip_prefix("##").unwrap_or(&b));
            for (parts, _) in &mut split {
                let mut index = 0;
                while index + 1 < parts.len() {
                    if parts[index] == a && parts[index + 1] == b {
                        parts[index] = joined.clone();
                        parts.remove(index + 1);
                    }
                    index += 1;
                }
            }
            if !entries.contains(&joined) {
                entries.push(joined);
            }
        }
        entries
    }

    #[test]
    fn fast_and_slow_counting_agree() {
        for vocab_size in [30, 36, 40, 50, 400] {
            let training = training(vocab_size);
            let got = pieces(&training.fit(&TEXTS).unwrap());
            assert_eq!(got, slow(&training, &TEXTS), "{vocab_size}");
        }
    }

    #[test]
    fn the_order_of_texts_does_not_matter() {
        let mut turned = TEXTS;
        turned.reverse();
        let training = training(45);
        assert_eq!(
            pieces(&training.fit(&TEXTS).unwrap()),
            pieces(&training.fit(&turned).unwrap())
        );
    }

    #[test]
    fn rare_letters_make_words_unknown_and_nothing_else() {
        let training = WordPieceTraining {
            vocab_size: 60,
            min_count: 2,
            alphabet: 3,
        };
        let tokenizer = training.fit(&["aab aab cab", "z abc"]).unwrap();
        let unknown = tokenizer.pieces("[UNK]").unwrap();
        assert_eq!(tokenizer.pieces("zab").unwrap(), unknown);
        assert_ne!(tokenizer.pieces("abc").unwrap(), unknown);
    }

    #[test]
    fn little_text_gives_a_small_vocabulary_and_none_an_error() {
        // A cat and a dog leave nothing to join twice.
        let few = training(12_000).fit(&["cat dog"]).unwrap();
        assert_eq!(few.vocab_size(), 5 + 6 + 4);
        for texts in [&[][..], &[" ", "\u{200b}"][..]] {
            let error = training(100).fit(texts).unwrap_err().to_string();
            assert!(error.contains("at least one word"), "{error}");
        }
        let error = training(10).fit(&["cat dog"]).unwrap_err().to_string();
        assert!(error.contains("at least 15"), "{error}");
    }
}
