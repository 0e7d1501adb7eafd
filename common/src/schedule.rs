//! The learning rate of a step, as a pure function of the plan and the step.

use crate::spec::{ScheduleKind, Spec};

/// The learning-rate curve of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct LearningRate {
    peak: f64,
    warmup_steps: f64,
    total_steps: f64,
    curve: Curve,
}

#[derive(Debug, Clone, PartialEq)]
enum Curve {
    Constant,
    Step { every: f64, gamma: f64 },
    Cosine { final_fraction: f64 },
    OneCycle { rise: f64, div: f64, final_div: f64 },
}

/// Defaults of the schedules' own keys, as in PyTorch where it has the schedule.
pub mod defaults {
    /// Step: epochs between drops.
    pub const EVERY_EPOCHS: f64 = 30.0;
    /// Step: factor of a drop.
    pub const GAMMA: f64 = 0.1;
    /// Cosine: last rate as a share of the peak.
    pub const FINAL_FRACTION: f64 = 0.0;
    /// One cycle: share of rising steps.
    pub const RISE: f64 = 0.3;
    /// One cycle: peak over first rate.
    pub const DIV_FACTOR: f64 = 25.0;
    /// One cycle: first over last rate.
    pub const FINAL_DIV_FACTOR: f64 = 1e4;
}

impl LearningRate {
    /// The curve that `spec` asks for, over `total_steps` steps of which `steps_per_epoch` make an epoch.
    pub fn new(spec: &Spec, steps_per_epoch: u64, total_steps: u64) -> Self {
        let schedule = &spec.schedule;
        let curve = match schedule.kind {
            ScheduleKind::Constant => Curve::Constant,
            ScheduleKind::Step => Curve::Step {
                every: schedule.every_epochs.unwrap_or(defaults::EVERY_EPOCHS) * steps_per_epoch as f64,
                gamma: schedule.gamma.unwrap_or(defaults::GAMMA),
            },
            ScheduleKind::Cosine => {
                Curve::Cosine { final_fraction: schedule.final_fraction.unwrap_or(defaults::FINAL_FRACTION) }
            }
            ScheduleKind::OneCycle => Curve::OneCycle {
                rise: schedule.rise.unwrap_or(defaults::RISE),
                div: schedule.div_factor.unwrap_or(defaults::DIV_FACTOR),
                final_div: schedule.final_div_factor.unwrap_or(defaults::FINAL_DIV_FACTOR),
            },
        };
        LearningRate {
            peak: spec.optimizer.lr,
            warmup_steps: schedule.warmup_epochs * steps_per_epoch as f64,
            total_steps: total_steps as f64,
            curve,
        }
    }

    /// The rate of `step` (from 0), computed in f64 and rounded once.
    ///
    /// Warm-up multiplies the curve by `(step + 1) / warmup_steps` until that reaches 1. One cycle follows
    /// `torch.optim.lr_scheduler.OneCycleLR` with cosine annealing.
    pub fn at(&self, step: u64) -> f32 {
        let step = step as f64;
        let rate = match &self.curve {
            Curve::Constant => self.peak,
            Curve::Step { every, gamma } => self.peak * libm::pow(*gamma, (step / every).floor()),
            Curve::Cosine { final_fraction } => {
                let span = (self.total_steps - self.warmup_steps).max(1.0);
                let done = ((step - self.warmup_steps) / span).clamp(0.0, 1.0);
                anneal(self.peak, self.peak * final_fraction, done)
            }
            Curve::OneCycle { rise, div, final_div } => self.one_cycle(step, *rise, *div, *final_div),
        };
        let warm = if self.warmup_steps > 0.0 { ((step + 1.0) / self.warmup_steps).min(1.0) } else { 1.0 };
        (rate * warm) as f32
    }

    fn one_cycle(&self, step: f64, rise: f64, div: f64, final_div: f64) -> f64 {
        let first = self.peak / div;
        let top = rise * self.total_steps - 1.0;
        if step <= top {
            anneal(first, self.peak, if top > 0.0 { step / top } else { 1.0 })
        } else {
            let span = self.total_steps - 1.0 - top;
            anneal(self.peak, first / final_div, if span > 0.0 { ((step - top) / span).min(1.0) } else { 1.0 })
        }
    }
}

/// Half a cosine from `from` (at 0) to `to` (at 1).
fn anneal(from: f64, to: f64, done: f64) -> f64 {
    to + (from - to) / 2.0 * (1.0 + libm::cos(std::f64::consts::PI * done))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::parse;

    fn rates(schedule: &str, steps: &[u64]) -> Vec<f32> {
        let text = format!("[data]\ntrain = \"x\"\n[optimizer]\nlr = 0.1\n[schedule]\n{schedule}");
        let rate = LearningRate::new(&parse(&text, &[]).unwrap(), 10, 100);
        steps.iter().map(|step| rate.at(*step)).collect()
    }

    fn close(got: &[f32], expected: &[f32]) {
        assert_eq!(got.len(), expected.len());
        for (g, e) in got.iter().zip(expected) {
            assert!((g - e).abs() <= 2e-7 * e.abs().max(1e-3), "{got:?} {expected:?}");
        }
    }

    #[test]
    fn step_schedule() {
        close(
            &rates("kind = \"step\"\nevery_epochs = 3\ngamma = 0.5", &[0, 29, 30, 60, 99]),
            &[0.1, 0.1, 0.05, 0.025, 0.0125],
        );
    }

    #[test]
    fn cosine_with_warm_up() {
        close(
            &rates("kind = \"cosine\"\nwarmup_epochs = 1", &[0, 4, 9, 10, 55, 100]),
            &[0.01, 0.05, 0.1, 0.1, 0.05, 0.0],
        );
    }

    /// `torch.optim.lr_scheduler.OneCycleLR(sgd, 0.1, total_steps=100)` of PyTorch 2, `get_last_lr()`.
    #[test]
    fn one_cycle_as_in_pytorch() {
        close(&rates("kind = \"one_cycle\"", &[0, 10, 29, 50, 99]), &[0.004, 0.029_516_395, 0.1, 0.079_389_35, 4e-7]);
    }
}
