//! From image files to prepared tensors.
//!
//! - [`scan()`] reads the data of a job and makes its manifest, [`facts`] measures what a plan needs to know.
//! - A [`Dataset`] turns samples into batches, a [`Loader`] does so ahead of time on threads of its own.
//! - [`check()`] and [`preview()`] show a person what is in the data.
//!
//! Layout is NHWC throughout. Every number is a function of the files, the spec and an address (seed, epoch, sample):
//! no thread, cache or instruction set changes a bit.

mod affine;
mod augment;
mod channel_sums;
mod check;
mod color;
mod dataset;
mod decode;
mod decode_error;
mod error;
mod exif;
mod font;
mod formats;
mod geometry;
mod image_list;
mod jpeg;
mod left_out;
mod limits;
mod loader;
mod look;
mod look_cache;
mod looking;
mod paths;
mod pixels;
mod png;
mod prepare;
mod preview;
mod progress;
#[cfg(test)]
mod reference;
mod resize;
mod scan;
mod scan_idx;
mod scanned;
mod source;
mod statistics;
mod taken;
mod threads;

pub use channel_sums::ChannelSums;
pub use check::{Copies, Report, SplitReport, check};
pub use dataset::{Dataset, Images};
pub use decode::{Decoded, decode, decode_in};
pub use decode_error::DecodeError;
pub use error::{LoadError, ScanError};
pub use geometry::Geometry;
pub use jpeg::Baseline;
pub use left_out::{LeftOut, Why};
pub use limits::Limits;
pub use loader::{Loader, Request};
pub use look_cache::LookCache;
pub use pixels::{Pixels, Window};
pub use prepare::{Mode, Preparation};
pub use preview::preview;
pub use progress::Progress;
pub use resize::resize;
pub use scan::{FilesOf, files_of, scan, scan_known, survey};
pub use scanned::{ImageFacts, Scanned, SplitFacts};
pub use source::archives::is_archive_name;
pub use source::folders::image_files;
pub use statistics::{facts, measure};
pub use taken::Taken;
