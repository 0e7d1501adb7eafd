//! Who is there, how fast they are, and whom to trust with a lease.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::{Micros, RunTime, StepId, WorkerId};
use crate::lease::Work;

/// Measurements of a kind of shard that the percentile is taken over.
const RECENT: usize = 64;
/// A speed that is not measured in a step improves by this part, so that a worker that was slow once gets its chance.
const AGING: u64 = 32;
/// One long break of one worker must not make everybody wait: a shard is typically done within so many medians.
const MEDIANS: u64 = 4;
/// Nor must it excuse that worker ever after: nobody may take more than so many times what is typical.
const SLOWEST: u64 = 16;
/// A worker sits out at most `2^10` steps.
const STRIKES: u32 = 10;

/// A worker that is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Member {
    /// Shards it computes at a time.
    pub threads: u32,
    /// When it was heard of last.
    pub heard: RunTime,
    /// The newest parameters it holds.
    pub ready: Option<StepId>,
    /// It wants to go.
    pub draining: bool,
    /// Of each kind of work by itself: who evaluates as others do may still train otherwise.
    audits: BTreeMap<Work, Audits>,
    speeds: BTreeMap<Work, Speed>,
    /// What shards took it that it finished.
    shown: BTreeMap<Work, Micros>,
    strikes: u32,
    sits_out_until: StepId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Speed {
    per_shard: Micros,
    fresh: bool,
}

/// When a member's shards are audited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Audits {
    /// Shards that it was sent to be counted.
    sent: u64,
    /// An audit is due when so many were sent.
    due: u64,
}

impl Member {
    /// What a shard takes it on one thread. An evaluation that was not measured yet goes by training.
    pub fn speed(&self, work: Work) -> Option<Micros> {
        self.speeds.get(&work).or_else(|| self.speeds.get(&Work::Train)).map(|speed| speed.per_shard)
    }

    /// What a shard took it that it finished. Being slow excuses it; that others were faster does not.
    pub fn shown(&self, work: Work) -> Option<Micros> {
        self.shown.get(&work).or_else(|| self.shown.get(&Work::Train)).copied()
    }

    /// It finished a lease. Each measurement counts as much as all before it.
    pub fn measured(&mut self, work: Work, per_shard: Micros) {
        let mixed = |before: Micros| Micros(before.0.midpoint(per_shard.0));
        let speed = self.speeds.get(&work).map_or(per_shard, |speed| mixed(speed.per_shard));
        self.speeds.insert(work, Speed { per_shard: speed, fresh: true });
        let shown = self.shown.get(&work).map_or(per_shard, |shown| mixed(*shown));
        self.shown.insert(work, shown);
    }

    /// It was interrupted at a lease: a shard takes it this long at least.
    pub fn at_least(&mut self, work: Work, per_shard: Micros) {
        if self.speeds.get(&work).is_none_or(|speed| speed.per_shard < per_shard) {
            self.speeds.insert(work, Speed { per_shard, fresh: true });
        }
    }

    /// It was sent so many shards to be counted.
    pub fn sent(&mut self, work: Work, shards: u32) {
        self.audits.entry(work).or_default().sent += u64::from(shards);
    }

    /// Whether its next shard of this kind is to be computed elsewhere as well. The first one is: a machine that computes
    /// otherwise is found out before anything of it is committed.
    pub fn audit_is_due(&self, work: Work) -> bool {
        self.audits.get(&work).is_none_or(|audits| audits.sent >= audits.due)
    }

    /// A node of it is counted and will be audited. The next audit comes `every` shards after this one was due.
    pub fn audit_opened(&mut self, work: Work, every: u32) {
        let audits = self.audits.entry(work).or_default();
        audits.due = (audits.due + u64::from(every)).max(audits.sent);
    }

    /// Its audit came to nothing: the next shard is audited in its place.
    pub fn audit_dropped(&mut self, work: Work) {
        let audits = self.audits.entry(work).or_default();
        audits.due = audits.sent;
    }

    /// A step of this kind begins.
    pub fn age(&mut self, work: Work) {
        if let Some(speed) = self.speeds.get_mut(&work) {
            if !speed.fresh {
                speed.per_shard.0 -= speed.per_shard.0 / AGING;
            }
            speed.fresh = false;
        }
    }

    /// It let a lease of `step` down: as long as there are others, it sits out what is left of the step, and one step
    /// more; the next time two more, then four, …
    pub fn strike(&mut self, step: StepId) {
        self.sits_out_until = StepId(step.0 + 1 + (1 << self.strikes));
        self.strikes = (self.strikes + 1).min(STRIKES);
    }

    /// It computes again.
    pub fn forgive(&mut self) {
        self.strikes = 0;
        self.sits_out_until = StepId(0);
    }

    fn sits_out(&self, step: StepId) -> bool {
        step < self.sits_out_until
    }
}

/// The workers that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Membership {
    members: BTreeMap<WorkerId, Member>,
}

impl Membership {
    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn get(&self, worker: WorkerId) -> Option<&Member> {
        self.members.get(&worker)
    }

    pub fn get_mut(&mut self, worker: WorkerId) -> Option<&mut Member> {
        self.members.get_mut(&worker)
    }

    pub fn iter(&self) -> impl Iterator<Item = (WorkerId, &Member)> {
        self.members.iter().map(|(worker, member)| (*worker, member))
    }

    pub fn join(&mut self, worker: WorkerId, threads: u32, now: RunTime) {
        let member = Member {
            threads: threads.max(1),
            heard: now,
            ready: None,
            draining: false,
            audits: BTreeMap::new(),
            speeds: BTreeMap::new(),
            shown: BTreeMap::new(),
            strikes: 0,
            sits_out_until: StepId(0),
        };
        self.members.insert(worker, member);
    }

    /// Whether it was there.
    pub fn leave(&mut self, worker: WorkerId) -> bool {
        self.members.remove(&worker).is_some()
    }

    /// A step of this kind begins.
    pub fn age(&mut self, work: Work) {
        self.members.values_mut().for_each(|member| member.age(work));
    }

    /// Who may get leases of `step`: those that have held parameters before and do not sit out; if there is none, those
    /// that have held parameters; if there is none, all. Nobody who is leaving.
    pub fn candidates(&self, step: StepId) -> Vec<WorkerId> {
        let tiers: [fn(&Member, StepId) -> bool; 3] = [
            |member, step| member.ready.is_some() && !member.sits_out(step),
            |member, _| member.ready.is_some(),
            |_, _| true,
        ];
        let tier = |fits: fn(&Member, StepId) -> bool| -> Vec<WorkerId> {
            self.iter().filter(|(_, member)| !member.draining && fits(member, step)).map(|(worker, _)| worker).collect()
        };
        tiers.into_iter().map(tier).find(|tier| !tier.is_empty()).unwrap_or_default()
    }

    /// Everybody who is not leaving.
    pub fn staying(&self) -> Vec<WorkerId> {
        self.iter().filter(|(_, member)| !member.draining).map(|(worker, _)| worker).collect()
    }

    /// Those not heard of for `silence`, and for how long.
    pub fn silent(&self, now: RunTime, silence: Micros) -> Vec<(WorkerId, Micros)> {
        self.iter()
            .map(|(worker, member)| (worker, now.since(member.heard)))
            .filter(|(_, since)| *since >= silence)
            .collect()
    }
}

/// What shards took lately, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Timing {
    kinds: BTreeMap<Work, Recent>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Recent {
    measurements: VecDeque<Micros>,
    typical: Micros,
}

impl Timing {
    pub fn measured(&mut self, work: Work, per_shard: Micros) {
        let Recent { measurements, typical } = self.kinds.entry(work).or_default();
        if measurements.len() == RECENT {
            measurements.pop_front();
        }
        measurements.push_back(per_shard);
        let mut sorted: Vec<Micros> = measurements.iter().copied().collect();
        sorted.sort_unstable();
        let percentile = |share: usize| sorted[(sorted.len() * share).div_ceil(100) - 1];
        *typical = percentile(95).min(percentile(50).times(MEDIANS));
    }

    /// What a shard may take `member`: the 95th percentile of what they took lately (but no more than [`MEDIANS`]
    /// medians), or what it takes this worker if that is longer (but no more than [`SLOWEST`] times as long). `None`
    /// before the first measurement. A forward pass takes no longer than forward and backward, so an evaluation that
    /// was not measured yet goes by training.
    pub fn expected(&self, work: Work, member: &Member) -> Option<Micros> {
        let typical = self.kinds.get(&work).or_else(|| self.kinds.get(&Work::Train))?.typical;
        let shown = member.shown(work).unwrap_or(typical);
        Some(shown.min(typical.times(SLOWEST)).max(typical))
    }
}
