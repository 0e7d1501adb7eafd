use convoy_model::ParameterFormat;
use convoy_proto::{Chunk, Values};
use convoy_reduce::FrozenChunks;
use convoy_scheduler::WorkerId;
use convoy_testing::{Calls, ParametersCall, Scripted, connect};
use tokio::time::Instant;

use super::*;
use crate::fixtures::ASSIGNMENT;
use crate::spare_buffers::SpareBuffers;

const ELEMENTS: usize = 70_000;

/// Parameters of a step: two chunks.
fn flat(step: u64) -> Vec<f32> {
    (0..ELEMENTS).map(|index| (index as u64 * step) as f32).collect()
}

fn digest(flat: &[f32]) -> Digest {
    Digest::of(&flat.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

/// Fails when nothing happens any more: a stopped clock passes a day at once.
async fn in_time<T>(waited_for: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(24 * 3600), waited_for).await.expect("something happens")
}

/// Fetches from a coordinator that a test plays.
struct Fetching {
    fetches: ParameterFetches,
    calls: Calls,
}

impl Fetching {
    async fn new() -> Self {
        Fetching::with(FrozenChunks::default(), false).await
    }

    /// Where these chunks are frozen, and what a step changes may come alone.
    async fn with(frozen: FrozenChunks, changes: bool) -> Self {
        let (scripted, calls) = Scripted::with_plan(Ok(v1::PlanChunk::default()));
        let buffers = Arc::new(SpareBuffers::new(ELEMENTS));
        let client = connect(scripted).await;
        let format = Arc::new(ParameterFormat::default());
        let arrival = Arrival { buffers, format, frozen: Arc::new(frozen), changes };
        let fetches = ParameterFetches::new(client, ASSIGNMENT, arrival, Arc::new(digest));
        Fetching { fetches, calls }
    }

    async fn call(&mut self) -> ParametersCall {
        in_time(self.calls.parameters.recv()).await.expect("the worker lives")
    }

    /// Answers the next call, which is for `step`.
    async fn answer(&mut self, step: u64) {
        let call = self.call().await;
        assert_eq!(call.request, ASSIGNMENT.parameters(step, None));
        call.send(&flat(step)).await;
    }

    /// Takes the next answer over.
    async fn take(&mut self) -> Option<u64> {
        let fetched = in_time(self.fetches.next()).await;
        self.fetches.take(fetched).expect("memory is good").map(|StepParameters { step, flat: values }| {
            assert_eq!(*values, flat(step.0));
            step.0
        })
    }

    /// Whether nothing is asked for that the coordinator did not hear of.
    async fn is_quiet(&mut self) -> bool {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        self.calls.parameters.try_recv().is_err()
    }
}

#[tokio::test(start_paused = true)]
async fn committed_parameters_are_fetched() {
    let mut fetching = Fetching::new().await;
    fetching.fetches.commit(4, None);
    fetching.answer(4).await;
    assert_eq!(fetching.take().await, Some(4));
    fetching.fetches.commit(4, None);
    assert!(fetching.is_quiet().await, "they are here");
}

#[tokio::test(start_paused = true)]
async fn the_first_parameters_need_no_commit() {
    let mut fetching = Fetching::new().await;
    fetching.fetches.ask_for(0);
    fetching.answer(0).await;
    assert_eq!(fetching.take().await, Some(0));
}

#[tokio::test(start_paused = true)]
async fn parameters_that_come_early_wait_for_their_commit() {
    let mut fetching = Fetching::new().await;
    fetching.fetches.commit(4, None);
    fetching.answer(4).await;
    assert_eq!(fetching.take().await, Some(4));
    fetching.fetches.ask_for(5);
    fetching.answer(5).await;
    assert_eq!(fetching.take().await, None, "step 5 may yet be abandoned");
    fetching.fetches.commit(5, None);
    assert_eq!(fetching.take().await, Some(5));
    assert!(fetching.is_quiet().await);
}

#[tokio::test(start_paused = true)]
async fn parameters_are_asked_for_once() {
    let mut fetching = Fetching::new().await;
    fetching.fetches.ask_for(1);
    fetching.fetches.ask_for(1);
    let call = fetching.call().await;
    fetching.fetches.ask_for(1);
    assert!(fetching.is_quiet().await);
    drop(call);
}

#[tokio::test(start_paused = true)]
async fn parameters_that_did_not_come_are_asked_for_again_after_a_pause() {
    let mut fetching = Fetching::new().await;
    fetching.fetches.commit(4, None);
    let call = fetching.call().await;
    _ = call.chunks.send(Err(Status::unavailable("later"))).await;
    drop(call);
    assert_eq!(fetching.take().await, None);
    let failed = Instant::now();
    fetching.answer(4).await;
    assert_eq!(failed.elapsed(), PAUSE);
    assert_eq!(fetching.take().await, Some(4));
}

#[tokio::test(start_paused = true)]
async fn parameters_of_a_step_to_come_are_not_asked_for_again_until_it_is_committed() {
    let mut fetching = Fetching::new().await;
    fetching.fetches.commit(4, None);
    fetching.answer(4).await;
    assert_eq!(fetching.take().await, Some(4));
    fetching.fetches.ask_for(5);
    drop(fetching.call().await);
    assert_eq!(fetching.take().await, None);
    assert!(fetching.is_quiet().await);
    fetching.fetches.commit(5, None);
    fetching.answer(5).await;
    assert_eq!(fetching.take().await, Some(5));
}

#[tokio::test(start_paused = true)]
async fn chunks_that_do_not_fit_or_do_not_suffice_are_no_parameters() {
    let mut fetching = Fetching::new().await;
    fetching.fetches.commit(1, None);
    let short: Vec<f32> = flat(1)[..65_536].to_vec();
    let long: Vec<f32> = [flat(1), vec![0.0]].concat();
    for (values, problem) in [(short, "chunk 1 of 2 did not come"), (long, "does not fit 70000 elements")] {
        fetching.call().await.send(&values).await;
        let fetched = fetching.fetches.next().await;
        let status = fetched.flat.as_ref().expect_err("they are no parameters");
        assert!(status.message().contains(problem), "{status}");
        assert!(fetching.fetches.take(fetched).unwrap().is_none());
    }
    fetching.answer(1).await;
    assert_eq!(fetching.take().await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_commit_gives_up_what_is_on_its_way_for_earlier_steps() {
    let mut fetching = Fetching::new().await;
    fetching.fetches.commit(4, None);
    let old = fetching.call().await;
    fetching.fetches.commit(6, None);
    in_time(old.chunks.closed()).await;
    fetching.answer(6).await;
    assert_eq!(fetching.take().await, Some(6));
}

#[tokio::test(start_paused = true)]
async fn parameters_of_a_step_that_was_overtaken_are_dropped() {
    let mut fetching = Fetching::new().await;
    fetching.fetches.commit(4, None);
    fetching.answer(4).await;
    let fetched = fetching.fetches.next().await;
    fetching.fetches.commit(5, None);
    assert!(fetching.fetches.take(fetched).unwrap().is_none());
    fetching.answer(5).await;
    assert_eq!(fetching.take().await, Some(5));
}

#[tokio::test(start_paused = true)]
async fn parameters_of_an_abandoned_step_are_received_anew() {
    let mut fetching = Fetching::new().await;
    fetching.fetches.commit(4, None);
    fetching.answer(4).await;
    assert_eq!(fetching.take().await, Some(4));
    fetching.fetches.ask_for(5);
    fetching.call().await.send(&flat(99)).await;
    assert_eq!(fetching.take().await, None);
    fetching.fetches.abandon(5);
    fetching.fetches.ask_for(5);
    let second = fetching.call().await;
    fetching.fetches.commit(5, None);
    second.send(&flat(5)).await;
    assert_eq!(fetching.take().await, Some(5), "the second ones, not those that came early");
}

#[tokio::test(start_paused = true)]
async fn answers_from_before_an_abandoned_step_are_void() {
    let mut fetching = Fetching::new().await;
    fetching.fetches.commit(4, None);
    fetching.fetches.ask_for(5);
    let (four, five) = (fetching.call().await, fetching.call().await);
    five.send(&flat(5)).await;
    let before = fetching.fetches.next().await;
    fetching.fetches.abandon(5);
    in_time(four.chunks.closed()).await;
    assert!(fetching.fetches.take(before).unwrap().is_none());
    fetching.answer(4).await;
    assert_eq!(fetching.take().await, Some(4), "the committed step was on its way, too, and is asked for again");
    fetching.fetches.commit(5, None);
    fetching.answer(5).await;
    assert_eq!(fetching.take().await, Some(5));
}

#[tokio::test(start_paused = true)]
async fn parameters_that_were_committed_stay_though_later_ones_are_abandoned() {
    let mut fetching = Fetching::new().await;
    fetching.fetches.commit(4, None);
    fetching.answer(4).await;
    assert_eq!(fetching.take().await, Some(4));
    fetching.fetches.ask_for(5);
    fetching.answer(5).await;
    assert_eq!(fetching.take().await, None, "they are early");
    // Both are heard of before the worker comes to what it has.
    fetching.fetches.commit(5, None);
    fetching.fetches.abandon(6);
    assert_eq!(fetching.take().await, Some(5));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_membership_ends_its_fetches() {
    let Fetching { mut fetches, mut calls } = Fetching::new().await;
    fetches.commit(4, None);
    let call = calls.parameters.recv().await.expect("a call");
    drop(fetches);
    in_time(call.chunks.closed()).await;
}

/// Flips a bit of parameters in the worker's memory, where they wait to be computed with.
fn flip(fetched: &mut Fetched) {
    let flat = fetched.flat.as_mut().expect("they came");
    flat[40_000] = f32::from_bits(flat[40_000].to_bits() ^ 1);
}

#[tokio::test(start_paused = true)]
async fn a_bit_that_flips_in_memory_before_the_first_lease_is_seen_and_they_are_fetched_again() {
    let mut fetching = Fetching::new().await;
    fetching.fetches.commit(4, Some(digest(&flat(4))));
    fetching.answer(4).await;
    let mut fetched = fetching.fetches.next().await;
    flip(&mut fetched);
    assert!(fetching.fetches.take(fetched).unwrap().is_none(), "they are checked");
    assert_eq!(fetching.take().await, None, "they are wrong");
    fetching.answer(4).await;
    assert_eq!(fetching.take().await, None, "these are checked, too");
    assert_eq!(fetching.take().await, Some(4));
    fetching.fetches.commit(5, Some(digest(&flat(5))));
    fetching.answer(5).await;
    assert_eq!(fetching.take().await, Some(5), "no time has passed, so no more is spent");
}

#[tokio::test(start_paused = true)]
async fn memory_that_is_wrong_twice_ends_the_worker() {
    let mut fetching = Fetching::new().await;
    fetching.fetches.commit(4, Some(digest(&flat(4))));
    for time in 0..2 {
        fetching.answer(4).await;
        let mut fetched = fetching.fetches.next().await;
        flip(&mut fetched);
        assert!(fetching.fetches.take(fetched).unwrap().is_none());
        let checked = fetching.fetches.next().await;
        let taken = fetching.fetches.take(checked);
        match time {
            0 => assert!(taken.unwrap().is_none()),
            _ => assert!(matches!(taken, Err(WorkerError::BadMemory { step: 4 }))),
        }
    }
}

/// Parameters of a step whose first chunk is that of step 1.
fn half_frozen(step: u64) -> Vec<f32> {
    let mut values = flat(step);
    values[..CHUNK_ELEMENTS].copy_from_slice(&flat(1)[..CHUNK_ELEMENTS]);
    values
}

#[tokio::test(start_paused = true)]
async fn frozen_chunks_that_do_not_come_are_those_that_are_held() {
    let mut fetching = Fetching::with(FrozenChunks::new(vec![true, false], 3), false).await;
    fetching.fetches.commit(1, None);
    let call = fetching.call().await;
    assert_eq!(call.request.held, None, "nothing is held yet");
    call.send(&flat(1)).await;
    assert_eq!(fetching.take().await, Some(1));
    for step in [2, 3] {
        fetching.fetches.commit(step, Some(digest(&half_frozen(step))));
        let call = fetching.call().await;
        assert_eq!(call.request, ASSIGNMENT.parameters(step, Some(step - 1)));
        call.send_from(&half_frozen(step), 1).await;
        let taken = in_time(async {
            loop {
                let fetched = fetching.fetches.next().await;
                if let Some(taken) = fetching.fetches.take(fetched).expect("memory is good") {
                    return taken;
                }
            }
        });
        let wanted = StepParameters { step: StepId(step), flat: Arc::new(half_frozen(step)) };
        assert_eq!(taken.await, wanted);
    }
    // Step 3 trains all layers: nothing of it may be missing in the parameters of step 4.
    fetching.fetches.commit(4, None);
    let call = fetching.call().await;
    assert_eq!(call.request.held, None);
    call.send_from(&flat(4), 1).await;
    assert_eq!(fetching.take().await, None, "a chunk is missing");
    fetching.answer(4).await;
    assert_eq!(fetching.take().await, Some(4));
}

#[tokio::test(start_paused = true)]
async fn what_a_step_changes_is_added_to_the_parameters_before_it() {
    let mut fetching = Fetching::with(FrozenChunks::default(), true).await;
    fetching.fetches.commit(1, None);
    fetching.answer(1).await;
    // It is asked before the parameters that it will be added to are taken over.
    fetching.fetches.ask_for(2);
    assert!(fetching.calls.parameters.try_recv().is_err());
    assert_eq!(fetching.take().await, Some(1));
    let call = fetching.call().await;
    assert_eq!(call.request, ASSIGNMENT.parameters(2, Some(1)));
    let change = Arc::new(vec![0.5; ELEMENTS]);
    for index in 0..chunk_count(ELEMENTS) {
        let range = chunk_range(ELEMENTS, index);
        let offset = range.start as u64;
        // Some may come whole.
        let data = match index {
            0 => Values::halves(change.clone(), range),
            _ => Values::shared(Arc::new(flat(2)), range),
        };
        call.chunks.send(Ok(Chunk { offset, data })).await.expect("it is read");
    }
    drop(call);
    fetching.fetches.commit(2, None);
    let fetched = in_time(fetching.fetches.next()).await;
    let taken = fetching.fetches.take(fetched).expect("memory is good").expect("they are committed");
    let (first, rest) = taken.flat.split_at(CHUNK_ELEMENTS);
    assert!(first.iter().zip(flat(1)).all(|(changed, before)| *changed == before + 0.5));
    assert_eq!(rest, &flat(2)[CHUNK_ELEMENTS..]);
    // Whoever lacks the step before gets all.
    fetching.fetches.commit(9, None);
    let call = fetching.call().await;
    assert_eq!(call.request, ASSIGNMENT.parameters(9, None));
    call.send(&flat(9)).await;
    assert_eq!(fetching.take().await, Some(9));
}

/// Parameters that two workers have made, one chunk each, come as these.
fn put_together(step: u64, flat: Vec<f32>) -> Fetched {
    let mut sources = ChunkSources::none(2);
    sources.came(0, Some(WorkerId(8)));
    sources.came(1, Some(WorkerId(9)));
    let measured = Some(ParameterChecks::new(Arc::new(digest)).maker().of(&flat));
    Fetched { step, abandonments: 0, flat: Ok(flat), measured, sources: Some(sources) }
}

#[tokio::test(start_paused = true)]
async fn who_made_wrong_parameters_is_known_when_the_right_ones_are_there() {
    for (element, wrong) in [(Some(40_000), Some(8)), (Some(69_999), Some(9)), (None, None)] {
        let mut fetching = Fetching::new().await;
        fetching.fetches.commit(4, Some(digest(&flat(4))));
        let mut came = flat(4);
        element.into_iter().for_each(|element: usize| came[element] += 1.0);
        let taken = fetching.fetches.take(put_together(4, came)).unwrap();
        assert_eq!((taken.is_some(), fetching.fetches.misserved()), (wrong.is_none(), None));
        if let Some(wrong) = wrong {
            let expected = WrongParameters { step: 4, workers: [WorkerId(wrong)].into() };
            // That the commit has asked for.
            fetching.answer(4).await;
            while fetching.take().await.is_none() {
                assert_eq!(fetching.fetches.misserved(), None, "it is not known yet");
            }
            assert_eq!(fetching.fetches.misserved(), Some(expected));
            assert_eq!(fetching.fetches.misserved(), None, "it is said once");
        }
    }
}
