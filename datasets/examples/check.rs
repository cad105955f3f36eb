//! Loads a data set and prints its report.
//!
//! ```text
//! cargo run -p datasets --example check -- DIR
//! cargo run -p datasets --example check -- TRAIN_FILE TEST_FILE
//! ```

use std::path::PathBuf;
use std::process::ExitCode;

use datasets::{CategoryFiles, LoadOptions, load_category_dir, load_category_files, pocket};

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let options = LoadOptions::default();
    let loaded = match arguments.as_slice() {
        [] => pocket(),
        [dir] => load_category_dir(dir, &options),
        [train, test, ..] => {
            let files = CategoryFiles {
                name: train.display().to_string(),
                train: train.clone(),
                valid: None,
                test: test.clone(),
                coarse_map: None,
            };
            load_category_files(&files, &options)
        }
    };
    match loaded {
        Ok(data) => {
            print!("{}", data.report);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
