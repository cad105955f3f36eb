//! `asterism data list`: data sets that need no address.

use datasets::Manifest;
use serde::Serialize;

use crate::error::CliError;
use crate::output::Output;

/// List the data sets that are bundled or can be fetched by name.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    title: String,
    /// Whether it is part of this program; otherwise it is fetched.
    bundled: bool,
    files: usize,
    bytes: u64,
    source: String,
    licence: String,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let mut entries = vec![Entry {
        name: "pocket".to_owned(),
        title: "Pocket: customer messages in 8 coarse and 40 fine categories".to_owned(),
        bundled: true,
        files: 2,
        bytes: (datasets::pocket::TRAIN.len() + datasets::pocket::TEST.len()) as u64,
        source: "templates of this project (asterism datagen pocket)".to_owned(),
        licence: "that of this project".to_owned(),
    }];
    for name in Manifest::built_in_names() {
        let manifest = Manifest::built_in(name)?;
        entries.push(Entry {
            bundled: false,
            files: manifest.files.len(),
            bytes: manifest.files.iter().map(|file| file.bytes).sum(),
            name: manifest.name,
            title: manifest.title,
            source: manifest.source,
            licence: manifest.licence,
        });
    }
    let mut output = Output::stdout();
    if args.json {
        output.json(&entries)?;
    } else {
        for entry in &entries {
            let how = if entry.bundled {
                "bundled"
            } else {
                "data fetch"
            };
            output.line(format_args!(
                "{}  ({how}, {} bytes)",
                entry.name, entry.bytes
            ))?;
            output.line(format_args!("  {}", entry.title))?;
            output.line(format_args!("  source: {}", entry.source))?;
            output.line(format_args!("  licence: {}", entry.licence))?;
        }
    }
    output.flush()
}
