//! The `pocket` command writes three files and refuses what it cannot write.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

use datagen::pocket;

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pocket"))
}

#[test]
fn it_writes_the_files_of_the_seed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new").join("folder");
    let status = command()
        .arg("--out")
        .arg(&out)
        .args(["--seed", "3"])
        .status()
        .unwrap();
    assert!(status.success());
    let set = pocket::generate(3).unwrap();
    for (name, content) in [
        ("train.tsv", set.train_tsv()),
        ("test.tsv", set.test_tsv()),
        ("vocab.txt", set.vocab_txt()),
    ] {
        assert!(
            std::fs::read_to_string(out.join(name)).unwrap() == content,
            "{name}"
        );
    }
}

#[test]
fn an_output_folder_that_is_a_file_is_an_error_that_names_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let result = command().arg("--out").arg(file.path()).output().unwrap();
    assert!(!result.status.success());
    let message = String::from_utf8_lossy(&result.stderr).replace(['\n', ' ', '│'], "");
    assert!(message.contains("cannotmakethefolder"), "{message}");
}

#[test]
fn bad_arguments_are_errors() {
    for arguments in [
        &[][..],
        &["--out", "x", "--seed", "-1"],
        &["--out", "x", "--what"],
    ] {
        assert_eq!(
            command().args(arguments).output().unwrap().status.code(),
            Some(2)
        );
    }
}
