//! Files that NumPy wrote, from `tests/reference/samples.py`, good ones and damaged ones.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use super::super::unpacked::NoLimit;
use super::*;
use crate::Disk;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/samples")
}

fn open_in(path: &Path, unpacked: &TempDir) -> io::Result<Arc<NpzFile>> {
    let files: Arc<dyn FileTree> = Arc::new(Disk);
    NpzFile::open(&files, path, &Unpacked::new(unpacked.path().to_owned(), Arc::new(NoLimit))).map(Arc::new)
}

fn with<T>(path: &Path, use_it: impl FnOnce(Arc<NpzFile>) -> T) -> io::Result<T> {
    let unpacked = tempfile::tempdir().unwrap();
    open_in(path, &unpacked).map(use_it)
}

#[test]
fn stored_and_deflated_arrays_hold_the_same_pictures_and_labels() {
    let all: Value = serde_json::from_slice(&fs::read(folder().join("samples.json")).unwrap()).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for name in ["pneumonia.npz", "stored.npz"] {
        let unpacked = tempfile::tempdir().unwrap();
        let file = open_in(&folder().join(name), &unpacked).unwrap();
        let samples = file.clone().samples();
        let splits: Vec<(&str, usize)> = samples.iter().map(|split| (split.split(), split.count())).collect();
        assert_eq!(splits, [("train", 12), ("val", 4), ("test", 3)]);
        assert_eq!(samples[0].fields(0).unwrap().concat(), "010101010101");
        assert_eq!(samples[1].paths().unwrap()[3], format!("{name}/val_images/000003"));
        for (row, key) in [("000000", "first"), ("000011", "last")] {
            let picture = file.read(&format!("train_images/{row}")).unwrap();
            let pixels = picture.strip_prefix(b"P5\n4 5\n255\n").unwrap();
            assert_eq!(hex(pixels), all["medmnist"][key].as_str().unwrap(), "{name} {row}");
            assert_eq!(file.size(&format!("train_images/{row}")).unwrap(), picture.len() as u64);
        }
        assert_eq!(file.contents().unwrap().members.len(), 19);
        assert_eq!(file.kind("train_images").unwrap(), Some(FileKind::Folder));
        assert_eq!(file.read("train_images/000012").unwrap_err().kind(), io::ErrorKind::NotFound);
        // One array was asked for, and unpacked once.
        let count = fs::read_dir(unpacked.path()).unwrap().count();
        assert_eq!(count, usize::from(name == "pneumonia.npz"));
    }
}

#[test]
fn other_names_and_kinds_of_arrays() {
    with(&folder().join("keras.npz"), |file| {
        let splits: Vec<String> = file.clone().samples().iter().map(|split| split.split().to_owned()).collect();
        assert_eq!(splits, ["train", "test"]);
    })
    .unwrap();
    with(&folder().join("plain.npz"), |file| {
        let samples = file.clone().samples();
        assert_eq!((samples[0].split(), samples[0].fields(0).unwrap()[1].as_str()), ("", "0.2"));
        let picture = file.read("images/000005").unwrap();
        assert!(picture.starts_with(b"P5\n4 4\n65535\n") && picture.len() == 13 + 32);
        // Multiples of 200, the upper byte first.
        assert!(picture[13..].as_chunks::<2>().0.iter().all(|pair| u16::from_be_bytes(*pair) % 200 == 0));
    })
    .unwrap();
    with(&folder().join("chest.npz"), |file| {
        let samples = file.clone().samples();
        let columns: Vec<&str> = samples[0].columns().iter().map(|column| column.name.as_str()).collect();
        assert_eq!(columns, ["label_0", "label_1", "label_2"]);
        assert!(samples[0].fields(2).unwrap().iter().all(|field| field == "0" || field == "1"));
    })
    .unwrap();
}

#[test]
fn what_is_no_table_of_pictures_is_refused_in_words() {
    for (name, words) in [
        ("objects.npz", "`labels` holds objects of Python, which are never loaded"),
        ("fewer.npz", "holds 4 pictures, but `labels` is of shape [3]"),
        ("floats.npz", "`images` holds no numbers of 8 or 16 bits"),
        ("fortran.npz", "ascontiguousarray"),
        ("channels_first.npz", "np.moveaxis"),
        ("names.npz", "`pictures`, `targets`; looked for"),
    ] {
        let text = with(&folder().join(name), |_| ()).unwrap_err().to_string();
        assert!(text.contains(words), "{name}: {text}");
    }
}

/// Reads all that is in a file of these bytes.
fn read_all(bytes: &[u8]) -> io::Result<()> {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.npz");
    fs::write(&path, bytes).unwrap();
    with(&path, |file| {
        for split in file.clone().samples() {
            (0..split.columns().len()).try_for_each(|at| split.fields(at).map(drop))?;
        }
        file.contents()?.members.iter().try_for_each(|member| file.read(&member.name).map(drop))
    })?
}

#[test]
fn cut_and_damaged_files_are_errors_and_never_panics() {
    for name in ["pneumonia.npz", "stored.npz"] {
        let bytes = fs::read(folder().join(name)).unwrap();
        assert!(read_all(&bytes).is_ok());
        for length in (0..bytes.len()).step_by(101) {
            assert!(read_all(&bytes[..length]).is_err(), "{name}, {length} bytes");
        }
        for at in (0..bytes.len()).step_by(61) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xFF;
            _ = read_all(&damaged);
        }
    }
}

/// An npz file of deflated arrays that claim the shapes given, of which each holds `held` bytes of zeros.
fn deflated(arrays: &[(&str, &str, usize)]) -> Vec<u8> {
    use std::io::Write;
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, shape, held) in arrays {
        let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}");
        let mut plain = [&b"\x93NUMPY\x01\0"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
        let sides = shape.trim_matches(['(', ')']).split(',').filter_map(|side| side.trim().parse::<u64>().ok());
        let claimed = (plain.len() as u64 + sides.product::<u64>()) as u32;
        plain.resize(plain.len() + held, 0);
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&plain).unwrap();
        let packed = encoder.finish().unwrap();
        let name = format!("{name}.npy");
        let sizes = [0u32, packed.len() as u32, claimed].map(u32::to_le_bytes).concat();
        let common =
            [&[20, 0, 0, 0, 8, 0, 0, 0, 0, 0][..], &sizes, &(name.len() as u16).to_le_bytes(), &[0, 0]].concat();
        let offset = (file.len() as u32).to_le_bytes();
        directory.extend([&b"PK\x01\x02\x14\0"[..], &common, &[0; 10], &offset, name.as_bytes()].concat());
        file.extend([&b"PK\x03\x04"[..], &common, name.as_bytes(), &packed].concat());
    }
    let counts = [arrays.len() as u16, arrays.len() as u16].map(u16::to_le_bytes).concat();
    let place = [directory.len() as u32, file.len() as u32].map(u32::to_le_bytes).concat();
    [file, directory, [&b"PK\x05\x06\0\0\0\0"[..], &counts, &place, &[0, 0]].concat()].concat()
}

#[test]
fn arrays_that_unpack_to_more_or_less_than_they_claim_are_refused() {
    let labels = ("labels", "(2,)", 2);
    assert!(read_all(&deflated(&[("images", "(2, 4, 4)", 32), labels])).is_ok());
    for (shape, held, words) in [
        ("(2, 4, 4)", 1 << 20, "or more when it is unpacked"),
        ("(2, 4, 4)", 31, "when it is unpacked, not"),
        ("(2, 40000, 40000)", 32, "does not fit its"),
    ] {
        let text = read_all(&deflated(&[("images", shape, held), labels])).unwrap_err().to_string();
        assert!(text.contains(words) && text.contains("`images`"), "{text}");
    }
}
