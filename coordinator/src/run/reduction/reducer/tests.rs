use convoy_kernels::optimizer::{NORM_BLOCK, norm_sq_block};
use convoy_model::ParameterFormat;
use convoy_proto::{TRAIN_SUMS, chunk_count, chunk_range};
use convoy_reduce::{Abandoned, Elements, Flat, Scales, Update};
use convoy_scheduler::{Event, LeaseId, LeaseRef, NodeResult, Opening, OwnersVersion, RunGeneration, WorkerId};

use super::*;
use crate::fixtures::{permit, plan};

/// Two epochs of two steps of three shards of 8 samples, and an evaluation of two shards.
const TRAIN: &str = "[train]\nepochs = 2\nbatch = 24\nshard = 8\n[network]\nname = \"simple-cnn\"\n";
const SGD: &str = "[optimizer]\nkind = \"sgd\"\nlr = 0.1\nmomentum = 0.9";
const ADAMW: &str = "[optimizer]\nkind = \"adamw\"\nlr = 0.01";
const SHARDS: u32 = 3;
const STEP: StepId = StepId(0);

/// A reducer on the test's own thread.
struct Bench {
    reducer: Reducer,
    plan: Arc<Plan>,
    network: Arc<Network>,
    board: Arc<ParameterBoard>,
    news: mpsc::UnboundedReceiver<News>,
    opening: Opening,
}

fn leaf(shard: u32) -> Node {
    Node { first: shard, last: shard + 1 }
}

/// Element `i` of the gradient of `shard`: numbers whose sum depends on the order of additions.
fn element(shard: u32, i: usize) -> f32 {
    let mixed = (i as u32).wrapping_mul(2_654_435_761).wrapping_add(shard.wrapping_mul(0x9e37_79b9)) >> 8;
    (mixed as f32 / (1 << 24) as f32 - 0.5) * [1.0, 1e-3, 30.0][shard as usize % 3]
}

/// `left + right`, element by element.
fn sum(left: &[f32], right: &[f32]) -> Vec<f32> {
    left.iter().zip(right).map(|(left, right)| left + right).collect()
}

/// The optimizer's state, each part of it in one piece.
fn moments(state: &ParameterState) -> Vec<Vec<f32>> {
    state.moments.iter().map(Flat::to_vec).collect()
}

fn sums_of(node: Node) -> Vec<f64> {
    vec![8.0, 0.1, 8.0, 3.0].into_iter().map(|sum| sum * f64::from(node.size())).collect()
}

impl Bench {
    fn new(spec: &str) -> Self {
        let plan = plan(&format!("{TRAIN}{spec}"), 48, 16);
        let network = Arc::new(Network::of(&plan).expect("a network of a test is right"));
        let flat = Flat::of(&network.initial(1));
        let state = Arc::new(ParameterState::first(flat, network.parameters, &plan.spec.optimizer));
        let board = Arc::new(ParameterBoard::new(0, &state.flat, ParameterFormat::default()));
        let (sender, news) = mpsc::unbounded_channel();
        let reducer = Reducer::new(plan.clone(), network.clone(), board.clone(), state, 0, sender);
        assert!(chunk_count(network.len()) > 1, "a vector of one chunk has no order of chunks");
        Bench { reducer, plan, network, board, news, opening: Opening::default() }
    }

    fn open(&mut self, step: StepId, work: Work, shards: u32) {
        self.opening = self.opening.next();
        self.reducer.handle(Command::Open { opening: self.opening, step, work, shards });
    }

    /// The gradient of a shard.
    fn gradient(&self, shard: u32) -> Vec<f32> {
        (0..self.network.len()).map(|i| element(shard, i)).collect()
    }

    fn chunk_of(&mut self, opening: Opening, node: Node, index: usize, gradient: &[f32]) {
        let values = ChunkBuffer::of(&gradient[chunk_range(gradient.len(), index)]);
        let from = WorkerId(1);
        self.reducer.handle(Command::Chunk { opening, node, from, index, values, permit: permit() });
    }

    fn chunk(&mut self, node: Node, index: usize, gradient: &[f32]) {
        self.chunk_of(self.opening, node, index, gradient);
    }

    /// Chunks are owned by these from now on, over and over; 0 is the coordinator.
    fn owners(&mut self, version: u64, of: &[u32]) {
        let owner = |worker: &u32| if *worker == 0 { Owner::Coordinator } else { Owner::Worker(WorkerId(*worker)) };
        let of = of.iter().map(owner).cycle().take(chunk_count(self.network.len())).collect();
        self.reducer.handle(Command::Owners { version: OwnersVersion(version), of });
    }

    /// The first step, with such owners.
    fn sliced(spec: &str, of: &[u32]) -> Self {
        let mut bench = Bench::new(spec);
        bench.owners(1, of);
        bench.open(STEP, Work::Train, SHARDS);
        bench
    }

    /// The sum over all shards.
    fn root(&self) -> Vec<f32> {
        sum(&sum(&self.gradient(0), &self.gradient(1)), &self.gradient(2))
    }

    fn bring_of(&mut self, opening: Opening, from: u32, index: usize, root: &[f32]) {
        let values = ChunkBuffer::of(&root[chunk_range(root.len(), index)]);
        let from = WorkerId(from);
        self.reducer.handle(Command::Root { opening, from, index, values, permit: permit() });
    }

    /// `from` brings the sum of chunk `index`.
    fn bring(&mut self, from: u32, index: usize) {
        let root = self.root();
        self.bring_of(self.opening, from, index, &root);
    }

    fn squares_of(&mut self, opening: Opening, from: u32, index: usize, squares: f64) {
        let permit = permit();
        self.reducer.handle(Command::Squares { opening, from: WorkerId(from), index, squares, permit });
    }

    /// `from` tells the squares of the sum of chunk `index`.
    fn squares(&mut self, from: u32, index: usize) {
        let root = self.root();
        let squares = self.reducer.rules.squares(index, &root[chunk_range(root.len(), index)]);
        self.squares_of(self.opening, from, index, squares);
    }

    /// The sums of all shards, whose chunks have gone elsewhere.
    fn summaries(&mut self) {
        (0..SHARDS).for_each(|shard| self.summary(leaf(shard), sums_of(leaf(shard)), None));
    }

    /// Whose sums are all there, as was told since the last call, each with the version of the owners.
    fn reduced(&mut self) -> Vec<(u64, u32)> {
        let opening = self.opening;
        let of = |news: News| match news {
            News::OwnerReduced { opening: told, version, worker } if told == opening => Some((version.0, worker.0)),
            _ => None,
        };
        self.made().into_iter().filter_map(of).collect()
    }

    fn summary(&mut self, node: Node, sums: Vec<f64>, not_finite: Option<u32>) {
        let at = LeaseRef { generation: RunGeneration(1), step: STEP, lease: LeaseId(node.first.into()), epoch: 0 };
        let result = NodeResult::Good;
        let from = WorkerId(1);
        let event_after =
            Event::NodeDone { worker: from, at, shard_micros: 1, version: OwnersVersion(0), result, digest: None };
        let (opening, permit) = (self.opening, permit());
        self.reducer.handle(Command::Summary { opening, node, from, sums, not_finite, event_after, permit });
    }

    fn push(&mut self, node: Node, gradient: &[f32]) {
        (0..chunk_count(gradient.len())).for_each(|index| self.chunk(node, index, gradient));
        self.summary(node, sums_of(node), None);
    }

    /// Opens `step` and sends each of its shards as a node.
    fn step(&mut self, step: StepId) {
        self.open(step, Work::Train, SHARDS);
        for shard in 0..SHARDS {
            let gradient = self.gradient(shard);
            self.push(leaf(shard), &gradient);
        }
    }

    /// All that was told, but for nodes and squares.
    fn made(&mut self) -> Vec<News> {
        let all = std::iter::from_fn(|| self.news.try_recv().ok());
        all.filter(|news| !matches!(news, News::Node { .. } | News::OwnerSquared { .. })).collect()
    }

    /// Who has told all squares that it owes, as was told since the last call.
    fn squared(&mut self) -> Vec<u32> {
        let all = std::iter::from_fn(|| self.news.try_recv().ok());
        let of = |news| match news {
            News::OwnerSquared { opening, worker } if opening == self.opening => Some(worker.0),
            _ => None,
        };
        all.filter_map(of).collect()
    }

    fn snapshot(&mut self) -> Arc<ParameterState> {
        let (reply, state) = std::sync::mpsc::sync_channel(1);
        self.reducer.handle(Command::Snapshot { reply });
        state.recv().expect("it is answered")
    }

    /// What the first step must come to, by the plain way: one sum, one update of all elements.
    fn expected(&mut self) -> (Vec<f32>, Vec<Vec<f32>>) {
        let before = self.snapshot();
        let mut root = self.root();
        let scales = Scales { gradient: 1.0 / 24.0, statistics: 1.0 / 24.0 };
        self.update(&before, scales, &mut root)
    }

    /// What one update of all elements comes to.
    fn update(&self, before: &ParameterState, scales: Scales, root: &mut [f32]) -> (Vec<f32>, Vec<Vec<f32>>) {
        let (mut values, mut moments) = (before.flat.to_vec(), moments(before));
        let mut parts: Vec<&mut [f32]> = moments.iter_mut().map(|moment| &mut moment[..]).collect();
        let elements = Elements { first: 0, values: &mut values, moments: &mut parts, sum: root };
        Update::new(&self.plan, &self.network).apply(0, scales, elements);
        (values, moments)
    }

    /// Commits, and compares with the plain way.
    fn check(&mut self, expected: &(Vec<f32>, Vec<Vec<f32>>), what: &str) {
        let mut made = self.made();
        made.retain(|news| !matches!(news, News::OwnerReduced { .. } | News::Scaled { .. }));
        let [News::Reduced { opening, step, digest, .. }] = made[..] else { panic!("{what}: not reduced") };
        assert_eq!((opening, step), (self.opening, STEP), "{what}");
        self.reducer.handle(Command::Commit);
        let state = self.snapshot();
        assert_eq!(state.step, 1, "{what}");
        assert!(state.flat.to_vec() == expected.0 && moments(&state) == expected.1, "{what}: other bits");
        assert_eq!(state.flat.digest(&self.network), digest, "{what}");
    }
}

#[test]
fn nodes_in_any_order_give_the_same_bits() {
    for optimizer in [SGD, ADAMW] {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut bench = Bench::new(optimizer);
            let expected = bench.expected();
            bench.open(STEP, Work::Train, SHARDS);
            for shard in order {
                let gradient = bench.gradient(shard);
                bench.push(leaf(shard), &gradient);
            }
            bench.check(&expected, &format!("{optimizer} {order:?}"));
        }
    }
}

#[test]
fn chunks_in_any_order_give_the_same_bits() {
    let mut bench = Bench::new(SGD);
    let expected = bench.expected();
    bench.open(STEP, Work::Train, SHARDS);
    let gradients = [0, 1, 2].map(|shard| bench.gradient(shard));
    // The last chunk of one shard, then of the next; and summaries before chunks.
    (0..SHARDS).for_each(|shard| bench.summary(leaf(shard), sums_of(leaf(shard)), None));
    for index in (0..chunk_count(bench.network.len())).rev() {
        for shard in [1, 2, 0] {
            bench.chunk(leaf(shard), index, &gradients[shard as usize]);
        }
    }
    bench.check(&expected, "chunk by chunk, backwards");
}

#[test]
fn a_worker_may_add_shards_of_one_node_itself() {
    let mut bench = Bench::new(SGD);
    let expected = bench.expected();
    bench.open(STEP, Work::Train, SHARDS);
    let pair = sum(&bench.gradient(0), &bench.gradient(1));
    let last = bench.gradient(2);
    bench.push(leaf(2), &last);
    bench.push(Node { first: 0, last: 2 }, &pair);
    bench.check(&expected, "a node of two shards");
}

#[test]
fn a_repeated_node_counts_once() {
    let mut bench = Bench::new(SGD);
    let expected = bench.expected();
    bench.open(STEP, Work::Train, SHARDS);
    let first = bench.gradient(0);
    for shard in 0..SHARDS {
        let gradient = bench.gradient(shard);
        bench.push(leaf(shard), &gradient);
        bench.push(leaf(shard), &gradient);
        bench.push(leaf(0), &first);
    }
    bench.check(&expected, "repeated nodes");
    assert!(bench.made().is_empty(), "a step is told once");
}

#[test]
fn half_of_a_node_that_nobody_completes_is_not_counted_unseen() {
    let mut bench = Bench::new(SGD);
    let expected = bench.expected();
    bench.open(STEP, Work::Train, SHARDS);
    let wrong = vec![7.0; bench.network.len()];
    bench.chunk(leaf(1), 0, &wrong);
    for shard in 0..SHARDS {
        let gradient = bench.gradient(shard);
        bench.push(leaf(shard), &gradient);
    }
    let made = bench.made();
    let [News::Contradicted { opening, event: Event::NodeContradicted { step: STEP, work: Work::Train, node, .. } }] =
        &made[..]
    else {
        panic!("{made:?}")
    };
    assert_eq!((*opening, *node), (bench.opening, leaf(1)));
    bench.reducer.handle(Command::Abandon);
    bench.step(STEP);
    bench.check(&expected, "begun anew");
}

#[test]
fn sums_that_differ_from_those_that_were_counted_are_seen() {
    for work in [Work::Train, Work::Evaluate] {
        let mut bench = Bench::new(SGD);
        bench.open(STEP, work, SHARDS);
        let len = if work == Work::Train { TRAIN_SUMS } else { bench.plan.metric_layout().len() };
        bench.summary(leaf(0), vec![8.0; len], None);
        bench.summary(leaf(0), vec![8.5; len], None);
        let made = bench.made();
        assert!(
            matches!(&made[..], [News::Contradicted { event: Event::NodeContradicted { work: told, .. }, .. }] if *told == work),
            "{made:?}"
        );
    }
}

#[test]
fn a_step_is_told_once_however_often_its_nodes_come() {
    let mut bench = Bench::new(SGD);
    bench.step(STEP);
    let gradient = bench.gradient(0);
    bench.push(leaf(0), &gradient);
    assert_eq!(bench.made().len(), 1);
}

#[test]
fn what_belongs_to_an_earlier_opening_is_dropped() {
    let mut bench = Bench::new(SGD);
    let expected = bench.expected();
    bench.open(STEP, Work::Train, SHARDS);
    let earlier = bench.opening;
    bench.open(STEP, Work::Train, SHARDS);
    let other = vec![7.0; bench.network.len()];
    (0..chunk_count(other.len())).for_each(|index| bench.chunk_of(earlier, leaf(0), index, &other));
    for shard in 0..SHARDS {
        let gradient = bench.gradient(shard);
        bench.push(leaf(shard), &gradient);
    }
    bench.check(&expected, "an earlier opening");
}

#[test]
fn nothing_of_an_abandoned_step_is_left() {
    for optimizer in [SGD, ADAMW] {
        let mut bench = Bench::new(optimizer);
        let expected = bench.expected();
        bench.open(STEP, Work::Train, SHARDS);
        let other = vec![7.0; bench.network.len()];
        // The whole of the first chunk: the optimizer has run over it and written its state.
        (0..SHARDS).for_each(|shard| bench.chunk(leaf(shard), 0, &other));
        bench.reducer.handle(Command::Abandon);
        bench.step(STEP);
        bench.check(&expected, optimizer);
    }
}

#[tokio::test]
async fn readers_of_an_abandoned_step_are_told() {
    let mut bench = Bench::new(SGD);
    bench.open(STEP, Work::Train, SHARDS);
    let next = bench.board.get(1).await.expect("it has begun");
    bench.reducer.handle(Command::Abandon);
    assert_eq!(next.chunk(0, false).await, Err(Abandoned));
    assert!(bench.board.get(0).await.is_some(), "the committed parameters stay");
}

#[tokio::test]
async fn a_chunk_can_be_read_as_soon_as_its_root_is_there() {
    let mut bench = Bench::new(SGD);
    let expected = bench.expected();
    bench.open(STEP, Work::Train, SHARDS);
    let gradients = [0, 1, 2].map(|shard| bench.gradient(shard));
    (0..SHARDS).for_each(|shard| bench.chunk(leaf(shard), 1, &gradients[shard as usize]));
    let next = bench.board.get(1).await.expect("it has begun");
    let chunk = next.chunk(0, false).await.expect("it is not given up").expect("one chunk is finished");
    let range = chunk_range(bench.network.len(), 1);
    let mut values = vec![0.0; range.len()];
    assert!(chunk.data.copy_to(&mut values));
    assert_eq!(chunk.offset, range.start as u64);
    assert!(values == expected.0[range]);
    assert!(bench.made().is_empty(), "the step is not over");
}

#[test]
fn a_snapshot_is_the_committed_state_as_it_was_then() {
    let mut bench = Bench::new(SGD);
    let initial = bench.network.initial(1);
    bench.step(STEP);
    let before = bench.snapshot();
    assert_eq!(before.step, 0, "not committed yet");
    bench.reducer.handle(Command::Commit);
    assert_eq!(bench.snapshot().step, 1);
    bench.step(StepId(1));
    bench.reducer.handle(Command::Commit);
    assert!(before.flat.to_vec() == initial, "later steps do not write into it");
    assert_eq!((before.step, bench.snapshot().step), (0, 2));
}

#[test]
fn a_commit_without_a_reduced_step_changes_nothing() {
    let mut bench = Bench::new(SGD);
    bench.reducer.handle(Command::Commit);
    assert_eq!(bench.snapshot().step, 0);
    bench.open(STEP, Work::Train, SHARDS);
    bench.reducer.handle(Command::Commit);
    assert_eq!(bench.snapshot().step, 0);
}

#[test]
fn a_node_is_told_after_it_was_counted_and_before_what_follows_from_it() {
    let mut bench = Bench::new(SGD);
    bench.step(STEP);
    let told: Vec<News> = std::iter::from_fn(|| bench.news.try_recv().ok()).collect();
    let nodes = told.iter().take_while(|news| matches!(news, News::Node { .. })).count();
    assert_eq!((nodes, told.len()), (SHARDS as usize, SHARDS as usize + 1));
    assert!(matches!(told.last(), Some(News::Reduced { .. })));
}

#[test]
fn a_node_that_is_not_finite_is_told_but_not_counted() {
    let mut bench = Bench::new(SGD);
    let expected = bench.expected();
    bench.open(STEP, Work::Train, SHARDS);
    bench.summary(leaf(1), vec![f64::NAN; TRAIN_SUMS], Some(1));
    assert!(matches!(bench.news.try_recv(), Ok(News::Node { not_finite: Some(1), .. })));
    for shard in 0..SHARDS {
        let gradient = bench.gradient(shard);
        bench.push(leaf(shard), &gradient);
    }
    bench.check(&expected, "computed again");
}

#[test]
fn parameters_that_are_not_finite_are_told_and_not_reduced() {
    let mut bench = Bench::new(SGD);
    bench.open(STEP, Work::Train, SHARDS);
    let huge = vec![f32::MAX; bench.network.len()];
    (0..SHARDS).for_each(|shard| bench.push(leaf(shard), &huge));
    assert!(matches!(bench.made()[..], [News::NotFinite { step: STEP, .. }]));
}

#[tokio::test]
async fn clipping_waits_for_the_whole_gradient() {
    let mut bench = Bench::new(&format!("{SGD}\nclip_norm = 0.5"));
    let before = bench.snapshot();
    bench.open(STEP, Work::Train, SHARDS);
    let gradients = [0, 1, 2].map(|shard| bench.gradient(shard));
    for shard in 0..SHARDS {
        (0..chunk_count(bench.network.len()))
            .for_each(|index| bench.chunk(leaf(shard), index, &gradients[shard as usize]));
    }
    assert_eq!(bench.reducer.committed.step, 0);
    assert!(bench.made().is_empty(), "the weight of the losses is not known yet");
    (0..SHARDS).for_each(|shard| bench.summary(leaf(shard), sums_of(leaf(shard)), None));
    let [News::Scaled { scales: told, .. }, News::Reduced { norm: Some(norm), .. }] = bench.made()[..] else {
        panic!("no norm")
    };
    let mut root = sum(&sum(&gradients[0], &gradients[1]), &gradients[2]);
    let squares =
        root[..bench.network.parameters].chunks(NORM_BLOCK).map(norm_sq_block).fold(0.0, |sum, block| sum + block);
    let (scales, expected) = Scales::new(24.0, 24.0, Some(0.5), || squares);
    assert_eq!(Some(norm), expected);
    assert!(norm > 0.5, "else nothing is clipped");
    assert_eq!(told.gradient, scales.gradient, "whoever is told makes the same of it");
    let (values, _) = bench.update(&before, scales, &mut root);
    bench.reducer.handle(Command::Commit);
    assert!(bench.snapshot().flat.to_vec() == values);
}

#[test]
fn sums_of_an_evaluation_are_added_left_to_right() {
    let told = |order: [u32; 3]| {
        let mut bench = Bench::new(SGD);
        bench.open(STEP, Work::Evaluate, SHARDS);
        let len = bench.plan.metric_layout().len();
        for shard in order {
            bench.summary(leaf(shard), vec![[1e16, 1.0, 1.0][shard as usize]; len], None);
        }
        match &bench.made()[..] {
            [News::Evaluated { step: STEP, sums, .. }] => sums[0],
            other => panic!("{other:?}"),
        }
    };
    assert_ne!((1e16 + 1.0) + 1.0, 1e16 + (1.0 + 1.0), "else the order does not show");
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        assert_eq!(told(order), (1e16 + 1.0) + 1.0, "{order:?}");
    }
}

#[test]
fn sums_of_another_layout_are_not_counted() {
    let mut bench = Bench::new(SGD);
    bench.open(STEP, Work::Evaluate, 1);
    bench.summary(leaf(0), vec![1.0; bench.plan.metric_layout().len() + 1], None);
    assert!(bench.made().is_empty());
    bench.open(STEP, Work::Train, SHARDS);
    bench.summary(leaf(0), vec![1.0; TRAIN_SUMS + 1], None);
    assert!(bench.made().is_empty());
}

#[test]
fn the_thread_ends_when_it_is_told_whoever_could_still_tell_it_something() {
    let bench = Bench::new(SGD);
    let (sender, commands) = mpsc::unbounded_channel();
    let thread = std::thread::spawn(move || bench.reducer.run(commands));
    sender.send(Command::End).expect("it listens");
    thread.join().expect("it does not crash");
    assert!(sender.send(Command::Commit).is_err(), "nobody listens");
}

#[test]
fn a_step_of_the_head_alone_needs_no_frozen_chunk() {
    for clip in ["", "\nclip_norm = 0.01"] {
        let mut bench = Bench::new(&format!("freeze_epochs = 1\n{ADAMW}{clip}"));
        let before = bench.snapshot();
        let chunks = chunk_count(bench.network.len());
        let frozen: Vec<usize> = bench.reducer.rules.frozen.at(0).collect();
        assert!(!frozen.is_empty() && frozen.len() < chunks, "{frozen:?} of {chunks}");
        // As a worker computes it: 0 but for the head.
        let mut gradients = [0, 1, 2].map(|shard| bench.gradient(shard));
        for tensor in bench.network.tensors.iter().filter(|tensor| !tensor.head) {
            gradients.iter_mut().for_each(|gradient| gradient[tensor.range()].fill(0.0));
        }
        bench.open(STEP, Work::Train, SHARDS);
        for shard in 0..SHARDS {
            for index in (0..chunks).filter(|index| !frozen.contains(index)) {
                bench.chunk(leaf(shard), index, &gradients[shard as usize]);
            }
            bench.summary(leaf(shard), sums_of(leaf(shard)), None);
        }
        let mut root = sum(&sum(&gradients[0], &gradients[1]), &gradients[2]);
        let squares =
            root[..bench.network.parameters].chunks(NORM_BLOCK).map(norm_sq_block).fold(0.0, |sum, block| sum + block);
        let limit = bench.plan.spec.optimizer.clip_norm;
        let (scales, _) = Scales::new(24.0, 24.0, limit, || squares);
        let expected = bench.update(&before, scales, &mut root);
        bench.check(&expected, &format!("frozen {clip}"));
        let after = bench.snapshot();
        for index in frozen {
            assert!(Arc::ptr_eq(&before.flat.chunks()[index], &after.flat.chunks()[index]), "it is the same memory");
        }
    }
}

mod owners;

/// Everything that was told since the last call, but of nodes and squares, in words.
fn told(bench: &mut Bench) -> Vec<String> {
    let of = |news: News| match news {
        News::AskKept { index, of, .. } => format!("ask kept {index} {}", of.map_or(0, |worker| worker.0)),
        News::AskBrought { index, owner, .. } => format!("ask brought {index} {}", owner.0),
        News::SumAudited { owner, finding, .. } => format!("audited {} {finding:?}", owner.0),
        News::Unanswered { worker, .. } => format!("unanswered {}", worker.0),
        News::AuditsLeft { .. } => "audits left".to_owned(),
        News::OwnerReduced { worker, .. } => format!("reduced {}", worker.0),
        News::Reduced { .. } => "made".to_owned(),
        News::Contradicted { event: Event::NodeContradicted { node, workers, .. }, .. } => {
            format!("contradicted {node}: {workers:?}")
        }
        other => panic!("{other:?}"),
    };
    bench.made().into_iter().map(of).collect()
}

/// The first step of an owner of all chunks, with its sums of `root` and everything else there: one of its chunks is
/// audited, which is the second answer.
fn audited(root: impl Fn(&Bench) -> Vec<f32>) -> (Bench, usize) {
    let mut bench = Bench::new(SGD);
    bench.reducer.audits = SumAudits::new(100);
    bench.owners(1, &[5]);
    bench.open(STEP, Work::Train, SHARDS);
    bench.summaries();
    let root = root(&bench);
    (0..chunk_count(root.len())).for_each(|index| bench.bring_of(bench.opening, 5, index, &root));
    let told = told(&mut bench);
    let asked = |told: &String| told.strip_prefix("ask kept ")?.strip_suffix(" 0")?.parse::<usize>().ok();
    let index = told.iter().find_map(asked).expect("a chunk is audited");
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told.contains(&"reduced 5".to_owned()) && told.contains(&"audits left".to_owned()), "{told:?}");
    let opening = bench.opening;
    let workers = vec![WorkerId(1), WorkerId(5)];
    bench.reducer.handle(Command::Audit { opening, answer: AuditAnswer::Asked { index, workers } });
    (bench, index)
}

/// Worker 1, which has computed all shards, sends what it keeps of a chunk.
fn send_kept(bench: &mut Bench, index: usize) {
    let (opening, from) = (bench.opening, WorkerId(1));
    for shard in 0..SHARDS {
        let gradient = bench.gradient(shard);
        let values = ChunkBuffer::of(&gradient[chunk_range(gradient.len(), index)]);
        let answer = AuditAnswer::Kept { from, index, node: leaf(shard), values, permit: permit() };
        bench.reducer.handle(Command::Audit { opening, answer });
    }
    bench.reducer.handle(Command::Audit { opening, answer: AuditAnswer::Sent { from, index } });
}

#[test]
fn a_step_is_made_when_its_sums_are_audited() {
    let (mut bench, index) = audited(Bench::root);
    send_kept(&mut bench, index);
    assert_eq!(told(&mut bench), ["audited 5 Equal", "made"]);
}

#[test]
fn a_wrong_sum_is_told_with_who_is_wrong_before_the_step_is_made() {
    let wrong = |bench: &Bench| bench.root().iter().map(|value| value + 1.0).collect();
    for (lies, finding) in [(false, "audited 5 Wrong"), (true, "audited 5 Disagrees(WorkerId(1))")] {
        let (mut bench, index) = audited(wrong);
        send_kept(&mut bench, index);
        assert_eq!(told(&mut bench), [format!("ask brought {index} 5")]);
        let digest = |shard| {
            let gradient = bench.gradient(shard);
            convoy_model::digest_elements(&gradient[chunk_range(gradient.len(), index)])
        };
        let said = |shard| if lies { convoy_common::Digest::default() } else { digest(shard) };
        let brought = Some((0..SHARDS).map(|shard| (leaf(shard), said(shard))).collect());
        let answer = AuditAnswer::Brought { index, brought };
        bench.reducer.handle(Command::Audit { opening: bench.opening, answer });
        assert_eq!(told(&mut bench)[0], finding);
    }
}

#[test]
fn a_sum_that_differs_and_is_not_explained_is_not_used() {
    let (mut bench, index) = audited(|bench| vec![0.0; bench.network.len()]);
    send_kept(&mut bench, index);
    let answer = AuditAnswer::Brought { index, brought: None };
    bench.reducer.handle(Command::Audit { opening: bench.opening, answer });
    let told = told(&mut bench);
    assert_eq!(told[1..], ["unanswered 5", "contradicted shards 0..3: [WorkerId(5)]"], "{told:?}");
}

#[test]
fn an_audit_that_is_not_answered_holds_nothing_up_for_ever() {
    let (mut bench, _) = audited(Bench::root);
    bench.reducer.handle(Command::Audit { opening: Opening(0), answer: AuditAnswer::GiveUp });
    assert!(told(&mut bench).is_empty(), "that was about another opening");
    bench.reducer.handle(Command::Audit { opening: bench.opening, answer: AuditAnswer::GiveUp });
    let told_then = told(&mut bench);
    assert_eq!(told_then.last().map(String::as_str), Some("made"), "{told_then:?}");
    assert_eq!(told_then[..told_then.len() - 1], ["unanswered 1"], "{told_then:?}");
    let (mut bench, _) = audited(Bench::root);
    bench.reducer.handle(Command::Gone { worker: WorkerId(1) });
    assert_eq!(told(&mut bench), ["made"]);
}
