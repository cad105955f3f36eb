//! What the judgements of people mean for the categories.
//!
//! A text belongs to the category that its vector leads to; no edit moves a single text. So judgements
//! become edits where they speak about whole categories, and a table where they do not:
//!
//! ```text
//! n_c        judged texts that are in category c now
//! a(c)       the answer that most of them got, given to m_c of them
//! consistent n_c >= min(min_texts, all texts of c)  and  m_c >= min_share n_c
//! ```
//!
//! A consistent category whose answer is a name that no category has is renamed, several with the same
//! such answer are merged under it. A consistent category whose answer is another category is merged
//! with it, if nothing else is to become of that one.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{AnnotationError, Judgement, NONE};
use crate::catalogue::{Catalogue, check_name, name_key};
use crate::category::{CategoryId, NameSource};
use crate::edit::Edit;

/// When judgements count as speaking about a whole category.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReviewOptions {
    /// Least share of the judged texts of a category with the same answer, above 0.5 and at most 1.
    pub min_share: f64,
    /// Least number of judged texts of a category; of a smaller one all.
    pub min_texts: usize,
}

impl Default for ReviewOptions {
    /// 90 % of at least 10 texts.
    fn default() -> Self {
        Self {
            min_share: 0.9,
            min_texts: 10,
        }
    }
}

/// Where people put a text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A category in use.
    Category(CategoryId),
    /// A name that no category has.
    New(String),
    /// Into none of the categories.
    Nothing,
}

/// Texts of one category that people put elsewhere, to one and the same place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disagreement {
    /// Their category.
    pub from: CategoryId,
    /// Where people put them.
    pub to: Target,
    /// How many they are.
    pub texts: usize,
    /// Judged texts of the category.
    pub judged: usize,
    /// Place of the first of them in the list, from 0.
    pub first_record: usize,
    /// Whether an edit follows from them.
    pub edited: bool,
}

/// A text that people put elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Number of the text in the run.
    pub row: usize,
    /// Its category.
    pub from: CategoryId,
    /// Where people put it.
    pub to: Target,
}

/// What came of the judgements.
#[derive(Debug, Clone, PartialEq)]
pub struct Review {
    /// Records of the list.
    pub records: usize,
    /// Records without an answer.
    pub unanswered: usize,
    /// Records to which people gave different answers; they count no further.
    pub contested: usize,
    /// Records with one answer.
    pub judged: usize,
    /// Records whose answer is the category of the text.
    pub agreeing: usize,
    /// Cohen's kappa of categories and answers; `None` where both are always the same single one.
    ///
    /// ```text
    /// kappa = (p_o - p_e) / (1 - p_e)      p_o = agreeing / judged
    ///                                      p_e = sum_k share_k(categories) share_k(answers)
    /// ```
    pub kappa: Option<f64>,
    /// Edits that follow, each of categories of its own.
    pub edits: Vec<Edit>,
    /// Where people disagree with the categories, most texts first.
    pub disagreements: Vec<Disagreement>,
    /// The texts of the disagreements, in the order of the list.
    pub moved: Vec<Moved>,
}

impl Review {
    /// Share of the judged records whose answer is the category of the text; `None` without any.
    #[must_use]
    pub fn agreement(&self) -> Option<f64> {
        (self.judged > 0).then(|| self.agreeing as f64 / self.judged as f64)
    }
}

/// A text of the run, as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed<'a> {
    /// The text.
    pub text: &'a str,
    /// Its category in use.
    pub category: CategoryId,
}

/// Collects judgements, one after the other.
#[derive(Debug)]
pub struct Reviewer<'a> {
    catalogue: &'a Catalogue,
    texts: &'a [Placed<'a>],
    options: ReviewOptions,
    /// First record of each row.
    seen: BTreeMap<usize, usize>,
    /// What names meant when the tasks were made.
    shown: BTreeMap<String, CategoryId>,
    judged: Vec<Judged>,
    records: usize,
    unanswered: usize,
    contested: usize,
}

/// A record with one answer.
#[derive(Debug)]
struct Judged {
    record: usize,
    row: usize,
    from: CategoryId,
    /// `None` stands for the category that was shown.
    answer: Option<String>,
}

impl<'a> Reviewer<'a> {
    /// A reviewer of the texts of a run, which are in the order of their rows.
    #[must_use]
    pub fn new(catalogue: &'a Catalogue, texts: &'a [Placed<'a>], options: ReviewOptions) -> Self {
        Self {
            catalogue,
            texts,
            options,
            seen: BTreeMap::new(),
            shown: BTreeMap::new(),
            judged: Vec::new(),
            records: 0,
            unanswered: 0,
            contested: 0,
        }
    }

    /// Takes a judgement.
    ///
    /// # Errors
    /// [`AnnotationError::Record`]: a row that the run does not have, that has another text or that came
    /// before; an answer that is no name.
    pub fn add(&mut self, judgement: Judgement) -> Result<(), AnnotationError> {
        let Judgement {
            record,
            row,
            text,
            shown,
            answers,
        } = judgement;
        let refuse = |problem: String| Err(AnnotationError::record(record, problem));
        let Some(placed) = self.texts.get(row) else {
            let rows = self.texts.len();
            return refuse(format!(
                "row: expected one of the {rows} of the run, found {row}"
            ));
        };
        if placed.text != text {
            return refuse(format!(
                "text: expected that of row {row} of the run, found another one"
            ));
        }
        if let Some(earlier) = self.seen.insert(row, record) {
            return refuse(format!("row {row} stands in records[{earlier}] already"));
        }
        self.records += 1;
        let shown = shown.filter(|(id, _)| self.catalogue.get(*id).is_some());
        if let Some((id, name)) = &shown {
            self.shown.entry(name_key(name)).or_insert(*id);
        }
        let mut distinct = BTreeMap::new();
        for answer in answers {
            let answer = answer.trim();
            if let Err(error) = check_name(answer) {
                return refuse(format!("answer: {error}"));
            }
            distinct.insert(name_key(answer), answer.to_owned());
        }
        if distinct.len() > 1 {
            self.contested += 1;
            return Ok(());
        }
        let Some((key, answer)) = distinct.pop_first() else {
            self.unanswered += 1;
            return Ok(());
        };
        // Confirmed, whatever became of the category since.
        let confirmed = shown.is_some_and(|(_, name)| name_key(&name) == key);
        self.judged.push(Judged {
            record,
            row,
            from: placed.category,
            answer: (!confirmed).then_some(answer),
        });
        Ok(())
    }

    /// What an answer means.
    fn target(&self, answer: &str) -> Target {
        let key = name_key(answer);
        if key == NONE {
            return Target::Nothing;
        }
        let shown = self.shown.get(&key);
        let then = shown.and_then(|id| self.catalogue.resolve(*id, None));
        let now = || self.catalogue.named(answer).map(|category| category.id);
        match then.or_else(now) {
            Some(id) => Target::Category(id),
            None => Target::New(answer.to_owned()),
        }
    }

    /// Draws the conclusions.
    #[must_use]
    pub fn finish(self) -> Review {
        // Spellings of a new name that differ in case are one name, the first one.
        let mut spelling: BTreeMap<String, String> = BTreeMap::new();
        let mut answers: BTreeMap<CategoryId, BTreeMap<Target, (usize, usize)>> = BTreeMap::new();
        let mut agreeing = 0;
        let mut moved = Vec::new();
        let (mut ours, mut theirs) = (BTreeMap::new(), BTreeMap::new());
        for judged in &self.judged {
            let own = Target::Category(judged.from);
            let mut to = match &judged.answer {
                None => own.clone(),
                Some(answer) => self.target(answer),
            };
            if let Target::New(name) = &mut to {
                let first = spelling
                    .entry(name_key(name))
                    .or_insert_with(|| name.clone());
                name.clone_from(first);
            }
            if to == own {
                agreeing += 1;
            } else {
                moved.push(Moved {
                    row: judged.row,
                    from: judged.from,
                    to: to.clone(),
                });
            }
            *ours.entry(own).or_insert(0_usize) += 1;
            *theirs.entry(to.clone()).or_insert(0_usize) += 1;
            let of = answers.entry(judged.from).or_default();
            of.entry(to).or_insert((0, judged.record)).0 += 1;
        }
        let consistent = self.consistent(&answers);
        let (edits, edited) = self.edits(&consistent);
        let mut disagreements = Vec::new();
        for (from, targets) in answers {
            let judged = targets.values().map(|(texts, _)| texts).sum();
            for (to, (texts, first_record)) in targets {
                if to != Target::Category(from) {
                    disagreements.push(Disagreement {
                        from,
                        edited: edited.contains(&from) && consistent.get(&from) == Some(&to),
                        to,
                        texts,
                        judged,
                        first_record,
                    });
                }
            }
        }
        // Stable: equal counts stay in the order of ids and targets.
        disagreements.sort_by_key(|row| std::cmp::Reverse(row.texts));
        Review {
            records: self.records,
            unanswered: self.unanswered,
            contested: self.contested,
            judged: self.judged.len(),
            agreeing,
            kappa: kappa(self.judged.len(), agreeing, &ours, &theirs),
            edits,
            disagreements,
            moved,
        }
    }

    /// The answer of each category whose texts got the same one.
    fn consistent(
        &self,
        answers: &BTreeMap<CategoryId, BTreeMap<Target, (usize, usize)>>,
    ) -> BTreeMap<CategoryId, Target> {
        let mut sizes: BTreeMap<CategoryId, usize> = BTreeMap::new();
        for text in self.texts {
            *sizes.entry(text.category).or_default() += 1;
        }
        let mut consistent = BTreeMap::new();
        for (from, targets) in answers {
            let judged: usize = targets.values().map(|(texts, _)| texts).sum();
            let size = sizes.get(from).copied().unwrap_or(0);
            let top = targets.iter().max_by_key(|(_, (texts, _))| *texts);
            let Some((to, (texts, _))) = top else {
                continue;
            };
            let enough = judged >= self.options.min_texts.min(size);
            // More than half, so that there is one such answer at most.
            let agreed =
                *texts as f64 >= self.options.min_share * judged as f64 && 2 * texts > judged;
            if enough && agreed {
                consistent.insert(*from, to.clone());
            }
        }
        consistent
    }

    /// Edits, and the categories whose answer they carry out.
    fn edits(
        &self,
        consistent: &BTreeMap<CategoryId, Target>,
    ) -> (Vec<Edit>, BTreeSet<CategoryId>) {
        let mut groups: BTreeMap<&Target, Vec<CategoryId>> = BTreeMap::new();
        for (from, to) in consistent {
            let stays = match to {
                Target::Category(to) => consistent
                    .get(to)
                    .is_none_or(|own| *own == Target::Category(*to)),
                Target::New(_) => true,
                Target::Nothing => false,
            };
            if stays && *to != Target::Category(*from) {
                groups.entry(to).or_default().push(*from);
            }
        }
        let mut edits = Vec::new();
        let mut edited = BTreeSet::new();
        for (to, ids) in groups {
            edited.extend(ids.iter().copied());
            let (mut ids, name) = match to {
                Target::Category(to) => {
                    let name = self
                        .catalogue
                        .get(*to)
                        .map(|category| category.name.clone());
                    ([&ids[..], &[*to]].concat(), name)
                }
                Target::New(name) => (ids, Some(name.clone())),
                Target::Nothing => continue,
            };
            ids.sort_unstable();
            edits.push(match (ids.as_slice(), name) {
                ([id], Some(name)) => Edit::Rename {
                    id: *id,
                    name,
                    source: NameSource::Human,
                },
                (_, name) => Edit::Merge { ids, name },
            });
        }
        (edits, edited)
    }
}

fn kappa(
    judged: usize,
    agreeing: usize,
    ours: &BTreeMap<Target, usize>,
    theirs: &BTreeMap<Target, usize>,
) -> Option<f64> {
    let all = judged as f64;
    let by_chance: f64 = ours
        .iter()
        .filter_map(|(target, count)| Some(*count as f64 * *theirs.get(target)? as f64))
        .sum::<f64>()
        / (all * all);
    // Also where nothing was judged.
    (by_chance < 1.0).then(|| (agreeing as f64 / all - by_chance) / (1.0 - by_chance))
}

/// Whether the tasks can be made: no category has the name of the answer [`NONE`].
///
/// # Errors
/// [`AnnotationError::Reserved`].
pub fn check_names(catalogue: &Catalogue) -> Result<(), AnnotationError> {
    match catalogue.named(NONE) {
        Some(category) => Err(AnnotationError::Reserved { id: category.id }),
        None => Ok(()),
    }
}
