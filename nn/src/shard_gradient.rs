//! The gradient that a training shard gives, as the backward pass makes it tensor by tensor.

use std::sync::Arc;

use convoy_kernels::finite_check::all_finite;
use convoy_kernels::tree::add_into;
use convoy_model::Network;

/// Where a training shard's gradient goes, flat as [`Network`] says.
#[derive(Debug)]
pub enum GradientTarget<'a> {
    /// Over what stands there.
    Write(&'a mut Vec<f32>),
    /// Added to what stands there, tensor by tensor as soon as each is made, with the bits of an addition of the whole
    /// gradient afterwards: `target + gradient`, number by number.
    AddTo(&'a mut Vec<f32>),
}

impl GradientTarget<'_> {
    /// The vector.
    pub(crate) fn flat(&mut self) -> &mut Vec<f32> {
        match self {
            GradientTarget::Write(flat) | GradientTarget::AddTo(flat) => flat,
        }
    }

    /// Whether the gradient is added to what stands there.
    pub(crate) fn is_added_to(&self) -> bool {
        matches!(self, GradientTarget::AddTo(_))
    }
}

/// The flat gradient of a shard in the making.
pub(crate) struct ShardGradient {
    network: Arc<Network>,
    /// As long as the network's tensors are together; empty in a pass that makes no gradient.
    flat: Vec<f32>,
    /// Which tensors have been written.
    written: Vec<bool>,
    /// Where a tensor's gradient is made before it is added to its place, as long as the longest tensor; none if it is
    /// made in its place.
    aside: Option<Vec<f32>>,
    finite: bool,
}

impl ShardGradient {
    /// A gradient that is written to `flat`, or added to it if there is a buffer `aside` for the longest tensor of
    /// `network`.
    pub fn new(network: Arc<Network>, flat: Vec<f32>, aside: Option<Vec<f32>>) -> Self {
        let written = vec![false; network.tensors.len()];
        ShardGradient { network, flat, written, aside, finite: true }
    }

    /// Has `fill` write the gradient of a parameter, or what is measured for a buffer: all of its numbers.
    pub fn write(&mut self, tensor: usize, fill: impl FnOnce(&mut [f32])) {
        let place = &mut self.flat[self.network.tensors[tensor].range()];
        match &mut self.aside {
            None => {
                fill(place);
                self.finite &= all_finite(place);
            }
            Some(aside) => {
                let aside = &mut aside[..place.len()];
                fill(aside);
                self.finite &= all_finite(aside);
                add_into(place, aside);
            }
        }
        self.written[tensor] = true;
    }

    /// The gradient is 0 where nothing was written.
    pub fn fill_rest(&mut self) {
        for (tensor, written) in self.network.tensors.iter().zip(&self.written) {
            let place = &mut self.flat[tensor.range()];
            match self.aside {
                None if !written => place.fill(0.0),
                // Not without effect: -0 becomes 0.
                Some(_) if !written => place.iter_mut().for_each(|value| *value += 0.0),
                _ => {}
            }
        }
    }

    /// Whether everything written is finite.
    pub fn is_finite(&self) -> bool {
        self.finite
    }

    /// The flat vector, and the buffer aside.
    pub fn into_parts(self) -> (Vec<f32>, Option<Vec<f32>>) {
        (self.flat, self.aside)
    }
}

#[cfg(test)]
mod tests {
    use convoy_common::plan::Input;
    use convoy_common::spec::parse;

    use super::*;

    /// Two tensors: a weight of four numbers and a bias of two.
    fn network() -> Arc<Network> {
        let layers = r#"{ type = "flatten" }, { type = "linear", out = 2 }"#;
        let spec = parse(&format!("[network]\nlayers = [{layers}]\n[data]\ntrain = \"x\"\n"), &[]).unwrap();
        Arc::new(Network::build(&spec.network, Input { height: 1, width: 2, channels: 1 }, 2).unwrap())
    }

    /// What becomes of `flat` when the bias gets these numbers and the weight none, bit by bit.
    fn gradient(flat: [f32; 6], aside: Option<Vec<f32>>, bias: [f32; 2]) -> (Vec<u32>, bool) {
        let mut gradient = ShardGradient::new(network(), flat.to_vec(), aside);
        gradient.write(1, |place| place.copy_from_slice(&bias));
        gradient.fill_rest();
        let finite = gradient.is_finite();
        (gradient.into_parts().0.into_iter().map(f32::to_bits).collect(), finite)
    }

    fn bits(values: [f32; 6]) -> Vec<u32> {
        values.map(f32::to_bits).to_vec()
    }

    #[test]
    fn what_stands_there_is_written_over() {
        let expected = bits([0.0, 0.0, 0.0, 0.0, -0.0, 3.0]);
        assert_eq!(gradient([f32::NAN; 6], None, [-0.0, 3.0]), (expected, true));
    }

    /// Also where nothing was written, as if zeros were added: -0 becomes 0.
    #[test]
    fn what_stands_there_is_added_to() {
        let sum = gradient([-0.0, 1.0, -0.0, 2.0, -0.0, 4.0], Some(vec![f32::NAN; 4]), [-0.0, 3.0]);
        assert_eq!(sum, (bits([0.0, 1.0, 0.0, 2.0, -0.0, 7.0]), true));
    }

    #[test]
    fn finite_is_said_of_the_shards_own_part() {
        assert!(gradient([f32::INFINITY; 6], Some(vec![0.0; 4]), [1.0, 2.0]).1);
        assert!(!gradient([0.0; 6], Some(vec![0.0; 4]), [1.0, f32::NAN]).1);
        assert!(!gradient([0.0; 6], None, [f32::INFINITY, 0.0]).1);
    }
}
