//! The quick rows of the fault table, with few tries: what is promised must hold. How long it takes is for
//! `bench/faults.sh`.

use convoy_faults::job::Bench;
use convoy_faults::rows::ROWS;

/// Tries the row of that name.
fn holds(name: &str, tries: u64) {
    let row = ROWS.iter().find(|row| row.name == name).expect("a row of the table");
    let mut bench = Bench::new(env!("CARGO_BIN_EXE_convoy"));
    bench.tries = Some(tries);
    let outcome = row.run(&bench);
    println!("{name}, {}: {outcome:?}", row.what);
    assert_ne!(outcome.held(), Some(false), "{name}, {}: {:?} {outcome:?}", row.what, outcome.broken);
}

#[test]
fn a_worker_that_is_killed_costs_no_step() {
    holds("P1", 3);
}

#[test]
fn a_worker_that_is_killed_in_an_upload_costs_no_step() {
    holds("P2", 2);
}

#[test]
fn a_coordinator_that_is_killed_goes_on_by_itself() {
    holds("P8", 3);
}

#[test]
fn everything_can_be_killed_while_it_recovers() {
    holds("P10", 1);
}

#[test]
fn workers_can_be_replaced_one_after_the_other() {
    holds("P11", 2);
}

#[test]
fn a_bit_that_is_flipped_on_the_way_never_counts() {
    holds("N7", 2);
}

#[test]
fn a_power_cut_takes_no_step_along() {
    holds("S4", 2);
}
