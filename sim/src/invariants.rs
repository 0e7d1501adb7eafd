//! The promises that must hold, one in each file. Each looks at every fact, and at the books as they were before it.
//!
//! The order of [`all`] is the order in which they are asked: where one fact breaks two promises, the first is named.

mod adders;
mod audits;
mod bounds;
mod determinism;
mod disagreements;
mod durability;
mod exchange;
mod fencing;
mod invariant;
mod ledger;
mod links;
mod liveness;
mod membership;
mod order;
mod parameters;
mod quiet;
mod samples;
mod sums;
mod suspicion;
mod waiting;

pub use invariant::Invariant;

/// All promises.
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(determinism::Determinism),
        Box::new(ledger::Ledger),
        Box::new(fencing::Fencing::default()),
        Box::new(samples::Samples::default()),
        Box::new(durability::Durability::default()),
        Box::new(order::Order),
        Box::new(audits::Audits::default()),
        Box::new(disagreements::Disagreements::default()),
        Box::new(sums::Sums::default()),
        Box::new(suspicion::Suspicion::default()),
        Box::new(exchange::Exchange::default()),
        Box::new(parameters::Parameters::default()),
        Box::new(adders::Adders),
        Box::new(bounds::Bounds::default()),
        Box::new(membership::Membership::default()),
        Box::new(links::Links::default()),
        Box::new(quiet::Quiet),
        Box::new(waiting::WaitingFor::default()),
        Box::new(liveness::Liveness),
    ]
}
