//! Every public item is documented, in private modules too, and every library has an example that runs.
//!
//! rustc's `missing_docs` knows what a crate shows to others; here what a module shows to its crate by `pub` counts as
//! well.

use syn::visit::{self, Visit};
use syn::{Attribute, Field, Ident, ImplItemFn, Item, ItemEnum, ItemImpl, TraitItemFn, Variant, Visibility};

use crate::exceptions;
use crate::module_tree::{defined_name, is_for_tests};
use crate::paths_in_code::attributes_of;
use crate::report::{Finding, check};
use crate::sizes::{derives, documentation};
use crate::workspace::{Package, Target, Workspace};

#[test]
fn every_public_item_is_documented() {
    let workspace = Workspace::read();
    let mut findings = Vec::new();
    for (package, target) in workspace.targets().filter(|(_, target)| target.is_product) {
        let tree = workspace.tree(target);
        for (_, module) in tree.product_modules() {
            let mut items = PublicItems { bare: Vec::new(), owner: String::new() };
            module.items.iter().for_each(|item| items.visit_item(item));
            findings.extend(items.bare.into_iter().map(|(name, line)| Finding {
                file: tree.files[module.file].path.clone(),
                line,
                key: format!("{}: {name}", package.folder),
                message: format!("{name} is public and has no documentation; say what it is"),
            }));
        }
    }
    check("Every public item is documented.", findings, exceptions::DOCUMENTATION);
}

#[test]
fn every_library_has_an_example_that_runs() {
    let workspace = Workspace::read();
    let libraries = workspace.packages.iter().filter(|package| package.targets.iter().any(is_library));
    let findings = libraries.filter(|package| !has_example(&workspace, package)).map(|package| Finding {
        file: format!("{}/src/lib.rs", package.folder),
        line: 1,
        key: package.folder.clone(),
        message: "no example that runs; add one between ``` lines to a doc comment, and delete `doctest = false`"
            .into(),
    });
    check("Every library shows how it is used.", findings.collect(), exceptions::EXAMPLES);
}

#[test]
fn every_package_takes_the_lints_of_the_workspace() {
    let workspace = Workspace::read();
    let takes = |package: &&Package| {
        let lints = package.manifest.get("lints").and_then(|lints| lints.get("workspace"));
        lints.and_then(toml::Value::as_bool) != Some(true)
    };
    let findings = workspace.packages.iter().filter(takes).map(|package| Finding {
        file: format!("{}/Cargo.toml", package.folder),
        line: 1,
        key: package.folder.clone(),
        message: "add `workspace = true` under [lints], for missing_docs and unsafe_code".into(),
    });
    check("The lints hold in every package.", findings.collect(), &[]);
}

fn is_library(target: &Target) -> bool {
    target.path.ends_with("src/lib.rs")
}

/// Whether a doc comment of the library has code that `cargo test` runs.
fn has_example(workspace: &Workspace, package: &Package) -> bool {
    let is_on = package.manifest.get("lib").and_then(|lib| lib.get("doctest")).and_then(toml::Value::as_bool);
    let folder = format!("{}/src/", package.folder);
    let paths = workspace.paths().into_iter().filter(|path| path.starts_with(&folder) && path.ends_with(".rs"));
    let text: String = paths.map(|path| workspace.text(&path)).collect();
    let fences = text.lines().filter_map(|line| {
        let line = line.trim_start();
        let line = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"))?;
        line.trim_start().strip_prefix("```")
    });
    // Every other fence ends a block.
    let mut kinds = fences.step_by(2);
    is_on != Some(false) && kinds.any(|kind| kind.trim().is_empty())
}

/// Public items, methods, fields and variants without documentation: names and lines.
struct PublicItems {
    bare: Vec<(String, usize)>,
    /// The type whose fields, variants or methods are looked at.
    owner: String,
}

impl PublicItems {
    fn look(&mut self, name: &Ident, attributes: &[Attribute]) {
        if documentation(attributes).is_empty() && !is_for_tests(attributes) {
            let path = if self.owner.is_empty() { name.to_string() } else { format!("{}::{name}", self.owner) };
            self.bare.push((path, name.span().start().line));
        }
    }

    /// Looks at what belongs to `owner`.
    fn within(&mut self, owner: String, look: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.owner, owner);
        look(self);
        self.owner = outer;
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn visibility_of(item: &Item) -> Option<&Visibility> {
    match item {
        Item::Const(item) => Some(&item.vis),
        Item::Enum(item) => Some(&item.vis),
        Item::Fn(item) => Some(&item.vis),
        Item::Static(item) => Some(&item.vis),
        Item::Struct(item) => Some(&item.vis),
        Item::Trait(item) => Some(&item.vis),
        Item::Type(item) => Some(&item.vis),
        Item::Union(item) => Some(&item.vis),
        _ => None,
    }
}

impl<'ast> Visit<'ast> for PublicItems {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_for_tests(attributes_of(item)) {
            return;
        }
        let Some(name) = defined_name(item).filter(|_| visibility_of(item).is_some_and(is_public)) else {
            if let Item::Impl(item) = item {
                self.visit_item_impl(item);
            }
            return;
        };
        self.look(name, attributes_of(item));
        if matches!(item, Item::Struct(_) | Item::Enum(_) | Item::Trait(_) | Item::Union(_)) {
            self.within(name.to_string(), |items| visit::visit_item(items, item));
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if let (None, syn::Type::Path(owner)) = (&item.trait_, &*item.self_ty) {
            let owner = owner.path.segments.last().map(|segment| segment.ident.to_string());
            self.within(owner.unwrap_or_default(), |items| visit::visit_item_impl(items, item));
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if is_public(&function.vis) {
            self.look(&function.sig.ident, &function.attrs);
        }
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        self.look(&function.sig.ident, &function.attrs);
    }

    fn visit_field(&mut self, field: &'ast Field) {
        // Flags that several commands share have their help where they are defined.
        let is_flattened = field.attrs.iter().any(|attribute| match &attribute.meta {
            syn::Meta::List(list) => list.path.is_ident("command") && list.tokens.to_string() == "flatten",
            _ => false,
        });
        if let Some(name) = field.ident.as_ref().filter(|_| is_public(&field.vis) && !is_flattened) {
            self.look(name, &field.attrs);
        }
    }

    fn visit_item_enum(&mut self, item: &'ast ItemEnum) {
        // The help of a subcommand is the documentation of its arguments' type.
        if !derives(&item.attrs, &["Subcommand"]) {
            visit::visit_item_enum(self, item);
        }
    }

    fn visit_variant(&mut self, variant: &'ast Variant) {
        self.look(&variant.ident, &variant.attrs);
        self.within(format!("{}::{}", self.owner, variant.ident), |items| {
            for field in &variant.fields {
                if let Some(name) = &field.ident {
                    items.look(name, &field.attrs);
                }
            }
        });
    }
}

#[test]
fn bare_public_items_are_found() {
    let text = "
        /// A.
        pub struct A { pub b: u8, c: u8 }
        impl A { pub fn d() {} fn e() {} /** F. */ pub fn f() {} }
        /// G.
        pub enum G { H, /** I. */ I { j: u8 } }
        pub fn k() {}
        pub(crate) fn l() {}";
    let mut items = PublicItems { bare: Vec::new(), owner: String::new() };
    items.visit_file(&syn::parse_file(text).expect("it is Rust"));
    let names: Vec<&str> = items.bare.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["A::b", "A::d", "G::H", "G::I::j", "k"]);
}
