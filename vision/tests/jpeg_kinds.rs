//! JPEG files of every kind against Pillow: component ids, markers of JFIF and Adobe, samplings, one scan or several,
//! progressive, restart markers, grey, CMYK and YCCK, cut off, and with bytes that do not belong there.
//!
//! `tests/reference/jpeg_kinds.py` at the root of the repository makes the values; it says what names of variants mean.

use std::collections::BTreeMap;

use convoy_vision::{Baseline, DecodeError, Limits, Pixels, Window, decode};
use serde::Deserialize;

const LIMITS: Limits = Limits { max_side: 100, max_pixels: 10_000 };
const PIXELS: [(u32, u32); 4] = [(0, 0), (21, 11), (33, 6), (42, 28)];

#[derive(Deserialize)]
struct Reference {
    files: BTreeMap<String, String>,
    answers: BTreeMap<String, BTreeMap<String, String>>,
}

/// A variant of a file, and what Pillow says of it.
struct Variant {
    name: String,
    damage: String,
    bytes: Vec<u8>,
    pillow: Option<Answer>,
}

impl Variant {
    fn is_cut(&self) -> bool {
        self.damage.starts_with("cut")
    }
}

struct Answer {
    means: [f64; 3],
    pixels: [[u8; 3]; 4],
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn variants() -> Vec<Variant> {
    let reference: Reference = serde_json::from_str(include_str!("reference/jpeg_kinds.json")).unwrap();
    let mut variants = Vec::new();
    for (base, answers) in &reference.answers {
        let file = bytes(&reference.files[base]);
        for (name, answer) in answers {
            let [ids, markers, damage] = name.split('/').collect::<Vec<_>>().try_into().unwrap();
            variants.push(Variant {
                name: format!("{base}/{name}"),
                damage: damage.to_owned(),
                bytes: variant(&file, &bytes(ids), markers, damage),
                pillow: (answer != "refused").then(|| answer_of(&bytes(answer))),
            });
        }
    }
    variants
}

fn answer_of(bytes: &[u8]) -> Answer {
    let (means, pixels) = bytes.split_at(6);
    Answer {
        means: [0, 2, 4].map(|at| f64::from(u16::from_be_bytes([means[at], means[at + 1]])) / 256.0),
        pixels: pixels.as_chunks().0.try_into().unwrap(),
    }
}

/// Marker, content, and whatever follows up to the next marker, of a file as libjpeg writes it.
fn segments(file: &[u8]) -> Vec<(u8, Vec<u8>, &[u8])> {
    let (mut at, mut segments) = (2, Vec::new());
    while file[at + 1] != 0xD9 {
        let start = at + 2 + usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
        let marker = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xD0..=0xD7);
        let end = start + file[start..].windows(2).position(marker).unwrap();
        segments.push((file[at + 1], file[at + 4..start].to_vec(), &file[start..end]));
        at = end;
    }
    segments
}

fn variant(file: &[u8], ids: &[u8], markers: &str, damage: &str) -> Vec<u8> {
    let mut out = vec![0xFF, 0xD8];
    for marker in markers.split_whitespace() {
        match marker {
            "J" => out.extend(b"\xFF\xE0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"),
            adobe => {
                out.extend(b"\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0");
                out.push(adobe.as_bytes()[1] - b'0');
            }
        }
    }
    let before: &[u8] = match damage {
        "junk" => b"\x00\x11\xFF\x00\x22",
        "fill" => b"\xFF\xFF\xFF",
        "restart" => b"\xFF\xD3",
        _ => b"",
    };
    let (mut places, mut first_scan) = (BTreeMap::new(), None);
    for (marker, mut content, rest) in segments(file) {
        match marker {
            0xE0 | 0xEE => continue,
            0xC0..=0xC2 => {
                for (number, new) in ids.iter().enumerate() {
                    places.insert(content[6 + 3 * number], *new);
                    content[6 + 3 * number] = *new;
                }
            }
            0xDA => (0..usize::from(content[0]))
                .for_each(|number| content[1 + 2 * number] = places[&content[1 + 2 * number]]),
            _ => {}
        }
        if out.len() > 2 {
            out.extend(before);
        }
        out.extend([0xFF, marker]);
        out.extend((content.len() as u16 + 2).to_be_bytes());
        out.extend(content);
        if marker == 0xDA {
            first_scan.get_or_insert(out.len());
        }
        out.extend(rest);
    }
    if let Some(eighths) = damage.strip_prefix("cut") {
        let first_scan = first_scan.unwrap();
        out.truncate(first_scan + (out.len() - first_scan) * eighths.parse::<usize>().unwrap() / 8);
    }
    [&out, before, &[0xFF, 0xD9]].concat()
}

fn means(pixels: &Pixels) -> [f64; 3] {
    let count = f64::from(pixels.width * pixels.height);
    let mean = |channel| pixels.data.iter().skip(channel).step_by(3).map(|v| f64::from(*v)).sum::<f64>() / count;
    [0, 1, 2].map(mean)
}

/// The largest difference of means, and that of pixels.
fn differences(pixels: &Pixels, answer: &Answer) -> (f64, u8) {
    let means = means(pixels).into_iter().zip(answer.means).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let pixel = |(place, expected): (&(u32, u32), &[u8; 3])| {
        let found = pixels.pixel(place.0, place.1);
        found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
    };
    (means, PIXELS.iter().zip(&answer.pixels).map(pixel).max().unwrap())
}

#[test]
fn every_kind_has_the_pixels_of_pillow() {
    let (mut count, mut largest) = (0, (0.0f64, 0));
    for Variant { name, bytes, pillow, .. } in variants().into_iter().filter(|variant| !variant.is_cut()) {
        let found = decode(&bytes, &LIMITS).unwrap_or_else(|error| panic!("{name}: {error}")).pixels;
        let (means, pixel) = differences(&found.into_channels(3), &pillow.expect("read by Pillow"));
        assert!(means <= 0.5 && pixel <= 3, "{name}: means differ by {means:.3}, a pixel by {pixel}");
        largest = (largest.0.max(means), largest.1.max(pixel));
        count += 1;
    }
    println!("{count} variants; means differ by up to {:.3}, pixels by up to {}", largest.0, largest.1);
    assert!(count > 1000, "{count} variants");
}

#[test]
fn what_is_cut_off_before_its_end_marker_is_refused_in_words() {
    let mut count = 0;
    for Variant { name, bytes, .. } in variants().into_iter().filter(Variant::is_cut) {
        let found = decode(&bytes, &LIMITS).map(|decoded| decoded.orientation);
        let words = ["before the picture does", "ends too early", "scans are missing", "has no scan"];
        let refused = matches!(&found, Err(DecodeError::Jpeg { reason }) if words.iter().any(|w| reason.contains(w)));
        assert!(refused, "{name}: {found:?}");
        count += 1;
    }
    assert!(count > 300, "{count} variants");
}

#[test]
fn windows_are_crops_of_the_whole() {
    let mut count = 0;
    for Variant { name, bytes, .. } in variants() {
        let Ok(whole) = decode(&bytes, &LIMITS) else { continue };
        let Ok(file) = Baseline::open(bytes, &LIMITS) else { continue };
        assert!(!name.contains("progressive") && !name.contains("apart"), "{name}");
        let (width, height) = file.size();
        for (x, y) in [(0, 0), (7, 15), (8, 1), (17, 16), (33, 28), (42, 27)] {
            let window = Window { x, y, width: (width - x).min(16), height: (height - y).min(9) };
            assert!(file.window(window) == Some(whole.pixels.crop(window)), "{name}, {window:?}");
            count += 1;
        }
    }
    assert!(count > 2000, "{count} windows");
}
