//! `convoy`: the one binary.
fn main() {}
