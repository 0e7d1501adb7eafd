//! `[data]`, `[prepare]`, `[augment]` and `task`.

use serde::{Deserialize, Serialize};

/// The kind of task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// From the data, by the rule in `docs/tables.md`; said with its reason.
    #[default]
    Auto,
    /// One of several classes: softmax.
    Multiclass,
    /// One of two classes with a single output: sigmoid.
    Binary,
    /// Any number of labels: sigmoids.
    Multilabel,
    /// Real numbers.
    Regression,
}

/// `[data]`: where images and labels are.
/// Many fields: each is a key that users write, in a table of one level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// A folder (class folders, or one that holds `train` and `val`, or MNIST's or CIFAR's files, or Parquet files, or
    /// tar archives), a CSV, Parquet or npz file, a tar archive, or a pattern of archives such as
    /// `train-{000..129}.tar`. For jobs of a coordinator also `dataset:NAME/inner/path` in a data set that it keeps, or
    /// `shared:inner/path` in the folder that it and its workers see.
    pub train: String,
    /// Validation data of the same kind; found beside the training data when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<String>,
    /// Share of the training samples that becomes validation when there is no validation data; stratified by
    /// class and split by `seed`. 0 trains without validation.
    #[serde(default = "fifth")]
    pub validation_fraction: f64,
    /// Kind of source.
    #[serde(default)]
    pub format: DataFormat,
    /// Column of a CSV that holds the path, relative to `images` or to the CSV's folder; absolute paths and `..` work.
    #[serde(default = "path_column")]
    pub path_column: String,
    /// Columns of a CSV that hold the label or values; all the others that have a name when empty. In tar archives what
    /// follows the first point of a file's name, such as `cls`, or keys of a sample's `.json`. In Parquet files the one
    /// called `label`, where there is one.
    #[serde(default)]
    pub label_columns: Vec<String>,
    /// Folder that a CSV's paths start from; the CSV's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<String>,
    /// What a CSV's paths lack at their end, for example `".png"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<String>,
    /// Column of a CSV that says which rows are training and which are validation data: by the names of splits
    /// (`train`, `val`, `valid`, ...; rows of `test` are left out), or by true and false where the column is called
    /// `is_valid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_column: Option<String>,
    /// What separates the columns of a CSV, one character; found by looking when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<String>,
    /// What separates several labels in one field of a CSV; `"|"` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_separator: Option<String>,
    /// Whether an image that is broken, missing or unreadable refuses the job or is left out.
    #[serde(default)]
    pub bad_images: BadImage,
    /// Whether a class without a usable training image refuses the job or is ignored.
    #[serde(default, skip_serializing_if = "EmptyClasses::is_default")]
    pub empty_classes: EmptyClasses,
    /// Largest width or height that is decoded, in pixels.
    #[serde(default = "image_side")]
    pub max_image_side: u32,
    /// Most samples that are measured for statistics.
    #[serde(default = "statistics_samples")]
    pub statistics_samples: u32,
    /// Budget for decoded images that a process keeps in memory, in MiB for training and as much for validation data;
    /// images that do not fit are decoded again.
    #[serde(default = "cache_mib")]
    pub cache_mib: u32,
}

fn fifth() -> f64 {
    0.2
}
fn path_column() -> String {
    "path".to_owned()
}
fn image_side() -> u32 {
    16_384
}
fn statistics_samples() -> u32 {
    10_000
}
fn cache_mib() -> u32 {
    1024
}

impl Data {
    /// All defaults for training data at `train`.
    pub fn at(train: impl Into<String>) -> Self {
        Data {
            train: train.into(),
            validation: None,
            validation_fraction: fifth(),
            format: DataFormat::Auto,
            path_column: path_column(),
            label_columns: Vec::new(),
            images: None,
            extension: None,
            split_column: None,
            delimiter: None,
            label_separator: None,
            bad_images: BadImage::Fail,
            empty_classes: EmptyClasses::Refuse,
            max_image_side: image_side(),
            statistics_samples: statistics_samples(),
            cache_mib: cache_mib(),
        }
    }
}

/// Kind of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataFormat {
    /// By looking: `.csv`, `.tsv`, `.parquet`, `.npz` files, MNIST's and CIFAR's names, tar archives, else folders.
    #[default]
    Auto,
    /// One folder of pictures per class: JPEG, PNG, WebP, BMP, GIF, TIFF and PNM files.
    Folders,
    /// A table of paths with labels or values.
    Csv,
    /// MNIST's IDX files, plain or gzipped.
    Idx,
    /// Parquet files whose rows are pictures with labels, as Hugging Face's `datasets` writes them.
    Parquet,
    /// Arrays of pictures and labels in one file, as MedMNIST has them.
    Npz,
    /// CIFAR-10's or CIFAR-100's binary files.
    Cifar,
    /// Tar archives, plain or gzipped: samples in the way of WebDataset, or class folders.
    Tar,
}

/// Whether an image that is broken, missing or unreadable refuses the job or is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BadImage {
    /// The job is refused; the first broken files are named.
    #[default]
    Fail,
    /// Broken images are left out, counted and named.
    Quarantine,
}

/// Whether a class without a usable training image refuses the job or is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmptyClasses {
    /// The job is refused; the classes are named.
    #[default]
    Refuse,
    /// The job goes on without them; they are named.
    Ignore,
}

impl EmptyClasses {
    fn is_default(&self) -> bool {
        *self == EmptyClasses::default()
    }
}

/// `[prepare]`: how an image becomes a tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Prepare {
    /// Height and width of the network's input; `"auto"` takes the images' own size when all agree.
    pub size: Size,
    /// Channels of the network's input; `"auto"` is 1 when all images are grey, else 3.
    pub channels: Channels,
    /// How the image is brought to `size`.
    pub resize: Resize,
    /// With `resize = "crop"`: the shorter side is scaled to `size / crop_fraction` before the crop.
    pub crop_fraction: f64,
    /// Interpolation, antialiased when shrinking.
    pub filter: Filter,
    /// The colour around an image that is padded.
    pub fill: Fill,
    /// How images of 16 bits become images of eight; `"high_byte"` when absent.
    #[serde(skip_serializing_if = "Depth16::is_high_byte")]
    pub depth16: Depth16,
    /// Scaling of pixel values.
    pub normalize: Normalize,
    /// With `zscore` and `mean`: the number that is subtracted, on the scale [0, 1].
    pub mean: Statistic,
    /// With `zscore`: the number to divide by, on the scale [0, 1].
    pub std: Statistic,
}

impl Default for Prepare {
    fn default() -> Self {
        Prepare {
            size: Size::Auto,
            channels: Channels::Auto,
            resize: Resize::Crop,
            crop_fraction: 1.0,
            filter: Filter::Bilinear,
            fill: Fill::Zeros,
            depth16: Depth16::HighByte,
            normalize: Normalize::Zscore,
            mean: Statistic::Word(StatisticWord::Measured),
            std: Statistic::Word(StatisticWord::Measured),
        }
    }
}

/// Height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SizeText", into = "SizeText")]
pub enum Size {
    /// From the data.
    Auto,
    /// Height and width in pixels.
    Fixed([u32; 2]),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "a size is \"auto\", a number of pixels, or [height, width]")]
enum SizeText {
    Auto(AutoWord),
    Square(u32),
    Pair([u32; 2]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AutoWord {
    Auto,
}

impl From<SizeText> for Size {
    fn from(text: SizeText) -> Self {
        match text {
            SizeText::Auto(_) => Size::Auto,
            SizeText::Square(side) => Size::Fixed([side, side]),
            SizeText::Pair(pair) => Size::Fixed(pair),
        }
    }
}

impl From<Size> for SizeText {
    fn from(size: Size) -> Self {
        match size {
            Size::Auto => SizeText::Auto(AutoWord::Auto),
            Size::Fixed(pair) => SizeText::Pair(pair),
        }
    }
}

/// Channels of the network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ChannelsText", into = "ChannelsText")]
pub enum Channels {
    /// From the data.
    Auto,
    /// 1 (grey) or 3 (RGB).
    Fixed(u32),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "channels is \"auto\", 1 or 3")]
enum ChannelsText {
    Auto(AutoWord),
    Count(u32),
}

impl From<ChannelsText> for Channels {
    fn from(text: ChannelsText) -> Self {
        match text {
            ChannelsText::Auto(_) => Channels::Auto,
            ChannelsText::Count(count) => Channels::Fixed(count),
        }
    }
}

impl From<Channels> for ChannelsText {
    fn from(channels: Channels) -> Self {
        match channels {
            Channels::Auto => ChannelsText::Auto(AutoWord::Auto),
            Channels::Fixed(count) => ChannelsText::Count(count),
        }
    }
}

/// How images of 16 bits become images of eight; `"high_byte"`, `"stretch"` or two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Depth16Text", into = "Depth16Text")]
pub enum Depth16 {
    /// The upper byte of each number.
    HighByte,
    /// From the least to the largest number of all training images, which become 0 and 255.
    Stretch,
    /// From the first number to the second, which become 0 and 255, as what lies outside does.
    Range([u16; 2]),
}

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "depth16 is \"high_byte\", \"stretch\", or the numbers [low, high] that become 0 and 255"
)]
enum Depth16Text {
    Word(Depth16Word),
    Range([u16; 2]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Depth16Word {
    HighByte,
    Stretch,
}

impl Depth16 {
    fn is_high_byte(&self) -> bool {
        *self == Depth16::HighByte
    }

    /// The numbers that become 0 and 255; none where the upper byte counts.
    pub fn range(self) -> Option<[u16; 2]> {
        if let Depth16::Range(range) = self { Some(range) } else { None }
    }
}

impl From<Depth16Text> for Depth16 {
    fn from(text: Depth16Text) -> Self {
        match text {
            Depth16Text::Word(Depth16Word::HighByte) => Depth16::HighByte,
            Depth16Text::Word(Depth16Word::Stretch) => Depth16::Stretch,
            Depth16Text::Range(range) => Depth16::Range(range),
        }
    }
}

impl From<Depth16> for Depth16Text {
    fn from(depth: Depth16) -> Self {
        match depth {
            Depth16::HighByte => Depth16Text::Word(Depth16Word::HighByte),
            Depth16::Stretch => Depth16Text::Word(Depth16Word::Stretch),
            Depth16::Range(range) => Depth16Text::Range(range),
        }
    }
}

/// How an image is brought to the input size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// Scale the shorter side, keeping the aspect ratio, then crop the centre.
    Crop,
    /// Scale the longer side, keeping the aspect ratio, then pad.
    Letterbox,
    /// Scale both sides, whatever the aspect ratio.
    Stretch,
    /// No scaling: crop the centre or pad.
    None,
}

/// Interpolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Triangle filter.
    Bilinear,
    /// Catmull-Rom family with a = -0.5, as Pillow.
    Bicubic,
    /// Lanczos with three lobes.
    Lanczos,
}

/// The colour around an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fill {
    /// Black.
    Zeros,
    /// The nearest edge pixel.
    Edge,
}

/// Scaling of pixel values, from 0..=255 to the numbers that the network sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalize {
    /// `x / 255`: min-max to [0, 1].
    Unit,
    /// `x / 127.5 - 1`: min-max to [-1, 1].
    Signed,
    /// `(x / 255 - mean) / std`.
    Zscore,
    /// `x / 255 - mean`: mean subtraction.
    Mean,
}

/// A mean or a standard deviation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a statistic is \"measured\", \"measured-global\", \"imagenet\", a number, or a number per channel"
)]
pub enum Statistic {
    /// Measured or well known.
    Word(StatisticWord),
    /// One number for all channels.
    Global(f64),
    /// One number per channel.
    PerChannel(Vec<f64>),
}

/// A statistic by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatisticWord {
    /// Per channel, over the training split after resizing.
    Measured,
    /// One number over all channels, over the training split after resizing.
    MeasuredGlobal,
    /// ImageNet's, as torchvision's models expect.
    Imagenet,
}

/// `[augment]`: random changes to training images. Everything is off unless asked for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Probability of a horizontal flip.
    pub horizontal_flip: f64,
    /// Probability of a vertical flip.
    pub vertical_flip: f64,
    /// Rotation by an angle uniform in [-rotate, rotate], in degrees.
    pub rotate: f64,
    /// Random scale about the centre, uniform in [low, high].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<[f64; 2]>,
    /// Random crop after padding each side by this many pixels.
    pub crop_padding: u32,
    /// Random resized crop: the crop's share of the area, uniform in [low, high]. Replaces `prepare.resize`
    /// in training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random_resized_crop: Option<[f64; 2]>,
    /// Random resized crop: the crop's width over height, log-uniform in [low, high].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_aspect: Option<[f64; 2]>,
    /// Brightness factor uniform in [1 - b, 1 + b].
    pub brightness: f64,
    /// Contrast factor uniform in [1 - c, 1 + c].
    pub contrast: f64,
    /// Saturation factor uniform in [1 - s, 1 + s].
    pub saturation: f64,
    /// Hue shift uniform in [-h, h], as a share of the colour circle; at most 0.5.
    pub hue: f64,
    /// Probability of erasing a rectangle (2 % to 33 % of the area, aspect 0.3 to 3.3).
    pub erase: f64,
}
