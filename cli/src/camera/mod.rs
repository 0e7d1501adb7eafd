//! Pictures from a camera: MJPEG from standard input or over HTTP, always the newest frame.
//!
//! [`watch`] shows frames to a command. A thread of its own reads the source (`reader.rs`, over HTTP through
//! `connection.rs`), cuts its bytes into JPEG files (`split.rs`) and puts each into a slot (`slot.rs`), from which the
//! command takes the newest one whenever it has time.

mod address;
mod connection;
mod http;
mod opening;
mod reader;
mod slot;
mod source;
mod split;
mod watch;

pub use slot::Frame;
pub use source::CameraSource;
pub use watch::{Pace, Seen, Tally, watch};
