//! Members and data on disks that fail: each fail point of a small life of a coordinator is enumerated, until it
//! reaches none. Whatever was acknowledged stays so.

use std::fs;
use std::path::Path;

use convoy_common::Digest;
use convoy_common::data_place::DataName;
use convoy_common::durable::faults::{Fault, FaultPlan, Faults};
use convoy_security::{Certificate, Fingerprint, Pin, Role, Token, TokenRecord};

use crate::access::store::AccessStore;
use crate::data::set::SetFile;
use crate::data::store::DataStore;
use crate::disk_use::{DiskLimits, DiskUse};
use crate::store_error::StoreError;

/// Seconds: tokens and certificates are good then.
const NOW: u64 = 1_000;
/// They have expired then.
const LATER: u64 = 10_000;
const SET: [(&str, &str); 3] = [("a/1", "one"), ("a/2", "two"), ("b", "three")];
const LOOSE: [(&str, &str); 1] = [("c", "never named")];

/// What a coordinator keeps of members and data.
struct Stores {
    access: AccessStore,
    data: DataStore,
}

/// What happens to the stores, one step after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Make,
    MakeToken,
    Redeem,
    Join,
    Push,
    Renew,
    PushLoose,
    Revoke,
    Remove,
    Prune,
    Tidy,
    End,
}

use Step::*;

const ORDER: [Step; 12] = [Make, MakeToken, Redeem, Join, Push, Renew, PushLoose, Revoke, Remove, Prune, Tidy, End];

/// How far it has come.
struct Life {
    token: Token,
    member: u64,
    /// The first step that was not acknowledged.
    next: Step,
}

fn certificate(number: u8, expires_at: u64) -> Certificate {
    Certificate { chain_pem: String::new(), fingerprint: Fingerprint([number; 32]), expires_at }
}

fn name() -> DataName {
    "set".parse().unwrap()
}

fn file((path, text): &(&str, &str)) -> SetFile {
    SetFile { path: path.parse().unwrap(), digest: Digest::of(text.as_bytes()), size: text.len() as u64 }
}

fn push(data: &DataStore, files: &[(&str, &str)]) -> Result<(), String> {
    let mut receiver = data.receive("anna");
    let came = files.iter().try_for_each(|pushed| {
        receiver.begin(file(pushed))?;
        receiver.piece(pushed.1.as_bytes())
    });
    // As the service does: what came whole is kept, whatever came after it.
    receiver.finish().and(came).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Life {
    fn new() -> Self {
        Life { token: Token::new(Pin([1; 32])), member: 0, next: Make }
    }

    /// Opens the stores in `folder`, or makes them.
    fn open(&mut self, folder: &Path) -> Result<Stores, String> {
        let path = folder.join("access.redb");
        let opened = if self.next == Make { AccessStore::create(&path) } else { AccessStore::open(&path) };
        if let Err(StoreError::Damaged { remedy, .. }) = &opened {
            // Nobody was told that the cluster is there: what is said is to make it anew.
            assert!(self.next == Make && remedy.contains("convoy cluster init"), "{opened:?}");
            fs::remove_file(&path).map_err(text)?;
        }
        let access = opened.map_err(text)?;
        self.next = self.next.max(MakeToken);
        let data = DataStore::open(folder, DiskUse::new(folder, DiskLimits::default())).map_err(text)?;
        Ok(Stores { access, data })
    }

    /// Goes on to the end.
    fn go_on(&mut self, stores: &Stores) -> Result<(), String> {
        while self.next != End {
            self.step(stores)?;
            self.next = ORDER[self.next as usize + 1];
        }
        Ok(())
    }

    /// Does the next step, which may have been done and not acknowledged.
    fn step(&mut self, Stores { access, data }: &Stores) -> Result<(), String> {
        match self.next {
            Make | End => Ok(()),
            MakeToken => access.put_token(&TokenRecord::new(&self.token, Role::Worker, LATER, Some(9))).map_err(text),
            Redeem => access.redeem(&self.token, "anna", NOW).map(drop).map_err(text),
            Join => {
                let joined = access.add_member("anna", Role::Worker, Some(&self.token.id), &certificate(1, LATER));
                joined.map(|member| self.member = member).map_err(text)
            }
            Push => {
                push(data, &SET)?;
                data.commit(&name(), SET.iter().map(file).collect(), false, "now".to_owned()).map(drop).map_err(text)
            }
            Renew => access.renew(self.member, &certificate(2, LATER), NOW).map_err(text),
            PushLoose => push(data, &LOOSE),
            Revoke => match access.member(self.member).map_err(text)? {
                Some(member) if member.revoked => Ok(()),
                _ => access.revoke(&self.member.to_string(), true).map(drop).map_err(text),
            },
            Remove => match data.list().map_err(text)?.is_empty() {
                true => Ok(()),
                false => data.remove(&name()).map(drop).map_err(text),
            },
            Prune => data.sweep_unnamed(u64::MAX).map(drop).map_err(text),
            Tidy => access.tidy(LATER + 1).map_err(text),
        }
    }

    /// Whether what `step` brought is to be there, until `end` begins to take it away.
    fn holds(&self, step: Step, end: Step) -> bool {
        step < self.next && self.next < end
    }

    fn check(&self, Stores { access, data }: &Stores, case: &str) {
        let tokens = access.tokens().unwrap();
        if self.holds(MakeToken, Revoke) {
            let token = tokens.iter().find(|token| token.id == self.token.id).unwrap_or_else(|| panic!("{case}"));
            assert!(self.next <= Redeem || token.uses_left < Some(9), "{case}");
        }
        for (step, certificate) in [(Join, 1), (Renew, 2)] {
            let owner = access.owner(Fingerprint([certificate; 32])).unwrap();
            assert!(!self.holds(step, Tidy) || owner == Some(self.member), "{case}: {step:?}");
        }
        let member = access.member(self.member).unwrap();
        if self.holds(Join, End) || self.next == End {
            let revoked = member.unwrap_or_else(|| panic!("{case}: the member is lost")).revoked;
            assert!(if self.next > Revoke { revoked } else { self.next == Revoke || !revoked }, "{case}");
        }
        assert!(self.next <= Revoke || tokens.is_empty(), "{case}: it lets others in");
        let sets = data.list().unwrap();
        for (step, end, files) in [(Push, Remove, &SET[..]), (PushLoose, Prune, &LOOSE)] {
            for (_, contents) in files.iter().filter(|_| self.holds(step, end)) {
                let read = data.read(&Digest::of(contents.as_bytes()));
                assert_eq!(read.unwrap_or_else(|error| panic!("{case}: {contents}: {error}")), contents.as_bytes());
            }
        }
        if self.holds(Push, Remove) {
            assert_eq!((sets[0].files, sets[0].damaged), (3, 0), "{case}");
        }
        assert!(self.next <= Remove || sets.is_empty(), "{case}: it was removed");
    }
}

/// Lives a whole life; whether the fault struck on the way.
fn lived_through(plan: FaultPlan) -> bool {
    let case = format!("{plan:?}");
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let faults = Faults::in_folder(folder.path(), Some(plan));
    let (mut life, mut kept) = (Life::new(), None);
    for _ in 0..4 {
        let went = match kept.take().map_or_else(|| life.open(folder.path()), Ok) {
            Ok(stores) => life.go_on(kept.insert(stores)),
            Err(error) => Err(error),
        };
        if let Err(error) = &went {
            assert!(faults.struck(), "{case}: {error}");
            assert!(!error.contains("panicked"), "{case}: {error}");
        }
        if matches!(plan.fault, Fault::Crash | Fault::PowerCut) || went.is_ok() {
            kept = None;
        }
        if plan.fault == Fault::PowerCut && faults.struck() {
            faults.cut_power();
        }
        faults.heal();
        // In the process that heard of the error, and after a restart.
        if kept.is_none() {
            kept = life.open(folder.path()).inspect_err(|error| assert_eq!(life.next, Make, "{case}: {error}")).ok();
        }
        if let Some(stores) = &kept {
            life.check(stores, &format!("{case} {:?}", life.next));
        }
        if went.is_ok() {
            return faults.struck();
        }
    }
    panic!("{case}: it does not come to its end");
}

fn enumerate(fault: Fault) {
    // Who is dead stays so until the next start.
    let dies = matches!(fault, Fault::Crash | Fault::PowerCut);
    for lasting in [false, true].into_iter().filter(|lasting| !(dies && *lasting)) {
        let points = (1..).take_while(|point| lived_through(FaultPlan { point: *point, fault, lasting })).count();
        assert!(points > 200, "{fault:?}: only {points} points");
    }
}

#[test]
fn a_disk_that_fails_costs_members_and_data_nothing() {
    enumerate(Fault::Eio);
}

#[test]
fn a_full_disk_costs_members_and_data_nothing() {
    enumerate(Fault::Full);
    enumerate(Fault::Short);
}

#[test]
fn a_killed_process_costs_members_and_data_nothing() {
    enumerate(Fault::Crash);
}

#[test]
fn a_loss_of_power_costs_members_and_data_nothing() {
    enumerate(Fault::PowerCut);
}
