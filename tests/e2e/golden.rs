//! Frozen bits: each job of `tests/golden/` ends in the digest, the loss and the metrics that stand beside it, at every
//! instruction set, for any number of workers and threads.

use std::fs;
use std::path::{Path, PathBuf};

use crate::job::{convoy, report};

/// How a job is carried: instruction set (the best that there is when empty), workers, threads of each. With four
/// threads for a single worker some have no shard and help the others with their operations.
const WAYS: [(&str, &str, &str); 5] =
    [("portable", "1", "1"), ("avx2", "2", "1"), ("avx512", "1", "2"), ("", "1", "4"), ("", "5", "1")];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

/// Carries the job in each way. `CONVOY_BLESS=1` writes what the first one gave, where nothing stands yet.
fn check(name: &str) {
    let (spec, golden) = (folder().join(format!("{name}.toml")), folder().join(format!("{name}.txt")));
    for (level, workers, threads) in WAYS {
        let out = tempfile::tempdir().expect("a temporary folder");
        let mut command = convoy();
        command.arg("train").arg(&spec).arg("--json").arg("--out").arg(out.path().join("run"));
        command.args(["--workers", workers, "--threads", threads]);
        if !level.is_empty() {
            command.env("CONVOY_CPU", level);
        }
        let report = report(&command.output().expect("convoy starts"));
        let found = format!(
            "parameters_digest {}\ntrain_loss {}\nvalidation {}\n",
            report["parameters_digest"].as_str().expect("a digest"),
            report["train_loss"],
            report["validation"],
        );
        if std::env::var_os("CONVOY_BLESS").is_some() && !golden.exists() {
            fs::write(&golden, &found).expect("the folder is writable");
        }
        let expected = fs::read_to_string(&golden).expect("the job has its golden");
        assert_eq!(found, expected, "{name}: {level} instructions, {workers} workers, {threads} threads");
    }
}

/// A test for each job, and one that no job is without.
macro_rules! golden {
    ($($test:ident $name:literal),* $(,)?) => {
        $(#[test] fn $test() { check($name); })*

        #[test]
        fn every_job_has_a_test() {
            let mut found: Vec<String> = fs::read_dir(folder())
                .expect("the folder is there")
                .map(|entry| entry.expect("the folder can be read").path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
                .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
                .collect();
            found.sort();
            assert_eq!(found, [$($name),*]);
        }
    };
}

golden! {
    a_layer_of_each_activation "activations",
    adamw_and_a_clipped_gradient "adamw",
    depthwise_convolutions_in_bf16 "bf16-depthwise",
    residual_blocks_in_bf16 "bf16-residual",
    convolutions_and_poolings_in_bf16 "bf16-vgg",
    weighted_classes_and_smoothed_labels "class-weights",
    sums_and_changes_in_bf16 "compression",
    depthwise_and_grouped_convolutions "depthwise",
    convolutions_by_their_definition "direct",
    photographs_with_every_augmentation "jpeg-crop",
    photographs_in_a_frame "jpeg-letterbox",
    photographs_cropped_at_random "jpeg-random-crop",
    any_number_of_labels "multilabel",
    chains_of_1x1_convolutions "pointwise",
    real_numbers "regression",
    residual_blocks_with_strides "residual",
    the_stem_of_a_resnet "stem",
    winograds_convolutions "winograd",
}
