//! The rows of the fault table, one function each.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::job::Bench;
use crate::outcome::Outcome;

mod answers;
mod clocks;
mod coordinators;
mod disks;
mod links;
mod workers;

/// A row of the fault table.
pub struct Row {
    /// Its name: `P` of processes, `N` of networks, `S` of storage, `T` of time, `C` of computing.
    pub name: &'static str,
    /// What happens.
    pub what: &'static str,
    /// Whether seconds count from the end of the fault.
    pub from_healing: bool,
    tries: fn(&Bench) -> Outcome,
}

impl Row {
    /// Tries the row. A fault that stops everything for minutes is one more broken promise.
    pub fn run(&self, bench: &Bench) -> Outcome {
        catch_unwind(AssertUnwindSafe(|| (self.tries)(bench))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Outcome { broken: vec![text.unwrap_or_else(|| "a panic".to_owned())], ..Outcome::default() }
        })
    }
}

const fn row(name: &'static str, what: &'static str, tries: fn(&Bench) -> Outcome) -> Row {
    Row { name, what, from_healing: false, tries }
}

const fn healed(row: Row) -> Row {
    Row { from_healing: true, ..row }
}

/// All rows.
pub const ROWS: &[Row] = &[
    row("P1", "kill -9 of a worker that computes", workers::killed),
    row("P2", "kill -9 of a worker anywhere in an upload", workers::killed_in_upload),
    healed(row("P3", "kill -9 of all workers; others come later", workers::all_killed)),
    row("P4", "a worker stops for 1 s and for 3 s, and goes on", workers::stopped),
    row("P5", "a worker lives and its computing hangs", workers::hung),
    row("P6", "a worker is ten times slower", workers::slow),
    row("P6b", "a worker sleeps 1.8 s of every 1.9 s", workers::pulsing),
    row("P7", "a worker has too little memory and dies again and again", workers::out_of_memory),
    healed(row("P8", "kill -9 of the coordinator at any moment", coordinators::killed)),
    healed(row("P8b", "kill -9 of the coordinator at each act on its files", coordinators::killed_at_each_act)),
    healed(row("P9", "the coordinator stops for 5 s; a second one is started", coordinators::stopped)),
    healed(row("P10", "kill -9 of everything three times, also during recovery", coordinators::everything_killed)),
    row("P11", "workers are asked to go and replaced", workers::asked_to_go),
    healed(row("P11b", "the coordinator is asked to end and started again", coordinators::asked_to_end)),
    row("P11c", "a worker of another version comes", workers::other_version),
    row("N1", "a worker is cut off both ways for 1 s and for 5 s", links::cut_both_ways),
    healed(row("N1b", "all workers are cut off both ways for 1 s and for 5 s", links::all_cut)),
    row("N2", "nothing that a worker sends arrives, for 1 s and for 5 s", links::mute),
    row("N2b", "nothing arrives at a worker, for 1 s and for 5 s", links::deaf),
    healed(row("N3", "lines are cut one after the other and healed in another order", links::swizzled)),
    row("N4", "bytes take 1 to 200 ms and a quarter more at random", links::late),
    row("N4b", "1, 10 and 50 % of all packets are lost", links::lossy),
    row("N5", "a worker's line carries 100, 30 and 10 Mbit/s, of 4.7 MB for each node", links::narrow),
    row("N5b", "all lines carry 100, 30 and 10 Mbit/s, of 4.7 MB for each node", links::all_narrow),
    row("N6", "connections break in the middle of a node", links::broken),
    row("N7", "bits are flipped on the way", links::flipped),
    healed(row("N8", "kill -9 of a coordinator of 1,000 connections", coordinators::herd)),
    row("N9", "messages are doubled, late, reordered (simulated)", links::simulated),
    healed(row("S1", "the coordinator's disk is full, then there is room", disks::full)),
    row("S1b", "the disk has no room for a checkpoint", disks::full_for_checkpoints),
    row("S1c", "a worker's cache has no room", disks::full_cache),
    healed(row("S2", "a sync, write or rename fails (EIO)", disks::failing)),
    row("S3", "each sync takes 0.3 s", disks::slow),
    healed(row("S4", "the power fails: what was not synced is gone or zeros", disks::power_cut)),
    healed(row("S5", "a file of the coordinator is damaged", disks::damaged)),
    row("S6", "the coordinator's folder cannot be used", disks::unusable),
    row("T1", "certificates of 6 s, in a run of several lives", clocks::expiring),
    row("T1b", "the coordinator's clock leaps by an hour, forth and back", clocks::leaping),
    row("C1", "a worker computes wrongly, from the start or after 40 nodes", answers::lies),
    row("C2", "a worker sends NaN, and absurdly large values", answers::not_finite),
    row("C3", "a worker sees a copy of the data with another pixel", answers::other_data),
    row("C4", "bits flip in the memory of a worker", answers::flipped_memory),
];
