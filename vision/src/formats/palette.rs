//! Colours by number.

use crate::pixels::Pixels;

/// 256 colours; those that a file does not have are black.
pub(crate) struct Palette {
    colours: [[u8; 3]; 256],
    /// Whether the file has no other colours than greys.
    grey: bool,
}

impl Palette {
    /// The colours that a file has, RGB; what comes after 256 of them is not looked at.
    pub(crate) fn new(stored: impl Iterator<Item = [u8; 3]>) -> Self {
        let mut palette = Palette { colours: [[0; 3]; 256], grey: true };
        for (place, colour) in palette.colours.iter_mut().zip(stored) {
            *place = colour;
            palette.grey &= colour[0] == colour[1] && colour[1] == colour[2];
        }
        palette
    }

    /// The picture of `width * height` numbers of colours: grey where the palette is.
    ///
    /// # Panics
    /// When there are more or less numbers.
    pub(crate) fn paint(&self, width: u32, height: u32, numbers: &[u8]) -> Pixels {
        let colour = |number: &u8| self.colours[usize::from(*number)];
        match self.grey {
            true => Pixels::new(width, height, 1, numbers.iter().map(|number| colour(number)[0]).collect()),
            false => Pixels::new(width, height, 3, numbers.iter().flat_map(colour).collect()),
        }
    }
}

/// The numbers of one row of `count`, of 1, 2, 4 or 8 bits each, the upper bits of a byte first; too short a row ends
/// in zeros.
pub(crate) fn unpack(row: &[u8], bits: u32, count: usize) -> impl Iterator<Item = u8> {
    let each = 8 / bits as usize;
    let mask = ((1u16 << bits) - 1) as u8;
    (0..count).map(move |at| {
        let byte = row.get(at / each).copied().unwrap_or(0);
        byte >> (8 - bits as usize * (at % each + 1)) & mask
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unpacked_from_the_upper_bits() {
        let bits = |bits, count| unpack(&[0b1011_0001, 0xF0], bits, count).collect::<Vec<u8>>();
        assert_eq!(bits(1, 9), [1, 0, 1, 1, 0, 0, 0, 1, 1]);
        assert_eq!(bits(2, 5), [2, 3, 0, 1, 3]);
        assert_eq!(bits(4, 3), [11, 1, 15]);
        assert_eq!(bits(8, 3), [0xB1, 0xF0, 0]);
    }

    #[test]
    fn a_palette_of_greys_makes_a_grey_picture() {
        let grey = Palette::new([[7; 3], [9; 3]].into_iter());
        assert_eq!(grey.paint(3, 1, &[1, 0, 5]), Pixels::new(3, 1, 1, vec![9, 7, 0]));
        let colours = Palette::new([[7; 3], [1, 2, 3]].into_iter());
        assert_eq!(colours.paint(2, 1, &[1, 0]).data, [1, 2, 3, 7, 7, 7]);
    }
}
