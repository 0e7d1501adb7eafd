//! The faults that strike every 50 ms, with the chances of the weather.

use std::collections::BTreeSet;

use convoy_scheduler::{Event, GoneReason, Micros, RunTime, WorkerId};

use super::process::{Process, Stream, Way};
use super::{Happening, World};
use crate::facts::Fact;
use crate::scenario::{Fault, Tail};

impl World<'_> {
    /// Time for faults, or for the end of the storm.
    pub(super) fn faults(&mut self) {
        if !self.storm() {
            return self.calm();
        }
        for fault in Fault::ALL {
            if self.throw(*fault) {
                self.strike(*fault);
            }
        }
        self.at(self.now.after(Micros::millis(50)), Happening::Weather);
    }

    fn strike(&mut self, fault: Fault) {
        let i = self.dice.below(self.processes.len() as u64) as usize;
        let struck = match fault {
            Fault::Kill => self.kill(i, 1_500_000),
            Fault::Cut => self.cut(i),
            Fault::Lie => self.begin_to_lie(i),
            Fault::Drain => self.processes[i].connection.worker.is_some_and(|worker| {
                self.say(i, Event::WorkerDraining { worker });
                true
            }),
            Fault::Exodus => {
                let away = self.dice.below(8_000_000);
                (0..self.processes.len()).filter(|i| self.kill(*i, away)).count() > 0
            }
            Fault::Swizzle => self.swizzle(),
            Fault::Crash | Fault::CrashAtWrite | Fault::Sleep | Fault::Stop => self.strike_coordinator(fault),
            _ => self.trouble(fault, i),
        };
        if struck {
            self.count(fault, Some(i));
        }
    }

    /// Whether a process is in trouble for a while. Other faults strike where leases, messages and checkpoints are.
    fn trouble(&mut self, fault: Fault, i: usize) -> bool {
        match fault {
            Fault::Pause => {
                let span = if self.dice.chance(500) { 1_000_000 } else { 12_000_000 };
                self.processes[i].trouble.paused_until = self.now.after(Micros(self.dice.below(span)));
                true
            }
            Fault::Slow => {
                self.processes[i].trouble.slow_until = self.now.after(Micros(1_000_000 + self.dice.below(10_000_000)));
                true
            }
            Fault::Pulse => {
                let span = Micros(2_000_000 + self.dice.below(15_000_000));
                let already = self.processes[i].trouble.pulses_until > self.now;
                if !already {
                    self.processes[i].trouble.pulses_until = self.now.after(span);
                    self.later(1_900_000, Happening::Pulse(i));
                }
                !already
            }
            Fault::OneWay => {
                let way = self.dice.pick(&[Way::Up, Way::Down]);
                self.clog(i, way, true);
                self.later(8_000_000, Happening::Clog(i, way, false));
                true
            }
            Fault::SlowLink => {
                let span = Micros(1_000_000 + self.dice.below(10_000_000));
                self.processes[i].trouble.slow_link_until = self.now.after(span);
                true
            }
            Fault::Dawdle => {
                let span = Micros(1_000_000 + self.dice.below(10_000_000));
                self.processes[i].trouble.dawdles_until = self.now.after(span);
                self.processes[i].trouble.dawdle = Micros(1_000_000 + self.dice.below(60_000_000));
                true
            }
            Fault::Parted => self.part(i),
            Fault::Trickle => {
                let span = Micros(5_000_000 + self.dice.below(15_000_000));
                self.processes[i].trouble.trickles_until = self.now.after(span);
                self.peers
            }
            Fault::SlowPeer => {
                let span = Micros(1_000_000 + self.dice.below(10_000_000));
                self.processes[i].trouble.slow_peer_until = self.now.after(span);
                self.peers
            }
            Fault::Hang => {
                self.processes[i].trouble.hung = self.processes[i].connection.worker.is_some();
                self.processes[i].trouble.deaf = self.dice.chance(500);
                self.processes[i].trouble.hung
            }
            _ => false,
        }
    }

    /// A process cannot connect to another for a while.
    fn part(&mut self, i: usize) -> bool {
        let others: Vec<usize> = (0..self.processes.len()).filter(|j| *j != i).collect();
        let until = self.now.after(Micros(self.dice.below(8_000_000)));
        let parts = self.peers && !others.is_empty();
        if parts {
            let j = self.dice.pick(&others);
            self.parted.insert((i, j), until);
            if self.dice.chance(500) {
                self.parted.insert((j, i), until);
            }
            self.probe_all();
        }
        parts
    }

    fn strike_coordinator(&mut self, fault: Fault) -> bool {
        match fault {
            Fault::Sleep => {
                let span = Micros(self.dice.below(20_000_000));
                self.coordinator.asleep_until = self.now.after(span);
                self.watch.see(&Fact::Asleep { until: self.now.after(span) });
                self.coordinator.is_up()
            }
            Fault::Crash => {
                self.coordinator.is_up() && {
                    let tail = if self.dice.chance(500) { Tail::Kept } else { Tail::Random };
                    self.crash(tail);
                    true
                }
            }
            Fault::CrashAtWrite => {
                let (next, written) = (1 + self.dice.below(12), self.dice.chance(500));
                self.coordinator.kill_at_write(next, written);
                // It is counted when it happens.
                false
            }
            _ => {
                self.tell(Event::StopRequested, None);
                true
            }
        }
    }

    /// A machine lies from now on. Three honest ones that compute must be left: two that agree, and one more, as one of
    /// them may hang.
    fn begin_to_lie(&mut self, i: usize) -> bool {
        let machine = self.processes[i].machine;
        let (liars, honest): (Vec<&Process>, Vec<&Process>) =
            self.processes.iter().partition(|process| process.honesty.lies);
        let honest: BTreeSet<usize> =
            honest.into_iter().filter(|process| process.computes()).map(|process| process.machine).collect();
        let already = liars.iter().any(|liar| liar.machine == machine);
        // Who disagrees with whom says something only where most machines are honest.
        let others: BTreeSet<usize> = liars.into_iter().map(|liar| liar.machine).collect();
        let most = !self.peers || honest.len() > others.len() + 3;
        let enough = ((honest.len() >= 4 && most) || already) && self.weather.all_heal;
        if i == 0 || !enough || self.watch.books.plan.audit_every == 0 {
            return false;
        }
        let adds_wrongly = !already && self.throw(Fault::Misadd);
        let careful = !already && self.throw(Fault::Careful);
        let computes_rightly = !already && self.peers && self.dice.chance(500);
        for process in self.processes.iter_mut().filter(|process| process.machine == machine) {
            process.honesty.lies = true;
            process.honesty.adds_wrongly |= adds_wrongly;
            process.honesty.careful |= careful;
            process.honesty.computes_rightly |= computes_rightly;
        }
        true
    }

    /// A process dies, comes back, and its connection closes.
    pub(super) fn kill(&mut self, i: usize, away: u64) -> bool {
        let Some(worker) = self.break_connection(i) else { return false };
        self.processes[i].trouble.paused_until = self.now;
        self.processes[i].trouble.away_until = self.now.after(Micros(away));
        let closed = self.closed(worker);
        self.later(100_000, closed);
        true
    }

    /// A connection breaks. The coordinator hears of it at once, late, or never.
    fn cut(&mut self, i: usize) -> bool {
        let Some(worker) = self.break_connection(i) else { return false };
        if self.dice.chance(700) {
            let within = if self.dice.chance(500) { 50_000 } else { 5_000_000 };
            let closed = self.closed(worker);
            self.later(within, closed);
        }
        true
    }

    /// The coordinator hears that a connection closed.
    fn closed(&self, worker: WorkerId) -> Happening {
        Happening::Told(self.coordinator.start, Event::WorkerGone { worker, reason: GoneReason::Closed })
    }

    /// Breaks a connection. Of the messages on their way up, some of the first in each stream still arrive; the others
    /// are lost, though answers may be sent again over the next connection.
    fn break_connection(&mut self, i: usize) -> Option<WorkerId> {
        let worker = self.processes[i].connection.worker?;
        let link = self.processes[i].connection.link;
        for stream in Stream::UP {
            let arrive = self.dice.below(self.processes[i].connection.streams[stream as usize].len() as u64 + 1);
            (0..arrive).for_each(|_| self.deliver(i, link, stream));
        }
        // A message that arrived may have made the coordinator die, and closed the connection.
        if self.processes[i].worker_on(link).is_some() {
            self.disconnect(i);
        }
        Some(worker)
    }

    /// Swizzle-clog: a random part of the connections clogs one by one, and unclogs in another order.
    fn swizzle(&mut self) -> bool {
        let mut some: Vec<usize> = (0..self.processes.len()).filter(|_| self.dice.chance(500)).collect();
        self.dice.shuffle(&mut some);
        let mut at = self.now;
        for clogged in [true, false] {
            for i in &some {
                at = at.after(Micros(1 + self.dice.below(800_000)));
                [Way::Up, Way::Down].into_iter().for_each(|way| self.at(at, Happening::Clog(*i, way, clogged)));
            }
            self.dice.shuffle(&mut some);
        }
        !some.is_empty()
    }

    /// Stops a direction of a connection, or has it carry the messages that have waited.
    pub(super) fn clog(&mut self, i: usize, way: Way, clogged: bool) {
        self.processes[i].connection.clogged[way as usize] = clogged;
        if clogged || self.processes[i].connection.worker.is_none() {
            return;
        }
        let link = self.processes[i].connection.link;
        let all = [Stream::UpControl, Stream::UpPush, Stream::DownControl, Stream::DownBulk];
        for stream in all.into_iter().filter(|stream| stream.way() == way) {
            let waiting = self.processes[i].connection.streams[stream as usize].len() as u64;
            let at = self.now.after(Micros(1 + self.dice.below(10_000)));
            (0..waiting).for_each(|n| self.at(at.after(Micros(n)), Happening::Arrive(i, link, stream)));
        }
    }

    /// The storm is over: nothing is clogged, stopped or slow any more, and the first worker, or all, compute.
    fn calm(&mut self) {
        self.watch.note(|| "** the storm is over".to_owned());
        self.coordinator.asleep_until = self.now.min(self.coordinator.asleep_until);
        self.parted.retain(|_, until| *until == RunTime(u64::MAX));
        self.probe_all();
        for i in 0..self.processes.len() {
            [Way::Up, Way::Down].into_iter().for_each(|way| self.clog(i, way, false));
            let now = self.now;
            let process = &mut self.processes[i];
            process.trouble.paused_until = now.min(process.trouble.paused_until);
            process.trouble.slow_until = now;
            if process.trouble.pulses_until < RunTime(u64::MAX) {
                process.trouble.pulses_until = now;
            }
            process.trouble.slow_link_until = now;
            process.trouble.slow_peer_until = now;
            process.trouble.trickles_until = now;
            if process.trouble.dawdles_until < RunTime(u64::MAX) {
                process.trouble.dawdles_until = now;
            }
            process.trouble.away_until = now.min(process.trouble.away_until);
            if process.trouble.hung
                && (i == 0 || self.weather.all_heal)
                && let Some(worker) = self.break_connection(i)
            {
                self.tell(Event::WorkerGone { worker, reason: GoneReason::Closed }, None);
            }
        }
    }
}
