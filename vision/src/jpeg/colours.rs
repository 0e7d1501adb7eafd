//! What the components of a JPEG file stand for, decided here alone, and how they become grey or RGB.

/// What the components of a file stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colours {
    Grey,
    YCbCr,
    Rgb,
    /// Cyan, magenta, yellow and black as Adobe writes them: 255 is no ink.
    Cmyk,
    /// YCbCr in place of cyan, magenta and yellow.
    Ycck,
}

impl Colours {
    /// By libjpeg's rule (`default_decompress_parms`): the ids of the frame's components, whether a JFIF marker came
    /// before the first scan, and the transform of an Adobe marker there. `None` for another number of components.
    pub(super) fn of(ids: &[u8], jfif: bool, adobe: Option<u8>) -> Option<Self> {
        Some(match (ids, jfif, adobe) {
            ([_], ..) => Colours::Grey,
            ([_, _, _], false, Some(0)) | (b"RGB", false, None) => Colours::Rgb,
            ([_, _, _], ..) => Colours::YCbCr,
            ([_, _, _, _], _, None | Some(0)) => Colours::Cmyk,
            ([_, _, _, _], ..) => Colours::Ycck,
            _ => return None,
        })
    }

    /// 1 for grey, 3 for all others: they become RGB.
    pub(super) fn channels(self) -> u32 {
        if self == Colours::Grey { 1 } else { 3 }
    }

    /// Writes the pixels of a row; each component's samples come at their own place of `rows`.
    #[inline(always)]
    pub(super) fn write(self, [first, second, third, fourth]: [&[u8]; 4], out: &mut [u8]) {
        if self == Colours::Grey {
            out.copy_from_slice(&first[..out.len()]);
            return;
        }
        let others = second.iter().zip(third);
        let pixels =
            first.iter().zip(others).zip(out.as_chunks_mut::<3>().0).map(|((a, (b, c)), rgb)| ((a, b, c), rgb));
        match self {
            Colours::Rgb => pixels.for_each(|((r, g, b), rgb)| *rgb = [*r, *g, *b]),
            Colours::Cmyk => pixels.zip(fourth).for_each(|(((c, m, y), rgb), k)| *rgb = inked([*c, *m, *y], *k)),
            Colours::Ycck => pixels.zip(fourth).for_each(|(((y, cb, cr), rgb), k)| {
                *rgb = inked(from_ycbcr(*y, *cb, *cr).map(|ink| 255 - ink), *k);
            }),
            Colours::YCbCr | Colours::Grey => pixels.for_each(|((y, cb, cr), rgb)| *rgb = from_ycbcr(*y, *cb, *cr)),
        }
    }
}

/// RGB of Y, Cb and Cr (JFIF, ITU-R BT.601 of full range) in 14-bit fixed point.
#[inline(always)]
fn from_ycbcr(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (cb, cr) = (i32::from(cb) - 128, i32::from(cr) - 128);
    let y = i32::from(y) * 16384 + 8191;
    let clamp = |number: i32| (number >> 14).clamp(0, 255) as u8;
    [clamp(y + cr * 22970), clamp(y - cr * 11700 - cb * 5638), clamp(y + cb * 29032)]
}

/// What is left of white behind colours and black, where 255 is no ink, as Pillow's `convert("RGB")` rounds it.
#[inline(always)]
fn inked(colours: [u8; 3], black: u8) -> [u8; 3] {
    let black = i32::from(black);
    colours.map(|colour| {
        let product = (255 - i32::from(colour)) * black + 128;
        (black - ((product + (product >> 8)) >> 8)).clamp(0, 255) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_those_of_libjpegs_rule() {
        use Colours::{Cmyk, Grey, Rgb, YCbCr, Ycck};
        for (ids, jfif, adobe, expected) in [
            (&b"R"[..], false, Some(0), Some(Grey)),
            (b"RGB", false, None, Some(Rgb)),
            (b"RGB", true, None, Some(YCbCr)),
            (b"RGB", true, Some(0), Some(YCbCr)),
            (b"RGB", false, Some(1), Some(YCbCr)),
            (b"\x01\x02\x03", false, Some(0), Some(Rgb)),
            (b"\x01\x02\x03", false, None, Some(YCbCr)),
            (b"\x00\x01\x02", false, None, Some(YCbCr)),
            (b"BGR", false, Some(7), Some(YCbCr)),
            (b"CMYK", true, None, Some(Cmyk)),
            (b"\x01\x02\x03\x04", true, Some(0), Some(Cmyk)),
            (b"\x01\x02\x03\x04", false, Some(2), Some(Ycck)),
            (b"\x01\x02\x03\x04", false, Some(1), Some(Ycck)),
            (b"\x01\x02", false, None, None),
        ] {
            assert_eq!(Colours::of(ids, jfif, adobe), expected, "{ids:?} {jfif} {adobe:?}");
        }
    }
}
