use convoy_common::Digest;
use convoy_common::spec::Compression;
use convoy_model::{Network, ParameterFormat};
use convoy_proto::{Values, chunk_count, chunk_range};

use super::*;
use crate::{Flat, MadeStep, ParameterBoard, ParameterState, StepSums};

const SPEC: &str = "[network]\nname = \"simple-cnn\"\n[train]\nepochs = 2\nbatch = 24\nshard = 8\n";
const OPTIMIZERS: [&str; 4] = [
    "[optimizer]\nkind = \"sgd\"\nlr = 0.1\nmomentum = 0.9\n",
    "[optimizer]\nkind = \"adamw\"\nlr = 0.01\n",
    "[optimizer]\nkind = \"sgd\"\nlr = 0.1\nmomentum = 0.9\nclip_norm = 0.5\n",
    "compression = \"bf16\"\n[optimizer]\nkind = \"adamw\"\nlr = 0.01\n",
];
const SHARDS: u32 = 3;
const COORDINATOR: usize = 0;

/// A step at a coordinator and at owners, which are counted from 1.
struct Bench {
    rules: Arc<StepRules>,
    before: Arc<ParameterState>,
    sums: StepSums,
    owners: Vec<OwnedChunks>,
    /// The owner of each chunk.
    of: Vec<usize>,
}

fn leaf(shard: u32) -> Node {
    Node { first: shard, last: shard + 1 }
}

/// Numbers whose sum depends on the order of additions.
fn gradient(shard: u32, len: usize) -> Vec<f32> {
    let element = |i: usize| {
        let mixed = (i as u32).wrapping_mul(2_654_435_761).wrapping_add(shard.wrapping_mul(0x9e37_79b9)) >> 8;
        (mixed as f32 / (1 << 24) as f32 - 0.5) * [1.0, 1e-3, 30.0][shard as usize % 3]
    };
    (0..len).map(element).collect()
}

impl Bench {
    /// The first step of a job, whose chunks `of` names the owners of, over and over.
    fn new(optimizer: &str, of: &[usize]) -> Bench {
        let plan = convoy_testing::plan(&format!("{SPEC}{optimizer}"), [28, 28, 1], 2);
        let network = Network::of(&plan).expect("a network of a test is right");
        let rules = Arc::new(StepRules::new(Arc::new(plan), Arc::new(network)));
        let flat = Flat::of(&rules.network.initial(1));
        let before = ParameterState::first(flat, rules.network.parameters, &rules.plan.spec.optimizer);
        let of: Vec<usize> = of.iter().copied().cycle().take(chunk_count(rules.network.len())).collect();
        Bench::at(rules, Arc::new(before), of, Vec::new())
    }

    /// The step after `before`, with owners that have done those before it.
    fn at(rules: Arc<StepRules>, before: Arc<ParameterState>, of: Vec<usize>, owners: Vec<OwnedChunks>) -> Bench {
        let board = ParameterBoard::new(before.step, &before.flat, ParameterFormat::default());
        let sums = StepSums::open(rules.clone(), before.clone(), SHARDS, &board);
        let mut bench = Bench { rules, before, sums, owners, of };
        while bench.owners.len() < 3 {
            bench.owners.push(OwnedChunks::new(bench.rules.clone()));
        }
        for owner in 1..=3 {
            let own = bench.own(owner);
            bench.owners[owner - 1].open(bench.before.step, SHARDS, own);
        }
        bench
    }

    fn own(&self, owner: usize) -> Vec<usize> {
        (0..self.of.len()).filter(|index| self.of[*index] == owner).collect()
    }

    /// Says to owners what they do not have. The answer is how many chunks that were.
    fn give_states(&mut self) -> usize {
        let mut given = 0;
        for owner in 1..=3 {
            let (mut owned, step) = (Vec::new(), self.before.step);
            for index in self.owners[owner - 1].lacking() {
                given += 1;
                let state = ChunkState::of(&self.before, index);
                self.owners[owner - 1].set_state(step, index, state, &mut owned);
            }
            self.bring(owner, owned);
        }
        given
    }

    /// Tells the coordinator what an owner has summed up, or hands it over.
    fn bring(&mut self, owner: usize, owned: Vec<Owned>) {
        for done in owned {
            match done {
                Owned::Summed { index, squares } => self.sums.take_squares(index, squares),
                Owned::Made { index, sum, values, .. } => {
                    let sum = ChunkBuffer::copy_of(&sum);
                    self.sums.take_sum(index, WorkerId(owner as u32), sum).expect("an owner says one thing");
                    assert!(self.owners[owner - 1].made().any(|(made, same)| made == index && same == values));
                }
            }
        }
    }

    /// A chunk of a shard arrives where it belongs.
    fn chunk(&mut self, shard: u32, index: usize, values: &[f32]) {
        let (node, from) = (leaf(shard), WorkerId(10 + shard));
        let values = &values[chunk_range(self.rules.network.len(), index)];
        let values = ChunkBuffer::rounded(values, self.rules.compression());
        let mut owned = Vec::new();
        match self.of[index] {
            COORDINATOR => self.sums.add_chunk(node, from, index, values).expect("copies are equal"),
            owner => self.owners[owner - 1]
                .add(node, from, index, DigestedChunk::of(values), &mut owned)
                .expect("it owns the chunk"),
        }
        self.bring(self.of[index], owned);
    }

    /// All of the gradient, in an order in which neighbouring chunks are those of other shards.
    fn all(&mut self) {
        let len = self.rules.network.len();
        let gradients: Vec<Vec<f32>> = (0..SHARDS).map(|shard| gradient(shard, len)).collect();
        for index in 0..self.of.len() {
            for shard in (0..SHARDS).map(|shard| (shard + index as u32) % SHARDS) {
                self.chunk(shard, index, &gradients[shard as usize]);
            }
        }
        for shard in 0..SHARDS {
            let sums = vec![8.0, 0.1, 8.0, 3.0];
            self.sums.add_sums(leaf(shard), WorkerId(10 + shard), sums).expect("copies are equal");
        }
    }

    /// With scales that follow from the sums of all, owners make theirs only when they are told.
    fn scale(&mut self) {
        let Some(scales) = self.sums.told_scales() else { return };
        for owner in 1..=3 {
            let mut owned = Vec::new();
            self.owners[owner - 1].set_scales(scales, &mut owned);
            self.bring(owner, owned);
        }
    }

    fn digest(&mut self) -> Option<Digest> {
        self.sums.made().and_then(|MadeStep { digest, .. }| digest)
    }

    /// Commits, here and there.
    fn commit(mut self) -> (Arc<StepRules>, ParameterState, Vec<OwnedChunks>) {
        self.owners.iter_mut().for_each(OwnedChunks::commit);
        (self.rules, self.sums.into_state().expect("all is made"), self.owners)
    }
}

/// The digests of three steps that the coordinator makes alone.
fn alone(optimizer: &str) -> Vec<Option<Digest>> {
    steps(optimizer, &[&[COORDINATOR], &[COORDINATOR], &[COORDINATOR]]).0
}

/// The digests of steps with these owners, and how many states owners were told in each.
fn steps(optimizer: &str, of: &[&[usize]]) -> (Vec<Option<Digest>>, Vec<usize>) {
    let mut bench = Bench::new(optimizer, of[0]);
    let (mut digests, mut given) = (Vec::new(), Vec::new());
    for next in 1..=of.len() {
        given.push(bench.give_states());
        bench.all();
        bench.scale();
        digests.push(bench.digest());
        let (rules, state, owners) = bench.commit();
        let owned = of.get(next).unwrap_or(&of[0]).iter().copied().cycle().take(chunk_count(rules.network.len()));
        bench = Bench::at(rules, Arc::new(state), owned.collect(), owners);
    }
    (digests, given)
}

#[test]
fn bits_do_not_depend_on_who_owns_what() {
    for optimizer in OPTIMIZERS {
        let expected = alone(optimizer);
        assert!(expected.iter().all(Option::is_some));
        let (digests, given) = steps(optimizer, &[&[1, 2, COORDINATOR, 3], &[1, 2, COORDINATOR, 3], &[3, 2, 1, 3]]);
        assert_eq!(digests, expected, "{optimizer}");
        assert_eq!(given, [2, 0, 2], "owners go on with what they have made, and are told only what moves to them");
    }
}

#[test]
fn a_state_that_comes_late_is_waited_for() {
    let expected = alone(OPTIMIZERS[0]);
    let mut bench = Bench::new(OPTIMIZERS[0], &[1, 2, 3]);
    bench.all();
    assert_eq!(bench.digest(), None);
    let mut owned = Vec::new();
    let state = ChunkState::of(&bench.before, 0);
    bench.owners[0].set_state(1, 0, state.clone(), &mut owned);
    bench.owners[1].set_state(0, 0, state, &mut owned);
    assert!(owned.is_empty(), "a state of another step, or of another's chunk, is not wanted");
    assert_eq!(bench.give_states(), bench.of.len());
    assert_eq!(bench.digest(), expected[0]);
}

#[test]
fn chunks_that_move_are_added_anew_and_others_go_on() {
    let expected = alone(OPTIMIZERS[0]);
    let mut bench = Bench::new(OPTIMIZERS[0], &[1, 2]);
    bench.give_states();
    let len = bench.rules.network.len();
    let gradients: Vec<Vec<f32>> = (0..SHARDS).map(|shard| gradient(shard, len)).collect();
    // The first chunk is whole and its sum used, the second has come in parts.
    (0..SHARDS).for_each(|shard| bench.chunk(shard, 0, &gradients[shard as usize]));
    bench.chunk(1, 1, &gradients[1]);
    let moved = bench.own(1);
    bench.of.iter_mut().filter(|owner| **owner == 1).for_each(|owner| *owner = 2);
    bench.sums.move_chunks(moved.clone());
    let own = bench.own(2);
    bench.owners[1].own(own);
    bench.owners[0].own([]);
    let copy = DigestedChunk::of(ChunkBuffer::of(&gradients[0][chunk_range(len, 0)]));
    let refused = bench.owners[0].add(leaf(0), WorkerId(10), 0, copy, &mut Vec::new());
    assert_eq!(refused, Err(NotAdded::NotOwned));
    assert_eq!(bench.give_states(), moved.len(), "the new owner needs what it got");
    bench.all();
    assert_eq!(bench.digest(), expected[0]);
}

/// A worker lied, the owner that could have compared is gone, and others computed what they had: the sum that was used
/// does not stand.
#[test]
fn a_sum_of_a_chunk_that_moved_must_be_brought_again() {
    let mut bench = Bench::new(OPTIMIZERS[0], &[1]);
    bench.give_states();
    bench.all();
    let lie = ChunkBuffer::zeros(chunk_range(bench.rules.network.len(), 0).len());
    bench.sums.move_chunks([0]);
    assert_eq!(bench.digest(), None, "it is not settled");
    let differs = bench.sums.take_sum(0, WorkerId(2), lie).expect_err("it is another sum");
    assert_eq!(
        differs,
        Contradiction { node: Node { first: 0, last: SHARDS }, workers: vec![WorkerId(1), WorkerId(2)] }
    );
    // The coordinator adds it itself.
    bench.of[0] = COORDINATOR;
    let len = bench.rules.network.len();
    (0..SHARDS).for_each(|shard| bench.chunk(shard, 0, &gradient(shard, len)));
    assert_eq!(bench.digest(), alone(OPTIMIZERS[0])[0]);
}

#[test]
fn what_is_no_chunk_or_no_copy_is_refused() {
    let mut bench = Bench::new(OPTIMIZERS[0], &[1, 2]);
    let len = bench.rules.network.len();
    let values = |index| ChunkBuffer::of(&gradient(0, len)[chunk_range(len, index)]);
    let mut owned = Vec::new();
    let mut add =
        |index, values| bench.owners[0].add(leaf(0), WorkerId(9), index, DigestedChunk::of(values), &mut owned);
    assert_eq!(add(1, values(1)), Err(NotAdded::NotOwned));
    assert_eq!(add(99, values(1)), Err(NotAdded::NotOwned));
    let expected = values(0).len();
    assert_eq!(add(0, ChunkBuffer::zeros(3)), Err(NotAdded::Length { found: 3, expected }));
    assert_eq!(add(0, values(0)), Ok(()));
    assert_eq!(add(0, values(0)), Ok(()), "a copy");
    assert!(matches!(add(0, ChunkBuffer::zeros(expected)), Err(NotAdded::Differs(_))));
    let first = convoy_model::digest_elements(&values(0));
    assert_eq!(bench.owners[0].brought_of_node(leaf(0)), [(0, first)]);
    assert_eq!(bench.owners[0].brought_of_chunk(0), [(leaf(0), first)]);
    assert!(bench.owners[0].brought_of_node(leaf(1)).is_empty() && bench.owners[0].brought_of_chunk(1).is_empty());
    let mut idle = OwnedChunks::new(bench.rules.clone());
    assert_eq!(idle.add(leaf(0), WorkerId(9), 0, DigestedChunk::of(values(0)), &mut owned), Err(NotAdded::NotOwned));
    idle.commit();
    assert_eq!(idle.lacking(), Vec::<usize>::new());
}

#[test]
fn an_owner_whose_state_is_not_to_be_trusted_gets_it_anew_and_makes_its_chunks_once_more() {
    let mut bench = Bench::new(OPTIMIZERS[0], &[1, 2]);
    bench.give_states();
    let len = bench.rules.network.len();
    let wrong = ChunkState { values: Arc::new(ChunkBuffer::zeros(chunk_range(len, 0).len())), moments: Vec::new() };
    let wrong = ChunkState { moments: ChunkState::of(&bench.before, 0).moments, ..wrong };
    bench.owners[0].set_state(0, 0, wrong, &mut Vec::new());
    (0..SHARDS).for_each(|shard| bench.chunk(shard, 0, &gradient(shard, len)));
    let made = |bench: &Bench| bench.owners[0].made().find(|(index, _)| *index == 0).map(|(_, values)| values);
    let before = made(&bench).expect("it is made of what it had");
    bench.owners[0].forget_states();
    assert!(made(&bench).is_none() && bench.owners[0].lacking().contains(&0));
    bench.give_states();
    assert_ne!(made(&bench).expect("it is made anew"), before);
    bench.owners[0].commit();
    assert!(bench.owners[0].lacking().is_empty(), "no step is in work");
}

/// A worker could send parts of a node that it was never lent, and the node would not be looked at when it comes.
#[test]
fn a_node_whose_parts_were_brought_before_is_not_passed_over() {
    let mut bench = Bench::new(OPTIMIZERS[0], &[1, 2]);
    let len = bench.rules.network.len();
    let values = || DigestedChunk::of(ChunkBuffer::of(&gradient(0, len)[chunk_range(len, 0)]));
    let mut owned = Vec::new();
    let whole = Node { first: 0, last: 2 };
    let mut add = |node, from| bench.owners[0].add(node, WorkerId(from), 0, values(), &mut owned);
    assert_eq!(add(leaf(1), 9), Ok(()));
    let contradiction = Contradiction { node: whole, workers: vec![WorkerId(9), WorkerId(8)] };
    assert_eq!(add(whole, 8), Err(NotAdded::Differs(contradiction)));
    assert!(bench.owners[0].brought_of_node(whole).is_empty(), "what is not counted was not brought");
}

/// What owners hand out is half as long, and gives the same parameters to whoever has those of the step before.
#[test]
fn changes_that_are_rounded_make_the_next_parameters_of_those_before() {
    let mut bench = Bench::new(OPTIMIZERS[3], &[1]);
    bench.give_states();
    let len = bench.rules.network.len();
    let mut owned = Vec::new();
    for shard in 0..SHARDS {
        let values = ChunkBuffer::rounded(&gradient(shard, len)[chunk_range(len, 0)], Compression::Bf16);
        let chunk = DigestedChunk::of(values);
        bench.owners[0].add(leaf(shard), WorkerId(9), 0, chunk, &mut owned).expect("it owns the chunk");
    }
    let [Owned::Made { sum, values, change: Some(change), .. }] = &owned[..] else { panic!("{owned:?}") };
    assert!(sum.iter().all(|sum| sum.to_bits() & 0xffff == 0), "bf16");
    let before = &bench.before.flat.chunks()[0];
    assert_eq!(change.len(), 2 * before.len());
    let mut changed = vec![0.0; before.len()];
    assert!(Values::from(change.clone()).copy_halves_to(&mut changed));
    changed.iter_mut().zip(before.iter()).for_each(|(changed, before)| *changed += before);
    assert_eq!(changed[..], values[..]);
    assert_ne!(changed[..], before[..]);
}
