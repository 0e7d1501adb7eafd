//! Exact integer sums over the values of a channel.

use serde::{Deserialize, Serialize};

use crate::pixels::Pixels;

/// Sums over pixel values of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChannelSums {
    /// Number of values.
    pub count: u64,
    /// Sum of the values, 0..=255 each.
    pub sum: u64,
    /// Sum of their squares.
    pub squares: u64,
}

impl ChannelSums {
    /// Adds those of other values.
    pub(crate) fn add(&mut self, other: &ChannelSums) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// Mean and population standard deviation on the scale [0, 1]. The variance `n Σx² - (Σx)²` is an exact
    /// integer; each result is rounded to f64 a few times and to f32 once.
    ///
    /// # Panics
    /// When nothing was counted.
    pub fn mean_and_std(&self) -> (f32, f32) {
        assert!(self.count > 0, "statistics of nothing");
        let (count, sum) = (u128::from(self.count), u128::from(self.sum));
        let spread = count * u128::from(self.squares) - sum * sum;
        let mean = self.sum as f64 / self.count as f64 / 255.0;
        let std = (spread as f64).sqrt() / self.count as f64 / 255.0;
        (mean as f32, std as f32)
    }
}

/// Adds up the values of each channel of `image`.
pub(crate) fn add_image(sums: &mut [ChannelSums], image: &Pixels) {
    let channels = sums.len();
    for (channel, sums) in sums.iter_mut().enumerate() {
        for value in image.data.iter().skip(channel).step_by(channels) {
            sums.sum += u64::from(*value);
            sums.squares += u64::from(*value) * u64::from(*value);
        }
        sums.count += (image.data.len() / channels) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_give_the_mean_and_deviation_of_the_definition() {
        let image = Pixels::new(5, 3, 3, (0..45).map(|i| (i * 37 % 256) as u8).collect());
        let mut sums = [ChannelSums::default(); 3];
        add_image(&mut sums, &image);
        for (channel, sums) in sums.iter().enumerate() {
            let values: Vec<f64> = image.data.iter().skip(channel).step_by(3).map(|v| f64::from(*v) / 255.0).collect();
            let mean = values.iter().sum::<f64>() / 15.0;
            let variance = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / 15.0;
            let (found_mean, found_std) = sums.mean_and_std();
            assert!((f64::from(found_mean) - mean).abs() < 1e-7, "{found_mean} {mean}");
            assert!((f64::from(found_std) - variance.sqrt()).abs() < 1e-7, "{found_std} {variance}");
        }
    }
}
