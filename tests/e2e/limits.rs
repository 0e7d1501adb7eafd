//! What a coordinator does not let itself be asked for.

use crate::cluster::Cluster;
use crate::errors::check;

#[test]
fn a_job_that_asks_for_too_much_is_refused_before_it_is_queued() {
    let cluster = Cluster::new();
    let limits = [
        ("--max-parameters", "299"),
        ("--max-batch", "64"),
        ("--max-image-side", "16"),
        ("--max-decoded-side", "20000"),
        ("--max-shards", "16"),
        ("--max-steps", "100"),
        ("--max-checkpoints", "5"),
        ("--max-memory-mib", "1"),
        ("--max-jobs", "1"),
    ];
    let _coordinator = cluster.start_with(&limits.map(|(flag, value)| [flag, value]).concat());
    let spec = cluster.job.spec().display().to_string();
    let refused = |sets: &[&str], names: &[&str]| {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let args: Vec<&str> = ["submit", &spec, "--detach"].into_iter().chain(sets).collect();
        cluster.check(&args, 2, names);
    };
    refused(&["train.batch=65"], &["train.batch is 65", "at most 64", "--max-batch"]);
    refused(&["prepare.size=17"], &["prepare.size is 17", "at most 16", "--max-image-side"]);
    refused(&["data.max_image_side=20001"], &["data.max_image_side is 20001", "--max-decoded-side"]);
    refused(&["checkpoint.keep=6"], &["checkpoint.keep is 6", "at most 5", "--max-checkpoints"]);
    // 32 samples in shards of 1; 40 validation samples in shards of 2.
    refused(&["train.shard=1"], &["shards of a step or evaluation is 40", "at most 16", "--max-shards"]);
    refused(&["train.shard=2"], &["shards of a step or evaluation is 20", "at most 16", "--max-shards"]);
    refused(&["train.epochs=21"], &["train.epochs, in steps, is 105", "at most 100", "--max-steps"]);
    // 54 of the convolution, 24 of the norm, 291 of the last layer.
    refused(&[], &["parameters of [network] is 369", "at most 299", "--max-parameters"]);
    let small = "network.layers=[{type=\"flatten\"},{type=\"linear\",out=3}]";
    cluster.submit(&["--set", small]);
    cluster.check(&["submit", &spec, "--detach", "--set", small], 75, &["keeps 1 jobs", "convoy rm", "--max-jobs"]);
    assert_eq!(cluster.list().len(), 1, "what was refused is not in the queue");
}

#[test]
fn memory_is_not_taken_to_find_out_that_it_is_too_much() {
    let cluster = Cluster::new();
    let coordinator = cluster.start_with(&["--max-memory-mib", "8192"]);
    let spec = cluster.job.spec().display().to_string();
    // 67 * 2^24 and 67 * 2^23 parameters, 4 and 2 GiB for each copy; the second has not too many, but too much memory.
    for (out, names) in [(1 << 24, ["1124073475", "--max-parameters"]), (1 << 23, ["MiB", "--max-memory-mib"])] {
        let layers = format!(
            "network.layers=[{{type=\"flatten\"}},{{type=\"linear\",out={out},bias=false}},{{type=\"linear\",out=3}}]"
        );
        let more = ["--set", &layers, "--set", "optimizer.kind=adam", "--set", "train.shard=1"];
        cluster.check(&[&["submit", spec.as_str(), "--detach"], &more[..]].concat(), 2, &names);
    }
    let peak = peak_mib(coordinator.0.id());
    assert!(peak < 1024, "the coordinator took {peak} MiB");
}

/// The most memory that a process ever had.
fn peak_mib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("Linux tells");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
    peak.map(|kib: u64| kib / 1024).expect("a number of KiB")
}

#[test]
fn limits_belong_to_a_coordinator_of_jobs() {
    check(&["coordinator", "job.toml", "--max-batch", "5"], 2, &["--max-batch", "cannot be used with"]);
}
