//! What still breaks a rule, by key. A key that is no longer needed fails its test: delete it.

/// Packages with circles of files.
pub(crate) const CIRCLES: &[&str] = &["cli", "coordinator", "kernels"];

/// `FOLDER: NAME` of types that share their name with another type of the crate.
pub(crate) const TYPE_NAMES: &[&str] = &[
    "cli: Args",
    "cli: Command",
    "coordinator: Kind",
    "coordinator: Member",
    "coordinator: Open",
    "coordinator: Reply",
];

/// `FOLDER: NAME` of functions that are too long, and of structs with too many fields.
pub(crate) const SIZES: &[&str] = &[
    "cli: Report",
    "cli: with_workers",
    "coordinator: JobRecord",
    "coordinator: OpenTrain",
    "coordinator: Shared",
    "coordinator: Shell",
    "coordinator: open",
    "sim: happen",
];

/// `FOLDER: ITEM` of public items without documentation.
pub(crate) const DOCUMENTATION: &[&str] = &[
    "cli: Args::at",
    "cli: Carry::device",
    "cli: cluster",
    "cli: health",
    "cli: login",
    "cli: run",
    "cli: token",
    "cli: workers",
];

/// Folders of libraries without an example.
pub(crate) const EXAMPLES: &[&str] = &["coordinator"];

/// Names of files that handle poisoned locks.
pub(crate) const POISON: &[&str] = &[
    "buffer.rs",
    "calls.rs",
    "fleet_loop.rs",
    "hub.rs",
    "journal.rs",
    "leases.rs",
    "logging.rs",
    "mod.rs",
    "progress.rs",
    "published.rs",
    "steps.rs",
    "worker_logs.rs",
];

/// `FOLDER: TEST` of tests that sleep, compare time, or return early.
pub(crate) const TESTS: &[&str] = &["nn: both_ways"];
