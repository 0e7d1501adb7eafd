//! A model folder is an ordinary candle model: `examples/predict_with_candle` sees what `convoy predict` sees.

#[path = "../../examples/predict_with_candle/trained/mod.rs"]
mod trained;

use std::fs::File;

use crate::job::{Job, convoy, report};
use trained::Trained;

#[test]
fn candle_alone_predicts_what_convoy_predicts() {
    let job = Job::new();
    let set = ["--set", "network={name=\"simple-cnn\"}", "--set", "train.epochs=1"];
    job.train("run", &[&["--workers", "1"], &set[..]].concat());
    let (folder, image) = (job.path("run/model"), job.path("diagonal.png"));
    let mut encoder = png::Encoder::new(File::create(&image).expect("the folder is writable"), 8, 8);
    encoder.set_color(png::ColorType::Grayscale);
    let pixels: Vec<u8> = (0..64).map(|pixel| if pixel % 9 == 0 { 220 } else { 3 * pixel }).collect();
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels)).expect("the folder is writable");

    let ours = convoy().arg("predict").args([&folder, &image]).args(["--top", "3", "--json"]).output();
    let ours = report(&ours.expect("convoy starts"));
    let ours = ours["predictions"].as_array().expect("a list");
    let theirs = Trained::load(&folder).and_then(|model| model.predict(&image)).expect("a model and an image");
    assert_eq!((ours.len(), theirs.len()), (3, 3));
    for (class, probability) in theirs {
        let ours = ours.iter().find(|prediction| prediction["class"] == class.as_str()).expect("the same classes");
        let ours = ours["probability"].as_f64().expect("a number");
        assert!((ours - f64::from(probability)).abs() < 1e-5, "{class}: {ours}, by candle {probability}");
    }
}
