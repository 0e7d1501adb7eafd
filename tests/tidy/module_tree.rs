//! The modules of one target, what each defines and imports, and where a path leads.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proc_macro2::TokenTree;
use syn::spanned::Spanned;
use syn::{Attribute, Item, ItemUse, UseTree, Visibility};

/// The number of a module in its tree.
pub(crate) type ModuleId = usize;

/// All modules that a target's root leads to.
pub(crate) struct ModuleTree {
    /// The root is the first.
    pub(crate) modules: Vec<Module>,
    pub(crate) files: Vec<SourceFile>,
}

/// A source file.
pub(crate) struct SourceFile {
    /// Relative to the root of the workspace.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Whether it is compiled for tests alone.
    pub(crate) is_test: bool,
}

/// A module, of a file of its own or inline.
pub(crate) struct Module {
    pub(crate) parent: Option<ModuleId>,
    /// Index in [`ModuleTree::files`].
    pub(crate) file: usize,
    pub(crate) is_test: bool,
    pub(crate) children: BTreeMap<String, ModuleId>,
    /// Items; those of inline modules are in the children.
    pub(crate) items: Vec<Item>,
    /// Imports at the top of the module.
    pub(crate) imports: Vec<Import>,
}

/// One leaf of a `use`.
#[derive(Clone, Debug)]
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    /// What it is called here; `None` for a glob.
    pub(crate) name: Option<String>,
    /// Whether others see it, too.
    pub(crate) is_public: bool,
    pub(crate) is_test: bool,
    pub(crate) line: usize,
}

/// Where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// To a module itself.
    Module(ModuleId),
    /// To something that this module defines.
    ItemOf(ModuleId),
}

/// More imports of imports than this are a mistake of this test.
const LONGEST_CHAIN: usize = 24;

impl ModuleTree {
    /// Reads the target whose root is the file at `path`.
    ///
    /// # Panics
    ///
    /// If a file cannot be read or parsed.
    pub(crate) fn read(workspace: &Path, path: &str) -> ModuleTree {
        ModuleTree::from_files(path, &|path| fs::read_to_string(workspace.join(path)).ok())
    }

    /// The same from wherever `read` finds the text of a path.
    pub(crate) fn from_files(root: &str, read: &dyn Fn(&str) -> Option<String>) -> ModuleTree {
        let mut tree = ModuleTree { modules: Vec::new(), files: Vec::new() };
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
        tree.add_file(root, folder, None, false, read);
        tree
    }

    /// `folder` is where the files of its children are.
    fn add_file(
        &mut self,
        path: &str,
        folder: &str,
        parent: Option<ModuleId>,
        is_test: bool,
        read: &dyn Fn(&str) -> Option<String>,
    ) -> ModuleId {
        let text = read(path).unwrap_or_else(|| panic!("{path} cannot be read"));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let is_test = is_test || is_for_tests(&parsed.attrs);
        self.files.push(SourceFile { path: path.to_owned(), text, is_test });
        let file = self.files.len() - 1;
        self.add_module(parsed.items, file, folder, parent, is_test, read)
    }

    fn add_module(
        &mut self,
        mut items: Vec<Item>,
        file: usize,
        folder: &str,
        parent: Option<ModuleId>,
        is_test: bool,
        read: &dyn Fn(&str) -> Option<String>,
    ) -> ModuleId {
        let id = self.modules.len();
        let imports =
            items.iter().filter_map(|item| if let Item::Use(item) = item { Some(imports_of(item)) } else { None });
        let imports = imports.flatten().collect();
        let children = BTreeMap::new();
        self.modules.push(Module { parent, file, is_test, children, items: Vec::new(), imports });
        for item in &mut items {
            let Item::Mod(module) = item else { continue };
            let name = module.ident.to_string();
            let inside = format!("{folder}/{name}");
            let is_test = is_test || is_for_tests(&module.attrs);
            let child = if let Some((_, content)) = &mut module.content {
                self.add_module(std::mem::take(content), file, &inside, Some(id), is_test, read)
            } else {
                let (path, inside) = match named_path(&module.attrs, &self.files[file].path) {
                    Some(named) => named,
                    None => {
                        let candidates = [format!("{inside}.rs"), format!("{inside}/mod.rs")];
                        let path = candidates.into_iter().find(|path| read(path).is_some());
                        let nothing = || panic!("{}: no file for mod {name}", self.files[file].path);
                        (path.unwrap_or_else(nothing), inside)
                    }
                };
                self.add_file(&path, &inside, Some(id), is_test, read)
            };
            self.modules[id].children.insert(name, child);
        }
        self.modules[id].items = items;
        id
    }

    /// The modules with their numbers that are not for tests alone.
    pub(crate) fn product_modules(&self) -> impl Iterator<Item = (ModuleId, &Module)> {
        self.modules.iter().enumerate().filter(|(_, module)| !module.is_test)
    }

    /// The file of a module.
    pub(crate) fn file_of(&self, module: ModuleId) -> &SourceFile {
        &self.files[self.modules[module].file]
    }

    /// Where `path`, written in module `from`, leads; `None` out of this target. Imports of imports are followed to the
    /// definition, so a parent that hands on what its children define is passed through.
    pub(crate) fn resolve(&self, from: ModuleId, path: &[String]) -> Option<Place> {
        self.resolve_within(from, path, LONGEST_CHAIN)
    }

    fn resolve_within(&self, from: ModuleId, path: &[String], left: usize) -> Option<Place> {
        let left = left.checked_sub(1)?;
        let (first, rest) = path.split_first()?;
        let mut place = match first.as_str() {
            "crate" | "$crate" => Place::Module(0),
            "self" => Place::Module(from),
            "super" => Place::Module(self.modules[from].parent?),
            name => self.look_up_within(from, name, left)?,
        };
        for name in rest {
            let Place::Module(module) = place else { return Some(place) };
            place = match name.as_str() {
                "super" => Place::Module(self.modules[module].parent?),
                "self" => place,
                name => self.look_up_within(module, name, left).unwrap_or(Place::ItemOf(module)),
            };
        }
        Some(place)
    }

    /// What `name` is in `module`.
    pub(crate) fn look_up(&self, module: ModuleId, name: &str) -> Option<Place> {
        self.look_up_within(module, name, LONGEST_CHAIN)
    }

    fn look_up_within(&self, module: ModuleId, name: &str, left: usize) -> Option<Place> {
        let here = &self.modules[module];
        if let Some(&child) = here.children.get(name) {
            return Some(Place::Module(child));
        }
        if here.items.iter().any(|item| defined_name(item).is_some_and(|ident| ident == name)) {
            return Some(Place::ItemOf(module));
        }
        let named = here.imports.iter().find(|import| import.name.as_deref() == Some(name));
        if let Some(import) = named {
            // `use name;` of another crate would otherwise look for itself.
            return if import.path == [name] { None } else { self.resolve_within(module, &import.path, left) };
        }
        let globs = here.imports.iter().filter(|import| import.name.is_none());
        globs.filter_map(|glob| self.resolve_within(module, &glob.path, left)).find_map(|base| match base {
            Place::Module(base) if base != module => self.look_up_within(base, name, left.checked_sub(1)?),
            _ => None,
        })
    }

    /// Whether `module` is `ancestor` or lies in it.
    pub(crate) fn is_within(&self, module: ModuleId, ancestor: ModuleId) -> bool {
        let mut at = Some(module);
        while let Some(module) = at {
            if module == ancestor {
                return true;
            }
            at = self.modules[module].parent;
        }
        false
    }
}

/// Whether an item with these attributes is compiled for tests alone.
pub(crate) fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        if attribute.path().is_ident("cfg") {
            let syn::Meta::List(list) = &attribute.meta else { return false };
            let mut words = list.tokens.clone().into_iter();
            return matches!(words.next(), Some(TokenTree::Ident(ident)) if ident == "test");
        }
        attribute.path().segments.last().is_some_and(|segment| segment.ident == "test")
    })
}

/// The leaves of a `use`.
pub(crate) fn imports_of(item: &ItemUse) -> Vec<Import> {
    if item.leading_colon.is_some() {
        return Vec::new();
    }
    let is_public = !matches!(item.vis, Visibility::Inherited);
    let is_test = is_for_tests(&item.attrs);
    let mut imports = Vec::new();
    leaves(&item.tree, &mut Vec::new(), &mut |path, name, line| {
        imports.push(Import { path, name, is_public, is_test, line });
    });
    imports
}

/// The file that `#[path = "..."]` names, seen from `file`, and the folder where the files of its children are.
fn named_path(attributes: &[Attribute], file: &str) -> Option<(String, String)> {
    let attribute = attributes.iter().find(|attribute| attribute.path().is_ident("path"))?;
    let syn::Meta::NameValue(syn::MetaNameValue { value: syn::Expr::Lit(named), .. }) = &attribute.meta else {
        return None;
    };
    let syn::Lit::Str(named) = &named.lit else { return None };
    let mut path: Vec<&str> = file.split('/').collect();
    path.pop();
    let named = named.value();
    for step in named.split('/') {
        match step {
            ".." => drop(path.pop()),
            step => path.push(step),
        }
    }
    let folder = path[..path.len() - 1].join("/");
    Some((path.join("/"), folder))
}

fn leaves(tree: &UseTree, path: &mut Vec<String>, leaf: &mut dyn FnMut(Vec<String>, Option<String>, usize)) {
    let line = tree.span().start().line;
    match tree {
        UseTree::Path(step) => {
            path.push(step.ident.to_string());
            leaves(&step.tree, path, leaf);
            path.pop();
        }
        UseTree::Name(name) if name.ident == "self" => leaf(path.clone(), path.last().cloned(), line),
        UseTree::Name(name) => {
            leaf([&path[..], &[name.ident.to_string()]].concat(), Some(name.ident.to_string()), line)
        }
        UseTree::Rename(name) if name.ident == "self" => leaf(path.clone(), Some(name.rename.to_string()), line),
        UseTree::Rename(name) => {
            leaf([&path[..], &[name.ident.to_string()]].concat(), Some(name.rename.to_string()), line);
        }
        UseTree::Glob(_) => leaf(path.clone(), None, line),
        UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, path, leaf)),
    }
}

/// The name of what an item defines.
pub(crate) fn defined_name(item: &Item) -> Option<&proc_macro2::Ident> {
    match item {
        Item::Const(item) => Some(&item.ident),
        Item::Enum(item) => Some(&item.ident),
        Item::Fn(item) => Some(&item.sig.ident),
        Item::Macro(item) => item.ident.as_ref(),
        Item::Static(item) => Some(&item.ident),
        Item::Struct(item) => Some(&item.ident),
        Item::Trait(item) => Some(&item.ident),
        Item::Type(item) => Some(&item.ident),
        Item::Union(item) => Some(&item.ident),
        _ => None,
    }
}

/// A tree of files that are given as `(path, text)`; the first is the root.
pub(crate) fn tree_of(files: &[(&str, &str)]) -> ModuleTree {
    let find = |path: &str| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned());
    ModuleTree::from_files(files[0].0, &find)
}

#[test]
fn paths_lead_through_parents_that_hand_on_to_the_definition() {
    let tree = tree_of(&[
        ("src/lib.rs", "mod hub; mod user; pub use hub::Inner as Renamed;"),
        ("src/hub.rs", "mod inner; pub use inner::{Inner, deep}; pub use self::inner::*;"),
        ("src/hub/inner.rs", "pub struct Inner; pub fn other() {} pub mod deep { pub struct Deep; }"),
        ("src/user.rs", "use super::hub; use crate::Renamed;"),
    ]);
    let file = |path: &str| {
        let path: Vec<String> = path.split("::").map(String::from).collect();
        let user = tree.modules[0].children["user"];
        tree.resolve(user, &path).map(|place| match place {
            Place::Module(module) => format!("mod {}", tree.file_of(module).path),
            Place::ItemOf(module) => tree.file_of(module).path.clone(),
        })
    };
    assert_eq!(file("hub"), Some("mod src/hub.rs".into()));
    assert_eq!(file("hub::Inner::new"), Some("src/hub/inner.rs".into()));
    assert_eq!(file("crate::hub::other"), Some("src/hub/inner.rs".into()));
    assert_eq!(file("Renamed"), Some("src/hub/inner.rs".into()));
    assert_eq!(file("super::hub::deep::Deep"), Some("src/hub/inner.rs".into()));
    assert_eq!(file("super::hub::unknown"), Some("src/hub.rs".into()));
    assert_eq!(file("std::fs"), None);
}

#[test]
fn a_module_may_say_where_its_file_is() {
    let tree = tree_of(&[
        ("a/tests/all.rs", "#[path = \"../../shared/mod.rs\"] mod shared;"),
        ("shared/mod.rs", "mod inner;"),
        ("shared/inner.rs", "struct Inner;"),
    ]);
    let files: Vec<&str> = tree.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(files, ["a/tests/all.rs", "shared/mod.rs", "shared/inner.rs"]);
}
