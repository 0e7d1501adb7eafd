//! Named tensors in files, in the safetensors format: eight bytes with the length of a JSON header, the header,
//! the elements, little-endian. Ours carry a checksum over everything that has a meaning.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use convoy_common::Digest;
use convoy_common::durable::{WriteError, replace_file};
use safetensors::tensor::{Dtype, Metadata};

use crate::convert;
use crate::digest::{Elements, TensorRef, digest_tensors, little_endian, update_framed};

/// Metadata key of the checksum.
const CHECKSUM: &str = "convoy.checksum";
/// Metadata key and value that tell readers of the format that names and layouts are PyTorch's.
const FORMAT: (&str, &str) = ("format", "pt");
/// Longest header that is read: the format's own limit.
const MAX_HEADER: u64 = 100_000_000;

/// A tensor by name.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// Its name.
    pub name: String,
    /// Its sides.
    pub shape: Vec<usize>,
    /// Its elements, the last side running fastest.
    pub data: Vec<f32>,
}

impl NamedTensor {
    /// The tensor, borrowed.
    pub fn view(&self) -> TensorRef<'_> {
        TensorRef { name: &self.name, shape: &self.shape, data: &self.data }
    }
}

/// What a file of tensors holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TensorFile {
    /// The tensors in the order in which they lie in the file.
    pub tensors: Vec<NamedTensor>,
    /// Text by key, without the format's own entries.
    pub metadata: BTreeMap<String, String>,
}

/// Why a file of tensors cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system does not give it.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is not what it was when it was written, or never was such a file.
    #[error("{} is damaged: {problem}; use another copy of it, or an earlier checkpoint", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What shows it.
        problem: String,
    },
    /// It has no checksum.
    #[error(
        "{} was not written by Convoy (it has no checksum) or lost that entry; name a foreign file in network.init",
        path.display()
    )]
    NoChecksum {
        /// The file.
        path: PathBuf,
    },
    /// It is a pickle.
    #[error(
        "{} is a PyTorch pickle, which can run code when it is read; convert it with \
         safetensors.torch.save_file(model.state_dict(), \"model.safetensors\")",
        path.display()
    )]
    Pickle {
        /// The file.
        path: PathBuf,
    },
    /// A tensor is of a type that is not understood.
    #[error("{}: tensor \"{tensor}\" is of type {dtype}; {allowed}", path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: String,
        /// What could be read.
        allowed: &'static str,
    },
}

/// Writes `tensors`, in this order, and `metadata` to `path`, atomically ([`replace_file`]). The bytes are a
/// function of the arguments alone.
///
/// # Errors
/// As [`replace_file`].
///
/// # Panics
/// When two tensors have one name, a shape does not fit its data, or `metadata` has one of the format's own keys.
pub fn write_atomic<D: Elements>(
    path: &Path,
    tensors: &[TensorRef<D>],
    metadata: &BTreeMap<String, String>,
) -> Result<(), WriteError> {
    let header = header(tensors, metadata);
    replace_file(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        let mut pieces = tensors.iter().flat_map(|tensor| tensor.data.pieces());
        pieces.try_for_each(|piece| little_endian(piece, |bytes| file.write_all(bytes)))
    })
}

/// An entry of the JSON header.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum Entry<'a> {
    Metadata(&'a BTreeMap<String, String>),
    Tensor { dtype: &'static str, shape: &'a [usize], data_offsets: [usize; 2] },
}

/// The JSON header, padded with spaces to a multiple of eight.
fn header<D: Elements>(tensors: &[TensorRef<D>], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let reserved = metadata.contains_key(CHECKSUM) || metadata.contains_key(FORMAT.0);
    assert!(!reserved, "metadata keys of the format itself: {:?}", metadata.keys());
    let mut entries = metadata.clone();
    entries.insert(CHECKSUM.to_owned(), checksum(tensors.iter().cloned(), metadata).to_string());
    entries.insert(FORMAT.0.to_owned(), FORMAT.1.to_owned());
    let mut json = BTreeMap::from([("__metadata__", Entry::Metadata(&entries))]);
    let mut end = 0;
    for tensor in tensors {
        let elements: usize = tensor.shape.iter().product();
        let there: usize = tensor.data.pieces().map(<[f32]>::len).sum();
        assert_eq!(elements, there, "shape and elements of {}", tensor.name);
        let begin = end;
        end += 4 * elements;
        let entry = Entry::Tensor { dtype: "F32", shape: tensor.shape, data_offsets: [begin, end] };
        assert!(json.insert(tensor.name, entry).is_none(), "two tensors called {}", tensor.name);
    }
    let mut bytes = serde_json::to_vec(&json).expect("text and numbers are JSON");
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    bytes
}

/// blake3 over the 15 bytes `convoy.file.v1` and a line feed, the number of metadata entries, each one's key and
/// value by key (without the format's own entries; each preceded by its length), and [`digest_tensors`].
/// All numbers are 64 bits, little-endian.
fn checksum<'a, D: Elements>(
    tensors: impl IntoIterator<Item = TensorRef<'a, D>>,
    metadata: &BTreeMap<String, String>,
) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"convoy.file.v1\n");
    hasher.update(&(metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        update_framed(&mut hasher, key.as_bytes());
        update_framed(&mut hasher, value.as_bytes());
    }
    hasher.update(&digest_tensors(tensors).0);
    Digest(*hasher.finalize().as_bytes())
}

/// Whose file it is.
#[derive(Clone, Copy, PartialEq)]
enum Origin {
    Convoy,
    Foreign,
}

impl TensorFile {
    /// Reads a file that [`write_atomic`] wrote, and verifies its checksum.
    ///
    /// # Errors
    /// When the file cannot be read, or is not in every meaning what was written.
    pub fn read(path: &Path) -> Result<TensorFile, ReadError> {
        read(path, Origin::Convoy)
    }

    /// Reads a file that anybody wrote. Elements of types F16, BF16 and F64 become f32; counters called
    /// `num_batches_tracked` are left out. A checksum is verified where there is one.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or has tensors of other types.
    pub fn read_foreign(path: &Path) -> Result<TensorFile, ReadError> {
        read(path, Origin::Foreign)
    }

    /// [`TensorFile::read_foreign`] of a file that is in memory; `path` is for messages.
    ///
    /// # Errors
    /// When it is damaged, or has tensors of other types.
    pub fn parse_foreign(path: &Path, bytes: &[u8]) -> Result<TensorFile, ReadError> {
        parse(path, bytes, bytes.len() as u64, Origin::Foreign)
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&NamedTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// [`digest_tensors`] of all tensors.
    pub fn digest(&self) -> Digest {
        digest_tensors(self.tensors.iter().map(NamedTensor::view))
    }
}

fn read(path: &Path, origin: Origin) -> Result<TensorFile, ReadError> {
    let fail = |source| ReadError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(fail)?;
    let facts = file.metadata().map_err(fail)?;
    if facts.is_dir() {
        return Err(fail(io::ErrorKind::IsADirectory.into()));
    }
    parse(path, file, facts.len(), origin)
}

/// Reads a file of `length` bytes from `reader`; `path` is for messages.
fn parse(path: &Path, mut reader: impl Read, length: u64, origin: Origin) -> Result<TensorFile, ReadError> {
    let damaged = |problem: String| ReadError::Damaged { path: path.to_owned(), problem };
    let fail = |source| ReadError::Io { path: path.to_owned(), source };
    let header = read_header(path, &mut reader, length)?;
    let begin = 8 + header.len() as u64;
    let header: Metadata =
        serde_json::from_slice(&header).map_err(|error| damaged(format!("its header is invalid ({error})")))?;
    if Some(length) != begin.checked_add(header.data_len() as u64) {
        return Err(damaged(format!("it has {length} bytes, where its header promises {} more", header.data_len())));
    }
    let mut infos: Vec<_> = header.tensors().into_iter().collect();
    infos.sort_by(|a, b| (a.1.data_offsets, &a.0).cmp(&(b.1.data_offsets, &b.0)));

    let mut tensors = Vec::with_capacity(infos.len());
    for (name, info) in infos {
        let (begin, end) = info.data_offsets;
        if origin == Origin::Foreign && name.ends_with("num_batches_tracked") {
            io::copy(&mut reader.by_ref().take((end - begin) as u64), &mut io::sink()).map_err(fail)?;
            continue;
        }
        let allowed = match (origin, info.dtype) {
            (_, Dtype::F32) | (Origin::Foreign, Dtype::F16 | Dtype::BF16 | Dtype::F64) => None,
            (Origin::Convoy, _) => Some("the file is damaged; use another copy of it, or an earlier checkpoint"),
            (Origin::Foreign, _) => Some("convert it to F32"),
        };
        if let Some(allowed) = allowed {
            let dtype = format!("{:?}", info.dtype);
            return Err(ReadError::Type { path: path.to_owned(), tensor: name, dtype, allowed });
        }
        let data = convert::read_f32(&mut reader, info.dtype, end - begin).map_err(fail)?;
        tensors.push(NamedTensor { name, shape: info.shape.clone(), data });
    }
    let mut metadata: BTreeMap<String, String> = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let claimed = metadata.remove(CHECKSUM);
    let format = metadata.remove(FORMAT.0);
    let file = TensorFile { tensors, metadata };
    match claimed {
        None if origin == Origin::Convoy => return Err(ReadError::NoChecksum { path: path.to_owned() }),
        None => return Ok(file),
        Some(_) if format.as_deref() != Some(FORMAT.1) => return Err(damaged("its format entry is not `pt`".into())),
        Some(claimed) => {
            let found = checksum(file.tensors.iter().map(NamedTensor::view), &file.metadata).to_string();
            if claimed != found {
                return Err(damaged("its checksum does not match its content".into()));
            }
        }
    }
    Ok(file)
}

/// The bytes of the header, whose length is checked against the file's before memory is taken.
fn read_header(path: &Path, reader: &mut impl Read, length: u64) -> Result<Vec<u8>, ReadError> {
    let damaged = |problem: String| ReadError::Damaged { path: path.to_owned(), problem };
    let fail = |source| ReadError::Io { path: path.to_owned(), source };
    if length < 8 {
        return Err(damaged(format!("it has only {length} bytes")));
    }
    let mut prefix = [0; 8];
    reader.read_exact(&mut prefix).map_err(fail)?;
    let claimed = u64::from_le_bytes(prefix);
    if claimed > MAX_HEADER || claimed > length - 8 {
        // A header may be 640 bytes long, which begins as a pickle does.
        if prefix.starts_with(b"PK\x03\x04") || prefix.starts_with(b"\x80\x02") {
            return Err(ReadError::Pickle { path: path.to_owned() });
        }
        return Err(damaged(format!(
            "it has {length} bytes, too few for the header of {claimed} bytes that it claims, or is not a safetensors \
             file"
        )));
    }
    let mut header = vec![0; claimed as usize];
    reader.read_exact(&mut header).map_err(fail)?;
    Ok(header)
}

#[cfg(test)]
mod tests;
