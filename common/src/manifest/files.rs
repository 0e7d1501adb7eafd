//! The files of a split in columns: what a million of them take is counted.

use crate::Digest;

/// Files by number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileList {
    /// All paths, one after the other.
    paths: String,
    /// Where each path ends.
    ends: Vec<usize>,
    sizes: Vec<u64>,
    digests: Vec<Digest>,
}

/// A file as it was when the manifest was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileEntry<'a> {
    /// Relative path with `/` between its parts.
    pub path: &'a str,
    /// Size in bytes.
    pub size: u64,
    /// blake3 of the bytes.
    pub blake3: Digest,
}

impl FileList {
    /// Number of files.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// File `number`, if there is one.
    pub fn get(&self, number: usize) -> Option<FileEntry<'_>> {
        (number < self.len()).then(|| self.at(number))
    }

    /// File `number`.
    ///
    /// # Panics
    /// When there is none.
    pub fn at(&self, number: usize) -> FileEntry<'_> {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        let path = &self.paths[start..self.ends[number]];
        FileEntry { path, size: self.sizes[number], blake3: self.digests[number] }
    }

    /// All files, in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = FileEntry<'_>> + Clone {
        (0..self.len()).map(|number| self.at(number))
    }

    /// The number of the file at `path`, where paths are in byte order.
    pub fn position(&self, path: &str) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.at(middle).path.cmp(path) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Adds a file behind the others.
    pub fn push(&mut self, file: FileEntry<'_>) {
        self.paths.push_str(file.path);
        self.ends.push(self.paths.len());
        self.sizes.push(file.size);
        self.digests.push(file.blake3);
    }

    /// Gives back memory that was taken for more files.
    pub fn shrink(&mut self) {
        self.paths.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.sizes.shrink_to_fit();
        self.digests.shrink_to_fit();
    }
}

impl<'a> FromIterator<FileEntry<'a>> for FileList {
    fn from_iter<I: IntoIterator<Item = FileEntry<'a>>>(files: I) -> Self {
        let mut list = FileList::default();
        files.into_iter().for_each(|file| list.push(file));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_by_number_and_by_path() {
        let paths = ["", "a", "a/b", "ab", "z"];
        let entry = |(size, path): (u64, &'static str)| FileEntry { path, size, blake3: Digest::of(path.as_bytes()) };
        let entries: Vec<_> = (0..).zip(paths).map(entry).collect();
        let list: FileList = entries.iter().copied().collect();
        assert_eq!(list.iter().collect::<Vec<_>>(), entries);
        assert_eq!((list.len(), list.get(5), list.get(3)), (5, None, Some(entries[3])));
        for (number, path) in paths.into_iter().enumerate() {
            assert_eq!(list.position(path), Some(number), "{path}");
        }
        assert_eq!([list.position("b"), list.position("zz"), FileList::default().position("a")], [None; 3]);
    }
}
