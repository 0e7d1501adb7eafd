//! Where numbers are computed, and which classes of arithmetic that gives.

#[cfg(feature = "cuda")]
mod cuda;

use std::fmt;
use std::str::FromStr;

use convoy_common::spec::NUMERICS;
use thiserror::Error;

/// A device of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The CPU, by Convoy's kernels.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this number, by compositions of candle's operations; with the cargo feature `cuda`.
    Cuda(usize),
}

/// Why a device cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// No device is called so.
    #[error("`{0}` is no device; there are `cpu`, `cuda`, and `cuda:N` for the GPU of number N")]
    Unknown(String),
    /// The feature was off.
    #[error(
        "this build of Convoy has no CUDA, so `{0}` cannot be used; build it with `cargo build --release --features \
         cuda`, which needs NVIDIA's nvcc, or use --device cpu"
    )]
    NotBuilt(Device),
    /// It would give other bits than the run's.
    #[error(
        "the run is of the numerics class `{run}`, and `{device}` computes `{}`; use the device that the run is of, or begin \
         another run with `numerics` set to the device's",
        offered.join("` and `")
    )]
    Numerics {
        /// The class of the run.
        run: String,
        /// The device that was to compute it.
        device: Device,
        /// What it computes.
        offered: Vec<String>,
    },
    /// The GPU or its libraries say no.
    #[error("`{device}` cannot be used: {reason}")]
    Unusable {
        /// Which one.
        device: Device,
        /// What the driver or a library said.
        reason: String,
    },
}

impl FromStr for Device {
    type Err = DeviceError;

    /// `cpu`, `cuda` (the first GPU) or `cuda:N`.
    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown(text.to_owned());
        match text.split_once(':') {
            None if text == "cpu" => Ok(Device::Cpu),
            None if text == "cuda" => Ok(Device::Cuda(0)),
            Some(("cuda", number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                number.parse().map(Device::Cuda).map_err(|_| unknown())
            }
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl Device {
    /// The numerics classes that it computes. A GPU has one of its own, which names all that its bits depend on.
    ///
    /// # Errors
    /// When the device cannot be had.
    pub fn numerics(self) -> Result<Vec<String>, DeviceError> {
        match self {
            Device::Cpu => Ok(NUMERICS.map(str::to_owned).to_vec()),
            #[cfg(feature = "cuda")]
            Device::Cuda(number) => {
                cuda::class(number).map(|class| vec![class]).map_err(|reason| self.unusable(reason))
            }
            #[cfg(not(feature = "cuda"))]
            Device::Cuda(_) => Err(DeviceError::NotBuilt(self)),
        }
    }

    /// Whether it computes the numerics class `run`.
    ///
    /// # Errors
    /// When it does not, or cannot be had.
    pub fn fits(self, run: &str) -> Result<(), DeviceError> {
        let offered = self.numerics()?;
        match offered.iter().any(|class| class == run) {
            true => Ok(()),
            false => Err(DeviceError::Numerics { run: run.to_owned(), device: self, offered }),
        }
    }

    /// The GPU as candle knows it, with a stream of its own; `None` for the CPU.
    ///
    /// # Errors
    /// When the device cannot be had.
    pub(crate) fn open(self) -> Result<Option<candle_core::Device>, DeviceError> {
        match self {
            Device::Cpu => Ok(None),
            #[cfg(feature = "cuda")]
            Device::Cuda(number) => cuda::open(number).map(Some).map_err(|reason| self.unusable(reason)),
            #[cfg(not(feature = "cuda"))]
            Device::Cuda(_) => Err(DeviceError::NotBuilt(self)),
        }
    }

    #[cfg(feature = "cuda")]
    fn unusable(self, reason: String) -> DeviceError {
        DeviceError::Unusable { device: self, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, device) in [("cpu", Device::Cpu), ("cuda", Device::Cuda(0)), ("cuda:12", Device::Cuda(12))] {
            assert_eq!(text.parse(), Ok(device));
        }
        assert_eq!(Device::Cuda(1).to_string().parse(), Ok(Device::Cuda(1)));
        for text in
            ["", "gpu", "cpu:0", "cuda:", "cuda:-1", "cuda:+1", "cuda:one", "CUDA", "cuda:99999999999999999999999"]
        {
            let error = text.parse::<Device>().unwrap_err();
            assert_eq!(error, DeviceError::Unknown(text.to_owned()));
        }
    }

    #[test]
    fn a_cpu_computes_the_classes_of_cpus() {
        assert_eq!(Device::Cpu.numerics().unwrap(), NUMERICS);
        assert!(Device::Cpu.open().unwrap().is_none());
        assert_eq!(Device::Cpu.fits(NUMERICS[1]), Ok(()));
        let error = Device::Cpu.fits("cuda-f32-v1/X").unwrap_err().to_string();
        assert!(
            ["`cuda-f32-v1/X`", "`cpu`", NUMERICS[0], NUMERICS[1]].iter().all(|name| error.contains(name)),
            "{error}"
        );
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn without_the_feature_a_gpu_is_refused_in_words() {
        let error = Device::Cuda(1).numerics().unwrap_err();
        assert_eq!(Device::Cuda(1).open().unwrap_err(), error);
        assert!(error.to_string().contains("`cuda:1`") && error.to_string().contains("--features cuda"), "{error}");
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn the_class_of_a_gpu_is_one_that_a_spec_may_say() {
        match Device::Cuda(0).numerics() {
            Ok(class) => assert!(convoy_common::spec::is_numerics(&class[0]), "{class:?}"),
            Err(error) => println!("skipped: {error}"),
        }
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn the_class_names_the_candle_that_is_locked() {
        let lock = include_str!("../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"candle-core\"\nversion = \"{}\"\n", cuda::CANDLE)));
    }
}
