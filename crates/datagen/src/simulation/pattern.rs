//! Which companions a sentence gets.

use serde::{Deserialize, Serialize};

/// A set of relations, named after the data whose similarity pattern it imitates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// Natural language inference: something that follows, something that cannot be true.
    Nli,
    /// Semantic textual similarity: the same, less, something else.
    Sts,
}

impl Pattern {
    /// The relations, in the order of their keys from 5 down.
    pub fn relations(self) -> &'static [Relation] {
        match self {
            Self::Nli => &[Relation::Entailment, Relation::Contradiction],
            Self::Sts => &[
                Relation::Positive,
                Relation::Intermediate,
                Relation::Negative,
            ],
        }
    }

    /// `nli` or `sts`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nli => "nli",
            Self::Sts => "sts",
        }
    }
}

/// How a companion relates to its sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Relation {
    /// NLI: true whenever the sentence is. Key 5.
    Entailment,
    /// NLI: never true together with the sentence. Key 4.
    Contradiction,
    /// STS: the same information. Key 5.
    Positive,
    /// STS: a part of the information. Key 4.
    Intermediate,
    /// STS: another meaning. Key 3.
    Negative,
}

impl Relation {
    /// All relations of all patterns.
    pub const ALL: [Self; 5] = [
        Self::Entailment,
        Self::Contradiction,
        Self::Positive,
        Self::Intermediate,
        Self::Negative,
    ];

    /// Its pattern.
    pub fn pattern(self) -> Pattern {
        match self {
            Self::Entailment | Self::Contradiction => Pattern::Nli,
            Self::Positive | Self::Intermediate | Self::Negative => Pattern::Sts,
        }
    }

    /// The key of the companion in a row of NGCSE's format.
    pub fn key(self) -> &'static str {
        match self {
            Self::Entailment | Self::Positive => "5",
            Self::Contradiction | Self::Intermediate => "4",
            Self::Negative => "3",
        }
    }

    /// Name within its pattern.
    pub fn name(self) -> &'static str {
        match self {
            Self::Entailment => "entailment",
            Self::Contradiction => "contradiction",
            Self::Positive => "positive",
            Self::Intermediate => "intermediate",
            Self::Negative => "negative",
        }
    }

    /// Kind of its calls: pattern and name.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Entailment => "nli/entailment",
            Self::Contradiction => "nli/contradiction",
            Self::Positive => "sts/positive",
            Self::Intermediate => "sts/intermediate",
            Self::Negative => "sts/negative",
        }
    }

    /// The relation whose calls have this kind.
    pub fn of_kind(kind: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|relation| relation.kind() == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_keys_fit_together() {
        for relation in Relation::ALL {
            let pattern = relation.pattern();
            assert!(pattern.relations().contains(&relation));
            assert_eq!(
                relation.kind(),
                format!("{}/{}", pattern.name(), relation.name())
            );
            assert_eq!(Relation::of_kind(relation.kind()), Some(relation));
        }
        assert_eq!(Relation::of_kind("sts/other"), None);
        for pattern in [Pattern::Nli, Pattern::Sts] {
            let keys: Vec<&str> = pattern.relations().iter().map(|r| r.key()).collect();
            assert_eq!(keys, ["5", "4", "3"][..keys.len()]);
        }
    }
}
