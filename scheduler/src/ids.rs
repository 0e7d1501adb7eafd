//! Numbers that things go by, and time as the heart knows it: a number that its caller read from a clock.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $word:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($word, " {}"), self.0)
            }
        }
    };
}

id! {
    /// One connection of one worker to the coordinator. A worker that comes back gets a new one.
    WorkerId(u32), "worker"
}
id! {
    /// One job of a coordinator; they are counted by submission.
    JobId(u64), "job"
}
id! {
    /// Counts the starts of the coordinator for this run, so that messages to an earlier start are recognized.
    RunGeneration(u64), "generation"
}
id! {
    /// Step `t`, counted from 0 over the whole run, turns parameters `t` into parameters `t + 1`. Where parameters are
    /// meant, `StepId(t)` names those that `t` committed steps have made; `StepId(0)` is the initialisation.
    StepId(u64), "step"
}
id! {
    /// One lease; unique within a run generation.
    LeaseId(u64), "lease"
}
id! {
    /// Counts how often a step or an evaluation was opened in this generation. What was brought for an earlier opening
    /// is worth nothing: all of its sums are forgotten.
    Opening(u64), "opening"
}
id! {
    /// Counts the changes of who owns which chunk, in this generation. From one to the next, chunks move; what is added
    /// of chunks that stay with their owner stays, too.
    OwnersVersion(u64), "version"
}
id! {
    /// A shard of a step (or of an evaluation), counted from 0.
    ShardId(u32), "shard"
}

impl Opening {
    /// The opening after this one.
    #[must_use]
    pub fn next(self) -> Opening {
        Opening(self.0 + 1)
    }
}

impl StepId {
    /// The step after this one; of parameters, those that this step makes.
    pub fn next(self) -> StepId {
        StepId(self.0 + 1)
    }
}

/// A moment, in microseconds since the coordinator started. Never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunTime(pub u64);

impl RunTime {
    /// The moment `span` later; the end of time if that overflows.
    pub fn after(self, span: Micros) -> RunTime {
        RunTime(self.0.saturating_add(span.0))
    }

    /// How long it is since `earlier`; zero if that is still to come.
    pub fn since(self, earlier: RunTime) -> Micros {
        Micros(self.0.saturating_sub(earlier.0))
    }
}

/// A span of time in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

impl Micros {
    /// So many whole seconds.
    pub const fn seconds(seconds: u64) -> Micros {
        Micros(seconds.saturating_mul(1_000_000))
    }

    /// So many whole milliseconds.
    pub const fn millis(millis: u64) -> Micros {
        Micros(millis * 1_000)
    }

    /// This span `factor` times, at most the longest span there is.
    pub fn times(self, factor: u64) -> Micros {
        Micros(self.0.saturating_mul(factor))
    }
}

/// Seconds with one decimal, rounded down: `2.3 s`.
impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} s", self.0 / 1_000_000, self.0 / 100_000 % 10)
    }
}
