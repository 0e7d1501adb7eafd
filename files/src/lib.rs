//! Where files are: on the disks of this machine, in archives.
//!
//! # Examples
//! ```
//! use convoy_common::file_tree::{FileTree, Files};
//! use convoy_files::Disk;
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("a.png");
//! std::fs::write(&path, b"abc")?;
//! assert_eq!((Disk.size(&path)?, Disk.read_range(&path, 1, 2)?), (3, b"bc".to_vec()));
//! # Ok::<(), std::io::Error>(())
//! ```

mod archives;
mod disk;
mod here;

pub use archives::{Archives, UnpackLimit};
pub use disk::Disk;
pub use here::{cache_folder, here};
