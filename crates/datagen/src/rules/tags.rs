//! Guesses of word classes.
//!
//! Closed classes come from lists, the rest from the lexicon, endings and the words around. The
//! guesses are right often enough to move and to drop parts; nothing relies on a full parse.

use super::lexicon::{Class, Form, Lexicon};
use super::tokens::{Token, is_close, is_open, is_stop};

/// Guessed class of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    /// `the`, `this`, `no`, `some`
    Determiner,
    /// `my`, `their`, and `'s`
    Possessive,
    /// `he`, `them`, `everyone`
    Pronoun,
    /// `in`, `of`
    Preposition,
    /// `to` before a verb
    To,
    /// `and`, `or`, `but`
    Coordinator,
    /// `because`, `when`
    Subordinator,
    /// `who`, `which`, and `that` after a noun
    Relative,
    /// Forms of `be`
    Be,
    /// Forms of `have` and `do`, and `can`, `will`, ...
    Auxiliary,
    /// `not`, `n't`
    Not,
    /// Number in digits or words
    Number,
    /// Capitalised word inside a sentence
    Name,
    /// Noun
    Noun,
    /// Adjective
    Adjective,
    /// Adverb
    Adverb,
    /// Verb form
    Verb(Form),
    /// `,`, `;`, `:` and dashes
    Comma,
    /// Opening bracket
    Open,
    /// Closing bracket
    Close,
    /// `.`, `?`, `!`
    Stop,
    /// Quotation mark
    Quote,
    /// Anything else
    Other,
}

/// Class of a word of a closed class.
pub(super) fn closed_class(word: &str) -> Option<Tag> {
    Some(match word {
        "a" | "an" | "the" | "this" | "these" | "those" | "some" | "any" | "no" | "every"
        | "each" | "all" | "both" | "another" | "either" | "neither" | "most" | "few" | "many"
        | "several" | "such" | "much" => Tag::Determiner,
        "my" | "your" | "his" | "her" | "its" | "our" | "their" | "whose" | "'s" => Tag::Possessive,
        "i" | "you" | "he" | "she" | "it" | "we" | "they" | "me" | "him" | "us" | "them"
        | "himself" | "herself" | "itself" | "themselves" | "everyone" | "everybody"
        | "someone" | "somebody" | "nobody" | "anyone" | "nothing" | "something" | "everything"
        | "mine" | "theirs" | "others" | "there" => Tag::Pronoun,
        "of" | "in" | "on" | "at" | "by" | "for" | "with" | "from" | "into" | "onto" | "over"
        | "under" | "through" | "across" | "near" | "between" | "among" | "amid" | "against"
        | "during" | "within" | "without" | "around" | "about" | "along" | "behind" | "beside"
        | "besides" | "above" | "below" | "beyond" | "throughout" | "toward" | "towards"
        | "via" | "per" | "upon" | "despite" | "alongside" | "amongst" | "inside" | "outside"
        | "like" | "including" | "following" | "regarding" | "past" | "beneath" | "atop"
        | "aboard" => Tag::Preposition,
        "to" => Tag::Preposition,
        "and" | "or" | "but" | "nor" | "&" => Tag::Coordinator,
        "because" | "when" | "while" | "although" | "though" | "if" | "unless" | "since"
        | "whereas" | "whilst" | "until" | "till" | "after" | "before" | "once" | "as" | "than"
        | "whether" | "so" | "where" | "how" | "why" => Tag::Subordinator,
        "who" | "which" | "whom" | "what" | "that" => Tag::Relative,
        "is" | "are" | "was" | "were" | "am" | "be" | "been" | "being" | "'m" | "'re" | "isn't"
        | "aren't" | "wasn't" | "weren't" => Tag::Be,
        "has" | "have" | "had" | "does" | "do" | "did" | "can" | "could" | "will" | "would"
        | "shall" | "should" | "may" | "might" | "must" | "cannot" | "don't" | "doesn't"
        | "didn't" | "can't" | "couldn't" | "won't" | "wouldn't" | "shouldn't" | "hasn't"
        | "haven't" | "hadn't" | "'ve" | "'ll" | "'d" => Tag::Auxiliary,
        "not" | "n't" => Tag::Not,
        "one" | "two" | "three" | "four" | "five" | "six" | "seven" | "eight" | "nine" | "ten"
        | "eleven" | "twelve" | "twenty" | "thirty" | "fifty" | "hundred" | "thousand"
        | "million" | "billion" => Tag::Number,
        "very" | "too" | "also" | "never" | "always" | "often" | "sometimes" | "soon" | "still"
        | "just" | "only" | "even" | "then" | "again" | "already" | "ever" | "here" | "now"
        | "later" | "away" | "together" | "quite" | "rather" | "almost" | "perhaps" | "however"
        | "today" | "yet" | "up" | "down" | "out" | "off" | "back" | "well" | "once again"
        | "ago" | "therefore" | "thus" | "instead" | "eventually" | "first" | "more" | "less" => {
            Tag::Adverb
        }
        "new" | "old" | "other" | "own" | "same" | "second" | "third" | "last" | "next"
        | "early" | "late" | "former" | "left" | "right" | "good" | "long" | "high"
        | "different" | "open" | "little" | "young" | "white" | "black" | "red" | "blue"
        | "green" | "yellow" | "brown" | "orange" | "purple" | "pink" | "gray" | "grey"
        | "blond" | "tan" | "male" | "female" | "main" | "major" | "current" | "present" => {
            Tag::Adjective
        }
        _ => return None,
    })
}

/// Class of the lexicon and verb form that a tag stands for.
pub(super) fn lookup(tag: Tag) -> Option<(Class, Option<Form>)> {
    Some(match tag {
        Tag::Noun => (Class::Noun, None),
        Tag::Verb(form) => (Class::Verb, Some(form)),
        Tag::Adjective => (Class::Adjective, None),
        Tag::Adverb => (Class::Adverb, None),
        _ => return None,
    })
}

/// Guesses the class of every token, from left to right.
pub(super) fn tag(tokens: &[Token], keys: &[String], lexicon: &Lexicon) -> Vec<Tag> {
    let mut tags: Vec<Tag> = Vec::with_capacity(tokens.len());
    let first = tokens.iter().position(Token::is_word).unwrap_or(0);
    for (at, token) in tokens.iter().enumerate() {
        let key = |k: Option<usize>| k.and_then(|k| keys.get(k)).map_or("", String::as_str);
        let before = tags.last().copied();
        // `will greatly help`: the helper counts, not the adverb
        let helper = tags
            .iter()
            .rev()
            .find(|t| !matches!(t, Tag::Adverb | Tag::Not));
        let before = match (before, helper) {
            (Some(Tag::Adverb | Tag::Not), Some(Tag::Auxiliary | Tag::To | Tag::Be)) => {
                helper.copied()
            }
            _ => before,
        };
        let guess = Guess {
            text: &token.text,
            key: key(Some(at)),
            before,
            previous: key(at.checked_sub(1)),
            next: key(Some(at + 1)),
            name_next: tokens
                .get(at + 1)
                .is_some_and(|t| t.text.starts_with(char::is_uppercase)),
            first: at == first,
            lexicon,
        };
        let last = at + 1 == tokens.len();
        tags.push(match token.text.as_str() {
            // a colon at the very end closes the text as a full stop does
            ":" if last => Tag::Stop,
            _ if token.is_word() => guess.word(),
            mark => mark_tag(mark),
        });
    }
    tags
}

/// Class of a punctuation mark.
fn mark_tag(mark: &str) -> Tag {
    match mark {
        "," | ";" | ":" | "-" | "--" | "\u{2013}" | "\u{2014}" => Tag::Comma,
        "\"" | "\u{201c}" | "\u{201d}" | "``" | "''" => Tag::Quote,
        "&" => Tag::Coordinator,
        _ if is_stop(mark) => Tag::Stop,
        _ if is_open(mark) => Tag::Open,
        _ if is_close(mark) => Tag::Close,
        _ => Tag::Other,
    }
}

/// A word and what is known of its neighbours.
struct Guess<'a> {
    text: &'a str,
    key: &'a str,
    /// Class of the word before, behind adverbs that a helper verb leads.
    before: Option<Tag>,
    previous: &'a str,
    next: &'a str,
    name_next: bool,
    first: bool,
    lexicon: &'a Lexicon,
}

impl Guess<'_> {
    /// After a word that a noun or adjective follows.
    fn nominal_before(&self) -> bool {
        matches!(
            self.before,
            Some(Tag::Determiner | Tag::Possessive | Tag::Adjective | Tag::Number)
        )
    }

    /// Before a word of an open class.
    fn noun_like_next(&self) -> bool {
        !self.next.is_empty()
            && closed_class(self.next).is_none()
            && self.next.chars().all(|c| c.is_alphanumeric() || c == '-')
    }

    fn after_have(&self) -> bool {
        matches!(self.previous, "has" | "have" | "had" | "'ve" | "been")
    }

    fn word(&self) -> Tag {
        let (key, lexicon) = (self.key, self.lexicon);
        if self
            .text
            .starts_with(|c: char| c.is_ascii_digit() || matches!(c, '$' | '£' | '€'))
        {
            return Tag::Number;
        }
        let capital = self.text.starts_with(char::is_uppercase);
        if let Some(class) = closed_class(key)
            && (!capital || self.first || matches!(key, "i" | "the" | "of"))
        {
            return self.closed(class);
        }
        if let Some((pronoun, short)) = key.split_once('\'')
            && closed_class(pronoun).is_some()
        {
            match short {
                "s" | "re" | "m" => return Tag::Be,
                "d" | "ll" | "ve" => return Tag::Auxiliary,
                _ => {}
            }
        }
        if capital {
            return Tag::Name;
        }
        // `he lapsed`, `it gleams`: no list needed
        if matches!(self.previous, "he" | "she" | "it" | "who" | "which")
            && key.ends_with('s')
            && !key.ends_with("ss")
            && !lexicon.is_adverb(key)
        {
            return Tag::Verb(Form::Third);
        }
        let helped = self.before == Some(Tag::Auxiliary)
            && lexicon.verb_base(key, Form::Base).is_some()
            && !self.after_have();
        if self.before == Some(Tag::To) || helped {
            return Tag::Verb(Form::Base);
        }
        let head = lexicon.is_noun(key) && !self.noun_like_next() && self.nominal_before();
        let predicate = matches!(self.before, Some(Tag::Pronoun | Tag::Name))
            && !lexicon.verb_readings(key).is_empty();
        if lexicon.is_adjective(key) && !head && !predicate {
            return Tag::Adjective;
        }
        if lexicon.is_adverb(key) && !lexicon.is_noun(key) {
            return Tag::Adverb;
        }
        if let Some(tag) = self.verb() {
            return tag;
        }
        if lexicon.is_noun(key) {
            return Tag::Noun;
        }
        self.by_ending()
    }

    /// A word of a closed class that may be of another one here.
    fn closed(&self, class: Tag) -> Tag {
        let (nominal_before, noun_like_next) = (self.nominal_before(), self.noun_like_next());
        match (class, self.key) {
            (Tag::Preposition, "to")
                if self.lexicon.verb_base(self.next, Form::Base).is_some() || self.next == "be" =>
            {
                Tag::To
            }
            // `that` begins a relative clause only after a noun or verb
            (Tag::Relative, "that")
                if self.first || matches!(self.before, Some(Tag::Preposition | Tag::Comma)) =>
            {
                Tag::Determiner
            }
            // `her` as an object
            (Tag::Possessive, "her")
                if !noun_like_next && closed_class(self.next) != Some(Tag::Adjective) =>
            {
                Tag::Pronoun
            }
            (Tag::Preposition, "like")
                if matches!(
                    self.previous,
                    "i" | "you" | "we" | "they" | "would" | "not" | "to" | "n't"
                ) =>
            {
                Tag::Verb(Form::Base)
            }
            (Tag::Preposition, "following") if nominal_before => Tag::Adjective,
            (Tag::Subordinator, "once" | "so") if self.next != "the" && !self.first => Tag::Adverb,
            // `dressed in black`
            (
                Tag::Adjective,
                "white" | "black" | "red" | "blue" | "green" | "yellow" | "brown" | "orange"
                | "pink",
            ) if !noun_like_next
                && matches!(self.before, Some(Tag::Preposition | Tag::Coordinator)) =>
            {
                Tag::Noun
            }
            (Tag::Adjective, "left") if matches!(self.before, Some(Tag::Pronoun | Tag::Name)) => {
                Tag::Verb(Form::Past)
            }
            (Tag::Adjective, "present") if self.before == Some(Tag::To) => Tag::Verb(Form::Base),
            (Tag::Adverb, "first" | "only" | "just") if nominal_before => Tag::Adjective,
            (Tag::Adverb, "later")
                if noun_like_next && (nominal_before || self.before == Some(Tag::Preposition)) =>
            {
                Tag::Adjective
            }
            (Tag::Adverb, "well") if self.before == Some(Tag::Determiner) => Tag::Noun,
            (Tag::Adverb, "more" | "less") if noun_like_next && !self.next.ends_with("ly") => {
                Tag::Adjective
            }
            (Tag::Determiner, "many" | "few" | "most" | "several") if nominal_before => {
                Tag::Adjective
            }
            _ => class,
        }
    }

    /// A form of a verb of the lists, where its place allows it.
    fn verb(&self) -> Option<Tag> {
        let readings = self.lexicon.verb_readings(self.key);
        if matches!(self.before, Some(Tag::Determiner | Tag::Possessive)) {
            return None;
        }
        let noun = self.lexicon.is_noun(self.key);
        let closed_next = closed_class(self.next).is_some();
        let subject = matches!(
            self.before,
            Some(
                Tag::Noun
                    | Tag::Name
                    | Tag::Pronoun
                    | Tag::Relative
                    | Tag::Adverb
                    | Tag::Close
                    | Tag::Not
                    | Tag::Coordinator
                    | Tag::Comma
            )
        );
        for &(_, form) in readings {
            match form {
                Form::Past | Form::Participle => {
                    let helped = self.before == Some(Tag::Be) || self.after_have();
                    // `dogs run` has the form of a participle
                    let base =
                        form == Form::Participle && readings.iter().any(|r| r.1 == Form::Base);
                    if (noun && !subject) || (base && !helped) {
                        continue;
                    }
                    if self.nominal_before() && self.noun_like_next() {
                        return Some(Tag::Adjective);
                    }
                    let no_past = !readings.iter().any(|r| r.1 == Form::Past);
                    let participle = helped || no_past;
                    return Some(Tag::Verb(if participle {
                        Form::Participle
                    } else {
                        Form::Past
                    }));
                }
                Form::Ing => {
                    // `the Smith building.`
                    let compound =
                        self.before == Some(Tag::Name) && !self.noun_like_next() && !closed_next;
                    let nominal =
                        compound || matches!(self.before, Some(Tag::Preposition | Tag::Adjective));
                    if !(noun && nominal) {
                        return Some(Tag::Verb(Form::Ing));
                    }
                }
                Form::Third => {
                    // `plays the piano` after a subject; `plays` alone is a plural
                    let object =
                        self.name_next || closed_next || self.next.ends_with("ing") || !noun;
                    let after_adjective = self.before == Some(Tag::Adjective) && !noun;
                    let listed = noun && matches!(self.before, Some(Tag::Coordinator | Tag::Comma));
                    if (subject || after_adjective) && object && !listed {
                        return Some(Tag::Verb(Form::Third));
                    }
                }
                Form::Base => {
                    let pronoun = matches!(
                        self.previous,
                        "they" | "we" | "you" | "i" | "who" | "not" | "n't"
                    ) || matches!(self.before, None | Some(Tag::Quote));
                    let plural = matches!(self.previous, "men" | "women" | "people" | "children")
                        || (self.previous.ends_with('s') && self.before == Some(Tag::Noun));
                    if (pronoun && (closed_next || !noun)) || (plural && closed_next) {
                        return Some(Tag::Verb(Form::Base));
                    }
                }
            }
        }
        None
    }

    /// A word of no list.
    fn by_ending(&self) -> Tag {
        let key = self.key;
        let (nominal_before, noun_like_next) = (self.nominal_before(), self.noun_like_next());
        if key.ends_with("ly") && key.len() > 4 {
            return Tag::Adverb;
        }
        if key.ends_with("ing") && key.len() > 5 {
            return match (nominal_before, noun_like_next) {
                (true, false) => Tag::Noun,
                (true, true) => Tag::Adjective,
                _ => Tag::Verb(Form::Ing),
            };
        }
        if key.ends_with("ed") && key.contains('-') {
            return Tag::Adjective;
        }
        if key.ends_with("ed") && key.len() > 4 {
            let attribute =
                nominal_before || matches!(self.before, Some(Tag::Preposition | Tag::Adverb));
            return match self.before {
                Some(Tag::Be) => Tag::Verb(Form::Participle),
                _ if attribute && noun_like_next => Tag::Adjective,
                _ if self.after_have() => Tag::Verb(Form::Participle),
                _ => Tag::Verb(Form::Past),
            };
        }
        let adjective_ending = [
            "ous", "ful", "ive", "ical", "able", "ible", "less", "ish", "ary", "ial", "nal", "tic",
            "ese", "most", "ual", "ural", "-old", "like", "ern",
        ]
        .iter()
        .any(|e| key.ends_with(e));
        let place = noun_like_next || matches!(self.before, Some(Tag::Be | Tag::Adverb));
        if (adjective_ending || key.contains('-')) && place {
            return Tag::Adjective;
        }
        Tag::Noun
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::tokens::split;
    use super::*;

    fn tags(text: &str) -> Vec<Tag> {
        let tokens = split(text);
        let keys: Vec<String> = tokens.iter().map(Token::key).collect();
        tag(&tokens, &keys, Lexicon::bundled())
    }

    #[test]
    fn ambiguous_words_follow_their_neighbours() {
        for (text, at, expected) in [
            ("the security forces believed it", 2, Tag::Noun),
            ("the rule forces the men out", 2, Tag::Verb(Form::Third)),
            ("they want to play", 3, Tag::Verb(Form::Base)),
            ("the play was long", 1, Tag::Noun),
            ("she will greatly help them", 3, Tag::Verb(Form::Base)),
            ("they were first published", 3, Tag::Verb(Form::Participle)),
            ("a building in Bern", 1, Tag::Noun),
            ("a man building walls", 2, Tag::Verb(Form::Ing)),
            ("the only thing", 1, Tag::Adjective),
            ("he only slept", 1, Tag::Adverb),
            ("the fact that matters", 2, Tag::Relative),
            ("a woman dressed in black", 4, Tag::Noun),
            ("a middle-aged man", 1, Tag::Adjective),
            ("she gleams at night", 1, Tag::Verb(Form::Third)),
        ] {
            assert_eq!(tags(text)[at], expected, "{text}");
        }
    }

    #[test]
    fn marks_have_their_classes() {
        assert_eq!(
            tags("Awards (two), \"A\":"),
            [
                Tag::Name,
                Tag::Open,
                Tag::Number,
                Tag::Close,
                Tag::Comma,
                Tag::Quote,
                Tag::Name,
                Tag::Quote,
                Tag::Stop
            ]
        );
    }
}
