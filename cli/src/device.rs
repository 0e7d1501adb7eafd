//! Where numbers are computed.

use std::path::Path;

use convoy_common::Plan;
use convoy_common::spec;
use convoy_planning::text_override;

use crate::error::CliError;
use crate::out;

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

    /// Whether it is the CPU, which is computed on if nobody says.
    pub fn is_default(self) -> bool {
        self.device == convoy_nn::Device::Cpu
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
            overrides.extend(numerics.first().map(|class| text_override("numerics", class)));
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

#[cfg(test)]
mod tests {
    use convoy_planning::{Assumed, plan_without_data, spec_or_network};

    use super::*;

    const CPU: Device = Device { device: convoy_nn::Device::Cpu };

    #[test]
    fn a_cpu_is_always_there_and_asks_for_nothing() {
        assert_eq!(CPU.get().unwrap(), convoy_nn::Device::Cpu);
        let given = vec!["train.batch=4".to_owned()];
        assert_eq!(CPU.ask(Path::new("no/where.toml"), given.clone()).unwrap(), given);
        assert_eq!((CPU.threads(7), CPU.announce().is_ok()), (7, true));
    }

    #[test]
    fn a_class_of_other_devices_is_refused() {
        let plan = |numerics: &str| {
            let file = spec_or_network(Path::new("lenet5"), &[format!("numerics={numerics}")], "a spec").unwrap();
            plan_without_data(file, Assumed::default()).unwrap().0
        };
        assert!(CPU.fits(&plan("cpu-f32-v1")).is_ok() && CPU.fits(&plan("cpu-f32-direct-v1")).is_ok());
        let error = CPU.fits(&plan("cuda-f32-v1/X")).unwrap_err();
        assert!(error.to_string().contains("`cuda-f32-v1/X`"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}
