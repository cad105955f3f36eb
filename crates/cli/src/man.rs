//! `asterism man`: manual pages.

use std::path::PathBuf;

use crate::error::CliError;
use crate::output::Output;

/// Print the manual page, or write those of all commands into a folder.
///
/// For instance: asterism man | man -l -; asterism man --out ~/.local/share/man/man1
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder for one page a command; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the command; `definition` is the whole command line.
pub(crate) fn run(args: &Args, definition: clap::Command) -> Result<(), CliError> {
    let mut output = Output::stdout();
    let Some(dir) = &args.out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(definition)
            .render(&mut page)
            .map_err(CliError::Output)?;
        output.text(String::from_utf8_lossy(&page))?;
        return output.flush();
    };
    let cannot = |source| CliError::File {
        operation: "write manual pages into",
        path: dir.clone(),
        source,
    };
    std::fs::create_dir_all(dir).map_err(cannot)?;
    clap_mangen::generate_to(definition, dir).map_err(cannot)
}
