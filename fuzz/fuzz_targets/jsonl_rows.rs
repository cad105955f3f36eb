//! Rows of `.jsonl` files through every loader that takes them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| asterism_fuzz::rows("jsonl", content));
