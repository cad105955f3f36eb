//! `asterism serve`: vectors and categories over HTTP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use categories::{Catalogue, Store, StoreError};
use datasets::pocket::model_dir;
use encoder::{LoadOptions, SentenceEncoder};
use experiments::cli::PrecisionArgs;
use explorer::Place;
use kernels::DeviceSpec;
use server::{
    ApiKey, Config, Corpus, CorpusText, Engine as _, EngineError, EngineSource, Outcome,
    PageSource, Parts, Server, StartError, Taxonomy,
};

use self::engine::TextEngine;
use self::log::LogForm;
use crate::error::CliError;
use crate::explore::RunMap;
use crate::model::load;
use crate::model_categories::ModelCategories;
use crate::output::Output;
use crate::run_files::{Members, Vectors};

mod engine;
mod log;

/// Environment variable with the key.
const KEY_VARIABLE: &str = "ASTERISM_API_KEY";

/// Threads that read requests and write responses; the model has its own.
const THREADS: usize = 2;

/// Serve vectors and categories over HTTP.
///
/// Prints the address as one line and then answers until SIGTERM or SIGINT: OpenAI's
/// /v1/embeddings, /embed and /similarity of text-embeddings-inference; /predict and /categories
/// with a --model that has centroids, which cannot be edited; with --run /search and /explorer too,
/// and edits of the categories. /docs on the server lists all routes. Any address other than
/// loopback needs a key, from the environment variable ASTERISM_API_KEY or --api-key-file. Exit
/// codes: 0 stopped after the last answer, 143 or 130 stopped before it, 2 bad input or usage.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run directory of `asterism discover`: its model, categories and texts.
    #[arg(long, value_name = "RUN", conflicts_with = "model")]
    run: Option<PathBuf>,
    /// Model directory, or `pocket`, the bundled encoder.
    #[arg(long, short, value_name = "DIR|pocket", default_value = "pocket")]
    model: PathBuf,
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    addr: SocketAddr,
    /// File with the key that requests have to carry, readable by its owner only.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Name that clients and proxies may use for this server beside localhost; may be repeated.
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// Most tokens computed at once (default: 4096, or the longest text of the model).
    #[arg(long, value_name = "N", value_parser = crate::model::positive)]
    max_batch_tokens: Option<usize>,
    /// Most texts that wait for the model; more are refused with 429.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = crate::model::positive)]
    queue: usize,
    /// Longest time in milliseconds that a request should wait for the model; one that would wait
    /// longer is refused with 429. A request may always wait for eight others of the usual size.
    #[arg(long, value_name = "MS", default_value_t = 25)]
    max_wait: u64,
    /// Seconds from the signal to stop until no connection is accepted any more; /health/ready
    /// answers 503 meanwhile.
    #[arg(long, value_name = "S", default_value_t = 1)]
    drain_notice: u64,
    /// Most texts on the page of the explorer; of more, this many are drawn at random.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = crate::model::positive)]
    explorer_rows: usize,
    /// flex, ndarray, wgpu, cuda or auto; `cuda:1` is the second GPU.
    #[arg(long, value_name = "D", default_value = "auto")]
    device: DeviceSpec,
    #[command(flatten)]
    products: PrecisionArgs,
    /// Lines of the log on standard error: text, or a JSON object each.
    #[arg(long, value_name = "FORM", value_enum, default_value = "text")]
    log: LogForm,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let api_key = key(args.api_key_file.as_deref())?;
    if !args.addr.ip().is_loopback() && api_key.is_none() {
        // Before the model is loaded.
        return Err(StartError::KeyRequired { addr: args.addr }.into());
    }
    log::start(args.log);
    let model_path = match &args.run {
        Some(run) => run.join("model"),
        None => args.model.clone(),
    };
    let options = LoadOptions {
        precision: args.products.precision(),
        ..LoadOptions::default()
    };
    let loaded = Loaded::new(&model_path, &options, args.device)?;
    let (taxonomy, corpus) = match &args.run {
        Some(run) => loaded.run_files(run)?,
        None => (loaded.model_categories()?, None),
    };
    let config = Config {
        addr: args.addr,
        api_key,
        allowed_hosts: args.allow_host,
        max_batch_tokens: args
            .max_batch_tokens
            .unwrap_or_else(|| 4096.max(loaded.engine.info().max_tokens)),
        queue: args.queue,
        max_wait: Duration::from_millis(args.max_wait),
        drain_notice: Duration::from_secs(args.drain_notice),
        ..Config::default()
    };
    let parts = Parts {
        engine: loaded.source(model_path, options, args.device),
        taxonomy,
        corpus,
        page: args.run.map(|run| explorer_page(run, args.explorer_rows)),
    };
    serve(config, parts)
}

/// The key, from a file or else from the environment.
fn key(file: Option<&Path>) -> Result<Option<ApiKey>, StartError> {
    match file {
        Some(path) => ApiKey::from_file(path).map(Some),
        None => ApiKey::from_env(KEY_VARIABLE),
    }
}

/// The explorer with the categories as they are. The map is drawn for the first request: that may
/// take a while without a map.json.
fn explorer_page(run: PathBuf, rows: usize) -> PageSource {
    let drawn: Mutex<Option<Arc<RunMap>>> = Mutex::new(None);
    Box::new(move || {
        let map = {
            let mut drawn = drawn.lock().unwrap_or_else(PoisonError::into_inner);
            match &*drawn {
                Some(map) => Arc::clone(map),
                None => Arc::clone(drawn.insert(Arc::new(RunMap::load(&run, rows, 0)?))),
            }
        };
        let catalogue = Store::read(&run)?.catalogue;
        Ok(map.page(&catalogue, None, Place::Server)?)
    })
}

/// Listens until the process is told to stop.
fn serve(config: Config, parts: Parts) -> Result<(), CliError> {
    let cannot_start = |source| StartError::System {
        what: "the threads of the server",
        source,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("http")
        .enable_all()
        .build()
        .map_err(cannot_start)?;
    let outcome = runtime.block_on(async {
        let signals = server::signals()?;
        let server = Server::bind(config, parts).await?;
        let addr = server.local_addr();
        tracing::info!(target: "asterism", %addr, "listening");
        let mut output = Output::stdout();
        output.line(format_args!("http://{addr}"))?;
        output.flush()?;
        drop(output);
        Ok::<_, CliError>(server.run(signals).await)
    });
    // A batch that nobody waits for any more may still be computed.
    runtime.shutdown_background();
    match outcome? {
        Outcome::Drained => Ok(()),
        outcome => Err(CliError::Stopped { outcome }),
    }
}

/// A model ready to serve.
struct Loaded {
    engine: TextEngine,
    /// The model directory.
    dir: PathBuf,
    sha256: String,
}

impl Loaded {
    fn new(path: &Path, options: &LoadOptions, device: DeviceSpec) -> Result<Self, CliError> {
        let model = load(path, options, device)?;
        let dir = model_dir(path)?;
        let sha256 = SentenceEncoder::weights_hash(&dir)?;
        let engine = TextEngine::new(model, id(path), sha256.clone())?;
        Ok(Self {
            engine,
            dir,
            sha256,
        })
    }

    /// Those of the model directory, if it has centroids.
    fn model_categories(&self) -> Result<Option<Taxonomy>, CliError> {
        match ModelCategories::read(self.engine.model(), &self.dir) {
            Ok(found) => Ok(Some(
                Taxonomy::fixed(&found.catalogue).map_err(StoreError::from)?,
            )),
            Err(CliError::NoCentroids { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Hands out the engine, and loads the model anew when it is asked for again.
    fn source(self, path: PathBuf, options: LoadOptions, device: DeviceSpec) -> EngineSource {
        let first = Mutex::new(Some(self.engine));
        Box::new(move || {
            let taken = first.lock().ok().and_then(|mut engine| engine.take());
            match taken {
                Some(engine) => Ok(engine.shared()),
                None => Self::new(&path, &options, device)
                    .map(|again| again.engine.shared())
                    .map_err(|error| EngineError(error.to_string())),
            }
        })
    }

    /// Categories and texts of a run.
    fn run_files(&self, run: &Path) -> Result<(Option<Taxonomy>, Option<Corpus>), CliError> {
        let taxonomy = self.taxonomy(run)?;
        let members = Members::read(run)?;
        let vectors = Vectors::read(run, members.len())?;
        let texts = members.rows.into_iter().map(|member| CorpusText {
            text: member.text,
            coarse: member.coarse,
            category: member.category,
        });
        let dim = vectors.dim;
        let corpus = Corpus::new(texts.collect(), vectors.into_values(), dim)?;
        Ok((Some(taxonomy), Some(corpus)))
    }

    /// The categories of a run, to be edited where the run can be written.
    fn taxonomy(&self, run: &Path) -> Result<Taxonomy, CliError> {
        let taxonomy = match Store::open(run) {
            Ok(store) => {
                for healed in store.healed() {
                    tracing::warn!(target: "asterism", %healed, "the categories were repaired");
                }
                self.check_model(run, store.catalogue())?;
                Taxonomy::editable(store)
            }
            Err(error) if error.is_read_only() => {
                tracing::warn!(target: "asterism", %error, "the categories cannot be edited");
                let catalogue = Store::read(run)?.catalogue;
                self.check_model(run, &catalogue)?;
                Taxonomy::fixed(&catalogue)
            }
            Err(error) => return Err(error.into()),
        };
        Ok(taxonomy.map_err(StoreError::from)?)
    }

    /// Vectors of another model would be near the wrong centroids.
    fn check_model(&self, run: &Path, catalogue: &Catalogue) -> Result<(), CliError> {
        let found = &catalogue.model_sha256;
        if found.is_empty() || *found == self.sha256 {
            return Ok(());
        }
        Err(CliError::Extension {
            path: run.join("categories.json"),
            field: "model_sha256".to_owned(),
            expected: format!("{}, the weights in model/", self.sha256),
            found: found.clone(),
        })
    }
}

/// Name of a model for clients: its folder, and for the model of a run the folder of the run too.
fn id(path: &Path) -> String {
    let name = |path: &Path| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    match name(path) {
        Some(own) if own == "model" => match path.parent().and_then(name) {
            Some(run) => format!("{run}/{own}"),
            None => own,
        },
        Some(own) => own,
        None => "model".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use kernels::Precision;

    use super::*;

    #[test]
    fn a_model_that_is_loaded_again_keeps_its_options() {
        let vectors_of = |precision: Precision| {
            let path = PathBuf::from("pocket");
            let options = LoadOptions {
                precision,
                ..LoadOptions::default()
            };
            let loaded = Loaded::new(&path, &options, DeviceSpec::Flex).unwrap();
            let source = loaded.source(path, options, DeviceSpec::Flex);
            [(); 2].map(|()| {
                let engine = source().unwrap();
                let rows = engine.tokenize(&["a late order".to_owned()]).unwrap();
                engine.embed(&[&rows[0].ids]).unwrap()
            })
        };
        let [f32, f32_again] = vectors_of(Precision::F32);
        let [bf16, bf16_again] = vectors_of(Precision::Bf16);
        assert_eq!(f32, f32_again);
        assert_eq!(bf16, bf16_again);
        assert_ne!(f32, bf16);
    }

    #[test]
    fn a_model_is_named_after_its_folder() {
        for (path, name) in [
            ("pocket", "pocket"),
            ("models/minilm", "minilm"),
            ("runs/clinc/model", "clinc/model"),
            ("model", "model"),
            ("/", "model"),
        ] {
            assert_eq!(id(Path::new(path)), name);
        }
    }
}
