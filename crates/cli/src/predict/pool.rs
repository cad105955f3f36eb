//! `--pool FILE`: the texts that belong to no known category, for `asterism discover --update`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::CliError;

/// A line of the file.
#[derive(Serialize)]
pub(super) struct Stranger<'a> {
    pub(super) text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) coarse: Option<&'a str>,
    /// With the nearest category.
    pub(super) cosine: f32,
}

/// The file.
#[derive(Debug)]
pub(super) struct Pool {
    path: PathBuf,
    /// Whether the file is to be there only when it is complete. Otherwise it grows with the answers.
    whole: bool,
    out: Option<BufWriter<File>>,
}

impl Pool {
    pub(super) fn new(path: PathBuf, whole: bool) -> Self {
        Self {
            path,
            whole,
            out: None,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The name under which the file is written.
    fn target(&self) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        if self.whole {
            name.push(".tmp");
        }
        PathBuf::from(name)
    }

    fn open(&mut self) -> Result<&mut BufWriter<File>, CliError> {
        let out = match self.out.take() {
            Some(out) => out,
            None => {
                let path = self.target();
                let file = File::create(&path).map_err(CliError::file("create", path))?;
                BufWriter::new(file)
            }
        };
        Ok(self.out.insert(out))
    }

    /// Adds lines.
    pub(super) fn add(&mut self, lines: &[u8]) -> Result<(), CliError> {
        let grows = !self.whole;
        let out = self.open()?;
        let written = out.write_all(lines);
        let flushed = written.and_then(|()| if grows { out.flush() } else { Ok(()) });
        flushed.map_err(CliError::file("write", &self.path))
    }

    /// Everything was added.
    pub(super) fn finish(&mut self) -> Result<(), CliError> {
        let out = self.open()?;
        let flushed = out.flush().and_then(|()| out.get_ref().sync_all());
        let renamed = flushed.and_then(|()| match self.whole {
            true => std::fs::rename(self.target(), &self.path),
            false => Ok(()),
        });
        renamed.map_err(CliError::file("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_whole_file_appears_at_the_end_and_a_growing_one_at_once() {
        let dir = tempfile::tempdir().unwrap();
        for whole in [true, false] {
            let path = dir.path().join(format!("{whole}.jsonl"));
            let mut pool = Pool::new(path.clone(), whole);
            pool.add(b"a\n").unwrap();
            assert_eq!(std::fs::read(&path).ok(), (!whole).then(|| b"a\n".to_vec()));
            pool.add(b"b\n").unwrap();
            pool.finish().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"a\nb\n");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        let path = dir.path().join("empty.jsonl");
        Pool::new(path.clone(), true).finish().unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"");
    }
}
