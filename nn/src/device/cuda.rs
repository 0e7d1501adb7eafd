//! GPUs as the CUDA driver knows them.

use std::fmt::Display;

use candle_core::Device;
use candle_core::cuda_backend::cudarc::{cublas, driver};
use convoy_common::spec::CUDA_F32_V1;

/// The version of candle, whose kernels are compiled into the program.
pub(super) const CANDLE: &str = "0.11.1";

/// The GPU of number `number`, with a stream and a cuBLAS handle of its own: handles that share a stream's workspace
/// may give other bits from run to run.
///
/// # Errors
/// What the driver or cuBLAS said.
pub(super) fn open(number: usize) -> Result<Device, String> {
    Device::new_cuda_with_stream(number).map_err(text)
}

/// The numerics class of the GPU of number `number`, parts between slashes: [`CUDA_F32_V1`], the model, and the
/// versions of what computes on it: driver (it translates the kernels for the GPU), cuBLAS, candle, and the toolkit and
/// the architecture that the kernels were compiled by and for.
///
/// # Errors
/// What the driver or cuBLAS said.
pub(super) fn class(number: usize) -> Result<String, String> {
    let device = open(number)?;
    let device = device.as_cuda_device().map_err(text)?;
    let model = device.cuda_stream().context().name().map_err(text)?;
    let (driver, cublas) = versions(&device.cublas_handle())?;
    let version = |version: i32| format!("{}.{}", version / 1000, version % 1000 / 10);
    let toolkit = version(driver::sys::CUDA_VERSION as i32);
    let architecture = option_env!("CUDA_COMPUTE_CAP").unwrap_or("native");
    Ok(format!(
        "{CUDA_F32_V1}/{}/driver-{}/cublas-{}.{}.{}/candle-{CANDLE}/toolkit-{toolkit}-{architecture}",
        model.trim(),
        version(driver),
        cublas / 10_000,
        cublas % 10_000 / 100,
        cublas % 100,
    ))
}

/// Versions of the driver and of cuBLAS, as their libraries number them.
#[allow(unsafe_code, reason = "cudarc has no safe call for them")]
fn versions(blas: &cublas::CudaBlas) -> Result<(i32, i32), String> {
    let (mut driver, mut cublas) = (0, 0);
    // SAFETY: the library writes one int to a live one.
    unsafe { driver::sys::cuDriverGetVersion(&mut driver) }.result().map_err(text)?;
    // SAFETY: the handle lives as long as `blas`; the library writes one int to a live one.
    unsafe { cublas::sys::cublasGetVersion_v2(*blas.handle(), &mut cublas) }.result().map_err(text)?;
    Ok((driver, cublas))
}

fn text(error: impl Display) -> String {
    error.to_string()
}
