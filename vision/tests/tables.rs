//! Tables of paths with labels or values.

mod common;

use std::path::Path;

use common::{png, scan_at, write};
use convoy_common::manifest::{Label, LabelKind, Manifest};
use convoy_common::spec::{Data, Task};
use convoy_files::Disk;
use convoy_vision::{scan, scan_known};
use tempfile::{TempDir, tempdir};

/// A folder with images `0.png` to `3.png` and the table `text`.
fn folder(name: &str, text: &str) -> (TempDir, Data) {
    let root = tempdir().unwrap();
    for seed in 0..4 {
        write(root.path(), &format!("{seed}.png"), &png(8, 8, seed));
    }
    write(root.path(), name, text.as_bytes());
    let data = Data { validation_fraction: 0.0, ..Data::at(root.path().join(name).to_str().unwrap()) };
    (root, data)
}

fn manifest(text: &str, task: Task) -> Result<Manifest, String> {
    let (_root, data) = folder("t.csv", text);
    scan(&Disk, &data, task, 0, Path::new(""), None, &|_, _| {})
        .map(|scanned| scanned.manifest)
        .map_err(|error| error.to_string())
}

fn labels(manifest: &Manifest) -> Vec<Label<'_>> {
    manifest.train.samples.iter().map(|sample| sample.label).collect()
}

#[test]
fn classes() {
    let found = manifest("path,label\n1.png,dog\n./0.png, cat\n", Task::Auto).unwrap();
    assert_eq!((found.labels, &found.names[..]), (LabelKind::Class, &["cat".to_owned(), "dog".to_owned()][..]));
    assert_eq!(labels(&found), [Label::Class(0), Label::Class(1)]);
    let digits = manifest("path,label\n0.png,7\n1.png,3\n", Task::Multiclass).unwrap();
    assert_eq!((digits.names, digits.labels), (vec!["3".to_owned(), "7".to_owned()], LabelKind::Class));
}

#[test]
fn sets() {
    let found = manifest("path,label\n0.png,red|round\n1.png,\n2.png,red\n", Task::Auto).unwrap();
    assert_eq!((found.labels, found.names.len()), (LabelKind::Set, 2));
    assert_eq!(labels(&found), [Label::Set(&[0, 1]), Label::Set(&[]), Label::Set(&[0])]);
    let single = manifest("path,label\n0.png,red\n1.png,blue\n", Task::Multilabel).unwrap();
    assert_eq!(labels(&single), [Label::Set(&[1]), Label::Set(&[0])]);
}

#[test]
fn values() {
    let found = manifest("path,b,a\n1.png,1,-2.5\n0.png,3e2,4\n1.png,7,8\n", Task::Auto).unwrap();
    assert_eq!((found.labels, found.names.join(",")), (LabelKind::Values, "b,a".to_owned()));
    assert_eq!(labels(&found)[1..], [Label::Values(&[1.0, -2.5]), Label::Values(&[7.0, 8.0])]);
    // Two rows, one file.
    assert_eq!((found.train.files.len(), found.train.samples.at(2).file), (2, 1));
}

#[test]
fn tabs_and_byte_order_marks() {
    let (_root, data) = folder("t.tsv", "\u{feff}path\tlabel\n0.png\ta, b\n1.png\tc\n");
    assert_eq!(scan_at(&data).unwrap().manifest.names, ["a, b", "c"]);
}

#[test]
fn validation_is_found_beside_and_has_the_same_columns() {
    let (root, _) = folder("train.csv", "file,rbc,note\n0.png,1,x\n1.png,2,y\n");
    write(root.path(), "val.csv", b"note,rbc,file\nz,5,2.png\n");
    let data = Data {
        path_column: "file".into(),
        label_columns: vec!["rbc".into()],
        ..Data::at(root.path().join("train.csv").to_str().unwrap())
    };
    let found = scan_at(&data).unwrap().manifest;
    assert_eq!(found.validation.samples.at(0).label, Label::Values(&[5.0]));
    let test = root.path().join("test.csv");
    write(root.path(), "test.csv", b"file,rbc,note\n3.png,9,w\n");
    let (split, _, taken) = scan_known(&Disk, &test, &data, &found.names, found.labels, None, &|_, _| {}).unwrap();
    assert_eq!(split.samples.at(0).label, Label::Values(&[9.0]));
    assert!(taken.source.starts_with(&format!("table {}", test.display())), "{taken}");
    assert_eq!((taken.split.as_str(), taken.names), ("all of it", found.names));
}

#[test]
fn what_makes_no_sense_is_named() {
    let check = |text: &str, task: Task, expected: &[&str]| {
        let error = manifest(text, task).unwrap_err();
        assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    };
    check("image,rbc\n0.png,1\n", Task::Auto, &["t.csv, line 1", "`path`", "`image`, `rbc`", "data.path_column"]);
    check("path,rbc\n0.png,1\n1.png,lots\n", Task::Regression, &["line 3", "`rbc`", "`lots`"]);
    check("path,rbc\n0.png,1\n1.png,inf\n", Task::Regression, &["line 3", "`inf`"]);
    check("path,a,b\n0.png,x,y\n", Task::Auto, &["`a`, `b`", "data.label_columns"]);
    check("path,a\n0.png,x,y\n", Task::Auto, &["line 2", "3 fields", "2 columns"]);
    check("path,a\n0.png,x\nno.png,y\n", Task::Auto, &["line 3", "no.png"]);
    check("path,a\n,x\n", Task::Auto, &["line 2", "`path`", "empty"]);
    check("path,a\n0.png,x\n1.png,\n", Task::Auto, &["line 3", "`a`", "empty"]);
    check("path,a\n/elsewhere/0.png,x\n", Task::Auto, &["line 2", "/elsewhere", "data.images"]);
    check("path,a\n", Task::Auto, &["no rows"]);
    check("path\n0.png\n", Task::Auto, &["no label"]);
}

#[test]
fn a_new_class_in_validation_names_its_line() {
    let (root, _) = folder("train.csv", "path,label\n0.png,x\n1.png,y\n");
    write(root.path(), "val.csv", b"path,label\n2.png,x\n3.png,new\n");
    let error = scan_at(&Data::at(root.path().join("train.csv").to_str().unwrap())).unwrap_err().to_string();
    assert!(error.contains("`new`") && error.contains("val.csv, line 3"), "{error}");
}

/// What is found of `text` with `change` made to the spec.
fn with(text: &str, change: impl Fn(&mut Data, &Path)) -> Result<convoy_vision::Scanned, String> {
    let (root, mut data) = folder("t.csv", text);
    change(&mut data, root.path());
    scan_at(&data).map_err(|error| error.to_string())
}

#[test]
fn one_field_that_is_no_number_refuses_the_table() {
    let error = manifest("path,rbc\n0.png,1.5\n1.png,NA\n2.png,2\n", Task::Auto).unwrap_err();
    assert!(error.contains("line 3") && error.contains("`rbc`: `NA`"), "{error}");
    let rows = "path,a,b\n0.png,x,1\n1.png,y,2,9\n,z,3\n";
    let error = with(rows, |data, _| data.label_columns = vec!["a".into()]).unwrap_err();
    assert!(error.contains("line 3: has 4 fields") && error.contains("line 4: column `path`"), "all at once: {error}");
}

#[test]
fn columns_of_0_and_1_are_labels_even_where_no_row_has_one() {
    let found = manifest("path,cat,dog,ant\n0.png,1,0,0\n1.png,1,1,0\n", Task::Auto).unwrap();
    assert_eq!((found.labels, found.names.join(",")), (LabelKind::Set, "ant,cat,dog".to_owned()));
    assert_eq!(labels(&found), [Label::Set(&[1]), Label::Set(&[1, 2])]);
}

#[test]
fn missing_files_are_broken_images_and_all_are_counted() {
    let text = "path,label\n0.png,a\nno.png,a\n1.png,b\nnever.png,b\n";
    let error = with(text, |_, _| {}).unwrap_err();
    assert!(error.contains("2 of 4 images") && error.contains("no.png does not exist (line 3)"), "{error}");
    let scanned = with(text, |data, _| data.bad_images = convoy_common::spec::BadImage::Quarantine).unwrap();
    assert_eq!(scanned.manifest.train.usable().len(), 2);
}

#[test]
fn columns_without_a_name_are_left_out() {
    for header in [",path,label", "Unnamed: 0,path,label"] {
        let scanned = with(&format!("{header}\n0,0.png,x\n1,1.png,y\n"), |_, _| {}).unwrap();
        assert_eq!(scanned.manifest.names, ["x", "y"]);
        assert_eq!(scanned.taken.left_out.lines(), ["1 (a column without a name): column 1"]);
    }
    let error = manifest("path,v,v\n0.png,1,2\n", Task::Auto).unwrap_err();
    assert!(error.contains("two columns are called `v`"), "{error}");
}

#[test]
fn tables_may_lie_beside_their_images() {
    let (root, _) = folder("sub/t.csv", "");
    let absolute = root.path().join("1.png");
    write(root.path(), "sub/t.csv", format!("path,label\n../0.png,x\n{},y\n", absolute.display()).as_bytes());
    let data = Data { validation_fraction: 0.0, ..Data::at(root.path().join("sub/t.csv").to_str().unwrap()) };
    let split = scan_at(&data).unwrap().manifest.train;
    assert_eq!((Path::new(&split.root), split.files.at(0).path), (root.path(), "0.png"));
}

#[test]
fn delimiters_are_found_or_given() {
    for text in ["path;label\n0.png;x\n1.png;y\n", "path\tlabel\n0.png\tx\n1.png\ty\n"] {
        assert_eq!(manifest(text, Task::Auto).unwrap().names, ["x", "y"]);
    }
    let given = with("path^label\n0.png^x\n1.png^y\n", |data, _| data.delimiter = Some("^".into())).unwrap();
    assert_eq!(given.manifest.names, ["x", "y"]);
    let error = manifest("path^label\n0.png^x\n", Task::Auto).unwrap_err();
    assert!(error.contains("data.delimiter"), "{error}");
    let error = manifest("0.png,x\n1.png,y\n", Task::Auto).unwrap_err();
    assert!(error.contains("the first line names the columns"), "{error}");
}

#[test]
fn images_extensions_and_splits_have_keys() {
    let text = "id,label,is_valid\n0,a,False\n1,b,False\n2,a,True\n3,b,True\n";
    let scanned = with(text, |data, root| {
        let table = root.join("tables/t.csv");
        write(root, "tables/t.csv", text.as_bytes());
        data.train = table.to_str().unwrap().into();
        data.images = Some(root.to_str().unwrap().into());
        data.extension = Some("png".into());
        data.path_column = "id".into();
        data.split_column = Some("is_valid".into());
    })
    .unwrap();
    let paths = |split: &convoy_common::manifest::Split| -> Vec<String> {
        split.files.iter().map(|file| file.path.to_owned()).collect()
    };
    assert_eq!(paths(&scanned.manifest.train), ["0.png", "1.png"]);
    assert_eq!(paths(&scanned.manifest.validation), ["2.png", "3.png"]);
    let error = with("path,label,split\n0.png,a,train\n1.png,b,odd\n", |data, _| {
        data.split_column = Some("split".into());
    })
    .unwrap_err();
    assert!(error.contains("line 3: column `split`: `odd` names no split"), "{error}");
}

#[test]
fn separators_of_labels_are_given_and_lists_are_warned_of() {
    let text = "path,labels\n0.png,red\n1.png,\"green,blue\"\n2.png,blue\n";
    let warned = with(text, |_, _| {}).unwrap().taken.warnings;
    assert!(warned[0].contains("data.label_separator = \",\""), "{warned:?}");
    let separated = with(text, |data, _| data.label_separator = Some(",".into())).unwrap();
    assert_eq!(separated.manifest.names, ["blue", "green", "red"]);
    assert!(separated.taken.warnings.is_empty());
}

#[test]
fn folders_that_lie_elsewhere_than_a_table_says_are_named() {
    let text = "path,label\n/kaggle/input/0.png,x\nC:\\Photos\\1.png,y\nsub\\..\\2.png,y\n";
    let error = with(text, |_, _| {}).unwrap_err();
    assert!(error.contains("2 of 3 images"), "{error}");
    let moved = |data: &mut Data, root: &Path| {
        let here = root.to_str().unwrap().to_owned();
        data.moved = [("/kaggle/input".to_owned(), here.clone()), ("C:\\Photos\\".to_owned(), here)].into();
    };
    let split = with(text, moved).unwrap().manifest.train;
    let paths: Vec<&str> = split.files.iter().map(|file| file.path).collect();
    assert_eq!(paths, ["0.png", "1.png", "2.png"]);
}
