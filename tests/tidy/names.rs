//! No type name twice within a crate.

use std::collections::BTreeMap;

use syn::visit::{self, Visit};
use syn::{Ident, Item};

use crate::exceptions;
use crate::module_tree::{ModuleTree, is_for_tests};
use crate::paths_in_code::attributes_of;
use crate::report::{Finding, check};
use crate::workspace::Workspace;

#[test]
fn no_type_name_twice_within_a_crate() {
    let workspace = Workspace::read();
    let mut findings = Vec::new();
    for package in &workspace.packages {
        let products: Vec<ModuleTree> = package.products().map(|target| workspace.tree(target)).collect();
        findings.extend(twice(&package.folder, &products, false));
        for target in package.targets.iter().filter(|target| !target.is_product) {
            findings.extend(twice(&package.folder, &[workspace.tree(target)], true));
        }
    }
    check("A name means one thing within a crate.", findings, exceptions::TYPE_NAMES);
}

/// The second and later types of each name, in code that is not for tests unless `with_tests`.
fn twice(folder: &str, trees: &[ModuleTree], with_tests: bool) -> Vec<Finding> {
    let mut first: BTreeMap<String, String> = BTreeMap::new();
    let mut findings = Vec::new();
    for tree in trees {
        for module in tree.modules.iter().filter(|module| with_tests || !module.is_test) {
            let mut types = Types { with_tests, found: Vec::new() };
            module.items.iter().for_each(|item| types.visit_item(item));
            let file = &tree.files[module.file].path;
            for (name, line) in types.found {
                let place = format!("{file}:{line}");
                let Some(other) = first.get(&name) else {
                    first.insert(name, place);
                    continue;
                };
                findings.push(Finding {
                    file: file.clone(),
                    line,
                    key: format!("{folder}: {name}"),
                    message: format!("{other} defines a type {name}, too; name both by what they are"),
                });
            }
        }
    }
    findings
}

/// Collects the types that items define, in functions too.
struct Types {
    with_tests: bool,
    found: Vec<(String, usize)>,
}

impl<'ast> Visit<'ast> for Types {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_for_tests(attributes_of(item)) && !self.with_tests {
            return;
        }
        let mut add = |name: &Ident| self.found.push((name.to_string(), name.span().start().line));
        match item {
            Item::Enum(item) => add(&item.ident),
            Item::Struct(item) => add(&item.ident),
            Item::Trait(item) => add(&item.ident),
            Item::TraitAlias(item) => add(&item.ident),
            Item::Type(item) => add(&item.ident),
            Item::Union(item) => add(&item.ident),
            _ => {}
        }
        visit::visit_item(self, item);
    }
}

#[test]
fn the_second_type_of_a_name_is_found_and_tests_are_left_out() {
    let tree = crate::module_tree::tree_of(&[
        ("src/lib.rs", "mod a; struct Node; #[cfg(test)] mod tests { struct Node; }"),
        ("src/a.rs", "\nfn f() { enum Node {} } trait Other { type Node; }"),
    ]);
    let found = twice("crate", &[tree], false);
    let found: Vec<String> = found.iter().map(Finding::to_string).collect();
    let expected = "src/a.rs:2: src/lib.rs:1 defines a type Node, too; name both by what they are [crate: Node]";
    assert_eq!(found, [expected]);
}
