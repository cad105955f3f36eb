//! Writes similarity patterns by rules.
//!
//! `cargo run -p datagen --example simulate_rules -- <seed> < sentences.txt > rows.tsv`
//!
//! Every line of the input is a sentence; all of them together are the corpus. Every row of the
//! output has the sentence, then its positive, intermediate, negative, entailment and contradiction,
//! separated by tabs.

use std::io::{BufRead, BufWriter, Write};

use datagen::rules::RuleBased;
use datagen::simulation::Relation;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seed: u64 = std::env::args().nth(1).map_or(Ok(0), |s| s.parse())?;
    let mut sentences = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line?.replace('\t', " ");
        if !line.trim().is_empty() {
            sentences.push(line);
        }
    }
    let rules = RuleBased::new(seed, sentences.clone());
    let mut out = BufWriter::new(std::io::stdout().lock());
    for sentence in &sentences {
        write!(out, "{}", sentence.trim())?;
        for relation in Relation::ALL {
            write!(out, "\t{}", rules.write(relation, sentence, 0))?;
        }
        writeln!(out)?;
    }
    out.flush()?;
    Ok(())
}
