//! Sentences that cannot be true together with their source.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::edit::{Edit, apply, arrange, draw, part, written};
use super::lexicon::{Class, Form};
use super::paraphrase::caption_to_sentence;
use super::sentence::{Knowledge, Sentence, Tag, is_year, lookup};
use super::tokens::Token;

/// Changes that turn one statement into another that excludes it, each alone enough.
pub(super) fn contrasts(s: &Sentence, known: &Knowledge) -> Vec<Vec<Edit>> {
    let mut out = Vec::new();
    for at in 0..s.len() {
        let key = s.key(at);
        let written_as = s.tokens.get(at).map_or("", |t| t.text.as_str());
        let mut found = match s.tag(at) {
            Tag::Name => known.lexicon.opposites(Class::Exact, None, written_as),
            Tag::Determiner | Tag::Pronoun => known.lexicon.opposites(Class::Determiner, None, key),
            // `in front of`, `on top of` and names of phrases stay
            Tag::Preposition if s.tag(at + 1) != Tag::Preposition && s.key(at + 2) != "of" => {
                known.lexicon.opposites(Class::Preposition, None, key)
            }
            tag => lookup(tag).map_or_else(Vec::new, |(class, form)| {
                known.lexicon.opposites(class, form, key)
            }),
        };
        // `before` and `after` without a clause
        if s.tag(at) == Tag::Subordinator && !s.opens_clause(at) {
            found = known.lexicon.opposites(Class::Preposition, None, key);
        }
        // `hold up`, and `no`, which `negate` deals with
        let particle = matches!(
            s.key(at + 1),
            "up" | "down" | "off" | "out" | "away" | "back" | "over"
        );
        if key == "no" || (particle && matches!(s.tag(at), Tag::Verb(_))) {
            found.clear();
        }
        // `in front of`
        if s.tag(at) == Tag::Noun
            && at > 0
            && s.tag(at - 1) == Tag::Preposition
            && s.key(at + 1) == "of"
        {
            found.clear();
        }
        // `no few`, `the no`: a quantifier after another word of its kind
        if s.tag(at) == Tag::Determiner
            && (s.tag(at + 1) == Tag::Determiner || matches!(s.key(at + 1), "of" | "other"))
        {
            found.clear();
        }
        if s.tag(at) == Tag::Number {
            let dated = s.tag(at + 1) == Tag::Name
                || (at > 0 && s.tag(at - 1) == Tag::Name && s.key(at + 1) == ",");
            found = other_number(written_as, dated).into_iter().collect();
        }
        if !found.is_empty() {
            out.push(
                found
                    .into_iter()
                    .map(|with| Edit::new(at, at + 1, with))
                    .collect(),
            );
        }
    }
    out
}

/// A number of the same shape that is clearly another one; `dated` where it stands next to a name,
/// which may be a month.
fn other_number(text: &str, dated: bool) -> Option<String> {
    let lower = text.to_lowercase();
    let words = [
        "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    ];
    if let Some(place) = words.iter().position(|w| *w == lower) {
        return words
            .get((place + 4) % words.len())
            .map(ToString::to_string);
    }
    if !text.chars().all(|c| c.is_ascii_digit()) || text.len() > 9 {
        return None;
    }
    let value: u64 = text.parse().ok()?;
    if is_year(text) {
        // another time, not the next year
        return Some(
            (if value >= 1900 {
                value - 37
            } else {
                value + 52
            })
            .to_string(),
        );
    }
    // a day of a month stays one
    if dated && (1..=31).contains(&value) {
        return Some((value % 28 + 1).to_string());
    }
    Some((value * 3 + 2).to_string())
}

/// Puts `not` in or takes it out.
pub(super) fn negate(s: &Sentence, known: &Knowledge) -> Option<Vec<Token>> {
    if let Some(at) = (1..s.len()).find(|&k| s.tag(k) == Tag::Not) {
        let helper = matches!(s.key(at - 1), "do" | "does" | "did");
        let from = if helper && s.tag(at + 1) == Tag::Verb(Form::Base) {
            at - 1
        } else {
            at
        };
        if !helper {
            return Some(apply(s, &[Edit::new(from, at + 1, "")]));
        }
        let form = match s.key(at - 1) {
            "did" => Form::Past,
            "does" => Form::Third,
            _ => Form::Base,
        };
        let base = known.lexicon.verb_base(s.key(at + 1), Form::Base)?;
        return Some(apply(
            s,
            &[Edit::new(from, at + 2, known.lexicon.verb(base, form))],
        ));
    }
    if let Some(at) = (0..s.len()).find(|&k| s.key(k).ends_with("n't")) {
        let positive = match s.key(at) {
            "can't" => "can",
            "won't" => "will",
            "don't" | "doesn't" | "didn't" => "do",
            key => key.strip_suffix("n't")?,
        };
        return Some(apply(s, &[Edit::new(at, at + 1, positive)]));
    }
    if let Some(at) = (0..s.len()).find(|&k| matches!(s.key(k), "never" | "no")) {
        let with = if s.key(at) == "never" {
            "always"
        } else {
            "some"
        };
        return Some(apply(s, &[Edit::new(at, at + 1, with)]));
    }
    let Some(verb) = s.main_verb() else {
        let tokens = caption_to_sentence(s, known)?;
        let mut full = Sentence::read(&s.write(tokens), known);
        full.capital = s.capital;
        return full.main_verb().and_then(|_| negate(&full, known));
    };
    // `a box filled with water`: a participle, not what the sentence says
    let subject = s
        .prepositional_phrase(0)
        .map_or(0, |to| to + usize::from(s.tag(to) == Tag::Comma));
    let loose = s.tag(verb) == Tag::Verb(Form::Past)
        && verb > 0
        && s.tag(verb - 1) == Tag::Noun
        && s.tag(verb + 1) == Tag::Preposition
        && s.long_noun_phrase(subject) != Some(verb);
    if loose || (verb == 0 && !matches!(s.tag(0), Tag::Be | Tag::Auxiliary)) {
        return None;
    }
    match s.tag(verb) {
        Tag::Be => Some(apply(
            s,
            &[Edit::new(verb, verb + 1, format!("{} not", shown(s, verb)))],
        )),
        Tag::Auxiliary => {
            let key = s.key(verb);
            let main = matches!(key, "has" | "have" | "had" | "does" | "do" | "did")
                && !matches!(
                    s.tag(verb + 1),
                    Tag::Verb(_) | Tag::Be | Tag::Adverb | Tag::Not
                );
            let with = match (main, key) {
                (true, "has") => "does not have".to_string(),
                (true, "have") => "do not have".to_string(),
                (true, "had") => "did not have".to_string(),
                (true, "does") => "does not do".to_string(),
                (true, "did") => "did not do".to_string(),
                (false, "cannot") => "can".to_string(),
                _ => format!("{} not", shown(s, verb)),
            };
            Some(apply(s, &[Edit::new(verb, verb + 1, with)]))
        }
        Tag::Verb(form) => {
            let helper = match form {
                Form::Third => "does not",
                Form::Past => "did not",
                Form::Base => "do not",
                Form::Participle | Form::Ing => return None,
            };
            let base = match known.lexicon.verb_base(s.key(verb), form) {
                Some(base) => base.to_string(),
                None if form == Form::Third => s.key(verb).strip_suffix('s')?.to_string(),
                None => guessed_base(s.key(verb))?,
            };
            Some(apply(
                s,
                &[Edit::new(verb, verb + 1, format!("{helper} {base}"))],
            ))
        }
        _ => None,
    }
}

/// A word as it is written.
fn shown(s: &Sentence, at: usize) -> &str {
    s.tokens.get(at).map_or("", |t| t.text.as_str())
}

/// The base of a regular past that no list has.
fn guessed_base(word: &str) -> Option<String> {
    let stem = word.strip_suffix("ed")?;
    if let Some(stem) = stem.strip_suffix('i') {
        return Some(format!("{stem}y"));
    }
    let letters: Vec<char> = stem.chars().collect();
    if let [.., a, b] = letters.as_slice() {
        if a == b && !matches!(a, 'l' | 's' | 'z' | 'f') {
            return Some(stem.chars().take(letters.len() - 1).collect());
        }
        // `used`, `based`, `raised`, `involved`, `managed`, `reduced`, `created`
        let silent = matches!(b, 's' | 'v' | 'g' | 'c' | 'u' | 'z')
            && !stem.ends_with("ss")
            && !stem.ends_with("ng")
            || stem.ends_with("at") && letters.len() > 3;
        return Some(if silent {
            format!("{stem}e")
        } else {
            stem.to_string()
        });
    }
    None
}

/// `Nobody is ...` of `A man is ...`
pub(super) fn nobody(s: &Sentence, known: &Knowledge) -> Option<Vec<Token>> {
    let base = match caption_to_sentence(s, known) {
        Some(tokens) => {
            let mut full = Sentence::read(&s.write(tokens), known);
            full.capital = s.capital;
            full
        }
        None => s.clone(),
    };
    let verb = base.main_verb()?;
    let head = base.noun_phrase(0)?;
    let person = (0..head).any(|k| {
        matches!(
            base.key(k),
            "man"
                | "woman"
                | "men"
                | "women"
                | "people"
                | "person"
                | "boy"
                | "girl"
                | "boys"
                | "girls"
                | "child"
                | "children"
                | "lady"
                | "guy"
                | "someone"
                | "kid"
                | "kids"
                | "guys"
                | "player"
                | "players"
        )
    });
    let indefinite = matches!(
        base.key(0),
        "a" | "an"
            | "some"
            | "several"
            | "people"
            | "someone"
            | "men"
            | "women"
            | "children"
            | "two"
            | "three"
    );
    let with = match base.key(verb) {
        "is" | "are" => "is".to_string(),
        "was" | "were" => "was".to_string(),
        key => match base.tag(verb) {
            Tag::Verb(Form::Past) => shown(&base, verb).to_string(),
            Tag::Verb(Form::Third) => key.to_string(),
            Tag::Verb(Form::Base) => known.lexicon.verb(key, Form::Third),
            _ => return None,
        },
    };
    if !person || !indefinite || verb > 12 || base.tags.get(..verb)?.contains(&Tag::Comma) {
        return None;
    }
    let mut out = arrange(
        &base,
        &[
            written("nobody"),
            written(&with),
            part(&base, verb + 1, base.body_end()),
        ],
    );
    if let Some(first) = out.first_mut() {
        first.space = base.tokens.first().is_some_and(|t| t.space);
    }
    Some(out)
}

/// Subject and object in each other's place.
pub(super) fn swap_roles(s: &Sentence) -> Option<Vec<Token>> {
    let verb = s.main_verb()?;
    let end = s.body_end();
    let mut at = verb + 1;
    while at < end
        && matches!(
            s.tag(at),
            Tag::Verb(_) | Tag::Adverb | Tag::Preposition | Tag::Be
        )
    {
        at += 1;
    }
    let object = s.long_noun_phrase(at)?;
    if verb == 0 || s.long_noun_phrase(0) != Some(verb) || object > end {
        return None;
    }
    let phrase_start = |k: usize| matches!(s.tag(k), Tag::Determiner | Tag::Name | Tag::Number);
    let linking = s.tag(verb) == Tag::Be && at == verb + 1;
    if !phrase_start(0) || !phrase_start(at) || linking || is_year(s.key(at)) {
        return None;
    }
    Some(arrange(
        s,
        &[
            part(s, at, object),
            part(s, verb, at),
            part(s, 0, verb),
            part(s, object, end),
        ],
    ))
}

/// Names that stand next to each other exchange their places.
pub(super) fn swap_names(s: &Sentence) -> Option<Vec<Token>> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    while at < s.body_end() {
        if s.tag(at) == Tag::Name {
            let from = at;
            while s.tag(at) == Tag::Name && at < s.body_end() {
                at += 1;
            }
            let before = from.checked_sub(1).map_or(Tag::Stop, |b| s.tag(b));
            // `the Spanish king`: an adjective, whatever its capital
            let whole = !matches!(
                before,
                Tag::Determiner | Tag::Number | Tag::Adjective | Tag::Noun
            ) && !matches!(s.tag(at), Tag::Noun | Tag::Adjective | Tag::Number);
            if whole {
                runs.push((from, at));
            }
        } else {
            at += 1;
        }
    }
    let (first, last) = (runs.first()?, runs.last()?);
    let joined = (first.1..last.0).all(|k| matches!(s.tag(k), Tag::Comma | Tag::Coordinator));
    if first.1 > last.0
        || joined
        || part(s, first.0, first.1)
            .iter()
            .map(Token::key)
            .eq(part(s, last.0, last.1).iter().map(Token::key))
    {
        return None;
    }
    Some(arrange(
        s,
        &[
            part(s, 0, first.0),
            part(s, last.0, last.1),
            part(s, first.1, last.0),
            part(s, first.0, first.1),
            part(s, last.1, s.body_end()),
        ],
    ))
}

/// A sentence that excludes its source; `None` where no rule applies.
pub(super) fn contradict(s: &Sentence, known: &Knowledge, rng: &mut ChaCha8Rng) -> Option<String> {
    let source = s.write(s.tokens.clone());
    let by_words = |rng: &mut ChaCha8Rng| {
        let slots = contrasts(s, known);
        let most = if rng.random_bool(0.5) { 1 } else { 3 };
        let mut edits = Vec::new();
        let mut left: Vec<usize> = (0..slots.len()).collect();
        while edits.len() < most && !left.is_empty() {
            let at = left.swap_remove(rng.random_range(0..left.len()));
            edits.extend(slots.get(at).and_then(|slot| draw(rng, slot)).cloned());
        }
        (!edits.is_empty()).then(|| s.write(apply(s, &edits)))
    };
    let by_negation = |rng: &mut ChaCha8Rng| {
        let none = rng.random_bool(0.4).then(|| nobody(s, known)).flatten();
        none.or_else(|| negate(s, known))
            .map(|tokens| s.write(tokens))
    };
    let negation_first = rng.random_bool(0.45);
    let text = if negation_first {
        by_negation(rng).or_else(|| by_words(rng))
    } else {
        by_words(rng).or_else(|| by_negation(rng))
    };
    text.filter(|text| *text != source)
}

/// Several changes at once: names, numbers, opposites, roles.
pub(super) fn distort(s: &Sentence, known: &Knowledge, rng: &mut ChaCha8Rng) -> Option<String> {
    let source = s.write(s.tokens.clone());
    let mut current = s.clone();
    let swapped = match rng.random_range(0..3) {
        0 => swap_roles(s),
        1 => swap_names(s),
        _ => None,
    };
    if let Some(tokens) = swapped {
        current = Sentence::read(&s.write(tokens), known);
        current.capital = s.capital;
    }
    let edits: Vec<Edit> = contrasts(&current, known)
        .iter()
        .filter_map(|slot| draw(rng, slot).cloned())
        .collect();
    let text = current.write(apply(&current, &edits));
    (text != source).then_some(text)
}

/// Denies any text, where nothing else fits.
pub(super) fn denied(s: &Sentence) -> Option<String> {
    let mut tokens = written(if s.main_verb().is_some() {
        "it is not true that"
    } else {
        "this is not"
    });
    let mut rest = s.tokens.clone();
    rest.first_mut()?.space = true;
    tokens.extend(rest);
    Some(s.write(tokens))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn read(text: &str) -> (Sentence, Knowledge) {
        let known = Knowledge::new(&[]);
        (Sentence::read(text, &known), known)
    }

    #[test]
    fn negation_goes_in_and_out() {
        for (before, after) in [
            ("The dog is asleep.", "The dog is not asleep."),
            ("He wrote a book.", "He did not write a book."),
            ("She plays chess.", "She does not play chess."),
            ("It has a garden.", "It does not have a garden."),
            ("They can swim.", "They can not swim."),
            (
                "He married her and involved them.",
                "He did not marry her and involved them.",
            ),
            ("The dog is not asleep.", "The dog is asleep."),
            ("He did not write a book.", "He wrote a book."),
            ("They aren't here.", "They are here."),
            ("A man playing chess.", "A man is not playing chess."),
        ] {
            let (s, known) = read(before);
            assert_eq!(
                negate(&s, &known).map(|t| s.write(t)).as_deref(),
                Some(after),
                "{before}"
            );
        }
    }

    #[test]
    fn opposites_numbers_and_names_are_offered() {
        for (before, after) in [
            ("The tall man sleeps.", "The short man sleeps."),
            ("Three men sleep.", "Seven men sleep."),
            ("He lives in France.", "He lives in Canada."),
            ("All dogs bark.", "No dogs bark."),
            ("It opened in 1950.", "It opened in 1913."),
            ("He came before the war.", "He came after the war."),
        ] {
            let (s, known) = read(before);
            let all: Vec<String> = contrasts(&s, &known)
                .iter()
                .flatten()
                .map(|e| s.write(apply(&s, std::slice::from_ref(e))))
                .collect();
            assert!(all.contains(&after.to_string()), "{before}: {all:?}");
        }
    }

    #[test]
    fn roles_names_and_people_change() {
        let (s, known) = read("The dog chased the cat.");
        assert_eq!(s.write(swap_roles(&s).unwrap()), "The cat chased the dog.");
        let (s, _) = read("Anna Lee met Bob in Bern.");
        assert_eq!(
            s.write(swap_names(&s).unwrap()),
            "Bern met Bob in Anna Lee."
        );
        let (s, _) = read("A man is playing chess.");
        assert_eq!(
            s.write(nobody(&s, &known).unwrap()),
            "Nobody is playing chess."
        );
        let (s, _) = read("He sleeps here.");
        assert_eq!(denied(&s).unwrap(), "It is not true that he sleeps here.");
        assert_eq!(swap_roles(&s), None);
    }
}
