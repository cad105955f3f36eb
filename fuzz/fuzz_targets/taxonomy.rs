//! Taxonomies and templates that a user writes.
#![no_main]

use datagen::{Taxonomy, Template};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for origin in ["fuzz.toml", "fuzz.json"] {
        if let Ok(taxonomy) = Taxonomy::parse(text, origin) {
            assert!(taxonomy.fine().count() > 0);
        }
    }
    if let Ok(template) = Template::parse(text) {
        assert_eq!(template.source(), text);
        template.slots();
    }
});
