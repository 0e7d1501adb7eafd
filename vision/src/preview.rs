//! One picture of the first samples of a run, as the network will see them.

use convoy_common::Plan;
use convoy_common::epoch_order::EpochOrder;
use convoy_common::manifest::Label;
use convoy_common::plan::Input;
use convoy_common::spec::{Fill, Prepare, Resize};

use crate::dataset::Dataset;
use crate::error::LoadError;
use crate::font;
use crate::geometry::Geometry;
use crate::pixels::Pixels;
use crate::prepare::Mode;

/// Dots around each cell.
const MARGIN: u32 = 4;
/// Tiny inputs are enlarged by a whole factor up to about this many dots a side.
const ENLARGED: u32 = 96;
/// The picture is not wider than this, unless one pair of images is.
const WIDEST: u32 = 1600;
/// Shades of grey.
const BACKGROUND: u8 = 32;
const INK: u8 = 240;

/// The first `count` samples of the run's first epoch, in their order, row by row: on the left the whole image scaled
/// to fit, on the right the network's input in training, normalization undone; below, the label. Grey stays
/// grey; one dot is one number of the input, or a square of dots where the input is tiny.
///
/// `dataset` is the plan's training data.
///
/// # Errors
/// The first sample that cannot be loaded.
pub fn preview(plan: &Plan, dataset: &Dataset, count: u32) -> Result<Pixels, LoadError> {
    let usable = dataset.images().split().usable();
    let order = EpochOrder::shuffled(plan.spec.seed, 0, &usable);
    let samples = order.samples(0..count.min(usable.len() as u32));
    let sheet = Sheet::new(plan.input, samples.len() as u32);
    let mut picture = Pixels::filled(sheet.width(), sheet.height(), 3, BACKGROUND);
    let train = Mode::Train { seed: plan.spec.seed, epoch: 0 };
    let prepare = Prepare { resize: Resize::Letterbox, fill: Fill::Zeros, ..plan.spec.prepare.clone() };
    let whole = Geometry::new(&prepare, plan.input);
    let mut seen = vec![0.0; plan.input.len()];
    for (place, sample) in (0..).zip(samples) {
        let image = dataset.images().pixels(*sample)?;
        let (left, top) = sheet.corner(place);
        sheet.draw(&mut picture, whole.apply(&image), left, top);
        dataset.preparation().prepare(&image, train, *sample, &mut seen);
        sheet.draw(&mut picture, dataset.preparation().denormalise(&seen), left + sheet.image_width() + 1, top);
        let words = words(dataset.images().split().samples.at(*sample as usize).label, &plan.names);
        for (x, y) in font::dots(&words, 2 * sheet.image_width()) {
            picture.pixel_mut(left + x, top + sheet.image_height() + 2 + y).fill(INK);
        }
    }
    Ok(picture)
}

fn words(label: Label<'_>, names: &[String]) -> String {
    let name = |index: u32| names.get(index as usize).map_or("?", String::as_str);
    match label {
        Label::Class(class) => name(class).to_owned(),
        Label::Set(labels) => labels.iter().map(|label| name(*label)).collect::<Vec<_>>().join(" + "),
        Label::Values(values) => {
            let value = |(name, value): (&String, &f32)| format!("{name}={value}");
            names.iter().zip(values).map(value).collect::<Vec<_>>().join(" ")
        }
    }
}

/// Where things lie: cells of two images side by side with a line of text below.
struct Sheet {
    input: Input,
    /// Dots a side for each number of the input.
    factor: u32,
    columns: u32,
    rows: u32,
}

impl Sheet {
    fn new(input: Input, cells: u32) -> Self {
        let factor = (ENLARGED / input.width.max(input.height)).max(1);
        let mut sheet = Sheet { input, factor, columns: 1, rows: 1 };
        // As wide as high, more or less, but not wider than a screen.
        let most = (WIDEST / sheet.cell_width()).max(1);
        let square = (f64::from(cells * sheet.cell_height()) / f64::from(sheet.cell_width())).sqrt().ceil() as u32;
        sheet.columns = square.clamp(1, most).min(cells.max(1));
        sheet.rows = cells.div_ceil(sheet.columns).max(1);
        sheet
    }

    fn image_width(&self) -> u32 {
        self.input.width * self.factor
    }

    fn image_height(&self) -> u32 {
        self.input.height * self.factor
    }

    fn cell_width(&self) -> u32 {
        2 * self.image_width() + 1 + 2 * MARGIN
    }

    fn cell_height(&self) -> u32 {
        self.image_height() + 2 + font::HEIGHT + 2 * MARGIN
    }

    fn width(&self) -> u32 {
        self.columns * self.cell_width()
    }

    fn height(&self) -> u32 {
        self.rows * self.cell_height()
    }

    /// The upper left dot of the drawing in a cell.
    fn corner(&self, place: u32) -> (u32, u32) {
        let (row, column) = (place / self.columns, place % self.columns);
        (column * self.cell_width() + MARGIN, row * self.cell_height() + MARGIN)
    }

    fn draw(&self, picture: &mut Pixels, image: Pixels, left: u32, top: u32) {
        let image = image.into_channels(3);
        for y in 0..self.image_height() {
            for x in 0..self.image_width() {
                let pixel = image.pixel(x / self.factor, y / self.factor);
                picture.pixel_mut(left + x, top + y).copy_from_slice(pixel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_lie_inside_and_apart() {
        for (width, height, cells) in [(28, 28, 16), (224, 224, 9), (1000, 20, 3), (3, 200, 40), (32, 32, 1)] {
            let sheet = Sheet::new(Input { height, width, channels: 3 }, cells);
            for place in 0..cells {
                let (left, top) = sheet.corner(place);
                assert!(left + sheet.cell_width() - 2 * MARGIN <= sheet.width() - MARGIN);
                assert!(top + sheet.cell_height() - 2 * MARGIN <= sheet.height() - MARGIN);
                assert!(place == 0 || sheet.corner(place - 1) != (left, top));
            }
            assert!(sheet.columns == 1 || sheet.width() <= WIDEST);
        }
    }

    #[test]
    fn labels_read_well() {
        let names = ["cat".to_owned(), "dog".to_owned()];
        assert_eq!(words(Label::Class(1), &names), "dog");
        assert_eq!(words(Label::Set(&[0, 1]), &names), "cat + dog");
        assert_eq!(words(Label::Values(&[1.5, 2.0]), &names), "cat=1.5 dog=2");
    }
}
