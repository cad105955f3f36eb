//! The texts a student learns from: files, parts of their sentences, made messages; nothing that
//! anything is evaluated on, and nothing twice.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use datasets::hash::StreamingSha256;
use datasets::leakage::LeakBy;
use datasets::report::normalised;
use datasets::{
    DatasetError, EvalSet, LeakIndex, Limits, StsPart, TextRule, load_eval_sets, load_texts,
};
use rand::Rng;
use serde::Serialize;
use training::{Streams, below, shuffle, stream};

use crate::embedding::file_name;
use crate::error::RunError;

/// Words that end a part of a sentence.
const CONJUNCTIONS: [&str; 7] = ["and", "but", "which", "that", "who", "because", "while"];
/// Characters that end a part of a sentence.
const MARKS: [char; 6] = [',', ';', ':', '(', ')', '"'];
/// Fewest words of a fragment or message.
const MADE_MIN_WORDS: usize = 2;
/// Most words of a fragment.
const FRAGMENT_WORDS: usize = 9;
/// Characters a fragment has more than.
const FRAGMENT_CHARS: usize = 3;
/// Draws for a fragment before there are held to be no more.
const DRAWS_A_FRAGMENT: usize = 3;

/// Keys of the random streams.
const CHOICE: u64 = 0;
const FRAGMENTS: u64 = 1;
const UTTERANCES: u64 = 2;
const ORDER: u64 = 3;

/// A file of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// Texts taken at most, chosen at random.
    pub limit: Option<usize>,
    /// Longest text, in words.
    pub max_words: Option<usize>,
}

impl Source {
    /// All of a file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            limit: None,
            max_words: None,
        }
    }
}

/// Texts that must not be in a corpus.
#[derive(Clone, Debug)]
pub struct Held {
    index: LeakIndex,
    /// Names of the sets.
    pub sets: Vec<String>,
}

impl Held {
    /// The texts of files and folders, and of the bundled category set. A folder is one of STS or
    /// transfer tasks, of which every part counts, or any folder of text files, looked through to the
    /// bottom.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn read<P: AsRef<Path>>(paths: &[P]) -> Result<Self, RunError> {
        let bundled = datasets::pocket()?;
        let texts = bundled.train.texts.iter().chain(&bundled.test.texts);
        let mut sets = vec![EvalSet {
            name: "pocket".to_owned(),
            rows: texts.map(|text| vec![text.clone()]).collect(),
        }];
        for path in paths {
            sets.extend(held_sets(path.as_ref())?);
        }
        Ok(Self::new(&sets))
    }

    /// The texts of evaluation sets.
    pub fn new(sets: &[EvalSet]) -> Self {
        Self {
            index: LeakIndex::new(sets, TextRule::default()),
            sets: sets.iter().map(|set| set.name.clone()).collect(),
        }
    }
}

/// Texts of a file or folder; names begin with that of the folder.
fn held_sets(path: &Path) -> Result<Vec<EvalSet>, RunError> {
    let limits = Limits::default();
    let parts = [StsPart::Train, StsPart::Dev, StsPart::Test];
    match load_eval_sets(path, &parts, limits) {
        // No tasks: any folder with files of texts.
        Err(DatasetError::MissingTask { .. }) => {}
        loaded => {
            let mut sets = loaded?;
            if path.is_dir() {
                for set in &mut sets {
                    set.name = format!("{}/{}", file_name(path), set.name);
                }
            }
            return Ok(sets);
        }
    }
    let mut files = Vec::new();
    text_files(path, &mut files)?;
    let mut sets = Vec::new();
    for file in files {
        match load_texts(&file, None, limits) {
            Ok(texts) => {
                let inner = file.strip_prefix(path).unwrap_or(&file);
                sets.push(EvalSet {
                    name: format!("{}/{}", file_name(path), inner.display()),
                    rows: texts.rows,
                });
            }
            // A table without a column of texts, such as a list of categories.
            Err(DatasetError::ColumnCount {
                line: 1, found: 0, ..
            }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if sets.is_empty() {
        return Err(RunError::File {
            path: path.to_owned(),
            message: "expected files of texts (txt, csv, tsv, jsonl; also gzipped), found none"
                .to_owned(),
        });
    }
    Ok(sets)
}

/// Files of texts below a folder, by path.
fn text_files(dir: &Path, found: &mut Vec<PathBuf>) -> Result<(), RunError> {
    let fail = |error: std::io::Error| RunError::File {
        path: dir.to_owned(),
        message: error.to_string(),
    };
    let mut entries = std::fs::read_dir(dir)
        .map_err(fail)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(fail)?;
    entries.sort();
    for path in entries {
        let name = file_name(&path).to_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        if path.is_dir() {
            text_files(&path, found)?;
        } else if [".txt", ".csv", ".tsv", ".jsonl"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            found.push(path);
        }
    }
    Ok(())
}

/// How a corpus is made.
pub struct CorpusOptions<'c> {
    /// Files, in the order in which they take precedence over equal texts of others.
    pub sources: &'c [Source],
    /// Fewest words of a text from a file.
    pub min_words: usize,
    /// Parts of texts to add.
    pub fragments: usize,
    /// Made messages to add.
    pub utterances: usize,
    /// Texts to leave out.
    pub held: &'c Held,
    /// Seed of everything drawn.
    pub seed: u64,
}

/// Texts left out, by the first reason that holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Too few words.
    pub short: usize,
    /// No letter and no digit.
    pub no_letters: usize,
    /// Equal to an earlier text but for case, punctuation and spaces.
    pub repeated: usize,
    /// Equal in the same sense to a text of an evaluation set.
    pub leaked: usize,
    /// Too many words.
    pub long: usize,
    /// Beyond the limit of the file.
    pub not_chosen: usize,
}

/// What a file, the fragments or the messages gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// File name, `fragments` or `utterances`.
    pub name: String,
    /// SHA-256 of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Texts before any was left out.
    pub read: usize,
    /// Texts in the corpus.
    pub kept: usize,
    /// Texts left out.
    pub dropped: Dropped,
}

/// Distinct texts in random order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corpus {
    /// The texts, with single spaces.
    pub texts: Vec<String>,
    /// Where they come from.
    pub parts: Vec<Part>,
    /// SHA-256 of the texts, each with a line end.
    pub sha256: String,
    /// Names of the sets whose texts were left out.
    pub held: Vec<String>,
}

impl Corpus {
    /// Reads the files and makes the rest: a function of the files and the seed.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or holds no text, or fewer than two texts in all.
    pub fn new(options: &CorpusOptions<'_>) -> Result<Self, RunError> {
        let streams = Streams::new(options.seed);
        let mut sieve = Sieve {
            held: &options.held.index,
            seen: HashSet::new(),
        };
        let mut groups: Vec<(Part, Vec<String>)> = Vec::new();
        for source in options.sources {
            let loaded = load_texts(&source.path, None, Limits::default())?;
            let sha256 = Some(loaded.report.sha256.clone());
            let texts = loaded.rows.into_iter().flatten();
            let name = file_name(&source.path);
            groups.push(sieve.group(name, sha256, texts, options.min_words));
        }
        // Fragments come from all sentences, also from those that are too long or not chosen.
        let sentences: Vec<&str> = groups
            .iter()
            .flat_map(|(_, texts)| texts.iter().map(String::as_str))
            .collect();
        let mut rng = streams.rng(stream::DATAGEN, &[FRAGMENTS]);
        let fragments = fragments(&sentences, options.fragments, &mut rng);
        let seed = streams.seed(stream::DATAGEN, &[UTTERANCES]);
        let utterances = datagen::utterances(options.utterances, seed)
            .map_err(|error| RunError::Config(format!("utterances: {error}")))?;
        for (index, (source, (part, texts))) in (0..).zip(options.sources.iter().zip(&mut groups)) {
            let mut rng = streams.rng(stream::DATAGEN, &[CHOICE, index]);
            choose(source, part, texts, &mut rng);
        }
        for (name, texts) in [("fragments", fragments), ("utterances", utterances)] {
            groups.push(sieve.group(name.to_owned(), None, texts.into_iter(), MADE_MIN_WORDS));
        }
        let (parts, texts): (Vec<Part>, Vec<Vec<String>>) = groups.into_iter().unzip();
        let mut texts = texts.concat();
        if texts.len() < 2 {
            return Err(RunError::Data(format!(
                "corpus: expected at least 2 texts, found {}; what became of the others: {}",
                texts.len(),
                serde_json::to_string(&parts).unwrap_or_default()
            )));
        }
        let mut rng = streams.rng(stream::DATAGEN, &[ORDER]);
        texts = shuffle(texts.len(), &mut rng)
            .into_iter()
            .map(|at| std::mem::take(&mut texts[at]))
            .collect();
        let mut hash = StreamingSha256::default();
        for text in &texts {
            hash.update(text.as_bytes());
            hash.update(b"\n");
        }
        Ok(Self {
            texts,
            parts,
            sha256: hash.finish(),
            held: options.held.sets.clone(),
        })
    }

    /// SHA-256 of every file and of the corpus, by name.
    pub fn hashes(&self) -> BTreeMap<String, String> {
        let files = self
            .parts
            .iter()
            .filter_map(|part| Some((part.name.clone(), part.sha256.clone()?)));
        files
            .chain([("corpus".to_owned(), self.sha256.clone())])
            .collect()
    }
}

/// Lets every text through once, and none of an evaluation set.
struct Sieve<'h> {
    held: &'h LeakIndex,
    seen: HashSet<String>,
}

impl Sieve<'_> {
    fn group(
        &mut self,
        name: String,
        sha256: Option<String>,
        texts: impl Iterator<Item = String>,
        min_words: usize,
    ) -> (Part, Vec<String>) {
        let (mut read, mut dropped, mut kept) = (0, Dropped::default(), Vec::new());
        for text in texts {
            read += 1;
            let words: Vec<&str> = text.split_whitespace().collect();
            let text = words.join(" ");
            let key = normalised(&text).replace(' ', "");
            if words.len() < min_words {
                dropped.short += 1;
            } else if key.is_empty() {
                dropped.no_letters += 1;
            } else if self.seen.contains(&key) {
                dropped.repeated += 1;
            } else if self.held.leaks(&[&text], LeakBy::Sentence) {
                dropped.leaked += 1;
            } else {
                self.seen.insert(key);
                kept.push(text);
            }
        }
        let part = Part {
            name,
            sha256,
            read,
            kept: kept.len(),
            dropped,
        };
        (part, kept)
    }
}

/// Applies the limits of a file.
fn choose(source: &Source, part: &mut Part, texts: &mut Vec<String>, rng: &mut impl Rng) {
    if let Some(words) = source.max_words {
        texts.retain(|text| text.split(' ').count() <= words);
        part.dropped.long = part.kept - texts.len();
    }
    if let Some(limit) = source.limit
        && texts.len() > limit
    {
        let chosen = shuffle(texts.len(), rng);
        part.dropped.not_chosen = texts.len() - limit;
        *texts = chosen
            .into_iter()
            .take(limit)
            .map(|at| std::mem::take(&mut texts[at]))
            .collect();
    }
    part.kept = texts.len();
}

/// Runs of words that lie between marks and conjunctions of random sentences; repeated ones among
/// them. Fewer than `count` if sentences are short.
fn fragments(sentences: &[&str], count: usize, rng: &mut impl Rng) -> Vec<String> {
    let mut out = Vec::new();
    let draws = match sentences.is_empty() {
        true => 0,
        false => count.saturating_mul(DRAWS_A_FRAGMENT),
    };
    let mut index = |length: usize| below(length as u64, rng) as usize;
    for _ in 0..draws {
        if out.len() >= count {
            break;
        }
        let parts = parts(sentences[index(sentences.len())]);
        if parts.is_empty() {
            continue;
        }
        let words = &parts[index(parts.len())];
        let length = MADE_MIN_WORDS + index(FRAGMENT_WORDS - MADE_MIN_WORDS + 1);
        let start = index(words.len().saturating_sub(length) + 1);
        let fragment = words[start..words.len().min(start + length)].join(" ");
        if fragment.chars().count() > FRAGMENT_CHARS {
            out.push(fragment);
        }
    }
    out
}

/// Words between marks and conjunctions.
fn parts(sentence: &str) -> Vec<Vec<&str>> {
    sentence
        .split(MARKS)
        .flat_map(|stretch| {
            let words: Vec<&str> = stretch.split_whitespace().collect();
            words
                .split(|word| CONJUNCTIONS.contains(word))
                .map(<[&str]>::to_vec)
                .collect::<Vec<_>>()
        })
        .filter(|words| !words.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn held(texts: &[&str]) -> Held {
        Held::new(&[EvalSet {
            name: "test".to_owned(),
            rows: texts.iter().map(|text| vec![(*text).to_owned()]).collect(),
        }])
    }

    fn write(dir: &Path, name: &str, text: &str) -> Source {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        Source::new(path)
    }

    /// A corpus with at most `made` fragments and messages each.
    fn corpus(sources: &[Source], held: &Held, made: usize, seed: u64) -> Result<Corpus, RunError> {
        Corpus::new(&CorpusOptions {
            sources,
            min_words: 3,
            fragments: made,
            utterances: made,
            held,
            seed,
        })
    }

    #[test]
    fn every_text_is_kept_once_or_counted_with_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let plain = write(
            dir.path(),
            "plain.txt",
            "a man  is running\nA man is running .\ntoo short\nthe cat sat\n... --- ...\n\
             one two three four five six\n",
        );
        let table = write(
            dir.path(),
            "pairs.tsv",
            "label\tpremise\thypothesis\nneutral\tthe dog ate it\tA man, is running!\n",
        );
        let sources = [
            Source {
                max_words: Some(5),
                ..plain
            },
            table,
        ];
        let corpus = corpus(&sources, &held(&["The cat sat!"]), 0, 1).unwrap();
        let mut texts = corpus.texts.clone();
        texts.sort();
        assert_eq!(texts, ["a man is running", "the dog ate it"]);
        let counts: Vec<(usize, usize, Dropped)> = corpus
            .parts
            .iter()
            .map(|part| (part.read, part.kept, part.dropped))
            .collect();
        let plain = Dropped {
            short: 1,
            no_letters: 1,
            repeated: 1,
            leaked: 1,
            long: 1,
            not_chosen: 0,
        };
        let table = Dropped {
            repeated: 1,
            ..Dropped::default()
        };
        let none = (0, 0, Dropped::default());
        assert_eq!(counts, [(6, 1, plain), (2, 1, table), none, none]);
        assert_eq!(corpus.hashes().len(), 3);
    }

    #[test]
    fn the_seed_decides_choice_and_order_and_everything_made() {
        let dir = tempfile::tempdir().unwrap();
        let lines: String = (0..200)
            .map(|n| format!("number {n} of a list, and then some words about it\n"))
            .collect();
        let sources = [Source {
            limit: Some(50),
            ..write(dir.path(), "a.txt", &lines)
        }];
        let held = held(&[]);
        let first = corpus(&sources, &held, 300, 1).unwrap();
        assert_eq!(first, corpus(&sources, &held, 300, 1).unwrap());
        let other = corpus(&sources, &held, 300, 2).unwrap();
        assert_ne!(first.texts, other.texts);
        assert_ne!(first.sha256, other.sha256);
        assert_eq!(first.parts[0].kept, 50);
        assert_eq!(first.parts[0].dropped.not_chosen, 150);
        assert!(first.parts[1].dropped.repeated > 0);
        // The grammar never repeats itself, fragments of so few words do.
        assert!(first.parts[2].kept > 290);
        let keys: HashSet<String> = first
            .texts
            .iter()
            .map(|text| normalised(text).replace(' ', ""))
            .collect();
        assert_eq!(keys.len(), first.texts.len());
    }

    #[test]
    fn fragments_stay_between_marks() {
        let sentence = "When it rains, the old dog and the cat (who is ill) stay at home";
        let found: Vec<String> = parts(sentence)
            .iter()
            .map(|words| words.join(" "))
            .collect();
        let wanted = [
            "When it rains",
            "the old dog",
            "the cat",
            "is ill",
            "stay at home",
        ];
        assert_eq!(found, wanted);
        let mut rng = Streams::new(1).rng(stream::DATAGEN, &[]);
        let fragments = fragments(&[sentence], 50, &mut rng);
        assert_eq!(fragments.len(), 50);
        for fragment in fragments {
            assert!(
                found.iter().any(|part| part.contains(&fragment)),
                "{fragment}"
            );
        }
    }

    #[test]
    fn held_texts_come_from_files_and_folders() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        write(
            &inner,
            "train.tsv",
            "text\tcoarse\nturn the light on\thome\n",
        );
        write(&inner, "names.tsv", "fine\tcoarse\nlight\thome\n");
        write(&inner, "README.md", "not a text of the set");
        let file = write(dir.path(), "more.txt", "what time is it\n");
        let held = Held::read(&[dir.path().join("a"), file.path]).unwrap();
        assert_eq!(held.sets[..2], ["pocket", "a/b/train.tsv"]);
        assert_eq!(held.sets.len(), 3);
        let leaks = |text: &str| held.index.leaks(&[text], LeakBy::Sentence);
        assert!(leaks("Turn the light on!") && leaks("What time is it?"));
        assert!(!leaks("not a text of the set"));
        let bundled = datasets::pocket().unwrap();
        assert!(leaks(&bundled.test.texts[0]));
        let empty = dir.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        assert!(Held::read(&[empty]).is_err());
    }

    #[test]
    fn nothing_to_learn_from_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let empty = write(dir.path(), "empty.txt", "");
        let error = corpus(&[empty], &held(&[]), 0, 1).unwrap_err().to_string();
        assert!(error.contains("empty.txt"), "{error}");
        let short = write(dir.path(), "short.txt", "one\ntwo\n");
        let error = corpus(&[short], &held(&[]), 0, 1).unwrap_err().to_string();
        assert!(error.contains("\"short\":2"), "{error}");
        assert!(corpus(&[], &held(&[]), 0, 1).is_err());
    }
}
