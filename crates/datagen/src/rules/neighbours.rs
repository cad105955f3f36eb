//! Other sentences of the corpus that share words with a text.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::edit::{draw, part};
use super::lexicon::Form;
use super::paraphrase::is_plural;
use super::sentence::{Knowledge, Sentence, Tag, closed_class};
use super::tokens::split;

/// Longest list of sentences that is read for one word.
const LONGEST_LIST: usize = 400;
/// Words of a text that are looked up, the rarest first.
const QUERY_WORDS: usize = 10;
/// Sentences that are offered.
const OFFERED: usize = 12;
/// Above this share of common words two sentences may say the same.
const NEAR_COPY: f64 = 0.5;

/// A corpus with the sentences of every content word.
pub(super) struct Corpus {
    texts: Vec<String>,
    ids: HashMap<String, u32>,
    /// Sentences by word id, in corpus order.
    lists: Vec<Vec<u32>>,
    /// Distinct word ids by sentence, sorted.
    words: Vec<Vec<u32>>,
}

/// Content words of a text, without endings of number.
fn content(text: &str) -> BTreeSet<String> {
    split(text)
        .iter()
        .filter(|t| t.is_word())
        .map(super::tokens::Token::key)
        .filter(|k| k.chars().count() > 2 && closed_class(k).is_none())
        .map(|k| match k.strip_suffix('s') {
            Some(stem) if stem.len() > 3 && !stem.ends_with('s') => stem.to_string(),
            _ => k,
        })
        .collect()
}

impl Corpus {
    /// Indexes `texts`; white space in them becomes single spaces.
    pub(super) fn new(texts: Vec<String>) -> Self {
        let mut corpus = Self {
            texts,
            ids: HashMap::new(),
            lists: Vec::new(),
            words: Vec::new(),
        };
        for at in 0..corpus.texts.len() {
            let mut ids = Vec::new();
            for word in content(&corpus.texts[at]) {
                let next = corpus.ids.len() as u32;
                let id = *corpus.ids.entry(word).or_insert(next);
                if id == next {
                    corpus.lists.push(Vec::new());
                }
                if let Some(list) = corpus.lists.get_mut(id as usize) {
                    list.push(at as u32);
                }
                ids.push(id);
            }
            ids.sort_unstable();
            corpus.words.push(ids);
        }
        corpus
    }

    /// Sentence at a place.
    pub(super) fn text(&self, at: usize) -> &str {
        self.texts.get(at).map_or("", String::as_str)
    }

    /// Share of common words of a sentence and a set of word ids (Jaccard).
    fn overlap(&self, at: usize, query: &BTreeSet<u32>, query_len: usize) -> f64 {
        let words = self.words.get(at).map_or(&[][..], Vec::as_slice);
        let common = words.iter().filter(|w| query.contains(w)).count();
        let all = words.len() + query_len - common;
        common as f64 / all.max(1) as f64
    }

    /// Sentences on the same topic that do not say the same, the closest first.
    pub(super) fn similar(&self, text: &str) -> Vec<usize> {
        let words = content(text);
        let query: BTreeSet<u32> = words
            .iter()
            .filter_map(|w| self.ids.get(w).copied())
            .collect();
        let mut rare: Vec<(usize, u32)> = query
            .iter()
            .map(|&id| (self.lists.get(id as usize).map_or(0, Vec::len), id))
            .collect();
        rare.sort_unstable();
        let mut scores: BTreeMap<u32, f64> = BTreeMap::new();
        for &(count, id) in rare.iter().take(QUERY_WORDS) {
            let weight = ((self.texts.len() + 1) as f64 / count.max(1) as f64).ln();
            let list = self.lists.get(id as usize).map_or(&[][..], Vec::as_slice);
            for &at in list.iter().take(LONGEST_LIST) {
                *scores.entry(at).or_default() += weight;
            }
        }
        let mut found: Vec<(f64, usize)> = scores
            .into_iter()
            .map(|(at, score)| (at as usize, score))
            .filter(|&(at, _)| {
                let own = self.words.get(at).map_or(0, Vec::len);
                own >= 3 && self.overlap(at, &query, words.len()) <= NEAR_COPY
            })
            .map(|(at, score)| {
                (
                    score / ((self.words.get(at).map_or(1, Vec::len) + 4) as f64).sqrt(),
                    at,
                )
            })
            .collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        found.into_iter().take(OFFERED).map(|(_, at)| at).collect()
    }

    /// A sentence that shares hardly a word with the text.
    pub(super) fn distant(&self, text: &str, rng: &mut ChaCha8Rng) -> Option<usize> {
        let words = content(text);
        let query: BTreeSet<u32> = words
            .iter()
            .filter_map(|w| self.ids.get(w).copied())
            .collect();
        let mut fallback = None;
        for _ in 0..12 {
            if self.texts.is_empty() {
                break;
            }
            let at = rng.random_range(0..self.texts.len());
            let overlap = self.overlap(at, &query, words.len());
            let enough = self.words.get(at).is_some_and(|w| w.len() >= 3);
            if overlap == 0.0 && enough {
                return Some(at);
            }
            if overlap < NEAR_COPY
                && self.text(at) != text
                && self.words.get(at).is_some_and(|w| !w.is_empty())
            {
                fallback = Some(at);
            }
        }
        fallback
    }
}

/// What a finite verb says about its subject.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Agreement {
    Singular,
    Plural,
    Any,
}

fn agreement(s: &Sentence, verb: usize) -> Agreement {
    match (s.key(verb), s.tag(verb)) {
        ("is" | "was" | "has" | "does" | "isn't" | "wasn't" | "doesn't" | "hasn't", _)
        | (_, Tag::Verb(Form::Third)) => Agreement::Singular,
        (
            "are" | "were" | "have" | "do" | "am" | "'m" | "aren't" | "weren't" | "don't"
            | "haven't",
            _,
        )
        | (_, Tag::Verb(Form::Base)) => Agreement::Plural,
        _ => Agreement::Any,
    }
}

/// A sentence whose subject is a whole noun phrase before the verb, with that verb's place.
fn halves(s: &Sentence) -> Option<usize> {
    let verb = s.main_verb()?;
    let mut subject = s.long_noun_phrase(0)?;
    while let Some(to) = s.prepositional_phrase(subject).filter(|&to| to <= verb) {
        subject = to;
    }
    let single = s.tags.iter().filter(|t| **t == Tag::Stop).count() <= 1;
    (subject == verb && single && verb < 14 && s.key(0) != "there" && verb + 2 < s.body_end())
        .then_some(verb)
}

/// One sentence's subject with the predicate of another on a similar topic.
pub(super) fn recombine(
    s: &Sentence,
    text: &str,
    corpus: &Corpus,
    known: &Knowledge,
    rng: &mut ChaCha8Rng,
) -> Option<String> {
    let verb = halves(s)?;
    let mut places = corpus.similar(text);
    for _ in 0..6 {
        places.extend(corpus.distant(text, rng));
    }
    let take_subject = rng.random_bool(0.8);
    let words = s.words();
    let mut fitting = Vec::new();
    for at in places {
        let other = Sentence::read(corpus.text(at), known);
        let Some(other_verb) = halves(&other) else {
            continue;
        };
        let (subject, subject_verb, predicate, predicate_verb) = if take_subject {
            (s, verb, &other, other_verb)
        } else {
            (&other, other_verb, s, verb)
        };
        let plural = is_plural(subject, 0, subject_verb, known);
        let fits = match agreement(predicate, predicate_verb) {
            Agreement::Any => true,
            Agreement::Singular => !plural && agreement(subject, subject_verb) != Agreement::Plural,
            Agreement::Plural => plural || agreement(subject, subject_verb) == Agreement::Plural,
        };
        let same = part(s, 0, verb)
            .iter()
            .map(super::tokens::Token::key)
            .eq(part(&other, 0, other_verb)
                .iter()
                .map(super::tokens::Token::key));
        // a half that is most of the sentence leaves little that differs
        let kept = if take_subject { 0..verb } else { verb..s.len() };
        let kept = kept
            .filter(|&k| s.tokens.get(k).is_some_and(super::tokens::Token::is_word))
            .count();
        if !fits || (same && !take_subject) || kept * 10 > words * 6 {
            continue;
        }
        let mut tokens = part(subject, 0, subject_verb);
        // places in two sentences say nothing about each other
        for token in &mut tokens {
            token.origin = token.origin.map(|o| o + 100_000);
        }
        let start = tokens.len();
        tokens.extend(part(predicate, predicate_verb, predicate.len()));
        if let Some(first) = tokens.get_mut(start) {
            first.space = true;
        }
        fitting.push(s.write(tokens));
        if fitting.len() == 4 {
            break;
        }
    }
    draw(rng, &fitting).cloned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use rand::SeedableRng;

    use super::*;

    fn corpus() -> Corpus {
        Corpus::new(
            [
                "The bridge over the Aare was opened in 1905.",
                "The bridge over the Rhine was closed by a flood.",
                "Two dogs are running through the snow.",
                "The bridge over the Aare was opened in 1906.",
                "A choir is singing in the cathedral.",
            ]
            .map(String::from)
            .to_vec(),
        )
    }

    #[test]
    fn similar_sentences_share_words_but_are_no_copies() {
        let found = corpus().similar("The bridge over the Aare was opened in 1905.");
        assert_eq!(found, [1]);
        assert_eq!(
            corpus().similar("nothing here matches"),
            Vec::<usize>::new()
        );
    }

    #[test]
    fn distant_sentences_share_nothing() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for _ in 0..20 {
            let at = corpus()
                .distant("The bridge over the Aare was opened in 1905.", &mut rng)
                .unwrap();
            assert!([2, 4].contains(&at));
        }
        assert_eq!(Corpus::new(Vec::new()).distant("x", &mut rng), None);
    }

    #[test]
    fn halves_of_two_sentences_are_joined() {
        let corpus = corpus();
        let known = Knowledge::new(&[]);
        let text = "The bridge over the Aare was opened in 1905.";
        let s = Sentence::read(text, &known);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut seen = BTreeSet::new();
        for _ in 0..40 {
            seen.extend(recombine(&s, text, &corpus, &known, &mut rng));
        }
        assert!(
            seen.contains("The bridge over the Aare was closed by a flood."),
            "{seen:?}"
        );
        assert!(
            seen.contains("The bridge over the Rhine was opened in 1905."),
            "{seen:?}"
        );
        // a plural verb does not fit this subject
        assert!(
            !seen
                .iter()
                .any(|t| t.starts_with("The bridge") && t.contains("are running")),
            "{seen:?}"
        );
    }
}
