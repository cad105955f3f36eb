//! The bundled encoder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use encoder::{LoadOptions, SentenceEncoder};

use crate::error::RunError;

/// Loads it onto a device.
pub(crate) fn encoder(options: &LoadOptions, device: &Device) -> Result<SentenceEncoder, RunError> {
    Ok(SentenceEncoder::load(
        &datasets::pocket::encoder_dir()?,
        options,
        device,
    )?)
}

/// SHA-256 of its files, by name.
pub(crate) fn hashes() -> BTreeMap<String, String> {
    datasets::pocket::encoder_hashes()
}

/// The directory of a model: `pocket` is the bundled encoder, a folder of that name is `./pocket`.
pub(crate) fn model_dir(model: &Path) -> Result<PathBuf, RunError> {
    if model == Path::new("pocket") {
        return Ok(datasets::pocket::encoder_dir()?);
    }
    Ok(model.to_owned())
}
