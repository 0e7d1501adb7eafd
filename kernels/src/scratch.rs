//! Working memory that a thread keeps from call to call, because fresh pages cost more than the arithmetic on them.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::thread::LocalKey;

/// The pieces of memory of a thread that nobody has borrowed.
pub(crate) type Free<T> = RefCell<Vec<Vec<T>>>;

thread_local! {
    static FREE: Free<f32> = const { RefCell::new(Vec::new()) };
}

/// What working memory consists of.
pub(crate) trait Pooled: Copy + Default + 'static {
    /// The thread's memory of this type.
    fn free() -> &'static LocalKey<Free<Self>>;
    /// What stands where nothing was written, so that reading it shows.
    fn unwritten() -> Self;
}

impl Pooled for f32 {
    fn free() -> &'static LocalKey<Free<f32>> {
        &FREE
    }

    fn unwritten() -> f32 {
        f32::NAN
    }
}

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// Memory that begins with a cache line.
#[derive(Default)]
pub(crate) struct Aligned<T> {
    /// At least `first + len` values; it never shrinks, for growing again would fill it with zeros.
    memory: Vec<T>,
    first: usize,
    len: usize,
}

impl<T: Pooled> Aligned<T> {
    /// Makes room for `len` values, with unspecified contents.
    pub fn resize(&mut self, len: usize) {
        let room = len + LINE / size_of::<T>();
        if self.memory.len() < room {
            self.memory = vec![T::default(); room];
        }
        // Where the offset is not known, a line is not begun; that costs only time.
        self.first = self.memory.as_ptr().align_offset(LINE).min(room - len);
        self.len = len;
        if cfg!(test) {
            self.memory.fill(T::unwritten());
        }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.memory[self.first..][..self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.first..][..self.len]
    }
}

/// A borrowed piece of working memory; given back to its thread when dropped.
pub(crate) struct Scratch<T: Pooled = f32>(Aligned<T>);

/// Memory for `len` values, with unspecified contents.
pub(crate) fn scratch<T: Pooled>(len: usize) -> Scratch<T> {
    let memory = T::free().with_borrow_mut(Vec::pop).unwrap_or_default();
    let mut scratch = Scratch(Aligned { memory, first: 0, len: 0 });
    scratch.resize(len);
    scratch
}

impl<T: Pooled> Deref for Scratch<T> {
    type Target = Aligned<T>;
    fn deref(&self) -> &Aligned<T> {
        &self.0
    }
}

impl<T: Pooled> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut Aligned<T> {
        &mut self.0
    }
}

impl<T: Pooled> Drop for Scratch<T> {
    fn drop(&mut self) {
        T::free().with_borrow_mut(|free| free.push(std::mem::take(&mut self.0.memory)));
    }
}
