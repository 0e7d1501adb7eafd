//! A second world, of links alone: many workers in calm weather, each with a link of so many bytes a second, and the
//! scheduler of the coordinator. It tells how long a step takes, and who sends and takes in how much.
//!
//! Nothing fails here, all workers compute equally fast, and a byte costs nobody anything but the time of its links. So
//! what a step takes more than its computing is the exchange of gradients and parameters: [`StepFigures::exchange`].

mod bounds;
mod calm_world;
mod figures;
mod network;
mod plan;
mod routes;
mod units;

pub use calm_world::play;
pub use figures::{Rates, StepFigures};
pub use plan::{CHUNK, RatesPlan};
pub use units::{UnitError, bytes, bytes_per_second, nanos};
