//! `asterism model fetch`: verified downloads of model directories.

use std::path::{Path, PathBuf};

use ::datagen::chat::ApiKey;
use datasets::hash::parse_sha256_lines;
use datasets::hub::{DEFAULT_HUB, Plan, SOURCE_FILE};
use datasets::{FetchError, HubError, HubRequest, fetch_model, plan_model};
use miette::Diagnostic;
use serde_json::json;
use thiserror::Error;

use crate::data::{DownloadBar, status};
use crate::error::CliError;
use crate::output::Output;

/// Download a model directory from a hub, pin it and verify it.
///
/// Takes the files that a model directory is made of, weights as safetensors only, from the commit
/// that the revision stands for. asterism-source.json in the directory holds the commit and the
/// SHA-256 of every file; the same command again compares the directory with it, and a file that
/// differs is an error. Prints the path of every file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the model on the hub.
    #[arg(value_name = "OWNER/NAME")]
    model: String,
    /// Commit, tag or branch (default: main, or what the directory is pinned to).
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Directory to make (default: models/NAME).
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Address of the hub.
    #[arg(long, value_name = "URL", default_value = DEFAULT_HUB)]
    hub: String,
    /// Digests that files must have, as `sha256sum` writes them.
    #[arg(long, value_name = "FILE")]
    sha256: Option<PathBuf>,
    /// Environment variable that holds the token for the hub.
    #[arg(long, value_name = "VARIABLE")]
    token_env: Option<String>,
    /// Send nothing: compare a directory with its pin.
    #[arg(long, conflicts_with = "dry_run")]
    offline: bool,
    /// List the files with sizes and download nothing.
    #[arg(long)]
    dry_run: bool,
    /// Use the proxy of the environment (HTTPS_PROXY and so on); it then resolves host names.
    #[arg(long)]
    env_proxy: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A model that cannot be had, and what to do about it.
#[derive(Debug, Error, Diagnostic)]
#[error("{error}")]
pub(crate) struct ModelFetchError {
    error: HubError,
    #[help]
    help: Option<&'static str>,
}

impl From<HubError> for ModelFetchError {
    fn from(error: HubError) -> Self {
        let help = match &error {
            HubError::Fetch(FetchError::Status {
                status: 401 | 403, ..
            }) => Some(
                "the name is wrong, or the model needs a token: put it into a variable and name that with --token-env",
            ),
            HubError::Fetch(FetchError::Status { status: 404, .. }) => {
                Some("check the name of the model, --revision and --hub")
            }
            HubError::Sharded { .. } => {
                Some("join the parts with Python: SentenceTransformer(NAME).save(DIR)")
            }
            HubError::NoSafetensors { .. } => Some(
                "pickle files are never opened; convert them where you trust them: SentenceTransformer(NAME).save(DIR)",
            ),
            HubError::NotEmpty { .. } => Some("choose another folder with --out"),
            HubError::OtherModel { .. } | HubError::OtherCommit { .. } => {
                Some("choose another folder with --out, or remove this one")
            }
            HubError::Changed { .. } => Some(
                "remove the file and the same command brings it back, or fetch into another folder",
            ),
            HubError::Offline { .. } => Some("leave out --offline"),
            _ => None,
        };
        Self { error, help }
    }
}

impl ModelFetchError {
    /// 1 if the request was fine and the work was not, 2 for bad input.
    pub(crate) fn exit_code(&self) -> u8 {
        match &self.error {
            HubError::Fetch(error) => crate::error::fetch_exit_code(error),
            HubError::Listing { .. } | HubError::Changed { .. } => 1,
            _ => 2,
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let request = args.request()?;
    if args.dry_run {
        return show(
            &plan_model(&request).map_err(ModelFetchError::from)?,
            args.json,
        );
    }
    let dir = match &args.out {
        Some(dir) => dir.clone(),
        None => Path::new("models").join(args.model.rsplit('/').next().unwrap_or_default()),
    };
    let mut bar = DownloadBar::new();
    let outcome = fetch_model(&request, &dir, &mut |progress| bar.show(progress));
    bar.finish();
    let done = outcome.map_err(ModelFetchError::from)?;

    let mut output = Output::stdout();
    if args.json {
        let files: Vec<_> = done
            .source
            .files
            .iter()
            .map(|(name, file)| {
                json!({
                    "path": dir.join(name), "status": done.status.get(name).copied().map(status),
                    "bytes": file.bytes, "sha256": file.sha256,
                })
            })
            .collect();
        output.json(&json!({
            "model": done.source.model, "hub": done.source.hub, "directory": dir,
            "revision": done.source.revision, "commit": done.source.commit, "files": files,
        }))?;
    } else {
        for (name, how) in &done.status {
            output.line(format_args!(
                "{}\t{}",
                dir.join(name).display(),
                status(*how)
            ))?;
        }
        eprintln!(
            "{} at {}, pinned in {}",
            done.source.model,
            done.source.commit,
            dir.join(SOURCE_FILE).display()
        );
    }
    output.flush()
}

impl Args {
    fn request(&self) -> Result<HubRequest, CliError> {
        let mut request = HubRequest::new(&self.model);
        request.hub.clone_from(&self.hub);
        request.revision.clone_from(&self.revision);
        request.offline = self.offline;
        request.options.use_env_proxy = self.env_proxy;
        if let Some(variable) = &self.token_env {
            request.key = Some(ApiKey::from_env(variable)?);
        }
        if let Some(path) = &self.sha256 {
            let text = std::fs::read_to_string(path).map_err(CliError::file("read", path))?;
            request.sha256 = parse_sha256_lines(&text).map_err(|line| CliError::Line {
                origin: path.display().to_string(),
                line: line as u64,
                problem: "expected a SHA-256, two spaces and the name of a file, each name once"
                    .to_owned(),
            })?;
        }
        Ok(request)
    }
}

fn show(plan: &Plan, json: bool) -> Result<(), CliError> {
    let mut output = Output::stdout();
    if json {
        output.json(plan)?;
        return output.flush();
    }
    for file in &plan.files {
        let bytes = file.bytes.map_or("?".to_owned(), |bytes| bytes.to_string());
        let sha256 = file.sha256.as_deref();
        let sha256 = sha256.map_or(String::new(), |sha256| format!("  SHA-256 {sha256}"));
        output.line(format_args!("{bytes:>12}  {}{sha256}", file.path))?;
    }
    let bytes: u64 = plan.files.iter().filter_map(|file| file.bytes).sum();
    eprintln!(
        "{} at {}: {} files, {bytes} bytes",
        plan.model,
        plan.commit,
        plan.files.len()
    );
    output.flush()
}
