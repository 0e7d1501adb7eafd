//! Facts as lines of text, for people.

use convoy_scheduler::*;

use crate::facts::Fact;

/// One line; none for facts that would only make the trace long.
pub(crate) fn show(fact: &Fact) -> Option<String> {
    Some(match fact {
        Fact::Rested { .. } | Fact::Synced => return None,
        Fact::Started { plan, read, .. } => {
            format!("** start: {}, from {}, {} records read", plan.generation, plan.first_step, read.len())
        }
        Fact::Asleep { until } => format!("** the coordinator sleeps until {:.6} s", until.0 as f64 / 1e6),
        Fact::Died => "** the coordinator is dead".to_owned(),
        Fact::Heard { .. } | Fact::Began { .. } => return None,
        Fact::Added { owner, sent, chunk, node, .. } => {
            format!("   added by {owner}: {node} to chunk {chunk}, {}, {}", sent.opening, sent.version)
        }
        Fact::MadeChunk { owner, step, chunk, value, wrong } => {
            let how = if *wrong { "made wrongly" } else { "made" };
            format!("   {how} by {owner}: chunk {chunk} of the parameters of {step}: {value:016x}")
        }
        Fact::SumTaken { .. } => return None,
        Fact::SumFound { owner, chunk, finding } => format!("   chunk {chunk} of {owner} added anew: {finding:?}"),
        Fact::Unanswered { worker } => format!("   {worker} does not answer an audit"),
        Fact::Misled { worker } => format!("   {worker} misleads others"),
        Fact::Told { event, .. } => format!("> {}", show_event(event)),
        Fact::Computed { worker, lease, lied, .. } => {
            let how = if *lied { "computed wrongly" } else { "computed" };
            format!("   {how} by {worker}: {}", lease.at)
        }
        Fact::Counted { worker, answered, node } => format!("   counted: {node} of {worker}, {answered}"),
        Fact::Appended(record) => format!("  record {}", show_record(record)),
        Fact::Saved { step, .. } => format!("   on disk: checkpoint of {step}"),
        Fact::CarriedOut(effect) => format!("  {}", show_effect(effect)),
        Fact::Made { step, parameters } => format!("   parameters of {step}: {parameters:016x}"),
        Fact::Differed => "** two runs differ".to_owned(),
        Fact::Refused(error) => format!("** no start: {error}"),
        Fact::Overtime { waiting } => format!("** overtime; the run waits for {waiting}"),
        Fact::Ended(outcome) => format!("** the end: {outcome}"),
    })
}

fn short(digest: &[u8; 32]) -> String {
    digest.iter().take(8).rev().map(|byte| format!("{byte:02x}")).collect()
}

fn show_event(event: &Event) -> String {
    match event {
        Event::StepReduced { step, digest } => format!("step reduced: {step}, {}", short(digest)),
        Event::NodeDone { worker, at, shard_micros, .. } => {
            format!("node done: {worker}, {at}, {} at {shard_micros} us a shard", at.generation)
        }
        Event::LeaseFailed { worker, at, failure } => format!("lease failed: {worker}, {at}: {failure:?}"),
        Event::WorkerGone { worker, reason } => format!("worker gone: {worker}, {reason:?}"),
        Event::WorkerJoined { worker, machine, threads, .. } => {
            format!("worker joined: {worker}, {machine}, with {threads} threads")
        }
        Event::WorkerReady { worker, step } => format!("worker ready: {worker} holds {step}"),
        Event::WorkerDraining { worker } => format!("worker draining: {worker}"),
        Event::WorkerBeside { worker } => format!("worker beside: {worker}"),
        other => format!("{other:?}"),
    }
}

fn show_effect(effect: &Effect) -> String {
    match effect {
        Effect::Record(record) => format!("record {}", show_record(record)),
        Effect::OpenStep { step, work, shards, .. } => format!("open {work} {step}: {shards} shards"),
        Effect::Send { worker, lease, check } => format!("send {worker} {}: {}, {check:?}", lease.at, lease.node),
        Effect::Revoke { worker, at, why } => format!("revoke {worker} {at}: {why:?}"),
        Effect::Commit { step, digest } => format!("commit {step}: {}", short(digest)),
        Effect::Ignore { what, why, worker } => match worker {
            Some(worker) => format!("ignore {what} of {worker}: {why}"),
            None => format!("ignore {what}: {why}"),
        },
        Effect::Overdue { worker, at, node, held } => format!("overdue {worker} {at}: {node} for {held}"),
        Effect::Finish { outcome } => format!("finish: {outcome}"),
        other => format!("{other:?}"),
    }
}

fn show_record(record: &Record) -> String {
    match record {
        Record::StepCommitted { step, digest, ledger, .. } => {
            let auditor = |e: &LedgerEntry| e.auditor.map(|auditor| format!(" and {}", auditor.0)).unwrap_or_default();
            let entry = |e: &LedgerEntry| format!("{}..{} by {}{}", e.node.first, e.node.last, e.worker.0, auditor(e));
            let entries: Vec<String> = ledger.iter().map(entry).collect();
            format!("{step} committed: {}, {}", short(digest), entries.join(", "))
        }
        other => format!("{other:?}"),
    }
}
