//! Each operation's gradients against finite differences, on odd and non-square sizes.

use std::sync::Arc;

use convoy_common::batch::Targets;
use convoy_common::plan::Input;
use convoy_common::random::{Purpose, permutation};
use convoy_kernels::activation::Activation;
use convoy_kernels::conv::ConvShape;
use convoy_kernels::linear::LinearShape;
use convoy_kernels::pool::PoolShape;
use convoy_model::{Init, Network, Node, Op, Role, Shape, Tensor};

use super::activation::Activate;
use super::add::Add;
use super::conv::{Algorithm, Conv, ConvLayer};
use super::dropout::Dropout;
use super::flatten::Flatten;
use super::linear::Linear;
use super::norm::{BatchNorm, Follows};
use super::pool::{AvgPool, GlobalAvgPool, MaxPool};
use super::softmax::Softmax;
use super::*;
use crate::buffer_pool::BufferPool;
use crate::handover::{Norm, NormsBeside};
use crate::loss::LossFunction;
use crate::mode::ShardAddress;
use crate::pass_buffers::PassBuffers;
use crate::pass_state::PassState;
use crate::shard_gradient::ShardGradient;
use crate::thread_team::Team;

const STEP: f32 = 1.0 / 128.0;

/// Shuffled numbers about `centre`, `spacing` apart and never near `centre`: nothing within [`STEP`] of a kink there,
/// and no ties.
fn numbers_about(centre: f32, spacing: f32, count: usize, salt: u32) -> Vec<f32> {
    let order = permutation(u64::from(salt), Purpose::Statistics, 0, count as u32);
    order.iter().map(|&i| centre + spacing * (i as f32 + 0.5 - (count / 2) as f32)).collect()
}

/// As many nodes as there are inputs and an output, and tensors of these lengths.
fn network(inputs: usize, tensors: &[usize]) -> Arc<Network> {
    let node =
        |index: usize| Node { name: index.to_string(), op: Op::Input, inputs: Vec::new(), output: Shape::Features(1) };
    let mut offset = 0;
    let tensors = tensors.iter().map(|&len| {
        offset += len;
        let (role, init) = (Role::Parameter { decay: true }, Init::Zeros);
        Tensor { name: String::new(), shape: vec![len], role, offset: offset - len, head: false, init }
    });
    Arc::new(Network {
        input: Input { height: 1, width: 1, channels: 1 },
        tensors: tensors.collect(),
        nodes: (0..=inputs).map(node).collect(),
        parameters: offset,
        buffers: 0,
        outputs: 1,
    })
}

/// An operation on the numbers of its inputs and its tensors.
struct Case<'a> {
    /// Lengths.
    inputs: &'a [usize],
    tensors: &'a [usize],
    /// How many of the tensors are parameters.
    learned: usize,
    operation: &'a dyn Fn() -> Box<dyn Operation>,
}

impl Case<'_> {
    fn ports(&self) -> Ports {
        Ports { inputs: (0..self.inputs.len()).collect(), output: self.inputs.len() }
    }

    fn all(&self) -> Wanted {
        Wanted { inputs: [true, self.inputs.len() > 1], parameters: true }
    }

    /// The pass after its forward half. `numbers` are those of the inputs, then of the tensors.
    fn forward(&self, numbers: &[Vec<f32>]) -> (PassBuffers, Box<dyn Operation>) {
        let (inputs, tensors) = numbers.split_at(self.inputs.len());
        let weights = tensors.concat();
        let network = network(inputs.len(), self.tensors);
        let gradient = ShardGradient::new(network.clone(), vec![f32::NAN; weights.len()], None);
        let address = ShardAddress { seed: 1, epoch: 2, samples: vec![8, 9] };
        let (pool, team) = (BufferPool::default(), Arc::new(Team::new(1).unwrap()));
        let mut buffers = PassBuffers::new(network, Arc::new(weights), address, gradient, pool, team);
        for (node, value) in inputs.iter().enumerate() {
            buffers.values.set_output(node, value.clone());
        }
        let operation = (self.operation)();
        operation.forward(&mut buffers, &self.ports());
        (buffers, operation)
    }

    fn numbers(&self, centre: f32) -> Vec<Vec<f32>> {
        let lengths = self.inputs.iter().chain(self.tensors).enumerate();
        let mut numbers: Vec<Vec<f32>> =
            lengths.map(|(i, &len)| numbers_about(centre, 4.0 / len.max(80) as f32, len, i as u32)).collect();
        // The last of what is not learned is a variance.
        if self.learned < self.tensors.len() {
            numbers.last_mut().into_iter().flatten().for_each(|value| *value += 0.6);
        }
        numbers
    }

    /// Compares the gradients of a weighted sum of the outputs with central differences, number by number.
    fn check_about(&self, centre: f32) {
        let numbers = self.numbers(centre);
        let (mut buffers, operation) = self.forward(&numbers);
        let y = buffers.values.output(self.inputs.len());
        let weights = numbers_about(0.0, 2.0 / y.len().max(8) as f32, y.len(), 99);
        buffers.add_gradient(self.inputs.len(), weights.clone());
        operation.backward(&mut buffers, &self.ports(), self.all());
        let mut gradients: Vec<Vec<f32>> = (0..self.inputs.len()).map(|node| buffers.take_gradient(node)).collect();
        let (mut sums, _) = buffers.end();
        for len in &self.tensors[..self.learned] {
            let rest = sums.split_off(*len);
            gradients.push(std::mem::replace(&mut sums, rest));
        }
        let weighted = |numbers: &[Vec<f32>]| -> f64 {
            let (buffers, _) = self.forward(numbers);
            let y = buffers.values.output(self.inputs.len());
            y.iter().zip(&weights).map(|(y, r)| f64::from(*y) * f64::from(*r)).sum()
        };
        for (argument, gradient) in gradients.iter().enumerate() {
            assert_eq!(gradient.len(), numbers[argument].len());
            for (i, gradient) in gradient.iter().enumerate() {
                let shifted = |step: f32| {
                    let mut numbers = numbers.clone();
                    numbers[argument][i] += step;
                    weighted(&numbers)
                };
                let expected = (shifted(STEP) - shifted(-STEP)) / (2.0 * f64::from(STEP));
                let error = (f64::from(*gradient) - expected).abs();
                assert!(
                    error < 2e-3 * (1.0 + expected.abs()),
                    "argument {argument}, number {i}: {gradient} and {expected}"
                );
            }
        }
    }

    fn check(&self) {
        self.check_about(0.0);
    }
}

fn check(inputs: &[usize], tensors: &[usize], operation: &dyn Fn() -> Box<dyn Operation>) {
    Case { inputs, tensors, learned: tensors.len(), operation }.check();
}

const CONV: ConvShape = ConvShape {
    n: 2,
    h: 5,
    w: 7,
    ci: 4,
    co: 6,
    kh: 3,
    kw: 2,
    stride: [2, 1],
    padding: [1, 0],
    dilation: [1, 2],
    groups: 2,
};

fn conv(bias: Option<usize>) -> Box<dyn Operation> {
    let layer = ConvLayer { shape: CONV, weight: 0, bias };
    Box::new(Conv { layer, algorithm: Algorithm::Bands(NormsBeside::default()) })
}

#[test]
fn convolutions() {
    check(&[280], &[72], &|| conv(None));
    check(&[280], &[72, 6], &|| conv(Some(1)));
}

#[test]
fn linear() {
    let shape = LinearShape { samples: 3, inputs: 5, outputs: 2 };
    check(&[15], &[10], &|| Box::new(Linear { shape, weight: 0, bias: None }));
    check(&[15], &[10, 2], &|| Box::new(Linear { shape, weight: 0, bias: Some(1) }));
}

#[test]
fn pools() {
    let shape = PoolShape { n: 2, h: 5, w: 4, c: 3, kernel: [3, 2], stride: [2, 1], padding: [1, 1] };
    check(&[120], &[], &|| Box::new(MaxPool(shape)));
    check(&[120], &[], &|| Box::new(AvgPool(shape)));
    check(&[120], &[], &|| Box::new(GlobalAvgPool { n: 2, pixels: 20, c: 3 }));
}

#[test]
fn flatten() {
    check(&[120], &[], &|| Box::new(Flatten { n: 2, pixels: 15, c: 4 }));
    let operation = || -> Box<dyn Operation> { Box::new(Flatten { n: 1, pixels: 6, c: 2 }) };
    let case = Case { inputs: &[12], tensors: &[], learned: 0, operation: &operation };
    let (buffers, _) = case.forward(&[(0..12u8).map(f32::from).collect()]);
    assert_eq!(buffers.values.output(1), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0]);
}

#[test]
fn sums() {
    check(&[6, 6], &[], &|| Box::new(Add));
}

#[test]
fn batch_norm() {
    let pool = PoolShape { n: 2, h: 3, w: 5, c: 2, kernel: [1, 2], stride: [1, 2], padding: [0, 0] };
    let cases = [
        (None, Follows::Nothing),
        (Some(Activation::Silu), Follows::Nothing),
        (None, Follows::Pooling(pool)),
        (None, Follows::Residual),
        (Some(Activation::Relu6), Follows::Residual),
    ];
    for (activation, follows) in cases {
        let inputs = if follows == Follows::Residual { &[60, 60][..] } else { &[60] };
        let norm = |of_shard| -> Box<dyn Operation> {
            let norm = Norm {
                input: 0,
                output: inputs.len(),
                of_shard,
                eps: 1e-2,
                activation,
                affine: [0, 1],
                running: [2, 3],
                measured: false,
                deferred: false,
                finished: false,
            };
            Box::new(BatchNorm { samples: 2, norm: Arc::new(norm), follows })
        };
        let measured = || norm(true);
        let case = Case { inputs, tensors: &[2; 4], learned: 2, operation: &measured };
        let numbers = case.numbers(0.0);
        let (sums, _) = case.forward(&numbers).0.end();
        let mean = numbers[0].iter().step_by(2).sum::<f32>() / 30.0;
        assert!((sums[4] - 2.0 * mean).abs() < 1e-5, "{sums:?}");
        case.check();
        Case { operation: &|| norm(false), ..case }.check();
    }
}

#[test]
fn activations() {
    use Activation::*;
    for function in [Relu, Relu6, LeakyRelu(0.1), Sigmoid, Tanh, Silu, Gelu, HardSwish, HardSigmoid, Elu(0.7)] {
        for centre in [-3.0, 0.0, 3.0, 6.0] {
            let operation = || -> Box<dyn Operation> { Box::new(Activate(function)) };
            Case { inputs: &[15], tensors: &[], learned: 0, operation: &operation }.check_about(centre);
        }
    }
}

#[test]
fn softmax() {
    check(&[12], &[], &|| Box::new(Softmax { classes: 4 }));
}

#[test]
fn dropout() {
    let dropout = |draws| Dropout { p: 0.4, stream: 3, samples: 2, len: 15, draws };
    check(&[30], &[], &|| Box::new(dropout(true)));
    let in_use = Case { inputs: &[30], tensors: &[], learned: 0, operation: &|| Box::new(dropout(false)) };
    let numbers = in_use.numbers(0.0);
    assert_eq!(in_use.forward(&numbers).0.values.output(1), numbers[0]);
}

#[test]
fn losses() {
    let classes = Targets::Classes(vec![2, 0]);
    let values = Targets::Values { width: 3, values: vec![1.0, 0.0, 0.0, 0.0, 1.0, 1.0] };
    let weighted = LossFunction::CrossEntropy { label_smoothing: 0.1, class_weights: vec![0.5, 1.0, 3.0] };
    let functions = [
        (weighted, &classes),
        (LossFunction::BinaryCrossEntropy, &values),
        (LossFunction::Mse, &values),
        (LossFunction::Mae, &values),
        (LossFunction::Huber { delta: 0.5 }, &values),
    ];
    for (function, targets) in functions {
        let outputs = numbers_about(0.0, 0.05, 6, 0);
        let loss = |outputs: &[f32]| function.apply(outputs, 3, targets).unwrap();
        for (i, gradient) in loss(&outputs).doutputs.into_iter().enumerate() {
            let shifted = |step: f32| {
                let mut outputs = outputs.clone();
                outputs[i] += step;
                loss(&outputs).loss
            };
            let expected = (shifted(STEP) - shifted(-STEP)) / (2.0 * f64::from(STEP));
            assert!((f64::from(gradient) - expected).abs() < 2e-3 * (1.0 + expected.abs()), "{function:?} {i}");
        }
    }
}

#[test]
fn what_the_tape_does_not_want_is_not_computed() {
    let case = Case { inputs: &[280], tensors: &[72], learned: 1, operation: &|| conv(None) };
    let numbers = case.numbers(0.0);
    let run = |wanted: Wanted| {
        let (mut buffers, operation) = case.forward(&numbers);
        buffers.add_gradient(1, vec![1.0; buffers.values.output(1).len()]);
        operation.backward(&mut buffers, &case.ports(), wanted);
        let dx = wanted.inputs[0].then(|| buffers.take_gradient(0));
        (dx, buffers.end().0)
    };
    let (all, weight) = run(case.all());
    let (none, same_weight) = run(Wanted { inputs: [false; 2], parameters: true });
    let (same, untouched) = run(Wanted { inputs: [true; 2], parameters: false });
    assert!(all == same && none.is_none() && weight == same_weight);
    assert!(untouched.iter().all(|value| value.is_nan()));
}
