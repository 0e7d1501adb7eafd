use convoy_model::Tensor;

use super::*;
use crate::moment_names;

const NETWORK: &str =
    "[network]\nname = \"simple-cnn\"\n[train]\nepochs = 2\nbatch = 8\nshard = 8\n[schedule]\nkind = \"constant\"\n";
const SCALES: Scales = Scales { gradient: 0.25, statistics: 0.125 };

/// A plan and its network; steps of the first epoch train the head alone where `frozen`.
fn job(optimizer: &str, frozen: bool) -> (Plan, Network) {
    let mut plan = convoy_testing::plan(&format!("{NETWORK}[optimizer]\n{optimizer}"), [28, 28, 1], 2);
    plan.spec.network.freeze_epochs = u32::from(frozen);
    let network = Network::of(&plan).expect("a network of a test is right");
    (plan, network)
}

/// What a step at `step` makes of the initial parameters, and of optimizer state that is 0.5 throughout, when elements
/// are cut at each of `cuts`.
fn step(plan: &Plan, network: &Network, step: u64, cuts: &[usize]) -> (Vec<f32>, Vec<Vec<f32>>) {
    let update = Update::new(plan, network);
    let mut values = network.initial(1);
    let count = moment_names(&plan.spec.optimizer).len();
    let mut moments = vec![vec![0.5; network.parameters]; count];
    let mut sum: Vec<f32> = (0..network.len()).map(|i| (i as f32 * 0.37).fract() - 0.5).collect();
    let ends = cuts.iter().copied().chain([network.len()]);
    let mut first = 0;
    for end in ends {
        let (values, sum) = (&mut values[first..end], &mut sum[first..end]);
        let part = first.min(network.parameters)..end.min(network.parameters);
        let mut moments: Vec<&mut [f32]> = moments.iter_mut().map(|moment| &mut moment[part.clone()]).collect();
        update.apply(step, SCALES, Elements { first, values, moments: &mut moments, sum });
        first = end;
    }
    (values, moments)
}

fn tensors<'a>(network: &'a Network, wanted: impl Fn(&Tensor) -> bool + 'a) -> impl Iterator<Item = &'a Tensor> {
    network.tensors.iter().filter(move |tensor| wanted(tensor))
}

#[test]
fn elements_may_be_cut_anywhere() {
    for optimizer in
        ["kind = \"sgd\"\nmomentum = 0.9\nnesterov = true\nweight_decay = 1e-3", "kind = \"adam\"", "kind = \"adamw\""]
    {
        let (plan, network) = job(optimizer, false);
        let whole = step(&plan, &network, 3, &[]);
        let len = network.len();
        let at_tensors: Vec<usize> = network.tensors.iter().map(|tensor| tensor.offset).collect();
        let mut sorted = at_tensors.clone();
        sorted.sort_unstable();
        for cuts in [vec![1], vec![len - 1], vec![7, 8, 9, 4096, 65_536], sorted, (0..len).step_by(1000).collect()] {
            assert!(step(&plan, &network, 3, &cuts) == whole, "{optimizer}, cut at {cuts:?}");
        }
    }
}

#[test]
fn plain_sgd_takes_the_scaled_gradient_times_the_rate() {
    let (plan, network) = job("kind = \"sgd\"\nlr = 0.5\nmomentum = 0.0\nweight_decay = 0.0", false);
    let (values, moments) = step(&plan, &network, 0, &[]);
    assert!(moments.is_empty(), "nothing is kept");
    let tensor = tensors(&network, |tensor| matches!(tensor.role, Role::Parameter { .. })).next().expect("weights");
    let initial = network.initial(1);
    for i in tensor.range() {
        let gradient = ((i as f32 * 0.37).fract() - 0.5) * SCALES.gradient;
        let by_hand = initial[i] - 0.5 * gradient;
        assert!((values[i] - by_hand).abs() <= 1e-6 * by_hand.abs().max(1.0), "element {i}");
    }
}

#[test]
fn running_statistics_move_towards_the_mean_by_their_momentum() {
    let (plan, network) = job("kind = \"sgd\"", false);
    let (values, _) = step(&plan, &network, 0, &[]);
    let initial = network.initial(1);
    let mut seen = 0;
    for tensor in tensors(&network, |tensor| matches!(tensor.role, Role::Buffer { .. })) {
        let Role::Buffer { momentum } = tensor.role else { continue };
        for i in tensor.range() {
            let mean = ((i as f32 * 0.37).fract() - 0.5) * SCALES.statistics;
            assert_eq!(values[i], momentum.mul_add(mean - initial[i], initial[i]), "{} {i}", tensor.name);
            seen += 1;
        }
    }
    assert!(seen > 0, "the network has batch norms");
}

#[test]
fn while_frozen_only_the_head_learns() {
    let (plan, network) = job("kind = \"adamw\"", true);
    let initial = network.initial(1);
    let steps = plan.train_cut().steps();
    let (frozen, moments) = step(&plan, &network, steps - 1, &[]);
    for tensor in &network.tensors {
        assert_eq!(frozen[tensor.range()] == initial[tensor.range()], !tensor.head, "{}", tensor.name);
        if matches!(tensor.role, Role::Parameter { .. }) {
            let untouched = moments.iter().all(|moment| moment[tensor.range()].iter().all(|value| *value == 0.5));
            assert_eq!(untouched, !tensor.head, "{}", tensor.name);
        }
    }
    let (thawed, _) = step(&plan, &network, steps, &[]);
    assert!(network.tensors.iter().all(|tensor| thawed[tensor.range()] != initial[tensor.range()]));
}

#[test]
fn the_head_is_corrected_for_all_steps_and_the_rest_for_those_since_it_thawed() {
    let (plan, network) = job("kind = \"adamw\"\nweight_decay = 0.0", true);
    let (unfrozen, _) = job("kind = \"adamw\"\nweight_decay = 0.0", false);
    let steps = plan.train_cut().steps();
    let (thawed, _) = step(&plan, &network, steps, &[]);
    let (first, _) = step(&unfrozen, &network, 0, &[]);
    let (later, _) = step(&unfrozen, &network, steps, &[]);
    for tensor in tensors(&network, |tensor| matches!(tensor.role, Role::Parameter { .. })) {
        let expected = if tensor.head { &later } else { &first };
        assert!(thawed[tensor.range()] == expected[tensor.range()], "{}", tensor.name);
    }
}

#[test]
fn the_gradient_is_scaled_by_weight_and_clipped_by_norm() {
    let squares = || 36.0;
    let (scales, norm) = Scales::new(8.0, 4.0, None, || unreachable!("the norm is not asked for"));
    assert_eq!((scales.gradient, scales.statistics, norm), (0.25, 0.125, None));
    let (scales, norm) = Scales::new(8.0, 4.0, Some(2.0), squares);
    assert_eq!((scales.gradient, norm), (0.25, Some(1.5)), "it is below the limit");
    let (scales, norm) = Scales::new(8.0, 4.0, Some(0.75), squares);
    assert_eq!((scales.gradient, norm), ((0.75 / (1.5 + 1e-6) / 4.0) as f32, Some(1.5)));
    assert_eq!(scales.statistics, 0.125, "statistics are no gradient");
}
