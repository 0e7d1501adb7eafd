//! Memory of vectors that nobody needs any more, to be written over.

use parking_lot::Mutex;

/// Buffers of one length: gradients and parameters of a run.
#[derive(Debug)]
pub(crate) struct SpareBuffers {
    /// Elements of each.
    elements: usize,
    spare: Mutex<Vec<Vec<f32>>>,
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
        let spare = self.spare.lock().pop();
        spare.unwrap_or_else(|| vec![0.0; self.elements])
    }

    /// Keeps a buffer for later. One of another length, as the empty one of an evaluation, is dropped.
    pub(crate) fn give(&self, buffer: Vec<f32>) {
        if buffer.len() == self.elements {
            self.spare.lock().push(buffer);
        }
    }
}

#[cfg(test)]
impl SpareBuffers {
    /// How many wait to be used again.
    pub(crate) fn count(&self) -> usize {
        self.spare.lock().len()
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
    fn only_buffers_of_the_length_are_kept() {
        let buffers = SpareBuffers::new(3);
        buffers.give(Vec::new());
        buffers.give(vec![1.0; 4]);
        assert_eq!(buffers.count(), 0);
    }
}
