//! What the pages in `*.md` and `docs/` name exists: files, functions and types.
//!
//! - `folder/file.rs`, `folder/` and links: the file or folder is there, seen from the root or, in links, from the
//!   page. The beginning of a file's path may be left out where the rest is clear.
//! - `folder/file.rs::name`, `folder/file.rs::Type::name`: that file defines `name`.
//! - `TypeName`: some source or `.proto` file has this word. `Type::name`: some source defines both.
//! - `file::name` of pictures (`docs/*.svg`, texts of class `code`): a source file of that name defines it.
//!
//! `docs/decisions-past.md`, `docs/records.md` and CHANGELOG.md tell of what was, and are left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proc_macro2::TokenTree;

use crate::report::{Finding, check};
use crate::workspace::Workspace;

/// Pages whose names must exist.
fn pages(workspace: &Workspace) -> Vec<String> {
    let of_the_past = ["CHANGELOG.md", "docs/decisions-past.md", "docs/records.md"];
    let mut pages = Vec::new();
    for folder in ["", "docs/"] {
        let entries = fs::read_dir(workspace.root.join(folder)).expect("the folder can be listed");
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
        pages.extend(names.filter(|name| name.ends_with(".md")).map(|name| format!("{folder}{name}")));
    }
    pages.retain(|page| !of_the_past.contains(&page.as_str()));
    pages.sort();
    pages
}

#[test]
fn what_pages_and_pictures_name_exists() {
    let workspace = Workspace::read();
    let sources = Sources::of(&workspace);
    let mut findings = Vec::new();
    for picture in sources.paths.iter().filter(|path| path.ends_with(".svg")) {
        let names = code_texts(&workspace.text(picture));
        assert!(!names.is_empty(), "{picture} names nothing");
        findings.extend(names.into_iter().filter_map(|(line, name)| {
            let fault = sources.fault_of(&name).or_else(|| sources.fault_of_function(&name))?;
            let message = format!("{fault}; write what it is called now");
            Some(Finding { file: picture.clone(), line, key: name, message })
        }));
    }
    for page in pages(&workspace) {
        let text = workspace.text(&page);
        let links = links(&text).into_iter().map(|(line, link)| (line, link, true));
        let spans = code_spans(&text).into_iter().map(|(line, span)| (line, span, false));
        for (line, name, is_link) in links.chain(spans) {
            let fault = if is_link { sources.fault_of_link(&page, &name) } else { sources.fault_of(&name) };
            findings.extend(fault.map(|fault| Finding {
                file: page.clone(),
                line,
                key: name.clone(),
                message: format!("{fault}; write what it is called now"),
            }));
        }
    }
    check("What the pages name exists.", findings, &[]);
}

/// Everything that pages may name.
struct Sources {
    root: std::path::PathBuf,
    /// Files and folders of the repository.
    paths: BTreeSet<String>,
    /// The words of each source.
    words: Vec<BTreeSet<String>>,
    /// Path of a source, and what it defines.
    defined: Vec<(String, BTreeSet<String>)>,
}

impl Sources {
    fn of(workspace: &Workspace) -> Sources {
        let paths = workspace.paths();
        let (mut words, mut defined) = (Vec::new(), Vec::new());
        for (path, tokens) in workspace.sources() {
            words.push(tokens.iter().filter_map(ident_of).map(ToString::to_string).collect());
            defined.push((path, definitions(&tokens)));
        }
        for path in paths.iter().filter(|path| path.ends_with(".proto")) {
            let text = workspace.text(path);
            let names = text.split(|c: char| !c.is_alphanumeric() && c != '_').map(String::from);
            words.push(names.collect());
        }
        Sources { root: workspace.root.clone(), paths, words, defined }
    }

    /// What is wrong with the target of a link.
    fn fault_of_link(&self, page: &str, link: &str) -> Option<String> {
        let path = link.split('#').next().unwrap_or("");
        let folder = Path::new(page).parent().expect("a page is in a folder");
        let is_elsewhere = link.contains("://") || path.is_empty();
        (!is_elsewhere && !self.root.join(folder).join(path).exists())
            .then(|| format!("the link to {link} leads nowhere"))
    }

    /// What is wrong with `file::function`.
    fn fault_of_function(&self, name: &str) -> Option<String> {
        let (file, function) = name.split_once("::").filter(|(file, _)| file.starts_with(char::is_lowercase))?;
        let paths = [format!("/{file}.rs"), format!("/{file}/mod.rs")];
        let is_of_file = |path: &str| paths.iter().any(|end| path.ends_with(end));
        let exists = self.defined.iter().any(|(path, defined)| is_of_file(path) && defined.contains(function));
        (!exists).then(|| format!("no file {file}.rs defines {function}"))
    }

    /// What is wrong with a name in code type, if it is one that can be checked.
    fn fault_of(&self, span: &str) -> Option<String> {
        if let Some((path, name)) = span.split_once(".rs::") {
            let path = format!("{path}.rs");
            let Some((_, defined)) = self.defined.iter().find(|(file, _)| *file == path) else {
                return Some(format!("there is no file {path}"));
            };
            let missing = name.split("::").find(|name| !defined.contains(*name));
            return missing.map(|name| format!("{path} does not define {name}"));
        }
        let first = span.split('/').next().unwrap_or_default();
        let is_folder = span.ends_with('/') && self.paths.contains(first);
        if (span.ends_with(".rs") || is_folder) && span.chars().all(is_of_path) {
            let path = span.trim_end_matches('/');
            let tail = format!("/{path}");
            let exists = self.paths.contains(path) || self.paths.iter().any(|known| known.ends_with(&tail));
            return (!exists).then(|| format!("there is no {span}"));
        }
        let mut names: Vec<&str> = span.split("::").map(|name| name.trim_end_matches("()")).collect();
        let is_crate = self.paths.contains(names[0]) || names[0].starts_with("convoy_");
        if names.len() > 1 && is_crate {
            // `nn::Executor`, `convoy_nn::Executor`.
            names.remove(0);
        }
        let is_type = |name: &str| {
            let has_lower = name.contains(|c: char| c.is_ascii_lowercase());
            name.starts_with(|c: char| c.is_ascii_uppercase()) && has_lower && name.chars().all(char::is_alphanumeric)
        };
        let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        let is_checked = names.iter().any(|name| is_type(name)) && names.iter().all(|name| is_name(name));
        let defined = self.defined.iter().map(|(_, defined)| defined);
        let places: Vec<_> = if names.len() > 1 { defined.collect() } else { self.words.iter().collect() };
        let exists = places.into_iter().any(|words| names.iter().all(|name| words.contains(*name)));
        (is_checked && !exists).then(|| format!("no source has {span}"))
    }
}

fn is_of_path(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_-./".contains(character)
}

fn ident_of(token: &TokenTree) -> Option<&proc_macro2::Ident> {
    if let TokenTree::Ident(ident) = token { Some(ident) } else { None }
}

/// The names behind `fn`, `struct`, `enum`, `trait`, `type`, `const`, `static` and `mod`, those of fields and variants
/// (which a `:`, `,`, `(` or `{` follows), and the types of `impl`s.
fn definitions(tokens: &[TokenTree]) -> BTreeSet<String> {
    let keywords = ["fn", "struct", "enum", "trait", "type", "const", "static", "mod", "impl", "for", "pub"];
    let pairs = tokens.windows(2).filter_map(|pair| {
        let (before, name) = (ident_of(&pair[0])?, ident_of(&pair[1])?);
        keywords.iter().any(|keyword| before == keyword).then(|| name.to_string())
    });
    let mut defined: BTreeSet<String> = pairs.collect();
    // `impl<T> Name`, `pub(crate) name:`, a variant after its documentation.
    let after_punctuation = tokens.windows(2).filter_map(|pair| match (&pair[0], &pair[1]) {
        (TokenTree::Punct(_) | TokenTree::Group(_) | TokenTree::Literal(_), TokenTree::Ident(name)) => {
            Some(name.to_string())
        }
        _ => None,
    });
    let types = after_punctuation.filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase()));
    defined.extend(types);
    defined
}

/// What stands between single backticks, with its line; blocks of code are left out.
pub(crate) fn code_spans(text: &str) -> Vec<(usize, String)> {
    let mut spans = Vec::new();
    let mut in_block = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block && !line.starts_with("    ") {
            spans.extend(line.split('`').skip(1).step_by(2).map(|span| (number + 1, span.to_owned())));
        }
    }
    spans
}

/// What a picture names in code type, with the lines.
fn code_texts(svg: &str) -> Vec<(usize, String)> {
    let in_line = |(number, line): (usize, &str)| {
        let text = line.split_once("class=\"code\"")?.1.split_once('>')?.1.split_once('<')?.0;
        Some(text.split(", ").map(|name| (number + 1, name.to_owned())).collect::<Vec<_>>())
    };
    svg.lines().enumerate().filter_map(in_line).flatten().collect()
}

/// The targets of `[text](target)`, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let lines = text.lines().enumerate();
    let in_line = |(number, line): (usize, &str)| {
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        targets.map(|(target, _)| (number + 1, target.to_owned())).collect::<Vec<_>>()
    };
    lines.flat_map(in_line).collect()
}

/// The text under the heading `title` up to the next heading of any level, with the line of the heading.
pub(crate) fn section<'t>(text: &'t str, title: &str) -> Option<(usize, &'t str)> {
    let start = text.find(&format!("# {title}\n"))?;
    let body = &text[start + 2..];
    let end = body.find("\n#").unwrap_or(body.len());
    Some((text[..start].lines().count().max(1), &body[..end]))
}

#[test]
fn spans_links_and_sections_are_found() {
    let text = "# One\n`a` and [b](c.md#d) `e`\n```\n`f`\n```\n\n    `g`\n## Two\n`h`\n# Three\n`i`\n";
    assert_eq!(code_spans(text), [(2, "a"), (2, "e"), (9, "h"), (11, "i")].map(|(line, span)| (line, span.into())));
    assert_eq!(links(text), [(2, "c.md#d".to_owned())]);
    assert_eq!(section(text, "Two"), Some((8, "Two\n`h`")));
    let svg = "<svg>\n<text class=\"head\">x</text><text class=\"code\" x=\"1\">A::b, c::d</text>\n</svg>";
    assert_eq!(code_texts(svg), [(2, "A::b"), (2, "c::d")].map(|(line, name)| (line, name.into())));
}

#[test]
fn names_that_do_not_exist_are_faults() {
    let words = BTreeSet::from(["Run", "handle"].map(String::from));
    let path = "scheduler/src/run.rs".to_owned();
    let sources = Sources {
        root: ".".into(),
        paths: BTreeSet::from([path.clone()]),
        words: vec![words.clone()],
        defined: vec![(path, words)],
    };
    for good in ["run.rs", "src/run.rs", "scheduler/src/run.rs::handle", "Run::handle", "Run", "cargo test", "other"] {
        assert_eq!(sources.fault_of(good), None);
    }
    assert_eq!(sources.fault_of_function("run::handle"), None);
    assert!(sources.fault_of_function("run::walk").is_some() && sources.fault_of_function("walk::handle").is_some());
    for bad in ["walk.rs", "scheduler/src/run.rs::walk", "run.rs::handle", "Run::walk", "Walk"] {
        assert!(sources.fault_of(bad).is_some(), "{bad}");
    }
}
