//! Texts from arguments, a file or standard input, one a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};

use crate::error::CliError;

/// Longest line in bytes. Far more than any encoder reads of a text; it keeps an input without line
/// breaks from filling the memory.
pub(crate) const MAX_LINE: u64 = 1 << 20;

/// Where the texts come from.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TextArgs {
    /// Texts; without any, the lines of --file or of standard input.
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// File with one text a line; `-` is standard input.
    #[arg(long, short, value_name = "FILE", conflicts_with = "texts")]
    file: Option<PathBuf>,
}

/// Texts in their order. A blank line is a text, so that row `i` of the output belongs to line `i`.
pub(crate) enum Texts {
    /// From the command line.
    Given(std::vec::IntoIter<String>),
    /// From a file or standard input.
    Lines(Lines<Box<dyn BufRead>>),
}

impl TextArgs {
    /// The file to read; none where the texts are on the command line or come from standard input.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        self.file.clone().filter(|path| path != Path::new("-"))
    }

    /// Opens the source.
    pub(crate) fn open(self) -> Result<Texts, CliError> {
        if !self.texts.is_empty() {
            return Ok(Texts::Given(self.texts.into_iter()));
        }
        match self.file {
            Some(path) if path != Path::new("-") => Texts::from_file(&path),
            _ => {
                let stdin = io::stdin();
                if stdin.is_terminal() {
                    eprintln!("reading texts from standard input, one a line; end with Ctrl-D");
                }
                let reader: Box<dyn BufRead> = Box::new(stdin.lock());
                Ok(Texts::Lines(Lines::new(
                    reader,
                    "standard input".to_owned(),
                )))
            }
        }
    }
}

impl Texts {
    /// The lines of a file.
    pub(crate) fn from_file(path: &Path) -> Result<Self, CliError> {
        let file = File::open(path).map_err(CliError::file("open", path))?;
        let reader: Box<dyn BufRead> = Box::new(BufReader::new(file));
        Ok(Self::Lines(Lines::new(reader, path.display().to_string())))
    }

    /// The next texts, at most `count`; none at the end. Waits for more until `count` are there.
    pub(crate) fn take(&mut self, count: usize) -> Result<Vec<String>, CliError> {
        let mut texts = Vec::new();
        while texts.len() < count
            && let Some(text) = self.next()?
        {
            texts.push(text);
        }
        Ok(texts)
    }

    /// The next text.
    pub(crate) fn next(&mut self) -> Result<Option<String>, CliError> {
        match self {
            Self::Given(texts) => Ok(texts.next()),
            Self::Lines(lines) => lines.read(),
        }
    }
}

/// Lines of UTF-8 text, without their ends and without a byte order mark.
pub(crate) struct Lines<R> {
    reader: R,
    origin: String,
    line: u64,
    bytes: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// `origin` is named in errors.
    pub(crate) fn new(reader: R, origin: String) -> Self {
        Self {
            reader,
            origin,
            line: 0,
            bytes: Vec::new(),
        }
    }

    /// For a problem with the line read last.
    pub(crate) fn bad(&self, problem: String) -> CliError {
        CliError::Line {
            origin: self.origin.clone(),
            line: self.line,
            problem,
        }
    }

    /// The next line.
    pub(crate) fn read(&mut self) -> Result<Option<String>, CliError> {
        self.bytes.clear();
        // Room for the longest line, its end, and one byte to tell that a line is longer.
        let read = Read::take(&mut self.reader, MAX_LINE + 3)
            .read_until(b'\n', &mut self.bytes)
            .map_err(CliError::file("read", &self.origin))?;
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        let mut bytes = self.bytes.as_slice();
        bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if self.line == 1 {
            bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        }
        if bytes.len() as u64 > MAX_LINE {
            return Err(self.bad(format!("the line is longer than {MAX_LINE} bytes")));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(error) => Err(self.bad(format!(
                "invalid UTF-8 at byte {} of the line",
                error.valid_up_to()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lines(bytes: &[u8]) -> Lines<&[u8]> {
        Lines::new(bytes, "test".to_owned())
    }

    fn all(bytes: &[u8]) -> Vec<String> {
        let mut lines = lines(bytes);
        std::iter::from_fn(|| lines.read().unwrap()).collect()
    }

    #[test]
    fn ends_of_lines_and_the_byte_order_mark_are_removed() {
        assert_eq!(all(b""), Vec::<String>::new());
        assert_eq!(all(b"\n"), [""]);
        assert_eq!(all(b"a\r\n\n b \nc"), ["a", "", " b ", "c"]);
        assert_eq!(all("\u{feff}a\n\u{feff}b\n".as_bytes()), ["a", "\u{feff}b"]);
        assert_eq!(all(b"a\rb\0c\n"), ["a\rb\0c"]);
    }

    #[test]
    fn invalid_utf8_names_line_and_byte() {
        let mut lines = lines(b"ok\nab\xffcd\n");
        assert_eq!(lines.read().unwrap().as_deref(), Some("ok"));
        let error = lines.read().unwrap_err().to_string();
        assert_eq!(error, "test:2: invalid UTF-8 at byte 2 of the line");
    }

    #[test]
    fn the_longest_line_is_read_and_one_byte_more_is_refused() {
        let mut bytes = vec![b'a'; MAX_LINE as usize];
        assert_eq!(all(&bytes), [String::from_utf8(bytes.clone()).unwrap()]);
        bytes.extend(b"\r\nb\n");
        assert_eq!(all(&bytes).len(), 2);
        bytes.insert(0, b'a');
        let error = lines(&bytes).read().unwrap_err().to_string();
        assert!(error.starts_with("test:1: the line is longer"), "{error}");
        let endless = vec![b'a'; 3 * MAX_LINE as usize];
        assert!(lines(&endless).read().is_err());
    }

    #[test]
    fn texts_come_in_groups() {
        let mut texts = Texts::Given(vec!["a".to_owned(), "b".into(), "c".into()].into_iter());
        assert_eq!(texts.take(2).unwrap(), ["a", "b"]);
        assert_eq!(texts.take(2).unwrap(), ["c"]);
        assert!(texts.take(2).unwrap().is_empty());
    }
}
