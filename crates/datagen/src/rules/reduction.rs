//! Leaving out details, and saying things more generally.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::edit::{Edit, apply, draw, part, written};
use super::lexicon::Form;
use super::paraphrase::{caption_to_sentence, is_plural};
use super::sentence::{Knowledge, Sentence, Tag, is_year, lookup};
use super::tokens::Token;

/// A part that may go, and how much its loss disturbs the sentence: lower goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Detail {
    pub(super) from: usize,
    pub(super) to: usize,
    cost: u32,
}

/// Every part of the sentence that may be left out.
pub(super) fn details(s: &Sentence) -> Vec<Detail> {
    let end = s.body_end();
    let verb = s.main_verb();
    let mut out = Vec::new();
    let mut add = |from: usize, to: usize, cost: u32| {
        if from < to && to - from < s.len() && s.balanced(from, to) {
            out.push(Detail { from, to, cost });
        }
    };
    brackets(s, &mut add);
    leading(s, verb, &mut add);
    commas(s, verb, end, &mut add);
    clauses(s, verb, end, &mut add);
    for at in 0..end {
        phrases(s, verb, at, end, &mut add);
        modifiers(s, at, &mut add);
        coordination(s, verb, at, end, &mut add);
    }
    out
}

/// `(born 1990)`
fn brackets(s: &Sentence, add: &mut impl FnMut(usize, usize, u32)) {
    let mut open = None;
    for at in 0..s.len() {
        match (s.tag(at), open) {
            (Tag::Open, _) => open = Some(at),
            (Tag::Close, Some(from)) => {
                add(from, at + 1, 0);
                open = None;
            }
            _ => {}
        }
    }
}

/// `In 1905, ...` and `However, ...`
fn leading(s: &Sentence, verb: Option<usize>, add: &mut impl FnMut(usize, usize, u32)) {
    let Some(verb) = verb else { return };
    let adjunct = matches!(
        s.tag(0),
        Tag::Preposition
            | Tag::Adverb
            | Tag::Subordinator
            | Tag::To
            | Tag::Verb(Form::Ing | Form::Past | Form::Participle)
    );
    let stop = (1..verb)
        .rev()
        .find(|&k| s.key(k) == "," && !(s.tag(k - 1) == Tag::Number && is_year(s.key(k + 1))));
    match stop {
        Some(stop) if adjunct => add(0, stop + 1, 2),
        // `In 1905 he ...`
        None if s.tag(0) == Tag::Preposition => {
            if let Some(to) = s.prepositional_phrase(0)
                && to < verb
                && matches!(s.tag(to), Tag::Pronoun | Tag::Determiner | Tag::Name)
            {
                add(0, to, 3);
            }
        }
        _ => {}
    }
}

/// Parts between commas, and what follows the last comma.
fn commas(s: &Sentence, verb: Option<usize>, end: usize, add: &mut impl FnMut(usize, usize, u32)) {
    let marks: Vec<usize> = (0..end).filter(|&k| s.tag(k) == Tag::Comma).collect();
    for (number, &from) in marks.iter().enumerate() {
        let next = marks.get(number + 1).copied();
        let opener = s.tag(from + 1);
        // `, a town in Norway,` before the verb
        if let (Some(to), Some(verb)) = (next, verb)
            && to < verb
            && from > 0
            && matches!(
                s.tag(0),
                Tag::Name
                    | Tag::Determiner
                    | Tag::Pronoun
                    | Tag::Noun
                    | Tag::Possessive
                    | Tag::Adjective
                    | Tag::Number
            )
            && opener != Tag::Coordinator
            && s.tag(to + 1) != Tag::Coordinator
        {
            add(from, to + 1, 1);
        }
        let Some(verb) = verb.filter(|&v| v < from) else {
            // `A dog, brown and white` is a fragment: keep its head
            if verb.is_none() && from > 1 && number == 0 {
                add(from, end, 4);
            }
            continue;
        };
        let semicolon = s.key(from) != "," && !matches!(s.key(from), "-");
        let clause = matches!(
            opener,
            Tag::Relative
                | Tag::Verb(Form::Ing | Form::Past | Form::Participle)
                | Tag::Subordinator
                | Tag::Preposition
                | Tag::Possessive
                | Tag::Adverb
                | Tag::To
                | Tag::Adjective
        ) || s.key(from + 1) == "but";
        // `, and he left`
        let sentence = opener == Tag::Coordinator
            && s.noun_phrase(from + 2)
                .is_some_and(|to| s.is_finite(to) || s.tag(to) == Tag::Verb(Form::Base));
        let shared_subject =
            opener == Tag::Coordinator && (s.is_finite(from + 2) || s.is_finite(from + 3));
        let late = from > verb + 1;
        if late && (semicolon || clause || sentence || shared_subject) {
            add(from, end, 1);
        } else if late && number + 1 == marks.len() && opener != Tag::Coordinator {
            // an apposition at the end
            if !is_year(s.key(from + 1)) {
                add(from, end, 3);
            }
        }
        // `..., which was new, ...`
        if let Some(to) = next
            && late
            && clause
        {
            add(from, to, 2);
        }
        // `A, B and C` keeps A
        if late && opener != Tag::Coordinator && lists_to_end(s, from, end) {
            add(from, end, 3);
        }
    }
}

/// Whether a list runs from a comma to the end.
fn lists_to_end(s: &Sentence, from: usize, end: usize) -> bool {
    let mut at = from;
    let mut joined = false;
    while at < end {
        match s.tag(at) {
            Tag::Comma => at += 1,
            Tag::Coordinator => {
                joined = true;
                at += 1;
            }
            _ => match s.noun_phrase(at) {
                Some(to) => at = to,
                None => return false,
            },
        }
    }
    joined
}

/// Relative and participle clauses after a noun, subordinate clauses and second predicates.
fn clauses(s: &Sentence, verb: Option<usize>, end: usize, add: &mut impl FnMut(usize, usize, u32)) {
    for at in 1..end {
        let after_noun = matches!(
            s.tag(at - 1),
            Tag::Noun | Tag::Name | Tag::Pronoun | Tag::Close | Tag::Number
        );
        let relative = s.tag(at) == Tag::Relative
            && after_noun
            && s.key(at) != "what"
            && !matches!(s.key(at - 1), "it" | "he" | "she");
        let participle = after_noun
            && (s.tag(at) == Tag::Verb(Form::Ing)
                || (matches!(s.tag(at), Tag::Verb(Form::Past | Form::Participle))
                    && verb.is_some_and(|v| v != at)
                    && (s.tag(at + 1) == Tag::Preposition || s.key(at + 1) == "to")));
        if relative || participle {
            match verb {
                // before the main verb it ends there
                Some(v) if at < v => {
                    let finite = s.tag(at) == Tag::Relative && (at..v).any(|k| s.is_finite(k));
                    let comma = (at..v).any(|k| s.tag(k) == Tag::Comma);
                    if (finite || s.tag(at) != Tag::Relative) && !comma {
                        add(at, v, 2);
                    }
                }
                Some(_) => {
                    let to = (at..end).find(|&k| s.tag(k) == Tag::Comma).unwrap_or(end);
                    add(at, to, 2);
                }
                // a caption keeps its first participle: it is the predicate
                None if (0..at).any(|k| s.tag(k) == Tag::Verb(Form::Ing)) || relative => {
                    add(at, end, 2)
                }
                None => {}
            }
        }
        let Some(v) = verb.filter(|&v| v < at) else {
            if verb.is_none() && s.tag(at) == Tag::Subordinator && s.opens_clause(at) && at > 2 {
                add(at, end, 1);
            }
            continue;
        };
        if s.tag(at) == Tag::Subordinator
            && at > v + 1
            && (s.opens_clause(at) || matches!(s.key(at), "while" | "when" | "as" | "so"))
            && s.tag(at - 1) != Tag::Be
            && !matches!(s.key(at), "than" | "if" | "whether" | "how" | "why")
            && !matches!(
                s.key(at - 1),
                "such" | "known" | "as" | "so" | "to" | "same"
            )
        {
            add(at, end, 2);
        }
        // `sang and danced`
        if s.tag(at) == Tag::Coordinator {
            let verb_next = s.is_finite(at + 1)
                || (s.tag(at + 1) == Tag::Adverb && s.is_finite(at + 2))
                || (s.tag(at + 1) == Tag::Verb(Form::Ing)
                    && (v..at).any(|k| s.tag(k) == Tag::Verb(Form::Ing)));
            let clause = s.noun_phrase(at + 1).is_some_and(|to| s.is_finite(to));
            if verb_next || clause {
                add(at, end, 1);
            }
        }
        // a purpose: `to win the match`
        let caused = (v..at).any(|k| {
            [
                "caus", "help", "allow", "ask", "tell", "told", "want", "forc", "enabl", "order",
                "encourag", "like",
            ]
            .iter()
            .any(|stem| s.key(k).starts_with(stem))
        });
        if s.tag(at) == Tag::To && s.tag(at - 1) == Tag::Noun && at > v + 2 && !caused {
            add(at, end, 4);
        }
        if s.tag(at) == Tag::Verb(Form::Ing)
            && s.tag(at - 1) == Tag::Preposition
            && at > v + 2
            && matches!(s.key(at - 1), "by" | "after" | "before" | "for" | "while")
        {
            add(at - 1, end, 2);
        }
    }
}

/// Words before `of` that say nothing without it.
const PARTITIVE: &[&str] = &[
    "one", "some", "many", "most", "all", "each", "both", "part", "number", "group", "kind",
    "type", "sort", "lot", "member", "pair", "piece", "set", "series", "half", "majority", "form",
    "couple", "variety", "side", "top", "front", "bottom", "middle", "edge", "end", "species",
    "two", "three", "several", "percent", "bunch", "crowd", "son", "daughter", "capital", "genus",
    "name", "center", "centre", "state", "amount", "pile", "level", "title", "rest",
];

/// Prepositional phrases.
fn phrases(
    s: &Sentence,
    verb: Option<usize>,
    at: usize,
    end: usize,
    add: &mut impl FnMut(usize, usize, u32),
) {
    if at == 0 {
        return;
    }
    let Some(to) = s.prepositional_phrase(at) else {
        return;
    };
    if to > end || (s.is_finite(to) && verb != Some(to)) {
        return;
    }
    let before = s.tag(at - 1);
    let key = s.key(at);
    let last = to == end;
    let boundary = matches!(
        s.tag(to),
        Tag::Stop | Tag::Comma | Tag::Preposition | Tag::Coordinator | Tag::Close
    ) || s.is_finite(to)
        || s.tag(to) == Tag::Subordinator
        || last
        || s.tag(to) == Tag::Relative
        || matches!(s.tag(to), Tag::Verb(Form::Ing | Form::Participle))
        || s.tag(to) == Tag::To;
    if !boundary || before == Tag::Be || s.tag(to) == Tag::Possessive && s.key(to) == "'s" {
        return;
    }
    let years = (at..to).any(|k| is_year(s.key(k)));
    let cost = match before {
        Tag::Noun | Tag::Name | Tag::Number | Tag::Close | Tag::Pronoun if key == "of" => {
            if PARTITIVE.contains(&s.key(at - 1)) || s.key(at - 1).ends_with("est") {
                return;
            }
            5
        }
        Tag::Adjective
        | Tag::Determiner
        | Tag::Not
        | Tag::To
        | Tag::Preposition
        | Tag::Possessive
        | Tag::Other => return,
        // the object of a verb with its preposition: `looked at`
        Tag::Verb(_)
            if matches!(
                key,
                "to" | "of" | "into" | "as" | "like" | "about" | "against" | "upon"
            ) =>
        {
            return;
        }
        Tag::Verb(_) if matches!(key, "at" | "for" | "on" | "with") => {
            if years {
                3
            } else {
                7
            }
        }
        Tag::Verb(_)
            if matches!(
                s.key(at - 1),
                "set" | "situated" | "located" | "based" | "placed" | "held" | "used" | "put"
            ) =>
        {
            return;
        }
        Tag::Verb(Form::Participle) => 4,
        Tag::Verb(_) => 5,
        // `from 10 to 15`
        Tag::Number if key == "to" => return,
        Tag::Auxiliary => return,
        Tag::Noun if key == "to" || key == "as" => 5,
        _ if years || last => 2,
        _ => 3,
    };
    if matches!(key, "than" | "between") || (key == "as" && s.key(at - 1) == "known") {
        return;
    }
    // inside the subject a following verb must stay close to its noun: fine without the phrase
    add(at, to, cost);
}

/// Adjectives that point out which one is meant.
const POINTING: &[&str] = &[
    "first",
    "last",
    "only",
    "same",
    "other",
    "own",
    "such",
    "next",
    "former",
    "second",
    "third",
    "more",
    "less",
    "many",
    "few",
    "most",
    "several",
    "vice",
    "fake",
    "alleged",
    "best",
    "largest",
    "north",
    "south",
    "east",
    "west",
    "different",
    "able",
    "united",
    "high",
    "middle",
    "primary",
    "secondary",
    "elementary",
];

/// Adjectives before nouns, and adverbs.
fn modifiers(s: &Sentence, at: usize, add: &mut impl FnMut(usize, usize, u32)) {
    match s.tag(at) {
        Tag::Adjective if !POINTING.contains(&s.key(at)) && !s.key(at).ends_with("est") => {
            if s.tag(at + 1) == Tag::Noun {
                let from =
                    if at > 0 && matches!(s.tag(at - 1), Tag::Adverb) && s.key(at - 1) != "not" {
                        at - 1
                    } else {
                        at
                    };
                // `red, white and blue flags` keeps its commas right only as a whole
                let list = at > 0 && matches!(s.tag(at - 1), Tag::Comma | Tag::Coordinator);
                let denied = from > 0 && s.tag(from - 1) == Tag::Not;
                if !list && !denied && (from == 0 || !matches!(s.tag(from - 1), Tag::Be)) || at == 0
                {
                    add(from, at + 1, 1);
                }
            } else if s.tag(at + 1) == Tag::Adjective && s.tag(at + 2) == Tag::Noun {
                add(at, at + 1, 1);
            } else if s.tag(at + 1) == Tag::Coordinator
                && s.tag(at + 2) == Tag::Adjective
                && s.tag(at + 3) == Tag::Noun
            {
                add(at, at + 3, 1);
            }
        }
        Tag::Adverb
            if (s.key(at).ends_with("ly")
                || matches!(
                    s.key(at),
                    "also"
                        | "very"
                        | "still"
                        | "just"
                        | "often"
                        | "usually"
                        | "later"
                        | "soon"
                        | "even"
                        | "quite"
                        | "then"
                        | "however"
                ))
                && at > 0
                && !matches!(
                    s.key(at),
                    "only" | "early" | "nearly" | "hardly" | "rarely" | "family"
                )
                && s.key(at - 1) != "not"
                && !matches!(s.tag(at + 1), Tag::Preposition if s.tag(at - 1) == Tag::Be) =>
        {
            add(at, at + 1, 0);
        }
        // a number of days: `three-year`
        Tag::Number
            if s.key(at).contains('-')
                && s.tag(at + 1) == Tag::Noun
                && s.key(at).chars().any(char::is_alphabetic) =>
        {
            add(at, at + 1, 1);
        }
        _ => {}
    }
}

/// `X and Y` after the verb keeps X.
fn coordination(
    s: &Sentence,
    verb: Option<usize>,
    at: usize,
    end: usize,
    add: &mut impl FnMut(usize, usize, u32),
) {
    if s.tag(at) != Tag::Coordinator || at == 0 || verb.is_some_and(|v| at < v) {
        return;
    }
    if !matches!(s.tag(at - 1), Tag::Noun | Tag::Name) {
        return;
    }
    let Some(mut to) = s.noun_phrase(at + 1) else {
        return;
    };
    if s.tag(to) == Tag::Preposition && s.key(to) == "of" {
        to = s.noun_phrase(to + 1).unwrap_or(to);
    }
    let between = (0..at).any(|k| matches!(s.key(k), "between" | "both"));
    let list = (0..at)
        .rev()
        .take_while(|&k| !s.is_finite(k))
        .any(|k| s.tag(k) == Tag::Comma);
    if between || list || s.is_finite(to) || to > end {
        return;
    }
    if matches!(
        s.tag(to),
        Tag::Stop | Tag::Comma | Tag::Preposition | Tag::Close | Tag::Relative
    ) {
        add(at, to, 2);
    }
}

/// Says parts more generally: counts, dates, names of people with titles.
pub(super) fn vaguer(s: &Sentence, known: &Knowledge) -> Vec<Edit> {
    let mut out = Vec::new();
    for at in 0..s.len() {
        let key = s.key(at);
        if s.tag(at) == Tag::Number
            && s.tag(at + 1) == Tag::Noun
            && known.lexicon.singular(s.key(at + 1)).is_some()
            && !is_year(key)
            && !matches!(key, "one" | "1")
            && !key.contains(['$', '£', '€', '%', '-', '.'])
            && !(at > 0 && matches!(s.key(at - 1), "of" | "to"))
            && !(at > 0
                && matches!(
                    s.tag(at - 1),
                    Tag::Determiner | Tag::Possessive | Tag::Number | Tag::Adverb
                ))
            && !matches!(
                s.key(at + 1),
                "years" | "months" | "days" | "hours" | "minutes"
            )
        {
            out.push(Edit::new(at, at + 1, "some"));
        }
    }
    out
}

/// More general words, one list of choices per place.
pub(super) fn generalisations(s: &Sentence, known: &Knowledge) -> Vec<Edit> {
    let mut out = Vec::new();
    for at in 0..s.len() {
        let Some((class, form)) = lookup(s.tag(at)) else {
            continue;
        };
        // `dog house` is no `animal house`, `football match` no `sport match`
        let compound = s.tag(at) == Tag::Noun
            && (matches!(s.tag(at + 1), Tag::Noun | Tag::Name)
                || s.tag(at + 1) == Tag::Possessive
                || (at > 0 && matches!(s.tag(at - 1), Tag::Noun | Tag::Name)));
        if compound {
            continue;
        }
        if let Some(with) = known
            .lexicon
            .hypernyms(class, form, s.key(at))
            .into_iter()
            .next()
        {
            // `a baseball` is a ball
            if with == "sport"
                && at > 0
                && matches!(s.tag(at - 1), Tag::Determiner | Tag::Possessive)
            {
                continue;
            }
            out.push(Edit::new(at, at + 1, with));
        }
    }
    out
}

/// Leaves out details until about `target` of the words are left, cheapest first. `None` where
/// nothing may go.
pub(super) fn reduce(
    s: &Sentence,
    known: &Knowledge,
    rng: &mut ChaCha8Rng,
    target: f64,
) -> Option<Sentence> {
    let words = s.words();
    let mut candidates: Vec<(u32, Detail)> = details(s)
        .into_iter()
        .map(|d| (d.cost * 2 + rng.random_range(0..3), d))
        .collect();
    candidates.sort_by_key(|(cost, d)| (*cost, d.from, d.to));
    // whole words below which a sentence says nothing any more
    let least = 3.min(words);
    let wanted = ((words as f64 * target).round() as usize).max(least);
    let mut gone = vec![false; s.len()];
    let mut left = words;
    let verb = s.main_verb();
    for (cost, detail) in candidates {
        if left <= wanted || (cost >= 10 && left * 100 < words * 80) {
            break;
        }
        let lost = (detail.from..detail.to)
            .filter(|&k| {
                !gone.get(k).copied().unwrap_or(true) && s.tokens.get(k).is_some_and(Token::is_word)
            })
            .count();
        let eats_verb = verb.is_some_and(|v| (detail.from..detail.to).contains(&v));
        // overshooting by more than a fifth makes another sentence of it
        if lost == 0
            || eats_verb
            || left - lost < least
            || ((left - lost) as f64) < wanted as f64 * 0.6
        {
            continue;
        }
        if let Some(span) = gone.get_mut(detail.from..detail.to) {
            span.fill(true);
        }
        left -= lost;
    }
    if left == words {
        return None;
    }
    trim_seams(s, &mut gone);
    let tokens: Vec<Token> = s
        .tokens
        .iter()
        .zip(&gone)
        .filter(|(_, gone)| !**gone)
        .map(|(t, _)| t.clone())
        .collect();
    let mut next = Sentence::read(&s.write(tokens), known);
    next.capital = s.capital;
    Some(next)
}

/// Takes away `and`, `the` or `to` that lost the words they lead to.
fn trim_seams(s: &Sentence, gone: &mut [bool]) {
    let mut next = Tag::Stop;
    for at in (0..gone.len()).rev() {
        if gone.get(at).copied().unwrap_or(true) {
            continue;
        }
        let tag = s.tag(at);
        let closes = matches!(next, Tag::Stop | Tag::Comma | Tag::Close);
        let leads = matches!(
            tag,
            Tag::Coordinator | Tag::Determiner | Tag::Possessive | Tag::To | Tag::Relative
        );
        let cut = gone.get(at + 1).copied().unwrap_or(false);
        if closes && leads && cut {
            gone[at] = true;
        } else if s.tokens.get(at).is_some_and(Token::is_word) || closes {
            next = tag;
        }
    }
}

/// The first part of a text that offers nothing else to leave out.
pub(super) fn shorten(s: &Sentence) -> Option<String> {
    let words: Vec<usize> = (0..s.body_end())
        .filter(|&k| s.tokens.get(k).is_some_and(Token::is_word))
        .collect();
    let keep = (words.len() * 3).div_ceil(5);
    let mut at = *words.get(keep.checked_sub(1)?)?;
    let loose = |k: usize| {
        matches!(
            s.tag(k),
            Tag::Determiner
                | Tag::Preposition
                | Tag::Coordinator
                | Tag::To
                | Tag::Subordinator
                | Tag::Possessive
                | Tag::Be
                | Tag::Auxiliary
                | Tag::Comma
                | Tag::Open
                | Tag::Relative
                | Tag::Adverb
        )
    };
    while at > 0 && loose(at) {
        at -= 1;
    }
    let some_word = words.first().is_some_and(|&first| first <= at);
    if words.len() < 2 || !some_word || at + 1 >= s.body_end() {
        return None;
    }
    let mut tokens = part(s, 0, at + 1);
    // an open bracket or quotation mark would stay open
    if !s.balanced(0, at + 1) {
        tokens.retain(Token::is_word);
        tokens.iter_mut().for_each(|t| t.space = true);
    }
    tokens.extend(
        part(s, s.body_end(), s.len())
            .into_iter()
            .filter(|t| super::tokens::is_stop(&t.text)),
    );
    Some(s.write(tokens))
}

/// Markedly fewer details; `None` where no rule applies.
pub(super) fn intermediate(
    s: &Sentence,
    known: &Knowledge,
    rng: &mut ChaCha8Rng,
) -> Option<String> {
    let target = rng.random_range(0.4..0.65);
    let source = s.write(s.tokens.clone());
    let reduced = reduce(s, known, rng, target);
    let kept = reduced
        .as_ref()
        .map_or(1.0, |r| r.words() as f64 / s.words().max(1) as f64);
    let base = reduced.unwrap_or_else(|| s.clone());
    let mut edits = vaguer(&base, known);
    if kept > 0.75 || rng.random_bool(0.3) {
        edits.extend(generalisations(&base, known));
    }
    let text = base.write(apply(&base, &edits));
    (text != source).then_some(text)
}

/// Words after which a part or a more general word need not follow.
pub(super) fn blocks_entailment(s: &Sentence) -> bool {
    s.keys.iter().any(|k| {
        matches!(
            k.as_str(),
            "not"
                | "n't"
                | "no"
                | "never"
                | "without"
                | "few"
                | "only"
                | "all"
                | "every"
                | "each"
                | "if"
                | "unless"
                | "nobody"
                | "nothing"
                | "none"
                | "neither"
                | "nor"
                | "hardly"
                | "most"
                | "any"
                | "may"
                | "might"
                | "could"
                | "would"
                | "should"
                | "cannot"
                | "or"
                | "?"
        ) || k.ends_with("n't")
    })
}

/// Something that must hold whenever the sentence holds; `None` where no rule applies.
pub(super) fn entailed(s: &Sentence, known: &Knowledge, rng: &mut ChaCha8Rng) -> Option<String> {
    let source = s.write(s.tokens.clone());
    let mut current = reduce(s, known, rng, share_kept(s)).unwrap_or_else(|| s.clone());
    if let Some(tokens) = caption_to_sentence(&current, known) {
        let mut next = Sentence::read(&current.write(tokens), known);
        next.capital = current.capital;
        current = next;
    }
    let mut edits = vaguer(&current, known);
    for edit in generalisations(&current, known) {
        if rng.random_bool(0.5) {
            edits.push(edit);
        }
    }
    let text = current.write(apply(&current, &edits));
    if rng.random_bool(0.15)
        && let Some(text) = existence(&current, known)
    {
        return Some(text);
    }
    if text != source {
        return Some(text);
    }
    let all = generalisations(&current, known);
    let choice = draw(rng, &all).cloned();
    choice
        .map(|edit| current.write(apply(&current, &[edit])))
        .or_else(|| existence(s, known))
        .filter(|text| *text != source)
}

/// Longer sentences are cut more: people name one fact of a long premise.
fn share_kept(s: &Sentence) -> f64 {
    match s.words() {
        0..=8 => 0.65,
        9..=16 => 0.5,
        _ => 0.4,
    }
}

/// `There is a dog.` of `A dog barks.`
fn existence(s: &Sentence, known: &Knowledge) -> Option<String> {
    if !matches!(
        s.key(0),
        "a" | "an" | "two" | "three" | "four" | "five" | "some" | "several"
    ) {
        return None;
    }
    let end = s.noun_phrase(0)?;
    let be = if is_plural(s, 0, end, known) {
        "are"
    } else {
        "is"
    };
    let mut tokens = written(&format!("there {be}"));
    tokens.extend(part(s, 0, end));
    tokens.extend(part(s, s.body_end(), s.len()));
    Some(s.write(tokens))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use rand::SeedableRng;

    use super::*;

    /// Every text that is left when one detail goes.
    fn without_one(text: &str) -> Vec<String> {
        let known = Knowledge::new(&[]);
        let s = Sentence::read(text, &known);
        details(&s)
            .iter()
            .map(|d| s.write(apply(&s, &[Edit::new(d.from, d.to, "")])))
            .collect()
    }

    #[test]
    fn each_kind_of_detail_may_go() {
        for (before, after) in [
            ("Eva Lund (born 1990) is a rower.", "Eva Lund is a rower."),
            ("In 1905, the bridge was opened.", "The bridge was opened."),
            ("However, the bridge was closed.", "The bridge was closed."),
            ("Molde, a town in Norway, has a port.", "Molde has a port."),
            ("He left the army, which he disliked.", "He left the army."),
            ("She opened the door, and he left.", "She opened the door."),
            ("The man who plays chess is smiling.", "The man is smiling."),
            ("A man wearing a hat is singing.", "A man is singing."),
            (
                "He stayed at home because he was ill.",
                "He stayed at home.",
            ),
            ("She sang and danced.", "She sang."),
            ("He wrote a book in 1905.", "He wrote a book."),
            (
                "A dog runs through the old park.",
                "A dog runs through the park.",
            ),
            ("He quickly opened the door.", "He opened the door."),
            ("She bought apples and pears.", "She bought apples."),
            ("They visited Bern, Basel and Chur.", "They visited Bern."),
        ] {
            let found = without_one(before);
            assert!(found.contains(&after.to_string()), "{before}: {found:?}");
        }
    }

    #[test]
    fn needed_parts_stay() {
        for (before, never) in [
            ("The house is in the park.", "The house is."),
            ("One of the men left.", "One left."),
            ("It is the first bridge.", "It is the bridge."),
        ] {
            assert!(
                !without_one(before).contains(&never.to_string()),
                "{before}"
            );
        }
    }

    #[test]
    fn general_words_and_existence() {
        let known = Knowledge::new(&[]);
        let s = Sentence::read("A man plays the guitar.", &known);
        let text = s.write(apply(&s, &generalisations(&s, &known)));
        assert_eq!(text, "A person plays the instrument.");
        assert_eq!(existence(&s, &known).unwrap(), "There is a man.");
        let s = Sentence::read("Some people saw 14 boats.", &known);
        assert_eq!(
            s.write(apply(&s, &vaguer(&s, &known))),
            "Some people saw some boats."
        );
        assert!(blocks_entailment(&Sentence::read("No man sings.", &known)));
    }

    #[test]
    fn reduction_stops_near_its_target() {
        let known = Knowledge::new(&[]);
        let s = Sentence::read(
            "In 1905, the old bridge, a wooden structure near the mill, was destroyed by a flood in the night.",
            &known,
        );
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let half = reduce(&s, &known, &mut rng, 0.5).unwrap();
        assert!(
            (6..=11).contains(&half.words()),
            "{}",
            half.write(half.tokens.clone())
        );
        assert!(half.main_verb().is_some());
    }
}
