//! The pages of a column chunk: found once by their headers, decoded one at a time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parquet::column::page::PageReader;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use super::source::{Source, damaged, guarded};

/// A page holds no more bytes than this, packed or not.
const LARGEST_PAGE: u64 = 1 << 30;
/// Bytes that one packed byte may become: more than deflate can make, and more than any other makes of pictures.
const MOST_UNPACKED: u64 = 1100;
/// Bytes that a page may have in any case: of equal numbers little is left when they are packed.
const SMALL_PAGE: u64 = 1 << 20;

/// A page with its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PageAt {
    offset: u64,
    length: u64,
    /// Values, with those that are null; for columns without lists, rows.
    values: u64,
    uses_dictionary: bool,
}

/// The pages of a column in a row group.
#[derive(Debug)]
pub(super) struct Chunk {
    metadata: ColumnChunkMetaData,
    dictionary: Option<PageAt>,
    pages: Vec<PageAt>,
    /// The first value of each page.
    starts: Vec<u64>,
}

/// The values of a page. Levels are empty where the column has none.
pub(super) struct Decoded<T: DataType> {
    pub values: Vec<T::T>,
    pub definitions: Vec<i16>,
    pub repetitions: Vec<i16>,
}

impl Chunk {
    /// Finds the pages. `most` is how many values they may claim.
    ///
    /// # Errors
    /// When headers cannot be read, make no sense, or claim more than the file can hold.
    pub(super) fn find(source: &Source, metadata: &ColumnChunkMetaData, most: u64) -> io::Result<Chunk> {
        let (start, length) = guarded(|| Ok(metadata.byte_range()))?;
        let end = start.checked_add(length).filter(|end| *end <= source.size);
        let end = end.ok_or_else(|| damaged("it claims pages beyond its end; it may be cut"))?;
        let mut chunk = Chunk { metadata: metadata.clone(), dictionary: None, pages: Vec::new(), starts: Vec::new() };
        let mut values = 0u64;
        for page in headers(source, metadata, end)? {
            match page.kind {
                DICTIONARY => chunk.dictionary = Some(page.at),
                _ => {
                    chunk.starts.push(values);
                    values = values.saturating_add(page.at.values);
                    chunk.pages.push(page.at);
                }
            }
            if values > most {
                return Err(damaged(format!("its pages claim more values than the {most} that it can have")));
            }
        }
        Ok(chunk)
    }

    /// Values, with those that are null.
    pub(super) fn values(&self) -> u64 {
        self.starts.last().map_or(0, |start| start + self.pages[self.pages.len() - 1].values)
    }

    /// The definition level of a value that is not null.
    pub(super) fn most_level(&self) -> i16 {
        self.metadata.column_descr().max_def_level()
    }

    /// How many pages there are.
    pub(super) fn len(&self) -> usize {
        self.pages.len()
    }

    /// The page that holds `value`, and the first value of that page; there must be such a value.
    pub(super) fn page_of(&self, value: u64) -> (usize, u64) {
        let page = self.starts.partition_point(|start| *start <= value).saturating_sub(1);
        (page, self.starts[page])
    }

    /// The values of a page.
    ///
    /// # Errors
    /// When it cannot be read or decoded.
    ///
    /// # Panics
    /// When there is no such page.
    pub(super) fn decode<T: DataType>(&self, source: &Source, page: usize) -> io::Result<Decoded<T>> {
        let at = self.pages[page];
        let read = |page: PageAt| source.files.read_range(&source.path, page.offset, page.length);
        // A chunk of this page alone, with the dictionary where the page needs it.
        let dictionary = self.dictionary.filter(|_| at.uses_dictionary);
        let mut bytes = dictionary.map(read).transpose()?.unwrap_or_default();
        let data_at = bytes.len() as i64;
        match bytes.is_empty() {
            true => bytes = read(at)?,
            false => bytes.extend(read(at)?),
        }
        guarded(|| {
            let metadata = self.metadata.clone().into_builder();
            let metadata = metadata
                .set_dictionary_page_offset(dictionary.map(|_| 0))
                .set_data_page_offset(data_at)
                .set_total_compressed_size(bytes.len() as i64)
                .build()?;
            let descriptor = metadata.column_descr_ptr();
            let pages = SerializedPageReader::new(Arc::new(Bytes::from(bytes)), &metadata, at.values as usize, None)?;
            let (nullable, repeated) = (descriptor.max_def_level() > 0, descriptor.max_rep_level() > 0);
            let mut reader = ColumnReaderImpl::<T>::new(descriptor, Box::new(pages));
            let mut decoded = Decoded { values: Vec::new(), definitions: Vec::new(), repetitions: Vec::new() };
            let Decoded { values, definitions, repetitions } = &mut decoded;
            let (_, _, levels) = reader.read_records(
                at.values as usize,
                nullable.then_some(definitions),
                repeated.then_some(repetitions),
                values,
            )?;
            if levels as u64 != at.values {
                let text = format!("a page claims {} values and holds {levels}", at.values);
                return Err(ParquetError::General(text));
            }
            Ok(decoded)
        })
    }
}

/// A header that has been looked at.
struct Header {
    at: PageAt,
    kind: u64,
}

/// Kinds of pages and of encodings, as the format numbers them.
const DICTIONARY: u64 = 2;
const DATA: u64 = 0;
const DATA_V2: u64 = 3;
const BY_DICTIONARY: [u64; 2] = [2, 8];

/// The headers of all pages that a chunk has before `end`.
fn headers(source: &Source, metadata: &ColumnChunkMetaData, end: u64) -> io::Result<Vec<Header>> {
    let noted = Noted { source, offset: AtomicU64::new(0) };
    let noted = Arc::new(noted);
    let mut reader = guarded(|| SerializedPageReader::new(noted.clone(), metadata, 0, None))?;
    let mut found: Vec<Header> = Vec::new();
    while let Some(page) = guarded(|| reader.peek_next_page())? {
        let offset = noted.offset.load(Ordering::Relaxed);
        let claims = Claims::read(source, offset, end)?;
        if let Some(before) = found.last_mut() {
            before.at.length = offset - before.at.offset;
        }
        let values = page.num_rows.or(page.num_levels).unwrap_or(0) as u64;
        let uses_dictionary = BY_DICTIONARY.contains(&claims.encoding);
        found.push(Header { at: PageAt { offset, length: 0, values, uses_dictionary }, kind: claims.kind });
        guarded(|| reader.skip_next_page())?;
    }
    if let Some(last) = found.last_mut() {
        last.at.length = end - last.at.offset;
    }
    Ok(found)
}

/// A file that notes where it is read from: a page's header begins there.
struct Noted<'a> {
    source: &'a Source,
    offset: AtomicU64,
}

impl Length for Noted<'_> {
    fn len(&self) -> u64 {
        self.source.len()
    }
}

impl ChunkReader for Noted<'_> {
    type T = <Source as ChunkReader>::T;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        self.offset.store(start, Ordering::Relaxed);
        self.source.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.source.get_bytes(start, length)
    }
}

/// What the first fields of a page's header claim. The library believes them when it takes memory.
#[derive(Debug, PartialEq, Eq)]
struct Claims {
    kind: u64,
    encoding: u64,
}

/// Bytes of a header that are enough for its first fields.
const FIRST_FIELDS: u64 = 64;

impl Claims {
    /// Reads the header at `offset` and checks what it claims.
    fn read(source: &Source, offset: u64, end: u64) -> io::Result<Claims> {
        let bytes = source.files.read_range(&source.path, offset, FIRST_FIELDS.min(end.saturating_sub(offset)))?;
        let wrong = || damaged("the header of a page makes no sense");
        let mut fields = Fields { bytes: &bytes, id: 0 };
        let [kind, unpacked, packed] = [1, 2, 3].map(|id| fields.number(id));
        let (kind, unpacked, packed) =
            (kind.ok_or_else(wrong)?, unpacked.ok_or_else(wrong)?, packed.ok_or_else(wrong)?);
        if unpacked > LARGEST_PAGE || unpacked > SMALL_PAGE.max(packed.saturating_mul(MOST_UNPACKED)) {
            return Err(damaged(format!("a page of {packed} bytes claims to hold {unpacked}")));
        }
        let encoding = match kind {
            DATA => fields.inner(5, 2),
            DATA_V2 => fields.inner(8, 4),
            _ => Some(0),
        };
        Ok(Claims { kind, encoding: encoding.ok_or_else(wrong)? })
    }
}

/// Types of fields.
const I32: u8 = 5;
const STRUCTURE: u8 = 12;

/// Fields of numbers in Thrift's compact form.
struct Fields<'a> {
    bytes: &'a [u8],
    id: u8,
}

impl Fields<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    /// The number in the next field, and the field's id and type; where it has no number, 0.
    fn next(&mut self) -> Option<(u8, u8, i64)> {
        let head = self.byte()?;
        self.id = self.id.checked_add(head >> 4).filter(|_| head >> 4 != 0)?;
        let mut zigzag = 0u64;
        if head & 15 == I32 {
            for shift in (0..35).step_by(7) {
                let byte = self.byte()?;
                zigzag |= u64::from(byte & 0x7F) << shift;
                if byte < 0x80 {
                    break;
                }
            }
        }
        Some((self.id, head & 15, (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)))
    }

    /// The number in the next field, which must be `id`.
    fn number(&mut self, id: u8) -> Option<u64> {
        let (_, _, number) = self.next().filter(|(found, kind, _)| (*found, *kind) == (id, I32))?;
        number.try_into().ok()
    }

    /// The number in field `inner` of the structure in field `id`.
    fn inner(&mut self, id: u8, inner: u8) -> Option<u64> {
        loop {
            match self.next()? {
                (found, STRUCTURE, _) if found == id => break,
                // A checksum.
                (4, I32, _) => {}
                _ => return None,
            }
        }
        self.id = 0;
        loop {
            let (found, kind, number) = self.next()?;
            match (found == inner, kind) {
                (true, I32) => return number.try_into().ok(),
                (false, I32) => {}
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Disk;

    /// What a header of these bytes claims.
    fn claims(bytes: &[u8]) -> Result<Claims, String> {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("page");
        std::fs::write(&path, bytes).unwrap();
        let size = bytes.len() as u64;
        let source = Source { files: Arc::new(Disk), path, size };
        Claims::read(&source, 0, size).map_err(|error| error.to_string())
    }

    #[test]
    fn claims_are_refused_before_memory_is_taken() {
        // Kind 0, sizes 300 and 10, a checksum of -1, then a structure with 3 values by dictionary (8).
        let good = [0x15, 0, 0x15, 0xD8, 0x04, 0x15, 20, 0x15, 1, 0x1C, 0x15, 6, 0x15, 16, 0];
        assert_eq!(claims(&good), Ok(Claims { kind: DATA, encoding: 8 }));
        // Version 2: values, nulls, rows, then the encoding.
        let second = [0x15, 6, 0x15, 20, 0x15, 20, 0x5C, 0x15, 6, 0x15, 0, 0x15, 6, 0x15, 0, 0];
        assert_eq!(claims(&second), Ok(Claims { kind: DATA_V2, encoding: 0 }));
        let bomb = [&[0x15, 0, 0x15, 0xFE, 0xFF, 0xFF, 0xFF, 0x0F][..], &good[5..]].concat();
        let text = claims(&bomb).unwrap_err();
        assert!(text.contains("10 bytes claims to hold 2147483647"), "{text}");
        for length in 0..14 {
            assert!(claims(&good[..length]).unwrap_err().contains("makes no sense"), "{length}");
        }
        // A negative size.
        assert!(claims(&[&[0x15, 0, 0x15, 1, 0x15, 20][..], &good[9..]].concat()).is_err());
    }
}
