use bytes::Bytes;
use convoy_common::Plan;
use convoy_proto::{CHUNK_ELEMENTS, chunk_range};
use convoy_scheduler::{LeaseId, LeaseRef, Opening, Owner, RunGeneration, StepId};
use tonic::Code;

use super::*;
use crate::fixtures::{RunEnds, plan, run_handle};
use crate::run::brought_questions::BroughtDigest;

const NODE: Node = Node { first: 0, last: 2 };
const WORKER: WorkerId = WorkerId(1);

/// A run in which one lease is out: the first 16 samples of a step, in two shards.
struct Bench {
    run: Arc<RunHandle>,
    ends: RunEnds,
    contact: Arc<WorkerContact>,
    at: LeaseRef,
    work: Work,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new(work: Work, check: Check) -> Self {
        let plan: Arc<Plan> = plan("[network]\nname = \"simple-cnn\"\n[train]\nbatch = 24\nshard = 8", 24, 16);
        Bench::of(&plan, work, check)
    }

    fn of(plan: &Arc<Plan>, work: Work, check: Check) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (run, ends) = run_handle(plan, 1, folder.path());
        let at = LeaseRef { generation: RunGeneration(1), step: StepId(0), lease: LeaseId(3), epoch: 0 };
        run.leases.clear();
        run.leases.add(WORKER, Lease { at, work, node: NODE }, check);
        Bench { run, ends, contact: Arc::new(WorkerContact::new()), at, work, _folder: folder }
    }

    fn header(&self, worker: u32) -> v1::NodeHeader {
        let lease = v1::Lease::from(Lease { at: self.at, work: self.work, node: NODE });
        let (at, work, node) = (lease.at, lease.work, lease.node);
        v1::NodeHeader { worker, job: 1, at, work, node, computing: false, version: 0 }
    }

    async fn admit(&self, header: v1::NodeHeader) -> Result<Result<NodePush, String>, Status> {
        NodePush::admit(&self.run, self.contact.clone(), header).await
    }

    async fn push(&self) -> NodePush {
        self.admit(self.header(WORKER.0)).await.expect("it is a header").expect("the lease is out")
    }

    fn chunks(&self) -> usize {
        chunk_count(self.run.vector.elements)
    }

    fn chunk(&self, index: usize, value: f32) -> Option<Message> {
        let range = chunk_range(self.run.vector.elements, index);
        let bytes: Vec<u8> = range.clone().flat_map(|_| value.to_le_bytes()).collect();
        Some(Message::Chunk(Chunk { offset: range.start as u64, data: Bytes::from(bytes).into() }))
    }

    fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.ends.commands.try_recv().ok()).collect()
    }

    fn inputs(&mut self) -> Vec<RunInput> {
        let all = std::iter::from_fn(|| self.ends.inputs.try_recv());
        let computed = |input: &RunInput| matches!(input, RunInput::Event(Event::NodeComputed { .. }));
        all.filter(|input| !matches!(input, RunInput::Worked(_)) && !computed(input)).collect()
    }
}

fn summary() -> v1::NodeSummary {
    v1::NodeSummary { sums: vec![16.0, 1.0, 16.0, 4.0], ..Default::default() }
}

async fn code(push: &mut NodePush, message: Option<Message>) -> Option<Code> {
    push.take(message).await.err().map(|status| status.code())
}

#[tokio::test]
async fn a_node_goes_to_the_reducer_chunk_by_chunk_and_its_event_after_it() {
    let mut bench = Bench::new(Work::Train, Check::Count);
    let mut push = bench.push().await;
    for index in (0..bench.chunks()).rev() {
        assert_eq!(push.take(bench.chunk(index, 0.5)).await.unwrap(), None);
    }
    assert_eq!(push.take(Some(Message::Summary(summary()))).await.unwrap().as_deref(), Some(""));
    let commands = bench.commands();
    let indices: Vec<usize> = commands
        .iter()
        .filter_map(|command| match command {
            Command::Chunk { node: NODE, index, values, .. } if values.iter().all(|value| *value == 0.5) => {
                Some(*index)
            }
            _ => None,
        })
        .collect();
    assert_eq!(indices, (0..bench.chunks()).rev().collect::<Vec<_>>());
    let good = |event: &Event| matches!(event, Event::NodeDone { result: NodeResult::Good, digest: None, .. });
    assert!(
        matches!(commands.last(), Some(Command::Summary { event_after, not_finite: None, .. }) if good(event_after))
    );
    assert!(bench.inputs().is_empty(), "the run hears of it from the reducer");
}

#[tokio::test]
async fn a_node_for_an_audit_alone_is_not_counted_but_its_digest_is_told() {
    let mut bench = Bench::new(Work::Train, Check::Digest);
    let mut push = bench.push().await;
    for index in 0..bench.chunks() {
        push.take(bench.chunk(index, 0.5)).await.unwrap();
    }
    push.take(Some(Message::Summary(summary()))).await.unwrap();
    assert!(bench.commands().is_empty());
    assert!(matches!(bench.inputs()[..], [RunInput::Event(Event::NodeDone { digest: Some(_), .. })]));
}

#[tokio::test]
async fn a_header_says_that_the_node_is_computed_unless_it_says_that_it_is_not() {
    for (computing, told) in [(false, true), (true, false)] {
        let mut bench = Bench::new(Work::Train, Check::Count);
        let header = v1::NodeHeader { computing, ..bench.header(WORKER.0) };
        let mut push = bench.admit(header).await.expect("it is a header").expect("the lease is out");
        push.take(bench.chunk(1, 0.5)).await.unwrap();
        let input = bench.ends.inputs.try_recv();
        assert_eq!(matches!(input, Some(RunInput::Event(Event::NodeComputed { .. }))), told);
        assert!(matches!(bench.commands()[..], [Command::Chunk { index: 1, .. }]), "it is counted at once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_computed_for_long_may_be_silent_until_its_lease_is_not_out_any_more() {
    let bench = Bench::new(Work::Train, Check::Count);
    let push = bench.push().await;
    assert_eq!(push.wait_for(async { 7 }).await.unwrap(), 7);
    let hour = std::time::Duration::from_secs(3600);
    assert!(timeout(hour, push.wait_for(std::future::pending::<()>())).await.is_err(), "it is waited for");
    bench.run.leases.clear();
    let ended = timeout(hour, push.wait_for(std::future::pending::<()>())).await.expect("nobody waits any more");
    assert_eq!(ended.unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn what_was_not_lent_is_not_taken() {
    let bench = Bench::new(Work::Train, Check::Count);
    let refusal = bench.admit(bench.header(2)).await.expect("it is a header");
    assert!(refusal.err().is_some_and(|reason| reason.contains("was given to worker 1")));
    let nameless = v1::NodeHeader { at: None, ..bench.header(1) };
    assert!(bench.admit(nameless).await.is_err(), "it is no header");
    bench.run.leases.clear();
    assert!(bench.admit(bench.header(1)).await.expect("it is a header").is_err());
}

#[tokio::test]
async fn a_nan_ends_the_node_at_once() {
    let mut bench = Bench::new(Work::Train, Check::CountAndDigest);
    let mut push = bench.push().await;
    push.take(bench.chunk(0, 1.0)).await.unwrap();
    let told = push.take(bench.chunk(1, f32::NAN)).await.unwrap();
    assert!(told.is_some_and(|told| told.contains("NaN")));
    let commands = bench.commands();
    let [Command::Chunk { .. }, Command::Summary { not_finite: Some(0), event_after, .. }] = &commands[..] else {
        panic!("{commands:?}")
    };
    assert!(matches!(event_after, Event::NodeDone { result: NodeResult::NotFinite, digest: None, .. }));
}

#[tokio::test]
async fn an_absurdly_large_number_is_told_with_the_node() {
    let mut bench = Bench::new(Work::Train, Check::Count);
    let mut push = bench.push().await;
    push.take(bench.chunk(0, f32::MAX)).await.unwrap();
    for index in 1..bench.chunks() {
        push.take(bench.chunk(index, 1.0)).await.unwrap();
    }
    push.take(Some(Message::Summary(summary()))).await.unwrap();
    let commands = bench.commands();
    let Some(Command::Summary { event_after, .. }) = commands.last() else { panic!("{commands:?}") };
    assert!(matches!(event_after, Event::NodeDone { result: NodeResult::Absurd, .. }));
}

#[tokio::test]
async fn what_no_worker_of_this_version_sends_is_refused() {
    let bench = Bench::new(Work::Train, Check::Count);
    let invalid = Some(Code::InvalidArgument);
    let header = || Some(Message::Header(bench.header(1)));
    assert_eq!(code(&mut bench.push().await, header()).await, invalid, "a second header");
    assert_eq!(code(&mut bench.push().await, Some(Message::Summary(summary()))).await, invalid, "chunks are missing");
    assert_eq!(code(&mut bench.push().await, None).await, Some(Code::Cancelled));
    let chunk =
        |offset: u64, bytes: usize| Some(Message::Chunk(Chunk { offset, data: Bytes::from(vec![0; bytes]).into() }));
    for (offset, bytes) in [(1, 4 * CHUNK_ELEMENTS), (0, 4), (u64::MAX, 4), (bench.run.vector.elements as u64, 0)] {
        assert_eq!(code(&mut bench.push().await, chunk(offset, bytes)).await, invalid, "{bytes} bytes at {offset}");
    }
}

#[tokio::test]
async fn a_chunk_that_comes_twice_ends_the_node_and_is_a_failure_of_its_worker() {
    for check in [Check::Count, Check::CountAndDigest, Check::Digest] {
        let mut bench = Bench::new(Work::Train, check);
        let mut push = bench.push().await;
        push.take(bench.chunk(0, -3.0)).await.unwrap();
        let status = push.take(bench.chunk(0, 1.0)).await.unwrap_err();
        assert_eq!((status.code(), status.message().contains("came twice")), (Code::InvalidArgument, true), "{status}");
        let failed = bench.inputs();
        let [RunInput::LeaseFailed { worker: WORKER, at, failure: Failure::Internal, .. }] = failed[..] else {
            panic!("{failed:?}")
        };
        assert_eq!(at, bench.at);
    }
}

#[tokio::test]
async fn nodes_of_one_lease_come_one_after_the_other() {
    let bench = Bench::new(Work::Train, Check::Count);
    let push = bench.push().await;
    let second = bench.admit(bench.header(WORKER.0)).await.expect("it is a header");
    assert!(second.err().is_some_and(|reason| reason.contains("on its way already")));
    drop(push);
    bench.push().await;
}

#[tokio::test]
async fn an_evaluation_has_sums_and_no_chunks() {
    let mut bench = Bench::new(Work::Evaluate, Check::Count);
    assert_eq!(code(&mut bench.push().await, bench.chunk(0, 1.0)).await, Some(Code::InvalidArgument));
    let mut push = bench.push().await;
    let sums = vec![1.0; bench.run.plan.metric_layout().len()];
    let whole = v1::NodeSummary { sums, ..Default::default() };
    assert_eq!(push.take(Some(Message::Summary(whole))).await.unwrap().as_deref(), Some(""));
    assert!(matches!(bench.commands()[..], [Command::Summary { .. }]));
}

#[tokio::test(start_paused = true)]
async fn the_run_is_told_that_a_node_is_computed_before_its_bytes_come_and_when_they_do() {
    let mut bench = Bench::new(Work::Train, Check::Count);
    let begun = tokio::time::Instant::now();
    let mut push = bench.push().await;
    let told = bench.ends.inputs.try_recv();
    assert!(
        matches!(told, Some(RunInput::Event(Event::NodeComputed { worker: WORKER, at })) if at == bench.at),
        "{told:?}"
    );
    for (index, second) in (0..bench.chunks()).zip(1..) {
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(code(&mut push, bench.chunk(index, 1.0)).await, None);
        let contact = bench.contact.read(begun);
        assert_eq!((contact.pushed.0, contact.heard.0), (second * 1_000_000, second * 1_000_000));
    }
}

#[tokio::test(start_paused = true)]
async fn a_chunk_waits_for_room_at_the_reducer() {
    let mut bench = Bench::new(Work::Train, Check::Count);
    let wait = std::time::Duration::from_secs(3600);
    let mut queued = 0;
    while tokio::time::timeout(wait, bench.push().await.take(bench.chunk(0, 1.0))).await.is_ok() {
        queued += 1;
        assert!(queued < 1000, "there is no bound");
        // The run hears of each push.
        bench.inputs();
    }
    bench.inputs();
    let commands = bench.commands();
    assert_eq!(commands.len(), queued);
    drop(commands);
    let mut push = bench.push().await;
    assert!(tokio::time::timeout(wait, push.take(bench.chunk(0, 1.0))).await.is_ok(), "the reducer has come to them");
}

#[tokio::test]
async fn a_run_that_is_over_takes_nothing() {
    let Bench { run, ends, at, work, contact, _folder } = Bench::new(Work::Train, Check::Count);
    drop(ends);
    let (_, ends) = run_handle(&run.plan, 1, _folder.path());
    let bench = Bench { run, ends, at, work, contact, _folder };
    let refused = bench.admit(bench.header(WORKER.0)).await.err();
    assert_eq!(refused.map(|status| status.code()), Some(Code::Unavailable));
}

#[test]
fn a_summary_that_cannot_be_true_is_refused() {
    let node = Node { first: 4, last: 6 };
    let refused = |sums: Vec<f64>, not_finite: Option<u32>| {
        let summary = v1::NodeSummary { sums, not_finite, ..Default::default() };
        check_summary(&summary, node, Some((1.0, TRAIN_SUMS)), 3).is_err()
    };
    assert!(!refused(vec![1.0; TRAIN_SUMS], None));
    assert!(!refused(vec![f64::NAN; TRAIN_SUMS], Some(5)));
    assert!(refused(vec![1.0; TRAIN_SUMS - 1], None), "too few sums");
    assert!(refused(vec![f64::NAN; TRAIN_SUMS], None), "NaN in a node that is said to be finite");
    assert!(refused(vec![1.0; TRAIN_SUMS], Some(6)), "a shard of another node");
    assert!(refused(vec![2.0; TRAIN_SUMS], None), "more samples than the node has");
}

#[tokio::test]
async fn frozen_chunks_are_not_waited_for_and_who_sends_one_has_failed() {
    let spec = "[network]\nname = \"simple-cnn\"\nfreeze_epochs = 1\n[train]\nbatch = 24\nshard = 8";
    let plan: Arc<Plan> = plan(spec, 24, 16);
    for evil in [false, true] {
        let mut bench = Bench::of(&plan, Work::Train, Check::Count);
        let frozen: Vec<usize> = bench.run.vector.frozen.at(0).collect();
        assert!(!frozen.is_empty() && frozen.len() < bench.chunks());
        let mut push = bench.push().await;
        if evil {
            assert_eq!(code(&mut push, bench.chunk(frozen[0], 0.0)).await, Some(Code::InvalidArgument));
            assert!(matches!(bench.inputs()[..], [RunInput::LeaseFailed { failure: Failure::Internal, .. }]));
            assert!(bench.commands().is_empty());
            continue;
        }
        for index in (0..bench.chunks()).filter(|index| !frozen.contains(index)) {
            assert_eq!(push.take(bench.chunk(index, 0.5)).await.unwrap(), None);
        }
        assert_eq!(push.take(Some(Message::Summary(summary()))).await.unwrap(), Some(String::new()));
        assert_eq!(bench.commands().len(), bench.chunks() - frozen.len() + 1);
    }
}

/// A worker owns all chunks from now on.
fn slice(bench: &Bench, version: u64) {
    bench.run.delivery.change(OwnersVersion(version), &[Owner::Worker(WorkerId(9))]);
}

#[tokio::test]
async fn a_node_whose_chunks_went_to_workers_has_none_here() {
    let mut bench = Bench::new(Work::Train, Check::Count);
    slice(&bench, 4);
    let header = || v1::NodeHeader { version: 4, ..bench.header(WORKER.0) };
    let mut push = bench.admit(header()).await.expect("it is a header").expect("these are the owners");
    assert_eq!(code(&mut push, bench.chunk(0, 1.0)).await, Some(Code::InvalidArgument));
    drop(push);
    let mut push = bench.admit(header()).await.expect("it is a header").expect("these are the owners");
    assert_eq!(push.take(Some(Message::Summary(summary()))).await.unwrap().as_deref(), Some(""));
    let commands = bench.commands();
    let [Command::Summary { event_after, not_finite: None, .. }] = &commands[..] else { panic!("{commands:?}") };
    let Event::NodeDone { version, result, .. } = event_after else { panic!("{event_after:?}") };
    assert_eq!((*version, *result), (OwnersVersion(4), NodeResult::Good), "the run is told who has its chunks");
}

#[tokio::test]
async fn a_node_whose_chunks_went_to_others_than_the_present_owners_is_ignored() {
    let mut bench = Bench::new(Work::Train, Check::Count);
    slice(&bench, 4);
    for version in [0, 3, 5] {
        let header = v1::NodeHeader { version, ..bench.header(WORKER.0) };
        let refused = bench.admit(header).await.expect("it is a header").err();
        assert_eq!(refused, Some(format!("version {version} of the owners is not in force")));
    }
    assert!(bench.ends.inputs.try_recv().is_none(), "the run does not hear that it is computed");
    let header = v1::NodeHeader { version: 4, ..bench.header(WORKER.0) };
    assert!(bench.admit(header).await.expect("it is a header").is_ok(), "it may come once more");
}

#[tokio::test]
async fn an_evaluation_may_be_told_under_any_owners() {
    let bench = Bench::new(Work::Evaluate, Check::Count);
    slice(&bench, 4);
    assert!(bench.admit(bench.header(WORKER.0)).await.expect("it is a header").is_ok());
}

#[tokio::test]
async fn a_worker_whose_chunks_are_elsewhere_says_itself_that_they_are_absurdly_large() {
    for (absurd, not_finite, expected) in
        [(false, None, NodeResult::Good), (true, None, NodeResult::Absurd), (true, Some(1), NodeResult::NotFinite)]
    {
        let mut bench = Bench::new(Work::Train, Check::Count);
        slice(&bench, 1);
        let header = v1::NodeHeader { version: 1, ..bench.header(WORKER.0) };
        let mut push = bench.admit(header).await.expect("it is a header").expect("these are the owners");
        let summary = v1::NodeSummary { absurd, not_finite, ..summary() };
        push.take(Some(Message::Summary(summary))).await.unwrap();
        let commands = bench.commands();
        let [Command::Summary { event_after: Event::NodeDone { result, .. }, .. }] = &commands[..] else {
            panic!("{commands:?}")
        };
        assert_eq!(*result, expected);
    }
}

const OWNERS: [Owner; 2] = [Owner::Worker(WorkerId(8)), Owner::Worker(WorkerId(9))];

/// The chunks belong in turn to two workers, and a lease is out that is treated so.
fn sliced(check: Check) -> (Bench, v1::NodeHeader, Vec<Owner>) {
    let bench = Bench::new(Work::Train, check);
    let of: Vec<Owner> = OWNERS.into_iter().cycle().take(bench.chunks()).collect();
    bench.run.delivery.change(OwnersVersion(4), &of);
    let header = v1::NodeHeader { version: 4, ..bench.header(WORKER.0) };
    (bench, header, of)
}

fn digest_of(index: usize) -> Digest {
    Digest([index as u8 + 1; 32])
}

/// The digest of a node whose chunks have these.
fn expected(of: &[Owner], digest: impl Fn(usize) -> Digest) -> NodeDigest {
    let away = ChunksAway { of: of.into(), frozen: vec![false; of.len()] };
    let sums = ReceivedChunks::new(0, true).digest(&summary().sums).unwrap();
    away.digest(sums, &(0..of.len()).map(|index| (index, digest(index))).collect()).unwrap()
}

#[tokio::test]
async fn an_auditor_says_digests_of_all_chunks() {
    let (mut bench, header, of) = sliced(Check::Digest);
    let bytes: Vec<u8> = (0..of.len()).flat_map(|index| digest_of(index).0).collect();
    for (digests, good) in [(bytes.clone(), true), (bytes[32..].to_vec(), false), (Vec::new(), false)] {
        let mut push = bench.admit(header).await.expect("it is a header").expect("these are the owners");
        let said = Some(Message::Summary(v1::NodeSummary { digests: digests.into(), ..summary() }));
        assert_eq!(code(&mut push, said).await, (!good).then_some(Code::InvalidArgument));
        drop(push);
        let inputs = bench.inputs();
        match &inputs[..] {
            [RunInput::Event(Event::NodeDone { digest, .. })] if good => {
                assert_eq!(*digest, Some(expected(&of, digest_of)));
            }
            [RunInput::LeaseFailed { .. }] if !good => {}
            _ => panic!("{inputs:?}"),
        }
        assert!(bench.commands().is_empty(), "nothing of it is counted");
    }
}

/// What is told of an audited node that is counted, where the owners answer `answers` of the questions.
async fn counted(answers: impl Fn(&RunHandle, u64)) -> (Option<NodeDigest>, Vec<RunInput>, Vec<Owner>) {
    let (mut bench, header, of) = sliced(Check::CountAndDigest);
    let mut push = bench.admit(header).await.expect("it is a header").expect("these are the owners");
    let run = bench.run.clone();
    let mut inputs = Vec::new();
    let asked = async {
        loop {
            let input = bench.ends.inputs.recv().await.expect("the run is there");
            if let RunInput::AskBrought { opening: Opening(0), node: NODE, question } = input {
                answers(&run, question);
                break std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        taken = push.take(Some(Message::Summary(summary()))) => assert_eq!(taken.unwrap().as_deref(), Some("")),
        () = asked => unreachable!("it never ends"),
    }
    inputs.extend(bench.inputs());
    let commands = bench.commands();
    let [Command::Summary { event_after: Event::NodeDone { digest, .. }, .. }] = &commands[..] else {
        panic!("{commands:?}")
    };
    (digest.clone(), inputs, of)
}

fn brought(of: &[Owner], owner: Owner, node: Node) -> Vec<BroughtDigest> {
    let own = of.iter().enumerate().filter(|(_, other)| **other == owner);
    own.map(|(index, _)| BroughtDigest { node, index, digest: digest_of(index) }).collect()
}

#[tokio::test(start_paused = true)]
async fn of_a_node_that_is_counted_and_audited_the_owners_say_what_they_were_brought() {
    let of: Vec<Owner> = OWNERS.into_iter().cycle().take(Bench::new(Work::Train, Check::Count).chunks()).collect();
    let answer = |run: &RunHandle, question, owner: Owner, node| {
        let Owner::Worker(worker) = owner else { unreachable!() };
        run.questions.answer(question, worker, brought(&of, owner, node))
    };
    let all = [WorkerId(8), WorkerId(9)];
    let (digest, inputs, _) = counted(|run, question| {
        run.questions.ask(question, all.into());
        assert!(OWNERS.into_iter().all(|owner| answer(run, question, owner, NODE)));
    })
    .await;
    assert_eq!((digest, inputs.len()), (Some(expected(&of, digest_of)), 0));
    let (digest, inputs, _) = counted(|run, question| {
        run.questions.ask(question, all.into());
        answer(run, question, OWNERS[0], NODE);
    })
    .await;
    assert_eq!(digest, None, "who was asked does not answer");
    let silent = |input: &RunInput| matches!(input, RunInput::Event(Event::Unanswered { worker: WorkerId(9), .. }));
    assert!(inputs.len() == 1 && silent(&inputs[0]), "{inputs:?}");
    let other = Node { first: 0, last: 1 };
    let (digest, inputs, _) = counted(|run, question| {
        run.questions.ask(question, all.into());
        OWNERS.into_iter().for_each(|owner| _ = answer(run, question, owner, other));
    })
    .await;
    let silent = |input: &RunInput| matches!(input, RunInput::Event(Event::Unanswered { worker: WorkerId(8), .. }));
    assert!(digest.is_none() && inputs.len() == 1 && silent(&inputs[0]), "it says nothing of its own: {inputs:?}");
    let (digest, inputs, _) = counted(|run, question| {
        run.questions.ask(question, all.into());
        let everything = of.iter().enumerate().map(|(index, _)| index);
        let lies = everything.map(|index| BroughtDigest { node: NODE, index, digest: Digest::default() });
        run.questions.answer(question, WorkerId(9), lies.collect());
        answer(run, question, OWNERS[0], NODE);
    })
    .await;
    let silent = |input: &RunInput| matches!(input, RunInput::Event(Event::Unanswered { worker: WorkerId(9), .. }));
    assert!(digest.is_none() && inputs.len() == 1 && silent(&inputs[0]), "it says things of others': {inputs:?}");
    let (digest, inputs, _) = counted(|run, question| run.questions.ask(question, [].into())).await;
    assert_eq!((digest, inputs.len()), (None, 0), "the opening is over");
}
