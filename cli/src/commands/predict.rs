//! `convoy predict`: what a trained model sees in images.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use convoy_common::Plan;
use convoy_common::spec::{Depth16, Task};
use convoy_files::here;
use convoy_nn::Executor;
use convoy_vision::{Limits, Mode, Preparation, decode_in, image_files, is_archive_name};
use serde_json::{Map, Value, json};

use crate::camera::{CameraSource, Frame, Pace, Seen, Tally, watch};
use crate::error::CliError;
use crate::inference::{Compute, Trained};
use crate::{out, runtime};

/// Images that are computed together.
const BATCH: usize = 16;

/// Predict class and probability, or values, of images, or of what a camera sees.
///
/// One line for each image, in the order given; a file that cannot be read is named, the others go on, and the exit
/// code is 1. With --camera a line for each frame: its number, what was predicted, frames/s. Frames are dropped rather
/// than fall behind; how many is said at the end.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy predict runs/photos-1 cat.jpg dog.png\n  \
    convoy predict runs/photos-1/model-best photos/new --top 3 --json\n  \
    find . -name '*.png' | convoy predict runs/photos-1 -\n  convoy predict runs/photos-1 - < cat.jpg\n  \
    convoy predict runs/photos-1 --camera http://192.0.2.7:8080/video --every 1s\n  \
    ffmpeg -loglevel error -f v4l2 -i /dev/video0 -f image2pipe -c:v mjpeg -q:v 2 - \\\n    \
    | convoy predict runs/photos-1 --camera -\n  \
    ffmpeg -loglevel error -i film.mp4 -f image2pipe -c:v mjpeg -q:v 2 - \\\n    \
    | convoy predict runs/photos-1 --camera - --no-drop --json")]
pub struct PredictArgs {
    /// A model folder, a run folder, or a model.safetensors.
    model: PathBuf,
    /// Images, folders of images (with all below), or `-` for standard input: an image, or one path on each line.
    #[arg(required_unless_present = "camera", conflicts_with = "camera")]
    images: Vec<PathBuf>,
    /// Look at what a camera sends: an MJPEG stream at http://[USER:PASSWORD@]HOST[:PORT]/PATH, or `-` for JPEG
    /// pictures on standard input, as ffmpeg makes them of anything else.
    #[arg(long, value_name = "SOURCE")]
    camera: Option<CameraSource>,
    #[command(flatten)]
    pace: Pace,
    /// How many classes to name, the likeliest first.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Print a JSON object for each image, one on each line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: Compute,
}

/// An image that is to be looked at.
enum Source {
    File(PathBuf),
    /// Standard input's bytes.
    Bytes(Vec<u8>),
}

impl Source {
    fn name(&self) -> String {
        match self {
            Source::File(path) => path.display().to_string(),
            Source::Bytes(_) => "-".to_owned(),
        }
    }
}

/// Prints a line for each image.
///
/// # Errors
/// When model or images cannot be used at all.
pub fn run(args: PredictArgs) -> Result<ExitCode, CliError> {
    let threads = args.compute.threads()?;
    let model = args.compute.load(&args.model)?;
    if let Some(camera) = &args.camera {
        return run_on_camera(camera, &args, &model, threads);
    }
    // What clap requires it gives up for the sake of images.
    if args.pace.is_given() {
        return Err(CliError::Usage("--every, --count, --no-drop and --patience are for --camera SOURCE".to_owned()));
    }
    let sources = sources(&args.images)?;
    let preparation = Preparation::of(&model.plan);
    // Small enough that every thread has something to do.
    let batch = sources.len().div_ceil(threads).clamp(1, BATCH);
    let batches: Vec<&[Source]> = sources.chunks(batch).collect();
    let mut failed = 0;
    model.in_order(
        threads,
        batches.len(),
        |executor, index| predict(&model, &preparation, executor, batches[index]),
        |index, predictions| {
            for (source, prediction) in batches[index].iter().zip(predictions) {
                failed += usize::from(prediction.is_err());
                let name = source.name();
                let object = Map::from_iter([("path".to_owned(), json!(name))]);
                print(&model.plan, (&name, object), "", prediction, &args)?;
            }
            Ok(())
        },
    )?;
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// Prints a line for each frame, until the camera has no more, enough were seen or somebody asked to stop.
fn run_on_camera(
    camera: &CameraSource,
    args: &PredictArgs,
    model: &Trained,
    threads: usize,
) -> Result<ExitCode, CliError> {
    let preparation = Preparation::of(&model.plan);
    let executors = model.executors(threads, 1)?;
    let look = |frame: &Frame, tally: &Tally| {
        let sources = [Source::Bytes(frame.bytes.clone())];
        let prediction = predict(model, &preparation, &executors[0], &sources)?.remove(0);
        let seen = if prediction.is_ok() { Seen::Good } else { Seen::Broken };
        let object = json!({
            "frame": frame.number,
            "seconds": frame.at.as_secs_f64(),
            "frames_per_second": tally.rate(),
            "dropped": tally.dropped,
        });
        let Value::Object(object) = object else { unreachable!("it is written as one") };
        let rate = format!("\t{:.1} frames/s", tally.rate());
        print(&model.plan, (&frame.number.to_string(), object), &rate, prediction, args)?;
        Ok(seen)
    };
    runtime::serve("ending; press Ctrl-C again to leave at once", async |stop| {
        let (tally, result) = watch(camera, &args.pace, &stop, look);
        if tally.any() {
            out::note(format_args!("{camera}: {tally}"));
        }
        result.map(|()| ExitCode::from(stop.exit_code()))
    })
}

fn sources(given: &[PathBuf]) -> Result<Vec<Source>, CliError> {
    let mut sources = Vec::new();
    for path in given {
        if path == Path::new("-") {
            sources.extend(standard_input()?);
        } else if path.is_dir() || is_archive_name(path) {
            let (files, left_out) = image_files(&*here(), path)?;
            left_out.lines().iter().for_each(|line| out::note(format_args!("left out of {}: {line}", path.display())));
            if files.is_empty() {
                return Err(CliError::NotFound {
                    path: path.clone(),
                    hint: "name a folder that holds files called .jpg, .png, .webp, .bmp, .gif, .tif or the like"
                        .to_owned(),
                });
            }
            sources.extend(files.into_iter().map(Source::File));
        } else {
            sources.push(Source::File(path.clone()));
        }
    }
    Ok(sources)
}

/// An image, or paths.
fn standard_input() -> Result<Vec<Source>, CliError> {
    let fail = |source| CliError::Io { path: "standard input".into(), source };
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).map_err(fail)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.lines().filter(|line| !line.is_empty()).map(|line| Source::File(line.into())).collect()),
        Err(no_text) => Ok(vec![Source::Bytes(no_text.into_bytes())]),
    }
}

/// The network's outputs for each image, or why there are none.
fn predict(
    model: &Trained,
    preparation: &Preparation,
    executor: &Executor,
    sources: &[Source],
) -> Result<Vec<Result<Vec<f32>, String>>, CliError> {
    let limits = Limits::from(&model.plan.spec.data);
    let length = preparation.input().len();
    let mut x_nhwc = Vec::with_capacity(sources.len() * length);
    let mut states = Vec::with_capacity(sources.len());
    for source in sources {
        let state = pixels(source, &limits, model.plan.spec.prepare.depth16).map(|image| {
            let start = x_nhwc.len();
            x_nhwc.resize(start + length, 0.0);
            preparation.prepare(&image, Mode::Evaluate, 0, &mut x_nhwc[start..]);
        });
        states.push(state);
    }
    let good = x_nhwc.len() / length;
    let outputs = if good > 0 { executor.predict(&x_nhwc, good)? } else { Vec::new() };
    let mut rows = outputs.chunks_exact(model.network.outputs as usize);
    let mut row = |()| rows.next().expect("a row for each good image").to_vec();
    Ok(states.into_iter().map(|state| state.map(&mut row)).collect())
}

fn pixels(source: &Source, limits: &Limits, depth16: Depth16) -> Result<convoy_vision::Pixels, String> {
    let read;
    let bytes = match source {
        Source::Bytes(bytes) => bytes,
        Source::File(path) => {
            read = std::fs::read(path)
                .or_else(|_| here().read(path))
                .map_err(|error| format!("cannot be read: {error}"))?;
            &read
        }
    };
    decode_in(bytes, limits, depth16.range()).map(|decoded| decoded.pixels).map_err(|error| error.to_string())
}

/// Prints what was predicted for an image, or why nothing was: for people by its name and with `more` behind it, for
/// programs in an object that says what else there is to say.
fn print(
    plan: &Plan,
    (name, mut object): (&str, Map<String, Value>),
    more: &str,
    prediction: Result<Vec<f32>, String>,
    args: &PredictArgs,
) -> Result<(), CliError> {
    let top = args.top as usize;
    match prediction {
        Ok(outputs) if args.json => {
            let (key, value) = outputs_of(plan, &outputs, top);
            object.insert(key.to_owned(), value);
            out::json(&object)
        }
        Ok(outputs) => out::line(line_of(plan, name, &outputs, top) + more),
        Err(reason) if args.json => {
            object.insert("error".to_owned(), json!(reason));
            out::json(&object)
        }
        Err(reason) => {
            out::note(format_args!("{name}: {reason}"));
            Ok(())
        }
    }
}

/// The outputs for programs, and what they are.
fn outputs_of(plan: &Plan, outputs: &[f32], top: usize) -> (&'static str, Value) {
    let names = &plan.names;
    if plan.spec.task == Task::Regression {
        let values: Map<String, Value> = names.iter().cloned().zip(outputs.iter().map(|value| json!(value))).collect();
        return ("values", Value::Object(values));
    }
    let ranked = ranked(plan.spec.task, outputs, top);
    let classes =
        ranked.iter().map(|(class, probability)| json!({ "class": names[*class], "probability": probability }));
    ("predictions", classes.collect())
}

/// The outputs for the image `name`, for people: `cat.jpg`, then `cat 0.9731` for each class, between tabs.
fn line_of(plan: &Plan, name: &str, outputs: &[f32], top: usize) -> String {
    let names = &plan.names;
    let cells: Vec<String> = if plan.spec.task == Task::Regression {
        names.iter().zip(outputs).map(|(name, value)| format!("{name} {value}")).collect()
    } else {
        let ranked = ranked(plan.spec.task, outputs, top);
        ranked.iter().map(|(class, probability)| format!("{} {probability:.4}", names[*class])).collect()
    };
    format!("{name}\t{}", cells.join("\t"))
}

/// Classes with their probabilities, the likeliest first; of labels, all that hold and at least `top`.
fn ranked(task: Task, outputs: &[f32], top: usize) -> Vec<(usize, f32)> {
    let mut ranked: Vec<(usize, f32)> = match task {
        Task::Binary => vec![(0, 1.0 - outputs[0]), (1, outputs[0])],
        _ => outputs.iter().copied().enumerate().collect(),
    };
    ranked.sort_by(|(a, p), (b, q)| q.total_cmp(p).then(a.cmp(b)));
    let holding = ranked.iter().take_while(|(_, probability)| *probability > 0.5).count();
    ranked.truncate(if task == Task::Multilabel { top.max(holding) } else { top });
    ranked
}

#[cfg(test)]
mod tests {
    use convoy_planning::{Assumed, SpecFile, plan_without_data};

    use super::*;

    fn plan(task: &str) -> Plan {
        let given = ["data.train=x", "network.name=lenet5"].map(str::to_owned).into_iter();
        let file = SpecFile::of_overrides(&given.chain([format!("task={task}")]).collect::<Vec<_>>()).unwrap();
        let classes = if task == "binary" { 2 } else { 3 };
        let (plan, _) = plan_without_data(file, Assumed { classes, ..Assumed::default() }).unwrap();
        Plan {
            names: ["cat", "dog", "owl"][..classes as usize].iter().map(|name| (*name).to_owned()).collect(),
            ..(*plan).clone()
        }
    }

    #[test]
    fn the_likeliest_come_first() {
        assert_eq!(ranked(Task::Multiclass, &[0.2, 0.5, 0.3], 2), [(1, 0.5), (2, 0.3)]);
        assert_eq!(ranked(Task::Multiclass, &[0.5, 0.5], 9), [(0, 0.5), (1, 0.5)]);
        assert_eq!(ranked(Task::Binary, &[0.25], 1), [(0, 0.75)]);
        assert_eq!(ranked(Task::Multilabel, &[0.9, 0.1, 0.8], 1), [(0, 0.9), (2, 0.8)]);
    }

    #[test]
    fn classes_are_named_with_their_probabilities() {
        let plan = plan("multiclass");
        assert_eq!(line_of(&plan, "a.jpg", &[0.25, 0.5, 0.25], 2), "a.jpg\tdog 0.5000\tcat 0.2500");
        let (key, value) = outputs_of(&plan, &[0.25, 0.5, 0.25], 1);
        assert_eq!((key, value.to_string().as_str()), ("predictions", r#"[{"class":"dog","probability":0.5}]"#));
    }

    #[test]
    fn a_binary_output_is_the_probability_of_the_second_class() {
        assert_eq!(line_of(&plan("binary"), "-", &[0.25], 1), "-\tcat 0.7500");
    }

    #[test]
    fn values_are_printed_as_they_are() {
        let plan = plan("regression");
        assert_eq!(line_of(&plan, "a.jpg", &[0.25, -3.0, 1e9], 1), "a.jpg\tcat 0.25\tdog -3\towl 1000000000");
        let (key, value) = outputs_of(&plan, &[0.25, -3.0, 1.5], 1);
        assert_eq!((key, value.to_string().as_str()), ("values", r#"{"cat":0.25,"dog":-3.0,"owl":1.5}"#));
    }

    #[test]
    fn files_stay_in_the_order_given_and_folders_are_looked_through() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.png", "a/c.JPG", "notes.txt"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let given = ["z.jpg".into(), dir.path().to_owned(), "y.jpg".into()];
        let names: Vec<String> = sources(&given).unwrap().iter().map(Source::name).collect();
        let inside = |name: &str| dir.path().join(name).display().to_string();
        assert_eq!(names, ["z.jpg".to_owned(), inside("a/c.JPG"), inside("b.png"), "y.jpg".to_owned()]);
        let empty = tempfile::tempdir().unwrap();
        let error = sources(&[empty.path().to_owned()]).err().expect("no image is there");
        assert_eq!(error.exit_code(), 3);
    }

    #[test]
    fn an_image_that_cannot_be_read_has_a_reason() {
        let limits = Limits::from(&plan("multiclass").spec.data);
        let reason = |source| pixels(&source, &limits, Depth16::HighByte).expect_err("it is no image");
        assert!(reason(Source::File("no/where.jpg".into())).starts_with("cannot be read: "));
        assert!(!reason(Source::Bytes(b"no image".to_vec())).is_empty());
    }
}
