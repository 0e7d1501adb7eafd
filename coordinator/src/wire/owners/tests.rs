use bytes::Bytes;
use convoy_proto::{CHUNK_ELEMENTS, Chunk, chunk_range};
use convoy_reduce::Flat;
use convoy_scheduler::{Check, Lease, LeaseId, LeaseRef, RunGeneration, StepId, Work};
use tokio::time::{Duration, Instant, timeout};
use tokio_stream::StreamExt;
use tonic::Code;

use super::*;
use crate::fixtures::{RunEnds, plan, run_handle};

const HOUR: Duration = Duration::from_secs(3600);

/// An open run whose reducer is the test, and a worker in contact.
struct Bench {
    run: Arc<RunHandle>,
    ends: RunEnds,
    contact: Arc<WorkerContact>,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let plan = plan("[network]\nname = \"simple-cnn\"\n[train]\nbatch = 24\nshard = 8", 24, 16);
        let folder = tempfile::tempdir().unwrap();
        let (run, ends) = run_handle(&plan, 1, folder.path());
        Bench { run, ends, contact: Arc::new(WorkerContact::new()), _folder: folder }
    }

    fn chunks(&self) -> usize {
        chunk_count(self.run.vector.elements)
    }

    /// What an owner is told that asks for `chunks` before `step`, where the reducer is at `state`.
    async fn asks(&mut self, step: u64, chunks: &[u32], state: ParameterState) -> Result<Vec<v1::ChunkState>, Status> {
        let request = v1::StateRequest { worker: 1, job: 1, generation: 1, step, chunks: chunks.to_vec() };
        let state = Arc::new(state);
        let reducer = async {
            while let Some(command) = self.ends.commands.recv().await {
                let Command::State { reply } = command else { panic!("{command:?}") };
                reply.send(state.clone()).expect("somebody waits for it");
            }
        };
        let replies = tokio::select! {
            replies = super::state(&self.run, request, self.contact.clone()) => replies?,
            () = reducer => panic!("the run is there"),
        };
        replies.collect::<Result<Vec<v1::ChunkState>, Status>>().await
    }

    fn push(&self) -> RootPush {
        let header = v1::RootsHeader { worker: 5, job: 1, generation: 1, opening: 3 };
        RootPush::new(self.run.clone(), self.contact.clone(), &header)
    }

    fn sum(&self, index: usize, value: f32) -> Message {
        let range = chunk_range(self.run.vector.elements, index);
        let bytes: Vec<u8> = range.clone().flat_map(|_| value.to_le_bytes()).collect();
        Message::Sum(Chunk { offset: range.start as u64, data: Bytes::from(bytes).into() })
    }
}

/// A state of so many steps, of elements that are all different, with two thirds of them parameters.
fn state_of(elements: usize, step: u64) -> ParameterState {
    let part = |len: usize, first: f32| Flat::of(&(0..len).map(|i| first + i as f32).collect::<Vec<f32>>());
    ParameterState { step, flat: part(elements, 0.5), moments: vec![part(elements * 2 / 3, -0.5)] }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four of them"))).collect()
}

#[tokio::test]
async fn an_owner_gets_the_state_of_the_chunks_that_it_asks_for() {
    let mut bench = Bench::new();
    let state = state_of(bench.run.vector.elements, 4);
    let last = bench.chunks() as u32 - 1;
    let told = bench.asks(4, &[last, 0], state.clone()).await.expect("it is the committed state");
    assert_eq!(told.iter().map(|told| told.chunk).collect::<Vec<_>>(), [last, 0]);
    for v1::ChunkState { chunk, values, moments } in told {
        let expected = ChunkState::of(&state, chunk as usize);
        assert_eq!(floats(&values), expected.values[..]);
        assert_eq!(moments.len(), expected.moments.len(), "chunk {chunk}");
        assert!(moments.iter().zip(&expected.moments).all(|(told, expected)| floats(told) == expected[..]));
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_takes_its_state_is_in_contact() {
    let mut bench = Bench::new();
    let begun = Instant::now();
    tokio::time::advance(Duration::from_secs(1)).await;
    let state = state_of(bench.run.vector.elements, 0);
    bench.asks(0, &[0], state).await.expect("it is the committed state");
    tokio::task::yield_now().await;
    assert_eq!(bench.contact.read(begun).fetched.0, 1_000_000);
}

#[tokio::test]
async fn the_state_before_another_step_and_that_of_no_chunk_are_refused() {
    let mut bench = Bench::new();
    let elements = bench.run.vector.elements;
    let none = bench.chunks() as u32;
    for (step, chunks, expected) in
        [(3, [0, 1], Code::Aborted), (5, [0, 1], Code::Aborted), (4, [0, none], Code::InvalidArgument)]
    {
        let refused = bench.asks(step, &chunks, state_of(elements, 4)).await;
        assert_eq!(refused.map_err(|status| status.code()), Err(expected), "{chunks:?} before step {step}");
    }
}

#[tokio::test]
async fn a_run_that_is_over_has_no_state_and_takes_no_sums() {
    let Bench { run, mut ends, contact, _folder } = Bench::new();
    let request = || v1::StateRequest { chunks: vec![0], ..Default::default() };
    let forgets = async { drop(ends.commands.recv().await) };
    let (unanswered, ()) = tokio::join!(super::state(&run, request(), contact.clone()), forgets);
    drop(ends.commands);
    let bench = Bench { run, ends: Bench::new().ends, contact, _folder };
    let unheard = super::state(&bench.run, request(), bench.contact.clone()).await;
    for refused in [unanswered.err(), unheard.err(), bench.push().take(bench.sum(0, 1.0)).await.err()] {
        assert_eq!(refused.map(|status| status.code()), Some(Code::Unavailable));
    }
}

#[tokio::test]
async fn sums_and_squares_go_to_the_reducer_with_who_brings_them_and_what_for() {
    let mut bench = Bench::new();
    let push = bench.push();
    let index = bench.chunks() - 1;
    push.take(Message::Squares(v1::ChunkSquares { chunk: index as u32, squares: 2.5 })).await.unwrap();
    push.take(bench.sum(index, 0.5)).await.unwrap();
    let squares = bench.ends.commands.try_recv();
    let Ok(Command::Squares { opening: Opening(3), from: WorkerId(5), index: told, squares: 2.5, .. }) = squares else {
        panic!("{squares:?}")
    };
    assert_eq!(told, index);
    let sum = bench.ends.commands.try_recv();
    let Ok(Command::Root { opening: Opening(3), from: WorkerId(5), index: brought, values, .. }) = sum else {
        panic!("{sum:?}")
    };
    assert_eq!(brought, index);
    assert_eq!(values.len(), chunk_range(bench.run.vector.elements, index).len());
    assert!(values.iter().all(|value| *value == 0.5));
}

#[tokio::test]
async fn what_no_owner_of_this_version_sends_is_refused() {
    let mut bench = Bench::new();
    let chunk = |offset: u64, bytes: usize| Message::Sum(Chunk { offset, data: Bytes::from(vec![0; bytes]).into() });
    let squares = |chunk: usize, squares: f64| Message::Squares(v1::ChunkSquares { chunk: chunk as u32, squares });
    for message in [
        Message::Header(v1::RootsHeader::default()),
        chunk(1, 4 * CHUNK_ELEMENTS),
        chunk(0, 4),
        chunk(bench.run.vector.elements as u64, 0),
        squares(0, f64::NAN),
        squares(0, f64::INFINITY),
        squares(bench.chunks(), 1.0),
    ] {
        let refused = bench.push().take(message).await.err();
        assert_eq!(refused.map(|status| status.code()), Some(Code::InvalidArgument));
    }
    assert!(bench.ends.commands.try_recv().is_err(), "nothing of it goes on");
}

#[tokio::test(start_paused = true)]
async fn a_sum_waits_for_room_at_the_reducer_and_its_owner_is_not_blamed() {
    let mut bench = Bench::new();
    let begun = Instant::now();
    let push = bench.push();
    let mut queued = 0;
    while timeout(HOUR, push.take(bench.sum(0, 1.0))).await.is_ok() {
        queued += 1;
        assert!(queued < 1000, "there is no bound");
    }
    let pushed = bench.contact.read(begun).pushed.0;
    assert!(pushed > 3_599_000_000, "it was in contact all the time: {pushed}");
    let counted = std::iter::from_fn(|| bench.ends.commands.try_recv().ok()).count();
    assert_eq!(counted, queued);
    assert!(timeout(HOUR, push.take(bench.sum(0, 1.0))).await.is_ok(), "the reducer has come to them");
}

fn kept_header(chunk: usize) -> v1::KeptHeader {
    v1::KeptHeader { worker: 5, job: 1, generation: 1, opening: 3, chunk: chunk as u32 }
}

#[tokio::test]
async fn what_is_kept_goes_to_the_reducer_and_so_does_its_end() {
    let mut bench = Bench::new();
    let at = LeaseRef { generation: RunGeneration(1), step: StepId(0), lease: LeaseId(1), epoch: 0 };
    let lease = Lease { at, work: Work::Train, node: Node { first: 2, last: 4 } };
    bench.run.leases.add(WorkerId(5), lease, Check::Count);
    let push = KeptPush::new(bench.run.clone(), bench.contact.clone(), &kept_header(1));
    let chunk = |bench: &Bench, index| match bench.sum(index, 0.5) {
        Message::Sum(chunk) => Some(chunk),
        _ => unreachable!(),
    };
    let node = Some(v1::Node { first: 2, last: 4 });
    push.take(v1::KeptChunk { node, chunk: chunk(&bench, 1) }).await.unwrap();
    push.end().unwrap();
    let kept = bench.ends.commands.try_recv();
    let Ok(Command::Audit {
        opening: Opening(3),
        answer: AuditAnswer::Kept { from: WorkerId(5), index: 1, node: told, values, .. },
    }) = kept
    else {
        panic!("{kept:?}")
    };
    assert!(told == Node { first: 2, last: 4 } && values.iter().all(|value| *value == 0.5));
    let end = bench.ends.commands.try_recv();
    let sent = AuditAnswer::Sent { from: WorkerId(5), index: 1 };
    assert!(
        matches!(&end, Ok(Command::Audit { opening: Opening(3), answer }) if format!("{answer:?}") == format!("{sent:?}")),
        "{end:?}"
    );
    for wrong in [
        v1::KeptChunk { node, chunk: chunk(&bench, 0) },
        v1::KeptChunk { node: Some(v1::Node { first: 0, last: 2 }), chunk: chunk(&bench, 1) },
        v1::KeptChunk { node, chunk: None },
        v1::KeptChunk { node: None, chunk: chunk(&bench, 1) },
        v1::KeptChunk { node: Some(v1::Node { first: 4, last: 4 }), chunk: chunk(&bench, 1) },
    ] {
        let refused = push.take(wrong).await.err();
        assert_eq!(refused.map(|status| status.code()), Some(Code::InvalidArgument));
    }
    assert!(bench.ends.commands.try_recv().is_err(), "nothing of it goes on");
}

#[tokio::test]
async fn what_was_brought_goes_to_whoever_asks() {
    let bench = Bench::new();
    let (question, answers) = bench.run.questions.begin();
    bench.run.questions.ask(question, [WorkerId(5)].into());
    let said = |bytes: Vec<u8>, node| v1::BroughtDigests {
        worker: 5,
        question,
        brought: vec![v1::BroughtDigest { node, chunk: 7, digest: bytes.into() }],
        ..Default::default()
    };
    let node = Some(v1::Node { first: 0, last: 2 });
    for wrong in [said(vec![1; 31], node), said(vec![1; 32], None)] {
        let refused = super::brought(&bench.run, wrong).err();
        assert_eq!(refused.map(|status| status.code()), Some(Code::InvalidArgument));
    }
    super::brought(&bench.run, said(vec![1; 32], node)).unwrap();
    super::brought(&bench.run, said(vec![1; 32], node)).expect("nobody waits for it any more");
    let digest = BroughtDigest { node: Node { first: 0, last: 2 }, index: 7, digest: Digest([1; 32]) };
    assert_eq!(answers.await.unwrap(), [(WorkerId(5), vec![digest])].into());
}
