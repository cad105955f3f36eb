//! A sentence with its main verb, its noun phrases and its prepositional phrases.

use std::collections::HashMap;

use super::lexicon::{Form, Lexicon};
use super::tags::tag;
pub(super) use super::tags::{Tag, closed_class, lookup};
use super::tokens::{Token, join, split, tidy};

/// What is known about words: the lists, and how the corpus writes them.
pub(super) struct Knowledge {
    pub(super) lexicon: &'static Lexicon,
    /// Occurrences inside sentences in lower case and with a capital.
    casing: HashMap<String, (u32, u32)>,
}

impl Knowledge {
    /// Counts the casing of words in `corpus`.
    pub(super) fn new(corpus: &[String]) -> Self {
        let mut casing: HashMap<String, (u32, u32)> = HashMap::new();
        for text in corpus {
            for token in split(text).iter().skip(1).filter(|t| t.is_word()) {
                let count = casing.entry(token.text.to_lowercase()).or_default();
                if token.text.starts_with(char::is_uppercase) {
                    count.1 = count.1.saturating_add(1);
                } else {
                    count.0 = count.0.saturating_add(1);
                }
            }
        }
        Self {
            lexicon: Lexicon::bundled(),
            casing,
        }
    }

    /// Whether a word has a capital only because it begins a sentence.
    fn is_common(&self, lower: &str) -> bool {
        if closed_class(lower).is_some() {
            return lower != "i" && !lower.starts_with("i'");
        }
        match self.casing.get(lower) {
            Some((small, capital)) => small > capital,
            None => self.lexicon.knows(lower),
        }
    }
}

/// A sentence, ready for the rules.
#[derive(Debug, Clone)]
pub(super) struct Sentence {
    pub(super) tokens: Vec<Token>,
    pub(super) tags: Vec<Tag>,
    /// Lower-case look-up key of every token.
    pub(super) keys: Vec<String>,
    /// Whether the sentence is written with a capital at its start.
    pub(super) capital: bool,
}

impl Sentence {
    /// Reads one sentence.
    pub(super) fn read(text: &str, known: &Knowledge) -> Self {
        Self::from_tokens(split(text), known)
    }

    /// Reads a sentence that is split already.
    pub(super) fn from_tokens(mut tokens: Vec<Token>, known: &Knowledge) -> Self {
        for (at, token) in tokens.iter_mut().enumerate() {
            token.origin = Some(at);
        }
        let first = tokens.iter().position(Token::is_word);
        let mut capital = false;
        if let Some(at) = first {
            let next_is_name = tokens.get(at + 1).is_some_and(|t| {
                t.text.starts_with(char::is_uppercase) && closed_class(&t.key()).is_none()
            });
            let key = tokens[at].key();
            capital = key != tokens[at].text && tokens[at].text.starts_with(char::is_uppercase);
            let all_capitals = key.chars().count() > 1
                && tokens[at]
                    .text
                    .chars()
                    .filter(|c| c.is_alphabetic())
                    .all(char::is_uppercase);
            if capital
                && !all_capitals
                && known.is_common(&key)
                && (!next_is_name || closed_class(&key).is_some())
            {
                tokens[at].text = tokens[at].text.to_lowercase();
            }
        }
        let keys: Vec<String> = tokens.iter().map(Token::key).collect();
        let tags = tag(&tokens, &keys, known.lexicon);
        let mut sentence = Self {
            tokens,
            tags,
            keys,
            capital,
        };
        sentence.mark_participles(known.lexicon);
        sentence
    }

    /// Past forms right after a noun that are not the main verb are participles: `a song composed by`.
    fn mark_participles(&mut self, lexicon: &Lexicon) {
        let verb = self.main_verb();
        for at in 1..self.len() {
            if self.tag(at) != Tag::Verb(Form::Past)
                || !matches!(self.tag(at - 1), Tag::Noun | Tag::Comma)
            {
                continue;
            }
            let known = lexicon.verb_base(self.key(at), Form::Participle).is_some();
            let clause = (0..at)
                .rev()
                .take_while(|&k| self.tag(k) != Tag::Comma)
                .any(|k| matches!(self.tag(k), Tag::Relative | Tag::Subordinator));
            if !clause
                && verb.is_some_and(|v| v != at)
                && known
                && let Some(tag) = self.tags.get_mut(at)
            {
                *tag = Tag::Verb(Form::Participle);
            }
        }
    }

    /// The text, or what it becomes with other tokens.
    pub(super) fn write(&self, mut tokens: Vec<Token>) -> String {
        tidy(&mut tokens);
        join(&tokens, self.capital)
    }

    /// Number of tokens.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Tag at a place; past the end it is a stop.
    pub(super) fn tag(&self, at: usize) -> Tag {
        self.tags.get(at).copied().unwrap_or(Tag::Stop)
    }

    /// Key at a place; past the end it is empty.
    pub(super) fn key(&self, at: usize) -> &str {
        self.keys.get(at).map_or("", String::as_str)
    }

    /// Number of words, without marks.
    pub(super) fn words(&self) -> usize {
        self.tokens.iter().filter(|t| t.is_word()).count()
    }

    /// End of the sentence before its final marks.
    pub(super) fn body_end(&self) -> usize {
        let marks = |tag: &Tag| matches!(tag, Tag::Stop | Tag::Quote | Tag::Close);
        let tail = self.tags.iter().rev().take_while(|t| marks(t)).count();
        let mut end = self.len() - tail;
        // a bracket that closes inside the tail belongs to the body
        while self.tag(end) == Tag::Close && end < self.len() {
            end += 1;
        }
        end
    }

    /// Whether brackets and quotation marks of a part are complete.
    pub(super) fn balanced(&self, from: usize, to: usize) -> bool {
        let mut depth = 0_i32;
        let mut quotes = 0_usize;
        for at in from..to {
            match self.tag(at) {
                Tag::Open => depth += 1,
                Tag::Close => depth -= 1,
                Tag::Quote => quotes += 1,
                _ => {}
            }
            if depth < 0 {
                return false;
            }
        }
        depth == 0 && quotes.is_multiple_of(2)
    }

    /// Place of the finite verb of the main clause, or `None` for a fragment.
    pub(super) fn main_verb(&self) -> Option<usize> {
        // clauses that were opened and whose verb has not come yet
        let mut pending = 0_usize;
        let mut depth = 0_usize;
        let mut weak = None;
        for at in 0..self.len() {
            match self.tag(at) {
                Tag::Open => depth += 1,
                Tag::Close => depth = depth.saturating_sub(1),
                _ if depth > 0 => {}
                Tag::Subordinator if self.opens_clause(at) => pending += 1,
                Tag::Relative if at > 0 || self.key(at) == "what" => pending += 1,
                Tag::Comma if at > 0 => pending = pending.min(1),
                Tag::Be if !matches!(self.key(at), "be" | "been" | "being") => {
                    if pending == 0 {
                        return Some(at);
                    }
                    pending -= 1;
                }
                Tag::Auxiliary | Tag::Verb(Form::Third) => {
                    if pending == 0 {
                        return Some(at);
                    }
                    pending -= 1;
                    // the rest of the verb chain of that clause follows
                }
                Tag::Verb(Form::Past) => {
                    if at > 0 && self.tag(at - 1) == Tag::Auxiliary {
                        continue;
                    }
                    if pending > 0 {
                        pending -= 1;
                    } else if self.surely_finite(at) {
                        return Some(at);
                    } else if weak.is_none() {
                        weak = Some(at);
                    }
                }
                Tag::Verb(Form::Base) if at > 0 && pending == 0 => {
                    let plural = matches!(self.key(at - 1), "they" | "we" | "you" | "i" | "who")
                        || (matches!(self.tag(at - 1), Tag::Noun | Tag::Adverb) && weak.is_none());
                    if plural {
                        return Some(at);
                    }
                }
                Tag::Verb(Form::Base) => pending = pending.saturating_sub(1),
                Tag::Stop => break,
                _ => {}
            }
        }
        weak
    }

    /// Whether a subordinator is followed by a clause and not only by a noun phrase.
    pub(super) fn opens_clause(&self, at: usize) -> bool {
        match self.key(at) {
            "after" | "before" | "since" | "until" | "till" | "as" | "than" | "once" => {
                let Some(end) = self.noun_phrase(at + 1) else {
                    return false;
                };
                self.is_finite(end) || (self.tag(end) == Tag::Adverb && self.is_finite(end + 1))
            }
            "so" | "how" | "why" | "whether" => false,
            "when" | "while" | "although" | "though" | "if" | "where" => {
                // `while working`, `when asked` have no verb of their own
                !matches!(
                    self.tag(at + 1),
                    Tag::Verb(_) | Tag::Adjective | Tag::Preposition
                )
            }
            _ => true,
        }
    }

    /// Whether a word looks like a finite verb.
    pub(super) fn is_finite(&self, at: usize) -> bool {
        matches!(self.tag(at), Tag::Be | Tag::Auxiliary)
            || matches!(self.tag(at), Tag::Verb(Form::Past | Form::Third))
    }

    /// A past form that cannot be a participle after its noun: `he played`, `she wrote`.
    fn surely_finite(&self, at: usize) -> bool {
        if at == 0 {
            return false;
        }
        let before = self.tag(at - 1);
        if matches!(before, Tag::Pronoun | Tag::Name | Tag::Relative) {
            return true;
        }
        let ahead = (at + 1..self.len())
            .take_while(|&k| {
                !matches!(
                    self.tag(k),
                    Tag::Relative | Tag::Comma | Tag::Stop | Tag::Coordinator
                )
            })
            .any(|k| self.is_finite(k));
        !ahead && self.key(at + 1) != "by"
    }

    /// End of the noun phrase that begins at `from`, without what follows its head.
    pub(super) fn noun_phrase(&self, from: usize) -> Option<usize> {
        if self.tag(from) == Tag::Pronoun {
            return Some(from + 1);
        }
        let mut end = None;
        let mut at = from;
        while at < self.len() {
            match self.tag(at) {
                Tag::Determiner if at == from || self.tag(at - 1) == Tag::Determiner => {}
                Tag::Possessive if at == from || self.key(at) == "'s" => {}
                Tag::Adjective => {}
                Tag::Adverb if matches!(self.tag(at + 1), Tag::Adjective) => {}
                Tag::Verb(Form::Past | Form::Participle | Form::Ing)
                    if end.is_none()
                        && at > from
                        && matches!(self.tag(at + 1), Tag::Noun | Tag::Adjective | Tag::Name) => {}
                Tag::Noun | Tag::Name | Tag::Number => end = Some(at + 1),
                _ => break,
            }
            at += 1;
        }
        end
    }

    /// End of the noun phrase with what hangs on it by `of` and `and`.
    pub(super) fn long_noun_phrase(&self, from: usize) -> Option<usize> {
        let mut end = self.noun_phrase(from)?;
        loop {
            let joined = self.key(end) == "of"
                || (self.tag(end) == Tag::Coordinator && self.key(end) != "but")
                || self.tag(end) == Tag::Comma && self.lists_on(end);
            let start = if self.tag(end) == Tag::Comma && self.tag(end + 1) == Tag::Coordinator {
                end + 2
            } else {
                end + 1
            };
            let next = joined.then(|| self.noun_phrase(start)).flatten();
            match next {
                // `and she sang`: a new clause, not a longer phrase
                Some(to)
                    if !(self.is_finite(to)
                        && self.tag(end) == Tag::Coordinator
                        && (0..from).any(|k| self.is_finite(k))) =>
                {
                    end = to;
                }
                _ => break,
            }
        }
        // `in March 1905 (Friday)` and dates with a comma: `July 4, 1990`
        if self.tag(end) == Tag::Comma
            && is_year(self.key(end + 1))
            && self.tag(end.saturating_sub(1)) == Tag::Number
        {
            end += 2;
        }
        Some(end)
    }

    /// Whether a comma is followed by another member of a list that ends in `and` or `or`.
    fn lists_on(&self, comma: usize) -> bool {
        let mut at = comma;
        for _ in 0..8 {
            if self.tag(at) == Tag::Coordinator {
                return true;
            }
            if self.tag(at) != Tag::Comma {
                return false;
            }
            if self.tag(at + 1) == Tag::Coordinator {
                return true;
            }
            match self.noun_phrase(at + 1) {
                Some(end) => at = end,
                None => return false,
            }
        }
        false
    }

    /// End of the prepositional phrase that begins at `from`.
    pub(super) fn prepositional_phrase(&self, from: usize) -> Option<usize> {
        let starts = match self.tag(from) {
            Tag::Preposition => true,
            Tag::Subordinator => {
                matches!(
                    self.key(from),
                    "after" | "before" | "since" | "until" | "till" | "as"
                ) && !self.opens_clause(from)
            }
            _ => false,
        };
        if !starts {
            return None;
        }
        let mut start = from + 1;
        if self.tag(start) == Tag::Preposition {
            start += 1;
        }
        let end = self.long_noun_phrase(start)?;
        // `from 1940 to 1949`
        if self.key(from) == "from" && matches!(self.key(end), "to" | "until" | "till") {
            return self.long_noun_phrase(end + 1).or(Some(end));
        }
        Some(end)
    }
}

/// A year between 1000 and 2099.
pub(super) fn is_year(word: &str) -> bool {
    word.len() == 4
        && word.chars().all(|c| c.is_ascii_digit())
        && word.starts_with(['1', '2'])
        && (word.starts_with('1') || word.starts_with("20"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn sentence(text: &str) -> Sentence {
        Sentence::read(text, &Knowledge::new(&[]))
    }

    fn verb(text: &str) -> Option<String> {
        let s = sentence(text);
        s.main_verb().map(|at| s.key(at).to_string())
    }

    #[test]
    fn main_verbs_are_found() {
        for (text, expected) in [
            ("A man dressed in black is playing the guitar.", "is"),
            ("When the war ended, he returned to London.", "returned"),
            ("The man who lives in the house sold his car.", "sold"),
            ("She wrote three novels.", "wrote"),
            ("The river (which is long) flows into the sea.", "flows"),
            ("Robins had an accomplished career.", "had"),
        ] {
            assert_eq!(verb(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(verb("A man playing the guitar on a stage."), None);
    }

    #[test]
    fn phrases_end_where_they_should() {
        let s = sentence("The old house near the river and the bridge was sold in May 1990.");
        assert_eq!(s.noun_phrase(0), Some(3));
        assert_eq!(s.prepositional_phrase(3), Some(9));
        assert_eq!(s.prepositional_phrase(11), Some(14));
        assert_eq!(s.prepositional_phrase(0), None);
    }

    #[test]
    fn first_words_lose_their_capital_only_if_common() {
        assert_eq!(sentence("The dog barks.").tokens[0].text, "the");
        assert_eq!(sentence("Zurich is large.").tokens[0].text, "Zurich");
        assert_eq!(sentence("I see.").tokens[0].text, "I");
        let known = Knowledge::new(&["we saw geckos and geckos".to_string()]);
        assert_eq!(
            Sentence::read("Geckos climb.", &known).tokens[0].text,
            "geckos"
        );
    }
}
