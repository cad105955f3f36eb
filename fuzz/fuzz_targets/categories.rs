//! `categories.json` and its log, of which the first byte chooses one to be hostile.
#![no_main]

use std::fs;

use asterism_fuzz::{catalogue, folder};
use categories::{CATALOGUE_FILE, Catalogue, CategoryId, Edit, LOG_FILE, NameSource, Store};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    let Some((&choice, content)) = content.split_first() else {
        return;
    };
    let dir = folder("categories");
    let mut store = Store::create(&dir, catalogue()).expect("a store");
    let rename = |name: &str| Edit::Rename {
        id: CategoryId(2),
        name: name.to_owned(),
        source: NameSource::Human,
    };
    store.apply(rename("front door")).expect("an edit");
    drop(store);
    match choice % 3 {
        0 => fs::write(dir.join(CATALOGUE_FILE), content).expect("a file"),
        1 => fs::write(dir.join(LOG_FILE), content).expect("a file"),
        // A good beginning and a hostile line.
        _ => {
            let mut log = fs::read(dir.join(LOG_FILE)).expect("a log");
            log.extend_from_slice(content);
            fs::write(dir.join(LOG_FILE), log).expect("a file");
        }
    }
    if let Ok(catalogue) = Catalogue::read(&dir.join(CATALOGUE_FILE)) {
        catalogue.check().expect("what was read has been checked");
        let text = catalogue.to_json().expect("JSON");
        fs::write(dir.join("again.json"), &text).expect("a file");
        let again = Catalogue::read(&dir.join("again.json")).expect("our own file");
        assert_eq!(again.to_json().expect("JSON"), text);
        for category in &catalogue.categories {
            catalogue.resolve(category.id, None);
            catalogue.resolve(category.id, Some(&[0.6, 0.8]));
        }
    }
    let seen = Store::read(&dir);
    if let Ok(mut store) = Store::open(&dir) {
        assert_eq!(
            &seen.expect("readable if it can be opened").catalogue,
            store.catalogue()
        );
        assert_eq!(&store.replay().expect("a log"), store.catalogue());
        let _ = store.apply(rename("back door"));
        let _ = store.undo();
        drop(store);
        Store::open(&dir).expect("a healed store opens again");
    }
    let _ = Store::restore(&dir);
});
