//! Errors of scanning data and of loading samples.

use std::io;
use std::path::PathBuf;

use convoy_common::memory::OutOfMemory;

/// Why data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// Nothing is there.
    #[error("{key}: {} does not exist", .path.display())]
    Missing {
        /// Where something was looked for.
        path: PathBuf,
        /// The spec's key.
        key: &'static str,
    },
    /// A file takes more memory than there is for looking at it.
    #[error("{} cannot be looked at: {source}", .path.display())]
    NoMemory {
        /// Which.
        path: PathBuf,
        /// How much it takes, and how much there is.
        source: OutOfMemory,
    },
    /// A file or folder cannot be read.
    #[error("{} cannot be read: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file of no kind that is known.
    #[error(
        "{} is neither a .csv or .tsv table nor an IDX, .parquet or .npz file nor a tar archive; name a folder of class \
         folders, a table, an archive, or set data.format", .path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A folder that should hold class folders holds none with images.
    #[error(
        "no class folders in {}: found {found}; looked for folders of pictures (JPEG, PNG, WebP, BMP, GIF, TIFF \
         or PNM files), one for each class, or for `train` and `val`. Put each class's images into a folder of its own, or \
         list them in a CSV and name that in data.train", .path.display()
    )]
    NoClassFolders {
        /// The folder.
        path: PathBuf,
        /// The files and folders that it holds instead.
        found: String,
    },
    /// More than one folder or table could be the training or the validation data.
    #[error("{} holds {}; say which one with {key}", .path.display(), .names.join(" and "))]
    AmbiguousSplit {
        /// The folder.
        path: PathBuf,
        /// The candidates.
        names: Vec<String>,
        /// The key that says it.
        key: &'static str,
    },
    /// Classes without a usable training image, where the spec does not allow any.
    #[error(
        "{}: no usable picture of {}; add pictures or remove the class, or set data.empty_classes = \"ignore\" to go on \
         without", .path.display(), list_empty(.classes)
    )]
    EmptyClasses {
        /// The training data.
        path: PathBuf,
        /// Each class, and what there is instead of pictures.
        classes: Vec<(String, String)>,
    },
    /// Rows of a table, or samples, that make no sense.
    #[error("{}: {}", .path.display(), list_problems(.problems))]
    Problems {
        /// The table or folder.
        path: PathBuf,
        /// Each with its place and a remedy.
        problems: Vec<String>,
    },
    /// A table of which no file is there.
    #[error(
        "{}: none of its {total} files exists, for example {first}; paths start at {}. data.images names another folder, \
         data.moved where folders lie now, data.extension what the paths lack", .path.display(), .root.display()
    )]
    NoFiles {
        /// The table.
        path: PathBuf,
        /// Where its paths start.
        root: PathBuf,
        /// How many files it names.
        total: usize,
        /// The first of them.
        first: String,
    },
    /// A file that should be an archive and is none.
    #[error("{} is no tar archive, plain or compressed with gzip; its bytes say so", .path.display())]
    NoArchive {
        /// The file.
        path: PathBuf,
    },
    /// A folder that should hold archives and holds none.
    #[error(
        "no archives in {}: looked for files called .tar, .tar.gz or .tgz, in it or in its folders `train` and `val`",
        .path.display()
    )]
    NoArchives {
        /// The folder.
        path: PathBuf,
    },
    /// Archives without a sample.
    #[error(
        "{}: no sample in its archives: {held}. A sample is a picture and its label, for example 0001.jpg and 0001.cls, \
         or a picture in a folder called by its class", .path.display(),
        held = if .held.is_empty() { "they are empty" } else { .held }
    )]
    NoSamples {
        /// Where the archives are.
        path: PathBuf,
        /// What they hold instead.
        held: String,
    },
    /// Archives with a picture of which nothing tells the class.
    #[error(
        "{}: nothing tells the class of {first}: neither a file beside it, for example .cls, nor the folder that it \
         lies in", .path.display()
    )]
    NoLabels {
        /// Where the archives are.
        path: PathBuf,
        /// The picture.
        first: String,
    },
    /// A pattern with braces that cannot be one.
    #[error("{}: {problem}", .path.display())]
    Pattern {
        /// The pattern.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A link that leads to a folder above it.
    #[error("{} leads back to a folder that holds it; remove the link", .path.display())]
    Loop {
        /// The link.
        path: PathBuf,
    },
    /// A class folder whose name is not Unicode.
    #[error("{} is a class folder with a name that is not UTF-8; rename it", .path.display())]
    NotUtf8 {
        /// The folder.
        path: PathBuf,
    },
    /// A table that does not make sense.
    #[error("{}{}: {problem}", .path.display(), .line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Table {
        /// The table.
        path: PathBuf,
        /// The line, from 1, where there is one.
        line: Option<u64>,
        /// The error, naming the column, and a remedy.
        problem: String,
    },
    /// Files of pictures with labels that do not make sense.
    #[error("{}: {problem}", .path.display())]
    Samples {
        /// The file or folder.
        path: PathBuf,
        /// The error and a remedy.
        problem: String,
    },
    /// IDX files that do not make sense.
    #[error("{}: {problem}", .path.display())]
    Idx {
        /// The file.
        path: PathBuf,
        /// The error and a remedy.
        problem: String,
    },
    /// A validation sample of a class that training data does not have.
    #[error(
        "class `{class}` of {place} is not in the training data, whose classes are {}; \
         add it there, or remove it here", shortened(.known)
    )]
    UnknownClass {
        /// The class.
        class: String,
        /// File or line that has it.
        place: String,
        /// The classes of the training data.
        known: Vec<String>,
    },
    /// Broken images where the spec does not allow any.
    #[error(
        "{count} of {total} images cannot be used: {}; repair or remove them, or set data.bad_images = \
         \"quarantine\" to leave them out", list_broken(.first, *.count)
    )]
    Broken {
        /// How many.
        count: usize,
        /// Of how many.
        total: usize,
        /// The first few: path and reason.
        first: Vec<(String, String)>,
    },
    /// No image is left to train on.
    #[error("{}: none of its {total} images can be used, for example {}", .path.display(), list_broken(.first, *.total))]
    NothingUsable {
        /// The training data.
        path: PathBuf,
        /// How many images it has.
        total: usize,
        /// The first few: path and reason.
        first: Vec<(String, String)>,
    },
    /// More samples than an index can name.
    #[error("{}: {count} samples are more than {} and cannot be numbered", .path.display(), u32::MAX)]
    TooMany {
        /// The data.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// Images of several sizes where the spec leaves the size open.
    #[error(
        "prepare.size is \"auto\", but the images differ in size, from {smallest} to {largest} (width x height); \
         set prepare.size, for example to 224 for photographs or 32 for small pictures"
    )]
    SizesDiffer {
        /// The smallest by area.
        smallest: String,
        /// The largest by area.
        largest: String,
    },
    /// The images' common size is too large to be a network's input.
    #[error("prepare.size is \"auto\", but the images' own size of {width} x {height} is too large; set prepare.size")]
    SizeTooLarge {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// An image could not be loaded while statistics were measured.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Why a sample cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read; trying again later may help.
    #[error("{} cannot be read: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file has changed since the manifest was made.
    #[error(
        "{} has changed: it had {expected_size} bytes with digest {expected}, and now has {size} bytes with \
         digest {digest}; put the old file back, or start a new run", .path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// Bytes in the manifest.
        expected_size: u64,
        /// Digest in the manifest.
        expected: String,
        /// Bytes now.
        size: u64,
        /// Digest now.
        digest: String,
    },
    /// A sample that the manifest calls broken, or an IDX file whose contents do not fit the manifest.
    #[error("sample {sample} ({}) cannot be used: {reason}", .path.display())]
    Broken {
        /// Index in the split.
        sample: u32,
        /// Its file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is not enough memory for it.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// A sample that does not exist.
    #[error("there is no sample {sample}; the split has {count}")]
    NoSuchSample {
        /// Index asked for.
        sample: u32,
        /// Samples of the split.
        count: usize,
    },
    /// Preparing a batch failed in a way that it should not.
    #[error("preparing a batch failed: {reason}")]
    Panic {
        /// The message of the panic.
        reason: String,
    },
}

/// Up to a dozen names.
fn shortened(names: &[String]) -> String {
    let shown = names.iter().take(12).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > 12 { format!("{shown} and {} more", names.len() - 12) } else { shown }
}

fn list_empty(classes: &[(String, String)]) -> String {
    let named = |(class, what): &(String, String)| format!("class `{class}` ({what})");
    let shown = classes.iter().take(5).map(named).collect::<Vec<_>>().join(", ");
    if classes.len() > 5 { format!("{shown} and {} more", classes.len() - 5) } else { shown }
}

fn list_problems(problems: &[String]) -> String {
    let shown = problems.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
    if problems.len() > 5 { format!("{shown}; and {} more", problems.len() - 5) } else { shown }
}

fn list_broken(first: &[(String, String)], count: usize) -> String {
    let shown = first.iter().map(|(path, reason)| format!("{path} {reason}")).collect::<Vec<_>>().join("; ");
    if count > first.len() { format!("{shown}; and {} more", count - first.len()) } else { shown }
}
