//! What a rule finds, and the comparison with its exceptions.

use std::collections::BTreeSet;
use std::fmt;

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Relative to the root of the workspace.
    pub(crate) file: String,
    /// From 1.
    pub(crate) line: usize,
    /// By which an exception names it; it survives that the file is moved within its crate.
    pub(crate) key: String,
    /// What is wrong, and what to do.
    pub(crate) message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} [{}]", self.file, self.line, self.message, self.key)
    }
}

/// Compares what `rule` found with its `exceptions`.
///
/// # Panics
///
/// If something was found that is not among the exceptions, or an exception was not found.
pub(crate) fn check(rule: &str, mut findings: Vec<Finding>, exceptions: &[&str]) {
    findings.sort();
    let found: BTreeSet<&str> = findings.iter().map(|finding| finding.key.as_str()).collect();
    let mut lines: Vec<String> =
        findings.iter().filter(|finding| !exceptions.contains(&finding.key.as_str())).map(Finding::to_string).collect();
    let unneeded = exceptions.iter().filter(|key| !found.contains(**key));
    lines.extend(unneeded.map(|key| format!("the exception {key:?} is no longer needed: delete its line")));
    assert!(lines.is_empty(), "{rule}\n\n{}\n", lines.join("\n"));
}

#[test]
#[should_panic(expected = "the exception \"b\" is no longer needed")]
fn an_exception_that_nobody_needs_fails() {
    check("rule", Vec::new(), &["b"]);
}

#[test]
#[should_panic(expected = "src/lib.rs:3: too long [a]")]
fn a_finding_fails_with_its_place() {
    check("rule", vec![example()], &[]);
}

#[test]
fn a_finding_among_the_exceptions_passes() {
    check("rule", vec![example()], &["a"]);
}

fn example() -> Finding {
    Finding { file: "src/lib.rs".into(), line: 3, key: "a".into(), message: "too long".into() }
}
