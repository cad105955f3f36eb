//! TensorBoard event files.
//!
//! A file is a sequence of records (the TFRecord framing)
//!
//! ```text
//! length   u64 little-endian
//! check    u32 masked CRC-32C of the 8 length bytes
//! event    `length` bytes, a protobuf message
//! check    u32 masked CRC-32C of the event
//! masked(c) = rotate_right(c, 15) + 0xa282ead8   (mod 2^32)
//! ```
//!
//! and an event is `{1: double wall_time, 2: int64 step, 3: string file_version | 5: Summary}` with
//! `Summary {1: repeated Value}` and `Value {1: string tag, 2: float simple_value}`. The first event
//! carries the version `brain.Event:2`. That is little enough to be written by hand.
//!
//! Field numbers and framing are those of `event.proto`, `summary.proto` and `record_writer.cc` in
//! TensorFlow.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, FileOperation, Result, file_error};
use crate::file_layer::{AppendFile, DiskLayer, FileLayer};

/// Gives the time of an event, in seconds since 1970, for its step.
pub type Clock = Box<dyn FnMut(u64) -> f64 + Send>;

/// The system's clock. Files written with it differ from run to run.
pub fn wall_clock() -> Clock {
    Box::new(|_| {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64())
    })
}

/// Always the same time: equal runs give equal files.
pub fn fixed_clock(seconds: f64) -> Clock {
    Box::new(move |_| seconds)
}

/// Writes scalars to an event file.
pub struct EventWriter {
    path: PathBuf,
    file: Box<dyn AppendFile>,
    bytes: u64,
    clock: Clock,
}

impl std::fmt::Debug for EventWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventWriter")
            .field("path", &self.path)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl EventWriter {
    /// Opens the file for the continuation after `bytes` bytes, as recorded in a checkpoint; what
    /// lies behind is cut off. 0 begins a new file. Missing directories are made.
    ///
    /// # Errors
    /// [`Error::EventsTooShort`] if the file is shorter, [`Error::File`].
    pub fn open(path: impl Into<PathBuf>, bytes: u64, clock: Clock) -> Result<Self> {
        Self::open_with(&DiskLayer, path, bytes, clock)
    }

    /// The same through another file layer.
    ///
    /// # Errors
    /// As there.
    pub fn open_with(
        layer: &dyn FileLayer,
        path: impl Into<PathBuf>,
        bytes: u64,
        clock: Clock,
    ) -> Result<Self> {
        let path = path.into();
        if let Some(parent) = path.parent() {
            layer
                .create_dir_all(parent)
                .map_err(file_error(FileOperation::CreateDir, parent))?;
        }
        let found = match layer.size(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            size => size.map_err(file_error(FileOperation::Read, &path))?,
        };
        if found < bytes {
            return Err(Error::EventsTooShort {
                path,
                expected: bytes,
                found,
            });
        }
        let file = layer
            .append_after(&path, bytes)
            .map_err(file_error(FileOperation::Append, &path))?;
        let mut writer = Self {
            path,
            file,
            bytes,
            clock,
        };
        if bytes == 0 {
            let time = (writer.clock)(0);
            writer.record(&event(time, 0, &field_bytes(3, b"brain.Event:2")))?;
        }
        Ok(writer)
    }

    /// Appends the scalars of one step as one event; nothing for no scalars.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn scalars<'a>(
        &mut self,
        step: u64,
        values: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut message = field_bytes(1, tag.as_bytes());
            message.push(2 << 3 | 5);
            message.extend_from_slice(&(value as f32).to_le_bytes());
            summary.extend(field_bytes(1, &message));
        }
        if summary.is_empty() {
            return Ok(());
        }
        let time = (self.clock)(step);
        self.record(&event(time, step, &field_bytes(5, &summary)))
    }

    /// Length of the file, for a checkpoint.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Flushes to the disk. A checkpoint that counts these bytes must come after.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn sync(&self) -> Result<()> {
        self.file
            .sync()
            .map_err(file_error(FileOperation::Sync, &self.path))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn record(&mut self, data: &[u8]) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(data.len() + 16);
        record.extend_from_slice(&length);
        record.extend_from_slice(&masked_crc(&length).to_le_bytes());
        record.extend_from_slice(data);
        record.extend_from_slice(&masked_crc(data).to_le_bytes());
        self.file
            .append(&record)
            .map_err(file_error(FileOperation::Write, &self.path))?;
        self.bytes += record.len() as u64;
        Ok(())
    }
}

fn event(time: f64, step: u64, what: &[u8]) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend_from_slice(&time.to_le_bytes());
    out.push(2 << 3);
    varint(step, &mut out);
    out.extend_from_slice(what);
    out
}

/// A length-delimited field with a number below 16.
fn field_bytes(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), reflected, bit by bit: the files are small.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::fs;

    use super::*;

    // Read back with TensorBoard's own loader, which checks both checksums of every record:
    //   pip install tensorboard==2.21.0
    //   python scripts/oracles/tensorboard.py crates/training/tests/golden/events.out.tfevents.fixture
    // It prints the scalars listed in `write_fixture`.
    const FIXTURE: &[u8] = include_bytes!("../tests/golden/events.out.tfevents.fixture");

    fn write_fixture(path: &Path) {
        let clock: Clock = Box::new(|step| 1.7e9 + step as f64);
        let mut writer = EventWriter::open(path, 0, clock).unwrap();
        writer
            .scalars(0, [("star/loss", 5.25), ("star/lr", 0.0)])
            .unwrap();
        writer.scalars(300, [("star/loss", 0.1)]).unwrap();
        writer
            .scalars(
                1 << 40,
                [("genauigkeit/größe", -1e-30), ("star/nan", f64::NAN)],
            )
            .unwrap();
    }

    #[test]
    fn bytes_equal_the_fixture_read_by_tensorboard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events/out");
        write_fixture(&path);
        assert_eq!(fs::read(&path).unwrap(), FIXTURE);
    }

    #[test]
    fn crc_check_values() {
        // RFC 3720, appendix B.4: 32 zeros, 32 ones, ascending bytes; and the usual "123456789".
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&ascending), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn varints() {
        // 300 = 0b10_0101100: low seven bits first, continuation bit set.
        for (value, bytes) in [
            (0, &[0][..]),
            (127, &[0x7f]),
            (300, &[0xac, 0x02]),
            (
                u64::MAX,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
        ] {
            let mut out = Vec::new();
            varint(value, &mut out);
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn every_record_carries_its_checksums() {
        let mut rest = FIXTURE;
        let mut records = 0;
        while !rest.is_empty() {
            let (length, tail) = rest.split_at(8);
            let (check, tail) = tail.split_at(4);
            assert_eq!(check, masked_crc(length).to_le_bytes());
            let n = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            let (data, tail) = tail.split_at(n);
            let (check, tail) = tail.split_at(4);
            assert_eq!(check, masked_crc(data).to_le_bytes());
            (rest, records) = (tail, records + 1);
        }
        assert_eq!(records, 4);
    }

    #[test]
    fn a_resumed_file_equals_an_undisturbed_one() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let mut straight = EventWriter::open(&a, 0, fixed_clock(0.0)).unwrap();
        (0..5).for_each(|i| straight.scalars(i, [("x", i as f64)]).unwrap());

        let mut killed = EventWriter::open(&b, 0, fixed_clock(0.0)).unwrap();
        killed.scalars(0, [("x", 0.0)]).unwrap();
        let mark = killed.bytes();
        killed.scalars(1, [("x", 7.0)]).unwrap();
        drop(killed);
        let mut resumed = EventWriter::open(&b, mark, fixed_clock(0.0)).unwrap();
        (1..5).for_each(|i| resumed.scalars(i, [("x", i as f64)]).unwrap());
        resumed.sync().unwrap();
        assert_eq!(resumed.bytes(), straight.bytes());
        assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());

        let refused = EventWriter::open(&a, u64::MAX, fixed_clock(0.0));
        assert!(matches!(refused, Err(Error::EventsTooShort { .. })));
    }

    #[test]
    fn no_scalars_no_event() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::open(dir.path().join("a"), 0, wall_clock()).unwrap();
        let before = writer.bytes();
        writer.scalars(1, []).unwrap();
        assert_eq!(writer.bytes(), before);
    }
}
