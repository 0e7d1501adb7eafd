//! What `--camera` names.

use std::fmt;
use std::str::FromStr;

use super::address::HttpAddress;

/// Where pictures come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CameraSource {
    /// `-`: JPEG files one after the other.
    StandardInput,
    /// An MJPEG stream over HTTP.
    Http(HttpAddress),
}

impl FromStr for CameraSource {
    type Err = String;

    /// # Errors
    /// How `text` is made into one, where it is no source: by ffmpeg, with its command line.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Ok(CameraSource::StandardInput);
        }
        if let Some(rest) = strip_prefix_of_any_case(text, "http://") {
            return HttpAddress::parse(rest).map(CameraSource::Http);
        }
        let device = match text.parse::<u16>() {
            Ok(number) => Some(format!("/dev/video{number}")),
            Err(_) => Some(text.to_owned()).filter(|text| text.starts_with("/dev/")),
        };
        if let Some(device) = device {
            return Err(format!("a device of this machine is read through ffmpeg: {}", piped("-f v4l2", &device)));
        }
        let through = |how: &str| Err(format!("{how} is read through ffmpeg: {}", piped("", text)));
        match text.split_once("://") {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => through("an encrypted camera"),
            Some((scheme, _)) => through(&format!("a camera of {scheme}://")),
            None if std::path::Path::new(text).exists() => {
                let file = piped("-re", text);
                Err(format!("a file is read through ffmpeg: {file} (without -re, and with --no-drop: every picture)"))
            }
            None => Err("it is neither `-` for standard input nor an address http://HOST:PORT/PATH".to_owned()),
        }
    }
}

impl fmt::Display for CameraSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CameraSource::StandardInput => f.write_str("standard input"),
            CameraSource::Http(address) => address.fmt(f),
        }
    }
}

/// The command line that makes a stream of `input` for standard input.
fn piped(options: &str, input: &str) -> String {
    let space = if options.is_empty() { "" } else { " " };
    let plain = |c: char| c.is_ascii_alphanumeric() || "/:._-".contains(c);
    let input = if input.chars().all(plain) { input.to_owned() } else { format!("'{}'", input.replace('\'', "'\\''")) };
    format!(
        "ffmpeg -loglevel error {options}{space}-i {input} -f image2pipe -c:v mjpeg -q:v 2 - | convoy ... --camera -"
    )
}

fn strip_prefix_of_any_case<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let error = text.parse::<CameraSource>().unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn streams_are_taken() {
        assert_eq!("-".parse(), Ok(CameraSource::StandardInput));
        let camera: CameraSource = "HTTP://me:secret@cam:81/video".parse().unwrap();
        assert_eq!(camera.to_string(), "http://cam:81/video");
    }

    #[test]
    fn everything_else_is_read_through_ffmpeg() {
        check(
            "/dev/video0",
            "ffmpeg -loglevel error -f v4l2 -i /dev/video0 -f image2pipe -c:v mjpeg -q:v 2 - | convoy",
        );
        check("2", "-f v4l2 -i /dev/video2 ");
        check("rtsp://me:it's@cam/1?a&b", "-i 'rtsp://me:it'\\''s@cam/1?a&b' -f image2pipe");
        check("https://cam/video", "an encrypted camera is read through ffmpeg: ffmpeg -loglevel error -i https://cam");
        check(file!(), "neither `-`");
        check("Cargo.toml", "-re -i Cargo.toml -f image2pipe");
        check("http:/cam", "neither `-`");
        check("http://cam:x", "`x` is no port");
    }
}
