//! Files of pictures with labels, as other programs write them: `tests/reference/samples.py`.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use convoy_common::manifest::{Label, LabelKind};
use convoy_common::spec::{BadImage, Data, EmptyClasses, Task};
use convoy_files::{Archives, Disk};
use convoy_vision::{Images, Limits, ScanError, Scanned, Why, files_of, scan, scan_known, survey};
use tempfile::tempdir;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/samples")
}

/// The files of this machine, with those in archives; what must be unpacked goes nowhere that lasts.
fn tree() -> Arc<Archives> {
    Arc::new(Archives::new(Arc::new(Disk), std::env::temp_dir().join("convoy-vision-samples")))
}

fn at(path: &str) -> Data {
    Data::at(path)
}

fn scanned(data: &Data, task: Task) -> Result<Scanned, ScanError> {
    scan(&*tree(), data, task, 3, &folder(), &|_, _| {})
}

fn refused(data: &Data, task: Task) -> String {
    scanned(data, task).unwrap_err().to_string()
}

fn classes(scanned: &Scanned) -> Vec<u32> {
    let class = |label: &Label| if let Label::Class(class) = label { *class } else { panic!("{label:?}") };
    scanned.manifest.train.samples.iter().map(|sample| class(&sample.label)).collect()
}

#[test]
fn a_folder_of_hugging_face_is_its_splits_and_classes() {
    for path in ["hugging_face", "hugging_face/data"] {
        let found = scanned(&at(path), Task::Auto).unwrap();
        assert_eq!(found.manifest.names, ["blue", "green", "red"]);
        assert_eq!((found.manifest.train.samples.len(), found.manifest.validation.samples.len()), (15, 5));
        // Numbers 0, 1, 2 are red, green, blue.
        assert_eq!(classes(&found), [2, 1, 0].repeat(5));
        assert_eq!(found.manifest.train.files[8].path, "train-00001-of-00002.parquet/000000");
        let said = found.taken.to_string();
        let split = "validation-00000-of-00001.parquet, found by its name";
        for words in ["Parquet, 2 parts", split, "classes that the file names"] {
            assert!(said.contains(words), "{said}");
        }
        assert_eq!(found.taken.left_out.count(Why::TestFolder), 1, "{said}");
        assert!(said.contains("data.label_columns names others): caption"), "{said}");
    }
}

#[test]
fn one_file_of_several_finds_validation_data_beside_it() {
    let found = scanned(&at("hugging_face/data/train-00001-of-00002.parquet"), Task::Auto).unwrap();
    assert_eq!((found.manifest.train.samples.len(), found.manifest.validation.samples.len()), (7, 5));
    assert!(found.taken.split.contains("found beside it by its name"), "{}", found.taken);
    let data = Data { validation: Some("hugging_face/data/test-00000-of-00001.parquet".into()), ..at("hugging_face") };
    let found = scanned(&data, Task::Auto).unwrap();
    assert_eq!(
        (found.manifest.validation.samples.len(), found.taken.split.contains("as data.validation says")),
        (4, true)
    );
}

#[test]
fn columns_mean_what_they_mean_in_a_table_of_text() {
    let data = Data { validation_fraction: 0.0, ..at("polars.parquet") };
    // Three whole numbers in 24 rows.
    let found = scanned(&data, Task::Auto).unwrap();
    assert_eq!(
        (found.manifest.labels, &found.manifest.names[..]),
        (LabelKind::Class, &["0", "1", "2"].map(str::to_owned)[..])
    );
    let weights = Data { label_columns: vec!["weight".into()], ..data.clone() };
    let found = scanned(&weights, Task::Auto).unwrap();
    assert_eq!(found.manifest.labels, LabelKind::Values);
    assert_eq!(found.manifest.train.samples[5].label, Label::Values(vec![1.25]));
    let both = Data { label_columns: vec!["weight".into(), "label".into()], ..data.clone() };
    assert_eq!(scanned(&both, Task::Auto).unwrap().manifest.names, ["weight", "label"]);
    let wrong = Data { label_columns: vec!["kind".into()], ..data.clone() };
    let text = refused(&wrong, Task::Auto);
    assert!(text.contains("no column `kind`") && text.contains("`label`, `weight`"), "{text}");
    let split = Data { split_column: Some("label".into()), label_columns: vec!["weight".into()], ..data };
    let text = refused(&split, Task::Auto);
    assert!(text.contains("polars.parquet/000000: column `label`: `0` names no split"), "{text}");
}

#[test]
fn words_are_classes_and_lists_are_sets() {
    let found = scanned(&at("pandas.parquet"), Task::Auto).unwrap();
    assert_eq!(
        (found.manifest.labels, found.manifest.names.join(" ")),
        (LabelKind::Class, "blue green red".to_owned())
    );
    let found = scanned(&Data { validation_fraction: 0.0, ..at("lists.parquet") }, Task::Auto).unwrap();
    assert_eq!((found.manifest.labels, found.manifest.names.join(" ")), (LabelKind::Set, "blue green red".to_owned()));
    let labels: Vec<&Label> = found.manifest.train.samples[..4].iter().map(|sample| &sample.label).collect();
    let sets = [vec![2], vec![0, 1], vec![], vec![0, 1, 2]].map(Label::Set);
    assert_eq!(labels, sets.iter().collect::<Vec<_>>());
    assert!(found.taken.task.contains("lists"), "{}", found.taken);
}

#[test]
fn the_pictures_of_a_manifest_are_read_back() {
    let found = scanned(&at("hugging_face"), Task::Auto).unwrap();
    let images = Images::open(found.manifest.train.clone(), tree(), Limits::from(&at("x")), 1 << 20).unwrap();
    for (sample, label) in (0..).zip(classes(&found)) {
        let pixels = images.pixels(sample).unwrap();
        // The channel of its class is the brightest.
        let channel = 2 - label as usize;
        assert!(pixels.pixel(1, 2)[channel] >= 150 && pixels.pixel(1, 2)[(channel + 1) % 3] < 80);
    }
}

#[test]
fn models_are_measured_on_validation_data_or_on_the_file_that_is_named() {
    let names = ["blue", "green", "red"].map(str::to_owned);
    let count = |path: &str| {
        let path = folder().join(path);
        let (split, _) = scan_known(&*tree(), &path, &at(""), &names, LabelKind::Class, &|_, _| {}).unwrap();
        split.samples.len()
    };
    assert_eq!(count("hugging_face"), 5);
    assert_eq!(count("hugging_face/data/test-00000-of-00001.parquet"), 4);
    let less = ["blue".to_owned(), "red".to_owned()];
    let path = folder().join("pandas.parquet");
    let text = scan_known(&*tree(), &path, &at(""), &less, LabelKind::Class, &|_, _| {}).unwrap_err().to_string();
    assert!(text.contains("green") && text.contains("pandas.parquet/000001"), "{text}");
}

#[test]
fn a_file_without_pictures_is_refused_with_its_columns() {
    let text = refused(&at("captions.parquet"), Task::Auto);
    assert!(text.contains("`id` (int64), `caption` (text)") && text.contains("Looked for"), "{text}");
}

#[test]
fn rows_without_a_picture_are_broken_and_a_survey_goes_on() {
    let root = tempdir().unwrap();
    fs::copy(folder().join("mixed.parquet"), root.path().join("mixed.parquet")).unwrap();
    fs::create_dir(root.path().join("pictures")).unwrap();
    fs::write(root.path().join("pictures/1.png"), common::png(4, 4, 1)).unwrap();
    let data = Data { validation_fraction: 0.0, ..at("mixed.parquet") };
    let all = |data: &Data| scan(&*tree(), data, Task::Multiclass, 0, root.path(), &|_, _| {});
    let text = all(&data).unwrap_err().to_string();
    assert!(text.contains("3 of 5") && text.contains("neither bytes nor a path"), "{text}");
    let quarantine = Data { bad_images: BadImage::Quarantine, empty_classes: EmptyClasses::Ignore, ..data.clone() };
    assert_eq!(all(&quarantine).unwrap().manifest.train.usable(), [0, 1]);
    let found = survey(&*tree(), &data, Task::Multiclass, 0, root.path(), &|_, _| {}).unwrap();
    assert_eq!(found.manifest.train.samples.iter().filter(|sample| sample.broken.is_some()).count(), 3);
}

#[test]
fn pictures_beside_a_file_are_files_of_the_job() {
    let root = tempdir().unwrap();
    fs::copy(folder().join("paths.parquet"), root.path().join("paths.parquet")).unwrap();
    for row in 0..24 {
        common::write(root.path(), &format!("pictures/{row}.png"), &common::png(4, 4, row));
    }
    let data = Data { validation_fraction: 0.0, ..at("paths.parquet") };
    let (files, _) = files_of(&*tree(), &data, Task::Auto, root.path()).unwrap();
    assert_eq!(files.len(), 25);
    assert!(files.contains(&root.path().join("paths.parquet")) && files.contains(&root.path().join("pictures/7.png")));
    let found = scan(&*tree(), &data, Task::Auto, 0, root.path(), &|_, _| {}).unwrap();
    assert_eq!(found.manifest.train.files[1].path, "pictures/1.png");
}

#[test]
fn arrays_of_medmnist_are_classes_or_sets_with_validation_data() {
    let found = scanned(&at("pneumonia.npz"), Task::Auto).unwrap();
    assert_eq!((found.manifest.labels, found.manifest.names.join(" ")), (LabelKind::Class, "0 1".to_owned()));
    assert_eq!((found.manifest.train.samples.len(), found.manifest.validation.samples.len()), (12, 4));
    assert_eq!((found.train.sizes(), found.train.all_grey()), (Some([(4, 5); 3]), true));
    assert_eq!(found.manifest.train.files[11].path, "pneumonia.npz/train_images/000011");
    let said = found.taken.to_string();
    assert!(said.contains("npz, train in") && said.contains("val in") && said.contains("test data, for"), "{said}");
    let chest = scanned(&at("chest.npz"), Task::Auto).unwrap();
    assert_eq!(
        (chest.manifest.labels, chest.manifest.names.join(" ")),
        (LabelKind::Set, "label_0 label_1 label_2".to_owned())
    );
    assert!(!chest.train.all_grey());
    // Without validation data a part is held out, and test data is not looked at.
    let keras = scanned(&at("keras.npz"), Task::Auto).unwrap();
    assert_eq!((keras.manifest.train.samples.len(), keras.manifest.validation.samples.len()), (17, 3));
    let plain = scanned(&Data { validation_fraction: 0.0, ..at("plain.npz") }, Task::Auto).unwrap();
    assert_eq!((plain.manifest.labels, plain.train.images[0].unwrap().range16.is_some()), (LabelKind::Values, true));
}

#[test]
fn arrays_that_do_not_fit_are_refused_in_words() {
    for (name, words) in [
        ("objects.npz", "never loaded"),
        ("fewer.npz", "holds 4 pictures, but `labels`"),
        ("names.npz", "looked for"),
        ("channels_first.npz", "np.moveaxis"),
    ] {
        let text = refused(&at(name), Task::Auto);
        assert!(text.contains(name) && text.contains(words), "{text}");
    }
}

#[test]
fn cifar_has_named_classes_and_its_test_data_validates() {
    let data = Data { empty_classes: EmptyClasses::Ignore, ..at("cifar-10-batches-bin") };
    let found = scanned(&data, Task::Auto).unwrap();
    assert_eq!(found.manifest.names, ["airplane", "bird"]);
    assert_eq!((found.manifest.train.samples.len(), found.manifest.validation.samples.len()), (4, 2));
    assert_eq!(found.train.sizes(), Some([(32, 32); 3]));
    let said = found.taken.to_string();
    assert!(said.contains("CIFAR's test data, which people validate on"), "{said}");
    // A class that the file names and no record has.
    let text = refused(&at("cifar-10-batches-bin"), Task::Auto);
    assert!(text.contains("`automobile` (no row has it)"), "{text}");
    let hundred = scanned(&at("cifar-100-binary"), Task::Auto).unwrap();
    assert_eq!((hundred.manifest.names.join(" "), classes(&hundred)), ("ray rose shark".to_owned(), vec![2, 1, 0]));
    assert!(hundred.taken.to_string().contains("others): coarse_label"), "{}", hundred.taken);
    let coarse = Data { label_columns: vec!["coarse_label".into()], ..at("cifar-100-binary") };
    assert_eq!(scanned(&coarse, Task::Auto).unwrap().manifest.names, ["fish", "flowers"]);
}

#[test]
fn a_label_without_a_name_is_a_problem_with_its_place() {
    let root = tempdir().unwrap();
    let record = |label: u8| [vec![label], vec![7; 3072]].concat();
    common::write(root.path(), "data_batch_1.bin", &[record(0), record(3), record(1)].concat());
    common::write(root.path(), "batches.meta.txt", b"a\nb\n");
    let data = Data { validation_fraction: 0.0, ..at(".") };
    let text = scan(&*tree(), &data, Task::Auto, 0, root.path(), &|_, _| {}).unwrap_err().to_string();
    assert!(text.contains("data_batch_1.bin/000001: column `label`: 3 is none of the 2 classes"), "{text}");
    let found = survey(&*tree(), &data, Task::Auto, 0, root.path(), &|_, _| {}).unwrap();
    assert_eq!((found.problems.len(), found.manifest.train.samples.len()), (1, 2));
}

#[test]
fn files_of_several_columns_must_agree_and_named_formats_must_be_there() {
    let root = tempdir().unwrap();
    for (from, to) in [("pandas.parquet", "a.parquet"), ("hugging_face/data/test-00000-of-00001.parquet", "b.parquet")]
    {
        fs::copy(folder().join(from), root.path().join(to)).unwrap();
    }
    let all = |data: &Data| scan(&*tree(), data, Task::Auto, 0, root.path(), &|_, _| {});
    let split = Data { label_columns: vec!["caption".into()], ..at("b.parquet") };
    assert_eq!(all(&Data { empty_classes: EmptyClasses::Ignore, ..split }).unwrap().manifest.names.len(), 3);
    let text = all(&Data { label_columns: vec!["caption".into()], ..at(".") }).unwrap_err().to_string();
    assert!(text.contains("no column `caption`"), "{text}");
    let data = Data { format: convoy_common::spec::DataFormat::Npz, ..at(".") };
    assert!(all(&data).unwrap_err().to_string().contains("holds no npz files"));
}
