//! A pass on candle's tape.
//!
//! candle's autograd is here for one thing: it walks the recorded operations in reverse and says which gradients are
//! needed. For this engine alone the list of steps of a [`PassPlan`] would do, read backward. The tape is kept because
//! candle is the project's tensor library, the engine for GPUs ([`compose`](crate::compose)) needs it in full, and so
//! both engines run one and the same autograd.
//!
//! Its tensors are only tokens here, one number each: the values that they stand for lie in buffers ([`PassState`]),
//! which are used again. Handing whole tensors to candle costs a fresh buffer for every output and, for every
//! gradient, one of zeros and an addition to it.

use std::sync::Arc;
use std::time::Instant;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor, Var};
use parking_lot::{Mutex, MutexGuard};

use crate::LayerTimes;
use crate::op_timings::Half;
use crate::ops::Wanted;
use crate::pass_plan::{PassPlan, Step};
use crate::pass_state::PassState;

/// A pass as its operations on the tape share it.
pub(crate) struct SharedPass<B>(Arc<RunningPass<B>>);

impl<B> Clone for SharedPass<B> {
    fn clone(&self) -> Self {
        SharedPass(self.0.clone())
    }
}

struct RunningPass<B> {
    plan: Arc<PassPlan<B>>,
    /// Where the time of each layer is added, if it is measured.
    times: Option<Arc<LayerTimes>>,
    buffers: Mutex<B>,
}

impl<B: PassState> SharedPass<B> {
    /// A pass by `plan` that has not begun.
    pub fn new(plan: Arc<PassPlan<B>>, times: Option<Arc<LayerTimes>>, buffers: B) -> Self {
        SharedPass(Arc::new(RunningPass { plan, times, buffers: Mutex::new(buffers) }))
    }

    /// The buffers, for the length of one operation.
    pub fn lock(&self) -> MutexGuard<'_, B> {
        self.0.buffers.lock()
    }

    /// The buffers, once nothing of the pass is left on the tape.
    pub fn into_buffers(self) -> Option<B> {
        Arc::into_inner(self.0).map(|pass| pass.buffers.into_inner())
    }

    /// Computes all nodes from the input, and records what learns: the token of the last node's output.
    ///
    /// # Errors
    /// Those of candle.
    pub fn forward(&self) -> Result<Tensor> {
        let plan = &self.0.plan;
        let mut tokens: Vec<Option<Tensor>> = vec![None; plan.nodes];
        tokens[0] = Some(constant()?);
        for (index, step) in plan.steps.iter().enumerate() {
            let token = |input: usize| tokens[input].as_ref().expect("steps come after those that they read");
            let recorded = Recorded { pass: self.clone(), step: index };
            // A token that stands for all parameters that the step learns.
            let learned = step.learns.then(|| Var::from_tensor(&constant()?)).transpose()?;
            let output = match (&step.ports.inputs[..], &learned) {
                (&[x], None) => token(x).apply_op1(recorded),
                (&[x], Some(learned)) => token(x).apply_op2(learned, recorded),
                (&[x, residual], None) => token(x).apply_op2(token(residual), recorded),
                (&[x, residual], Some(learned)) => token(x).apply_op3(token(residual), learned, recorded),
                _ => candle_core::bail!("an operation has one input or two"),
            };
            tokens[step.ports.output] = Some(output?);
        }
        Ok(tokens.pop().flatten().expect("a network has nodes"))
    }

    /// The backward pass: from `doutputs`, the gradient of what the last node, whose token is `outputs`, puts out.
    ///
    /// # Errors
    /// Those of candle.
    pub fn backward(&self, outputs: &Tensor, doutputs: Vec<f32>) -> Result<()> {
        outputs.apply_op1(Loss { pass: self.clone(), doutputs })?.backward()?;
        Ok(())
    }
}

/// A token that the tape does not track.
fn constant() -> Result<Tensor> {
    Tensor::new(0.0f32, &Device::Cpu)
}

/// A step of a pass on the tape.
struct Recorded<B> {
    pass: SharedPass<B>,
    /// Which step.
    step: usize,
}

impl<B: PassState> Recorded<B> {
    fn step(&self) -> &Step<B> {
        &self.pass.0.plan.steps[self.step]
    }

    fn name(&self) -> &'static str {
        self.step().operation.name()
    }

    /// Runs the operation, and lets go what nobody needs any more.
    fn forward(&self) -> Result<(CpuStorage, Shape)> {
        let step = self.step();
        let mut buffers = self.pass.lock();
        self.timed(Half::Forward, || step.operation.forward(&mut buffers, &step.ports));
        step.last_reads.iter().for_each(|&node| buffers.drop_output(node));
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }

    /// Sends gradients to the arguments that the tape tracks; to candle, a token for each.
    fn backward<const N: usize>(&self, arguments: [&Tensor; N]) -> Result<[Option<Tensor>; N]> {
        let Step { operation, ports, .. } = self.step();
        let tracked = arguments.map(Tensor::track_op);
        let inputs = ports.inputs.len();
        let wanted =
            Wanted { inputs: [tracked[0], inputs > 1 && tracked[1]], parameters: tracked[inputs..].contains(&true) };
        let mut buffers = self.pass.lock();
        self.timed(Half::Backward, || operation.backward(&mut buffers, ports, wanted));
        // All that read this output are done.
        buffers.drop_output(ports.output);
        let token = constant()?;
        Ok(tracked.map(|tracked| tracked.then(|| token.clone())))
    }

    fn timed(&self, half: Half, work: impl FnOnce()) {
        let Some(times) = &self.pass.0.times else { return work() };
        let begun = Instant::now();
        work();
        times.add(self.step, self.step().ports.output, half, begun);
    }
}

impl<B: PassState> CustomOp1 for Recorded<B> {
    fn name(&self) -> &'static str {
        self.name()
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward()
    }

    fn bwd(&self, a: &Tensor, _y: &Tensor, _dy: &Tensor) -> Result<Option<Tensor>> {
        let [a] = self.backward([a])?;
        Ok(a)
    }
}

impl<B: PassState> CustomOp2 for Recorded<B> {
    fn name(&self) -> &'static str {
        self.name()
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

impl<B: PassState> CustomOp3 for Recorded<B> {
    fn name(&self) -> &'static str {
        self.name()
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

/// The end of the tape: a loss whose gradient is known.
struct Loss<B> {
    pass: SharedPass<B>,
    doutputs: Vec<f32>,
}

impl<B: PassState> CustomOp1 for Loss<B> {
    fn name(&self) -> &'static str {
        "loss"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }

    fn bwd(&self, _outputs: &Tensor, _loss: &Tensor, _dloss: &Tensor) -> Result<Option<Tensor>> {
        self.pass.lock().add_loss_gradient(&self.doutputs);
        Ok(Some(constant()?))
    }
}
