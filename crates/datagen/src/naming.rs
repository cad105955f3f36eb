//! Names for categories that were found, from their texts.
//!
//! Offline a name is made of the words that tell a category from the others ([`ClassTfIdf`]). With an
//! [`AnswerSource`](crate::chat::AnswerSource) a model is asked for a name and a reason. Where two
//! categories get the same name the first keeps it and the others are asked once more, with the
//! names that are taken; whoever still has no name of its own gets one of keywords.
//!
//! Whatever the texts and the model say, every category ends up with a name that is one line, has at
//! most [`NamingConfig::max_characters`] characters, and differs from every other name, and from the
//! names given as taken, in more than case and punctuation. Names are data: nothing here uses one as
//! a path, and nobody should.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::context;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::chat::structured::parse_answer;
use crate::chat::{Call, ChatRequest, Spent};
use crate::class_tf_idf::{ClassTfIdf, words};
use crate::job::{Checks, JobError, JobOutcome, RejectReport};
use crate::plain::{filled, one_line, shortened, text_key};

/// Smallest [`NamingConfig::max_characters`]: room for a word and a number.
const LEAST_CHARACTERS: usize = 12;
/// Keywords that a name may be made of; all pairs of them are tried.
const NAME_TERMS: usize = 24;
/// Format of the result.
const SCHEMA: &str = "asterism/names/1";
/// Name of a category of which nothing is known.
const UNKNOWN: &str = "category";
/// The system text for [`NamingConfig::prompt`].
const PROMPT: &str = include_str!("../prompts/categories/naming.txt");
/// What the texts are where the caller does not say.
const ABOUT: &str = "short texts";
/// Kind of the calls.
const KIND: &str = "name";
/// Longest answer of a model, in tokens: a name and a sentence.
const ANSWER_TOKENS: u32 = 200;
/// Characters of a text in a prompt, and of a reason in the result.
const TEXT_CHARACTERS: usize = 200;
const REASON_CHARACTERS: usize = 300;
/// Taken names in a prompt.
const SHOWN_NAMES: usize = 100;

/// How categories are named.
#[derive(Debug, Clone, PartialEq)]
pub struct NamingConfig {
    /// Keywords kept for each category.
    pub keywords: usize,
    /// Texts of each category that are kept as evidence and shown to a model.
    pub evidence: usize,
    /// Longest name, in characters; 12 or more.
    pub max_characters: usize,
    /// Most words of a name that a model gives, and most keywords in one that is made of them.
    pub max_words: usize,
    /// Names that are not to be used, such as those that people gave.
    pub taken: Vec<String>,
    /// What the texts are, in a few words, for the model; may be empty.
    pub about: String,
    /// Language of the names a model gives.
    pub language: String,
    /// Temperature of the model.
    pub temperature: f64,
    /// Template of the system text with `about`, `language`, `max_words` and `max_characters`, see
    /// `prompts/categories/naming.txt`.
    pub prompt: String,
}

impl Default for NamingConfig {
    fn default() -> Self {
        Self {
            keywords: 10,
            evidence: 8,
            max_characters: 40,
            max_words: 5,
            taken: Vec::new(),
            about: String::new(),
            language: "English".to_owned(),
            temperature: 0.2,
            prompt: PROMPT.to_owned(),
        }
    }
}

/// A text of a category.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Where the text stands in the caller's data, counted from 0.
    pub row: usize,
    /// The text.
    pub text: String,
}

/// A category that needs a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CategoryTexts {
    /// What the caller calls it; unique.
    pub id: String,
    /// Coarse category it belongs to, if known.
    pub coarse: Option<String>,
    /// Its texts, the most typical first; see [`order_by_typicality`].
    pub texts: Vec<Evidence>,
    /// Its keywords, the most telling first, if the caller has better ones than those of its texts.
    pub keywords: Vec<String>,
}

/// Where a name comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameSource {
    /// Put together from keywords.
    Keyword,
    /// Given by a model.
    Model,
}

/// A category with its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedCategory {
    /// [`CategoryTexts::id`].
    pub id: String,
    /// Coarse category it belongs to, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coarse: Option<String>,
    /// The name: one line, unique.
    pub name: String,
    /// Where it comes from.
    pub source: NameSource,
    /// The model's reason for the name, one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The most telling words, heaviest first.
    pub keywords: Vec<String>,
    /// The most typical texts, with their rows.
    pub evidence: Vec<Evidence>,
    /// Number of texts of the category.
    pub size: usize,
}

/// Why there are no names.
#[derive(Debug, Error)]
pub enum NamingError {
    /// A setting that cannot be.
    #[error("naming: {field}: expected {expected}, found {found}")]
    Config {
        /// The setting.
        field: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Two categories with one id.
    #[error("naming: the category id `{id}` occurs twice")]
    DuplicateId {
        /// The id.
        id: String,
    },
    /// The template of the system text.
    #[error("naming: prompt template: {problem}")]
    Prompt {
        /// What is wrong, with the line.
        problem: String,
    },
    /// The job did not finish.
    #[error(transparent)]
    Job(#[from] JobError),
}

/// Names, and which of them are in use.
struct Names<'a> {
    config: &'a NamingConfig,
    taken: BTreeSet<String>,
    /// The last number behind a name.
    numbers: BTreeMap<String, u64>,
}

impl Names<'_> {
    /// Takes a name if it is a name, short enough and free.
    fn take(&mut self, name: &str) -> bool {
        let fits = name.chars().any(char::is_alphanumeric)
            && name.chars().count() <= self.config.max_characters;
        fits && self.taken.insert(text_key(name))
    }
}

/// What is known about a category before it has a name.
struct Profile {
    /// Terms from which names are made.
    terms: Vec<String>,
    /// The first of them, for the result.
    keywords: Vec<String>,
    evidence: Vec<Evidence>,
}

/// Sorts the texts of each category from typical to odd: by falling [`ClassTfIdf::similarity`],
/// equal ones in their order.
pub fn order_by_typicality(categories: &mut [CategoryTexts]) {
    let model = fit(categories);
    for (class, category) in categories.iter_mut().enumerate() {
        let mut scored: Vec<(f64, Evidence)> = category
            .texts
            .drain(..)
            .map(|evidence| (model.similarity(class, &evidence.text), evidence))
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        category.texts = scored.into_iter().map(|(_, evidence)| evidence).collect();
    }
}

fn fit(categories: &[CategoryTexts]) -> ClassTfIdf {
    let classes: Vec<Vec<&str>> = categories
        .iter()
        .map(|category| category.texts.iter().map(|e| e.text.as_str()).collect())
        .collect();
    ClassTfIdf::fit(&classes)
}

/// Names categories by their keywords alone. Names depend on the order of the categories only where two
/// want the same one.
///
/// # Errors
///
/// [`NamingError`] for a repeated id or a bad setting.
///
/// ```
/// use datagen::naming::{CategoryTexts, Evidence, NamingConfig, name_by_keywords};
/// let category = |id: &str, texts: &[&str]| CategoryTexts {
///     id: id.to_owned(),
///     texts: texts
///         .iter()
///         .enumerate()
///         .map(|(row, text)| Evidence { row, text: (*text).to_owned() })
///         .collect(),
///     ..CategoryTexts::default()
/// };
/// let named = name_by_keywords(
///     &[
///         category("0", &["i lost my card", "my card is lost"]),
///         category("1", &["the parcel is late", "when is my late parcel here"]),
///     ],
///     &NamingConfig::default(),
/// )?;
/// assert_eq!(named[0].name, "card lost");
/// assert_eq!(named[1].name, "late parcel");
/// # Ok::<(), datagen::naming::NamingError>(())
/// ```
pub fn name_by_keywords(
    categories: &[CategoryTexts],
    config: &NamingConfig,
) -> Result<Vec<NamedCategory>, NamingError> {
    let (profiles, mut names) = prepare(categories, config)?;
    Ok(categories
        .iter()
        .zip(profiles)
        .map(|(category, profile)| {
            let name = names.of_keywords(category, &profile.terms);
            finished(category, profile, name, NameSource::Keyword, None)
        })
        .collect())
}

/// What a model made of categories.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Naming {
    /// Format of this document.
    pub schema: &'static str,
    /// Name of the source that was asked; `keywords` where none was.
    pub source: String,
    /// The categories in their order.
    pub categories: Vec<NamedCategory>,
    /// Whole answers, round by round.
    pub rounds: Vec<RejectReport>,
    /// What all answers in the journal cost.
    pub spent: Spent,
}

impl Naming {
    /// Of keywords alone.
    ///
    /// # Errors
    ///
    /// As [`name_by_keywords`].
    pub fn by_keywords(
        categories: &[CategoryTexts],
        config: &NamingConfig,
    ) -> Result<Self, NamingError> {
        Ok(Self {
            schema: SCHEMA,
            source: "keywords".to_owned(),
            categories: name_by_keywords(categories, config)?,
            rounds: Vec::new(),
            spent: Spent::default(),
        })
    }

    /// The naming as indented JSON with a line end: `names.json`.
    pub fn to_json(&self) -> String {
        // Numbers, texts and maps with text keys always have a JSON form.
        let mut json = serde_json::to_string_pretty(self).unwrap_or_default();
        json.push('\n');
        json
    }
}

/// Names categories by a model, and by keywords where it gives no usable or no free name.
///
/// `source` is the name of whoever answers, for the result. `run` runs the calls of a round; it is
/// where the source, the journal, the settings of the job, its stop flag and its progress line go.
///
/// # Errors
///
/// [`NamingError`]; what was answered before is in the journal of the job.
pub fn name_by_model(
    categories: &[CategoryTexts],
    config: &NamingConfig,
    source: &str,
    mut run: impl FnMut(Vec<Call>, Checks<'_>) -> Result<JobOutcome, JobError>,
) -> Result<Naming, NamingError> {
    let (profiles, mut names) = prepare(categories, config)?;
    let system = system_text(config)?;
    let mut given: Vec<Option<Proposal>> = vec![None; categories.len()];
    // What a category wanted to be called when another one had the name.
    let mut wanted: Vec<Option<String>> = vec![None; categories.len()];
    let mut rounds = Vec::new();
    let mut spent = Spent::default();
    for round in 0..2 {
        let open: Vec<usize> = match round {
            0 => (0..categories.len()).collect(),
            _ => (0..categories.len())
                .filter(|at| wanted.get(*at).is_some_and(Option::is_some))
                .collect(),
        };
        let calls: Vec<Call> = open
            .iter()
            .filter_map(|at| {
                let (category, profile) = (categories.get(*at)?, profiles.get(*at)?);
                let clash = wanted.get(*at)?.as_deref();
                let taken = clash.map(|clash| taken_list(clash, *at, categories, &given, config));
                Some(Call {
                    id: format!("{}/{round}", category.id),
                    kind: KIND.to_owned(),
                    source: category.id.clone(),
                    request: ChatRequest {
                        system: system.clone(),
                        user: user_text(category, profile, taken.as_deref()),
                        temperature: config.temperature,
                        max_tokens: ANSWER_TOKENS,
                        schema: Some(schema()),
                    },
                })
            })
            .collect();
        if calls.is_empty() {
            break;
        }
        let usable = |_: &Call, text: &str| Proposal::read(text, config).map(|_| text.to_owned());
        let outcome = run(calls, Checks::Valid(&usable))?;
        for (at, answer) in open.iter().zip(&outcome.answers) {
            let (Some(given), Some(wanted)) = (given.get_mut(*at), wanted.get_mut(*at)) else {
                continue;
            };
            *wanted = None;
            let proposal = answer
                .as_deref()
                .map(|answer| Proposal::read(answer, config));
            if let Some(Ok(proposal)) = proposal {
                if names.take(&proposal.name) {
                    *given = Some(proposal);
                } else {
                    *wanted = Some(proposal.name);
                }
            }
        }
        spent = outcome.spent;
        rounds.push(outcome.report);
    }
    let categories = categories
        .iter()
        .zip(profiles)
        .zip(given)
        .map(|((category, profile), given)| match given {
            Some(Proposal { name, reason }) => {
                let reason = Some(reason).filter(|reason| !reason.is_empty());
                finished(category, profile, name, NameSource::Model, reason)
            }
            None => {
                let name = names.of_keywords(category, &profile.terms);
                finished(category, profile, name, NameSource::Keyword, None)
            }
        })
        .collect();
    Ok(Naming {
        schema: SCHEMA,
        source: source.to_owned(),
        categories,
        rounds,
        spent,
    })
}

/// A name as a model gives it, fit for use.
#[derive(Debug, Clone)]
struct Proposal {
    name: String,
    reason: String,
}

impl Proposal {
    fn read(answer: &str, config: &NamingConfig) -> Result<Self, String> {
        let value = parse_answer(answer, &schema()).map_err(|error| error.to_string())?;
        let text = |key: &str| {
            let text = value.get(key).and_then(serde_json::Value::as_str);
            one_line(text.unwrap_or_default())
        };
        let name = text("name");
        let name = name.trim_matches(|c| c == '"' || c == '`' || c == '.' || c == ' ');
        let (characters, words) = (name.chars().count(), name.split(' ').count());
        if !name.chars().any(char::is_alphanumeric) {
            Err("no letter and no digit in the name".to_owned())
        } else if characters > config.max_characters {
            Err(format!(
                "{characters} characters; the limit is {}",
                config.max_characters
            ))
        } else if words > config.max_words {
            Err(format!("{words} words; the limit is {}", config.max_words))
        } else {
            Ok(Self {
                name: name.to_owned(),
                reason: shortened(&text("reason"), REASON_CHARACTERS),
            })
        }
    }
}

/// The schema of every answer.
fn schema() -> serde_json::Value {
    serde_json::json!({
        "type": "object",
        "properties": {"name": {"type": "string"}, "reason": {"type": "string"}},
        "required": ["name", "reason"],
        "additionalProperties": false,
    })
}

fn system_text(config: &NamingConfig) -> Result<String, NamingError> {
    let about = match config.about.as_str() {
        "" => ABOUT,
        about => about,
    };
    let variables = context! {
        about,
        language => config.language,
        max_words => config.max_words,
        max_characters => config.max_characters,
    };
    filled(&config.prompt, variables).map_err(|problem| NamingError::Prompt { problem })
}

fn user_text(category: &CategoryTexts, profile: &Profile, taken: Option<&[String]>) -> String {
    let mut lines = Vec::new();
    if let Some(coarse) = &category.coarse {
        lines.push(format!("Part of: {}", one_line(coarse)));
    }
    if !profile.keywords.is_empty() {
        lines.push(format!("Words: {}", profile.keywords.join(", ")));
    }
    lines.push("Texts:".to_owned());
    for evidence in &profile.evidence {
        let text = shortened(&one_line(&evidence.text), TEXT_CHARACTERS);
        lines.push(format!("- {text}"));
    }
    if let Some(taken) = taken {
        let taken = taken.join("; ");
        lines.push(format!(
            "Other categories have these names, give another one: {taken}"
        ));
    }
    lines.join("\n")
}

/// Names that a category cannot have: first the one it wanted, then those under the same coarse
/// category, then others, as many as a prompt should hold.
fn taken_list(
    clash: &str,
    at: usize,
    categories: &[CategoryTexts],
    given: &[Option<Proposal>],
    config: &NamingConfig,
) -> Vec<String> {
    let coarse = categories
        .get(at)
        .and_then(|category| category.coarse.as_ref());
    let mut others: Vec<(bool, &str)> = categories
        .iter()
        .zip(given)
        .filter_map(|(category, given)| {
            let far = coarse.is_none() || category.coarse.as_ref() != coarse;
            Some((far, given.as_ref()?.name.as_str()))
        })
        .collect();
    others.sort_by_key(|(far, _)| *far);
    let taken = others.into_iter().map(|(_, name)| name.to_owned());
    let taken = taken.chain(config.taken.iter().map(|name| one_line(name)));
    std::iter::once(clash.to_owned())
        .chain(taken.filter(|name| text_key(name) != text_key(clash)))
        .take(SHOWN_NAMES)
        .collect()
}

fn finished(
    category: &CategoryTexts,
    profile: Profile,
    name: String,
    source: NameSource,
    reason: Option<String>,
) -> NamedCategory {
    NamedCategory {
        id: category.id.clone(),
        coarse: category.coarse.clone(),
        name,
        source,
        reason,
        keywords: profile.keywords,
        evidence: profile.evidence,
        size: category.texts.len(),
    }
}

fn prepare<'a>(
    categories: &[CategoryTexts],
    config: &'a NamingConfig,
) -> Result<(Vec<Profile>, Names<'a>), NamingError> {
    let bad = |field, expected: String, found: String| NamingError::Config {
        field,
        expected,
        found,
    };
    if config.max_characters < LEAST_CHARACTERS {
        let expected = format!("{LEAST_CHARACTERS} or more");
        return Err(bad(
            "max_characters",
            expected,
            config.max_characters.to_string(),
        ));
    }
    if config.max_words == 0 {
        return Err(bad("max_words", "1 or more".to_owned(), "0".to_owned()));
    }
    let mut ids = BTreeSet::new();
    if let Some(twice) = categories.iter().find(|category| !ids.insert(&category.id)) {
        return Err(NamingError::DuplicateId {
            id: twice.id.clone(),
        });
    }
    let model = fit(categories);
    let profiles = categories
        .iter()
        .enumerate()
        .map(|(class, category)| {
            let given: Vec<String> = category.keywords.iter().map(|k| one_line(k)).collect();
            let found = model.keywords(class, config.keywords.max(NAME_TERMS));
            let found = found.iter().map(|keyword| keyword.term.clone());
            let mut seen = BTreeSet::new();
            let terms: Vec<String> = given
                .into_iter()
                .chain(found)
                .filter(|term| term.chars().any(char::is_alphanumeric))
                .filter(|term| seen.insert(text_key(term)))
                .collect();
            let evidence = category.texts.iter().take(config.evidence);
            Profile {
                keywords: terms.iter().take(config.keywords).cloned().collect(),
                terms,
                evidence: evidence.cloned().collect(),
            }
        })
        .collect();
    let taken = config.taken.iter().map(|name| text_key(name)).collect();
    let names = Names {
        config,
        taken,
        numbers: BTreeMap::new(),
    };
    Ok((profiles, names))
}

impl Names<'_> {
    /// A free name for a category, and it is taken then. In this order: its two best words, more of
    /// them, other pairs, single words, the first of these with the coarse name behind it (or the
    /// coarse name, where there are no words), the beginning of a text, and only then a number.
    fn of_keywords(&mut self, category: &CategoryTexts, terms: &[String]) -> String {
        let limit = self.config.max_characters;
        // Two forms of a word in one name say no more than one.
        let mut telling: Vec<&str> = Vec::new();
        for term in terms {
            if telling.len() == NAME_TERMS {
                break;
            }
            if !telling.iter().any(|other| says_the_same(term, other)) {
                telling.push(term);
            }
        }
        let order = Order::of(category, &telling);
        let most = self.config.max_words.min(telling.len());
        let mut candidates: Vec<Vec<&str>> = (2..=most)
            .map(|count| telling.iter().take(count).copied().collect())
            .collect();
        if self.config.max_words > 1 {
            for (at, first) in telling.iter().enumerate() {
                candidates.extend(
                    telling
                        .iter()
                        .skip(at + 1)
                        .map(|other| vec![*first, *other]),
                );
            }
        }
        candidates.extend(telling.iter().map(|word| vec![*word]));
        let candidates: Vec<String> = candidates
            .into_iter()
            .map(|words| order.joined(words))
            .collect();
        if let Some(name) = candidates.iter().find(|name| self.take(name)) {
            return name.clone();
        }
        let coarse = category.coarse.as_deref().map(one_line).unwrap_or_default();
        let text = category
            .texts
            .iter()
            .map(|evidence| one_line(&evidence.text));
        let beginnings = text.take(3).map(|text| shortened(&text, limit));
        let base = candidates
            .iter()
            .chain([&coarse])
            .find(|name| name.chars().any(char::is_alphanumeric))
            .map_or_else(|| UNKNOWN.to_owned(), |name| shortened(name, limit));
        let within = Some(format!("{base} ({coarse})"));
        let within = within.filter(|_| !coarse.is_empty() && coarse != base);
        let more = std::iter::once(base.clone())
            .chain(within)
            .chain(beginnings);
        for name in more {
            if self.take(&name) {
                return name;
            }
        }
        loop {
            let number = self.numbers.entry(base.clone()).or_insert(1);
            *number += 1;
            let suffix = format!(" {number}");
            let name = format!("{}{suffix}", shortened(&base, limit - suffix.len()));
            if self.take(&name) {
                return name;
            }
        }
    }
}

/// Whether a term says nothing beside another one: all its words are in it, or are forms of words in
/// it (one begins with the other and has up to three letters more).
fn says_the_same(term: &str, other: &str) -> bool {
    let form_of = |a: &str, b: &str| {
        let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
        let more = long.strip_prefix(short).map(|rest| rest.chars().count());
        let longest = if short.chars().count() >= 4 { 3 } else { 1 };
        more.is_some_and(|more| more <= longest)
    };
    let others = words(other);
    words(term)
        .iter()
        .all(|word| others.iter().any(|other| form_of(word, other)))
}

/// How words stand in the texts of a category, so that a name reads as they do.
struct Order {
    /// Word, sum of its first places as shares of the text, texts with it.
    places: BTreeMap<String, (f64, f64)>,
    /// How often one word follows another one at once.
    pairs: BTreeMap<(String, String), u64>,
}

impl Order {
    /// Of these words alone.
    fn of(category: &CategoryTexts, telling: &[&str]) -> Self {
        let mut order = Self {
            places: BTreeMap::new(),
            pairs: BTreeMap::new(),
        };
        for evidence in &category.texts {
            let all = words(&evidence.text);
            let mut seen = BTreeSet::new();
            let mut before: Option<&String> = None;
            for (at, word) in all.iter().enumerate() {
                let this = Some(word).filter(|word| telling.contains(&word.as_str()));
                if let Some(word) = this
                    && seen.insert(word)
                {
                    let place = order.places.entry(word.clone()).or_default();
                    place.0 += at as f64 / all.len() as f64;
                    place.1 += 1.0;
                }
                if let (Some(before), Some(word)) = (before, this) {
                    let pair = (before.clone(), word.clone());
                    *order.pairs.entry(pair).or_default() += 1;
                }
                before = this;
            }
        }
        order
    }

    /// By mean place; neighbours that more often follow each other the other way round change
    /// places. What is in no text stays behind, in the order of its weight.
    fn joined(&self, mut words: Vec<&str>) -> String {
        let place = |word: &str| match self.places.get(word) {
            Some((sum, texts)) => sum / texts,
            None => f64::INFINITY,
        };
        words.sort_by(|a, b| place(a).total_cmp(&place(b)));
        let often = |a: &str, b: &str| self.pairs.get(&(a.to_owned(), b.to_owned())).copied();
        for second in 1..words.len() {
            if let (Some(a), Some(b)) = (words.get(second - 1), words.get(second))
                && often(b, a) > often(a, b)
            {
                words.swap(second - 1, second);
            }
        }
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;
    use crate::chat::{Answer, AnswerSource, ChatError, Usage};
    use crate::job::{Job, JobConfig, Journal, RejectReason};

    fn category(id: &str, coarse: &str, texts: &[&str]) -> CategoryTexts {
        let texts = texts.iter().enumerate();
        CategoryTexts {
            id: id.to_owned(),
            coarse: Some(coarse.to_owned()).filter(|coarse| !coarse.is_empty()),
            texts: texts
                .map(|(row, text)| Evidence {
                    row,
                    text: (*text).to_owned(),
                })
                .collect(),
            keywords: Vec::new(),
        }
    }

    fn names(categories: &[CategoryTexts], config: &NamingConfig) -> Vec<String> {
        let named = name_by_keywords(categories, config).unwrap();
        named.into_iter().map(|category| category.name).collect()
    }

    struct Scripted<F>(F);

    impl<F: Fn(&Call, u32) -> Result<String, ChatError> + Sync> AnswerSource for Scripted<F> {
        fn name(&self) -> &str {
            "scripted"
        }

        fn answer(&self, call: &Call, attempt: u32) -> Result<Answer, ChatError> {
            Ok(Answer {
                text: self.0(call, attempt)?,
                usage: Usage::default(),
            })
        }
    }

    fn asked(
        categories: &[CategoryTexts],
        config: &NamingConfig,
        source: &dyn AnswerSource,
    ) -> Result<Naming, NamingError> {
        let journal = Journal::in_memory();
        let job = JobConfig {
            concurrency: 3,
            ..JobConfig::default()
        };
        name_by_model(categories, config, source.name(), |calls, checks| {
            Job::new(source, &journal)
                .config(job)
                .checks(checks)
                .run(calls)
        })
    }

    fn answer(name: &str) -> String {
        serde_json::json!({"name": name, "reason": format!("about\n{name}")}).to_string()
    }

    #[test]
    fn keywords_make_names_in_the_order_of_the_texts() {
        let categories = [
            category(
                "a",
                "bank",
                &["my card was stolen", "stolen card, please block the card"],
            ),
            category(
                "b",
                "bank",
                &["open a savings account", "a new savings account for my son"],
            ),
        ];
        let named = name_by_keywords(&categories, &NamingConfig::default()).unwrap();
        assert_eq!(named[0].name, "stolen card");
        assert_eq!(named[1].name, "savings account");
        assert_eq!(named[0].source, NameSource::Keyword);
        assert_eq!(named[0].keywords[..2], ["card", "stolen"]);
        assert_eq!(named[0].evidence, categories[0].texts);
        assert_eq!((named[0].size, named[0].reason.clone()), (2, None));
    }

    #[test]
    fn two_forms_of_a_word_are_not_one_name() {
        let texts = [
            "booking a flight",
            "book flights",
            "flight booked",
            "booking of a flight now",
        ];
        let found = names(
            &[category("a", "", &texts), category("b", "", &["rain"])],
            &NamingConfig::default(),
        );
        let words: Vec<&str> = found[0].split(' ').collect();
        assert_eq!(words.len(), 2, "{found:?}");
        assert!(!says_the_same(words[0], words[1]), "{found:?}");
        assert!(says_the_same("order", "orders") && says_the_same("late", "late parcel"));
        assert!(!says_the_same("car", "carpet") && !says_the_same("late parcel", "late"));
    }

    #[test]
    fn equal_categories_are_told_apart_by_words_then_coarse_then_texts_then_numbers() {
        let config = NamingConfig::default();
        let texts = ["red apple pie"];
        let same: Vec<CategoryTexts> = (0..12)
            .map(|n| category(&n.to_string(), "fruit", &texts))
            .collect();
        let found = names(&same, &config);
        assert_eq!(found[0], "apple pie");
        assert_eq!(found[1], "red apple pie");
        let keys: BTreeSet<String> = found.iter().map(|name| text_key(name)).collect();
        assert_eq!(keys.len(), 12);
        // Three words make seven names, then the coarse name and the text help.
        let numbered = found
            .iter()
            .filter(|name| name.ends_with(|c: char| c.is_numeric()));
        assert_eq!(numbered.count(), 12 - 8, "{found:?}");
        assert!(found.contains(&"apple pie (fruit)".to_owned()), "{found:?}");
    }

    #[test]
    fn a_category_of_nothing_still_has_a_name() {
        let empty = [
            category("a", "", &[]),
            category("b", "", &["?!"]),
            category("c", "sport", &["..."]),
            category("d", "", &["\u{4eca}\u{5929}\u{5929}\u{6c14}"]),
        ];
        let found = names(&empty, &NamingConfig::default());
        assert_eq!(
            found,
            [
                "category",
                "category 2",
                "sport",
                "\u{4eca}\u{5929}\u{5929}\u{6c14}"
            ]
        );
    }

    #[test]
    fn given_keywords_come_first_and_taken_names_are_left_alone() {
        let mut one = category("a", "", &["the parcel is late"]);
        one.keywords = vec![
            "late delivery".into(),
            " \u{202e}".into(),
            "Late Delivery".into(),
        ];
        let config = NamingConfig {
            taken: vec!["Late-delivery parcel".to_owned()],
            max_words: 2,
            ..NamingConfig::default()
        };
        let named = name_by_keywords(&[one], &config).unwrap();
        assert_eq!(named[0].keywords, ["late delivery", "late", "parcel"]);
        assert_eq!(named[0].name, "parcel late delivery");
    }

    #[test]
    fn typical_texts_come_first() {
        let mut categories = [
            category("a", "", &["good morning", "lost my card", "card lost"]),
            category("b", "", &["late parcel"]),
        ];
        order_by_typicality(&mut categories);
        let rows: Vec<usize> = categories[0].texts.iter().map(|e| e.row).collect();
        assert_eq!(rows, [1, 2, 0]);
    }

    #[test]
    fn settings_and_ids_are_checked() {
        let config = NamingConfig {
            max_characters: 11,
            ..NamingConfig::default()
        };
        let error = name_by_keywords(&[], &config).unwrap_err().to_string();
        assert_eq!(
            error,
            "naming: max_characters: expected 12 or more, found 11"
        );
        let config = NamingConfig {
            max_words: 0,
            ..NamingConfig::default()
        };
        assert!(name_by_keywords(&[], &config).is_err());
        let twice = [category("a", "", &[]), category("a", "", &[])];
        let error = name_by_keywords(&twice, &NamingConfig::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "naming: the category id `a` occurs twice"
        );
        let config = NamingConfig {
            prompt: "{{ nothing }}".to_owned(),
            ..NamingConfig::default()
        };
        let source = Scripted(|_: &Call, _| Ok(answer("x")));
        assert!(matches!(
            asked(&[], &config, &source),
            Err(NamingError::Prompt { .. })
        ));
    }

    #[test]
    fn a_model_names_and_gives_reasons() {
        let categories = [
            category("a", "bank", &["my card was stolen"]),
            category("b", "bank", &["open an account"]),
        ];
        let source = Scripted(|call: &Call, attempt| {
            let user = &call.request.user;
            assert!(user.contains("Part of: bank"), "{user}");
            Ok(match (call.id.as_str(), attempt) {
                ("a/0", 0) => "Stolen card".to_owned(),
                ("a/0", 1) => answer(&"long ".repeat(30)),
                ("a/0", _) => {
                    assert!(
                        user.contains("Words: card, stolen\nTexts:\n- my card was stolen"),
                        "{user}"
                    );
                    answer(" \"Stolen\u{202e}\tcard\". ")
                }
                _ => answer("New account"),
            })
        });
        let naming = asked(&categories, &NamingConfig::default(), &source).unwrap();
        let found: Vec<_> = naming
            .categories
            .iter()
            .map(|c| (c.name.as_str(), c.source))
            .collect();
        assert_eq!(
            found,
            [
                ("Stolen card", NameSource::Model),
                ("New account", NameSource::Model)
            ]
        );
        assert_eq!(
            naming.categories[1].reason.as_deref(),
            Some("about New account")
        );
        assert_eq!(naming.rounds.len(), 1);
        assert_eq!(naming.rounds[0].count(RejectReason::Invalid), 2);
        let json: serde_json::Value = serde_json::from_str(&naming.to_json()).unwrap();
        assert_eq!(json["categories"][0]["evidence"][0]["row"], 0);
        assert_eq!(json["categories"][0]["source"], "model");
    }

    #[test]
    fn a_name_is_given_once_then_asked_for_again_then_made_of_keywords() {
        let categories = [
            category("a", "bank", &["my card was stolen"]),
            category("b", "bank", &["open an account"]),
            category("c", "post", &["a late parcel"]),
            category("d", "post", &["send a letter"]),
        ];
        let config = NamingConfig {
            taken: vec!["letters".to_owned()],
            ..NamingConfig::default()
        };
        let source = Scripted(|call: &Call, _| {
            let taken = call.request.user.split("give another one: ").nth(1);
            Ok(match (call.id.as_str(), taken) {
                // Nobody is asked again with another list than this.
                ("b/1", Some("Money; letters")) => answer("account"),
                ("c/1", Some("money!; letters")) => answer("ACCOUNT"),
                ("d/0", None) => answer("Letters"),
                ("d/1", Some("Letters; Money")) => answer("Post"),
                ("a/0" | "b/0", None) => answer("Money"),
                ("c/0", None) => answer("money!"),
                other => panic!("{other:?}"),
            })
        });
        let naming = asked(&categories, &config, &source).unwrap();
        let found: Vec<_> = naming
            .categories
            .iter()
            .map(|c| (c.name.as_str(), c.source))
            .collect();
        assert_eq!(
            found,
            [
                ("Money", NameSource::Model),
                ("account", NameSource::Model),
                ("late parcel", NameSource::Keyword),
                ("Post", NameSource::Model),
            ]
        );
        assert_eq!(naming.rounds.len(), 2);
    }

    #[test]
    fn garbage_falls_back_to_keywords_and_fatal_errors_stop() {
        let categories = [category("a", "", &["a late parcel"])];
        let garbage = Scripted(|_: &Call, _| Ok("{\"name\": [], \"reason\": 1}".to_owned()));
        let naming = asked(&categories, &NamingConfig::default(), &garbage).unwrap();
        assert_eq!(naming.categories[0].source, NameSource::Keyword);
        assert_eq!(naming.categories[0].name, "late parcel");
        assert_eq!(naming.rounds[0].given_up, 1);
        let spent = Scripted(|_: &Call, _| {
            Err(ChatError::Budget {
                unit: "tokens",
                limit: 1,
                spent: 1,
                asked: 9,
            })
        });
        let error = asked(&categories, &NamingConfig::default(), &spent).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("the budget of 1 tokens is spent"),
            "{error}"
        );
    }

    fn any_categories() -> impl Strategy<Value = Vec<CategoryTexts>> {
        let text = prop_oneof![any::<String>(), "[ab]{1,2}( [ab]{1,2}){0,3}"];
        let one = (
            prop::collection::vec(text.clone(), 0..4),
            prop::collection::vec(text.clone(), 0..3),
            prop::option::of(text),
        );
        prop::collection::vec(one, 0..12).prop_map(|all| {
            let all = all.into_iter().enumerate();
            all.map(|(id, (texts, keywords, coarse))| CategoryTexts {
                id: id.to_string(),
                coarse,
                texts: texts
                    .into_iter()
                    .enumerate()
                    .map(|(row, text)| Evidence { row, text })
                    .collect(),
                keywords,
            })
            .collect()
        })
    }

    fn sound(named: &[NamedCategory], config: &NamingConfig) -> Result<(), TestCaseError> {
        let mut keys: BTreeSet<String> = config.taken.iter().map(|name| text_key(name)).collect();
        for category in named {
            let name = &category.name;
            prop_assert!(keys.insert(text_key(name)), "{:?}", name);
            prop_assert!(!name.chars().any(char::is_control) && name.trim() == name);
            prop_assert!(name.chars().any(char::is_alphanumeric));
            prop_assert!(name.chars().count() <= config.max_characters);
        }
        Ok(())
    }

    fn any_config() -> impl Strategy<Value = NamingConfig> {
        let taken = prop::collection::vec("[ab]{1,2}( [ab]{1,2})?|category", 0..6);
        (taken, LEAST_CHARACTERS..50, 1_usize..6).prop_map(|(taken, max_characters, max_words)| {
            NamingConfig {
                taken,
                max_characters,
                max_words,
                ..NamingConfig::default()
            }
        })
    }

    proptest! {
        #[test]
        fn names_of_keywords_are_sound_for_any_input(
            categories in any_categories(),
            config in any_config(),
        ) {
            let named = name_by_keywords(&categories, &config).unwrap();
            prop_assert_eq!(named.len(), categories.len());
            sound(&named, &config)?;
        }
    }

    proptest! {
        // Each case runs two jobs with their threads.
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn names_of_a_model_are_sound_for_any_answer(
            categories in any_categories(),
            config in any_config(),
            answers in prop::collection::vec(
                prop_oneof![
                    any::<String>(),
                    "\\PC{0,20}".prop_map(|name| answer(&name)),
                    Just(answer("a")),
                ],
                1..6,
            ),
        ) {
            let source = Scripted(|call: &Call, attempt| {
                let at = call.request.user.len() + attempt as usize;
                Ok(answers[at % answers.len()].clone())
            });
            let naming = asked(&categories, &config, &source).unwrap();
            prop_assert_eq!(naming.categories.len(), categories.len());
            sound(&naming.categories, &config)?;
        }
    }
}
