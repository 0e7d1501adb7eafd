//! Working memory that a thread keeps from call to call, because fresh pages cost more than the arithmetic on them.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

thread_local! {
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// A borrowed piece of working memory; given back to its thread when dropped.
pub(crate) struct Scratch {
    /// At least `len` values; it never shrinks, for growing again would fill it with zeros.
    memory: Vec<f32>,
    len: usize,
}

/// Memory for `len` values, with unspecified contents.
pub(crate) fn scratch(len: usize) -> Scratch {
    let mut scratch = Scratch { memory: FREE.with_borrow_mut(Vec::pop).unwrap_or_default(), len: 0 };
    scratch.resize(len);
    scratch
}

impl Scratch {
    /// Makes room for `len` values, with unspecified contents.
    pub fn resize(&mut self, len: usize) {
        if self.memory.len() < len {
            self.memory = vec![0.0; len];
        }
        self.len = len;
        if cfg!(test) {
            self.memory.fill(f32::NAN); // so that reading what was not written shows
        }
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.memory[..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[..self.len]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        FREE.with_borrow_mut(|free| free.push(std::mem::take(&mut self.memory)));
    }
}
