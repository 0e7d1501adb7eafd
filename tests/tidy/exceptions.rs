//! What still breaks a rule, by key. A key that is no longer needed fails its test: delete it.

/// Packages with circles of files.
pub(crate) const CIRCLES: &[&str] = &[];

/// `FOLDER: NAME` of types that share their name with another type of the crate.
pub(crate) const TYPE_NAMES: &[&str] = &[];

/// `FOLDER: NAME` of functions that are too long, and of structs with too many fields.
pub(crate) const SIZES: &[&str] = &[];

/// `FOLDER: ITEM` of public items without documentation.
pub(crate) const DOCUMENTATION: &[&str] = &[];

/// Folders of libraries without an example.
pub(crate) const EXAMPLES: &[&str] = &[];

/// Names of files that handle poisoned locks.
pub(crate) const POISON: &[&str] = &[];

/// `FOLDER: TEST` of tests that sleep, compare time, or return early.
pub(crate) const TESTS: &[&str] = &[];
