//! What the commands from texts to answers share: a model, texts for it, rows out.

use std::path::PathBuf;

use kernels::DeviceSpec;

use crate::error::CliError;
use crate::input::TextArgs;
use crate::output::Output;

/// Options of every command that sends texts through a model.
#[derive(Debug, clap::Args)]
pub(crate) struct InferenceArgs {
    /// Model directory: the model/ folder of a run, the sentence-transformers layout, or a plain
    /// Hugging Face checkpoint; or `pocket`, the bundled encoder.
    #[arg(long, short, value_name = "DIR|pocket", default_value = "pocket")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    texts: TextArgs,
    /// Print JSON lines.
    #[arg(long)]
    pub(crate) json: bool,
    /// flex, ndarray, wgpu, cuda or auto; `cuda:1` is the second GPU.
    #[arg(long, value_name = "D", default_value = "auto")]
    pub(crate) device: DeviceSpec,
}

impl InferenceArgs {
    /// Hands the texts over in groups of `size`; what was printed for one reaches the reader before
    /// the next is read.
    pub(crate) fn for_each_group(
        self,
        size: usize,
        mut print: impl FnMut(&[String], &mut Output) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut texts = self.texts.open()?;
        let mut output = Output::stdout();
        loop {
            let group = texts.take(size)?;
            if group.is_empty() {
                return output.flush();
            }
            print(&group, &mut output)?;
            output.flush()?;
        }
    }
}
