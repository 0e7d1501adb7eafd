//! The fields of a column as text.

use std::io;

use convoy_common::samples::LIST_MARK;
use parquet::basic::Type;
use parquet::data_type::{BoolType, ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type};
use parquet::file::metadata::ParquetMetaData;

use super::pages::{Chunk, Decoded};
use super::source::{Source, damaged};

/// The pages of a column in a row group.
///
/// # Errors
/// When they cannot be found, or hold another number of rows than the group.
pub(super) fn chunk(source: &Source, metadata: &ParquetMetaData, group: usize, column: usize) -> io::Result<Chunk> {
    let row_group = metadata.row_group(group);
    let metadata = row_group.column(column);
    if metadata.file_path().is_some() {
        return Err(damaged("its columns lie in other files; write them into one"));
    }
    let repeated = metadata.column_descr().max_rep_level() > 0;
    let rows = row_group.num_rows() as u64;
    let chunk = Chunk::find(source, metadata, if repeated { source.size } else { rows })?;
    match repeated || chunk.values() == rows {
        true => Ok(chunk),
        false => Err(damaged(format!("row group {group} has {rows} rows, but its pages hold {}", chunk.values()))),
    }
}

/// Adds the fields of a column in a row group to `fields`, one for each row.
///
/// # Errors
/// When they cannot be read, or are of a type that no label has.
pub(super) fn fields(
    source: &Source,
    metadata: &ParquetMetaData,
    group: usize,
    column: usize,
    fields: &mut Vec<String>,
) -> io::Result<()> {
    let expected = fields.len() as u64 + metadata.row_group(group).num_rows() as u64;
    let chunk = chunk(source, metadata, group, column)?;
    match metadata.row_group(group).column(column).column_type() {
        Type::BOOLEAN => add::<BoolType>(source, &chunk, fields, ToString::to_string)?,
        Type::INT32 => add::<Int32Type>(source, &chunk, fields, ToString::to_string)?,
        Type::INT64 => add::<Int64Type>(source, &chunk, fields, ToString::to_string)?,
        // A float keeps its point: 1.0 is no whole number.
        Type::FLOAT => add::<FloatType>(source, &chunk, fields, |number| format!("{number:?}"))?,
        Type::DOUBLE => add::<DoubleType>(source, &chunk, fields, |number| format!("{number:?}"))?,
        Type::BYTE_ARRAY => {
            add::<ByteArrayType>(source, &chunk, fields, |text| String::from_utf8_lossy(text.data()).into_owned())?;
        }
        other => return Err(damaged(format!("column {column} is of type {other}, which no label has"))),
    }
    let found = fields.len() as u64;
    if found != expected {
        return Err(damaged(format!(
            "row group {group} of column {column} lacks rows: {found} of {expected} are there"
        )));
    }
    Ok(())
}

/// Adds the fields of a chunk: the elements of a list in one, with a mark between.
fn add<T: DataType>(
    source: &Source,
    chunk: &Chunk,
    fields: &mut Vec<String>,
    text: impl Fn(&T::T) -> String,
) -> io::Result<()> {
    let most = chunk.most_level();
    for page in 0..chunk.len() {
        let Decoded { values, definitions, repetitions } = chunk.decode::<T>(source, page)?;
        let mut values = values.iter();
        let levels = if definitions.is_empty() { values.len() } else { definitions.len() };
        for at in 0..levels {
            let is_there = definitions.get(at).is_none_or(|level| *level == most);
            let element = if is_there { values.next().map(&text) } else { None };
            match repetitions.get(at) {
                Some(1..) => {
                    let Some(field) = fields.last_mut() else { return Err(damaged("a list begins in no row")) };
                    field.push(LIST_MARK);
                    field.push_str(&element.unwrap_or_default());
                }
                _ => fields.push(element.unwrap_or_default()),
            }
        }
    }
    Ok(())
}
