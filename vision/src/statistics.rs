//! Mean and standard deviation of prepared images, from exact integer sums: no order of addition changes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use convoy_common::file_tree::Files;
use convoy_common::manifest::Split;
use convoy_common::memory::WORK;
use convoy_common::plan::{DataFacts, Input, Normalization, TargetStatistics};
use convoy_common::random::{Purpose, permutation};
use convoy_common::spec::{Channels, Normalize, Prepare, Size, Spec, Statistic, StatisticWord};

use crate::channel_sums::{ChannelSums, add_image};
use crate::dataset::Images;
use crate::error::{LoadError, ScanError};
use crate::geometry::Geometry;
use crate::limits::{Limits, bytes_of};
use crate::look_cache::LookCache;
use crate::progress::Progress;
use crate::scanned::{ImageFacts, Scanned};

/// Sums over the given samples at the size and channels of `geometry`, without augmentation; one entry for each
/// channel. Uses as many threads as the machine has, and as there is memory for samples that take `bytes` each; the
/// result does not depend on their number.
///
/// # Errors
/// The first sample, in the order given, of those that were found not to load.
pub fn measure(
    images: &Images,
    geometry: &Geometry,
    samples: &[u32],
    bytes: u64,
    progress: &Progress,
) -> Result<Vec<ChannelSums>, LoadError> {
    let channels = geometry.input.channels as usize;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(samples.len().max(1));
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        let mut sums = vec![ChannelSums::default(); channels];
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(sample) = samples.get(index) else { return Ok(sums) };
            // The largest picture and the largest file need not be one; each was read before.
            let _held = WORK.take(bytes.min(WORK.limit())).map_err(|error| (index, error.into()))?;
            let image = images.pixels(*sample).map_err(|error| (index, error))?;
            add_image(&mut sums, &geometry.apply(&image));
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, samples.len());
        }
    };
    let parts: Vec<Result<Vec<ChannelSums>, (usize, LoadError)>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    });
    let mut total = vec![ChannelSums::default(); channels];
    let mut first_error: Option<(usize, LoadError)> = None;
    for part in parts {
        match part {
            Ok(sums) => total.iter_mut().zip(&sums).for_each(|(total, sums)| total.add(sums)),
            Err(error) if first_error.as_ref().is_none_or(|first| error.0 < first.0) => first_error = Some(error),
            Err(_) => {}
        }
    }
    first_error.map_or(Ok(total), |(_, error)| Err(error))
}

/// The normalization per channel, and the same for all channels together.
fn normalizations(sums: &[ChannelSums]) -> (Normalization, Normalization) {
    let (mean, std) = sums.iter().map(ChannelSums::mean_and_std).unzip();
    let mut all = ChannelSums::default();
    sums.iter().for_each(|sums| all.add(sums));
    let (global_mean, global_std) = all.mean_and_std();
    let global = Normalization { mean: vec![global_mean; sums.len()], std: vec![global_std; sums.len()] };
    (Normalization { mean, std }, global)
}

/// The facts about the data that a plan needs: sizes and channels in force, and statistics where the spec wants them
/// measured, for which images are read from `files`, unless `cache` knows them. `init` is left empty. Statistics of
/// targets are over all usable training samples, see [`TargetStatistics::of`].
///
/// - `prepare.size = "auto"`: the size that all images have.
/// - `prepare.channels = "auto"`: 1 when all images are stored grey, else 3.
/// - Statistics: over the usable training samples, or `data.statistics_samples` of them, chosen at addresses under
///   (seed, statistics), as evaluation would see them.
///
/// # Errors
/// When the size is open and images differ, or an image cannot be loaded.
pub fn facts(
    spec: &Spec,
    scanned: &Scanned,
    files: &Arc<dyn Files>,
    cache: Option<&LookCache>,
    progress: &Progress,
) -> Result<DataFacts, ScanError> {
    let manifest = &scanned.manifest;
    let size = match spec.prepare.size {
        Size::Fixed(size) => size,
        Size::Auto => common_size(scanned)?,
    };
    let channels = match spec.prepare.channels {
        Channels::Fixed(channels) => channels,
        Channels::Auto if all_images(scanned).all(|image| image.channels == 1) => 1,
        Channels::Auto => 3,
    };
    let usable = manifest.train.usable();
    let (measured, measured_global) = if is_measured(&spec.prepare) {
        let input = Input { height: size[0], width: size[1], channels };
        let images = Images::open(manifest.train.clone(), files.clone(), Limits::from(&spec.data), 0)?
            .stretched(spec.prepare.depth16.range());
        let samples = chosen(&usable, spec.data.statistics_samples, spec.seed);
        let geometry = Geometry::new(&spec.prepare, input);
        // Samples of one file are in memory already.
        let room = if images.are_in_memory() { 0 } else { bytes_of_largest(scanned) };
        let measured = || measure(&images, &geometry, &samples, room, progress);
        let sums = match cache {
            Some(cache) => cache.sums(&sums_key(&manifest.train, &spec.prepare, input, &samples), measured)?,
            None => measured()?,
        };
        let (each, global) = normalizations(&sums);
        (Some(each), Some(global))
    } else {
        (None, None)
    };
    Ok(DataFacts {
        names: manifest.names.clone(),
        labels: manifest.labels,
        train_samples: usable.len() as u32,
        validation_samples: manifest.validation.usable().len() as u32,
        class_counts: manifest.class_counts(),
        targets: TargetStatistics::of(manifest),
        size,
        channels,
        measured,
        measured_global,
        manifest: manifest.digest(),
        init: None,
    })
}

/// What sums over `samples` depend on: the files, and how they become inputs.
fn sums_key(split: &Split, prepare: &Prepare, input: Input, samples: &[u32]) -> Vec<u8> {
    let mut key = serde_json::to_vec(&(prepare, input)).expect("it is plain data");
    for sample in samples {
        let entry = split.samples.at(*sample as usize);
        key.extend_from_slice(&split.file_of(*sample as usize).blake3.0);
        key.extend_from_slice(&entry.index.to_le_bytes());
    }
    key
}

fn all_images(scanned: &Scanned) -> impl Iterator<Item = &ImageFacts> {
    scanned.train.usable().chain(scanned.validation.usable())
}

/// Bytes of the largest training image, with its file.
fn bytes_of_largest(scanned: &Scanned) -> u64 {
    let pixels = scanned.train.usable().map(|image| u64::from(image.width) * u64::from(image.height)).max();
    let file = scanned.manifest.train.files.iter().map(|file| file.size).max();
    bytes_of(pixels.unwrap_or(0)).saturating_add(file.unwrap_or(0))
}

/// Largest side that an input may have.
const LARGEST_INPUT: u32 = 4096;

fn common_size(scanned: &Scanned) -> Result<[u32; 2], ScanError> {
    let area = |image: &&ImageFacts| (u64::from(image.width) * u64::from(image.height), image.width);
    let words = |image: &ImageFacts| format!("{} x {}", image.width, image.height);
    let smallest = all_images(scanned).min_by_key(area).expect("a scan without usable images fails");
    let largest = all_images(scanned).max_by_key(area).expect("a scan without usable images fails");
    let (width, height) = (smallest.width, smallest.height);
    if all_images(scanned).any(|image| (image.width, image.height) != (width, height)) {
        return Err(ScanError::SizesDiffer { smallest: words(smallest), largest: words(largest) });
    }
    if width > LARGEST_INPUT || height > LARGEST_INPUT {
        return Err(ScanError::SizeTooLarge { width, height });
    }
    Ok([height, width])
}

fn is_measured(prepare: &Prepare) -> bool {
    let word = |statistic: &Statistic| {
        matches!(statistic, Statistic::Word(StatisticWord::Measured | StatisticWord::MeasuredGlobal))
    };
    match prepare.normalize {
        Normalize::Unit | Normalize::Signed => false,
        Normalize::Mean => word(&prepare.mean),
        Normalize::Zscore => word(&prepare.mean) || word(&prepare.std),
    }
}

/// The samples to be measured, in ascending order.
fn chosen(usable: &[u32], most: u32, seed: u64) -> Vec<u32> {
    if usable.len() <= most as usize {
        return usable.to_vec();
    }
    let order = permutation(seed, Purpose::Statistics, 0, usable.len() as u32);
    let mut samples: Vec<u32> = order.into_iter().take(most as usize).map(|at| usable[at as usize]).collect();
    samples.sort_unstable();
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_samples_are_all_taken() {
        assert_eq!(chosen(&[3, 5, 9], 3, 0), [3, 5, 9]);
        let some = chosen(&(0..100).collect::<Vec<_>>(), 10, 0);
        assert!(some.len() == 10 && some.is_sorted() && some != (0..10).collect::<Vec<_>>());
    }
}
