//! How parameters travel to workers.

use std::ops::Range;

use convoy_common::spec::CPU_BF16_V1;
use convoy_common::{Digest, Plan};
use convoy_kernels::bf16;

use crate::network::Network;
use crate::op::Op;

/// Elements that are turned into bytes at a time, for a digest.
const BLOCK: usize = 16_384;

/// How the flat vector of a plan's network travels to workers: little-endian, in order, as f32, and in `cpu-bf16-v1`
/// the weights of convolutions and linear layers as bf16 ([`bf16::to_le_bytes`]). Workers use nothing else of these,
/// and rounding what is rounded changes nothing, so the bits of a run are those of weights that travel whole. The last
/// layer of a plan that scales targets travels whole: for evaluations its weights are scaled before they are rounded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParameterFormat {
    /// Elements that travel as bf16: in order, none twice.
    halves: Vec<Range<usize>>,
}

impl ParameterFormat {
    /// That of `plan`, whose network this is.
    pub fn of(plan: &Plan, network: &Network) -> Self {
        if plan.spec.numerics != CPU_BF16_V1 {
            return ParameterFormat::default();
        }
        let scaled = plan.target_scale().and_then(|_| network.scalable_head().ok()).map(|head| head.weight);
        let weights = network.nodes.iter().filter_map(|node| match node.op {
            Op::Conv { weight, .. } | Op::Linear { weight, .. } => Some(weight),
            _ => None,
        });
        let weights = weights.filter(|weight| Some(*weight) != scaled);
        let mut halves: Vec<_> = weights.map(|weight| network.tensors[weight].range()).collect();
        halves.sort_by_key(|range| range.start);
        halves.dedup();
        ParameterFormat { halves }
    }

    /// Whether all elements travel as f32.
    pub fn is_whole(&self) -> bool {
        self.halves.is_empty()
    }

    /// Bytes that these elements take on their way.
    pub fn bytes(&self, elements: Range<usize>) -> usize {
        self.parts(elements).map(|(part, size)| part.len() * size).sum()
    }

    /// Appends the bytes of `values`, the elements from `first` on.
    pub fn write(&self, first: usize, values: &[f32], bytes: &mut Vec<u8>) {
        bytes.reserve(self.bytes(first..first + values.len()));
        for (part, size) in self.parts(first..first + values.len()) {
            let values = &values[part.start - first..part.end - first];
            let before = bytes.len();
            bytes.resize(before + size * values.len(), 0);
            let here = &mut bytes[before..];
            match size {
                2 => bf16::to_le_bytes(values, here.as_chunks_mut::<2>().0),
                _ => here.as_chunks_mut::<4>().0.iter_mut().zip(values).for_each(|(bits, value)| {
                    *bits = value.to_le_bytes();
                }),
            }
        }
    }

    /// Writes to `values` the elements from `first` on, which came as `bytes`. False, and nothing is written, where
    /// these are not as many.
    pub fn read(&self, first: usize, bytes: &[u8], values: &mut [f32]) -> bool {
        let elements = first..first + values.len();
        if bytes.len() != self.bytes(elements.clone()) {
            return false;
        }
        let mut bytes = bytes;
        for (part, size) in self.parts(elements) {
            let (here, rest) = bytes.split_at(part.len() * size);
            bytes = rest;
            let values = &mut values[part.start - first..part.end - first];
            match size {
                2 => bf16::from_le_bytes(here.as_chunks::<2>().0, values),
                _ => values.iter_mut().zip(here.as_chunks::<4>().0).for_each(|(value, bits)| {
                    *value = f32::from_le_bytes(*bits);
                }),
            }
        }
        true
    }

    /// The digest by which a worker knows the parameters that it holds: [`Network::digest`] where they travel as f32,
    /// otherwise blake3 over their bytes on the way.
    ///
    /// # Panics
    /// When `flat` is not as long as the network.
    pub fn digest(&self, network: &Network, flat: &[f32]) -> Digest {
        if self.is_whole() {
            return network.digest(flat);
        }
        assert_eq!(flat.len(), network.len(), "elements of the flat vector, and of the network");
        let (mut hasher, mut bytes) = (blake3::Hasher::new(), Vec::new());
        for (index, block) in flat.chunks(BLOCK).enumerate() {
            bytes.clear();
            self.write(index * BLOCK, block, &mut bytes);
            hasher.update(&bytes);
        }
        Digest(*hasher.finalize().as_bytes())
    }

    /// The parts of `elements` that travel alike, in order, and how many bytes each element takes there.
    fn parts(&self, elements: Range<usize>) -> impl Iterator<Item = (Range<usize>, usize)> {
        let Range { start: mut at, end } = elements;
        let mut next = self.halves.partition_point(|half| half.end <= at);
        std::iter::from_fn(move || {
            let half = self.halves.get(next).map_or(end..end, |half| half.start.min(end)..half.end.min(end));
            let (to, size) = if at < half.start { (half.start, 4) } else { (half.end, 2) };
            if at >= end {
                return None;
            }
            next += usize::from(size == 2);
            let part = at..to;
            at = to;
            Some((part, size))
        })
    }
}

#[cfg(test)]
mod tests {
    use convoy_common::plan::TargetStatistics;
    use convoy_testing::{facts, plan_of};
    use proptest::prelude::*;

    use super::*;
    use crate::network::Tensor;

    /// Of a network of a convolution, a norm, a linear layer without a bias and a head.
    fn format_of(numerics: &str, scaled: bool) -> (ParameterFormat, Network) {
        let layers = "layers = [{ type = \"conv\", out = 4, kernel = 3, bias = false }, { type = \"batch_norm\" }, \
                      { type = \"relu\" }, { type = \"flatten\" }, { type = \"linear\", out = 5, bias = false }, \
                      { type = \"linear\", out = 3 }]";
        let mut plan = plan_of(&format!("numerics = \"{numerics}\"\n[network]\n{layers}\n"), &facts([8, 8, 1], 3));
        plan.targets = scaled.then(|| TargetStatistics { mean: vec![1.0; 3], std: vec![2.0; 3] });
        plan.spec.loss.scale_targets = Some(scaled);
        let network = Network::of(&plan).unwrap();
        (ParameterFormat::of(&plan, &network), network)
    }

    #[test]
    fn weights_alone_travel_as_bf16_and_in_that_class_alone() {
        let (format, network) = format_of("cpu-bf16-v1", false);
        let weights: Vec<_> = network.tensors.iter().filter(|it| it.shape.len() > 1).map(Tensor::range).collect();
        assert_eq!((format.halves.clone(), weights.len()), (weights.clone(), 3));
        let halves: usize = weights.iter().map(Range::len).sum();
        assert_eq!(format.bytes(0..network.len()), 4 * network.len() - 2 * halves);
        assert!(format_of("cpu-f32-v1", false).0.is_whole());
    }

    #[test]
    fn a_head_that_takes_a_scale_up_travels_whole() {
        let (format, _) = format_of("cpu-bf16-v1", true);
        assert_eq!(format.halves, format_of("cpu-bf16-v1", false).0.halves[..2]);
    }

    #[test]
    fn what_was_rounded_is_its_own_rounding() {
        let (format, network) = format_of("cpu-bf16-v1", false);
        let all = [1.0, -1.0 / 3.0, 1e-30, f32::MAX, f32::INFINITY, f32::NAN, -0.0, 1.0 + f32::EPSILON];
        let flat: Vec<f32> = all.into_iter().cycle().take(network.len()).collect();
        let mut bytes = Vec::new();
        format.write(0, &flat, &mut bytes);
        let mut came = vec![0.0; flat.len()];
        assert!(format.read(0, &bytes, &mut came));
        for (index, (came, sent)) in came.iter().zip(&flat).enumerate() {
            let half = format.halves.iter().any(|half| half.contains(&index));
            let wanted = if half { bf16::Bf16::from_f32(*sent).to_f32() } else { *sent };
            assert_eq!(came.to_bits(), wanted.to_bits(), "element {index}");
        }
        assert_eq!(format.digest(&network, &came), format.digest(&network, &flat));
        assert_eq!(format.digest(&network, &flat), Digest::of(&bytes));
        assert!(!format.read(0, &bytes[1..], &mut came));
    }

    proptest! {
        #[test]
        fn pieces_are_the_whole(
            mut bounds in prop::collection::vec(0..60usize, 0..8),
            mut cuts in prop::collection::vec(0..60usize, 0..6),
        ) {
            bounds.sort_unstable();
            bounds.dedup();
            let format = ParameterFormat { halves: bounds.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect() };
            cuts.extend([0, 60]);
            cuts.sort_unstable();
            let flat: Vec<f32> = (0..60u8).map(f32::from).collect();
            let (mut whole, mut pieces, mut came) = (Vec::new(), Vec::new(), vec![0.0; 60]);
            format.write(0, &flat, &mut whole);
            prop_assert_eq!(whole.len(), format.bytes(0..60));
            for pair in cuts.windows(2) {
                let before = pieces.len();
                format.write(pair[0], &flat[pair[0]..pair[1]], &mut pieces);
                prop_assert_eq!(pieces.len() - before, format.bytes(pair[0]..pair[1]));
                prop_assert!(format.read(pair[0], &pieces[before..], &mut came[pair[0]..pair[1]]));
            }
            prop_assert_eq!((pieces, came), (whole, flat));
        }
    }
}
