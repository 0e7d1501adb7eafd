//! What a stream seems to be, by its first bytes, for whoever sent the wrong one.

use std::fmt::Write;

/// How many first bytes tell.
pub const OPENING: usize = 512;

/// Words for a stream that begins with `bytes` and has no JPEG pictures.
pub fn words_for(bytes: &[u8]) -> String {
    let known: [(&[u8], &str); 8] = [
        (b"\x89PNG", "PNG pictures; have ffmpeg send JPEG (-f image2pipe -c:v mjpeg)"),
        (b"\x00\x00\x00\x01", "H.264 or H.265 video; have ffmpeg send JPEG (-f image2pipe -c:v mjpeg)"),
        (b"\x00\x00\x01", "MPEG video; have ffmpeg send JPEG (-f image2pipe -c:v mjpeg)"),
        (b"\x1A\x45\xDF\xA3", "a Matroska or WebM file; have ffmpeg send JPEG (-f image2pipe -c:v mjpeg)"),
        (b"RIFF", "an AVI, WAV or WebP file; have ffmpeg send JPEG (-f image2pipe -c:v mjpeg)"),
        (b"YUV4MPEG2", "raw video; have ffmpeg send JPEG (-f image2pipe -c:v mjpeg)"),
        (b"GIF8", "a GIF; have ffmpeg send JPEG (-f image2pipe -c:v mjpeg)"),
        (b"BM", "BMP pictures; have ffmpeg send JPEG (-f image2pipe -c:v mjpeg)"),
    ];
    if bytes.is_empty() {
        return "nothing came".to_owned();
    }
    if let Some((_, words)) = known.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return format!("what came looks like {words}");
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        return "what came looks like an MP4 file; have ffmpeg send JPEG (-f image2pipe -c:v mjpeg)".to_owned();
    }
    if bytes[0] == 0x47 && bytes.get(188) == Some(&0x47) {
        return "what came looks like an MPEG transport stream; have ffmpeg send JPEG (-f image2pipe -c:v mjpeg)"
            .to_owned();
    }
    if is_page(bytes) {
        return "what came is a web page (HTML); look in it, or in the camera's manual, for the address of the MJPEG \
                stream itself"
            .to_owned();
    }
    let start = &bytes[..bytes.len().min(60)];
    if start.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7E)) {
        return format!("what came is text: {:?}", String::from_utf8_lossy(start));
    }
    let mut hex = String::new();
    start.iter().take(12).for_each(|byte| write!(hex, " {byte:02x}").expect("a string takes all"));
    format!("what came begins with the bytes{hex}")
}

fn is_page(bytes: &[u8]) -> bool {
    let start = bytes[..bytes.len().min(OPENING)].to_ascii_lowercase();
    let text = start.trim_ascii_start();
    [&b"<!doctype"[..], b"<html", b"<head", b"<?xml", b"<!--"].iter().any(|tag| text.starts_with(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &str) {
        let words = words_for(bytes);
        assert!(words.contains(expected), "{words}");
    }

    #[test]
    fn what_came_is_named() {
        check(b"", "nothing came");
        check(b"\r\n <!DOCTYPE html><title>x", "a web page (HTML)");
        check(b"\x89PNG\r\n\x1a\n", "PNG pictures; have ffmpeg send JPEG");
        check(b"\0\0\0\x20ftypisom", "an MP4 file");
        check(b"\0\0\0\x01\x67", "H.264");
        check(b"no such camera\n", "is text: \"no such camera\\n\"");
        check(&[1, 2, 0xFE], "begins with the bytes 01 02 fe");
        check(&[&[0x47; 189][..]].concat(), "transport stream");
    }
}
