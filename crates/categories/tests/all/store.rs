use std::fs;
use std::path::Path;

use categories::{
    CATALOGUE_FILE, Catalogue, CategoryId, Edit, Healed, LOCK_FILE, LOG_FILE, NameSource, Store,
    StoreError,
};

use crate::support::{Quick, Run, catalogue, names};

fn rename(store: &mut Store, id: u32, name: &str) {
    let edit = Edit::Rename {
        id: CategoryId(id),
        name: name.to_owned(),
        source: NameSource::Human,
    };
    store.apply(edit).unwrap();
}

fn open_error(dir: &Path) -> String {
    let error = Store::open(dir).unwrap_err().to_string();
    assert_eq!(Store::read(dir).unwrap_err().to_string(), error);
    error
}

#[test]
fn an_edit_is_a_line_and_a_new_catalogue() {
    let (run, mut store) = Run::new();
    let first = run.log();
    assert_eq!(run.json(), store.catalogue().to_json().unwrap());
    rename(&mut store, 1, "money back");
    assert!(run.log().starts_with(&first));
    let log = String::from_utf8(run.log()).unwrap();
    let line: serde_json::Value = serde_json::from_str(log.lines().nth(1).unwrap()).unwrap();
    assert_eq!(line["revision"], 2);
    assert_eq!(
        line["event"],
        serde_json::json!({"renamed": {
            "id": 1, "from": "refund", "to": "money back", "source": "human",
        }})
    );
    assert!(line["at"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(run.json(), store.catalogue().to_json().unwrap());
    assert_eq!(
        Catalogue::read(&run.file(CATALOGUE_FILE)).unwrap(),
        *store.catalogue()
    );
    let read = Store::read(run.path()).unwrap();
    assert_eq!(
        (&read.catalogue, read.log.as_slice()),
        (store.catalogue(), store.log())
    );
    drop(store);
    let store = Store::open(run.path()).unwrap();
    assert!(store.healed().is_empty());
    assert_eq!(store.catalogue(), &read.catalogue);
}

#[test]
fn the_lists_of_nearest_categories_are_made_at_the_beginning() {
    let (_run, store) = Run::new();
    assert!(
        store
            .catalogue()
            .active()
            .all(|category| category.nearest.len() == 4)
    );
}

#[test]
fn two_writers_do_not_meet() {
    let (run, store) = Run::new();
    let error = Store::open(run.path()).unwrap_err();
    let StoreError::Locked { holder, .. } = &error else {
        panic!("{error}")
    };
    assert!(
        holder.ends_with(&format!("process {}", std::process::id())),
        "{holder}"
    );
    // Reading is possible all the time.
    Store::read(run.path()).unwrap();
    drop(store);
    let mut store = Store::open(run.path()).unwrap();
    rename(&mut store, 0, "lost");
    // What stands in the lock file is for people; garbage from elsewhere does no harm.
    fs::write(run.file(LOCK_FILE), b"\xff\x00\x1b[31m").unwrap();
    let error = Store::open(run.path()).unwrap_err().to_string();
    assert!(
        error.contains("locked by") && !error.contains('\u{1b}'),
        "{error}"
    );
}

#[test]
fn a_directory_without_categories_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let error = open_error(dir.path());
    assert!(
        error.ends_with("there are no categories: categories.json is missing"),
        "{error}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let (run, store) = Run::new();
    drop(store);
    fs::remove_file(run.file(LOG_FILE)).unwrap();
    let error = open_error(run.path());
    assert!(
        error.ends_with("categories.log.jsonl is missing"),
        "{error}"
    );
}

#[test]
fn nothing_is_begun_over_what_is_there() {
    let (run, store) = Run::new();
    drop(store);
    let before = (run.log(), run.json());
    let error = Store::create(run.path(), catalogue()).unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
    assert_eq!((run.log(), run.json()), before);
    let mut later = catalogue();
    later.revision = 2;
    assert!(Store::create(run.path().join("new"), later).is_err());
    assert!(!run.path().join("new").exists());
    // A folder that does not exist yet is made.
    Store::create(run.path().join("a/b"), catalogue()).unwrap();
}

#[test]
fn a_catalogue_behind_its_log_is_brought_forward() {
    let (run, mut store) = Run::new();
    let old = run.json();
    rename(&mut store, 0, "lost");
    rename(&mut store, 1, "back");
    let new = run.json();
    drop(store);
    for (content, from) in [(Some(&old), Some(1)), (None, None)] {
        match content {
            Some(content) => fs::write(run.file(CATALOGUE_FILE), content).unwrap(),
            None => fs::remove_file(run.file(CATALOGUE_FILE)).unwrap(),
        }
        let read = Store::read(run.path()).unwrap();
        assert_eq!(read.catalogue.to_json().unwrap(), new);
        // Reading wrote nothing.
        assert_ne!(
            fs::read_to_string(run.file(CATALOGUE_FILE)).ok().as_ref(),
            Some(&new)
        );
        let store = Store::open(run.path()).unwrap();
        assert_eq!(store.healed(), [Healed::Rewritten { from, to: 3 }]);
        assert_eq!(run.json(), new);
    }
}

#[test]
fn an_unfinished_line_is_cut_wherever_it_ends() {
    let (run, mut store) = Run::new();
    rename(&mut store, 0, "lost");
    let (log, json) = (run.log(), run.json());
    rename(&mut store, 1, "back");
    drop(store);
    let longer = run.log();
    let zeros = [log.as_slice(), &[0; 100]].concat();
    let torn = (log.len() + 1..longer.len()).map(|end| longer[..end].to_vec());
    for torn in torn.chain([zeros]) {
        fs::write(run.file(LOG_FILE), &torn).unwrap();
        fs::write(run.file(CATALOGUE_FILE), &json).unwrap();
        assert_eq!(Store::read(run.path()).unwrap().log.len(), 2);
        let bytes = (torn.len() - log.len()) as u64;
        let mut store = Store::open_with(Quick, run.path()).unwrap();
        assert_eq!(store.healed(), [Healed::TornLine { bytes }]);
        assert!(
            store.healed()[0]
                .to_string()
                .contains(&format!("{bytes} bytes"))
        );
        assert_eq!(run.log(), log);
        rename(&mut store, 1, "back again");
        assert_eq!(names(store.catalogue())[1], (1, "back again"));
    }
}

#[test]
fn a_catalogue_that_does_not_fit_its_log_is_an_error_until_it_is_restored() {
    let (run, mut store) = Run::new();
    let log = run.log();
    rename(&mut store, 0, "lost");
    let (longer, json) = (run.log(), run.json());
    drop(store);

    fs::write(
        run.file(CATALOGUE_FILE),
        json.replace("\"lost\"", "\"found\""),
    )
    .unwrap();
    let error = open_error(run.path());
    assert!(
        error.ends_with("categories.json is not what its log gives at revision 2"),
        "{error}"
    );
    fs::write(run.file(CATALOGUE_FILE), json.trim_end()).unwrap();
    assert!(open_error(run.path()).contains("is not what its log gives"));
    let store = Store::restore(run.path()).unwrap();
    assert_eq!(store.healed(), [Healed::Rewritten { from: None, to: 2 }]);
    assert_eq!(run.json(), json);
    drop(store);

    // The log lost a line, whole or in part.
    for short in [&log, &longer[..longer.len() - 1].to_vec()] {
        fs::write(run.file(LOG_FILE), short).unwrap();
        let error = open_error(run.path());
        assert!(
            error.ends_with("categories.json stands at revision 2, but its log ends at 1"),
            "{error}"
        );
        assert_eq!(&run.log(), short);
    }
}
