//! The cluster in containers, as `deploy/demo.sh` walks through it.

use std::path::Path;
use std::process::Command;

use crate::job::{convoy, report};

#[test]
#[ignore = "builds container images: needs Docker with Compose, and minutes"]
fn the_demo_ends_in_the_digest_of_a_single_process() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let demo = Command::new(root.join("deploy/demo.sh")).arg("--json").output().expect("bash starts");
    let run = report(&demo);
    let out = tempfile::tempdir().expect("a temporary folder");
    let spec = root.join("examples/fashion-mnist.toml");
    let alone = convoy().arg("train").arg(spec).arg("--json").arg("--out").arg(out.path().join("run")).output();
    let alone = report(&alone.expect("convoy starts"));
    assert_eq!(run["parameters_digest"], alone["parameters_digest"]);
}
