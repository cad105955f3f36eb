//! Downloads a data set by its manifest, verifies every file, and prints what the loader sees.
//!
//! ```text
//! cargo run -p datasets --example fetch -- NAME [CACHE_DIR]      NAME: hwu64, clinc
//! ```

use std::error::Error;
use std::path::PathBuf;

use datasets::{FetchOptions, LoadOptions, Manifest, fetch, load_category_dir};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().ok_or("usage: fetch NAME [CACHE_DIR]")?;
    let cache = PathBuf::from(arguments.next().unwrap_or_else(|| "data".to_owned()));

    let manifest = Manifest::built_in(&name)?;
    println!("{}\nsource:  {}\nlicence: {}", manifest.title, manifest.source, manifest.licence);
    // Proxies are opt-in in the library; a command run by a person uses the one of the environment.
    let options = FetchOptions {
        use_env_proxy: true,
        ..FetchOptions::default()
    };
    for file in fetch(&manifest, &cache, &options, &mut |_| {})? {
        println!("{:?}: {}", file.status, file.path.display());
    }
    let data = load_category_dir(&manifest.directory(&cache), &LoadOptions::default())?;
    print!("{}", data.report);
    Ok(())
}
