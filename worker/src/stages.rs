//! Where the time of a step goes: `RUST_LOG=convoy_worker::stages=debug` shows a line for each stage.

use std::time::Instant;

use convoy_scheduler::StepId;

/// A stage of `step` that began at `begun` is over. Time by the clock: other work on the core is in it.
pub(crate) fn over(stage: &'static str, step: StepId, begun: Instant) {
    let ms = begun.elapsed().as_secs_f64() * 1e3;
    tracing::debug!(target: "convoy_worker::stages", stage, step = step.0, ms);
}
