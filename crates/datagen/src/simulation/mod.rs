//! Simulated similarity patterns: for each sentence a language model writes companions that stand in
//! given relations to it, as in NGCSE.
//!
//! * [`Pattern`], [`Relation`]: what is written for a sentence, one call for each relation;
//! * [`Demonstrations`]: three examples of each relation, the same for all calls;
//! * [`Prompts`]: the system texts, editable template files;
//! * [`Simulation`]: sentences to calls; [`RowWriter`]: answers to rows of NGCSE's format.
//!
//! Source: the pattern simulation of NGCSE (arXiv 2309.06453). The prompts are ours.

mod demonstrations;
mod pattern;
mod prompt;
mod rows;
mod sentences;

pub use demonstrations::{
    DEMONSTRATIONS, Demonstration, DemonstrationError, Demonstrations, NliTriplet, ScoredSentences,
};
pub use pattern::{Pattern, Relation};
pub use prompt::{PromptError, Prompts};
pub use rows::{RowCounts, RowWriter};
pub use sentences::{SourceSentence, SourceSentences};

use crate::chat::{Call, ChatRequest, Spent, estimated_usage};

/// How answers are asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Temperature, 0 to 2.
    pub temperature: f64,
    /// Longest answer, in the model's tokens.
    pub max_tokens: u32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            max_tokens: 128,
        }
    }
}

/// The calls of a pattern, with their prompts.
///
/// ```
/// use datagen::simulation::{Demonstrations, Pattern, Prompts, Sampling, Simulation, SourceSentence};
///
/// let demonstrations = Demonstrations::bundled(Pattern::Sts);
/// let simulation = Simulation::new(&Prompts::shipped(), &demonstrations, Sampling::default())?;
/// let sentences = [SourceSentence { row: 7, text: "Two dogs run.".into() }];
/// let calls: Vec<_> = simulation.calls(&sentences).collect();
/// assert_eq!(calls.len(), 3);
/// assert_eq!((calls[2].id.as_str(), calls[2].kind.as_str()), ("7/negative", "sts/negative"));
/// assert_eq!(calls[2].request.user, "Two dogs run.");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Simulation {
    pattern: Pattern,
    sampling: Sampling,
    systems: Vec<(Relation, String)>,
}

impl Simulation {
    /// Renders the prompts of the pattern that the demonstrations are of.
    ///
    /// # Errors
    /// [`PromptError`].
    pub fn new(
        prompts: &Prompts,
        demonstrations: &Demonstrations,
        sampling: Sampling,
    ) -> Result<Self, PromptError> {
        let pattern = demonstrations.pattern();
        let systems = pattern.relations().iter().map(|relation| {
            let text = prompts.render(*relation, demonstrations.of(*relation))?;
            Ok((*relation, text))
        });
        Ok(Self {
            pattern,
            sampling,
            systems: systems.collect::<Result<_, _>>()?,
        })
    }

    /// The pattern.
    pub fn pattern(&self) -> Pattern {
        self.pattern
    }

    /// System text of each relation.
    pub fn systems(&self) -> &[(Relation, String)] {
        &self.systems
    }

    /// The calls for these sentences: for each of them one a relation, in the order of
    /// [`Pattern::relations`].
    pub fn calls<'a>(
        &'a self,
        sentences: &'a [SourceSentence],
    ) -> impl Iterator<Item = Call> + use<'a> {
        let relations = self.systems.len();
        (0..sentences.len().saturating_mul(relations)).filter_map(move |number| {
            let sentence = sentences.get(number / relations)?;
            let (relation, system) = self.systems.get(number % relations)?;
            Some(Call {
                id: format!("{}/{}", sentence.row, relation.name()),
                kind: relation.kind().to_owned(),
                source: sentence.text.clone(),
                request: ChatRequest {
                    system: system.clone(),
                    user: sentence.text.clone(),
                    temperature: self.sampling.temperature,
                    max_tokens: self.sampling.max_tokens,
                    schema: None,
                },
            })
        })
    }

    /// What the calls will cost about: one token for every 4 bytes, answers as long as their
    /// sentences, no refusals.
    pub fn estimate(&self, sentences: &[SourceSentence]) -> Spent {
        let mut spent = Spent::default();
        for call in self.calls(sentences) {
            spent.add(estimated_usage(&call.request, &call.source));
        }
        spent
    }
}
