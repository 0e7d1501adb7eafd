//! A worker: it joins a coordinator, computes the shards it is lent and sends their sums back. It holds nothing
//! that a run could miss: it may vanish at any time.
//!
//! # Examples
//! ```
//! use std::time::Duration;
//!
//! use convoy_nn::Device;
//! use convoy_proto::channel::Link;
//! use convoy_worker::{Config, PeerConfig, WorkerError, run};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let (_sender, link) = tokio::sync::watch::channel(Link::plain("127.0.0.1:1".to_owned()));
//! let config = Config {
//!     link,
//!     name: "ox".to_owned(),
//!     threads: 1,
//!     device: Device::Cpu,
//!     data: None,
//!     cache: None,
//!     sees: None,
//!     log: None,
//!     patience: Some(Duration::ZERO),
//!     most_memory: None,
//!     declines: true,
//!     peers: PeerConfig::default(),
//! };
//! // Works until there is nothing more to do or it is stopped. Nobody listens on that port.
//! let ended = run(config, Box::pin(std::future::pending())).await;
//! assert!(matches!(ended, Err(WorkerError::Unreachable { .. })));
//! # }
//! ```

mod arrival;
mod assignment;
mod chunk_sources;
mod compute;
mod config;
mod disk_cache;
mod error;
mod evaluated_weights;
mod exchange;
mod file_requests;
mod heartbeat;
mod held_parameters;
mod known_workers;
mod lease_queue;
mod lease_work;
mod machine_memory;
mod membership;
mod node_parts;
mod open_error;
mod outbox;
mod parameter_checks;
mod parameters;
mod peer_end;
mod peer_probes;
mod process;
mod push;
mod run_data;
mod run_files;
mod session;
mod shards;
mod spare_buffers;
mod stages;
mod step_parameters;

#[cfg(test)]
mod fixtures;

pub use config::{Config, Ended};
pub use disk_cache::DiskCache;
pub use error::WorkerError;
pub use machine_memory::threads_that_fit;
pub use peer_end::PeerConfig;
pub use run_data::RunData;
pub use session::run;
