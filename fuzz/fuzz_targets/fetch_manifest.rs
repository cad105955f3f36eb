//! Download manifests: a name of a file never leaves the folder.
#![no_main]

use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(manifest) = datasets::Manifest::parse(text) {
        for file in &manifest.files {
            let mut parts = Path::new(&file.path).components();
            assert!(
                parts.all(|part| matches!(part, Component::Normal(_))),
                "{}",
                file.path
            );
            assert!(!file.path.contains(['\\', ':', '\0']), "{}", file.path);
        }
        let folder = manifest.directory(Path::new("cache"));
        assert_eq!(folder.parent(), Some(Path::new("cache")));
    }
});
