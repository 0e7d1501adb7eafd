//! The data sets on disk: packs in a folder, and a redb file that knows what lies where.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use convoy_common::Digest;
use convoy_common::data_place::{DataName, InnerPath};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::pack::{self, Located, PACK_BYTES, PackWriter, Packed};
use crate::store_error::StoreError;

/// Content digest to (pack, offset, size).
const FILES: TableDefinition<'_, [u8; 32], ([u8; 32], u64, u64)> = TableDefinition::new("files");
/// (data set, path) to (content digest, size).
const PATHS: TableDefinition<'_, (&str, &str), ([u8; 32], u64)> = TableDefinition::new("paths");
/// Data set to its record as JSON.
const SETS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sets");

/// Why data cannot be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// No such data set.
    #[error("there is no data set `{0}`; `convoy data ls` shows those there are")]
    Unknown(String),
    /// The name is taken.
    #[error("data set `{0}` is there already and holds other files; choose another name, or push with --replace")]
    Taken(String),
    /// What arrived is not what was announced.
    #[error("{path}: {problem}")]
    Wrong {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A file that a data set wants was not pushed.
    #[error("{missing} files of the data set have not been pushed, for example {first}; push again")]
    Missing {
        /// How many.
        missing: usize,
        /// One of them.
        first: String,
    },
    /// A job needs it.
    #[error("data set `{name}` is used by {job}; remove or finish that job first")]
    Used {
        /// The data set.
        name: String,
        /// The job.
        job: String,
    },
    /// The disk fails.
    #[error("data store: {0}; check the disk and its free space")]
    Io(String),
}

fn io(error: impl std::fmt::Display) -> DataError {
    DataError::Io(error.to_string())
}

/// What is known of a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSet {
    /// Its name.
    pub name: DataName,
    /// Number of files.
    pub files: u64,
    /// Their sizes together.
    pub bytes: u64,
    /// blake3 over paths, sizes and digests in byte order of the paths.
    pub digest: Digest,
    /// When it was pushed.
    pub pushed: String,
}

/// A file of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SetFile {
    pub(crate) path: InnerPath,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// All data sets of a coordinator.
#[derive(Debug)]
pub(crate) struct DataStore {
    packs: PathBuf,
    database: Database,
}

impl DataStore {
    /// Opens the data in `folder`, or makes it. Nobody else may have it open.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        let io = |error: &dyn std::fmt::Display| StoreError::Io(error.to_string());
        let packs = folder.join("packs");
        fs::create_dir_all(&packs).map_err(|error| io(&error))?;
        pack::sweep(&packs).map_err(|error| io(&error))?;
        let database = Database::create(folder.join("data.redb")).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(folder.display().to_string()),
            error => io(&error),
        })?;
        let write = database.begin_write().map_err(|error| io(&error))?;
        write.open_table(FILES).map_err(|error| io(&error))?;
        write.open_table(PATHS).map_err(|error| io(&error))?;
        write.open_table(SETS).map_err(|error| io(&error))?;
        write.commit().map_err(|error| io(&error))?;
        Ok(DataStore { packs, database })
    }

    /// Positions of the digests whose contents are not here.
    pub(crate) fn missing(&self, digests: &[Digest]) -> Result<Vec<u32>, DataError> {
        let read = self.database.begin_read().map_err(io)?;
        let files = read.open_table(FILES).map_err(io)?;
        let mut missing = Vec::new();
        for (position, digest) in (0..).zip(digests) {
            if files.get(digest.0).map_err(io)?.is_none() {
                missing.push(position);
            }
        }
        Ok(missing)
    }

    /// Begins to take files in.
    pub(crate) fn receive(&self) -> Receiver<'_> {
        Receiver { store: self, pack: None, coming: None, received: 0, known: BTreeSet::new() }
    }

    fn keep(&self, packed: &Packed) -> Result<(), DataError> {
        let mut write = self.database.begin_write().map_err(io)?;
        write.set_two_phase_commit(true);
        {
            let mut files = write.open_table(FILES).map_err(io)?;
            for (digest, offset, size) in &packed.files {
                files.insert(digest.0, (packed.digest.0, *offset, *size)).map_err(io)?;
            }
        }
        write.commit().map_err(io)
    }

    /// Names a list of files, in any order. All of their contents must be here. The same list under the same name
    /// changes nothing; another takes its place only if it shall `replace` it.
    pub(crate) fn commit(
        &self,
        name: &DataName,
        mut files: Vec<SetFile>,
        replace: bool,
        now: String,
    ) -> Result<DataSet, DataError> {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(pair) = files.windows(2).find(|pair| pair[0].path == pair[1].path) {
            let path = pair[0].path.as_str().to_owned();
            return Err(DataError::Wrong { path, problem: "is there twice".to_owned() });
        }
        let set = DataSet {
            name: name.clone(),
            files: files.len() as u64,
            bytes: files.iter().map(|file| file.size).sum(),
            digest: digest_of(&files),
            pushed: now,
        };
        let mut write = self.database.begin_write().map_err(io)?;
        write.set_two_phase_commit(true);
        {
            let mut sets = write.open_table(SETS).map_err(io)?;
            let known = sets.get(name.as_str()).map_err(io)?.map(|json| record(json.value())).transpose()?;
            match known {
                Some(known) if known.digest == set.digest => return Ok(known),
                Some(_) if !replace => return Err(DataError::Taken(name.to_string())),
                _ => {}
            }
            let contents = write.open_table(FILES).map_err(io)?;
            let mut missing = Vec::new();
            for file in &files {
                let held = contents.get(file.digest.0).map_err(io)?.map(|at| at.value().2);
                if held != Some(file.size) {
                    missing.push(file);
                }
            }
            if let Some(first) = missing.first() {
                return Err(DataError::Missing { missing: missing.len(), first: first.path.as_str().to_owned() });
            }
            let mut paths = write.open_table(PATHS).map_err(io)?;
            forget(&mut paths, name)?;
            for file in &files {
                paths.insert((name.as_str(), file.path.as_str()), (file.digest.0, file.size)).map_err(io)?;
            }
            let json = serde_json::to_vec(&set).expect("a record is plain data");
            sets.insert(name.as_str(), json.as_slice()).map_err(io)?;
        }
        write.commit().map_err(io)?;
        Ok(set)
    }

    /// All data sets, by name.
    pub(crate) fn list(&self) -> Result<Vec<DataSet>, DataError> {
        let read = self.database.begin_read().map_err(io)?;
        let sets = read.open_table(SETS).map_err(io)?;
        let mut found = Vec::new();
        for entry in sets.iter().map_err(io)? {
            found.push(record(entry.map_err(io)?.1.value())?);
        }
        Ok(found)
    }

    /// Forgets a data set, and the packs of which no other needs a file.
    pub(crate) fn remove(&self, name: &DataName) -> Result<DataSet, DataError> {
        let mut write = self.database.begin_write().map_err(io)?;
        write.set_two_phase_commit(true);
        let (set, unused) = {
            let mut sets = write.open_table(SETS).map_err(io)?;
            let json = sets.remove(name.as_str()).map_err(io)?;
            let set = record(json.ok_or_else(|| DataError::Unknown(name.to_string()))?.value())?;
            let mut paths = write.open_table(PATHS).map_err(io)?;
            forget(&mut paths, name)?;
            let mut wanted = BTreeSet::new();
            for entry in paths.iter().map_err(io)? {
                wanted.insert(entry.map_err(io)?.1.value().0);
            }
            let mut files = write.open_table(FILES).map_err(io)?;
            let (mut all, mut needed) = (BTreeSet::new(), BTreeSet::new());
            for entry in files.iter().map_err(io)? {
                let (digest, at) = entry.map_err(io)?;
                all.insert(at.value().0);
                if wanted.contains(&digest.value()) {
                    needed.insert(at.value().0);
                }
            }
            files.retain(|_, (pack, _, _)| needed.contains(&pack)).map_err(io)?;
            (set, all.difference(&needed).copied().collect::<Vec<_>>())
        };
        write.commit().map_err(io)?;
        for pack in unused {
            // Nothing points to it any more; a leftover costs room only.
            if let Err(error) = fs::remove_file(pack::path_of(&self.packs, &Digest(pack))) {
                tracing::warn!(%error, "a pack that nobody needs stays");
            }
        }
        Ok(set)
    }

    /// Digest and size of a file.
    pub(crate) fn file(&self, name: &DataName, path: &InnerPath) -> Result<Option<(Digest, u64)>, DataError> {
        let read = self.database.begin_read().map_err(io)?;
        let paths = read.open_table(PATHS).map_err(io)?;
        let found = paths.get((name.as_str(), path.as_str())).map_err(io)?;
        Ok(found.map(|entry| (Digest(entry.value().0), entry.value().1)))
    }

    /// What lies directly in a folder of a data set: names, and whether each is a folder. Empty where there is none.
    pub(crate) fn entries(&self, name: &DataName, folder: &InnerPath) -> Result<Vec<(String, bool)>, DataError> {
        let read = self.database.begin_read().map_err(io)?;
        let paths = read.open_table(PATHS).map_err(io)?;
        let prefix = if folder.as_str().is_empty() { String::new() } else { format!("{}/", folder.as_str()) };
        let (mut found, mut from) = (Vec::new(), prefix.clone());
        // A folder is jumped over as a whole: `0` is the character after `/`.
        while let Some(entry) = paths.range((name.as_str(), from.as_str())..).map_err(io)?.next() {
            let (key, _) = entry.map_err(io)?;
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
    }

    /// The contents with this digest, verified.
    pub(crate) fn read(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        let at = self.located(digest)?;
        let bytes = pack::read(&self.packs, &at)?;
        match Digest::of(&bytes) == *digest {
            true => Ok(bytes),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{} is damaged; push the data again under another name",
                    pack::path_of(&self.packs, &at.pack).display()
                ),
            )),
        }
    }

    /// `length` bytes from `offset` of a file by its content. They are not compared with anything: whoever reads parts
    /// knows their digests.
    pub(crate) fn read_range(&self, digest: &Digest, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        pack::read_range(&self.packs, &self.located(digest)?, offset, length)
    }

    /// Where the file with this content lies.
    fn located(&self, digest: &Digest) -> io::Result<Located> {
        let at = (|| {
            let read = self.database.begin_read().map_err(io)?;
            let files = read.open_table(FILES).map_err(io)?;
            let found = files.get(digest.0).map_err(io)?;
            Ok::<_, DataError>(found.map(|at| at.value()))
        })();
        let (pack, offset, size) = at.map_err(io::Error::other)?.ok_or(io::ErrorKind::NotFound)?;
        Ok(Located { pack: Digest(pack), offset, size })
    }
}

fn record(json: &[u8]) -> Result<DataSet, DataError> {
    serde_json::from_slice(json).map_err(|error| io(format!("a data set's record is damaged: {error}")))
}

fn forget(paths: &mut redb::Table<'_, (&str, &str), ([u8; 32], u64)>, name: &DataName) -> Result<(), DataError> {
    let after = format!("{name}\0");
    paths.retain_in((name.as_str(), "")..(after.as_str(), ""), |_, _| false).map_err(io)
}

fn digest_of(files: &[SetFile]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(&(file.path.as_str().len() as u64).to_le_bytes()).update(file.path.as_str().as_bytes());
        hasher.update(&file.size.to_le_bytes()).update(&file.digest.0);
    }
    Digest(*hasher.finalize().as_bytes())
}

/// Files on their way in, piece by piece. What was received whole is kept pack by pack, also when the sender goes away.
pub(crate) struct Receiver<'a> {
    store: &'a DataStore,
    pack: Option<PackWriter>,
    coming: Option<Coming>,
    received: u64,
    known: BTreeSet<Digest>,
}

/// A file of which not all has come.
struct Coming {
    file: SetFile,
    hasher: blake3::Hasher,
    /// Bytes that came.
    came: u64,
    /// Whether it is written: equal contents are written once.
    is_new: bool,
}

impl Receiver<'_> {
    /// Begins to take `file` in; its bytes follow. One that began before and is not whole is forgotten.
    pub(crate) fn begin(&mut self, file: SetFile) -> Result<(), DataError> {
        self.forget_half()?;
        let is_new = !self.known.contains(&file.digest);
        if is_new {
            let pack = match &mut self.pack {
                Some(pack) => pack,
                none => none.insert(PackWriter::create(&self.store.packs).map_err(io)?),
            };
            pack.begin(file.path.as_str(), &file.digest, file.size).map_err(io)?;
        }
        self.coming = Some(Coming { file, hasher: blake3::Hasher::new(), came: 0, is_new });
        self.end_if_whole()
    }

    /// Takes the next bytes of the file that began.
    pub(crate) fn piece(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        let Some(coming) = &mut self.coming else { return Ok(()) };
        coming.came += bytes.len() as u64;
        if coming.came > coming.file.size {
            let path = coming.file.path.as_str().to_owned();
            return Err(DataError::Wrong { path, problem: "has more bytes than were announced".to_owned() });
        }
        coming.hasher.update(bytes);
        if let (true, Some(pack)) = (coming.is_new, &mut self.pack) {
            pack.write(bytes).map_err(io)?;
        }
        self.end_if_whole()
    }

    fn end_if_whole(&mut self) -> Result<(), DataError> {
        let Some(coming) = self.coming.take_if(|coming| coming.came == coming.file.size) else { return Ok(()) };
        let Coming { file, hasher, is_new, .. } = coming;
        if Digest(*hasher.finalize().as_bytes()) != file.digest {
            self.take_back()?;
            let problem = "does not have the digest that was announced; it may be changing right now".to_owned();
            return Err(DataError::Wrong { path: file.path.as_str().to_owned(), problem });
        }
        let (true, Some(pack)) = (is_new, &mut self.pack) else { return Ok(()) };
        pack.end(file.digest, file.size).map_err(io)?;
        self.known.insert(file.digest);
        self.received += 1;
        if pack.length() >= PACK_BYTES { self.flush() } else { Ok(()) }
    }

    /// Forgets the file that began.
    fn forget_half(&mut self) -> Result<(), DataError> {
        self.coming = None;
        self.take_back()
    }

    fn take_back(&mut self) -> Result<(), DataError> {
        self.pack.as_mut().map_or(Ok(()), |pack| pack.take_back().map_err(io))
    }

    fn flush(&mut self) -> Result<(), DataError> {
        let Some(pack) = self.pack.take() else { return Ok(()) };
        match pack.close().map_err(io)? {
            Some(packed) => self.store.keep(&packed),
            None => Ok(()),
        }
    }

    /// Keeps what came; the number of files that were new.
    pub(crate) fn finish(mut self) -> Result<u64, DataError> {
        self.forget_half()?;
        self.flush()?;
        Ok(self.received)
    }
}

#[cfg(test)]
mod tests;
