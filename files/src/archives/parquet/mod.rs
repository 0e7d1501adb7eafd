//! Parquet files of pictures with labels, by Hugging Face's convention: each row is a file.

mod cache;
mod column;
mod pages;
mod schema;
mod source;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, OnceLock};

use convoy_common::file_tree::{ArchiveKind, Contents, FileKind, FileTree, Member, range_of};
use convoy_common::samples::{SampleColumn, Samples};
use parquet::data_type::ByteArrayType;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::archive::Archive;
use super::rows::{name_of, row_of};
use cache::{Page, PageCache};
use pages::Chunk;
use schema::{Field, Pictures, columns};
use source::{Source, damaged, guarded};

/// The first and the last bytes of a Parquet file.
pub(super) const MAGIC: [u8; 4] = *b"PAR1";

/// A Parquet file that has been opened. Of its pictures only places are held, and the last pages.
#[derive(Debug)]
pub(super) struct ParquetFile {
    source: Source,
    metadata: ParquetMetaData,
    pictures: Pictures,
    fields: Vec<Field>,
    labels: Vec<SampleColumn>,
    /// The first row of each row group, and the number of all rows.
    starts: Vec<u64>,
    /// Of each row group the pages of pictures, found when one is asked for.
    chunks: Vec<OnceLock<Chunk>>,
    cache: PageCache,
    /// The paths of all rows, read when one is needed.
    paths: OnceLock<Vec<String>>,
}

impl ParquetFile {
    /// Reads what the file says about itself.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or has no column of pictures.
    pub(super) fn open(files: Arc<dyn FileTree>, path: &Path) -> io::Result<Self> {
        let size = files.size(path)?;
        let source = Source { files, path: path.to_owned(), size };
        let metadata = guarded(|| ParquetMetaDataReader::new().parse_and_finish(&source))?;
        let (pictures, fields) = guarded(|| Ok(columns(&metadata)))??;
        let mut starts = vec![0];
        for group in metadata.row_groups() {
            let rows = u64::try_from(group.num_rows()).ok();
            let end = rows.and_then(|rows| rows.checked_add(starts[starts.len() - 1]));
            // A picture takes a byte at least, so no file has more rows than bytes.
            let end = end.filter(|end| *end <= size);
            starts.push(end.ok_or_else(|| damaged(format!("it claims more rows than its {size} bytes can hold")))?);
        }
        let chunks = metadata.row_groups().iter().map(|_| OnceLock::new()).collect();
        let labels = fields.iter().map(|field| field.column.clone()).collect();
        let (cache, paths) = (PageCache::default(), OnceLock::new());
        Ok(ParquetFile { source, metadata, pictures, fields, labels, starts, chunks, cache, paths })
    }

    fn rows(&self) -> u64 {
        self.starts[self.starts.len() - 1]
    }

    /// The bytes of the picture in `row`; none where it has none.
    fn bytes(&self, row: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(column) = self.pictures.bytes else { return Ok(None) };
        let group = self.starts.partition_point(|start| *start <= row) - 1;
        let chunk = self.chunk(group, column)?;
        let (page, first) = chunk.page_of(row - self.starts[group]);
        let at = (row - self.starts[group] - first) as usize;
        let page = match self.cache.get((group, page)) {
            Some(kept) => kept,
            None => {
                let pictures = pictures_of(&self.source, chunk, page)?;
                self.cache.keep((group, page), &pictures);
                pictures
            }
        };
        let none = || damaged(format!("row {row} is not in its page"));
        Ok(page.get(at).ok_or_else(none)?.as_ref().map(|bytes| bytes.data().to_vec()))
    }

    fn chunk(&self, group: usize, column: usize) -> io::Result<&Chunk> {
        if let Some(chunk) = self.chunks[group].get() {
            return Ok(chunk);
        }
        let chunk = column::chunk(&self.source, &self.metadata, group, column)?;
        Ok(self.chunks[group].get_or_init(|| chunk))
    }

    /// The fields of a column, group after group.
    fn column(&self, at: usize) -> io::Result<Vec<String>> {
        let mut fields = Vec::new();
        for group in 0..self.metadata.num_row_groups() {
            column::fields(&self.source, &self.metadata, group, at, &mut fields)?;
        }
        Ok(fields)
    }

    /// Whether no row has the bytes of its picture, as the file's statistics say.
    fn has_paths_alone(&self) -> bool {
        let Some(column) = self.pictures.bytes else { return true };
        let none = |group: &parquet::file::metadata::RowGroupMetaData| {
            let nulls = group.column(column).statistics().and_then(|statistics| statistics.null_count_opt());
            nulls == u64::try_from(group.num_rows()).ok()
        };
        self.pictures.path.is_some() && self.metadata.row_groups().iter().all(none)
    }

    /// The bytes of the picture in `row`: its own, or those of the file that its path names.
    fn picture(&self, row: u64) -> io::Result<Vec<u8>> {
        if let Some(bytes) = self.bytes(row)? {
            return Ok(bytes);
        }
        let name = &self.pictures.name;
        let none = || damaged(format!("row {row} has no picture: `{name}` holds neither bytes nor a path"));
        let path = self.paths()?.get(row as usize).filter(|path| !path.is_empty()).ok_or_else(none)?;
        let folder = self.source.path.parent().unwrap_or(Path::new(""));
        self.source.files.read(&folder.join(inside(path)?)).map_err(|error| {
            let text = format!("row {row} has no bytes, and its path `{path}` cannot be read: {error}");
            io::Error::new(error.kind(), text)
        })
    }

    /// The paths of all rows; none where there is no such column.
    fn paths(&self) -> io::Result<&[String]> {
        if let Some(paths) = self.paths.get() {
            return Ok(paths);
        }
        let paths = self.pictures.path.map_or(Ok(Vec::new()), |column| self.column(column))?;
        Ok(self.paths.get_or_init(|| paths))
    }
}

/// The pictures of a page.
fn pictures_of(source: &Source, chunk: &Chunk, page: usize) -> io::Result<Page> {
    let decoded = chunk.decode::<ByteArrayType>(source, page)?;
    // Slices of the whole page: nothing is copied.
    let mut values = decoded.values.into_iter();
    if decoded.definitions.is_empty() {
        return Ok(values.map(Some).collect());
    }
    let most = chunk.most_level();
    Ok(decoded.definitions.iter().map(|level| if *level == most { values.next() } else { None }).collect())
}

/// A path that leads to no place but into the folder that it starts from.
fn inside(path: &str) -> io::Result<&Path> {
    let path = Path::new(path);
    match path.components().all(|part| matches!(part, Component::Normal(_))) {
        true => Ok(path),
        false => Err(damaged(format!("the path `{}` leads out of the file's folder", path.display()))),
    }
}

impl Archive for ParquetFile {
    fn contents(&self) -> io::Result<Contents> {
        let member = |row| Member { name: name_of(row, self.rows()), size: None, bytes: None };
        let members = (0..self.rows()).map(member).collect();
        Ok(Contents { kind: ArchiveKind::Samples, members, passed_over: Vec::new() })
    }

    fn kind(&self, name: &str) -> io::Result<Option<FileKind>> {
        Ok(row_of(name, self.rows()).map(|_| FileKind::File))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.picture(row_of(name, self.rows()).ok_or(io::ErrorKind::NotFound)?)
    }

    fn read_range(&self, name: &str, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        range_of(self.read(name)?, offset, length)
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        Ok(self.read(name)?.len() as u64)
    }

    fn samples(self: Arc<Self>) -> Vec<Arc<dyn Samples>> {
        vec![self]
    }
}

impl Samples for ParquetFile {
    fn source(&self) -> &'static str {
        "Parquet"
    }

    fn split(&self) -> &str {
        ""
    }

    fn count(&self) -> usize {
        self.rows() as usize
    }

    fn paths(&self) -> io::Result<Vec<String>> {
        if self.has_paths_alone() {
            return Ok(ParquetFile::paths(self)?.to_vec());
        }
        let file = self.source.path.file_name().and_then(|name| name.to_str());
        let file = file.ok_or_else(|| damaged("its name is not UTF-8"))?;
        Ok((0..self.rows()).map(|row| format!("{file}/{}", name_of(row, self.rows()))).collect())
    }

    fn holds_pictures(&self) -> bool {
        !self.has_paths_alone()
    }

    fn columns(&self) -> &[SampleColumn] {
        &self.labels
    }

    fn fields(&self, at: usize) -> io::Result<Vec<String>> {
        let field = self.fields.get(at).ok_or_else(|| damaged(format!("it has no column {at}")))?;
        self.column(field.at)
    }
}
