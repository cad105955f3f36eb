//! The word lists, and the forms of words.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

const SYNONYMS: &str = include_str!("lexicon/synonyms.tsv");
const ANTONYMS: &str = include_str!("lexicon/antonyms.tsv");
const CONTRASTS: &str = include_str!("lexicon/contrasts.tsv");
const HYPERNYMS: &str = include_str!("lexicon/hypernyms.tsv");
const PHRASES: &str = include_str!("lexicon/phrases.tsv");
const VERBS: &str = include_str!("lexicon/verbs.tsv");
const NOUNS: &str = include_str!("lexicon/nouns.tsv");

/// Word class of a lexicon entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Class {
    /// Noun, inflected for number.
    Noun,
    /// Verb, inflected for person and tense.
    Verb,
    /// Adjective.
    Adjective,
    /// Adverb.
    Adverb,
    /// Preposition.
    Preposition,
    /// Determiner or indefinite pronoun.
    Determiner,
    /// Taken as written.
    Exact,
}

impl Class {
    fn parse(letter: &str) -> Option<Self> {
        Some(match letter {
            "n" => Self::Noun,
            "v" => Self::Verb,
            "a" => Self::Adjective,
            "r" => Self::Adverb,
            "p" => Self::Preposition,
            "d" => Self::Determiner,
            "x" => Self::Exact,
            _ => return None,
        })
    }
}

/// Form of a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// `go`
    Base,
    /// `goes`
    Third,
    /// `went`
    Past,
    /// `gone`
    Participle,
    /// `going`
    Ing,
}

/// Words that may take the place of a word.
type Table = HashMap<(Class, &'static str), Vec<&'static str>>;

/// A phrase and what it may become.
pub(super) struct Phrase {
    /// The words, in lower case.
    pub(super) words: Vec<&'static str>,
    /// The other wording.
    pub(super) with: &'static str,
}

/// All lists, indexed.
pub(super) struct Lexicon {
    synonyms: Table,
    antonyms: Table,
    contrasts: Table,
    hypernyms: Table,
    phrases: HashMap<&'static str, Vec<Phrase>>,
    /// Past and participle of irregular verbs; `None` for a regular one.
    verbs: HashMap<&'static str, Option<(&'static str, &'static str)>>,
    verb_forms: HashMap<String, Vec<(&'static str, Form)>>,
    plurals: HashMap<&'static str, &'static str>,
    singulars: HashMap<&'static str, &'static str>,
    nouns: HashSet<&'static str>,
    adjectives: HashSet<&'static str>,
    adverbs: HashSet<&'static str>,
    /// Lines that could not be read; a test keeps it empty.
    #[cfg(test)]
    faults: Vec<String>,
}

/// The lines of a list, without comments.
fn lines(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    text.lines()
        .filter(|l| !l.starts_with('#') && !l.trim().is_empty())
        .map(|l| l.split('\t').collect())
}

/// Adds `from -> to`, once.
fn add(table: &mut Table, class: Class, from: &'static str, to: &'static str) {
    let list = table.entry((class, from)).or_default();
    if from != to && !list.contains(&to) {
        list.push(to);
    }
}

impl Lexicon {
    /// The lists that come with the crate.
    pub(super) fn bundled() -> &'static Self {
        static BUNDLED: LazyLock<Lexicon> = LazyLock::new(Lexicon::read);
        &BUNDLED
    }

    fn read() -> Self {
        let mut faults = Vec::new();
        let mut synonyms = Table::new();
        for fields in lines(SYNONYMS) {
            let members: Vec<&str> = fields.iter().skip(2).flat_map(|f| f.split(", ")).collect();
            match (fields.first().and_then(|f| Class::parse(f)), fields.get(1)) {
                (Some(class), Some(&"=")) if members.len() > 1 => {
                    for &a in &members {
                        for &b in &members {
                            add(&mut synonyms, class, a, b);
                        }
                    }
                }
                (Some(class), Some(&">")) if members.len() > 1 => {
                    for &to in members.iter().skip(1) {
                        add(&mut synonyms, class, members[0], to);
                    }
                }
                _ => faults.push(format!("synonyms: {}", fields.join("\t"))),
            }
        }
        let mut antonyms = Table::new();
        for fields in lines(ANTONYMS) {
            match (
                fields.first().and_then(|f| Class::parse(f)),
                fields.as_slice(),
            ) {
                (Some(class), &[_, a, b]) => {
                    add(&mut antonyms, class, a, b);
                    add(&mut antonyms, class, b, a);
                }
                _ => faults.push(format!("antonyms: {}", fields.join("\t"))),
            }
        }
        let mut contrasts = Table::new();
        for fields in lines(CONTRASTS) {
            let members: Vec<&str> = fields.iter().skip(1).flat_map(|f| f.split(", ")).collect();
            match fields.first().and_then(|f| Class::parse(f)) {
                Some(class) if members.len() > 1 => {
                    for &a in &members {
                        for &b in &members {
                            add(&mut contrasts, class, a, b);
                        }
                    }
                }
                _ => faults.push(format!("contrasts: {}", fields.join("\t"))),
            }
        }
        let mut hypernyms = Table::new();
        for fields in lines(HYPERNYMS) {
            match (
                fields.first().and_then(|f| Class::parse(f)),
                fields.as_slice(),
            ) {
                (Some(class), &[_, a, b]) => add(&mut hypernyms, class, a, b),
                _ => faults.push(format!("hypernyms: {}", fields.join("\t"))),
            }
        }
        let mut phrases: HashMap<&str, Vec<Phrase>> = HashMap::new();
        for fields in lines(PHRASES) {
            let &[sign @ ("=" | ">"), from, to] = fields.as_slice() else {
                faults.push(format!("phrases: {}", fields.join("\t")));
                continue;
            };
            let mut put = |from: &'static str, with: &'static str| {
                let words: Vec<&str> = from.split(' ').collect();
                if let Some(&first) = words.first() {
                    phrases
                        .entry(first)
                        .or_default()
                        .push(Phrase { words, with });
                }
            };
            put(from, to);
            if sign == "=" {
                put(to, from);
            }
        }
        let mut lexicon = Self {
            synonyms,
            antonyms,
            contrasts,
            hypernyms,
            phrases,
            verbs: HashMap::new(),
            verb_forms: HashMap::new(),
            plurals: HashMap::new(),
            singulars: HashMap::new(),
            nouns: HashSet::new(),
            adjectives: HashSet::new(),
            adverbs: HashSet::new(),
            #[cfg(test)]
            faults: Vec::new(),
        };
        lexicon.read_forms(&mut faults);
        #[cfg(test)]
        {
            lexicon.faults = faults;
        }
        lexicon
    }

    fn read_forms(&mut self, faults: &mut Vec<String>) {
        for fields in lines(NOUNS) {
            match *fields.as_slice() {
                [singular, plural] => {
                    self.plurals.insert(singular, plural);
                    // `sheep` alone does not tell its number
                    if singular != plural {
                        self.singulars.insert(plural, singular);
                    }
                    self.nouns.insert(singular);
                }
                [noun] => {
                    self.nouns.insert(noun);
                }
                _ => faults.push(format!("nouns: {}", fields.join("\t"))),
            }
        }
        let mut bases = Vec::new();
        for fields in lines(VERBS) {
            match *fields.as_slice() {
                [base, past, participle] => {
                    self.verbs.insert(base, Some((past, participle)));
                    bases.push(base);
                }
                [base] => {
                    self.verbs.entry(base).or_insert(None);
                    bases.push(base);
                }
                _ => faults.push(format!("verbs: {}", fields.join("\t"))),
            }
        }
        let mut listed: Vec<(Class, &'static str)> = [
            &self.synonyms,
            &self.antonyms,
            &self.contrasts,
            &self.hypernyms,
        ]
        .into_iter()
        .flat_map(|table| table.keys().copied())
        .filter(|(_, word)| !word.contains(' '))
        .collect();
        // hash order must not show in the order of the readings
        listed.sort_by_key(|&(_, word)| word);
        for (class, word) in listed {
            match class {
                Class::Noun => _ = self.nouns.insert(word),
                Class::Verb => {
                    self.verbs.entry(word).or_insert(None);
                    bases.push(word);
                }
                Class::Adjective => _ = self.adjectives.insert(word),
                Class::Adverb => _ = self.adverbs.insert(word),
                Class::Preposition | Class::Determiner | Class::Exact => {}
            }
        }
        for base in bases {
            for form in [
                Form::Past,
                Form::Participle,
                Form::Base,
                Form::Third,
                Form::Ing,
            ] {
                let readings = self.verb_forms.entry(self.verb(base, form)).or_default();
                if !readings.contains(&(base, form)) {
                    readings.push((base, form));
                }
            }
        }
    }

    /// The wordings that a list has for a word.
    fn listed(&self, table: &Table, class: Class, word: &str) -> Vec<String> {
        let straight = |class, word: &str| table.get(&(class, word)).cloned().unwrap_or_default();
        match class {
            Class::Noun => {
                if let Some(singular) = self.singular(word)
                    && !straight(class, &singular).is_empty()
                {
                    let found = straight(class, &singular);
                    return found.iter().map(|w| self.plural(w)).collect();
                }
                straight(class, word)
                    .iter()
                    .map(ToString::to_string)
                    .collect()
            }
            _ => straight(class, word)
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }

    /// The wordings that a list has for a verb in one of its forms.
    fn listed_verb(&self, table: &Table, word: &str, form: Form) -> Vec<String> {
        let readings = self.verb_readings(word);
        readings
            .iter()
            .filter(|(_, f)| *f == form)
            .flat_map(|(base, _)| table.get(&(Class::Verb, *base)).into_iter().flatten())
            .map(|w| self.verb(w, form))
            .collect()
    }

    /// Words of the same meaning, in the form of `word`.
    pub(super) fn synonyms(&self, class: Class, form: Option<Form>, word: &str) -> Vec<String> {
        match form {
            Some(form) => self.listed_verb(&self.synonyms, word, form),
            None => self.listed(&self.synonyms, class, word),
        }
    }

    /// Words of the opposite meaning and words that exclude it, in the form of `word`.
    pub(super) fn opposites(&self, class: Class, form: Option<Form>, word: &str) -> Vec<String> {
        let mut out = Vec::new();
        for table in [&self.antonyms, &self.contrasts] {
            out.extend(match form {
                Some(form) => self.listed_verb(table, word, form),
                None => self.listed(table, class, word),
            });
        }
        out
    }

    /// More general words, in the form of `word`.
    pub(super) fn hypernyms(&self, class: Class, form: Option<Form>, word: &str) -> Vec<String> {
        match form {
            Some(form) => self.listed_verb(&self.hypernyms, word, form),
            None => self.listed(&self.hypernyms, class, word),
        }
    }

    /// Phrases that begin with a word.
    pub(super) fn phrases(&self, first: &str) -> &[Phrase] {
        self.phrases.get(first).map_or(&[], Vec::as_slice)
    }

    /// Every verb and form that a word may be.
    pub(super) fn verb_readings(&self, word: &str) -> &[(&'static str, Form)] {
        self.verb_forms.get(word).map_or(&[], Vec::as_slice)
    }

    /// The verb that has `word` as the given form.
    pub(super) fn verb_base(&self, word: &str, form: Form) -> Option<&'static str> {
        let readings = self.verb_readings(word).iter();
        readings.filter(|(_, f)| *f == form).map(|(b, _)| *b).next()
    }

    /// A verb in a form; of several words the first is inflected.
    pub(super) fn verb(&self, base: &str, form: Form) -> String {
        let (head, rest) = match base.split_once(' ') {
            Some((head, rest)) => (head, Some(rest)),
            None => (base, None),
        };
        // `first appear`: the verb comes last
        if let ("first", Some(rest)) = (head, rest) {
            return format!("{head} {}", self.verb(rest, form));
        }
        let irregular = self.verbs.get(head).copied().flatten();
        let inflected = match (form, irregular) {
            (Form::Base, _) => head.to_string(),
            (Form::Past, Some((past, _))) => past.to_string(),
            (Form::Participle, Some((_, participle))) => participle.to_string(),
            (Form::Past | Form::Participle, None) => with_ed(head),
            (Form::Third, _) => match head {
                "be" => "is".to_string(),
                "have" => "has".to_string(),
                _ => with_s(head),
            },
            (Form::Ing, _) => with_ing(head, irregular),
        };
        match rest {
            Some(rest) => format!("{inflected} {rest}"),
            None => inflected,
        }
    }

    /// The plural of a noun; of several words the last before `of`, `or`, `to` or `with` is inflected.
    pub(super) fn plural(&self, noun: &str) -> String {
        let words: Vec<&str> = noun.split(' ').collect();
        let joint = words
            .iter()
            .position(|w| matches!(*w, "of" | "or" | "to" | "with"));
        let head = joint.unwrap_or(words.len()).saturating_sub(1);
        let inflected = |word: &str| match self.plurals.get(word) {
            Some(plural) => (*plural).to_string(),
            None if MASS.contains(&word) => word.to_string(),
            None => with_s(word),
        };
        let forms: Vec<String> = words
            .iter()
            .enumerate()
            .map(|(at, w)| {
                if at == head {
                    inflected(w)
                } else {
                    (*w).to_string()
                }
            })
            .collect();
        forms.join(" ")
    }

    /// The singular of a plural, or `None` for a word that is not one.
    pub(super) fn singular(&self, word: &str) -> Option<String> {
        if let Some(singular) = self.singulars.get(word) {
            return Some((*singular).to_string());
        }
        if self.nouns.contains(word) {
            return None;
        }
        let stem = word.strip_suffix('s')?;
        if stem.ends_with(['s', 'u', 'i']) || stem.len() < 2 {
            return None;
        }
        let candidates = [
            stem.strip_suffix("ie").map(|s| format!("{s}y")),
            stem.strip_suffix('e')
                .filter(|s| ends_hissing(s))
                .map(ToString::to_string),
            Some(stem.to_string()),
        ];
        let known = candidates
            .iter()
            .flatten()
            .find(|c| self.nouns.contains(c.as_str()));
        known
            .or_else(|| candidates.iter().flatten().next())
            .cloned()
    }

    /// Whether the word is a noun of the lists, in either number.
    pub(super) fn is_noun(&self, word: &str) -> bool {
        self.nouns.contains(word)
            || self
                .singular(word)
                .is_some_and(|s| self.nouns.contains(s.as_str()))
    }

    /// Whether the word is an adjective of the lists.
    pub(super) fn is_adjective(&self, word: &str) -> bool {
        self.adjectives.contains(word)
    }

    /// Whether the word is an adverb of the lists.
    pub(super) fn is_adverb(&self, word: &str) -> bool {
        self.adverbs.contains(word)
    }

    /// Whether any list has the word.
    pub(super) fn knows(&self, word: &str) -> bool {
        self.is_noun(word)
            || self.is_adjective(word)
            || self.is_adverb(word)
            || !self.verb_readings(word).is_empty()
    }
}

/// Nouns without a plural.
const MASS: &[&str] = &[
    "food",
    "clothing",
    "clothes",
    "trousers",
    "pants",
    "furniture",
    "information",
    "music",
    "data",
    "police",
    "work",
    "equipment",
    "money",
    "assistance",
    "help",
    "pay",
    "woods",
    "troops",
];

fn ends_hissing(word: &str) -> bool {
    ["s", "x", "z", "ch", "sh"]
        .iter()
        .any(|e| word.ends_with(e))
}

fn is_vowel(c: char) -> bool {
    matches!(c, 'a' | 'e' | 'i' | 'o' | 'u')
}

/// Ends in a consonant and `y`.
fn ends_hard_y(word: &str) -> bool {
    let mut letters = word.chars().rev();
    letters.next() == Some('y') && letters.next().is_some_and(|c| !is_vowel(c))
}

/// One syllable that ends consonant, vowel, consonant: the last letter doubles.
fn doubles(word: &str) -> bool {
    let letters: Vec<char> = word.chars().collect();
    let [.., a, b, c] = letters.as_slice() else {
        return false;
    };
    let vowels = letters.iter().filter(|&&c| is_vowel(c)).count();
    vowels == 1 && !is_vowel(*a) && is_vowel(*b) && !is_vowel(*c) && !matches!(c, 'w' | 'x' | 'y')
}

fn with_s(word: &str) -> String {
    if let (true, Some(stem)) = (ends_hard_y(word), word.strip_suffix('y')) {
        format!("{stem}ies")
    } else if ends_hissing(word) || matches!(word, "go" | "do" | "hero" | "potato" | "tomato") {
        format!("{word}es")
    } else {
        format!("{word}s")
    }
}

fn with_ed(word: &str) -> String {
    if word.ends_with('e') {
        format!("{word}d")
    } else if let (true, Some(stem)) = (ends_hard_y(word), word.strip_suffix('y')) {
        format!("{stem}ied")
    } else if let (true, Some(last)) = (doubles(word), word.chars().last()) {
        format!("{word}{last}ed")
    } else {
        format!("{word}ed")
    }
}

fn with_ing(word: &str, irregular: Option<(&str, &str)>) -> String {
    // `preferred` shows that `prefer` doubles its last letter
    let doubled = irregular.is_some_and(|(past, _)| {
        past.len() == word.len() + 3 && past.ends_with("ed") && past.starts_with(word)
    });
    let doubled = doubled || matches!(word, "begin" | "forget" | "forbid" | "babysit");
    match word.chars().last() {
        Some(last) if doubled || doubles(word) => format!("{word}{last}ing"),
        _ if word.ends_with("ie") => format!("{}ying", word.trim_end_matches("ie")),
        _ if word.ends_with('e') && !word.ends_with("ee") && word != "be" => {
            format!("{}ing", word.trim_end_matches('e'))
        }
        _ => format!("{word}ing"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_line_of_the_lists_is_read() {
        assert_eq!(Lexicon::bundled().faults, Vec::<String>::new());
    }

    #[test]
    fn verbs_inflect() {
        let lexicon = Lexicon::bundled();
        for (base, third, past, participle, ing) in [
            ("go", "goes", "went", "gone", "going"),
            ("stop", "stops", "stopped", "stopped", "stopping"),
            ("carry", "carries", "carried", "carried", "carrying"),
            ("play", "plays", "played", "played", "playing"),
            (
                "take part",
                "takes part",
                "took part",
                "taken part",
                "taking part",
            ),
            ("lie", "lies", "lay", "lain", "lying"),
            ("flee", "flees", "fled", "fled", "fleeing"),
            ("prefer", "prefers", "preferred", "preferred", "preferring"),
            (
                "first appear",
                "first appears",
                "first appeared",
                "first appeared",
                "first appearing",
            ),
            ("begin", "begins", "began", "begun", "beginning"),
            ("write", "writes", "wrote", "written", "writing"),
        ] {
            assert_eq!(lexicon.verb(base, Form::Third), third);
            assert_eq!(lexicon.verb(base, Form::Past), past);
            assert_eq!(lexicon.verb(base, Form::Participle), participle);
            assert_eq!(lexicon.verb(base, Form::Ing), ing);
        }
    }

    #[test]
    fn nouns_inflect() {
        let lexicon = Lexicon::bundled();
        for (one, many) in [
            ("dog", "dogs"),
            ("city", "cities"),
            ("woman", "women"),
            ("match", "matches"),
            ("day", "days"),
            ("piece of clothing", "pieces of clothing"),
            ("police officer", "police officers"),
            ("house", "houses"),
        ] {
            assert_eq!(lexicon.plural(one), many);
            if !one.contains(' ') {
                assert_eq!(lexicon.singular(many).as_deref(), Some(one));
            }
        }
        assert_eq!(lexicon.singular("bus"), None);
        assert_eq!(lexicon.singular("dog"), None);
    }

    #[test]
    fn lists_answer_in_the_form_asked_for() {
        let lexicon = Lexicon::bundled();
        assert!(
            lexicon
                .synonyms(Class::Verb, Some(Form::Past), "purchased")
                .contains(&"bought".to_string())
        );
        assert!(
            lexicon
                .synonyms(Class::Noun, None, "physicians")
                .contains(&"doctors".to_string())
        );
        assert!(
            lexicon
                .opposites(Class::Noun, None, "men")
                .contains(&"women".to_string())
        );
        assert!(
            lexicon
                .hypernyms(Class::Noun, None, "dogs")
                .contains(&"animals".to_string())
        );
        assert!(lexicon.synonyms(Class::Noun, None, "zzz").is_empty());
    }
}
