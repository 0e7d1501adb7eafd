//! The orientation in a photograph's EXIF block.

use crate::pixels::Pixels;

/// An image as it lies in its file, and its EXIF block.
pub(crate) type WithExif = (Pixels, Option<Vec<u8>>);

/// Tag and type of the orientation (EXIF 2.3, section 4.6.4): one SHORT.
const ORIENTATION: u16 = 0x0112;
const SHORT: u16 = 3;

/// The orientation 1..=8 of a TIFF block that may follow the marker `Exif\0\0`; damaged metadata says nothing.
///
/// Only the first directory is looked at: the next one describes a thumbnail.
pub(crate) fn orientation_of(exif: &[u8]) -> Option<u8> {
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let big = match tiff.get(..4)? {
        b"II*\0" => false,
        b"MM\0*" => true,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    };
    let long = |at: usize| {
        let bytes = tiff.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    let directory = long(4)? as usize;
    for entry in 0..usize::from(short(directory)?) {
        // Each entry: tag, type, count, value.
        let at = directory.checked_add(2 + 12 * entry)?;
        let (tag, kind, count, value) = (short(at)?, short(at + 2)?, long(at + 4)?, short(at + 8)?);
        if (tag, kind, count) == (ORIENTATION, SHORT, 1) {
            return u8::try_from(value).ok().filter(|value| (1..=8).contains(value));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A block with `entries` before the orientation, which is `value`.
    fn block(big: bool, entries: u16, value: u16) -> Vec<u8> {
        let short = |n: u16| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let long = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let mut tiff = if big { b"MM\0*".to_vec() } else { b"II*\0".to_vec() };
        tiff.extend(long(8));
        tiff.extend(short(entries + 1));
        for (tag, value) in (0..entries).map(|entry| (0x0100 + entry, 9)).chain([(ORIENTATION, value)]) {
            tiff.extend([short(tag), short(SHORT)].concat());
            tiff.extend(long(1));
            tiff.extend([short(value), short(0)].concat());
        }
        tiff
    }

    #[test]
    fn the_orientation_is_found_in_both_byte_orders_and_behind_the_marker() {
        for big in [false, true] {
            for value in 1..=8 {
                let tiff = block(big, value, value);
                assert_eq!(orientation_of(&tiff), Some(value as u8));
                assert_eq!(orientation_of(&[&b"Exif\0\0"[..], &tiff].concat()), Some(value as u8));
            }
        }
    }

    #[test]
    fn what_is_no_orientation_says_nothing() {
        for value in [0, 9, 0x0106, u16::MAX] {
            assert_eq!(orientation_of(&block(false, 1, value)), None, "{value}");
        }
        let whole = block(true, 2, 6);
        for length in 0..whole.len() - 2 {
            assert_eq!(orientation_of(&whole[..length]), None, "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn damage_is_no_panic(
            mut tiff in (any::<bool>(), 0u16..4, 0u16..10).prop_map(|(big, entries, value)| block(big, entries, value)),
            hits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        ) {
            for (at, byte) in hits {
                let at = at.index(tiff.len());
                tiff[at] = byte;
            }
            prop_assert!(orientation_of(&tiff).is_none_or(|value| (1..=8).contains(&value)));
        }
    }
}
