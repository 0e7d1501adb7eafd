//! What fuzzers found once is found no more.

use std::fs;
use std::path::Path;

use convoy_fuzz_harness::{TARGETS, feed};

#[test]
fn every_case_that_was_found_is_read_without_a_fault() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases");
    for folder in fs::read_dir(&cases).expect("there are cases").flatten() {
        let name = folder.file_name().into_string().expect("a target's name");
        assert!(TARGETS.iter().any(|target| target.name == name), "cases of no target: {name}");
        for case in fs::read_dir(folder.path()).expect("a folder").flatten() {
            println!("{}", case.path().display());
            feed(&name, &fs::read(case.path()).expect("a case"));
        }
    }
}

#[test]
fn every_target_takes_nothing_and_a_few_bytes() {
    for target in TARGETS {
        for bytes in [&b""[..], b"\0", b"{}", b"[train]\nepochs = 3\n", &[0xff; 300]] {
            (target.feed)(bytes);
        }
        // Where the first byte says what the rest is.
        (0..16).for_each(|kind| (target.feed)(&[&[kind], &b"path,value\na.png,1\n"[..]].concat()));
    }
}
