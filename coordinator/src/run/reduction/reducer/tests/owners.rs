//! Sums that owners of chunks bring.

use super::*;

#[test]
fn sums_that_owners_bring_give_the_bits_of_the_star() {
    for optimizer in [SGD, ADAMW] {
        for backwards in [false, true] {
            let of = [1, 2, 3];
            let mut bench = Bench::sliced(optimizer, &of);
            let expected = bench.expected();
            let mut chunks: Vec<usize> = (0..chunk_count(bench.network.len())).collect();
            if backwards {
                chunks.reverse();
                bench.summaries();
            }
            chunks.iter().for_each(|index| bench.bring(of[index % 3], *index));
            if !backwards {
                assert!(!bench.made().iter().any(|news| matches!(news, News::Reduced { .. })), "losses are missing");
                bench.summaries();
            }
            bench.check(&expected, optimizer);
        }
    }
}

#[test]
fn a_sum_counts_only_from_the_present_owner_and_for_the_present_opening() {
    let mut bench = Bench::sliced(SGD, &[1, 2]);
    let expected = bench.expected();
    bench.open(STEP, Work::Train, SHARDS);
    let (earlier, wrong) = (Opening(bench.opening.0 - 1), vec![7.0; bench.network.len()]);
    let chunks = chunk_count(bench.network.len());
    for index in 0..chunks {
        let (owner, other) = ([1, 2][index % 2], [2, 1][index % 2]);
        bench.bring_of(earlier, owner, index, &wrong);
        bench.bring_of(bench.opening, other, index, &wrong);
    }
    assert!(bench.made().is_empty(), "nothing has come");
    bench.owners(2, &[2, 1]);
    (0..chunks).for_each(|index| bench.bring_of(bench.opening, [1, 2][index % 2], index, &wrong));
    assert!(bench.made().is_empty(), "those were the owners before");
    (0..chunks).for_each(|index| bench.bring([2, 1][index % 2], index));
    bench.summaries();
    bench.check(&expected, "the present owners");
}

#[test]
fn an_owner_is_told_of_when_the_last_of_its_sums_is_there_and_again_under_other_owners() {
    let mut bench = Bench::sliced(SGD, &[1, 2]);
    let (one, two): (Vec<usize>, Vec<usize>) = (0..chunk_count(bench.network.len())).partition(|index| index % 2 == 0);
    for index in &one {
        assert_eq!(bench.reduced(), [], "chunk {index} is missing");
        bench.bring(1, *index);
    }
    assert_eq!(bench.reduced(), [(1, 1)]);
    // All of the second one's go to a third.
    bench.owners(2, &[1, 3]);
    assert_eq!(bench.reduced(), [(2, 1)], "it has nothing more to bring");
    bench.owners(3, &[1]);
    assert_eq!(bench.reduced(), [], "it has got more");
    two.iter().for_each(|index| bench.bring(1, *index));
    assert_eq!(bench.reduced(), [(3, 1)]);
    bench.open(STEP, Work::Train, SHARDS);
    assert_eq!(bench.reduced(), [], "all of it is wanted once more");
}

#[test]
fn owners_that_have_nothing_to_bring_are_told_of_at_once() {
    let mut bench = Bench::new(&format!("freeze_epochs = 1\n{SGD}"));
    let frozen: Vec<usize> = bench.reducer.rules.frozen.at(0).collect();
    let chunks = chunk_count(bench.network.len());
    let of: Vec<u32> = (0..chunks).map(|index| if frozen.contains(&index) { 1 } else { 2 }).collect();
    bench.owners(1, &of);
    assert!(bench.made().is_empty(), "no step is open");
    bench.open(STEP, Work::Train, SHARDS);
    assert_eq!(bench.reduced(), [(1, 1)]);
    bench.open(STEP, Work::Evaluate, SHARDS);
    assert!(bench.made().is_empty(), "of an evaluation nobody adds chunks");
    bench.open(STEP, Work::Train, SHARDS);
    assert_eq!(bench.reduced(), [(1, 1)]);
    let moved: Vec<u32> = of.iter().map(|owner| if *owner == 1 { 3 } else { 2 }).collect();
    bench.owners(2, &moved);
    assert_eq!(bench.reduced(), [(2, 3)], "a frozen chunk that moves need not be brought either");
}

#[test]
fn sums_and_squares_of_frozen_chunks_are_dropped() {
    let mut bench = Bench::new(&format!("freeze_epochs = 1\n{SGD}\nclip_norm = 0.01"));
    let before = bench.snapshot();
    bench.owners(1, &[1]);
    bench.open(STEP, Work::Train, SHARDS);
    bench.summaries();
    let frozen: Vec<usize> = bench.reducer.rules.frozen.at(0).collect();
    for index in &frozen {
        bench.bring(1, *index);
        bench.squares(1, *index);
    }
    assert!(bench.made().is_empty());
    let others: Vec<usize> = (0..chunk_count(bench.network.len())).filter(|index| !frozen.contains(index)).collect();
    others.iter().for_each(|index| bench.squares(1, *index));
    let [News::Scaled { scales, .. }] = bench.made()[..] else { panic!("it is not told") };
    others.iter().for_each(|index| bench.bring(1, *index));
    let mut root = bench.root();
    for tensor in bench.network.tensors.iter().filter(|tensor| !tensor.head) {
        root[tensor.range()].fill(0.0);
    }
    let expected = bench.update(&before, scales, &mut root);
    bench.check(&expected, "frozen");
}

#[test]
fn the_sum_of_a_chunk_that_has_moved_must_be_brought_again() {
    let mut bench = Bench::sliced(SGD, &[1]);
    let expected = bench.expected();
    let chunks = chunk_count(bench.network.len());
    (0..chunks).for_each(|index| bench.bring(1, index));
    bench.owners(2, &[2, 1]);
    assert_eq!(bench.reduced(), [(1, 1), (2, 1)], "the second one has brought nothing");
    bench.summaries();
    assert!(bench.made().is_empty(), "nobody stands for its sums");
    for index in (0..chunks).step_by(2) {
        bench.bring(2, index);
    }
    bench.check(&expected, "the same sums again");
}

#[test]
fn a_sum_that_is_brought_again_and_differs_contradicts() {
    let mut bench = Bench::sliced(SGD, &[1]);
    bench.bring(1, 0);
    bench.owners(2, &[2]);
    let wrong = vec![7.0; bench.network.len()];
    bench.bring_of(bench.opening, 2, 0, &wrong);
    let made = bench.made();
    let [
        News::Contradicted { opening, event: Event::NodeContradicted { step: STEP, work: Work::Train, node, workers } },
    ] = &made[..]
    else {
        panic!("{made:?}")
    };
    assert_eq!((*opening, *node), (bench.opening, Node { first: 0, last: SHARDS }));
    assert_eq!(workers[..], [WorkerId(1), WorkerId(2)]);
    bench.bring(2, 0);
    assert!(bench.made().is_empty(), "the step is forgotten");
}

#[test]
fn who_has_told_its_squares_and_waits_for_others_is_known_also_after_chunks_have_moved() {
    let mut bench = Bench::sliced(&format!("{SGD}\nclip_norm = 0.5"), &[1, 2]);
    let chunks = chunk_count(bench.network.len());
    assert!(bench.squared().is_empty(), "nobody has told anything");
    let own = |owner: usize| (0..chunks).filter(move |index| index % 2 == owner);
    let last = own(0).next_back().expect("it owns chunks");
    own(0).filter(|index| *index != last).for_each(|index| bench.squares(1, index));
    assert!(bench.squared().is_empty(), "one is missing");
    bench.squares(1, last);
    assert_eq!(bench.squared(), [1]);
    bench.owners(2, &[1, 3]);
    assert_eq!(bench.squared(), [1], "it has nothing new to tell");
    own(1).for_each(|index| bench.squares(3, index));
    assert_eq!(bench.squared(), [3]);
    bench.owners(3, &[1]);
    assert!(bench.squared().is_empty(), "it owes those that it got");
}

#[test]
fn what_scales_the_sums_is_told_once_and_only_by_what_the_present_owners_say() {
    let mut bench = Bench::sliced(&format!("{SGD}\nclip_norm = 0.5"), &[1]);
    bench.open(STEP, Work::Train, SHARDS);
    let chunks = chunk_count(bench.network.len());
    let earlier = Opening(bench.opening.0 - 1);
    bench.squares_of(earlier, 1, 0, 1e9);
    bench.squares_of(bench.opening, 2, 0, 1e9);
    (0..chunks).for_each(|index| bench.squares(1, index));
    assert!(bench.made().is_empty(), "the losses are missing");
    bench.summaries();
    let [News::Scaled { opening, scales }] = bench.made()[..] else { panic!("it is not told") };
    assert_eq!(opening, bench.opening);
    let before = bench.snapshot();
    let mut root = bench.root();
    let squares =
        root[..bench.network.parameters].chunks(NORM_BLOCK).map(norm_sq_block).fold(0.0, |sum, block| sum + block);
    let (expected, _) = Scales::new(24.0, 24.0, Some(0.5), || squares);
    assert_eq!((scales.gradient, scales.statistics), (expected.gradient, expected.statistics));
    bench.squares(1, 0);
    bench.summaries();
    assert!(bench.made().is_empty(), "it was told");
    (0..chunks).for_each(|index| bench.bring(1, index));
    let expected = bench.update(&before, scales, &mut root);
    bench.check(&expected, "clipped");
    bench.open(StepId(1), Work::Train, SHARDS);
    bench.summaries();
    (0..chunks).for_each(|index| bench.squares(1, index));
    assert!(matches!(bench.made()[..], [News::Scaled { .. }]), "of each step");
}

#[test]
fn the_state_that_owners_ask_for_is_the_committed_one() {
    let mut bench = Bench::new(SGD);
    bench.step(STEP);
    let asked = |bench: &mut Bench| {
        let (reply, mut state) = tokio::sync::oneshot::channel();
        bench.reducer.handle(Command::State { reply });
        state.try_recv().expect("it is answered").step
    };
    assert_eq!(asked(&mut bench), 0, "not committed yet");
    bench.reducer.handle(Command::Commit);
    assert_eq!(asked(&mut bench), 1);
}
