//! The arrows of ARCHITECTURE.md are the direct dependencies that the manifests name.

use std::collections::{BTreeMap, BTreeSet};

use crate::pages::section;
use crate::report::{Finding, check};
use crate::workspace::{Package, Workspace};

#[test]
fn arrows_are_what_cargo_has() {
    let workspace = Workspace::read();
    let page = workspace.text("ARCHITECTURE.md");
    let (first_line, text) = section(&page, "Arrows").expect("ARCHITECTURE.md has the section");
    let drawn = arrows(text);
    let built: BTreeMap<String, BTreeSet<String>> = rooms(&workspace).map(dependencies).collect();
    let names: BTreeSet<&String> = drawn.keys().chain(built.keys()).collect();
    let show = |arrows: Option<&BTreeSet<String>>| match arrows {
        Some(arrows) if arrows.is_empty() => "nothing".to_owned(),
        Some(arrows) => arrows.iter().cloned().collect::<Vec<_>>().join(", "),
        None => "no such line".to_owned(),
    };
    let different = names.into_iter().filter(|room| drawn.get(*room) != built.get(*room));
    let findings = different.map(|room| Finding {
        file: "ARCHITECTURE.md".into(),
        line: first_line,
        key: room.clone(),
        message: format!(
            "the arrow of {room} says {}, its Cargo.toml says {}; make them agree",
            show(drawn.get(room)),
            show(built.get(room))
        ),
    });
    check("ARCHITECTURE.md draws the dependencies as they are.", findings.collect(), &[]);
}

/// The packages that are more than tests.
fn rooms(workspace: &Workspace) -> impl Iterator<Item = &Package> {
    workspace.packages.iter().filter(|package| package.products().next().is_some())
}

/// The folder of a package and what it depends on.
fn dependencies(package: &Package) -> (String, BTreeSet<String>) {
    let names = package.own_dependencies("dependencies").into_iter().map(String::from).collect();
    (package.folder.clone(), names)
}

/// `a -> b, c` and `a -> nothing`, one a line.
fn arrows(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let lines = text.lines().filter_map(|line| line.split_once("->"));
    let names =
        |list: &str| list.split(',').map(|name| name.trim().to_owned()).filter(|name| name != "nothing").collect();
    lines.map(|(room, list)| (room.trim().to_owned(), names(list))).collect()
}

#[test]
fn arrows_are_read_from_lines() {
    let found = arrows("text\n    a  ->  b, c\n    b  ->  nothing\n");
    let expected = BTreeMap::from([
        ("a".to_owned(), BTreeSet::from(["b".to_owned(), "c".to_owned()])),
        ("b".to_owned(), BTreeSet::new()),
    ]);
    assert_eq!(found, expected);
}
