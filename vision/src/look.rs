//! What looks at files found.

use std::collections::BTreeMap;

use convoy_common::Digest;

use crate::scanned::ImageFacts;

/// What a look at a file found: a function of its bytes and the limits, but for files that cannot be read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Look {
    pub size: u64,
    pub digest: Digest,
    /// Why it is no picture, if it is none.
    pub image: Result<ImageFacts, String>,
    /// Whether the file could be read.
    pub found: bool,
}

/// What was found of many files, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    sizes: Vec<u64>,
    digests: Vec<Digest>,
    images: Vec<Option<ImageFacts>>,
    broken: BTreeMap<usize, (String, bool)>,
}

impl Looks {
    /// For `count` files, nothing of which is known yet.
    pub(crate) fn of(count: usize) -> Self {
        Looks {
            sizes: vec![0; count],
            digests: vec![Digest::default(); count],
            images: vec![None; count],
            broken: BTreeMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Notes what was found of file `number`.
    pub(crate) fn set(&mut self, number: usize, look: Look) {
        (self.sizes[number], self.digests[number]) = (look.size, look.digest);
        match look.image {
            Ok(facts) => self.images[number] = Some(facts),
            Err(why) => _ = self.broken.insert(number, (why, look.found)),
        }
    }

    pub(crate) fn size_and_digest(&self, number: usize) -> (u64, Digest) {
        (self.sizes[number], self.digests[number])
    }

    pub(crate) fn image(&self, number: usize) -> Option<ImageFacts> {
        self.images[number]
    }

    /// Why a file is no picture, and whether it could be read.
    pub(crate) fn broken(&self, number: usize) -> Option<(&str, bool)> {
        self.broken.get(&number).map(|(why, found)| (why.as_str(), *found))
    }

    /// Whether any file could be read.
    pub(crate) fn any_found(&self) -> bool {
        self.broken.len() < self.len() || self.broken.values().any(|(_, found)| *found)
    }

    pub(crate) fn at(&self, number: usize) -> Look {
        let broken = self.broken.get(&number);
        Look {
            size: self.sizes[number],
            digest: self.digests[number],
            image: self.images[number].ok_or_else(|| broken.map_or_else(String::new, |(why, _)| why.clone())),
            found: broken.is_none_or(|(_, found)| *found),
        }
    }
}
