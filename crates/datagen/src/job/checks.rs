//! Checks of answers: what is taken off, what is refused, and the report about it.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::language;
use crate::chat::Call;

/// Examples kept for each kind and reason.
const EXAMPLES: usize = 3;

/// Characters of an example.
const EXAMPLE_LENGTH: usize = 200;

/// Why an answer is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// Nothing is left after labels and quotation marks.
    Empty,
    /// Control or replacement characters, or no letter where the source has some.
    Garbage,
    /// More than one line.
    MultiLine,
    /// The model talks about itself or declines.
    Refusal,
    /// The source, but for case and punctuation.
    Copy,
    /// Far longer than the source.
    OverLong,
    /// Another script or language than the source's.
    WrongLanguage,
    /// A text that was accepted before, for the same kind of call or for the same source.
    Duplicate,
    /// The model reached the longest answer allowed.
    CutOff,
    /// An answer was paid for, and it holds no text to use.
    Unusable,
    /// Not what the schema or the validator of the job asks for.
    Invalid,
}

impl RejectReason {
    /// All reasons.
    pub const ALL: [Self; 11] = [
        Self::Empty,
        Self::Garbage,
        Self::MultiLine,
        Self::Refusal,
        Self::Copy,
        Self::OverLong,
        Self::WrongLanguage,
        Self::Duplicate,
        Self::CutOff,
        Self::Unusable,
        Self::Invalid,
    ];

    /// Name in journals and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Garbage => "garbage",
            Self::MultiLine => "multi_line",
            Self::Refusal => "refusal",
            Self::Copy => "copy",
            Self::OverLong => "over_long",
            Self::WrongLanguage => "wrong_language",
            Self::Duplicate => "duplicate",
            Self::CutOff => "cut_off",
            Self::Unusable => "unusable",
            Self::Invalid => "invalid",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A refused answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Attempt, from 0.
    pub attempt: u32,
    /// Why.
    pub reason: RejectReason,
    /// The same with figures.
    pub detail: String,
    /// The answer as it came.
    pub text: String,
}

/// Checks of answers that are one sentence.
///
/// First white space, quotation marks around the whole and a leading label (`Hypothesis:`,
/// `Sentence 2:`) are taken off, the latter two not where the source has the same. Then the first
/// reason that applies refuses the answer, in the order of [`RejectReason`].
///
/// Length is counted in words; a character of a script without spaces between words counts as one.
/// An answer is over-long if
///
/// ```text
/// words > max_ratio * max(words of the source, min_words)
/// ```
///
/// or the same holds for characters, with 8 for each word of `min_words`.
///
/// ```
/// use datagen::job::TextChecks;
///
/// let checks = TextChecks::default();
/// let source = "Two dogs run across a field.";
/// assert_eq!(checks.check(source, " Hypothesis: \"Animals are moving.\"\n").unwrap(), "Animals are moving.");
/// let rejection = checks.check(source, "two dogs run across a field").unwrap_err();
/// assert_eq!(rejection.0.name(), "copy");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextChecks {
    /// Longest answer as a multiple of the source.
    pub max_ratio: f64,
    /// Sources shorter than this count as this long, in words.
    pub min_words: usize,
    /// Whether another script or language than the source's is refused; a heuristic, see
    /// [`language`](super::language).
    pub same_language: bool,
    /// Whether every text is accepted once only for each kind of call and once only for each source.
    pub unique: bool,
}

impl Default for TextChecks {
    fn default() -> Self {
        Self {
            max_ratio: 3.0,
            min_words: 8,
            same_language: true,
            unique: true,
        }
    }
}

impl TextChecks {
    /// The text without what surrounds it.
    ///
    /// # Errors
    /// The reason to refuse it, and the same with figures. Repeats are not looked for.
    pub fn check(&self, source: &str, answer: &str) -> Result<String, (RejectReason, String)> {
        let text = cleaned(source, answer);
        let refuse = |reason, detail: String| Err((reason, detail));
        if text.is_empty() {
            return refuse(RejectReason::Empty, "no text".to_owned());
        }
        if let Some(bad) = text
            .chars()
            .find(|c| (c.is_control() && *c != '\n') || *c == char::REPLACEMENT_CHARACTER)
        {
            return refuse(
                RejectReason::Garbage,
                format!("the character U+{:04X}", u32::from(bad)),
            );
        }
        let letters = |text: &str| text.chars().any(char::is_alphabetic);
        if !letters(&text) && letters(source) {
            return refuse(RejectReason::Garbage, "no letter".to_owned());
        }
        let lines = text.lines().count();
        if lines > 1 {
            return refuse(RejectReason::MultiLine, format!("{lines} lines"));
        }
        if let Some(phrase) = refusal(source, &text) {
            return refuse(RejectReason::Refusal, format!("`{phrase}`"));
        }
        if words_only(&text) == words_only(source) {
            return refuse(RejectReason::Copy, "the source again".to_owned());
        }
        for (found, of_source, floor, unit) in [
            (length(&text), length(source), self.min_words, "words"),
            (
                text.chars().count(),
                source.chars().count(),
                self.min_words.saturating_mul(8),
                "characters",
            ),
        ] {
            let limit = self.max_ratio * of_source.max(floor) as f64;
            if found as f64 > limit {
                return refuse(
                    RejectReason::OverLong,
                    format!("{found} {unit}; the limit is {}", limit.floor()),
                );
            }
        }
        if self.same_language
            && let Some(detail) = language::differs(source, &text)
        {
            return refuse(RejectReason::WrongLanguage, detail);
        }
        Ok(text)
    }
}

/// Labels that models put before an answer; a number may follow.
const LABELS: [&str; 17] = [
    "answer",
    "contradiction",
    "entailment",
    "generated sentence",
    "here is the sentence",
    "here is a sentence",
    "here's the sentence",
    "hypothesis",
    "intermediate",
    "negative",
    "new sentence",
    "output",
    "positive",
    "premise",
    "rewritten sentence",
    "result",
    "sentence",
];

/// Opening and closing marks. Those that are alike have to be checked for more of them inside.
const QUOTES: [(char, char); 11] = [
    ('"', '"'),
    ('\'', '\''),
    ('`', '`'),
    ('*', '*'),
    ('“', '”'),
    ('„', '“'),
    ('„', '”'),
    ('‘', '’'),
    ('«', '»'),
    ('»', '«'),
    ('「', '」'),
];

/// The answer without white space around it, quotation marks around the whole and a leading label;
/// runs of spaces and tabs become one space.
fn cleaned(source: &str, answer: &str) -> String {
    let mut text = answer.trim();
    // A label within quotes within a label is as deep as it gets.
    for _ in 0..4 {
        let before = text;
        if unquoted(source.trim()).is_none()
            && let Some(inner) = unquoted(text)
        {
            text = inner.trim();
        }
        if label(source).is_none()
            && let Some(rest) = label(text)
        {
            text = rest.trim();
        }
        if text == before {
            break;
        }
    }
    let mut tidy = String::with_capacity(text.len());
    for c in text.replace("\r\n", "\n").chars() {
        match c {
            ' ' | '\t' | '\u{a0}' if tidy.ends_with([' ', '\n']) => {}
            ' ' | '\t' | '\u{a0}' => tidy.push(' '),
            '\r' | '\u{2028}' | '\u{2029}' => tidy.push('\n'),
            _ => tidy.push(c),
        }
    }
    tidy
}

/// What is inside marks that enclose the whole text.
fn unquoted(text: &str) -> Option<&str> {
    let bold = text.strip_prefix("**").and_then(|t| t.strip_suffix("**"));
    if let Some(inner) = bold.filter(|inner| !inner.contains('*')) {
        return Some(inner);
    }
    QUOTES.into_iter().find_map(|(open, close)| {
        let inner = text.strip_prefix(open)?.strip_suffix(close)?;
        // `"Yes," he said, "now."` is not enclosed; an apostrophe within a word is no mark.
        let mut before = ' ';
        let mut rest = inner.chars().peekable();
        while let Some(c) = rest.next() {
            let after = rest.peek().copied().unwrap_or(' ');
            let within_word = before.is_alphanumeric() && after.is_alphanumeric();
            let apostrophe = matches!(c, '\'' | '’') && within_word;
            if (c == open || c == close) && !apostrophe {
                return None;
            }
            before = c;
        }
        Some(inner)
    })
}

/// What follows a label at the start.
fn label(text: &str) -> Option<&str> {
    let text = text.trim_start_matches(['*', '#', ' ']);
    let (head, rest) = text.split_once([':', '：'])?;
    let head = head.trim_end_matches(['*', ' ']).to_lowercase();
    let name = head.trim_end_matches(|c: char| c.is_ascii_digit() || c == ' ');
    // `**Hypothesis:** text`
    LABELS
        .contains(&name)
        .then(|| rest.trim_start_matches(['*', ' ']))
}

/// Letters and digits in lower case, words separated by one space.
pub(super) fn words_only(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            words.push(c);
        } else if matches!(c, '\'' | '’') {
            // "don't" and "dont" are the same copy.
        } else if !words.is_empty() && !words.ends_with(' ') {
            words.push(' ');
        }
    }
    words.truncate(words.trim_end().len());
    words
}

/// Words; characters of scripts that do not separate words count one each.
fn length(text: &str) -> usize {
    text.split_whitespace()
        .map(|word| {
            let single = word.chars().filter(|c| language::is_unspaced(*c)).count();
            single.max(1)
        })
        .sum()
}

/// A model that speaks of itself; no sentence of a data set begins so.
const ABOUT_ITSELF: [&str; 9] = [
    "as an ai",
    "as a language model",
    "as a large language model",
    "as an artificial intelligence",
    "i am an ai",
    "im an ai",
    "i am a language model",
    "im a language model",
    "im just an ai",
];

/// Beginnings of a refusal. Someone in a story may speak so, too.
const DECLINING: [&str; 17] = [
    "i cannot",
    "i can not",
    "i cant",
    "i am unable to",
    "im unable to",
    "i am not able to",
    "im not able to",
    "i wont",
    "i will not",
    "i must decline",
    "i apologize",
    "i apologise",
    "i am sorry",
    "im sorry",
    "sorry i",
    "sorry but i",
    "unfortunately i",
];

/// Words that show what is declined.
const TASK_WORDS: [&str; 14] = [
    "ai",
    "answer",
    "assist",
    "comply",
    "content",
    "create",
    "fulfil",
    "fulfill",
    "generate",
    "instructions",
    "provide",
    "request",
    "rewrite",
    "sentence",
];

/// The phrase that makes the answer a refusal. Where the source is told in the first person, "I
/// cannot" alone is none; a word of the task has to follow.
fn refusal(source: &str, text: &str) -> Option<&'static str> {
    let (source, text) = (words_only(source), words_only(text));
    let begins = |text: &str, phrase: &str| {
        text.strip_prefix(phrase)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    let has = |text: &str, word: &str| text.split(' ').any(|other| other == word);
    // Whole words: "as an airport" is not "as an ai".
    let words_in = |text: &str, phrase: &str| format!(" {text} ").contains(&format!(" {phrase} "));
    if let Some(phrase) = ABOUT_ITSELF
        .into_iter()
        .find(|phrase| words_in(&text, phrase) && !words_in(&source, phrase))
    {
        return Some(phrase);
    }
    let first_person = ["i", "im", "ive", "my", "me", "we"]
        .iter()
        .any(|word| has(&source, word));
    DECLINING.into_iter().find(|phrase| {
        begins(&text, phrase)
            && !begins(&source, phrase)
            && (!first_person
                || TASK_WORDS
                    .iter()
                    .any(|word| has(&text, word) && !has(&source, word)))
    })
}

/// Texts accepted so far, as digests of 16 bytes.
#[derive(Debug, Default)]
pub(super) struct Accepted(HashSet<[u8; 16]>);

impl Accepted {
    /// Takes a text unless it was accepted before for this kind or for this source.
    pub(super) fn take(&mut self, call: &Call, text: &str) -> Result<(), &'static str> {
        let words = words_only(text);
        let digest = |scope: &str, name: &str| {
            let mut hasher = Sha256::new();
            for part in [scope, name, &words] {
                hasher.update((part.len() as u64).to_le_bytes());
                hasher.update(part.as_bytes());
            }
            let mut short = [0; 16];
            for (to, from) in short.iter_mut().zip(hasher.finalize()) {
                *to = from;
            }
            short
        };
        let of_kind = digest("kind", &call.kind);
        let of_source = digest("source", &call.source);
        if self.0.contains(&of_kind) {
            return Err("accepted for another source before");
        }
        if !self.0.insert(of_source) {
            return Err("accepted for the same source as another kind");
        }
        self.0.insert(of_kind);
        Ok(())
    }
}

/// An example of a refused answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectExample {
    /// Id of the call.
    pub id: String,
    /// Attempt, from 0.
    pub attempt: u32,
    /// What is wrong with it.
    pub detail: String,
    /// The text that the call is about, shortened.
    pub source: String,
    /// The answer, shortened.
    pub text: String,
}

/// Refused answers of one kind of call and one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectGroup {
    /// How many.
    pub count: u64,
    /// The first ones in the order of the calls.
    pub examples: Vec<RejectExample>,
}

/// A call without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedCall {
    /// Id of the call.
    pub id: String,
    /// Why.
    pub error: String,
}

/// What became of the calls of a job. It depends on the answers alone, not on their order or on
/// interruptions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectReport {
    /// Calls.
    pub calls: u64,
    /// Calls with an accepted answer.
    pub accepted: u64,
    /// Calls whose answers were refused at every attempt.
    pub given_up: u64,
    /// Calls that got no answer, for instance because the server failed.
    pub failed: u64,
    /// Refused answers by kind of call and reason.
    pub rejected: BTreeMap<String, BTreeMap<RejectReason, RejectGroup>>,
    /// The first failed calls.
    pub failures: Vec<FailedCall>,
}

impl RejectReport {
    /// Refused answers.
    pub fn rejections(&self) -> u64 {
        self.rejected
            .values()
            .flat_map(BTreeMap::values)
            .map(|group| group.count)
            .sum()
    }

    /// Refused answers for this reason.
    pub fn count(&self, reason: RejectReason) -> u64 {
        self.rejected
            .values()
            .filter_map(|reasons| reasons.get(&reason))
            .map(|group| group.count)
            .sum()
    }

    pub(super) fn add(&mut self, call: &Call, rejection: &Rejection) {
        let group = self
            .rejected
            .entry(call.kind.clone())
            .or_default()
            .entry(rejection.reason)
            .or_default();
        group.count += 1;
        if group.examples.len() < EXAMPLES {
            group.examples.push(RejectExample {
                id: call.id.clone(),
                attempt: rejection.attempt,
                detail: rejection.detail.clone(),
                source: shortened(&call.source),
                text: shortened(&rejection.text),
            });
        }
    }

    pub(super) fn add_failure(&mut self, call: &Call, error: String) {
        self.failed += 1;
        if self.failures.len() < EXAMPLES {
            self.failures.push(FailedCall {
                id: call.id.clone(),
                error,
            });
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(EXAMPLE_LENGTH) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A table for a terminal, with an example for each line; control characters are escaped.
impl fmt::Display for RejectReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} calls: {} accepted, {} given up, {} failed; {} answers refused",
            self.calls,
            self.accepted,
            self.given_up,
            self.failed,
            self.rejections()
        )?;
        for (kind, reasons) in &self.rejected {
            for (reason, group) in reasons {
                write!(f, "  {kind:<18} {:<15} {:>7}", reason.name(), group.count)?;
                if let Some(example) = group.examples.first() {
                    let mut text = String::new();
                    for c in example.text.chars().take(60) {
                        // Quotation marks are harmless, escape sequences of terminals are not.
                        if c.is_control() {
                            write!(text, "{}", c.escape_debug())?;
                        } else {
                            text.push(c);
                        }
                    }
                    write!(f, "  {}: {text}", example.detail)?;
                }
                writeln!(f)?;
            }
        }
        for failure in &self.failures {
            writeln!(f, "  {} failed: {}", failure.id, failure.error)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    const SOURCE: &str = "Two dogs run across a green field.";

    fn clean(answer: &str) -> String {
        cleaned(SOURCE, answer)
    }

    fn reason(source: &str, answer: &str) -> Option<RejectReason> {
        TextChecks::default()
            .check(source, answer)
            .err()
            .map(|(reason, _)| reason)
    }

    #[test]
    fn what_surrounds_the_answer_is_taken_off() {
        for answer in [
            "Animals move.",
            "  Animals move.\n",
            "\"Animals move.\"",
            "“Animals move.”",
            "„Animals move.“",
            "«Animals move.»",
            "'Animals move.'",
            "Hypothesis: Animals move.",
            "hypothesis : Animals move.",
            "Sentence 2: \"Animals move.\"",
            "\"Sentence 2: Animals move.\"",
            "**Hypothesis:** Animals move.",
            "**Animals move.**",
            "Output: Sentence 2: Animals   move.",
            "Answer:\nAnimals\tmove.",
            "Here is the sentence: Animals move.",
        ] {
            assert_eq!(clean(answer), "Animals move.", "{answer:?}");
        }
        assert_eq!(clean("'I don't know.'"), "I don't know.");
        assert_eq!(clean("\"\""), "");
        assert_eq!(clean("Hypothesis:"), "");
    }

    #[test]
    fn what_belongs_to_the_answer_stays() {
        for answer in [
            "\"Yes,\" he said, \"now.\"",
            "'Tis the season of the dogs' run.",
            "Note: the dogs run.",
            "At 10:30 the dogs run.",
            "The sentence: a long one.",
            "\"",
            "«A» and «B»",
        ] {
            assert_eq!(clean(answer), answer);
        }
        assert_eq!(cleaned("\"Go!\"", "\"Leave!\""), "\"Leave!\"");
        assert_eq!(cleaned("Answer: no.", "Answer: yes."), "Answer: yes.");
    }

    #[test]
    fn every_reason_has_its_answers() {
        use RejectReason::*;
        for (answer, expected) in [
            ("", Empty),
            (" \n\t ", Empty),
            ("Hypothesis: \"\"", Empty),
            ("Animals \u{1b}[31mmove.", Garbage),
            ("Animals m\u{fffd}ve.", Garbage),
            ("12 % !!", Garbage),
            ("Animals move.\nThey are dogs.", MultiLine),
            ("```\nAnimals move.\n```", MultiLine),
            ("I cannot help with that.", Refusal),
            ("I can’t assist with that.", Refusal),
            ("I'm sorry, but I can't do that.", Refusal),
            ("As an AI, I have no opinion.", Refusal),
            ("Well, as a language model I pass.", Refusal),
            ("TWO DOGS run, across a green field!", Copy),
            (&"dogs run and ".repeat(12), OverLong),
            (&"d".repeat(200), OverLong),
            ("Собаки бегут по полю.", WrongLanguage),
            (
                "Die Hunde laufen nicht über das Feld und sind müde.",
                WrongLanguage,
            ),
        ] {
            assert_eq!(reason(SOURCE, answer), Some(expected), "{answer:?}");
        }
        for answer in [
            "Animals are outside.",
            "Dogs serve as an airport's guards.",
            "Two dogs do not run across a green field.",
            "Dogs.",
        ] {
            assert_eq!(reason(SOURCE, answer), None, "{answer:?}");
        }
    }

    #[test]
    fn a_first_person_source_may_have_a_first_person_answer() {
        let source = "I can't find my parcel.";
        assert_eq!(reason(source, "I cannot locate my package."), None);
        assert_eq!(
            reason("My parcel is gone.", "I am sorry that it got lost."),
            None
        );
        assert_eq!(
            reason("My parcel is gone.", "I am sorry, I cannot rewrite this."),
            Some(RejectReason::Refusal)
        );
        assert_eq!(
            reason("The parcel is gone.", "I am sorry."),
            Some(RejectReason::Refusal)
        );
    }

    #[test]
    fn length_has_a_floor_and_counts_unspaced_scripts() {
        assert_eq!(length("two words"), 2);
        assert_eq!(length("日本語です"), 5);
        // 3 * 8 words are fine even for a source of one word.
        assert_eq!(reason("Go.", &"so ".repeat(24)), None);
        assert_eq!(
            reason("Go.", &"so ".repeat(25)),
            Some(RejectReason::OverLong)
        );
    }

    #[test]
    fn numbers_may_answer_numbers() {
        assert_eq!(reason("12 + 3", "15"), None);
    }

    fn call(kind: &str, source: &str) -> Call {
        Call {
            id: "0".into(),
            kind: kind.into(),
            source: source.into(),
            request: crate::chat::ChatRequest {
                system: String::new(),
                user: String::new(),
                temperature: 0.0,
                max_tokens: 1,
                schema: None,
            },
        }
    }

    #[test]
    fn a_text_is_accepted_once_a_kind_and_once_a_source() {
        let mut accepted = Accepted::default();
        assert!(accepted.take(&call("a", "one"), "Text.").is_ok());
        assert!(accepted.take(&call("a", "two"), "text!").is_err());
        assert!(accepted.take(&call("b", "one"), "TEXT").is_err());
        assert!(accepted.take(&call("b", "two"), "text").is_ok());
        assert!(accepted.take(&call("a", "two"), "other").is_ok());
    }

    #[test]
    fn the_report_counts_and_shows() {
        let mut report = RejectReport::default();
        for attempt in 0..5 {
            report.add(
                &call("sts/negative", SOURCE),
                &Rejection {
                    attempt,
                    reason: RejectReason::Garbage,
                    detail: "the character U+001B".into(),
                    text: format!("\u{1b}[31m{}", "é".repeat(300)),
                },
            );
        }
        report.add_failure(&call("sts/negative", SOURCE), "gone".into());
        assert_eq!(report.rejections(), 5);
        assert_eq!(report.count(RejectReason::Garbage), 5);
        assert_eq!(report.count(RejectReason::Copy), 0);
        let text = report.to_string();
        assert!(
            !text.contains('\u{1b}') && text.contains("garbage"),
            "{text}"
        );
        let group = &report.rejected["sts/negative"][&RejectReason::Garbage];
        assert_eq!(group.examples.len(), EXAMPLES);
        assert!(group.examples[0].text.chars().count() <= EXAMPLE_LENGTH + 3);
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains("\"garbage\":{\"count\":5"), "{json}");
        assert_eq!(serde_json::from_str::<RejectReport>(&json).unwrap(), report);
        for reason in RejectReason::ALL {
            let json = serde_json::to_string(&reason).unwrap();
            assert_eq!(json, format!("\"{}\"", reason.name()));
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics_and_accepted_ones_are_single_clean_lines(
            source in any::<String>(), answer in any::<String>()
        ) {
            if let Ok(text) = TextChecks::default().check(&source, &answer) {
                prop_assert!(!text.is_empty() && !text.contains('\n'));
                prop_assert_eq!(text.trim(), &text);
                prop_assert_eq!(cleaned(&source, &text), text);
            }
        }
    }
}
