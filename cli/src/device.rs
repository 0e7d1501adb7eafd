//! Where numbers are computed.

use crate::error::CliError;

/// The device that was asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Device {
    /// Where to compute: `cpu`.
    #[arg(long, default_value = "cpu")]
    device: String,
}

impl Device {
    /// Only CPUs compute in this build.
    ///
    /// # Errors
    /// When another device was asked for.
    pub fn check(&self) -> Result<(), CliError> {
        match self.device.as_str() {
            "cpu" => Ok(()),
            device if device == "cuda" || device.starts_with("cuda:") => {
                Err(CliError::Device(format!("--device {device}: this build computes on CPUs only; use --device cpu")))
            }
            device => Err(CliError::Device(format!("--device {device} is not known; use --device cpu"))),
        }
    }
}
