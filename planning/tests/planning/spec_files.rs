//! What specs say, and what is said of wrong ones.

use std::fs;
use std::path::{Path, PathBuf};

use convoy_common::spec::{Channels, Size};
use convoy_planning::{PlanningError, SpecFile, is_spec, text_override};

fn overrides(given: &[&str]) -> Vec<String> {
    given.iter().map(|given| (*given).to_owned()).collect()
}

/// A spec in a folder of its own.
fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("job.toml");
    fs::write(&path, text).unwrap();
    (dir, path)
}

#[test]
fn overrides_alone_are_a_spec() {
    let path = "/a \"b\" \\ c\td\n'e' \u{fc}";
    let spec = SpecFile::of_overrides(&[text_override("data.train", path)]).unwrap().spec;
    assert_eq!(spec.data.train, path);
    assert_eq!((spec.prepare.size, spec.prepare.channels), (Size::Auto, Channels::Auto));
}

#[test]
fn paths_of_the_file_start_at_its_folder_and_those_of_overrides_here() {
    let (dir, path) =
        written("[data]\ntrain = \"images\"\nvalidation = \"/elsewhere\"\n[network]\ninit = \"m.safetensors\"\n");
    let spec = SpecFile::read(Some(&path), &overrides(&["network.init=here.safetensors"])).unwrap().spec;
    let here = std::env::current_dir().unwrap();
    assert_eq!(Path::new(&spec.data.train), dir.path().join("images"));
    assert_eq!(spec.data.validation.as_deref(), Some("/elsewhere"));
    assert_eq!(spec.network.init.as_deref().map(Path::new), Some(here.join("here.safetensors").as_path()));
}

#[test]
fn data_of_a_coordinator_keeps_its_name() {
    let (_dir, path) = written("[data]\ntrain = \"dataset:flowers/train\"\nvalidation = \"shared:val\"\n");
    let spec = SpecFile::read(Some(&path), &[]).unwrap().spec;
    assert_eq!(
        (spec.data.train.as_str(), spec.data.validation.as_deref()),
        ("dataset:flowers/train", Some("shared:val"))
    );
}

#[test]
fn a_spec_that_is_not_there_is_named() {
    let error = SpecFile::read(Some(Path::new("no/where.toml")), &[]).unwrap_err();
    assert!(matches!(&error, PlanningError::Missing { path, .. } if path == Path::new("no/where.toml")), "{error}");
    assert_eq!(error.to_string(), "no/where.toml does not exist; name a spec (a .toml file) or a folder of images");
}

#[test]
fn a_spec_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = SpecFile::read(Some(dir.path()), &[]).unwrap_err();
    assert!(matches!(&error, PlanningError::Io { path, .. } if path == dir.path()), "{error}");
}

#[test]
fn a_wrong_spec_is_named_with_its_line() {
    let (_dir, path) = written("[data]\ntrian = \"x\"\n");
    let error = SpecFile::read(Some(&path), &[]).unwrap_err();
    assert!(matches!(&error, PlanningError::Spec { file: Some(file), .. } if *file == path), "{error}");
    let text = error.to_string();
    assert!(text.starts_with(&format!("{}: ", path.display())), "{text}");
    assert!(text.contains("line 2") && text.contains("did you mean `train`"), "{text}");
}

#[test]
fn a_wrong_override_is_said_to_be_one() {
    let error = SpecFile::of_overrides(&overrides(&["data.train"])).unwrap_err();
    assert_eq!(error.to_string(), "--set data.train: expected key.path=value, for example --set optimizer.lr=0.05");
}

#[test]
fn specs_are_known_by_their_ending() {
    let paths = ["job.toml", "a/b.toml", "job.TOML", "toml", "photos", "job.toml.d"];
    assert_eq!(paths.map(|path| is_spec(Path::new(path))), [true, true, true, false, false, false]);
}
