//! Every kernel against what PyTorch computes in f64 (`tests/reference/kernels.py` at the root makes the files).

use convoy_kernels::activation::Activation;
use convoy_kernels::conv::{self, ConvShape};
use convoy_kernels::loss::{self, CrossEntropy};
use convoy_kernels::norm::{self, Affine, Grads, Stats};
use convoy_kernels::optimizer::{AdamStep, SgdStep, adam, adamw, bias_correction, sgd};
use convoy_kernels::pool::{self, PoolShape};
use convoy_kernels::{linear, softmax};
use serde_json::Value;

/// One case of a reference file.
struct Case(Value);

fn cases(text: &str) -> Vec<Case> {
    let values: Vec<Value> = serde_json::from_str(text).expect("the script wrote JSON");
    assert!(!values.is_empty());
    values.into_iter().map(Case).collect()
}

impl Case {
    fn number(&self, name: &str) -> f64 {
        self.0[name].as_f64().unwrap_or_else(|| panic!("no number {name}"))
    }

    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_else(|| panic!("no text {name}"))
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        floats(&self.0[name])
    }

    fn sizes<const N: usize>(&self, name: &str) -> [usize; N] {
        let sizes: Vec<usize> = self.floats(name).into_iter().map(|v| v as usize).collect();
        sizes.try_into().unwrap_or_else(|_| panic!("{name} has not {N} sizes"))
    }

    /// Fills a slice by `f` and asserts that it is what PyTorch computed.
    #[track_caller]
    fn check(&self, name: &str, f: impl FnOnce(&mut [f32])) -> Vec<f32> {
        let mut actual = vec![f32::NAN; self.floats(name).len()];
        f(&mut actual);
        self.compare(name, &actual);
        actual
    }

    #[track_caller]
    fn compare(&self, name: &str, actual: &[f32]) {
        assert_close(&format!("{name} of {}", self.0), actual, &self.floats(name));
    }
}

fn floats(value: &Value) -> Vec<f32> {
    let values = value.as_array().expect("an array of numbers");
    values.iter().map(|v| v.as_f64().expect("a number") as f32).collect()
}

#[track_caller]
fn assert_close(what: &str, actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len());
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= 2e-6 + 2e-6 * e.abs(), "[{i}] is {a}, PyTorch has {e}: {what}");
    }
}

#[test]
fn convolution() {
    for case in cases(include_str!("reference/conv.json")) {
        let [n, h, w, ci, co, kh, kw] = case.sizes("shape");
        let [stride, padding, dilation] = ["stride", "padding", "dilation"].map(|name| case.sizes(name));
        let groups = case.number("groups") as usize;
        let shape = ConvShape { n, h, w, ci, co, kh, kw, stride, padding, dilation, groups };
        let shape = shape.checked().expect("PyTorch took it");
        let (x, weight, bias, dy) = (case.floats("x"), case.floats("w"), case.floats("bias"), case.floats("dy"));
        case.check("y", |y| conv::forward(shape, &x, &weight, Some(&bias), y));
        case.check("dx", |dx| conv::backward_data(shape, &dy, &weight, dx));
        case.check("dw", |dw| conv::backward_weight(shape, &x, &dy, dw));
        case.check("db", |db| conv::backward_bias(shape, &dy, db));
    }
}

#[test]
fn linear_is_a_convolution_of_one_pixel() {
    let (x, w, bias, dy) = ([1.0, 2.0, 3.0, -1.0, 0.5, 4.0], [1.0, 0.0, 2.0, -1.0, 3.0, 0.5], [10.0, 20.0], [1.0, 2.0]);
    let shape = linear::LinearShape { samples: 2, inputs: 3, outputs: 2 }.checked().expect("a shape");
    let mut y = [0.0; 4];
    linear::forward(shape, &x, &w, Some(&bias), &mut y);
    assert_eq!(y, [17.0, 26.5, 17.0, 24.5]);
    let dy = [dy[0], dy[1], -dy[0], 0.0];
    let (mut dx, mut dw, mut db) = ([0.0; 6], [0.0; 6], [0.0; 2]);
    linear::backward_data(shape, &dy, &w, &mut dx);
    linear::backward_weight(shape, &x, &dy, &mut dw);
    linear::backward_bias(shape, &dy, &mut db);
    assert_eq!(dx, [-1.0, 6.0, 3.0, -1.0, 0.0, -2.0]);
    assert_eq!(dw, [2.0, 1.5, -1.0, 2.0, 4.0, 6.0]);
    assert_eq!(db, [0.0, 2.0]);
}

#[test]
fn pooling() {
    for case in cases(include_str!("reference/pool.json")) {
        let [n, h, w, c] = case.sizes("shape");
        let [kernel, stride, padding] = ["kernel", "stride", "padding"].map(|name| case.sizes(name));
        let shape = PoolShape { n, h, w, c, kernel, stride, padding }.checked().expect("PyTorch took it");
        let (x, dy) = (case.floats("x"), case.floats("dy"));
        match case.text("kind") {
            "max" => {
                case.check("y", |y| pool::max_forward(shape, &x, y));
                case.check("dx", |dx| pool::max_backward(shape, &x, &dy, dx));
            }
            kind => {
                case.check("y", |y| pool::avg_forward(shape, &x, y));
                case.check("dx", |dx| pool::avg_backward(shape, &dy, dx));
                if kind == "global" {
                    case.check("y", |y| pool::global_avg_forward(n, h * w, c, &x, y));
                    case.check("dx", |dx| pool::global_avg_backward(n, h * w, c, &dy, dx));
                }
            }
        }
    }
}

#[test]
fn batch_norm() {
    for case in cases(include_str!("reference/norm.json")) {
        let [x, dy, gamma, beta] = ["x", "dy", "gamma", "beta"].map(|name| case.floats(name));
        let (running_mean, running_var) = (case.floats("running_mean"), case.floats("running_var"));
        let affine = Affine { gamma: &gamma, beta: &beta };
        let channels = gamma.len();
        let (mut dx, mut dgamma, mut dbeta) = (vec![0.0; x.len()], vec![0.0; channels], vec![0.0; channels]);
        let grads = Grads { dx: &mut dx, dgamma: &mut dgamma, dbeta: &mut dbeta };
        if case.0["training"] == true {
            let (mut mean, mut var) = (vec![0.0; channels], vec![0.0; channels]);
            case.check("y", |y| norm::forward_train(&x, affine, 1e-5, y, &mut mean, &mut var));
            norm::backward_train(&x, &dy, Stats { mean: &mean, var: &var }, &gamma, 1e-5, grads);
            let rows = (x.len() / channels) as f32;
            let blend = |old: &[f32], new: &[f32], scale: f32| -> Vec<f32> {
                old.iter().zip(new).map(|(old, new)| 0.9 * old + 0.1 * new * scale).collect()
            };
            case.compare("new_mean", &blend(&running_mean, &mean, 1.0));
            case.compare("new_var", &blend(&running_var, &var, rows / (rows - 1.0)));
        } else {
            let stats = Stats { mean: &running_mean, var: &running_var };
            case.check("y", |y| norm::forward_eval(&x, stats, affine, 1e-5, y));
            norm::backward_eval(&x, &dy, stats, &gamma, 1e-5, grads);
        }
        case.compare("dx", &dx);
        case.compare("dgamma", &dgamma);
        case.compare("dbeta", &dbeta);
    }
}

#[test]
fn activations() {
    for case in cases(include_str!("reference/activation.json")) {
        let (x, dy) = (case.floats("x"), case.floats("dy"));
        let activation = match case.text("name") {
            "relu" => Activation::Relu,
            "relu6" => Activation::Relu6,
            "leaky_relu" => Activation::LeakyRelu(0.25),
            "sigmoid" => Activation::Sigmoid,
            "tanh" => Activation::Tanh,
            "silu" => Activation::Silu,
            "gelu" => Activation::Gelu,
            "hardswish" => Activation::HardSwish,
            "hardsigmoid" => Activation::HardSigmoid,
            "elu" => Activation::Elu(0.75),
            "softmax" => {
                let y = case.check("y", |y| softmax::forward(&x, 8, y));
                case.check("dx", |dx| softmax::backward(&y, &dy, 8, dx));
                continue;
            }
            name => panic!("no activation {name}"),
        };
        let y = case.check("y", |y| activation.forward(&x, y));
        case.check("dx", |dx| activation.backward(&x, &y, &dy, dx));
    }
}

#[test]
fn losses() {
    for case in cases(include_str!("reference/loss.json")) {
        let (x, k) = (case.floats("x"), case.number("k") as usize);
        let mut sum = f64::NAN;
        if case.text("name") == "cross_entropy" {
            let labels: Vec<u32> = case.floats("labels").into_iter().map(|v| v as u32).collect();
            let weights = case.0["weights"].is_array().then(|| case.floats("weights"));
            let options =
                CrossEntropy { label_smoothing: case.number("smoothing") as f32, class_weights: weights.as_deref() };
            let mut total = None;
            case.check("dx", |dx| total = loss::cross_entropy(&x, &labels, k, options, dx).ok());
            let total = total.expect("all labels are classes");
            sum = total.loss;
            assert_close("mean", &[(total.loss / total.weight) as f32], &[case.number("mean") as f32]);
        } else {
            let targets = case.floats("targets");
            case.check("dx", |dx| {
                sum = match case.text("name") {
                    "bce" => loss::binary_cross_entropy(&x, &targets, k, None, dx),
                    "bce_pos_weight" => loss::binary_cross_entropy(&x, &targets, k, Some(&[2.0, 0.5, 1.0]), dx),
                    "mse" => loss::mse(&x, &targets, k, dx),
                    "mae" => loss::mae(&x, &targets, k, dx),
                    "huber" => loss::huber(&x, &targets, k, 0.75, dx),
                    name => panic!("no loss {name}"),
                }
            });
        }
        assert_close("loss", &[sum as f32], &[case.number("loss") as f32]);
    }
}

#[test]
fn optimizers() {
    for case in cases(include_str!("reference/optimizer.json")) {
        let options = &case.0["options"];
        let option = |name: &str| options[name].as_f64().unwrap_or(0.0);
        let beta = |i: usize| options["betas"][i].as_f64().expect("two betas");
        let mut params = case.floats("start");
        // A momentum buffer's first contents must not matter.
        let (mut a, mut b) = (vec![f32::NAN; params.len()], vec![0.0; params.len()]);
        if case.text("name") != "sgd" {
            a.fill(0.0);
        }
        let steps =
            case.0["grads"].as_array().expect("gradients").iter().zip(case.0["params"].as_array().expect("steps"));
        for (t, (grad, expected)) in (1..).zip(steps) {
            let grad = floats(grad);
            let (lr, weight_decay) = (option("lr") as f32, option("weight_decay") as f32);
            match case.text("name") {
                "sgd" => {
                    let (momentum, nesterov) = (option("momentum") as f32, options["nesterov"] == true);
                    let step = SgdStep { lr, momentum, nesterov, weight_decay, first_step: t == 1 };
                    sgd(&mut params, &grad, &mut a, &step);
                }
                name => {
                    let step = AdamStep {
                        lr,
                        beta1: beta(0) as f32,
                        beta2: beta(1) as f32,
                        eps: option("eps") as f32,
                        weight_decay,
                        correction1: bias_correction(beta(0), t),
                        correction2: bias_correction(beta(1), t),
                    };
                    let optimizer = if name == "adam" { adam } else { adamw };
                    optimizer(&mut params, &grad, &mut a, &mut b, &step);
                }
            }
            assert_close(&format!("step {t} of {}", case.0), &params, &floats(expected));
        }
    }
}
