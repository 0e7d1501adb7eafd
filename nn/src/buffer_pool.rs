//! Buffers that go from pass to pass, because fresh pages cost more than the arithmetic on them.

use crate::number::Number;

/// Buffers that nobody uses at the moment.
pub(crate) struct BufferPool<T = f32> {
    free: Vec<Vec<T>>,
}

impl<T> Default for BufferPool<T> {
    fn default() -> Self {
        BufferPool { free: Vec::new() }
    }
}

impl<T: Number> BufferPool<T> {
    /// A buffer of `len` values, with unspecified contents.
    pub fn take(&mut self, len: usize) -> Vec<T> {
        // Of the same length if possible, for what a buffer grows by is filled with zeros.
        let fits = |buffer: &Vec<T>| (len..=2 * len).contains(&buffer.capacity());
        let tightest = self.free.iter().enumerate().filter(|(_, buffer)| fits(buffer));
        let tightest = tightest.min_by_key(|(_, buffer)| (buffer.len() != len, buffer.capacity()));
        let mut buffer = match tightest.map(|(index, _)| index) {
            Some(index) => self.free.swap_remove(index),
            None => Vec::with_capacity(len),
        };
        buffer.resize(len, T::default());
        if cfg!(test) {
            buffer.fill(T::unwritten());
        }
        buffer
    }

    /// A buffer with a copy of `values`.
    pub fn take_copy(&mut self, values: &[T]) -> Vec<T> {
        let mut copy = self.take(values.len());
        copy.copy_from_slice(values);
        copy
    }

    /// Takes a buffer back.
    pub fn give(&mut self, buffer: Vec<T>) {
        self.free.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_buffer_is_taken_and_none_of_more_than_twice_the_length() {
        let mut pool = BufferPool::<f32>::default();
        let buffers = [40, 10, 12].map(|len| pool.take(len));
        let [_, ten, twelve] = buffers.each_ref().map(|buffer| buffer.as_ptr());
        buffers.into_iter().for_each(|buffer| pool.give(buffer));
        let [nine, same] = [9, 12].map(|len| pool.take(len));
        assert_eq!((nine.len(), nine.as_ptr(), same.as_ptr()), (9, ten, twelve));
        assert_eq!((pool.take(15).len(), pool.free.len()), (15, 1), "40 values are too many for 15");
    }
}
