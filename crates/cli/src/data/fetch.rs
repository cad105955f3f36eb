//! `asterism data fetch`: verified downloads.

use std::path::PathBuf;

use datasets::fetch::{FetchStatus, Progress};
use datasets::{FetchOptions, Manifest, fetch};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::error::CliError;
use crate::output::Output;

/// Download a data set and verify it.
///
/// Every file is checked against the size and SHA-256 of the manifest before it gets its name; a
/// file that is there and right is not downloaded again. Prints the path of every file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of a built-in manifest, see `asterism data list`.
    #[arg(value_name = "NAME", required_unless_present = "manifest")]
    name: Option<String>,
    /// Manifest of your own: a TOML file with URL, size and SHA-256 of every file.
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    manifest: Option<PathBuf>,
    /// Folder below which the folder of the data set is made.
    #[arg(long, value_name = "DIR", default_value = "data")]
    to: PathBuf,
    /// Use the proxy of the environment (HTTPS_PROXY and so on); it then resolves host names.
    #[arg(long)]
    env_proxy: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let manifest = match (&args.manifest, &args.name) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path).map_err(CliError::file("read", path))?;
            Manifest::parse(&text)?
        }
        (None, name) => Manifest::built_in(name.as_deref().unwrap_or_default())?,
    };
    let options = FetchOptions {
        use_env_proxy: args.env_proxy,
        ..FetchOptions::default()
    };
    let mut bar = DownloadBar::new();
    let outcome = fetch(&manifest, &args.to, &options, &mut |progress| {
        bar.show(progress)
    });
    bar.finish();
    let files = outcome?;

    let mut output = Output::stdout();
    if args.json {
        let files: Vec<_> = files
            .iter()
            .zip(&manifest.files)
            .map(|(file, wanted)| {
                json!({
                    "path": file.path, "status": status(file.status),
                    "bytes": wanted.bytes, "sha256": wanted.sha256,
                })
            })
            .collect();
        output.json(&json!({
            "name": manifest.name, "directory": manifest.directory(&args.to),
            "licence": manifest.licence, "files": files,
        }))?;
    } else {
        for file in &files {
            output.line(format_args!(
                "{}\t{}",
                file.path.display(),
                status(file.status)
            ))?;
        }
        eprintln!("{}: {}", manifest.title, manifest.licence);
    }
    output.flush()
}

/// How a file came to be there, in words.
pub(crate) fn status(status: FetchStatus) -> &'static str {
    match status {
        FetchStatus::AlreadyVerified => "already there",
        FetchStatus::Downloaded => "downloaded",
    }
}

/// One progress bar, for one file after the other; invisible unless standard error is a terminal.
pub(crate) struct DownloadBar {
    bar: ProgressBar,
    at: Option<(usize, u32)>,
}

impl DownloadBar {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::hidden();
        // The template is fixed; if it were refused the default style would do.
        if let Ok(style) = ProgressStyle::with_template(
            "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        ) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar, at: None }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    pub(crate) fn show(&mut self, progress: &Progress<'_>) {
        let at = (progress.index, progress.attempt);
        if self.at != Some(at) {
            if self.at.is_none() {
                self.bar
                    .set_draw_target(indicatif::ProgressDrawTarget::stderr());
            }
            self.at = Some(at);
            let again = match progress.attempt {
                1 => String::new(),
                attempt => format!(", try {attempt}"),
            };
            let name = crate::output::field(progress.file);
            self.bar.reset();
            self.bar.set_length(progress.total);
            self.bar.set_message(format!(
                "{name} ({}/{}{again})",
                progress.index + 1,
                progress.files
            ));
        }
        self.bar.set_position(progress.received);
    }
}
