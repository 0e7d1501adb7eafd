//! The result of a scan: the manifest, with sizes, channels and digests of the images.

use convoy_common::Digest;
use convoy_common::manifest::{Manifest, Split};

use crate::formats::depth16::union;
use crate::taken::Taken;

/// Data that has been scanned.
#[derive(Debug, Clone, PartialEq)]
pub struct Scanned {
    /// The files and samples of the job.
    pub manifest: Manifest,
    /// Sizes, channels and digests of the training images.
    pub train: SplitFacts,
    /// The same for the validation images.
    pub validation: SplitFacts,
    /// What was taken as training and validation data, and why.
    pub taken: Taken,
    /// What makes no sense, each with its place and a remedy: rows of a table, samples of a class without training
    /// data.
    pub problems: Vec<String>,
    /// Classes without a usable training image, and what there is instead.
    pub empty_classes: Vec<(String, String)>,
}

/// Sizes, channels and digests of the images of a split.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SplitFacts {
    /// One entry for each sample of the split; `None` for broken ones.
    pub images: Vec<Option<ImageFacts>>,
    /// Digests of the images' bytes where one file holds several: one entry for each sample.
    pub within: Vec<Digest>,
    /// Files passed over because they are no pictures.
    pub ignored: u64,
}

/// Size and channels of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageFacts {
    /// Columns, upright.
    pub width: u32,
    /// Rows, upright.
    pub height: u32,
    /// 1 for grey, 3 for colour, as stored.
    pub channels: u32,
    /// EXIF orientation that was applied; 1 for none.
    pub orientation: u8,
    /// Least and largest number of an image of 16 bits.
    pub range16: Option<[u16; 2]>,
}

impl SplitFacts {
    /// The digest of image `index`: of its file, which is its own, or of its bytes within a file of several.
    pub fn digest(&self, split: &Split, index: usize) -> Digest {
        self.within.get(index).copied().unwrap_or_else(|| split.file_of(index).blake3)
    }

    /// The images that can be used.
    pub fn usable(&self) -> impl Iterator<Item = &ImageFacts> {
        self.images.iter().flatten()
    }

    /// Whether there is an image and all are stored grey.
    pub fn all_grey(&self) -> bool {
        self.usable().next().is_some() && self.usable().all(|image| image.channels == 1)
    }

    /// Least and largest number of all images of 16 bits.
    pub fn range16(&self) -> Option<[u16; 2]> {
        self.usable().fold(None, |range, image| union(range, image.range16))
    }

    /// The range of all images of 16 bits, for `prepare.depth16 = "stretch"`.
    ///
    /// # Errors
    /// When no image has 16 bits, or all numbers are the same; the text says what to do.
    pub fn stretch(&self) -> Result<[u16; 2], String> {
        match self.range16() {
            None => Err("is \"stretch\", but no training image has 16 bits; leave it out".to_owned()),
            Some([low, high]) if low == high => {
                Err(format!("is \"stretch\", but all images of 16 bits have no other number than {low}"))
            }
            Some(range) => Ok(range),
        }
    }

    /// Images that were turned upright.
    pub fn rotated(&self) -> usize {
        self.usable().filter(|image| image.orientation != 1).count()
    }

    /// Width and height of the smallest, the median and the largest image by area.
    pub fn sizes(&self) -> Option<[(u32, u32); 3]> {
        let mut sizes: Vec<(u32, u32)> = self.usable().map(|image| (image.width, image.height)).collect();
        sizes.sort_by_key(|(width, height)| (u64::from(*width) * u64::from(*height), *width));
        Some([*sizes.first()?, sizes[sizes.len() / 2], *sizes.last()?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(width: u32, height: u32, channels: u32, orientation: u8) -> Option<ImageFacts> {
        Some(ImageFacts { width, height, channels, orientation, range16: None })
    }

    #[test]
    fn broken_images_count_for_nothing() {
        let images = vec![image(9, 4, 1, 1), None, image(2, 3, 1, 6), image(5, 5, 1, 1)];
        let mut facts = SplitFacts { images, ..SplitFacts::default() };
        assert_eq!((facts.usable().count(), facts.rotated(), facts.all_grey()), (3, 1, true));
        assert_eq!(facts.sizes(), Some([(2, 3), (5, 5), (9, 4)]));
        facts.images.push(image(1, 1, 3, 1));
        assert!(!facts.all_grey());
    }

    #[test]
    fn no_images_have_no_sizes_and_are_not_grey() {
        let facts = SplitFacts { images: vec![None], ..SplitFacts::default() };
        assert_eq!((facts.sizes(), facts.all_grey()), (None, false));
    }
}
