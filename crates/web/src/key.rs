//! API keys: where they come from, and that they are never shown.

use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use crate::error::KeyError;

/// Longest key accepted, in bytes.
const MAX_KEY_BYTES: usize = 4096;

/// What is shown instead of a key.
const SHOWN: &str = "[key]";

/// A key for a server. It is sent to the server it is for ([`crate::Request::bearer`]) and shown
/// nowhere: [`fmt::Debug`] and [`fmt::Display`] write `[key]`, and there is no public way to read it
/// back.
pub struct ApiKey(String);

impl ApiKey {
    /// Takes the key from an environment variable.
    ///
    /// # Errors
    ///
    /// [`KeyError::Missing`] if the variable is not set or blank, [`KeyError::Invalid`] if it holds
    /// anything but visible ASCII characters.
    pub fn from_env(variable: &str) -> Result<Self, KeyError> {
        let missing = || KeyError::Missing {
            variable: variable.escape_debug().to_string(),
        };
        // An empty name or one with `=` or NUL is never set; asking for it would panic on some
        // systems.
        if variable.is_empty() || variable.contains(['=', '\0']) {
            return Err(missing());
        }
        let value = std::env::var_os(variable).ok_or_else(missing)?;
        let text = value.to_string_lossy();
        if text.trim().is_empty() {
            return Err(missing());
        }
        Self::checked(&text, &format!("the environment variable {variable}"))
    }

    /// Reads the key from a file that belongs to its owner alone: on Unix no permission bit of the
    /// group or of others may be set.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unreadable`], [`KeyError::Exposed`] (with the `chmod` that helps) or
    /// [`KeyError::Invalid`].
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let unreadable = |reason: String| KeyError::Unreadable {
            path: path.to_owned(),
            reason,
        };
        let file = fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
        // Of the open file, so that what is checked is what is read.
        let meta = file
            .metadata()
            .map_err(|error| unreadable(error.to_string()))?;
        if !meta.is_file() {
            return Err(unreadable("it is not a regular file".to_owned()));
        }
        check_mode(path, &meta)?;
        let mut bytes = Vec::new();
        file.take(MAX_KEY_BYTES as u64 + 3)
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(error.to_string()))?;
        Self::checked(
            &String::from_utf8_lossy(&bytes),
            &format!("the file {}", path.display()),
        )
    }

    fn checked(text: &str, origin: &str) -> Result<Self, KeyError> {
        let key = text.trim();
        let problem = if key.is_empty() {
            "is empty"
        } else if key.len() > MAX_KEY_BYTES {
            "is longer than 4096 bytes"
        } else if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            "has a character other than visible ASCII"
        } else {
            return Ok(Self(key.to_owned()));
        };
        Err(KeyError::Invalid {
            origin: origin.to_owned(),
            problem,
        })
    }

    /// The value of the `Authorization` header.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// `text` with every occurrence of the key replaced, also in the form in which some JSON writers
    /// escape slashes.
    pub fn hidden_in(&self, text: &str) -> String {
        let text = text.replace(&self.0, SHOWN);
        if self.0.contains('/') {
            text.replace(&self.0.replace('/', "\\/"), SHOWN)
        } else {
            text
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(SHOWN)
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(SHOWN)
    }
}

#[cfg(unix)]
fn check_mode(path: &Path, meta: &fs::Metadata) -> Result<(), KeyError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = meta.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(KeyError::Exposed {
            path: path.to_owned(),
            mode,
        })
    }
}

/// Elsewhere the system's own access lists decide.
#[cfg(not(unix))]
fn check_mode(_: &Path, _: &fs::Metadata) -> Result<(), KeyError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const PLANTED: &str = "sk-planted-4f/9Q";

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, content).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        #[cfg(not(unix))]
        let _ = mode;
        (dir, path)
    }

    #[test]
    fn a_key_is_trimmed_and_never_shown() {
        let (_dir, path) = file(format!(" {PLANTED}\r\n").as_bytes(), 0o600);
        let key = ApiKey::from_file(&path).unwrap();
        assert_eq!(key.bearer(), format!("Bearer {PLANTED}"));
        assert_eq!(format!("{key} {key:?} {:#?}", Some(&key)), {
            "[key] [key] Some(\n    [key],\n)"
        });
        assert_eq!(
            key.hidden_in(&format!("a {PLANTED} b sk-planted-4f\\/9Q{PLANTED}")),
            "a [key] b [key][key]"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_read_is_refused() {
        for mode in [0o604, 0o640, 0o660, 0o644, 0o610, 0o602] {
            let (_dir, path) = file(PLANTED.as_bytes(), mode);
            let error = ApiKey::from_file(&path).unwrap_err();
            assert_eq!(
                error,
                KeyError::Exposed {
                    path: path.clone(),
                    mode
                }
            );
            let text = error.to_string();
            assert!(
                text.contains(&format!("chmod 600 {}", path.display())),
                "{text}"
            );
            assert!(text.contains(&format!("mode {mode:04o}")), "{text}");
        }
        for mode in [0o400, 0o600, 0o700] {
            let (_dir, path) = file(PLANTED.as_bytes(), mode);
            ApiKey::from_file(&path).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_a_key_is_refused_without_showing_it() {
        let long = "k".repeat(MAX_KEY_BYTES + 1);
        for (content, problem) in [
            (&b""[..], "empty"),
            (b" \n\t", "empty"),
            (b"sk-planted\nsecond", "visible ASCII"),
            (b"sk-planted\x07", "visible ASCII"),
            (b"sk-planted\x00x", "visible ASCII"),
            (b"sk planted", "visible ASCII"),
            (b"sk-planted\xff", "visible ASCII"),
            ("sk-plantedü".as_bytes(), "visible ASCII"),
            (long.as_bytes(), "longer"),
        ] {
            let (_dir, path) = file(content, 0o600);
            let error = ApiKey::from_file(&path).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
            assert!(
                !error.contains("planted") && !error.contains("kkk"),
                "{error}"
            );
        }
    }

    #[test]
    fn missing_variables_and_files_are_named() {
        for variable in ["ASTERISM_TEST_NO_SUCH_KEY", "", "A=B", "A\0B"] {
            let error = ApiKey::from_env(variable).unwrap_err();
            assert!(matches!(error, KeyError::Missing { .. }), "{error}");
        }
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().join("none"), dir.path().to_owned()] {
            let error = ApiKey::from_file(&path).unwrap_err();
            assert!(
                matches!(&error, KeyError::Unreadable { path: p, .. } if *p == path),
                "{error}"
            );
        }
    }

    #[test]
    fn a_variable_of_the_environment_is_read() {
        // Set for every test run by cargo; its value has the form of a key.
        let key = ApiKey::from_env("CARGO_PKG_NAME").unwrap();
        assert_eq!(key.bearer(), "Bearer web");
    }
}
