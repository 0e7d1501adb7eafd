//! `docs/spec.md` is made from the doc comments of the spec's types and from its defaults:
//!
//!     CONVOY_BLESS=1 cargo test -p convoy-common --test spec_doc

use std::collections::BTreeMap;
use std::fmt::Write;

use convoy_common::spec;

const SOURCES: [&str; 4] = [
    include_str!("../src/spec/mod.rs"),
    include_str!("../src/spec/data.rs"),
    include_str!("../src/spec/network.rs"),
    include_str!("../src/spec/train.rs"),
];

/// The tables of a spec, in the order of the document: key, type.
const TABLES: [(&str, &str); 11] = [
    ("", "Spec"),
    ("data", "Data"),
    ("prepare", "Prepare"),
    ("augment", "Augment"),
    ("network", "NetworkSpec"),
    ("loss", "Loss"),
    ("optimizer", "Optimizer"),
    ("schedule", "Schedule"),
    ("train", "Train"),
    ("train.early_stopping", "EarlyStopping"),
    ("checkpoint", "CheckpointSpec"),
];

const INTRODUCTION: &str = "# The job spec

What `convoy train` reads: a TOML file. Every key has a default except `data.train`; unknown keys are refused, with the
nearest known one. `convoy spec job.toml` prints a spec with every default that is in force; `--set table.key=value` on
the command line wins over the file. Relative paths in the file start at its folder, those in `--set` at the current
one. A dash marks a key whose default depends on others, or that is absent.
";

/// A struct or enum of the source.
#[derive(Default)]
struct Item {
    doc: String,
    /// How an enum's names are written.
    case: String,
    members: Vec<Member>,
}

/// A field, or a variant with its fields.
struct Member {
    doc: String,
    name: String,
    kind: String,
    default: Option<String>,
    fields: Vec<Member>,
}

/// All types of the sources.
fn items() -> BTreeMap<String, Item> {
    let mut items = BTreeMap::new();
    for source in SOURCES {
        let functions = functions(source);
        let mut lines = source.lines();
        let (mut doc, mut case) = (String::new(), String::new());
        while let Some(line) = lines.next() {
            let line = line.trim();
            if let Some(text) = line.strip_prefix("///") {
                doc.push_str(text);
            } else if let Some((_, rest)) = line.split_once("rename_all = \"") {
                case = rest.split('"').next().unwrap_or_default().to_owned();
            } else if let Some(name) = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum ")) {
                let name = name.split([' ', '(', ';']).next().unwrap_or_default().to_owned();
                let members = members(&mut lines, &functions);
                let doc = std::mem::take(&mut doc).trim().to_owned();
                items.insert(name, Item { doc, case: std::mem::take(&mut case), members });
            } else if !line.starts_with('#') {
                doc.clear();
                case.clear();
            }
        }
    }
    items
}

/// What functions of one line give: defaults.
fn functions(source: &str) -> BTreeMap<String, String> {
    let lines: Vec<&str> = source.lines().collect();
    let name = |line: &str| Some(line.strip_prefix("fn ")?.split('(').next()?.to_owned());
    lines.windows(2).filter_map(|pair| Some((name(pair[0])?, pair[1].trim().to_owned()))).collect()
}

fn members<'a>(lines: &mut impl Iterator<Item = &'a str>, functions: &BTreeMap<String, String>) -> Vec<Member> {
    let (mut found, mut doc, mut default) = (Vec::new(), String::new(), None);
    while let Some(line) = lines.next().map(str::trim).filter(|line| !line.starts_with('}')) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push_str(text);
        } else if line.starts_with('#') {
            let function = line.split("default = \"").nth(1).and_then(|rest| rest.split('"').next());
            default = function.map(|function| functions.get(function).cloned().unwrap_or_default()).or(default);
        } else if !line.is_empty() {
            let text = line.trim_end_matches(',').trim_start_matches("pub ");
            let (name, kind) = text.split_once(": ").unwrap_or((text, ""));
            let fields = if text.ends_with('{') { members(lines, functions) } else { Vec::new() };
            let name = name.split([' ', '(']).next().unwrap_or_default().to_owned();
            let doc = std::mem::take(&mut doc).trim().to_owned();
            found.push(Member { doc, name, kind: kind.to_owned(), default: default.take(), fields });
        }
    }
    found
}

/// A variant's name as TOML has it.
fn written(name: &str, case: &str) -> String {
    let mut text = String::new();
    for (index, c) in name.char_indices() {
        if c.is_uppercase() && index > 0 && case != "lowercase" {
            text.push(if case == "kebab-case" { '-' } else { '_' });
        }
        text.extend(c.to_lowercase());
    }
    text
}

fn document() -> String {
    let items = items();
    let defaults: toml::Table = spec::to_toml(&spec::parse("", &["data.train=DIR".to_owned()]).expect("a spec"))
        .parse()
        .expect("what is printed can be read");
    let mut text = INTRODUCTION.to_owned();
    for (table, kind) in TABLES {
        let item = &items[kind];
        let heading = if table.is_empty() { "At the top".to_owned() } else { format!("`[{table}]`") };
        let doc = item.doc.split_once("]`").map_or("", |(_, rest)| rest.trim_start_matches([':', '.', ' ']));
        _ = write!(text, "\n## {heading}\n\n{}", sentence(doc));
        let values = match table {
            "" => Some(&defaults),
            table => table.split('.').try_fold(&defaults, |at, key| at.get(key)?.as_table()),
        };
        keys(&mut text, &items, item, values);
    }
    layers(&mut text, &items["LayerKind"]);
    text
}

/// A paragraph that begins with a capital, if there is anything to say.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| format!("{}{}\n\n", first.to_uppercase(), characters.as_str()))
}

fn keys(text: &mut String, items: &BTreeMap<String, Item>, item: &Item, values: Option<&toml::Table>) {
    text.push_str("| key | default | what it says |\n|---|---|---|\n");
    let mut words = String::new();
    for field in &item.members {
        let kind = field.kind.trim_start_matches("Option<").trim_end_matches('>');
        if TABLES.iter().any(|(_, known)| *known == kind) {
            continue;
        }
        let default = values.and_then(|values| values.get(&field.name)).filter(|_| field.name != "train");
        let default = default.map_or("–".to_owned(), |value| format!("`{value}`"));
        _ = writeln!(text, "| `{}` | {default} | {} |", field.name, field.doc);
        if let Some(kinds) = items.get(kind).filter(|kinds| !kinds.case.is_empty()) {
            _ = writeln!(words, "\n`{}` is one of\n", field.name);
            for word in &kinds.members {
                _ = writeln!(words, "- `\"{}\"`: {}", written(&word.name, &kinds.case), word.doc);
            }
        }
    }
    text.push_str(&words);
}

fn layers(text: &mut String, kinds: &Item) {
    text.push_str("\n## Layers\n\n`network.layers` is a list of tables, each with a `type` and perhaps a `name`:\n\n");
    text.push_str("| type | keys | what it computes |\n|---|---|---|\n");
    for kind in &kinds.members {
        let keys: Vec<String> = kind.fields.iter().map(key).collect();
        _ = writeln!(text, "| `{}` | {} | {} |", written(&kind.name, "snake_case"), keys.join("<br>"), kind.doc);
    }
}

fn key(field: &Member) -> String {
    let default = match field.default.as_deref() {
        Some("Pair::square(1)") => " (`1`)".to_owned(),
        Some("Pair::square(0)") => " (`0`)".to_owned(),
        Some(value) if !value.is_empty() => format!(" (`{value}`)"),
        _ => String::new(),
    };
    format!("`{}`{default}: {}", field.name, field.doc)
}

#[test]
fn the_document_says_what_the_code_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/spec.md");
    let made = document();
    if std::env::var_os("CONVOY_BLESS").is_some() {
        std::fs::write(path, &made).expect("docs/ is writable");
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == made, "docs/spec.md is not what the code says; write it anew as common/tests/spec_doc.rs says");
}
