//! Descriptions, memory and shard sizes.

mod common;

use common::plan;
use convoy_common::manifest::LabelKind;
use convoy_common::plan::DataFacts;
use convoy_common::spec::NetworkSpec;
use convoy_model::{Input, Network, describe, memory_estimate};
use convoy_testing::facts;
use expect_test::expect;

fn zoo(name: &str, [height, width, channels]: [u32; 3], outputs: u32) -> Network {
    let spec = NetworkSpec { name: Some(name.to_owned()), ..Default::default() };
    Network::build(&spec, Input { height, width, channels }, outputs).unwrap()
}

#[test]
fn a_table() {
    expect![[r#"
        layer    operation                output    parameters    FLOPs    memory
        input    input                    28x28x1                         3.1 KiB
        conv1    conv 5x5 padding 2x2     28x28x6          156  235,200  18.4 KiB
        relu1    relu                     28x28x6                        18.4 KiB
        pool1    max_pool 2x2 stride 2x2  14x14x6                         4.6 KiB
        conv2    conv 5x5                 10x10x16       2,416  480,000   6.2 KiB
        relu2    relu                     10x10x16                        6.2 KiB
        pool2    max_pool 2x2 stride 2x2  5x5x16                          1.6 KiB
        flatten  flatten                  400                             1.6 KiB
        fc1      linear                   120           48,120   96,000     480 B
        relu3    relu                     120                               480 B
        fc2      linear                   84            10,164   20,160     336 B
        relu4    relu                     84                                336 B
        fc3      linear                   10               850    1,680      40 B
        total                                           61,706  833,040  61.7 KiB
    "#]]
    .assert_eq(&describe(&zoo("lenet5", [28, 28, 1], 10)).to_string());
}

/// torchvision's documentation gives 1.814, 3.664, 4.089 and 7.609 thousand million multiply-adds.
#[test]
fn operations_are_torchvisions() {
    let check = |name, expected: u64| {
        let flops = describe(&zoo(name, [224, 224, 3], 1000)).flops;
        assert_eq!((flops / 2 + 500_000) / 1_000_000, expected, "{name}");
    };
    check("resnet18", 1814);
    check("resnet34", 3664);
    check("resnet50", 4089);
    check("vgg11_bn", 7609);
}

#[test]
fn a_description_is_json() {
    let network = zoo("resnet20", [32, 32, 3], 10);
    let json = serde_json::to_value(describe(&network)).unwrap();
    assert_eq!(json["parameters"], 272_474);
    let rows = json["layers"].as_array().unwrap();
    let sum: u64 = rows.iter().map(|row| row["parameters"].as_u64().unwrap()).sum();
    assert_eq!(sum, network.parameters as u64);
    assert_eq!(rows.last().unwrap()["inputs"], serde_json::json!(["flatten"]));
}

#[test]
fn memory() {
    let estimate = |extra: &str, threads| {
        let plan = plan(extra);
        memory_estimate(&plan, &Network::of(&plan).unwrap(), threads)
    };
    let sgd = "[network]\nlayers = [{ type = \"flatten\" }, { type = \"linear\", out = 3 }]\n";
    let base = estimate(sgd, 1);
    // 192 * 3 + 3 = 579 parameters of four bytes; outputs of 192 and 3 numbers; 4 shards of 32.
    assert_eq!((base.parameters, base.optimizer, base.reduction), (2 * 2316, 2 * 2316, 2 * 2316));
    assert_eq!((base.worker_parameters, base.worker_gradients), (2 * 2316, 3 * 2316));
    assert_eq!(base.worker_activations, 4 * (195 + 3 * 192) * 32);
    // Two nodes; a half of sums, and of parameters and momentum before and after.
    assert_eq!((base.worker_exchange, base.worker_adding), (2 * 2316 + (2316 + 4 * 2316) / 2, (2316 + 4 * 2316) / 2));
    let halves = estimate(&format!("numerics = \"cpu-bf16-v1\"\n{sgd}"), 1);
    // The input's one channel and the three classes take 32 each; weights lie there twice.
    assert_eq!(halves.worker_activations, 2 * (192 * 32 + 32 + 3 * 192 * 32) * 32);
    assert_eq!((halves.worker_parameters, halves.worker_gradients), (3 * 2316, base.worker_gradients));
    for (shard, images) in [(5, 8), (20, 32), (33, 64)] {
        let spec = format!("numerics = \"cpu-bf16-v1\"\n{sgd}[train]\nbatch = 128\nshard = {shard}");
        assert_eq!(estimate(&spec, 1).worker_activations, halves.worker_activations / 32 * images, "{shard}");
    }
    let threads = estimate(sgd, 4);
    assert_eq!((threads.worker_activations, threads.worker_gradients), (4 * base.worker_activations, 7 * 2316));
    assert_eq!(threads.coordinator(), base.coordinator());
    assert_eq!(estimate(&format!("{sgd}[optimizer]\nkind = \"adam\""), 1).optimizer, 4 * 2316);
    assert_eq!(estimate(&format!("{sgd}[optimizer]\nmomentum = 0.0"), 1).optimizer, 0);
    expect![[r#"
        coordinator about 3.2 MiB: parameters 1.1 MiB (two generations), optimizer 1.1 MiB, reduction 1.1 MiB
        each worker about 23.0 MiB with 2 threads: parameters 1.1 MiB, gradients 2.1 MiB, activations 19.8 MiB; 2.4 MiB more where workers add for each other (--peer-listen)"#]]
    .assert_eq(&estimate("[network]\nname = \"simple-cnn\"", 2).to_string());
}

#[test]
fn memory_beyond_all_bytes_is_the_most_there_is() {
    let conv = |out: u32, padding: u32| {
        format!("{{ type = \"conv\", out = {out}, kernel = 1, padding = {padding}, bias = false }}, ")
    };
    // 256x252 pixels, a thousand times in 32768 channels.
    let layers = conv(1, 120) + &(conv(32_768, 0) + &conv(1, 0)).repeat(1000);
    let plan = plan(&format!(
        "[network]\nlayers = [{layers} {{ type = \"global_avg_pool\" }}, {{ type = \"linear\", out = 3 }}]\n[train]\n\
         batch = 1048576\nshard = 1048576"
    ));
    let network = Network::of(&plan).unwrap();
    assert_eq!(memory_estimate(&plan, &network, u32::MAX).worker(), u64::MAX);
}

#[test]
fn batch_norm_needs_two_values() {
    let layers = "[network]\nlayers = [{ type = \"global_avg_pool\" }, { type = \"flatten\" }, \
                  { name = \"norm\", type = \"batch_norm\" }, { type = \"linear\", out = 3 }]\n";
    let build = |train: &str| Network::of(&plan(&format!("{layers}[train]\n{train}")));
    assert!(build("batch = 128\nshard = 32").is_ok());
    // 300 = 2 * 128 + 44: 22 and 22. 300 = 23 * 13 + 1.
    expect![[r#"batch norm "norm" would see 1 value per channel in the smallest shard (1 sample); set train.last = "drop", or another train.batch (now 13) or train.shard (now 13) that leaves no single sample of 300"#]].assert_eq(&build("batch = 13\nshard = 13").unwrap_err().to_string());
    expect![[r#"batch norm "norm" would see 1 value per channel in the smallest shard (1 sample); set train.shard to 2 or more"#]].assert_eq(&build("batch = 4\nshard = 1").unwrap_err().to_string());
    assert!(build("batch = 13\nshard = 13\nlast = \"drop\"").is_ok());
    // On a map a single sample has values enough.
    assert!(Network::of(&plan("[network]\nname = \"simple-cnn\"\n[train]\nbatch = 13\nshard = 13")).is_ok());
}

#[test]
fn regression_may_end_in_a_sigmoid() {
    let toml = "[network]\nlayers = [{ type = \"flatten\" }, { type = \"linear\", out = 1 }, { type = \"sigmoid\" }]\n\
                [prepare]\nnormalize = \"unit\"";
    let facts = DataFacts {
        names: vec!["share".into()],
        labels: LabelKind::Values,
        class_counts: vec![],
        ..facts([8, 8, 1], 1)
    };
    let plan = convoy_testing::plan_of(toml, &facts);
    assert!(Network::of(&plan).is_ok());
    assert!(Network::build(&plan.spec.network, plan.input, 1).is_err());
}
