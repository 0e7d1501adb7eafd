//! Connections: they come and go, and carry messages in streams.

use convoy_scheduler::*;

use super::process::{Link, Message, Process, Stream, Way};
use super::{Happening, World};
use crate::scenario::Fault;

/// While a message is on its way on a stream that carries many bytes, some of them come this often.
const FLOW: Micros = Micros::millis(300);

impl World<'_> {
    /// Connects a process to the coordinator; tries again later if that is dead.
    pub(super) fn connect(&mut self, i: usize) {
        if self.processes[i].connection.worker.is_some() || self.processes[i].honesty.stays_away {
            return;
        }
        if !self.coordinator.is_up() {
            return self.later(1_000_000, Happening::Connect(i));
        }
        if self.throw(Fault::Refused) {
            self.count(Fault::Refused, Some(i));
            return self.later(1_500_000, Happening::Connect(i));
        }
        let (worker, link) = (self.coordinator.next_worker(), Link(self.links));
        self.links += 1;
        self.processes[i].connected(worker, link);
        self.tell_of_owners(i);
        let Process { threads, machine, .. } = self.processes[i];
        let beside = self.shared && machine == 0;
        // It calls itself something else each time.
        let (machine, name) = (format!("machine {machine}"), format!("process {i} on {}", link.0));
        self.tell(Event::WorkerJoined { worker, machine, name, threads }, None);
        if beside {
            self.tell(Event::WorkerBeside { worker }, None);
        }
        self.later(500_000, Happening::Beat(i, link));
        self.send_parameters(i);
        self.probe_all();
    }

    /// Closes a connection. The process tries again; an answer that did not get through may come again.
    pub(super) fn disconnect(&mut self, i: usize) {
        self.processes[i].connection.worker = None;
        self.probe_all();
        for message in std::mem::take(&mut self.processes[i].connection.streams[Stream::UpPush as usize]) {
            if let Message::Answer(answer) = message
                && self.throw(Fault::Repeat)
            {
                self.count(Fault::Repeat, Some(i));
                self.later(5_000_000, Happening::Again(i, answer));
            }
        }
        self.later(1_500_000, Happening::Connect(i));
    }

    /// Sends the committed parameters to a process, if it is connected and computes.
    pub(super) fn send_parameters(&mut self, i: usize) {
        if let Some(worker) = self.processes[i].connection.worker.filter(|_| self.processes[i].computes()) {
            let committed = &self.coordinator.committed;
            let message = Message::Parameters(committed.step, committed.model.values.clone());
            self.send(worker, Stream::DownBulk, message);
        }
    }

    /// Sends an event from a process to the coordinator, if it is connected.
    pub(super) fn say(&mut self, i: usize, event: Event) {
        if let Some(worker) = self.processes[i].connection.worker {
            self.send(worker, Stream::UpControl, Message::Say(event));
        }
    }

    /// Puts a message on a stream of a connection, if it is open.
    pub(super) fn send(&mut self, worker: WorkerId, stream: Stream, message: Message) {
        let Some(i) = self.processes.iter().position(|process| process.connection.worker == Some(worker)) else {
            return;
        };
        let usual = if stream == Stream::DownBulk { 30_000 } else { 5_000 };
        let mut wait = Micros(1 + self.dice.below(usual));
        if self.throw(Fault::Delay) {
            self.count(Fault::Delay, Some(i));
            wait = wait.times(100);
        }
        let bulk = matches!(stream, Stream::UpPush | Stream::DownBulk);
        if bulk && self.processes[i].trouble.slow_link_until > self.now {
            wait = Micros(1_000_000 + self.dice.below(20_000_000));
        }
        let trouble = &self.processes[i].trouble;
        if stream == Stream::UpPush && trouble.dawdles_until > self.now {
            wait = trouble.dawdle;
        }
        let connection = &mut self.processes[i].connection;
        let link = connection.link;
        connection.streams[stream as usize].push_back(message);
        let at = self.now.after(wait).max(connection.arrivals[stream as usize].after(Micros(1)));
        connection.arrivals[stream as usize] = at;
        if bulk && connection.streams[stream as usize].len() == 1 {
            self.at(self.now.after(FLOW), Happening::Flow(i, link, stream));
        }
        self.at(at, Happening::Arrive(i, link, stream));
    }

    /// Some bytes of a stream that carries many have come, and more are on their way as long as a message is.
    pub(super) fn flow(&mut self, i: usize, link: Link, stream: Stream) {
        let process = &self.processes[i];
        let Some(worker) = process.worker_on(link) else { return };
        if process.connection.streams[stream as usize].is_empty() {
            return;
        }
        if !process.connection.clogged[stream.way() as usize] {
            let contact = match stream {
                Stream::UpPush => Contact { pushed: self.now, ..Contact::of_message(self.now) },
                _ => Contact { heard: self.now, fetched: self.now, ..Contact::default() },
            };
            self.coordinator.heard(worker, contact, &mut self.watch);
        }
        self.at(self.now.after(FLOW), Happening::Flow(i, link, stream));
    }

    /// Hands over the first message of a stream.
    pub(super) fn deliver(&mut self, i: usize, link: Link, stream: Stream) {
        let process = &mut self.processes[i];
        let Some(worker) = process.worker_on(link) else { return };
        let Some(message) = process.connection.streams[stream as usize].pop_front() else { return };
        match stream.way() {
            Way::Up => self.arrive_at_coordinator(i, worker, message),
            Way::Down => self.arrive_at_process(i, worker, message),
        }
    }

    fn arrive_at_coordinator(&mut self, i: usize, worker: WorkerId, message: Message) {
        let heard = Contact::of_message(self.now);
        match message {
            Message::Say(event) => self.tell(event, None),
            Message::Beat => self.coordinator.heard(worker, heard, &mut self.watch),
            Message::Taken => {
                let contact = Contact { pushed: self.now, ..heard };
                self.coordinator.heard(worker, contact, &mut self.watch);
            }
            Message::Answer(answer) => self.answered(worker, &answer),
            Message::Contradicted(opening, event) => {
                if opening == self.coordinator.reduction.opening {
                    self.tell(event, None);
                }
            }
            Message::Root(fence, sum) => {
                self.coordinator.take_root(worker, fence, sum, &mut self.watch);
                self.reduce();
            }
            Message::Want => self.send_parameters(i),
            Message::WantState(step, chunks) => {
                if let Some(state) = self.coordinator.state(step, &chunks) {
                    self.send(worker, Stream::DownBulk, Message::State(step, state));
                }
            }
            other => unreachable!("{other:?} goes down"),
        }
    }

    fn arrive_at_process(&mut self, i: usize, worker: WorkerId, message: Message) {
        let process = &mut self.processes[i];
        match message {
            Message::Send(lease, audits) => {
                process.queue.push(lease);
                if audits {
                    process.audits.insert(lease.at);
                }
                self.compute(i);
            }
            Message::Revoke(at) => {
                process.drop_lease(at);
                process.peer.kept.remove(&at);
                self.compute(i);
            }
            Message::Open(told) => self.opened(i, told),
            Message::Committed(step, digest, own) => self.committed(i, step, digest, own),
            Message::State(step, state) => {
                process.peer.state.extend(state.into_iter().map(|(chunk, state)| (chunk, (step, state))));
                self.make(i);
            }
            Message::Disconnect(why) => {
                if why == DisconnectReason::Evicted {
                    process.evicted();
                }
                self.disconnect(i);
            }
            Message::Parameters(step, values) => {
                let wrong = process.peer.wrong_arrivals.take_if(|wrong| wrong.step <= step);
                let wrong = wrong.filter(|wrong| wrong.step == step);
                let owners = wrong.map(|wrong| wrong.by_whom(&values)).unwrap_or_default();
                if process.parameters.as_ref().is_none_or(|(newest, _)| *newest < step) {
                    process.parameters = Some((step, values));
                }
                owners.into_iter().for_each(|owner| self.say(i, Event::WrongParameters { worker, owner }));
                self.say(i, Event::WorkerReady { worker, step });
                self.make(i);
                self.compute(i);
            }
            other => unreachable!("{other:?} goes up"),
        }
    }
}
