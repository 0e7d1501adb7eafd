//! A model folder, and what it sees in an image.

mod simple_cnn;

use std::error::Error;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::{ModuleT, VarBuilder, ops::softmax};
use serde_json::Value;
use simple_cnn::SimpleCnn;

/// A trained network with its preparation of images and the names of its classes.
pub struct Trained {
    network: SimpleCnn,
    /// Channels, height and width.
    input_size: [usize; 3],
    /// Of each channel, `(channels, 1, 1)`, of pixels from 0 to 1.
    mean: Tensor,
    std: Tensor,
    names: Vec<String>,
}

impl Trained {
    /// Reads `config.json` and `model.safetensors` of a network that tells classes apart.
    pub fn load(folder: &Path) -> Result<Trained, Box<dyn Error>> {
        let config: Value = serde_json::from_slice(&fs::read(folder.join("config.json"))?)?;
        if config["architecture"] != "convoy/simple-cnn" {
            return Err(format!("this example knows simple-cnn, not {}", config["architecture"]).into());
        }
        let names: Vec<String> = serde_json::from_value(config["label_names"].clone())?;
        let prepare = &config["pretrained_cfg"];
        let input_size: [usize; 3] = serde_json::from_value(prepare["input_size"].clone())?;
        let channel_values = |key: &str| -> Result<Tensor, Box<dyn Error>> {
            let values: Vec<f32> = serde_json::from_value(prepare[key].clone())?;
            Ok(Tensor::from_vec(values, (input_size[0], 1, 1), &Device::Cpu)?)
        };
        let (mean, std) = (channel_values("mean")?, channel_values("std")?);
        let bytes = fs::read(folder.join("model.safetensors"))?;
        let tensors = VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu)?;
        let network = SimpleCnn::new(input_size[0], names.len(), &tensors)?;
        Ok(Trained { network, input_size, mean, std, names })
    }

    /// The probability of each class, in the order of the model's classes.
    pub fn predict(&self, image: &Path) -> Result<Vec<(String, f32)>, Box<dyn Error>> {
        let logits = self.network.forward_t(&self.prepare(image)?.unsqueeze(0)?, false)?;
        let probabilities: Vec<f32> = softmax(&logits, D::Minus1)?.squeeze(0)?.to_vec1()?;
        Ok(self.names.iter().cloned().zip(probabilities).collect())
    }

    /// The image as the network wants it, `(channels, height, width)`. Convoy would resize it and change its colours;
    /// here it must be a PNG of the network's size.
    fn prepare(&self, image: &Path) -> Result<Tensor, Box<dyn Error>> {
        let mut decoder = png::Decoder::new(BufReader::new(File::open(image)?));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info()?;
        let mut pixels = vec![0; reader.output_buffer_size().ok_or("the image is too large")?];
        let info = reader.next_frame(&mut pixels)?;
        let size = [info.color_type.samples(), info.height as usize, info.width as usize];
        if size != self.input_size {
            return Err(format!("channels, height and width are {size:?}, not {:?}", self.input_size).into());
        }
        let [channels, height, width] = size;
        let pixels = Tensor::from_vec(pixels, (height, width, channels), &Device::Cpu)?.permute((2, 0, 1))?;
        let scaled = (pixels.to_dtype(DType::F32)? / 255.0)?;
        Ok(scaled.broadcast_sub(&self.mean)?.broadcast_div(&self.std)?)
    }
}
