//! The numbers that buffers consist of.

use convoy_kernels::bf16::{Bf16, elementwise};
use convoy_kernels::tree;

/// A number of tensors in memory.
pub(crate) trait Number: Copy + Default {
    /// What stands where nothing was written, so that reading it shows.
    fn unwritten() -> Self;

    /// `left = left + right`, number by number.
    fn add_into(left: &mut [Self], right: &[Self]);
}

impl Number for f32 {
    fn unwritten() -> f32 {
        f32::NAN
    }

    fn add_into(left: &mut [f32], right: &[f32]) {
        tree::add_into(left, right);
    }
}

impl Number for Bf16 {
    fn unwritten() -> Bf16 {
        Bf16::from_f32(f32::NAN)
    }

    fn add_into(left: &mut [Bf16], right: &[Bf16]) {
        elementwise::add_into(left, right);
    }
}
