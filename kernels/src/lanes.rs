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

/// `W` values from `at` on.
#[inline(always)]
pub(crate) fn chunk<T, const W: usize>(values: &[T], at: usize) -> &[T; W] {
    values[at..].first_chunk().expect("a block lies in its slice")
}

/// `W` values from `at` on.
#[inline(always)]
pub(crate) fn chunk_mut<T, const W: usize>(values: &mut [T], at: usize) -> &mut [T; W] {
    values[at..].first_chunk_mut().expect("a block lies in its slice")
}
