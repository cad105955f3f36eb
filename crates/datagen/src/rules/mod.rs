//! Similarity patterns by rules: sentences of a wanted relation to a source sentence, for English,
//! without a model and without a network.
//!
//! NGCSE asks a chat model for new sentences that stand in a given [`Relation`] to a source sentence.
//! [`RuleBased`] answers the same questions with hand-written rules over small word lists
//! (`rules/lexicon`): other words and another order for the same information, parts left out for
//! less of it, and exchanged numbers, names, opposites, negation or halves of other sentences for
//! something else. Word classes are guessed from lists, endings and neighbours; no parser is used.
//!
//! An answer depends on nothing but the seed, the corpus, the source, the relation and the attempt.

mod contradiction;
mod edit;
mod lexicon;
mod neighbours;
mod paraphrase;
mod reduction;
mod sentence;
mod tags;
mod tokens;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::chat::{Answer, AnswerSource, Call, ChatError, Usage};
use crate::simulation::Relation;
use neighbours::Corpus;
use sentence::{Knowledge, Sentence};

/// Sources that fit no rule are tried this often before a frame is put around them.
const TRIES: u32 = 4;

/// Writes sentences by rules.
///
/// ```
/// use datagen::rules::RuleBased;
/// use datagen::simulation::Relation;
///
/// let rules = RuleBased::new(7, vec!["Two dogs are running through the snow.".to_string()]);
/// let source = "The old bridge was built by the monks in 1320.";
/// let positive = rules.write(Relation::Positive, source, 0);
/// assert_ne!(positive, source);
/// assert_eq!(positive, rules.write(Relation::Positive, source, 0));
/// ```
pub struct RuleBased {
    name: String,
    seed: u64,
    known: Knowledge,
    corpus: Corpus,
}

impl RuleBased {
    /// Rules with a seed and a corpus. Negatives draw on the corpus, and its casing tells names from
    /// common words; it may be empty. Time and memory grow with the corpus in proportion.
    pub fn new(seed: u64, corpus: Vec<String>) -> Self {
        let print = corpus
            .iter()
            .fold(OFFSET, |hash, text| mix(hash, text.as_bytes()));
        Self {
            // answers of another seed or corpus are other answers
            name: format!("rules/1-{seed}-{print:016x}"),
            seed,
            known: Knowledge::new(&corpus),
            corpus: Corpus::new(corpus),
        }
    }

    /// Writes a sentence in the given relation to `source`: one line, no doubled spaces, never
    /// empty, with a capital and a final mark where the source has them. Another `attempt` draws
    /// other rules.
    pub fn write(&self, relation: Relation, source: &str, attempt: u32) -> String {
        let mut hash = mix(OFFSET, &self.seed.to_le_bytes());
        hash = mix(hash, relation.kind().as_bytes());
        hash = mix(hash, &attempt.to_le_bytes());
        hash = mix(hash, source.as_bytes());
        let mut rng = ChaCha8Rng::seed_from_u64(hash);
        let sentences = self.sentences(source);
        let flat = plain(source);
        if sentences.is_empty() {
            return match self.corpus.distant(source, &mut rng) {
                Some(at) if relation == Relation::Negative => plain(self.corpus.text(at)),
                _ => "There is nothing here.".to_string(),
            };
        }
        for _ in 0..TRIES {
            let text = match relation {
                Relation::Positive => self.positive(&sentences, &mut rng),
                Relation::Intermediate => self.intermediate(&sentences, &mut rng),
                Relation::Negative => self.negative(&sentences, &flat, &mut rng),
                Relation::Entailment => self.entailment(&sentences, &mut rng),
                Relation::Contradiction => self.contradiction(&sentences, &mut rng),
            };
            if let Some(text) = text
                .map(|t| finish(&t, &flat))
                .filter(|t| differs(t, &flat))
            {
                return text;
            }
        }
        let whole = Sentence::read(&flat, &self.known);
        let last = match relation {
            Relation::Positive => paraphrase::framed(&whole, &mut rng),
            Relation::Intermediate => {
                reduction::shorten(&whole).or_else(|| paraphrase::framed(&whole, &mut rng))
            }
            Relation::Entailment => reduction::shorten(&whole)
                .filter(|_| !reduction::blocks_entailment(&whole))
                .or_else(|| paraphrase::framed(&whole, &mut rng)),
            Relation::Negative | Relation::Contradiction => contradiction::denied(&whole),
        };
        last.map_or_else(
            || "There is nothing here.".to_string(),
            |text| finish(&text, &flat),
        )
    }

    /// The sentences of a text.
    fn sentences(&self, text: &str) -> Vec<Sentence> {
        let tokens = tokens::split(text);
        let mut out = Vec::new();
        let mut open: Vec<tokens::Token> = Vec::new();
        let mut rest = tokens.into_iter().peekable();
        while let Some(token) = rest.next() {
            let stop = tokens::is_stop(&token.text);
            open.push(token);
            let begins = rest
                .peek()
                .is_some_and(|t| t.space && t.text.starts_with(char::is_uppercase));
            if stop && begins && open.len() > 2 {
                out.push(Sentence::from_tokens(
                    std::mem::take(&mut open),
                    &self.known,
                ));
            }
        }
        if !open.is_empty() {
            out.push(Sentence::from_tokens(open, &self.known));
        }
        out
    }

    fn positive(&self, sentences: &[Sentence], rng: &mut ChaCha8Rng) -> Option<String> {
        let mut changed = false;
        let mut out = Vec::with_capacity(sentences.len());
        for s in sentences {
            match paraphrase::paraphrase(s, &self.known, rng) {
                Some(text) => {
                    changed = true;
                    out.push(text);
                }
                None => out.push(s.write(s.tokens.clone())),
            }
        }
        changed.then(|| out.join(" "))
    }

    /// The sentence that an answer is made of: one of those that are not much shorter than the longest.
    fn longest<'a>(&self, sentences: &'a [Sentence], rng: &mut ChaCha8Rng) -> Option<&'a Sentence> {
        let longest = sentences.iter().map(Sentence::words).max()?;
        let long: Vec<&Sentence> = sentences
            .iter()
            .filter(|s| s.words() * 3 >= longest * 2)
            .collect();
        edit::draw(rng, &long).copied()
    }

    fn intermediate(&self, sentences: &[Sentence], rng: &mut ChaCha8Rng) -> Option<String> {
        let main = self.longest(sentences, rng)?;
        let words: usize = sentences.iter().map(Sentence::words).sum();
        // one sentence of several has lost enough already
        if sentences.len() > 1 && main.words() * 2 < words {
            return Some(main.write(main.tokens.clone()));
        }
        reduction::intermediate(main, &self.known, rng)
    }

    fn entailment(&self, sentences: &[Sentence], rng: &mut ChaCha8Rng) -> Option<String> {
        let main = self.longest(sentences, rng)?;
        if reduction::blocks_entailment(main) {
            return paraphrase::paraphrase(main, &self.known, rng);
        }
        reduction::entailed(main, &self.known, rng)
            .or_else(|| paraphrase::paraphrase(main, &self.known, rng))
    }

    fn contradiction(&self, sentences: &[Sentence], rng: &mut ChaCha8Rng) -> Option<String> {
        let main = self.longest(sentences, rng)?;
        let short = (!reduction::blocks_entailment(main) && rng.random_bool(0.6))
            .then(|| reduction::reduce(main, &self.known, rng, 0.6))
            .flatten();
        let base = short.as_ref().unwrap_or(main);
        contradiction::contradict(base, &self.known, rng)
            .or_else(|| contradiction::contradict(main, &self.known, rng))
    }

    fn negative(&self, sentences: &[Sentence], flat: &str, rng: &mut ChaCha8Rng) -> Option<String> {
        let draw = rng.random_range(0..100);
        let main = self.longest(sentences, rng)?;
        // a much longer sentence would be told apart by its length alone
        let most = (flat.split(' ').count() * 5 / 2).max(8);
        let fits = |at: &usize| self.corpus.text(*at).split_whitespace().count() <= most;
        // edited as positives are, so that plain text does not give a negative away
        let other = |at: usize, rng: &mut ChaCha8Rng| {
            let text = plain(self.corpus.text(at));
            let edited = rng
                .random_bool(0.7)
                .then(|| self.positive(&self.sentences(&text), rng));
            edited.flatten().unwrap_or(text)
        };
        let same_topic = |rng: &mut ChaCha8Rng| {
            let places: Vec<usize> = self.corpus.similar(flat).into_iter().filter(fits).collect();
            let at = *edit::draw(rng, &places)?;
            Some(other(at, rng))
        };
        let unrelated = |rng: &mut ChaCha8Rng| {
            let at = self.corpus.distant(flat, rng).filter(fits)?;
            Some(other(at, rng))
        };
        let first = match draw {
            0..46 => neighbours::recombine(main, flat, &self.corpus, &self.known, rng)
                .filter(|text| text.split(' ').count() <= most),
            46..76 => same_topic(rng),
            76..92 => unrelated(rng),
            _ => contradiction::distort(main, &self.known, rng),
        };
        first
            .or_else(|| same_topic(rng))
            .or_else(|| unrelated(rng))
            .or_else(|| contradiction::distort(main, &self.known, rng))
            .or_else(|| contradiction::contradict(main, &self.known, rng))
    }
}

impl AnswerSource for RuleBased {
    fn name(&self) -> &str {
        &self.name
    }

    fn answer(&self, call: &Call, attempt: u32) -> Result<Answer, ChatError> {
        let relation = Relation::of_kind(&call.kind).ok_or_else(|| ChatError::Config {
            field: "kind",
            found: call.kind.clone(),
            expected: "a relation with rules: sts/positive, sts/intermediate, sts/negative, nli/entailment or nli/contradiction",
        })?;
        Ok(Answer {
            text: self.write(relation, &call.source, attempt),
            usage: Usage::default(),
        })
    }
}

/// Start value of [`mix`].
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a over the bytes and their number, 64 bits.
fn mix(hash: u64, bytes: &[u8]) -> u64 {
    let length = (bytes.len() as u64).to_le_bytes();
    bytes.iter().chain(&length).fold(hash, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// One line with single spaces.
fn plain(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
        .collect();
    words.join(" ")
}

/// Capital and final mark as in the source.
fn finish(text: &str, source: &str) -> String {
    let text = edit::end_like(&plain(text), source);
    let letter = |t: &str| t.chars().find(|c| c.is_alphanumeric());
    if !letter(source).is_some_and(char::is_uppercase) {
        return text;
    }
    match text.char_indices().find(|(_, c)| c.is_alphanumeric()) {
        Some((at, c)) if c.is_lowercase() => {
            let (head, tail) = text.split_at(at);
            let rest = tail.get(c.len_utf8()..).unwrap_or_default();
            format!("{head}{}{rest}", c.to_uppercase())
        }
        _ => text,
    }
}

/// Whether a text has letters or digits, and others than the source or in another order.
fn differs(text: &str, source: &str) -> bool {
    let letters = |t: &str| -> String {
        t.to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric())
            .collect()
    };
    let own = letters(text);
    !own.is_empty() && own != letters(source)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::BTreeSet;
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::chat::ChatRequest;

    const CORPUS: &[&str] = &[
        "The old bridge over the river was built by the monks in 1320.",
        "The new bridge over the lake was destroyed by a flood in 1905.",
        "A man in a red shirt is playing the guitar on a stage.",
        "Two dogs are running through the deep snow near the forest.",
        "Eva Lund (born 5 August 1992) is a Norwegian rower who won three medals.",
        "When the war ended, he returned to London and opened a small shop.",
        "She later joined the army because her brother was a famous soldier.",
        "However, the company sold its largest factory to the state of Ohio.",
    ];

    fn fresh() -> RuleBased {
        RuleBased::new(7, CORPUS.iter().map(ToString::to_string).collect())
    }

    fn rules() -> &'static RuleBased {
        static RULES: LazyLock<RuleBased> = LazyLock::new(fresh);
        &RULES
    }

    fn call(kind: &str, source: &str) -> Call {
        Call {
            id: "0".to_string(),
            kind: kind.to_string(),
            source: source.to_string(),
            request: ChatRequest {
                system: String::new(),
                user: source.to_string(),
                temperature: 0.0,
                max_tokens: 1,
                schema: None,
            },
        }
    }

    /// What every answer promises, whatever the source.
    fn check_form(source: &str, text: &str) {
        assert!(!text.trim().is_empty(), "empty for {source:?}");
        assert!(!text.contains("  "), "doubled space in {text:?}");
        assert!(
            !text.chars().any(char::is_control),
            "control character in {text:?}"
        );
        assert_eq!(text, text.trim(), "untrimmed");
        let letter = |t: &str| t.chars().find(|c| c.is_alphanumeric());
        if letter(source).is_some_and(char::is_uppercase) {
            let first = letter(text);
            assert!(
                !first.is_some_and(char::is_lowercase),
                "{source:?} lost its capital: {text:?}"
            );
        }
        if source.trim_end().ends_with(['.', '?', '!']) {
            assert!(
                text.ends_with(['.', '?', '!', '\u{2026}']),
                "{source:?} lost its end: {text:?}"
            );
        }
    }

    #[test]
    fn a_kind_without_rules_is_an_error() {
        let answer = rules().answer(&call("name", "A dog barks."), 0);
        assert!(matches!(
            answer,
            Err(ChatError::Config { field: "kind", .. })
        ));
    }

    #[test]
    fn answers_are_reproducible_and_free() {
        for relation in Relation::ALL {
            for source in CORPUS {
                let one = fresh().answer(&call(relation.kind(), source), 1).unwrap();
                let two = rules().answer(&call(relation.kind(), source), 1).unwrap();
                assert_eq!(one, two);
                assert_eq!(one.usage, Usage::default());
            }
        }
    }

    #[test]
    fn seeds_corpora_and_attempts_matter() {
        let corpus = || CORPUS.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(rules().name(), rules().name());
        assert_ne!(rules().name(), RuleBased::new(8, corpus()).name());
        assert_ne!(
            rules().name(),
            RuleBased::new(7, corpus()[1..].to_vec()).name()
        );
        assert!(rules().name().starts_with("rules/1"));
        for relation in Relation::ALL {
            let answers: BTreeSet<String> = (0..8)
                .map(|attempt| rules().write(relation, CORPUS[0], attempt))
                .collect();
            assert!(answers.len() > 1, "{relation:?}: {answers:?}");
            let other = RuleBased::new(8, corpus());
            assert!(
                CORPUS
                    .iter()
                    .any(|s| other.write(relation, s, 0) != rules().write(relation, s, 0))
            );
        }
    }

    #[test]
    fn every_relation_differs_from_its_source() {
        let rules = rules();
        let plain = [
            "Sheep eat grass here.",
            "The the of of.",
            "Anna Bob Carl Dora Emil",
            "i have no idea what",
        ];
        for source in CORPUS.iter().chain(&plain) {
            for relation in Relation::ALL {
                for attempt in 0..10 {
                    let text = rules.write(relation, source, attempt);
                    check_form(source, &text);
                    assert!(differs(&text, source), "{relation:?} of {source:?}");
                }
            }
        }
    }

    #[test]
    fn intermediates_are_shorter_and_negatives_share_less() {
        let rules = rules();
        let words = |t: &str| t.split(' ').map(str::to_lowercase).collect::<BTreeSet<_>>();
        for source in CORPUS {
            let shared = |relation| -> usize {
                (0..12)
                    .map(|attempt| {
                        words(&rules.write(relation, source, attempt))
                            .intersection(&words(source))
                            .count()
                    })
                    .sum()
            };
            for attempt in 0..12 {
                let middle = rules.write(Relation::Intermediate, source, attempt);
                assert!(
                    middle.split(' ').count() < source.split(' ').count(),
                    "{middle}"
                );
            }
            assert!(
                shared(Relation::Positive) > shared(Relation::Negative),
                "{source}"
            );
        }
    }

    #[test]
    fn works_without_a_corpus() {
        let rules = RuleBased::new(1, Vec::new());
        for source in CORPUS {
            for relation in Relation::ALL {
                let text = rules.write(relation, source, 0);
                check_form(source, &text);
                assert!(differs(&text, source));
            }
        }
    }

    #[test]
    fn strange_texts_are_answered() {
        let long = "The tall man, who sold (and bought) cars, left. ".repeat(1000);
        let brackets = "(".repeat(500) + &")".repeat(700);
        let strange = [
            "",
            " ",
            "\n\t",
            ".",
            "...",
            "?!",
            "\u{1F600}",
            "\u{1F600} \u{1F601}!",
            "12 34",
            "()",
            "\" \"",
            "a",
            "A.",
            "'s",
            "n't",
            "not",
            "no.",
            ", , ,",
            "(;",
            "\u{0}x\u{0}",
            "\u{202e}abc",
            "and and and and",
            "is is is is",
            "who who who who.",
            "Was.",
            "The",
            "to to to to",
            "I'm.",
            "\u{130}stanbul is big.",
            "Stra\u{df}e ist lang und breit.",
            "\u{4f60}\u{597d}\u{ff0c}\u{4e16}\u{754c}\u{3002}",
            &long,
            &brackets,
        ];
        let rules = rules();
        for source in strange {
            for relation in Relation::ALL {
                let text = rules.write(relation, source, 0);
                assert!(!text.is_empty());
                check_form(source, &text);
            }
        }
        // strange texts in the corpus, too
        let rules = RuleBased::new(1, strange.iter().map(ToString::to_string).collect());
        for attempt in 0..20 {
            check_form(
                CORPUS[0],
                &rules.write(Relation::Negative, CORPUS[0], attempt),
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_text_is_answered(source in "\\PC{0,60}", attempt in 0_u32..3) {
            for relation in Relation::ALL {
                check_form(&source, &rules().write(relation, &source, attempt));
            }
        }

        #[test]
        fn any_words_are_answered(
            words in proptest::collection::vec(
                prop::sample::select(vec![
                    "The", "a", "man", "dog", "who", "was", "is", "built", "by", "and", ",", "in", "1905", "(", ")", "not",
                    "when", "to", "run", "playing", "quickly", "old", "'s", "\"", "of", "London", "three", "he", "there", "no",
                    "-", "because", "had", "has", "seen", "than",
                ]),
                4..24,
            ),
            stop in prop::bool::ANY,
        ) {
            let source = format!("{}{}", words.join(" "), if stop { "." } else { "" });
            for relation in Relation::ALL {
                let text = rules().write(relation, &source, 0);
                check_form(&source, &text);
                if words.iter().filter(|w| w.chars().any(char::is_alphanumeric)).count() >= 4 {
                    prop_assert!(differs(&text, &source), "{:?} of {:?}", relation, source);
                }
            }
        }
    }
}
