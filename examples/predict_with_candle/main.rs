//! What a Convoy model sees in images, by candle alone: `convoy predict` without Convoy.
//!
//! ```text
//! convoy train examples/fashion-mnist.toml
//! cargo run --release -p convoy-nn --example predict_with_candle -- runs/fashion-mnist-1/model coat.png
//! ```
//!
//! A model folder is `model.safetensors`, whose names and layouts are PyTorch's, and `config.json`. So candle_nn's
//! `VarBuilder` finds every tensor by its name, and the network below is an ordinary candle network.

mod trained;

use std::error::Error;
use std::path::PathBuf;

use trained::Trained;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let folder = arguments.next().ok_or("name a model folder and images: predict_with_candle MODEL IMAGE...")?;
    let model = Trained::load(&folder)?;
    for image in arguments {
        let probabilities = model.predict(&image)?;
        let (class, probability) =
            probabilities.iter().max_by(|a, b| a.1.total_cmp(&b.1)).ok_or("the model has no classes")?;
        println!("{}\t{class} {probability:.4}", image.display());
    }
    Ok(())
}
