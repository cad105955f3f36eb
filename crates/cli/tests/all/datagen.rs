use datagen::pocket;

use crate::support::{asterism, failure, success};

#[test]
fn pocket_writes_the_files_of_the_seed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new").join("folder");
    let text = success(
        asterism()
            .args(["datagen", "pocket", "--seed", "3", "--out"])
            .arg(&out),
    );
    let set = pocket::generate(3).unwrap();
    let files = [
        ("train.tsv", set.train_tsv()),
        ("test.tsv", set.test_tsv()),
        ("vocab.txt", set.vocab_txt()),
    ];
    assert_eq!(text.lines().count(), files.len());
    for (name, content) in files {
        assert!(
            std::fs::read_to_string(out.join(name)).unwrap() == content,
            "{name}"
        );
        assert!(
            text.contains(&out.join(name).display().to_string()),
            "{text}"
        );
    }
    success(asterism().args(["data", "check"]).arg(&out));
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = failure(
        asterism()
            .args(["datagen", "pocket", "--out"])
            .arg(file.path()),
        2,
    );
    let expected = format!("cannot make the folder {}", file.path().display());
    assert!(error.contains(&expected), "{error}");
    failure(asterism().args(["datagen", "pocket"]), 2);
    failure(
        asterism().args(["datagen", "pocket", "--out", "x", "--seed", "-1"]),
        2,
    );
}
