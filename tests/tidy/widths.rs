//! Comments and prose have 120 columns; rustfmt keeps code to that, and breaks neither comments nor strings.

use crate::report::{Finding, check};
use crate::workspace::Workspace;

const COLUMNS: usize = 120;

#[test]
fn comments_and_prose_have_120_columns() {
    let workspace = Workspace::read();
    let mut findings = Vec::new();
    for path in workspace.paths() {
        let is_prose: fn(&str) -> Vec<usize> = match path.rsplit_once('.') {
            Some((_, "rs" | "proto")) => wide_comments,
            Some((_, "md")) => wide_prose,
            _ => continue,
        };
        findings.extend(is_prose(&workspace.text(&path)).into_iter().map(|line| Finding {
            file: path.clone(),
            line,
            key: path.clone(),
            message: format!("more than {COLUMNS} columns; break the line"),
        }));
    }
    check("Lines can be read side by side.", findings, &[]);
}

/// The numbers of lines that are too wide, of those that `counts` takes.
fn wide<'t>(text: &'t str, mut counts: impl FnMut(&'t str) -> bool) -> Vec<usize> {
    let lines = text.lines().enumerate().filter(|(_, line)| counts(line) && line.chars().count() > COLUMNS);
    lines.map(|(number, _)| number + 1).collect()
}

/// Tables and lines with an address cannot be broken.
fn wide_comments(text: &str) -> Vec<usize> {
    wide(text, |line| {
        let words = line.trim_start().strip_prefix("//").map(|rest| rest.trim_start_matches(['/', '!', ' ']));
        words.is_some_and(|words| !words.starts_with('|') && !words.contains("://"))
    })
}

/// Tables, code and links on a line of their own cannot be broken.
fn wide_prose(text: &str) -> Vec<usize> {
    let mut in_block = false;
    wide(text, move |line| {
        in_block ^= line.starts_with("```");
        !in_block && !line.starts_with(['|', '!']) && !line.starts_with("    ") && line.contains(' ')
    })
}

#[test]
fn what_cannot_be_broken_may_be_wide() {
    let words = "words ".repeat(30);
    let comments = format!("/// {words}\n    // {words}\nlet x = \"{words}\";\n// https://{words}\n/// | {words}");
    assert_eq!(wide_comments(&comments), [1, 2]);
    assert_eq!(wide_prose(&format!("{words}\n| {words}\n    {words}\n```\n{words}\n```\n- {words}")), [1, 7]);
}
