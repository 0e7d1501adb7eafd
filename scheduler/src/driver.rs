//! The order in which effects are carried out. The coordinator and the simulator run this very code.

use std::collections::VecDeque;
use std::fmt;

use crate::contact::Contact;
use crate::effect::Effect;
use crate::event::Event;
use crate::ids::{RunTime, WorkerId};
use crate::record::Record;
use crate::run::Run;

/// An append-only list of records that outlives the process.
pub trait Journal {
    /// The error of a record that cannot be added.
    type Error;

    /// Adds a record at the end. Once this returns, a later start reads the record before any later one; and if the
    /// record [is urgent](Record::is_urgent), it is on disk.
    ///
    /// # Errors
    /// When the record may not be in the journal. The driver then halts.
    fn append(&mut self, record: &Record) -> Result<(), Self::Error>;

    /// Whether after this error the journal is as it was before the record, for want of room alone: then the driver
    /// waits and the record may be added later.
    fn waits(_: &Self::Error) -> bool {
        false
    }
}

/// The world outside of a run: sockets, the reducer, disks, the log.
pub trait Outbox {
    /// Carries the effect out, or queues it to be carried out in this order. Never called with [`Effect::Record`].
    fn carry_out(&mut self, effect: Effect);
}

/// Why a driver does nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt<E> {
    /// The journal failed just now. Effects after the record were not carried out.
    Journal(E),
    /// The journal failed at an earlier event.
    Before,
    /// The journal has no room now. The record and the effects after it are kept until [`Driver::go_on`].
    Waits(E),
}

impl<E: fmt::Display> fmt::Display for Halt<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Halt::Journal(error) => write!(f, "the journal cannot be written: {error}; the run stops here"),
            Halt::Before => write!(f, "the run stopped when its journal could not be written; start it again"),
            Halt::Waits(error) => write!(f, "the journal has no room: {error}; the run waits for some"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Halt<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Halt::Journal(error) | Halt::Waits(error) => Some(error),
            Halt::Before => None,
        }
    }
}

/// A run with its journal and its outbox: one event, then all its effects in order, then the next event.
///
/// A record is appended before any later effect is carried out, so nobody hears of anything that a restart could
/// forget.
#[derive(Debug)]
pub struct Driver<J, O> {
    run: Run,
    journal: J,
    outbox: O,
    halted: bool,
    /// What is still to be done about the last event.
    effects: VecDeque<Effect>,
}

impl<J: Journal, O: Outbox> Driver<J, O> {
    /// A driver of `run`. Nothing happens before the first event.
    pub fn new(run: Run, journal: J, outbox: O) -> Driver<J, O> {
        Driver { run, journal, outbox, halted: false, effects: VecDeque::new() }
    }

    /// Hands the run one event that happened at `now`, and carries out all effects of it.
    ///
    /// # Errors
    /// When the journal fails. No effect after that record is carried out, and every later call is refused: whether the
    /// record is on disk shows only at a restart. A journal [without room](Halt::Waits) refuses calls until
    /// [`Driver::go_on`] has found some.
    pub fn handle(&mut self, now: RunTime, event: Event) -> Result<(), Halt<J::Error>> {
        if self.halted || !self.effects.is_empty() {
            return Err(Halt::Before);
        }
        let mut effects = Vec::new();
        self.run.handle(now, event, &mut effects);
        self.effects = effects.into();
        self.go_on()
    }

    /// Carries out what is left of the last event.
    ///
    /// # Errors
    /// As [`Driver::handle`].
    pub fn go_on(&mut self) -> Result<(), Halt<J::Error>> {
        if self.halted {
            return Err(Halt::Before);
        }
        while let Some(effect) = self.effects.pop_front() {
            let Effect::Record(record) = effect else {
                self.outbox.carry_out(effect);
                continue;
            };
            match self.journal.append(&record) {
                Ok(()) => {}
                Err(error) if J::waits(&error) => {
                    self.effects.push_front(Effect::Record(record));
                    return Err(Halt::Waits(error));
                }
                Err(error) => {
                    self.halted = true;
                    return Err(Halt::Journal(error));
                }
            }
        }
        Ok(())
    }

    /// Notes when a worker was last in contact; see [`Run::heard`].
    pub fn heard(&mut self, worker: WorkerId, contact: Contact) {
        self.run.heard(worker, contact);
    }

    /// The run, for questions such as [`Run::deadline`] and [`Run::waiting_for`].
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// The journal that records are appended to.
    pub fn journal(&self) -> &J {
        &self.journal
    }

    /// The outbox that carries out all other effects; to be changed between events.
    pub fn outbox(&mut self) -> &mut O {
        &mut self.outbox
    }
}
