//! Simulated runs: the scheduler and driver that the coordinator runs, in a world of workers, connections, disks and
//! faults that is made of one seed and lives in virtual time.
//!
//! - [`Scenario`]: what a run is played with: a plan, a [`Weather`] of faults, perhaps a [`CrashPoint`] or a
//!   [`Mutant`].
//! - [`play`]: plays it. Equal scenarios give equal [`Story`]s, event by event.
//! - [`facts`]: what happens, as an onlooker sees it who does not ask the scheduler.
//! - [`invariants`]: what must hold, each checked at every fact.
//! - [`mutants`]: deliberate faults between the scheduler and the world, each of which an invariant must catch.
//! - [`oracle`]: what one machine alone would have computed.
#![forbid(unsafe_code)]

mod dice;
pub mod facts;
pub mod invariants;
pub mod mutants;
pub mod oracle;
mod play;
mod scenario;
mod trace;
mod watch;
mod world;

pub use dice::Dice;
pub use mutants::Mutant;
pub use play::{Story, play, play_traced};
pub use scenario::{CrashPoint, Fault, Scenario, Shape, Tail, Weather};
pub use watch::Violation;
