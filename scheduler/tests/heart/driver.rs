//! The driver: all effects in order, records before what follows them, and a halt when the journal fails.

use std::cell::RefCell;
use std::rc::Rc;

use convoy_scheduler::*;

use crate::script::{digest, plan};

const FULL: &str = "the disk is full";

/// A journal and an outside that write one list, and a journal that fails at a given record.
#[derive(Clone, Default)]
struct Both {
    log: Rc<RefCell<Vec<&'static str>>>,
    leases: Rc<RefCell<Vec<LeaseRef>>>,
    fail_at: Option<usize>,
    records: usize,
    /// Refusals for want of room that are still to come at each record.
    full: Rc<RefCell<usize>>,
}

impl Journal for Both {
    type Error = &'static str;

    fn append(&mut self, record: &Record) -> Result<(), &'static str> {
        if self.fail_at == Some(self.records) {
            return Err("the disk is broken");
        }
        if *self.full.borrow() > 0 {
            *self.full.borrow_mut() -= 1;
            return Err(FULL);
        }
        self.records += 1;
        self.log.borrow_mut().push(match record {
            Record::Started { .. } => "record start",
            Record::WorkerJoined { .. } => "record joined",
            Record::StepCommitted { .. } => "record committed",
            _ => "record",
        });
        Ok(())
    }

    fn waits(error: &&'static str) -> bool {
        *error == FULL
    }
}

impl Outbox for Both {
    fn carry_out(&mut self, effect: Effect) {
        self.log.borrow_mut().push(match effect {
            Effect::Record(_) => panic!("records go to the journal"),
            Effect::OpenStep { .. } => "open",
            Effect::Commit { .. } => "commit",
            Effect::Send { lease, .. } => {
                self.leases.borrow_mut().push(lease.at);
                "send"
            }
            _ => "other",
        });
    }
}

fn driver(fail_at: Option<usize>) -> (Driver<Both, Both>, Both) {
    let both = Both { fail_at, ..Both::default() };
    (Driver::new(Run::new(plan()), both.clone(), both.clone()), both)
}

/// Up to the first commit.
fn one_step(driver: &mut Driver<Both, Both>, both: &Both) -> Result<(), Halt<&'static str>> {
    let worker = WorkerId(1);
    let [machine, name] = ["one", "one"].map(str::to_owned);
    driver.handle(RunTime(0), Event::WorkerJoined { worker, machine, name, threads: 1 })?;
    let at = both.leases.borrow()[0];
    driver.handle(
        RunTime(1),
        Event::NodeDone {
            worker,
            at,
            shard_micros: 1,
            version: OwnersVersion(0),
            result: NodeResult::Good,
            digest: None,
        },
    )?;
    driver.handle(RunTime(2), Event::StepReduced { step: StepId(0), digest: digest(0) })
}

#[test]
fn records_are_appended_before_what_follows_them() {
    let (mut driver, both) = driver(None);
    one_step(&mut driver, &both).expect("nothing fails");
    let log = ["record start", "open", "record joined", "send", "record committed", "commit", "open", "send"];
    assert_eq!(*both.log.borrow(), log);
}

#[test]
fn nothing_follows_a_record_that_was_not_appended() {
    let (mut driver, both) = driver(Some(2));
    assert_eq!(one_step(&mut driver, &both), Err(Halt::Journal("the disk is broken")));
    assert_eq!(*both.log.borrow(), ["record start", "open", "record joined", "send"]);
    assert_eq!(driver.handle(RunTime(3), Event::Deadline), Err(Halt::Before));
    assert_eq!(both.log.borrow().len(), 4);
}

#[test]
fn a_journal_without_room_holds_up_what_follows_and_loses_nothing() {
    let (mut driver, both) = driver(None);
    let worker = WorkerId(1);
    *both.full.borrow_mut() = 3;
    let [machine, name] = ["one", "one"].map(str::to_owned);
    let join = Event::WorkerJoined { worker, machine, name, threads: 1 };
    assert_eq!(driver.handle(RunTime(0), join), Err(Halt::Waits(FULL)));
    assert_eq!(driver.handle(RunTime(1), Event::Deadline), Err(Halt::Before), "one event after the other");
    (0..2).for_each(|_| assert_eq!(driver.go_on(), Err(Halt::Waits(FULL))));
    assert!(both.log.borrow().is_empty());
    assert_eq!(driver.go_on(), Ok(()));
    assert_eq!(*both.log.borrow(), ["record start", "open", "record joined", "send"]);
    assert_eq!(driver.go_on(), Ok(()), "nothing is left");
    assert_eq!(driver.handle(RunTime(2), Event::Deadline), Ok(()));
}

#[test]
fn a_halt_says_what_to_do() {
    assert_eq!(
        Halt::Journal("no space left on device").to_string(),
        "the journal cannot be written: no space left on device; the run stops here"
    );
    let before: Halt<&str> = Halt::Before;
    assert_eq!(before.to_string(), "the run stopped when its journal could not be written; start it again");
}
