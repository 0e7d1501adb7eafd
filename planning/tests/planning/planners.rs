//! What a coordinator is told: plans of specs, and refusals that say of which kind they are.

use std::io::ErrorKind;

use convoy_common::planner::{Planned, Planner, Refusal};
use convoy_common::spec::parse;
use convoy_planning::{LocalPlanner, PlanningError};

use crate::fixture::{MemoryTree, SPEC, silent};

fn plan(tree: MemoryTree, text: &str) -> Result<Planned, Refusal> {
    LocalPlanner { looking: silent() }.plan(&tree.shared(), parse(text, &[]).unwrap(), text)
}

#[test]
fn a_spec_becomes_a_plan_with_the_data_that_the_tree_holds() {
    let Planned { plan, manifest, init, taken } = plan(MemoryTree::two_classes(), SPEC).unwrap();
    assert!(taken.is_some_and(|taken| taken.starts_with("source     class folders")), "people are told");
    assert_eq!((plan.train_samples, plan.validation_samples, plan.names.len()), (6, 2, 2));
    assert_eq!((plan.manifest, plan.init, init), (manifest.digest(), None, None));
}

#[test]
fn a_spec_that_does_not_fit_is_refused_with_its_line_and_no_file() {
    let refused = plan(MemoryTree::two_classes(), &format!("{SPEC}[loss]\nclass_weights = [1.0]\n")).unwrap_err();
    assert!(
        matches!(&refused, Refusal::BadSpec(text) if text.starts_with("line 12: `loss.class_weights`")),
        "{refused}"
    );
}

#[test]
fn data_is_missing_locked_or_bad() {
    let refused = plan(MemoryTree::default(), SPEC).unwrap_err();
    assert_eq!(refused, Refusal::Missing("data.train: data does not exist".to_owned()));

    let mut tree = MemoryTree::two_classes();
    tree.lock("data/a/0.png");
    let refused = plan(tree, SPEC).unwrap_err();
    assert!(matches!(&refused, Refusal::NotAllowed(_) | Refusal::BadData(_)), "{refused:?}");

    let mut tree = MemoryTree::two_classes();
    tree.put("data/a/0.png", b"broken".to_vec());
    let refused = plan(tree, SPEC).unwrap_err();
    assert!(matches!(&refused, Refusal::BadData(text) if text.contains("a/0.png")), "{refused:?}");
}

#[test]
fn changed_data_is_refused_as_such() {
    let planner = LocalPlanner { looking: silent() };
    let Planned { plan, manifest, .. } = plan(MemoryTree::two_classes(), SPEC).unwrap();
    let mut tree = MemoryTree::two_classes();
    planner.unchanged(&MemoryTree::two_classes().shared(), plan.clone(), Some(manifest.clone())).unwrap();
    tree.put("data/a/0.png", b"broken".to_vec());
    let refused = planner.unchanged(&tree.shared(), plan, Some(manifest)).unwrap_err();
    assert!(matches!(&refused, Refusal::DataChanged(text) if text.contains("a/0.png")), "{refused:?}");
}

#[test]
fn files_that_cannot_be_read_are_told_apart() {
    let refusal = |kind: ErrorKind| Refusal::from(PlanningError::Io { path: "x".into(), source: kind.into() });
    assert!(matches!(refusal(ErrorKind::NotFound), Refusal::Missing(_)));
    assert!(matches!(refusal(ErrorKind::PermissionDenied), Refusal::NotAllowed(_)));
    assert!(matches!(refusal(ErrorKind::ReadOnlyFilesystem), Refusal::NotAllowed(_)));
    assert!(matches!(refusal(ErrorKind::TimedOut), Refusal::Unreadable(text) if text.starts_with("x: ")));
    let elsewhere = PlanningError::KeptElsewhere { key: "data.train", path: "dataset:x".to_owned() };
    assert!(matches!(Refusal::from(elsewhere), Refusal::BadSpec(_)));
}
