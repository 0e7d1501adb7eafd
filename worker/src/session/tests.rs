use std::sync::atomic::{AtomicUsize, Ordering};

use convoy_testing::{Answers, Calls, Control, FakeCoordinator, Replies, Scripted, connect, serve, wait_for};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tonic::Status;

use super::*;
use crate::PeerConfig;
use crate::fixtures::{Job, ROOT, lease};

type Said = v1::worker_message::Message;

const HEARTBEAT: Duration = Duration::from_millis(500);

fn config(patience: Option<Duration>) -> Config {
    Config {
        link: watch::channel(Link::plain("coordinator:7070".to_owned())).1,
        name: "ox".to_owned(),
        device: convoy_nn::Device::Cpu,
        threads: 1,
        data: None,
        cache: None,
        sees: None,
        log: None,
        patience,
        most_memory: None,
        declines: true,
        peers: PeerConfig::default(),
    }
}

/// Connections over memory to a coordinator that a test plays. Dialling fails as often as `absent` says.
struct Phone {
    coordinator: Scripted,
    absent: AtomicUsize,
    dialled: Mutex<Vec<Instant>>,
}

impl Phone {
    fn new(coordinator: Scripted, absent: usize) -> Arc<Self> {
        Arc::new(Phone { coordinator, absent: AtomicUsize::new(absent), dialled: Mutex::default() })
    }
}

#[tonic::async_trait]
impl Dial for Phone {
    async fn dial(&self) -> Result<CoordinatorClient<Channel>, ConnectError> {
        self.dialled.lock().push(Instant::now());
        let less = |absent: usize| absent.checked_sub(1);
        if self.absent.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            return Err(ConnectError::Unreachable("nobody listens there".to_owned()));
        }
        Ok(connect(self.coordinator.clone()).await)
    }
}

/// A worker whose coordinator the test plays.
struct Working {
    calls: Calls,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<Ended, WorkerError>>,
}

impl Working {
    fn start(config: Config, coordinator: Scripted, calls: Calls) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let stop_asked = async move { _ = stopped.await };
        let dial = Phone::new(coordinator, 0);
        let ended = tokio::spawn(run_with(config, dial, HeartbeatThread::here(), stop_asked));
        Working { calls, stop: Some(stop), ended }
    }

    /// A worker that has nothing to compute.
    fn idle() -> Self {
        let (coordinator, calls) = Scripted::with_plan(Ok(v1::PlanChunk::default()));
        Working::start(config(None), coordinator, calls)
    }

    async fn connected(&mut self) -> Connected {
        Connected::welcome(self.calls.control.recv().await.expect("the worker lives")).await
    }

    fn stop(&mut self) {
        self.stop.take().expect("it is asked once").send(()).expect("the worker lives");
    }
}

/// The coordinator's end of a control stream, after the welcome.
struct Connected(Control);

impl Connected {
    async fn welcome(control: Control) -> Self {
        let mut connected = Connected(control);
        let hello = v1::Hello {
            version: VERSION.to_owned(),
            name: "ox".to_owned(),
            threads: 1,
            numerics: convoy_nn::Device::Cpu.numerics().unwrap(),
            process: process().to_owned(),
            ..Default::default()
        };
        let Said::Hello(said) = connected.hear().await else { panic!("hello is first") };
        assert_eq!(said.fingerprint.len(), 32, "others may know it");
        assert_eq!(v1::Hello { fingerprint: Default::default(), ..said }, hello);
        let heartbeat_ms = HEARTBEAT.as_millis() as u32;
        connected.say(Message::Welcome(v1::Welcome { worker: 3, heartbeat_ms })).await;
        connected
    }

    async fn say(&self, message: Message) {
        let message = v1::CoordinatorMessage { message: Some(message) };
        self.0.replies.send(Ok(message)).await.expect("the worker listens");
    }

    /// The next message.
    async fn hear(&mut self) -> Said {
        self.0.messages.message().await.expect("the stream is whole").and_then(|said| said.message).expect("a message")
    }

    /// The next message that is no heartbeat and does not say that a lease is computed.
    async fn hear_news(&mut self) -> Said {
        loop {
            match self.hear().await {
                Said::Heartbeat(_) | Said::Computed(_) => {}
                said => return said,
            }
        }
    }

    async fn goodbye(&self, over: bool) {
        self.say(Message::Goodbye(v1::Goodbye { over, reason: "on purpose".to_owned() })).await;
    }

    async fn assign(&self) {
        self.say(Message::Assigned(v1::Assigned { job: 7, generation: 2 })).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_comes_says_hello_and_lives_until_there_is_nothing_more_to_do() {
    let mut working = Working::idle();
    let mut coordinator = working.connected().await;
    let begun = Instant::now();
    for beat in 0..4 {
        assert_eq!(coordinator.hear().await, Said::Heartbeat(v1::Heartbeat {}));
        assert_eq!(begun.elapsed(), beat * HEARTBEAT);
    }
    coordinator.goodbye(true).await;
    assert_eq!(working.ended.await.unwrap().unwrap(), Ended::RunOver);
}

#[tokio::test(start_paused = true)]
async fn an_absent_coordinator_is_tried_again_with_growing_pauses() {
    let (coordinator, mut calls) = Scripted::with_plan(Ok(v1::PlanChunk::default()));
    let phone = Phone::new(coordinator, 7);
    let working = tokio::spawn(run_with(config(None), phone.clone(), HeartbeatThread::here(), std::future::pending()));
    let connected = Connected::welcome(calls.control.recv().await.expect("it connects at last")).await;
    let dialled = phone.dialled.lock().clone();
    let pauses: Vec<u128> = dialled.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    for (pause, longest) in pauses.iter().zip([100, 200, 400, 800, 1600, 2000, 2000]) {
        assert!((longest / 2..=longest + 1).contains(pause), "{pauses:?}");
    }
    assert_eq!(pauses.len(), 7);
    connected.goodbye(true).await;
    assert_eq!(working.await.unwrap().unwrap(), Ended::RunOver);
}

#[tokio::test(start_paused = true)]
async fn a_worker_without_patience_left_says_where_it_looked() {
    let (coordinator, _calls) = Scripted::with_plan(Ok(v1::PlanChunk::default()));
    let phone = Phone::new(coordinator, usize::MAX);
    let begun = Instant::now();
    let patience = Duration::from_secs(60);
    let ended = run_with(config(Some(patience)), phone, HeartbeatThread::here(), std::future::pending()).await;
    let WorkerError::Unreachable { address, reason } = ended.unwrap_err() else { panic!("nobody answers") };
    assert_eq!((&address[..], &reason[..]), ("coordinator:7070", "nobody listens there"));
    assert!(begun.elapsed() <= patience && begun.elapsed() > patience - Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_refused_does_not_try_again() {
    /// Refuses everybody.
    struct Closed;

    #[tonic::async_trait]
    impl Answers for Closed {
        async fn control(&self, _: Streaming<v1::WorkerMessage>) -> Result<Replies<v1::CoordinatorMessage>, Status> {
            Err(Status::failed_precondition("another version"))
        }
    }

    #[tonic::async_trait]
    impl Dial for FakeCoordinator<Closed> {
        async fn dial(&self) -> Result<CoordinatorClient<Channel>, ConnectError> {
            Ok(connect(Closed).await)
        }
    }

    let dial = Arc::new(FakeCoordinator(Closed));
    let ended = run_with(config(None), dial, HeartbeatThread::here(), std::future::pending()).await;
    assert!(matches!(&ended, Err(WorkerError::Refused { reason }) if reason == "another version"), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_opened_again() {
    let mut working = Working::idle();
    drop(working.connected().await);
    let coordinator = working.connected().await;
    coordinator.goodbye(false).await;
    drop(coordinator);
    working.connected().await.goodbye(true).await;
    assert_eq!(working.ended.await.unwrap().unwrap(), Ended::RunOver);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_hangs_up_without_a_welcome_is_tried_again() {
    let mut working = Working::idle();
    drop(working.calls.control.recv().await.expect("a connection"));
    working.connected().await.goodbye(true).await;
    assert_eq!(working.ended.await.unwrap().unwrap(), Ended::RunOver);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_stopped_between_connections_goes_at_once() {
    let (coordinator, _calls) = Scripted::with_plan(Ok(v1::PlanChunk::default()));
    let stop = tokio::time::sleep(Duration::from_secs(5));
    let ended = run_with(config(None), Phone::new(coordinator, usize::MAX), HeartbeatThread::here(), stop).await;
    assert_eq!(ended.unwrap(), Ended::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_stopped_waits_for_leave() {
    let mut working = Working::idle();
    let mut coordinator = working.connected().await;
    working.stop();
    assert_eq!(coordinator.hear_news().await, Said::Draining(v1::Draining {}));
    coordinator.goodbye(false).await;
    assert_eq!(working.ended.await.unwrap().unwrap(), Ended::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_worker_waits_for_leave_no_longer_than_ten_seconds() {
    let mut working = Working::idle();
    let mut coordinator = working.connected().await;
    working.stop();
    assert_eq!(coordinator.hear_news().await, Said::Draining(v1::Draining {}));
    let asked = Instant::now();
    assert_eq!(working.ended.await.unwrap().unwrap(), Ended::Drained);
    assert_eq!(asked.elapsed(), DRAIN);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_connection_breaks_while_it_waits_for_leave_is_drained() {
    let mut working = Working::idle();
    let mut coordinator = working.connected().await;
    working.stop();
    assert_eq!(coordinator.hear_news().await, Said::Draining(v1::Draining {}));
    drop(coordinator);
    assert_eq!(working.ended.await.unwrap().unwrap(), Ended::Drained);
}

// Time that is paused would leap ahead while a thread computes.
#[tokio::test]
async fn an_assigned_worker_joins_computes_and_hands_its_log_on_until_it_is_released() {
    let job = Job::at(ROOT);
    let (coordinator, calls) = Scripted::new(&job.plan, &job.manifest);
    let (log, lines) = mpsc::channel(4);
    let config = Config { data: Some(job.data()), log: Some(lines), ..config(None) };
    let mut working = Working::start(config, coordinator, calls);
    let mut coordinator = working.connected().await;
    log.send("nobody's line".to_owned()).await.unwrap();
    coordinator.assign().await;
    assert_eq!(coordinator.hear_news().await, Said::Joined(v1::Joined { job: 7, generation: 2, threads: 1 }));
    log.send("a line of the job".to_owned()).await.unwrap();
    assert_eq!(coordinator.hear_news().await, Said::Log(v1::Log { job: 7, line: "a line of the job".to_owned() }));
    coordinator.say(Message::Committed(v1::Committed { step: 0, ..Default::default() })).await;
    let call = working.calls.parameters.recv().await.expect("a call");
    call.send(&job.parameters(0)).await;
    assert_eq!(coordinator.hear_news().await, Said::Ready(v1::Ready { job: 7, step: 0 }));
    coordinator.say(Message::Lease(lease(convoy_scheduler::Work::Train, 0, 1, 0..1).into())).await;
    let owed = working.calls.pushes.recv().await.expect("a node");
    let ahead = working.calls.parameters.recv().await.expect("the next parameters");
    coordinator.say(Message::Released(v1::Released { job: 7, reason: "another job".to_owned() })).await;
    ahead.chunks.closed().await;
    owed.reply.send(Ok(v1::PushNodeReply::default())).expect("the node is still being sent");
    coordinator.assign().await;
    assert_eq!(
        coordinator.hear_news().await,
        Said::Joined(v1::Joined { job: 7, generation: 2, threads: 1 }),
        "it comes again"
    );
    coordinator.goodbye(true).await;
    assert_eq!(working.ended.await.unwrap().unwrap(), Ended::RunOver);
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_ends_a_worker_that_owes_nodes() {
    let job = Job::at(ROOT);
    let (coordinator, calls) = Scripted::new(&job.plan, &job.manifest);
    let mut working = Working::start(Config { data: Some(job.data()), ..config(None) }, coordinator, calls);
    let mut coordinator = working.connected().await;
    coordinator.assign().await;
    assert!(matches!(coordinator.hear_news().await, Said::Joined(_)));
    // Its parameters never come.
    coordinator.say(Message::Lease(lease(convoy_scheduler::Work::Train, 0, 1, 0..4).into())).await;
    let asked = working.calls.parameters.recv().await.expect("the next parameters");
    coordinator.goodbye(true).await;
    assert_eq!(working.ended.await.unwrap().unwrap(), Ended::RunOver);
    asked.chunks.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_do_a_job_says_why_and_stays_for_others() {
    let mut working = Working::idle();
    let mut coordinator = working.connected().await;
    for _ in 0..2 {
        coordinator.assign().await;
        let Said::Declined(declined) = coordinator.hear_news().await else { panic!("its plan is empty") };
        assert_eq!(declined.job, 7);
        assert!(declined.reason.contains("a plan that makes no sense"), "{}", declined.reason);
    }
    coordinator.goodbye(true).await;
    assert_eq!(working.ended.await.unwrap().unwrap(), Ended::RunOver);
}

#[tokio::test(start_paused = true)]
async fn a_worker_of_one_run_ends_with_the_reason_when_it_cannot_do_it() {
    let (coordinator, calls) = Scripted::with_plan(Ok(v1::PlanChunk::default()));
    let mut working = Working::start(Config { declines: false, ..config(None) }, coordinator, calls);
    let mut coordinator = working.connected().await;
    coordinator.assign().await;
    assert!(matches!(coordinator.hear_news().await, Said::Declined(_)), "people are told as well");
    let ended = working.ended.await.unwrap();
    assert!(matches!(ended, Err(WorkerError::Nonsense { what: "a plan", .. })), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_needs_more_memory_than_there_is_is_declined_with_the_figures() {
    let job = Job::at(ROOT);
    let (coordinator, calls) = Scripted::new(&job.plan, &job.manifest);
    let config = Config { data: Some(job.data()), most_memory: Some(1 << 20), ..config(None) };
    let mut working = Working::start(config, coordinator, calls);
    let mut coordinator = working.connected().await;
    coordinator.assign().await;
    let Said::Declined(declined) = coordinator.hear_news().await else { panic!("it has 1 MiB") };
    assert_eq!(declined.cause(), v1::DeclineCause::Memory);
    assert!(declined.reason.contains("it needs 48.") && declined.reason.contains("1.0 MiB are there"), "{declined:?}");
    coordinator.goodbye(true).await;
    assert_eq!(working.ended.await.unwrap().unwrap(), Ended::RunOver);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_get_its_plan_connects_again() {
    let (coordinator, calls) = Scripted::with_plan(Err(Status::not_found("the run is over")));
    let mut working = Working::start(config(None), coordinator, calls);
    let coordinator = working.connected().await;
    coordinator.assign().await;
    working.connected().await.goodbye(true).await;
    assert_eq!(working.ended.await.unwrap().unwrap(), Ended::RunOver);
}

/// Counts heartbeats and gives nothing to do.
#[derive(Clone, Default)]
struct Listener(Arc<AtomicUsize>);

#[tonic::async_trait]
impl Answers for Listener {
    async fn control(
        &self,
        mut messages: Streaming<v1::WorkerMessage>,
    ) -> Result<Replies<v1::CoordinatorMessage>, Status> {
        let (sender, replies) = mpsc::channel(1);
        let welcome = Message::Welcome(v1::Welcome { worker: 1, heartbeat_ms: 10 });
        _ = sender.send(Ok(v1::CoordinatorMessage { message: Some(welcome) })).await;
        let heard = self.0.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = messages.message().await {
                let beat = matches!(message.message, Some(Said::Heartbeat(_)));
                heard.fetch_add(beat.into(), Ordering::SeqCst);
            }
            drop(sender);
        });
        Ok(Box::pin(ReceiverStream::new(replies)))
    }
}

#[test]
fn a_worker_whose_own_runtime_is_busy_is_not_silent() {
    let listener = Listener::default();
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let serving = server.block_on(serve(listener.clone()));
    let link = watch::channel(Link::plain(serving.address.clone())).1;
    let config = Config { link, ..config(Some(Duration::from_secs(10))) };
    let own = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    own.block_on(async {
        let working = tokio::spawn(run(config, Box::pin(std::future::pending())));
        while listener.0.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // The only thread of this runtime is busy from here on.
        let before = listener.0.load(Ordering::SeqCst);
        wait_for("five heartbeats", || (listener.0.load(Ordering::SeqCst) >= before + 5).then_some(()));
        working.abort();
    });
}
