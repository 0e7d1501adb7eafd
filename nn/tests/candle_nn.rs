//! Networks of the zoo as candle_nn's layers compute them: a model file of ours is an ordinary candle model, and
//! forward pass, losses, gradients, running statistics and optimizer steps are those of a second, independent
//! implementation.
//!
//! Candle's `VarBuilder` and `VarMap` find every tensor by name, so names (PyTorch's) and layouts (OIHW) are checked
//! too. Errors are relative: the length of a difference over the length of what is expected.
//!
//! The gradient of candle 0.11.1's `max_pool2d` is wrong (see its test): networks that are trained here take the
//! maximum of a reshaped tensor instead.

mod common;
#[path = "../../examples/predict_with_candle/trained/simple_cnn.rs"]
mod simple_cnn;

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW, SGD};
use candle_nn::{BatchNorm, Conv2d, Conv2dConfig, Linear, Module, ModuleT, VarBuilder, VarMap};
use common::{Setting, stirred};
use convoy_common::batch::Targets;
use convoy_common::random::{Address, Purpose};
use convoy_kernels::loss;
use convoy_kernels::optimizer::{AdamStep, SgdStep, adamw, bias_correction, sgd};
use convoy_model::{Role, model_dir};
use convoy_nn::{Executor, GradientTarget};
use simple_cnn::SimpleCnn;

/// Builds a network from its tensors, for images of so many channels and so many classes.
type Build = fn(usize, usize, &VarBuilder) -> Result<Box<dyn ModuleT>>;

const CLASSES: usize = 5;
const SAMPLES: u32 = 4;
const STEPS: u32 = 3;

struct LeNet5 {
    convs: [Conv2d; 2],
    linears: [Linear; 3],
}

fn lenet5(channels: usize, classes: usize, tensors: &VarBuilder) -> Result<Box<dyn ModuleT>> {
    let conv = |from, to, padding, name| {
        candle_nn::conv2d(from, to, 5, Conv2dConfig { padding, ..Default::default() }, tensors.pp(name))
    };
    let linear = |from, to, name| candle_nn::linear(from, to, tensors.pp(name));
    Ok(Box::new(LeNet5 {
        convs: [conv(channels, 6, 2, "conv1")?, conv(6, 16, 0, "conv2")?],
        linears: [linear(400, 120, "fc1")?, linear(120, 84, "fc2")?, linear(84, classes, "fc3")?],
    }))
}

impl ModuleT for LeNet5 {
    fn forward_t(&self, x: &Tensor, _train: bool) -> Result<Tensor> {
        let x = self.convs.iter().try_fold(x.clone(), |x, conv| max_pool(&conv.forward(&x)?.relu()?))?;
        let [hidden @ .., last] = &self.linears;
        let x = hidden.iter().try_fold(x.flatten_from(1)?, |x, linear| linear.forward(&x)?.relu())?;
        last.forward(&x)
    }
}

/// 2x2 maximum pooling, with the right gradient where no maximum above 0 occurs twice.
fn max_pool(x: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    x.reshape((n, c, h / 2, 2, w / 2, 2))?.max(5)?.max(3)
}

fn simple_cnn(channels: usize, classes: usize, tensors: &VarBuilder) -> Result<Box<dyn ModuleT>> {
    Ok(Box::new(SimpleCnn::new(channels, classes, tensors)?))
}

/// A convolution without bias, and batch norm.
struct ConvNorm(Conv2d, BatchNorm);

impl ConvNorm {
    fn new(from: usize, to: usize, kernel: usize, stride: usize, names: [&str; 2], at: &VarBuilder) -> Result<Self> {
        let settings = Conv2dConfig { padding: kernel / 2, stride, ..Default::default() };
        let conv = candle_nn::conv2d_no_bias(from, to, kernel, settings, at.pp(names[0]))?;
        Ok(ConvNorm(conv, candle_nn::batch_norm(to, 1e-5, at.pp(names[1]))?))
    }

    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.1.forward_t(&self.0.forward(x)?, train)
    }
}

struct BasicBlock {
    long: [ConvNorm; 2],
    short: Option<ConvNorm>,
}

struct ResNet20 {
    stem: ConvNorm,
    blocks: Vec<BasicBlock>,
    fc: Linear,
}

fn resnet20(channels: usize, classes: usize, tensors: &VarBuilder) -> Result<Box<dyn ModuleT>> {
    let stem = ConvNorm::new(channels, 16, 3, 1, ["conv1", "bn1"], tensors)?;
    let mut blocks = Vec::new();
    for (layer, from, to) in [(1, 16, 16), (2, 16, 32), (3, 32, 64)] {
        for number in 0..3 {
            let at = tensors.pp(format!("layer{layer}.{number}"));
            let (from, stride) = if number > 0 { (to, 1) } else { (from, to / from) };
            let first = ConvNorm::new(from, to, 3, stride, ["conv1", "bn1"], &at)?;
            let second = ConvNorm::new(to, to, 3, 1, ["conv2", "bn2"], &at)?;
            let project = || ConvNorm::new(from, to, 1, stride, ["downsample.0", "downsample.1"], &at);
            blocks.push(BasicBlock { long: [first, second], short: (from != to).then(project).transpose()? });
        }
    }
    Ok(Box::new(ResNet20 { stem, blocks, fc: candle_nn::linear(64, classes, tensors.pp("fc"))? }))
}

impl ModuleT for ResNet20 {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let mut x = self.stem.forward_t(x, train)?.relu()?;
        for BasicBlock { long: [first, second], short } in &self.blocks {
            let long = second.forward_t(&first.forward_t(&x, train)?.relu()?, train)?;
            let short = short.as_ref().map_or(Ok(x.clone()), |short| short.forward_t(&x, train))?;
            x = (long + short)?.relu()?;
        }
        self.fc.forward(&x.mean((2, 3))?)
    }
}

/// A network of the zoo whose norms have scales, shifts and running statistics that matter.
fn zoo(name: &str, numerics: &str, size: [u32; 3]) -> Setting {
    let spec = format!("numerics = \"{numerics}\"\n[network]\nname = \"{name}\"");
    stirred(&spec, size, CLASSES)
}

/// The bytes of the setting's model file.
fn model_file(setting: &Setting) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let Setting { plan, network, state } = setting;
    model_dir::save(folder.path(), plan, network, state, &serde_json::Value::Null).unwrap();
    std::fs::read(folder.path().join(model_dir::TENSORS)).unwrap()
}

/// Images as candle wants them, `(n, channels, height, width)`.
fn images(setting: &Setting, x_nhwc: &[f32]) -> Result<Tensor> {
    let input = setting.plan.input;
    let [h, w, c] = [input.height, input.width, input.channels].map(|side| side as usize);
    let n = x_nhwc.len() / (h * w * c);
    Tensor::from_slice(x_nhwc, (n, h, w, c), &Device::Cpu)?.permute((0, 3, 1, 2))?.contiguous()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).unwrap()
}

fn wide(values: &[f32]) -> impl Iterator<Item = f64> {
    values.iter().map(|value| f64::from(*value))
}

fn length(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

/// The length of the difference.
fn difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    length(wide(a).zip(wide(b)).map(|(a, b)| a - b))
}

/// The length of the difference over that of `expected`.
fn distance(actual: &[f32], expected: &[f32]) -> f64 {
    difference(actual, expected) / length(wide(expected))
}

fn check_logits(name: &str, build: Build, size: [u32; 3]) {
    for (numerics, bound) in [("cpu-f32-direct-v1", 1e-6), ("cpu-f32-v1", 4e-6)] {
        let setting = zoo(name, numerics, size);
        let tensors = VarBuilder::from_buffered_safetensors(model_file(&setting), DType::F32, &Device::Cpu).unwrap();
        let network = build(size[2] as usize, CLASSES, &tensors).unwrap();
        let x = setting.batch(0, SAMPLES).x_nhwc;
        let theirs = values(&network.forward_t(&images(&setting, &x).unwrap(), false).unwrap());
        let error = distance(&setting.executor().logits(&x, SAMPLES as usize).unwrap(), &theirs);
        assert!(error <= bound, "{name}, {numerics}: {error:.1e}");
    }
}

/// Both round each sum of products, in other orders, which leaves a few units in the last place (6e-8) of the whole;
/// Winograd's transforms round several times more.
#[test]
fn model_files_give_the_same_logits() {
    check_logits("lenet5", lenet5, [28, 28, 1]);
    check_logits("simple-cnn", simple_cnn, [16, 16, 3]);
    check_logits("resnet20", resnet20, [16, 16, 3]);
}

/// The sum of candle's mean loss over all samples, and its gradient, against ours.
fn check_loss(
    name: &str,
    outputs: &[f32],
    ours: (f64, &[f32]),
    theirs: impl Fn(&Tensor) -> Result<Tensor>,
    bound: f64,
) {
    let samples = outputs.len() / CLASSES;
    let outputs = Var::from_slice(outputs, (samples, CLASSES), &Device::Cpu).unwrap();
    let sum = (theirs(outputs.as_tensor()).unwrap() * samples as f64).unwrap();
    let gradients = sum.backward().unwrap();
    let value = f64::from(sum.to_scalar::<f32>().unwrap());
    let off = [(ours.0 / value - 1.0).abs(), distance(ours.1, &values(gradients.get(&outputs).unwrap()))];
    assert!(off.iter().all(|off| *off <= bound), "{name}: loss and gradient are off by {off:?}");
}

/// We compute a loss in f64, candle in f32; its binary cross entropy by the logarithm of 1 minus a sigmoid, which loses
/// digits.
#[test]
fn losses_and_their_gradients_are_the_same() {
    let noise = |seed, scale: f64| -> Vec<f32> {
        let address = Address::new(seed, Purpose::Augmentation, 0, 0);
        (0..6 * CLASSES as u32).map(|i| (scale * address.normal(i)) as f32).collect()
    };
    let (outputs, targets) = (noise(1, 3.0), noise(2, 1.0));
    let labels: Vec<u32> = (0..6).map(|sample| sample % CLASSES as u32).collect();
    let zeros_and_ones: Vec<f32> = targets.iter().map(|target| f32::from(*target > 0.0)).collect();
    let tensor = |values: &[f32]| Tensor::from_slice(values, (6, CLASSES), &Device::Cpu);
    let classes = Tensor::new(labels.as_slice(), &Device::Cpu).unwrap();
    let (x, mut d) = (&outputs[..], vec![0.0; outputs.len()]);

    let plain = loss::CrossEntropy::default();
    let sum = loss::cross_entropy(x, &labels, CLASSES, plain, &mut d).unwrap().loss;
    check_loss("cross entropy", x, (sum, &d), |x| candle_nn::loss::cross_entropy(x, &classes), 1e-6);
    let sum = loss::mse(x, &targets, CLASSES, &mut d);
    check_loss("mse", x, (sum, &d), |x| candle_nn::loss::mse(x, &tensor(&targets)?), 1e-6);
    let sum = loss::huber(x, &targets, CLASSES, 0.7, &mut d);
    check_loss("huber", x, (sum, &d), |x| candle_nn::loss::huber(x, &tensor(&targets)?, 0.7), 1e-6);
    let sum = loss::binary_cross_entropy(x, &zeros_and_ones, CLASSES, None, &mut d);
    let theirs = |x: &Tensor| candle_nn::loss::binary_cross_entropy_with_logit(x, &tensor(&zeros_and_ones)?);
    check_loss("binary cross entropy", x, (sum, &d), theirs, 1e-5);
}

/// A network in both implementations, with the same numbers.
struct Both {
    setting: Setting,
    /// Our numbers before the first step.
    start: Vec<f32>,
    executor: Executor,
    network: Box<dyn ModuleT>,
    /// Candle's numbers, parameters and buffers by name.
    vars: HashMap<String, Var>,
}

impl Both {
    fn new(name: &str, build: Build, size: [u32; 3]) -> Both {
        let setting = zoo(name, "cpu-f32-direct-v1", size);
        let map = VarMap::new();
        let tensors = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        let network = build(size[2] as usize, CLASSES, &tensors).unwrap();
        let vars = map.data().lock().unwrap().clone();
        assert_eq!(vars.len(), setting.network.tensors.len(), "candle's network has other tensors");
        let file = candle_core::safetensors::load_buffer(&model_file(&setting), &Device::Cpu).unwrap();
        vars.iter().for_each(|(name, var)| var.set(&file[name]).unwrap());
        Both { start: setting.state.clone(), executor: setting.executor(), setting, network, vars }
    }

    /// Forward and backward over batch `number`: the mean loss of both, our gradient of it with what running statistics
    /// take, and candle's gradients. Candle's running statistics change.
    fn gradients(&self, number: u32) -> ([f64; 2], Vec<f32>, GradStore) {
        let batch = self.setting.batch(number * SAMPLES, SAMPLES);
        let Targets::Classes(labels) = &batch.targets else { panic!("the task has classes") };
        let labels = Tensor::new(labels.as_slice(), &Device::Cpu).unwrap();
        let logits = self.network.forward_t(&images(&self.setting, &batch.x_nhwc).unwrap(), true).unwrap();
        let loss = candle_nn::loss::cross_entropy(&logits, &labels).unwrap();

        let mut sum = vec![f32::NAN; self.setting.network.len()];
        let result = self.executor.train_shard(&batch, 0, GradientTarget::Write(&mut sum), None).unwrap();
        sum.iter_mut().for_each(|value| *value /= SAMPLES as f32);
        let means = [result.loss_sum / f64::from(SAMPLES), f64::from(loss.to_scalar::<f32>().unwrap())];
        (means, sum, loss.backward().unwrap())
    }

    /// Blends our running statistics with what a shard measured.
    fn blend(&mut self, measured: &[f32]) {
        for tensor in &self.setting.network.tensors {
            let Role::Buffer { momentum } = tensor.role else { continue };
            let values = self.setting.state[tensor.range()].iter_mut().zip(&measured[tensor.range()]);
            values.for_each(|(value, new)| *value += momentum * (new - *value));
        }
    }

    /// Asserts that every tensor went the same way since the start: off by at most `bound` of the way, and by a
    /// rounding of the tensor's own numbers in each of `steps` steps.
    fn compare(&self, steps: u32, bound: f64) {
        for tensor in &self.setting.network.tensors {
            let (ours, start) = (&self.setting.state[tensor.range()], &self.start[tensor.range()]);
            let theirs = values(self.vars[&tensor.name].as_tensor());
            let [off, way] = [difference(ours, &theirs), difference(&theirs, start)];
            let rounding = f64::from(steps) * f64::from(f32::EPSILON) * length(wide(start));
            assert!(way > 0.0, "{} stays", tensor.name);
            assert!(off <= bound * way + rounding, "step {steps}: {} is off by {off:.1e} of {way:.1e}", tensor.name);
        }
    }

    /// Trains for some steps: `ours` steps parameters by a gradient and the number of the step from 1, `theirs` by
    /// candle's gradients. Compares after each.
    fn train(mut self, mut ours: impl FnMut(&mut [f32], &[f32], u64), mut theirs: impl FnMut(&GradStore), bound: f64) {
        for step in 1..=STEPS {
            let ([loss, expected], sum, gradients) = self.gradients(step);
            assert!((loss / expected - 1.0).abs() <= bound, "step {step}: the loss is {loss}, not {expected}");
            theirs(&gradients);
            let parameters = self.setting.network.parameters;
            ours(&mut self.setting.state[..parameters], &sum[..parameters], step.into());
            self.blend(&sum);
            self.executor.load(&Arc::new(self.setting.state.clone())).unwrap();
            self.compare(step, bound);
        }
    }

    fn all_vars(&self) -> Vec<Var> {
        self.vars.values().cloned().collect()
    }
}

/// Networks that are trained here, and how far both may be apart: a norm divides by the deviation of a shard's few
/// values, and a ReLU that is 0 on one side alone changes a gradient by the whole of one term, 19 times in `resnet20`.
fn trained() -> [(Both, f64); 2] {
    [(Both::new("lenet5", lenet5, [28, 28, 1]), 1e-5), (Both::new("resnet20", resnet20, [16, 16, 3]), 1e-4)]
}

/// Candle's `SGD` has neither momentum nor decay.
#[test]
fn steps_of_sgd_are_the_same() {
    for (both, bound) in trained() {
        let lr = 0.05;
        let mut theirs = SGD::new(both.all_vars(), f64::from(lr)).unwrap();
        let ours = |parameters: &mut [f32], gradient: &[f32], number| {
            let step = SgdStep { lr, momentum: 0.0, nesterov: false, weight_decay: 0.0, first_step: number == 1 };
            sgd(parameters, gradient, &mut [], &step);
        };
        both.train(ours, |gradients| theirs.step(gradients).unwrap(), bound);
    }
}

/// With an `eps` that is not tiny beside the gradients: else a step is the gradient's sign, and the sign of a gradient
/// near 0 is a matter of rounding.
#[test]
fn steps_of_adamw_are_the_same() {
    let (lr, beta1, beta2, eps, weight_decay) = (1e-3, 0.9, 0.99, 1e-3, 0.1);
    for (both, bound) in trained() {
        let settings = ParamsAdamW { lr, beta1, beta2, eps, weight_decay };
        let mut theirs = AdamW::new(both.all_vars(), settings).unwrap();
        let parameters = both.setting.network.parameters;
        let (mut m, mut v) = (vec![0.0; parameters], vec![0.0; parameters]);
        let ours = |parameters: &mut [f32], gradient: &[f32], number| {
            let step = AdamStep {
                lr: lr as f32,
                beta1: beta1 as f32,
                beta2: beta2 as f32,
                eps: eps as f32,
                weight_decay: weight_decay as f32,
                correction1: bias_correction(beta1, number),
                correction2: bias_correction(beta2, number),
            };
            adamw(parameters, gradient, &mut m, &mut v, &step);
        };
        both.train(ours, |gradients| theirs.step(gradients).unwrap(), bound);
    }
}

/// Why networks here do not use it: each window's gradient is divided by its four pixels.
#[test]
fn the_gradient_of_candles_max_pool_is_a_quarter_of_the_right_one() {
    let x = Var::from_slice(&[1.0f32, 2.0, 3.0, 4.0], (1, 1, 2, 2), &Device::Cpu).unwrap();
    let gradient = |y: Result<Tensor>| values(y.unwrap().sum_all().unwrap().backward().unwrap().get(&x).unwrap());
    assert_eq!(gradient(max_pool(&x)), [0.0, 0.0, 0.0, 1.0]);
    assert_eq!(gradient(x.max_pool2d(2)), [0.0, 0.0, 0.0, 0.25]);
}
