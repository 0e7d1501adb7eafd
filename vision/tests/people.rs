//! Tables and folders as people have them, from `../shared/data/people-cases` beside the repository; where they are not
//! there, the test is reported as ignored, with the reason.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use convoy_common::manifest::LabelKind;
use convoy_common::spec::{BadImage, Data, Task};
use convoy_files::Disk;
use convoy_testing::{Check, run_checks};
use convoy_vision::{Limits, Pixels, Scanned, check, decode, image_files, scan};

fn main() -> ExitCode {
    let data = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/people-cases"));
    let data = || if data.is_dir() { Ok(data.clone()) } else { Err("../shared/data/people-cases".to_owned()) };
    run_checks([
        Check::needs("what_has_one_meaning_is_taken", data(), |data| taken(&data)),
        Check::needs("what_has_none_is_refused_in_words", data(), |data| refused(&data)),
        Check::needs("pictures_have_one_truth_or_are_refused", data(), |data| pictures(&data)),
    ])
}

fn look(data: &Path, case: &str, change: impl Fn(&mut Data)) -> Result<Scanned, String> {
    let mut spec = Data::at(data.join(case).to_str().unwrap());
    change(&mut spec);
    scan(&Disk, &spec, Task::Auto, 0, Path::new(""), None, &|_, _| {}).map_err(|error| error.to_string())
}

fn taken(data: &Path) {
    let check = |case: &str, labels: LabelKind, names: &str, change: &dyn Fn(&mut Data)| {
        let scanned = look(data, case, change).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!((scanned.manifest.labels, scanned.manifest.names.join(" ").as_str()), (labels, names), "{case}");
        assert!(!scanned.manifest.validation.samples.is_empty(), "{case}");
    };
    let as_it_is = &|_: &mut Data| {};
    for case in ["0-Train-Test", "2-TRAIN-VAL", "3-train-testing", "5-train-val"] {
        check(&format!("03-split-names/{case}"), LabelKind::Class, "cat dog fox", as_it_is);
    }
    check("01-class-vanishes/data", LabelKind::Class, "ant bee cow elk", as_it_is);
    for case in ["6-nested", "7-wrapped"] {
        check(&format!("03-split-names/{case}"), LabelKind::Class, "cat dog", as_it_is);
    }
    check("04-csv-int-labels/train.csv", LabelKind::Class, "0 1 2", as_it_is);
    check("05-csv-index-col/train.csv", LabelKind::Values, "value", as_it_is);
    check("05-csv-index-col/text.csv", LabelKind::Class, "a b c", as_it_is);
    check("05-csv-index-col/sub/dotdot.csv", LabelKind::Class, "a b c", as_it_is);
    check("06-onehot/train.csv", LabelKind::Set, "cat dog fox", as_it_is);
    check("08-one-bad-number/clean.csv", LabelKind::Values, "value", as_it_is);
    for mark in ["comma.csv ,", "semi.csv ;", "json.csv ,", "pipe.csv |"] {
        let (file, mark) = mark.split_once(' ').unwrap();
        let change = |spec: &mut Data| spec.label_separator = Some(mark.to_owned());
        check(&format!("07-multilabel-sep/{file}"), LabelKind::Set, "blue green red", &change);
    }
    for file in ["bom", "crlf", "semicolon", "tab"] {
        check(&format!("13-dialects/{file}.csv"), LabelKind::Class, "a b c", as_it_is);
    }
    for (file, names) in [("count", "count"), ("price", "price"), ("const", "v"), ("comma-header", "len, cm wid")] {
        check(&format!("28-regression/{file}.csv"), LabelKind::Values, names, as_it_is);
    }
    check("27-kaggle/split.csv", LabelKind::Class, "a b c", &|spec| spec.split_column = Some("split".into()));
    check("27-kaggle/isvalid.csv", LabelKind::Class, "a b c", &|spec| spec.split_column = Some("is_valid".into()));
    let images = Some(data.join("27-kaggle/img").to_str().unwrap().to_owned());
    check("27-kaggle/noext.csv", LabelKind::Class, "a b c", &|spec| {
        (spec.images, spec.extension, spec.path_column) = (images.clone(), Some(".png".into()), "id".into());
    });
    check("27-kaggle/name-only.csv", LabelKind::Class, "a b c", &|spec| {
        (spec.images, spec.path_column) = (images.clone(), "image".into());
    });
    check("09-missing-file/train.csv", LabelKind::Class, "a b c", &|spec| spec.bad_images = BadImage::Quarantine);
}

fn refused(data: &Path) {
    let check = |case: &str, said: &[&str]| {
        let error = look(data, case, |_| {}).expect_err(case);
        assert!(said.iter().all(|part| error.contains(part)), "{case}: {error}");
    };
    for (file, field) in [("NA", "`NA`"), ("nan", "is not a number"), ("none", "is not a number"), ("empty", "empty")] {
        check(&format!("08-one-bad-number/{file}.csv"), &["line 9", "`value`", field]);
    }
    check("08-one-bad-number/comma.csv", &["decimals with a point"]);
    check("09-missing-file/train.csv", &["does not exist (line"]);
    check("13-dialects/noheader.csv", &["the first line names the columns"]);
    check("13-dialects/duphead.csv", &["two columns are called `label`"]);
    check("28-regression/dup.csv", &["two columns are called `v`"]);
    check("27-kaggle/noext.csv", &["data.path_column"]);
    check("27-kaggle/split.csv", &["data.split_column = \"split\""]);
}

/// The mean of each channel of a grey or colour picture, as of a colour picture.
fn means(pixels: &Pixels) -> [f64; 3] {
    let channels = pixels.channels as usize;
    let mean = |channel: usize| {
        let values = pixels.data.iter().skip(channel % channels).step_by(channels).map(|value| f64::from(*value));
        values.sum::<f64>() / f64::from(pixels.width * pixels.height)
    };
    [0, 1, 2].map(mean)
}

fn pictures(data: &Path) {
    let limits = Limits::from(&Data::at(""));
    let decoded = |path: &Path| decode(&std::fs::read(path).unwrap(), &limits).map(|decoded| decoded.pixels);
    let look_alike = |path: &Path, other: &Path, most: f64| {
        let (one, other) = (means(&decoded(path).unwrap()), means(&decoded(other).unwrap()));
        let near = one.iter().zip(other).all(|(one, other)| (one - other).abs() <= most);
        assert!(near, "{}: {one:?} and {other:?}", path.display());
    };

    let mixed = look(data, "02-mixed-ext/data", |_| {}).unwrap();
    let all = image_files(&Disk, &data.join("02-mixed-ext")).unwrap().0.len();
    let used = mixed.manifest.train.usable().len() + mixed.manifest.validation.usable().len();
    assert_eq!((used, mixed.taken.left_out.lines().as_slice()), (all, &[] as &[String]));

    for path in image_files(&Disk, &data.join("16-jpeg-kinds")).unwrap().0 {
        decoded(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.contains("-n-") {
            look_alike(&path, &path.with_file_name(name.replace("-n-", "-i-")), 1.0);
        }
    }
    for path in image_files(&Disk, &data.join("45-half-jpegs")).unwrap().0 {
        assert_eq!(decoded(&path).is_ok(), path.parent().unwrap().ends_with("b"), "{}", path.display());
    }
    for path in image_files(&Disk, &data.join("38-rgb-ids/rgbids")).unwrap().0 {
        let plain = path.to_str().unwrap().replace("rgbids", "plainpng").replace(".jpg", ".png");
        look_alike(&path, Path::new(&plain), 4.0);
    }
    let advice = |case: &str| check(&look(data, case, |_| {}).unwrap()).advice.join(" ");
    assert!(advice("15-16bit/tiny").contains("prepare.depth16 = \"stretch\""));
    assert!(!advice("15-16bit/full").contains("prepare.depth16"));
}
