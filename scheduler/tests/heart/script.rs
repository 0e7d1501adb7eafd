//! Tests as transcripts: events in, the whole list of effects out.
//!
//! A line `> 1500 join 1 x2` is an event at 1500 ms, `? waiting` and `? deadline` are questions, and the other lines
//! are what follows. [`check`] plays the events and compares the whole transcript.

use std::collections::BTreeMap;

use convoy_scheduler::*;

/// Plays the events of `script` against `run` and compares everything that follows with what stands there.
pub fn check(mut run: Run, script: &str) {
    let lines: Vec<&str> = script.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let (found, lines) = (play(&mut run, &lines).join("\n"), lines.join("\n"));
    assert!(found == lines, "what followed:\n{found}\n--- what should have:\n{lines}\n");
}

/// Plays the events among `lines` against `run`: they and everything that follows.
pub fn play(run: &mut Run, lines: &[&str]) -> Vec<String> {
    let mut leases = BTreeMap::new();
    let mut found: Vec<String> = Vec::new();
    for line in lines.iter().filter(|line| line.starts_with(['>', '?'])) {
        found.push((*line).to_owned());
        match *line {
            "? waiting" => found.push(run.waiting_for().to_string()),
            "? deadline" => found.push(match run.deadline() {
                Some(at) => format!("at {} ms", at.0 / 1000),
                None => "never".to_owned(),
            }),
            _ if line.contains(" beat ") || line.contains(" pushed ") || line.contains(" fetched ") => {
                let (worker, contact) = contact(line);
                run.heard(worker, contact);
            }
            _ => {
                let (now, event) = parse(line, &leases);
                let mut effects = Vec::new();
                run.handle(now, event, &mut effects);
                for effect in &effects {
                    if let Effect::Send { lease, .. } = effect {
                        leases.insert(lease.at.lease, lease.at);
                    }
                    found.push(show(effect));
                }
            }
        }
    }
    found
}

/// A plan whose deadlines are those of leases and of silence alone: nobody is quiet before it is lost.
pub fn plan_of(epochs: u32, steps: u64, shards: u32, last: u32) -> RunPlan {
    let timeouts = Timeouts { quiet: Timeouts::default().heartbeat_silence, ..Timeouts::default() };
    RunPlan { timeouts, ..RunPlan::new(epochs, steps, shards, last) }
}

/// A plan of two epochs of three steps of eight shards each, and 5 in the last.
pub fn plan() -> RunPlan {
    plan_of(2, 3, 8, 5)
}

/// A plan of one epoch of one step of four shards, so that little stands between a test and its end.
pub fn short_plan() -> RunPlan {
    plan_of(1, 1, 4, 4)
}

/// A plan of two epochs of three steps of four shards each; a shard in eight is audited.
pub fn audited_plan() -> RunPlan {
    RunPlan { audit_every: 8, ..plan_of(2, 3, 4, 4) }
}

/// The digest that a script's `reduced 3` stands for.
pub fn digest(step: u64) -> [u8; 32] {
    [step as u8; 32]
}

/// The contact that a line `> 1500 pushed 1` tells of; `beat` is a heartbeat.
fn contact(line: &str) -> (WorkerId, Contact) {
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    let number = |i: usize| -> u64 { words[i].parse().unwrap_or_else(|_| panic!("{line}: {}", words[i])) };
    let heard = RunTime(number(0) * 1000);
    let contact = match words[1] {
        "pushed" => Contact { pushed: heard, ..Contact::of_message(heard) },
        "fetched" => Contact { heard, fetched: heard, ..Contact::default() },
        _ => Contact::of_message(heard),
    };
    (WorkerId(number(2) as u32), contact)
}

fn parse(line: &str, leases: &BTreeMap<LeaseId, LeaseRef>) -> (RunTime, Event) {
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    let number = |i: usize| -> u64 {
        let word = words.get(i).unwrap_or_else(|| panic!("{line}: too short"));
        word.trim_start_matches(['#', 'x', '@']).parse().unwrap_or_else(|_| panic!("{line}: {word}"))
    };
    let worker = || WorkerId(number(2) as u32);
    let stale = LeaseRef { generation: RunGeneration(0), step: StepId(0), lease: LeaseId(0), epoch: 0 };
    let lease = || match words[3] {
        "stale" => stale,
        _ => {
            let unknown = LeaseRef { generation: RunGeneration(1), lease: LeaseId(number(3)), ..stale };
            leases.get(&LeaseId(number(3))).copied().unwrap_or(unknown)
        }
    };
    let event = match words[1] {
        "join" => {
            let name = words.get(4).map_or_else(|| format!("machine {}", number(2)), |name| (*name).to_owned());
            // `join 1 x2 name machine`; a machine is called like its worker unless it says so.
            let machine = words.get(5).map_or_else(|| name.clone(), |machine| (*machine).to_owned());
            Event::WorkerJoined { worker: worker(), machine, name, threads: number(3) as u32 }
        }
        "beside" => Event::WorkerBeside { worker: worker() },
        "left" => Event::WorkerGone { worker: worker(), reason: GoneReason::Closed },
        "drain" => Event::WorkerDraining { worker: worker() },
        "ready" => Event::WorkerReady { worker: worker(), step: StepId(number(3)) },
        "reaches" | "unreached" | "sums" => exchange(&words),
        "computed" => Event::NodeComputed { worker: worker(), at: lease() },
        "done" => done(&words, worker(), lease()),
        "unreadable" | "broken" => {
            let failure = if words[1] == "broken" { Failure::Internal } else { Failure::DataUnreadable };
            Event::LeaseFailed { worker: worker(), at: lease(), failure }
        }
        "contradicted" => {
            let node = Node { first: number(3) as u32, last: number(4) as u32 };
            let workers = (5..words.len()).map(|i| WorkerId(number(i) as u32)).collect();
            Event::NodeContradicted { step: StepId(number(2)), work: Work::Train, node, workers }
        }
        "audited" => audited(&words),
        "silent" => Event::Unanswered { worker: worker(), opening: Opening(number(3)) },
        "misserved" => Event::WrongParameters { worker: worker(), owner: WorkerId(number(3) as u32) },
        "reduced" => Event::StepReduced { step: StepId(number(2)), digest: digest(number(2)) },
        "overflowed" => Event::StepNotFinite { step: StepId(number(2)) },
        "evaluated" => {
            Event::EvaluationReduced { step: StepId(number(2)), stop_early: words.get(3) == Some(&"enough") }
        }
        "written" => Event::CheckpointWritten { step: StepId(number(2)) },
        "unwritten" => Event::CheckpointFailed { step: StepId(number(2)) },
        "stop" => Event::StopRequested,
        "deadline" => Event::Deadline,
        other => panic!("{line}: {other}"),
    };
    (RunTime(number(0) * 1000), event)
}

/// `audited 1 2 equal`: the sum of a chunk of worker 1, in the second opening; `wrong`, or `says 3`: it disagrees with
/// what worker 3 says to have brought it.
fn audited(words: &[&str]) -> Event {
    let number = |i: usize| words[i].parse::<u32>().expect("a number");
    let finding = match words[4] {
        "equal" => SumFinding::Equal,
        "wrong" => SumFinding::Wrong,
        _ => SumFinding::Disagrees(WorkerId(number(5))),
    };
    Event::SumAudited { owner: WorkerId(number(2)), opening: Opening(number(3).into()), finding }
}

/// `7` is the digest of a node that is with the coordinator, `1:7,2:8,-:9` one in parts, of the owners 1 and 2 and of
/// the coordinator.
fn node_digest(text: &str) -> NodeDigest {
    let byte = |text: &str| text.parse().map(digest).expect("a digest");
    if !text.contains(':') {
        return NodeDigest::whole(byte(text));
    }
    let part = |part: &str| {
        let (owner, digest) = part.split_once(':').expect("an owner and a digest");
        (owner.parse().map_or(Owner::Coordinator, |owner| Owner::Worker(WorkerId(owner))), byte(digest))
    };
    NodeDigest::of_parts(text.split(',').map(part))
}

/// `done 1 #3 25 =7 v2`: a shard took 25 ms (one second unless it says so), and the node's digest is 7.
fn done(words: &[&str], worker: WorkerId, at: LeaseRef) -> Event {
    let result = match words.get(5) {
        Some(&"nan") => NodeResult::NotFinite,
        Some(&"absurd") => NodeResult::Absurd,
        _ => NodeResult::Good,
    };
    let digest = words.iter().find_map(|word| word.strip_prefix('=')).map(node_digest);
    let millis: u64 = words.get(4).and_then(|word| word.parse().ok()).unwrap_or(1000);
    Event::NodeDone { worker, at, shard_micros: millis * 1000, version: version(words), result, digest }
}

/// `v2` is the version of the owners; the first unless it says so.
fn version(words: &[&str]) -> OwnersVersion {
    words.last().and_then(|word| word.strip_prefix('v')?.parse().ok()).map_or(OwnersVersion(0), OwnersVersion)
}

/// `reaches 1 2 3`, `unreached 2 1 v1` (of the owner 2 by worker 1), `sums 1 2 v1` (of the second opening).
fn exchange(words: &[&str]) -> Event {
    let mut workers = words[2..].iter().map_while(|word| word.parse().ok()).map(WorkerId);
    let worker = workers.next().expect("a worker");
    match words[1] {
        "reaches" => Event::PeersReached { worker, reached: workers.collect() },
        "unreached" => {
            Event::PeerLost { worker: workers.next().expect("by whom"), peer: worker, version: version(words) }
        }
        _ => {
            let opening = words[3].parse().map(Opening).expect("an opening");
            Event::OwnerReduced { worker, opening, version: version(words) }
        }
    }
}

/// An effect as a line of a transcript.
pub fn show(effect: &Effect) -> String {
    match effect {
        Effect::Record(record) => format!("record {}", show_record(record)),
        Effect::OpenStep { step, work, shards, .. } => format!("open {work} {step}: {shards} shards"),
        Effect::Owners { version, of, why } => {
            let owners: Vec<String> = of.iter().map(show_owner).collect();
            format!("owners {}: {}, as {why}", version.0, owners.join(" "))
        }
        Effect::AbandonStep { step, work, why } => format!("abandon {work} {step}: {why:?}"),
        Effect::Send { worker, lease, check } => {
            let check = match check {
                Check::Count => "",
                Check::CountAndDigest => ", with its digest",
                Check::Digest => ", audit",
            };
            let epoch = if lease.at.epoch > 0 { format!(" epoch {}", lease.at.epoch) } else { String::new() };
            format!("send {worker} #{}{epoch}: {}{check}", lease.at.lease.0, lease.node)
        }
        Effect::Revoke { worker, at, why } => format!("revoke {worker} #{}: {why:?}", at.lease.0),
        Effect::Disconnect { worker, why: DisconnectReason::Silent { silence } } => {
            format!("disconnect {worker}: silent for {silence}")
        }
        Effect::Disconnect { worker, why } => format!("disconnect {worker}: {why:?}"),
        Effect::Commit { step, .. } => format!("commit {step}"),
        Effect::Checkpoint { step, reason, .. } => format!("checkpoint {step}: {reason:?}"),
        Effect::Doubt { worker, at, node } => format!("doubt {worker} #{}: {node}", at.lease.0),
        Effect::Contradict { step, node, workers } => {
            let workers: Vec<String> = workers.iter().map(|worker| worker.0.to_string()).collect();
            format!("contradict {step}, {node}: {}", workers.join(", "))
        }
        Effect::Overdue { worker, at, node, held } => {
            format!("overdue {worker} #{}: {node} for {held}", at.lease.0)
        }
        Effect::Dispute { step, node, workers } => {
            let workers: Vec<String> = workers.iter().map(|worker| worker.0.to_string()).collect();
            format!("dispute {step}, {node}: {}", workers.join(", "))
        }
        Effect::Evict { worker, name, step, proof, since, .. } => {
            let proof = match proof {
                EvictionProof::Node { node, judges: [one, two] } => format!("{node}, say {one} and {two}"),
                EvictionProof::Sum => "its sum is wrong".to_owned(),
                EvictionProof::Disagreements(machines) => format!("disagrees with {}", machines.join(" and ")),
            };
            format!("evict {worker} ({name}) at {step}, {proof}: since {since}")
        }
        Effect::Disagree { step, workers: [one, other], since } => {
            format!("{one} and {other} disagree at {step}: since {since}")
        }
        Effect::Ignore { what, why, .. } => format!("ignore {what}: {why}"),
        Effect::Finish { outcome } => format!("finish: {outcome}"),
    }
}

fn show_owner(owner: &Owner) -> String {
    match owner {
        Owner::Coordinator => "-".to_owned(),
        Owner::Worker(worker) => worker.0.to_string(),
    }
}

fn show_record(record: &Record) -> String {
    match record {
        Record::Started { generation, first_step } => format!("{generation} started at {first_step}"),
        Record::WorkerJoined { worker, threads, .. } => format!("{worker} joined x{threads}"),
        Record::WorkerGone { worker, reason } => format!("{worker} gone: {reason:?}"),
        Record::StepCommitted { step, ledger, audited_owners, .. } => {
            let entry = |e: &LedgerEntry| {
                let auditor = e.auditor.map(|auditor| format!(" and {}", auditor.0)).unwrap_or_default();
                format!("{}..{} by {}{auditor}", e.node.first, e.node.last, e.worker.0)
            };
            let entries: Vec<String> = ledger.iter().map(entry).collect();
            let audited: String = audited_owners.iter().map(|owner| format!("; sums of {} audited", owner.0)).collect();
            format!("{step} committed: {}{audited}", entries.join(", "))
        }
        Record::Evaluated { step, stop_early } => {
            format!("{step} evaluated{}", if *stop_early { ", enough" } else { "" })
        }
        Record::Evicted { worker, name, since, .. } => format!("{worker} ({name}) evicted since {since}"),
        Record::Disagreed { machines: [one, other], since } => format!("{one} and {other} disagree since {since}"),
        Record::Disbelieved { since } => format!("disbelieved since {since}"),
        Record::Finished { outcome } => format!("finished: {outcome}"),
        Record::Lost { at_most } => format!("lost, at most {at_most}"),
    }
}
