//! What every kind of archive does.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use convoy_common::file_tree::{Contents, FileKind};
use convoy_common::samples::Samples;

/// An archive that has been opened. Called from many threads.
///
/// Names are as [`Member`](convoy_common::file_tree::Member) says: with `/` between folders, and none before or behind.
pub trait Archive: Send + Sync + Debug {
    /// What lies in it.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    fn contents(&self) -> io::Result<Contents>;

    /// What lies at `name`; `None` if there is nothing.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn kind(&self, name: &str) -> io::Result<Option<FileKind>>;

    /// All bytes of the member `name`.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where there is no such member, another error where it cannot be read.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// `length` bytes of the member `name` from byte `offset`.
    ///
    /// # Errors
    /// As [`Archive::read`]; [`io::ErrorKind::UnexpectedEof`] where the member ends before.
    fn read_range(&self, name: &str, offset: u64, length: u64) -> io::Result<Vec<u8>>;

    /// The size in bytes of the member `name`.
    ///
    /// # Errors
    /// As [`Archive::read`].
    fn size(&self, name: &str) -> io::Result<u64>;

    /// The samples that lie in it with their labels, one entry for each split.
    fn samples(self: Arc<Self>) -> Vec<Arc<dyn Samples>> {
        Vec::new()
    }
}
