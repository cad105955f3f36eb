//! Programs as their users see them.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use assert_cmd::Command;

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("an exit code, not a signal"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs a program in a folder, with exactly these arguments.
pub(crate) fn call<S: AsRef<str>>(binary: &str, dir: &Path, arguments: &[S]) -> Done {
    let output = Command::new(binary)
        .args(arguments.iter().map(AsRef::as_ref))
        .current_dir(dir)
        .env_remove("RUST_BACKTRACE")
        .timeout(Duration::from_secs(300))
        .output()
        .unwrap();
    output.into()
}

/// Bad input: exit code 2, all of `words` in the message, no panic, nothing on standard output.
pub(crate) fn check_refusal(done: &Done, words: &[&str]) {
    assert_eq!(done.code, 2, "{done:?}");
    for word in words {
        assert!(
            done.stderr.contains(word),
            "`{word}` is not in: {}",
            done.stderr
        );
    }
    assert!(!done.stderr.contains("panicked at"), "{}", done.stderr);
    assert_eq!(done.stdout, "");
}
