//! NLI files, and the triplets made of them.
#![no_main]

use asterism_fuzz::file;
use datasets::nli::{NliNumbers, TripletRule, triplets};
use datasets::{NliOptions, load_nli};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    let Some((&choice, content)) = content.split_first() else {
        return;
    };
    let ending = ["tsv", "csv", "jsonl"][usize::from(choice) % 3];
    let numbers = if choice & 0x80 == 0 {
        NliNumbers::Ascending
    } else {
        NliNumbers::Descending
    };
    let path = file(&format!("nli.{ending}"), content);
    let options = NliOptions {
        numbers,
        ..NliOptions::default()
    };
    if let Ok(rows) = load_nli(&[path], &options) {
        assert_eq!(rows.counts().iter().sum::<usize>(), rows.pairs.len());
        for rule in [
            TripletRule::FirstOfEach,
            TripletRule::EveryEntailment { seed: 0 },
        ] {
            let made = triplets(&rows.pairs, rule);
            assert!(made.len() <= rows.pairs.len());
        }
    }
});
