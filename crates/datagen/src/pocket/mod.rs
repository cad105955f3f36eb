//! The Pocket set: short customer messages in 8 coarse and 40 fine categories.
//!
//! Every sentence is made from our own templates. Three properties are wanted at once, and tests
//! of the `datasets` crate measure them:
//!
//! * **hard to cluster by words**: the fine categories of one coarse category share their nouns
//!   (the same book is renewed, reserved and disputed), all categories share greetings, request
//!   forms, dates, reasons and people, and each fine category is phrased in many ways;
//! * **learnable**: the words that do tell fine categories apart recur together in the training
//!   part, so a classifier that sees fine labels does well and neighbours can be found without;
//! * **balanced**: [`TRAIN_PER_FINE`] training and [`TEST_PER_FINE`] test sentences a fine
//!   category, no sentence twice, none in both parts.
//!
//! [`generate`] is a pure function of the seed: each fine category draws from its own ChaCha8
//! stream, so editing one category leaves the sentences of the others as they are (their order in
//! the file too).

use std::collections::BTreeSet;

use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use crate::template::{Grammar, Template, TemplateError};
use crate::vocabulary::{VocabularyConfig, word_piece_vocabulary};

mod course;
mod energy;
mod garden;
mod gym;
mod library;
mod parcel;
mod rail;
mod vet;

/// Seed of the bundled files.
pub const SEED: u64 = 20;
/// Training sentences of each fine category.
pub const TRAIN_PER_FINE: usize = 60;
/// Test sentences of each fine category.
pub const TEST_PER_FINE: usize = 15;
/// Draws allowed for one new sentence before a category counts as exhausted.
const MAX_DRAWS: usize = 10_000;

/// A coarse category: the nouns its fine categories share, and the fine categories.
pub(crate) struct Domain {
    pub(crate) name: &'static str,
    pub(crate) slots: &'static [(&'static str, &'static [&'static str])],
    pub(crate) fine: &'static [Fine],
}

/// A fine category: the subjects its messages may announce, and its sentence templates.
pub(crate) struct Fine {
    pub(crate) name: &'static str,
    pub(crate) cues: &'static [&'static str],
    pub(crate) templates: &'static [&'static str],
}

/// Coarse categories in file order.
const DOMAINS: [Domain; 8] = [
    course::DOMAIN,
    energy::DOMAIN,
    garden::DOMAIN,
    gym::DOMAIN,
    library::DOMAIN,
    parcel::DOMAIN,
    rail::DOMAIN,
    vet::DOMAIN,
];

/// Slots that every category may use.
const COMMON: &[(&str, &[&str])] = &[
    (
        "want",
        &[
            "i want to",
            "i need to",
            "i would like to",
            "can i",
            "could i",
            "how do i",
            "how can i",
            "help me",
            "i am trying to",
            "i was hoping to",
            "is it possible to",
            "what is the way to",
            "we would like to",
            "where can i",
            "may i",
            "i have to",
        ],
    ),
    (
        "need",
        &[
            "i want",
            "i need",
            "i would like",
            "can i have",
            "may i have",
            "could we get",
            "i am asking for",
        ],
    ),
    (
        "ask",
        &[
            "please",
            "can you",
            "could you",
            "would you",
            "could someone",
            "i want you to",
            "i need you to",
            "are you able to",
            "will you",
        ],
    ),
    (
        "know",
        &[
            "do you know",
            "can you tell me",
            "tell me",
            "i wonder",
            "i want to know",
            "could you check",
        ],
    ),
    (
        "day",
        &[
            "monday",
            "tuesday",
            "wednesday",
            "thursday",
            "friday",
            "saturday",
            "sunday",
            "tomorrow",
            "next week",
            "the weekend",
            "the {ordinal}",
            "last [monday|friday|week]",
        ],
    ),
    (
        "ordinal",
        &["first", "third", "fifth", "tenth", "twentieth"],
    ),
    (
        "time",
        &[
            "nine",
            "noon",
            "half past six",
            "ten in the morning",
            "five o'clock",
            "eight in the evening",
            "midday",
            "quarter to four",
        ],
    ),
    (
        "period",
        &[
            "[two|three|ten] days",
            "a week",
            "two weeks",
            "a month",
            "[six|three] months",
            "a few days",
            "half a year",
        ],
    ),
    (
        "person",
        &[
            "my [sister|brother]",
            "my mother",
            "my father",
            "my neighbour",
            "my flatmate",
            "my [son|daughter]",
            "my wife",
            "my husband",
            "a friend",
            "my grandmother",
            "my colleague",
        ],
    ),
    (
        "amount",
        &[
            "[five|twelve|thirty] euros",
            "forty pounds",
            "[eighty|ninety] dollars",
            "two hundred",
            "sixty euros",
        ],
    ),
    (
        "number",
        &[
            "[four|seven|nine] [two|eight|one]",
            "three one five",
            "zero six two",
            "eleven",
            "forty seven",
            "eight eight",
        ],
    ),
    (
        "topic",
        &[
            "gardening",
            "local history",
            "space travel",
            "cooking",
            "old trains",
            "dogs",
            "photography",
            "knitting",
            "money",
            "health",
        ],
    ),
    (
        "greet",
        &[
            "hello",
            "hi",
            "hi there",
            "good morning",
            "good evening",
            "hey",
            "quick question",
            "sorry to bother you",
            "excuse me",
            "one more thing",
            "me again",
            "dear team",
        ],
    ),
    (
        "close",
        &[
            "please",
            "thanks",
            "thank you",
            "many thanks",
            "as soon as possible",
            "if possible",
            "this is urgent",
            "no rush",
            "call me back",
            "i am a bit confused",
            "it is for {person}",
            "what do you think",
            "before {day}",
            "{person} told me to ask",
            "any help is welcome",
            "i could not find it online",
            "your website was no help",
            "since {day}",
        ],
    ),
    (
        "reason",
        &[
            "i am travelling from {day}",
            "i was ill last week",
            "{person} is visiting",
            "work has been busy",
            "my phone is broken",
            "i live alone",
            "i start a new job on {day}",
            "we have a baby now",
            "i only have time at {time}",
            "i asked already on {day}",
            "i pay {amount} every month",
            "i have been a customer for {period}",
            "it is my first time here",
            "{person} said it was free",
            "nobody answers the phone",
            "i will be away for {period}",
        ],
    ),
];

/// Share of sentences that announce their subject. Subjects make different templates of one fine
/// category share words, as people repeat the name of what they want.
const CUE: f64 = 0.75;
/// Shares of sentences with a greeting, a reason and a closing phrase: noise.
const GREET: f64 = 0.15;
const REASON: f64 = 0.1;
const CLOSE: f64 = 0.2;

/// What can go wrong while generating.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PocketError {
    /// A template or slot of a category is wrong.
    #[error("category `{coarse}`: {source}")]
    Template {
        /// The coarse category.
        coarse: String,
        /// What is wrong.
        source: TemplateError,
    },
    /// The templates of a category do not give enough different sentences.
    #[error("category `{fine}`: {found} different sentences, {expected} needed")]
    Exhausted {
        /// The fine category.
        fine: String,
        /// Sentences found.
        found: usize,
        /// Sentences needed.
        expected: usize,
    },
}

/// One labelled sentence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The sentence.
    pub text: String,
    /// Coarse category.
    pub coarse: &'static str,
    /// Fine category.
    pub fine: &'static str,
}

/// The two parts of the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PocketSet {
    /// 40 x [`TRAIN_PER_FINE`] rows.
    pub train: Vec<Row>,
    /// 40 x [`TEST_PER_FINE`] rows.
    pub test: Vec<Row>,
}

impl PocketSet {
    /// The training part as `text<TAB>coarse<TAB>fine` with a header, LF line ends, no quoting.
    pub fn train_tsv(&self) -> String {
        tsv(&self.train)
    }

    /// The test part in the same form.
    pub fn test_tsv(&self) -> String {
        tsv(&self.test)
    }

    /// WordPiece vocabulary of the training texts, one entry a line
    /// (see [`crate::vocabulary`]).
    pub fn vocab_txt(&self) -> String {
        let texts = self.train.iter().map(|row| row.text.as_str());
        let mut out = word_piece_vocabulary(texts, VocabularyConfig::default()).join("\n");
        out.push('\n');
        out
    }
}

fn tsv(rows: &[Row]) -> String {
    let mut out = String::from("text\tcoarse\tfine\n");
    for row in rows {
        // Templates hold no tab and no line break: `tidy` turned every white space into a space.
        out.push_str(&format!("{}\t{}\t{}\n", row.text, row.coarse, row.fine));
    }
    out
}

/// The taxonomy: each coarse category with its fine categories.
pub fn taxonomy() -> Vec<(&'static str, Vec<&'static str>)> {
    DOMAINS
        .iter()
        .map(|d| (d.name, d.fine.iter().map(|f| f.name).collect()))
        .collect()
}

/// Letters and digits only, lower case: two sentences with the same key count as the same.
fn key(text: &str) -> String {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
        .to_lowercase()
}

/// Puts greeting, reason and closing phrase around a sentence.
fn framed(
    core: &str,
    frame: &Frame,
    grammar: &Grammar,
    rng: &mut impl Rng,
) -> Result<String, TemplateError> {
    let mut text = String::new();
    if rng.random_bool(GREET) {
        text.push_str(&grammar.expand(&frame.greet, rng)?);
        text.push_str(", ");
    }
    let cue = if rng.random_bool(CUE) {
        Some(grammar.expand(&frame.cue, rng)?)
    } else {
        None
    };
    let cue_first = rng.random_bool(0.5);
    if let (Some(cue), true) = (&cue, cue_first) {
        text.push_str(&format!("{cue}, "));
    }
    let reason = if rng.random_bool(REASON) {
        Some(grammar.expand(&frame.reason, rng)?)
    } else {
        None
    };
    let reason_first = rng.random_bool(0.4);
    match reason {
        Some(reason) if reason_first => text.push_str(&format!("{reason}, {core}")),
        Some(reason) => text.push_str(&format!("{core}, {reason}")),
        None => text.push_str(core),
    }
    if let (Some(cue), false) = (&cue, cue_first) {
        text.push_str(&format!(", {cue}"));
    }
    if rng.random_bool(CLOSE) {
        text.push_str(", ");
        text.push_str(&grammar.expand(&frame.close, rng)?);
    }
    Ok(text)
}

struct Frame {
    greet: Template,
    reason: Template,
    cue: Template,
    close: Template,
}

/// Generates the set.
///
/// # Errors
/// [`PocketError`] when a template is malformed or a category cannot give enough different
/// sentences; neither happens for the built-in templates, which the tests check.
///
/// ```
/// let set = datagen::pocket::generate(1)?;
/// assert_eq!((set.train.len(), set.test.len()), (2400, 600));
/// # Ok::<(), datagen::PocketError>(())
/// ```
pub fn generate(seed: u64) -> Result<PocketSet, PocketError> {
    let mut seen = BTreeSet::new();
    let mut set = PocketSet {
        train: Vec::new(),
        test: Vec::new(),
    };
    let mut stream = 0_u64;
    for domain in &DOMAINS {
        let wrap = |source| PocketError::Template {
            coarse: domain.name.to_owned(),
            source,
        };
        for fine in domain.fine {
            let slots = [COMMON, domain.slots, &[("cue", fine.cues)]].concat();
            let grammar = Grammar::new(&slots).map_err(wrap)?;
            let frame = Frame {
                greet: Template::parse("{greet}").map_err(wrap)?,
                reason: Template::parse("[|because|since|you see] {reason}").map_err(wrap)?,
                cue: Template::parse("[about|regarding|a question on|this is about] {cue}")
                    .map_err(wrap)?,
                close: Template::parse("{close}").map_err(wrap)?,
            };
            stream += 1;
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(stream);
            let templates = fine
                .templates
                .iter()
                .map(|source| Template::parse(source))
                .collect::<Result<Vec<_>, _>>()
                .map_err(wrap)?;
            let wanted = TRAIN_PER_FINE + TEST_PER_FINE;
            let mut rows: Vec<Row> = Vec::with_capacity(wanted);
            // Templates take turns, so each one supports about the same number of sentences.
            for template in templates.iter().cycle().take(wanted) {
                let mut text = None;
                for _ in 0..MAX_DRAWS {
                    let core = grammar.expand(template, &mut rng).map_err(wrap)?;
                    let candidate = framed(&core, &frame, &grammar, &mut rng).map_err(wrap)?;
                    if seen.insert(key(&candidate)) {
                        text = Some(candidate);
                        break;
                    }
                }
                let Some(text) = text else { break };
                rows.push(Row {
                    text,
                    coarse: domain.name,
                    fine: fine.name,
                });
            }
            if rows.len() < wanted {
                return Err(PocketError::Exhausted {
                    fine: fine.name.to_owned(),
                    found: rows.len(),
                    expected: wanted,
                });
            }
            rows.shuffle(&mut rng);
            set.test.extend(rows.split_off(TRAIN_PER_FINE));
            set.train.extend(rows);
        }
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    set.train.shuffle(&mut rng);
    set.test.shuffle(&mut rng);
    Ok(set)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn eight_coarse_and_forty_fine_names_without_repeats() {
        let taxonomy = taxonomy();
        assert_eq!(taxonomy.len(), 8);
        assert!(taxonomy.iter().all(|(_, fine)| fine.len() == 5));
        let names: BTreeSet<&str> = taxonomy.iter().flat_map(|(_, fine)| fine.clone()).collect();
        assert_eq!(names.len(), 40);
    }

    #[test]
    fn every_fine_category_has_at_least_fifteen_distinct_templates() {
        for fine in DOMAINS.iter().flat_map(|d| d.fine) {
            let distinct: BTreeSet<_> = fine.templates.iter().collect();
            assert_eq!(distinct.len(), fine.templates.len(), "{}", fine.name);
            assert!(distinct.len() >= 15, "{}: {}", fine.name, distinct.len());
        }
    }

    #[test]
    fn parts_are_balanced_and_disjoint() {
        let set = generate(SEED).unwrap();
        for (part, each) in [(&set.train, TRAIN_PER_FINE), (&set.test, TEST_PER_FINE)] {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            part.iter()
                .for_each(|row| *counts.entry(row.fine).or_default() += 1);
            assert_eq!(counts.len(), 40);
            assert!(counts.values().all(|count| *count == each), "{counts:?}");
        }
        let keys: BTreeSet<String> = set
            .train
            .iter()
            .chain(&set.test)
            .map(|row| key(&row.text))
            .collect();
        assert_eq!(keys.len(), 3000);
    }

    #[test]
    fn each_fine_name_belongs_to_one_coarse_name() {
        let set = generate(SEED).unwrap();
        let pairs: BTreeSet<_> = set.train.iter().map(|row| (row.fine, row.coarse)).collect();
        assert_eq!(pairs.len(), 40);
    }

    #[test]
    fn texts_are_plain_lower_case_sentences() {
        let set = generate(SEED).unwrap();
        for row in set.train.iter().chain(&set.test) {
            let plain = |c: char| c.is_ascii_lowercase() || " ,'".contains(c);
            assert!(row.text.chars().all(plain), "{}", row.text);
            assert!(
                !row.text.contains("  ") && row.text.trim() == row.text,
                "{}",
                row.text
            );
            let words = row.text.split(' ').count();
            assert!((2..=45).contains(&words), "{words} words: {}", row.text);
        }
    }

    #[test]
    fn same_seed_same_bytes_other_seed_other_bytes() {
        let a = generate(5).unwrap();
        assert_eq!(a.train_tsv(), generate(5).unwrap().train_tsv());
        assert_eq!(a.vocab_txt(), generate(5).unwrap().vocab_txt());
        assert_ne!(a.train_tsv(), generate(6).unwrap().train_tsv());
    }

    #[test]
    fn vocabulary_has_the_agreed_size_and_covers_the_test_part() {
        let set = generate(SEED).unwrap();
        let text = set.vocab_txt();
        let entries: BTreeSet<&str> = text.lines().collect();
        assert_eq!(entries.len(), text.lines().count());
        assert!((800..=1500).contains(&entries.len()), "{}", entries.len());
        for c in set
            .test
            .iter()
            .flat_map(|row| row.text.chars())
            .filter(|c| *c != ' ')
        {
            assert!(entries.contains(c.to_string().as_str()));
            assert!(entries.contains(format!("##{c}").as_str()));
        }
    }
}
