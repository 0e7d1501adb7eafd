//! Convoy's arithmetic on slices, forward and backward.
//!
//! Layouts: activations are NHWC, convolution weights OIHW, linear weights `[out, in]`. Every function runs on the
//! calling thread alone: parallelism is one shard of samples per thread.
//!
//! # Bits
//!
//! A result depends on the input values and the shapes, on nothing else. Every sum has one order, stated where the
//! function is documented; a multiplication whose product is added is always a fused one (`f32::mul_add`); vectors
//! run over independent outputs, never along a sum. So AVX-512, AVX2 and portable code agree bit for bit (see
//! [`cpu`]). Functions that are not exactly rounded come from [`math`] or from the `libm` crate, never from the
//! system. The bits of a NaN are not promised; that a result is NaN is.
//!
//! # Panics
//!
//! A slice whose length does not fit its shape is a broken promise of the caller and panics, naming the slice. What
//! may come from outside (sizes, labels) is checked by constructors and functions that return `Result`.

pub mod activation;
pub mod bf16;
pub mod compression;
pub mod conv;
pub mod cpu;
pub mod digest;
pub mod dropout;
pub mod finite_check;
pub mod linear;
pub mod loss;
pub mod math;
pub mod norm;
pub mod norm_block;
pub mod optimizer;
pub mod peak_flops;
pub mod pool;
mod scratch;
mod shape;
mod simd_lanes;
pub mod softmax;
pub mod tree;

#[cfg(test)]
mod naive;
#[cfg(test)]
mod test_support;

pub use shape::ShapeError;
