//! What the commands from texts to answers share: a model, and texts for it.

use std::path::PathBuf;

use kernels::{DeviceSpec, Precision};

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
    /// Round the operands of the products with the model's weights to bfloat16: up to 1.5 times as fast
    /// where the processor has instructions for it, slower where it has none.
    #[arg(long)]
    pub(crate) bf16: bool,
}

/// The precision that `--bf16` asks for.
pub(crate) fn products(bf16: bool) -> Precision {
    if bf16 {
        Precision::Bf16
    } else {
        Precision::F32
    }
}
