use proptest::prelude::*;

use super::*;

fn play(fleet: &mut Fleet, event: FleetEvent) -> Vec<FleetEffect> {
    let mut effects = Vec::new();
    fleet.handle(fleet.now, event, &mut effects);
    effects
}

fn join(fleet: &mut Fleet, worker: u32) -> Vec<FleetEffect> {
    play(fleet, FleetEvent::WorkerJoined { worker: WorkerId(worker), numerics: vec![0], computes: true })
}

fn add(fleet: &mut Fleet, job: u64, priority: i32, least: u32, most: Option<u32>) -> Vec<FleetEffect> {
    let request = JobRequest { priority, least, most, numerics: 0 };
    play(fleet, FleetEvent::JobAdded { job: JobId(job), request, started: false })
}

fn counts(fleet: &Fleet) -> Vec<(u64, usize)> {
    fleet.jobs().map(|job| (job.0, fleet.workers_of(job).count())).collect()
}

/// Lets every worker go that was asked back, until nothing moves; returns the number of moves.
fn settle(fleet: &mut Fleet, mut effects: Vec<FleetEffect>) -> usize {
    let mut moves = 0;
    while let Some(effect) = effects.pop() {
        if let FleetEffect::Release { worker, .. } = effect {
            moves += 1;
            effects.extend(play(fleet, FleetEvent::WorkerReleased { worker }));
        }
        assert!(moves < 1000, "workers move for ever");
    }
    moves
}

fn fleet(workers: u32) -> Fleet {
    let mut fleet = Fleet::new(FleetPlan::default());
    (1..=workers).for_each(|worker| _ = join(&mut fleet, worker));
    fleet
}

#[test]
fn a_second_job_gets_half_of_the_workers_while_the_first_runs() {
    let mut fleet = fleet(4);
    let (start, at) = (FleetEffect::Start { job: JobId(1) }, |worker| FleetEffect::Assign {
        worker: WorkerId(worker),
        job: JobId(1),
    });
    assert_eq!(add(&mut fleet, 1, 0, 1, None), [start, at(1), at(2), at(3), at(4)]);
    let effects = add(&mut fleet, 2, 0, 1, None);
    let release = |worker| FleetEffect::Release { worker: WorkerId(worker), job: JobId(1) };
    assert_eq!(effects, [FleetEffect::Start { job: JobId(2) }, release(3), release(4)]);
    assert_eq!(fleet.waiting_for(JobId(2)).unwrap().to_string(), "waiting for worker 3 to leave job 1");
    assert_eq!(settle(&mut fleet, effects), 2);
    assert_eq!(counts(&fleet), [(1, 2), (2, 2)]);
    let effects = play(&mut fleet, FleetEvent::JobEnded { job: JobId(1) });
    assert_eq!(effects, [], "its workers are let go by its run");
    for worker in [1, 2] {
        play(&mut fleet, FleetEvent::WorkerReleased { worker: WorkerId(worker) });
    }
    assert_eq!(counts(&fleet), [(2, 4)]);
}

#[test]
fn a_higher_priority_leaves_the_others_their_least() {
    let mut fleet = fleet(5);
    add(&mut fleet, 1, 0, 2, None);
    let effects = add(&mut fleet, 2, 5, 1, None);
    settle(&mut fleet, effects);
    assert_eq!(counts(&fleet), [(1, 2), (2, 3)]);
    let effects = add(&mut fleet, 3, 9, 1, Some(1));
    settle(&mut fleet, effects);
    assert_eq!(counts(&fleet), [(1, 2), (2, 2), (3, 1)]);
}

#[test]
fn a_job_waits_for_its_least_and_keeps_running_without_workers() {
    let mut fleet = fleet(1);
    assert_eq!(add(&mut fleet, 1, 0, 2, None), []);
    assert_eq!(
        fleet.waiting_for(JobId(1)).unwrap().to_string(),
        "queued behind 0 jobs: it needs 2 workers, 1 are connected"
    );
    assert_eq!(join(&mut fleet, 2).len(), 3, "start and two assignments");
    for worker in [1, 2] {
        play(&mut fleet, FleetEvent::WorkerGone { worker: WorkerId(worker) });
    }
    assert_eq!(fleet.waiting_for(JobId(1)), Some(JobWaiting::AnyWorker));
    assert_eq!(join(&mut fleet, 3), [FleetEffect::Assign { worker: WorkerId(3), job: JobId(1) }]);
}

#[test]
fn a_paused_job_gives_its_workers_back_and_goes_on() {
    let mut fleet = fleet(2);
    add(&mut fleet, 1, 0, 1, None);
    let pause = FleetEvent::JobPaused { job: JobId(1) };
    assert_eq!(play(&mut fleet, pause.clone()), [FleetEffect::Suspend { job: JobId(1) }]);
    for worker in [1, 2] {
        play(&mut fleet, FleetEvent::WorkerReleased { worker: WorkerId(worker) });
    }
    play(&mut fleet, FleetEvent::JobSuspended { job: JobId(1) });
    assert_eq!((counts(&fleet), fleet.waiting_for(JobId(1))), (vec![(1, 0)], Some(JobWaiting::Pause)));
    let why = FleetIgnore::AlreadyPaused;
    assert_eq!(play(&mut fleet, pause), [FleetEffect::Ignore { what: "job paused", why }]);
    assert_eq!(play(&mut fleet, FleetEvent::JobContinued { job: JobId(1) }).len(), 3);
}

fn decline(fleet: &mut Fleet, worker: u32, job: u64) -> Vec<FleetEffect> {
    let reason = "needs 3 GiB".to_owned();
    play(fleet, FleetEvent::WorkerDeclined { worker: WorkerId(worker), job: JobId(job), reason })
}

#[test]
fn a_worker_that_declines_a_job_does_others_and_is_asked_again_after_growing_pauses() {
    let mut fleet = fleet(1);
    add(&mut fleet, 1, 0, 1, None);
    let assign = |job| FleetEffect::Assign { worker: WorkerId(1), job: JobId(job) };
    assert_eq!(decline(&mut fleet, 1, 1), []);
    assert_eq!(
        fleet.waiting_for(JobId(1)).unwrap().to_string(),
        "waiting for a worker that can do it: one that is connected cannot: needs 3 GiB"
    );
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let begun = fleet.now;
        let mut effects = Vec::new();
        while effects.is_empty() {
            fleet.heard(WorkerId(1), fleet.now);
            let second = RunTime(fleet.now.0 + 1_000_000);
            let woken = fleet.deadline().expect("it is awaited").min(second);
            fleet.handle(woken, FleetEvent::Deadline, &mut effects);
        }
        assert_eq!(effects, [assign(1)]);
        pauses.push((fleet.now.0 - begun.0) / 1_000_000);
        decline(&mut fleet, 1, 1);
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 320]);
    let start = FleetEffect::Start { job: JobId(2) };
    assert_eq!(add(&mut fleet, 2, 0, 1, None), [start, assign(2)], "it is free for others");
    let why = FleetIgnore::NotThere;
    assert_eq!(decline(&mut fleet, 1, 1), [FleetEffect::Ignore { what: "worker declined", why }]);
    play(&mut fleet, FleetEvent::JobEnded { job: JobId(1) });
    assert!(fleet.workers[&WorkerId(1)].declined.is_empty(), "a job that is over is forgotten");
}

#[test]
fn a_worker_that_declined_is_asked_at_once_when_what_kept_it_may_be_mended() {
    let mut fleet = fleet(1);
    add(&mut fleet, 1, 0, 1, None);
    (0..3).for_each(|_| {
        decline(&mut fleet, 1, 1);
        let assign = FleetEffect::Assign { worker: WorkerId(1), job: JobId(1) };
        assert_eq!(play(&mut fleet, FleetEvent::AskAgain), [assign]);
    });
}

#[test]
fn a_job_that_was_declined_goes_to_whoever_can_do_it() {
    let mut fleet = fleet(2);
    add(&mut fleet, 1, 0, 1, Some(1));
    assert_eq!(decline(&mut fleet, 1, 1), [FleetEffect::Assign { worker: WorkerId(2), job: JobId(1) }]);
    decline(&mut fleet, 2, 1);
    let waiting = fleet.waiting_for(JobId(1)).unwrap().to_string();
    assert_eq!(waiting, "waiting for a worker that can do it: 2 that are connected cannot; one says: needs 3 GiB");
    assert_eq!(join(&mut fleet, 3), [FleetEffect::Assign { worker: WorkerId(3), job: JobId(1) }]);
}

#[test]
fn silent_workers_are_lost() {
    let mut fleet = fleet(2);
    assert_eq!(fleet.deadline(), Some(RunTime(2_000_001)));
    let mut effects = Vec::new();
    fleet.heard(WorkerId(2), RunTime(1_500_000));
    fleet.handle(RunTime(2_000_001), FleetEvent::Deadline, &mut effects);
    assert_eq!(effects, [FleetEffect::Disconnect { worker: WorkerId(1) }]);
}

#[test]
fn who_only_adds_goes_where_workers_compute_and_counts_for_nothing() {
    let mut fleet = fleet(0);
    let adder = |worker| FleetEvent::WorkerJoined { worker: WorkerId(worker), numerics: Vec::new(), computes: false };
    play(&mut fleet, adder(9));
    assert_eq!(add(&mut fleet, 1, 0, 2, Some(2)), []);
    let waiting = |fleet: &Fleet, job| fleet.waiting_for(JobId(job)).unwrap().to_string();
    let none = "waiting for workers: it needs 2, and none is connected that can compute it";
    assert_eq!(waiting(&fleet, 1), none);
    join(&mut fleet, 1);
    assert_eq!(counts(&fleet), [(1, 0)], "one of two is not enough");
    join(&mut fleet, 2);
    assert_eq!((counts(&fleet), waiting(&fleet, 1)), (vec![(1, 3)], "running with 2 workers".to_owned()));
    let effects = add(&mut fleet, 2, 1, 1, None);
    settle(&mut fleet, effects);
    assert_eq!(counts(&fleet), [(1, 1), (2, 2)], "no job has two that compute: it goes to the first");
    for worker in [3, 4] {
        let effects = join(&mut fleet, worker);
        settle(&mut fleet, effects);
    }
    assert_eq!(counts(&fleet), [(1, 2), (2, 3)]);
    for worker in fleet.workers_of(JobId(1)).collect::<Vec<_>>() {
        let effects = play(&mut fleet, FleetEvent::WorkerGone { worker });
        settle(&mut fleet, effects);
    }
    assert_eq!(counts(&fleet), [(1, 1), (2, 2)]);
    for worker in fleet.workers.keys().copied().filter(|worker| worker.0 != 9).collect::<Vec<_>>() {
        let effects = play(&mut fleet, FleetEvent::WorkerGone { worker });
        settle(&mut fleet, effects);
    }
    assert_eq!((counts(&fleet), waiting(&fleet, 2)), (vec![(1, 0), (2, 0)], "waiting for a worker".to_owned()));
}

fn any_event() -> impl Strategy<Value = FleetEvent> {
    let worker = (1u32..8).prop_map(WorkerId);
    let job = (1u64..6).prop_map(JobId);
    prop_oneof![
        4 => (worker.clone(), prop::collection::vec(0u32..2, 0..3), prop::bool::weighted(0.8))
            .prop_map(|(worker, numerics, computes)| FleetEvent::WorkerJoined { worker, numerics, computes }),
        1 => worker.clone().prop_map(|worker| FleetEvent::WorkerGone { worker }),
        1 => worker.clone().prop_map(|worker| FleetEvent::WorkerDraining { worker }),
        1 => Just(FleetEvent::AskAgain),
        1 => (worker.clone(), job.clone()).prop_map(|(worker, job)| {
            FleetEvent::WorkerDeclined { worker, job, reason: String::new() }
        }),
        3 => (job.clone(), -1i32..3, 1u32..4, prop::option::of(1u32..5), 0u32..2, any::<bool>()).prop_map(
            |(job, priority, least, most, numerics, started)| {
                FleetEvent::JobAdded { job, request: JobRequest { priority, least, most, numerics }, started }
            }
        ),
        1 => job.clone().prop_map(|job| FleetEvent::JobPaused { job }),
        1 => job.clone().prop_map(|job| FleetEvent::JobContinued { job }),
        1 => job.prop_map(|job| FleetEvent::JobEnded { job }),
    ]
}

/// Answers effects as runs do: they release workers and stop when they are asked to.
fn answer(fleet: &mut Fleet, effects: Vec<FleetEffect>, over: Option<JobId>) {
    let mut todo: std::collections::VecDeque<FleetEffect> = effects.into();
    let held = |fleet: &Fleet, job: JobId| -> Vec<WorkerId> {
        let at = [Assignment::At(job), Assignment::Leaving(job)];
        fleet.workers.iter().filter(|(_, worker)| at.contains(&worker.assignment)).map(|(id, _)| *id).collect()
    };
    for worker in over.map(|job| held(fleet, job)).unwrap_or_default() {
        todo.extend(play(fleet, FleetEvent::WorkerReleased { worker }));
    }
    let mut acts = 0;
    while let Some(effect) = todo.pop_front() {
        match effect {
            FleetEffect::Release { worker, .. } => todo.extend(play(fleet, FleetEvent::WorkerReleased { worker })),
            FleetEffect::Suspend { job } => {
                for worker in held(fleet, job) {
                    todo.extend(play(fleet, FleetEvent::WorkerReleased { worker }));
                }
                todo.extend(play(fleet, FleetEvent::JobSuspended { job }));
            }
            _ => {}
        }
        acts += 1;
        assert!(acts < 10_000, "workers move for ever");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_shares_are_kept(events in prop::collection::vec(any_event(), 1..60)) {
        let mut fleet = Fleet::new(FleetPlan { running: 3, ..FleetPlan::default() });
        for event in events {
            let over = if let FleetEvent::JobEnded { job } = &event { Some(*job) } else { None };
            let effects = play(&mut fleet, event);
            answer(&mut fleet, effects, over);
            for (id, job) in &fleet.jobs {
                let (held, adding): (Vec<WorkerId>, Vec<WorkerId>) =
                    fleet.workers_of(*id).partition(|worker| fleet.workers[worker].computes);
                prop_assert!(adding.is_empty() || !held.is_empty(), "nobody computes what is to be added");
                let held = held.len();
                prop_assert!(held <= job.request.most.map_or(usize::MAX, |most| most as usize), "beyond its most");
                prop_assert!(job.phase == JobPhase::Running || held == 0, "workers at a job that does not run");
                let fits = |worker: &&Worker| !worker.draining && worker.fits(*id, job, fleet.now);
                let room = job.request.most.is_none_or(|most| held < most as usize);
                let idle = fleet.workers.values().filter(fits).any(|worker| worker.assignment == Assignment::Free);
                prop_assert!(!(job.phase == JobPhase::Running && room && idle), "{id} could use an idle worker");
                for worker in fleet.workers_of(*id).map(|worker| &fleet.workers[&worker]) {
                    prop_assert!(!worker.computes || worker.numerics.contains(&job.request.numerics));
                }
            }
            prop_assert!(play(&mut fleet.clone(), FleetEvent::JobPaused { job: JobId(99) }).len() == 1, "it is quiet");
        }
    }
}
