//! The manifest of a checkpoint, beside files that fit it or do not.
#![no_main]

use asterism_fuzz::file;
use libfuzzer_sys::fuzz_target;
use training::{CheckpointFiles, CheckpointStore, latest};

fuzz_target!(|content: &[u8]| {
    let run = file("checkpoints-run/here", b"");
    let run = run.parent().expect("a folder");
    let _ = std::fs::remove_dir_all(run.join("checkpoints"));
    let store = CheckpointStore::new(run);
    let good = CheckpointFiles::from([("state.json".to_owned(), b"{}".to_vec())]);
    store.save(1, &good).expect("a checkpoint");
    store.save(2, &good).expect("a checkpoint");
    std::fs::write(store.path_of(2).join("manifest.json"), content).expect("a damaged manifest");
    let loaded = store.load(2);
    if let Ok(checkpoint) = &loaded {
        assert_eq!(checkpoint.step, 2);
        assert!(
            checkpoint.files.keys().all(|name| name == "state.json"),
            "left its folder"
        );
    }
    // Whatever the newest is worth, the one before it is found.
    let newest = store
        .latest()
        .expect("a listing")
        .expect("a good checkpoint");
    assert_eq!(newest.step, if loaded.is_ok() { 2 } else { 1 });
    let _ = latest(run);
    store.keep_last(1).expect("a tidied folder");
    assert!(
        store.latest().expect("a listing").is_some(),
        "the last good checkpoint is gone"
    );
});
