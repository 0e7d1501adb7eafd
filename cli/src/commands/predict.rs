//! `convoy predict`: what a trained model sees in images.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use convoy_common::spec::Task;
use convoy_nn::Executor;
use convoy_vision::{Disk, Limits, Mode, Preparation, decode, image_files};
use serde_json::{Map, Value, json};

use crate::error::CliError;
use crate::model::{Compute, Trained};
use crate::out;

/// Images that are computed together.
const BATCH: usize = 16;

/// Predict class and probability, or values, of images.
///
/// One line for each image, in the order given; a file that cannot be read is named, the others go on, and the exit
/// code is 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy predict runs/photos-1 cat.jpg dog.png\n  \
    convoy predict runs/photos-1/model-best photos/new --top 3 --json\n  \
    find . -name '*.png' | convoy predict runs/photos-1 -\n  convoy predict runs/photos-1 - < cat.jpg")]
pub struct Args {
    /// A model folder, a run folder, or a model.safetensors.
    model: PathBuf,
    /// Images, folders of images (with all below), or `-` for standard input: an image, or one path on each line.
    #[arg(required = true)]
    images: Vec<PathBuf>,
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

pub fn run(args: Args) -> Result<ExitCode, CliError> {
    let threads = args.compute.threads()?;
    let model = args.compute.load(&args.model)?;
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
                print(&model, &source.name(), prediction, &args)?;
            }
            Ok(())
        },
    )?;
    Ok(ExitCode::from(u8::from(failed > 0)))
}

fn sources(given: &[PathBuf]) -> Result<Vec<Source>, CliError> {
    let mut sources = Vec::new();
    for path in given {
        if path == Path::new("-") {
            sources.extend(standard_input()?);
        } else if path.is_dir() {
            let files = image_files(&Disk, path)?;
            if files.is_empty() {
                return Err(CliError::NotFound {
                    path: path.join("*.{jpg,jpeg,png}"),
                    hint: "name a folder that holds images".to_owned(),
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
        let state = pixels(source, &limits).map(|image| {
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

fn pixels(source: &Source, limits: &Limits) -> Result<convoy_vision::Pixels, String> {
    let read;
    let bytes = match source {
        Source::Bytes(bytes) => bytes,
        Source::File(path) => {
            read = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
            &read
        }
    };
    decode(bytes, limits).map(|decoded| decoded.pixels).map_err(|error| error.to_string())
}

fn print(model: &Trained, name: &str, prediction: Result<Vec<f32>, String>, args: &Args) -> Result<(), CliError> {
    let outputs = match prediction {
        Ok(outputs) => outputs,
        Err(reason) if args.json => return out::json(&json!({ "path": name, "error": reason })),
        Err(reason) => {
            out::note(format_args!("{name}: {reason}"));
            return Ok(());
        }
    };
    let names = &model.plan.names;
    if model.plan.spec.task == Task::Regression {
        if args.json {
            let values: Map<String, Value> =
                names.iter().cloned().zip(outputs.iter().map(|value| json!(value))).collect();
            return out::json(&json!({ "path": name, "values": values }));
        }
        let values: Vec<String> = names.iter().zip(&outputs).map(|(name, value)| format!("{name} {value}")).collect();
        return out::line(format!("{name}\t{}", values.join("\t")));
    }
    let ranked = ranked(model.plan.spec.task, &outputs, args.top as usize);
    if args.json {
        let classes: Vec<Value> = ranked
            .iter()
            .map(|(class, probability)| json!({ "class": names[*class], "probability": probability }))
            .collect();
        return out::json(&json!({ "path": name, "predictions": classes }));
    }
    let classes: Vec<String> =
        ranked.iter().map(|(class, probability)| format!("{} {probability:.4}", names[*class])).collect();
    out::line(format!("{name}\t{}", classes.join("\t")))
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
    use super::*;

    #[test]
    fn the_likeliest_come_first() {
        assert_eq!(ranked(Task::Multiclass, &[0.2, 0.5, 0.3], 2), [(1, 0.5), (2, 0.3)]);
        assert_eq!(ranked(Task::Multiclass, &[0.5, 0.5], 9), [(0, 0.5), (1, 0.5)]);
        assert_eq!(ranked(Task::Binary, &[0.25], 1), [(0, 0.75)]);
        assert_eq!(ranked(Task::Multilabel, &[0.9, 0.1, 0.8], 1), [(0, 0.9), (2, 0.8)]);
    }
}
