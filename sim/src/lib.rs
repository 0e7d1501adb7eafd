//! Simulated runs: the scheduler and driver that the coordinator runs, in a world of workers, connections, disks and
//! faults that is made of one seed and lives in virtual time.
//!
//! - [`Scenario`]: all that decides how a run goes: a plan, a [`Weather`] of faults, perhaps a [`CrashPoint`] or a
//!   [`Mutant`].
//! - [`play`]: plays a scenario. Equal scenarios give equal [`Story`]s, event by event.
//! - [`facts`]: what happens, as an onlooker sees it who does not ask the scheduler.
//! - [`bookkeeping`]: the state of the run as it follows from the facts alone.
//! - [`invariants`]: the promises that must hold, each checked at every fact.
//! - [`mutants`]: deliberate faults between the scheduler and the world, each of which an invariant must catch.
//! - [`oracle`]: the parameters that one machine alone would have computed.
//! - [`rates`]: another world, of links with a rate: how long a step takes with many workers, where nothing fails.
//!
//! # Examples
//! ```
//! use convoy_sim::{Scenario, Shape, play};
//!
//! let story = play(&Scenario::drawn(7, Shape { workers: 3, steps: 4 })).expect("every promise holds");
//! assert_eq!(story.committed.0, 4);
//! ```
#![forbid(unsafe_code)]

pub mod bookkeeping;
mod dice;
pub mod facts;
mod invariant_watch;
pub mod invariants;
pub mod mutants;
pub mod oracle;
pub mod rates;
mod scenario;
mod story;
mod story_player;
mod trace;
mod world;

pub use dice::Dice;
pub use invariant_watch::Violation;
pub use mutants::Mutant;
pub use scenario::{CrashPoint, Fault, Scenario, Shape, Tail, Weather};
pub use story::Story;
pub use story_player::{play, play_traced};
