//! Class-based TF-IDF: the words that tell one class of texts from the others.
//!
//! All texts of a class count as one document. For the count `n(t, c)` of term `t` in class `c`:
//!
//! ```text
//! tf(t, c) = n(t, c) / sum_u n(u, c)
//! f(t)     = sum_c n(t, c)
//! A        = sum_t f(t) / number of classes that have terms
//! w(t, c)  = tf(t, c) * ln(1 + A / f(t))
//! ```
//!
//! Grootendorst 2022, "BERTopic", equation 2, with term counts divided by the size of the class, so
//! that a large class does not outweigh a small one. (TF-IDF vectors of single texts are
//! `datasets::TfIdf`; this crate stands beside that one and not above it.)
//!
//! A term is a run of two or more letters, digits or `_` of the lower-cased text, with apostrophes
//! inside (`o'clock`). Runs of digits and common English function words are no terms, unless a class
//! has nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Words that name nothing: articles, pronouns, auxiliaries, prepositions, courtesies.
const STOP_WORDS: &str = "\
    a about after again all already also always am an and another any anybody anyone anything are \
    as at back be because been before being but by can can't cannot come could couldn't did didn't \
    do does doesn't doing don't done down each else ever every everything for from get gets getting \
    give go goes going gone good got had has have haven't having he hello help her here hers hey hi \
    him his hoping how i i'd i'll i'm i've if im in into is isn't it it's its just kindly know let \
    let's like made make many may maybe me mine more most much must my myself need needs never no \
    nobody not nothing now of off ok okay on once one ones only or other our ours out over own \
    please possible possibly quite rather really said same say see seem she should since so some \
    somebody someone something still such sure take tell than thank thanks that that's the their \
    theirs them then there there's these they thing things this those through to too trying under \
    until up upon us very via wait want wanted wants was wasn't way we were what what's when where \
    which while who whom whose why will with within without won't wonder would wouldn't yes yet you \
    you're your yours";

/// A term with its weight in a class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Keyword {
    /// The term, lower-case.
    pub term: String,
    /// `w(t, c)` of the module page, above 0.
    pub weight: f64,
}

/// Runs of letters, digits, `_` and inner apostrophes, lower-case, in reading order.
pub(crate) fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .replace('\u{2019}', "'")
        .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '\''))
        .map(|word| word.trim_matches('\''))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Whether a word can be a term at all.
fn is_term(word: &str) -> bool {
    word.chars().nth(1).is_some() && !word.chars().all(|c| c.is_numeric() || c == '_')
}

/// Terms of all classes with their weights.
///
/// ```
/// use datagen::ClassTfIdf;
/// let classes = [vec!["cancel my order", "cancel it"], vec!["track my order"]];
/// let model = ClassTfIdf::fit(&classes);
/// assert_eq!(model.keywords(0, 1)[0].term, "cancel");
/// assert_eq!(model.keywords(1, 1)[0].term, "track");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ClassTfIdf {
    classes: Vec<Class>,
    /// Terms of all classes.
    known: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Class {
    /// Terms by falling weight, ties in byte order.
    ranked: Vec<Keyword>,
    /// The same by term.
    weights: BTreeMap<String, f64>,
    /// Length of the vector of weights.
    norm: f64,
}

impl ClassTfIdf {
    /// Weighs the terms of `classes`, each a list of texts. A class without texts has no terms.
    pub fn fit<C, T>(classes: &[C]) -> Self
    where
        C: AsRef<[T]>,
        T: AsRef<str>,
    {
        let stop: BTreeSet<&str> = STOP_WORDS.split_whitespace().collect();
        let counts: Vec<BTreeMap<String, u64>> = classes
            .iter()
            .map(|texts| {
                let all: Vec<String> = texts
                    .as_ref()
                    .iter()
                    .flat_map(|text| words(text.as_ref()))
                    .collect();
                let telling = |word: &&String| is_term(word) && !stop.contains(word.as_str());
                let mut counts = count(all.iter().filter(telling));
                if counts.is_empty() {
                    counts = count(all.iter());
                }
                counts
            })
            .collect();
        let mut frequency: BTreeMap<String, u64> = BTreeMap::new();
        for (term, n) in counts.iter().flatten() {
            *frequency.entry(term.clone()).or_default() += n;
        }
        let filled = counts.iter().filter(|terms| !terms.is_empty()).count();
        let mean = frequency.values().sum::<u64>() as f64 / filled.max(1) as f64;
        let classes = counts
            .into_iter()
            .map(|terms| {
                let size = terms.values().sum::<u64>() as f64;
                let weight = |term: &str, n: u64| {
                    let everywhere = frequency.get(term).copied().unwrap_or(n);
                    n as f64 / size * (mean / everywhere as f64).ln_1p()
                };
                Class::new(
                    terms
                        .iter()
                        .map(|(term, &n)| (term.clone(), weight(term, n)))
                        .collect(),
                )
            })
            .collect();
        Self {
            classes,
            known: frequency.into_keys().collect(),
        }
    }

    /// The `count` heaviest terms of a class, heaviest first; fewer if it has fewer, none for a
    /// class that does not exist.
    pub fn keywords(&self, class: usize, count: usize) -> &[Keyword] {
        let all = match self.classes.get(class) {
            Some(class) => class.ranked.as_slice(),
            None => &[],
        };
        all.get(..count.min(all.len())).unwrap_or_default()
    }

    /// Cosine between the term counts of `text` and the weights of a class, in 0..=1; 0 where they
    /// share no term. Words that are a term of no class do not count. Text by text it orders a class from typical to odd when there are no vectors.
    pub fn similarity(&self, class: usize, text: &str) -> f64 {
        let Some(class) = self.classes.get(class) else {
            return 0.0;
        };
        let mut dot = 0.0;
        let mut text_norm = 0.0;
        let known = words(text);
        let known = known.iter().filter(|word| self.known.contains(*word));
        for (term, n) in count(known) {
            let n = n as f64;
            text_norm += n * n;
            dot += n * class.weights.get(&term).copied().unwrap_or(0.0);
        }
        let norm = f64::sqrt(text_norm) * class.norm;
        if norm > 0.0 {
            (dot / norm).min(1.0)
        } else {
            0.0
        }
    }
}

impl Class {
    fn new(weights: BTreeMap<String, f64>) -> Self {
        let mut ranked: Vec<Keyword> = weights
            .iter()
            .map(|(term, &weight)| Keyword {
                term: term.clone(),
                weight,
            })
            .collect();
        // The map is in byte order and the sort is stable.
        ranked.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        let norm = weights.values().map(|weight| weight * weight).sum::<f64>();
        Self {
            ranked,
            weights,
            norm: norm.sqrt(),
        }
    }
}

fn count<'a>(words: impl Iterator<Item = &'a String>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for word in words {
        *counts.entry(word.clone()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hand_computed_example() {
        // Class 0: cat cat dog; class 1: dog. f: cat 2, dog 2; A = 4 / 2.
        let model = ClassTfIdf::fit(&[vec!["the cat, a CAT", "dog!"], vec!["my dog"]]);
        let expected = [("cat", 2.0 / 3.0), ("dog", 1.0 / 3.0)];
        for (keyword, (term, tf)) in model.keywords(0, 9).iter().zip(expected) {
            assert_eq!(keyword.term, term);
            assert!((keyword.weight - tf * 2.0_f64.ln()).abs() < 1e-15);
        }
        assert_eq!(model.keywords(0, 9).len(), 2);
        assert_eq!(model.keywords(0, 1).len(), 1);
        assert!((model.keywords(1, 9)[0].weight - 2.0_f64.ln()).abs() < 1e-15);
        assert!(model.keywords(2, 9).is_empty());
    }

    #[test]
    fn a_word_of_every_class_weighs_less_than_one_of_its_own() {
        let model = ClassTfIdf::fit(&[
            vec!["parcel lost", "parcel missing"],
            vec!["parcel late", "parcel delayed"],
        ]);
        let weight = |term: &str| {
            let found = model.keywords(0, 9).iter().find(|k| k.term == term);
            found.unwrap().weight / if term == "parcel" { 2.0 } else { 1.0 }
        };
        assert!(weight("lost") > weight("parcel"));
    }

    #[test]
    fn a_class_of_function_words_keeps_them() {
        let model = ClassTfIdf::fit(&[vec!["what is it", "42"], vec![], vec!["o\u{2019}clock"]]);
        assert!(model.keywords(0, 9).iter().any(|k| k.term == "what"));
        assert!(model.keywords(1, 9).is_empty());
        assert_eq!(model.keywords(2, 9)[0].term, "o'clock");
    }

    #[test]
    fn the_text_nearest_to_the_class_is_the_typical_one() {
        let model = ClassTfIdf::fit(&[
            vec!["cancel my order", "cancel the booking", "hello there"],
            vec!["open hours"],
        ]);
        let score = |text| model.similarity(0, text);
        assert!(score("cancel the order") > score("cancel or open or start it"));
        assert_eq!(score("hours"), 0.0);
        assert_eq!(score(""), 0.0);
        assert_eq!(model.similarity(7, "cancel"), 0.0);
    }

    /// Straight from the formula.
    fn slow(classes: &[Vec<String>], class: usize, term: &str) -> f64 {
        let list = |c: &Vec<String>| -> Vec<String> {
            c.iter()
                .flat_map(|t| t.split(' ').map(str::to_owned).collect::<Vec<_>>())
                .filter(|w| !w.is_empty())
                .collect()
        };
        let n = |c: &Vec<String>| list(c).iter().filter(|w| *w == term).count() as f64;
        let all: usize = classes.iter().map(|c| list(c).len()).sum();
        let filled = classes.iter().filter(|c| !list(c).is_empty()).count();
        let mean = all as f64 / filled as f64;
        let frequency: f64 = classes.iter().map(n).sum();
        let own = &classes[class];
        n(own) / list(own).len() as f64 * (1.0 + mean / frequency).ln()
    }

    proptest! {
        #[test]
        fn agrees_with_the_slow_form(
            classes in prop::collection::vec(
                prop::collection::vec(
                    prop::collection::vec("[x-z]{2,3}", 0..6).prop_map(|w| w.join(" ")), 0..4),
                1..5)
        ) {
            let model = ClassTfIdf::fit(&classes);
            for class in 0..classes.len() {
                let keywords = model.keywords(class, usize::MAX);
                for keyword in keywords {
                    let expected = slow(&classes, class, &keyword.term);
                    prop_assert!((keyword.weight - expected).abs() < 1e-12);
                }
                prop_assert!(keywords.windows(2).all(|w| w[0].weight >= w[1].weight));
            }
        }

        #[test]
        fn similarity_is_a_cosine(
            classes in prop::collection::vec(prop::collection::vec("\\PC{0,20}", 0..4), 0..4),
            text in "\\PC{0,20}",
            class in 0_usize..5,
        ) {
            let value = ClassTfIdf::fit(&classes).similarity(class, &text);
            prop_assert!((0.0..=1.0).contains(&value));
        }
    }
}
