//! Which files are pictures: by name where a folder is listed, by their first bytes where one is read.

pub(crate) mod bmp;
pub(crate) mod depth16;
pub(crate) mod gif;
mod palette;
pub(crate) mod pnm;
mod stored;
#[cfg(test)]
mod tests;
pub(crate) mod tiff;
pub(crate) mod webp;

pub(crate) use stored::Stored;

use std::io::ErrorKind;
use std::path::Path;

use convoy_common::file_tree::Files;

/// The kind of a picture's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Jpeg,
    Png,
    WebP,
    Bmp,
    Gif,
    Tiff,
    Pnm,
}

impl Format {
    /// What a file is, as its first bytes say, whatever its name ends in.
    pub(crate) fn of(bytes: &[u8]) -> Option<Format> {
        let starts = |magic: &[u8]| bytes.starts_with(magic);
        Some(match bytes {
            _ if starts(&[0xFF, 0xD8, 0xFF]) => Format::Jpeg,
            _ if starts(b"\x89PNG\r\n\x1a\n") => Format::Png,
            _ if starts(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") => Format::WebP,
            _ if starts(b"GIF87a") || starts(b"GIF89a") => Format::Gif,
            _ if starts(b"II*\0") || starts(b"MM\0*") => Format::Tiff,
            // Two letters may begin a text; the length of the second header is one of few.
            _ if starts(b"BM")
                && bmp::HEADERS.iter().any(|length| bytes.get(14..18) == Some(&length.to_le_bytes())) =>
            {
                Format::Bmp
            }
            _ if pnm::is_pnm(bytes) => Format::Pnm,
            _ => return None,
        })
    }
}

/// The endings of names that [`is_picture_name`] knows.
const ENDINGS: [&str; 14] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "dib", "gif", "tif", "tiff", "pgm", "ppm", "pnm"];

/// The endings of names of files that are something else, and not looked into.
const OTHERS: [&str; 67] = [
    "7z",
    "avi",
    "bz2",
    "c",
    "cfg",
    "conf",
    "cpp",
    "csv",
    "db",
    "doc",
    "docx",
    "gz",
    "h",
    "h5",
    "hdf5",
    "htm",
    "html",
    "ini",
    "ipynb",
    "java",
    "js",
    "json",
    "jsonl",
    "lock",
    "log",
    "m",
    "mat",
    "md",
    "mkv",
    "mov",
    "mp3",
    "mp4",
    "npy",
    "npz",
    "onnx",
    "parquet",
    "pdf",
    "pickle",
    "pkl",
    "ppt",
    "pptx",
    "pt",
    "pth",
    "py",
    "pyc",
    "r",
    "rar",
    "rs",
    "rst",
    "safetensors",
    "sh",
    "sqlite",
    "svg",
    "tar",
    "tex",
    "tgz",
    "toml",
    "tsv",
    "txt",
    "wav",
    "webm",
    "xls",
    "xlsx",
    "xml",
    "yaml",
    "yml",
    "zip",
];

/// As many first bytes as [`Format::of`] needs.
const FIRST: u64 = 18;

fn ends_in(path: &Path, known: &[&str]) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    known.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Whether a name ends as those of pictures do, in any case.
pub(crate) fn is_picture_name(path: &Path) -> bool {
    ends_in(path, &ENDINGS)
}

/// Whether a file of a folder is taken for a picture: by its name where that ends as names of pictures or of other
/// things do, else by its first bytes. One that cannot be read may be one.
pub(crate) fn is_picture(files: &dyn Files, path: &Path) -> bool {
    if is_picture_name(path) || ends_in(path, &OTHERS) {
        return is_picture_name(path);
    }
    match files.read_range(path, 0, FIRST) {
        Ok(first) => Format::of(&first).is_some(),
        Err(error) => error.kind() != ErrorKind::UnexpectedEof,
    }
}

/// A guess at the format of a file that is no picture we read.
pub(crate) fn looks_like(bytes: &[u8]) -> &'static str {
    let known: [(&[u8], &str); 9] = [
        (b"II+\0", "is a BigTIFF; save it as a classic TIFF"),
        (b"MM\0+", "is a BigTIFF; save it as a classic TIFF"),
        (b"BM", "begins like a BMP, but its header is none"),
        (b"P4", "is a PBM; convert it to PGM"),
        (b"P7", "is a PAM; convert it to PPM"),
        (b"%PDF", "is a PDF"),
        (b"PK\x03\x04", "is a ZIP archive"),
        (b"\xFF\x0A", "is a JPEG XL; convert it to PNG"),
        (b"\0\0\0\x0CjP  ", "is a JPEG 2000; convert it to PNG"),
    ];
    if bytes.is_empty() {
        return "is empty";
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        return "is a HEIC, AVIF or video file; convert it to JPEG";
    }
    let start = &bytes[..bytes.len().min(512)];
    let is_text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7E);
    if start.iter().all(is_text) {
        return "looks like text";
    }
    known.iter().find(|(magic, _)| bytes.starts_with(magic)).map_or("has other first bytes", |(_, looks)| looks)
}
