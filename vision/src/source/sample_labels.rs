//! What is said of a sample: by parts of it that are text, as `.cls`, or by keys in its `.json`.

use std::path::Path;

use convoy_common::file_tree::{FileTree, Member};
use serde_json::{Map, Value};

use super::sample::Sample;

/// The part that holds values with names.
pub(crate) const VALUES: &str = "json";
/// Bytes of a part that can be a label.
const LARGEST: u64 = 1 << 20;

/// The fields of a sample of `archive` under the columns `names`, each a part of it or a key in its `.json`; `None`
/// where it lacks one.
///
/// # Errors
/// When a part cannot be read or understood; the text says which.
pub(crate) fn fields(
    tree: &dyn FileTree,
    archive: &Path,
    sample: &Sample<'_>,
    names: &[String],
    separator: &str,
) -> Result<Option<Vec<String>>, String> {
    let mut values = None;
    let mut fields = Vec::with_capacity(names.len());
    for name in names {
        let field = match (sample.part(name), sample.part(VALUES)) {
            (Some(part), _) => Some(text_of(tree, archive, part, name)?.trim().to_owned()),
            (None, Some(part)) => {
                let values = match &mut values {
                    Some(values) => values,
                    empty => empty.insert(values_of(tree, archive, part)?),
                };
                values.get(name).map(|value| field(name, value, separator)).transpose()?.flatten()
            }
            (None, None) => None,
        };
        match field.filter(|field| !field.is_empty()) {
            Some(field) => fields.push(field),
            None => return Ok(None),
        }
    }
    Ok(Some(fields))
}

/// The keys of the `.json` member `part` whose values could be labels.
///
/// # Errors
/// As [`fields`].
pub(crate) fn keys(tree: &dyn FileTree, archive: &Path, part: &Member) -> Result<Vec<String>, String> {
    let values = values_of(tree, archive, part)?;
    let could_be = |(key, value): (String, Value)| field(&key, &value, "").ok().flatten().map(|_| key);
    Ok(values.into_iter().filter_map(could_be).collect())
}

fn text_of(tree: &dyn FileTree, archive: &Path, part: &Member, shown: &str) -> Result<String, String> {
    if part.size.is_some_and(|size| size > LARGEST) {
        return Err(format!("its .{shown} is larger than {LARGEST} bytes, too large for a label"));
    }
    let bytes = match &part.bytes {
        Some(bytes) => bytes.to_vec(),
        None => {
            tree.read(&archive.join(&part.name)).map_err(|error| format!("its .{shown} cannot be read: {error}"))?
        }
    };
    String::from_utf8(bytes).map_err(|_| format!("its .{shown} is not UTF-8"))
}

fn values_of(tree: &dyn FileTree, archive: &Path, part: &Member) -> Result<Map<String, Value>, String> {
    let text = text_of(tree, archive, part, VALUES)?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(values)) => Ok(values),
        Ok(_) => Err("its .json holds no object with keys".to_owned()),
        Err(error) => Err(format!("its .json is no JSON: {error}")),
    }
}

/// A value as a table would hold it; `None` for null.
fn field(key: &str, value: &Value, separator: &str) -> Result<Option<String>, String> {
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::String(text) => text.trim().to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => {
            let items = items.iter().map(|item| match item {
                Value::Array(_) | Value::Object(_) => Err(no_label(key)),
                item => Ok(field(key, item, separator)?.unwrap_or_default()),
            });
            items.collect::<Result<Vec<_>, _>>()?.join(separator)
        }
        Value::Object(_) => return Err(no_label(key)),
    }))
}

fn no_label(key: &str) -> String {
    format!("`{key}` in its .json is no text, number or list of those")
}
