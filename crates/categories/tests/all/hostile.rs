//! Files that something else wrote.

use std::fs;

use categories::{CATALOGUE_FILE, Catalogue, LOG_FILE, Store, StoreError};

use crate::support::{Run, catalogue};

/// The message for a catalogue file with this content.
fn catalogue_error(content: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(CATALOGUE_FILE);
    fs::write(&path, content).unwrap();
    let error = Catalogue::read(&path).unwrap_err().to_string();
    error
        .strip_prefix(&path.display().to_string())
        .unwrap_or_else(|| panic!("no file in {error}"))
        .to_owned()
}

fn json() -> String {
    catalogue().to_json().unwrap()
}

#[test]
fn every_truncation_of_a_catalogue_is_an_error_with_a_place() {
    let json = json();
    for end in 0..json.trim_end().len() {
        let error = catalogue_error(&json.as_bytes()[..end]);
        let mut place = error.trim_start_matches(':').splitn(3, ':');
        assert!(place.next().unwrap().parse::<usize>().is_ok(), "{error}");
        assert!(place.next().unwrap().parse::<usize>().is_ok(), "{error}");
        assert!(!error.contains("at line"), "{error}");
    }
}

#[test]
fn wrong_values_in_a_catalogue_are_named() {
    let json = json();
    let centroid = |numbers: &str| {
        let start = json.find("\"centroid\":[").unwrap() + "\"centroid\":[".len();
        let end = start + json[start..].find(']').unwrap();
        format!("{}{numbers}{}", &json[..start], &json[end..])
    };
    for (content, message) in [
        (centroid("NaN,0,1"), ":8:"),
        (centroid("null,0,1"), "invalid type: null, expected f32"),
        (centroid("1e39,0,1"), ":8:252: number out of range"),
        (
            centroid("1,0"),
            "categories[0].centroid: expected 3 values, found 2",
        ),
        (
            centroid("0,0,0"),
            "categories[0].centroid: expected a vector of length 1",
        ),
        (
            json.replacen("\"id\":1", "\"id\":0", 1),
            "categories[1].id: expected ids that ascend, found 0",
        ),
        (json.replacen("\"id\":1", "\"id\":-1", 1), ":9:"),
        (json.replacen("\"id\":1", "\"id\":4294967296", 1), ":9:"),
        (
            json.replacen("\"dim\":3", "\"dim\":4", 1),
            "categories[0].centroid: expected 4 values",
        ),
        (
            json.replacen("\"size\":20", "\"size\":-20", 1),
            "invalid value: integer `-20`, expected usize",
        ),
        (
            json.replacen("\"size\"", "\"sizes\"", 1),
            "unknown field `sizes`",
        ),
        (
            json.replacen("\"name\":\"refund\",", "", 1),
            "missing field `name`",
        ),
        (
            json.replacen("\"status\":\"active\"", "\"status\":\"asleep\"", 1),
            "unknown variant `asleep`",
        ),
        (
            json.replacen("categories/1", "categories/2", 1),
            ": schema: expected `asterism/categories/1`, found `asterism/categories/2`",
        ),
        (
            json.replacen("\"schema\"", "\"scheme\"", 1),
            "missing field `schema`",
        ),
        ("[1, 2]".to_owned(), ":1:"),
        (
            format!("{{\"x\":{}", "[".repeat(100_000)),
            "EOF while parsing a list",
        ),
        (format!("{json}{json}"), "trailing characters"),
    ] {
        let error = catalogue_error(content.as_bytes());
        assert!(error.contains(message), "{message}: {error}");
    }
    assert!(catalogue_error(b"\xff\xfe").starts_with(":1:"));
    assert!(catalogue_error(&vec![b'a'; 10_000_000]).starts_with(":1:1: expected value"));
    let long = format!("{{\"schema\":\"{}", "x".repeat(10_000_000));
    assert!(catalogue_error(long.as_bytes()).contains("EOF while parsing a string"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = Catalogue::read(dir.path()).unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::File {
                operation: "read",
                ..
            }
        ),
        "{error}"
    );
    // A folder where the log should be.
    fs::create_dir(dir.path().join(LOG_FILE)).unwrap();
    let error = Store::open(dir.path()).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot read") && error.contains(LOG_FILE),
        "{error}"
    );
}

#[test]
fn lines_that_do_not_fit_are_named() {
    let (run, store) = Run::new();
    drop(store);
    let first = String::from_utf8(run.log()).unwrap();
    let event = |revision: u64, event: &str| {
        format!("{{\"revision\":{revision},\"at\":1,\"event\":{event}}}\n")
    };
    let renamed = |revision, id, from: &str, to: &str| {
        let names = format!("\"from\":\"{from}\",\"to\":\"{to}\",\"source\":\"human\"");
        event(
            revision,
            &format!("{{\"renamed\":{{\"id\":{id},{names}}}}}"),
        )
    };
    let created = first.split_once("\"event\":").unwrap().1;
    let created = created.strip_suffix("}\n").unwrap();
    let born = |id: u32, born: u64, centroid: &str| {
        format!(
            "{{\"id\":{id},\"name\":\"n{id}\",\"name_source\":\"human\",\"coarse\":null,\
             \"keywords\":[],\"medoids\":[],\"size\":1,\"coherence\":1.0,\"nearest\":[],\
             \"born\":{born},\"status\":\"active\",\"centroid\":[{centroid}]}}"
        )
    };
    let merged = |from: &str, into: &str| {
        event(
            2,
            &format!("{{\"merged\":{{\"from\":[{from}],\"into\":{into}}}}}"),
        )
    };
    let updated = |changed: &str, born: &str| {
        event(
            2,
            &format!(
                "{{\"updated\":{{\"changed\":[{changed}],\"born\":[{born}],\"model_sha256\":null}}}}"
            ),
        )
    };
    for (line, message) in [
        ("\n".to_owned(), ":2:0: EOF while parsing a value"),
        (
            "null\n".to_owned(),
            ":2:4: invalid type: null, expected struct Entry",
        ),
        (
            "{\"revision\":2\n".to_owned(),
            ":2:13: EOF while parsing an object",
        ),
        (
            format!("{}\n", "x".repeat(10_000_000)),
            ":2:1: expected value",
        ),
        (
            event(2, "{\"exploded\":{}}"),
            ":2:40: unknown variant `exploded`",
        ),
        (
            renamed(3, 0, "card lost", "x"),
            ":2: revision: expected 2, found 3",
        ),
        (
            renamed(1, 0, "card lost", "x"),
            ":2: revision: expected 2, found 1",
        ),
        (
            renamed(2, 0, "refund", "x"),
            ":2: from: expected card lost, found refund",
        ),
        (
            renamed(2, 9, "x", "y"),
            ":2: there is no category 9; ids go up to 4",
        ),
        (
            renamed(2, 0, "card lost", "Delay"),
            ":2: the name `delay` belongs to category 0",
        ),
        (
            renamed(2, 0, "card lost", "a\\u0000"),
            ":2: name: expected no control characters",
        ),
        (
            event(2, created),
            ":2: event: expected `created` on the first line only",
        ),
        (
            event(2, "{\"undone\":{\"revision\":1}}"),
            ":2: undone.revision: expected the last edit in effect",
        ),
        (
            merged("0,1", &born(9, 2, "1,0,0")),
            ":2: id: expected the next id, 5, found 9",
        ),
        (
            merged("0,1", &born(1, 2, "1,0,0")),
            ":2: id: expected the next id, 5, found 1",
        ),
        (
            merged("0,1", &born(5, 1, "1,0,0")),
            ":2: born: expected the revision 2, found 1",
        ),
        (
            merged("0,1", &born(5, 2, "1,0")),
            ":2: categories[5].centroid: expected 3 values, found 2",
        ),
        (
            merged("0,1", &born(5, 2, "1,1,0")),
            ":2: categories[5].centroid: expected a vector of length 1",
        ),
        (
            merged("1,0", &born(5, 2, "1,0,0")),
            ":2: from: expected two or more ids that ascend",
        ),
        (
            merged("0", &born(5, 2, "1,0,0")),
            ":2: from: expected two or more ids that ascend",
        ),
        (
            updated(
                "",
                &format!("{},{}", born(5, 2, "1,0,0"), born(5, 2, "1,0,0")),
            ),
            ":2: id: expected the next id, 6",
        ),
        (
            updated(
                "{\"id\":0,\"size\":1,\"coherence\":0.5,\"keywords\":[],\"medoids\":[],\"centroid\":[1]}",
                "",
            ),
            ":2: categories[0].centroid: expected 3 values, found 1",
        ),
    ] {
        fs::write(run.file(LOG_FILE), format!("{first}{line}")).unwrap();
        let error = Store::open(run.path()).unwrap_err().to_string();
        let expected = format!("{}{message}", run.file(LOG_FILE).display());
        assert!(error.starts_with(&expected), "{message}\n{error}");
    }
    for (log, message) in [
        (
            String::new(),
            ":1: expected an event, found no complete line",
        ),
        (
            first.trim_end().to_owned(),
            ":1: expected an event, found no complete line",
        ),
        (
            renamed(1, 0, "card lost", "x"),
            ":1: event: expected `created` on the first line",
        ),
        (
            first.replacen("\"revision\":1", "\"revision\":7", 1),
            ":1: revision: expected 1 on the first line, found 7",
        ),
        (
            first.replacen("categories/1", "categories/9", 1),
            ": schema: expected `asterism/categories/1`, found `asterism/categories/9`",
        ),
        (
            first.replacen("\"id\":3,\"name\"", "\"id\":2,\"name\"", 1),
            ":1: categories[0].nearest: expected other categories, found 3",
        ),
    ] {
        fs::write(run.file(LOG_FILE), log).unwrap();
        let error = Store::restore(run.path()).unwrap_err().to_string();
        let expected = format!("{}{message}", run.file(LOG_FILE).display());
        assert!(error.starts_with(&expected), "{message}\n{error}");
    }
}
