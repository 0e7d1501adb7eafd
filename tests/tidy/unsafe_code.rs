//! `unsafe` stands only in the files that ARCHITECTURE.md lists under "Unsafe code".

use std::collections::BTreeSet;

use crate::pages::{code_spans, section};
use crate::report::{Finding, check};
use crate::workspace::{Workspace, flat, line_of};

#[test]
fn unsafe_code_is_where_the_list_says() {
    let workspace = Workspace::read();
    let page = workspace.text("ARCHITECTURE.md");
    let (first_line, list) = section(&page, "Unsafe code").expect("ARCHITECTURE.md has the section");
    let listed: BTreeSet<String> = code_spans(list).into_iter().map(|(_, span)| span).collect();
    let mut used = BTreeSet::new();
    let mut findings = Vec::new();
    for (file, line) in workspace.first_lines_of("unsafe") {
        used.insert(file.clone());
        if !listed.contains(&file) {
            let message =
                "`unsafe` in a file that ARCHITECTURE.md does not list; do without, or list it with its reason";
            findings.push(Finding { key: file.clone(), file, line, message: message.into() });
        }
    }
    findings.extend(listed.iter().filter(|path| path.ends_with(".rs") && !used.contains(*path)).map(|path| Finding {
        file: "ARCHITECTURE.md".into(),
        line: first_line,
        key: path.clone(),
        message: format!("{path} is listed under \"Unsafe code\" and has none; delete it there"),
    }));
    check("`unsafe` is where ARCHITECTURE.md says.", findings, &[]);
}

#[test]
fn the_word_is_found_in_code_alone() {
    let line = |text: &str| line_of("unsafe", &flat(text.parse().expect("tokens")));
    assert_eq!(line("// unsafe\nfn f() { g!(\n unsafe { h() }) }"), Some(3));
    assert_eq!(line("/// unsafe\n#[allow(unsafe_code)] fn f() { \"unsafe\" }"), None);
}
