//! Replacing parts of a sentence.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::sentence::Sentence;
use super::tokens::{Token, is_stop};

/// Words that take the place of tokens `from..to`; nothing for a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) with: String,
}

impl Edit {
    pub(super) fn new(from: usize, to: usize, with: impl Into<String>) -> Self {
        Self {
            from,
            to,
            with: with.into(),
        }
    }
}

/// Words of a rule as tokens.
pub(super) fn written(text: &str) -> Vec<Token> {
    let mut out = Vec::new();
    for word in text.split(' ').filter(|w| !w.is_empty()) {
        match word.strip_suffix(',') {
            Some(stem) if !stem.is_empty() => {
                out.push(Token::new(stem));
                out.push(comma());
            }
            _ => out.push(Token::new(word)),
        }
    }
    out
}

/// A comma that hangs on the word before it.
pub(super) fn comma() -> Token {
    Token {
        space: false,
        ..Token::new(",")
    }
}

/// The tokens after the edits; where two edits meet, the one that was listed first counts.
pub(super) fn apply(sentence: &Sentence, edits: &[Edit]) -> Vec<Token> {
    let mut owner: Vec<Option<usize>> = vec![None; sentence.len()];
    for (number, edit) in edits.iter().enumerate() {
        let Some(span) = owner.get_mut(edit.from..edit.to) else {
            continue;
        };
        if span.iter().all(Option::is_none) {
            span.fill(Some(number));
        }
    }
    let mut out = Vec::with_capacity(sentence.len());
    let mut last = None;
    for (token, owned) in sentence.tokens.iter().zip(owner) {
        match owned {
            None => out.push(token.clone()),
            Some(number) if last == Some(number) => {}
            Some(number) => {
                let mut words = written(edits.get(number).map_or("", |e| e.with.as_str()));
                if let Some(first) = words.first_mut() {
                    first.space = token.space;
                }
                out.extend(words);
            }
        }
        last = owned;
    }
    out
}

/// Parts of the sentence in a new order, then its final marks. Inner parts lose their own commas at
/// the seams through tidying.
pub(super) fn arrange(sentence: &Sentence, parts: &[Vec<Token>]) -> Vec<Token> {
    let mut out: Vec<Token> = Vec::with_capacity(sentence.len() + 2);
    for part in parts {
        let start = out.len();
        out.extend(part.iter().cloned());
        if let Some(first) = out.get_mut(start)
            && first.is_word()
        {
            first.space = true;
        }
    }
    out.extend(
        sentence
            .tokens
            .get(sentence.body_end()..)
            .unwrap_or_default()
            .iter()
            .cloned(),
    );
    out
}

/// Copies tokens `from..to`.
pub(super) fn part(sentence: &Sentence, from: usize, to: usize) -> Vec<Token> {
    sentence.tokens.get(from..to).unwrap_or_default().to_vec()
}

/// Draws one of several.
pub(super) fn draw<'a, T>(rng: &mut ChaCha8Rng, from: &'a [T]) -> Option<&'a T> {
    if from.is_empty() {
        return None;
    }
    from.get(rng.random_range(0..from.len()))
}

/// Gives `text` the ending of `source`: a final mark exactly if the source has one.
pub(super) fn end_like(text: &str, source: &str) -> String {
    let closed = |t: &str| t.trim_end().ends_with(['.', '?', '!', '\u{2026}']);
    match (closed(source), closed(text)) {
        (true, false) => format!("{}.", text.trim_end_matches([',', ';', ':', ' '])),
        (false, true) if is_stop(text) => text.to_string(),
        (false, true) => text.trim_end_matches(['.', ' ']).to_string(),
        _ => text.to_string(),
    }
}
