//! Memory for chunks, used again: fresh memory costs more than what is done with it.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Buffers that are kept for later, 64 MiB of them.
const KEPT: usize = 256;

static SPARE: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// The elements of a chunk. Its memory is used for later chunks when it is dropped.
#[derive(Debug)]
pub struct Buffer(Vec<f32>);

impl Buffer {
    /// Room for `len` elements, which hold anything.
    pub fn new(len: usize) -> Self {
        let mut values = spare().pop().unwrap_or_default();
        values.resize(len, 0.0);
        Buffer(values)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut spare = spare();
        if spare.len() < KEPT {
            spare.push(std::mem::take(&mut self.0));
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl AsRef<[f32]> for Buffer {
    fn as_ref(&self) -> &[f32] {
        &self.0
    }
}

/// Gives back what no chunk uses, when a run is over.
pub fn forget_spare() {
    *spare() = Vec::new();
}

fn spare() -> MutexGuard<'static, Vec<Vec<f32>>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}
