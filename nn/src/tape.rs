//! Operations on candle's tape.
//!
//! Candle's autograd decides which gradients are needed and in which order they come. Its tensors are only tokens here,
//! one number each: the numbers that they stand for lie in [`Flow`], in buffers that are used again. Handing whole
//! tensors to candle costs a fresh buffer for every output and, for every gradient, one of zeros and an addition to it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor, Var};

use crate::flow::Flow;
use crate::ops::{Operation, Ports, Wanted};

/// The numbers of a pass, as the operations on the tape share them.
#[derive(Clone)]
pub(crate) struct Numbers(Arc<Mutex<Flow>>);

impl Numbers {
    /// Shares `flow`.
    pub fn new(flow: Flow) -> Self {
        Numbers(Arc::new(Mutex::new(flow)))
    }

    /// The numbers, for the length of one operation.
    pub fn lock(&self) -> MutexGuard<'_, Flow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The numbers, once nothing of the pass is left on the tape.
    pub fn into_inner(self) -> Option<Flow> {
        Arc::into_inner(self.0).map(|flow| flow.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A token that the tape does not track: a constant.
pub(crate) fn constant() -> Result<Tensor> {
    Tensor::new(0.0f32, &Device::Cpu)
}

/// A token that stands for all parameters that an operation learns.
pub(crate) fn learned() -> Result<Var> {
    Var::from_tensor(&constant()?)
}

/// Runs `operation` forward and records it, if the tape tracks one of `inputs` or `parameters` is given.
pub(crate) fn apply(
    numbers: &Numbers,
    operation: Box<dyn Operation>,
    ports: Ports,
    inputs: &[&Tensor],
    parameters: Option<&Var>,
) -> Result<Tensor> {
    let recorded = Recorded { numbers: numbers.clone(), operation, ports, inputs: inputs.len() };
    match (inputs, parameters) {
        ([x], None) => x.apply_op1(recorded),
        ([x], Some(learned)) => x.apply_op2(learned, recorded),
        ([x, residual], None) => x.apply_op2(residual, recorded),
        ([x, residual], Some(learned)) => x.apply_op3(residual, learned, recorded),
        _ => candle_core::bail!("an operation has one input or two"),
    }
}

/// Ends the tape with a loss, whose gradient is `doutputs`, of what `node` puts out.
pub(crate) fn loss(numbers: &Numbers, node: usize, outputs: &Tensor, doutputs: Vec<f32>) -> Result<Tensor> {
    outputs.apply_op1(Loss { numbers: numbers.clone(), node, doutputs })
}

/// An operation with its place in the pass.
struct Recorded {
    numbers: Numbers,
    operation: Box<dyn Operation>,
    ports: Ports,
    inputs: usize,
}

impl Recorded {
    fn forward(&self) -> Result<(CpuStorage, Shape)> {
        self.operation.forward(&mut self.numbers.lock(), &self.ports);
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }

    /// Sends gradients to the arguments that the tape tracks; to candle, a token for each.
    fn backward<const N: usize>(&self, arguments: [&Tensor; N]) -> Result<[Option<Tensor>; N]> {
        let tracked = arguments.map(Tensor::track_op);
        let wanted = Wanted {
            inputs: [tracked[0], self.inputs > 1 && tracked[1]],
            parameters: tracked[self.inputs..].contains(&true),
        };
        let mut flow = self.numbers.lock();
        self.operation.backward(&mut flow, &self.ports, wanted);
        // All that read this output are done.
        flow.drop_value(self.ports.output);
        let token = constant()?;
        Ok(tracked.map(|tracked| tracked.then(|| token.clone())))
    }
}

impl CustomOp1 for Recorded {
    fn name(&self) -> &'static str {
        self.operation.name()
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward()
    }

    fn bwd(&self, a: &Tensor, _y: &Tensor, _dy: &Tensor) -> Result<Option<Tensor>> {
        let [a] = self.backward([a])?;
        Ok(a)
    }
}

impl CustomOp2 for Recorded {
    fn name(&self) -> &'static str {
        self.operation.name()
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward()
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _y: &Tensor, _dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [a, b] = self.backward([a, b])?;
        Ok((a, b))
    }
}

type Three = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

impl CustomOp3 for Recorded {
    fn name(&self) -> &'static str {
        self.operation.name()
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward()
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, c: &Tensor, _y: &Tensor, _dy: &Tensor) -> Result<Three> {
        let [a, b, c] = self.backward([a, b, c])?;
        Ok((a, b, c))
    }
}

/// The end of the tape.
struct Loss {
    numbers: Numbers,
    node: usize,
    doutputs: Vec<f32>,
}

impl CustomOp1 for Loss {
    fn name(&self) -> &'static str {
        "loss"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }

    fn bwd(&self, _outputs: &Tensor, _loss: &Tensor, _dloss: &Tensor) -> Result<Option<Tensor>> {
        self.numbers.lock().copy_gradient(self.node, &self.doutputs);
        Ok(Some(constant()?))
    }
}
