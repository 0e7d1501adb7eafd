//! The workspace as the rules see it: packages, their targets, and the modules of each target.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};

use crate::module_tree::ModuleTree;

/// All packages, in the order of the root's `members`.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) packages: Vec<Package>,
}

/// One member.
pub(crate) struct Package {
    /// Relative to the root: `kernels`.
    pub(crate) folder: String,
    pub(crate) manifest: toml::Table,
    pub(crate) targets: Vec<Target>,
}

/// One library, binary, test, bench or example.
pub(crate) struct Target {
    /// Its root file, relative to the root of the workspace.
    pub(crate) path: String,
    /// Whether it is part of what is built for users: a library, or a binary in `src/`.
    pub(crate) is_product: bool,
}

impl Workspace {
    /// Reads the manifests.
    ///
    /// # Panics
    ///
    /// If one cannot be read or parsed.
    pub(crate) fn read() -> Workspace {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root.canonicalize().expect("the root of the workspace exists");
        let manifest = manifest(&root);
        let members = manifest["workspace"]["members"].as_array().expect("members is a list");
        let members = members.iter().map(|member| member.as_str().expect("a member is a string"));
        let packages = members.map(|folder| Package::read(&root, folder)).collect();
        Workspace { root, packages }
    }

    /// The text of the file at `path`, relative to the root.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(crate) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Every target of every package.
    pub(crate) fn targets(&self) -> impl Iterator<Item = (&Package, &Target)> {
        self.packages.iter().flat_map(|package| package.targets.iter().map(move |target| (package, target)))
    }

    /// Reads and parses the sources of a target.
    ///
    /// # Panics
    ///
    /// If one of them cannot be read or parsed.
    pub(crate) fn tree(&self, target: &Target) -> ModuleTree {
        ModuleTree::read(&self.root, &target.path)
    }

    /// Every file and folder of the repository, relative to the root, but for those that are built or begin with a
    /// point.
    pub(crate) fn paths(&self) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        collect_paths(&self.root, "", &mut paths);
        paths
    }

    /// Every source: path and tokens, flat.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (String, Vec<TokenTree>)> {
        self.sources_with("")
    }

    /// Path and line of the first `word` of every source that has it in its code.
    pub(crate) fn first_lines_of(&self, word: &'static str) -> impl Iterator<Item = (String, usize)> {
        self.sources_with(word).filter_map(move |(path, tokens)| Some((path, line_of(word, &tokens)?)))
    }

    /// The sources whose text has `word`.
    fn sources_with(&self, word: &'static str) -> impl Iterator<Item = (String, Vec<TokenTree>)> {
        let paths = self.paths().into_iter().filter(|path| path.ends_with(".rs"));
        let texts = paths.map(|path| (self.text(&path), path)).filter(move |(text, _)| text.contains(word));
        texts.map(|(text, path)| {
            let tokens = text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
            (path, flat(tokens))
        })
    }
}

impl Package {
    fn read(root: &Path, folder: &str) -> Package {
        let manifest = manifest(&root.join(folder));
        let mut roots: Vec<String> = ["src/lib.rs", "src/main.rs", "build.rs"].map(String::from).into();
        for kind in ["tests", "benches", "examples"] {
            roots.extend(target_roots(&root.join(folder), kind));
        }
        for kind in ["test", "bench", "example", "bin"] {
            let named = manifest.get(kind).and_then(toml::Value::as_array).into_iter().flatten();
            roots.extend(named.filter_map(|target| target.get("path")?.as_str().map(String::from)));
        }
        roots.sort();
        roots.dedup();
        let target = |path: String| {
            let is_product = path == "src/lib.rs" || path == "src/main.rs";
            let path = normal(&format!("{folder}/{path}"));
            root.join(&path).is_file().then_some(Target { is_product, path })
        };
        Package { folder: folder.to_owned(), manifest, targets: roots.into_iter().filter_map(target).collect() }
    }

    /// The library or, in packages without one, the binary.
    pub(crate) fn products(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(|target| target.is_product)
    }

    /// The packages of this workspace that `table` (`dependencies`, `dev-dependencies`) of the manifest names.
    pub(crate) fn own_dependencies(&self, table: &str) -> Vec<&str> {
        let names = self.manifest.get(table).and_then(toml::Value::as_table).into_iter().flatten();
        names.filter_map(|(name, _)| name.strip_prefix("convoy-")).collect()
    }
}

fn manifest(folder: &Path) -> toml::Table {
    let path = folder.join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What cargo finds by itself in the folder `kind` of a package: `NAME.rs`, and `NAME/main.rs`.
fn target_roots(package: &Path, kind: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(package.join(kind)) else { return Vec::new() };
    let names = entries.map(|entry| entry.expect("the folder can be listed").file_name().into_string().expect("UTF-8"));
    names
        .map(|name| if name.ends_with(".rs") { name } else { format!("{name}/main.rs") })
        .map(|name| format!("{kind}/{name}"))
        .collect()
}

fn collect_paths(root: &Path, folder: &str, paths: &mut BTreeSet<String>) {
    for entry in fs::read_dir(root.join(folder)).expect("the folder can be listed") {
        let entry = entry.expect("an entry");
        let path = format!("{folder}{}", entry.file_name().into_string().expect("UTF-8"));
        let is_ours = !entry.file_name().as_encoded_bytes().starts_with(b".") && path != "target" && path != "runs";
        if is_ours && entry.file_type().expect("a type").is_dir() {
            collect_paths(root, &format!("{path}/"), paths);
        }
        if is_ours {
            paths.insert(path);
        }
    }
}

/// Tokens, those inside groups after their group.
pub(crate) fn flat(tokens: TokenStream) -> Vec<TokenTree> {
    let mut list = Vec::new();
    for token in tokens {
        let inside = if let TokenTree::Group(group) = &token { flat(group.stream()) } else { Vec::new() };
        list.push(token);
        list.extend(inside);
    }
    list
}

/// The line of the first `word` among tokens.
pub(crate) fn line_of(word: &str, tokens: &[TokenTree]) -> Option<usize> {
    let found = tokens.iter().find(|token| matches!(token, TokenTree::Ident(ident) if ident == word));
    found.map(|token| token.span().start().line)
}

/// `cli/../tests/e2e/main.rs` as `tests/e2e/main.rs`.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}
