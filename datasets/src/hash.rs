//! SHA-256 digests of bytes and files, as 64 lower-case hexadecimal digits.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Digest of `bytes`.
///
/// ```
/// // FIPS 180-2, appendix B.1.
/// assert_eq!(
///     datasets::hash::sha256_hex(b"abc"),
///     "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
/// );
/// ```
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut hasher = StreamingSha256::default();
    hasher.update(bytes);
    hasher.finish()
}

/// Digest and length in bytes of a file, read in pieces.
///
/// # Errors
/// Any error of opening or reading the file.
pub fn sha256_file(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut hasher = StreamingSha256::default();
    let mut buffer = vec![0_u8; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let bytes = hasher.bytes();
    Ok((hasher.finish(), bytes))
}

/// Whether `text` is 64 lower-case hexadecimal digits.
pub fn is_sha256_hex(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Digests by file name, from lines as `sha256sum` writes them: the digest, two spaces (or a space
/// and `*`), the name. Blank lines are passed over.
///
/// ```
/// let digest = "0a".repeat(32);
/// let found = datasets::hash::parse_sha256_lines(&format!("{digest}  model.safetensors\n"))?;
/// assert_eq!(found["model.safetensors"], digest);
/// # Ok::<(), usize>(())
/// ```
///
/// # Errors
/// The number of the first line, from 1, that is none or names a file again.
pub fn parse_sha256_lines(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let mut found = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let (digest, name) = line.split_once(' ').ok_or(number)?;
        let name = name.strip_prefix([' ', '*']).ok_or(number)?;
        if !is_sha256_hex(digest) || name.is_empty() {
            return Err(number);
        }
        if found.insert(name.to_owned(), digest.to_owned()).is_some() {
            return Err(number);
        }
    }
    Ok(found)
}

/// A digest that is fed in pieces and counts what it was fed.
#[derive(Debug, Clone, Default)]
pub struct StreamingSha256 {
    state: Sha256,
    bytes: u64,
}

impl StreamingSha256 {
    /// Adds `bytes` to the digest.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
    }

    /// Bytes fed so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first 16 bytes of the digest of everything fed: a key for sets of texts, for which a
    /// collision among a billion has a probability below 1e-20.
    pub(crate) fn first_bytes(self) -> [u8; 16] {
        let mut first = [0; 16];
        for (to, from) in first.iter_mut().zip(self.state.finalize()) {
            *to = from;
        }
        first
    }

    /// The digest of everything fed.
    pub fn finish(self) -> String {
        self.state
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digests_of_the_standard_examples() {
        // FIPS 180-2 appendix B.2 and the empty message.
        assert_eq!(
            sha256_hex(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        );
        assert_eq!(
            sha256_hex(b""),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn file_digest_counts_bytes_over_several_reads() {
        let content = vec![7_u8; 200_000];
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &content).unwrap();
        assert_eq!(
            sha256_file(file.path()).unwrap(),
            (sha256_hex(&content), 200_000)
        );
    }

    #[test]
    fn a_missing_file_is_an_error() {
        assert!(sha256_file(Path::new("does-not-exist")).is_err());
    }

    #[test]
    fn lines_of_sha256sum_are_read_and_others_named() {
        let (a, b) = ("0a".repeat(32), "1b".repeat(32));
        let found = parse_sha256_lines(&format!("{a}  x y\n\n{b} *1_Pooling/config.json\r\n"));
        let expected = [("x y", &a), ("1_Pooling/config.json", &b)]
            .map(|(name, digest)| (name.to_owned(), digest.clone()));
        assert_eq!(found, Ok(BTreeMap::from(expected)));
        assert_eq!(parse_sha256_lines(""), Ok(BTreeMap::new()));
        for bad in [
            "x".to_owned(),
            a.clone(),
            format!("{a} x"),
            format!("{a}  "),
            format!("{}  x", a.to_uppercase()),
            format!(" {a}  x"),
        ] {
            assert_eq!(
                parse_sha256_lines(&format!("{b}  y\n{bad}")),
                Err(2),
                "{bad}"
            );
        }
        assert_eq!(parse_sha256_lines(&format!("{a}  x\n{b}  x\n")), Err(2));
    }

    #[test]
    fn hex_form_is_checked() {
        assert!(is_sha256_hex(&"0a".repeat(32)));
        for bad in [
            "",
            &"0a".repeat(31),
            &"0A".repeat(32),
            &"0g".repeat(32),
            &"é".repeat(32),
        ] {
            assert!(!is_sha256_hex(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..300) {
            let cut = cut.min(bytes.len());
            let mut hasher = StreamingSha256::default();
            hasher.update(&bytes[..cut]);
            hasher.update(&bytes[cut..]);
            prop_assert_eq!(hasher.bytes(), bytes.len() as u64);
            prop_assert_eq!(hasher.finish(), sha256_hex(&bytes));
        }
    }
}
