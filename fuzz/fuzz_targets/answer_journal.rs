//! Journals of answers, as a crash or another program may leave them.
#![no_main]

use asterism_fuzz::file;
use datagen::job::{Journal, Replay};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    let path = file("answers.jsonl", content);
    let mut journal = Journal::in_memory();
    if journal.also_read(&path).is_ok() {
        journal.sources();
        let _ = Replay::open(&[&path], None);
    }
    // Opening heals a torn last line, so that it opens again.
    if Journal::open(&path).is_ok() {
        Journal::open(&path).expect("a journal that was healed");
    }
});
