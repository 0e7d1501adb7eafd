use std::path::Path;

use convoy_model::Network;
use convoy_scheduler::{
    AbandonReason, CheckpointReason, JobId, Lease, LeaseId, LeaseRef, Micros, Node, Opening, Outcome, OwnersReason,
    RunGeneration,
};
use tokio::sync::mpsc;

use super::super::outbox::{WorkerInbox, WorkerOutbox};
use super::*;
use crate::fixtures::{FakeLinks, RunEnds, plan, run_handle};
use crate::queue::{QueueReceiver, queue};
use crate::run::folder::events::Events;
use crate::run::folder::history::History;
use crate::run::folder::journal::JournalFile;
use crate::run::run_inputs::RunInput;
use crate::run::tracker::Tracker;

type Messages = WorkerInbox;

/// Effects, and what they reach.
struct Bench {
    effects: EffectHandler,
    links: Arc<FakeLinks>,
    ends: RunEnds,
    handle: Arc<RunHandle>,
    events: mpsc::UnboundedReceiver<RunEvent>,
    written: QueueReceiver<RunInput>,
    _journal: JournalFile,
}

impl Bench {
    fn new(folder: &Path) -> Self {
        let plan = plan("[train]\nepochs = 1\nbatch = 8\nshard = 8", 8, 0);
        let network = Arc::new(Network::of(&plan).unwrap());
        let (handle, ends) = run_handle(&plan, 1, folder);
        let (journal, _) = JournalFile::open(&folder.join("journal")).unwrap();
        let (event_sender, events) = mpsc::unbounded_channel();
        let (inputs, written) = queue(16);
        let links = Arc::new(FakeLinks::default());
        let log_events = Events::open(&folder.join("events"), Some(event_sender));
        let log = RunLog::new(Tracker::new(plan.clone(), History::default()), log_events, folder);
        let writer = CheckpointWriter::start(folder.to_owned(), plan, network, journal.syncer(), inputs);
        let members = RunMembers::new(links.clone(), JobId(7));
        let effects = EffectHandler::new(&handle, members, log, writer, Digest::default());
        Bench { effects, links, ends, handle, events, written, _journal: journal }
    }

    fn join(&mut self, worker: u32, name: &str, room: usize) -> Messages {
        let (outbox, messages) = WorkerOutbox::new(room);
        self.effects.members.join(WorkerId(worker), name.to_owned(), outbox);
        messages
    }

    fn open(&mut self, opening: u64) {
        let opening = Opening(opening);
        self.effects.carry_out(Effect::OpenStep { step: StepId(0), work: Work::Train, shards: 1, opening });
    }

    /// Chunks are owned by these from now on; 0 is the coordinator.
    fn owners(&mut self, version: u64, of: &[u32], why: OwnersReason) {
        let owner = |worker: &u32| if *worker == 0 { Owner::Coordinator } else { Owner::Worker(WorkerId(*worker)) };
        let of = of.iter().map(owner).collect();
        self.effects.carry_out(Effect::Owners { version: OwnersVersion(version), of, why });
    }

    fn scaled(&mut self, opening: u64) {
        self.effects.scaled(Opening(opening), Scales { gradient: 0.5, statistics: 0.25 });
    }

    /// What a worker that comes now is told of the exchange.
    fn told_to_a_newcomer(&mut self, worker: u32) -> Vec<Message> {
        let mut messages = self.join(worker, "gnu", 16);
        self.effects.tell_exchange(WorkerId(worker));
        read(&mut messages)
    }

    fn lend(&mut self, worker: u32) -> LeaseRef {
        let at = LeaseRef { generation: RunGeneration(1), step: StepId(0), lease: LeaseId(0), epoch: 0 };
        let lease = Lease { at, work: Work::Train, node: NODE };
        self.effects.carry_out(Effect::Send { worker: WorkerId(worker), lease, check: Check::Count });
        at
    }

    fn is_admitted(&self, worker: u32, at: LeaseRef) -> bool {
        self.handle.leases.admit(WorkerId(worker), at, Work::Train, NODE).is_ok()
    }

    fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.ends.commands.try_recv().ok()).collect()
    }

    fn told(&mut self) -> Vec<RunEvent> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}

const NODE: Node = Node { first: 0, last: 1 };

fn owners_told(version: u64, of: &[u32]) -> Message {
    Message::Owners(v1::Owners { job: 7, version, of: of.to_vec() })
}

fn opened_told(opening: u64) -> Message {
    Message::StepOpened(v1::StepOpened { job: 7, step: 0, opening, shards: 1 })
}

fn scales_told(opening: u64) -> Message {
    Message::Scales(v1::Scales { job: 7, opening, gradient: 0.5, statistics: 0.25 })
}

fn read(messages: &mut Messages) -> Vec<Message> {
    let all = std::iter::from_fn(|| messages.try_recv().ok());
    all.filter_map(|message| message.expect("messages only").message).collect()
}

#[test]
fn a_lease_can_be_answered_until_its_step_is_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path());
    let mut messages = bench.join(1, "ox", 16);
    bench.open(1);
    let at = bench.lend(1);
    assert!(matches!(read(&mut messages)[..], [Message::Lease(_)]));
    assert!(bench.is_admitted(1, at) && !bench.is_admitted(2, at));
    bench.open(2);
    assert!(!bench.is_admitted(1, at), "an answer to the first opening is stale");
    let commands = bench.commands();
    assert!(
        matches!(commands[..], [Command::Open { opening: first, .. }, Command::Open { opening: second, .. }]
            if (first, second) == (Opening(1), Opening(2))),
        "{commands:?}"
    );
}

#[tokio::test]
async fn an_abandoned_training_step_is_taken_back_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path());
    let mut messages = bench.join(1, "ox", 16);
    bench.open(1);
    let at = bench.lend(1);
    let next = bench.handle.board.open(1, 1, []);
    read(&mut messages);
    let why = AbandonReason::Doubted;
    bench.effects.carry_out(Effect::AbandonStep { step: StepId(0), work: Work::Train, why });
    assert!(!bench.is_admitted(1, at));
    assert!(matches!(bench.commands().last(), Some(Command::Abandon)));
    assert!(next.chunk(0, false).await.is_err(), "who reads the next parameters is told");
    assert!(matches!(read(&mut messages)[..], [Message::Abandoned(v1::Abandoned { step: 1 })]));
    bench.effects.carry_out(Effect::AbandonStep { step: StepId(0), work: Work::Evaluate, why });
    assert!(read(&mut messages).is_empty(), "an evaluation makes no parameters");
}

#[test]
fn a_member_that_does_not_read_is_lost_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path());
    let _deaf = bench.join(1, "ox", 1);
    let mut reads = bench.join(2, "yak", 16);
    bench.effects.reduced = vec![8.0, 1.0, 8.0, 4.0];
    for step in 0..3 {
        bench.effects.reduced = vec![8.0, 1.0, 8.0, 4.0];
        bench.effects.carry_out(Effect::Commit { step: StepId(step), digest: [1; 32] });
    }
    assert_eq!(bench.links.asked(), ["lose worker 1"]);
    assert_eq!(read(&mut reads).len(), 3, "others hear every commit");
}

#[test]
fn a_commit_is_told_to_the_reducer_and_to_all_members() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path());
    let mut messages = bench.join(1, "ox", 16);
    bench.effects.reduced = vec![8.0, 1.0, 8.0, 4.0];
    bench.effects.carry_out(Effect::Commit { step: StepId(0), digest: [9; 32] });
    assert!(matches!(bench.commands()[..], [Command::Commit]));
    assert!(matches!(read(&mut messages)[..], [Message::Committed(v1::Committed { step: 1, .. })]));
    assert_eq!(bench.effects.digest, Digest([9; 32]));
    assert!(bench.effects.reduced.is_empty(), "sums count once");
    let told = bench.told();
    assert!(matches!(&told[..], [RunEvent::Epoch(row)] if row.step == 1), "an epoch without validation: {told:?}");
    assert!(folder.path().join("metrics.csv").exists());
}

#[test]
fn each_way_to_part_is_told_to_the_connections_in_its_own_words() {
    let silence = Micros::seconds(2);
    for (why, asked) in [
        (DisconnectReason::Silent { silence }, format!("disconnect worker 1: not heard of for {silence}")),
        (DisconnectReason::Evicted, "disconnect worker 1: it was proven to compute wrongly".to_owned()),
        (DisconnectReason::Drained, "release worker 1 of job 7: drained".to_owned()),
        (
            DisconnectReason::Full { limit: 3 },
            "disconnect worker 1: the run has 3 workers, as many as it can".to_owned(),
        ),
        (DisconnectReason::RunOver, "release worker 1 of job 7: the run is over".to_owned()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = Bench::new(folder.path());
        let _messages = bench.join(1, "ox", 16);
        bench.effects.carry_out(Effect::Disconnect { worker: WorkerId(1), why });
        assert_eq!(bench.links.asked(), [asked]);
        let left = matches!(bench.told()[..], [RunEvent::WorkerLeft { worker: 1, .. }]);
        assert_eq!(left, why != DisconnectReason::RunOver, "{why:?}");
    }
}

#[test]
fn who_computed_wrongly_is_evicted_by_machine_with_the_proof() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path());
    let _messages = (bench.join(1, "ox", 16), bench.join(2, "yak", 16));
    bench.effects.carry_out(Effect::Evict {
        worker: WorkerId(1),
        machine: "member 7".to_owned(),
        name: "ox".to_owned(),
        step: StepId(4),
        proof: EvictionProof::Node { node: NODE, judges: [WorkerId(2), WorkerId(3)] },
        since: StepId(2),
    });
    let asked = bench.links.asked();
    assert!(
        asked[0].starts_with("evict member 7: `ox` (member 7) computed shard 0 of step 4 wrongly (yak and worker 3"),
        "{asked:?}"
    );
    let told = bench.told();
    assert!(
        matches!(&told[..], [RunEvent::Distrusted { step: 4, since: 2, judges, .. }] if judges[..] == ["yak", "worker 3"]),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_checkpoint_holds_the_state_that_the_reducer_has_when_it_comes_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path());
    let (reason, trusted) = (CheckpointReason::Interval, StepId(0));
    bench.effects.carry_out(Effect::Checkpoint { step: StepId(3), reason, trusted });
    let mut commands = bench.commands();
    let Some(Command::Snapshot { reply }) = commands.pop() else { panic!("{commands:?}") };
    assert!(bench.written.try_recv().is_none(), "nothing is written before");
    let network = Network::of(&bench.handle.plan).unwrap();
    let flat = convoy_reduce::Flat::of(&network.initial(0));
    let moments = vec![convoy_reduce::Flat::zeros(network.parameters)];
    reply.send(Arc::new(ParameterState { step: 3, flat, moments })).unwrap();
    let input = bench.written.recv().await;
    let Some(RunInput::CheckpointWritten { step: 3, path }) = input else { panic!("{input:?}") };
    assert!(path.is_file());
}

#[tokio::test]
async fn a_checkpoint_without_a_reducer_fails() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path());
    let (reason, trusted) = (CheckpointReason::Interval, StepId(0));
    bench.effects.carry_out(Effect::Checkpoint { step: StepId(3), reason, trusted });
    drop(bench.commands());
    assert!(matches!(bench.written.recv().await, Some(RunInput::CheckpointFailed { step: 3, .. })));
}

#[test]
fn nobody_is_a_member_of_a_run_that_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path());
    let mut messages = bench.join(1, "ox", 16);
    bench.effects.carry_out(Effect::Finish { outcome: Outcome::Completed });
    bench.lend(1);
    assert!(read(&mut messages).is_empty());
    assert_eq!(bench.effects.members.name_of(WorkerId(1)), "worker 1");
}

#[test]
fn members_are_told_who_owns_what_before_the_step_and_the_step_before_its_scales() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path());
    let mut members = [1, 2].map(|worker| bench.join(worker, "ox", 16));
    bench.owners(1, &[1, 2, 0], OwnersReason::StepBegins);
    bench.open(1);
    bench.scaled(1);
    for messages in &mut members {
        assert_eq!(read(messages), [owners_told(1, &[1, 2, 0]), opened_told(1), scales_told(1)]);
    }
    let commands = bench.commands();
    let [Command::Owners { version: OwnersVersion(1), of }, Command::Open { opening: Opening(1), .. }] = &commands[..]
    else {
        panic!("{commands:?}")
    };
    assert_eq!(of[..], [Owner::Worker(WorkerId(1)), Owner::Worker(WorkerId(2)), Owner::Coordinator]);
    let gone_to = |version| bench.handle.delivery.gone_to(OwnersVersion(version)).map(|of| of.len());
    assert_eq!([0, 1].map(gone_to), [None, Some(of.len())], "the service knows as well");
}

#[test]
fn who_comes_later_is_told_what_of_the_exchange_still_holds() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path());
    bench.owners(1, &[1, 2], OwnersReason::StepBegins);
    assert_eq!(bench.told_to_a_newcomer(3), [owners_told(1, &[1, 2])]);
    bench.open(1);
    assert_eq!(bench.told_to_a_newcomer(4), [owners_told(1, &[1, 2]), opened_told(1)]);
    bench.scaled(1);
    bench.owners(2, &[1, 1], OwnersReason::Gone(WorkerId(2)));
    assert_eq!(bench.told_to_a_newcomer(5), [owners_told(2, &[1, 1]), opened_told(1), scales_told(1)]);
    let why = AbandonReason::Doubted;
    bench.effects.carry_out(Effect::AbandonStep { step: StepId(0), work: Work::Train, why });
    assert_eq!(bench.told_to_a_newcomer(6), [owners_told(2, &[1, 1])], "the step was given up");
    bench.open(2);
    bench.scaled(2);
    bench.open(3);
    assert_eq!(bench.told_to_a_newcomer(7), [owners_told(2, &[1, 1]), opened_told(3)], "nothing scales it yet");
}

#[test]
fn nothing_of_an_exchange_is_told_where_nobody_ever_owned_anything() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path());
    let mut messages = bench.join(1, "ox", 16);
    bench.open(1);
    bench.scaled(1);
    assert_eq!(read(&mut messages), []);
    assert_eq!(bench.told_to_a_newcomer(2), []);
    assert_eq!(bench.effects.step_owned_by(WorkerId(1), Opening(1)), None);
}

#[test]
fn an_owner_that_waits_for_what_scales_its_sums_is_not_to_blame() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path());
    bench.owners(1, &[1, 2], OwnersReason::StepBegins);
    bench.open(2);
    bench.effects.squared(Opening(1), WorkerId(1));
    assert!(!bench.effects.waits_for_scales(WorkerId(1)), "that was of an earlier opening");
    bench.effects.squared(Opening(2), WorkerId(1));
    assert!(bench.effects.waits_for_scales(WorkerId(1)) && !bench.effects.waits_for_scales(WorkerId(2)));
    bench.owners(2, &[1], OwnersReason::Gone(WorkerId(2)));
    assert!(!bench.effects.waits_for_scales(WorkerId(1)), "it owes squares of the chunks that it got");
    bench.effects.squared(Opening(2), WorkerId(1));
    bench.scaled(2);
    assert!(!bench.effects.waits_for_scales(WorkerId(1)), "it can go on");
    bench.effects.squared(Opening(2), WorkerId(1));
    assert!(!bench.effects.waits_for_scales(WorkerId(1)));
}

#[test]
fn what_scales_sums_is_told_of_the_open_step_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path());
    bench.owners(1, &[1, 2], OwnersReason::StepBegins);
    bench.open(2);
    let mut messages = bench.join(1, "ox", 16);
    bench.scaled(1);
    let why = AbandonReason::Doubted;
    bench.effects.carry_out(Effect::AbandonStep { step: StepId(0), work: Work::Train, why });
    bench.scaled(2);
    assert!(matches!(read(&mut messages)[..], [Message::Abandoned(_)]));
    let (step, work, opening) = (StepId(0), Work::Evaluate, Opening(3));
    bench.effects.carry_out(Effect::OpenStep { step, work, shards: 1, opening });
    bench.scaled(3);
    assert_eq!(read(&mut messages), [], "an evaluation is none of the owners' business");
}

#[test]
fn new_owners_of_a_step_in_work_are_told_what_scales_it_and_those_of_the_next_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path());
    bench.owners(1, &[1, 2], OwnersReason::StepBegins);
    bench.open(1);
    bench.scaled(1);
    let mut messages = bench.join(1, "ox", 16);
    bench.owners(2, &[1, 1], OwnersReason::Late(WorkerId(2)));
    assert_eq!(read(&mut messages), [owners_told(2, &[1, 1]), scales_told(1)]);
    for (version, why) in [(3, OwnersReason::StepBegins), (4, OwnersReason::Doubt)] {
        bench.owners(version, &[1, 2], why);
        assert_eq!(read(&mut messages), [owners_told(version, &[1, 2])], "{why}");
    }
}

#[test]
fn only_an_owner_has_a_say_and_only_about_the_step_in_work() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path());
    bench.owners(1, &[1, 2, 0], OwnersReason::StepBegins);
    assert_eq!(bench.effects.step_owned_by(WorkerId(1), Opening(0)), None, "no step is open");
    bench.open(1);
    let step = |bench: &Bench, owner, opening| bench.effects.step_owned_by(WorkerId(owner), Opening(opening));
    assert_eq!(step(&bench, 1, 1), Some(StepId(0)));
    assert_eq!((step(&bench, 3, 1), step(&bench, 1, 2)), (None, None));
    bench.owners(2, &[1, 1, 0], OwnersReason::Gone(WorkerId(2)));
    assert_eq!((step(&bench, 1, 1), step(&bench, 2, 1)), (Some(StepId(0)), None), "it was one");
    let why = AbandonReason::Doubted;
    bench.effects.carry_out(Effect::AbandonStep { step: StepId(0), work: Work::Train, why });
    assert_eq!(step(&bench, 1, 1), None, "it was given up");
}
