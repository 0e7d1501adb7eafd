//! `convoy eval`: metrics of a trained model on labelled images.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use convoy_common::epoch_order::{EpochCut, EpochOrder};
use convoy_common::manifest::{LabelKind, Split};
use convoy_common::metrics::{MetricLayout, Metrics};
use convoy_common::spec::{BadImage, Data, EmptyClasses, Spec, Task};
use convoy_common::tree_sum::{TreeSum, add_f64};
use convoy_files::here;
use convoy_planning::{PlanningError, look};
use convoy_scheduler::Node;
use convoy_vision::{Dataset, Mode, scan_known};
use serde::Serialize;

use crate::error::CliError;
use crate::inference::{Compute, Trained};
use crate::metric_lines::metric_lines;
use crate::out;
use crate::progress::{Counter, counter};

/// Measure a trained model on labelled images: its own validation data, or any other data with the same classes or
/// targets.
///
/// Samples are summed as in training, so that the metrics of a run's last epoch come out again, bit for bit.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy eval runs/fashion-mnist-1\n  \
    convoy eval runs/photos-1/model-best photos/test --json")]
pub struct EvalArgs {
    /// A model folder, a run folder, or a model.safetensors.
    model: PathBuf,
    /// A folder of class folders, a CSV file or an IDX folder (of which validation data is taken where there is
    /// some); the run's own validation data when absent.
    data: Option<PathBuf>,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: Compute,
}

/// What a model does on some data.
#[derive(Debug, Serialize)]
struct Evaluation {
    samples: u32,
    /// Images that could not be used.
    broken: usize,
    metrics: Metrics,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    classes: Vec<ClassRow>,
    /// Rows are true classes, columns predicted ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    confusion: Vec<Vec<u64>>,
}

/// How well one class or label is found.
#[derive(Debug, Serialize)]
struct ClassRow {
    name: String,
    samples: u64,
    precision: f64,
    recall: f64,
}

/// Evaluates the model and prints its metrics.
///
/// # Errors
/// When model or data cannot be used.
pub fn run(args: EvalArgs) -> Result<ExitCode, CliError> {
    let threads = args.compute.threads()?;
    let model = args.compute.load(&args.model)?;
    let split = match &args.data {
        None => own_validation(&model)?,
        Some(path) => other_data(&model, path)?,
    };
    let evaluation = evaluate(&model, split, threads)?;
    if args.json {
        out::json(&evaluation)?;
    } else {
        out::line(text_of(&evaluation, model.plan.spec.task))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The validation data of the run, which must not have changed since.
fn own_validation(model: &Trained) -> Result<Split, CliError> {
    let spec = &model.plan.spec;
    if model.plan.validation_samples == 0 {
        return Err(CliError::Usage("the model was trained without validation data; name some".to_owned()));
    }
    let data = Data { bad_images: BadImage::Quarantine, empty_classes: EmptyClasses::Ignore, ..spec.data.clone() };
    let scanned = look(&*here(), &Spec { data, ..spec.clone() }, counter)?;
    if scanned.manifest.digest() != model.plan.manifest {
        let difference = "files are not those that it was trained with; name the data to evaluate on".to_owned();
        return Err(PlanningError::DataChanged { difference }.into());
    }
    Ok(scanned.manifest.validation)
}

fn other_data(model: &Trained, path: &Path) -> Result<Split, CliError> {
    let plan = &model.plan;
    let labels = match plan.spec.task {
        Task::Auto | Task::Multiclass | Task::Binary => LabelKind::Class,
        Task::Multilabel => LabelKind::Set,
        Task::Regression => LabelKind::Values,
    };
    let (split, _) = scan_known(&*here(), path, &plan.spec.data, &plan.names, labels, &*counter("looking at files"))?;
    Ok(split)
}

fn evaluate(model: &Trained, split: Split, threads: usize) -> Result<Evaluation, CliError> {
    let plan = &model.plan;
    let usable = split.usable();
    let (samples, broken) = (usable.len() as u32, split.samples.len() - usable.len());
    if samples == 0 {
        return Err(CliError::Usage(format!("{}: no sample can be used", split.root)));
    }
    let order = EpochOrder::sequential(&usable);
    let cut = EpochCut { samples, batch: samples, shard: plan.spec.train.shard, keep_last: true };
    let dataset = Dataset::open(plan, split, here())?;
    let (layout, shards) = (plan.metric_layout(), cut.shards(0));
    let mut sums = TreeSum::over(shards);
    let counter = Counter::new("evaluating");
    model.in_order(
        threads,
        shards as usize,
        |executor, shard| {
            let batch = dataset.batch(order.samples(cut.shard(0, shard as u32)), Mode::Evaluate)?;
            Ok(executor.evaluate_shard(&batch)?)
        },
        |shard, sum| {
            let shard = shard as u32;
            sums.insert(Node { first: shard, last: shard + 1 }, sum, add_f64);
            counter.show(shard as usize + 1, shards as usize);
            Ok(())
        },
    )?;
    let sums = sums.take().expect("every shard was added");
    Ok(Evaluation {
        samples,
        broken,
        metrics: layout.finish(&sums, &plan.names),
        classes: class_rows(&layout, &sums, &plan.names),
        confusion: confusion(&layout, &sums),
    })
}

fn confusion(layout: &MetricLayout, sums: &[f64]) -> Vec<Vec<u64>> {
    if layout.task != Task::Multiclass {
        return Vec::new();
    }
    let row = |truth| (0..layout.names).map(|predicted| layout.confusion(sums, truth, predicted) as u64).collect();
    (0..layout.names).map(row).collect()
}

fn class_rows(layout: &MetricLayout, sums: &[f64], names: &[String]) -> Vec<ClassRow> {
    let row = |(name, [hits, true_samples, predicted]): (&String, [f64; 3])| ClassRow {
        name: name.clone(),
        samples: true_samples as u64,
        precision: if predicted > 0.0 { hits / predicted } else { 0.0 },
        recall: if true_samples > 0.0 { hits / true_samples } else { 0.0 },
    };
    names.iter().zip(layout.hits(sums)).map(row).collect()
}

/// What was measured, for people.
fn text_of(evaluation: &Evaluation, task: Task) -> String {
    let mut text = format!("samples     {}", evaluation.samples);
    if evaluation.broken > 0 {
        text.push_str(&format!(" ({} broken, left out)", evaluation.broken));
    }
    text.push_str(&metric_lines(&evaluation.metrics));
    let width = evaluation.classes.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(5);
    if !evaluation.classes.is_empty() {
        let kind = if task == Task::Multilabel { "label" } else { "class" };
        text.push_str(&format!("\n\n{kind:<width$}  samples  precision  recall"));
    }
    for ClassRow { name, samples, precision, recall } in &evaluation.classes {
        text.push_str(&format!("\n{name:<width$}  {samples:>7}  {precision:>9.4}  {recall:>6.4}"));
    }
    if !evaluation.confusion.is_empty() {
        text.push_str("\n\nconfusion matrix (rows: true class, columns: predicted, in the same order)");
    }
    let cell = evaluation.confusion.iter().flatten().max().map_or(1, |most| most.to_string().len());
    for (row, counts) in evaluation.classes.iter().zip(&evaluation.confusion) {
        let cells: Vec<String> = counts.iter().map(|count| format!("{count:>cell$}")).collect();
        text.push_str(&format!("\n{:<width$}  {}", row.name, cells.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn evaluation(broken: usize, confusion: Vec<Vec<u64>>) -> Evaluation {
        let row =
            |name: &str, samples, precision, recall| ClassRow { name: name.to_owned(), samples, precision, recall };
        Evaluation {
            samples: 14,
            broken,
            metrics: [("accuracy".to_owned(), 0.75), ("loss".to_owned(), 1.25)].into(),
            classes: vec![row("cat", 4, 0.5, 1.0), row("wombat", 10, 1.0, 0.25)],
            confusion,
        }
    }

    #[test]
    fn classes_have_rows_and_a_confusion_matrix() {
        expect![[r#"
            samples     14 (1 broken, left out)
            accuracy    0.7500
            loss        1.2500

            class   samples  precision  recall
            cat           4     0.5000  1.0000
            wombat       10     1.0000  0.2500

            confusion matrix (rows: true class, columns: predicted, in the same order)
            cat      4  0
            wombat   0 10"#]]
        .assert_eq(&text_of(&evaluation(1, vec![vec![4, 0], vec![0, 10]]), Task::Multiclass));
    }

    #[test]
    fn labels_have_rows_alone() {
        expect![[r#"
            samples     14
            accuracy    0.7500
            loss        1.2500

            label   samples  precision  recall
            cat           4     0.5000  1.0000
            wombat       10     1.0000  0.2500"#]]
        .assert_eq(&text_of(&evaluation(0, Vec::new()), Task::Multilabel));
    }

    #[test]
    fn what_has_no_classes_has_no_rows_in_json_either() {
        let values = Evaluation { classes: Vec::new(), ..evaluation(0, Vec::new()) };
        let json = serde_json::to_string(&values).unwrap();
        assert_eq!(json, r#"{"samples":14,"broken":0,"metrics":{"accuracy":0.75,"loss":1.25}}"#);
        assert_eq!(text_of(&values, Task::Regression), "samples     14\naccuracy    0.7500\nloss        1.2500");
    }
}
