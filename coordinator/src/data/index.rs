//! The index of the data: a redb file that knows which contents lie where, and which files a data set has.
//!
//! All of it can be made anew from the packs and the lists of data sets; see `recovery`.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use convoy_common::Digest;
use convoy_common::data_place::{DataName, InnerPath};
use redb::{ReadableTable, ReadableTableMetadata, StorageError, Table, TableDefinition};

use super::error::DataError;
use super::pack::{Located, Packed};
use super::set::{DataSet, SetFile};
use crate::store_error::StoreError;
use crate::store_file::StoreFile;

type Hash = [u8; 32];

/// Content digest to (pack, offset, size).
const FILES: TableDefinition<'_, Hash, (Hash, u64, u64)> = TableDefinition::new("files");
/// (data set, path) to (content digest, size).
const PATHS: TableDefinition<'_, (&str, &str), (Hash, u64)> = TableDefinition::new("paths");
/// Data set to its record as JSON.
const SETS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sets");
/// Pack to (who pushed it, its bytes, when in seconds since 1970).
const PACKS: TableDefinition<'_, Hash, (&str, u64, u64)> = TableDefinition::new("packs");
/// Digests of contents that were kept and are damaged or gone.
const DAMAGED: TableDefinition<'_, Hash, ()> = TableDefinition::new("damaged");

const REMEDY: &str = "start the coordinator again: it makes the file anew from the packs beside it";

/// What is known of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackFacts {
    pub(super) digest: Digest,
    /// Who pushed it; empty where that is not known any more.
    pub(super) owner: String,
    pub(super) bytes: u64,
    /// Seconds since 1970.
    pub(super) kept_at: u64,
}

/// Where contents are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Here(Located),
    /// They were here.
    Damaged,
    /// They never were.
    Nowhere,
}

/// What became of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is one more.
    New,
    /// The very same pack was here before. What of it was damaged is well now.
    Known,
    /// All that is in it lies in other packs.
    Useless,
}

/// The index.
#[derive(Debug)]
pub(super) struct DataIndex {
    file: StoreFile,
}

impl DataIndex {
    /// Opens the file at `path`, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = StoreFile::open(path, REMEDY, |write| {
            write.open_table(FILES)?;
            write.open_table(PATHS)?;
            write.open_table(SETS)?;
            write.open_table(PACKS)?;
            write.open_table(DAMAGED)?;
            Ok(())
        })?;
        Ok(DataIndex { file })
    }

    /// Positions of the digests whose contents are not here.
    pub(super) fn missing(&self, digests: &[Digest]) -> Result<Vec<u32>, DataError> {
        self.file.read(|read| {
            let files = read.open_table(FILES)?;
            let mut missing = Vec::new();
            for (position, digest) in (0..).zip(digests) {
                if files.get(digest.0)?.is_none() {
                    missing.push(position);
                }
            }
            Ok(missing)
        })
    }

    /// Where the contents with this digest are.
    pub(super) fn place(&self, digest: &Digest) -> Result<Place, DataError> {
        self.file.read(|read| {
            if let Some(at) = read.open_table(FILES)?.get(digest.0)? {
                let (pack, offset, size) = at.value();
                return Ok(Place::Here(Located { pack: Digest(pack), offset, size }));
            }
            let damaged = read.open_table(DAMAGED)?.get(digest.0)?.is_some();
            Ok(if damaged { Place::Damaged } else { Place::Nowhere })
        })
    }

    /// Takes a pack in.
    pub(super) fn keep(&self, packed: &Packed, facts: &PackFacts) -> Result<Kept, DataError> {
        self.file.write(|write| {
            let (mut files, mut damaged) = (write.open_table(FILES)?, write.open_table(DAMAGED)?);
            let mut packs = write.open_table(PACKS)?;
            let (known, mut new) = (packs.get(packed.digest.0)?.is_some(), false);
            for (digest, offset, size) in &packed.files {
                if files.get(digest.0)?.is_none() {
                    files.insert(digest.0, (packed.digest.0, *offset, *size))?;
                    damaged.remove(digest.0)?;
                    new = true;
                }
            }
            if known || !new {
                return Ok(if known { Kept::Known } else { Kept::Useless });
            }
            packs.insert(packed.digest.0, (facts.owner.as_str(), facts.bytes, facts.kept_at))?;
            Ok(Kept::New)
        })
    }

    /// What has to be so for `set` to be named: the name is free or may be `replace`d, and all contents are here.
    /// Whether it is named so already.
    pub(super) fn check(&self, set: &DataSet, files: &[SetFile], replace: bool) -> Result<Option<DataSet>, DataError> {
        self.file.read(|read| {
            let contents = read.open_table(FILES)?;
            let (mut missing, mut first) = (0, None);
            for file in files {
                if contents.get(file.digest.0)?.map(|at| at.value().2) != Some(file.size) {
                    missing += 1;
                    first.get_or_insert(file);
                }
            }
            if let Some(first) = first {
                return Err(DataError::Missing { missing, first: first.path.as_str().to_owned() }.into());
            }
            match read.open_table(SETS)?.get(set.name.as_str())?.map(|json| record(json.value())) {
                Some(Some(known)) if known.digest == set.digest => Ok(Some(known)),
                Some(_) if !replace => Err(DataError::Taken(set.name.to_string()).into()),
                _ => Ok(None),
            }
        })
    }

    /// Names a list of files, in place of one that had the name.
    pub(super) fn name(&self, set: &DataSet, files: &[SetFile]) -> Result<(), DataError> {
        self.file.write(|write| {
            let mut paths = write.open_table(PATHS)?;
            forget(&mut paths, &set.name)?;
            for file in files {
                paths.insert((set.name.as_str(), file.path.as_str()), (file.digest.0, file.size))?;
            }
            let json = serde_json::to_vec(set).expect("a record is plain data");
            write.open_table(SETS)?.insert(set.name.as_str(), json.as_slice())?;
            Ok(())
        })
    }

    /// All data sets, by name.
    pub(super) fn sets(&self) -> Result<Vec<DataSet>, DataError> {
        self.file.read(|read| {
            let mut found = Vec::new();
            for entry in read.open_table(SETS)?.iter()? {
                let (name, json) = entry?;
                match record(json.value()) {
                    Some(set) => found.push(set),
                    None => tracing::error!(name = name.value(), "the record of a data set makes no sense"),
                }
            }
            Ok(found)
        })
    }

    /// The files of a data set, by path.
    pub(super) fn files_of(&self, name: &DataName) -> Result<Vec<SetFile>, DataError> {
        self.file.read(|read| {
            let after = format!("{name}\0");
            let mut found = Vec::new();
            for entry in read.open_table(PATHS)?.range((name.as_str(), "")..(after.as_str(), ""))? {
                let (key, value) = entry?;
                let (digest, size) = value.value();
                if let Ok(path) = key.value().1.parse() {
                    found.push(SetFile { path, digest: Digest(digest), size });
                }
            }
            Ok(found)
        })
    }

    /// Forgets a data set, and the packs that it needed and no other needs, which are returned.
    pub(super) fn remove(&self, name: &DataName) -> Result<(DataSet, Vec<PackFacts>), DataError> {
        let theirs: HashSet<Hash> = self.files_of(name)?.iter().map(|file| file.digest.0).collect();
        self.file.write(|write| {
            let json = write.open_table(SETS)?.remove(name.as_str())?.map(|json| json.value().to_owned());
            let json = json.ok_or_else(|| DataError::Unknown(name.to_string()))?;
            let mut files = write.open_table(FILES)?;
            let mut candidates = BTreeSet::new();
            for digest in &theirs {
                candidates.extend(files.get(digest)?.map(|at| at.value().0));
            }
            let mut paths = write.open_table(PATHS)?;
            let known = record(&json);
            forget(&mut paths, name)?;
            let unused = drop_unused(&mut files, &paths, &mut write.open_table(PACKS)?, candidates)?;
            let set = known.unwrap_or_else(|| DataSet::of(name.clone(), &[], String::new()));
            Ok((set, unused))
        })
    }

    /// Drops packs of which no data set needs a file and which are `old`; they are returned.
    pub(super) fn sweep(&self, old: impl Fn(&PackFacts) -> bool) -> Result<Vec<PackFacts>, DataError> {
        let candidates: BTreeSet<Hash> =
            self.packs()?.iter().filter(|pack| old(pack)).map(|pack| pack.digest.0).collect();
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        self.file.write(|write| {
            let (mut files, paths) = (write.open_table(FILES)?, write.open_table(PATHS)?);
            Ok(drop_unused(&mut files, &paths, &mut write.open_table(PACKS)?, candidates)?)
        })
    }

    /// All packs.
    pub(super) fn packs(&self) -> Result<Vec<PackFacts>, DataError> {
        self.file.read(|read| {
            let mut found = Vec::new();
            for entry in read.open_table(PACKS)?.iter()? {
                let (digest, value) = entry?;
                let (owner, bytes, kept_at) = value.value();
                found.push(PackFacts { digest: Digest(digest.value()), owner: owner.to_owned(), bytes, kept_at });
            }
            Ok(found)
        })
    }

    /// What lies in a pack: digests and places.
    pub(super) fn contents_of(&self, pack: &Digest) -> Result<Vec<(Digest, Located)>, DataError> {
        self.file.read(|read| {
            let mut found = Vec::new();
            for entry in read.open_table(FILES)?.iter()? {
                let (digest, at) = entry?;
                let (at, offset, size) = at.value();
                if at == pack.0 {
                    found.push((Digest(digest.value()), Located { pack: *pack, offset, size }));
                }
            }
            Ok(found)
        })
    }

    /// Contents are not what they were: they count as missing until they are pushed again. Nothing happens where they
    /// lie somewhere else by now.
    pub(super) fn put_aside(&self, contents: &[(Digest, Located)]) -> Result<(), DataError> {
        self.file.write(|write| {
            let (mut files, mut damaged) = (write.open_table(FILES)?, write.open_table(DAMAGED)?);
            for (digest, at) in contents {
                let known = files.get(digest.0)?.map(|known| known.value());
                if known == Some((at.pack.0, at.offset, at.size)) {
                    files.remove(digest.0)?;
                    damaged.insert(digest.0, ())?;
                }
            }
            Ok(())
        })
    }

    /// A pack is gone as a whole.
    pub(super) fn forget_pack(&self, pack: &Digest) -> Result<(), DataError> {
        self.put_aside(&self.contents_of(pack)?)?;
        self.file.write(|write| {
            write.open_table(PACKS)?.remove(pack.0)?;
            Ok(())
        })
    }

    /// Whether any contents are damaged or gone.
    pub(super) fn any_damaged(&self) -> Result<bool, DataError> {
        self.file.read(|read| Ok(!read.open_table(DAMAGED)?.is_empty()?))
    }

    /// Files of a data set whose contents are damaged or gone: how many, and one of them.
    pub(super) fn damaged_of(&self, name: &DataName) -> Result<(u64, Option<InnerPath>), DataError> {
        let files = self.files_of(name)?;
        self.file.read(|read| {
            let contents = read.open_table(FILES)?;
            let (mut count, mut first) = (0, None);
            for file in files {
                if contents.get(file.digest.0)?.is_none() {
                    count += 1;
                    first.get_or_insert(file.path);
                }
            }
            Ok((count, first))
        })
    }

    /// Digest and size of a file.
    pub(super) fn file(&self, name: &DataName, path: &InnerPath) -> Result<Option<(Digest, u64)>, DataError> {
        self.file.read(|read| {
            let found = read.open_table(PATHS)?.get((name.as_str(), path.as_str()))?;
            Ok(found.map(|entry| (Digest(entry.value().0), entry.value().1)))
        })
    }

    /// What lies directly in a folder of a data set: names, and whether each is a folder. Empty where there is none.
    pub(super) fn entries(&self, name: &DataName, folder: &InnerPath) -> Result<Vec<(String, bool)>, DataError> {
        self.file.read(|read| {
            let paths = read.open_table(PATHS)?;
            let prefix = if folder.as_str().is_empty() { String::new() } else { format!("{}/", folder.as_str()) };
            let (mut found, mut from) = (Vec::new(), prefix.clone());
            // A folder is jumped over as a whole: `0` is the character after `/`.
            while let Some(entry) = paths.range((name.as_str(), from.as_str())..)?.next() {
                let (key, _) = entry?;
                let (set, path) = key.value();
                let Some(rest) = path.strip_prefix(&prefix).filter(|_| set == name.as_str()) else { break };
                match rest.split_once('/') {
                    Some((inner, _)) => {
                        found.push((inner.to_owned(), true));
                        from = format!("{prefix}{inner}0");
                    }
                    None => {
                        found.push((rest.to_owned(), false));
                        from = format!("{path}\0");
                    }
                }
            }
            Ok(found)
        })
    }
}

fn record(json: &[u8]) -> Option<DataSet> {
    serde_json::from_slice(json).ok()
}

fn forget(
    paths: &mut Table<'_, (&'static str, &'static str), (Hash, u64)>,
    name: &DataName,
) -> Result<(), StorageError> {
    let after = format!("{name}\0");
    paths.retain_in((name.as_str(), "")..(after.as_str(), ""), |_, _| false)
}

/// Drops those of the packs `candidates` that none of `paths` needs, and says which.
fn drop_unused(
    files: &mut Table<'_, Hash, (Hash, u64, u64)>,
    paths: &Table<'_, (&'static str, &'static str), (Hash, u64)>,
    packs: &mut Table<'_, Hash, (&'static str, u64, u64)>,
    mut candidates: BTreeSet<Hash>,
) -> Result<Vec<PackFacts>, StorageError> {
    let mut wanted = HashSet::new();
    for entry in paths.iter()? {
        wanted.insert(entry?.1.value().0);
    }
    for entry in files.iter()? {
        let (digest, at) = entry?;
        if wanted.contains(&digest.value()) {
            candidates.remove(&at.value().0);
        }
    }
    files.retain(|_, (pack, _, _)| !candidates.contains(&pack))?;
    let mut dropped = Vec::new();
    for pack in candidates {
        let facts = packs.remove(pack)?.map(|facts| {
            let (owner, bytes, kept_at) = facts.value();
            PackFacts { digest: Digest(pack), owner: owner.to_owned(), bytes, kept_at }
        });
        dropped.extend(facts);
    }
    Ok(dropped)
}
