//! Parameters, buffers and optimizer state after some step.

use convoy_common::spec::{Optimizer, OptimizerKind};

use crate::Flat;

/// Parameters, buffers and optimizer state after some number of steps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParameterState {
    /// Steps that made it.
    pub step: u64,
    /// Parameters, then buffers.
    pub flat: Flat,
    /// Optimizer state, each as long as the parameters: SGD's momentum, or Adam's first and second moment.
    pub moments: Vec<Flat>,
}

impl ParameterState {
    /// `flat` before the first step, with no more than `parameters` parameters in it: its optimizer state is 0.
    pub fn first(flat: Flat, parameters: usize, optimizer: &Optimizer) -> Self {
        let moments = moment_names(optimizer).iter().map(|_| Flat::zeros(parameters)).collect();
        ParameterState { step: 0, flat, moments }
    }
}

/// Names of the optimizer's state, in the order of [`ParameterState::moments`].
pub fn moment_names(optimizer: &Optimizer) -> &'static [&'static str] {
    match optimizer.kind {
        OptimizerKind::Sgd if optimizer.momentum == Some(0.0) => &[],
        OptimizerKind::Sgd => &["momentum"],
        OptimizerKind::Adam | OptimizerKind::Adamw => &["first_moment", "second_moment"],
    }
}
