//! Who is there, how fast they are, and whom to trust with a lease.

mod delay;
mod speed;

use std::collections::{BTreeMap, VecDeque};

use crate::contact::Contact;
use crate::ids::{Micros, RunTime, StepId, WorkerId};
use crate::lease::Work;
use crate::trust::Trust;
use delay::Delay;
pub(crate) use delay::is_late;
use speed::Speed;

/// The percentile is taken over so many of the newest measurements of a kind of shard.
const RECENT: usize = 64;
/// A shard is typically done within so many medians: one long break of one worker must not make everybody wait.
const MEDIANS: u64 = 4;
/// No worker may take more than so many times the typical time: one long break must not excuse it ever after.
const SLOWEST: u64 = 16;
/// A worker that took up to so many medians and this time to send a node sends like all others: they share a link, and
/// share it unevenly.
const UNEVEN: u64 = 2;
const UNEVEN_LEAST: Micros = Micros::millis(50);
/// The time that a worker took to send, or to compute while others were first, is forgotten so many times more slowly
/// than it passes. So however long it takes, waiting for it again costs at most one part in so many.
const REMEMBERED: u64 = 16;
/// A worker sits out so many times as many steps with each strike more, and at most `PENANCE^STRIKES`.
const PENANCE: u64 = 4;
const STRIKES: u32 = 4;
/// A strike is forgotten after so many steps with an answer, and a loss after so many steps.
const FORGET: u32 = 64;

/// Whether a node took much longer to be sent than others; without others, it did not.
pub(crate) fn is_uneven(per_node: Micros, others: Option<Micros>) -> bool {
    let shared = |others: Micros| others.times(UNEVEN).max(Micros(others.0.saturating_add(UNEVEN_LEAST.0)));
    others.is_some_and(|others| per_node > shared(others))
}

/// A worker that is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Member {
    /// Shards it computes at a time; 0 where it computes nothing and only owns chunks.
    pub threads: u32,
    /// When it was last in contact.
    pub contact: Contact,
    /// Nothing was heard of it for a while.
    quiet: bool,
    /// The newest parameters it holds.
    pub ready: Option<StepId>,
    /// It wants to leave.
    pub draining: bool,
    /// Each kind of work is audited by itself: a worker whose evaluations are right may still compute wrong gradients.
    audits: BTreeMap<Work, AuditCount>,
    speeds: BTreeMap<Work, Speed>,
    /// Time that a shard took it, over the leases that it finished.
    shown: BTreeMap<Work, Micros>,
    /// The longest that it took to send nodes, as far as that is not forgotten.
    sent_nodes: BTreeMap<Work, (Sent, RunTime)>,
    /// The longest that leases waited for it although it had no others, as far as that is not forgotten.
    delays: BTreeMap<Work, Delay>,
    standing: Standing,
    pub place: Place,
}

/// Where a member is, seen from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// It says that it reaches all workers that own chunks.
    pub reaches_owners: bool,
    /// It is on the coordinator's machine.
    pub beside: bool,
}

/// What a member did that others had to wait for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Standing {
    /// It was late, failed, or was not believed.
    computing: Strikes,
    /// It owned chunks, and another could not send it a node, or its sums did not come.
    owning: Strikes,
    /// It could not send a node to an owner.
    sending: Strikes,
}

/// Nodes that a member sent one beside the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sent {
    /// Time that a node took, on average.
    pub per_node: Micros,
    /// How many there were.
    pub nodes: u64,
}

/// How often others had to wait for a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Strikes {
    /// Strikes that are not forgotten.
    count: u32,
    /// The step of the last one; there is one in each step at most.
    last: Option<StepId>,
    sits_out_until: Option<StepId>,
    /// Steps with an answer since the last strike, or since one was forgotten.
    clean: u32,
    /// The step of the last answer.
    answered: Option<StepId>,
    /// The step in which it was lost last, with a lease in work.
    lost: Option<StepId>,
    /// Nothing came of it since others were first with slow work of it.
    outrun: bool,
}

impl Strikes {
    fn add(&mut self, step: StepId) {
        if self.last.replace(step) != Some(step) {
            self.sits_out_until = Some(StepId(step.0 + 1 + PENANCE.pow(self.count)));
            self.count = (self.count + 1).min(STRIKES);
            self.clean = 0;
        }
    }

    /// Notes an answer to a lease of `step`.
    fn answered(&mut self, step: StepId) {
        if self.answered.replace(step) != Some(step) {
            self.clean += 1;
        }
        if self.clean >= FORGET {
            self.clean = 0;
            self.count = self.count.saturating_sub(1);
        }
    }

    fn sits_out(&self, step: StepId) -> bool {
        self.sits_out_until.is_some_and(|until| step < until)
    }
}

/// When a member's next shard is audited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct AuditCount {
    /// Shards that it was sent and that will be counted.
    sent: u64,
    /// The next audit is due when so many were sent.
    due: u64,
}

impl Member {
    /// Whether it computes: otherwise it only owns chunks.
    pub fn computes(&self) -> bool {
        self.threads > 0
    }

    /// Estimated time that a shard takes it on one thread; `None` before it was measured twice or interrupted. An
    /// evaluation that was not measured yet goes by training.
    pub fn speed(&self, work: Work) -> Option<Micros> {
        let speed = |work| self.speeds.get(&work)?.per_shard();
        speed(work).or_else(|| speed(Work::Train))
    }

    /// The least time that a shard took it in its newest leases, or `per_shard` if that is less.
    pub fn at_best(&self, work: Work, per_shard: Micros) -> Micros {
        let least = self.speeds.get(&work).and_then(Speed::at_best);
        least.map_or(per_shard, |least| least.min(per_shard))
    }

    /// Time that a shard took it on one thread, over the leases that it finished; `None` before the first. Unlike
    /// [`Member::speed`] this does not change when another worker is first.
    pub fn shown(&self, work: Work) -> Option<Micros> {
        self.shown.get(&work).or_else(|| self.shown.get(&Work::Train)).copied()
    }

    /// Notes that it finished a lease of so many rounds. In what it has shown, a new measurement counts as much as all
    /// earlier ones together. The first is no speed: nothing is in a cache, and memory is touched for the first time.
    pub fn measured(&mut self, work: Work, per_shard: Micros, rounds: u64) {
        if self.shown.contains_key(&work) {
            self.speeds.entry(work).or_default().note(per_shard, rounds, false);
        }
        let shown = self.shown.get(&work).map_or(per_shard, |shown| Micros(shown.0.midpoint(per_shard.0)));
        self.shown.insert(work, shown);
    }

    /// Notes that it was interrupted at a lease of so many rounds: a shard takes it this long at least.
    pub fn at_least(&mut self, work: Work, per_shard: Micros, rounds: u64) {
        let speed = self.speeds.entry(work).or_default();
        if speed.per_shard() < Some(per_shard) {
            speed.note(per_shard, rounds, true);
        }
    }

    /// Notes that it sent nodes, or has tried to for so long.
    pub fn sent_nodes(&mut self, work: Work, sent: Sent, now: RunTime) {
        if self.node_cost(work, now) <= sent.per_node {
            self.sent_nodes.insert(work, (sent, now));
        }
    }

    /// Time that it may need to send a node: the longest it took, as far as that is not forgotten.
    fn node_cost(&self, work: Work, now: RunTime) -> Micros {
        let known = |(sent, at): &(Sent, RunTime)| {
            let forgotten = now.since(*at).0 / REMEMBERED / sent.nodes;
            Micros(sent.per_node.0.saturating_sub(forgotten))
        };
        self.sent_nodes.get(&work).map_or(Micros(0), known)
    }

    /// Notes that a lease waited for it longer than others did for others, or until others did it.
    pub fn delayed(&mut self, work: Work, waited: Micros, now: RunTime) {
        self.delays.entry(work).or_default().note(waited, now);
    }

    /// Time that the next lease may wait for it: the longest that one did, as far as that is not forgotten.
    fn delay(&self, work: Work, now: RunTime) -> Micros {
        self.delays.get(&work).map_or(Micros(0), |delay| delay.left(now))
    }

    /// Notes that others were first with slow work of it: as long as there are others, it gets nothing more until
    /// something comes of it.
    pub fn outrun(&mut self) {
        self.standing.computing.outrun = true;
    }

    /// Notes contact with it.
    pub fn heard(&mut self, contact: Contact) {
        self.quiet &= contact.heard <= self.contact.heard;
        self.standing.computing.outrun &= contact.came <= self.contact.came;
        self.contact = self.contact.or_later(contact);
    }

    /// When to look for it next: it is quiet after one time, and lost after the other.
    pub fn look_at(&self, quiet: Micros, silence: Micros) -> RunTime {
        self.contact.heard.after(if self.quiet { silence } else { quiet.min(silence) })
    }

    /// Notes that it was sent so many shards that will be counted.
    pub fn sent(&mut self, work: Work, shards: u32) {
        self.audits.entry(work).or_default().sent += u64::from(shards);
    }

    /// Whether its next shard of this kind is to be computed elsewhere as well. The first one always is: a machine that
    /// computes wrongly is then found out before anything of it is committed.
    pub fn audit_is_due(&self, work: Work) -> bool {
        self.audits.get(&work).is_none_or(|audits| audits.sent >= audits.due)
    }

    /// Notes that a node of it is counted and will be audited. The next audit is due `every` shards after this one was.
    pub fn audit_opened(&mut self, work: Work, every: u32) {
        let audits = self.audits.entry(work).or_default();
        audits.due = (audits.due + u64::from(every)).max(audits.sent);
    }

    /// Notes that its audit was given up: the next shard is audited instead.
    pub fn audit_dropped(&mut self, work: Work) {
        let audits = self.audits.entry(work).or_default();
        audits.due = audits.sent;
    }

    /// Notes that a step of this kind begins, `passed` after the one before. It is not thought to be faster than
    /// `median` for not being measured.
    fn age(&mut self, work: Work, passed: Micros, median: Micros) {
        if let Some(speed) = self.speeds.get_mut(&work) {
            speed.age(Micros(passed.0 / REMEMBERED), median);
        }
    }

    /// Notes that it was late with a lease of `step`, failed at it, lost to a copy of it, or was not believed. As long
    /// as there are others, it sits out what is left of the step and one step more; the next time [`PENANCE`] times as
    /// many, and so on.
    pub fn strike(&mut self, step: StepId) {
        self.standing.computing.add(step);
    }

    /// Notes that it is lost with a lease of `step` in work. Any machine may crash; one that was lost only [`FORGET`]
    /// steps ago has a strike: others wait for its leases again and again.
    pub fn lost(&mut self, step: StepId) {
        let before = self.standing.computing.lost.replace(step);
        if before.is_some_and(|before| step.0.saturating_sub(before.0) < u64::from(FORGET)) {
            self.strike(step);
        }
    }

    /// Notes that it answered a lease of `step`, or where it computes nothing, that all its sums came. One answer
    /// forgives nothing: a worker that sleeps most of the time answers in between.
    pub fn answered(&mut self, step: StepId) {
        let Standing { computing, owning, sending } = &mut self.standing;
        [computing, owning, sending].into_iter().for_each(|strikes| strikes.answered(step));
    }

    fn is_fit(&self, step: StepId) -> bool {
        self.ready.is_some() && self.is_in_good_standing(step)
    }

    fn is_in_good_standing(&self, step: StepId) -> bool {
        !self.quiet && !self.standing.computing.outrun && !self.standing.computing.sits_out(step)
    }

    /// Notes that it owned chunks of `step` and others had to wait for it: it owns nothing for as long as one sits out
    /// that was late.
    pub fn strike_owner(&mut self, step: StepId) {
        self.standing.owning.add(step);
    }

    /// Whether it may own chunks of `step`, if all reach it.
    pub fn can_own(&self, step: StepId) -> bool {
        (self.ready.is_some() || !self.computes()) && !self.draining && !self.standing.owning.sits_out(step)
    }

    /// Notes that it could not send a node to an owner. The answer is whether that happened before, not long ago: then
    /// it may be the one to blame, and sits out.
    pub fn strike_sender(&mut self, step: StepId) -> bool {
        let again = self.standing.sending.sits_out(step);
        if again {
            self.strike(step);
        }
        self.standing.sending.add(step);
        again
    }
}

/// The workers that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Membership {
    members: BTreeMap<WorkerId, Member>,
    /// By machine, the standing of a worker that is gone: it has it still when it comes back.
    gone: BTreeMap<String, Standing>,
}

impl Membership {
    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// The member of this number.
    pub fn get(&self, worker: WorkerId) -> Option<&Member> {
        self.members.get(&worker)
    }

    /// The member of this number, to be changed.
    pub fn get_mut(&mut self, worker: WorkerId) -> Option<&mut Member> {
        self.members.get_mut(&worker)
    }

    /// All members, by number.
    pub fn iter(&self) -> impl Iterator<Item = (WorkerId, &Member)> {
        self.members.iter().map(|(worker, member)| (*worker, member))
    }

    /// Adds a member that has computed nothing yet; without threads it never will.
    pub fn join(&mut self, worker: WorkerId, machine: &str, threads: u32, now: RunTime) {
        let member = Member {
            threads,
            contact: Contact::of_message(now),
            quiet: false,
            ready: None,
            draining: false,
            audits: BTreeMap::new(),
            speeds: BTreeMap::new(),
            shown: BTreeMap::new(),
            sent_nodes: BTreeMap::new(),
            delays: BTreeMap::new(),
            standing: self.gone.remove(machine).unwrap_or_default(),
            place: Place { reaches_owners: true, beside: false },
        };
        self.members.insert(worker, member);
    }

    /// Strikes a machine under all numbers that it has here, or in its absence.
    pub fn strike(&mut self, trust: &Trust, machine: &str, step: StepId) {
        let here = self.members.iter_mut().filter(|(worker, _)| trust.machine(**worker) == machine);
        let mut strikes: Vec<&mut Strikes> = here.map(|(_, member)| &mut member.standing.computing).collect();
        if strikes.is_empty() {
            strikes.push(&mut self.gone.entry(machine.to_owned()).or_default().computing);
        }
        strikes.into_iter().for_each(|strikes| strikes.add(step));
    }

    /// Removes a member, if it is there; its machine keeps its standing.
    pub fn remove(&mut self, worker: WorkerId, machine: &str) -> Option<Member> {
        let member = self.members.remove(&worker)?;
        if member.standing != Standing::default() {
            self.gone.insert(machine.to_owned(), member.standing.clone());
        }
        Some(member)
    }

    /// Notes that a step of this kind begins, `passed` after the one before. `median` is what shards take.
    pub fn age(&mut self, work: Work, passed: Micros, median: Micros) {
        self.members.values_mut().for_each(|member| member.age(work, passed, median));
    }

    /// Notes who is quiet: nothing was heard of it for so long.
    pub fn note_quiet(&mut self, now: RunTime, quiet: Micros) {
        self.members.values_mut().for_each(|member| member.quiet = now.since(member.contact.heard) >= quiet);
    }

    /// Notes who says that it reaches all workers that own chunks.
    pub fn note_reach(&mut self, reaches_owners: impl Fn(WorkerId) -> bool) {
        self.members.iter_mut().for_each(|(worker, member)| member.place.reaches_owners = reaches_owners(*worker));
    }

    /// Who may get leases of this work of `step`, of those that compute and do not want to leave: members that have
    /// held parameters before, are not quiet, do not sit out and reach the owners of chunks, which matters in training;
    /// if there is none, those that sit out or do not reach them as well, then those that others were first for, then
    /// those that are quiet, then all.
    pub fn candidates(&self, step: StepId, work: Work) -> Vec<WorkerId> {
        let tiers: [fn(&Member, StepId, Work) -> bool; 5] = [
            |member, step, work| (work == Work::Evaluate || member.place.reaches_owners) && member.is_fit(step),
            |member, _, _| member.ready.is_some() && !member.quiet && !member.standing.computing.outrun,
            |member, _, _| member.ready.is_some() && !member.quiet,
            |member, _, _| member.ready.is_some(),
            |_, _, _| true,
        ];
        let tier = |fits: fn(&Member, StepId, Work) -> bool| -> Vec<WorkerId> {
            self.iter()
                .filter(|(_, member)| member.computes() && !member.draining && fits(member, step, work))
                .map(|(worker, _)| worker)
                .collect()
        };
        tiers.into_iter().map(tier).find(|tier| !tier.is_empty()).unwrap_or_default()
    }

    /// Members that would be the first to get leases of `step`, whomever they reach.
    pub fn fit(&self, step: StepId) -> Vec<WorkerId> {
        let fit = self.iter().filter(|(_, member)| member.computes() && !member.draining && member.is_fit(step));
        fit.map(|(worker, _)| worker).collect()
    }

    /// Members that compute nothing and could own chunks of `step`: they need no parameters for that.
    pub fn adders(&self, step: StepId) -> Vec<WorkerId> {
        let fit = |member: &Member| !member.computes() && !member.draining && member.is_in_good_standing(step);
        self.iter().filter(|(_, member)| fit(member)).map(|(worker, _)| worker).collect()
    }

    /// All members that compute and do not want to leave.
    pub fn staying(&self) -> Vec<WorkerId> {
        self.iter().filter(|(_, member)| member.computes() && !member.draining).map(|(worker, _)| worker).collect()
    }

    /// Members not heard of for at least `silence`, and for how long.
    pub fn silent(&self, now: RunTime, silence: Micros) -> Vec<(WorkerId, Micros)> {
        self.iter()
            .map(|(worker, member)| (worker, now.since(member.contact.heard)))
            .filter(|(_, since)| *since >= silence)
            .collect()
    }
}

/// Times that shards took on one thread lately, nodes to be sent, and leases before they were begun, over all members,
/// by kind of work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Timing {
    computing: BTreeMap<Work, Recent>,
    sending: BTreeMap<Work, Recent>,
    waiting: BTreeMap<Work, Recent>,
    /// When a step was opened last.
    opened: RunTime,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Recent {
    measurements: VecDeque<Micros>,
    typical: Micros,
    median: Micros,
}

impl Recent {
    /// Notes a time, and computes the typical time and the median anew.
    fn measured(&mut self, time: Micros) {
        if self.measurements.len() == RECENT {
            self.measurements.pop_front();
        }
        self.measurements.push_back(time);
        let mut sorted: Vec<Micros> = self.measurements.iter().copied().collect();
        sorted.sort_unstable();
        let percentile = |share: usize| sorted[(sorted.len() * share).div_ceil(100) - 1];
        self.median = percentile(50);
        self.typical = percentile(95).min(self.median.times(MEDIANS));
    }
}

impl Timing {
    /// Notes that a step is opened. The answer is how long after the one before.
    pub fn opened(&mut self, now: RunTime) -> Micros {
        now.since(std::mem::replace(&mut self.opened, now))
    }

    /// Notes the time that a shard took.
    pub fn measured(&mut self, work: Work, per_shard: Micros) {
        self.computing.entry(work).or_default().measured(per_shard);
    }

    /// Notes the time that a node took to be sent.
    pub fn sent(&mut self, work: Work, per_node: Micros) {
        self.sending.entry(work).or_default().measured(per_node);
    }

    /// Notes the time that a lease waited for its worker.
    pub fn waited(&mut self, work: Work, delay: Micros) {
        self.waiting.entry(work).or_default().measured(delay);
    }

    /// How long leases usually wait for their workers; `None` before the first measurement, or where `member` finished
    /// no lease yet.
    pub fn usual_wait(&self, work: Work, member: &Member) -> Option<Micros> {
        member.shown(work)?;
        self.waiting.get(&work).map(|recent| recent.median)
    }

    /// How much longer than for others leases wait for `member`; zero where that is not much.
    pub fn delay(&self, work: Work, member: &Member, now: RunTime) -> Micros {
        let (own, others) =
            (member.delay(work, now), self.waiting.get(&work).map_or(Micros(0), |recent| recent.median));
        if is_late(own, Some(others)) { Micros(own.0 - others.0) } else { Micros(0) }
    }

    /// Time that a shard takes on one thread, as the median of all members; zero before the first measurement.
    pub fn computing(&self, work: Work) -> Micros {
        self.computing.get(&work).map_or(Micros(0), |recent| recent.median)
    }

    /// Time that a node takes to be sent, as the median of all members; `None` before the first measurement.
    pub fn sending(&self, work: Work) -> Option<Micros> {
        self.sending.get(&work).map(|recent| recent.median)
    }

    /// Time that a node costs `member` to send: the median, or what it took itself lately if that is much longer.
    pub fn node_cost(&self, work: Work, member: &Member, now: RunTime) -> Micros {
        let (median, own) = (self.sending(work).unwrap_or(Micros(0)), member.node_cost(work, now));
        if is_uneven(own, Some(median)) { own } else { median }
    }

    /// Time that a shard may take `member` on one thread: the typical time, which is the 95th percentile of what shards
    /// took lately (but at most [`MEDIANS`] medians); or the time it has shown, if that is longer (but at most
    /// [`SLOWEST`] times the typical time). `None` before the first measurement. An evaluation that was not measured
    /// yet goes by training: a forward pass takes no longer than forward and backward.
    pub fn expected(&self, work: Work, member: &Member) -> Option<Micros> {
        let typical = self.computing.get(&work).or_else(|| self.computing.get(&Work::Train))?.typical;
        let shown = member.shown(work).unwrap_or(typical);
        Some(shown.min(typical.times(SLOWEST)).max(typical))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAIN: Work = Work::Train;

    fn member() -> Member {
        let mut members = Membership::default();
        members.join(WorkerId(1), "ox", 1, RunTime(0));
        members.get(WorkerId(1)).expect("it joined").clone()
    }

    fn times(micros: &[u64]) -> Timing {
        let mut timing = Timing::default();
        micros.iter().for_each(|micros| timing.measured(TRAIN, Micros(*micros)));
        timing
    }

    #[test]
    fn who_computes_nothing_is_lent_nothing_and_may_own_chunks_without_parameters() {
        let mut members = Membership::default();
        members.join(WorkerId(1), "ox", 0, RunTime(0));
        assert!(members.candidates(StepId(0), TRAIN).is_empty() && members.staying().is_empty());
        let mut adder = |change: fn(&mut Member)| {
            let member = members.get_mut(WorkerId(1)).expect("it joined");
            change(member);
            let can_own = member.can_own(StepId(3));
            (members.adders(StepId(3)).len(), can_own)
        };
        assert_eq!(adder(|_| {}), (1, true));
        assert_eq!(adder(|member| member.strike_owner(StepId(2))), (1, false));
        assert_eq!(adder(|member| member.strike(StepId(2))), (0, false));
        members.get_mut(WorkerId(1)).expect("it joined").ready = Some(StepId(3));
        assert!(members.fit(StepId(9)).is_empty(), "parameters do not make it compute");
        members.join(WorkerId(2), "yak", 2, RunTime(0));
        assert_eq!((members.candidates(StepId(9), TRAIN), members.adders(StepId(9)).len()), (vec![WorkerId(2)], 1));
    }

    #[test]
    fn a_speed_is_the_mean_of_some_leases_without_the_first() {
        let mut member = member();
        let mut measured = |micros: &[u64]| {
            micros.iter().for_each(|micros| member.measured(TRAIN, Micros(*micros), 1));
            (member.speed(TRAIN).map(|speed| speed.0), member.shown(TRAIN).map(|shown| shown.0))
        };
        assert_eq!(measured(&[900]), (None, Some(900)), "the first says little");
        assert_eq!(measured(&[100]), (Some(100), Some(500)));
        assert_eq!(measured(&[300, 200, 800, 400]).0, Some(360));
        assert_eq!(measured(&[300]).0, Some(400), "of the last five");
        assert_eq!(member.speed(Work::Evaluate), Some(Micros(400)), "an evaluation goes by training");
        member.at_least(TRAIN, Micros(399), 1);
        assert_eq!(member.speed(TRAIN), Some(Micros(400)), "it is known to be slower");
        member.at_least(TRAIN, Micros(5000), 1);
        assert_eq!(member.speed(TRAIN), Some(Micros(5000)));
        member.measured(TRAIN, Micros(500), 1);
        assert_eq!(member.speed(TRAIN), Some(Micros(1400)), "of 800, 400, 300, 5000 and 500");
    }

    #[test]
    fn who_is_not_measured_is_thought_faster_with_time_up_to_the_median() {
        let mut member = member();
        let age = |member: &mut Member| {
            member.age(TRAIN, Micros(3200), Micros(700));
            member.speed(TRAIN).map(|speed| speed.0)
        };
        member.at_least(TRAIN, Micros(1000), 2);
        let speeds: Vec<_> = (0..6).map(|_| age(&mut member).unwrap_or(0)).collect();
        assert_eq!(speeds, [1000, 900, 800, 700, 700, 700], "it was measured in the first step");
    }

    #[test]
    fn what_is_expected_has_bounds_on_both_sides() {
        let mut member = member();
        assert_eq!(times(&[]).expected(TRAIN, &member), None);
        // The 95th percentile is 1000, four medians are 400.
        let timing = times(&[100, 100, 100, 1000]);
        assert_eq!(timing.expected(TRAIN, &member), Some(Micros(400)));
        member.measured(TRAIN, Micros(50), 1);
        assert_eq!(timing.expected(TRAIN, &member), Some(Micros(400)), "nobody has less than what is typical");
        member.measured(TRAIN, Micros(1_000_000), 1);
        assert_eq!(timing.expected(TRAIN, &member), Some(Micros(16 * 400)));
    }

    #[test]
    fn what_sending_took_is_forgotten_a_sixteenth_as_fast_as_it_went_by() {
        let (mut member, mut timing) = (member(), Timing::default());
        let cost = |timing: &Timing, member: &Member, at| timing.node_cost(TRAIN, member, RunTime(at)).0;
        assert_eq!(cost(&timing, &member, 0), 0, "nothing was measured");
        [90_000, 100_000, 110_000].into_iter().for_each(|micros| timing.sent(TRAIN, Micros(micros)));
        assert_eq!(cost(&timing, &member, 0), 100_000, "the median is for all");
        member.sent_nodes(TRAIN, Sent { per_node: Micros(200_000), nodes: 1 }, RunTime(0));
        assert_eq!(cost(&timing, &member, 0), 100_000, "twice as much is uneven sharing of a link");
        member.sent_nodes(TRAIN, Sent { per_node: Micros(1_000_000), nodes: 2 }, RunTime(0));
        assert_eq!(cost(&timing, &member, 3_200_000), 900_000, "both nodes went by");
        member.sent_nodes(TRAIN, Sent { per_node: Micros(800_000), nodes: 1 }, RunTime(3_200_000));
        assert_eq!(cost(&timing, &member, 3_200_000), 900_000, "a shorter time forgives nothing");
        assert_eq!(cost(&timing, &member, 32_000_000), 100_000);
    }

    #[test]
    fn the_first_shard_is_audited_and_then_one_in_so_many() {
        let mut member = member();
        assert!(member.audit_is_due(TRAIN));
        member.sent(TRAIN, 1);
        member.audit_opened(TRAIN, 3);
        let mut due = Vec::new();
        for _ in 0..4 {
            due.push(member.audit_is_due(TRAIN));
            member.sent(TRAIN, 1);
        }
        assert_eq!(due, [false, false, true, true]);
        assert!(member.audit_is_due(Work::Evaluate), "kinds are counted apart");
        member.audit_opened(TRAIN, 100);
        member.audit_dropped(TRAIN);
        assert!(member.audit_is_due(TRAIN));
    }

    #[test]
    fn who_sits_out_computes_only_where_there_is_nobody_else() {
        let mut members = Membership::default();
        (1..=3).for_each(|worker| members.join(WorkerId(worker), &worker.to_string(), 1, RunTime(0)));
        let ids = |members: &Membership, step| -> Vec<u32> {
            members.candidates(StepId(step), TRAIN).into_iter().map(|worker| worker.0).collect()
        };
        assert_eq!(ids(&members, 0), [1, 2, 3], "nobody has held parameters");
        for worker in [1, 2] {
            members.get_mut(WorkerId(worker)).expect("it joined").ready = Some(StepId(0));
        }
        assert_eq!(ids(&members, 0), [1, 2]);
        members.get_mut(WorkerId(1)).expect("it joined").strike(StepId(0));
        assert_eq!((ids(&members, 1), ids(&members, 2)), (vec![2], vec![1, 2]));
        (0..2).for_each(|_| members.get_mut(WorkerId(1)).expect("it joined").strike(StepId(2)));
        assert_eq!((ids(&members, 6), ids(&members, 7)), (vec![2], vec![1, 2]), "four steps the second time");
        members.get_mut(WorkerId(2)).expect("it joined").draining = true;
        assert_eq!((ids(&members, 4), members.staying()), (vec![1], vec![WorkerId(1), WorkerId(3)]));
    }

    #[test]
    fn strikes_are_forgotten_one_by_one_and_not_by_leaving() {
        let mut members = Membership::default();
        members.join(WorkerId(1), "ox", 1, RunTime(0));
        let sits_out = |members: &mut Membership, worker, step| {
            let member = members.get_mut(WorkerId(worker)).expect("it joined");
            member.strike(StepId(step));
            member.standing.computing.sits_out_until.map_or(0, |until| until.0 - step - 1)
        };
        let steps: Vec<u64> = (0..6).map(|step| sits_out(&mut members, 1, step)).collect();
        assert_eq!(steps, [1, 4, 16, 64, 256, 256]);
        members.remove(WorkerId(1), "ox");
        members.join(WorkerId(2), "ox", 1, RunTime(0));
        let member = members.get_mut(WorkerId(2)).expect("it joined");
        (10..10 + u64::from(FORGET)).for_each(|step| (0..3).for_each(|_| member.answered(StepId(step))));
        assert_eq!(sits_out(&mut members, 2, 500), 64, "of four strikes one is forgotten");
    }
}
