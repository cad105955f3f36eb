//! The key of a server: where it comes from, how it is compared, and that it is never shown.

use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use subtle::ConstantTimeEq as _;

use crate::error::StartError;

/// Shortest and longest key, in bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=4096;

/// A key that requests have to carry. It is shown nowhere: [`fmt::Debug`] writes `[key]`, and there
/// is no way to read it back.
pub struct ApiKey(String);

impl ApiKey {
    /// Takes 16 to 4096 visible ASCII characters; blanks around them do not count.
    ///
    /// # Errors
    ///
    /// [`StartError::Key`], without the text.
    ///
    /// ```
    /// let key = server::ApiKey::new("0123456789abcdef").unwrap();
    /// assert!(key.is("0123456789abcdef") && !key.is("0123456789abcdeg"));
    /// assert_eq!(format!("{key:?}"), "[key]");
    /// ```
    pub fn new(text: &str) -> Result<Self, StartError> {
        Self::checked(text, "the key")
    }

    /// Takes the key from an environment variable; `None` where it is not set.
    ///
    /// # Errors
    ///
    /// [`StartError::Key`] for a value that cannot be a key, an empty one included: whoever sets
    /// the variable wants a key.
    pub fn from_env(variable: &str) -> Result<Option<Self>, StartError> {
        // An empty name or one with `=` or NUL would panic on some systems.
        if variable.is_empty() || variable.contains(['=', '\0']) {
            return Ok(None);
        }
        let Some(value) = std::env::var_os(variable) else {
            return Ok(None);
        };
        let origin = format!("the environment variable {variable}");
        Self::checked(&value.to_string_lossy(), &origin).map(Some)
    }

    /// Reads the key from a file that belongs to its owner alone: on Unix no permission bit of the
    /// group or of others may be set.
    ///
    /// # Errors
    ///
    /// [`StartError::KeyFile`] (with the `chmod` that helps) or [`StartError::Key`].
    pub fn from_file(path: &Path) -> Result<Self, StartError> {
        let refuse = |problem: String| StartError::KeyFile {
            path: path.to_owned(),
            problem,
        };
        let file = fs::File::open(path).map_err(|error| refuse(error.to_string()))?;
        // Of the open file, so that what is checked is what is read.
        let meta = file.metadata().map_err(|error| refuse(error.to_string()))?;
        if !meta.is_file() {
            return Err(refuse("it is not a regular file".to_owned()));
        }
        if let Some(mode) = exposed(&meta) {
            return Err(refuse(format!(
                "others may read it (mode {mode:04o}); chmod 600 {}",
                path.display()
            )));
        }
        let mut bytes = Vec::new();
        file.take(*LENGTHS.end() as u64 + 3)
            .read_to_end(&mut bytes)
            .map_err(|error| refuse(error.to_string()))?;
        let origin = format!("the file {}", path.display());
        Self::checked(&String::from_utf8_lossy(&bytes), &origin)
    }

    fn checked(text: &str, origin: &str) -> Result<Self, StartError> {
        let key = text.trim();
        let problem = if !LENGTHS.contains(&key.len()) {
            "expected 16 to 4096 characters"
        } else if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            "has a character other than visible ASCII"
        } else {
            return Ok(Self(key.to_owned()));
        };
        Err(StartError::Key {
            origin: origin.to_owned(),
            problem,
        })
    }

    /// Whether a text is the key; the time it takes depends on the lengths only.
    pub fn is(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[key]")
    }
}

/// The mode of a file that more than its owner may use.
#[cfg(unix)]
fn exposed(meta: &fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = meta.permissions().mode() & 0o7777;
    (mode & 0o077 != 0).then_some(mode)
}

/// Elsewhere the system's own access lists decide.
#[cfg(not(unix))]
fn exposed(_: &fs::Metadata) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CANARY: &str = "canary-4f/9Q-canary";

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, content).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        #[cfg(not(unix))]
        let _ = mode;
        (dir, path)
    }

    #[test]
    fn a_key_is_trimmed_compared_and_never_shown() {
        let (_dir, path) = file(format!(" {CANARY}\r\n").as_bytes(), 0o600);
        let key = ApiKey::from_file(&path).unwrap();
        assert!(key.is(CANARY));
        for other in ["", "canary", "canary-4f/9Q-canarY", "canary-4f/9Q-canary "] {
            assert!(!key.is(other), "{other}");
        }
        assert_eq!(format!("{key:?} {:?}", Some(&key)), "[key] Some([key])");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_read_is_refused() {
        for mode in [0o604, 0o640, 0o660, 0o644, 0o610] {
            let (_dir, path) = file(CANARY.as_bytes(), mode);
            let text = ApiKey::from_file(&path).unwrap_err().to_string();
            assert!(
                text.contains(&format!("chmod 600 {}", path.display())),
                "{text}"
            );
            assert!(text.contains(&format!("mode {mode:04o}")), "{text}");
        }
        for mode in [0o400, 0o600] {
            let (_dir, path) = file(CANARY.as_bytes(), mode);
            ApiKey::from_file(&path).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_a_key_is_refused_without_showing_it() {
        let long = "canary".repeat(1000);
        for content in [
            &b""[..],
            b" \n\t",
            b"canary",
            b"canary-canary-canary\nsecond",
            b"canary-canary-canary\x07",
            b"canary-canary canary",
            b"canary-canary-canary\xff",
            long.as_bytes(),
        ] {
            let (_dir, path) = file(content, 0o600);
            let error = ApiKey::from_file(&path).unwrap_err();
            assert!(matches!(error, StartError::Key { .. }), "{error}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().join("none"), dir.path().to_owned()] {
            assert!(matches!(
                ApiKey::from_file(&path),
                Err(StartError::KeyFile { .. })
            ));
        }
    }

    #[test]
    fn variables_may_be_absent_but_not_empty() {
        for variable in ["ASTERISM_TEST_NO_SUCH_KEY", "", "A=B", "A\0B"] {
            assert!(ApiKey::from_env(variable).unwrap().is_none());
        }
        // Set by cargo for every test run; too short for a key.
        assert!(ApiKey::from_env("CARGO_PKG_NAME").is_err());
    }
}
