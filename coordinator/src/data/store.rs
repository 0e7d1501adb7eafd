//! The data sets on disk: packs of contents, a list for each data set, and an index of both.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use convoy_common::Digest;
use convoy_common::data_place::{DataName, InnerPath};
use convoy_common::durable::{remove_file, sync_folder};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::error::DataError;
use super::index::{DataIndex, Kept, PackFacts, Place};
use super::pack::{self, Closed, Located};
use super::recovery;
use super::set::{DataSet, SetFile};
use super::set_list;
use crate::disk_use::{DiskUse, Room};

/// All data sets of a coordinator.
#[derive(Debug)]
pub(crate) struct DataStore {
    pub(super) packs: PathBuf,
    lists: PathBuf,
    pub(super) index: DataIndex,
    pub(super) disk: Arc<DiskUse>,
    /// Held while a data set is named or removed, or packs are: one at a time.
    changing: Mutex<()>,
    /// Told when what was damaged may be here again.
    mended: watch::Sender<()>,
}

impl DataStore {
    /// Opens the data in `folder`, or makes it. Nobody else may have it open. What it takes counts in `disk`.
    ///
    /// A damaged index is put aside and made anew; what is lost is named in the log.
    pub(crate) fn open(folder: &Path, disk: Arc<DiskUse>) -> Result<Self, DataError> {
        let (packs, lists) = (folder.join("packs"), folder.join("sets"));
        for folder in [&packs, &lists] {
            fs::create_dir_all(folder)?;
        }
        let index = recovery::open_index(&folder.join("data.redb"))?;
        pack::sweep(&packs)?;
        recovery::reconcile(&index, &packs, &lists)?;
        for pack in index.packs()? {
            disk.count(&pack.owner, pack.bytes);
        }
        Ok(DataStore { packs, lists, index, disk, changing: Mutex::default(), mended: watch::Sender::new(()) })
    }

    /// Tells whenever something that was damaged may be here again.
    pub(crate) fn mended(&self) -> watch::Receiver<()> {
        self.mended.subscribe()
    }

    /// Positions of the digests whose contents are not here.
    pub(crate) fn missing(&self, digests: &[Digest]) -> Result<Vec<u32>, DataError> {
        self.index.missing(digests)
    }

    /// Takes in a pack that `owner` pushed, for which there is `room`.
    pub(super) fn keep(&self, pack: Closed, owner: &str, room: Room) -> Result<(), DataError> {
        // Nobody removes a pack of the same name meanwhile.
        let _changing = self.changing.lock();
        let packed = pack.persist(&self.packs)?;
        let bytes = fs::metadata(pack::path_of(&self.packs, &packed.digest))?.len();
        let facts = PackFacts { digest: packed.digest, owner: owner.to_owned(), bytes, kept_at: super::unix_seconds() };
        let damaged = self.index.any_damaged()?;
        let kept = self.index.keep(&packed, &facts)?;
        if damaged {
            self.mended.send_replace(());
        }
        match kept {
            Kept::New => room.keep(bytes),
            Kept::Known => {}
            // Somebody else pushed the same at the same time.
            Kept::Useless => self.remove_pack(&packed.digest),
        }
        Ok(())
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
        let set = DataSet::of(name.clone(), &files, now);
        let _changing = self.changing.lock();
        if let Some(known) = self.index.check(&set, &files, replace)? {
            return Ok(known);
        }
        set_list::write(&self.lists, &set, &files)?;
        self.index.name(&set, &files)?;
        Ok(set)
    }

    /// All data sets, by name.
    pub(crate) fn list(&self) -> Result<Vec<DataSet>, DataError> {
        let mut sets = self.index.sets()?;
        if self.index.any_damaged()? {
            for set in &mut sets {
                set.damaged = self.index.damaged_of(&set.name)?.0;
            }
        }
        Ok(sets)
    }

    /// Forgets a data set, and the packs that it needed and no other needs.
    pub(crate) fn remove(&self, name: &DataName) -> Result<DataSet, DataError> {
        let _changing = self.changing.lock();
        match remove_file(&set_list::path_of(&self.lists, name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        // A list that came back would be taken for a data set that the index has lost.
        sync_folder(&self.lists)?;
        let (set, unused) = self.index.remove(name)?;
        self.remove_packs(&unused);
        Ok(set)
    }

    /// Removes packs that were kept before `old` and of which no data set needs a file: what was pushed and never
    /// named, and what data sets held whose place others took. How many.
    pub(super) fn sweep(&self, old: impl Fn(&PackFacts) -> bool) -> Result<usize, DataError> {
        let _changing = self.changing.lock();
        let unused = self.index.sweep(old)?;
        self.remove_packs(&unused);
        Ok(unused.len())
    }

    fn remove_packs(&self, packs: &[PackFacts]) {
        for pack in packs {
            self.remove_pack(&pack.digest);
            self.disk.give_back(&pack.owner, pack.bytes);
        }
    }

    /// Removes the file of a pack that nothing points to.
    fn remove_pack(&self, pack: &Digest) {
        if let Err(error) = remove_file(&pack::path_of(&self.packs, pack)) {
            tracing::warn!(%error, "a pack that nobody needs stays");
        }
    }

    /// Digest and size of a file.
    pub(crate) fn file(&self, name: &DataName, path: &InnerPath) -> Result<Option<(Digest, u64)>, DataError> {
        self.index.file(name, path)
    }

    /// What lies directly in a folder of a data set: names, and whether each is a folder. Empty where there is none.
    pub(crate) fn entries(&self, name: &DataName, folder: &InnerPath) -> Result<Vec<(String, bool)>, DataError> {
        self.index.entries(name, folder)
    }

    /// The contents with this digest, verified. Those that are damaged are put aside.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] when they are damaged or gone, [`ErrorKind::NotFound`] when they never were here.
    pub(crate) fn read(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        let at = self.located(digest)?;
        match self.checked(digest, &at, pack::read(&self.packs, &at))? {
            bytes if Digest::of(&bytes) == *digest => Ok(bytes),
            _ => Err(self.put_aside(digest, &at)),
        }
    }

    /// Reads the contents with this digest and puts them aside if they are damaged.
    ///
    /// # Errors
    /// As [`DataStore::read`].
    pub(crate) fn check(&self, digest: &Digest) -> io::Result<()> {
        let at = self.located(digest)?;
        match self.checked(digest, &at, pack::digest_at(&self.packs, &at))? {
            now if now == *digest => Ok(()),
            _ => Err(self.put_aside(digest, &at)),
        }
    }

    /// `length` bytes from `offset` of a file by its content. They are not compared with anything: whoever reads parts
    /// knows their digests.
    ///
    /// # Errors
    /// As [`DataStore::read`], and when the file is shorter.
    pub(crate) fn read_range(&self, digest: &Digest, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let at = self.located(digest)?;
        if offset.checked_add(length).is_none_or(|end| end > at.size) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.checked(digest, &at, pack::read_range(&self.packs, &at, offset, length))
    }

    /// Puts contents aside that cannot be read because of what happened to their pack.
    fn checked<T>(&self, digest: &Digest, at: &Located, read: io::Result<T>) -> io::Result<T> {
        /// `EIO`: the disk cannot read these bytes.
        const UNREADABLE: i32 = 5;
        read.map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::InvalidData | ErrorKind::UnexpectedEof => self.put_aside(digest, at),
            _ if error.raw_os_error() == Some(UNREADABLE) => self.put_aside(digest, at),
            _ => error,
        })
    }

    /// Contents count as missing from now on, so that a push brings them again.
    fn put_aside(&self, digest: &Digest, at: &Located) -> io::Error {
        let pack = pack::path_of(&self.packs, &at.pack);
        tracing::error!(pack = %pack.display(), offset = at.offset, size = at.size, %digest, "data is damaged; it counts as missing until it is pushed again");
        if let Err(error) = self.index.put_aside(&[(*digest, *at)]) {
            // It is found again by whoever reads it next.
            tracing::warn!(%error, "the index does not know yet");
        }
        damaged()
    }

    /// Where the file with this content lies.
    fn located(&self, digest: &Digest) -> io::Result<Located> {
        match self.index.place(digest).map_err(io::Error::other)? {
            Place::Here(at) => Ok(at),
            Place::Damaged => Err(damaged()),
            Place::Nowhere => Err(ErrorKind::NotFound.into()),
        }
    }
}

fn damaged() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "damaged at the coordinator")
}

#[cfg(test)]
mod tests;
