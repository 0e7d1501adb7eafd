//! Random lists of layers: building never panics, and what is built keeps its promises.

use convoy_common::spec::{Layer, LayerKind, NetworkSpec, Pair, Shortcut};
use convoy_model::{Input, Network, Op, Role, Shape};
use proptest::prelude::*;

/// Mostly small numbers, so that many networks are valid; sometimes any.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![60 => 1u32..5, 3 => 0u32..40, 1 => any::<u32>()]
}

fn pair() -> impl Strategy<Value = Pair> {
    (number(), number()).prop_map(|(height, width)| Pair { height, width })
}

fn padding() -> impl Strategy<Value = Pair> {
    prop_oneof![30 => (0u32..2).prop_map(Pair::square), 1 => pair()]
}

fn leaf() -> impl Strategy<Value = LayerKind> {
    let conv = (number(), pair(), pair(), padding(), pair(), 1u32..3, any::<bool>());
    prop_oneof![
        4 => conv.prop_map(|(out, kernel, stride, padding, dilation, groups, bias)| LayerKind::Conv {
            out, kernel, stride, padding, dilation, groups, bias
        }),
        1 => (pair(), proptest::option::of(pair()), padding())
            .prop_map(|(kernel, stride, padding)| LayerKind::MaxPool { kernel, stride, padding }),
        1 => (pair(), proptest::option::of(pair()), padding())
            .prop_map(|(kernel, stride, padding)| LayerKind::AvgPool { kernel, stride, padding }),
        1 => Just(LayerKind::GlobalAvgPool),
        2 => Just(LayerKind::BatchNorm { eps: 1e-5, momentum: 0.1 }),
        1 => Just(LayerKind::Flatten),
        1 => (number(), any::<bool>()).prop_map(|(out, bias)| LayerKind::Linear { out, bias }),
        1 => any::<f64>().prop_map(|p| LayerKind::Dropout { p }),
        1 => any::<f64>().prop_map(|slope| LayerKind::LeakyRelu { slope }),
        2 => Just(LayerKind::Relu),
        1 => Just(LayerKind::Softmax),
    ]
}

fn layers() -> impl Strategy<Value = Vec<Layer>> {
    let leaf = leaf().prop_map(|kind| Layer { name: None, kind });
    let layer = leaf.prop_recursive(3, 12, 4, |inner| {
        let shortcut = prop_oneof![Just(Shortcut::Auto), Just(Shortcut::Identity), Just(Shortcut::Projection)];
        (proptest::collection::vec(inner, 0..4), shortcut)
            .prop_map(|(layers, shortcut)| Layer { name: None, kind: LayerKind::Residual { layers, shortcut } })
    });
    proptest::collection::vec(layer, 0..6)
}

/// Output side of a window operation, in numbers that cannot overflow.
fn side(input: u32, kernel: u32, stride: u32, padding: u32, dilation: u32) -> u128 {
    let [input, kernel, stride, padding, dilation] = [input, kernel, stride, padding, dilation].map(u128::from);
    (input + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1
}

fn check(network: &Network) {
    let shapes: Vec<Shape> = network.nodes.iter().map(|node| node.output).collect();
    for (index, node) in network.nodes.iter().enumerate() {
        assert!(node.inputs.iter().all(|input| *input < index));
        assert!(!node.output.is_empty());
        let window = match node.op {
            Op::Conv { kernel, stride, padding, dilation, .. } => Some((kernel, stride, padding, dilation)),
            Op::MaxPool { kernel, stride, padding } | Op::AvgPool { kernel, stride, padding } => {
                Some((kernel, stride, padding, Pair::square(1)))
            }
            _ => None,
        };
        if let (Some((kernel, stride, padding, dilation)), Shape::Map { height, width, .. }) = (window, node.output) {
            let Shape::Map { height: rows, width: columns, .. } = shapes[node.inputs[0]] else { panic!("a map") };
            let high = side(rows, kernel.height, stride.height, padding.height, dilation.height);
            let wide = side(columns, kernel.width, stride.width, padding.width, dilation.width);
            assert_eq!((u128::from(height), u128::from(width)), (high, wide));
        }
        if let Op::Conv { weight, groups, kernel, .. } = node.op {
            let input = shapes[node.inputs[0]].channels();
            let expected = [node.output.channels(), input / groups, kernel.height, kernel.width];
            assert_eq!(network.tensors[weight].shape, expected.map(|side| side as usize));
        }
        if let Op::Add = node.op {
            assert!(node.inputs.iter().all(|input| shapes[*input] == node.output));
        }
    }
    let count = |buffer: bool| -> usize {
        let wanted = network.tensors.iter().filter(|t| matches!(t.role, Role::Buffer { .. }) == buffer);
        wanted.map(|tensor| tensor.len()).sum()
    };
    assert_eq!((network.parameters, network.buffers), (count(false), count(true)));
    assert_eq!(*shapes.last().unwrap(), Shape::Features(network.outputs));
    if network.len() < 100_000 {
        assert!(network.initial(1).iter().all(|value| value.is_finite()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn building_keeps_its_promises(mut layers in layers(), height in 1u32..20, width in 1u32..20, finish: bool) {
        if finish {
            layers.push(Layer { name: None, kind: LayerKind::GlobalAvgPool });
            layers.push(Layer { name: None, kind: LayerKind::Linear { out: 2, bias: true } });
        }
        let spec = NetworkSpec { layers, ..Default::default() };
        match Network::build(&spec, Input { height, width, channels: 4 }, 2) {
            Ok(network) => check(&network),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
