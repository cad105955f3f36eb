//! Writes the Pocket set: `train.tsv`, `test.tsv` and `vocab.txt`.

use std::path::PathBuf;

use clap::Parser;
use datagen::pocket;
use miette::{IntoDiagnostic, Result, WrapErr};

/// Generate the Pocket set from its templates.
#[derive(Debug, Parser)]
#[command(name = "pocket", version)]
struct Arguments {
    /// Folder to write into; made if it does not exist.
    #[arg(long)]
    out: PathBuf,
    /// Seed of the generator. The bundled files use the default.
    #[arg(long, default_value_t = pocket::SEED)]
    seed: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let set = pocket::generate(arguments.seed).into_diagnostic()?;
    std::fs::create_dir_all(&arguments.out)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot make the folder {}", arguments.out.display()))?;
    let files = [
        ("train.tsv", set.train_tsv()),
        ("test.tsv", set.test_tsv()),
        ("vocab.txt", set.vocab_txt()),
    ];
    for (name, content) in files {
        let path = arguments.out.join(name);
        std::fs::write(&path, content)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}
