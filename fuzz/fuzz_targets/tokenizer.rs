//! `tokenizer.json` behind our wrapper: whatever the library does, an error or ids.
#![no_main]

use std::sync::Once;

use encoder::TextTokenizer;
use libfuzzer_sys::fuzz_target;

/// The fuzzer's own hook ends the program before the wrapper can catch a panic of the library; a
/// panic that nobody catches still ends it.
fn let_panics_be_caught() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
}

fuzz_target!(|content: &[u8]| {
    let_panics_be_caught();
    if let Ok(tokenizer) = TextTokenizer::from_bytes(content, "fuzz") {
        for texts in [
            &["", "a b", "naïve 12 ##x 今天 \u{0} \u{10ffff}"][..],
            &["play"; 9],
        ] {
            if let Ok(ids) = tokenizer.encode(texts, 8) {
                assert_eq!(ids.len(), texts.len());
                assert!(
                    ids.iter().all(|ids| ids.len() <= 8),
                    "longer than asked for"
                );
            }
        }
    }
});
