//! The checks of a spec that need no data.

use super::{
    CUDA_F32_V1, Channels, Layer, LayerKind, MAX_NAMES, NUMERICS, Normalize, OptimizerKind, ScheduleKind, Size, Spec,
    Statistic, is_numerics,
};

/// Most layers of a network, those inside residual blocks included.
const MAX_LAYERS: usize = 4096;
/// Longest name of a layer, in bytes. The names of the layers inside it begin with it.
const MAX_LAYER_NAME: usize = 128;
/// Most folders that lie elsewhere than a table says.
const MAX_MOVED: usize = 64;
/// Largest share of a new value in running statistics whose changes are rounded: a change may be a 2^-8 too large.
const MOST_MOMENTUM: f64 = 0.99;
/// Longest name of a job, in bytes.
const MAX_NAME: usize = 1024;

/// A key, and what is wrong with its value.
pub(crate) type Problem = (String, String);

/// Checks everything about a spec that needs no data.
///
/// # Errors
/// The first key that is out of range or does not belong, with a remedy.
pub(crate) fn check_spec(spec: &Spec) -> Result<(), Problem> {
    check_numerics(&spec.numerics)?;
    if spec.seed >= 1 << 53 {
        return problem("seed", "must be below 2^53, so that every TOML and JSON reader keeps it");
    }
    if spec.name.len() > MAX_NAME {
        return problem("name", format!("has {} bytes; at most {MAX_NAME} are of use", spec.name.len()));
    }
    check_data(spec)?;
    check_prepare(spec)?;
    check_augment(spec)?;
    check_network(spec)?;
    check_optimizer(spec)?;
    check_schedule(spec)?;
    check_train(spec)
}

fn check_numerics(numerics: &str) -> Result<(), Problem> {
    let known = NUMERICS.join("`, `");
    match numerics {
        name if is_numerics(name) => Ok(()),
        CUDA_F32_V1 => problem(
            "numerics",
            format!(
                "`{CUDA_F32_V1}` names no GPU; leave the key out and say `convoy train --device cuda`, or write the whole \
                 class, as `convoy worker --device cuda` says it"
            ),
        ),
        name => problem(
            "numerics",
            format!("`{name}` is not known; this version computes `{known}` and `{CUDA_F32_V1}/...`"),
        ),
    }
}

/// An error about `key`.
pub(crate) fn problem<T>(key: &str, text: impl Into<String>) -> Result<T, Problem> {
    Err((key.to_owned(), text.into()))
}

/// Checks that `low <= value <= high`.
pub(crate) fn within(key: &str, value: f64, low: f64, high: f64) -> Result<(), Problem> {
    if value >= low && value <= high {
        Ok(())
    } else {
        problem(key, format!("is {value}, but must be from {low} to {high}"))
    }
}

fn at_least_one(key: &str, value: u64) -> Result<(), Problem> {
    if value >= 1 { Ok(()) } else { problem(key, "must be at least 1") }
}

/// Checks that `value` is above zero and finite.
pub(crate) fn positive(key: &str, value: f64) -> Result<(), Problem> {
    if value > 0.0 && value.is_finite() { Ok(()) } else { problem(key, format!("is {value}, but must be positive")) }
}

fn check_data(spec: &Spec) -> Result<(), Problem> {
    if spec.data.train.is_empty() {
        return problem("data.train", "is empty; name a folder or a CSV file");
    }
    if spec.data.label_columns.len() > MAX_NAMES {
        let text = format!("names {} columns; there may be {MAX_NAMES}", spec.data.label_columns.len());
        return problem("data.label_columns", text);
    }
    if let Some(delimiter) = &spec.data.delimiter
        && !separates(delimiter)
    {
        let text = format!("is {delimiter:?}; it is one character that stands in no path or number, for example \";\"");
        return problem("data.delimiter", text);
    }
    if spec.data.label_separator.as_ref().is_some_and(String::is_empty) {
        return problem("data.label_separator", "is empty; name what stands between two labels, for example \",\"");
    }
    if spec.data.moved.len() > MAX_MOVED {
        return problem("data.moved", format!("names {} folders; there may be {MAX_MOVED}", spec.data.moved.len()));
    }
    if spec.data.moved.iter().any(|(from, to)| from.is_empty() || to.is_empty()) {
        return problem(
            "data.moved",
            "has an empty path; write { \"what paths begin with\" = \"the folder that it is\" }",
        );
    }
    within("data.validation_fraction", spec.data.validation_fraction, 0.0, 0.9)?;
    at_least_one("data.max_image_side", spec.data.max_image_side.into())?;
    within("data.max_image_side", spec.data.max_image_side.into(), 1.0, 65_535.0)?;
    at_least_one("data.statistics_samples", spec.data.statistics_samples.into())
}

/// Whether `text` may stand between the columns of a table: letters, digits and what paths and numbers are made of
/// would cut fields, a quote and a line end mean something else.
fn separates(text: &str) -> bool {
    match text.as_bytes() {
        [byte] => byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"\"\n\r./\\-_".contains(byte),
        _ => false,
    }
}

fn check_prepare(spec: &Spec) -> Result<(), Problem> {
    let prepare = &spec.prepare;
    if let Size::Fixed(size) = prepare.size {
        for side in size {
            within("prepare.size", side.into(), 1.0, 4096.0)?;
        }
    }
    if let Channels::Fixed(channels) = prepare.channels
        && ![1, 3].contains(&channels)
    {
        return problem("prepare.channels", format!("is {channels}, but must be 1 (grey), 3 (RGB) or \"auto\""));
    }
    within("prepare.crop_fraction", prepare.crop_fraction, 0.1, 1.0)?;
    if let Some([low, high]) = prepare.depth16.range().filter(|[low, high]| low >= high) {
        return problem("prepare.depth16", format!("is [{low}, {high}], but the first number must be the smaller one"));
    }
    for (key, statistic) in [("prepare.mean", &prepare.mean), ("prepare.std", &prepare.std)] {
        let numbers: &[f64] = match statistic {
            Statistic::Word(_) => &[],
            Statistic::Global(value) => std::slice::from_ref(value),
            Statistic::PerChannel(values) => values,
        };
        if let Some(bad) = numbers.iter().find(|value| !value.is_finite() || (key == "prepare.std" && **value <= 0.0)) {
            return problem(key, format!("{bad} is not allowed; a mean is finite, a standard deviation positive"));
        }
        let used = match prepare.normalize {
            Normalize::Zscore => true,
            Normalize::Mean => key == "prepare.mean",
            Normalize::Unit | Normalize::Signed => false,
        };
        if !used && !numbers.is_empty() {
            return problem(key, "is not used by this prepare.normalize; leave it out, or use \"zscore\" or \"mean\"");
        }
    }
    Ok(())
}

fn check_augment(spec: &Spec) -> Result<(), Problem> {
    let augment = &spec.augment;
    within("augment.horizontal_flip", augment.horizontal_flip, 0.0, 1.0)?;
    within("augment.vertical_flip", augment.vertical_flip, 0.0, 1.0)?;
    within("augment.rotate", augment.rotate, 0.0, 180.0)?;
    within("augment.brightness", augment.brightness, 0.0, 1.0)?;
    within("augment.contrast", augment.contrast, 0.0, 1.0)?;
    within("augment.saturation", augment.saturation, 0.0, 1.0)?;
    within("augment.hue", augment.hue, 0.0, 0.5)?;
    within("augment.erase", augment.erase, 0.0, 1.0)?;
    within("augment.crop_padding", augment.crop_padding.into(), 0.0, 4096.0)?;
    let ranges = [
        ("augment.scale", augment.scale, 0.1, 10.0),
        ("augment.random_resized_crop", augment.random_resized_crop, 0.01, 1.0),
        ("augment.crop_aspect", augment.crop_aspect, 0.1, 10.0),
    ];
    for (key, range, low, high) in ranges {
        let Some([from, to]) = range else { continue };
        within(key, from, low, high)?;
        within(key, to, low, high)?;
        if from > to {
            return problem(key, format!("[{from}, {to}] is upside down; write [{to}, {from}]"));
        }
    }
    if augment.crop_aspect.is_some() && augment.random_resized_crop.is_none() {
        return problem("augment.crop_aspect", "belongs to augment.random_resized_crop, which is not set");
    }
    if augment.crop_padding > 0 && augment.random_resized_crop.is_some() {
        return problem("augment.crop_padding", "and augment.random_resized_crop exclude each other; keep one");
    }
    Ok(())
}

fn check_network(spec: &Spec) -> Result<(), Problem> {
    if spec.network.name.is_some() && !spec.network.layers.is_empty() {
        return problem("network.name", "and network.layers exclude each other; keep one");
    }
    let mut layers = 0;
    check_layers(&spec.network.layers, &mut layers)
}

/// Checks `layers` and those inside them, and adds their number to `counted`. The recursion is bounded: TOML that nests
/// deeper is refused when it is read.
fn check_layers(layers: &[Layer], counted: &mut usize) -> Result<(), Problem> {
    *counted += layers.len();
    if *counted > MAX_LAYERS {
        return problem("network.layers", format!("has {counted} layers or more; there may be {MAX_LAYERS}"));
    }
    for layer in layers {
        if let Some(long) = layer.name.as_ref().filter(|name| name.len() > MAX_LAYER_NAME) {
            let text = format!("has a layer whose name has {} bytes; there may be {MAX_LAYER_NAME}", long.len());
            return problem("network.layers", text);
        }
        if let LayerKind::Residual { layers, .. } = &layer.kind {
            check_layers(layers, counted)?;
        }
    }
    Ok(())
}

fn check_optimizer(spec: &Spec) -> Result<(), Problem> {
    let optimizer = &spec.optimizer;
    positive("optimizer.lr", optimizer.lr)?;
    within("optimizer.weight_decay", optimizer.weight_decay, 0.0, 10.0)?;
    let sgd = optimizer.kind == OptimizerKind::Sgd;
    let foreign = [
        ("optimizer.momentum", optimizer.momentum.is_some() && !sgd, "sgd"),
        ("optimizer.nesterov", optimizer.nesterov.is_some() && !sgd, "sgd"),
        ("optimizer.betas", optimizer.betas.is_some() && sgd, "adam and adamw"),
        ("optimizer.eps", optimizer.eps.is_some() && sgd, "adam and adamw"),
    ];
    refuse_foreign(&foreign)?;
    if let Some(momentum) = optimizer.momentum {
        within("optimizer.momentum", momentum, 0.0, 0.9999)?;
    }
    if optimizer.nesterov == Some(true) && optimizer.momentum == Some(0.0) {
        return problem("optimizer.nesterov", "needs a momentum above 0");
    }
    for beta in optimizer.betas.into_iter().flatten() {
        within("optimizer.betas", beta, 0.0, 0.999_999)?;
    }
    optimizer.eps.map_or(Ok(()), |eps| positive("optimizer.eps", eps))?;
    optimizer.clip_norm.map_or(Ok(()), |norm| positive("optimizer.clip_norm", norm))
}

fn check_schedule(spec: &Spec) -> Result<(), Problem> {
    let schedule = &spec.schedule;
    let is = |kind| schedule.kind == kind;
    refuse_foreign(&[
        ("schedule.every_epochs", schedule.every_epochs.is_some() && !is(ScheduleKind::Step), "step"),
        ("schedule.gamma", schedule.gamma.is_some() && !is(ScheduleKind::Step), "step"),
        ("schedule.final_fraction", schedule.final_fraction.is_some() && !is(ScheduleKind::Cosine), "cosine"),
        ("schedule.rise", schedule.rise.is_some() && !is(ScheduleKind::OneCycle), "one_cycle"),
        ("schedule.div_factor", schedule.div_factor.is_some() && !is(ScheduleKind::OneCycle), "one_cycle"),
        ("schedule.final_div_factor", schedule.final_div_factor.is_some() && !is(ScheduleKind::OneCycle), "one_cycle"),
        (
            "schedule.warmup_epochs",
            schedule.warmup_epochs > 0.0 && is(ScheduleKind::OneCycle),
            "constant, step and cosine",
        ),
    ])?;
    within("schedule.warmup_epochs", schedule.warmup_epochs, 0.0, f64::from(spec.train.epochs))?;
    schedule.every_epochs.map_or(Ok(()), |every| positive("schedule.every_epochs", every))?;
    schedule.gamma.map_or(Ok(()), |gamma| within("schedule.gamma", gamma, 0.0, 1.0))?;
    schedule.final_fraction.map_or(Ok(()), |share| within("schedule.final_fraction", share, 0.0, 1.0))?;
    schedule.rise.map_or(Ok(()), |rise| within("schedule.rise", rise, 0.0, 1.0))?;
    schedule.div_factor.map_or(Ok(()), |factor| positive("schedule.div_factor", factor))?;
    schedule.final_div_factor.map_or(Ok(()), |factor| positive("schedule.final_div_factor", factor))
}

/// Refuses the first key that is set although it belongs to another kind. Each entry is a key, whether it is set
/// although it does not belong, and the kinds that it belongs to.
pub(crate) fn refuse_foreign(foreign: &[(&str, bool, &str)]) -> Result<(), Problem> {
    match foreign.iter().find(|(_, set, _)| *set) {
        Some((key, _, owner)) => problem(key, format!("belongs to kind {owner} only; leave it out")),
        None => Ok(()),
    }
}

fn check_train(spec: &Spec) -> Result<(), Problem> {
    let train = &spec.train;
    at_least_one("train.epochs", train.epochs.into())?;
    at_least_one("train.batch", train.batch.into())?;
    at_least_one("train.shard", train.shard.into())?;
    within("train.epochs", train.epochs.into(), 1.0, 100_000.0)?;
    within("train.batch", train.batch.into(), 1.0, 1_048_576.0)?;
    if train.shard > train.batch {
        return problem("train.shard", format!("is {}, more than train.batch = {}", train.shard, train.batch));
    }
    if let Some(stopping) = &train.early_stopping {
        at_least_one("train.early_stopping.patience", stopping.patience.into())?;
        within("train.early_stopping.min_delta", stopping.min_delta, 0.0, f64::MAX)?;
    }
    if !train.compression.is_none() && fastest_statistics(&spec.network.layers) > MOST_MOMENTUM {
        let text = format!("would make variances negative where a batch norm's momentum is above {MOST_MOMENTUM}");
        return problem("train.compression", text);
    }
    at_least_one("checkpoint.keep", spec.checkpoint.keep.into())
}

/// The largest momentum of a batch norm.
fn fastest_statistics(layers: &[Layer]) -> f64 {
    let of = |layer: &Layer| match &layer.kind {
        LayerKind::BatchNorm { momentum, .. } => *momentum,
        LayerKind::Residual { layers, .. } => fastest_statistics(layers),
        _ => 0.0,
    };
    layers.iter().map(of).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use crate::spec::parse;

    /// Parses `head`, then training data, then `rest`.
    fn refused(head: &str, rest: &str) -> String {
        let text = format!("{head}\n[data]\ntrain = \"x\"\n{rest}");
        parse(&text, &[]).expect_err("this spec should be refused").to_string()
    }

    fn layers(list: &str) -> String {
        refused("", &format!("[network]\nlayers = [{list}]"))
    }

    #[test]
    fn the_numerics_class_of_a_gpu_is_whole() {
        for known in ["cpu-f32-v1", "cpu-f32-direct-v1", "cuda-f32-v1/NVIDIA H100 80GB HBM3/driver-13.0"] {
            let spec = parse(&format!("numerics = \"{known}\"\n[data]\ntrain = \"x\""), &[]).unwrap();
            assert_eq!(spec.numerics, known);
        }
        assert!(refused("numerics = \"cuda-f32-v1\"", "").contains("line 1: `numerics`: `cuda-f32-v1` names no GPU"));
        for unknown in
            ["", "cuda-f32-v1/", "cuda-f32-v11/X", "cuda-f32-v1/\\n", &format!("cuda-f32-v1/{}", "x".repeat(257))]
        {
            assert!(refused(&format!("numerics = \"{unknown}\""), "").contains("is not known"), "{unknown}");
        }
    }

    #[test]
    fn statistics_that_follow_too_fast_do_not_go_with_rounded_changes() {
        let spec = |compression: &str, momentum: f64| {
            let norm = format!("{{ type = \"batch_norm\", momentum = {momentum} }}");
            let layers = format!("[network]\nlayers = [{{ type = \"residual\", layers = [{norm}] }}]");
            format!("[train]\ncompression = \"{compression}\"\n{layers}")
        };
        let error = refused("", &spec("bf16", 0.995));
        assert!(error.contains("`train.compression`: would make variances negative"), "{error}");
        for fine in [spec("bf16", 0.99), spec("none", 1.0)] {
            parse(&format!("[data]\ntrain = \"x\"\n{fine}"), &[]).unwrap();
        }
    }

    #[test]
    fn a_spec_has_bounds_on_all_that_its_text_may_repeat() {
        let check = |error: String, names: [&str; 2]| {
            assert!(names.iter().all(|name| error.contains(name)), "{names:?} are not in: {:.300}", error);
        };
        let relu = "{ type = \"relu\" }, ";
        check(layers(&relu.repeat(4097)), ["`network.layers`", "4097 layers"]);
        let block = format!("{{ type = \"residual\", layers = [{}] }}, ", relu.repeat(2048));
        check(layers(&block.repeat(2)), ["`network.layers`", "4098 layers"]);
        let named = |length: usize| format!("{{ type = \"relu\", name = \"{}\" }}", "n".repeat(length));
        check(layers(&named(129)), ["`network.layers`", "129 bytes"]);
        let inside = format!("{{ type = \"residual\", layers = [{}] }}", named(1 << 20));
        check(layers(&inside), ["`network.layers`", "1048576 bytes"]);
        let columns = format!("label_columns = [{}]", "\"a\", ".repeat(2049));
        check(refused("", &columns), ["`data.label_columns`", "2049 columns"]);
        check(refused(&format!("name = \"{}\"", "n".repeat(1025)), ""), ["`name`", "1025 bytes"]);
    }

    #[test]
    fn as_much_as_is_allowed_is_read() {
        let text = format!("[data]\ntrain = \"x\"\n[network]\nlayers = [{}]", "{ type = \"relu\" }, ".repeat(4096));
        assert_eq!(parse(&text, &[]).map(|spec| spec.network.layers.len()), Ok(4096));
    }

    #[test]
    fn nesting_without_end_is_an_error_and_no_overflow_of_the_stack() {
        let deep = 200_000;
        for (open, close) in [("[", "]"), ("{ type = \"residual\", layers = [", "] }"), ("{ a = ", " }")] {
            let error = layers(&format!("{}{}", open.repeat(deep), close.repeat(deep)));
            let tail = error.lines().last().unwrap_or_default();
            assert!(tail.contains("max recursion depth"), "{tail:.300}");
        }
        assert!(!refused(&format!("{}x = 1", "a.".repeat(deep)), "").is_empty());
    }
}
