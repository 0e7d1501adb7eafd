//! Files of other programs, from `tests/reference/samples.py`, good ones and damaged ones.

use std::fs;
use std::path::PathBuf;

use convoy_common::samples::ColumnKind;
use serde_json::Value;

use super::*;
use crate::Disk;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/samples")
}

fn open(path: &Path) -> io::Result<Arc<ParquetFile>> {
    ParquetFile::open(Arc::new(Disk), path).map(Arc::new)
}

fn reference() -> (Vec<Vec<u8>>, Value) {
    let all: Value = serde_json::from_slice(&fs::read(folder().join("samples.json")).unwrap()).unwrap();
    let bytes =
        |hex: &str| (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    let pictures = all["pictures"].as_array().unwrap().iter().map(|hex| bytes(hex.as_str().unwrap())).collect();
    (pictures, all["files"].clone())
}

/// The fields of the column called `name`.
fn fields(file: &Arc<ParquetFile>, name: &str) -> Vec<String> {
    let at = Samples::columns(&**file).iter().position(|column| column.name == name).unwrap();
    file.fields(at).unwrap()
}

#[test]
fn files_of_other_programs_have_the_pictures_and_labels_that_were_written() {
    let (pictures, files) = reference();
    let mut compared = 0;
    for (name, expected) in files.as_object().unwrap() {
        let rows: Vec<usize> =
            expected["rows"].as_array().unwrap().iter().map(|row| row.as_u64().unwrap() as usize).collect();
        if rows.is_empty() {
            continue;
        }
        let file = open(&folder().join(name)).unwrap();
        assert_eq!(file.count(), rows.len(), "{name}");
        // Backwards, so that no row is where the last one was.
        for (at, row) in rows.iter().enumerate().rev() {
            assert_eq!(file.read(&format!("{at:06}")).unwrap(), pictures[*row], "{name}, row {at}");
            compared += 1;
        }
        for (column, expected) in expected["columns"].as_object().unwrap() {
            let expected: Vec<&str> =
                expected.as_array().unwrap().iter().map(|field| field.as_str().unwrap()).collect();
            assert_eq!(fields(&file, column), expected, "{name}, {column}");
        }
    }
    assert_eq!(compared, 8 * 24);
}

#[test]
fn class_names_come_from_the_metadata() {
    let classes = Some(["red", "green", "blue"].map(str::to_owned).to_vec());
    let columns = |name: &str| Samples::columns(&*open(&folder().join(name)).unwrap()).to_vec();
    let of = |name: &str, kind| SampleColumn { name: name.to_owned(), kind };
    assert_eq!(
        columns("hugging_face/data/train-00000-of-00002.parquet"),
        [of("label", ColumnKind::Classes(classes.clone().unwrap())), of("caption", ColumnKind::Plain)]
    );
    assert_eq!(columns("lists.parquet"), [of("labels", ColumnKind::Lists(classes))]);
    assert_eq!(columns("pandas.parquet"), [of("label", ColumnKind::Plain)]);
}

#[test]
fn a_file_without_one_column_of_pictures_names_its_columns() {
    let text = open(&folder().join("captions.parquet")).unwrap_err().to_string();
    assert!(text.contains("`id` (int64), `caption` (text)") && text.contains("`image`"), "{text}");
    let text = open(&folder().join("two.parquet")).unwrap_err().to_string();
    assert!(text.contains("`left` and `right`"), "{text}");
}

/// A folder with a file, and pictures beside it.
fn with_pictures(name: &str) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let (pictures, _) = reference();
    fs::create_dir(root.path().join("pictures")).unwrap();
    for (row, bytes) in pictures.iter().enumerate() {
        fs::write(root.path().join(format!("pictures/{row}.png")), bytes).unwrap();
    }
    let path = root.path().join(name);
    fs::copy(folder().join(name), &path).unwrap();
    (root, path)
}

#[test]
fn pictures_beside_the_file_are_files_of_their_own() {
    let (_root, path) = with_pictures("paths.parquet");
    let file = open(&path).unwrap();
    let paths = Samples::paths(&*file).unwrap();
    assert_eq!((paths.len(), paths[23].as_str()), (24, "pictures/23.png"));
}

#[test]
fn a_row_has_bytes_or_a_path_inside_or_says_what_it_lacks() {
    let (_root, path) = with_pictures("mixed.parquet");
    let (pictures, _) = reference();
    let file = open(&path).unwrap();
    assert_eq!(Samples::paths(&*file).unwrap()[4], "mixed.parquet/000004");
    assert_eq!([file.read("000000").unwrap(), file.read("000001").unwrap()], pictures[..2]);
    for (name, words) in [
        ("000002", "row 2 has no picture: `image` holds neither bytes nor a path"),
        ("000003", "leads out of"),
        ("000004", "`pictures/none.png` cannot be read"),
    ] {
        let text = file.read(name).unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    }
    for name in ["000005", "5", "0", "+00001", "", "000001/x"] {
        assert_eq!(file.read(name).unwrap_err().kind(), io::ErrorKind::NotFound, "{name}");
        assert_eq!(Archive::kind(&*file, name).unwrap(), None, "{name}");
    }
}

/// A file of the given bytes in a folder of its own.
fn of_bytes(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.parquet");
    fs::write(&path, bytes).unwrap();
    (root, path)
}

/// All that can be asked of a file.
fn read_all(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let file = open(path)?;
    for at in 0..Samples::columns(&*file).len() {
        // Any answer is good that is one.
        _ = file.fields(at);
    }
    file.contents()?.members.iter().map(|member| file.read(&member.name)).collect()
}

#[test]
fn a_cut_file_is_an_error_wherever_it_is_cut() {
    let bytes = fs::read(folder().join("hugging_face/data/test-00000-of-00001.parquet")).unwrap();
    let (_root, path) = of_bytes(&bytes);
    for length in (0..bytes.len()).step_by(7) {
        fs::write(&path, &bytes[..length]).unwrap();
        assert!(read_all(&path).is_err(), "{length} bytes");
    }
}

#[test]
fn damage_never_panics_and_never_takes_memory_that_is_not_there() {
    let mut found = [0, 0];
    for name in ["polars.parquet", "gzip.parquet", "v2.parquet", "none.parquet", "lists.parquet"] {
        let bytes = fs::read(folder().join(name)).unwrap();
        let (_root, path) = of_bytes(&bytes);
        for at in (0..bytes.len()).step_by(97) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xFF;
            damaged[bytes.len() - 1 - at / 3] ^= u8::from(at % 2 == 0) << (at % 7);
            fs::write(&path, &damaged).unwrap();
            found[usize::from(read_all(&path).is_ok())] += 1;
        }
    }
    // Bytes of pictures are nobody's business here.
    assert!(found[0] > 50 && found[1] > 50, "{found:?}");
}
