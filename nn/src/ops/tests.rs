//! Each operation's gradient on candle's tape against finite differences, on odd and non-square sizes.

use std::sync::{Arc, OnceLock};

use candle_core::{Device, Result, Tensor, Var};
use convoy_common::batch::Targets;
use convoy_common::random::{Purpose, permutation};
use convoy_kernels::activation::Activation;
use convoy_kernels::conv::ConvShape;
use convoy_kernels::linear::LinearShape;
use convoy_kernels::pool::PoolShape;

use super::*;

const STEP: f32 = 1.0 / 128.0;

/// Shuffled numbers about `centre`, `spacing` apart and never near `centre`: nothing within [`STEP`] of a kink there,
/// and no ties.
fn numbers_about(centre: f32, spacing: f32, shape: &[usize], salt: u32) -> Vec<f32> {
    let count: usize = shape.iter().product();
    let order = permutation(u64::from(salt), Purpose::Statistics, 0, count as u32);
    order.iter().map(|&i| centre + spacing * (i as f32 + 0.5 - (count / 2) as f32)).collect()
}

fn check(shapes: &[&[usize]], apply: impl Fn(&[Tensor]) -> Result<Tensor>) {
    check_about(0.0, shapes, apply);
}

/// Compares the gradient of a weighted sum of the outputs with central differences, number by number.
fn check_about(centre: f32, shapes: &[&[usize]], apply: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let values: Vec<Vec<f32>> = shapes
        .iter()
        .enumerate()
        .map(|(i, shape)| numbers_about(centre, 4.0 / shape.iter().product::<usize>().max(80) as f32, shape, i as u32))
        .collect();
    let vars: Vec<Var> =
        values.iter().zip(shapes).map(|(v, s)| Var::from_slice(v, *s, &Device::Cpu).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let y = apply(&tensors).unwrap();
    let weights = numbers_about(0.0, 2.0 / y.elem_count().max(8) as f32, y.dims(), 99);
    let r = Tensor::from_slice(&weights, y.dims(), &Device::Cpu).unwrap();
    let gradients = (&y * r).unwrap().sum_all().unwrap().backward().unwrap();

    let weighted = |changed: &[Tensor]| -> f64 {
        let y = apply(changed).unwrap();
        with_values([&y], |[y]| y.iter().zip(&weights).map(|(y, r)| f64::from(*y) * f64::from(*r)).sum()).unwrap()
    };
    for (argument, var) in vars.iter().enumerate() {
        let gradient: Vec<f32> = gradients.get(var).expect("a gradient").flatten_all().unwrap().to_vec1().unwrap();
        for (i, gradient) in gradient.iter().enumerate() {
            let shifted = |step: f32| {
                let mut values = values[argument].clone();
                values[i] += step;
                let mut tensors = tensors.clone();
                tensors[argument] = Tensor::from_vec(values, shapes[argument], &Device::Cpu).unwrap();
                weighted(&tensors)
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

#[test]
fn conv() {
    check(&[&[2, 5, 7, 4], &[6, 2, 3, 2]], |t| t[0].apply_op2(&t[1], Conv { shape: CONV, winograd: false }));
    check(&[&[2, 5, 7, 4], &[6, 2, 3, 2], &[6]], |t| {
        t[0].apply_op3(&t[1], &t[2], Conv { shape: CONV, winograd: false })
    });
}

#[test]
fn linear() {
    let shape = LinearShape { samples: 3, inputs: 5, outputs: 2 };
    check(&[&[3, 5], &[2, 5]], |t| t[0].apply_op2(&t[1], Linear(shape)));
    check(&[&[3, 5], &[2, 5], &[2]], |t| t[0].apply_op3(&t[1], &t[2], Linear(shape)));
}

#[test]
fn pools() {
    let shape = PoolShape { n: 2, h: 5, w: 4, c: 3, kernel: [3, 2], stride: [2, 1], padding: [1, 1] };
    check(&[&[2, 5, 4, 3]], |t| t[0].apply_op1(MaxPool(shape)));
    check(&[&[2, 5, 4, 3]], |t| t[0].apply_op1(AvgPool(shape)));
    check(&[&[2, 5, 4, 3]], |t| t[0].apply_op1(GlobalAvgPool { n: 2, pixels: 20, c: 3 }));
}

#[test]
fn flatten() {
    check(&[&[2, 3, 5, 4]], |t| t[0].apply_op1(Flatten { n: 2, pixels: 15, c: 4 }));
    let x = Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap().reshape((1, 2, 3, 2)).unwrap();
    let y = x.apply_op1(Flatten { n: 1, pixels: 6, c: 2 }).unwrap();
    assert_eq!(y.to_vec2::<f32>().unwrap(), [[0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0]]);
}

#[test]
fn batch_norm() {
    let shapes: [&[usize]; 3] = [&[2, 3, 5, 2], &[2], &[2]];
    check(&shapes, |t| {
        let statistics = Statistics::Measured(Arc::new(OnceLock::new()));
        t[0].apply_op3(&t[1], &t[2], BatchNorm { eps: 1e-2, statistics })
    });
    check(&shapes, |t| {
        let statistics = Statistics::Given(BatchStatistics { mean: vec![0.2, -0.3], var: vec![0.5, 2.0] });
        t[0].apply_op3(&t[1], &t[2], BatchNorm { eps: 1e-2, statistics })
    });
}

#[test]
fn activations() {
    use Activation::*;
    for function in [Relu, Relu6, LeakyRelu(0.1), Sigmoid, Tanh, Silu, Gelu, HardSwish, HardSigmoid, Elu(0.7)] {
        for centre in [-3.0, 0.0, 3.0, 6.0] {
            check_about(centre, &[&[3, 5]], |t| t[0].apply_op1(Activate(function)));
        }
    }
}

#[test]
fn softmax() {
    check(&[&[3, 4]], |t| t[0].apply_op1(Softmax { classes: 4 }));
}

#[test]
fn dropout() {
    check(&[&[2, 3, 5]], |t| t[0].apply_op1(Dropout::new(0.4, 1, 2, 3, &[8, 9], 15)));
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
        check(&[&[2, 3]], |t| {
            let loss = with_values([&t[0]], |[outputs]| function.apply(outputs, 3, targets).unwrap())?;
            t[0].apply_op1(Loss(loss))
        });
    }
}

#[test]
fn what_the_tape_does_not_track_gets_no_gradient() {
    let w = Var::from_slice(&numbers_about(0.0, 0.1, &[72], 1), (6, 2, 3, 2), &Device::Cpu).unwrap();
    let x = Var::from_slice(&numbers_about(0.0, 0.1, &[280], 2), (2, 5, 7, 4), &Device::Cpu).unwrap();
    let backward = |x: &Tensor| {
        x.apply_op2(&w, Conv { shape: CONV, winograd: false }).unwrap().sum_all().unwrap().backward().unwrap()
    };
    let (tracked, untracked) = (backward(&x), backward(&x.detach()));
    assert!(tracked.get(&x).is_some());
    assert_eq!(untracked.get_ids().count(), 1);
    let weight = |store: &candle_core::backprop::GradStore| {
        store.get(&w).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(weight(&tracked), weight(&untracked));
}

#[test]
fn a_tensor_that_is_not_contiguous_is_refused() {
    let x = Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap().t().unwrap();
    assert!(x.apply_op1(Activate(Activation::Relu)).unwrap_err().to_string().contains("not contiguous"));
}
