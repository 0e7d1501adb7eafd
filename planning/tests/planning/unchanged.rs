//! Data that is compared with what it was when a run was planned.

use std::path::Path;

use convoy_common::planner::{Planned, Planner};
use convoy_common::spec::parse;
use convoy_planning::{LocalPlanner, PlanningError, unchanged};

use crate::fixture::{MemoryTree, SPEC, grey_png, silent};

/// What `text` means with two classes of four images.
fn planned(tree: MemoryTree, text: &str) -> Planned {
    let planner = LocalPlanner { looking: silent() };
    planner.plan(&tree.shared(), parse(text, &[]).unwrap(), text).unwrap()
}

/// Changes the data behind a planned run and gives what is said of it.
fn difference(change: impl FnOnce(&mut MemoryTree)) -> String {
    let Planned { plan, manifest, .. } = planned(MemoryTree::two_classes(), SPEC);
    let mut tree = MemoryTree::two_classes();
    change(&mut tree);
    match unchanged(&tree, plan, manifest, &silent()) {
        Err(PlanningError::DataChanged { difference }) => difference,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_same_data_gives_the_same_plan() {
    let then = planned(MemoryTree::two_classes(), SPEC);
    let now = unchanged(&MemoryTree::two_classes(), then.plan.clone(), then.manifest.clone(), &silent()).unwrap();
    assert_eq!((now.plan, now.manifest), (then.plan, then.manifest));
}

#[test]
fn a_manifest_that_is_lost_is_made_anew_of_the_same_data_only() {
    let Planned { plan, manifest, .. } = planned(MemoryTree::two_classes(), SPEC);
    let again = unchanged(&MemoryTree::two_classes(), plan.clone(), None, &silent()).unwrap();
    assert_eq!(again.manifest, manifest);
    let mut tree = MemoryTree::two_classes();
    tree.put("data/a/2.png", grey_png(4, 4, 50));
    let error = unchanged(&tree, plan, None, &silent()).unwrap_err();
    assert!(matches!(&error, PlanningError::DataChanged { difference } if difference.contains("is lost")), "{error}");
}

#[test]
fn what_is_known_is_not_read_again() {
    let Planned { plan, manifest, .. } = planned(MemoryTree::two_classes(), SPEC);
    let tree = MemoryTree::two_classes().knowing();
    unchanged(&tree, plan, manifest, &silent()).unwrap();
    assert_eq!(tree.reads(), 0);
}

#[test]
fn what_is_known_to_differ_is_read_and_named() {
    let Planned { plan, manifest, .. } = planned(MemoryTree::two_classes(), SPEC);
    let mut tree = MemoryTree::two_classes().knowing();
    tree.put("data/a/2.png", grey_png(4, 4, 50));
    let named = unchanged(&tree, plan, manifest, &silent()).unwrap_err().to_string();
    assert!(named.contains("a/2.png has other bytes than when the run began"), "{named}");
}

#[test]
fn the_first_difference_is_named() {
    let named = difference(|tree| tree.put("data/b/3.png", grey_png(4, 4, 51)));
    assert!(named.contains("file b/3.png has other bytes than when the run began"), "{named}");
    let named = difference(|tree| tree.put("data/b/3.png", b"broken".to_vec()));
    assert!(named.contains("b/3.png"), "{named}");
    let named = difference(|tree| tree.put("data/c/0.png", grey_png(4, 4, 52)));
    assert_eq!(named, "the classes were [\"a\", \"b\"] and are now [\"a\", \"b\", \"c\"]");
    let named = difference(|tree| tree.remove("data/a/0.png"));
    assert!(named.contains(" is gone") || named.contains(" is new"), "{named}");
}

#[test]
fn an_image_that_broke_is_a_change_and_not_bad_data() {
    let Planned { plan, manifest, .. } = planned(MemoryTree::two_classes(), SPEC);
    let mut tree = MemoryTree::two_classes();
    tree.put("data/a/1.png", b"broken".to_vec());
    let error = unchanged(&tree, plan, manifest, &silent()).unwrap_err();
    assert!(matches!(&error, PlanningError::DataChanged { .. }), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("the data has changed since the run began: "), "{text}");
    assert!(text.ends_with("; put it back to resume, or start a new run"), "{text}");
}

#[test]
fn a_model_file_with_other_bytes_is_a_change() {
    let text = SPEC.replace("[network]", "[network]\ninit = \"m.safetensors\"");
    let with_model = |bytes: &[u8]| {
        let mut tree = MemoryTree::two_classes().knowing();
        tree.put("m.safetensors", bytes.to_vec());
        tree
    };
    let Planned { plan, manifest, init, .. } = planned(with_model(b"model"), &text);
    assert_eq!(init.as_deref(), Some(&b"model"[..]));
    let again = unchanged(&with_model(b"model"), plan.clone(), manifest.clone(), &silent()).unwrap();
    assert_eq!(again.init, init);
    let error = unchanged(&with_model(b"other"), plan.clone(), manifest.clone(), &silent()).unwrap_err();
    assert!(error.to_string().contains("the file that network.init names has other bytes"), "{error}");
    let tree = MemoryTree::two_classes().knowing();
    let error = unchanged(&tree, plan, manifest, &silent()).unwrap_err();
    assert!(matches!(&error, PlanningError::Missing { path, .. } if path == Path::new("m.safetensors")), "{error}");
}
