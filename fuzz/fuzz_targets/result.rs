//! `result.json`, and the report that is drawn from it.
#![no_main]

use experiments::result::{ResultFile, summarise};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(result) = ResultFile::from_json(text) {
        let written = result.to_json().expect("an accepted result can be written");
        let again = ResultFile::from_json(&written).expect("our own file");
        assert_eq!(again.to_json().expect("JSON"), written);
        summarise(&result.rows);
        experiments::report::text_table(&result);
    }
});
