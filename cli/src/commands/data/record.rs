//! `convoy data record`: class folders filled from a camera.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use convoy_common::spec::Data;
use convoy_vision::{Limits, decode};

use crate::camera::{CameraSource, Frame, Pace, Seen, watch};
use crate::error::CliError;
use crate::{out, runtime};

/// Fill a class folder with pictures of a camera, for training: DIR/NAME/000001.jpg and so on.
///
/// Pictures are written as they came, once it is sure that they can be decoded. Nothing is overwritten: a later
/// recording goes on with the next number. Ctrl-C ends it; what was recorded stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    convoy data record --camera http://192.0.2.7:8080/video --label cat --out photos --every 0.5s --count 200\n  \
    ffmpeg -loglevel error -f v4l2 -i /dev/video0 -f image2pipe -c:v mjpeg -q:v 2 - \\\n    \
    | convoy data record --camera - --label empty --out photos --every 1s --count 100\n  convoy train photos")]
pub struct RecordArgs {
    /// An MJPEG stream at http://[USER:PASSWORD@]HOST[:PORT]/PATH, or `-` for JPEG pictures on standard input, as
    /// ffmpeg makes them of anything else.
    #[arg(long, value_name = "SOURCE")]
    camera: CameraSource,
    /// What the pictures show: the name of a class, and of a folder.
    #[arg(long, value_name = "NAME", value_parser = label)]
    label: String,
    /// Where the class folders are.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    pace: Pace,
    /// Print a JSON object for each picture, one on each line.
    #[arg(long)]
    json: bool,
}

/// A name that a folder can have, and that training does not leave out.
fn label(text: &str) -> Result<String, String> {
    let odd = |c: char| c == '/' || c == '\\' || c.is_control();
    if text.is_empty() || text.starts_with('.') || text.trim() != text || text.contains(odd) || text.len() > 200 {
        return Err("a label is the name of a folder: no slash, no dot or blank at its start, 200 bytes at most".into());
    }
    Ok(text.to_owned())
}

/// Records until there are enough pictures, the camera has no more or somebody asks to stop.
///
/// # Errors
/// When the camera gives none, or a picture cannot be written.
pub fn run(args: &RecordArgs) -> Result<ExitCode, CliError> {
    let folder = args.out.join(&args.label);
    fs::create_dir_all(&folder).map_err(|source| CliError::Io { path: folder.clone(), source })?;
    let limits = Limits::from(&Data::at(folder.to_string_lossy()));
    let mut next = highest_number(&folder)? + 1;
    let look = |frame: &Frame, _: &_| {
        if let Err(error) = decode(&frame.bytes, &limits) {
            out::note(format_args!("frame {}: {error}", frame.number));
            return Ok(Seen::Broken);
        }
        let path = write_new(&folder, &mut next, &frame.bytes)?;
        let (at, bytes) = (frame.at.as_secs_f64(), frame.bytes.len());
        match args.json {
            true => out::json(&serde_json::json!({
                "path": path, "label": args.label, "frame": frame.number, "seconds": at, "bytes": bytes
            }))?,
            false => out::line(path.display())?,
        }
        Ok(Seen::Good)
    };
    runtime::serve("ending; press Ctrl-C again to leave at once", async |stop| {
        let (tally, result) = watch(&args.camera, &args.pace, &stop, look);
        if tally.any() {
            out::note(format_args!("{}: {tally}; they are in {}", args.camera, folder.display()));
        }
        result.map(|()| ExitCode::from(stop.exit_code()))
    })
}

/// The highest number that a picture in the folder has as its name; 0 when there is none.
fn highest_number(folder: &Path) -> Result<u64, CliError> {
    let fail = |source| CliError::Io { path: folder.to_owned(), source };
    let mut highest = 0;
    for entry in fs::read_dir(folder).map_err(fail)? {
        let path = PathBuf::from(entry.map_err(fail)?.file_name());
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u32>().ok());
        highest = highest.max(number.map_or(0, u64::from));
    }
    Ok(highest)
}

/// Writes a file that was not there before, under the next number that is free.
fn write_new(folder: &Path, next: &mut u64, bytes: &[u8]) -> Result<PathBuf, CliError> {
    loop {
        let path = folder.join(format!("{:06}.jpg", *next));
        *next += 1;
        let created = OpenOptions::new().write(true).create_new(true).open(&path);
        let written = match created {
            Ok(mut file) => file.write_all(bytes).inspect_err(|_| _ = fs::remove_file(&path)),
            // Somebody else records here, too.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            Err(error) => Err(error),
        };
        return written.map(|()| path.clone()).map_err(|source| CliError::Io { path, source });
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind as Mistake;

    use super::*;
    use crate::typed::{mistyped, typed};

    const CAMERA: [&str; 6] = ["--camera", "-", "--label", "cat", "--out", "photos"];

    #[test]
    fn a_recording_has_camera_label_and_folder() {
        let args: RecordArgs = typed(&[&CAMERA[..], &["--every", "0.5s", "--count", "3"]].concat()).unwrap();
        assert_eq!((args.pace.every.map(|every| every.as_millis()), args.pace.count), (Some(500), Some(3)));
        assert_eq!(mistyped::<RecordArgs>(&CAMERA[..4]), Mistake::MissingRequiredArgument);
        for wrong in [["--count", "0"], ["--every", "0s"], ["--label", "a/b"], ["--label", ".x"], ["--camera", "0"]] {
            let words = [&CAMERA.map(|word| if word == wrong[0] { "--json" } else { word })[..], &wrong].concat();
            let kind = mistyped::<RecordArgs>(&words);
            assert!(matches!(kind, Mistake::ValueValidation | Mistake::UnknownArgument), "{words:?}: {kind:?}");
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("000007.png"), "theirs").unwrap();
        fs::write(path("notes.txt"), "theirs").unwrap();
        let mut next = highest_number(folder.path()).unwrap() + 1;
        assert_eq!(next, 8);
        fs::write(path("000008.jpg"), "theirs").unwrap();
        assert_eq!(write_new(folder.path(), &mut next, b"ours").unwrap(), path("000009.jpg"));
        assert_eq!((next, fs::read(path("000008.jpg")).unwrap()), (10, b"theirs".to_vec()));
        let error = write_new(&path("nowhere"), &mut next, b"ours").unwrap_err();
        assert_eq!(error.exit_code(), 3);
    }
}
