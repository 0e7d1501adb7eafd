//! Why files cannot be read.

/// The reason in words, which follow "is a truncated, corrupt or unsupported JPEG".
pub(super) type Fault = &'static str;

/// There is no end marker.
pub(super) const CUT_OFF: Fault = "it ends too early";

/// Entropy-coded data break off, or have codes that do not exist.
pub(super) const DAMAGED: Fault = "the data of its picture are damaged, or end before the picture does";
