//! Files of a run that were changed behind its back: it goes on from what is whole, and says so.

use std::fs;
use std::path::{Path, PathBuf};

use convoy_common::Digest;
use tokio::sync::mpsc;

use super::{STEPS, place, start, undisturbed};
use crate::run::folder::audit::{Audit, audit, read_ledger};
use crate::run::folder::events::RunEvent;
use crate::run::folder::run_dir::RunDir;

/// The older of the two checkpoints that are kept.
const OLDER: u64 = 2;

/// A run that has come to its end.
async fn finished() -> (tempfile::TempDir, PathBuf, Digest) {
    let place = place();
    let folder = place.path().join("run");
    let digest = start(&folder, mpsc::unbounded_channel().0).await.unwrap();
    (place, folder, digest)
}

/// Starts the run again: the step it begins with, and the digest it ends with.
async fn again(folder: &Path) -> (u64, Digest) {
    let (tell, mut events) = mpsc::unbounded_channel();
    let digest = start(folder, tell).await.unwrap();
    let Some(RunEvent::Started { step, .. }) = events.recv().await else { panic!("it did not start") };
    (step, digest)
}

fn audited(folder: &Path) -> Audit {
    let (plan, manifest, records, bad) = read_ledger(folder).unwrap();
    assert_eq!(bad, None);
    audit(&plan, Vec::new(), &manifest, &records, |_| {})
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_line_of_the_journal_takes_no_days_along() {
    let (_place, folder, digest) = finished().await;
    let journal = folder.join("journal");
    let whole = fs::read(&journal).unwrap();
    let ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').collect();
    let mut begin = 0;
    for end in ends {
        let line = String::from_utf8_lossy(&whole[begin..end]).into_owned();
        fs::write(&journal, &whole).unwrap();
        flip(&journal, (begin + end) / 2);
        let (step, now) = again(&folder).await;
        assert_eq!(now, digest, "{line}");
        // The older of two checkpoints, if the step that is lost comes after it: then the journal is whole again.
        let lost = (0..STEPS).find(|step| line.contains(&format!("_committed\",\"step\":{step},")));
        let mended = lost.is_none_or(|lost| lost >= OLDER);
        let from = if lost.is_some_and(|lost| lost >= OLDER) { OLDER } else { STEPS };
        assert_eq!(step, from, "{line}");
        assert!(folder.join("journal.damaged").is_file(), "{line}");
        let audit = audited(&folder);
        assert_eq!(audit.exact, mended, "{line}: {:?}", audit.problems);
        begin = end + 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_without_its_journal_goes_on_from_its_newest_checkpoint_and_says_what_it_lacks() {
    let (_place, folder, digest) = finished().await;
    for bytes in [&b""[..], b"not a journal\n"] {
        fs::write(folder.join("journal"), bytes).unwrap();
        assert_eq!(again(&folder).await, (STEPS, digest));
        let audit = audited(&folder);
        assert!(!audit.exact && audit.damaged == 1, "{audit:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_byte_of_the_plan_may_be_wrong() {
    let (_place, folder, _) = finished().await;
    let path = folder.join("plan.json");
    let whole = fs::read(&path).unwrap();
    let (_, plan, _) = RunDir::open(&folder).unwrap();
    for at in 0..whole.len() {
        for damaged in [["plan.json", "none"], ["plan-copy.json", "none"], ["plan.json", "plan-copy.json"]] {
            for name in damaged.iter().filter(|name| **name != "none") {
                flip(&folder.join(name), at);
            }
            // Where both are damaged, the checkpoints have it.
            let (_, now, _) = RunDir::open(&folder).unwrap_or_else(|error| panic!("{damaged:?} {at}: {error}"));
            assert_eq!(now, plan, "{damaged:?} {at}");
            for name in ["plan.json", "plan-copy.json"] {
                assert_eq!(fs::read(folder.join(name)).unwrap(), whole, "{damaged:?} {at}: {name} is mended");
            }
        }
    }
    fs::remove_dir_all(folder.join("checkpoints")).unwrap();
    ["plan.json", "plan-copy.json"].iter().for_each(|name| flip(&folder.join(name), whole.len() / 2));
    let error = RunDir::open(&folder).unwrap_err().to_string();
    assert!(error.contains("plan.json"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_is_queued_has_a_copy() {
    let place = place();
    let folder = place.path().join("run");
    drop(super::ready(&folder, super::SPEC).unwrap());
    let text = fs::read_to_string(folder.join("plan.json")).unwrap();
    // As a person would, who thinks that this changes the run.
    fs::write(folder.join("plan.json"), text.replace("\"seed\": ", "\"seed\": 1")).unwrap();
    assert_eq!(again(&folder).await, (0, undisturbed().await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_manifest_is_missed_and_not_believed() {
    let (_place, folder, _) = finished().await;
    let path = folder.join("manifest.bin");
    let whole = fs::read(&path).unwrap();
    let (dir, _, manifest) = RunDir::open(&folder).unwrap();
    let manifest = manifest.unwrap();
    drop(dir);
    for at in 0..whole.len() {
        flip(&path, at);
        let (dir, plan, now) = RunDir::open(&folder).unwrap();
        // Where the data lies, and why a sample is left out, is in no digest.
        assert!(now.as_ref().is_none_or(|now| now.digest() == plan.manifest), "byte {at}");
        dir.write_manifest(&manifest).unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}
