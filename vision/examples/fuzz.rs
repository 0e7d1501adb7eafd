//! Damages pictures at random and decodes them: no panic may be caught, no file may take long or much memory, a window
//! of a JPEG must be a window of the whole, and the same bytes must get the same answer.
//!
//!     cargo run -p convoy-vision --example fuzz -- SECONDS SEED FOLDER... [CASE]
//!
//! A case follows from the seed and its number alone. With the number of a case at the end, that one is done, and its
//! bytes are written to `fuzz-case`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use convoy_files::Disk;
use convoy_vision::{Baseline, DecodeError, Limits, Window, decode, decode_in, image_files};

const LIMITS: Limits = Limits { max_side: 4096, max_pixels: 1 << 22 };
/// Most memory of the process, in KiB: the pixels that the limits allow take 12 MiB, in numbers of 16 bits 24, with
/// planes and tables a few times as much.
const MEMORY: u64 = 256 << 10;
const SLOW: Duration = Duration::from_secs(1);

/// Random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count.max(1) as u64) as usize
    }
}

/// A damaged file: which one it was, and its bytes.
fn damaged(files: &[(PathBuf, Vec<u8>)], random: &mut Random) -> (PathBuf, Vec<u8>) {
    let (path, bytes) = &files[random.below(files.len())];
    let mut bytes = bytes.clone();
    for _ in 0..=random.below(6) {
        // Headers decide more than pixels do.
        let reach = if random.below(3) > 0 { bytes.len().min(700) } else { bytes.len() };
        let at = random.below(reach);
        let length = (1 + random.below(40)).min(bytes.len() - at);
        match random.below(9) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..at + length)),
            2 => {
                let copy = bytes[at..at + length].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            3 => {
                let other = &files[random.below(files.len())].1;
                bytes.truncate(at);
                bytes.extend(&other[random.below(other.len())..]);
            }
            4 => bytes[at..at + length].fill([0, 0xFF][random.below(2)]),
            kind => {
                let value = [0, 1, 0x7F, 0x80, 0xFF, random.next() as u8, random.next() as u8][random.below(7)];
                bytes[at] = if kind == 5 { bytes[at] ^ (1 << random.below(8)) } else { value };
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    if bytes.starts_with(b"\x89PNG") && random.below(8) > 0 {
        mend_checksums(&mut bytes);
    }
    (path.clone(), bytes)
}

/// Gives each chunk of a PNG the checksum that it should have, so that damage gets beyond it.
fn mend_checksums(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(&[a, b, c, d]) = bytes.get(at..at + 4) {
        let end = at + 8 + u32::from_be_bytes([a, b, c, d]) as usize;
        if bytes.len() < end + 4 {
            return;
        }
        let mut crc = u32::MAX;
        for byte in &bytes[at + 4..end] {
            crc ^= u32::from(*byte);
            (0..8).for_each(|_| crc = (crc >> 1) ^ (0xEDB8_8320 * (crc & 1)));
        }
        bytes[end..end + 4].copy_from_slice(&(!crc).to_be_bytes());
        at = end + 4;
    }
}

/// What is wrong with how `bytes` are decoded, and whether they are a picture.
fn trouble(bytes: &[u8], random: &mut Random) -> (Option<String>, bool) {
    let begun = Instant::now();
    let found = decode_in(bytes, &LIMITS, Some([100, 20_000]));
    let mut took = begun.elapsed();
    if took > SLOW {
        // Somebody else may have had the processor.
        let begun = Instant::now();
        _ = decode(bytes, &LIMITS);
        took = took.min(begun.elapsed());
    }
    let what = match &found {
        Err(DecodeError::Panic { reason }) => Some(format!("panics: {reason}")),
        _ if took > SLOW => Some(format!("takes {took:?}")),
        _ if memory() > MEMORY => Some(format!("takes {} KiB", memory())),
        _ if random.below(16) == 0 && decode_in(bytes, &LIMITS, Some([100, 20_000])) != found => {
            Some("gets two answers".to_owned())
        }
        _ => of_window(bytes, random),
    };
    (what, found.is_ok())
}

fn of_window(bytes: &[u8], random: &mut Random) -> Option<String> {
    let file = Baseline::open(bytes.to_vec(), &LIMITS).ok()?;
    let (width, height) = file.size();
    let (x, y) = (random.below(width as usize) as u32, random.below(height as usize) as u32);
    let (right, below) = (random.below((width - x) as usize) as u32, random.below((height - y) as usize) as u32);
    let window = Window { x, y, width: 1 + right, height: 1 + below };
    let part = file.window(window);
    let whole = decode(bytes, &LIMITS).ok()?.pixels.crop(window);
    (part != Some(whole)).then(|| format!("has another window {window:?} than the whole"))
}

/// The most memory that the process has had, in KiB; 0 where the system does not tell.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn main() -> ExitCode {
    let mut given: Vec<String> = std::env::args().skip(1).collect();
    let only: Option<u64> = given.last().and_then(|last| last.parse().ok()).filter(|_| given.len() > 3);
    given.truncate(given.len() - usize::from(only.is_some()));
    let [seconds, seed, folders @ ..] = given.as_slice() else {
        eprintln!("usage: fuzz SECONDS SEED FOLDER... [CASE]");
        return ExitCode::from(2);
    };
    let (Ok(seconds), Ok(seed)) = (seconds.parse(), seed.parse::<u64>()) else {
        eprintln!("SECONDS and SEED are numbers");
        return ExitCode::from(2);
    };
    let of_folder = |folder: &String| image_files(&Disk, Path::new(folder)).expect("a folder that can be read").0;
    let read = |path: PathBuf| std::fs::read(&path).map(|bytes| (path, bytes));
    let files: Result<Vec<_>, _> = folders.iter().flat_map(of_folder).map(read).collect();
    let files: Vec<_> = files.expect("files that can be read").into_iter().filter(|file| !file.1.is_empty()).collect();
    println!("seed {seed}, {} files", files.len());
    // What is caught is counted, not printed.
    std::panic::set_hook(Box::new(|_| {}));
    let (begun, mut good, mut bad, mut case) = (Instant::now(), 0, 0, only.unwrap_or(0));
    while !files.is_empty() && begun.elapsed() < Duration::from_secs(seconds) {
        let mut random = Random(seed ^ case.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        let (path, bytes) = damaged(&files, &mut random);
        let (what, is_picture) = trouble(&bytes, &mut random);
        good += u64::from(is_picture);
        if let Some(what) = what {
            bad += 1;
            println!("case {case}, of {}: {what}", path.display());
        }
        case += 1;
        if only.is_some() {
            std::fs::write("fuzz-case", &bytes).expect("the folder is writable");
            break;
        }
        if memory() > MEMORY {
            break;
        }
    }
    println!("{case} cases, {good} of them pictures still, {bad} in trouble; {} MiB at most", memory() >> 10);
    ExitCode::from(u8::from(bad > 0 || files.is_empty()))
}
