//! House rules that no compiler knows, held by tests that read the sources of the workspace.
//!
//! `workspace`, `module_tree` and `paths_in_code` read the sources, `report` compares; each other file is one family of
//! rules. A broken rule is reported as `FILE:LINE: what is wrong; what to do [KEY]`. A rule may have exceptions by key,
//! and fails as well when one of them is no longer needed, so that lists of exceptions only shrink.

#![cfg(test)]

mod arrows;
mod circles;
mod constants;
mod documentation;
mod exceptions;
mod methods;
mod module_tree;
mod names;
mod pages;
mod paths_in_code;
mod report;
mod sizes;
mod test_habits;
mod unsafe_code;
mod widths;
mod workspace;
