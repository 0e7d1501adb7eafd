use convoy_common::file_tree::Files;
use convoy_common::manifest::{Label, LabelKind, Sample};
use convoy_common::spec::{LastStep, Spec};
use convoy_testing::{Calls, Scripted, connect};
use tokio::task::JoinHandle;
use tonic::Status;

use super::*;
use crate::fixtures::{ASSIGNMENT, Job, ROOT, SPEC, STRIPES, lease};

type Said = v1::worker_message::Message;

fn set_up(outbox: Outbox, data: Option<Arc<RunData>>) -> SetUp {
    SetUp {
        assignment: ASSIGNMENT,
        threads: 1,
        device: Device::Cpu,
        most_memory: None,
        data,
        cache: None,
        sees: None,
        outbox,
        peers: Arc::new(PeerEnd::deaf().unwrap()),
    }
}

/// A member of a run whose coordinator the test plays.
struct Member {
    job: Job,
    calls: Calls,
    inbox: mpsc::Receiver<v1::WorkerMessage>,
    hear: mpsc::UnboundedSender<Message>,
    carrying: JoinHandle<Result<(), WorkerError>>,
}

/// Does for a membership what a session does, until no more messages come.
async fn carry(mut membership: Membership, mut messages: mpsc::UnboundedReceiver<Message>) -> Result<(), WorkerError> {
    loop {
        tokio::select! {
            biased;
            message = messages.recv() => match message {
                Some(message) => membership.heard(message)?,
                None => return Ok(()),
            },
            progress = membership.next() => membership.take(progress).await?,
        }
    }
}

impl Member {
    async fn of(job: Job) -> Self {
        let (scripted, calls) = Scripted::new(&job.plan, &job.manifest);
        let (outbox, inbox) = Outbox::new(64);
        let membership = Membership::open(set_up(outbox, Some(job.data())), connect(scripted).await).await;
        let (hear, messages) = mpsc::unbounded_channel();
        let carrying = tokio::spawn(carry(membership.expect("the run can be joined"), messages));
        Member { job, calls, inbox, hear, carrying }
    }

    async fn new() -> Self {
        Member::of(Job::at(ROOT)).await
    }

    fn hear(&self, message: Message) {
        self.hear.send(message).expect("the member lives");
    }

    fn lend(&self, lease: Lease) {
        self.hear(Message::Lease(lease.into()));
    }

    /// Says that `step` is committed, and sends its parameters when they are asked for.
    async fn commit(&mut self, step: u64) {
        self.hear(Message::Committed(v1::Committed { step, ..Default::default() }));
        self.send_parameters(step).await;
        assert_eq!(self.said().await, Said::Ready(v1::Ready { job: 7, step }));
    }

    async fn send_parameters(&mut self, step: u64) {
        let call = self.calls.parameters.recv().await.expect("the member lives");
        assert_eq!(call.request, ASSIGNMENT.parameters(step, None));
        call.send(&self.job.parameters(step)).await;
    }

    /// The next message, but for those that say that a lease is computed.
    async fn said(&mut self) -> Said {
        loop {
            match self.inbox.recv().await.and_then(|message| message.message).expect("a message") {
                Said::Computed(_) => {}
                said => return said,
            }
        }
    }

    /// Lease and gradient of the next node.
    async fn pushed(&mut self) -> (u64, Vec<f32>) {
        let call = self.calls.pushes.recv().await.expect("the member lives");
        _ = call.reply.send(Ok(v1::PushNodeReply::default()));
        (call.header.at.expect("a lease").lease, call.gradient)
    }
}

/// Why the membership does not begin; `plan` is what the coordinator sends.
async fn refused(plan: Result<v1::PlanChunk, Status>) -> OpenError {
    let (scripted, _calls) = Scripted::with_plan(plan);
    let (outbox, _inbox) = Outbox::new(64);
    let set_up = SetUp { most_memory: Some(1 << 27), ..set_up(outbox, None) };
    let opened = Membership::open(set_up, connect(scripted).await).await;
    opened.err().expect("the run cannot be joined")
}

fn plan_chunk(plan: &Plan, manifest: &Manifest) -> v1::PlanChunk {
    v1::PlanChunk { plan: plan.to_json().into(), manifest: manifest.to_bytes().into() }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_refused_the_plan_gives_up() {
    let refusal = refused(Err(Status::failed_precondition("another version"))).await;
    assert!(matches!(refusal, OpenError::Fatal(WorkerError::Refused { .. })), "{refusal:?}");
    let absence = refused(Err(Status::not_found("the run is over"))).await;
    assert!(matches!(absence, OpenError::Unreachable(_)), "{absence:?}");
}

#[tokio::test(start_paused = true)]
async fn a_plan_or_manifest_that_makes_no_sense_is_named() {
    let (plan, manifest) = (STRIPES.plan(ROOT, SPEC), STRIPES.manifest(ROOT));
    let good = plan_chunk(&plan, &manifest);
    let other = convoy_testing::Stripes { train: 25, ..STRIPES }.manifest(ROOT);
    for (chunk, what, why) in [
        (v1::PlanChunk { plan: "{".into(), ..good.clone() }, "a plan", "EOF"),
        (v1::PlanChunk { manifest: "{".into(), ..good.clone() }, "a manifest", "no manifest"),
        (plan_chunk(&plan, &other), "a manifest", "digest"),
    ] {
        let error = refused(Ok(chunk)).await;
        let OpenError::Fatal(WorkerError::Nonsense { what: named, reason }) = &error else { panic!("{error:?}") };
        assert!(*named == what && reason.contains(why), "{error:?}");
    }
}

/// What a change to a plan and its manifest is, and what is said of it.
type BadPlan = (fn(&mut Plan, &mut Manifest), &'static str, &'static str);

const BAD_PLANS: [BadPlan; 14] = [
    (|plan, _| plan.spec.train.shard = 0, "a plan", "`train.shard`"),
    (|plan, _| plan.spec.train.batch = 0, "a plan", "`train.batch`"),
    (|plan, _| plan.train_samples = 0, "a plan", "`data.train`"),
    (|plan, _| plan.train_samples += 1, "a plan", "`train_samples` is 25, but the manifest has 24"),
    (|plan, _| plan.validation_samples = 9, "a plan", "`validation_samples` is 9"),
    (|plan, _| plan.input.channels = 2, "a plan", "`input`"),
    (|plan, _| plan.input.height = u32::MAX, "a plan", "`input`"),
    (|plan, _| plan.normalization.std = vec![0.0], "a plan", "`normalization`"),
    (|plan, _| plan.names.truncate(1), "a plan", "`outputs`"),
    (|plan, _| plan.names[0] = "another".to_owned(), "a plan", "`names`"),
    (|plan, _| plan.outputs = u32::MAX, "a plan", "`outputs`"),
    (|plan, _| plan.class_weights = vec![1.0], "a plan", "`class_weights`"),
    (|_, manifest| manifest.labels = LabelKind::Set, "a plan", "labels are of kind set"),
    (|_, manifest| manifest.names.clear(), "a manifest", "a label is none of its names"),
];

#[tokio::test(start_paused = true)]
async fn a_plan_from_the_wire_passes_the_checks_of_one_from_a_disk() {
    for (number, (change, what, why)) in BAD_PLANS.into_iter().enumerate() {
        let (mut plan, mut manifest) = (STRIPES.plan(ROOT, SPEC), STRIPES.manifest(ROOT));
        change(&mut plan, &mut manifest);
        if manifest.labels == LabelKind::Set {
            // Classes would be no sets.
            for split in [&mut manifest.train, &mut manifest.validation] {
                let samples = &mut Arc::make_mut(split).samples;
                *samples = samples.iter().map(|sample| Sample { label: Label::Set(&[0]), ..sample }).collect();
            }
        }
        plan.manifest = manifest.digest();
        let error = refused(Ok(plan_chunk(&plan, &manifest))).await;
        let OpenError::Fatal(WorkerError::Nonsense { what: named, reason }) = &error else {
            panic!("{number}: {error:?}")
        };
        assert!(*named == what && reason.contains(why), "{number}: {error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_asks_for_more_memory_than_there_is_is_declined() {
    let (plan, manifest) = (STRIPES.plan(ROOT, SPEC), STRIPES.manifest(ROOT));
    let wide =
        SPEC.replace("{ type = \"flatten\" },", "{ type = \"flatten\" }, { type = \"linear\", out = 30000000 },");
    for plan in [STRIPES.plan(ROOT, &wide), Plan { spec: huge_shards(&plan), ..plan.clone() }] {
        let error = refused(Ok(plan_chunk(&plan, &manifest))).await;
        assert!(matches!(error, OpenError::Fatal(WorkerError::Memory { .. })), "{error:?}");
    }
}

fn huge_shards(plan: &Plan) -> Spec {
    let mut spec = plan.spec.clone();
    (spec.train.batch, spec.train.shard) = (1 << 20, 1 << 20);
    (spec.train.last, spec.train.epochs) = (LastStep::Keep, 1);
    spec
}

#[tokio::test(start_paused = true)]
async fn a_plan_without_an_end_is_not_collected() {
    let whole = plan_chunk(&STRIPES.plan(ROOT, SPEC), &STRIPES.manifest(ROOT));
    let spaces = vec![b' '; PLAN_LIMIT - whole.plan.len()];
    let plan = |behind: &[u8]| [&whole.plan[..], &spaces, behind].concat().into();
    let error = refused(Ok(v1::PlanChunk { plan: plan(b" "), ..whole.clone() })).await;
    assert!(matches!(&error, OpenError::Fatal(WorkerError::Nonsense { reason, .. }) if reason.contains("16 MiB")));
    let (scripted, _calls) = Scripted::with_plan(Ok(v1::PlanChunk { plan: plan(b""), ..whole.clone() }));
    let mut client = connect(scripted).await;
    let fetched = fetch_plan(&mut client, ASSIGNMENT, Some(whole.manifest.len() as u64)).await;
    assert!(fetched.is_ok(), "as large as it may be: {:?}", fetched.err());
    let fetched = fetch_plan(&mut client, ASSIGNMENT, Some(whole.manifest.len() as u64 - 1)).await;
    assert!(matches!(fetched, Err(OpenError::Fatal(WorkerError::Memory { .. }))), "{fetched:?}");
}

#[tokio::test(start_paused = true)]
async fn arithmetic_that_the_device_has_not_is_refused() {
    let (mut plan, manifest) = (STRIPES.plan(ROOT, SPEC), STRIPES.manifest(ROOT));
    plan.spec.numerics = "cuda-f32-v1/some GPU".to_owned();
    let error = refused(Ok(plan_chunk(&plan, &manifest))).await;
    assert!(matches!(error, OpenError::Fatal(WorkerError::Compute(_))), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_member_says_that_it_has_joined() {
    let job = Job::at(ROOT);
    let (scripted, _calls) = Scripted::new(&job.plan, &job.manifest);
    let (outbox, mut inbox) = Outbox::new(64);
    let membership = Membership::open(set_up(outbox, Some(job.data())), connect(scripted).await).await.unwrap();
    membership.join().await;
    membership.log("a line".to_owned()).await;
    let mut said = || inbox.try_recv().ok().and_then(|message| message.message);
    assert_eq!(said(), Some(Said::Joined(v1::Joined { job: 7, generation: 2, threads: 1 })));
    assert_eq!(said(), Some(Said::Log(v1::Log { job: 7, line: "a line".to_owned() })));
}

#[tokio::test(start_paused = true)]
async fn data_of_an_earlier_membership_is_used_again() {
    let job = Job::at(ROOT);
    let (scripted, _calls) = Scripted::new(&job.plan, &job.manifest);
    let data = job.data();
    let set_up = set_up(Outbox::new(64).0, Some(data.clone()));
    let membership = Membership::open(set_up, connect(scripted).await).await.unwrap();
    assert!(membership.data().is_some_and(|known| Arc::ptr_eq(&known, &data)));
}

#[tokio::test(start_paused = true)]
async fn data_of_another_plan_is_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    STRIPES.write(folder.path());
    let job = Job::at(folder.path().to_str().unwrap());
    let (scripted, _calls) = Scripted::new(&job.plan, &job.manifest);
    let other = Job::of(STRIPES.plan(ROOT, &SPEC.replace("seed = 5", "seed = 6")), STRIPES.manifest(ROOT)).data();
    let set_up = set_up(Outbox::new(64).0, Some(other.clone()));
    let membership = Membership::open(set_up, connect(scripted).await).await.unwrap();
    assert!(membership.data().is_none_or(|data| !Arc::ptr_eq(&data, &other)));
    assert_eq!(membership.data().map(|data| data.plan()), Some(job.plan.digest()));
}

#[tokio::test(start_paused = true)]
async fn files_that_the_worker_does_not_see_come_from_the_coordinator() {
    let job = Job::at("dataset:stripes");
    let (scripted, mut calls) = Scripted::new(&job.plan, &job.manifest);
    let opening = tokio::spawn(Membership::open(set_up(Outbox::new(64).0, None), connect(scripted).await));
    for number in 0..4 {
        // The files are opened one after the other.
        let call = calls.files.recv().await.expect("the worker lives");
        assert_eq!(call.request, ASSIGNMENT.files(vec![number]));
        let split = if number < 2 { &job.manifest.train } else { &job.manifest.validation };
        let path = format!("{}/{}", split.root, split.files.at(number as usize % 2).path);
        call.send(&STRIPES.files("dataset:stripes").read(path.as_ref()).unwrap(), true).await;
    }
    assert!(opening.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_lease_comes_and_its_node_goes() {
    let mut member = Member::new().await;
    member.commit(0).await;
    member.lend(lease(Work::Train, 0, 5, 1..2));
    assert_eq!(member.pushed().await, (5, member.job.gradient(0, 1)));
}

#[tokio::test(start_paused = true)]
async fn a_lease_may_come_before_its_parameters() {
    let mut member = Member::new().await;
    member.lend(lease(Work::Train, 3, 5, 0..1));
    drop(member.calls.parameters.recv().await.expect("the next parameters are asked for ahead of time"));
    member.commit(3).await;
    assert_eq!(member.pushed().await, (5, member.job.gradient(3, 0)));
}

#[tokio::test(start_paused = true)]
async fn parameters_are_asked_for_while_the_step_before_is_computed() {
    let mut member = Member::new().await;
    member.commit(0).await;
    member.lend(lease(Work::Train, 0, 1, 0..1));
    member.send_parameters(1).await;
    member.pushed().await;
    member.hear(Message::Committed(v1::Committed { step: 1, ..Default::default() }));
    assert_eq!(member.said().await, Said::Ready(v1::Ready { job: 7, step: 1 }));
    member.lend(lease(Work::Train, 1, 2, 2..3));
    assert_eq!(member.pushed().await, (2, member.job.gradient(1, 2)));
}

#[tokio::test(start_paused = true)]
async fn an_evaluation_asks_for_no_parameters() {
    let mut member = Member::new().await;
    member.commit(3).await;
    member.lend(lease(Work::Evaluate, 3, 1, 0..4));
    let call = member.calls.pushes.recv().await.expect("a node");
    assert_eq!((call.header.work(), call.gradient.len(), call.summary.sums[0]), (v1::Work::Evaluate, 0, 8.0));
    assert!(member.calls.parameters.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn late_parameters_hold_up_no_message() {
    let mut member = Member::new().await;
    member.hear(Message::Committed(v1::Committed { step: 0, ..Default::default() }));
    let late = member.calls.parameters.recv().await.expect("they are asked for");
    member.lend(lease(Work::Train, 0, 1, 0..1));
    member.hear(Message::Revoke(v1::Revoke { at: Some(lease(Work::Train, 0, 1, 0..1).at.into()) }));
    member.lend(lease(Work::Train, 0, 2, 1..2));
    let ahead = member.calls.parameters.recv().await.expect("the next ones are asked for, too");
    assert_eq!(ahead.request.step, 1);
    late.send(&member.job.parameters(0)).await;
    assert_eq!(member.said().await, Said::Ready(v1::Ready { job: 7, step: 0 }));
    assert_eq!(member.pushed().await, (2, member.job.gradient(0, 1)), "the first lease was revoked");
}

#[tokio::test(start_paused = true)]
async fn parameters_of_an_abandoned_step_are_not_computed_with() {
    let mut member = Member::new().await;
    member.commit(0).await;
    member.lend(lease(Work::Train, 0, 1, 0..1));
    let wrong = member.calls.parameters.recv().await.expect("they are asked for");
    wrong.send(&vec![7.0; member.job.network.len()]).await;
    member.pushed().await;
    member.hear(Message::Abandoned(v1::Abandoned { step: 1 }));
    member.commit(1).await;
    member.lend(lease(Work::Train, 1, 2, 0..1));
    assert_eq!(member.pushed().await, (2, member.job.gradient(1, 0)));
}

#[tokio::test(start_paused = true)]
async fn leases_of_earlier_steps_end_with_a_commit() {
    let mut member = Member::new().await;
    member.lend(lease(Work::Train, 0, 1, 0..4));
    drop(member.calls.parameters.recv().await);
    member.commit(1).await;
    member.lend(lease(Work::Train, 1, 2, 0..1));
    assert_eq!(member.pushed().await.0, 2);
}

#[tokio::test(start_paused = true)]
async fn a_lease_without_data_fails_and_the_member_stays() {
    let mut member = Member::of(Job::without_training_files()).await;
    member.commit(0).await;
    member.lend(lease(Work::Train, 0, 1, 0..1));
    let Said::LeaseFailed(failed) = member.said().await else { panic!("the lease failed") };
    assert_eq!((failed.at.map(|at| at.lease), failed.failure()), (Some(1), v1::Failure::DataUnreadable));
    assert!(failed.reason.contains("missing"), "{}", failed.reason);
    member.lend(lease(Work::Evaluate, 0, 2, 0..1));
    assert_eq!(member.pushed().await.0, 2);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_makes_no_sense_ends_the_worker() {
    let member = Member::new().await;
    member.hear(Message::Lease(v1::Lease::default()));
    let error = member.carrying.await.unwrap().unwrap_err();
    assert!(matches!(error, WorkerError::Nonsense { what: "a lease", .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn nodes_on_their_way_arrive_though_the_membership_has_ended() {
    let mut member = Member::new().await;
    member.commit(0).await;
    member.lend(lease(Work::Train, 0, 1, 0..1));
    let owed = member.calls.pushes.recv().await.expect("a node");
    let asked = member.calls.parameters.recv().await.expect("the next parameters");
    drop(member.hear);
    member.carrying.await.unwrap().unwrap();
    asked.chunks.closed().await;
    owed.reply.send(Ok(v1::PushNodeReply::default())).expect("the node is still being sent");
    assert_eq!(owed.gradient, member.job.gradient(0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_get_through_fails_its_lease_and_may_be_lent_again() {
    let mut member = Member::new().await;
    member.commit(0).await;
    member.lend(lease(Work::Train, 0, 1, 0..1));
    drop(member.calls.pushes.recv().await.expect("a node").reply);
    let Said::LeaseFailed(failed) = member.said().await else { panic!("the lease failed") };
    assert_eq!((failed.at.map(|at| at.lease), failed.failure()), (Some(1), v1::Failure::Internal));
    member.lend(lease(Work::Train, 0, 2, 0..1));
    assert_eq!(member.pushed().await, (2, member.job.gradient(0, 0)));
}

#[tokio::test(start_paused = true)]
async fn requests_carry_the_start_of_the_run_that_they_belong_to() {
    let mut member = Member::new().await;
    member.hear(Message::Committed(v1::Committed { step: 0, ..Default::default() }));
    let request = member.calls.parameters.recv().await.expect("a call").request;
    assert_eq!((request.worker, request.job, request.generation), (3, 7, 2));
}

#[tokio::test(start_paused = true)]
async fn who_computes_nothing_joins_without_data_and_asks_for_nothing() {
    // Of another class than this machine computes, and its data is nowhere.
    let mut job = Job::without_training_files();
    Arc::make_mut(&mut job.plan).spec.numerics = "cuda-f32-v1/H200/12.4".to_owned();
    let (scripted, mut calls) = Scripted::new(&job.plan, &job.manifest);
    let (outbox, mut inbox) = Outbox::new(64);
    let set_up = SetUp { threads: 0, ..set_up(outbox, None) };
    let mut membership = Membership::open(set_up, connect(scripted).await).await.expect("the run can be joined");
    membership.join().await;
    let joined = inbox.recv().await.and_then(|message| message.message);
    assert_eq!(joined, Some(Said::Joined(v1::Joined { job: 7, generation: 2, threads: 0 })));
    assert!(membership.data().is_none());
    for step in 0..3 {
        membership.heard(Message::Committed(v1::Committed { step, ..Default::default() })).unwrap();
    }
    let asked = tokio::time::timeout(std::time::Duration::from_secs(60), calls.parameters.recv()).await;
    assert!(asked.is_err() && inbox.try_recv().is_err(), "it asks for no parameters and says nothing more");
    let error = membership.heard(Message::Lease(lease(Work::Train, 0, 1, 0..1).into())).unwrap_err();
    assert!(matches!(error, WorkerError::Nonsense { what: "a lease", .. }), "{error}");
}
