//! The weights that evaluations are of.

use std::sync::Arc;

use convoy_common::Plan;
use convoy_model::Network;
use convoy_scheduler::StepId;
use parking_lot::Mutex;

/// Makes the weights for evaluations from those that training came to. They are the same unless the plan scales
/// targets: then evaluations are of the network in the targets' units, as it will be in the model's file.
pub(crate) struct EvaluatedWeights {
    plan: Arc<Plan>,
    network: Arc<Network>,
    /// The last ones made, for all threads.
    made: Mutex<Option<(StepId, Arc<Vec<f32>>)>>,
}

impl EvaluatedWeights {
    /// For runs of `plan` on `network`.
    pub(crate) fn new(plan: Arc<Plan>, network: Arc<Network>) -> Self {
        EvaluatedWeights { plan, network, made: Mutex::new(None) }
    }

    /// Whether weights loaded for one kind of work at step `loaded` are others than those for another kind at step
    /// `wanted`.
    pub(crate) fn differ(&self, loaded: StepId, wanted: StepId) -> bool {
        loaded != wanted || self.plan.target_scale().is_some()
    }

    /// The weights for evaluations at `step`, whose parameters are these.
    pub(crate) fn of(&self, step: StepId, parameters: Arc<Vec<f32>>) -> Arc<Vec<f32>> {
        let Some(scale) = self.plan.target_scale() else { return parameters };
        let mut made = self.made.lock();
        match made.as_ref() {
            Some((at, weights)) if *at == step => weights.clone(),
            _ => {
                let weights = Arc::new(self.network.in_units(&parameters, scale));
                *made = Some((step, weights.clone()));
                weights
            }
        }
    }

    /// Gives the memory back once no thread uses it: other parameters are here.
    pub(crate) fn forget(&self) {
        *self.made.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use convoy_common::manifest::LabelKind;
    use convoy_common::plan::{DataFacts, TargetStatistics};

    use super::*;

    fn weights(scaled: bool) -> EvaluatedWeights {
        let spec = "[network]\nlayers = [{ type = \"flatten\" }, { type = \"linear\", out = 1 }]";
        let targets = scaled.then(|| TargetStatistics { mean: vec![10.0], std: vec![2.0] });
        let facts = convoy_testing::facts([1, 2, 1], 1);
        let facts = DataFacts { labels: LabelKind::Values, class_counts: Vec::new(), targets, ..facts };
        let plan = Arc::new(convoy_testing::plan_of(spec, &facts));
        let network = Arc::new(Network::of(&plan).unwrap());
        EvaluatedWeights::new(plan, network)
    }

    #[test]
    fn they_are_in_the_targets_units_and_made_once_a_step() {
        let weights = weights(true);
        let trained = Arc::new(vec![1.0, 2.0, 3.0]);
        let made = weights.of(StepId(4), trained.clone());
        assert_eq!(*made, [2.0, 4.0, 16.0]);
        assert!(Arc::ptr_eq(&made, &weights.of(StepId(4), trained.clone())));
        assert!(weights.differ(StepId(4), StepId(4)), "training at the same step has other weights");
        assert_eq!(*weights.of(StepId(5), Arc::new(vec![0.0; 3])), [0.0, 0.0, 10.0]);
        weights.forget();
        assert_eq!(*weights.of(StepId(4), trained), [2.0, 4.0, 16.0]);
    }

    #[test]
    fn without_a_scale_they_are_those_of_training() {
        let weights = weights(false);
        let trained = Arc::new(vec![1.0, 2.0, 3.0]);
        assert!(Arc::ptr_eq(&trained, &weights.of(StepId(4), trained.clone())));
        assert!(!weights.differ(StepId(4), StepId(4)) && weights.differ(StepId(4), StepId(5)));
    }
}
