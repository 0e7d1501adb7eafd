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

use std::path::Path;

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

/// Whether a file of a folder is looked at: by the ending of its name, in any case. What it is, its bytes say.
pub(crate) fn is_picture_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ENDINGS.iter().any(|known| extension.eq_ignore_ascii_case(known))
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
