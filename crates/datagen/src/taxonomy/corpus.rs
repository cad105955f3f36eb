//! A corpus of a taxonomy: calls, checks, and the two files.
//!
//! Each fine category is asked for in sets of a few texts, every set with another instruction for
//! style and circumstance, so that the texts differ. What the checks leave short is asked for again
//! in the next round, which also shows texts that are there already. Within a round the calls do not
//! depend on each other; between rounds they depend on the accepted texts alone, so a job that was
//! interrupted and one that was not give the same corpus.
//!
//! An answer has to be `{"texts": ["...", ...]}` with at least one usable text, or it is refused as a
//! whole. Then every text is checked by itself: [`TextChecks`] (empty, garbage, several lines,
//! refusal; another language where there are examples to compare with), length, and repeats in the
//! whole corpus up to case and punctuation; an example or a description again is a copy.
//!
//! The accepted texts of each category are split by the seed: `round(n * test_share)` of them, at least
//! one and not all, are for the test file. Which ones depends on the seed and the name of the
//! category, so a category that is added moves no text of another one to the other file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use minijinja::context;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{CoarseCategory, FineCategory, Taxonomy};
use crate::chat::structured::parse_answer;
use crate::chat::{Call, ChatRequest, Spent};
use crate::job::{Checks, JobError, JobOutcome, RejectReason, RejectReport, TextChecks, digest};
use crate::plain::{filled, one_line, text_key};

/// The system text for [`CorpusConfig::prompt`]: a template with `about`, `language` and
/// `max_characters`.
const PROMPT: &str = include_str!("../../prompts/categories/corpus.txt");
/// Format of the report.
const SCHEMA: &str = "asterism/corpus/1";
/// Kind of the calls.
const KIND: &str = "corpus";
/// What every text is where the taxonomy says nothing about it.
const ABOUT: &str = "short texts";
/// Texts of the corpus that a later round shows.
const SHOWN: usize = 20;
/// Other categories of the same coarse one that a call names.
const SIBLINGS: usize = 12;
/// Fewest texts of a category: one for each file.
const LEAST: usize = 2;

/// Sets of texts are written in one of these ways,
const STYLES: [&str; 7] = [
    "plain complete sentences",
    "short and blunt, a few words each",
    "polite, with a greeting or thanks in some of them",
    "casual, as typed on a phone in a hurry",
    "long, with a reason or what happened before",
    "questions only",
    "by somebody who does not know the right words for it",
];

/// and about one of these circumstances. The numbers of the two lists have no common divisor, so that
/// all pairs occur.
const CIRCUMSTANCES: [&str; 8] = [
    "the usual case",
    "with a date, a time or a place in each",
    "on behalf of somebody else",
    "the second time about the same matter",
    "with a rare or difficult case",
    "with names, numbers or amounts in each",
    "in a good mood or in a bad one",
    "with the important word at the end, or not at all",
];

/// How a corpus is written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CorpusConfig {
    /// Texts that one call asks for, from 1 to 100.
    pub per_call: usize,
    /// Further rounds for what the checks refused.
    pub more_rounds: u32,
    /// Longest text in characters, from 10 to 10,000.
    pub max_characters: usize,
    /// Share of each category that goes to the test file, above 0 and below 1.
    pub test_share: f64,
    /// Seed of the split.
    pub seed: u64,
    /// Temperature of the model.
    pub temperature: f64,
    /// Template of the system text, see `prompts/categories/corpus.txt`.
    #[serde(skip)]
    pub prompt: String,
}

impl Default for CorpusConfig {
    fn default() -> Self {
        Self {
            per_call: 10,
            more_rounds: 3,
            max_characters: 200,
            test_share: 0.2,
            seed: 0,
            temperature: 1.0,
            prompt: PROMPT.to_owned(),
        }
    }
}

impl CorpusConfig {
    /// Checks the settings, the prompt for this taxonomy among them.
    ///
    /// # Errors
    ///
    /// [`CorpusError::Config`], [`CorpusError::Prompt`].
    pub fn check(&self, taxonomy: &Taxonomy) -> Result<(), CorpusError> {
        let bad = |field, found: String, expected| {
            Err(CorpusError::Config {
                field,
                found,
                expected,
            })
        };
        if !(1..=100).contains(&self.per_call) {
            return bad("per_call", self.per_call.to_string(), "1 to 100");
        }
        if !(10..=10_000).contains(&self.max_characters) {
            let found = self.max_characters.to_string();
            return bad("max_characters", found, "10 to 10000");
        }
        if !(self.test_share > 0.0 && self.test_share < 1.0) {
            let found = self.test_share.to_string();
            return bad("test_share", found, "a share above 0 and below 1");
        }
        if !(0.0..=2.0).contains(&self.temperature) {
            return bad("temperature", self.temperature.to_string(), "0 to 2");
        }
        system_text(taxonomy, self).map(drop)
    }
}

/// Why there is no corpus.
#[derive(Debug, Error)]
pub enum CorpusError {
    /// A setting that cannot be.
    #[error("corpus: {field} = {found}: expected {expected}")]
    Config {
        /// The setting.
        field: &'static str,
        /// Its value.
        found: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// The template of the system text.
    #[error("corpus: prompt template: {problem}")]
    Prompt {
        /// What is wrong, with the line.
        problem: String,
    },
    /// The job did not finish.
    #[error(transparent)]
    Job(#[from] JobError),
    /// A category has too few texts to be in both files.
    #[error(
        "category `{fine}`: {found} usable texts after {rounds} rounds, {LEAST} needed; refused: {refused}"
    )]
    TooFew {
        /// The fine category.
        fine: String,
        /// Texts found.
        found: usize,
        /// Rounds made.
        rounds: usize,
        /// Refused texts with their reasons.
        refused: String,
    },
    /// A file of the corpus cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Reason given by the system.
        source: std::io::Error,
    },
}

/// One text of a corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorpusRow {
    /// One line without tabs.
    pub text: String,
    /// Coarse category.
    pub coarse: String,
    /// Fine category.
    pub fine: String,
}

/// Texts of a fine category.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CategoryCount {
    /// Coarse category.
    pub coarse: String,
    /// Fine category.
    pub fine: String,
    /// Texts that the taxonomy asks for.
    pub asked: usize,
    /// Texts in the training file.
    pub train: usize,
    /// Texts in the test file.
    pub test: usize,
    /// Usable texts beyond what was asked for.
    pub surplus: u64,
    /// Refused texts of accepted answers.
    pub rejected: BTreeMap<RejectReason, u64>,
}

/// What became of the texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CorpusReport {
    /// Format of this document.
    pub schema: &'static str,
    /// Name of the source of the texts.
    pub source: String,
    /// SHA-256 of the taxonomy as it was understood.
    pub taxonomy_sha256: String,
    /// SHA-256 of the system text.
    pub prompt_sha256: String,
    /// How it was written; the prompt is in the digest above.
    pub config: CorpusConfig,
    /// Categories in the order of the taxonomy.
    pub categories: Vec<CategoryCount>,
    /// Whole answers, round by round.
    pub rounds: Vec<RejectReport>,
    /// What all answers in the journal cost.
    pub spent: Spent,
    /// SHA-256 of each file of the corpus.
    pub files: BTreeMap<&'static str, String>,
}

impl CorpusReport {
    /// Categories with fewer texts than the taxonomy asks for.
    pub fn short(&self) -> impl Iterator<Item = &CategoryCount> {
        self.categories
            .iter()
            .filter(|category| category.train + category.test < category.asked)
    }

    /// Refused texts of accepted answers by reason.
    pub fn rejected(&self) -> BTreeMap<RejectReason, u64> {
        let mut all = BTreeMap::new();
        for (reason, count) in self.categories.iter().flat_map(|c| &c.rejected) {
            *all.entry(*reason).or_default() += count;
        }
        all
    }
}

/// The texts of a taxonomy in two parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Corpus {
    /// Training part, in a random order.
    pub train: Vec<CorpusRow>,
    /// Test part, in a random order.
    pub test: Vec<CorpusRow>,
    /// What became of the texts.
    pub report: CorpusReport,
}

impl Corpus {
    /// The training part as `text<TAB>coarse<TAB>fine` with a header, LF line ends, no quoting.
    pub fn train_tsv(&self) -> String {
        tsv(&self.train)
    }

    /// The test part in the same form.
    pub fn test_tsv(&self) -> String {
        tsv(&self.test)
    }

    /// Writes `report.json`, `train.tsv` and `test.tsv` into a folder that exists, and returns their
    /// paths.
    ///
    /// # Errors
    ///
    /// [`CorpusError::TooFew`] if a category cannot be in both files; the report is written then and
    /// the other two are not. [`CorpusError::Write`].
    pub fn write(&self, folder: &Path) -> Result<Vec<PathBuf>, CorpusError> {
        let mut paths = Vec::new();
        let mut write = |name: &str, content: String| {
            let path = folder.join(name);
            let written = std::fs::write(&path, content);
            written.map_err(|source| CorpusError::Write {
                path: path.clone(),
                source,
            })?;
            paths.push(path);
            Ok::<(), CorpusError>(())
        };
        // Numbers, texts and maps with text keys always have a JSON form.
        let mut report = serde_json::to_string_pretty(&self.report).unwrap_or_default();
        report.push('\n');
        write("report.json", report)?;
        let few = |category: &&CategoryCount| category.train + category.test < LEAST;
        if let Some(category) = self.report.categories.iter().find(few) {
            let refused = category.rejected.iter();
            let refused: Vec<String> = refused.map(|(why, n)| format!("{why} {n}")).collect();
            return Err(CorpusError::TooFew {
                fine: category.fine.clone(),
                found: category.train + category.test,
                rounds: self.report.rounds.len(),
                refused: match refused.is_empty() {
                    true => "whole answers, see report.json".to_owned(),
                    false => refused.join(", "),
                },
            });
        }
        write("train.tsv", self.train_tsv())?;
        write("test.tsv", self.test_tsv())?;
        Ok(paths)
    }
}

fn tsv(rows: &[CorpusRow]) -> String {
    let mut out = String::from("text\tcoarse\tfine\n");
    for row in rows {
        // None of the three has a tab or a line break: texts were checked, names by the taxonomy.
        out.push_str(&format!("{}\t{}\t{}\n", row.text, row.coarse, row.fine));
    }
    out
}

/// Writes texts for a taxonomy.
///
/// `source` is the name of whoever answers, for the report. `run` runs the calls of a round; it is
/// where the source, the journal, the settings of the job, its stop flag and its progress line go.
///
/// # Errors
///
/// [`CorpusError`]; what was answered before is in the journal of the job.
///
/// ```
/// use datagen::job::{Job, Journal};
/// use datagen::taxonomy::{CorpusConfig, Taxonomy, TaxonomyRules, write_corpus};
/// let taxonomy = Taxonomy::parse(
///     "texts = 20\n[[coarse]]\nname = 'shop'\n\
///      [[coarse.fine]]\nname = 'hours'\ndescription = 'asks when the shop opens'\n\
///      [[coarse.fine]]\nname = 'refund'\ndescription = 'wants a refund'\n",
///     "shop.toml",
/// )?;
/// let config = CorpusConfig::default();
/// let rules = TaxonomyRules::new(&taxonomy, 1, config.per_call)?;
/// let journal = Journal::in_memory();
/// let corpus = write_corpus(&taxonomy, &config, "rules", |calls, checks| {
///     Job::new(&rules, &journal).checks(checks).run(calls)
/// })?;
/// assert_eq!((corpus.train.len(), corpus.test.len()), (32, 8));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_corpus(
    taxonomy: &Taxonomy,
    config: &CorpusConfig,
    source: &str,
    mut run: impl FnMut(Vec<Call>, Checks<'_>) -> Result<JobOutcome, JobError>,
) -> Result<Corpus, CorpusError> {
    config.check(taxonomy)?;
    let system = system_text(taxonomy, config)?;
    let mut drafts: Vec<Draft<'_>> = taxonomy
        .fine()
        .map(|(coarse, fine)| Draft::new(coarse, fine))
        .collect();
    let by_name: BTreeMap<&str, usize> = drafts
        .iter()
        .enumerate()
        .map(|(at, draft)| (draft.fine.name.as_str(), at))
        .collect();
    let mut seen = Seen::new(taxonomy);
    let mut rounds = Vec::new();
    let mut spent = Spent::default();

    for round in 0..=config.more_rounds {
        let calls: Vec<Call> = drafts
            .iter_mut()
            .flat_map(|draft| draft.calls(round, config, &system))
            .collect();
        if calls.is_empty() {
            break;
        }
        // The name of its category is the source of every call.
        let asked: Vec<usize> = calls
            .iter()
            .filter_map(|call| by_name.get(call.source.as_str()).copied())
            .collect();
        let usable = |call: &Call, text: &str| {
            let texts = texts_of(text)?;
            let draft = by_name
                .get(call.source.as_str())
                .and_then(|at| drafts.get(*at));
            let checked = texts.iter().map(|text| match draft {
                Some(draft) => draft.check(text, config),
                None => Err((RejectReason::Invalid, "no such category".to_owned())),
            });
            let mut problem = None;
            for checked in checked {
                match checked {
                    Ok(_) => return Ok(text.to_owned()),
                    Err((reason, detail)) => {
                        problem.get_or_insert(format!(
                            "no usable text; the first: {reason}, {detail}"
                        ));
                    }
                }
            }
            Err(problem.unwrap_or_else(|| "no text".to_owned()))
        };
        let outcome = run(calls, Checks::Valid(&usable))?;
        for (at, answer) in asked.into_iter().zip(&outcome.answers) {
            let (Some(draft), Some(answer)) = (drafts.get_mut(at), answer) else {
                continue;
            };
            for text in texts_of(answer).unwrap_or_default() {
                draft.take(&text, config, &mut seen);
            }
        }
        spent = outcome.spent;
        rounds.push(outcome.report);
    }
    Ok(assemble(
        taxonomy, config, source, &system, drafts, rounds, spent,
    ))
}

fn system_text(taxonomy: &Taxonomy, config: &CorpusConfig) -> Result<String, CorpusError> {
    let about = match taxonomy.about.as_str() {
        "" => ABOUT,
        about => about,
    };
    let variables = context! {
        about,
        language => taxonomy.language,
        max_characters => config.max_characters,
    };
    filled(&config.prompt, variables).map_err(|problem| CorpusError::Prompt { problem })
}

/// The schema of every answer.
fn schema() -> serde_json::Value {
    serde_json::json!({
        "type": "object",
        "properties": {
            "texts": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        },
        "required": ["texts"],
        "additionalProperties": false,
    })
}

fn texts_of(answer: &str) -> Result<Vec<String>, String> {
    let value = parse_answer(answer, &schema()).map_err(|error| error.to_string())?;
    let texts = value.get("texts").and_then(serde_json::Value::as_array);
    Ok(texts
        .into_iter()
        .flatten()
        .filter_map(|text| text.as_str().map(str::to_owned))
        .collect())
}

/// Texts that may not come again.
struct Seen {
    texts: BTreeSet<String>,
    /// Examples and descriptions.
    given: BTreeSet<String>,
}

impl Seen {
    fn new(taxonomy: &Taxonomy) -> Self {
        let given = taxonomy
            .fine()
            .flat_map(|(_, fine)| fine.examples.iter().chain([&fine.description]));
        Self {
            texts: BTreeSet::new(),
            given: given.map(|text| text_key(text)).collect(),
        }
    }
}

/// A fine category while its texts are written.
struct Draft<'a> {
    coarse: &'a CoarseCategory,
    fine: &'a FineCategory,
    /// What its texts are compared with: the examples, else the description.
    like: String,
    texts: Vec<String>,
    /// Sets asked for so far.
    sets: usize,
    surplus: u64,
    rejected: BTreeMap<RejectReason, u64>,
}

impl<'a> Draft<'a> {
    fn new(coarse: &'a CoarseCategory, fine: &'a FineCategory) -> Self {
        Self {
            coarse,
            fine,
            like: match fine.examples.as_slice() {
                [] => fine.description.clone(),
                examples => examples.join(". "),
            },
            texts: Vec::new(),
            sets: 0,
            surplus: 0,
            rejected: BTreeMap::new(),
        }
    }

    /// Calls for the texts that are missing.
    fn calls(&mut self, round: u32, config: &CorpusConfig, system: &str) -> Vec<Call> {
        let missing = self.fine.texts.saturating_sub(self.texts.len());
        (0..missing.div_ceil(config.per_call))
            .map(|batch| {
                let user = self.user_text(config);
                self.sets += 1;
                let tokens = config.per_call * config.max_characters / 3 + 200;
                Call {
                    id: format!("{}/{round}/{batch}", self.fine.name),
                    kind: KIND.to_owned(),
                    source: self.fine.name.clone(),
                    request: ChatRequest {
                        system: system.to_owned(),
                        user,
                        temperature: config.temperature,
                        max_tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
                        schema: Some(schema()),
                    },
                }
            })
            .collect()
    }

    fn user_text(&self, config: &CorpusConfig) -> String {
        let mut lines = vec![format!("Category: {}", self.fine.name)];
        lines.push(match self.coarse.description.as_str() {
            "" => format!("It belongs to: {}", self.coarse.name),
            description => format!("It belongs to: {} ({description})", self.coarse.name),
        });
        lines.push(format!("What its texts say: {}", self.fine.description));
        if !self.fine.keywords.is_empty() {
            lines.push(format!(
                "Words that may occur: {}",
                self.fine.keywords.join("; ")
            ));
        }
        let mut list = |title: &str, items: Vec<String>| {
            if !items.is_empty() {
                lines.push(title.to_owned());
                lines.extend(items.into_iter().map(|item| format!("- {item}")));
            }
        };
        let siblings = self.coarse.fine.iter();
        let siblings = siblings.filter(|other| other.name != self.fine.name);
        list(
            "Other categories, whose texts do not belong here:",
            siblings
                .take(SIBLINGS)
                .map(|other| format!("{}: {}", other.name, other.description))
                .collect(),
        );
        list("Examples:", self.fine.examples.clone());
        let shown = self.texts.len().saturating_sub(SHOWN);
        list(
            "Texts that are there already; write different ones:",
            self.texts.iter().skip(shown).cloned().collect(),
        );
        let pick = |list: &'static [&'static str]| {
            let at = self.sets % list.len();
            list.get(at).copied().unwrap_or_default()
        };
        lines.push(format!(
            "Set {}: write {} texts. Style: {}. Circumstances: {}.",
            self.sets + 1,
            config.per_call,
            pick(&STYLES),
            pick(&CIRCUMSTANCES),
        ));
        lines.join("\n")
    }

    /// A text that this category could have, as it goes into the file.
    fn check(&self, text: &str, config: &CorpusConfig) -> Result<String, (RejectReason, String)> {
        let checks = TextChecks {
            // Of the length of the other text nothing follows, and a description may be in another
            // language than the texts.
            max_ratio: f64::INFINITY,
            same_language: !self.fine.examples.is_empty(),
            ..TextChecks::default()
        };
        let text = one_line(&checks.check(&self.like, text)?);
        let length = text.chars().count();
        if length > config.max_characters {
            let detail = format!(
                "{length} characters; the limit is {}",
                config.max_characters
            );
            return Err((RejectReason::OverLong, detail));
        }
        Ok(text)
    }

    fn take(&mut self, text: &str, config: &CorpusConfig, seen: &mut Seen) {
        let taken = self.check(text, config).map_err(|(reason, _)| reason);
        let taken = taken.and_then(|text| {
            let key = text_key(&text);
            if seen.given.contains(&key) {
                Err(RejectReason::Copy)
            } else if seen.texts.contains(&key) {
                Err(RejectReason::Duplicate)
            } else {
                Ok((text, key))
            }
        });
        match taken {
            Ok(_) if self.texts.len() >= self.fine.texts => self.surplus += 1,
            Ok((text, key)) => {
                seen.texts.insert(key);
                self.texts.push(text);
            }
            Err(reason) => *self.rejected.entry(reason).or_default() += 1,
        }
    }
}

fn assemble(
    taxonomy: &Taxonomy,
    config: &CorpusConfig,
    source: &str,
    system: &str,
    drafts: Vec<Draft<'_>>,
    rounds: Vec<RejectReport>,
    spent: Spent,
) -> Corpus {
    let (mut train, mut test) = (Vec::new(), Vec::new());
    let mut categories = Vec::new();
    for draft in drafts {
        let found = draft.texts.len();
        let share = (found as f64 * config.test_share).round() as usize;
        let for_test = share
            .clamp(1, found.saturating_sub(1).max(1))
            .min(found.saturating_sub(1));
        let mut rows: Vec<CorpusRow> = draft
            .texts
            .into_iter()
            .map(|text| CorpusRow {
                text,
                coarse: draft.coarse.name.clone(),
                fine: draft.fine.name.clone(),
            })
            .collect();
        rows.shuffle(&mut stream(config.seed, &draft.fine.name));
        test.extend(rows.split_off(found - for_test));
        train.extend(rows);
        categories.push(CategoryCount {
            coarse: draft.coarse.name.clone(),
            fine: draft.fine.name.clone(),
            asked: draft.fine.texts,
            train: found - for_test,
            test: for_test,
            surplus: draft.surplus,
            rejected: draft.rejected,
        });
    }
    // Different streams: an order says nothing about the other one. Category names are never empty.
    train.shuffle(&mut stream(config.seed, ""));
    test.shuffle(&mut stream(config.seed, " "));
    let files = [("train.tsv", tsv(&train)), ("test.tsv", tsv(&test))];
    let understood = serde_json::to_string(taxonomy).unwrap_or_default();
    Corpus {
        train,
        test,
        report: CorpusReport {
            schema: SCHEMA,
            source: source.to_owned(),
            taxonomy_sha256: digest(&understood),
            prompt_sha256: digest(system),
            config: config.clone(),
            categories,
            rounds,
            spent,
            files: files
                .into_iter()
                .map(|(name, content)| (name, digest(&content)))
                .collect(),
        },
    }
}

/// A stream of random numbers for a name.
fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(name);
    ChaCha8Rng::from_seed(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::super::TaxonomyRules;
    use super::*;
    use crate::chat::{Answer, AnswerSource, ChatError, Usage};
    use crate::job::{Job, JobConfig, Journal};

    fn bakery() -> Taxonomy {
        Taxonomy::parse(super::super::tests::BAKERY, "taxonomy.toml").unwrap()
    }

    fn small(texts: usize) -> Taxonomy {
        let text = format!(
            "texts = {texts}\n[[coarse]]\nname = 'c'\n\
             [[coarse.fine]]\nname = 'lost'\ndescription = 'a lost card'\nexamples = ['my card is gone']\n\
             [[coarse.fine]]\nname = 'late'\ndescription = 'a late parcel'\n"
        );
        Taxonomy::parse(&text, "small.toml").unwrap()
    }

    /// A source whose answer is a function of the call and the attempt.
    struct Scripted<F>(F);

    impl<F: Fn(&Call, u32) -> Result<String, ChatError> + Sync> AnswerSource for Scripted<F> {
        fn name(&self) -> &str {
            "scripted"
        }

        fn answer(&self, call: &Call, attempt: u32) -> Result<Answer, ChatError> {
            let text = self.0(call, attempt)?;
            let usage = Usage {
                prompt_tokens: 5,
                completion_tokens: 2,
            };
            Ok(Answer { text, usage })
        }
    }

    fn made(
        taxonomy: &Taxonomy,
        config: &CorpusConfig,
        source: &dyn AnswerSource,
        concurrency: usize,
    ) -> Result<Corpus, CorpusError> {
        let journal = Journal::in_memory();
        let job = JobConfig {
            concurrency,
            ..JobConfig::default()
        };
        write_corpus(taxonomy, config, source.name(), |calls, checks| {
            Job::new(source, &journal)
                .config(job)
                .checks(checks)
                .run(calls)
        })
    }

    fn texts(list: &[&str]) -> String {
        serde_json::json!({ "texts": list }).to_string()
    }

    #[test]
    fn rules_give_what_the_taxonomy_asks_for() {
        let taxonomy = bakery();
        let config = CorpusConfig::default();
        let rules = TaxonomyRules::new(&taxonomy, 1, config.per_call).unwrap();
        let corpus = made(&taxonomy, &config, &rules, 4).unwrap();
        assert_eq!(corpus.report.short().count(), 0);
        assert_eq!((corpus.train.len(), corpus.test.len()), (280, 70));
        for category in &corpus.report.categories {
            assert_eq!(category.train + category.test, category.asked);
            assert_eq!(category.test * 5, category.asked);
            let rows = corpus.train.iter().filter(|row| row.fine == category.fine);
            assert_eq!(rows.count(), category.train);
        }
        let all = || corpus.train.iter().chain(&corpus.test);
        let keys: BTreeSet<String> = all().map(|row| text_key(&row.text)).collect();
        assert_eq!(keys.len(), 350);
        for (_, fine) in taxonomy.fine() {
            for given in fine.examples.iter().chain([&fine.description]) {
                assert!(!keys.contains(&text_key(given)), "{given}");
            }
        }
        for line in corpus.train_tsv().lines().chain(corpus.test_tsv().lines()) {
            assert_eq!(line.split('\t').count(), 3, "{line}");
        }
        assert_eq!(corpus.report.files["test.tsv"], digest(&corpus.test_tsv()));
        // Neither the number of workers nor another run changes anything.
        assert_eq!(made(&taxonomy, &config, &rules, 1).unwrap(), corpus);
        let other = CorpusConfig { seed: 1, ..config };
        assert_ne!(
            made(&taxonomy, &other, &rules, 1).unwrap().test,
            corpus.test
        );
    }

    #[test]
    fn another_category_moves_no_text_to_the_other_file() {
        let config = CorpusConfig::default();
        let source = Scripted(|call: &Call, _| {
            let set = &call.id;
            Ok(texts(&[
                &format!("{set} one"),
                &format!("{set} two"),
                &format!("{set} three"),
            ]))
        });
        let both = made(&small(6), &config, &source, 1).unwrap();
        let mut one = small(6);
        one.coarse[0].fine.truncate(1);
        let one = made(&one, &config, &source, 1).unwrap();
        let of = |rows: &[CorpusRow]| -> BTreeSet<String> {
            let rows = rows.iter().filter(|row| row.fine == "lost");
            rows.map(|row| row.text.clone()).collect()
        };
        assert_eq!(of(&one.test), of(&both.test));
        assert_eq!(one.test.len(), 1);
    }

    #[test]
    fn every_set_is_asked_for_in_another_way() {
        let taxonomy = small(60 * 10);
        let config = CorpusConfig::default();
        let mut draft = Draft::new(&taxonomy.coarse[0], &taxonomy.coarse[0].fine[0]);
        let calls = draft.calls(0, &config, "system");
        assert_eq!(calls.len(), 60);
        let styles: BTreeSet<&str> = calls
            .iter()
            .map(|call| call.request.user.split("Style: ").nth(1).unwrap())
            .collect();
        assert_eq!(styles.len(), STYLES.len() * CIRCUMSTANCES.len());
        let users: BTreeSet<&str> = calls
            .iter()
            .map(|call| call.request.user.as_str())
            .collect();
        assert_eq!(users.len(), 60);
        let user = &calls[0].request.user;
        for part in [
            "Category: lost",
            "What its texts say: a lost card",
            "- late: a late parcel",
            "- my card is gone",
            "Set 1: write 10 texts.",
        ] {
            assert!(user.contains(part), "{user}");
        }
        crate::chat::structured::check_schema(&schema()).unwrap();
    }

    #[test]
    fn bad_texts_are_counted_and_asked_for_again() {
        let long = "word ".repeat(60);
        let source = Scripted(|call: &Call, attempt| {
            Ok(
                match (call.source.as_str(), call.id.ends_with("/0/0"), attempt) {
                    // Not JSON, another shape, then texts of which few are usable.
                    ("lost", true, 0) => "I would be glad to help.".to_owned(),
                    ("lost", true, 1) => "{\"texts\": [\"a\", 3]}".to_owned(),
                    ("lost", true, _) => texts(&[
                        "where is my card",
                        "  ",
                        "one\ntwo",
                        &long,
                        "Where is MY card?",
                        "My card is gone!",
                        "A lost card",
                        "As an AI language model, I cannot do that.",
                        "a\u{0}b",
                        "\"i lost it\"",
                    ]),
                    ("lost", ..) => {
                        assert!(call.request.user.contains("- where is my card"));
                        texts(&[
                            "i can not find my card",
                            "blocked card, please help",
                            "one too many",
                        ])
                    }
                    // The same text as in the other category.
                    (_, true, _) => {
                        texts(&["where is my card", "my parcel is late", "no parcel today"])
                    }
                    _ => texts(&["still no parcel", "the parcel has not come"]),
                },
            )
        });
        let corpus = made(&small(4), &CorpusConfig::default(), &source, 3).unwrap();
        let [lost, late] = corpus.report.categories.as_slice() else {
            panic!()
        };
        assert_eq!((lost.train, lost.test, lost.surplus), (3, 1, 1));
        let count = |category: &CategoryCount, reason| category.rejected.get(&reason).copied();
        for (reason, expected) in [
            (RejectReason::Empty, 1),
            (RejectReason::MultiLine, 1),
            (RejectReason::OverLong, 1),
            (RejectReason::Duplicate, 1),
            (RejectReason::Copy, 2),
            (RejectReason::Refusal, 1),
            (RejectReason::Garbage, 1),
        ] {
            assert_eq!(count(lost, reason), Some(expected), "{reason}");
        }
        assert_eq!(count(late, RejectReason::Duplicate), Some(1));
        assert_eq!(corpus.report.rejected()[&RejectReason::Duplicate], 2);
        assert_eq!(corpus.report.rounds.len(), 2);
        assert_eq!(corpus.report.rounds[0].count(RejectReason::Invalid), 2);
        assert_eq!(corpus.report.spent.calls, 3 + 1 + 1 + 1);
        let all = corpus.train_tsv() + &corpus.test_tsv();
        assert!(all.contains("\ni lost it\tc\tlost\n"), "{all}");
    }

    #[test]
    fn garbage_ends_in_a_report_that_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let source = Scripted(|_: &Call, _| Ok("\u{0}\u{fffd}{]".to_owned()));
        let corpus = made(&small(4), &CorpusConfig::default(), &source, 2).unwrap();
        assert!(corpus.train.is_empty() && corpus.test.is_empty());
        assert_eq!(corpus.report.rounds.len(), 4);
        // Two categories, three attempts.
        assert_eq!(corpus.report.rounds[3].count(RejectReason::Invalid), 6);
        let error = corpus.write(dir.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "category `lost`: 0 usable texts after 4 rounds, 2 needed; refused: whole answers, \
             see report.json"
        );
        assert!(dir.path().join("report.json").exists());
        assert!(!dir.path().join("train.tsv").exists());

        // One text for ever: each category keeps one, which is too few for two files.
        let source = Scripted(|call: &Call, _| Ok(texts(&[&format!("only {}", call.source)])));
        let corpus = made(&small(4), &CorpusConfig::default(), &source, 2).unwrap();
        assert_eq!((corpus.train.len(), corpus.test.len()), (2, 0));
        let error = corpus.write(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("1 usable texts after 4 rounds, 2 needed; refused: duplicate 3"),
            "{error}"
        );
    }

    #[test]
    fn a_fatal_error_ends_the_job() {
        let source = Scripted(|_: &Call, _| {
            Err(ChatError::Budget {
                unit: "calls",
                limit: 0,
                spent: 0,
                asked: 1,
            })
        });
        let error = made(&small(4), &CorpusConfig::default(), &source, 2).unwrap_err();
        assert!(
            matches!(error, CorpusError::Job(JobError::Fatal { .. })),
            "{error}"
        );
    }

    #[test]
    fn bad_settings_are_refused() {
        let good = CorpusConfig::default();
        let source = Scripted(|_: &Call, _| Ok(String::new()));
        for (config, field) in [
            (
                CorpusConfig {
                    per_call: 0,
                    ..good.clone()
                },
                "per_call",
            ),
            (
                CorpusConfig {
                    per_call: 101,
                    ..good.clone()
                },
                "per_call",
            ),
            (
                CorpusConfig {
                    max_characters: 3,
                    ..good.clone()
                },
                "max_characters",
            ),
            (
                CorpusConfig {
                    test_share: 0.0,
                    ..good.clone()
                },
                "test_share",
            ),
            (
                CorpusConfig {
                    test_share: 1.0,
                    ..good.clone()
                },
                "test_share",
            ),
            (
                CorpusConfig {
                    test_share: f64::NAN,
                    ..good.clone()
                },
                "test_share",
            ),
            (
                CorpusConfig {
                    temperature: -1.0,
                    ..good.clone()
                },
                "temperature",
            ),
            (
                CorpusConfig {
                    prompt: "{{ abuot }}".into(),
                    ..good.clone()
                },
                "prompt",
            ),
            (
                CorpusConfig {
                    prompt: "{% for".into(),
                    ..good.clone()
                },
                "prompt",
            ),
        ] {
            let error = made(&small(4), &config, &source, 1)
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(&format!("corpus: {field}")), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever a model answers, rows keep the form of the file and nothing comes twice.
        #[test]
        fn any_answers_make_sound_rows(
            answers in prop::collection::vec(
                prop_oneof![
                    any::<String>(),
                    prop::collection::vec("\\PC{0,30}|[a-c]( [a-c]){0,3}", 0..6)
                        .prop_map(|list| serde_json::json!({"texts": list}).to_string()),
                ],
                1..8),
            share in 0.01_f64..0.99,
        ) {
            let source = Scripted(|call: &Call, attempt| {
                let at = call.request.user.len() + attempt as usize;
                Ok(answers[at % answers.len()].clone())
            });
            let config = CorpusConfig { test_share: share, ..CorpusConfig::default() };
            let corpus = made(&small(5), &config, &source, 2).unwrap();
            let mut keys = BTreeSet::new();
            for row in corpus.train.iter().chain(&corpus.test) {
                prop_assert!(!row.text.chars().any(char::is_control));
                prop_assert!(!row.text.is_empty() && row.text.trim() == row.text);
                prop_assert!(row.text.chars().count() <= config.max_characters);
                prop_assert!(keys.insert(text_key(&row.text)));
            }
            for category in &corpus.report.categories {
                let found = category.train + category.test;
                prop_assert!(found <= category.asked);
                prop_assert!(found < 2 || (category.train > 0 && category.test > 0));
            }
        }
    }
}
