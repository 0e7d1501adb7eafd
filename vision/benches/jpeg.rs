//! Photographs to normalised tensors on one thread, the way training takes: read, check, decode, random resized crop,
//! flip, normalise.
//!
//!     cargo bench -p convoy-vision --bench jpeg -- FOLDER SIZE
//!
//! FOLDER has class folders in `train`, or is anything else that trains. Prints the images per second of three epochs,
//! one line each; nothing is kept decoded. `bench/jpeg.sh` compares them with torchvision's, `bench/loading.sh` ways to
//! keep photographs.

use std::path::Path;
use std::time::Instant;

use convoy_common::epoch_order::EpochOrder;
use convoy_common::plan::{Input, Normalization};
use convoy_common::spec::{Augment, Data, Prepare, Task};
use convoy_files::here;
use convoy_vision::{Dataset, Images, Limits, Mode, Preparation, scan};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [folder, size] = &arguments[..] else {
        println!("run with FOLDER SIZE; see bench/jpeg.sh");
        return Ok(());
    };
    let size: u32 = size.parse()?;
    let data = Data::at(folder.as_str());
    let scanned = scan(&*here(), &data, Task::Auto, 0, Path::new(""), &|_, _| {})?;
    let usable = scanned.manifest.train.usable();
    let images = Images::open(scanned.manifest.train.clone(), here(), Limits::from(&data), 0)?;
    let augment = Augment { random_resized_crop: Some([0.08, 1.0]), horizontal_flip: 0.5, ..Augment::default() };
    let input = Input { height: size, width: size, channels: 3 };
    let normalization = Normalization { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] };
    let preparation = Preparation::new(&Prepare::default(), &augment, input, &normalization);
    let dataset = Dataset::new(images, preparation, scanned.manifest.names.len());
    for epoch in 0..3 {
        let start = Instant::now();
        let order = EpochOrder::shuffled(1, epoch, &usable);
        for samples in order.samples(0..usable.len() as u32).chunks(16) {
            std::hint::black_box(dataset.batch(samples, Mode::Train { seed: 1, epoch })?);
        }
        println!("{:.1}", usable.len() as f64 / start.elapsed().as_secs_f64());
    }
    Ok(())
}
