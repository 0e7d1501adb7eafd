//! An array of pictures and the array of their labels.

use std::io;
use std::sync::Arc;

use convoy_common::samples::{ColumnKind, SampleColumn, Samples};

use super::super::rows::{name_of, pnm_header, row_of};
use super::array::{Element, wrong};
use super::zipped::ArrayFile;

/// The pairs of arrays that belong together among `names`: what the split is called, the pictures, the labels.
pub(super) fn pairs(names: &[&str]) -> Vec<(String, usize, usize)> {
    let find = |wanted: &str| names.iter().position(|name| *name == wanted);
    let mut found = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let split =
            name.strip_suffix("_images").or_else(|| name.strip_prefix("x_")).or_else(|| name.strip_prefix("X_"));
        let labels = match split {
            Some(split) => find(&format!("{split}_labels")).or_else(|| find(&format!("y_{split}"))),
            None if *name == "images" => find("labels").or_else(|| find("label")),
            None if *name == "x" || *name == "X" => find("y"),
            None => None,
        };
        found.extend(labels.map(|labels| (split.unwrap_or_default().to_owned(), at, labels)));
    }
    found
}

/// Pictures with labels.
#[derive(Debug)]
pub(super) struct Split {
    name: String,
    /// The file that all lies in.
    file: String,
    images: Arc<ArrayFile>,
    labels: Arc<ArrayFile>,
    columns: Vec<SampleColumn>,
    height: u64,
    width: u64,
    channels: u64,
}

/// Labels of a row at most: more columns are no labels.
const MOST_COLUMNS: u64 = 10_000;

impl Split {
    /// Checks that the arrays fit each other.
    ///
    /// # Errors
    /// When they are of another shape or type, or hold different numbers of rows.
    pub(super) fn new(name: String, file: &str, images: Arc<ArrayFile>, labels: Arc<ArrayFile>) -> io::Result<Split> {
        let shape = &images.header.shape;
        let fail = |text: String| Err(wrong(format!("array `{}` {text}", images.name)));
        let (count, height, width, channels) = match shape[..] {
            [count, height, width] => (count, height, width, 1),
            [count, height, width, channels @ (1 | 3)] => (count, height, width, channels),
            [_, channels @ (1 | 3), height, width] => {
                return fail(format!(
                    "has its channels before rows and columns ({channels} x {height} x {width}); save np.moveaxis(a, 1, -1)"
                ));
            }
            _ => {
                return fail(format!(
                    "is of shape {shape:?}; pictures are number x height x width, or with 1 or 3 channels behind"
                ));
            }
        };
        if !matches!(images.header.element, Element::Unsigned(1 | 2)) {
            return fail("holds no numbers of 8 or 16 bits without a sign (uint8, uint16)".to_owned());
        }
        let many = match labels.header.shape[..] {
            [rows] if rows == count => None,
            [rows, many @ 1..=MOST_COLUMNS] if rows == count => Some(many),
            _ => {
                return fail(format!(
                    "holds {count} pictures, but `{}` is of shape {:?}; it must have a row for each",
                    labels.name, labels.header.shape
                ));
            }
        };
        let columns = match many {
            None | Some(1) => vec!["label".to_owned()],
            Some(many) => {
                (0..many).map(|at| format!("label_{at:0width$}", width = (many - 1).to_string().len())).collect()
            }
        };
        let columns = columns.into_iter().map(|name| SampleColumn { name, kind: ColumnKind::Plain }).collect();
        Ok(Split { name, file: file.to_owned(), images, labels, columns, height, width, channels })
    }

    /// The name of the pictures' array.
    pub(super) fn images(&self) -> &str {
        &self.images.name
    }

    fn rows(&self) -> u64 {
        self.images.header.shape[0]
    }

    /// The row that a name below that of the array means.
    pub(super) fn row_of(&self, name: &str) -> Option<u64> {
        row_of(name, self.rows())
    }

    /// The names of all rows.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        (0..self.rows()).map(|row| format!("{}/{}", self.images.name, name_of(row, self.rows())))
    }

    fn header(&self) -> Vec<u8> {
        pnm_header(self.width, self.height, self.channels, self.images.header.element.size())
    }

    fn picture_bytes(&self) -> u64 {
        self.height * self.width * self.channels * self.images.header.element.size() as u64
    }

    /// The bytes of a picture's file.
    pub(super) fn picture_size(&self) -> u64 {
        self.header().len() as u64 + self.picture_bytes()
    }

    /// A picture as a PGM or PPM file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn picture(&self, row: u64) -> io::Result<Vec<u8>> {
        let length = self.picture_bytes();
        let mut pixels = self.images.read(row * length, length)?;
        // In the file of the picture the upper byte comes first.
        if self.images.header.element.size() == 2 && !self.images.header.big_endian {
            pixels.as_chunks_mut::<2>().0.iter_mut().for_each(|pair| pair.reverse());
        }
        let mut bytes = self.header();
        bytes.extend(pixels);
        Ok(bytes)
    }
}

impl Samples for Split {
    fn source(&self) -> &'static str {
        "npz"
    }

    fn split(&self) -> &str {
        &self.name
    }

    fn count(&self) -> usize {
        self.rows() as usize
    }

    fn paths(&self) -> io::Result<Vec<String>> {
        Ok(self.names().map(|name| format!("{}/{name}", self.file)).collect())
    }

    fn columns(&self) -> &[SampleColumn] {
        &self.columns
    }

    fn fields(&self, at: usize) -> io::Result<Vec<String>> {
        let element = self.labels.header.element.size();
        let bytes = self.labels.read_all()?;
        let rows = bytes.chunks_exact((element * self.columns.len()).max(1));
        Ok(rows.map(|row| self.labels.header.text(&row[at * element..][..element])).collect())
    }
}
