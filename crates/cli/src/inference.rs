//! What the commands from texts to answers share: a model, and texts for it.

use std::path::PathBuf;

use experiments::cli::PrecisionArgs;
use kernels::DeviceSpec;

use crate::input::TextArgs;

/// Options of every command that sends texts through a model.
#[derive(Debug, clap::Args)]
pub(crate) struct InferenceArgs {
    /// Model directory: the model/ folder of a run, the sentence-transformers layout, or a plain
    /// Hugging Face checkpoint; or `pocket`, the bundled encoder.
    #[arg(long, short, value_name = "DIR|pocket", default_value = "pocket")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) texts: TextArgs,
    /// Print JSON lines.
    #[arg(long)]
    pub(crate) json: bool,
    /// flex, ndarray, wgpu, cuda or auto; `cuda:1` is the second GPU.
    #[arg(long, value_name = "D", default_value = "auto")]
    pub(crate) device: DeviceSpec,
    #[command(flatten)]
    pub(crate) products: PrecisionArgs,
}
