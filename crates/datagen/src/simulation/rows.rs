//! Rows of NGCSE's training format.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::pattern::{Pattern, Relation};
use crate::chat::Call;

/// How many rows there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// Rows with companions of all relations.
    pub generated: u64,
    /// Sentences left out because a relation has no accepted answer.
    pub incomplete: u64,
    /// Sentences without companions.
    pub other: u64,
}

/// Writes JSON lines with `sentence`, the keys of the relations and `split`: `aigen` for generated
/// rows, `other` for sentences alone.
///
/// All rows of a split need the same keys, and a missing text would be trained on as a space, so a
/// sentence that lacks a companion is left out and counted.
///
/// ```
/// use datagen::simulation::{Pattern, RowWriter};
///
/// let mut out = Vec::new();
/// let mut rows = RowWriter::new(&mut out, Pattern::Sts);
/// rows.other("It rains.")?;
/// assert_eq!(rows.finish()?.other, 1);
/// assert_eq!(out, b"{\"sentence\":\"It rains.\",\"split\":\"other\"}\n");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct RowWriter<W> {
    out: W,
    relations: &'static [Relation],
    /// Answers of the sentence at hand.
    answers: Vec<Option<String>>,
    counts: RowCounts,
}

impl<W: Write> RowWriter<W> {
    /// Writes to `out`, which should be buffered.
    pub fn new(out: W, pattern: Pattern) -> Self {
        Self {
            out,
            relations: pattern.relations(),
            answers: Vec::new(),
            counts: RowCounts::default(),
        }
    }

    /// Takes the answer to the next call of [`Simulation::calls`](super::Simulation::calls).
    ///
    /// # Errors
    /// Those of writing.
    pub fn push(&mut self, call: &Call, answer: Option<&str>) -> io::Result<()> {
        self.answers.push(answer.map(str::to_owned));
        if self.answers.len() < self.relations.len() {
            return Ok(());
        }
        let answers = std::mem::take(&mut self.answers);
        let texts: Option<Vec<String>> = answers.into_iter().collect();
        let Some(texts) = texts else {
            self.counts.incomplete += 1;
            return Ok(());
        };
        let companions = self.relations.iter().zip(texts);
        let companions: Vec<(&str, String)> = companions
            .map(|(relation, text)| (relation.key(), text))
            .collect();
        self.row(&call.source, companions, "aigen")?;
        self.counts.generated += 1;
        Ok(())
    }

    /// Writes a sentence without companions.
    ///
    /// # Errors
    /// Those of writing.
    pub fn other(&mut self, sentence: &str) -> io::Result<()> {
        self.row(sentence, Vec::new(), "other")?;
        self.counts.other += 1;
        Ok(())
    }

    /// Hands everything on.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(mut self) -> io::Result<RowCounts> {
        self.out.flush()?;
        Ok(self.counts)
    }

    fn row(
        &mut self,
        sentence: &str,
        companions: Vec<(&str, String)>,
        split: &str,
    ) -> io::Result<()> {
        let mut row = Map::new();
        row.insert("sentence".to_owned(), Value::from(sentence));
        for (key, text) in companions {
            row.insert(key.to_owned(), Value::from(text));
        }
        row.insert("split".to_owned(), Value::from(split));
        serde_json::to_writer(&mut self.out, &row)?;
        self.out.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::simulation::{Demonstrations, Prompts, Sampling, Simulation, SourceSentence};

    #[test]
    fn complete_sentences_become_rows_and_others_are_counted() {
        let demonstrations = Demonstrations::bundled(Pattern::Nli);
        let simulation =
            Simulation::new(&Prompts::shipped(), &demonstrations, Sampling::default()).unwrap();
        let sentences: Vec<SourceSentence> = ["one \"quoted\"", "two", "three"]
            .iter()
            .zip(0..)
            .map(|(text, row)| SourceSentence {
                row,
                text: (*text).to_owned(),
            })
            .collect();
        let mut out = Vec::new();
        let mut rows = RowWriter::new(&mut out, Pattern::Nli);
        for call in simulation.calls(&sentences) {
            let answer = (call.id != "1/contradiction").then(|| format!("{} of it", call.id));
            rows.push(&call, answer.as_deref()).unwrap();
        }
        rows.other("four").unwrap();
        let counts = rows.finish().unwrap();
        assert_eq!(
            counts,
            RowCounts {
                generated: 2,
                incomplete: 1,
                other: 1
            }
        );
        let text = String::from_utf8(out).unwrap();
        let expected = [
            r#"{"sentence":"one \"quoted\"","5":"0/entailment of it","4":"0/contradiction of it","split":"aigen"}"#,
            r#"{"sentence":"three","5":"2/entailment of it","4":"2/contradiction of it","split":"aigen"}"#,
            r#"{"sentence":"four","split":"other"}"#,
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_estimate_counts_every_call() {
        let demonstrations = Demonstrations::bundled(Pattern::Sts);
        let simulation =
            Simulation::new(&Prompts::shipped(), &demonstrations, Sampling::default()).unwrap();
        let sentence = |row| SourceSentence {
            row,
            text: "Two dogs run across a field.".into(),
        };
        let one = simulation.estimate(&[sentence(0)]);
        assert_eq!(one.calls, 3);
        let prompts: usize = simulation
            .systems()
            .iter()
            .map(|(_, text)| text.len())
            .sum();
        assert!(one.prompt_tokens > prompts as u64 / 4);
        assert_eq!(one.completion_tokens, 3 * 7);
        let two = simulation.estimate(&[sentence(0), sentence(1)]);
        assert_eq!(two.tokens(), 2 * one.tokens());
        assert_eq!(simulation.calls(&[sentence(0)]).size_hint().1, Some(3));
    }
}
