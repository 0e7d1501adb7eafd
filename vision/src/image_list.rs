//! The images of a list before and after they are looked at, in columns: a list of a million images as its source makes
//! it takes twice the memory of the manifest.

use convoy_common::manifest::{FileEntry, Label, Labels, Sample, Split};

use crate::error::ScanError;
use crate::left_out::Why;
use crate::look::Looks;
use crate::paths::Paths;
use crate::scanned::SplitFacts;
use crate::source::{self, Listed, ListedImage, RawLabel};

/// Listed images, each with its label.
pub(crate) struct ImageList {
    /// Everything but its entries, of which there are none.
    pub listed: Listed,
    /// Every file once, in byte order.
    pub paths: Paths,
    /// The file of each image. A table may name a file in several rows.
    files: Vec<u32>,
    /// The line of the table that names each image; none where there is no table.
    lines: Vec<u64>,
    labels: Labels,
}

impl ImageList {
    /// The images whose labels are among `names`, and what is wrong with the others.
    ///
    /// # Errors
    /// When there are too many to count.
    pub(crate) fn of(mut listed: Listed, names: &[String]) -> Result<(Self, Vec<String>), ScanError> {
        let entries = std::mem::take(&mut listed.entries);
        if u32::try_from(entries.len()).is_err() {
            return Err(ScanError::TooMany { path: listed.origin, count: entries.len() });
        }
        let labels = Labels::of(listed.labels);
        let mut list = ImageList { listed, paths: Paths::default(), files: Vec::new(), lines: Vec::new(), labels };
        let mut problems = Vec::new();
        for entry in entries {
            match list.put(&entry, names) {
                Ok(()) => {}
                Err(problem) => problems.push(problem.to_string()),
            }
        }
        Ok((list, problems))
    }

    fn put(&mut self, entry: &ListedImage, names: &[String]) -> Result<(), ScanError> {
        self.put_label(entry, names)?;
        // Entries are in the order of their paths.
        let last = self.paths.len().checked_sub(1).map(|last| self.paths.at(last));
        if last != Some(entry.path.as_str()) {
            self.paths.push(&entry.path);
        }
        self.files.push(self.paths.len() as u32 - 1);
        self.lines.extend(entry.line);
        Ok(())
    }

    fn put_label(&mut self, entry: &ListedImage, names: &[String]) -> Result<(), ScanError> {
        let number = |class: &String| {
            names.binary_search(class).map(|class| class as u32).map_err(|_| ScanError::UnknownClass {
                class: class.clone(),
                place: match entry.line {
                    Some(line) => format!("{}, line {line},", self.listed.origin.display()),
                    None => self.listed.root.join(&entry.path).display().to_string(),
                },
                known: names.to_vec(),
            })
        };
        match &entry.label {
            RawLabel::Class(class) => self.labels.push(Label::Class(number(class)?)),
            RawLabel::Set(set) => {
                let mut set = set.iter().map(number).collect::<Result<Vec<u32>, _>>()?;
                set.sort_unstable();
                set.dedup();
                self.labels.push(Label::Set(&set));
            }
            RawLabel::Values(values) => self.labels.push(Label::Values(values)),
        }
        Ok(())
    }

    /// Which images are held out for validation; stratified by class where there are classes.
    pub(crate) fn held_out(&self, fraction: f64, seed: u64) -> Vec<bool> {
        let stratum = |at| if let Label::Class(class) = self.labels.at(at) { class } else { 0 };
        let strata: Vec<u32> = (0..self.labels.len()).map(stratum).collect();
        source::held_out(&strata, fraction, seed)
    }

    /// Refuses a table of which no file is there: then its paths start elsewhere.
    ///
    /// # Errors
    /// [`ScanError::NoFiles`] then.
    pub(crate) fn refuse_absent(&self, looks: &Looks) -> Result<(), ScanError> {
        match self.lines.first() {
            Some(line) if !looks.any_found() => Err(ScanError::NoFiles {
                path: self.listed.origin.clone(),
                root: self.listed.root.clone(),
                total: looks.len(),
                first: format!("{} in line {line}", self.paths.at(0)),
            }),
            _ => Ok(()),
        }
    }

    /// The split of the images that are `wanted`, by their places in the list, as `looks` found them.
    pub(crate) fn split(&self, looks: &Looks, wanted: impl Fn(usize) -> bool) -> (Split, SplitFacts) {
        let Listed { left_out, root, .. } = &self.listed;
        let ignored = (left_out.count(Why::NoPicture) + left_out.count(Why::BesideClasses)) as u64;
        let mut split = Split { root: root.to_string_lossy().into_owned(), ..Split::default() };
        let mut facts = SplitFacts { ignored, ..SplitFacts::default() };
        let mut last = None;
        for (at, file) in self.files.iter().map(|file| *file as usize).enumerate().filter(|(at, _)| wanted(*at)) {
            if last != Some(file) {
                let (size, blake3) = looks.size_and_digest(file);
                split.files.push(FileEntry { path: self.paths.at(file), size, blake3 });
                last = Some(file);
            }
            let broken = looks.broken(file).map(|(why, found)| match self.lines.get(at) {
                Some(line) if !found => format!("{why} (line {line})"),
                _ => why.to_owned(),
            });
            let (number, label) = (split.files.len() as u32 - 1, self.labels.at(at));
            split.samples.push(Sample { file: number, index: 0, label, broken: broken.as_deref() });
            facts.images.push(looks.image(file));
        }
        split.files.shrink();
        split.samples.shrink();
        facts.images.shrink_to_fit();
        (split, facts)
    }
}
