//! Rows of a file through a model: chunk by chunk, in bounded memory, answers in the order of the
//! rows; to standard output as they come, or to a file by way of [`parts`].

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use columnar::{Column, ColumnarError, Reader, Writer};
use datasets::hash::sha256_file;
use serde_json::{Map, Value, json};
use training::StopFlag;

use crate::error::CliError;
use crate::input::TextArgs;
use crate::output::Output;
use crate::rows::form::{InForm, OutForm};
use crate::rows::parts::{Opened, Parts, Replace, write_whole_with};
use crate::rows::progress::Progress;
use crate::rows::source::{Chunk, Source, TEXT, Wanted};

pub(crate) mod form;
pub(crate) mod parts;
mod progress;
pub(crate) mod source;

/// Options about files of rows.
#[derive(Debug, clap::Args)]
pub(crate) struct RowArgs {
    /// File with a text a row: .txt, .tsv, .csv, .jsonl, .parquet or .arrow; `-` is standard input.
    #[arg(long = "in", value_name = "FILE", conflicts_with_all = ["texts", "file"])]
    input: Option<PathBuf>,
    /// Form of --in, where its name does not say it.
    #[arg(long, value_name = "FORM", value_enum, requires = "input")]
    in_format: Option<InForm>,
    /// Column or field with the texts.
    #[arg(long = "text", value_name = "COLUMN", default_value = TEXT, requires = "input")]
    text_column: String,
    /// File to write: .tsv, .jsonl, .parquet or .arrow; `-` is standard output. It is there when it
    /// is complete; what a killed command has done is kept in FILE.parts, and the same command goes on
    /// from there.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Form of the output, where the name of --out does not say it (default: plain).
    #[arg(long, value_name = "FORM", value_enum, conflicts_with = "json")]
    format: Option<OutForm>,
    /// Rows that are read, computed and saved together.
    #[arg(long, value_name = "ROWS", default_value_t = 8192, value_parser = crate::model::positive)]
    chunk: usize,
    /// Do only shard I of N, from 0/N to N-1/N: a run of whole chunks. The shards one after the other
    /// are the whole.
    #[arg(long, value_name = "I/N", requires = "input", requires = "out")]
    shard: Option<Shard>,
    /// Throw away what an earlier run has left in FILE.parts.
    #[arg(long, requires = "out")]
    restart: bool,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
}

/// One of several equal pieces of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard {
    index: u64,
    count: u64,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(index, count)| {
            let shard = Self {
                index: index.parse().ok()?,
                count: count.parse().ok()?,
            };
            (shard.index < shard.count).then_some(shard)
        });
        numbers.ok_or_else(|| "expected I/N with I from 0 to N-1, such as 0/3".to_owned())
    }
}

impl Shard {
    /// First chunk of this shard and first of the next.
    fn range(self, chunks: u64) -> (u64, u64) {
        let start = |index: u64| {
            let at = u128::from(chunks) * u128::from(index) / u128::from(self.count);
            u64::try_from(at).unwrap_or(chunks)
        };
        (start(self.index), start(self.index + 1))
    }
}

/// What a command does with the rows.
pub(crate) trait Task {
    /// Answers to a chunk.
    type Answers;

    /// Everything that the output depends on, apart from the input and the options of [`RowArgs`].
    fn settings(&self) -> Map<String, Value>;

    /// Files written beside the output.
    fn targets(&self) -> Vec<&Path> {
        Vec::new()
    }

    /// Answers to the rows of a chunk.
    fn answer(&self, chunk: &Chunk) -> Result<Self::Answers, CliError>;

    /// Names of the fields of a TSV file, if it begins with them.
    fn header(&self) -> Option<&'static str> {
        None
    }

    /// Answers as lines.
    fn lines(
        &self,
        chunk: &Chunk,
        answers: &Self::Answers,
        form: OutForm,
        out: &mut Output<Vec<u8>>,
    ) -> Result<(), CliError>;

    /// Answers as columns.
    fn columns(&self, answers: Self::Answers) -> Vec<Column>;

    /// Endings of what is kept beside each part; [`beside`](Self::beside) gives one of each.
    fn endings(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// What is kept beside the part of a chunk.
    fn beside(
        &self,
        _chunk: &Chunk,
        _answers: &Self::Answers,
    ) -> Result<Vec<(&'static str, Vec<u8>)>, CliError> {
        Ok(Vec::new())
    }

    /// Receives all that [`beside`](Self::beside) gave, in the order of the rows.
    fn collect(&mut self, _ending: &'static str, _bytes: Vec<u8>) -> Result<(), CliError> {
        Ok(())
    }

    /// Everything was collected.
    fn finish(&mut self) -> Result<(), CliError> {
        Ok(())
    }
}

impl RowArgs {
    /// Whether answers are expected one by one, as typed or piped in, and not by the file.
    pub(crate) fn is_interactive(&self) -> bool {
        self.input.is_none() && self.file().is_none()
    }

    /// Rows that are computed together.
    pub(crate) fn chunk(&self) -> usize {
        self.chunk
    }

    /// Whether the output goes to a file.
    pub(crate) fn is_file(&self) -> bool {
        self.file().is_some()
    }

    /// The file to write.
    fn file(&self) -> Option<&Path> {
        self.out.as_deref().filter(|path| *path != Path::new("-"))
    }

    fn form(&self, json: bool) -> Result<OutForm, CliError> {
        match (self.format, json, self.file()) {
            (Some(form), _, _) => Ok(form),
            (None, true, _) => Ok(OutForm::Jsonl),
            (None, false, Some(path)) => OutForm::of(path),
            (None, false, None) => Ok(OutForm::Plain),
        }
    }

    /// Opens --in, or else what the other options say.
    fn source(
        &self,
        texts: &TextArgs,
        coarse: Option<&str>,
        all_columns: bool,
    ) -> Result<Source, CliError> {
        let wanted = Wanted {
            text: self.text_column.clone(),
            coarse: coarse.map(str::to_owned),
        };
        let (path, form) = match (&self.input, texts.path()) {
            (Some(path), _) => (
                path.clone(),
                self.in_format.map_or_else(|| InForm::of(path), Ok)?,
            ),
            (None, Some(path)) => (path, InForm::Txt),
            (None, None) => return Ok(Source::texts(texts.clone().open()?)),
        };
        Source::open(&path, form, wanted, self.chunk, all_columns)
    }

    /// Does the work. Without --in and --out, `group` texts are answered at a time.
    pub(crate) fn run<T: Task>(
        &self,
        task: &mut T,
        texts: TextArgs,
        json: bool,
        coarse: Option<&str>,
        group: usize,
    ) -> Result<(), CliError> {
        let form = self.form(json)?;
        let file = self.input.clone().or_else(|| texts.path());
        let file = file.filter(|path| path != Path::new("-"));
        let open = || self.source(&texts, coarse, form.columnar().is_some());
        match self.file() {
            Some(out) => self.to_file(task, &open, file.as_deref(), out, form),
            None => {
                parts::refuse_existing(&task.targets(), self.replace())?;
                let rows = if self.is_interactive() {
                    group
                } else {
                    self.chunk
                };
                to_standard_output(task, open()?, form, rows, file.is_none())
            }
        }
    }

    fn replace(&self) -> Replace {
        Replace {
            restart: self.restart,
            force: self.force,
        }
    }

    fn to_file<T: Task>(
        &self,
        task: &mut T,
        open: &dyn Fn() -> Result<Source, CliError>,
        file: Option<&Path>,
        out: &Path,
        form: OutForm,
    ) -> Result<(), CliError> {
        let mut made_of = task.settings();
        made_of.insert("version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
        made_of.insert("form".to_owned(), json!(form.ending()));
        made_of.insert("text".to_owned(), json!(self.text_column));
        made_of.insert("chunk".to_owned(), json!(self.chunk));
        let shard = self.shard.map(|shard| [shard.index, shard.count]);
        made_of.insert("shard".to_owned(), json!(shard));
        match file {
            Some(path) => {
                let (sha256, bytes) = sha256_file(path).map_err(CliError::file("read", path))?;
                made_of.insert("input_sha256".to_owned(), json!(sha256));
                made_of.insert("input_bytes".to_owned(), json!(bytes));
            }
            None if parts::folder(out).join("manifest.json").exists() && !self.restart => {
                return Err(CliError::Parts {
                    path: parts::folder(out),
                    problem: "texts from standard input or the command line cannot be compared \
                              with those of the earlier run; nothing was changed"
                        .to_owned(),
                    help: "put the texts into a file, or begin anew with --restart".to_owned(),
                });
            }
            None => {}
        }
        let (first, end) = match (self.shard, file) {
            (None, _) => (0, u64::MAX),
            (Some(shard), Some(_)) => {
                let mut source = open()?;
                let mut chunks = 0;
                while source.next(self.chunk)?.is_some() {
                    chunks += 1;
                }
                shard.range(chunks)
            }
            (Some(_), None) => {
                return Err(CliError::Option {
                    option: "--shard",
                    problem: "needs a file: how much there is to share out cannot be known of \
                              standard input"
                        .to_owned(),
                });
            }
        };

        // Columns that clash show before anything is written.
        let mut source = open()?;
        let like = source.empty_table()?;
        let like = match form.columnar() {
            Some(format) => Some((format, like.with(emptied(task)?)?)),
            None => None,
        };
        let mut targets = task.targets();
        targets.push(out);
        let parts = match Parts::open(out, form.ending(), made_of, &targets, self.replace())? {
            Opened::Parts(parts) => parts,
            Opened::Complete => return Ok(()),
        };
        let stop = StopFlag::install().map_err(experiments::error::RunError::from)?;
        let mut progress = Progress::new();
        let mut index = 0;
        let mut rows = 0_u64;
        let mut kept = 0_u64;
        while index < end
            && let Some(chunk) = source.next(self.chunk)?
        {
            if index >= first {
                rows += chunk.texts.len() as u64;
                if parts.has(index) {
                    kept += chunk.texts.len() as u64;
                    progress.skip(source.fraction());
                } else {
                    let answers = task.answer(&chunk)?;
                    let beside = task.beside(&chunk, &answers)?;
                    let bytes = part(task, &source, &chunk, answers, form)?;
                    parts.write(index, &bytes, &beside)?;
                    progress.done(chunk.texts.len(), source.fraction());
                }
            } else {
                progress.skip(source.fraction());
            }
            index += 1;
            if let Some(interruption) = stop.requested() {
                return Err(CliError::Interrupted {
                    interruption,
                    rows,
                    help: "the same command goes on from there".to_owned(),
                });
            }
        }
        let done = first.min(index)..index;
        for part in done.clone() {
            for ending in task.endings() {
                task.collect(ending, parts.beside(part, ending)?)?;
            }
        }
        task.finish()?;
        // The files of shards, one after the other, are the file of the whole.
        let leads = self.shard.is_none_or(|shard| shard.index == 0);
        let header = task.header().filter(|_| form == OutForm::Tsv && leads);
        write_whole_with(out, |file| match like {
            Some((format, like)) => {
                let failed = |error| match error {
                    ColumnarError::Write(source) => CliError::file("write", out)(source),
                    other => other.into(),
                };
                let mut writer = Writer::new(format, file, &like).map_err(failed)?;
                for part in done {
                    // One row group a part, as it was.
                    let mut reader = Reader::open(&parts.part(part), usize::MAX)?;
                    while let Some(table) = reader.next_table()? {
                        writer.write(&table).map_err(failed)?;
                    }
                }
                writer.finish().map_err(failed)?;
                Ok(())
            }
            None => {
                let failed = || CliError::file("write", out);
                if let Some(header) = header {
                    writeln!(file, "{header}").map_err(failed())?;
                }
                for part in done {
                    let path = parts.part(part);
                    let mut part = File::open(&path).map_err(CliError::file("open", &path))?;
                    io::copy(&mut part, file).map_err(failed())?;
                }
                Ok(())
            }
        })?;
        parts.conclude()?;
        let computed = progress.finish();
        if kept > 0 {
            eprintln!(
                "{}: {rows} rows, {kept} of them from before; {computed}",
                out.display()
            );
        } else {
            eprintln!("{}: {computed}", out.display());
        }
        Ok(())
    }
}

/// A chunk's share of the file.
fn part<T: Task>(
    task: &T,
    source: &Source,
    chunk: &Chunk,
    answers: T::Answers,
    form: OutForm,
) -> Result<Vec<u8>, CliError> {
    match form.columnar() {
        Some(format) => {
            let table = source.table(chunk)?.with(task.columns(answers))?;
            let mut writer = Writer::new(format, Vec::new(), &table)?;
            writer.write(&table)?;
            Ok(writer.finish()?)
        }
        None => {
            let mut lines = Output::new(Vec::new());
            task.lines(chunk, &answers, form, &mut lines)?;
            lines.into_inner()
        }
    }
}

/// The columns of a task's answers, without rows.
fn emptied<T: Task>(task: &T) -> Result<Vec<Column>, CliError> {
    let columns = task.columns(task.answer(&Chunk::of(""))?);
    Ok(columns.into_iter().map(Column::emptied).collect())
}

/// Where answers go as they come.
enum Sink {
    Lines(Output<io::StdoutLock<'static>>),
    Columns(Box<Writer<BufWriter<io::Stdout>>>),
}

fn to_standard_output<T: Task>(
    task: &mut T,
    mut source: Source,
    form: OutForm,
    rows: usize,
    waits: bool,
) -> Result<(), CliError> {
    // Someone who is waited for ends the command at once; a file ends after a whole chunk.
    let stop = if waits {
        StopFlag::new()
    } else {
        StopFlag::install().map_err(experiments::error::RunError::from)?
    };
    let mut sink = match form.columnar() {
        Some(format) => {
            let out = BufWriter::with_capacity(1 << 16, io::stdout());
            let like = source.empty_table()?.with(emptied(task)?)?;
            let mut writer = Writer::new(format, out, &like)?;
            // The reader may want to know the columns before it sends rows.
            writer.flush()?;
            Sink::Columns(Box::new(writer))
        }
        None => {
            let mut output = Output::stdout();
            if let Some(header) = task.header().filter(|_| form == OutForm::Tsv) {
                output.line(header)?;
            }
            Sink::Lines(output)
        }
    };
    let mut done = 0;
    while let Some(chunk) = source.next(rows)? {
        let answers = task.answer(&chunk)?;
        for (ending, bytes) in task.beside(&chunk, &answers)? {
            task.collect(ending, bytes)?;
        }
        done += chunk.texts.len() as u64;
        match &mut sink {
            Sink::Lines(output) => {
                let mut lines = Output::new(Vec::new());
                task.lines(&chunk, &answers, form, &mut lines)?;
                output.bytes(&lines.into_inner()?)?;
                output.flush()?;
            }
            Sink::Columns(writer) => {
                let table = source.table(&chunk)?.with(task.columns(answers))?;
                writer.write(&table)?;
                writer.flush()?;
            }
        }
        if let Some(interruption) = stop.requested() {
            return Err(CliError::Interrupted {
                interruption,
                rows: done,
                help: "with --out FILE the same command would go on from there".to_owned(),
            });
        }
    }
    task.finish()?;
    match sink {
        Sink::Lines(mut output) => output.flush(),
        Sink::Columns(writer) => {
            let mut out = writer.finish()?;
            out.flush().map_err(CliError::Output)
        }
    }
}

/// Equal texts once: the different ones in the order in which they come, and for each row the place
/// of its text.
pub(crate) fn distinct<K: Eq + std::hash::Hash + Clone>(
    keys: impl Iterator<Item = K>,
) -> (Vec<K>, Vec<usize>) {
    let mut places = std::collections::HashMap::new();
    let mut different = Vec::new();
    let rows = keys
        .map(|key| {
            *places.entry(key.clone()).or_insert_with(|| {
                different.push(key);
                different.len() - 1
            })
        })
        .collect();
    (different, rows)
}

/// SHA-256 over the names and digests of the files of a model directory, so that parts of different
/// models are never mixed.
pub(crate) fn model_digest(dir: &Path) -> Result<String, CliError> {
    let mut folders = vec![dir.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let failed = || CliError::file("read", &folder);
        for entry in std::fs::read_dir(&folder).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut digest = datasets::hash::StreamingSha256::default();
    for path in files {
        let (sha256, _) = sha256_file(&path).map_err(CliError::file("read", &path))?;
        let name = path.strip_prefix(dir).unwrap_or(&path);
        digest.update(format!("{sha256}  {}\n", name.display()).as_bytes());
    }
    Ok(digest.finish())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shards_cover_all_chunks_once() {
        for chunks in [0, 1, 2, 3, 7, 100] {
            for count in 1..9 {
                let mut next = 0;
                for index in 0..count {
                    let (first, end) = Shard { index, count }.range(chunks);
                    assert_eq!(first, next);
                    assert!(end - first <= chunks / count + 1);
                    next = end;
                }
                assert_eq!(next, chunks);
            }
        }
        assert_eq!("2/3".parse(), Ok(Shard { index: 2, count: 3 }));
        for wrong in ["3/3", "1", "-1/3", "0/0", "a/b", "1/2/3", ""] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn equal_keys_share_a_place() {
        let (different, rows) = distinct(["b", "a", "b", "c", "a"].into_iter());
        assert_eq!(different, ["b", "a", "c"]);
        assert_eq!(rows, [0, 1, 0, 2, 1]);
    }

    #[test]
    fn the_digest_of_a_model_sees_names_and_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let digest = || model_digest(dir.path()).unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/a"), "1").unwrap();
        let first = digest();
        assert_eq!(first, digest());
        std::fs::write(dir.path().join("sub/a"), "2").unwrap();
        let second = digest();
        std::fs::rename(dir.path().join("sub/a"), dir.path().join("sub/b")).unwrap();
        assert!(first != second && second != digest() && first != digest());
    }
}
