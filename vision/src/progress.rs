//! How those who wait are told how far something is.

/// Told how many of how many files are done; may be called from any thread.
pub type Progress<'a> = dyn Fn(usize, usize) + Sync + 'a;
