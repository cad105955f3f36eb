//! Choosing a backend at run time.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
use thiserror::Error;

/// What a user asks for with `--device`.
///
/// ```
/// use kernels::DeviceSpec;
/// assert_eq!("cuda:1".parse(), Ok(DeviceSpec::Cuda(1)));
/// assert!("gpu0".parse::<DeviceSpec>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeviceSpec {
    /// A CUDA device if this build and this machine have one, else the CPU.
    #[default]
    Auto,
    /// burn's CPU backend (default).
    Flex,
    /// burn's older CPU backend on `ndarray`, kept as a second opinion.
    NdArray,
    /// A GPU through wgpu, by index.
    Wgpu(usize),
    /// An NVIDIA GPU, by index.
    Cuda(usize),
}

/// Why a device cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DeviceError {
    /// The text does not name a device.
    #[error(
        "--device: unknown device `{found}`; expected flex, ndarray, wgpu[:index], cuda[:index] or auto"
    )]
    Unknown {
        /// What was given.
        found: String,
    },
    /// The device exists, but this binary was built without it.
    #[error(
        "--device {device}: this program was built without it; build again with `--features {feature}`"
    )]
    NotCompiled {
        /// What was asked for.
        device: String,
        /// The cargo feature that adds it.
        feature: &'static str,
    },
    /// The backend is compiled in, but the machine offers no such device.
    #[error("--device {device}: no {kind} device {index} on this machine ({reason})")]
    Unavailable {
        /// What was asked for.
        device: String,
        /// `CUDA` or `wgpu`.
        kind: &'static str,
        /// Index asked for.
        index: usize,
        /// What the driver or the enumeration said.
        reason: String,
    },
}

impl FromStr for DeviceSpec {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || DeviceError::Unknown {
            found: text.to_owned(),
        };
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, Some(index.parse::<usize>().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (name, index) {
            ("auto", None) => Ok(Self::Auto),
            ("flex" | "cpu", None) => Ok(Self::Flex),
            ("ndarray", None) => Ok(Self::NdArray),
            ("wgpu", index) => Ok(Self::Wgpu(index.unwrap_or(0))),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Flex => f.write_str("flex"),
            Self::NdArray => f.write_str("ndarray"),
            Self::Wgpu(index) => write!(f, "wgpu:{index}"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl DeviceSpec {
    /// The device itself, after checking that it can be used.
    ///
    /// # Errors
    ///
    /// [`DeviceError::NotCompiled`] names the missing cargo feature; [`DeviceError::Unavailable`]
    /// says what the machine lacks.
    ///
    /// ```
    /// # #[cfg(feature = "flex")] {
    /// let device = kernels::DeviceSpec::Flex.open().unwrap();
    /// assert!(!device.is_autodiff());
    /// # }
    /// ```
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Auto => self.open_auto(),
            Self::Flex => open_flex(),
            Self::NdArray => open_ndarray(),
            Self::Wgpu(index) => open_wgpu(index),
            Self::Cuda(index) => open_cuda(index),
        }
    }

    fn open_auto(self) -> Result<Device, DeviceError> {
        if let Ok(device) = open_cuda(0) {
            return Ok(device);
        }
        // wgpu is not tried: a software driver would be chosen silently and be slower than the CPU
        // backend. A GPU through wgpu is asked for by name.
        open_flex().or_else(|_| open_ndarray())
    }

    /// The concrete device `auto` stands for in this build on this machine.
    pub fn resolve(self) -> Self {
        match self {
            Self::Auto if open_cuda(0).is_ok() => Self::Cuda(0),
            Self::Auto if cfg!(feature = "flex") => Self::Flex,
            Self::Auto => Self::NdArray,
            named => named,
        }
    }
}

/// How many independent forward passes are worth running at the same time on a device.
///
/// On flex the parts of a pass that run on one thread (copies, softmax of short rows, tokens of a small
/// batch) leave cores idle that another pass can use: as many as rayon has threads, four at most, since
/// each holds its own activations. Other devices queue their work or keep to one thread: 1. Passes with
/// dropout (a device with autodiff, or inside [`with_dropout`](crate::with_dropout)) draw their masks one
/// after the other from one generator: 1 too.
pub fn concurrent_passes(device: &Device) -> usize {
    if device.is_autodiff() || crate::dropout::is_always_on() {
        return 1;
    }
    #[cfg(feature = "flex")]
    if *device == Device::flex() {
        return rayon::current_num_threads().clamp(1, 4);
    }
    1
}

#[cfg(feature = "flex")]
fn open_flex() -> Result<Device, DeviceError> {
    Ok(Device::flex())
}

#[cfg(not(feature = "flex"))]
fn open_flex() -> Result<Device, DeviceError> {
    Err(not_compiled(DeviceSpec::Flex, "flex"))
}

#[cfg(feature = "ndarray")]
#[allow(deprecated)]
fn open_ndarray() -> Result<Device, DeviceError> {
    Ok(Device::ndarray())
}

#[cfg(not(feature = "ndarray"))]
fn open_ndarray() -> Result<Device, DeviceError> {
    Err(not_compiled(DeviceSpec::NdArray, "ndarray"))
}

#[cfg(feature = "wgpu")]
fn open_wgpu(index: usize) -> Result<Device, DeviceError> {
    use burn::tensor::DeviceType;
    pick(DeviceSpec::Wgpu(index), "wgpu", index, || {
        Device::enumerate(DeviceType::Wgpu).into_vec()
    })
}

#[cfg(not(feature = "wgpu"))]
fn open_wgpu(index: usize) -> Result<Device, DeviceError> {
    Err(not_compiled(DeviceSpec::Wgpu(index), "wgpu"))
}

#[cfg(feature = "cuda")]
fn open_cuda(index: usize) -> Result<Device, DeviceError> {
    use burn::tensor::DeviceType;
    pick(DeviceSpec::Cuda(index), "CUDA", index, || {
        Device::enumerate(DeviceType::Cuda).into_vec()
    })
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(index: usize) -> Result<Device, DeviceError> {
    Err(not_compiled(DeviceSpec::Cuda(index), "cuda"))
}

#[cfg(any(
    not(feature = "flex"),
    not(feature = "ndarray"),
    not(feature = "wgpu"),
    not(feature = "cuda")
))]
fn not_compiled(device: DeviceSpec, feature: &'static str) -> DeviceError {
    DeviceError::NotCompiled {
        device: device.to_string(),
        feature,
    }
}

/// Enumerates, and turns a driver library that panics because it is absent into an error.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn pick(
    spec: DeviceSpec,
    kind: &'static str,
    index: usize,
    enumerate: impl FnOnce() -> Vec<Device> + std::panic::UnwindSafe,
) -> Result<Device, DeviceError> {
    let unavailable = |reason: String| DeviceError::Unavailable {
        device: spec.to_string(),
        kind,
        index,
        reason,
    };
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = std::panic::catch_unwind(enumerate);
    std::panic::set_hook(hook);
    let devices = found.map_err(|_| unavailable("its driver could not be loaded".to_owned()))?;
    let count = devices.len();
    devices
        .into_iter()
        .nth(index)
        .ok_or_else(|| unavailable(format!("{count} found")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[cfg(feature = "flex")]
    #[test]
    fn passes_that_draw_masks_come_one_after_the_other() {
        let device = Device::flex();
        assert!(concurrent_passes(&device) >= 1);
        assert_eq!(concurrent_passes(&device.clone().autodiff()), 1);
        assert_eq!(crate::with_dropout(|| concurrent_passes(&device)), 1);
    }

    #[test]
    fn names_round_trip() {
        for spec in [
            DeviceSpec::Auto,
            DeviceSpec::Flex,
            DeviceSpec::NdArray,
            DeviceSpec::Wgpu(2),
            DeviceSpec::Cuda(0),
        ] {
            assert_eq!(spec.to_string().parse(), Ok(spec));
        }
        assert_eq!("wgpu".parse(), Ok(DeviceSpec::Wgpu(0)));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for text in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "flex:0", "auto:1"] {
            let error = text.parse::<DeviceSpec>().unwrap_err();
            assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_backend_left_out_names_its_feature() {
        let error = DeviceSpec::Cuda(0).open().unwrap_err();
        assert!(error.to_string().contains("--features cuda"), "{error}");
    }

    #[cfg(feature = "flex")]
    #[test]
    fn auto_falls_back_to_the_cpu() {
        assert!(DeviceSpec::Auto.open().is_ok());
    }
}
