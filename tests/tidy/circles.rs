//! No circle of files within a crate, and none of its rooms.
//!
//! File A points to file B if code of A that is not for tests names something that B defines, by a path or an import.
//! What a parent hands on counts as the file that defines it. Declaring a module (`mod child;`) and handing on what a
//! descendant defines (`pub use child::Thing`) point nowhere. Calls of methods are not seen: an `impl` in several files
//! is no circle.
//!
//! A room is a folder at the top of `src/` with the file that declares it, or a file there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proc_macro2::TokenTree;

use crate::exceptions;
use crate::module_tree::{Import, ModuleId, ModuleTree, Place};
use crate::paths_in_code::named_in;
use crate::report::{Finding, check};
use crate::workspace::{Workspace, flat};

/// From a file to those it points to, with the line and the name of the first reason.
pub(crate) type Graph = BTreeMap<usize, BTreeMap<usize, (usize, String)>>;

#[test]
fn no_circle_of_files_within_a_crate() {
    let workspace = Workspace::read();
    let mut findings = Vec::new();
    for (package, target) in workspace.targets().filter(|(_, target)| target.is_product) {
        let tree = workspace.tree(target);
        let files = graph_of(&tree);
        let (rooms, room_graph) = rooms_of(&tree, &files);
        let of_files = circles_of(&files, &|file| tree.files[file].path.clone());
        let of_rooms = circles_of(&room_graph, &|room| rooms[room].clone());
        for (start, line, circle) in of_files.into_iter().chain(of_rooms) {
            findings.push(Finding {
                file: start,
                line,
                key: package.folder.clone(),
                message: format!("a circle: {circle}; move what both ends need to a place of its own, below both"),
            });
        }
    }
    check("Files of a crate use each other in one direction.", findings, exceptions::CIRCLES);
}

/// A shortest circle through each group of nodes that lead to each other: name and line where it starts, and the story.
fn circles_of(graph: &Graph, name: &dyn Fn(usize) -> String) -> Vec<(String, usize, String)> {
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for &start in graph.keys() {
        if seen.contains(&start) {
            continue;
        }
        let Some(circle) = shortest_circle(graph, start) else { continue };
        let step = |pair: &[usize]| {
            let (line, named) = &graph[&pair[0]][&pair[1]];
            format!("{}:{line} names {named} of {}", name(pair[0]), name(pair[1]))
        };
        let story: Vec<String> = circle.windows(2).map(step).collect();
        circles.push((name(start), graph[&start][&circle[1]].0, story.join(", ")));
        seen.extend(circle);
    }
    circles
}

/// The names of the rooms, and their graph.
pub(crate) fn rooms_of(tree: &ModuleTree, files: &Graph) -> (Vec<String>, Graph) {
    let source = tree.files[0].path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let room = |file: usize| {
        let inside = tree.files[file].path[source.len()..].trim_start_matches('/');
        inside.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned()
    };
    let names: BTreeSet<String> = (0..tree.files.len()).map(room).collect();
    let names: Vec<String> = names.into_iter().collect();
    let number = |file: usize| names.binary_search(&room(file)).expect("each file has a room");
    let mut graph = Graph::new();
    for (&from, edges) in files {
        for (&to, (line, name)) in edges.iter().filter(|(to, _)| number(**to) != number(from)) {
            let reason = (*line, format!("{name} ({})", tree.files[from].path));
            graph.entry(number(from)).or_default().entry(number(to)).or_insert(reason);
        }
    }
    (names, graph)
}

/// The files of a shortest way from `start` back to it, `start` at both ends.
fn shortest_circle(graph: &Graph, start: usize) -> Option<Vec<usize>> {
    let mut came_from: BTreeMap<usize, usize> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        for &next in graph.get(&file).into_iter().flat_map(BTreeMap::keys) {
            if next == start {
                let mut circle = vec![start, file];
                let mut at = file;
                while at != start {
                    at = came_from[&at];
                    circle.push(at);
                }
                circle.reverse();
                return Some(circle);
            }
            came_from.entry(next).or_insert_with(|| {
                queue.push_back(next);
                file
            });
        }
    }
    None
}

/// The graph of files, by their index in the tree.
pub(crate) fn graph_of(tree: &ModuleTree) -> Graph {
    let mut graph = Graph::new();
    for (id, module) in tree.product_modules() {
        let named = named_in(&module.items);
        let mut point = |to: ModuleId, line: usize, name: String| {
            let (from, to) = (module.file, tree.modules[to].file);
            if from != to && !tree.files[to].is_test {
                graph.entry(from).or_default().entry(to).or_insert((line, name));
            }
        };
        let imports: Vec<&Import> = named.imports.iter().filter(|import| !import.is_test).collect();
        for import in &imports {
            for (to, name) in targets_of(tree, id, import) {
                if !(import.is_public && tree.is_within(to, id)) {
                    point(to, import.line, name);
                }
            }
        }
        for (path, line) in &named.paths {
            if let Some(Place::ItemOf(to)) = resolve_with(tree, id, path, &imports) {
                point(to, *line, path.join("::"));
            }
        }
    }
    graph
}

/// As [`ModuleTree::resolve`], and through imports inside functions too.
fn resolve_with(tree: &ModuleTree, from: ModuleId, path: &[String], imports: &[&Import]) -> Option<Place> {
    tree.resolve(from, path).or_else(|| {
        let import = imports.iter().find(|import| import.name.as_ref() == path.first())?;
        (import.path.first() != path.first()).then_some(())?;
        tree.resolve(from, &[&import.path[..], &path[1..]].concat())
    })
}

/// The modules that define what an import names. The import of a module points nowhere: its uses do. A glob points to
/// the names of its module that the file uses.
fn targets_of(tree: &ModuleTree, from: ModuleId, import: &Import) -> Vec<(ModuleId, String)> {
    let name = import.path.join("::");
    match (tree.resolve(from, &import.path), &import.name) {
        (Some(Place::ItemOf(to)), _) => vec![(to, name)],
        (Some(Place::Module(base)), None) => {
            let words = words_of(&tree.file_of(from).text);
            let found = words.iter().filter_map(|word| match tree.look_up(base, word) {
                Some(Place::ItemOf(to)) => Some((to, format!("{name}::{word}"))),
                _ => None,
            });
            found.collect()
        }
        _ => Vec::new(),
    }
}

/// Every identifier of a source.
fn words_of(text: &str) -> BTreeSet<String> {
    let tokens = flat(text.parse().expect("a source that was parsed is made of tokens"));
    let words = tokens.iter().filter_map(|token| match token {
        TokenTree::Ident(ident) => Some(ident.to_string()),
        _ => None,
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::{circles_of, graph_of, rooms_of};
    use crate::module_tree::tree_of;

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let tree = tree_of(files);
        circles_of(&graph_of(&tree), &|file| tree.files[file].path.clone())
            .into_iter()
            .map(|(_, _, story)| story)
            .collect()
    }

    #[test]
    fn two_files_that_import_each_other_are_a_circle() {
        let found = circles(&[
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", "use crate::b::B;\npub struct A;"),
            ("src/b.rs", "pub struct B;\nfn f() { dbg!(super::a::A) }"),
        ]);
        assert_eq!(found, ["src/a.rs:1 names crate::b::B of src/b.rs, src/b.rs:2 names super::a::A of src/a.rs"]);
    }

    #[test]
    fn a_circle_over_a_parent_that_hands_on_is_found() {
        let found = circles(&[
            ("src/lib.rs", "mod a; mod hub;"),
            ("src/a.rs", "use crate::hub::Inner; pub struct A;"),
            ("src/hub.rs", "mod inner; pub use inner::Inner;"),
            ("src/hub/inner.rs", "use crate::a; pub struct Inner(a::A);"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn a_circle_over_a_glob_is_found_where_a_name_is_used() {
        let parts =
            |b| [("src/lib.rs", "mod a; mod b;"), ("src/a.rs", "use crate::b::B; pub struct A;"), ("src/b.rs", b)];
        assert_eq!(circles(&parts("use super::a::*; pub struct B(A);")).len(), 1);
        assert_eq!(circles(&parts("use super::a::*; pub struct B;")).len(), 0);
    }

    #[test]
    fn declaring_handing_on_tests_and_methods_are_no_circle() {
        let found = circles(&[
            ("src/lib.rs", "mod a; mod b; pub use a::A; pub(crate) use b::B;"),
            ("src/a.rs", "use super::b::B; pub struct A; impl A { pub fn f(b: B) { b.g() } }"),
            ("src/b.rs", "pub struct B; impl B { fn g(self) {} }\n#[cfg(test)] mod tests { use crate::a::A; }"),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn a_circle_of_rooms_without_a_circle_of_files_is_found() {
        let tree = tree_of(&[
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", "mod one; mod two;"),
            ("src/a/one.rs", "pub struct One(crate::b::B);"),
            ("src/a/two.rs", "pub struct Two;"),
            ("src/b.rs", "pub struct B; fn f(two: super::a::two::Two) {}"),
        ]);
        let files = graph_of(&tree);
        assert_eq!(circles_of(&files, &|_| String::new()), []);
        let (rooms, graph) = rooms_of(&tree, &files);
        let found = circles_of(&graph, &|room| rooms[room].clone());
        let story = "a:1 names crate::b::B (src/a/one.rs) of b, b:1 names super::a::two::Two (src/b.rs) of a";
        assert_eq!(found, [("a".into(), 1, story.into())]);
    }

    #[test]
    fn a_parent_that_uses_its_child_and_is_used_by_it_is_a_circle() {
        let found = circles(&[
            ("src/lib.rs", "mod a;"),
            ("src/a.rs", "mod child; pub use child::Child; pub struct A; fn f(c: Child) {}"),
            ("src/a/child.rs", "pub struct Child(super::A);"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
