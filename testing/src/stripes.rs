//! A data set small enough to be made anew for every test.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use convoy_common::file_tree::Files;
use convoy_common::manifest::{FileEntry, Label, LabelKind, Manifest, Sample, Split};
use convoy_common::plan::DataFacts;
use convoy_common::{Digest, Plan};

use crate::plans::{facts, plan_of};

/// Height and width of each image.
const SIDE: u32 = 8;
/// Classes: stripes upright, stripes level, and the diagonal.
const CLASSES: u32 = 3;

/// Grey images of 8x8 in three classes, `0` to `2`, as IDX files under MNIST's names. The pixels are a
/// function of the image's number alone.
///
/// # Examples
/// ```
/// use convoy_testing::Stripes;
///
/// let stripes = Stripes { train: 12, validation: 4 };
/// assert_eq!(stripes.manifest("digits").train.samples.len(), 12);
/// assert_eq!(stripes.files("digits").len(), 4);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Stripes {
    /// Images to train on.
    pub train: u32,
    /// Images to validate with.
    pub validation: u32,
}

impl Stripes {
    /// Writes the four files to `folder`, which is made.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("the folder can be made");
        for (name, bytes) in self.parts().into_iter().flatten() {
            fs::write(folder.join(name), bytes).expect("the folder is writable");
        }
    }

    /// The same files in memory, below `root`.
    pub fn files(&self, root: &str) -> MemoryFiles {
        let files = self.parts().into_iter().flatten();
        MemoryFiles(files.map(|(name, bytes)| (Path::new(root).join(name), bytes)).collect())
    }

    /// The manifest of the files, as a scan of `root` makes it.
    pub fn manifest(&self, root: &str) -> Manifest {
        let [train, validation] = self.parts().map(|files| {
            let count = files[1].1.len() as u32 - LABELS_HEADER;
            let sample = |index| Sample { file: 0, index, label: Label::Class(class_of(index)), broken: None };
            Arc::new(Split {
                root: root.to_owned(),
                files: files.iter().map(|(path, bytes)| file_entry(path, bytes)).collect(),
                samples: (0..count).map(sample).collect(),
            })
        });
        let names = (0..CLASSES).map(|class| class.to_string()).collect();
        Manifest { names, labels: LabelKind::Class, train, validation }
    }

    /// The plan of `toml`, a spec without its `[data]`, for the files below `root`.
    ///
    /// # Panics
    /// When the spec is none, or does not fit the images.
    pub fn plan(&self, root: &str, toml: &str) -> Plan {
        let manifest = self.manifest(root);
        let facts = DataFacts {
            names: manifest.names.clone(),
            train_samples: self.train,
            validation_samples: self.validation,
            class_counts: manifest.class_counts(),
            manifest: manifest.digest(),
            ..facts([SIDE, SIDE, 1], CLASSES as usize)
        };
        plan_of(toml, &facts)
    }

    /// Name and bytes of images and labels, of both splits.
    fn parts(&self) -> [[(String, Vec<u8>); 2]; 2] {
        [("train", self.train), ("t10k", self.validation)].map(|(prefix, count)| {
            [
                (format!("{prefix}-images-idx3-ubyte"), images(count)),
                (format!("{prefix}-labels-idx1-ubyte"), labels(count)),
            ]
        })
    }
}

/// Bytes before the labels of a labels file.
const LABELS_HEADER: u32 = 8;

fn class_of(index: u32) -> u32 {
    (index * 7 + index / 5) % CLASSES
}

fn images(count: u32) -> Vec<u8> {
    let mut bytes = [0x0803u32, count, SIDE, SIDE].map(u32::to_be_bytes).concat();
    for index in 0..count {
        for pixel in 0..SIDE * SIDE {
            let (row, column) = (pixel / SIDE, pixel % SIDE);
            let stripe = match class_of(index) {
                0 => column < 3,
                1 => row < 3,
                _ => column == row,
            };
            let noise = (index * 31 + pixel * 17 + index * pixel) % 97;
            bytes.push((noise + if stripe { 150 } else { 0 }) as u8);
        }
    }
    bytes
}

fn labels(count: u32) -> Vec<u8> {
    let mut bytes = [0x0801u32, count].map(u32::to_be_bytes).concat();
    bytes.extend((0..count).map(|index| class_of(index) as u8));
    bytes
}

/// Files that lie in memory, by path.
#[derive(Debug, Clone, Default)]
pub struct MemoryFiles(pub BTreeMap<PathBuf, Vec<u8>>);

impl MemoryFiles {
    /// How many files there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Files for MemoryFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn file_entry<'a>(path: &'a str, bytes: &[u8]) -> FileEntry<'a> {
    FileEntry { path, size: bytes.len() as u64, blake3: Digest::of(bytes) }
}
