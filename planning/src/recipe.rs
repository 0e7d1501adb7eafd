//! Training without a spec: everything is chosen from the data alone, and said why.

use std::path::Path;

use convoy_common::manifest::{LabelKind, Manifest};
use convoy_vision::Scanned;

use crate::error::PlanningError;
use crate::look::{Looking, look_here};
use crate::spec_file::{SpecFile, text_override};

/// Samples that a run should see in all; what decides the number of epochs.
const SAMPLES_SEEN: u64 = 150_000;

/// Training samples of numbers from which `resnet18` is worth its eleven million parameters.
const VALUES_OF_RESNET: u64 = 5_000;

/// The spec for the images at `path` on this machine, what was seen of them, and the reasons. `overrides` win over what
/// is chosen.
///
/// # Errors
/// When the data cannot be used or an override makes no sense.
pub fn choose(
    path: &Path,
    overrides: &[String],
    looking: &Looking,
) -> Result<(SpecFile, Scanned, String), PlanningError> {
    let name = path.file_stem().map_or_else(|| "job".to_owned(), |name| name.to_string_lossy().into_owned());
    let mut given = vec![text_override("data.train", &path.display().to_string()), text_override("name", &name)];
    given.extend_from_slice(overrides);
    let scanned = look_here(&SpecFile::of_overrides(&given)?.spec, looking)?;
    let (chosen, reasons) = recipe(&scanned);
    // Behind the data, before the overrides that were given.
    given.splice(2..2, chosen);
    Ok((SpecFile::of_overrides(&given)?, scanned, reasons))
}

/// Overrides for the data that was looked at, and the reasons for them.
fn recipe(scanned: &Scanned) -> (Vec<String>, String) {
    let manifest = &scanned.manifest;
    let samples = manifest.train.usable().len().max(1) as u64;
    let mut chosen = Vec::new();
    let mut reasons = vec!["chosen from the data (all of it in the run folder's spec.toml):".to_owned()];
    let mut choose = |settings: &[String], why: String| {
        chosen.extend_from_slice(settings);
        reasons.push(format!("  {:<44} {why}", settings.join(", ")));
    };
    let side = choose_size(scanned, &mut choose);
    let values = manifest.labels == LabelKind::Values;
    choose_network(side, values.then_some(samples), &mut choose);
    let batch = [128, 64, 32, 16, 8].into_iter().find(|batch| samples >= 20 * batch).unwrap_or(8);
    choose(
        &[format!("train.batch={batch}"), format!("train.shard={}", batch.min(32))],
        format!("{samples} training samples make {} steps an epoch", samples.div_ceil(batch)),
    );
    let epochs = (SAMPLES_SEEN / samples).clamp(5, 60);
    choose(&[format!("train.epochs={epochs}")], format!("about {} samples seen in all", epochs * samples));
    if values {
        choose_for_values(&mut choose);
    }
    if let Some((most, least)) = imbalance(manifest) {
        choose(
            &["loss.class_weights=\"balanced\"".to_owned()],
            format!("the largest class has {most} samples, the smallest {least}"),
        );
    }
    (chosen, reasons.join("\n"))
}

fn choose_size(scanned: &Scanned, choose: &mut impl FnMut(&[String], String)) -> u32 {
    let sizes = scanned.train.sizes().unwrap_or([(32, 32); 3]);
    let [smallest, (width, height), largest] = sizes;
    let short = width.min(height);
    let values = scanned.manifest.labels == LabelKind::Values;
    if smallest == largest && width.max(height) <= 64 {
        if !values {
            choose(&["augment.crop_padding=2".to_owned()], format!("all images are {width}x{height}; they stay so"));
        }
        return short;
    }
    let side = [160, 128, 96, 64, 32].into_iter().find(|side| short >= *side).unwrap_or(32);
    let median = format!("the median image is {width}x{height}");
    if values {
        let size =
            if width < height { [long_side(side, short, height), side] } else { [side, long_side(side, short, width)] };
        choose(&[format!("prepare.size={size:?}")], median);
        choose(
            &["prepare.resize=\"letterbox\"".to_owned()],
            "nothing is cropped: what is counted or measured may lie anywhere".to_owned(),
        );
        return side;
    }
    choose(&[format!("prepare.size={side}")], median);
    choose(
        &["augment.random_resized_crop=[0.35, 1.0]".to_owned(), "augment.horizontal_flip=0.5".to_owned()],
        "photographs of different sizes".to_owned(),
    );
    side
}

/// The longer side in proportion, in steps of 32 pixels, and at most twice the shorter one.
fn long_side(side: u32, short: u32, long: u32) -> u32 {
    let proportional = u64::from(side) * u64::from(long) / u64::from(short.max(1));
    (proportional.div_ceil(32) * 32).min(2 * u64::from(side)) as u32
}

/// `values` is the number of samples of a regression.
fn choose_network(side: u32, values: Option<u64>, choose: &mut impl FnMut(&[String], String)) {
    let (network, why) = match (side, values) {
        (0..=64, _) => ("simple-cnn", "small images"),
        (_, Some(samples)) if samples < VALUES_OF_RESNET => {
            ("simple-cnn-photo", "larger images; with so few numbers a larger network learns them by heart")
        }
        _ => ("resnet18", "larger images"),
    };
    choose(&[format!("network.name=\"{network}\"")], why.to_owned());
}

fn choose_for_values(choose: &mut impl FnMut(&[String], String)) {
    choose(
        &["augment.horizontal_flip=0.5".to_owned()],
        "a mirror image has the same values; 0 where values tell left from right".to_owned(),
    );
    choose(&["loss.kind=\"mae\"".to_owned()], "a few wrong numbers do not lead it astray".to_owned());
    choose(
        &[
            "optimizer.kind=\"adamw\"".to_owned(),
            "optimizer.lr=0.002".to_owned(),
            "optimizer.weight_decay=0.02".to_owned(),
            "schedule.kind=\"one_cycle\"".to_owned(),
        ],
        "numbers need smaller steps than classes".to_owned(),
    );
}

/// Samples of the largest and the smallest class, where one has more than three times as many as the other.
fn imbalance(manifest: &Manifest) -> Option<(u64, u64)> {
    let counts = manifest.class_counts();
    let (most, least) = (*counts.iter().max()?, *counts.iter().min()?);
    (most > 3 * least).then_some((most, least))
}
