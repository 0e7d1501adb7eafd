//! A worker on the coordinator's machine has one link with it, which takes in all sums.

use convoy_scheduler::{Run, RunPlan};

use crate::script::{plan_of, play};

/// Six chunks, one epoch of two steps of four shards.
fn plan() -> RunPlan {
    RunPlan { chunks: 6, ..plan_of(1, 2, 4, 4) }
}

/// Who owns the chunks of a step that begins when `workers` reach each other, of which those in `beside` are on the
/// coordinator's machine; nobody is told of where it is the coordinator.
fn owners(workers: u32, beside: &[u32]) -> Option<String> {
    let mut lines: Vec<String> = (1..=workers).map(|worker| format!("> 0 join {worker} x1")).collect();
    lines.extend(beside.iter().map(|worker| format!("> 0 beside {worker}")));
    for worker in 1..=workers {
        let others = (1..=workers).filter(|other| *other != worker).map(|other| format!(" {other}"));
        lines.push(format!("> 0 ready {worker} 0"));
        lines.push(format!("> 0 reaches {worker}{}", others.collect::<String>()));
    }
    lines.extend(["> 100 done 1 #0 25", "> 100 reduced 0"].map(str::to_owned));
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let said = play(&mut Run::new(plan()), &lines);
    assert!(said.iter().any(|line| line == "open training step 1: 4 shards"), "{said:?}");
    said.iter().find_map(|line| Some(line.strip_prefix("owners 1: ")?.split(',').next()?.to_owned()))
}

#[test]
fn of_two_workers_one_of_which_is_there_the_other_sends_everything_to_the_coordinator() {
    assert_eq!(owners(2, &[]).as_deref(), Some("1 2 1 2 1 2"));
    assert_eq!((owners(2, &[1]), owners(2, &[2])), (None, None));
}

#[test]
fn of_more_all_own_chunks() {
    assert_eq!(owners(3, &[1]).as_deref(), Some("1 2 3 1 2 3"));
    assert!(owners(4, &[2]).is_some_and(|owners| owners.contains('2')));
}

#[test]
fn where_both_are_there_no_link_is_spared() {
    assert_eq!(owners(2, &[1, 2]).as_deref(), Some("1 2 1 2 1 2"));
}
