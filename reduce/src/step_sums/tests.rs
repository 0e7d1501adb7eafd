use convoy_model::{Network, ParameterFormat};
use convoy_proto::chunk_range;

use super::*;
use crate::Flat;

const CLIP: &str = "clip_norm = 0.5\n";
const WEIGHTS: &str = "[loss]\nclass_weights = [1.0, 3.0]\n";
const ALL: Node = Node { first: 0, last: 3 };
const WORKER: WorkerId = WorkerId(1);

/// The first step of a job, of three shards.
struct Bench {
    rules: Arc<StepRules>,
    step: StepSums,
}

impl Bench {
    fn new(network: &str, more: &str) -> Bench {
        let spec = format!(
            "[train]\nepochs = 2\nbatch = 24\nshard = 8\n[network]\nname = \"simple-cnn\"\n{network}\
             [optimizer]\nkind = \"sgd\"\nlr = 0.1\n{more}"
        );
        let plan = convoy_testing::plan(&spec, [28, 28, 1], 2);
        let network = Network::of(&plan).expect("a network of a test is right");
        let before = ParameterState::first(Flat::of(&network.initial(1)), network.parameters, &plan.spec.optimizer);
        let rules = Arc::new(StepRules::new(Arc::new(plan), Arc::new(network)));
        let board = ParameterBoard::new(0, &before.flat, ParameterFormat::default());
        let step = StepSums::open(rules.clone(), Arc::new(before), ALL.last, &board);
        Bench { rules, step }
    }

    fn chunks(&self) -> usize {
        chunk_count(self.rules.network.len())
    }

    /// The sum of all shards, of a chunk.
    fn root(&self, index: usize) -> ChunkBuffer {
        let element = |i: usize| (i * (index + 3) % 97) as f32 * 0.01;
        ChunkBuffer::of(&chunk_range(self.rules.network.len(), index).map(element).collect::<Vec<f32>>())
    }

    fn tell_squares(&mut self, index: usize) {
        let squares = self.rules.squares(index, &self.root(index));
        self.step.take_squares(index, squares);
    }

    fn bring(&mut self, index: usize) {
        let root = self.root(index);
        self.step.take_sum(index, WORKER, root).expect("its owner says one thing");
    }

    /// Samples, loss, loss weights and correct ones of all shards.
    fn add_sums(&mut self) {
        self.step.add_sums(ALL, WORKER, vec![24.0, 1.5, 31.5, 9.0]).expect("there is one copy");
    }

    fn told(&self) -> Option<(f32, f32)> {
        pair(self.step.told_scales())
    }
}

fn pair(scales: Option<Scales>) -> Option<(f32, f32)> {
    scales.map(|scales| (scales.gradient, scales.statistics))
}

#[test]
fn what_scales_the_sums_is_told_before_they_are_there() {
    for (more, clips) in [(CLIP, true), (WEIGHTS, false), (&format!("{CLIP}{WEIGHTS}"), true)] {
        let mut bench = Bench::new("", more);
        bench.add_sums();
        for index in 0..bench.chunks() {
            assert_eq!(bench.told(), None, "{more}: the squares of chunk {index} are not known");
            bench.tell_squares(index);
        }
        let told = bench.told();
        let (gradient, statistics) = told.expect("all is known");
        assert_eq!((gradient < 1.0 / 31.5, statistics), (clips, 1.0 / 24.0), "{more}");
        (0..bench.chunks()).for_each(|index| bench.bring(index));
        assert_eq!(pair(bench.step.scales), told, "{more}: it scales them");
        assert_eq!(bench.told(), told, "{more}: it stays so");
    }
}

#[test]
fn what_scales_the_sums_needs_the_loss_weights_of_all_shards() {
    let mut bench = Bench::new("", CLIP);
    (0..bench.chunks()).for_each(|index| bench.tell_squares(index));
    assert_eq!(bench.told(), None);
    bench.add_sums();
    assert!(bench.told().is_some());
}

#[test]
fn of_sums_that_are_there_nobody_needs_to_tell_the_squares() {
    let mut bench = Bench::new("", CLIP);
    bench.add_sums();
    let added = bench.root(0);
    bench.step.add_chunk(ALL, WORKER, 0, added).expect("there is one copy");
    bench.bring(1);
    // There are no such squares.
    bench.step.take_squares(1, 1e9);
    (2..bench.chunks()).for_each(|index| bench.tell_squares(index));
    let told = bench.told();
    (2..bench.chunks()).for_each(|index| bench.bring(index));
    assert!(told.is_some() && pair(bench.step.scales) == told, "{told:?}");
}

#[test]
fn without_class_weights_and_clipping_nothing_needs_to_be_told() {
    let mut bench = Bench::new("", "");
    bench.add_sums();
    for index in 0..bench.chunks() {
        bench.tell_squares(index);
        bench.bring(index);
    }
    assert_eq!(bench.told(), None);
    assert!(bench.step.made().is_some(), "it was scaled by what the plan says");
}

#[test]
fn frozen_chunks_have_no_part_in_what_scales_the_others() {
    let mut bench = Bench::new("freeze_epochs = 1\n", CLIP);
    let (frozen, others): (Vec<usize>, Vec<usize>) =
        (0..bench.chunks()).partition(|index| bench.rules.frozen.contain(0, *index));
    assert!(!frozen.is_empty() && !others.is_empty());
    bench.add_sums();
    bench.step.take_squares(frozen[0], 1e9);
    others.iter().for_each(|index| bench.tell_squares(*index));
    let told = bench.told();
    others.iter().for_each(|index| bench.bring(*index));
    assert!(told.is_some() && pair(bench.step.scales) == told, "{told:?}");
}

#[test]
fn the_first_squares_of_a_chunk_count() {
    let mut bench = Bench::new("", CLIP);
    bench.add_sums();
    (0..bench.chunks()).for_each(|index| bench.tell_squares(index));
    let told = bench.told();
    bench.step.take_squares(0, 1e9);
    assert_eq!(bench.told(), told);
}
