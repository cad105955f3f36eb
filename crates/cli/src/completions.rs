//! `asterism completions`: completion scripts for shells.

use clap_complete::Shell;

use crate::error::CliError;
use crate::output::Output;

/// Print the completion script of a shell.
///
/// For instance: asterism completions bash > ~/.local/share/bash-completion/completions/asterism
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Runs the command; `definition` is the whole command line.
pub(crate) fn run(args: &Args, mut definition: clap::Command) -> Result<(), CliError> {
    // Generated in memory, because the generator panics when its writer fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition, "asterism", &mut script);
    let mut output = Output::stdout();
    output.text(String::from_utf8_lossy(&script))?;
    output.flush()
}
