//! The arrows of ARCHITECTURE.md are the direct dependencies that the manifests name, and within the coordinator those
//! that the code has.

use std::collections::{BTreeMap, BTreeSet};

use crate::circles::{graph_of, rooms_of};
use crate::pages::section;
use crate::report::{Finding, check};
use crate::workspace::{Package, Target, Workspace};

/// What each of some rooms depends on.
type Arrows = BTreeMap<String, BTreeSet<String>>;

#[test]
fn arrows_are_what_cargo_has() {
    let workspace = Workspace::read();
    let built = rooms(&workspace).map(dependencies).collect();
    compare(&workspace, "Arrows", &built, "Cargo.toml");
}

#[test]
fn arrows_within_the_coordinator_are_what_its_files_name() {
    let workspace = Workspace::read();
    let is_coordinator = |target: &&Target| target.path == "coordinator/src/lib.rs";
    let target = workspace.targets().map(|(_, target)| target).find(is_coordinator).expect("there is a coordinator");
    let tree = workspace.tree(target);
    let (rooms, graph) = rooms_of(&tree, &graph_of(&tree));
    let paths = workspace.paths();
    let is_folder = |room: &usize| paths.contains(&format!("coordinator/src/{}", rooms[*room]));
    let named = |from: &usize| graph.get(from).into_iter().flat_map(BTreeMap::keys).filter(|to| is_folder(to));
    let folders = (0..rooms.len()).filter(is_folder);
    let built =
        folders.map(|room| (rooms[room].clone(), named(&room).map(|to| rooms[*to].clone()).collect())).collect();
    compare(&workspace, "Arrows within the coordinator", &built, "code");
}

/// Compares the arrows that ARCHITECTURE.md draws under `title` with those that are `built`, as `source` says.
fn compare(workspace: &Workspace, title: &str, built: &Arrows, source: &str) {
    let page = workspace.text("ARCHITECTURE.md");
    let (first_line, text) = section(&page, title).expect("ARCHITECTURE.md has the section");
    let drawn = arrows(text);
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
            "the arrow of {room} says {}, its {source} says {}; make them agree",
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
fn arrows(text: &str) -> Arrows {
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
