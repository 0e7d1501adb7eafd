//! Each mutant must be caught, and by the invariant that is there for it.

use std::collections::BTreeSet;

use convoy_scheduler::Micros;
use convoy_sim::{Fault, Mutant, Scenario, Shape, play};

/// Seeds that may pass before a mutant is caught.
const SEEDS: u64 = 200;

/// Runs that a mutant spoils.
fn scenario(mutant: Mutant, seed: u64) -> Scenario {
    match mutant {
        Mutant::IgnoreDeaths => Scenario::poisoned(seed),
        Mutant::UnsyncedEviction => Scenario::lost_lies(seed),
        Mutant::NameIsMachine => Scenario { twins: true, ..Scenario::liars(seed, Fault::Lie) },
        Mutant::BoundlessSending => Scenario::dawdles(seed, 3, Micros::seconds(60)),
        Mutant::FirstCopy => Scenario::liars(seed, Fault::Twice),
        Mutant::IgnoreContradiction | Mutant::BlameNewest | Mutant::LendSuspects => Scenario::liars(seed, Fault::Half),
        Mutant::FirstRoot => Scenario::fleeting_liars(seed),
        Mutant::TrustPeers | Mutant::BlameAnother | Mutant::KeepOutvoted => {
            Scenario::sliced_liars(seed, Fault::Misserve)
        }
        Mutant::KeepDisputed | Mutant::ForgetDisagreement => Scenario::sliced_liars(seed, Fault::Lie),
        Mutant::UnsyncedDisagreement => Scenario::lost_accusations(seed),
        Mutant::BlameOwner => Scenario::sliced_liars(seed, Fault::Missend),
        Mutant::WholeDigest => Scenario::sliced_liars(seed, Fault::Misreport),
        Mutant::TrustOwner | Mutant::BlameHolder | Mutant::BelieveOwner => Scenario::sliced_liars(seed, Fault::Misadd),
        Mutant::IgnoreUnanswered | Mutant::BelieveDisputed => Scenario::lying_owners(seed),
        Mutant::IgnoreComplaint | Mutant::PatientSums => Scenario::deaf(seed),
        _ => Scenario::drawn(seed, Shape::default()),
    }
}

/// Plays the mutant until it is caught.
fn check(mutant: Mutant, invariant: &str) {
    let mut found = BTreeSet::new();
    for seed in 0..SEEDS {
        let scenario = Scenario { mutant: Some(mutant), ..scenario(mutant, seed) };
        found.extend(play(&scenario).err().map(|violation| violation.invariant));
        if found.contains(invariant) {
            return;
        }
    }
    panic!("{} is caught by {found:?} within {SEEDS} seeds, and not by {invariant}", mutant.name());
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
        Mutant::ForgetBytes | Mutant::BoundlessSending => "links",
        Mutant::LendTwice => "bounds",
        Mutant::LendAdders => "adders",
        Mutant::ForgetReduced => "liveness",
        Mutant::CommitTwice => "order",
        Mutant::StaleAnswer | Mutant::CountAdders => "waiting",
        Mutant::TrustAll | Mutant::BlameJudge | Mutant::BelieveLiar => "audits",
        Mutant::NameIsMachine | Mutant::FirstCopy | Mutant::ForgetEviction | Mutant::UnsyncedEviction => "audits",
        Mutant::BlameNewest | Mutant::LendSuspects => "suspicion",
        Mutant::IgnoreContradiction | Mutant::FlipBit | Mutant::OldParameters => "parameters",
        Mutant::IgnoreQuiet => "quiet",
        Mutant::IgnoreDeaths => "liveness",
        Mutant::DropRevoke => "order",
        Mutant::RevokeAnother | Mutant::ShortLease | Mutant::IgnoreLimit | Mutant::LongQueue => "bounds",
        Mutant::StaleOpening | Mutant::TwoOwners => "exchange",
        Mutant::ForgetResend | Mutant::EarlyTaken | Mutant::AnyVersion => "exchange",
        Mutant::UnreachedOwner | Mutant::GoneOwner => "exchange",
        Mutant::OldOwner | Mutant::FirstRoot | Mutant::OldState | Mutant::MissingRoot | Mutant::TrustPeers => {
            "parameters"
        }
        Mutant::ForgetOwners | Mutant::IgnoreComplaint | Mutant::PatientSums => "liveness",
        Mutant::TrustOwner | Mutant::BlameHolder | Mutant::IgnoreUnanswered | Mutant::CreditOwner => "sums",
        Mutant::BlameOwner | Mutant::WholeDigest | Mutant::BelieveOwner => "audits",
        Mutant::BlameAnother | Mutant::KeepDisputed | Mutant::ForgetDisagreement => "disagreements",
        Mutant::UnsyncedDisagreement | Mutant::BelieveDisputed | Mutant::KeepOutvoted => "disagreements",
        Mutant::SwapEffects => "determinism",
    }
}

#[test]
fn every_mutant_is_caught_by_its_invariant() {
    Mutant::ALL.iter().for_each(|mutant| check(*mutant, caught_by(*mutant)));
    assert!(Mutant::ALL.len() >= 30);
}
