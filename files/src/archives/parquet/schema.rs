//! Which columns hold pictures and which may be labels, by Hugging Face's convention.

use std::io;

use convoy_common::samples::{ColumnKind, SampleColumn};
use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::ColumnDescriptor;
use serde_json::Value;

use super::source::damaged;

/// Where the pictures are: numbers of columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pictures {
    pub name: String,
    pub bytes: Option<usize>,
    pub path: Option<usize>,
}

/// A column that may be a label, and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub at: usize,
    pub column: SampleColumn,
}

/// Names that pictures go by, where the schema's metadata does not say which column holds them.
const NAMES: [&str; 7] = ["image", "img", "picture", "photo", "jpg", "jpeg", "png"];

/// The columns of pictures, and the others.
///
/// # Errors
/// When no column or several may hold the pictures: an error that names them and what is looked for.
pub(super) fn columns(metadata: &ParquetMetaData) -> io::Result<(Pictures, Vec<Field>)> {
    let features = features(metadata);
    let schema = metadata.file_metadata().schema_descr();
    let leaves: Vec<&ColumnDescriptor> = schema.columns().iter().map(AsRef::as_ref).collect();
    let pictures = pictures(&leaves, &features)?;
    let is_picture = |at: usize| Some(at) == pictures.bytes || Some(at) == pictures.path;
    let others = (0..leaves.len()).filter(|at| !is_picture(*at)).map(|at| Field {
        at,
        column: SampleColumn { name: name_of(leaves[at]), kind: kind_of(leaves[at], &features) },
    });
    let others = others.collect();
    Ok((pictures, others))
}

/// What the key `huggingface` of the schema says about the columns.
fn features(metadata: &ParquetMetaData) -> Value {
    let pairs = metadata.file_metadata().key_value_metadata();
    let pair = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == "huggingface"));
    let parsed = pair.and_then(|pair| serde_json::from_str::<Value>(pair.value.as_deref()?).ok());
    parsed.map_or(Value::Null, |value| value["info"]["features"].clone())
}

fn root(leaf: &ColumnDescriptor) -> &str {
    leaf.path().parts().first().map_or("", String::as_str)
}

/// The name of a column that may be a label: a list's own is that of what it is in.
fn name_of(leaf: &ColumnDescriptor) -> String {
    match leaf.max_rep_level() {
        0 => leaf.path().string(),
        _ => root(leaf).to_owned(),
    }
}

fn pictures(leaves: &[&ColumnDescriptor], features: &Value) -> io::Result<Pictures> {
    let found: Vec<Pictures> = roots(leaves).into_iter().filter_map(|name| pictures_in(leaves, name)).collect();
    let said = |picture: &&Pictures| features[&picture.name]["_type"] == "Image";
    let named = |name: &str| found.iter().find(|picture| picture.name == name);
    let several = |candidates: &[&Pictures]| {
        let names: Vec<String> = candidates.iter().map(|picture| format!("`{}`", picture.name)).collect();
        Err(damaged(format!(
            "columns {} may hold the pictures; leave one of them, or call it `image`",
            names.join(" and ")
        )))
    };
    let by_metadata: Vec<&Pictures> = found.iter().filter(said).collect();
    match by_metadata.as_slice() {
        [only] => return Ok((*only).clone()),
        [_, _, ..] if named("image").is_none() => return several(&by_metadata),
        _ => {}
    }
    if let Some(picture) = NAMES.into_iter().find_map(named) {
        return Ok(picture.clone());
    }
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [_, _, ..] => several(&found.iter().collect::<Vec<_>>()),
        [] => Err(damaged(format!(
            "it has no column of pictures: its columns are {}. Looked for a column such as `image` that is binary, or a \
             structure with the fields `bytes` and `path`, as Hugging Face's `datasets` write it",
            list(leaves)
        ))),
    }
}

/// The columns as their names and types.
fn list(leaves: &[&ColumnDescriptor]) -> String {
    const SHOWN: usize = 20;
    let shown = leaves.iter().take(SHOWN).map(|leaf| {
        let text = if is_text(leaf) { "text".to_owned() } else { leaf.physical_type().to_string().to_lowercase() };
        format!("`{}` ({text})", leaf.path().string())
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    if leaves.len() > SHOWN { format!("{shown} and {} more", leaves.len() - SHOWN) } else { shown }
}

/// The names of all columns, without the fields of structures.
fn roots<'a>(leaves: &[&'a ColumnDescriptor]) -> Vec<&'a str> {
    let mut names: Vec<&str> = leaves.iter().map(|leaf| root(leaf)).collect();
    names.dedup();
    names
}

/// The column called `name` as one of pictures: binary, or a structure that has `bytes`, or `path` where the name is
/// that of pictures.
fn pictures_in(leaves: &[&ColumnDescriptor], name: &str) -> Option<Pictures> {
    let of = |parts: &[&str], is: fn(&ColumnDescriptor) -> bool| {
        let fits = |leaf: &&&ColumnDescriptor| leaf.path().parts() == parts && leaf.max_rep_level() == 0 && is(leaf);
        leaves.iter().position(|leaf| fits(&leaf))
    };
    let plain = of(&[name], is_binary);
    let bytes = plain.or_else(|| of(&[name, "bytes"], is_binary));
    let path = of(&[name, "path"], is_text);
    let found = bytes.is_some() || path.is_some() && NAMES.contains(&name);
    found.then(|| Pictures { name: name.to_owned(), bytes, path })
}

fn is_text(leaf: &ColumnDescriptor) -> bool {
    let logical = matches!(leaf.logical_type_ref(), Some(LogicalType::String | LogicalType::Enum | LogicalType::Json));
    let converted = matches!(leaf.converted_type(), ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON);
    leaf.physical_type() == Type::BYTE_ARRAY && (logical || converted)
}

fn is_binary(leaf: &ColumnDescriptor) -> bool {
    leaf.physical_type() == Type::BYTE_ARRAY && !is_text(leaf)
}

fn kind_of(leaf: &ColumnDescriptor, features: &Value) -> ColumnKind {
    let number = matches!(leaf.physical_type(), Type::INT32 | Type::INT64);
    let plain = number && is_number(leaf) || is_text(leaf);
    let readable = plain || matches!(leaf.physical_type(), Type::BOOLEAN | Type::FLOAT | Type::DOUBLE);
    let feature = &features[root(leaf)];
    match (leaf.max_rep_level(), leaf.path().parts().len()) {
        _ if !readable => ColumnKind::Other,
        (0, 1) if number => class_names(feature).map_or(ColumnKind::Plain, ColumnKind::Classes),
        (0, _) => ColumnKind::Plain,
        // A list as Parquet writes it has three parts.
        (1, 1..=3) => {
            let inner = if feature.is_array() { &feature[0] } else { &feature["feature"] };
            ColumnKind::Lists(class_names(inner).filter(|_| number))
        }
        _ => ColumnKind::Other,
    }
}

/// Whether whole numbers stand for themselves: neither dates nor decimals.
fn is_number(leaf: &ColumnDescriptor) -> bool {
    use ConvertedType as C;
    let plain = [C::NONE, C::INT_8, C::INT_16, C::INT_32, C::INT_64, C::UINT_8, C::UINT_16, C::UINT_32, C::UINT_64];
    plain.contains(&leaf.converted_type())
        && matches!(leaf.logical_type_ref(), None | Some(LogicalType::Integer { .. }))
}

fn class_names(feature: &Value) -> Option<Vec<String>> {
    let names = feature["names"].as_array().filter(|_| feature["_type"] == "ClassLabel")?;
    names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}
