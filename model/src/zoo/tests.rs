use convoy_common::spec::NetworkSpec;

use super::*;
use crate::{Network, Op, Role};

/// Network, tensor, sides, deviation and largest magnitude of the initial values.
const TORCHVISION: &str = include_str!("../../tests/reference/torchvision_names.txt");

fn build(name: &str, [height, width, channels]: [u32; 3], outputs: u32) -> Result<Network, NetworkError> {
    let spec = NetworkSpec { name: Some(name.to_owned()), ..Default::default() };
    Network::build(&spec, Input { height, width, channels }, outputs)
}

fn torchvision(network: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let lines = TORCHVISION.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    lines.filter(move |line| line[0] == network)
}

#[test]
fn names_shapes_and_order_are_torchvisions() {
    let torchvision_known = NAMES.into_iter().filter(|name| is_torchvision(name));
    for name in torchvision_known {
        let network = build(name, [224, 224, 3], 1000).unwrap();
        let expected: Vec<_> = torchvision(name).map(|line| format!("{} {}", line[1], line[2])).collect();
        let sides = |tensor: &crate::Tensor| tensor.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        let ours: Vec<_> = network.tensors.iter().map(|t| format!("{} {}", t.name, sides(t))).collect();
        assert!(!expected.is_empty());
        assert_eq!(ours, expected, "{name}");
    }
}

#[test]
fn parameters_are_counted_as_torchvision_does() {
    let check = |name, expected| assert_eq!(build(name, [224, 224, 3], 1000).unwrap().parameters, expected, "{name}");
    check("resnet18", 11_689_512);
    check("resnet34", 21_797_672);
    check("resnet50", 25_557_032);
    check("vgg11_bn", 132_868_840);
    check("mobilenet_v2", 3_504_872);
}

#[test]
fn small_networks_are_counted() {
    let check = |name, input, expected| assert_eq!(build(name, input, 10).unwrap().parameters, expected, "{name}");
    // LeCun's C1, C3 (fully connected here), C5, F6 and output: 156 + 2416 + 48120 + 10164 + 850.
    check("lenet5", [28, 28, 1], 61_706);
    // 269,722 with their option A, and two projections: 16 * 32 + 2 * 32 and 32 * 64 + 2 * 64.
    check("resnet20", [32, 32, 3], 272_474);
    check("resnet18-small", [32, 32, 3], 11_173_962);
    // Weights 288 + 9216 + 18432 + 36864 + 73728, norms 64 + 64 + 128 + 128 + 256, head 1290.
    check("simple-cnn", [28, 28, 1], 140_458);
    // Weights 432 + 4608 + 18432 + 73728, norms 32 + 64 + 128 + 256, head 1290.
    check("simple-cnn-photo", [96, 128, 3], 98_970);
}

#[test]
fn initial_values_are_distributed_as_torchvisions() {
    for name in NAMES.into_iter().filter(|name| is_torchvision(name)) {
        let network = build(name, [224, 224, 3], 1000).unwrap();
        for ((index, tensor), line) in network.tensors.iter().enumerate().zip(torchvision(name)) {
            let (deviation, largest): (f64, f64) = (line[3].parse().unwrap(), line[4].parse().unwrap());
            if tensor.len() > 600_000 && !tensor.head {
                continue;
            }
            let mut values = vec![f32::NAN; tensor.len().min(200_000)];
            crate::initial::fill(tensor, 1, index as u32, &mut values);
            let count = values.len() as f64;
            let ours = (values.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() / count).sqrt();
            let our_largest = values.iter().fold(0.0, |most, x| f64::from(x.abs()).max(most));
            // The deviation of a sample's deviation is about 0.7 / sqrt(count); of both samples, six times.
            let bound = deviation * 6.0 / count.sqrt();
            let uniform = matches!(tensor.init, crate::Init::Uniform { .. });
            assert!((ours - deviation).abs() <= bound, "{name} {}: {ours} {deviation}", tensor.name);
            let close = !uniform || (our_largest - largest).abs() <= 0.02 * largest;
            assert!(close, "{name} {}: {our_largest} {largest}", tensor.name);
        }
    }
}

#[test]
fn roles_offsets_and_head() {
    let network = build("resnet18-small", [32, 32, 3], 7).unwrap();
    let head: Vec<_> = network.tensors.iter().filter(|t| t.head).map(|t| t.name.as_str()).collect();
    assert_eq!(head, ["fc.weight", "fc.bias"]);
    let decays = |tensor: &crate::Tensor| tensor.role == Role::Parameter { decay: true };
    for tensor in &network.tensors {
        let wanted = tensor.name.ends_with("weight") && tensor.shape.len() > 1;
        assert_eq!(decays(tensor), wanted, "{}", tensor.name);
        let buffer = matches!(tensor.role, Role::Buffer { .. });
        assert_eq!(buffer, tensor.offset >= network.parameters, "{}", tensor.name);
    }
    let mut ranges: Vec<_> = network.tensors.iter().map(|tensor| tensor.range()).collect();
    ranges.sort_by_key(|range| range.start);
    assert_eq!(ranges[0].start, 0);
    assert!(ranges.windows(2).all(|two| two[0].end == two[1].start));
    assert_eq!(ranges.last().unwrap().end, network.len());
    assert_eq!(network.outputs, 7);
}

#[test]
fn initial_values_follow_the_seed_alone() {
    let network = build("simple-cnn", [28, 28, 1], 10).unwrap();
    assert_eq!(network.initial(3), network.initial(3));
    assert_ne!(network.initial(3), network.initial(4));
    let flat = network.initial(3);
    let find = |name: &str| &network.tensors[network.tensors.iter().position(|t| t.name == name).unwrap()];
    assert!(flat[find("bn1.weight").range()].iter().all(|x| *x == 1.0));
    assert!(flat[find("bn1.bias").range()].iter().all(|x| *x == 0.0));
    assert!(flat[find("bn1.running_mean").range()].iter().all(|x| *x == 0.0));
    assert!(flat[find("bn1.running_var").range()].iter().all(|x| *x == 1.0));
    assert_ne!(network.digest(&flat), network.digest(&network.initial(4)));

    // However many threads fill however many pieces.
    let network = build("resnet18", [32, 32, 3], 10).unwrap();
    let flat = network.initial(3);
    for (index, tensor) in network.tensors.iter().enumerate() {
        let mut whole = vec![0.0; tensor.len()];
        crate::initial::fill(tensor, 3, index as u32, &mut whole);
        assert!(flat[tensor.range()] == whole, "{}", tensor.name);
    }
}

#[test]
fn every_network_takes_grey_and_colour() {
    for name in NAMES {
        for channels in [1, 3] {
            for size in [[224, 224], [448, 224]] {
                let network = build(name, [size[0], size[1], channels], 5).unwrap();
                assert_eq!(network.nodes.last().unwrap().output, Shape::Features(5), "{name}");
            }
        }
    }
}

#[test]
fn shapes_of_resnet50() {
    let network = build("resnet50", [224, 224, 3], 10).unwrap();
    let shape = |name: &str| network.nodes.iter().find(|node| node.name == name).unwrap().output.to_string();
    assert_eq!(shape("conv1"), "112x112x64");
    assert_eq!(shape("maxpool"), "56x56x64");
    assert_eq!(shape("layer2.0.conv1"), "56x56x128");
    assert_eq!(shape("layer2.0.conv2"), "28x28x128");
    assert_eq!(shape("layer4.2.relu"), "7x7x2048");
    assert_eq!(shape("avgpool"), "1x1x2048");
    let Op::Linear { flattened, .. } = network.nodes.last().unwrap().op else { panic!("the last is linear") };
    assert_eq!(flattened, Some((1, 1, 2048)));
}

#[test]
fn what_does_not_fit_is_named() {
    let check = |name, input, parts: &[&str]| {
        let error = build(name, input, 10).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    check("resnet-18", [32, 32, 3], &["`resnet-18`", "did you mean `resnet18`?", "lenet5"]);
    check("transformer", [32, 32, 3], &["`transformer`; known are lenet5"]);
    check("vgg11_bn", [64, 64, 3], &["64x64x3", "its map is 2x2", "multiple of 224"]);
    check("vgg11_bn", [16, 16, 3], &["\"features.28\"", "kernel 2x2 is larger than its 1x1 input", "prepare.size"]);
    check("lenet5", [6, 6, 1], &["\"conv2\"", "kernel 5x5 is larger than its 3x3 input"]);
    check("lenet5", [0, 6, 1], &["prepare.size"]);
    check("lenet5", [u32::MAX, u32::MAX, u32::MAX], &["2^31"]);
}
