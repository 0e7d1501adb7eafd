//! CIFAR-10's and CIFAR-100's binary files: records of labels and planes of 32 x 32 pixels; each record is a file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use convoy_common::file_tree::{ArchiveKind, Contents, FileKind, FileTree, Member, range_of};
use convoy_common::samples::{CIFAR, ColumnKind, SampleColumn, Samples};

use super::archive::Archive;
use super::rows::{name_of, pnm_header, row_of};

const SIDE: u64 = 32;
const PIXELS: usize = 1024;
/// Records that are read at once while labels are.
const AT_ONCE: u64 = 1000;

/// What a file's name says it is: its labels in the order of a record, each with the file of its names beside it, and
/// its split.
fn kind_of(path: &Path) -> Option<(&'static [(&'static str, &'static str)], &'static str)> {
    const TEN: [(&str, &str); 1] = [("label", "batches.meta.txt")];
    const HUNDRED: [(&str, &str); 2] =
        [("coarse_label", "coarse_label_names.txt"), ("fine_label", "fine_label_names.txt")];
    let number = |name: &str| name.strip_prefix("data_batch_")?.strip_suffix(".bin")?.parse::<u32>().ok();
    match path.file_name()?.to_str()? {
        "test_batch.bin" => Some((&TEN, "test")),
        "train.bin" => Some((&HUNDRED, "train")),
        "test.bin" => Some((&HUNDRED, "test")),
        name => number(name).map(|_| (&TEN[..], "train")),
    }
}

/// Whether a file is one of CIFAR's by its name.
pub(super) fn is_cifar(path: &Path) -> bool {
    kind_of(path).is_some()
}

/// A file that has been opened.
#[derive(Debug)]
pub(super) struct CifarFile {
    files: Arc<dyn FileTree>,
    path: PathBuf,
    name: String,
    split: &'static str,
    columns: Vec<SampleColumn>,
    rows: u64,
}

impl CifarFile {
    /// Looks at the file's size, and at the files of names beside it.
    ///
    /// # Errors
    /// When its size is not that of whole records, or names cannot be read.
    pub(super) fn open(files: Arc<dyn FileTree>, path: &Path) -> io::Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let (labels, split) = kind_of(path).ok_or(io::ErrorKind::InvalidInput)?;
        let (size, record) = (files.size(path)?, (labels.len() + 3 * PIXELS) as u64);
        if size == 0 || size % record != 0 {
            let text = format!(
                "by its name it is one of CIFAR's binary files, but its {size} bytes are no number of records of {record} \
                 bytes: it is cut, or something else"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let column = |(name, names): &(&str, &str)| -> io::Result<SampleColumn> {
            let path = path.with_file_name(names);
            let kind = match files.is_file(&path) {
                true => ColumnKind::Classes(lines(&files.read(&path)?)),
                false => ColumnKind::Plain,
            };
            Ok(SampleColumn { name: (*name).to_owned(), kind })
        };
        let columns = labels.iter().map(column).collect::<io::Result<_>>()?;
        Ok(CifarFile { files, path: path.to_owned(), name, split, columns, rows: size / record })
    }

    fn record(&self) -> u64 {
        (self.columns.len() + 3 * PIXELS) as u64
    }
}

fn lines(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

impl Archive for CifarFile {
    fn contents(&self) -> io::Result<Contents> {
        let header = pnm_header(SIDE, SIDE, 3, 1).len() + 3 * PIXELS;
        let member = |row| Member { name: name_of(row, self.rows), size: Some(header as u64), bytes: None };
        let members = (0..self.rows).map(member).collect();
        Ok(Contents { kind: ArchiveKind::Samples, members, passed_over: Vec::new() })
    }

    fn kind(&self, name: &str) -> io::Result<Option<FileKind>> {
        Ok(row_of(name, self.rows).map(|_| FileKind::File))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let row = row_of(name, self.rows).ok_or(io::ErrorKind::NotFound)?;
        let labels = self.columns.len() as u64;
        let planes = self.files.read_range(&self.path, row * self.record() + labels, 3 * PIXELS as u64)?;
        let mut bytes = pnm_header(SIDE, SIDE, 3, 1);
        bytes.extend((0..PIXELS).flat_map(|at| [planes[at], planes[PIXELS + at], planes[2 * PIXELS + at]]));
        Ok(bytes)
    }

    fn read_range(&self, name: &str, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        range_of(self.read(name)?, offset, length)
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        row_of(name, self.rows).ok_or(io::ErrorKind::NotFound)?;
        Ok((pnm_header(SIDE, SIDE, 3, 1).len() + 3 * PIXELS) as u64)
    }

    fn samples(self: Arc<Self>) -> Vec<Arc<dyn Samples>> {
        vec![self]
    }
}

impl Samples for CifarFile {
    fn source(&self) -> &'static str {
        CIFAR
    }

    fn split(&self) -> &str {
        self.split
    }

    fn count(&self) -> usize {
        self.rows as usize
    }

    fn paths(&self) -> io::Result<Vec<String>> {
        Ok((0..self.rows).map(|row| format!("{}/{}", self.name, name_of(row, self.rows))).collect())
    }

    fn read_with(&self) -> Vec<String> {
        let labels = kind_of(&self.path).map_or(&[][..], |(labels, _)| labels);
        let named = labels.iter().zip(&self.columns).filter(|(_, column)| column.kind != ColumnKind::Plain);
        named.map(|((_, names), _)| (*names).to_owned()).collect()
    }

    fn columns(&self) -> &[SampleColumn] {
        &self.columns
    }

    fn fields(&self, at: usize) -> io::Result<Vec<String>> {
        let (mut fields, record) = (Vec::new(), self.record());
        for first in (0..self.rows).step_by(AT_ONCE as usize) {
            let count = AT_ONCE.min(self.rows - first);
            let bytes = self.files.read_range(&self.path, first * record, count * record)?;
            fields.extend(bytes.chunks_exact(record as usize).map(|record| record[at].to_string()));
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::Disk;

    fn open(path: &Path) -> io::Result<Arc<CifarFile>> {
        CifarFile::open(Arc::new(Disk), path).map(Arc::new)
    }

    /// A file of records: labels, then planes of 10, 20 and 30.
    fn written(root: &Path, name: &str, labels: &[&[u8]]) -> PathBuf {
        let planes = [[10; PIXELS], [20; PIXELS], [30; PIXELS]].concat();
        let records: Vec<u8> = labels.iter().flat_map(|labels| [labels, &planes[..]].concat()).collect();
        let path = root.join(name);
        fs::write(&path, records).unwrap();
        path
    }

    #[test]
    fn records_are_pictures_with_named_labels() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("batches.meta.txt"), "airplane\r\nbird\n\n").unwrap();
        let file = open(&written(root.path(), "data_batch_2.bin", &[&[1], &[0], &[9]])).unwrap();
        assert_eq!(
            (file.split(), file.count(), file.fields(0).unwrap()),
            ("train", 3, vec!["1".into(), "0".into(), "9".into()])
        );
        let classes = ColumnKind::Classes(vec!["airplane".to_owned(), "bird".to_owned()]);
        assert_eq!(file.columns(), [SampleColumn { name: "label".to_owned(), kind: classes }]);
        assert_eq!(file.read_with(), ["batches.meta.txt"]);
        let picture = file.read("000002").unwrap();
        assert!(picture.starts_with(b"P6\n32 32\n255\n\x0a\x14\x1e\x0a"));
        assert_eq!(file.size("000002").unwrap(), picture.len() as u64);
        assert_eq!(file.read("000003").unwrap_err().kind(), io::ErrorKind::NotFound);
        let paths = file.paths().unwrap();
        assert_eq!((paths.len(), paths[1].as_str()), (3, "data_batch_2.bin/000001"));
    }

    #[test]
    fn the_hundred_classes_have_two_labels() {
        let root = tempfile::tempdir().unwrap();
        let file = open(&written(root.path(), "test.bin", &[&[3, 50], &[4, 60]])).unwrap();
        let names: Vec<&str> = file.columns().iter().map(|column| column.name.as_str()).collect();
        assert_eq!((file.split(), names), ("test", vec!["coarse_label", "fine_label"]));
        assert_eq!([file.fields(0).unwrap().concat(), file.fields(1).unwrap().concat()], ["34", "5060"]);
    }

    #[test]
    fn a_file_of_another_size_is_refused() {
        let root = tempfile::tempdir().unwrap();
        for (name, bytes) in [("data_batch_1.bin", 3074), ("train.bin", 3073), ("test_batch.bin", 0)] {
            let path = root.path().join(name);
            fs::write(&path, vec![0; bytes]).unwrap();
            let text = open(&path).unwrap_err().to_string();
            assert!(text.contains("no number of records"), "{text}");
        }
        assert!(!is_cifar(Path::new("data_batch_x.bin")) && !is_cifar(Path::new("weights.bin")));
    }
}
