//! Sentence templates: slots, alternatives and optional parts.
//!
//! | syntax | meaning |
//! |---|---|
//! | `{slot}` | one filler of the named slot, drawn uniformly |
//! | `[a\|b\|c]` | one of the alternatives, drawn uniformly; an alternative may be empty |
//! | `(part)` | the part, or nothing, with probability one half |
//! | `\x` | the character `x` as it is |
//!
//! Parts nest, and a slot filler is itself a template. After expansion runs of white space become
//! one space, both ends are trimmed, and a space before one of `, . ? !` is removed.
//!
//! A [`Grammar`] is checked as a whole when it is built, so [`Grammar::expand`] can only fail for a
//! template that was not checked against it.

use std::collections::BTreeMap;

use rand::{Rng, RngExt};
use thiserror::Error;

/// Deepest nesting of `[...]` and `(...)` in one template.
pub const MAX_DEPTH: usize = 16;

/// What is wrong with a template or a grammar.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// `{`, `[` or `(` without its closing counterpart.
    #[error("template `{template}`: `{opener}` at byte {at} is never closed")]
    Unclosed {
        /// The template text.
        template: String,
        /// The opening character.
        opener: char,
        /// Byte offset of the opening character.
        at: usize,
    },
    /// `}`, `]`, `)` or `|` where nothing is open.
    #[error("template `{template}`: `{found}` at byte {at} closes nothing")]
    Stray {
        /// The template text.
        template: String,
        /// The character found.
        found: char,
        /// Byte offset of the character.
        at: usize,
    },
    /// A slot name that is empty or has characters other than `a-z`, `0-9` and `_`.
    #[error(
        "template `{template}`: slot name `{name}` at byte {at} must be a non-empty word of a-z, 0-9 and _"
    )]
    SlotName {
        /// The template text.
        template: String,
        /// The name found.
        name: String,
        /// Byte offset of the opening brace.
        at: usize,
    },
    /// A `\` at the very end.
    #[error("template `{template}`: it ends in a backslash that escapes nothing")]
    DanglingEscape {
        /// The template text.
        template: String,
    },
    /// More than [`MAX_DEPTH`] nested parts.
    #[error("template `{template}`: nested deeper than {limit} at byte {at}")]
    TooDeep {
        /// The template text.
        template: String,
        /// The limit.
        limit: usize,
        /// Byte offset where the limit was passed.
        at: usize,
    },
    /// A slot that the grammar does not define.
    #[error("template `{template}`: unknown slot `{slot}`; defined: {known}")]
    UnknownSlot {
        /// The template text.
        template: String,
        /// The slot asked for.
        slot: String,
        /// Names that exist, comma-separated.
        known: String,
    },
    /// A slot without fillers.
    #[error("slot `{slot}` has no fillers")]
    EmptySlot {
        /// The slot.
        slot: String,
    },
    /// A slot defined twice.
    #[error("slot `{slot}` is defined twice")]
    DuplicateSlot {
        /// The slot.
        slot: String,
    },
    /// A slot that expands to itself.
    #[error("slot cycle: {path}")]
    Cycle {
        /// The slots along the cycle, joined by ` -> `.
        path: String,
    },
}

/// One piece of a parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Text(String),
    Slot(String),
    Choice(Vec<Vec<Node>>),
    Optional(Vec<Node>),
}

/// A parsed template.
///
/// ```
/// use datagen::Template;
/// let template = Template::parse("please [send|post] {thing} (today)")?;
/// assert_eq!(template.slots(), ["thing"]);
/// # Ok::<(), datagen::TemplateError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    source: String,
    nodes: Vec<Node>,
}

/// Recursive-descent state over the characters of one template.
struct Parser<'a> {
    source: &'a str,
    chars: std::iter::Peekable<std::str::CharIndices<'a>>,
}

impl Parser<'_> {
    fn sequence(&mut self, closers: &[char], depth: usize) -> Result<Vec<Node>, TemplateError> {
        let mut nodes = Vec::new();
        let mut text = String::new();
        while let Some(&(at, c)) = self.chars.peek() {
            if closers.contains(&c) {
                break;
            }
            self.chars.next();
            match c {
                '\\' => match self.chars.next() {
                    Some((_, escaped)) => text.push(escaped),
                    None => {
                        return Err(TemplateError::DanglingEscape {
                            template: self.source.to_owned(),
                        });
                    }
                },
                '{' | '[' | '(' => {
                    if depth >= MAX_DEPTH {
                        return Err(TemplateError::TooDeep {
                            template: self.source.to_owned(),
                            limit: MAX_DEPTH,
                            at,
                        });
                    }
                    if !text.is_empty() {
                        nodes.push(Node::Text(std::mem::take(&mut text)));
                    }
                    nodes.push(match c {
                        '{' => Node::Slot(self.slot_name(at)?),
                        '[' => Node::Choice(self.alternatives(at, depth)?),
                        _ => {
                            let part = self.sequence(&[')'], depth + 1)?;
                            self.close('(', at)?;
                            Node::Optional(part)
                        }
                    });
                }
                '}' | ']' | ')' | '|' => {
                    return Err(TemplateError::Stray {
                        template: self.source.to_owned(),
                        found: c,
                        at,
                    });
                }
                other => text.push(other),
            }
        }
        if !text.is_empty() {
            nodes.push(Node::Text(text));
        }
        Ok(nodes)
    }

    fn alternatives(&mut self, at: usize, depth: usize) -> Result<Vec<Vec<Node>>, TemplateError> {
        let mut options = vec![self.sequence(&['|', ']'], depth + 1)?];
        while matches!(self.chars.peek(), Some(&(_, '|'))) {
            self.chars.next();
            options.push(self.sequence(&['|', ']'], depth + 1)?);
        }
        self.close('[', at)?;
        Ok(options)
    }

    /// Consumes the closing character that [`Self::sequence`] stopped in front of.
    fn close(&mut self, opener: char, at: usize) -> Result<(), TemplateError> {
        match self.chars.next() {
            Some(_) => Ok(()),
            None => Err(TemplateError::Unclosed {
                template: self.source.to_owned(),
                opener,
                at,
            }),
        }
    }

    fn slot_name(&mut self, at: usize) -> Result<String, TemplateError> {
        let mut name = String::new();
        for (_, c) in self.chars.by_ref() {
            if c == '}' {
                let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                if name.is_empty() || !name.chars().all(word) {
                    return Err(TemplateError::SlotName {
                        template: self.source.to_owned(),
                        name,
                        at,
                    });
                }
                return Ok(name);
            }
            name.push(c);
        }
        Err(TemplateError::Unclosed {
            template: self.source.to_owned(),
            opener: '{',
            at,
        })
    }
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// [`TemplateError`] for unbalanced brackets, a bad slot name, a dangling escape or nesting
    /// deeper than [`MAX_DEPTH`].
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let mut parser = Parser {
            source,
            chars: source.char_indices().peekable(),
        };
        let nodes = parser.sequence(&[], 0)?;
        Ok(Self {
            source: source.to_owned(),
            nodes,
        })
    }

    /// The text the template was parsed from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Names of the slots used, in order of first use, without repeats.
    pub fn slots(&self) -> Vec<&str> {
        fn visit<'a>(nodes: &'a [Node], found: &mut Vec<&'a str>) {
            for node in nodes {
                match node {
                    Node::Text(_) => {}
                    Node::Slot(name) => {
                        if !found.contains(&name.as_str()) {
                            found.push(name);
                        }
                    }
                    Node::Choice(options) => options.iter().for_each(|option| visit(option, found)),
                    Node::Optional(part) => visit(part, found),
                }
            }
        }
        let mut found = Vec::new();
        visit(&self.nodes, &mut found);
        found
    }
}

/// Named slots with their fillers, checked for unknown slots and cycles.
///
/// ```
/// use datagen::{Grammar, Template};
/// use rand::SeedableRng;
/// let grammar = Grammar::new(&[("fruit", &["apple", "pear"][..])])?;
/// let template = Template::parse("one {fruit} , please")?;
/// let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
/// let sentence = grammar.expand(&template, &mut rng)?;
/// assert!(["one apple, please", "one pear, please"].contains(&sentence.as_str()));
/// # Ok::<(), datagen::TemplateError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Grammar {
    slots: BTreeMap<String, Vec<Template>>,
}

impl Grammar {
    /// Parses and checks slots given as `(name, fillers)`.
    ///
    /// # Errors
    /// A filler that does not parse, a slot without fillers or defined twice, a filler that names
    /// an unknown slot, or a slot that reaches itself.
    pub fn new(slots: &[(&str, &[&str])]) -> Result<Self, TemplateError> {
        let mut parsed = BTreeMap::new();
        for (name, fillers) in slots {
            if fillers.is_empty() {
                return Err(TemplateError::EmptySlot {
                    slot: (*name).to_owned(),
                });
            }
            let templates = fillers
                .iter()
                .map(|filler| Template::parse(filler))
                .collect::<Result<_, _>>()?;
            if parsed.insert((*name).to_owned(), templates).is_some() {
                return Err(TemplateError::DuplicateSlot {
                    slot: (*name).to_owned(),
                });
            }
        }
        let grammar = Self { slots: parsed };
        for templates in grammar.slots.values() {
            templates
                .iter()
                .try_for_each(|template| grammar.check(template))?;
        }
        let mut done = Vec::new();
        for name in grammar.slots.keys() {
            grammar.reject_cycles(name, &mut Vec::new(), &mut done)?;
        }
        Ok(grammar)
    }

    /// Checks that every slot of `template` is defined here.
    ///
    /// # Errors
    /// [`TemplateError::UnknownSlot`].
    pub fn check(&self, template: &Template) -> Result<(), TemplateError> {
        match template
            .slots()
            .into_iter()
            .find(|name| !self.slots.contains_key(*name))
        {
            Some(slot) => Err(self.unknown(template.source(), slot)),
            None => Ok(()),
        }
    }

    /// Expands `template` once.
    ///
    /// # Errors
    /// [`TemplateError::UnknownSlot`] if the template does not pass [`Grammar::check`].
    pub fn expand(&self, template: &Template, rng: &mut impl Rng) -> Result<String, TemplateError> {
        self.check(template)?;
        let mut raw = String::new();
        self.write(&template.nodes, rng, &mut raw);
        Ok(tidy(&raw))
    }

    /// Number of ways to expand `template`, counted with repeats and saturating at `u64::MAX`.
    ///
    /// # Errors
    /// [`TemplateError::UnknownSlot`] if the template does not pass [`Grammar::check`].
    pub fn expansions(&self, template: &Template) -> Result<u64, TemplateError> {
        self.check(template)?;
        Ok(self.count(&template.nodes))
    }

    fn count(&self, nodes: &[Node]) -> u64 {
        nodes.iter().fold(1_u64, |product, node| {
            let ways = match node {
                Node::Text(_) => 1,
                Node::Slot(name) => self.slots.get(name).map_or(0, |fillers| {
                    fillers.iter().fold(0_u64, |sum, filler| {
                        sum.saturating_add(self.count(&filler.nodes))
                    })
                }),
                Node::Choice(options) => options
                    .iter()
                    .fold(0_u64, |sum, option| sum.saturating_add(self.count(option))),
                Node::Optional(part) => self.count(part).saturating_add(1),
            };
            product.saturating_mul(ways)
        })
    }

    /// Cycles are impossible here (checked in [`Grammar::new`]), so the recursion ends.
    fn write(&self, nodes: &[Node], rng: &mut impl Rng, out: &mut String) {
        for node in nodes {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Slot(name) => {
                    if let Some(filler) = self.slots.get(name).and_then(|all| pick(all, rng)) {
                        self.write(&filler.nodes, rng, out);
                    }
                }
                Node::Choice(options) => {
                    if let Some(option) = pick(options, rng) {
                        self.write(option, rng, out);
                    }
                }
                Node::Optional(part) => {
                    if rng.random_bool(0.5) {
                        self.write(part, rng, out);
                    }
                }
            }
        }
    }

    fn reject_cycles<'a>(
        &'a self,
        name: &'a str,
        path: &mut Vec<&'a str>,
        done: &mut Vec<&'a str>,
    ) -> Result<(), TemplateError> {
        if done.contains(&name) {
            return Ok(());
        }
        if let Some(start) = path.iter().position(|seen| *seen == name) {
            let mut cycle = path.split_off(start);
            cycle.push(name);
            return Err(TemplateError::Cycle {
                path: cycle.join(" -> "),
            });
        }
        path.push(name);
        for filler in self.slots.get(name).into_iter().flatten() {
            for inner in filler.slots() {
                self.reject_cycles(inner, path, done)?;
            }
        }
        path.pop();
        done.push(name);
        Ok(())
    }

    fn unknown(&self, template: &str, slot: &str) -> TemplateError {
        TemplateError::UnknownSlot {
            template: template.to_owned(),
            slot: slot.to_owned(),
            known: self
                .slots
                .keys()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", "),
        }
    }
}

/// A uniform draw, `None` for an empty slice.
fn pick<'a, T>(items: &'a [T], rng: &mut impl Rng) -> Option<&'a T> {
    if items.is_empty() {
        return None;
    }
    items.get(rng.random_range(0..items.len()))
}

/// One space between words, none at the ends or before `, . ? !`.
fn tidy(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    for word in raw.split_whitespace() {
        if !out.is_empty() && !word.starts_with([',', '.', '?', '!']) {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn grammar() -> Grammar {
        Grammar::new(&[
            ("pet", &["cat", "[small|old] dog"][..]),
            ("owner", &["my {pet}", "her {pet}"][..]),
        ])
        .unwrap()
    }

    fn all(source: &str) -> BTreeSet<String> {
        let template = Template::parse(source).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        (0..400)
            .map(|_| grammar().expand(&template, &mut rng).unwrap())
            .collect()
    }

    #[test]
    fn expands_every_combination_and_nothing_else() {
        let expected: BTreeSet<String> = [
            "cat",
            "small dog",
            "old dog",
            "cat now",
            "small dog now",
            "old dog now",
        ]
        .into_iter()
        .map(String::from)
        .collect();
        assert_eq!(all("{pet} (now)"), expected);
        let template = Template::parse("{pet} (now)").unwrap();
        assert_eq!(grammar().expansions(&template).unwrap(), 6);
    }

    #[test]
    fn nested_slots_are_counted() {
        let template = Template::parse("{owner} [is|was (not)] here").unwrap();
        assert_eq!(grammar().expansions(&template).unwrap(), 2 * 3 * 3);
        assert_eq!(all("{owner} [is|was (not)] here").len(), 18);
    }

    #[test]
    fn empty_alternative_and_punctuation_are_tidied() {
        assert_eq!(
            all("  yes [|indeed] , thanks  ?"),
            ["yes indeed, thanks?", "yes, thanks?"]
                .into_iter()
                .map(String::from)
                .collect()
        );
    }

    #[test]
    fn escapes_are_literal() {
        assert_eq!(
            all(r"\{pet\} \[x\|y\]"),
            [String::from("{pet} [x|y]")].into_iter().collect()
        );
    }

    #[test]
    fn unclosed_brackets_are_refused() {
        for (source, opener) in [
            ("a {pet", '{'),
            ("a [b|c", '['),
            ("a (b", '('),
            ("[a(b]c", '['),
        ] {
            match Template::parse(source) {
                Err(TemplateError::Unclosed { opener: found, .. }) => assert_eq!(found, opener),
                Err(TemplateError::Stray { found: ']', .. }) if source == "[a(b]c" => {}
                other => panic!("{source}: {other:?}"),
            }
        }
    }

    #[test]
    fn stray_closers_are_refused() {
        for source in ["a }", "a ]", "a )", "a | b", "(a | b)"] {
            assert!(
                matches!(Template::parse(source), Err(TemplateError::Stray { .. })),
                "{source}"
            );
        }
    }

    #[test]
    fn bad_slot_names_are_refused() {
        for source in ["{}", "{Pet}", "{a b}", "{a{b}}"] {
            assert!(
                matches!(Template::parse(source), Err(TemplateError::SlotName { .. })),
                "{source}"
            );
        }
    }

    #[test]
    fn dangling_escape_is_refused() {
        assert!(matches!(
            Template::parse("a\\"),
            Err(TemplateError::DanglingEscape { .. })
        ));
    }

    #[test]
    fn deep_nesting_is_refused_not_a_stack_overflow() {
        let deep = "(".repeat(100_000);
        assert!(matches!(
            Template::parse(&deep),
            Err(TemplateError::TooDeep { .. })
        ));
        let allowed = format!("{}x{}", "(".repeat(MAX_DEPTH), ")".repeat(MAX_DEPTH));
        assert!(Template::parse(&allowed).is_ok());
    }

    #[test]
    fn unknown_slot_names_what_exists() {
        let error = grammar()
            .expand(
                &Template::parse("{fish}").unwrap(),
                &mut ChaCha8Rng::seed_from_u64(0),
            )
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "template `{fish}`: unknown slot `fish`; defined: owner, pet"
        );
        assert!(matches!(
            Grammar::new(&[("a", &["{b}"][..])]),
            Err(TemplateError::UnknownSlot { .. })
        ));
    }

    #[test]
    fn empty_and_duplicate_slots_are_refused() {
        assert!(matches!(
            Grammar::new(&[("a", &[][..])]),
            Err(TemplateError::EmptySlot { .. })
        ));
        assert!(matches!(
            Grammar::new(&[("a", &["x"][..]), ("a", &["y"][..])]),
            Err(TemplateError::DuplicateSlot { .. })
        ));
    }

    #[test]
    fn cycles_are_refused() {
        let error = Grammar::new(&[
            ("a", &["{b}"][..]),
            ("b", &["x {c}"][..]),
            ("c", &["[y|{b}]"][..]),
        ])
        .unwrap_err();
        assert_eq!(
            error,
            TemplateError::Cycle {
                path: "b -> c -> b".into()
            }
        );
    }

    proptest! {
        #[test]
        fn parsing_never_panics(source in "[a-c{}\\[\\]()|\\\\ ]{0,40}") {
            let _ = Template::parse(&source);
        }

        #[test]
        fn same_seed_same_sentence(seed in any::<u64>()) {
            let template = Template::parse("{owner} [is|was] (very) {pet}").unwrap();
            let draw = || {
                grammar().expand(&template, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap()
            };
            prop_assert_eq!(draw(), draw());
        }

        #[test]
        fn plain_text_expands_to_itself_with_single_spaces(words in prop::collection::vec("[a-z]{1,6}", 1..8)) {
            let template = Template::parse(&words.join("  ")).unwrap();
            let sentence = Grammar::default()
                .expand(&template, &mut ChaCha8Rng::seed_from_u64(0))
                .unwrap();
            prop_assert_eq!(sentence, words.join(" "));
        }
    }
}
