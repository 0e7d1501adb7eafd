//! Working memory that a thread keeps from call to call, because fresh pages cost more than the arithmetic on them.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

thread_local! {
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// A borrowed piece of working memory; given back to its thread when dropped.
pub(crate) struct Scratch(Vec<f32>);

/// Memory for `len` values, with unspecified contents.
pub(crate) fn scratch(len: usize) -> Scratch {
    let mut memory = Scratch(FREE.with_borrow_mut(Vec::pop).unwrap_or_default());
    memory.resize(len);
    memory
}

impl Scratch {
    /// Makes room for `len` values, with unspecified contents.
    pub fn resize(&mut self, len: usize) {
        self.0.resize(len, 0.0);
        if cfg!(test) {
            self.0.fill(f32::NAN); // so that reading what was not written shows
        }
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        FREE.with_borrow_mut(|free| free.push(std::mem::take(&mut self.0)));
    }
}
