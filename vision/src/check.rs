//! A report on data for a person, before a network is trained on it.

use std::collections::BTreeMap;
use std::fmt;

use convoy_common::Digest;
use convoy_common::manifest::{Label, Split};
use serde::Serialize;

use crate::scanned::{ImageFacts, Scanned, SplitFacts};
use crate::taken::Taken;

/// Everything that [`check`] noticed. Its display is made for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Source, split, task, classes and what is left out, with the reasons.
    pub taken: Taken,
    /// Rows and samples that make no sense, each with its place.
    pub problems: Vec<String>,
    /// Classes without a usable training image, and what there is instead.
    pub empty_classes: Vec<(String, String)>,
    /// Training data, then validation data.
    pub splits: Vec<SplitReport>,
    /// Equal images in training and validation data: a validation that says nothing.
    pub leaks: Vec<Copies>,
    /// Samples of the largest training class over those of the smallest; none unless labels are classes.
    pub imbalance: Option<f64>,
    /// Remedies, one sentence each.
    pub advice: Vec<String>,
}

/// The part of a report about one split.
///
/// Many fields: each is a line or a list of the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitReport {
    /// `training` or `validation`.
    pub name: &'static str,
    /// Samples, broken ones included.
    pub samples: usize,
    /// Usable samples of each class or label; empty for values.
    pub counts: Vec<(String, u64)>,
    /// Least, mean and largest value of each target; empty for classes and labels.
    pub ranges: Vec<(String, [f64; 3])>,
    /// Width and height of the smallest, the median and the largest image by area.
    pub sizes: Option<[(u32, u32); 3]>,
    /// Samples that cannot be used, and why.
    pub broken: Vec<(String, String)>,
    /// Groups of equal images.
    pub duplicates: Vec<Copies>,
    /// Images that EXIF says lie on their side or head; they are turned upright.
    pub rotated: usize,
    /// Images of unusual size or shape, and why.
    pub odd: Vec<(String, String)>,
    /// Grey images, where there are colour images too.
    pub grey_among_colour: usize,
    /// Files passed over because they are no pictures.
    pub ignored: u64,
    /// Least and largest number of images of 16 bits, where there are some.
    pub range16: Option<[u16; 2]>,
}

/// Equal images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Copies {
    /// The files, with the number of the image where a file holds several.
    pub paths: Vec<String>,
    /// Whether they are labelled differently.
    pub labels_differ: bool,
}

/// A side below this many pixels is odd.
const TINY: u32 = 8;
/// A longer side of more than this many shorter ones is odd.
const LONG: u32 = 5;
/// Classes that differ more than this in size deserve advice.
const IMBALANCED: f64 = 3.0;
/// Upper bytes of images of 16 bits between which there are fewer steps than this keep little of the images.
const FEW_LEVELS: u16 = 64;

/// Looks through scanned data. [`survey`](crate::survey) it to see everything.
pub fn check(scanned: &Scanned) -> Report {
    let manifest = &scanned.manifest;
    let parts = [
        ("training", &manifest.train, &scanned.train), //
        ("validation", &manifest.validation, &scanned.validation),
    ];
    let splits: Vec<SplitReport> =
        parts.into_iter().map(|(name, split, facts)| look_at(name, &manifest.names, split, facts)).collect();
    let counts = manifest.class_counts();
    let imbalance = match (counts.iter().min(), counts.iter().max()) {
        (Some(least), Some(most)) if *least > 0 => Some(*most as f64 / *least as f64),
        _ => None,
    };
    let leaks = leaks(scanned);
    let (taken, problems, empty_classes) =
        (scanned.taken.clone(), scanned.problems.clone(), scanned.empty_classes.clone());
    let mut report = Report { taken, problems, empty_classes, splits, leaks, imbalance, advice: Vec::new() };
    report.advice = advice(&report);
    report
}

fn look_at(name: &'static str, names: &[String], split: &Split, facts: &SplitFacts) -> SplitReport {
    let samples = || (0..).zip(split.samples.iter().zip(&facts.images));
    let path = |index: usize| place(split, index);
    let broken = samples().filter_map(|(index, (sample, _))| Some((path(index), sample.broken?.to_owned())));
    let odd = samples().filter_map(|(index, (_, image))| Some((path(index), oddity(image.as_ref()?)?)));
    let grey = facts.usable().filter(|image| image.channels == 1).count();
    let groups = by_content(split, facts);
    SplitReport {
        name,
        samples: split.samples.len(),
        counts: count_names(names, split),
        ranges: ranges(names, split),
        sizes: facts.sizes(),
        broken: broken.collect(),
        duplicates: groups.values().filter(|group| group.len() > 1).map(|group| copies(split, group)).collect(),
        rotated: facts.rotated(),
        odd: odd.collect(),
        grey_among_colour: if grey < facts.usable().count() { grey } else { 0 },
        ignored: facts.ignored,
        range16: facts.range16(),
    }
}

/// The name of a sample for people: its file, with its number in an IDX file.
fn place(split: &Split, index: usize) -> String {
    let (sample, path) = (split.samples.at(index), split.file_of(index).path);
    let next = split.samples.get(index + 1).or(split.samples.get(0));
    let several = next.is_some_and(|next| next.index != sample.index);
    if sample.index > 0 || several { format!("{path}#{}", sample.index) } else { path.to_owned() }
}

fn oddity(image: &ImageFacts) -> Option<String> {
    let (short, long) = (image.width.min(image.height), image.width.max(image.height));
    let size = format!("{} x {}", image.width, image.height);
    if short < TINY {
        return Some(format!("is only {size}"));
    }
    (long > LONG * short).then(|| format!("is very long: {size}"))
}

fn count_names(names: &[String], split: &Split) -> Vec<(String, u64)> {
    let mut counts = vec![0; names.len()];
    let mut any = false;
    for sample in split.samples.iter().filter(|sample| sample.broken.is_none()) {
        let labels = match &sample.label {
            Label::Class(class) => std::slice::from_ref(class),
            Label::Set(labels) => labels,
            Label::Values(_) => continue,
        };
        any = true;
        labels.iter().for_each(|label| counts[*label as usize] += 1);
    }
    if any { names.iter().cloned().zip(counts).collect() } else { Vec::new() }
}

fn ranges(names: &[String], split: &Split) -> Vec<(String, [f64; 3])> {
    let rows: Vec<&[f32]> = split
        .samples
        .iter()
        .filter(|sample| sample.broken.is_none())
        .filter_map(|sample| if let Label::Values(values) = sample.label { Some(values) } else { None })
        .collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let range = |(target, name): (usize, &String)| {
        let values = || rows.iter().map(|row| f64::from(row[target]));
        let mean = values().sum::<f64>() / rows.len() as f64;
        (name.clone(), [values().fold(f64::MAX, f64::min), mean, values().fold(f64::MIN, f64::max)])
    };
    names.iter().enumerate().map(range).collect()
}

/// Samples that can be used, by the digests of their images.
fn by_content(split: &Split, facts: &SplitFacts) -> BTreeMap<Digest, Vec<usize>> {
    let mut groups: BTreeMap<Digest, Vec<usize>> = BTreeMap::new();
    for (index, _) in facts.images.iter().enumerate().filter(|(_, image)| image.is_some()) {
        groups.entry(facts.digest(split, index)).or_default().push(index);
    }
    groups
}

fn copies(split: &Split, group: &[usize]) -> Copies {
    let label = |index: usize| split.samples.at(index).label;
    let labels_differ = group.iter().any(|index| label(*index) != label(group[0]));
    Copies { paths: group.iter().map(|index| place(split, *index)).collect(), labels_differ }
}

/// Images that both splits have.
fn leaks(scanned: &Scanned) -> Vec<Copies> {
    let (train, validation) = (&scanned.manifest.train, &scanned.manifest.validation);
    let in_train = by_content(train, &scanned.train);
    let mut leaks = Vec::new();
    for (digest, group) in by_content(validation, &scanned.validation) {
        let Some(originals) = in_train.get(&digest) else { continue };
        let named = |name: &str, split: &Split, indices: &[usize]| -> Vec<String> {
            indices.iter().map(|index| format!("{name} {}", place(split, *index))).collect()
        };
        let first = train.samples.at(originals[0]).label;
        let labels_differ = originals.iter().any(|index| train.samples.at(*index).label != first)
            || group.iter().any(|index| validation.samples.at(*index).label != first);
        let paths = [named("training", train, originals), named("validation", validation, &group)].concat();
        leaks.push(Copies { paths, labels_differ });
    }
    leaks.sort_by(|a, b| a.paths.cmp(&b.paths));
    leaks
}

fn advice(report: &Report) -> Vec<String> {
    let mut advice = Vec::new();
    let broken: usize = report.splits.iter().map(|split| split.broken.len()).sum();
    if broken > 0 {
        advice.push(format!(
            "{broken} images cannot be used: repair or remove them, or set data.bad_images = \"quarantine\""
        ));
    }
    if !report.leaks.is_empty() {
        advice.push("validation images that are also trained on make validation look too good: remove them".to_owned());
    }
    let contradictions = report.splits.iter().flat_map(|split| &split.duplicates).chain(&report.leaks);
    if contradictions.filter(|copies| copies.labels_differ).count() > 0 {
        advice.push("equal images with different labels contradict each other: keep the right ones".to_owned());
    }
    if !report.problems.is_empty() {
        advice.push("rows that make no sense refuse a job: correct or remove them".to_owned());
    }
    if !report.empty_classes.is_empty() {
        advice.push(
            "a class without usable training images cannot be learned: add some, remove it, or set \
             data.empty_classes = \"ignore\""
                .to_owned(),
        );
    }
    if report.imbalance.is_some_and(|ratio| ratio > IMBALANCED) {
        advice.push("classes differ much in size: set loss.class_weights = \"balanced\", or add images".to_owned());
    }
    if let Some([low, high]) = report.splits[0].range16.filter(|[low, high]| high / 256 - low / 256 + 1 < FEW_LEVELS) {
        advice.push(format!(
            "the upper bytes of images of 16 bits have only {} of 256 levels (numbers from {low} to {high}): set \
             prepare.depth16 = \"stretch\" if it is not set",
            high / 256 - low / 256 + 1
        ));
    }
    if report.splits[1].samples == 0 {
        advice.push("there is no validation data: set data.validation or data.validation_fraction".to_owned());
    }
    advice
}

/// Items of a list that are shown.
const SHOWN: usize = 5;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.taken)?;
        let problems: Vec<(String, String)> =
            self.problems.iter().map(|problem| (String::new(), problem.clone())).collect();
        write_items(f, "rows or samples make no sense", &problems)?;
        write_items(f, "classes have no usable training image", &self.empty_classes)?;
        for split in self.splits.iter().filter(|split| split.samples > 0) {
            split.fmt(f)?;
        }
        write_copies(f, "in both training and validation data", &self.leaks)?;
        if let Some(imbalance) = self.imbalance {
            writeln!(f, "largest class / smallest class: {imbalance:.1}")?;
        }
        for sentence in &self.advice {
            writeln!(f, "advice: {sentence}")?;
        }
        if self.advice.is_empty() { writeln!(f, "nothing to worry about") } else { Ok(()) }
    }
}

impl fmt::Display for SplitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} samples", self.name, self.samples)?;
        match self.sizes {
            Some([small, _, large]) if small == large => writeln!(f, ", all {} x {}", small.0, small.1)?,
            Some([small, median, large]) => {
                let [small, median, large] =
                    [small, median, large].map(|(width, height)| format!("{width} x {height}"));
                writeln!(f, ", from {small} to {large}, median {median}")?;
            }
            None => writeln!(f)?,
        }
        let width = self.counts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, count) in &self.counts {
            writeln!(f, "  {name:width$}  {count:>7}")?;
        }
        for (name, [least, mean, most]) in &self.ranges {
            writeln!(f, "  {name}: from {least} to {most}, mean {mean:.4}")?;
        }
        write_items(f, "cannot be used", &self.broken)?;
        write_items(f, "of unusual size or shape", &self.odd)?;
        write_copies(f, "more than once", &self.duplicates)?;
        for (count, words) in [
            (self.rotated as u64, "are turned upright by their EXIF orientation"),
            (self.grey_among_colour as u64, "are grey among colour images"),
        ] {
            if count > 0 {
                writeln!(f, "  {count} {words}")?;
            }
        }
        if let Some([low, high]) = self.range16 {
            writeln!(f, "  images of 16 bits hold numbers from {low} to {high}")?;
        }
        Ok(())
    }
}

fn write_items(f: &mut fmt::Formatter<'_>, what: &str, items: &[(String, String)]) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(f, "  {} {what}:", items.len())?;
    items.iter().take(SHOWN).try_for_each(|(path, why)| writeln!(f, "    {path} {why}"))?;
    write_rest(f, items.len())
}

fn write_copies(f: &mut fmt::Formatter<'_>, what: &str, groups: &[Copies]) -> fmt::Result {
    if groups.is_empty() {
        return Ok(());
    }
    writeln!(f, "  {} images are there {what}:", groups.len())?;
    for group in groups.iter().take(SHOWN) {
        let remark = if group.labels_differ { ", labelled differently" } else { "" };
        writeln!(f, "    {}{remark}", group.paths.join(" = "))?;
    }
    write_rest(f, groups.len())
}

fn write_rest(f: &mut fmt::Formatter<'_>, count: usize) -> fmt::Result {
    if count > SHOWN { writeln!(f, "    and {} more", count - SHOWN) } else { Ok(()) }
}
