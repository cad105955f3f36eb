//! A short description of categories, from which a corpus is written ([`write_corpus`]), by a model
//! or by rules ([`TaxonomyRules`]).
//!
//! ```toml
//! about = "messages to a bakery"       # what the texts are; goes into every prompt
//! texts = 60                           # for each fine category that does not say otherwise
//!
//! [[coarse]]
//! name = "orders"
//!
//! [[coarse.fine]]
//! name = "order_cake"
//! description = "The customer wants to order a cake"
//! keywords = ["birthday cake", "wedding cake"]          # optional
//! examples = ["can you bake a cake for saturday"]       # optional
//! texts = 40                                            # optional
//! ```
//!
//! | key | where | limit |
//! |---|---|---|
//! | `about` | top | 1,000 characters, optional |
//! | `language` | top | 100 characters, `English` if absent |
//! | `texts` | top, fine | 2 to 100,000; 50 if absent |
//! | `name` | coarse, fine | 100 characters |
//! | `description` | coarse (optional), fine | 1,000 characters |
//! | `keywords`, `examples` | fine, optional | 200 each, of 100 and 500 characters |
//!
//! Every text is one line without tabs or other control characters; white space at its ends is
//! dropped. Names are unique up to case and punctuation: coarse ones among themselves, fine ones in
//! the whole file, because a fine category belongs to one coarse category.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::plain::{one_line, text_key};

mod corpus;
mod rules;

pub use corpus::{
    CategoryCount, Corpus, CorpusConfig, CorpusError, CorpusReport, CorpusRow, write_corpus,
};
pub use rules::{TaxonomyRules, TaxonomyRulesError};

/// Largest taxonomy file in bytes.
const MAX_BYTES: u64 = 4 << 20;
/// Most fine categories of a taxonomy.
const MAX_FINE: usize = 10_000;
/// Most keywords, and most examples, of a fine category.
const MAX_LIST: usize = 200;
/// Texts of a fine category where the file does not say.
const DEFAULT_TEXTS: usize = 50;
/// Fewest and most texts of a fine category; one has to be left for each part.
const TEXTS: std::ops::RangeInclusive<i64> = 2..=100_000;

const NAME: usize = 100;
const SENTENCE: usize = 500;
const PARAGRAPH: usize = 1_000;

/// What is wrong with a taxonomy file.
#[derive(Debug, Error)]
pub enum TaxonomyError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Reason given by the system.
        source: std::io::Error,
    },
    /// The file is longer than any taxonomy.
    #[error("{}: longer than {limit} bytes, the most a taxonomy may have", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// Bytes that are no text.
    #[error("{}:{line}: invalid UTF-8", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// Line of the first bad byte.
        line: usize,
    },
    /// Not TOML.
    #[error("{origin}:{line}: {problem}")]
    Syntax {
        /// File, or what stands for it.
        origin: String,
        /// Line, from 1.
        line: usize,
        /// The parser's words.
        problem: String,
    },
    /// A value that does not belong there, or none where one has to be.
    #[error("{origin}:{line}: {field}: expected {expected}, found {found}")]
    Field {
        /// File, or what stands for it.
        origin: String,
        /// Line, from 1.
        line: usize,
        /// The key with the tables above it.
        field: String,
        /// What belongs there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A key that means nothing.
    #[error("{origin}:{line}: unknown key `{key}`; did you mean `{nearest}`? {table} has: {known}")]
    UnknownKey {
        /// File, or what stands for it.
        origin: String,
        /// Line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The known key most like it.
        nearest: &'static str,
        /// The table it stands in.
        table: &'static str,
        /// Keys that the table may have.
        known: String,
    },
    /// Two categories with one name.
    #[error(
        "{origin}:{line}: {kind} category `{name}` is there already as `{first}` on line {first_line}"
    )]
    Duplicate {
        /// File, or what stands for it.
        origin: String,
        /// Line of the second, from 1.
        line: usize,
        /// `coarse` or `fine`.
        kind: &'static str,
        /// Name of the second.
        name: String,
        /// Name of the first.
        first: String,
        /// Line of the first.
        first_line: usize,
    },
}

/// Categories to write texts for. Every name and text keeps the limits of the module page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Taxonomy {
    /// What the texts are; may be empty.
    pub about: String,
    /// Language of the texts.
    pub language: String,
    /// Coarse categories in file order, at least one.
    pub coarse: Vec<CoarseCategory>,
}

/// A coarse category.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CoarseCategory {
    /// Unique among coarse categories.
    pub name: String,
    /// What belongs to it; may be empty.
    pub description: String,
    /// Fine categories in file order, at least one.
    pub fine: Vec<FineCategory>,
}

/// A fine category.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FineCategory {
    /// Unique in the taxonomy.
    pub name: String,
    /// What a text of it says.
    pub description: String,
    /// Words and phrases that belong to it.
    pub keywords: Vec<String>,
    /// Texts of it. They go into prompts, never into the corpus.
    pub examples: Vec<String>,
    /// Texts to write.
    pub texts: usize,
}

impl Taxonomy {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// [`TaxonomyError`] with file and line.
    pub fn read(path: &Path) -> Result<Self, TaxonomyError> {
        let read = |source| TaxonomyError::Read {
            path: path.to_owned(),
            source,
        };
        let file = std::fs::File::open(path).map_err(read)?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(read)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(TaxonomyError::TooLarge {
                path: path.to_owned(),
                limit: MAX_BYTES,
            });
        }
        let text = std::str::from_utf8(&bytes).map_err(|error| TaxonomyError::Encoding {
            path: path.to_owned(),
            line: line_of(&bytes, error.valid_up_to()),
        })?;
        Self::parse(text, &path.display().to_string())
    }

    /// Checks the text of a file; `origin` is named in errors.
    ///
    /// # Errors
    ///
    /// [`TaxonomyError`] with line.
    ///
    /// ```
    /// use datagen::Taxonomy;
    /// let text = "[[coarse]]\nname = 'shop'\n[[coarse.fine]]\nname = 'hours'\ndescripton = 'x'\n";
    /// let error = Taxonomy::parse(text, "shop.toml").unwrap_err().to_string();
    /// assert!(error.starts_with("shop.toml:5: unknown key `descripton`; did you mean `description`?"));
    /// ```
    pub fn parse(text: &str, origin: &str) -> Result<Self, TaxonomyError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let file = File { text, origin };
        let root = DeTable::parse(text).map_err(|error| TaxonomyError::Syntax {
            origin: origin.to_owned(),
            line: file.line(error.span().map_or(0, |span| span.start)),
            problem: error.message().to_owned(),
        })?;
        file.taxonomy(root.get_ref())
    }

    /// Fine categories with their coarse category, in file order.
    pub fn fine(&self) -> impl Iterator<Item = (&CoarseCategory, &FineCategory)> {
        self.coarse
            .iter()
            .flat_map(|coarse| coarse.fine.iter().map(move |fine| (coarse, fine)))
    }
}

/// Line of a byte, from 1.
fn line_of(bytes: &[u8], at: usize) -> usize {
    let before = bytes.get(..at).unwrap_or(bytes);
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// A table of the file, with what is needed to speak about it.
struct Section<'a> {
    table: &'a DeTable<'a>,
    /// Where it begins, for what is missing in it.
    line: usize,
    /// Name in messages, for instance `coarse.fine`; empty at the top.
    name: &'static str,
}

impl Section<'_> {
    fn field(&self, key: &str) -> String {
        match self.name {
            "" => key.to_owned(),
            name => format!("{name}.{key}"),
        }
    }
}

/// The file while it is read.
struct File<'a> {
    text: &'a str,
    origin: &'a str,
}

type Names = BTreeMap<String, (String, usize)>;

impl File<'_> {
    fn taxonomy(&self, table: &DeTable<'_>) -> Result<Taxonomy, TaxonomyError> {
        let top = Section {
            table,
            line: 1,
            name: "",
        };
        self.known_keys(&top, "the file", &["about", "language", "texts", "coarse"])?;
        let about = self.optional_text(&top, "about", PARAGRAPH)?;
        let language = match self.optional_text(&top, "language", NAME)? {
            language if language.is_empty() => "English".to_owned(),
            language => language,
        };
        let default = self.texts(&top)?.unwrap_or(DEFAULT_TEXTS);
        let (mut coarse_names, mut fine_names) = (Names::new(), Names::new());
        let mut coarse = Vec::new();
        for section in self.sections(&top, "coarse", "coarse")? {
            let keys = &["name", "description", "fine"];
            self.known_keys(&section, "[[coarse]]", keys)?;
            let name = self.name(&section, "coarse", &mut coarse_names)?;
            let description = self.optional_text(&section, "description", PARAGRAPH)?;
            let mut fine = Vec::new();
            for section in self.sections(&section, "fine", "coarse.fine")? {
                if fine_names.len() == MAX_FINE {
                    return Err(self.problem(
                        section.line,
                        "coarse.fine".to_owned(),
                        format!("at most {MAX_FINE} fine categories"),
                        "one more".to_owned(),
                    ));
                }
                fine.push(self.fine(&section, default, &mut fine_names)?);
            }
            coarse.push(CoarseCategory {
                name,
                description,
                fine,
            });
        }
        Ok(Taxonomy {
            about,
            language,
            coarse,
        })
    }

    fn fine(
        &self,
        section: &Section<'_>,
        default: usize,
        names: &mut Names,
    ) -> Result<FineCategory, TaxonomyError> {
        let keys = &["name", "description", "keywords", "examples", "texts"];
        self.known_keys(section, "[[coarse.fine]]", keys)?;
        let name = self.name(section, "fine", names)?;
        Ok(FineCategory {
            name,
            description: self.required_text(section, "description", PARAGRAPH)?,
            keywords: self.list(section, "keywords", NAME)?,
            examples: self.list(section, "examples", SENTENCE)?,
            texts: self.texts(section)?.unwrap_or(default),
        })
    }

    fn line(&self, at: usize) -> usize {
        line_of(self.text.as_bytes(), at)
    }

    fn problem(
        &self,
        line: usize,
        field: String,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> TaxonomyError {
        TaxonomyError::Field {
            origin: self.origin.to_owned(),
            line,
            field,
            expected: expected.into(),
            found: found.into(),
        }
    }

    fn known_keys(
        &self,
        section: &Section<'_>,
        table: &'static str,
        known: &[&'static str],
    ) -> Result<(), TaxonomyError> {
        // The map is sorted by key; the first unknown one of the file is meant.
        let unknown = section
            .table
            .iter()
            .filter(|(key, _)| !known.contains(&key.get_ref().as_ref()))
            .min_by_key(|(key, _)| key.span().start);
        let Some((key, _)) = unknown else {
            return Ok(());
        };
        let alike = |other: &str| strsim::jaro_winkler(other, key.get_ref());
        Err(TaxonomyError::UnknownKey {
            origin: self.origin.to_owned(),
            line: self.line(key.span().start),
            key: shown(key.get_ref()),
            nearest: known
                .iter()
                .copied()
                .max_by(|a, b| alike(a).total_cmp(&alike(b)))
                .unwrap_or_default(),
            table,
            known: known.join(", "),
        })
    }

    /// The tables of an array of tables, at least one.
    fn sections<'a>(
        &self,
        above: &Section<'a>,
        key: &str,
        name: &'static str,
    ) -> Result<Vec<Section<'a>>, TaxonomyError> {
        let expected = format!("at least one [[{name}]]");
        let field = above.field(key);
        let Some(value) = above.table.get(key) else {
            return Err(self.problem(above.line, field, expected, "none"));
        };
        let line = self.line(value.span().start);
        let DeValue::Array(array) = value.get_ref() else {
            let found = value.get_ref().type_str();
            return Err(self.problem(line, field, format!("[[{name}]]"), found));
        };
        if array.is_empty() {
            return Err(self.problem(line, field, expected, "none"));
        }
        array
            .iter()
            .map(|value| match value.get_ref() {
                DeValue::Table(table) => Ok(Section {
                    table,
                    line: self.line(value.span().start),
                    name,
                }),
                other => Err(self.problem(
                    self.line(value.span().start),
                    field.clone(),
                    "a table",
                    other.type_str(),
                )),
            })
            .collect()
    }

    fn name(
        &self,
        section: &Section<'_>,
        kind: &'static str,
        names: &mut Names,
    ) -> Result<String, TaxonomyError> {
        let name = self.required_text(section, "name", NAME)?;
        let line = self.line_of_key(section, "name");
        if !name.chars().any(char::is_alphanumeric) {
            let found = format!("`{}`", shown(&name));
            return Err(self.problem(line, section.field("name"), "a letter or a digit", found));
        }
        let key = text_key(&name);
        if let Some((first, first_line)) = names.get(&key) {
            return Err(TaxonomyError::Duplicate {
                origin: self.origin.to_owned(),
                line,
                kind,
                name,
                first: first.clone(),
                first_line: *first_line,
            });
        }
        names.insert(key, (name.clone(), line));
        Ok(name)
    }

    fn line_of_key(&self, section: &Section<'_>, key: &str) -> usize {
        section
            .table
            .get(key)
            .map_or(section.line, |value| self.line(value.span().start))
    }

    fn required_text(
        &self,
        section: &Section<'_>,
        key: &str,
        limit: usize,
    ) -> Result<String, TaxonomyError> {
        match section.table.get(key) {
            Some(value) => self.text(value, section.field(key), limit),
            None => Err(self.problem(section.line, section.field(key), "a text", "nothing")),
        }
    }

    fn optional_text(
        &self,
        section: &Section<'_>,
        key: &str,
        limit: usize,
    ) -> Result<String, TaxonomyError> {
        match section.table.get(key) {
            Some(value) => self.text(value, section.field(key), limit),
            None => Ok(String::new()),
        }
    }

    fn text(
        &self,
        value: &Spanned<DeValue<'_>>,
        field: String,
        limit: usize,
    ) -> Result<String, TaxonomyError> {
        let line = self.line(value.span().start);
        let DeValue::String(text) = value.get_ref() else {
            let found = value.get_ref().type_str();
            return Err(self.problem(line, field, "a text", found));
        };
        let text = text.trim();
        let length = text.chars().count();
        let found = if text.is_empty() {
            "an empty text".to_owned()
        } else if let Some(control) = text.chars().find(|c| c.is_control()) {
            format!("the character U+{:04X}", u32::from(control))
        } else if length > limit {
            format!("{length} characters")
        } else {
            return Ok(one_line(text));
        };
        let expected = format!("one line of at most {limit} characters without tabs");
        Err(self.problem(line, field, expected, found))
    }

    fn list(
        &self,
        section: &Section<'_>,
        key: &str,
        limit: usize,
    ) -> Result<Vec<String>, TaxonomyError> {
        let Some(value) = section.table.get(key) else {
            return Ok(Vec::new());
        };
        let field = section.field(key);
        let line = self.line(value.span().start);
        let DeValue::Array(array) = value.get_ref() else {
            let found = value.get_ref().type_str();
            return Err(self.problem(line, field, "a list of texts", found));
        };
        let array: &DeArray<'_> = array;
        if array.len() > MAX_LIST {
            let found = array.len().to_string();
            return Err(self.problem(line, field, format!("at most {MAX_LIST} texts"), found));
        }
        let mut texts = Vec::new();
        for value in array.iter() {
            let text = self.text(value, field.clone(), limit)?;
            if texts.contains(&text) {
                let line = self.line(value.span().start);
                let found = format!("`{}` twice", shown(&text));
                return Err(self.problem(line, field, "different texts", found));
            }
            texts.push(text);
        }
        Ok(texts)
    }

    fn texts(&self, section: &Section<'_>) -> Result<Option<usize>, TaxonomyError> {
        let Some(value) = section.table.get("texts") else {
            return Ok(None);
        };
        let line = self.line(value.span().start);
        let expected = format!("a whole number from {} to {}", TEXTS.start(), TEXTS.end());
        let found = match value.get_ref() {
            DeValue::Integer(number) => {
                let parsed = i64::from_str_radix(number.as_str(), number.radix());
                match parsed.ok().filter(|number| TEXTS.contains(number)) {
                    Some(number) => return Ok(usize::try_from(number).ok()),
                    None => number.to_string(),
                }
            }
            other => other.type_str().to_owned(),
        };
        Err(self.problem(line, section.field("texts"), expected, found))
    }
}

/// A text of the file for a message: short, on one line.
fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut short: String = text
        .chars()
        .take(LONGEST)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    pub(super) const BAKERY: &str = include_str!("../../examples/taxonomy.toml");

    fn problem(text: &str) -> String {
        Taxonomy::parse(text, "f.toml").unwrap_err().to_string()
    }

    /// A taxonomy whose only fine category has these lines beside name and description.
    fn with(lines: &str) -> String {
        format!("[[coarse]]\nname = 'a'\n[[coarse.fine]]\nname = 'b'\ndescription = 'c'\n{lines}")
    }

    #[test]
    fn the_example_is_understood() {
        let taxonomy = Taxonomy::parse(BAKERY, "taxonomy.toml").unwrap();
        assert_eq!(taxonomy.language, "English");
        let names: Vec<&str> = taxonomy.coarse.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["orders", "products", "shop"]);
        let fine: Vec<&FineCategory> = taxonomy.fine().map(|(_, fine)| fine).collect();
        assert_eq!(fine.len(), 9);
        assert_eq!((fine[0].texts, fine[2].texts), (40, 30));
        assert_eq!(fine[2].name, "delivery");
        assert_eq!(fine[2].keywords[1], "delivery fee");
    }

    #[test]
    fn absent_keys_have_defaults_and_texts_are_trimmed() {
        let taxonomy = Taxonomy::parse("\u{feff}[[coarse]]\nname = ' a '\n[[coarse.fine]]\nname = 'b\u{a0} c'\ndescription = \"\"\"\nd\n\"\"\"\n", "f").unwrap();
        let expected = Taxonomy {
            about: String::new(),
            language: "English".to_owned(),
            coarse: vec![CoarseCategory {
                name: "a".to_owned(),
                description: String::new(),
                fine: vec![FineCategory {
                    name: "b c".to_owned(),
                    description: "d".to_owned(),
                    keywords: Vec::new(),
                    examples: Vec::new(),
                    texts: DEFAULT_TEXTS,
                }],
            }],
        };
        assert_eq!(taxonomy, expected);
    }

    #[test]
    fn errors_name_file_line_and_what_belongs_there() {
        let long = "x".repeat(101);
        let many = format!(
            "keywords = [{}]\n",
            (0..201).map(|n| format!("'{n}',")).collect::<String>()
        );
        for (text, expected) in [
            (
                String::new(),
                "f.toml:1: coarse: expected at least one [[coarse]], found none",
            ),
            (
                "coarse = []".into(),
                "f.toml:1: coarse: expected at least one [[coarse]], found none",
            ),
            (
                "[coarse]\n".into(),
                "f.toml:1: coarse: expected [[coarse]], found table",
            ),
            (
                "\ncoarse = [1]".into(),
                "f.toml:2: coarse: expected a table, found integer",
            ),
            (
                "[[coarse]]\nname = 'a'\n".into(),
                "f.toml:1: coarse.fine: expected at least one [[coarse.fine]], found none",
            ),
            (
                "[[coarse]]\nname = 'a'\nfine = []".into(),
                "f.toml:3: coarse.fine: expected at least one",
            ),
            (
                "[[coarse]]\n[[coarse.fine]]\nname = 'b'\n".into(),
                "f.toml:1: coarse.name: expected a text, found nothing",
            ),
            (
                "[[coarse]]\nname='a'\n[[coarse.fine]]\nname='b'".into(),
                "f.toml:3: coarse.fine.description: expected a text, found nothing",
            ),
            (
                "about = 3\n".into(),
                "f.toml:1: about: expected a text, found integer",
            ),
            (
                "about = '  '\n".into(),
                "f.toml:1: about: expected one line of at most 1000 characters without tabs, found an empty text",
            ),
            (
                "[[coarse]]\nname = \"a\\tb\"\n".into(),
                "f.toml:2: coarse.name: expected one line of at most 100 characters without tabs, found the character U+0009",
            ),
            (
                "[[coarse]]\nname = \"a\\nb\"\n".into(),
                "found the character U+000A",
            ),
            (
                "[[coarse]]\nname = \"a\\u0000b\"\n".into(),
                "found the character U+0000",
            ),
            (
                format!("[[coarse]]\nname = '{long}'\n"),
                "found 101 characters",
            ),
            (
                "[[coarse]]\nname = '-_-'\n".into(),
                "f.toml:2: coarse.name: expected a letter or a digit, found `-_-`",
            ),
            (
                with("texts = 1\n"),
                "f.toml:6: coarse.fine.texts: expected a whole number from 2 to 100000, found 1",
            ),
            (with("texts = -5\n"), "found -5"),
            (with("texts = 2.5\n"), "found float"),
            (
                with("texts = 99999999999999999999999\n"),
                "coarse.fine.texts: expected a whole number",
            ),
            (
                with("keywords = 'x'\n"),
                "f.toml:6: coarse.fine.keywords: expected a list of texts, found string",
            ),
            (
                with("keywords = [\n'x',\n1]\n"),
                "f.toml:8: coarse.fine.keywords: expected a text, found integer",
            ),
            (
                with("examples = ['x', ' x']\n"),
                "expected different texts, found `x` twice",
            ),
            (with(&many), "expected at most 200 texts, found 201"),
            (
                with("exmples = []\n"),
                "f.toml:6: unknown key `exmples`; did you mean `examples`? [[coarse.fine]] has: name, description, keywords, examples, texts",
            ),
            (
                "zz = 1\nabout = ''\nlangage = 'x'\n".into(),
                "f.toml:1: unknown key `zz`",
            ),
            (
                "langage = 'x'\nzz = 1\n".into(),
                "f.toml:1: unknown key `langage`; did you mean `language`? the file has:",
            ),
            (
                "[[coarse]]\nname = 'a'\nnme = 'b'\n".into(),
                "f.toml:3: unknown key `nme`; did you mean `name`?",
            ),
            (
                with("[[coarse.fine]]\nname = 'B!'\ndescription = 'c'\n"),
                "f.toml:7: fine category `B!` is there already as `b` on line 4",
            ),
            (
                with("[[coarse]]\nname = 'A'\n"),
                "f.toml:7: coarse category `A` is there already as `a` on line 2",
            ),
            (
                with("[[coarse]]\nname = 'x'\n[[coarse.fine]]\nname = 'b'\ndescription = 'c'\n"),
                "f.toml:9: fine category `b` is there already",
            ),
            ("a = [[[".into(), "f.toml:1: "),
            (
                "about = 'x'\nabout = 'y'\n".into(),
                "f.toml:2: duplicate key",
            ),
            (with("name = 'c'\n"), "f.toml:6: duplicate key"),
            (format!("about = {}", "[".repeat(100_000)), "f.toml:1: "),
            (format!("{}about = 1", "a.".repeat(10_000)), "f.toml:1: "),
        ] {
            let found = problem(&text);
            assert!(
                found.contains(expected),
                "{}\n{found}\n{expected}",
                shown(&text)
            );
        }
    }

    #[test]
    fn files_that_are_no_text_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.toml");
        let error = Taxonomy::read(&path).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot read") && error.contains("t.toml"),
            "{error}"
        );
        std::fs::write(&path, b"about = 'x'\n\xff").unwrap();
        let error = Taxonomy::read(&path).unwrap_err().to_string();
        assert!(error.ends_with("t.toml:2: invalid UTF-8"), "{error}");
        std::fs::write(&path, vec![b'#'; MAX_BYTES as usize + 1]).unwrap();
        assert!(matches!(
            Taxonomy::read(&path),
            Err(TaxonomyError::TooLarge { .. })
        ));
        assert!(matches!(
            Taxonomy::read(dir.path()),
            Err(TaxonomyError::Read { .. })
        ));
        std::fs::write(&path, BAKERY).unwrap();
        assert_eq!(
            Taxonomy::read(&path).unwrap(),
            Taxonomy::parse(BAKERY, "").unwrap()
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), at in 0_usize..2000, cut in 0_usize..40) {
            let _ = Taxonomy::parse(&text, "f");
            // The example with something else in the middle.
            let chars: Vec<char> = BAKERY.chars().collect();
            let at = at.min(chars.len());
            let end = (at + cut).min(chars.len());
            let head: String = chars[..at].iter().collect();
            let tail: String = chars[end..].iter().collect();
            let mixed = format!("{head}{text}{tail}");
            if let Ok(taxonomy) = Taxonomy::parse(&mixed, "f") {
                for (coarse, fine) in taxonomy.fine() {
                    for name in [&coarse.name, &fine.name] {
                        prop_assert!(!name.is_empty() && !name.chars().any(char::is_control));
                    }
                }
            }
        }
    }
}
