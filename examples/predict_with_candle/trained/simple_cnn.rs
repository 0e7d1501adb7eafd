//! Convoy's `simple-cnn` in candle and candle_nn.

use candle_core::{Result, Tensor};
use candle_nn::{BatchNorm, Conv2d, Conv2dConfig, Linear, Module, ModuleT, VarBuilder};

/// Five 3x3 convolutions without bias, each with batch norm and ReLU; maximum pools after the second and the fourth;
/// the mean over all pixels and a linear layer.
pub struct SimpleCnn {
    blocks: Vec<(Conv2d, BatchNorm)>,
    fc: Linear,
}

impl SimpleCnn {
    /// Reads `conv1.weight`, `bn1.weight` and so on from `tensors`.
    pub fn new(channels: usize, classes: usize, tensors: &VarBuilder) -> Result<Self> {
        let same = Conv2dConfig { padding: 1, ..Default::default() };
        let widths = [channels, 32, 32, 64, 64, 128];
        let block = |(number, width): (usize, &[usize])| {
            let conv = candle_nn::conv2d_no_bias(width[0], width[1], 3, same, tensors.pp(format!("conv{number}")))?;
            Ok((conv, candle_nn::batch_norm(width[1], 1e-5, tensors.pp(format!("bn{number}")))?))
        };
        let blocks = (1..).zip(widths.windows(2)).map(block).collect::<Result<_>>()?;
        Ok(SimpleCnn { blocks, fc: candle_nn::linear(128, classes, tensors.pp("fc"))? })
    }
}

impl ModuleT for SimpleCnn {
    /// Logits `(n, classes)` of images `(n, channels, height, width)`.
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let mut x = x.clone();
        for (number, (conv, norm)) in (1..).zip(&self.blocks) {
            x = norm.forward_t(&conv.forward(&x)?, train)?.relu()?;
            if [2, 4].contains(&number) {
                x = x.max_pool2d(2)?;
            }
        }
        self.fc.forward(&x.mean((2, 3))?)
    }
}
