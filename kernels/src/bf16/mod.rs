//! Arithmetic of the class `cpu-bf16-v1`.

mod blocks;
mod step;
mod value;

pub use blocks::Blocks;
pub use value::{Bf16, round, widen};
