//! Examples of the relations, drawn once and the same for every call.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use thiserror::Error;

use super::pattern::{Pattern, Relation};

/// Demonstrations of each relation.
pub const DEMONSTRATIONS: usize = 3;

/// Words that a demonstration may have. Shorter ones show nothing, longer ones fill every prompt.
const WORDS: std::ops::RangeInclusive<usize> = 3..=30;

/// A sentence and a companion in some relation to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Demonstration {
    /// The sentence.
    pub source: String,
    /// Its companion.
    pub target: String,
}

/// A premise with two hypotheses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NliTriplet {
    /// The premise.
    pub premise: String,
    /// A hypothesis that follows.
    pub entailment: String,
    /// A hypothesis that cannot be true.
    pub contradiction: String,
}

/// Two sentences and how similar they are.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredSentences {
    /// One sentence.
    pub first: String,
    /// The other one.
    pub second: String,
    /// Similarity from 0 to 5.
    pub score: f64,
}

/// A pattern source without enough usable rows.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "demonstrations of `{relation}`: {needed} rows are needed with {rule} and 3 to 30 words in each \
     text; the pattern source has {found}"
)]
pub struct DemonstrationError {
    /// Kind of the relation.
    pub relation: &'static str,
    /// What a row has to be.
    pub rule: &'static str,
    /// Rows needed.
    pub needed: usize,
    /// Rows found.
    pub found: usize,
}

/// Three demonstrations of each relation of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Demonstrations {
    pattern: Pattern,
    #[serde(flatten)]
    relations: BTreeMap<Relation, Vec<Demonstration>>,
}

impl Demonstrations {
    /// Draws three premises; both relations get the same ones.
    ///
    /// # Errors
    /// [`DemonstrationError`] for fewer than three triplets of different texts.
    pub fn draw_nli(triplets: &[NliTriplet], seed: u64) -> Result<Self, DemonstrationError> {
        let usable: Vec<&NliTriplet> = triplets
            .iter()
            .filter(|row| {
                fits(&row.premise, &row.entailment)
                    && fits(&row.premise, &row.contradiction)
                    && fits(&row.entailment, &row.contradiction)
            })
            .collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let rows = draw(
            &usable,
            DEMONSTRATIONS,
            Relation::Entailment,
            "three different texts",
            &mut rng,
        )?;
        let of = |target: fn(&NliTriplet) -> &str| {
            let pairs = rows
                .iter()
                .map(|row| demonstration(&row.premise, target(row)));
            pairs.collect()
        };
        Ok(Self {
            pattern: Pattern::Nli,
            relations: BTreeMap::from([
                (Relation::Entailment, of(|row| &row.entailment)),
                (Relation::Contradiction, of(|row| &row.contradiction)),
            ]),
        })
    }

    /// Draws pairs by their score:
    ///
    /// | relation | score | |
    /// |---|---|---|
    /// | positive | 4.5 to 5 | different texts |
    /// | intermediate | 2.5 to 3.5 | the longer text first; the other has at most 80 % of its words |
    /// | negative | one of 0 to 0.5 (unrelated), one of 1 to 2 (same topic), one of either | |
    ///
    /// # Errors
    /// [`DemonstrationError`] for too few pairs of a score.
    pub fn draw_sts(pairs: &[ScoredSentences], seed: u64) -> Result<Self, DemonstrationError> {
        let within = |low: f64, high: f64| {
            let usable = pairs.iter().filter(move |pair| {
                (low..=high).contains(&pair.score) && fits(&pair.first, &pair.second)
            });
            usable.map(|pair| demonstration(&pair.first, &pair.second))
        };
        let positive: Vec<_> = within(4.5, 5.0).collect();
        let intermediate: Vec<_> = within(2.5, 3.5)
            .map(|pair| {
                if words(&pair.source) < words(&pair.target) {
                    demonstration(&pair.target, &pair.source)
                } else {
                    pair
                }
            })
            .filter(|pair| 10 * words(&pair.target) <= 8 * words(&pair.source))
            .collect();
        let unrelated: Vec<_> = within(0.0, 0.5).collect();
        let same_topic: Vec<_> = within(1.0, 2.0).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let positive = draw(
            &positive,
            DEMONSTRATIONS,
            Relation::Positive,
            "a score of 4.5 to 5",
            &mut rng,
        )?;
        let intermediate = draw(
            &intermediate,
            DEMONSTRATIONS,
            Relation::Intermediate,
            "a score of 2.5 to 3.5, one text a fifth shorter,",
            &mut rng,
        )?;
        let negative = Relation::Negative;
        let mut negatives = draw(&unrelated, 1, negative, "a score of 0 to 0.5", &mut rng)?;
        negatives.extend(draw(
            &same_topic,
            1,
            negative,
            "a score of 1 to 2",
            &mut rng,
        )?);
        let rest: Vec<_> = unrelated
            .into_iter()
            .chain(same_topic)
            .filter(|pair| !negatives.contains(pair))
            .collect();
        negatives.extend(draw(
            &rest,
            1,
            negative,
            "a score of 0 to 0.5 or 1 to 2 beside those drawn",
            &mut rng,
        )?);
        Ok(Self {
            pattern: Pattern::Sts,
            relations: BTreeMap::from([
                (Relation::Positive, positive),
                (Relation::Intermediate, intermediate),
                (negative, negatives),
            ]),
        })
    }

    /// Demonstrations written for this project, for a start without a pattern source.
    pub fn bundled(pattern: Pattern) -> Self {
        let own = |rows: &[(&str, &str)]| {
            let pairs = rows
                .iter()
                .map(|(source, target)| demonstration(source, target));
            pairs.collect::<Vec<_>>()
        };
        let relations = match pattern {
            Pattern::Nli => BTreeMap::from([
                (
                    Relation::Entailment,
                    own(&[
                        (
                            "A baker takes three loaves of bread out of a stone oven.",
                            "Someone is handling bread.",
                        ),
                        (
                            "The museum opened a new wing for photographs last spring.",
                            "The museum has a place for photographs.",
                        ),
                        (
                            "Two girls in yellow boots jump over a puddle in the park.",
                            "Children are outdoors.",
                        ),
                    ]),
                ),
                (
                    Relation::Contradiction,
                    own(&[
                        (
                            "A baker takes three loaves of bread out of a stone oven.",
                            "The oven is empty and nobody is near it.",
                        ),
                        (
                            "The museum opened a new wing for photographs last spring.",
                            "The museum has not been enlarged for ten years.",
                        ),
                        (
                            "Two girls in yellow boots jump over a puddle in the park.",
                            "The girls are asleep in their beds.",
                        ),
                    ]),
                ),
            ]),
            Pattern::Sts => BTreeMap::from([
                (
                    Relation::Positive,
                    own(&[
                        (
                            "The council voted on Monday to close the old bridge.",
                            "On Monday the council decided that the old bridge will be closed.",
                        ),
                        (
                            "A woman is slicing tomatoes in her kitchen.",
                            "In her kitchen, a woman cuts tomatoes into slices.",
                        ),
                        (
                            "The train to the coast was an hour late because of snow.",
                            "Snow delayed the train to the coast by an hour.",
                        ),
                    ]),
                ),
                (
                    Relation::Intermediate,
                    own(&[
                        (
                            "The council voted on Monday to close the old bridge for two years.",
                            "The council voted to close a bridge.",
                        ),
                        (
                            "A woman in a red apron is slicing tomatoes for a salad in her kitchen.",
                            "A woman is slicing tomatoes.",
                        ),
                        (
                            "The morning train to the coast was an hour late because of heavy snow.",
                            "The train was late.",
                        ),
                    ]),
                ),
                (
                    Relation::Negative,
                    own(&[
                        (
                            "The council voted on Monday to close the old bridge.",
                            "A cat sleeps on top of the piano.",
                        ),
                        (
                            "A woman is slicing tomatoes in her kitchen.",
                            "A man is washing the kitchen floor.",
                        ),
                        (
                            "The train to the coast was an hour late because of snow.",
                            "The train to the coast left the station early.",
                        ),
                    ]),
                ),
            ]),
        };
        Self { pattern, relations }
    }

    /// The pattern they are of.
    pub fn pattern(&self) -> Pattern {
        self.pattern
    }

    /// Those of a relation; none for one of another pattern.
    pub fn of(&self, relation: Relation) -> &[Demonstration] {
        self.relations.get(&relation).map_or(&[], Vec::as_slice)
    }
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

fn fits(one: &str, other: &str) -> bool {
    [one, other]
        .iter()
        .all(|text| WORDS.contains(&words(text)) && !text.contains(['\n', '\r']))
        && one.trim().to_lowercase() != other.trim().to_lowercase()
}

fn demonstration(source: &str, target: &str) -> Demonstration {
    Demonstration {
        source: source.trim().to_owned(),
        target: target.trim().to_owned(),
    }
}

/// Different rows, in random order.
fn draw<T: Clone>(
    rows: &[T],
    count: usize,
    relation: Relation,
    rule: &'static str,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<T>, DemonstrationError> {
    if rows.len() < count {
        return Err(DemonstrationError {
            relation: relation.kind(),
            rule,
            needed: count,
            found: rows.len(),
        });
    }
    let places = index::sample(rng, rows.len(), count);
    Ok(places
        .iter()
        .filter_map(|place| rows.get(place).cloned())
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn triplets(count: usize) -> Vec<NliTriplet> {
        (0..count)
            .map(|n| NliTriplet {
                premise: format!("The premise number {n} here."),
                entailment: format!("The entailment number {n} here."),
                contradiction: format!("The contradiction number {n} here."),
            })
            .collect()
    }

    fn pairs() -> Vec<ScoredSentences> {
        (0..=100)
            .map(|n| ScoredSentences {
                first: format!("The short sentence {n}."),
                second: format!("The other sentence {n} is a good deal longer."),
                score: f64::from(n) / 20.0,
            })
            .collect()
    }

    #[test]
    fn both_nli_relations_have_the_same_premises_and_the_seed_decides() {
        let rows = triplets(50);
        let one = Demonstrations::draw_nli(&rows, 1).unwrap();
        assert_eq!(one, Demonstrations::draw_nli(&rows, 1).unwrap());
        assert_ne!(one, Demonstrations::draw_nli(&rows, 2).unwrap());
        let premises = |relation| {
            let demos = one.of(relation).iter();
            demos.map(|d| d.source.clone()).collect::<Vec<_>>()
        };
        assert_eq!(premises(Relation::Entailment).len(), DEMONSTRATIONS);
        assert_eq!(
            premises(Relation::Entailment),
            premises(Relation::Contradiction)
        );
        assert!(one.of(Relation::Positive).is_empty());
    }

    #[test]
    fn sts_pairs_are_drawn_by_score() {
        let rows = pairs();
        let score = |demo: &Demonstration| {
            let pair = rows.iter().find(|pair| {
                [&pair.first, &pair.second].contains(&&demo.source)
                    && [&pair.first, &pair.second].contains(&&demo.target)
            });
            pair.unwrap().score
        };
        for seed in 0..20 {
            let demos = Demonstrations::draw_sts(&rows, seed).unwrap();
            for relation in Pattern::Sts.relations() {
                assert_eq!(demos.of(*relation).len(), DEMONSTRATIONS);
            }
            assert!(demos.of(Relation::Positive).iter().all(|d| score(d) >= 4.5));
            for demo in demos.of(Relation::Intermediate) {
                assert!((2.5..=3.5).contains(&score(demo)));
                assert!(demo.source.len() > demo.target.len());
            }
            let negatives: Vec<f64> = demos.of(Relation::Negative).iter().map(score).collect();
            assert!(negatives[0] <= 0.5, "{negatives:?}");
            assert!((1.0..=2.0).contains(&negatives[1]), "{negatives:?}");
            assert!(negatives[2] <= 2.0 && negatives[2] != negatives[1]);
            assert_ne!(negatives[2], negatives[0]);
        }
    }

    #[test]
    fn too_few_rows_are_named() {
        let error = Demonstrations::draw_nli(&triplets(2), 0).unwrap_err();
        assert_eq!((error.found, error.needed), (2, 3));
        let without = |low: f64, high: f64| {
            let mut rows = pairs();
            rows.retain(|pair| !(low..=high).contains(&pair.score));
            Demonstrations::draw_sts(&rows, 0).unwrap_err().to_string()
        };
        assert!(without(4.5, 5.0).contains("sts/positive"));
        assert!(without(2.0, 4.0).contains("sts/intermediate"));
        assert!(without(0.0, 0.6).contains("score of 0 to 0.5 "));
        assert!(without(0.9, 2.1).contains("score of 1 to 2"));
    }

    #[test]
    fn unsuitable_rows_are_passed_over() {
        let mut rows = triplets(3);
        rows[0].contradiction = rows[0].premise.to_uppercase();
        assert_eq!(Demonstrations::draw_nli(&rows, 0).unwrap_err().found, 2);
        let mut rows = triplets(3);
        rows[1].premise = "word ".repeat(31);
        assert!(Demonstrations::draw_nli(&rows, 0).is_err());
    }

    #[test]
    fn bundled_demonstrations_meet_the_rules() {
        for pattern in [Pattern::Nli, Pattern::Sts] {
            let demos = Demonstrations::bundled(pattern);
            assert_eq!(demos.pattern(), pattern);
            for relation in pattern.relations() {
                assert_eq!(demos.of(*relation).len(), DEMONSTRATIONS);
                for demo in demos.of(*relation) {
                    assert!(fits(&demo.source, &demo.target), "{demo:?}");
                }
            }
        }
    }
}
