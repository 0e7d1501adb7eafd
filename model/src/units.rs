//! The head of a regression, as training has it and in the targets' own units.

use convoy_common::plan::TargetStatistics;

use crate::{Network, NetworkError, Op};

/// The tensors of a last layer that can take up a scale: its outputs are sums with a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScalableHead {
    /// Index of `[out, ...]`.
    pub(crate) weight: usize,
    /// Index of `[out]`.
    bias: usize,
}

impl Network {
    /// The weights `flat` of a network that puts out `(value - mean) / std` of each target, changed such that it puts
    /// out the values: the head's weights times `std`, its bias times `std` plus `mean`, computed in f64 and rounded
    /// once.
    ///
    /// # Panics
    /// When `flat` is not as long as the network, the network was not made by [`Network::of`] for a plan that scales
    /// targets, or `scale` is of another number of targets.
    pub fn in_units(&self, flat: &[f32], scale: &TargetStatistics) -> Vec<f32> {
        self.with_head(flat, scale, |value, mean, std| value * std + mean)
    }

    /// The other way round from [`Network::in_units`], but for what was rounded.
    ///
    /// # Panics
    /// As [`Network::in_units`].
    pub fn out_of_units(&self, flat: &[f32], scale: &TargetStatistics) -> Vec<f32> {
        self.with_head(flat, scale, |value, mean, std| (value - mean) / std)
    }

    /// `flat` with `change(value, mean, std)` of each number of the head; the mean of a weight is 0.
    fn with_head(&self, flat: &[f32], scale: &TargetStatistics, change: impl Fn(f64, f64, f64) -> f64) -> Vec<f32> {
        let head = self.scalable_head().expect("a plan that scales targets has a network that can take the scale up");
        assert_eq!(flat.len(), self.len(), "weights of another network");
        assert_eq!(self.outputs as usize, scale.mean.len(), "a mean and a deviation for each output");
        let mut flat = flat.to_vec();
        for (tensor, shifted) in [(head.weight, 0.0), (head.bias, 1.0)] {
            let values = &mut flat[self.tensors[tensor].range()];
            let row = values.len() / scale.mean.len();
            for (row, (mean, std)) in values.chunks_exact_mut(row).zip(scale.mean.iter().zip(&scale.std)) {
                let (mean, std) = (shifted * f64::from(*mean), f64::from(*std));
                row.iter_mut().for_each(|value| *value = change(f64::from(*value), mean, std) as f32);
            }
        }
        flat
    }

    /// The tensors of the last layer that take the scale of targets up. Only flattening and averaging may follow it.
    ///
    /// # Errors
    /// When there is no such layer; the error names the one in its place.
    pub(crate) fn scalable_head(&self) -> Result<ScalableHead, NetworkError> {
        let mut node = self.nodes.last().expect("a network has nodes");
        while matches!(node.op, Op::Flatten | Op::GlobalAvgPool) {
            node = &self.nodes[node.inputs[0]];
        }
        match node.op {
            Op::Linear { weight, bias: Some(bias), .. } | Op::Conv { weight, bias: Some(bias), .. } => {
                Ok(ScalableHead { weight, bias })
            }
            _ => Err(NetworkError::TargetScale { name: node.name.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use convoy_common::plan::Input;
    use convoy_common::spec::parse;

    use super::*;

    fn network(layers: &str) -> Network {
        let spec = parse(&format!("[network]\nlayers = [{layers}]\n[data]\ntrain = \"x\"\n"), &[]).unwrap();
        Network::build(&spec.network, Input { height: 2, width: 2, channels: 1 }, 2).unwrap()
    }

    fn scale() -> TargetStatistics {
        TargetStatistics { mean: vec![10.0, -3.0], std: vec![2.0, 0.5] }
    }

    #[test]
    fn the_last_layer_alone_takes_the_scale_up() {
        let network = network("{ type = \"flatten\" }, { type = \"linear\", out = 3 }, { type = \"linear\", out = 2 }");
        let flat: Vec<f32> = (0..network.len()).map(|index| index as f32).collect();
        let changed = network.in_units(&flat, &scale());
        // 4 x 3 weights and 3 biases before it, then rows of 3 weights, then 2 biases.
        assert_eq!(changed[..15], flat[..15]);
        assert_eq!(changed[15..21], [30.0, 32.0, 34.0, 9.0, 9.5, 10.0]);
        assert_eq!(changed[21..], [2.0 * 21.0 + 10.0, 0.5 * 22.0 - 3.0]);
        assert_eq!(network.out_of_units(&changed, &scale()), flat);
    }

    #[test]
    fn a_convolution_may_be_the_head() {
        for end in ["", ", { type = \"flatten\" }", ", { type = \"global_avg_pool\" }, { type = \"flatten\" }"] {
            let kernel = if end.contains("pool") { 1 } else { 2 };
            let network = network(&format!("{{ type = \"conv\", out = 2, kernel = {kernel} }}{end}"));
            let row = network.tensors[0].len() / 2;
            let changed = network.in_units(&vec![1.0; network.len()], &scale());
            assert_eq!((changed[0], changed[row]), (2.0, 0.5), "{end}");
            assert_eq!(changed[2 * row..], [12.0, -2.5], "{end}");
        }
    }

    #[test]
    fn what_cannot_take_it_up_is_named() {
        let refused = |layers: &str| network(layers).scalable_head().unwrap_err().to_string();
        let flat = "{ type = \"flatten\" }";
        let error = refused(&format!("{flat}, {{ type = \"linear\", out = 2, name = \"fc\", bias = false }}"));
        assert!(error.contains("\"fc\" is none; end with one, or set loss.scale_targets = false"), "{error}");
        assert!(
            refused(&format!("{flat}, {{ type = \"linear\", out = 2 }}, {{ type = \"relu\" }}")).contains("is none")
        );
    }
}
