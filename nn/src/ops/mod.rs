//! Our kernels as candle operations, one topic a file.
//!
//! All of them take contiguous f32 tensors on the CPU: images NHWC, features `(N, F)`. An operation knows its shapes
//! when it is made, computes through `convoy_kernels` on the calling thread, and gives candle's autograd the gradient
//! of each argument that the tape tracks; to the others it gives none, and spends nothing on them.

mod activation;
mod conv;
mod dropout;
mod flatten;
mod linear;
mod loss;
mod norm;
mod pool;
mod softmax;
#[cfg(test)]
mod tests;

pub use activation::Activate;
pub use conv::Conv;
pub use dropout::Dropout;
pub use flatten::Flatten;
pub use linear::Linear;
pub use loss::{Loss, LossFunction, LossOutput, numbers};
pub use norm::{BatchNorm, BatchStatistics, Statistics};
pub use pool::{AvgPool, GlobalAvgPool, MaxPool};
pub use softmax::Softmax;

use candle_core::{CpuStorage, Device, Layout, Result, Shape, Storage, Tensor, bail};

/// The numbers of a contiguous f32 tensor, from what candle hands to a forward pass.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("a tensor of shape {:?} is not contiguous", layout.shape())
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Calls `f` with the numbers of contiguous f32 tensors on the CPU.
///
/// # Errors
/// When a tensor is none of that.
pub fn with_values<const N: usize, R>(tensors: [&Tensor; N], f: impl FnOnce([&[f32]; N]) -> R) -> Result<R> {
    let guards = tensors.map(Tensor::storage_and_layout);
    let mut slices: [&[f32]; N] = [&[]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        let Storage::Cpu(storage) = &**storage else { bail!("a tensor is not on the CPU") };
        *slice = values(storage, layout)?;
    }
    Ok(f(slices))
}

/// What a forward pass returns: `len` numbers that `fill` writes, all of them, in `shape`.
fn output(len: usize, shape: impl Into<Shape>, fill: impl FnOnce(&mut [f32])) -> (CpuStorage, Shape) {
    let mut y = vec![0.0; len];
    fill(&mut y);
    (CpuStorage::F32(y), shape.into())
}

/// The gradient of `arg`, which `fill` writes, all of it; none when the tape does not track `arg`.
fn gradient(arg: &Tensor, fill: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<Option<Tensor>> {
    if !arg.track_op() {
        return Ok(None);
    }
    let mut d = vec![0.0; arg.elem_count()];
    fill(&mut d)?;
    tracked(arg, d)
}

/// `d` as the gradient of `arg`; none when the tape does not track `arg`.
fn tracked(arg: &Tensor, d: Vec<f32>) -> Result<Option<Tensor>> {
    arg.track_op().then(|| Tensor::from_vec(d, arg.shape(), &Device::Cpu)).transpose()
}
