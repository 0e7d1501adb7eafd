//! Gradients of outputs, on their way back.

use crate::buffer_pool::BufferPool;
use crate::number::Number;

/// The gradient of each node's output, as long as that, from its first contribution until the node's backward pass.
pub(crate) struct Gradients<T = f32>(Vec<Option<Vec<T>>>);

impl<T: Number> Gradients<T> {
    /// None, for so many nodes.
    pub fn new(nodes: usize) -> Self {
        Gradients(vec![None; nodes])
    }

    /// The gradient of what `node` put out. Nobody adds to it any more.
    ///
    /// # Panics
    /// If nothing contributed to it; the tape asks nodes only once something did.
    pub fn take(&mut self, node: usize) -> Vec<T> {
        self.0[node].take().expect("the tape comes to a node after those that read it")
    }

    /// Contributes to the gradient of what `node` put out: the first contribution as it is, the others are added to it
    /// as they come.
    pub fn add(&mut self, node: usize, gradient: Vec<T>, pool: &mut BufferPool<T>) {
        match &mut self.0[node] {
            Some(sum) => {
                T::add_into(sum, &gradient);
                pool.give(gradient);
            }
            none => *none = Some(gradient),
        }
    }

    /// [`Gradients::add`] of a copy.
    pub fn add_copy(&mut self, node: usize, gradient: &[T], pool: &mut BufferPool<T>) {
        match &mut self.0[node] {
            Some(sum) => T::add_into(sum, gradient),
            none => *none = Some(pool.take_copy(gradient)),
        }
    }

    /// The buffers of all gradients that are still there.
    pub fn into_buffers(self) -> impl Iterator<Item = Vec<T>> {
        self.0.into_iter().flatten()
    }
}
