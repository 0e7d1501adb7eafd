//! From image files to prepared tensors: [`scan()`] looks at the data and makes the manifest, [`facts`] measures what a
//! plan needs, a [`Dataset`] turns samples into batches, a [`Loader`] does so ahead of time on threads of its own. [`check()`] and [`preview()`] show a person what there is.
//!
//! Layout is NHWC throughout. Every number is a function of the files, the spec and an address (seed, epoch, sample):
//! no thread, cache or instruction set changes a bit.

mod affine;
mod augment;
mod check;
mod color;
mod dataset;
mod decode;
mod disk;
mod error;
mod exif;
mod font;
mod jpeg;
mod loader;
mod pixels;
mod png;
mod prepare;
mod preview;
#[cfg(test)]
mod reference;
mod resize;
mod scan;
mod source;
mod statistics;

pub use check::{Copies, Report, SplitReport, check};
pub use dataset::{Dataset, Images};
pub use decode::{DecodeError, Decoded, Limits, decode};
pub use disk::Disk;
pub use error::{LoadError, ScanError};
pub use loader::{Loader, Request};
pub use pixels::Pixels;
pub use prepare::{Geometry, Mode, Preparation};
pub use preview::preview;
pub use resize::resize;
pub use scan::{ImageFacts, Progress, Scanned, SplitFacts, files_of, scan, scan_known};
pub use source::folders::image_files;
pub use statistics::{ChannelSums, facts, measure};
