//! Memory of vectors that nobody needs any more, to be written over.

use std::sync::Arc;

use parking_lot::Mutex;

/// Buffers that somebody still holds: parameters of a step or two.
const HELD: usize = 4;

/// Buffers of one length: gradients and parameters of a run.
#[derive(Debug)]
pub(crate) struct SpareBuffers {
    /// Elements of each.
    elements: usize,
    spare: Mutex<Spare>,
}

#[derive(Debug, Default)]
struct Spare {
    free: Vec<Vec<f32>>,
    /// Free as soon as nobody else holds them.
    held: Vec<Arc<Vec<f32>>>,
}

impl SpareBuffers {
    /// Buffers of `elements` elements; there is none yet.
    pub(crate) fn new(elements: usize) -> Self {
        SpareBuffers { elements, spare: Mutex::default() }
    }

    /// Elements of each buffer.
    pub(crate) fn elements(&self) -> usize {
        self.elements
    }

    /// A buffer with any numbers in it.
    pub(crate) fn take(&self) -> Vec<f32> {
        let mut spare = self.spare.lock();
        let let_go = spare.held.iter().position(|buffer| Arc::strong_count(buffer) == 1);
        let let_go = let_go.and_then(|index| Arc::into_inner(spare.held.swap_remove(index)));
        let buffer = let_go.or_else(|| spare.free.pop());
        drop(spare);
        buffer.unwrap_or_else(|| vec![0.0; self.elements])
    }

    /// Keeps a buffer for later. One of another length, as the empty one of an evaluation, is dropped.
    pub(crate) fn give(&self, buffer: Vec<f32>) {
        if buffer.len() == self.elements {
            self.spare.lock().free.push(buffer);
        }
    }

    /// Keeps a buffer for later that others may hold for a while, and write no more.
    pub(crate) fn give_when_free(&self, buffer: Arc<Vec<f32>>) {
        let mut spare = self.spare.lock();
        if buffer.len() == self.elements && spare.held.len() < HELD {
            spare.held.push(buffer);
        }
    }
}

#[cfg(test)]
impl SpareBuffers {
    /// How many wait to be used again.
    pub(crate) fn count(&self) -> usize {
        self.spare.lock().free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again() {
        let buffers = SpareBuffers::new(3);
        let mut first = buffers.take();
        first.fill(7.0);
        let address = first.as_ptr();
        buffers.give(first);
        let again = buffers.take();
        assert_eq!((again.as_ptr(), &again[..]), (address, &[7.0; 3][..]));
        assert_eq!(buffers.take(), [0.0; 3], "a second one is new");
    }

    #[test]
    fn a_buffer_that_others_hold_is_used_when_they_let_it_go() {
        let buffers = SpareBuffers::new(3);
        let flat = Arc::new(vec![7.0; 3]);
        buffers.give_when_free(flat.clone());
        assert_eq!(buffers.take(), [0.0; 3], "somebody reads it");
        drop(flat);
        assert_eq!(buffers.take(), [7.0; 3]);
        let all: Vec<_> = (0..9).map(|_| Arc::new(vec![0.0; 3])).collect();
        all.iter().for_each(|flat| buffers.give_when_free(flat.clone()));
        assert_eq!(buffers.spare.lock().held.len(), HELD);
    }

    #[test]
    fn only_buffers_of_the_length_are_kept() {
        let buffers = SpareBuffers::new(3);
        buffers.give(Vec::new());
        buffers.give(vec![1.0; 4]);
        assert_eq!(buffers.count(), 0);
    }
}
