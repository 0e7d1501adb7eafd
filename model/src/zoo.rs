//! Networks by name. ResNets, VGG and MobileNet are torchvision's in structure, names and initialisation.

use convoy_common::plan::Input;

use crate::builder::{Added, Builder, Conv, Fault, Scheme, Window};
use crate::error::Problem;
use crate::{Activation, NetworkError, Shape};

/// The builder of a network for so many outputs.
type Recipe = fn(&mut Builder, u32) -> Added;

/// All networks: name, initialisation, recipe.
const ZOO: [(&str, Scheme, Recipe); 11] = [
    ("lenet5", Scheme::Torch, lenet5),
    ("simple-cnn", Scheme::Resnet, simple_cnn),
    ("simple-cnn-photo", Scheme::Resnet, simple_cnn_photo),
    ("resnet18", Scheme::Resnet, |b, out| {
        resnet(b, out, Stem::Photo, Block::Basic, &[(64, 2), (128, 2), (256, 2), (512, 2)])
    }),
    ("resnet34", Scheme::Resnet, |b, out| {
        resnet(b, out, Stem::Photo, Block::Basic, &[(64, 3), (128, 4), (256, 6), (512, 3)])
    }),
    ("resnet50", Scheme::Resnet, |b, out| {
        resnet(b, out, Stem::Photo, Block::Bottleneck, &[(64, 3), (128, 4), (256, 6), (512, 3)])
    }),
    ("resnet18-small", Scheme::Resnet, |b, out| {
        resnet(b, out, Stem::Small, Block::Basic, &[(64, 2), (128, 2), (256, 2), (512, 2)])
    }),
    ("resnet34-small", Scheme::Resnet, |b, out| {
        resnet(b, out, Stem::Small, Block::Basic, &[(64, 3), (128, 4), (256, 6), (512, 3)])
    }),
    ("resnet20", Scheme::Resnet, |b, out| resnet(b, out, Stem::Small, Block::Basic, &[(16, 3), (32, 3), (64, 3)])),
    ("vgg11_bn", Scheme::Vgg, vgg11_bn),
    // torchvision initialises it as its VGG.
    ("mobilenet_v2", Scheme::Vgg, mobilenet_v2),
];

/// The names of all networks.
pub const NAMES: [&str; ZOO.len()] = {
    let mut names = [""; ZOO.len()];
    let mut index = 0;
    while index < ZOO.len() {
        names[index] = ZOO[index].0;
        index += 1;
    }
    names
};

/// Whether torchvision (and timm) know a network of this name with these tensors.
pub fn is_torchvision(name: &str) -> bool {
    ["resnet18", "resnet34", "resnet50", "vgg11_bn", "mobilenet_v2"].contains(&name)
}

/// Builds the network called `name`, all but its finish.
pub(crate) fn build(name: &str, input: Input, outputs: u32) -> Result<Builder, NetworkError> {
    let Some((_, scheme, recipe)) = ZOO.iter().find(|(known, ..)| *known == name) else {
        let nearest = NAMES
            .into_iter()
            .map(|known| (strsim::jaro_winkler(known, &name.to_lowercase()), known))
            .filter(|(likeness, _)| *likeness > 0.7)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let (name, nearest) = (name.to_owned(), nearest.map(|(_, known)| known));
        return Err(NetworkError::UnknownName { name, nearest, known: &NAMES });
    };
    let mut builder = Builder::new(input, *scheme);
    let built = recipe(&mut builder, outputs);
    built.map_err(|Fault { layer, problem }| NetworkError::Zoo {
        network: name.to_owned(),
        input: builder.shape(0),
        layer,
        remedy: match problem {
            Problem::KernelTooLarge { .. } => {
                "raise prepare.size, or choose a network for smaller images, such as simple-cnn".to_owned()
            }
            _ => problem.remedy(None),
        },
        problem,
    })?;
    Ok(builder)
}

/// LeCun et al. 1998, section II.B, with today's ReLU and maximum pooling; the padding of 2 lets 28x28 images
/// have the maps that 32x32 ones had there.
fn lenet5(b: &mut Builder, outputs: u32) -> Added {
    let at = b.conv("conv1", 0, Conv::same(6, 5))?;
    let at = b.relu("relu1", at)?;
    let at = b.max_pool("pool1", at, Window::tiles(2))?;
    let at = b.conv("conv2", at, Conv::same(16, 5).padding(0))?;
    let at = b.relu("relu2", at)?;
    let at = b.max_pool("pool2", at, Window::tiles(2))?;
    let at = b.flatten("flatten", at)?;
    let at = b.linear("fc1", at, 120, true)?;
    let at = b.relu("relu3", at)?;
    let at = b.linear("fc2", at, 84, true)?;
    let at = b.relu("relu4", at)?;
    b.linear("fc3", at, outputs, true)
}

/// Five 3x3 convolutions for small images: twice 32, twice 64 and once 128 channels, with a pool between widths.
fn simple_cnn(b: &mut Builder, outputs: u32) -> Added {
    let at = conv_bn_relu(b, "", 1, 0, Conv::same(32, 3))?;
    let at = conv_bn_relu(b, "", 2, at, Conv::same(32, 3))?;
    let at = b.max_pool("pool1", at, Window::tiles(2))?;
    let at = conv_bn_relu(b, "", 3, at, Conv::same(64, 3))?;
    let at = conv_bn_relu(b, "", 4, at, Conv::same(64, 3))?;
    let at = b.max_pool("pool2", at, Window::tiles(2))?;
    let at = conv_bn_relu(b, "", 5, at, Conv::same(128, 3))?;
    global_head(b, at, outputs)
}

/// As [`simple_cnn`] for photographs: the first two convolutions, of 16 and 32 channels, have stride 2, and the maps of
/// 64 and 128 channels lie between two pools.
fn simple_cnn_photo(b: &mut Builder, outputs: u32) -> Added {
    let at = conv_bn_relu(b, "", 1, 0, Conv::same(16, 3).stride(2))?;
    let at = conv_bn_relu(b, "", 2, at, Conv::same(32, 3).stride(2))?;
    let at = conv_bn_relu(b, "", 3, at, Conv::same(64, 3))?;
    let at = b.max_pool("pool1", at, Window::tiles(2))?;
    let at = conv_bn_relu(b, "", 4, at, Conv::same(128, 3))?;
    global_head(b, at, outputs)
}

/// `conv<number>`, `bn<number>` and `relu<number>`: a convolution without bias, batch norm, ReLU.
fn conv_bn_relu(b: &mut Builder, prefix: &str, number: u32, from: usize, conv: Conv) -> Added {
    let at = conv_bn(b, prefix, number, from, conv)?;
    b.relu(&format!("{prefix}relu{number}"), at)
}

fn conv_bn(b: &mut Builder, prefix: &str, number: u32, from: usize, conv: Conv) -> Added {
    let at = b.conv(&format!("{prefix}conv{number}"), from, conv.no_bias())?;
    norm(b, &format!("{prefix}bn{number}"), at)
}

/// Batch norm with PyTorch's defaults.
fn norm(b: &mut Builder, name: &str, from: usize) -> Added {
    b.batch_norm(name, from, 1e-5, 0.1)
}

fn global_head(b: &mut Builder, from: usize, outputs: u32) -> Added {
    let at = b.global_avg_pool("avgpool", from)?;
    let at = b.flatten("flatten", at)?;
    b.linear("fc", at, outputs, true)
}

/// How a ResNet begins.
#[derive(Clone, Copy, PartialEq)]
enum Stem {
    /// 7x7 convolution of stride 2, then a 3x3 maximum pool of stride 2.
    Photo,
    /// 3x3 convolution of stride 1 (He et al. 2016, section 4.2).
    Small,
}

#[derive(Clone, Copy, PartialEq)]
enum Block {
    Basic,
    Bottleneck,
}

/// He et al. 2016, "Deep residual learning for image recognition": stages of (width, blocks). Where shapes
/// differ the shortcut is a 1x1 convolution with batch norm (their option B), also in the small variants.
fn resnet(b: &mut Builder, outputs: u32, stem: Stem, block: Block, stages: &[(u32, u32)]) -> Added {
    let width = stages[0].0;
    let mut at = match stem {
        Stem::Photo => {
            let at = conv_bn_relu(b, "", 1, 0, Conv::same(width, 7).stride(2))?;
            let window = Window { padding: crate::Pair::square(1), stride: crate::Pair::square(2), ..Window::tiles(3) };
            b.max_pool("maxpool", at, window)?
        }
        Stem::Small => conv_bn_relu(b, "", 1, 0, Conv::same(width, 3))?,
    };
    for (stage, (width, blocks)) in stages.iter().enumerate() {
        for number in 0..*blocks {
            let prefix = format!("layer{}.{number}.", stage + 1);
            let stride = if stage > 0 && number == 0 { 2 } else { 1 };
            at = match block {
                Block::Basic => basic_block(b, &prefix, at, *width, stride)?,
                Block::Bottleneck => bottleneck(b, &prefix, at, *width, stride)?,
            };
        }
    }
    global_head(b, at, outputs)
}

fn basic_block(b: &mut Builder, prefix: &str, from: usize, width: u32, stride: u32) -> Added {
    let at = conv_bn_relu(b, prefix, 1, from, Conv::same(width, 3).stride(stride))?;
    let long = conv_bn(b, prefix, 2, at, Conv::same(width, 3))?;
    let short = shortcut(b, prefix, from, width, stride)?;
    join(b, prefix, long, short)
}

/// The stride lies in the 3x3 convolution, as torchvision has it (ResNet v1.5).
fn bottleneck(b: &mut Builder, prefix: &str, from: usize, width: u32, stride: u32) -> Added {
    let at = conv_bn_relu(b, prefix, 1, from, Conv::same(width, 1))?;
    let at = conv_bn_relu(b, prefix, 2, at, Conv::same(width, 3).stride(stride))?;
    let long = conv_bn(b, prefix, 3, at, Conv::same(4 * width, 1))?;
    let short = shortcut(b, prefix, from, 4 * width, stride)?;
    join(b, prefix, long, short)
}

fn shortcut(b: &mut Builder, prefix: &str, from: usize, width: u32, stride: u32) -> Added {
    if stride == 1 && b.shape(from).channels() == width {
        return Ok(from);
    }
    let conv = Conv::same(width, 1).stride(stride).no_bias();
    let at = b.conv(&format!("{prefix}downsample.0"), from, conv)?;
    norm(b, &format!("{prefix}downsample.1"), at)
}

fn join(b: &mut Builder, prefix: &str, long: usize, short: usize) -> Added {
    let at = b.sum(&format!("{prefix}add"), long, short)?;
    b.relu(&format!("{prefix}relu"), at)
}

/// Simonyan and Zisserman 2015, configuration A, with batch norm.
fn vgg11_bn(b: &mut Builder, outputs: u32) -> Added {
    let mut at = 0;
    let mut index = 0;
    let mut next = || {
        index += 1;
        format!("features.{}", index - 1)
    };
    for stage in [&[64][..], &[128], &[256, 256], &[512, 512], &[512, 512]] {
        for width in stage {
            at = b.conv(&next(), at, Conv::same(*width, 3))?;
            at = norm(b, &next(), at)?;
            at = b.relu(&next(), at)?;
        }
        at = b.max_pool(&next(), at, Window::tiles(2))?;
    }
    at = pool_to_sevens(b, at)?;
    at = b.flatten("flatten", at)?;
    for first in [0, 3] {
        at = b.linear(&format!("classifier.{first}"), at, 4096, true)?;
        at = b.relu(&format!("classifier.{}", first + 1), at)?;
        at = b.dropout(&format!("classifier.{}", first + 2), at, 0.5)?;
    }
    b.linear("classifier.6", at, outputs, true)
}

/// Sandler et al. 2018, "MobileNetV2: inverted residuals and linear bottlenecks", table 2: stages of (factor by which a
/// block widens, width, blocks, stride of the first).
fn mobilenet_v2(b: &mut Builder, outputs: u32) -> Added {
    let stages =
        [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];
    let mut at = conv_bn_relu6(b, "features.0", 0, Conv::same(32, 3).stride(2))?;
    let mut index = 0;
    for (widen, width, blocks, first_stride) in stages {
        for number in 0..blocks {
            index += 1;
            let stride = if number == 0 { first_stride } else { 1 };
            at = inverted_residual(b, &format!("features.{index}"), at, widen, width, stride)?;
        }
    }
    let at = conv_bn_relu6(b, "features.18", at, Conv::same(1280, 1))?;
    let at = b.global_avg_pool("avgpool", at)?;
    let at = b.flatten("flatten", at)?;
    let at = b.dropout("classifier.0", at, 0.2)?;
    b.linear("classifier.1", at, outputs, true)
}

/// Widened by a 1x1 convolution, filtered channel by channel, narrowed by another; with a way around where the shapes
/// are the same.
fn inverted_residual(b: &mut Builder, name: &str, from: usize, widen: u32, width: u32, stride: u32) -> Added {
    let input = b.shape(from).channels();
    let wide = input * widen;
    let (mut at, mut part) = (from, 0);
    if widen > 1 {
        at = conv_bn_relu6(b, &format!("{name}.conv.{part}"), at, Conv::same(wide, 1))?;
        part += 1;
    }
    let depthwise = Conv { groups: wide, ..Conv::same(wide, 3).stride(stride) };
    at = conv_bn_relu6(b, &format!("{name}.conv.{part}"), at, depthwise)?;
    at = b.conv(&format!("{name}.conv.{}", part + 1), at, Conv::same(width, 1).no_bias())?;
    at = norm(b, &format!("{name}.conv.{}", part + 2), at)?;
    if stride == 1 && input == width { b.sum(&format!("{name}.add"), at, from) } else { Ok(at) }
}

/// `<name>.0`, `<name>.1` and `<name>.2`: a convolution without bias, batch norm, ReLU6.
fn conv_bn_relu6(b: &mut Builder, name: &str, from: usize, conv: Conv) -> Added {
    let at = b.conv(&format!("{name}.0"), from, conv.no_bias())?;
    let at = norm(b, &format!("{name}.1"), at)?;
    b.activation(&format!("{name}.2"), at, Activation::Relu6)
}

/// `AdaptiveAvgPool2d(7)` where its windows are all of one size.
fn pool_to_sevens(b: &mut Builder, from: usize) -> Added {
    let Shape::Map { height, width, .. } = b.shape(from) else { return Ok(from) };
    if !height.is_multiple_of(7) || !width.is_multiple_of(7) {
        return Err(Fault { layer: "avgpool".to_owned(), problem: Problem::NotSevens { height, width } });
    }
    let kernel = crate::Pair { height: height / 7, width: width / 7 };
    if kernel == crate::Pair::square(1) {
        return Ok(from);
    }
    b.avg_pool("avgpool", from, Window { kernel, stride: kernel, padding: crate::Pair::square(0) })
}

#[cfg(test)]
mod tests;
