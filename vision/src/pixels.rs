//! Decoded images: 8-bit, grey or RGB, rows from the top, channels interleaved.

use convoy_common::spec::Fill;

/// An image of 8-bit numbers, `height x width x channels` (HWC), channels 1 (grey) or 3 (RGB).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 1 or 3.
    pub channels: u32,
    /// `height * width * channels` numbers.
    pub data: Vec<u8>,
}

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its first column.
    pub x: u32,
    /// Its first row.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Window {
    /// All of an image of this width and height.
    pub fn whole((width, height): (u32, u32)) -> Self {
        Window { x: 0, y: 0, width, height }
    }
}

impl Pixels {
    /// An image of `data`.
    ///
    /// # Panics
    /// When the length of `data` is not `height * width * channels`.
    pub fn new(width: u32, height: u32, channels: u32, data: Vec<u8>) -> Self {
        let expected = width as usize * height as usize * channels as usize;
        assert_eq!(data.len(), expected, "{height} x {width} x {channels} numbers");
        Pixels { width, height, channels, data }
    }

    /// An image of one value.
    pub fn filled(width: u32, height: u32, channels: u32, value: u8) -> Self {
        Pixels::new(width, height, channels, vec![value; width as usize * height as usize * channels as usize])
    }

    /// The pixel in column `x` of row `y`: one number per channel.
    ///
    /// # Panics
    /// When there is no such pixel.
    pub fn pixel(&self, x: u32, y: u32) -> &[u8] {
        &self.data[self.at(x, y)]
    }

    /// The pixel in column `x` of row `y`, to be changed.
    ///
    /// # Panics
    /// When there is no such pixel.
    pub fn pixel_mut(&mut self, x: u32, y: u32) -> &mut [u8] {
        let at = self.at(x, y);
        &mut self.data[at]
    }

    fn at(&self, x: u32, y: u32) -> std::ops::Range<usize> {
        let channels = self.channels as usize;
        let start = (y as usize * self.width as usize + x as usize) * channels;
        start..start + channels
    }

    /// The image with 1 or 3 channels: grey is repeated; RGB becomes grey by ITU-R 601-2 luma in 16-bit fixed
    /// point, `(19595 R + 38470 G + 7471 B + 32768) >> 16`, as Pillow's `convert("L")`.
    pub fn into_channels(self, channels: u32) -> Self {
        let data = match (self.channels, channels) {
            (1, 3) => self.data.iter().flat_map(|&grey| [grey; 3]).collect(),
            (3, 1) => self.data.chunks_exact(3).map(|rgb| luma([rgb[0], rgb[1], rgb[2]])).collect(),
            _ => return self,
        };
        Pixels { channels, data, ..self }
    }

    /// The window of `width x height` whose corner lies at (`x`, `y`). It may reach outside; pixels there are black or
    /// those of the nearest edge.
    pub(crate) fn padded_window(&self, x: i64, y: i64, width: u32, height: u32, fill: Fill) -> Pixels {
        let channels = self.channels as usize;
        let mut out = vec![0; width as usize * height as usize * channels];
        for (row, line) in (y..).zip(out.chunks_exact_mut(width as usize * channels)) {
            let inside = (0..i64::from(self.height)).contains(&row);
            if !inside && fill == Fill::Zeros {
                continue;
            }
            let row = row.clamp(0, i64::from(self.height) - 1) as u32;
            for (column, pixel) in (x..).zip(line.chunks_exact_mut(channels)) {
                if (0..i64::from(self.width)).contains(&column) || fill == Fill::Edge {
                    let column = column.clamp(0, i64::from(self.width) - 1) as u32;
                    pixel.copy_from_slice(self.pixel(column, row));
                }
            }
        }
        Pixels { width, height, channels: self.channels, data: out }
    }

    /// A copy of the window, which must lie inside.
    pub fn crop(&self, window: Window) -> Pixels {
        let channels = self.channels as usize;
        let row_len = self.width as usize * channels;
        let mut data = Vec::with_capacity(window.width as usize * window.height as usize * channels);
        for row in self.data.chunks_exact(row_len).skip(window.y as usize).take(window.height as usize) {
            data.extend_from_slice(&row[window.x as usize * channels..][..window.width as usize * channels]);
        }
        Pixels::new(window.width, window.height, self.channels, data)
    }

    /// Mirrors left and right.
    pub(crate) fn flip_horizontal(&mut self) {
        let channels = self.channels as usize;
        for row in self.data.chunks_exact_mut(self.width as usize * channels) {
            row.reverse();
            if channels == 3 {
                row.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.reverse());
            }
        }
    }

    /// Mirrors top and bottom.
    pub(crate) fn flip_vertical(&mut self) {
        let row = self.width as usize * self.channels as usize;
        for y in 0..self.height as usize / 2 {
            let (above, below) = self.data.split_at_mut((self.height as usize - 1 - y) * row);
            above[y * row..(y + 1) * row].swap_with_slice(&mut below[..row]);
        }
    }
}

/// Luma of one pixel; see [`Pixels::into_channels`].
pub(crate) fn luma([red, green, blue]: [u8; 3]) -> u8 {
    ((u32::from(red) * 19_595 + u32::from(green) * 38_470 + u32::from(blue) * 7_471 + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(width: u32, height: u32, channels: u32) -> Pixels {
        let count = width * height * channels;
        Pixels::new(width, height, channels, (0..count).map(|i| i as u8).collect())
    }

    #[test]
    fn windows_reach_outside() {
        let image = ramp(2, 2, 1);
        let zeros = image.padded_window(-1, -1, 4, 3, Fill::Zeros);
        assert_eq!(zeros.data, [0, 0, 0, 0, 0, 0, 1, 0, 0, 2, 3, 0]);
        let edge = image.padded_window(-1, -1, 4, 3, Fill::Edge);
        assert_eq!(edge.data, [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(image.padded_window(5, 5, 1, 1, Fill::Edge).data, [3]);
    }

    #[test]
    fn flips_undo_themselves() {
        let image = ramp(5, 3, 3);
        let mut flipped = image.clone();
        flipped.flip_horizontal();
        assert_eq!(flipped.pixel(0, 1), image.pixel(4, 1));
        flipped.flip_horizontal();
        flipped.flip_vertical();
        assert_eq!(flipped.pixel(2, 0), image.pixel(2, 2));
        flipped.flip_vertical();
        assert_eq!(flipped, image);
    }

    #[test]
    fn grey_and_colour() {
        assert_eq!(ramp(2, 1, 1).into_channels(3).data, [0, 0, 0, 1, 1, 1]);
        let colours = Pixels::new(4, 1, 3, vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30]);
        // Values of Pillow's convert("L").
        assert_eq!(colours.into_channels(1).data, [76, 150, 29, 18]);
    }

    #[test]
    fn crops() {
        let crop = ramp(4, 3, 3).crop(Window { x: 1, y: 1, width: 2, height: 2 });
        assert_eq!(crop.data, [15, 16, 17, 18, 19, 20, 27, 28, 29, 30, 31, 32]);
    }
}
