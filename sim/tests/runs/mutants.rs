//! Each mutant must be caught, and by the invariant that is there for it.

use convoy_sim::{Mutant, Scenario, Shape, play};

/// Seeds that may pass before a mutant is caught.
const SEEDS: u64 = 120;

/// Plays the mutant until it is caught.
fn check(mutant: Mutant, invariant: &str) {
    for seed in 0..SEEDS {
        let scenario = Scenario { mutant: Some(mutant), ..Scenario::drawn(seed, Shape::default()) };
        if let Err(violation) = play(&scenario) {
            return assert_eq!(violation.invariant, invariant, "seed {seed}: {violation}");
        }
    }
    panic!("{} lives through {SEEDS} seeds", mutant.name());
}

/// What catches it. Every mutant is here, or this does not compile.
fn caught_by(mutant: Mutant) -> &'static str {
    match mutant {
        Mutant::CountTwice | Mutant::ForgetEntry | Mutant::CreditAnother => "ledger",
        Mutant::ArrivalOrder => "parameters",
        Mutant::NextSamples => "samples",
        Mutant::SendFirst | Mutant::LoseRecord | Mutant::EarlyWritten | Mutant::SkipReplay => "durability",
        Mutant::SameGeneration | Mutant::NoFence => "fencing",
        Mutant::IgnoreSilence | Mutant::DropDisconnect => "membership",
        Mutant::LendTwice => "bounds",
        Mutant::ForgetReduced => "liveness",
        Mutant::CommitTwice => "order",
        Mutant::StaleAnswer => "waiting",
        Mutant::TrustAll | Mutant::BlameJudge | Mutant::BelieveLiar => "audits",
        Mutant::NameIsMachine => "audits",
        Mutant::SwapEffects => "determinism",
    }
}

#[test]
fn every_mutant_is_caught_by_its_invariant() {
    for mutant in Mutant::ALL {
        check(*mutant, caught_by(*mutant));
    }
}
