//! Source sentences and generated rows of a run: which train, which are held out, which the probes
//! take.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;

use datagen::simulation::Pattern;
use datasets::leakage::LeakBy;
use datasets::ngcse::NgcseSplit;
use datasets::{LeakIndex, NgcseOptions, load_ngcse};
use encoder::{Template, TextTokenizer};
use training::{Streams, shuffle, stream};

use super::config::NgcseConfig;
use super::corruption::Corruption;
use super::probe::ProbeSet;
use super::rules;
use super::setting::{Setting, row_keys, rows_key};
use crate::embedding::{Column, Form, SentenceFile, TextTable, bundled, dropped_note, file_name};
use crate::error::RunError;

/// Name of generated rows that are made from the source sentences by rules.
const RULES: &str = "rules";

/// Generated rows of one pattern.
#[derive(Clone, Debug, PartialEq)]
struct GeneratedTexts {
    /// The sentence and its companions, most similar first.
    rows: Vec<Vec<String>>,
    /// Source sentence that a row replaces; none if the sentence is not among them.
    sources: Vec<Option<usize>>,
}

/// Texts of a run.
#[derive(Clone, Debug)]
pub(crate) struct Corpus {
    /// Name of the data.
    pub(crate) name: String,
    /// SHA-256 of every file read, by name.
    pub(crate) hashes: BTreeMap<String, String>,
    /// What the loaders saw.
    pub(crate) notes: Vec<String>,
    sentences: Vec<String>,
    /// Entailment and contradiction of every sentence, by people.
    supervised: Option<[Vec<String>; 2]>,
    generated: BTreeMap<Pattern, GeneratedTexts>,
    held: Held,
    streams: Streams,
}

/// Which rows do not train.
#[derive(Clone, Debug, PartialEq)]
struct Held {
    sentences: Vec<bool>,
    generated: BTreeMap<Pattern, Vec<bool>>,
}

/// Texts of training as indices into a table, one list a column.
#[derive(Clone, Debug)]
pub(crate) struct TrainingTexts {
    pub(crate) texts: TextTable,
    anchors: Vec<usize>,
    /// The second column of ordinary rows, which has a template of its own.
    positives: BTreeMap<Setting, Vec<usize>>,
    supervised: Option<[Vec<usize>; 2]>,
    generated: BTreeMap<Pattern, Vec<Vec<usize>>>,
}

/// Rows of one training, column by column.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TrainingRows {
    /// Two or three columns; anchors first.
    pub(crate) ordinary: Vec<Vec<usize>>,
    /// Three or four columns; anchors first. Empty without generated rows.
    pub(crate) generated: Vec<Vec<usize>>,
}

impl TrainingRows {
    /// Number of ordinary rows; the generated ones are numbered after them.
    pub(crate) fn ordinary_rows(&self) -> usize {
        self.ordinary.first().map_or(0, Vec::len)
    }

    /// Number of generated rows.
    pub(crate) fn generated_rows(&self) -> usize {
        self.generated.first().map_or(0, Vec::len)
    }
}

impl Corpus {
    /// Reads what the settings name and decides what is held out.
    ///
    /// # Errors
    ///
    /// Files that cannot be read or do not have what the settings need.
    pub(crate) fn load(config: &NgcseConfig, leaks: &LeakIndex) -> Result<Self, RunError> {
        let mut corpus = Self {
            name: file_name(Path::new(&config.data)),
            hashes: BTreeMap::new(),
            notes: Vec::new(),
            sentences: Vec::new(),
            supervised: None,
            generated: BTreeMap::new(),
            held: Held {
                sentences: Vec::new(),
                generated: BTreeMap::new(),
            },
            streams: Streams::new(config.data_seed),
        };
        corpus.read_sentences(config, leaks)?;
        let mut files: BTreeMap<Pattern, Vec<Vec<String>>> = BTreeMap::new();
        for pattern in [Pattern::Sts, Pattern::Nli] {
            match config.rows_of(pattern) {
                Some(path) if path != RULES => {
                    let rows = corpus.read_generated(pattern, path, config, leaks)?;
                    files.insert(pattern, rows);
                }
                _ => {}
            }
        }
        for pattern in [Pattern::Sts, Pattern::Nli] {
            let Some(rows) = config.rows_of(pattern) else {
                continue;
            };
            let generated = if rows == RULES {
                corpus.by_rules(pattern, config.rule_sentences)?
            } else {
                let rows = files.remove(&pattern).unwrap_or_default();
                replace(&corpus.sentences, rows)
            };
            corpus.generated.insert(pattern, generated);
        }
        if config
            .settings
            .iter()
            .any(|name| name == Setting::Sup.name())
            && corpus.supervised.is_none()
        {
            return Err(RunError::Data(format!(
                "{}: expected three columns (premise, entailment, contradiction) for the setting sup, \
                 found sentences alone",
                config.data
            )));
        }
        corpus.held = corpus.hold_out(config.held_out);
        let held = corpus.held.sentences.iter().filter(|held| **held).count();
        corpus.notes.push(format!(
            "{} source sentences, {held} of them held out",
            corpus.sentences.len()
        ));
        Ok(corpus)
    }

    /// Number of source sentences.
    pub(crate) fn rows(&self) -> usize {
        self.sentences.len()
    }

    fn read_sentences(&mut self, config: &NgcseConfig, leaks: &LeakIndex) -> Result<(), RunError> {
        let mut columns = match config.data.as_str() {
            "" => return Ok(()),
            "pocket" => bundled::sentences()?,
            data => {
                let file = SentenceFile::load(Path::new(data), leaks, config.drop_leaks)?;
                self.notes.extend(file.notes);
                self.hashes.insert(file.name, file.sha256);
                file.columns
            }
        };
        if let [_, _, _] = columns.as_slice() {
            let contradictions = columns.pop().unwrap_or_default();
            let entailments = columns.pop().unwrap_or_default();
            self.supervised = Some([entailments, contradictions]);
        }
        self.sentences = columns.into_iter().next().unwrap_or_default();
        Ok(())
    }

    /// Generated rows of a file. Without source sentences those of the file take their place, the ones
    /// that nothing was generated for among them.
    fn read_generated(
        &mut self,
        pattern: Pattern,
        file: &str,
        config: &NgcseConfig,
        leaks: &LeakIndex,
    ) -> Result<Vec<Vec<String>>, RunError> {
        let path = Path::new(file);
        let options = NgcseOptions {
            lenient_keys: config.lenient_keys,
            ..NgcseOptions::default()
        };
        let found = load_ngcse(path, &options)?;
        self.notes.push(found.report.to_string());
        self.hashes
            .insert(file_name(path), found.report.sha256.clone());
        let list = |keys: &[&str]| match keys {
            [] => "none".to_owned(),
            keys => keys.join(", "),
        };
        let refuse = |message: String| {
            Err(RunError::File {
                path: path.to_owned(),
                message,
            })
        };
        if found.generated_keys != row_keys(pattern) {
            return refuse(format!(
                "expected generated rows (split aigen) with the keys {} for {}, found {}",
                list(&row_keys(pattern)),
                rows_key(pattern),
                list(&found.generated_keys),
            ));
        }
        if !found.other_keys.is_empty() {
            return refuse(format!(
                "expected other rows of a sentence alone, found the keys {}",
                list(&found.other_keys)
            ));
        }
        let check = leaks.check(found.rows.iter().map(|row| &row.texts));
        self.notes.push(check.to_string());
        let mut rows = found.rows;
        if config.drop_leaks {
            let before = rows.len();
            rows.retain(|row| !leaks.leaks(&row.texts, LeakBy::Sentence));
            self.notes.push(dropped_note(before - rows.len()));
        }
        if config.data.is_empty() {
            let mut known: HashMap<String, usize> = HashMap::new();
            for sentence in &self.sentences {
                *known.entry(sentence.clone()).or_default() += 1;
            }
            if self.name.is_empty() {
                self.name = file_name(path);
            }
            for row in &rows {
                let sentence = row.texts.first().cloned().unwrap_or_default();
                match known.get_mut(&sentence).filter(|count| **count > 0) {
                    // A sentence of the other file: the same one.
                    Some(count) => *count -= 1,
                    None => self.sentences.push(sentence),
                }
            }
        } else {
            let other = rows
                .iter()
                .filter(|row| row.split == NgcseSplit::Other)
                .count();
            if other > 0 {
                self.notes.push(format!(
                    "{}: {other} other rows left out, since data names the source sentences",
                    path.display()
                ));
            }
        }
        rows.retain(|row| row.split == NgcseSplit::Generated);
        Ok(rows.into_iter().map(|row| row.texts).collect())
    }

    /// Rows made by rules from the first source sentences.
    fn by_rules(&mut self, pattern: Pattern, most: usize) -> Result<GeneratedTexts, RunError> {
        let sentences = &self.sentences[..self.sentences.len().min(most)];
        let companions = rules::companions(pattern, sentences, self.streams.run_seed());
        let mut found = GeneratedTexts {
            rows: Vec::new(),
            sources: Vec::new(),
        };
        for ((at, sentence), companions) in sentences.iter().enumerate().zip(companions) {
            if let Some(companions) = companions {
                let mut row = vec![sentence.clone()];
                row.extend(companions);
                found.rows.push(row);
                found.sources.push(Some(at));
            }
        }
        self.notes.push(format!(
            "{}: rows by rules for {} of the first {} source sentences",
            rows_key(pattern),
            found.rows.len(),
            sentences.len()
        ));
        if found.rows.is_empty() {
            return Err(RunError::Data(format!(
                "{}: the rules find nothing to write about {} sentences",
                rows_key(pattern),
                sentences.len()
            )));
        }
        Ok(found)
    }

    /// The first share of a shuffled order is held out. A generated row goes with the sentence it
    /// replaces, so that all settings hold out the same sentences.
    fn hold_out(&self, share: f64) -> Held {
        let drawn = |rows: usize, key: u64| -> Vec<bool> {
            let mut held = vec![false; rows];
            let count = (share * rows as f64).floor() as usize;
            let order = shuffle(rows, &mut self.streams.rng(stream::SPLIT, &[key]));
            for row in order.iter().take(count) {
                held[*row] = true;
            }
            held
        };
        let sentences = drawn(self.sentences.len(), 0);
        let generated = self
            .generated
            .iter()
            .map(|(pattern, generated)| {
                let own = drawn(generated.rows.len(), 1 + *pattern as u64);
                let held = own.iter().zip(&generated.sources);
                let held = held.map(|(own, source)| source.map_or(*own, |at| sentences[at]));
                (*pattern, held.collect())
            })
            .collect();
        Held {
            sentences,
            generated,
        }
    }

    /// Ids of a corrupted sentence, cut and wrapped like any other text.
    fn corrupted(
        &self,
        corruption: Corruption,
        row: usize,
        shape: &Shape<'_>,
        template: Option<&Template>,
    ) -> Result<Vec<u32>, RunError> {
        let pieces = shape.tokenizer.pieces(&self.sentences[row])?;
        let keys = [corruption.key(), row as u64];
        let mut rng = self.streams.rng(stream::AUGMENT, &keys);
        let pieces = corruption.apply(&pieces, &mut rng);
        let special = shape.first.len() + shape.last.len();
        let room = shape.max_len.saturating_sub(special);
        let kept = &pieces[..pieces.len().min(room)];
        let ids = [shape.first.as_slice(), kept, shape.last.as_slice()].concat();
        Ok(template.map_or_else(|| ids.clone(), |template| template.wrap(&ids)))
    }

    /// Tokenises everything that `settings` train on.
    ///
    /// # Errors
    ///
    /// Those of the tokenizer.
    pub(crate) fn training_texts(
        &self,
        settings: &[Setting],
        form: &Form,
        tokenizer: &TextTokenizer,
        max_len: usize,
    ) -> Result<TrainingTexts, RunError> {
        let (a, b) = (form.template.as_ref(), form.positive.as_ref());
        let generated: Vec<(Pattern, Vec<Vec<String>>)> = self
            .generated
            .iter()
            .filter(|(pattern, _)| settings.iter().any(|one| one.pattern() == Some(**pattern)))
            .map(|(pattern, texts)| (*pattern, columns_of(&texts.rows)))
            .collect();
        let column = |texts, template| Column { texts, template };
        let mut columns = vec![
            column(self.sentences.as_slice(), a),
            column(&self.sentences, b),
        ];
        let supervised = self
            .supervised
            .as_ref()
            .filter(|_| settings.contains(&Setting::Sup));
        columns.extend(
            supervised
                .iter()
                .copied()
                .flatten()
                .map(|texts| column(texts, a)),
        );
        for (_, texts) in &generated {
            columns.extend(texts.iter().map(|texts| column(texts, a)));
        }
        let (mut texts, columns) = TextTable::new(&columns, tokenizer, max_len)?;
        let mut columns = columns.into_iter();
        let mut next = || columns.next().unwrap_or_default();
        let (anchors, dropout) = (next(), next());
        let supervised = supervised.map(|_| [next(), next()]);
        let generated = generated
            .iter()
            .map(|(pattern, texts)| (*pattern, texts.iter().map(|_| next()).collect()))
            .collect();
        let mut positives = BTreeMap::from([(Setting::Dropout, dropout)]);
        let shape = Shape::new(tokenizer, max_len)?;
        for (setting, corruption) in [
            (Setting::TokenCutoff, Corruption::Cutoff),
            (Setting::TokenShuffle, Corruption::Shuffle),
        ] {
            if !settings.contains(&setting) {
                continue;
            }
            let rows = (0..self.rows())
                .map(|row| Ok(texts.add(self.corrupted(corruption, row, &shape, b)?)))
                .collect::<Result<_, RunError>>()?;
            positives.insert(setting, rows);
        }
        Ok(TrainingTexts {
            texts,
            anchors,
            positives,
            supervised,
            generated,
        })
    }

    /// Rows that a setting trains on.
    pub(crate) fn training_rows(
        &self,
        texts: &TrainingTexts,
        setting: Setting,
        config: &NgcseConfig,
    ) -> TrainingRows {
        let mut rows = TrainingRows::default();
        let mut replaced = vec![false; self.rows()];
        if let Some(pattern) = setting.pattern()
            && let (Some(columns), Some(generated), Some(held)) = (
                texts.generated.get(&pattern),
                self.generated.get(&pattern),
                self.held.generated.get(&pattern),
            )
        {
            let chosen: Vec<usize> = (0..generated.rows.len())
                .filter(|row| !held[*row])
                .take(config.generated_limit())
                .collect();
            for source in chosen.iter().filter_map(|row| generated.sources[*row]) {
                replaced[source] = true;
            }
            if !chosen.is_empty() {
                rows.generated = select(columns, &chosen);
            }
        }
        let chosen: Vec<usize> = (0..self.rows())
            .filter(|row| !self.held.sentences[*row] && !replaced[*row])
            .filter(|_| !(config.only_aigen && setting.pattern().is_some()))
            .collect();
        let ordinary: Vec<&Vec<usize>> = match (setting, &texts.supervised) {
            (Setting::Sup, Some([entailments, contradictions])) => {
                vec![&texts.anchors, entailments, contradictions]
            }
            _ => {
                let positives = texts.positives.get(&setting);
                let positives = positives.or(texts.positives.get(&Setting::Dropout));
                std::iter::once(&texts.anchors).chain(positives).collect()
            }
        };
        rows.ordinary = ordinary
            .into_iter()
            .map(|column| chosen.iter().map(|row| column[*row]).collect())
            .collect();
        rows
    }

    /// The held-out sentences that the probes of a setting take, with their row of generated texts: of
    /// those of `aligned` probes every generated file has a row.
    fn probe_rows(&self, setting: Setting, aligned: bool) -> Vec<(Option<usize>, Option<usize>)> {
        // Generated row of every source sentence.
        let rows_of = |pattern: Pattern| -> BTreeMap<usize, usize> {
            let generated = self.generated.get(&pattern);
            let sources = generated.iter().flat_map(|generated| &generated.sources);
            let pairs = sources.enumerate();
            pairs
                .filter_map(|(row, source)| Some(((*source)?, row)))
                .collect()
        };
        let own: Option<BTreeMap<usize, usize>> = setting.pattern().map(rows_of);
        let held = |row: &usize| self.held.sentences[*row];
        let sentences = (0..self.rows()).filter(held);
        if aligned {
            let all: Vec<BTreeMap<usize, usize>> = self
                .generated
                .keys()
                .map(|pattern| rows_of(*pattern))
                .collect();
            return sentences
                .filter(|row| all.iter().all(|rows| rows.contains_key(row)))
                .map(|row| {
                    (
                        Some(row),
                        own.as_ref().and_then(|rows| rows.get(&row).copied()),
                    )
                })
                .collect();
        }
        let Some(pattern) = setting.pattern() else {
            return sentences.map(|row| (Some(row), None)).collect();
        };
        let held = self.held.generated.get(&pattern);
        let held = held
            .into_iter()
            .flatten()
            .enumerate()
            .filter(|(_, held)| **held);
        held.map(|(row, _)| (None, Some(row))).collect()
    }

    /// The probes of a setting in training data that is held out.
    ///
    /// # Errors
    ///
    /// [`RunError::Data`] if there are fewer than two rows; those of the tokenizer.
    pub(crate) fn probes(
        &self,
        setting: Setting,
        config: &NgcseConfig,
        form: &Form,
        tokenizer: &TextTokenizer,
        positions: usize,
    ) -> Result<ProbeSet, RunError> {
        let aligned = config.rfd.sentences == "aligned";
        let mut rows = self.probe_rows(setting, aligned);
        rows.truncate(config.rfd.rows);
        if rows.len() < 2 {
            let hint = if aligned {
                "; rfd.sentences=own takes others for every setting, rfd.rows=0 does without probes"
            } else {
                "; rfd.rows=0 does without probes"
            };
            return Err(RunError::Data(format!(
                "held_out={}: expected at least 2 held-out rows of {setting} for the probes, found \
                 {}{hint}",
                config.held_out,
                rows.len(),
            )));
        }
        let template = form.template.as_ref();
        let room = positions.saturating_sub(template.map_or(0, Template::added));
        let max_len = config.rfd.max_len.min(room);
        let generated = setting
            .pattern()
            .and_then(|pattern| self.generated.get(&pattern));
        // The texts of every row, the sentence first.
        let texts: Vec<Vec<String>> = rows
            .iter()
            .map(|(source, row)| match (generated, row, source) {
                (Some(generated), Some(row), _) => generated.rows[*row].clone(),
                (_, _, Some(at)) => {
                    let mut texts = vec![self.sentences[*at].clone()];
                    if let (Setting::Sup, Some(columns)) = (setting, &self.supervised) {
                        texts.extend(columns.iter().map(|column| column[*at].clone()));
                    }
                    texts
                }
                _ => Vec::new(),
            })
            .collect();
        let columns = columns_of(&texts);
        let views: Vec<Column<'_>> = columns
            .iter()
            .map(|texts| Column { texts, template })
            .collect();
        let (mut table, mut columns) = TextTable::new(&views, tokenizer, max_len)?;
        let corruption = match setting {
            Setting::TokenCutoff => Some(Corruption::Cutoff),
            Setting::TokenShuffle => Some(Corruption::Shuffle),
            _ => None,
        };
        if let Some(corruption) = corruption {
            let shape = Shape::new(tokenizer, max_len)?;
            let sources = rows.iter().filter_map(|(source, _)| *source);
            let column = sources
                .map(|row| Ok(table.add(self.corrupted(corruption, row, &shape, template)?)))
                .collect::<Result<_, RunError>>()?;
            columns.push(column);
        }
        let of = |column: usize, row: usize| columns.get(column).map(|column| column[row]);
        let pairs = (0..rows.len())
            .filter_map(|row| Some((of(0, row)?, of(setting.probe_positive(), row)?)))
            .collect();
        let spread = (0..rows.len())
            .flat_map(|row| {
                setting
                    .probe_spread()
                    .iter()
                    .map(move |column| (*column, row))
            })
            .filter_map(|(column, row)| of(column, row))
            .take(config.rfd.rows)
            .collect();
        Ok(ProbeSet::new(table, pairs, spread))
    }
}

/// How ids are put around word pieces.
struct Shape<'t> {
    tokenizer: &'t TextTokenizer,
    first: Vec<u32>,
    last: Vec<u32>,
    max_len: usize,
}

impl<'t> Shape<'t> {
    fn new(tokenizer: &'t TextTokenizer, max_len: usize) -> Result<Self, RunError> {
        let empty = tokenizer.encode(&[""], max_len)?.concat();
        let (first, last) = empty.split_at(empty.len().div_ceil(2));
        Ok(Self {
            tokenizer,
            first: first.to_vec(),
            last: last.to_vec(),
            max_len,
        })
    }
}

/// Gives every generated row the source sentence it was made from, each sentence once.
fn replace(sentences: &[String], rows: Vec<Vec<String>>) -> GeneratedTexts {
    let mut places: HashMap<&str, VecDeque<usize>> = HashMap::new();
    for (at, sentence) in sentences.iter().enumerate() {
        places.entry(sentence).or_default().push_back(at);
    }
    let sources = rows
        .iter()
        .map(|row| places.get_mut(row.first()?.as_str())?.pop_front())
        .collect();
    GeneratedTexts { rows, sources }
}

/// Rows of equal length as columns.
fn columns_of(rows: &[Vec<String>]) -> Vec<Vec<String>> {
    let width = rows.first().map_or(0, Vec::len);
    (0..width)
        .map(|column| rows.iter().map(|row| row[column].clone()).collect())
        .collect()
}

/// The chosen rows of every column.
fn select(columns: &[Vec<usize>], rows: &[usize]) -> Vec<Vec<usize>> {
    columns
        .iter()
        .map(|column| rows.iter().map(|row| column[*row]).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use datasets::TextRule;
    use tempfile::TempDir;

    use super::*;

    const ROWS: usize = 40;

    fn sentence(row: usize) -> String {
        let words = ["play", "song", "turn", "off", "light"];
        let word = |at: usize| words[(row + at * row / 5) % words.len()];
        format!("{} {} number {}", word(1), word(2), "a ".repeat(row))
    }

    fn tokenizer() -> TextTokenizer {
        let pieces = [
            "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "song", "turn", "off", "light",
            "number", "a", "b", "means",
        ];
        TextTokenizer::from_word_pieces(&pieces).unwrap()
    }

    fn plain() -> Form {
        Form {
            pooling: encoder::Pooling::Mean,
            template: None,
            positive: None,
        }
    }

    struct Files {
        dir: TempDir,
        config: NgcseConfig,
    }

    impl Files {
        /// Sentences, and STS rows for the even ones.
        fn new() -> Self {
            let files = Self {
                dir: tempfile::tempdir().unwrap(),
                config: NgcseConfig {
                    settings: vec!["dropout".into(), "sts_ht".into()],
                    held_out: 0.5,
                    ..NgcseConfig::default()
                },
            };
            let sentences: String = (0..ROWS)
                .map(|row| sentence(row).trim().to_owned() + "\n")
                .collect();
            let mut files = files;
            files.config.data = files.write("data.txt", &sentences);
            files.config.sts_rows = files.write("sts.jsonl", &sts((0..ROWS).step_by(2)));
            files
        }

        fn write(&self, name: &str, text: &str) -> String {
            let path = self.dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        }

        fn load(&self) -> Result<Corpus, RunError> {
            Corpus::load(&self.config, &LeakIndex::new(&[], TextRule::default()))
        }
    }

    fn sts(rows: impl Iterator<Item = usize>) -> String {
        rows.map(|row| {
            let text = sentence(row);
            let text = text.trim();
            format!(
                "{{\"sentence\":\"{text}\",\"5\":\"b {row} 5\",\"4\":\"b {row} 4\",\"3\":\"b {row} 3\",\
                 \"split\":\"aigen\"}}\n"
            )
        })
        .collect()
    }

    fn rows(corpus: &Corpus, setting: Setting, config: &NgcseConfig) -> TrainingRows {
        let texts = corpus
            .training_texts(&[Setting::Dropout, setting], &plain(), &tokenizer(), 64)
            .unwrap();
        corpus.training_rows(&texts, setting, config)
    }

    #[test]
    fn generated_rows_take_the_place_of_their_sentences() {
        let files = Files::new();
        let corpus = files.load().unwrap();
        let held = &corpus.held.sentences;
        assert_eq!(held.iter().filter(|held| **held).count(), ROWS / 2);
        let kept = |parity: usize| {
            (0..ROWS)
                .filter(|row| row % 2 == parity && !held[*row])
                .count()
        };
        let found = rows(&corpus, Setting::StsHt, &files.config);
        assert_eq!((found.ordinary.len(), found.generated.len()), (2, 4));
        assert_eq!(
            (found.ordinary_rows(), found.generated_rows()),
            (kept(1), kept(0))
        );
        // Without generated rows all sentences train, and no sentence that is held out elsewhere.
        let dropout = rows(&corpus, Setting::Dropout, &files.config);
        assert_eq!(
            (dropout.ordinary_rows(), dropout.generated_rows()),
            (ROWS / 2, 0)
        );
        assert_eq!(dropout.ordinary[0], dropout.ordinary[1]);

        for (limit, generated) in [(-1, kept(0)), (0, 0), (3, 3), (100, kept(0))] {
            let config = NgcseConfig {
                max_generated: limit,
                ..files.config.clone()
            };
            let found = rows(&corpus, Setting::StsHt, &config);
            let counts = (found.ordinary_rows(), found.generated_rows());
            assert_eq!(counts, (ROWS / 2 - generated, generated));
        }
        let alone = NgcseConfig {
            only_aigen: true,
            ..files.config.clone()
        };
        let found = rows(&corpus, Setting::StsHt, &alone);
        assert_eq!(
            (found.ordinary_rows(), found.generated_rows()),
            (0, kept(0))
        );
        assert_eq!(
            rows(&corpus, Setting::Dropout, &alone).ordinary_rows(),
            ROWS / 2
        );
    }

    #[test]
    fn sentences_from_elsewhere_train_beside_the_others() {
        let mut files = Files::new();
        let more = sts(0..1) + &sts(100..110);
        files.config.sts_rows = files.write("sts.jsonl", &more);
        files.config.held_out = 0.2;
        let corpus = files.load().unwrap();
        let generated = &corpus.generated[&Pattern::Sts];
        assert_eq!(generated.sources[..2], [Some(0), None]);
        let held = &corpus.held.generated[&Pattern::Sts];
        assert_eq!(held[0], corpus.held.sentences[0]);
        let found = rows(&corpus, Setting::Sts, &files.config);
        let kept = held.iter().filter(|held| !**held).count();
        assert_eq!(found.generated_rows(), kept);
        // A sentence that comes twice is replaced by two rows.
        let twice = replace(
            &["a".to_owned(), "b".to_owned(), "a".to_owned()],
            ["a", "a", "a", "b"]
                .map(|text| vec![text.to_owned()])
                .to_vec(),
        );
        assert_eq!(twice.sources, [Some(0), Some(2), None, Some(1)]);
    }

    #[test]
    fn a_generated_file_can_be_all_there_is() {
        let mut files = Files::new();
        let other = "{\"sentence\":\"play it\",\"split\":\"other\"}\n";
        files.config.sts_rows = files.write("sts.jsonl", &(sts(0..10) + other));
        files.config.data = String::new();
        let corpus = files.load().unwrap();
        assert_eq!((corpus.rows(), corpus.name.as_str()), (11, "sts.jsonl"));
        assert_eq!(corpus.generated[&Pattern::Sts].sources[9], Some(9));
        // With sentences of their own the others are left out, and that is said.
        files.config.data = files
            .dir
            .path()
            .join("data.txt")
            .to_str()
            .unwrap()
            .to_owned();
        let corpus = files.load().unwrap();
        assert_eq!(corpus.rows(), ROWS);
        assert!(
            corpus
                .notes
                .iter()
                .any(|note| note.contains("1 other rows left out"))
        );
    }

    #[test]
    fn probes_take_held_out_sentences_that_all_files_have() {
        let mut files = Files::new();
        let nli: String = (0..ROWS)
            .filter(|row| row % 3 == 0)
            .map(|row| {
                let text = sentence(row);
                let text = text.trim();
                format!(
                    "{{\"sentence\":\"{text}\",\"5\":\"b\",\"4\":\"b b\",\"split\":\"aigen\"}}\n"
                )
            })
            .collect();
        files.config.nli_rows = files.write("nli.jsonl", &nli);
        let corpus = files.load().unwrap();
        let expected: Vec<usize> = (0..ROWS)
            .filter(|row| row % 6 == 0 && corpus.held.sentences[*row])
            .collect();
        assert!(expected.len() > 1);
        for setting in [Setting::Dropout, Setting::Nli, Setting::StsHt] {
            let found = corpus.probe_rows(setting, true);
            let sentences: Vec<usize> = found.iter().filter_map(|(row, _)| *row).collect();
            assert_eq!(sentences, expected, "{setting}");
            for (sentence_row, generated) in found {
                let generated = generated.map(|row| {
                    let pattern = setting.pattern().unwrap();
                    corpus.generated[&pattern].rows[row][0].clone()
                });
                let own = setting
                    .pattern()
                    .map(|_| corpus.sentences[sentence_row.unwrap()].clone());
                assert_eq!(generated, own);
            }
        }
        // Each setting for itself: all that is held out.
        let own = |setting| corpus.probe_rows(setting, false).len();
        assert_eq!(own(Setting::Dropout), ROWS / 2);
        let held = |step: usize| {
            (0..ROWS)
                .step_by(step)
                .filter(|row| corpus.held.sentences[*row])
        };
        assert_eq!(own(Setting::Nli), held(3).count());
        assert_eq!(own(Setting::Sts), held(2).count());
        for setting in [Setting::TokenCutoff, Setting::StsHt] {
            let set = corpus
                .probes(setting, &files.config, &plain(), &tokenizer(), 64)
                .unwrap();
            assert_eq!(set.rows(), expected.len());
        }
    }

    #[test]
    fn corrupted_sentences_are_cut_and_wrapped_like_others() {
        let mut files = Files::new();
        files.config.sts_rows = String::new();
        let corpus = files.load().unwrap();
        let tokenizer = tokenizer();
        let [a, b] = ["{s} [MASK]", "b {s} means [MASK]"]
            .map(|text| Some(Template::new(text, &tokenizer).unwrap()));
        let form = Form {
            pooling: encoder::Pooling::Mask,
            template: a,
            positive: b,
        };
        let settings = [
            Setting::Dropout,
            Setting::TokenCutoff,
            Setting::TokenShuffle,
        ];
        let texts = corpus
            .training_texts(&settings, &form, &tokenizer, 20)
            .unwrap();
        let sorted = |mut ids: Vec<u32>| {
            ids.sort_unstable();
            ids
        };
        for row in 0..ROWS {
            let of = |column: &[usize]| texts.texts.rows(&[column[row]])[0].to_vec();
            let anchor = of(&texts.anchors);
            assert_eq!(anchor[anchor.len() - 2], 4);
            let pieces = tokenizer.pieces(&corpus.sentences[row]).unwrap().len();
            for setting in settings {
                let positive = of(&texts.positives[&setting]);
                // [CLS] b ... means [MASK] [SEP]
                assert_eq!(positive[..2], [2, 12], "{setting}");
                assert_eq!(positive[positive.len() - 3..], [13, 4, 3]);
                let removed = match setting {
                    Setting::TokenCutoff if pieces > 10 && pieces < 30 => 1,
                    Setting::TokenCutoff if pieces >= 30 => 2,
                    _ => 0,
                };
                assert_eq!(
                    positive.len(),
                    (pieces - removed).min(18) + 5,
                    "{setting} {row}"
                );
            }
            if pieces <= 18 {
                let [plain, other] =
                    [Setting::Dropout, Setting::TokenShuffle].map(|one| of(&texts.positives[&one]));
                assert_eq!(sorted(plain), sorted(other));
            }
        }
        let again = files.load().unwrap();
        let again = again
            .training_texts(&settings, &form, &tokenizer, 20)
            .unwrap();
        assert_eq!(again.texts.all(), texts.texts.all());
    }

    #[test]
    fn what_a_setting_lacks_is_said() {
        let refused = |change: &dyn Fn(&mut Files)| {
            let mut files = Files::new();
            change(&mut files);
            match files.load() {
                Err(error) => {
                    assert_eq!(error.exit_code(), 2);
                    error.to_string()
                }
                Ok(_) => panic!("accepted"),
            }
        };
        let error = refused(&|files| files.config.settings.push("sup".into()));
        assert!(
            error.contains("three columns") && error.contains("data.txt"),
            "{error}"
        );
        let error = refused(&|files| {
            files.config.nli_rows = files.config.sts_rows.clone();
        });
        assert!(
            error.contains("keys 5, 4 for nli_rows, found 5, 4, 3"),
            "{error}"
        );
        let error = refused(&|files| {
            let row = "{\"sentence\":\"a\",\"5\":\"b\",\"split\":\"other\"}\n";
            files.config.sts_rows = files.write("sts.jsonl", &(sts(0..2) + row));
        });
        assert!(
            error.contains("sentence alone, found the keys 5"),
            "{error}"
        );
        let files = Files::new();
        let corpus = files.load().unwrap();
        let mut config = files.config.clone();
        config.rfd.rows = 1;
        let error = corpus
            .probes(Setting::StsHt, &config, &plain(), &tokenizer(), 64)
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("at least 2 held-out rows of sts_ht"),
            "{error}"
        );
    }
}
