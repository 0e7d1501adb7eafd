//! Times that are compared with one another within a step.

use crate::ids::Micros;

/// Times of one step: all of it share a link and a coordinator, so they are compared with one another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Beside(Vec<Micros>);

impl Beside {
    /// Notes a time. The answer is the median of those that came before.
    pub fn note(&mut self, time: Micros) -> Option<Micros> {
        let at = self.0.partition_point(|other| *other < time);
        let median = self.0.get(self.0.len().saturating_sub(1) / 2).copied();
        self.0.insert(at, time);
        median
    }
}
