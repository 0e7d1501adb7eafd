//! Loops over channels, block by block, so that a block's values live in registers while a sum is taken.

/// Work on independent channels. Implementations are `#[inline(always)]`, like all that a kernel calls.
pub(crate) trait Lanes {
    /// Works on channels `first` to `first + W`.
    fn block<const W: usize>(&mut self, first: usize);
}

/// Covers all channels with blocks, the widest first.
#[inline(always)]
pub(crate) fn for_lanes<const PANEL: usize>(channels: usize, work: &mut impl Lanes) {
    let mut first = 0;
    while first + PANEL <= channels {
        work.block::<PANEL>(first);
        first += PANEL;
    }
    if PANEL > 16 && first + 16 <= channels {
        work.block::<16>(first);
        first += 16;
    }
    if first + 8 <= channels {
        work.block::<8>(first);
        first += 8;
    }
    if first + 4 <= channels {
        work.block::<4>(first);
        first += 4;
    }
    while first < channels {
        work.block::<1>(first);
        first += 1;
    }
}

/// `W` values from index `at` on, borrowed as an array so that they become vectors.
///
/// # Panics
/// If there are fewer.
#[inline(always)]
pub(crate) fn chunk<T, const W: usize>(values: &[T], at: usize) -> &[T; W] {
    values[at..].first_chunk().expect("a block lies in its slice")
}

/// [`chunk`], to be written.
///
/// # Panics
/// If there are fewer.
#[inline(always)]
pub(crate) fn chunk_mut<T, const W: usize>(values: &mut [T], at: usize) -> &mut [T; W] {
    values[at..].first_chunk_mut().expect("a block lies in its slice")
}

/// Copies the first `width` values. Written for what is copied a few values at a time: a call to copy memory costs more
/// than they do.
#[inline(always)]
pub(crate) fn copy_lanes(from: &[f32], to: &mut [f32], width: usize) {
    let ((from, from_rest), (to, to_rest)) = (from[..width].as_chunks::<8>(), to[..width].as_chunks_mut::<8>());
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
    for (to, from) in to_rest.iter_mut().zip(from_rest) {
        *to = *from;
    }
}
