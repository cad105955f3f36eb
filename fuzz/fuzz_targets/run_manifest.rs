//! The manifest of a run directory.
#![no_main]

use asterism_fuzz::file;
use libfuzzer_sys::fuzz_target;
use training::RunDir;

fuzz_target!(|content: &[u8]| {
    let path = file("run/manifest.json", content);
    let folder = path.parent().expect("a folder");
    if let Ok((run, _)) = RunDir::open(folder) {
        drop(run);
        assert!(
            RunDir::create(folder, "", &training::RunManifest::new("fuzz", 0)).is_err(),
            "a run was overwritten"
        );
    }
});
