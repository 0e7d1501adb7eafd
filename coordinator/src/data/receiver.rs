//! Files on their way into the store, piece by piece.

use std::collections::BTreeSet;

use convoy_common::Digest;

use super::error::DataError;
use super::index::Place;
use super::pack::{PACK_BYTES, PackWriter};
use super::set::SetFile;
use super::store::DataStore;
use crate::disk_use::Room;

impl DataStore {
    /// Begins to take files in that `owner` pushes.
    pub(crate) fn receive(&self, owner: &str) -> Receiver<'_> {
        Receiver { store: self, owner: owner.to_owned(), open: None, coming: None, received: 0, known: BTreeSet::new() }
    }
}

/// Files on their way in, piece by piece. What was received whole is kept pack by pack, also when the sender goes away.
pub(crate) struct Receiver<'a> {
    store: &'a DataStore,
    owner: String,
    open: Option<OpenPack>,
    coming: Option<Coming>,
    received: u64,
    known: BTreeSet<Digest>,
}

/// A pack that is being written, and the room that it takes.
struct OpenPack {
    pack: PackWriter,
    room: Room,
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
    ///
    /// # Errors
    /// When there is no room for it, or the disk fails.
    pub(crate) fn begin(&mut self, file: SetFile) -> Result<(), DataError> {
        self.forget_half()?;
        let is_new = !self.known.contains(&file.digest) && !self.is_here(&file)?;
        if is_new {
            let open = match &mut self.open {
                Some(open) => open,
                none => {
                    let (pack, room) = (PackWriter::create(&self.store.packs)?, self.store.disk.room(&self.owner));
                    none.insert(OpenPack { pack, room })
                }
            };
            open.room.more(PackWriter::room_for(file.size))?;
            open.pack.begin(file.path.as_str(), &file.digest, file.size)?;
        }
        self.coming = Some(Coming { file, hasher: blake3::Hasher::new(), came: 0, is_new });
        self.end_if_whole()
    }

    fn is_here(&self, file: &SetFile) -> Result<bool, DataError> {
        Ok(matches!(self.store.index.place(&file.digest)?, Place::Here(at) if at.size == file.size))
    }

    /// Takes the next bytes of the file that began.
    ///
    /// # Errors
    /// When there are more than were announced, or other ones, or the disk fails.
    pub(crate) fn piece(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        let Some(coming) = &mut self.coming else { return Ok(()) };
        coming.came += bytes.len() as u64;
        if coming.came > coming.file.size {
            let path = coming.file.path.as_str().to_owned();
            return Err(DataError::Wrong { path, problem: "has more bytes than were announced".to_owned() });
        }
        coming.hasher.update(bytes);
        if let (true, Some(open)) = (coming.is_new, &mut self.open) {
            open.pack.write(bytes)?;
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
        let (true, Some(open)) = (is_new, &mut self.open) else { return Ok(()) };
        open.pack.end(file.digest, file.size)?;
        self.known.insert(file.digest);
        self.received += 1;
        if open.pack.length() >= PACK_BYTES { self.flush() } else { Ok(()) }
    }

    /// Forgets the file that began.
    fn forget_half(&mut self) -> Result<(), DataError> {
        self.coming = None;
        self.take_back()
    }

    fn take_back(&mut self) -> Result<(), DataError> {
        Ok(self.open.as_mut().map_or(Ok(()), |open| open.pack.take_back())?)
    }

    fn flush(&mut self) -> Result<(), DataError> {
        let Some(OpenPack { pack, room }) = self.open.take() else { return Ok(()) };
        match pack.close()? {
            Some(closed) => self.store.keep(closed, &self.owner, room),
            None => Ok(()),
        }
    }

    /// Keeps what came; the number of files that were new.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn finish(mut self) -> Result<u64, DataError> {
        self.forget_half()?;
        self.flush()?;
        Ok(self.received)
    }
}
