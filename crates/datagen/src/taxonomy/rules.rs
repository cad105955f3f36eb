//! Texts of a taxonomy without a model: its own words in a few dozen frames.
//!
//! The description of a fine category is read as an action ("order a cake"), a question ("when the
//! shop opens"), a statement ("the parcel is damaged") or a topic ("a refund"); keywords are topics, or actions where they begin
//! with a verb; examples stay whole, with other keywords put in the place of their own. Frames, openers,
//! closing words and reasons are English and shared by all categories.
//!
//! What this is good for: trying a pipeline, tests, a corpus in a second. What it is not: evidence
//! for or against a method. The texts of a category keep coming back to the words that the taxonomy
//! has for it, so word counts alone tell categories apart, and the grammar of odd descriptions
//! shows. More keywords and examples help more than more texts.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{FineCategory, Taxonomy};
use crate::chat::{Answer, AnswerSource, Call, ChatError, Usage};
use crate::plain::text_key;
use crate::template::{Grammar, Template, TemplateError};

/// Draws for one new text before an answer is left shorter.
const MAX_DRAWS: usize = 200;
/// Longest content phrase in words; longer descriptions are cut at a comma, or here.
const MAX_WORDS: usize = 14;

/// Slots of every category. None has a word that tells categories apart.
const COMMON: &[(&str, &[&str])] = &[
    (
        "want",
        &[
            "i want to",
            "i need to",
            "i would like to",
            "can i",
            "how do i",
            "how can i",
            "where can i",
            "is it possible to",
            "i am trying to",
            "help me",
            "we would like to",
            "what do i need to",
        ],
    ),
    (
        "know",
        &[
            "do you know",
            "can you tell me",
            "i wonder",
            "i want to know",
            "could someone tell me",
            "i could not find out",
        ],
    ),
    (
        "day",
        &[
            "today",
            "tomorrow",
            "on monday",
            "on friday",
            "this weekend",
            "next week",
            "in the morning",
            "by the end of the month",
            "as soon as possible",
        ],
    ),
    (
        "person",
        &[
            "my [sister|brother]",
            "my mother",
            "my neighbour",
            "a friend",
            "my [wife|husband]",
            "a colleague",
        ],
    ),
    (
        "greet",
        &[
            "hello",
            "hi",
            "good morning",
            "hey there",
            "excuse me",
            "quick question",
            "sorry to bother you",
            "me again",
        ],
    ),
    (
        "close",
        &[
            "please",
            "thanks",
            "thank you very much",
            "this is urgent",
            "no rush",
            "any help is welcome",
            "it is for {person}",
            "it is my first time",
            "{person} told me to ask",
            "i asked before",
        ],
    ),
    (
        "reason",
        &[
            "i am away next week",
            "{person} is waiting for it",
            "i only have time {day}",
            "nobody has answered yet",
            "i could not find it online",
            "it did not work last time",
            "i am new here",
        ],
    ),
];

const ACTION_FRAMES: &[&str] = &[
    "{want} {action}",
    "{want} {action} {day}",
    "i tried to {action} but it did not work",
    "{person} wants to {action}",
    "who can help me to {action}",
    "what does it cost to {action}",
    "do i have to come by to {action}",
    "can {person} {action} for me",
    "{action}, how does that work",
    "i have to {action} {day}",
    "is it too late to {action}",
    "please let me {action}",
    "how long does it take to {action}",
    "what happens if i {action}",
    "could you help {person} to {action}",
];

const TOPIC_FRAMES: &[&str] = &[
    "i have a question about {topic}",
    "{know} more about {topic}",
    "it is about {topic}",
    "i am writing because of {topic}",
    "who do i talk to about {topic}",
    "what can you tell me about {topic}",
    "is there anything new on {topic}",
    "i need help with {topic}",
    "{topic}, who takes care of that",
    "{person} asked me about {topic}",
    "i am not happy about {topic}",
    "this is the second time i ask about {topic}",
    "could you call me about {topic} {day}",
    "i do not understand how it works with {topic}",
];

const QUESTION_FRAMES: &[&str] = &[
    "{know} {question}",
    "{person} asked me {question}",
    "nobody could tell me {question}",
    "is it written anywhere {question}",
    "please tell me {question}",
];

const STATEMENT_FRAMES: &[&str] = &[
    "{statement}",
    "{statement} and i do not know why",
    "{statement}, what can i do",
    "i am afraid {statement}",
    "it happened again, {statement}",
    "{person} says {statement}",
    "please help, {statement}",
    "i noticed that {statement}",
];

/// Words before an action in the third person: "the customer *wants to* order a cake".
const BEFORE_ACTION: &[&str] = &[
    "wants to know how to",
    "asks how to",
    "wants to",
    "want to",
    "would like to",
    "needs to",
    "need to",
    "tries to",
    "wishes to",
    "asks to",
    "how to",
];
/// Words before an indirect question.
const BEFORE_QUESTION: &[&str] = &["wants to know", "wonders", "asks"];
/// Words that open an indirect question.
const QUESTION_WORDS: &[&str] = &[
    "when", "where", "why", "how", "what", "which", "who", "whether", "if",
];
/// Words before a statement.
const BEFORE_STATEMENT: &[&str] = &["complains that", "reports that", "says that", "writes that"];
/// Words before a topic.
const BEFORE_TOPIC: &[&str] = &[
    "has a question about",
    "has questions about",
    "has a problem with",
    "complains about",
    "asks about",
    "asks for",
    "is about",
    "are about",
    "talks about",
    "reports",
    "mentions",
    "describes",
    "wants",
    "needs",
    "requests",
    "questions about",
    "questions on",
    "problems with",
    "messages about",
    "texts about",
    "requests for",
];
/// First words of an action.
const VERBS: &[&str] = &[
    "accept",
    "activate",
    "add",
    "apply",
    "arrange",
    "ask",
    "bake",
    "block",
    "book",
    "borrow",
    "bring",
    "buy",
    "call",
    "cancel",
    "change",
    "check",
    "choose",
    "claim",
    "clean",
    "close",
    "collect",
    "compare",
    "confirm",
    "contact",
    "convert",
    "copy",
    "correct",
    "create",
    "deactivate",
    "delete",
    "deliver",
    "dispute",
    "download",
    "drop",
    "end",
    "exchange",
    "extend",
    "file",
    "find",
    "fix",
    "freeze",
    "get",
    "give",
    "hire",
    "install",
    "join",
    "leave",
    "lend",
    "lock",
    "log",
    "make",
    "move",
    "open",
    "order",
    "pause",
    "pay",
    "pick",
    "play",
    "postpone",
    "print",
    "publish",
    "rebook",
    "receive",
    "register",
    "remove",
    "renew",
    "rent",
    "repair",
    "replace",
    "report",
    "request",
    "reschedule",
    "reserve",
    "reset",
    "restart",
    "return",
    "review",
    "save",
    "schedule",
    "see",
    "sell",
    "send",
    "share",
    "sign",
    "start",
    "stop",
    "submit",
    "switch",
    "take",
    "tell",
    "track",
    "transfer",
    "translate",
    "turn",
    "unblock",
    "unlock",
    "update",
    "upgrade",
    "upload",
    "use",
    "verify",
    "visit",
    "withdraw",
    "write",
];

/// Why a taxonomy cannot be written by rules.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TaxonomyRulesError {
    /// The frames are English.
    #[error("the rules write English only, the taxonomy asks for `{language}`")]
    Language {
        /// What the taxonomy says.
        language: String,
    },
    /// The frames and the words of a category make no grammar.
    #[error("category `{fine}`: {source}")]
    Template {
        /// The fine category.
        fine: String,
        /// What is wrong.
        source: TemplateError,
    },
}

/// What a phrase of the taxonomy is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phrase {
    Action(String),
    Question(String),
    Statement(String),
    Topic(String),
}

/// `words` after `phrase`, if that begins within the first five of them and something follows.
fn after<'a>(words: &'a [&'a str], phrase: &str) -> Option<&'a [&'a str]> {
    let phrase: Vec<&str> = phrase.split(' ').collect();
    let same = |window: &[&str]| {
        let pairs = window.iter().zip(&phrase);
        pairs.into_iter().all(|(a, b)| a.to_lowercase() == **b)
    };
    let at = words.windows(phrase.len()).take(5).position(same)?;
    words
        .get(at + phrase.len()..)
        .filter(|rest| !rest.is_empty())
}

/// One sentence of a description.
fn phrase(sentence: &str) -> Option<Phrase> {
    let all: Vec<&str> = sentence.split_whitespace().collect();
    let first = all.first()?.to_lowercase();
    let find = |before: &[&str]| before.iter().find_map(|phrase| after(&all, phrase));
    let asks = |rest: &&[&str]| {
        let word = rest.first().map(|word| word.to_lowercase());
        word.is_some_and(|word| QUESTION_WORDS.contains(&word.as_str()))
    };
    if let Some(rest) = find(BEFORE_ACTION) {
        return Some(Phrase::Action(spoken(rest)));
    }
    let questions = BEFORE_QUESTION
        .iter()
        .filter_map(|before| after(&all, before));
    if let Some(rest) = questions.into_iter().find(asks) {
        return Some(Phrase::Question(spoken(rest)));
    }
    if let Some(rest) = find(BEFORE_STATEMENT) {
        return Some(Phrase::Statement(spoken(rest)));
    }
    if let Some(rest) = find(BEFORE_TOPIC) {
        return Some(Phrase::Topic(spoken(rest)));
    }
    if asks(&all.as_slice()) {
        return Some(Phrase::Question(spoken(&all)));
    }
    // "Order a cake" or, in the third person, "Orders a cake".
    let bases = [
        Some(first.as_str()),
        first.strip_suffix("es"),
        first.strip_suffix('s'),
    ];
    let verb = bases
        .into_iter()
        .flatten()
        .find(|base| VERBS.contains(base));
    match (verb, all.split_first()) {
        (Some(verb), Some((_, rest))) if !rest.is_empty() => {
            Some(Phrase::Action(format!("{verb} {}", spoken(rest))))
        }
        _ => Some(Phrase::Topic(spoken(&all))),
    }
}

/// A phrase as its sender would say it: first person, not too long, without marks at its ends.
fn spoken(words: &[&str]) -> String {
    let end = match words.len() {
        0..=MAX_WORDS => words.len(),
        _ => {
            let comma = |word: &&str| word.ends_with(',');
            let head = words.iter().take(MAX_WORDS);
            // A cut before the third word leaves nothing to speak about.
            let cut = head.skip(2).position(comma);
            cut.map_or(MAX_WORDS, |at| at + 3)
        }
    };
    let mut out: Vec<String> = Vec::new();
    for word in words.iter().take(end) {
        let bare = word.trim_end_matches([',', ':']);
        let mark = word.get(bare.len()..).unwrap_or_default();
        let person = match bare.to_lowercase().as_str() {
            "their" | "his" => "my",
            "they" | "he" | "she" => "i",
            "them" | "him" => "me",
            "themselves" | "himself" | "herself" => "myself",
            _ => bare,
        };
        let after_i = out.last().is_some_and(|last| last == "i");
        let verb = match person {
            "are" | "is" if after_i => "am",
            "has" if after_i => "have",
            "does" if after_i => "do",
            "doesn't" if after_i => "don't",
            "were" if after_i => "was",
            other => other,
        };
        out.push(format!("{verb}{mark}"));
    }
    let text = out.join(" ");
    let text = text.trim_matches([',', ':', ' ', '-']);
    lower_first(text)
}

/// The first letter in lower case, unless the word has further capitals or is the only letter.
fn lower_first(text: &str) -> String {
    let word = text.split(' ').next().unwrap_or_default();
    let mut chars = text.chars();
    match chars.next() {
        Some(first)
            if word.chars().skip(1).any(char::is_lowercase)
                && !word.chars().skip(1).any(char::is_uppercase) =>
        {
            first.to_lowercase().chain(chars).collect()
        }
        Some('A') if word == "A" => format!("a{}", chars.as_str()),
        _ => text.to_owned(),
    }
}

/// A text that the grammar takes as it is.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\{}[]()|".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A phrase of the keywords: an action if it begins with a verb.
fn keyword_phrase(keyword: &str) -> Phrase {
    let first = keyword
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let several = keyword.contains(char::is_whitespace);
    if several && VERBS.contains(&first.as_str()) {
        Phrase::Action(keyword.to_owned())
    } else {
        Phrase::Topic(keyword.to_owned())
    }
}

/// The slot of keywords with as many words as this one: only those are put in its place.
fn keyword_slot(keyword: &str) -> String {
    format!("keyword_{}", keyword.split_whitespace().count())
}

/// An example without its closing mark; the first keyword in it becomes a slot.
fn example_template(example: &str, keywords: &[String]) -> String {
    let core = example.trim_end_matches(['.', '!', '?', ' ']);
    let lower = core.to_lowercase();
    // Offsets of the lower-cased text are those of the text only where lower-casing keeps lengths.
    let place = keywords.iter().find_map(|keyword| {
        let slot = keyword_slot(keyword);
        let keyword = keyword.to_lowercase();
        let at = lower.find(&keyword).filter(|_| lower.len() == core.len())?;
        let end = at + keyword.len();
        let (before, behind) = (core.get(..at)?, core.get(end..)?);
        let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
        (edge(before.chars().next_back()) && edge(behind.chars().next()))
            .then(|| format!("{}{{{slot}}}{}", escaped(before), escaped(behind)))
    });
    place.unwrap_or_else(|| escaped(core))
}

/// The sentences of a category.
#[derive(Debug)]
struct Frames {
    grammar: Grammar,
    /// Kinds of sentence, drawn with equal chance, each with its templates.
    cores: Vec<Vec<Template>>,
    greet: Template,
    close: Template,
    reason: Template,
    /// A topic, to be named beside a sentence about something else, and the words before it.
    topic: Option<Template>,
    about: Template,
}

/// Shares of sentences with a greeting, a topic beside the sentence, a reason, a closing phrase.
const GREET: f64 = 0.15;
const CUE: f64 = 0.4;
const REASON: f64 = 0.15;
const CLOSE: f64 = 0.25;

impl Frames {
    fn new(fine: &FineCategory) -> Result<Self, TemplateError> {
        let mut phrases: Vec<Phrase> = fine
            .description
            .split(['.', ';', '!', '?'])
            .filter_map(phrase)
            .collect();
        phrases.extend(fine.keywords.iter().map(|keyword| keyword_phrase(keyword)));
        if phrases.is_empty() {
            phrases.push(Phrase::Topic(fine.name.replace('_', " ")));
        }
        let (mut actions, mut questions, mut statements, mut topics) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for phrase in &phrases {
            match phrase {
                Phrase::Action(text) => actions.push(escaped(text)),
                Phrase::Question(text) => questions.push(escaped(text)),
                Phrase::Statement(text) => statements.push(escaped(text)),
                Phrase::Topic(text) => topics.push(escaped(text)),
            }
        }
        let keywords: Vec<String> = fine
            .keywords
            .iter()
            .filter(|keyword| matches!(keyword_phrase(keyword), Phrase::Topic(_)))
            .cloned()
            .collect();
        let mut fillers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for keyword in &keywords {
            let slot = fillers.entry(keyword_slot(keyword)).or_default();
            slot.push(escaped(keyword));
        }
        let examples: Vec<String> = fine
            .examples
            .iter()
            .map(|example| example_template(example, &keywords))
            .collect();

        let own = [
            ("action", &actions),
            ("question", &questions),
            ("statement", &statements),
            ("topic", &topics),
        ];
        let fillers = fillers
            .iter()
            .map(|(slot, fillers)| (slot.as_str(), fillers));
        let own: Vec<(&str, Vec<&str>)> = own
            .into_iter()
            .chain(fillers)
            .filter(|(_, fillers)| !fillers.is_empty())
            .map(|(name, fillers)| (name, fillers.iter().map(String::as_str).collect()))
            .collect();
        let mut slots = COMMON.to_vec();
        slots.extend(
            own.iter()
                .map(|(name, fillers)| (*name, fillers.as_slice())),
        );
        let grammar = Grammar::new(&slots)?;

        let parsed = |sources: &[&str]| -> Result<Vec<Template>, TemplateError> {
            sources
                .iter()
                .map(|source| {
                    let template = Template::parse(source)?;
                    grammar.check(&template)?;
                    Ok(template)
                })
                .collect()
        };
        let examples: Vec<&str> = examples.iter().map(String::as_str).collect();
        let kinds = [
            (!actions.is_empty(), ACTION_FRAMES),
            (!questions.is_empty(), QUESTION_FRAMES),
            (!statements.is_empty(), STATEMENT_FRAMES),
            (!topics.is_empty(), TOPIC_FRAMES),
            (!examples.is_empty(), &examples),
        ];
        let cores = kinds
            .into_iter()
            .filter(|(present, _)| *present)
            .map(|(_, sources)| parsed(sources))
            .collect::<Result<_, _>>()?;
        let one = |source: &str| -> Result<Template, TemplateError> {
            let template = Template::parse(source)?;
            grammar.check(&template)?;
            Ok(template)
        };
        let topic = match topics.is_empty() {
            true => None,
            false => Some(one("{topic}")?),
        };
        Ok(Self {
            greet: one("{greet}")?,
            close: one("{close}")?,
            reason: one("[|because|since] {reason}")?,
            topic,
            about: one("[about|regarding|concerning|it is about]")?,
            cores,
            grammar,
        })
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> Result<String, TemplateError> {
        let kind = rng.random_range(0..self.cores.len().max(1));
        let templates = self.cores.get(kind).map_or(&[][..], Vec::as_slice);
        let core = rng.random_range(0..templates.len().max(1));
        let core = match templates.get(core) {
            Some(template) => self.grammar.expand(template, rng)?,
            None => String::new(),
        };
        let mut parts = Vec::new();
        if rng.random_bool(GREET) {
            parts.push(self.grammar.expand(&self.greet, rng)?);
        }
        let mut cue = None;
        if let Some(topic) = &self.topic
            && rng.random_bool(CUE)
        {
            let topic = self.grammar.expand(topic, rng)?;
            if !core.contains(&topic) {
                cue = Some(format!(
                    "{} {topic}",
                    self.grammar.expand(&self.about, rng)?
                ));
            }
        }
        let cue_first = rng.random_bool(0.5);
        if cue_first {
            parts.extend(cue.take());
        }
        parts.push(core);
        parts.extend(cue);
        if rng.random_bool(REASON) {
            parts.push(self.grammar.expand(&self.reason, rng)?);
        }
        if rng.random_bool(CLOSE) {
            parts.push(self.grammar.expand(&self.close, rng)?);
        }
        Ok(parts.join(", "))
    }
}

/// An [`AnswerSource`] that writes texts for the calls of [`super::write_corpus`].
///
/// ```
/// use datagen::{Taxonomy, TaxonomyRules};
/// let taxonomy = Taxonomy::parse(
///     "[[coarse]]\nname = 'shop'\n[[coarse.fine]]\nname = 'hours'\ndescription = 'asks when the shop opens'\n",
///     "shop.toml",
/// )?;
/// let rules = TaxonomyRules::new(&taxonomy, 1, 20)?;
/// let texts = rules.texts("hours", "any name");
/// assert_eq!(texts.len(), 20);
/// assert!(texts.iter().all(|text| text.contains("when the shop opens")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TaxonomyRules {
    name: String,
    seed: u64,
    per_answer: usize,
    fine: BTreeMap<String, Frames>,
}

impl TaxonomyRules {
    /// Reads the phrases of a taxonomy. Every answer has `per_answer` texts, or fewer where the frames
    /// have hardly anything new left.
    ///
    /// # Errors
    ///
    /// [`TaxonomyRulesError::Language`] for another language than English.
    pub fn new(
        taxonomy: &Taxonomy,
        seed: u64,
        per_answer: usize,
    ) -> Result<Self, TaxonomyRulesError> {
        let english = ["english", "en", "british english", "american english"];
        if !english.contains(&taxonomy.language.to_lowercase().as_str()) {
            return Err(TaxonomyRulesError::Language {
                language: taxonomy.language.clone(),
            });
        }
        let fine = taxonomy
            .fine()
            .map(|(_, fine)| match Frames::new(fine) {
                Ok(frames) => Ok((fine.name.clone(), frames)),
                Err(source) => Err(TaxonomyRulesError::Template {
                    fine: fine.name.clone(),
                    source,
                }),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name: format!("taxonomy-rules-1/seed-{seed}"),
            seed,
            per_answer,
            fine,
        })
    }

    /// Different texts of a fine category, none for a category that does not exist. A pure function
    /// of the seed and of `stream`.
    pub fn texts(&self, fine: &str, stream: &str) -> Vec<String> {
        let Some(frames) = self.fine.get(fine) else {
            return Vec::new();
        };
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        for part in [fine, stream] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut rng = ChaCha8Rng::from_seed(hash.finalize().into());
        let mut seen = BTreeSet::new();
        let mut texts = Vec::new();
        let mut draws = 0;
        while texts.len() < self.per_answer && draws < MAX_DRAWS {
            draws += 1;
            // The grammar was checked with all its templates, so a draw does not fail.
            let Ok(text) = frames.draw(&mut rng) else {
                break;
            };
            if seen.insert(text_key(&text)) {
                texts.push(text);
                draws = 0;
            }
        }
        texts
    }
}

impl AnswerSource for TaxonomyRules {
    fn name(&self) -> &str {
        &self.name
    }

    fn answer(&self, call: &Call, attempt: u32) -> Result<Answer, ChatError> {
        if !self.fine.contains_key(&call.source) {
            return Err(ChatError::NoAnswer {
                answerer: self.name.clone(),
                reason: format!("`{}` is no category of its taxonomy", call.source),
            });
        }
        let texts = self.texts(&call.source, &format!("{}/{attempt}", call.id));
        Ok(Answer {
            text: serde_json::json!({ "texts": texts }).to_string(),
            usage: Usage::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;
    use crate::chat::ChatRequest;

    fn fine(description: &str, keywords: &[&str], examples: &[&str]) -> Taxonomy {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Taxonomy {
            about: String::new(),
            language: "English".to_owned(),
            coarse: vec![super::super::CoarseCategory {
                name: "coarse".to_owned(),
                description: String::new(),
                fine: vec![FineCategory {
                    name: "fine".to_owned(),
                    description: description.to_owned(),
                    keywords: list(keywords),
                    examples: list(examples),
                    texts: 10,
                }],
            }],
        }
    }

    #[test]
    fn descriptions_become_phrases() {
        use Phrase::{Action, Question, Statement, Topic};
        let own = |text: &str| text.to_owned();
        for (sentence, expected) in [
            (
                "The customer wants to order a cake",
                Action(own("order a cake")),
            ),
            (
                "wants to change their address",
                Action(own("change my address")),
            ),
            ("Order a cake", Action(own("order a cake"))),
            ("Cancels an order", Action(own("cancel an order"))),
            ("The user asks how to pay", Action(own("pay"))),
            (
                "Asks when the shop opens",
                Question(own("when the shop opens")),
            ),
            (
                "asks whether they are insured",
                Question(own("whether i am insured")),
            ),
            (
                "How the fee is calculated",
                Question(own("how the fee is calculated")),
            ),
            (
                "Complains that the bread was stale",
                Statement(own("the bread was stale")),
            ),
            ("A customer wants a refund", Topic(own("a refund"))),
            ("Questions about USB cables:", Topic(own("USB cables"))),
            ("Problems with his car", Topic(own("my car"))),
            ("Lost parcels", Topic(own("lost parcels"))),
        ] {
            assert_eq!(phrase(sentence), Some(expected), "{sentence}");
        }
        assert_eq!(phrase(" "), None);
    }

    #[test]
    fn long_phrases_are_cut() {
        let words = vec!["word"; 30].join(" ");
        assert_eq!(
            spoken(&words.split(' ').collect::<Vec<_>>())
                .split(' ')
                .count(),
            MAX_WORDS
        );
        let comma = format!("one two three, {words}");
        assert_eq!(
            spoken(&comma.split(' ').collect::<Vec<_>>()),
            "one two three"
        );
    }

    #[test]
    fn a_keyword_of_an_example_is_exchanged_for_others_of_its_length() {
        let taxonomy = fine(
            "x",
            &["rye bread", "oat rolls", "salt"],
            &["is the Rye Bread (fresh)?"],
        );
        let rules = TaxonomyRules::new(&taxonomy, 3, 60).unwrap();
        let texts = rules.texts("fine", "0").join("\n");
        assert!(texts.contains("is the oat rolls (fresh)"), "{texts}");
        assert!(texts.contains("is the rye bread (fresh)"), "{texts}");
        assert!(!texts.contains("is the salt"), "{texts}");
    }

    #[test]
    fn texts_are_a_function_of_seed_and_stream() {
        let taxonomy = Taxonomy::parse(super::super::tests::BAKERY, "t").unwrap();
        let rules = |seed| TaxonomyRules::new(&taxonomy, seed, 30).unwrap();
        let texts = rules(1).texts("payment", "a");
        assert_eq!(texts.len(), 30);
        assert_eq!(texts, rules(1).texts("payment", "a"));
        assert_ne!(texts, rules(1).texts("payment", "b"));
        assert_ne!(texts, rules(2).texts("payment", "a"));
        let keys: BTreeSet<String> = texts.iter().map(|text| text_key(text)).collect();
        assert_eq!(keys.len(), 30);
        assert!(rules(1).texts("nothing", "a").is_empty());
    }

    #[test]
    fn every_category_of_the_example_has_hundreds_of_texts() {
        let taxonomy = Taxonomy::parse(super::super::tests::BAKERY, "t").unwrap();
        let rules = TaxonomyRules::new(&taxonomy, 1, 500).unwrap();
        for (_, fine) in taxonomy.fine() {
            let texts = rules.texts(&fine.name, "0");
            assert_eq!(texts.len(), 500, "{}", fine.name);
            for text in texts {
                assert!(!text.contains(['{', '[', '|', '\t', '\n']), "{text}");
            }
        }
    }

    #[test]
    fn answers_are_for_calls_of_the_taxonomy_only() {
        let taxonomy = fine("a lost card", &[], &[]);
        let rules = TaxonomyRules::new(&taxonomy, 1, 3).unwrap();
        let call = |source: &str| Call {
            id: "fine/0/0".to_owned(),
            kind: "corpus".to_owned(),
            source: source.to_owned(),
            request: ChatRequest {
                system: String::new(),
                user: String::new(),
                temperature: 1.0,
                max_tokens: 9,
                schema: None,
            },
        };
        let answer = rules.answer(&call("fine"), 0).unwrap();
        assert_ne!(answer, rules.answer(&call("fine"), 1).unwrap());
        let value: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
        assert_eq!(value["texts"].as_array().unwrap().len(), 3);
        assert!(!rules.answer(&call("other"), 0).unwrap_err().is_fatal());
    }

    #[test]
    fn other_languages_are_refused() {
        let mut taxonomy = fine("x", &[], &[]);
        taxonomy.language = "German".to_owned();
        assert_eq!(
            TaxonomyRules::new(&taxonomy, 1, 1).unwrap_err(),
            TaxonomyRulesError::Language {
                language: "German".to_owned()
            }
        );
    }

    proptest! {
        /// Whatever the taxonomy says, brackets and backslashes of the grammar among it.
        #[test]
        fn any_words_make_a_grammar(
            description in "\\PC{1,40}",
            keywords in prop::collection::vec("[a-zA-Z{}\\[\\]()|\\\\ \u{130}]{1,12}", 0..4),
            examples in prop::collection::vec("\\PC{1,30}", 0..4),
        ) {
            let keywords: Vec<&str> = keywords.iter().map(String::as_str).collect();
            let examples: Vec<&str> = examples.iter().map(String::as_str).collect();
            let rules = TaxonomyRules::new(&fine(&description, &keywords, &examples), 1, 5);
            prop_assert!(rules.is_ok(), "{:?}", rules);
            prop_assert!(!rules.unwrap().texts("fine", "0").is_empty());
        }
    }
}
