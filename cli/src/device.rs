//! Where numbers are computed.

use std::path::Path;

use convoy_common::Plan;
use convoy_common::spec;

use crate::error::CliError;
use crate::{job, out};

/// The device that was asked for.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Device {
    /// Where to compute: `cpu`; or, in builds with the feature `cuda`, `cuda` or `cuda:N`, an NVIDIA GPU.
    #[arg(long, default_value = "cpu")]
    device: convoy_nn::Device,
}

impl Device {
    /// The device, if this build and this machine have it.
    ///
    /// # Errors
    /// When they do not.
    pub fn get(self) -> Result<convoy_nn::Device, CliError> {
        self.numerics().map(|_| self.device)
    }

    /// Says the numerics class of a GPU, which a spec must name for it.
    ///
    /// # Errors
    /// When the device is not there.
    pub fn announce(self) -> Result<(), CliError> {
        let numerics = self.numerics()?;
        if self.device != convoy_nn::Device::Cpu {
            out::note(format_args!("{} computes the numerics class \"{}\"", self.device, numerics.join("\", \"")));
        }
        Ok(())
    }

    /// How many shards it computes at a time if nobody says: a CPU as many as it has `cores`, a GPU one.
    pub fn threads(self, cores: usize) -> usize {
        if self.device == convoy_nn::Device::Cpu { cores } else { 1 }
    }

    /// `overrides` for the spec at `path`, and the numerics class of a GPU, unless the spec or they say one.
    ///
    /// # Errors
    /// When the device is not there.
    pub fn ask(self, path: &Path, mut overrides: Vec<String>) -> Result<Vec<String>, CliError> {
        let numerics = self.numerics()?;
        // Whether it can be read is found out later; a folder of images says nothing.
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if self.device != convoy_nn::Device::Cpu && !spec::names(&text, &overrides, "numerics") {
            overrides.extend(numerics.first().map(|class| format!("numerics={}", job::toml_string(class))));
        }
        Ok(overrides)
    }

    /// Whether the device computes in the numerics class of `plan`.
    ///
    /// # Errors
    /// When it does not.
    pub fn fits(self, plan: &Plan) -> Result<(), CliError> {
        self.device.fits(&plan.spec.numerics).map_err(refused)
    }

    fn numerics(self) -> Result<Vec<String>, CliError> {
        self.device.numerics().map_err(refused)
    }
}

fn refused(error: convoy_nn::DeviceError) -> CliError {
    CliError::Device(error.to_string())
}
