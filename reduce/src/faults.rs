//! What a process does wrongly on purpose: for tests of what others then do. Compiled with the feature `faults` alone.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, Ordering};

use convoy_common::Digest;
use convoy_scheduler::WorkerId;

/// A way to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Wrong {
    /// Nodes are computed wrongly.
    Node = 1,
    /// Chunks are added wrongly, and parameters made of that.
    Sum,
    /// Other parameters are handed out than were made.
    Parameters,
    /// It is said otherwise than it was what was brought, and chunks are added wrongly.
    Brought,
}

static WRONG: AtomicU8 = AtomicU8::new(0);
static RIGHT: AtomicI64 = AtomicI64::new(0);
static LAST: AtomicU32 = AtomicU32::new(0);

/// This process does things wrongly in this way, after it has done so many of them right.
pub fn begin(wrong: Wrong, after: i64) {
    RIGHT.store(after, Ordering::SeqCst);
    WRONG.store(wrong as u8, Ordering::SeqCst);
}

/// Whether this is done wrongly; what is done right is counted.
fn is_wrong(wrong: Wrong) -> bool {
    WRONG.load(Ordering::SeqCst) == wrong as u8 && RIGHT.fetch_sub(1, Ordering::SeqCst) <= 0
}

/// Changes the lowest bit of the first of `values` where this is done wrongly.
pub(crate) fn spoil(wrong: Wrong, values: &mut [f32]) {
    if let Some(value) = values.first_mut()
        && is_wrong(wrong)
    {
        *value = f32::from_bits(value.to_bits() ^ 1);
    }
}

/// What is said to be the digest of something that `from` has brought. Who has come last tells no lies about itself: it
/// is this process where the others were there before it.
pub(crate) fn said(from: WorkerId, digest: Digest) -> Digest {
    let last = LAST.fetch_max(from.0, Ordering::SeqCst).max(from.0);
    let lies = WRONG.load(Ordering::SeqCst) == Wrong::Brought as u8 && RIGHT.load(Ordering::SeqCst) <= 0;
    if lies && from.0 < last { Digest([!digest.0[0]; 32]) } else { digest }
}
