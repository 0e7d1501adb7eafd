//! From manifest to batches.

mod common;

use std::fs;
use std::sync::Arc;

use common::{data, idx, scan_at, two_classes, write};
use convoy_common::file_tree::Files;
use convoy_common::plan::Plan;
use convoy_common::spec::{Augment, Channels, Fill, Normalize, Prepare, Resize, Size, Spec, parse};
use convoy_common::{Batch, Targets};
use convoy_files::Disk;
use convoy_vision::{Dataset, LoadError, Loader, Mode, Pixels, Preparation, Request, Scanned, check, facts, preview};
use proptest::prelude::*;
use tempfile::{TempDir, tempdir};

fn spec(root: &TempDir, extra: &str) -> Spec {
    let text = format!("seed = 3\n{extra}\n[data]\ntrain = {:?}\n[train]\nbatch = 8\nshard = 4\n", root.path());
    parse(&text, &[]).unwrap()
}

fn disk() -> Arc<dyn Files> {
    Arc::new(Disk)
}

fn plan(scanned: &Scanned, spec: Spec) -> Plan {
    let facts = facts(&spec, scanned, &disk(), None, &|_, _| {}).unwrap();
    Plan::resolve(spec, &facts).unwrap()
}

const AUGMENTED: &str = "[augment]\nhorizontal_flip = 0.5\nvertical_flip = 0.5\nrotate = 20\nscale = [0.8, 1.2]\n\
    crop_padding = 2\nbrightness = 0.3\ncontrast = 0.3\nsaturation = 0.3\nhue = 0.1\nerase = 0.5";

fn photos() -> (TempDir, Scanned) {
    let root = tempdir().unwrap();
    two_classes(root.path(), 10);
    let scanned = scan_at(&data(root.path())).unwrap();
    (root, scanned)
}

fn train(epoch: u32) -> Mode {
    Mode::Train { seed: 3, epoch }
}

#[test]
fn facts_come_from_the_data() {
    let (root, scanned) = photos();
    let plan = plan(&scanned, spec(&root, ""));
    assert_eq!((plan.input.height, plan.input.width, plan.input.channels), (10, 12, 3));
    assert_eq!((plan.train_samples, plan.validation_samples), (16, 4));
    // With these statistics, the training data has mean 0 and deviation 1 in each channel.
    let usable = scanned.manifest.train.usable();
    let dataset = Dataset::open(&plan, scanned.manifest.train.clone(), Arc::new(Disk)).unwrap();
    let batch = dataset.batch(&usable, Mode::Evaluate).unwrap();
    for channel in 0..3 {
        let values = || batch.x_nhwc.iter().skip(channel).step_by(3).map(|x| f64::from(*x));
        let count = values().count() as f64;
        let mean = values().sum::<f64>() / count;
        let variance = values().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
        assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-5, "{mean} {variance}");
    }
    // Each sample is where its number says, with its label.
    let Targets::Classes(classes) = batch.targets else { panic!("classes") };
    assert_eq!(classes, [vec![0; 8], vec![1; 8]].concat());
    let single = dataset.batch(&[9], Mode::Evaluate).unwrap();
    assert_eq!(single.x_nhwc, batch.x_nhwc[9 * 360..10 * 360]);
}

#[test]
fn an_open_size_needs_equal_images() {
    let (root, _) = photos();
    write(root.path(), "a/other.png", &common::grey_png(30, 31, 0));
    let scanned = scan_at(&data(root.path())).unwrap();
    let text = facts(&spec(&root, ""), &scanned, &disk(), None, &|_, _| {}).unwrap_err().to_string();
    assert!(text.contains("12 x 10") && text.contains("30 x 31") && text.contains("prepare.size"), "{text}");
    let fixed = plan(&scanned, spec(&root, "[prepare]\nsize = [7, 9]"));
    assert_eq!((fixed.input.height, fixed.input.width, fixed.input.channels), (7, 9, 3));
}

#[test]
fn grey_images_make_one_channel() {
    let root = tempdir().unwrap();
    for seed in 0..6 {
        write(root.path(), &format!("{}/{seed}.png", seed % 2), &common::grey_png(6, 6, seed));
    }
    let scanned = scan_at(&data(root.path())).unwrap();
    assert_eq!(plan(&scanned, spec(&root, "")).input.channels, 1);
    assert_eq!(plan(&scanned, spec(&root, "[prepare]\nchannels = 3")).input.channels, 3);
}

#[test]
fn a_changed_file_is_named() {
    let (root, scanned) = photos();
    let plan = plan(&scanned, spec(&root, ""));
    let split = scanned.manifest.train.clone();
    let dataset = Dataset::open(&plan, split.clone(), Arc::new(Disk)).unwrap();
    let path = root.path().join(split.files.at(0).path);
    let old = fs::read(&path).unwrap();
    dataset.batch(&[0], Mode::Evaluate).unwrap();
    fs::write(&path, common::png(12, 10, 77)).unwrap();
    // It is still in memory here, but a new worker must not read it.
    assert!(dataset.batch(&[0], Mode::Evaluate).is_ok());
    let error = Dataset::open(&plan, split.clone(), Arc::new(Disk)).unwrap().batch(&[0], Mode::Evaluate).unwrap_err();
    assert!(matches!(error, LoadError::Changed { .. }), "{error}");
    assert!(error.to_string().contains(split.files.at(0).path), "{error}");
    fs::remove_file(&path).unwrap();
    let error = Dataset::open(&plan, split.clone(), Arc::new(Disk)).unwrap().batch(&[0], Mode::Evaluate).unwrap_err();
    assert!(matches!(error, LoadError::Io { .. }), "{error}");
    fs::write(&path, old).unwrap();
    assert!(Dataset::open(&plan, split, Arc::new(Disk)).unwrap().batch(&[0], Mode::Evaluate).is_ok());
    assert!(matches!(dataset.batch(&[16], Mode::Evaluate), Err(LoadError::NoSuchSample { sample: 16, count: 16 })));
}

#[test]
fn changed_idx_files_are_named() {
    let root = tempdir().unwrap();
    let images: Vec<(u8, Vec<u8>)> = (0..20).map(|i| (i % 2, vec![i * 5; 16])).collect();
    let (pixels, labels) = idx(4, 4, &images);
    write(root.path(), "train-images-idx3-ubyte", &pixels);
    write(root.path(), "train-labels-idx1-ubyte", &labels);
    let scanned = scan_at(&data(root.path())).unwrap();
    let plan = plan(&scanned, spec(&root, ""));
    assert!(Dataset::open(&plan, scanned.manifest.train.clone(), Arc::new(Disk)).is_ok());
    let mut other = pixels.clone();
    *other.last_mut().unwrap() ^= 1;
    write(root.path(), "train-images-idx3-ubyte", &other);
    let error = Dataset::open(&plan, scanned.manifest.train.clone(), Arc::new(Disk)).err().unwrap();
    assert!(matches!(error, LoadError::Changed { .. }) && error.to_string().contains("train-images"), "{error}");
}

/// The batches of an epoch by a loader with these threads, asked for ahead of time.
fn batches(dataset: &Arc<Dataset>, threads: usize, capacity: usize) -> Vec<Batch> {
    let loader = Loader::new(Arc::clone(dataset), threads, capacity).unwrap();
    let requests: Vec<Request> =
        (0..8).map(|shard| Request { mode: train(1), samples: (shard * 2..shard * 2 + 2).collect() }).collect();
    requests.iter().for_each(|request| _ = loader.request(request.clone()));
    requests.iter().map(|request| loader.take(request).0.unwrap()).collect()
}

#[test]
fn threads_and_caches_change_nothing() {
    let (root, scanned) = photos();
    let mut plan = plan(&scanned, spec(&root, AUGMENTED));
    let open = |plan: &Plan| Arc::new(Dataset::open(plan, scanned.manifest.train.clone(), Arc::new(Disk)).unwrap());
    let cached = open(&plan);
    let first = batches(&cached, 1, 100);
    assert_eq!(batches(&cached, 3, 2), first);
    plan.spec.data.cache_mib = 0;
    assert_eq!(batches(&open(&plan), 3, 100), first);
    assert_ne!(first[0].x_nhwc, cached.batch(&[0, 1], train(2)).unwrap().x_nhwc);
}

/// Without a cache only the crop of a JPEG is decoded, with one all of it.
#[test]
fn a_cache_changes_no_random_crop() {
    let (root, scanned) = photos();
    let mut plan = plan(&scanned, spec(&root, "[augment]\nrandom_resized_crop = [0.1, 0.6]\nhorizontal_flip = 0.5"));
    let open = |plan: &Plan| Arc::new(Dataset::open(plan, scanned.manifest.train.clone(), Arc::new(Disk)).unwrap());
    let first = batches(&open(&plan), 1, 100);
    plan.spec.data.cache_mib = 0;
    assert_eq!(batches(&open(&plan), 1, 100), first);
}

#[test]
fn a_loader_forgets_what_it_is_told_to() {
    let (root, scanned) = photos();
    let plan = plan(&scanned, spec(&root, ""));
    let dataset = Arc::new(Dataset::open(&plan, scanned.manifest.train.clone(), Arc::new(Disk)).unwrap());
    let loader = Loader::new(dataset, 1, 2).unwrap();
    let request = |sample| Request { mode: Mode::Evaluate, samples: vec![sample] };
    assert!(loader.request(request(0)) && loader.request(request(0)) && loader.request(request(1)));
    assert!(!loader.request(request(2)), "two fit");
    loader.retain(|kept| kept.samples == [1]);
    assert!(loader.request(request(2)));
    for sample in [2, 1, 0, 5] {
        assert_eq!(loader.take(&request(sample)).0.unwrap().samples, [sample]);
    }
    let (failed, _) = loader.take(&request(99));
    assert!(matches!(failed, Err(LoadError::NoSuchSample { .. })));
}

#[test]
fn check_reports_what_is_odd() {
    let root = tempdir().unwrap();
    let train = root.path().join("train");
    two_classes(&train, 4);
    write(&train, "a/again.png", &common::png(12, 10, 0));
    write(&train, "b/0.png", &common::png(12, 10, 0));
    write(&train, "b/tiny.png", &common::png(3, 12, 0));
    write(&train, "b/long.png", &common::grey_png(120, 10, 0));
    write(&train, "b/notes.txt", b"");
    for seed in 0..20 {
        write(&train, &format!("b/more{seed}.png"), &common::png(12, 10, 200 + seed));
    }
    write(root.path(), "val/a/leak.png", &common::png(12, 10, 1));
    let report = check(&scan_at(&data(root.path())).unwrap());
    let split = &report.splits[0];
    assert_eq!(split.counts, [("a".to_owned(), 5), ("b".to_owned(), 27)]);
    assert_eq!(split.duplicates.len(), 1);
    assert_eq!(split.duplicates[0].paths, ["a/0.png", "a/again.png", "b/0.png"]);
    assert!(split.duplicates[0].labels_differ);
    assert_eq!(split.odd.iter().map(|(path, _)| &path[..]).collect::<Vec<_>>(), ["b/long.png", "b/tiny.png"]);
    assert_eq!((split.grey_among_colour, split.ignored, report.imbalance), (1, 1, Some(5.4)));
    assert_eq!(report.leaks[0].paths, ["training a/1.png", "validation a/leak.png"]);
    let text = report.to_string();
    for part in ["training: 32 samples", "labelled differently", "balanced", "1 are grey", "is only 3 x 12"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

/// The bytes of a grey PNG file of 16 bits.
fn png16(width: u32, values: &[u16]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, values.len() as u32 / width);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Sixteen);
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
    encoder.write_header().unwrap().write_image_data(&bytes).unwrap();
    file
}

#[test]
fn twelve_bits_are_reported_and_stretched() {
    let root = tempdir().unwrap();
    let low: Vec<u16> = (0..90).map(|at| 16 + at * 20).collect();
    let high: Vec<u16> = (0..90).map(|at| 4095 - at * 20).collect();
    write(root.path(), "a/0.png", &png16(10, &low));
    write(root.path(), "b/0.png", &png16(10, &high));
    write(root.path(), "b/7.txt", b"");
    let scanned = scan_at(&convoy_common::spec::Data { validation_fraction: 0.0, ..data(root.path()) }).unwrap();
    assert_eq!(scanned.train.stretch(), Ok([16, 4095]));
    let text = check(&scanned).to_string();
    for part in [
        "from 16 to 4095",
        "only 16 of 256 levels",
        "prepare.depth16 = \"stretch\"",
        "left out   1 (not a picture): b/7.txt",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let plan = plan(&scanned, spec(&root, "[prepare]\ndepth16 = [16, 4095]"));
    let dataset = Dataset::open(&plan, scanned.manifest.train.clone(), Arc::new(Disk)).unwrap();
    let expected = |values: &[u16]| -> Vec<u8> {
        values.iter().map(|value| (f64::from(value - 16) * 255.0 / 4079.0).round() as u8).collect()
    };
    assert_eq!(dataset.images().pixels(0).unwrap().data, expected(&low));
    assert_eq!(dataset.images().pixels(1).unwrap().data, expected(&high));
    // The statistics are those of the stretched images.
    assert!((plan.normalization.mean[0] - 0.5).abs() < 0.02, "{:?}", plan.normalization);
}

#[test]
fn the_preview_shows_what_the_first_shard_sees() {
    let (root, scanned) = photos();
    let plan = plan(&scanned, spec(&root, AUGMENTED));
    let dataset = Dataset::open(&plan, scanned.manifest.train.clone(), Arc::new(Disk)).unwrap();
    let picture = preview(&plan, &dataset, 1).unwrap();
    let order = convoy_common::epoch_order::EpochOrder::shuffled(3, 0, &scanned.manifest.train.usable());
    let first = dataset.batch(order.samples(0..1), train(0)).unwrap();
    let shown = dataset.preparation().denormalise(&first.x_nhwc);
    // Each number is a square of 8 dots; the picture begins after a margin of 4 and the original beside.
    for (x, y) in [(0, 0), (11, 0), (5, 7), (0, 9), (11, 9)] {
        assert_eq!(picture.pixel(4 + 96 + 1 + x * 8, 4 + y * 8), shown.pixel(x, y), "{x}, {y}");
    }
    assert!(picture.data.chunks(3).filter(|pixel| *pixel == [240, 240, 240]).count() > 10, "a name is written");
    assert!(preview(&plan, &dataset, 1000).unwrap().height > picture.height);
}

/// A preparation by its parts, with sensible numbers.
fn preparation(resize: Resize, normalize: Normalize, augment: Augment, channels: u32) -> Preparation {
    let prepare = Prepare {
        size: Size::Fixed([9, 7]),
        channels: Channels::Fixed(channels),
        resize,
        normalize,
        fill: Fill::Edge,
        ..Prepare::default()
    };
    let input = convoy_common::plan::Input { height: 9, width: 7, channels };
    let normalization =
        convoy_common::plan::Normalization { mean: vec![0.5; channels as usize], std: vec![0.25; channels as usize] };
    Preparation::new(&prepare, &augment, input, &normalization)
}

/// Every operation at once.
fn everything() -> Augment {
    parse(&format!("{AUGMENTED}\n[data]\ntrain = \"x\"\n"), &[]).unwrap().augment
}

proptest! {
    /// Any size of image, any rule, any address: the right number of finite numbers, and the same again.
    #[test]
    fn preparing_is_a_function_of_its_address(
        width in 1u32..40, height in 1u32..40, colour: bool, to_colour: bool, rule in 0usize..4, resized: bool,
        seed: u64, epoch in 0u32..3, sample in 0u32..100,
    ) {
        let channels = if colour { 3 } else { 1 };
        let image = Pixels::new(width, height, channels, (0..width * height * channels).map(|i| (i * 37) as u8).collect());
        let rules = [Resize::Crop, Resize::Letterbox, Resize::Stretch, Resize::None];
        let mut augment = everything();
        if resized {
            augment.crop_padding = 0;
            augment.random_resized_crop = Some([0.2, 1.0]);
        }
        let preparation = preparation(rules[rule], Normalize::Zscore, augment, if to_colour { 3 } else { 1 });
        let prepare = |mode| {
            let mut out = vec![f32::NAN; preparation.input().len()];
            preparation.prepare(&image, mode, sample, &mut out);
            out
        };
        for mode in [Mode::Evaluate, Mode::Train { seed, epoch }] {
            let out = prepare(mode);
            prop_assert!(out.iter().all(|number| (-2.0..=2.0).contains(number)));
            prop_assert_eq!(&out, &prepare(mode));
        }
    }
}

#[test]
fn epochs_and_samples_are_augmented_differently() {
    let image = Pixels::new(20, 20, 3, (0..1200u32).map(|i| (i * i / 7) as u8).collect());
    let preparation = preparation(Resize::Crop, Normalize::Zscore, everything(), 3);
    let seen = |seed, epoch, sample| preparation.prepare_u8(&image, Mode::Train { seed, epoch }, sample).data;
    let base = seen(1, 0, 0);
    assert!([seen(2, 0, 0), seen(1, 1, 0), seen(1, 0, 1)].iter().all(|other| *other != base));
}

/// Frequencies and ranges over many samples, one operation at a time.
#[test]
fn operations_happen_as_often_as_asked() {
    let ramp = Pixels::new(7, 9, 1, (0..63u8).map(|i| i * 4).collect());
    let count = |augment: Augment, what: fn(&Pixels, &Pixels) -> bool| {
        let preparation = preparation(Resize::None, Normalize::Unit, augment, 1);
        let seen = |sample| preparation.prepare_u8(&ramp, train(0), sample);
        (0..1000).filter(|sample| what(&seen(*sample), &ramp)).count()
    };
    let flipped = count(Augment { horizontal_flip: 0.3, ..Augment::default() }, |seen, ramp| seen != ramp);
    assert!((250..350).contains(&flipped), "{flipped}");
    let upside_down =
        count(Augment { vertical_flip: 0.7, ..Augment::default() }, |seen, ramp| seen.pixel(0, 0) == ramp.pixel(0, 8));
    assert!((650..750).contains(&upside_down), "{upside_down}");
    let padded = Augment { crop_padding: 1, ..Augment::default() };
    let unmoved = count(padded, |seen, ramp| seen == ramp);
    assert!((70..160).contains(&unmoved), "one of nine places: {unmoved}");
    let brighter = count(Augment { brightness: 0.5, ..Augment::default() }, |seen, ramp| {
        let (seen, ramp) = (seen.pixel(6, 4)[0], ramp.pixel(6, 4)[0]);
        assert!(u16::from(seen) <= u16::from(ramp) * 3 / 2 && seen >= ramp / 2, "{seen} {ramp}");
        seen > ramp
    });
    assert!((430..570).contains(&brighter), "{brighter}");
}

#[test]
fn erased_rectangles_are_zero_and_of_the_size_asked_for() {
    let image = Pixels::new(7, 9, 3, vec![255; 189]);
    let preparation = preparation(Resize::None, Normalize::Zscore, Augment { erase: 1.0, ..Augment::default() }, 3);
    let mut seen = 0;
    for sample in 0..200 {
        let mut out = vec![0.0; 189];
        preparation.prepare(&image, train(0), sample, &mut out);
        let erased = out.chunks(3).filter(|pixel| **pixel == [0.0; 3]).count();
        assert!(erased <= 26, "{erased} of 63 pixels");
        seen += usize::from(erased > 0);
        assert!(out.iter().all(|number| *number == 0.0 || *number == 2.0));
    }
    assert!(seen > 190, "{seen}");
}
