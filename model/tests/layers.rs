//! Networks from lists of layers.

use convoy_common::spec::NetworkSpec;
use convoy_model::{Input, Network, NetworkError, Op, Shape};
use expect_test::{Expect, expect};

const INPUT: Input = Input { height: 12, width: 10, channels: 3 };

fn build(layers: &str) -> Result<Network, NetworkError> {
    let spec: NetworkSpec = toml::from_str(layers).unwrap();
    Network::build(&spec, INPUT, 4)
}

/// Name and output of every node.
fn check(layers: &str, expected: Expect) {
    let network = build(layers).unwrap();
    let nodes = network.nodes.iter().map(|node| format!("{} {} {:?}\n", node.name, node.output, node.inputs));
    expected.assert_eq(&nodes.collect::<String>());
}

/// The error of a list of layers.
fn error(layers: &str, expected: Expect) {
    expected.assert_eq(&build(&format!("layers = [{layers}]")).unwrap_err().to_string());
}

#[test]
fn a_plain_network() {
    check(
        r#"
        layers = [
            { type = "conv", out = 8, kernel = [3, 5], padding = [1, 2], stride = [2, 1] },
            { name = "norm", type = "batch_norm" },
            { type = "relu" },
            { type = "max_pool", kernel = 3, stride = 2, padding = 1 },
            { type = "conv", out = 8, kernel = 3, groups = 4, dilation = [1, 2], padding = 1, bias = false },
            { type = "avg_pool", kernel = [3, 1] },
            { type = "flatten" },
            { type = "dropout", p = 0.5 },
            { type = "linear", out = 4 },
        ]"#,
        expect![[r#"
            input 12x10x3 []
            layer0 6x10x8 [0]
            norm 6x10x8 [1]
            layer2 6x10x8 [2]
            layer3 3x5x8 [3]
            layer4 3x3x8 [4]
            layer5 1x3x8 [5]
            layer6 24 [6]
            layer7 24 [7]
            layer8 4 [8]
        "#]],
    );
}

#[test]
fn residual_blocks() {
    let body = r#"{ type = "conv", out = 8, kernel = 3, stride = 2, padding = 1 }, { type = "relu" }"#;
    check(
        &format!(
            r#"
            layers = [
                {{ name = "one", type = "residual", layers = [{body}] }},
                {{ name = "two", type = "residual", layers = [{{ type = "relu" }}] }},
                {{ type = "global_avg_pool" }},
                {{ type = "linear", out = 4 }},
            ]"#
        ),
        expect![[r#"
            input 12x10x3 []
            one.layer0 6x5x8 [0]
            one.layer1 6x5x8 [1]
            one.shortcut.0 6x5x8 [0]
            one.shortcut.1 6x5x8 [3]
            one 6x5x8 [2, 4]
            two.layer0 6x5x8 [5]
            two 6x5x8 [6, 5]
            layer2 1x1x8 [7]
            layer3.flatten 8 [8]
            layer3 4 [9]
        "#]],
    );
}

#[test]
fn a_network_of_convolutions_only() {
    let network =
        build(r#"layers = [{ type = "conv", out = 4, kernel = 1 }, { type = "relu" }, { type = "global_avg_pool" }]"#)
            .unwrap();
    assert_eq!(network.nodes.last().unwrap().output, Shape::Features(4));
    assert!(network.tensors.iter().all(|tensor| tensor.head));
}

#[test]
fn torch_defaults_bound_initial_values() {
    let network = build(
        r#"layers = [{ type = "conv", out = 40, kernel = 5, groups = 1 }, { type = "flatten" },
                     { type = "linear", out = 4 }]"#,
    )
    .unwrap();
    let flat = network.initial(9);
    // 1 / sqrt(fan_in), for 3 * 5 * 5 and 8 * 6 * 40 inputs.
    for (name, bound) in [("layer0", 0.115_470_05_f32), ("layer2", 0.022_821_773)] {
        for tensor in network.tensors.iter().filter(|tensor| tensor.name.starts_with(name)) {
            let values = &flat[tensor.range()];
            let largest = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            assert!(largest <= bound && largest > 0.4 * bound, "{}: {largest} {bound}", tensor.name);
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            assert!(mean.abs() < bound / (values.len() as f32).sqrt() * 3.0, "{}: {mean}", tensor.name);
        }
    }
}

#[test]
fn dropouts_have_streams_of_their_own() {
    let network = build(
        r#"layers = [{ type = "dropout", p = 0.1 }, { type = "flatten" }, { type = "dropout", p = 0.0 },
                     { type = "linear", out = 4 }]"#,
    )
    .unwrap();
    let streams = network.nodes.iter().filter_map(|node| match node.op {
        Op::Dropout { stream, .. } => Some(stream),
        _ => None,
    });
    assert_eq!(streams.collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn errors_name_layer_shapes_and_remedy() {
    error(
        r#"{ type = "relu" }, { type = "max_pool", kernel = 3 }, { name = "conv3", type = "conv", out = 4, kernel = 5 }"#,
        expect![[
            r#"layer 2 "conv3": kernel 5x5 is larger than its 4x3 input; lower the stride of layer 1 or add padding"#
        ]],
    );
    error(
        r#"{ type = "conv", out = 4, kernel = 7, dilation = 2, padding = 0 }"#,
        expect![[
            r#"layer 0 "layer0": kernel 13x13 is larger than its 12x10 input; use a smaller kernel, add padding or raise prepare.size"#
        ]],
    );
    error(
        r#"{ type = "linear", out = 4 }"#,
        expect![[
            r#"layer 0 "layer0": it needs features, but its input is a 12x10x3 map; put a flatten or global_avg_pool layer before it"#
        ]],
    );
    error(
        r#"{ type = "flatten" }, { type = "conv", out = 4, kernel = 1 }"#,
        expect![[
            r#"layer 1 "layer1": it needs a map (height x width x channels), but its input has 360 features; move it before the flatten and linear layers"#
        ]],
    );
    error(
        r#"{ type = "conv", out = 4, kernel = 3, groups = 2 }"#,
        expect![[
            r#"layer 0 "layer0": 2 groups do not divide its 3 input and 4 output channels; choose groups that divide both"#
        ]],
    );
}

#[test]
fn settings_out_of_range_are_named() {
    error(
        r#"{ type = "conv", out = 4, kernel = 3, stride = [1, 0] }"#,
        expect![[r#"layer 0 "layer0": `stride` is 0; set `stride` to 1 or more"#]],
    );
    error(
        r#"{ type = "avg_pool", kernel = 3, padding = 2 }"#,
        expect![[r#"layer 0 "layer0": padding 2x2 is more than half of kernel 3x3; lower the padding"#]],
    );
    error(
        r#"{ type = "dropout", p = 1.0 }"#,
        expect![[r#"layer 0 "layer0": `p` is 1, but must be from 0 to below 1; change the number"#]],
    );
    error(
        r#"{ type = "batch_norm", eps = 0.0 }"#,
        expect![[r#"layer 0 "layer0": `eps` is 0, but must be above 0 and at most 1; change the number"#]],
    );
}

#[test]
fn names_are_plain_and_used_once() {
    error(
        r#"{ name = "a", type = "relu" }, { name = "a", type = "relu" }"#,
        expect![[r#"layer 1 "a": another layer has this name; give it another name"#]],
    );
    error(
        r#"{ name = "a b", type = "relu" }"#,
        expect![[
            r#"layer 0 "a b": the name is empty or has a character other than letters, digits, `_`, `-` and `.`; give it another name"#
        ]],
    );
}

#[test]
fn a_network_that_is_too_large_is_refused() {
    error(
        r#"{ type = "conv", out = 100000, kernel = 100, padding = 100 }"#,
        expect![[r#"layer 0 "layer0": the network would have more than 2^31 elements; make it smaller"#]],
    );
    error(
        r#"{ type = "conv", out = 1, kernel = 1, padding = 100000 }"#,
        expect![[r#"layer 0 "layer0": a sample's output would have more than 2^31 elements; make it smaller"#]],
    );
}

#[test]
fn errors_in_residual_blocks() {
    error(
        r#"{ type = "relu" }, { name = "r", type = "residual", layers = [{ type = "max_pool", kernel = 20 }] }"#,
        expect![[
            r#"layer 1.0 "r.layer0": kernel 20x20 is larger than its 12x10 input; use a smaller kernel, add padding or raise prepare.size"#
        ]],
    );
    error(
        r#"{ type = "residual", layers = [{ type = "conv", out = 8, kernel = 1 }], shortcut = "identity" }"#,
        expect![[
            r#"layer 0 "layer0": its layers turn 12x10x3 into 12x10x8, to which its input cannot be added; make the shapes agree, or use stride, padding and kernel such that a strided 1x1 convolution gives the same height and width (shortcut = "projection")"#
        ]],
    );
    error(
        r#"{ type = "residual", layers = [{ type = "conv", out = 8, kernel = 4 }] }"#,
        expect![[
            r#"layer 0 "layer0": its layers turn 12x10x3 into 9x7x8, to which its input cannot be added; make the shapes agree, or use stride, padding and kernel such that a strided 1x1 convolution gives the same height and width (shortcut = "projection")"#
        ]],
    );
    error(
        r#"{ type = "residual", layers = [] }"#,
        expect![[r#"layer 0 "layer0": the residual block has no layers; give it layers, or remove it"#]],
    );
    let deep = (0..10)
        .fold(r#"{ type = "relu" }"#.to_owned(), |inner, _| format!(r#"{{ type = "residual", layers = [{inner}] }}"#));
    let text = build(&format!("layers = [{deep}]")).unwrap_err().to_string();
    assert!(text.contains("more than 8 deep"), "{text}");
}

#[test]
fn the_last_layer_is_what_the_task_needs() {
    error(
        r#"{ type = "flatten" }, { name = "fc", type = "linear", out = 5 }"#,
        expect![[
            r#"the last layer "fc" puts out 5, but 4 outputs are needed; set `out` of the last conv or linear layer to 4"#
        ]],
    );
    error(
        r#"{ type = "conv", out = 4, kernel = 3 }"#,
        expect![[
            r#"the last layer "layer0" puts out 10x8x4, but 4 outputs are needed; end with global_avg_pool (or flatten) and a linear layer whose `out` is 4"#
        ]],
    );
    error(
        r#"{ type = "flatten" }, { type = "linear", out = 4 }, { type = "softmax" }"#,
        expect![[r#"the last layer "layer2" is a softmax, which the loss applies by itself; remove this layer"#]],
    );
    error(
        r#"{ type = "flatten" }, { type = "linear", out = 4 }, { type = "sigmoid" }"#,
        expect![[r#"the last layer "layer2" is a sigmoid, which the loss applies by itself; remove this layer"#]],
    );
    error(
        r#"{ type = "flatten" }"#,
        expect!["the network has nothing to train; add a conv or linear layer to network.layers"],
    );
}
