//! The same information in other words.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::edit::{Edit, apply, arrange, comma, draw, part, written};
use super::lexicon::{Class, Form};
use super::sentence::{Knowledge, Sentence, Tag, is_year, lookup};
use super::tokens::Token;

/// A rule that puts the parts of a sentence into another order or form.
type Move = fn(&Sentence, &Knowledge) -> Option<Vec<Token>>;

/// Every such rule, with its name.
pub(super) const MOVES: &[(&str, Move)] = &[
    ("adjunct to the front", adjunct_to_front),
    ("adjunct to the end", adjunct_to_end),
    ("clauses swapped", swap_clauses),
    ("coordination swapped", swap_coordination),
    ("passive to active", passive_to_active),
    ("active to passive", active_to_passive),
    ("genitive to of", genitive_to_of),
    ("existential to plain", existential_to_plain),
    ("plain to existential", plain_to_existential),
    ("adverb to the front", adverb_to_front),
    ("adverb to the verb", adverb_to_verb),
    ("caption to sentence", caption_to_sentence),
    ("progressive to simple", progressive_to_simple),
    ("simple to progressive", simple_to_progressive),
    ("clothes to wearing", clothes_to_wearing),
    ("relative reduced", reduce_relative),
    ("birth in commas", birth_in_commas),
    ("title reordered", title_reordered),
];

const MONTHS: &[&str] = &[
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Whether a part speaks of a time.
fn is_temporal(s: &Sentence, from: usize, to: usize) -> bool {
    (from..to).any(|at| {
        let key = s.key(at);
        is_year(key)
            || (MONTHS.contains(&key) && s.tag(at) == Tag::Name)
            || matches!(
                key,
                "century"
                    | "year"
                    | "years"
                    | "month"
                    | "months"
                    | "week"
                    | "weeks"
                    | "day"
                    | "days"
                    | "night"
                    | "morning"
                    | "evening"
                    | "afternoon"
                    | "summer"
                    | "winter"
                    | "spring"
                    | "autumn"
                    | "war"
                    | "season"
                    | "decade"
                    | "period"
                    | "era"
                    | "monday"
                    | "tuesday"
                    | "wednesday"
                    | "thursday"
                    | "friday"
                    | "saturday"
                    | "sunday"
                    | "age"
            )
            || (key.len() == 5 && key.ends_with("0s"))
    })
}

/// `X in 1905.` to `In 1905, X.`
fn adjunct_to_front(s: &Sentence, _: &Knowledge) -> Option<Vec<Token>> {
    let verb = s.main_verb()?;
    let end = s.body_end();
    let at = (verb + 2..end).find(|&at| s.prepositional_phrase(at) == Some(end))?;
    let key = s.key(at);
    let temporal = is_temporal(s, at, end);
    let prep = matches!(
        key,
        "in" | "on" | "during" | "after" | "before" | "since" | "at" | "near" | "until"
    );
    let before = s.tag(at - 1);
    let loose = matches!(
        before,
        Tag::Noun | Tag::Name | Tag::Pronoun | Tag::Verb(_) | Tag::Number | Tag::Adverb
    );
    let place = matches!(key, "in" | "on" | "at" | "near")
        && s.tag(verb) != Tag::Be
        && matches!(before, Tag::Noun | Tag::Pronoun);
    // `in May 1990 in Rome` and `from 1990 until 1995` belong together
    let chained = (verb..at)
        .any(|k| s.tag(k) == Tag::Comma || matches!(s.key(k), "between" | "from"))
        || s.tag(0) == Tag::Preposition;
    if !prep || !loose || chained || !(temporal || place) || s.tag(0) == Tag::Subordinator {
        return None;
    }
    if s.tags.contains(&Tag::Relative) && !temporal {
        return None;
    }
    let mut lead = part(s, at, end);
    lead.push(comma());
    Some(arrange(s, &[lead, part(s, 0, at)]))
}

/// `In 1905, X.` to `X in 1905.`
fn adjunct_to_end(s: &Sentence, _: &Knowledge) -> Option<Vec<Token>> {
    let end = s.body_end();
    let stop = s.prepositional_phrase(0)?;
    if s.tag(stop) != Tag::Comma || !s.balanced(stop, end) {
        return None;
    }
    let verb = s.main_verb()?;
    let rest_simple = !(stop + 1..end).any(|k| {
        matches!(
            s.tag(k),
            Tag::Comma | Tag::Relative | Tag::Subordinator | Tag::To
        )
    });
    let pronoun = matches!(
        s.key(1),
        "this"
            | "addition"
            | "particular"
            | "fact"
            | "contrast"
            | "turn"
            | "general"
            | "example"
            | "instance"
    );
    if verb <= stop || !rest_simple || pronoun {
        return None;
    }
    Some(arrange(s, &[part(s, stop + 1, end), part(s, 0, stop)]))
}

/// `When A, B.` to `B when A.` and back.
fn swap_clauses(s: &Sentence, _: &Knowledge) -> Option<Vec<Token>> {
    let end = s.body_end();
    let movable = |at: usize| {
        matches!(
            s.key(at),
            "when"
                | "while"
                | "because"
                | "although"
                | "though"
                | "if"
                | "after"
                | "before"
                | "since"
                | "unless"
                | "until"
                | "once"
                | "whereas"
        )
    };
    if movable(0) && s.tag(0) == Tag::Subordinator {
        let stop = (1..end).find(|&k| s.tag(k) == Tag::Comma)?;
        let clean = !(stop + 1..end).any(|k| s.tag(k) == Tag::Comma);
        if stop < 3 || stop + 3 > end || !clean || !s.balanced(0, stop) {
            return None;
        }
        // a pronoun should not come before its noun: `it was sold when the house burned`
        return Some(arrange(s, &[part(s, stop + 1, end), part(s, 0, stop)]));
    }
    let verb = s.main_verb()?;
    let at = (verb + 1..end)
        .find(|&k| movable(k) && s.tag(k) == Tag::Subordinator && s.opens_clause(k))?;
    let ahead = (0..at).any(|k| matches!(s.tag(k), Tag::Comma | Tag::Relative | Tag::Coordinator));
    if ahead
        || at < 2
        || at + 3 > end
        || !s.balanced(at, end)
        || s.tag(at - 1) == Tag::Be
        || s.tag(0) == Tag::Coordinator
    {
        return None;
    }
    let mut lead = part(s, at, end);
    lead.push(comma());
    Some(arrange(s, &[lead, part(s, 0, at)]))
}

/// `X and Y` to `Y and X`.
fn swap_coordination(s: &Sentence, _: &Knowledge) -> Option<Vec<Token>> {
    let end = s.body_end();
    for at in 1..end {
        if !matches!(s.key(at), "and" | "or") {
            continue;
        }
        let nominal = |k: usize| matches!(s.tag(k), Tag::Noun | Tag::Name | Tag::Determiner);
        let mut left = at;
        while left > 0 && nominal(left - 1) && !(left < at && s.tag(left) == Tag::Determiner) {
            left -= 1;
        }
        let Some(right) = s.noun_phrase(at + 1) else {
            continue;
        };
        let before = left.checked_sub(1).map_or(Tag::Stop, |b| s.tag(b));
        let plain = (at + 1..right).all(nominal);
        let same_kind = s.tag(at - 1) == s.tag(right - 1);
        let same_shape =
            same_kind && (s.tag(left) == Tag::Determiner) == (s.tag(at + 1) == Tag::Determiner);
        let bounded = matches!(
            before,
            Tag::Stop
                | Tag::Preposition
                | Tag::Verb(_)
                | Tag::Be
                | Tag::Comma
                | Tag::Coordinator
                | Tag::To
        ) && matches!(
            s.tag(right),
            Tag::Stop
                | Tag::Comma
                | Tag::Be
                | Tag::Auxiliary
                | Tag::Verb(_)
                | Tag::Preposition
                | Tag::Close
        );
        let of_next = s.key(right) == "of"
            || before == Tag::Preposition && s.key(left.saturating_sub(1)) == "between";
        // `A, B and C`: the last two of a longer list would leave the comma alone
        let list = before == Tag::Comma && s.tag(left) == Tag::Determiner;
        let clause = s.is_finite(right) && left > 1;
        if left < at
            && plain
            && same_shape
            && bounded
            && !of_next
            && !list
            && !clause
            && right <= end
        {
            return Some(arrange(
                s,
                &[
                    part(s, 0, left),
                    part(s, at + 1, right),
                    part(s, at, at + 1),
                    part(s, left, at),
                    part(s, right, end),
                ],
            ));
        }
    }
    None
}

/// Pronouns as subject and as object.
const CASES: &[(&str, &str)] = &[
    ("he", "him"),
    ("she", "her"),
    ("they", "them"),
    ("we", "us"),
    ("I", "me"),
];

/// A noun phrase as an object; only a lone pronoun changes.
fn as_object(mut phrase: Vec<Token>) -> Vec<Token> {
    if let [only] = phrase.as_mut_slice()
        && let Some((_, object)) = CASES.iter().find(|(subject, _)| *subject == only.text)
    {
        only.text = (*object).to_string();
    }
    phrase
}

/// A noun phrase as a subject; only a lone pronoun changes.
fn as_subject(mut phrase: Vec<Token>) -> Vec<Token> {
    if let [only] = phrase.as_mut_slice()
        && let Some((subject, _)) = CASES.iter().find(|(_, object)| *object == only.text)
    {
        only.text = (*subject).to_string();
    }
    phrase
}

/// Whether the noun phrase `from..to` is plural.
pub(super) fn is_plural(s: &Sentence, from: usize, to: usize, known: &Knowledge) -> bool {
    let joined = (from..to).any(|k| s.key(k) == "and");
    let head_end = (from..to).find(|&k| s.key(k) == "of").unwrap_or(to);
    let head = s.key(head_end.saturating_sub(1));
    joined
        || matches!(
            head,
            "they"
                | "we"
                | "you"
                | "them"
                | "us"
                | "these"
                | "those"
                | "many"
                | "several"
                | "people"
        )
        || (s.tag(head_end.saturating_sub(1)) == Tag::Noun
            && known.lexicon.singular(head).is_some())
}

/// `X was built by Y.` to `Y built X.`
fn passive_to_active(s: &Sentence, known: &Knowledge) -> Option<Vec<Token>> {
    let be = s.main_verb()?;
    if !matches!(s.key(be), "was" | "were") || s.long_noun_phrase(0) != Some(be) {
        return None;
    }
    let by = be + 2;
    if !matches!(s.tag(be + 1), Tag::Verb(Form::Participle | Form::Past))
        || s.key(by) != "by"
        || s.tag(by + 1) == Tag::Number
    {
        return None;
    }
    let agent = s.long_noun_phrase(by + 1)?;
    if is_temporal(s, by + 1, agent) || s.key(be + 1) == "born" {
        return None;
    }
    let participle = s.key(be + 1);
    let past = match known.lexicon.verb_base(participle, Form::Participle) {
        Some(base) => known.lexicon.verb(base, Form::Past),
        None if participle.ends_with("ed") => participle.to_string(),
        None => return None,
    };
    Some(arrange(
        s,
        &[
            as_subject(part(s, by + 1, agent)),
            written(&past),
            as_object(part(s, 0, be)),
            part(s, agent, s.body_end()),
        ],
    ))
}

/// Verbs whose object may become the subject of a passive.
const TRANSITIVE: &[&str] = &[
    "build",
    "write",
    "win",
    "publish",
    "release",
    "design",
    "record",
    "defeat",
    "kill",
    "capture",
    "buy",
    "open",
    "paint",
    "discover",
    "create",
    "establish",
    "replace",
    "attack",
    "destroy",
    "sell",
    "develop",
    "introduce",
    "produce",
    "compose",
    "purchase",
    "acquire",
    "construct",
    "found",
    "lead",
    "support",
    "reject",
    "approve",
    "organize",
    "sign",
    "score",
    "invent",
    "translate",
    "complete",
    "carry",
    "receive",
];

/// `Y built X.` to `X was built by Y.`
fn active_to_passive(s: &Sentence, known: &Knowledge) -> Option<Vec<Token>> {
    let verb = s.main_verb()?;
    let base = known.lexicon.verb_base(s.key(verb), Form::Past)?;
    if s.tag(verb) != Tag::Verb(Form::Past)
        || !TRANSITIVE.contains(&base)
        || s.long_noun_phrase(0) != Some(verb)
    {
        return None;
    }
    if !matches!(
        s.tag(verb + 1),
        Tag::Determiner | Tag::Name | Tag::Pronoun | Tag::Number
    ) {
        return None;
    }
    let object = s.long_noun_phrase(verb + 1)?;
    if !matches!(s.tag(object), Tag::Stop | Tag::Preposition) || is_temporal(s, verb + 1, object) {
        return None;
    }
    let be = if is_plural(s, verb + 1, object, known) {
        "were"
    } else {
        "was"
    };
    let participle = known.lexicon.verb(base, Form::Participle);
    Some(arrange(
        s,
        &[
            as_subject(part(s, verb + 1, object)),
            written(&format!("{be} {participle} by")),
            as_object(part(s, 0, verb)),
            part(s, object, s.body_end()),
        ],
    ))
}

/// `the king's garden` to `the garden of the king`.
fn genitive_to_of(s: &Sentence, _: &Knowledge) -> Option<Vec<Token>> {
    let at = (1..s.body_end()).find(|&k| s.key(k) == "'s" && s.tag(k - 1) != Tag::Pronoun)?;
    let mut start = at;
    while start > 0 && matches!(s.tag(start - 1), Tag::Name | Tag::Noun | Tag::Adjective) {
        start -= 1;
    }
    if start > 0 && matches!(s.tag(start - 1), Tag::Determiner | Tag::Possessive) {
        start -= 1;
    }
    let owned = s.noun_phrase(at + 1)?;
    let people = matches!(s.key(at - 1), "men" | "women" | "children" | "people");
    let goes_on = matches!(s.key(owned), "'s" | "of")
        || matches!(s.tag(owned), Tag::Quote | Tag::Name | Tag::Open);
    if start == at
        || people
        || goes_on
        || owned > at + 4
        || !s.balanced(start, owned)
        || is_temporal(s, start, at)
    {
        return None;
    }
    Some(arrange(
        s,
        &[
            part(s, 0, start),
            written("the"),
            part(s, at + 1, owned),
            written("of"),
            part(s, start, at),
            part(s, owned, s.body_end()),
        ],
    ))
}

/// `There is a dog in the park.` to `A dog is in the park.`
fn existential_to_plain(s: &Sentence, _: &Knowledge) -> Option<Vec<Token>> {
    if s.key(0) != "there" || s.tag(1) != Tag::Be {
        return None;
    }
    let end = s.long_noun_phrase(2)?;
    let goes_on = matches!(
        s.tag(end),
        Tag::Preposition | Tag::Verb(Form::Ing | Form::Past | Form::Participle)
    );
    if !goes_on || s.key(2) == "no" {
        return None;
    }
    Some(arrange(
        s,
        &[part(s, 2, end), part(s, 1, 2), part(s, end, s.body_end())],
    ))
}

/// `A dog is in the park.` to `There is a dog in the park.`
fn plain_to_existential(s: &Sentence, _: &Knowledge) -> Option<Vec<Token>> {
    let be = s.main_verb()?;
    let indefinite =
        matches!(s.key(0), "a" | "an" | "some" | "several" | "many") || s.tag(0) == Tag::Number;
    let present = matches!(s.key(be), "is" | "are" | "was" | "were");
    let predicate =
        matches!(s.tag(be + 1), Tag::Verb(Form::Ing)) || s.prepositional_phrase(be + 1).is_some();
    if !indefinite || !present || !predicate || be == 0 || s.tags.get(..be)?.contains(&Tag::Comma) {
        return None;
    }
    Some(arrange(
        s,
        &[
            written("there"),
            part(s, be, be + 1),
            part(s, 0, be),
            part(s, be + 1, s.body_end()),
        ],
    ))
}

/// Adverbs that may stand before the subject and at the verb.
const SENTENCE_ADVERBS: &[&str] = &[
    "later",
    "then",
    "eventually",
    "subsequently",
    "soon",
    "currently",
    "previously",
    "originally",
    "initially",
    "finally",
    "recently",
    "sometimes",
    "usually",
    "often",
    "occasionally",
    "formerly",
];

/// `He later left.` to `Later, he left.`
fn adverb_to_front(s: &Sentence, _: &Knowledge) -> Option<Vec<Token>> {
    let verb = s.main_verb()?;
    let at = [verb.checked_sub(1)?, verb + 1]
        .into_iter()
        .find(|&k| SENTENCE_ADVERBS.contains(&s.key(k)) && s.tag(k) == Tag::Adverb)?;
    if at == 0
        || matches!(
            s.tag(0),
            Tag::Preposition | Tag::Subordinator | Tag::Coordinator | Tag::Adverb
        )
    {
        return None;
    }
    // `is often called` stays whole in `Often, it is called`; `two years later he` does not
    if (0..at).any(|k| matches!(s.tag(k), Tag::Comma | Tag::Number)) {
        return None;
    }
    let mut lead = part(s, at, at + 1);
    lead.push(comma());
    Some(arrange(
        s,
        &[lead, part(s, 0, at), part(s, at + 1, s.body_end())],
    ))
}

/// `Later, he left.` to `He later left.`
fn adverb_to_verb(s: &Sentence, known: &Knowledge) -> Option<Vec<Token>> {
    let verb = s.main_verb()?;
    if !SENTENCE_ADVERBS.contains(&s.key(0)) || s.tag(1) != Tag::Comma || verb < 3 {
        return None;
    }
    let finite = !matches!(s.tag(verb), Tag::Be | Tag::Auxiliary)
        && known.lexicon.verb_base(s.key(verb), Form::Past).is_some();
    let at = if finite { verb } else { verb + 1 };
    Some(arrange(
        s,
        &[part(s, 2, at), part(s, 0, 1), part(s, at, s.body_end())],
    ))
}

/// `A man playing chess.` to `A man is playing chess.`
pub(super) fn caption_to_sentence(s: &Sentence, known: &Knowledge) -> Option<Vec<Token>> {
    if s.main_verb().is_some()
        || !matches!(
            s.tag(0),
            Tag::Determiner | Tag::Number | Tag::Noun | Tag::Adjective
        )
    {
        return None;
    }
    let end = s.long_noun_phrase(0)?;
    let verb = match s.tag(end) {
        Tag::Preposition => s.prepositional_phrase(end)?,
        _ => end,
    };
    if s.tag(verb) != Tag::Verb(Form::Ing) || verb > 10 {
        return None;
    }
    let be = if is_plural(s, 0, end, known) {
        "are"
    } else {
        "is"
    };
    Some(arrange(
        s,
        &[part(s, 0, verb), written(be), part(s, verb, s.body_end())],
    ))
}

/// `A man is playing chess.` to `A man plays chess.`
fn progressive_to_simple(s: &Sentence, known: &Knowledge) -> Option<Vec<Token>> {
    let be = s.main_verb()?;
    let base = known.lexicon.verb_base(s.key(be + 1), Form::Ing)?;
    // `is sitting and reading` would have to change twice
    let second = (be + 2..s.len()).any(|k| {
        s.tag(k) == Tag::Coordinator && (k + 1..k + 3).any(|n| s.tag(n) == Tag::Verb(Form::Ing))
    });
    if s.tag(be + 1) != Tag::Verb(Form::Ing) || s.key(be + 1) == "going" || second {
        return None;
    }
    let form = match s.key(be) {
        "is" => Form::Third,
        "are" => Form::Base,
        _ => return None,
    };
    Some(apply(
        s,
        &[Edit::new(be, be + 2, known.lexicon.verb(base, form))],
    ))
}

/// Verbs of something going on before one's eyes.
const ACTIONS: &[&str] = &[
    "run",
    "walk",
    "sit",
    "stand",
    "jump",
    "ride",
    "hold",
    "look",
    "wait",
    "swim",
    "dance",
    "sing",
    "eat",
    "drink",
    "climb",
    "throw",
    "catch",
    "kick",
    "push",
    "pull",
    "smile",
    "laugh",
    "talk",
    "read",
    "write",
    "cook",
    "clean",
    "wash",
    "paint",
    "play",
    "perform",
    "work",
    "watch",
    "sleep",
    "crawl",
    "wave",
    "point",
    "pose",
    "surf",
    "ski",
    "chase",
    "carry",
    "lie",
    "lean",
    "skateboard",
    "snowboard",
    "jog",
    "hike",
    "dig",
    "bite",
    "drive",
    "fly",
    "slide",
    "swing",
    "hang",
    "kneel",
];

/// `A dog runs.` to `A dog is running.`
fn simple_to_progressive(s: &Sentence, known: &Knowledge) -> Option<Vec<Token>> {
    let verb = s.main_verb()?;
    let Tag::Verb(form @ (Form::Third | Form::Base)) = s.tag(verb) else {
        return None;
    };
    let base = known.lexicon.verb_base(s.key(verb), form)?;
    let seen = matches!(
        s.key(0),
        "a" | "an" | "the" | "two" | "three" | "four" | "some" | "several" | "people" | "children"
    );
    if !seen || !ACTIONS.contains(&base) || s.tags.contains(&Tag::Subordinator) {
        return None;
    }
    let be = if form == Form::Third { "is" } else { "are" };
    Some(apply(
        s,
        &[Edit::new(
            verb,
            verb + 1,
            format!("{be} {}", known.lexicon.verb(base, Form::Ing)),
        )],
    ))
}

const CLOTHES: &[&str] = &[
    "shirt",
    "shirts",
    "jacket",
    "jackets",
    "coat",
    "coats",
    "dress",
    "dresses",
    "hat",
    "hats",
    "suit",
    "suits",
    "jeans",
    "pants",
    "shorts",
    "sweater",
    "sweaters",
    "uniform",
    "uniforms",
    "top",
    "cap",
    "skirt",
    "vest",
    "vests",
    "helmet",
    "helmets",
    "costume",
    "costumes",
    "t-shirt",
    "tee-shirt",
    "sweatshirt",
    "hoodie",
    "robe",
    "robes",
    "apron",
    "outfit",
    "outfits",
    "clothes",
    "clothing",
    "gear",
    "glasses",
    "sunglasses",
    "boots",
    "shoes",
    "swimsuit",
    "bikini",
];

/// `a man in a red shirt` to `a man wearing a red shirt`.
fn clothes_to_wearing(s: &Sentence, _: &Knowledge) -> Option<Vec<Token>> {
    let at = (1..s.len()).find(|&k| {
        s.key(k) == "in"
            && s.tag(k - 1) == Tag::Noun
            && s.noun_phrase(k + 1)
                .is_some_and(|to| CLOTHES.contains(&s.key(to - 1)))
    })?;
    Some(apply(s, &[Edit::new(at, at + 1, "wearing")]))
}

/// `the man who is playing` to `the man playing`.
fn reduce_relative(s: &Sentence, _: &Knowledge) -> Option<Vec<Token>> {
    let at = (1..s.len()).find(|&k| {
        matches!(s.key(k), "who" | "which" | "that")
            && s.tag(k) == Tag::Relative
            && matches!(s.tag(k - 1), Tag::Noun | Tag::Name | Tag::Comma)
            && matches!(s.key(k + 1), "is" | "are" | "was" | "were")
            && matches!(
                s.tag(k + 2),
                Tag::Verb(Form::Ing | Form::Participle | Form::Past) | Tag::Preposition
            )
    })?;
    // `which is new and has a roof` needs its `which`
    let second = (at + 3..s.len()).any(|k| s.tag(k) == Tag::Coordinator && s.is_finite(k + 1));
    (!second).then(|| apply(s, &[Edit::new(at, at + 2, "")]))
}

/// `X (born 5 May 1990) is` to `X, born on 5 May 1990, is`.
fn birth_in_commas(s: &Sentence, _: &Knowledge) -> Option<Vec<Token>> {
    let open = s.tags.iter().position(|t| *t == Tag::Open)?;
    let close = s.tags.iter().position(|t| *t == Tag::Close)?;
    if s.key(open + 1) != "born" || close < open + 3 {
        return None;
    }
    let preposition = match s.tag(open + 2) {
        Tag::Number if is_year(s.key(open + 2)) => "in",
        Tag::Number | Tag::Name => "on",
        _ => return None,
    };
    let mut middle = vec![comma()];
    middle.extend(part(s, open + 1, open + 2));
    middle.extend(written(preposition));
    middle.extend(part(s, open + 2, close));
    middle.push(comma());
    let mut out = part(s, 0, open);
    for (at, token) in middle.iter_mut().enumerate() {
        token.space = at > 0 && token.is_word();
    }
    out.extend(middle);
    out.extend(part(s, close + 1, s.len()));
    Some(out)
}

/// `Anna Lee (singer)` to `The singer Anna Lee`: the heading of an article.
fn title_reordered(s: &Sentence, _: &Knowledge) -> Option<Vec<Token>> {
    let open = s.tags.iter().position(|t| *t == Tag::Open)?;
    if open == 0
        || s.tag(s.len() - 1) != Tag::Close
        || open + 2 > s.len()
        || s.main_verb().is_some()
    {
        return None;
    }
    let inner = part(s, open + 1, s.len() - 1);
    if inner.is_empty()
        || inner
            .iter()
            .any(|t| !t.is_word() || t.text.starts_with(char::is_uppercase))
    {
        return None;
    }
    Some(arrange(s, &[written("the"), inner, part(s, 0, open)]))
}

const DIGITS: &[(&str, &str)] = &[
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
    ("eleven", "11"),
    ("twelve", "12"),
    ("twenty", "20"),
    ("thirty", "30"),
    ("fifty", "50"),
];

/// Every small change of wording that is possible, in the order of the words.
pub(super) fn wordings(s: &Sentence, known: &Knowledge) -> Vec<Vec<Edit>> {
    let mut out = Vec::new();
    for at in 0..s.len() {
        let key = s.key(at);
        let mut here: Vec<Edit> = Vec::new();
        for phrase in known.lexicon.phrases(key) {
            let to = at + phrase.words.len();
            let matches = phrase
                .words
                .iter()
                .zip(at..)
                .all(|(word, k)| s.key(k) == *word);
            let alone = phrase.words.len() > 1 || s.tag(at) != Tag::Name;
            // `isn't it` needs its short form, `how it is.` its long one
            let tag_question = (matches!(s.tag(to), Tag::Pronoun) && phrase.with.ends_with(" not"))
                || (phrase.with.contains('\'') && matches!(s.tag(to), Tag::Stop | Tag::Comma));
            // `would have to` is not `would must`
            let helped = key.starts_with("ha")
                && at > 0
                && matches!(s.tag(at - 1), Tag::Auxiliary | Tag::To);
            if matches
                && !helped
                && alone
                && !tag_question
                && !(at == 0 && phrase.with.ends_with(" not"))
            {
                here.push(Edit::new(at, to, phrase.with));
            }
        }
        if here.is_empty() {
            synonyms_at(s, at, known, &mut here);
            numbers_at(s, at, &mut here);
            dates_at(s, at, &mut here);
            places_at(s, at, &mut here);
        }
        if !here.is_empty() {
            out.push(here);
        }
    }
    out
}

fn synonyms_at(s: &Sentence, at: usize, known: &Knowledge, out: &mut Vec<Edit>) {
    let key = s.key(at);
    let found = match s.tag(at) {
        Tag::Determiner if matches!(key, "many" | "several") => {
            known.lexicon.synonyms(Class::Adjective, None, key)
        }
        tag => match lookup(tag) {
            // the noun of a verb form: `their building`
            Some((class, form)) => known.lexicon.synonyms(class, form, key),
            None => return,
        },
    };
    let passive = matches!(s.tag(at), Tag::Verb(Form::Participle));
    let between_nouns = s.tag(at) == Tag::Noun && at > 0 && s.tag(at - 1) == Tag::Noun;
    // part of a compound: `child development`, `car park`
    let compound = s.tag(at) == Tag::Noun && s.tag(at + 1) == Tag::Noun;
    // `men's` has no plural beside it, `was held` is not `was gripped`
    let fixed = matches!(key, "men" | "women" | "held" | "people")
        && (s.key(at + 1) == "'s" || key == "held");
    // `long before`, `early in`: not before a noun and not after `is`
    let adverbial = s.tag(at) == Tag::Adjective
        && !matches!(
            s.tag(at + 1),
            Tag::Noun | Tag::Adjective | Tag::Name | Tag::Coordinator | Tag::Comma
        )
        && !(at > 0
            && matches!(
                s.tag(at - 1),
                Tag::Be | Tag::Adverb | Tag::Not | Tag::Coordinator
            ));
    // `finish off`, `get up`
    let phrasal = matches!(s.tag(at), Tag::Verb(_))
        && matches!(
            s.key(at + 1),
            "up" | "down" | "off" | "out" | "away" | "back" | "over"
        );
    if compound || fixed || adverbial || phrasal {
        return;
    }
    for with in found {
        // `attend to` is not `go to to`
        let doubled = with.rsplit(' ').next() == Some(s.key(at + 1));
        if doubled || ((passive || between_nouns) && with.contains(' ')) {
            continue;
        }
        // `with care` cannot stand before an adjective
        if s.tag(at) == Tag::Adverb
            && with.contains(' ')
            && matches!(s.tag(at + 1), Tag::Adjective | Tag::Verb(_) | Tag::Adverb)
        {
            continue;
        }
        out.push(Edit::new(at, at + 1, with));
    }
}

/// Nouns of places that are somewhere.
const PLACES: &[&str] = &[
    "village",
    "town",
    "city",
    "municipality",
    "river",
    "mountain",
    "lake",
    "school",
    "church",
    "station",
    "commune",
    "district",
    "building",
    "settlement",
    "suburb",
    "island",
    "park",
    "museum",
    "hospital",
    "university",
    "stadium",
    "neighborhood",
    "community",
    "hamlet",
    "cemetery",
    "castle",
    "house",
    "bridge",
    "hotel",
    "airport",
];

/// `is a village in` to `is a village located in`.
fn places_at(s: &Sentence, at: usize, out: &mut Vec<Edit>) {
    let place = at > 2 && s.key(at) == "in" && PLACES.contains(&s.key(at - 1));
    let said = (at.saturating_sub(6)..at).any(|k| s.tag(k) == Tag::Be);
    if place && said && matches!(s.tag(at + 1), Tag::Name | Tag::Determiner) {
        out.push(Edit::new(at, at + 1, "located in"));
        out.push(Edit::new(at, at + 1, "situated in"));
    }
}

fn numbers_at(s: &Sentence, at: usize, out: &mut Vec<Edit>) {
    let key = s.key(at);
    let counts = matches!(s.tag(at + 1), Tag::Noun | Tag::Adjective);
    if s.tag(at) == Tag::Number && counts && at + 1 < s.len() {
        for (word, digits) in DIGITS {
            if key == *word && at > 0 {
                out.push(Edit::new(at, at + 1, *digits));
            } else if key == *digits {
                out.push(Edit::new(at, at + 1, *word));
            }
        }
    }
    if at > 0 && s.tag(at - 1) == Tag::Number {
        let unit = match key {
            "km" => "kilometres",
            "kg" => "kilograms",
            "cm" => "centimetres",
            "mm" => "millimetres",
            "ft" => "feet",
            "mi" => "miles",
            "%" => "percent",
            _ => return,
        };
        out.push(Edit::new(at, at + 1, unit));
    }
}

/// `5 August 1992` and `August 5, 1992`.
fn dates_at(s: &Sentence, at: usize, out: &mut Vec<Edit>) {
    let day = |k: usize| {
        s.key(k).len() <= 2 && s.key(k).chars().all(|c| c.is_ascii_digit()) && !s.key(k).is_empty()
    };
    let month = |k: usize| MONTHS.contains(&s.key(k)) && s.tag(k) == Tag::Name;
    let text = |k: usize| s.tokens.get(k).map_or("", |t| t.text.as_str());
    if day(at) && month(at + 1) && is_year(s.key(at + 2)) {
        out.push(Edit::new(
            at,
            at + 3,
            format!("{} {}, {}", text(at + 1), text(at), text(at + 2)),
        ));
    } else if month(at) && day(at + 1) && s.key(at + 2) == "," && is_year(s.key(at + 3)) {
        out.push(Edit::new(
            at,
            at + 4,
            format!("{} {} {}", text(at + 1), text(at), text(at + 3)),
        ));
    }
}

/// Adverbs that say little.
const FILLERS: &[&str] = &[
    "really",
    "very",
    "just",
    "actually",
    "quite",
    "also",
    "basically",
    "simply",
    "indeed",
    "rather",
    "even",
];

/// Writes the sentence in other words; `None` where no rule applies.
pub(super) fn paraphrase(s: &Sentence, known: &Knowledge, rng: &mut ChaCha8Rng) -> Option<String> {
    let source = s.write(s.tokens.clone());
    let mut current = s.clone();
    let mut order: Vec<usize> = (0..MOVES.len()).collect();
    order.shuffle(rng);
    let mut moves_left = if rng.random_bool(0.5) { 2 } else { 1 };
    let stays = rng.random_bool(0.15);
    for number in order {
        let Some((_, rule)) = MOVES.get(number) else {
            continue;
        };
        if moves_left == 0 || stays {
            break;
        }
        if let Some(tokens) = rule(&current, known) {
            let mut next = Sentence::read(&current.write(tokens), known);
            next.capital = current.capital;
            current = next;
            moves_left -= 1;
        }
    }
    let moved = current.write(current.tokens.clone()) != source;
    let mut slots = wordings(&current, known);
    slots.shuffle(rng);
    // at most every third word, so that the sentence stays recognisable
    let most = (current.words() / 3).max(1);
    let share = rng.random_range(0.55..0.95);
    let mut edits = Vec::new();
    for slot in &slots {
        let needed = !moved && edits.is_empty();
        if edits.len() < most && (needed || rng.random_bool(share)) {
            edits.extend(draw(rng, slot).cloned());
        }
    }
    for at in 1..current.len() {
        let filler = FILLERS.contains(&current.key(at))
            && current.tag(at) == Tag::Adverb
            && current.key(at - 1) != "not";
        if filler && rng.random_bool(0.5) {
            edits.push(Edit::new(at, at + 1, ""));
        }
    }
    let text = current.write(apply(&current, &edits));
    if text != source {
        return Some(text);
    }
    // every drawn change undid another one: take the first that does not
    slots
        .iter()
        .flatten()
        .map(|edit| current.write(apply(&current, std::slice::from_ref(edit))))
        .find(|text| *text != source)
}

/// Ways to say that a sentence holds, for one that offers no rule anything to work with.
const FRAMES: &[&str] = &[
    "it is true that",
    "it is the case that",
    "as is known,",
    "in fact,",
];

/// Puts a frame before the sentence.
pub(super) fn framed(s: &Sentence, rng: &mut ChaCha8Rng) -> Option<String> {
    let heads: &[&str] = if s.main_verb().is_some() {
        FRAMES
    } else if matches!(s.key(0), "a" | "an") {
        &["there is", "this is"]
    } else {
        &["the subject is", "this is about"]
    };
    let mut tokens = written(draw(rng, heads)?);
    let mut rest = s.tokens.clone();
    rest.first_mut()?.space = true;
    tokens.extend(rest);
    Some(s.write(tokens))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn moved(name: &str, text: &str) -> Option<String> {
        let known = Knowledge::new(&[]);
        let s = Sentence::read(text, &known);
        let (_, rule) = MOVES.iter().find(|(n, _)| *n == name).unwrap();
        rule(&s, &known).map(|tokens| s.write(tokens))
    }

    #[test]
    fn every_move_has_its_example() {
        let examples = [
            (
                "adjunct to the front",
                "The bridge was opened in 1905.",
                "In 1905, the bridge was opened.",
            ),
            (
                "adjunct to the end",
                "In 1905, the bridge was opened.",
                "The bridge was opened in 1905.",
            ),
            (
                "clauses swapped",
                "When the war ended, he returned home.",
                "He returned home when the war ended.",
            ),
            (
                "clauses swapped",
                "She smiled because the sun was shining.",
                "Because the sun was shining, she smiled.",
            ),
            (
                "coordination swapped",
                "The road links Bern and Basel.",
                "The road links Basel and Bern.",
            ),
            (
                "passive to active",
                "The church was built by the monks in 1320.",
                "The monks built the church in 1320.",
            ),
            (
                "active to passive",
                "The monks built a church.",
                "A church was built by the monks.",
            ),
            (
                "genitive to of",
                "They saw the king's garden.",
                "They saw the garden of the king.",
            ),
            (
                "existential to plain",
                "There is a dog in the park.",
                "A dog is in the park.",
            ),
            (
                "plain to existential",
                "A dog is in the park.",
                "There is a dog in the park.",
            ),
            (
                "adverb to the front",
                "He later joined the army.",
                "Later, he joined the army.",
            ),
            (
                "adverb to the verb",
                "Later, he joined the army.",
                "He later joined the army.",
            ),
            (
                "caption to sentence",
                "A man playing chess.",
                "A man is playing chess.",
            ),
            (
                "progressive to simple",
                "A man is playing chess.",
                "A man plays chess.",
            ),
            (
                "simple to progressive",
                "A dog runs in the snow.",
                "A dog is running in the snow.",
            ),
            (
                "clothes to wearing",
                "A man in a red shirt sings.",
                "A man wearing a red shirt sings.",
            ),
            (
                "relative reduced",
                "The man who is playing chess smiles.",
                "The man playing chess smiles.",
            ),
            (
                "birth in commas",
                "Eva Lund (born 5 May 1990) is a rower.",
                "Eva Lund, born on 5 May 1990, is a rower.",
            ),
            ("title reordered", "Eva Lund (rower)", "The rower Eva Lund"),
        ];
        for (name, before, after) in examples {
            assert_eq!(
                moved(name, before).as_deref(),
                Some(after),
                "{name}: {before}"
            );
        }
        for (name, _) in MOVES {
            assert!(
                examples.iter().any(|e| e.0 == *name),
                "{name} has no example"
            );
        }
    }

    #[test]
    fn moves_leave_other_sentences_alone() {
        for (name, _) in MOVES {
            assert_eq!(moved(name, "Bern"), None, "{name}");
            assert_eq!(moved(name, ""), None, "{name}");
        }
        assert_eq!(
            moved("passive to active", "The bridge was opened by 1905."),
            None
        );
    }

    #[test]
    fn wordings_offer_phrases_words_numbers_and_dates() {
        let known = Knowledge::new(&[]);
        let offered = |text: &str| -> Vec<String> {
            let s = Sentence::read(text, &known);
            wordings(&s, &known)
                .iter()
                .flatten()
                .map(|e| s.write(apply(&s, std::slice::from_ref(e))))
                .collect()
        };
        for (before, after) in [
            ("They stayed because of rain.", "They stayed due to rain."),
            ("The physicians left.", "The doctors left."),
            ("He purchased it.", "He bought it."),
            ("It has three wheels.", "It has 3 wheels."),
            ("It opened on 5 May 1990.", "It opened on May 5, 1990."),
            ("It isn't late.", "It is not late."),
            (
                "He lives in a tiny old house.",
                "He lives in a very small old house.",
            ),
        ] {
            assert!(
                offered(before).contains(&after.to_string()),
                "{before}: {:?}",
                offered(before)
            );
        }
    }
}
