//! Standard output, buffered, with errors instead of panics; or anything else that lines go to.

use std::io::{self, BufWriter, StdoutLock, Write};

use serde::Serialize;

use crate::error::CliError;

/// Where results go, by default standard output.
pub(crate) struct Output<W: Write = StdoutLock<'static>> {
    out: BufWriter<W>,
}

impl Output {
    /// Takes standard output.
    pub(crate) fn stdout() -> Self {
        Self::new(io::stdout().lock())
    }
}

impl<W: Write> Output<W> {
    /// Writes to `out`.
    pub(crate) fn new(out: W) -> Self {
        Self {
            out: BufWriter::new(out),
        }
    }

    /// Where everything went.
    pub(crate) fn into_inner(self) -> Result<W, CliError> {
        self.out
            .into_inner()
            .map_err(|error| CliError::Output(error.into_error()))
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.out.write_all(bytes).map_err(CliError::Output)
    }

    /// Text as it is.
    pub(crate) fn text(&mut self, text: impl std::fmt::Display) -> Result<(), CliError> {
        write!(self.out, "{text}").map_err(CliError::Output)
    }

    /// One line.
    pub(crate) fn line(&mut self, text: impl std::fmt::Display) -> Result<(), CliError> {
        writeln!(self.out, "{text}").map_err(CliError::Output)
    }

    /// One line of JSON.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        serde_json::to_writer(&mut self.out, value)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(self.out))
            .map_err(CliError::Output)
    }

    /// One indented JSON document.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        serde_json::to_writer_pretty(&mut self.out, value)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(self.out))
            .map_err(CliError::Output)
    }

    /// Hands everything written so far to the reader. Needed at the end: what is still buffered
    /// when the value is dropped would be lost without an error.
    pub(crate) fn flush(&mut self) -> Result<(), CliError> {
        self.out.flush().map_err(CliError::Output)
    }
}

/// A text as one field of a table: control characters, tabs and line breaks among them, become
/// spaces.
pub(crate) fn field(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_stays_on_its_line_and_in_its_column() {
        assert_eq!(field("a\tb\r\nc\u{1b}[31m é"), "a b  c [31m é");
    }
}
