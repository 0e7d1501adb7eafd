//! What was measured, in figures.

use std::fmt;
use std::time::Duration;

use convoy_common::Plan;
use convoy_common::spec::CPU_BF16_V1;
use convoy_kernels::cpu::{self, Level};
use convoy_model::{LayerRow, Network, Op, describe};
use convoy_nn::LayerTime;
use serde::Serialize;

use super::steps::StepTime;

/// What was measured.
pub struct Measured {
    /// Threads that computed shards.
    pub threads: usize,
    /// Of each step; at least one.
    pub times: Vec<StepTime>,
    /// Thread time of each layer in all of these steps.
    pub layers: Vec<LayerTime>,
    /// Floating-point operations per second of all threads, on registers.
    pub peak: f64,
    /// Bytes of memory.
    pub memory: Option<u64>,
}

/// Figures of a benchmark. Times of parts are milliseconds of a step, means over steps: thread time divided by the
/// number of threads, so that the parts add up to the mean step.
#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(flatten)]
    setup: Setup,
    #[serde(flatten)]
    speed: Speed,
    layers: Vec<LayerReport>,
    #[serde(flatten)]
    rest: Rest,
}

/// What was measured, and on what.
#[derive(Debug, Serialize)]
struct Setup {
    network: String,
    input: String,
    outputs: u32,
    batch: u32,
    shard: u32,
    threads: usize,
    numerics: String,
    /// Instructions of the kernels.
    level: &'static str,
    steps: usize,
    /// Another class to measure.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'static str>,
}

/// What to measure on a CPU of this level besides `numerics`.
fn advice(numerics: &str, level: Level) -> Option<&'static str> {
    match (numerics == CPU_BF16_V1, level) {
        (false, Level::Amx) => Some("this CPU has AMX: try --numerics cpu-bf16-v1, which is made for it"),
        (true, Level::Amx) | (false, _) => None,
        (true, Level::Avx512Bf16) => {
            Some("this CPU has no AMX: compare --numerics cpu-f32-v1, which is faster for some networks")
        }
        (true, _) => Some("this CPU has no AMX: compare --numerics cpu-f32-v1, which is most likely faster"),
    }
}

/// Figures of the whole step.
#[derive(Debug, Serialize)]
struct Speed {
    images_per_second: Spread,
    step_ms: Spread,
    /// Floating-point operations of a step, forward and backward: those of [`describe`], three times for a convolution
    /// or fully connected layer (output, data, weights), twice for one that reads the samples. As many, whatever the
    /// algorithm: Winograd's does with fewer.
    flops: u64,
    gflops: f64,
    peak_gflops: f64,
    of_peak: f64,
    peak_memory_bytes: Option<u64>,
}

/// Parts of a step that are no layer.
#[derive(Debug, Serialize)]
struct Rest {
    /// Loss, tape, and what else is in a pass beside its layers.
    rest_ms: f64,
    sums_ms: f64,
    waiting_ms: f64,
    optimizer_ms: f64,
}

/// The best and the middle one of several figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Spread {
    best: f64,
    median: f64,
}

/// Layers that are computed together.
#[derive(Debug, Serialize)]
struct LayerReport {
    names: Vec<String>,
    op: String,
    forward_ms: f64,
    backward_ms: f64,
    /// 0 for what is no convolution and not fully connected.
    flops: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    gflops: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of_peak: Option<f64>,
}

impl Report {
    /// The figures of what was measured of `plan` on `network`.
    pub fn new(plan: &Plan, network: &Network, measured: &Measured) -> Self {
        let rows = describe(network).layers;
        let batch = plan.spec.train.batch;
        let layers = measured.layers.iter().map(|layer| layer_report(layer, &rows, network, batch, measured));
        let layers: Vec<LayerReport> = layers.collect();
        Report {
            setup: Setup::of(plan, network, measured),
            speed: Speed::of(batch, layers.iter().map(|layer| layer.flops).sum(), measured),
            rest: Rest::of(&layers, measured),
            layers,
        }
    }
}

impl Setup {
    fn of(plan: &Plan, network: &Network, measured: &Measured) -> Self {
        Setup {
            network: match plan.spec.network.layers[..] {
                [] => plan.spec.network.zoo_name().to_owned(),
                _ => plan.spec.name.clone(),
            },
            input: format!("{}x{}x{}", plan.input.height, plan.input.width, plan.input.channels),
            outputs: network.outputs,
            batch: plan.spec.train.batch,
            shard: plan.spec.train.shard,
            threads: measured.threads,
            numerics: plan.spec.numerics.clone(),
            level: cpu::level().name(),
            steps: measured.times.len(),
            advice: advice(&plan.spec.numerics, cpu::level()),
        }
    }
}

impl Speed {
    /// Of steps with `batch` samples and `flops` floating-point operations each.
    fn of(batch: u32, flops: u64, measured: &Measured) -> Self {
        let step_ms = spread(measured.times.iter().map(|time| 1e3 * time.whole.as_secs_f64()).collect());
        let gflops = flops as f64 / step_ms.best / 1e6;
        let peak_gflops = measured.peak / 1e9;
        Speed {
            images_per_second: Spread {
                best: 1e3 * f64::from(batch) / step_ms.best,
                median: 1e3 * f64::from(batch) / step_ms.median,
            },
            step_ms,
            flops,
            gflops,
            peak_gflops,
            of_peak: gflops / peak_gflops,
            peak_memory_bytes: measured.memory,
        }
    }
}

impl Rest {
    fn of(layers: &[LayerReport], measured: &Measured) -> Self {
        let Measured { threads, times, .. } = measured;
        let mean = |part: &dyn Fn(&StepTime) -> f64| times.iter().map(part).sum::<f64>() / times.len() as f64;
        let mean_ms = |part: &dyn Fn(&StepTime) -> Duration| 1e3 * mean(&|time| part(time).as_secs_f64());
        let shares = *threads as f64;
        let (passes_ms, sums_ms) = (mean_ms(&|time| time.passes) / shares, mean_ms(&|time| time.sums) / shares);
        let shards_ms = mean_ms(&|time| time.shards);
        Rest {
            rest_ms: passes_ms - layers.iter().map(|layer| layer.forward_ms + layer.backward_ms).sum::<f64>(),
            sums_ms,
            waiting_ms: shards_ms - passes_ms - sums_ms,
            optimizer_ms: mean_ms(&|time| time.whole) - shards_ms,
        }
    }
}

fn layer_report(
    layer: &LayerTime,
    rows: &[LayerRow],
    network: &Network,
    batch: u32,
    measured: &Measured,
) -> LayerReport {
    let per_step = (measured.threads * measured.times.len()) as f64;
    let [forward_ms, backward_ms] = [layer.forward, layer.backward].map(|time| 1e3 * time.as_secs_f64() / per_step);
    let flops =
        layer.nodes.iter().map(|&node| passes(network, node) * rows[node].flops).sum::<u64>() * u64::from(batch);
    let gflops = (flops > 0).then(|| flops as f64 / (forward_ms + backward_ms) / 1e6);
    LayerReport {
        names: layer.nodes.iter().map(|&node| rows[node].name.clone()).collect(),
        op: layer.nodes.iter().map(|&node| rows[node].op.as_str()).collect::<Vec<_>>().join(", "),
        forward_ms,
        backward_ms,
        flops,
        gflops,
        of_peak: gflops.map(|gflops| gflops / (measured.peak / 1e9)),
    }
}

/// How often a layer's products are computed: for the output, the weights, and the data unless it reads the samples.
fn passes(network: &Network, node: usize) -> u64 {
    if network.nodes[node].inputs.first().is_some_and(|&input| matches!(network.nodes[input].op, Op::Input)) {
        2
    } else {
        3
    }
}

/// The smallest and the middle one of `times`; of an even number of them the mean of the two in the middle.
fn spread(mut times: Vec<f64>) -> Spread {
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    let median = if times.len().is_multiple_of(2) { (times[middle - 1] + times[middle]) / 2.0 } else { times[middle] };
    Spread { best: times[0], median }
}

/// Figures of the whole, then a table of the layers with a row for each of the other parts of a step.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setup { network, input, outputs, batch, shard, threads, numerics, level, steps, advice } = &self.setup;
        let Speed { images_per_second, step_ms, gflops, peak_gflops, of_peak, peak_memory_bytes, .. } = &self.speed;
        writeln!(f, "network    {network}, {input} to {outputs}, batch {batch} in shards of {shard}")?;
        writeln!(f, "machine    {threads} threads, {level}, {peak_gflops:.1} GFLOP/s at most")?;
        writeln!(f, "numerics   {numerics}")?;
        writeln!(f, "images/s   {:.1} best, {:.1} median", images_per_second.best, images_per_second.median)?;
        writeln!(f, "step       {:.2} ms best, {:.2} ms median of {steps}", step_ms.best, step_ms.median)?;
        writeln!(f, "of peak    {:.1} %, {gflops:.1} GFLOP/s", 100.0 * of_peak)?;
        if let Some(bytes) = peak_memory_bytes {
            writeln!(f, "memory     {} MiB at most", bytes.div_ceil(1 << 20))?;
        }
        if let Some(advice) = advice {
            writeln!(f, "advice     {advice}")?;
        }
        write!(f, "\n{}", aligned(&self.table()))
    }
}

/// A row of the table: names of layers, operation, and five figures.
type Row = [String; 7];

impl Report {
    fn table(&self) -> Vec<Row> {
        let layer_ms = |layer: &LayerReport| layer.forward_ms + layer.backward_ms;
        let parts = [self.rest.rest_ms, self.rest.sums_ms, self.rest.waiting_ms, self.rest.optimizer_ms];
        let all = self.layers.iter().map(layer_ms).chain(parts).sum::<f64>();
        let share = |ms: f64| format!("{:.1}", 100.0 * ms / all);
        let header = ["layer", "operation", "forward ms", "backward ms", "% of step", "GFLOP/s", "% of peak"];
        let mut table = vec![header.map(str::to_owned)];
        table.extend(self.layers.iter().map(|layer| {
            let number = |number: Option<f64>| number.map_or_else(String::new, |number| format!("{number:.1}"));
            [
                layer.names.join(", "),
                layer.op.clone(),
                format!("{:.3}", layer.forward_ms),
                format!("{:.3}", layer.backward_ms),
                share(layer_ms(layer)),
                number(layer.gflops),
                number(layer.of_peak.map(|share| 100.0 * share)),
            ]
        }));
        let names = ["loss, tape and the rest", "sums over shards", "waiting for other threads", "optimizer"];
        table.extend(names.into_iter().zip(parts).map(|(name, ms)| {
            let [name, empty] = [name, ""].map(str::to_owned);
            [name, empty.clone(), format!("{ms:.3}"), empty.clone(), share(ms), empty.clone(), empty]
        }));
        table
    }
}

/// `table` with each column as wide as its longest cell: text on the left of it, figures on the right.
fn aligned(table: &[Row]) -> String {
    let widths: [usize; 7] = std::array::from_fn(|column| table.iter().map(|row| row[column].len()).max().unwrap_or(0));
    let line = |row: &Row| {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    table.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use convoy_common::spec::parse;
    use convoy_planning::{Assumed, SpecFile, plan_without_data};

    use super::*;

    fn report(times: &[u64]) -> Report {
        let text = r#"
            name = "tiny"
            [network]
            layers = [{ type = "conv", out = 4, kernel = 3, padding = 1, bias = false }, { type = "relu" },
                { type = "flatten" }, { type = "linear", out = 2 }]
            [prepare]
            size = 8
            channels = 1
            [train]
            batch = 10
            shard = 5
            [data]
            train = "x"
        "#;
        let spec = parse(text, &[]).unwrap();
        let told = Assumed::of(&spec);
        let (plan, network) = plan_without_data(SpecFile { spec, path: None, text: text.to_owned() }, told).unwrap();
        let ms = Duration::from_millis;
        let time = |whole: &u64| StepTime { whole: ms(*whole), shards: ms(whole - 1), passes: ms(12), sums: ms(2) };
        let count = times.len() as u32;
        let layer = |nodes: &[usize], forward: u64, backward: u64| LayerTime {
            nodes: nodes.to_vec(),
            forward: count * ms(forward),
            backward: count * ms(backward),
        };
        let layers = vec![layer(&[1, 2], 2, 4), layer(&[3], 0, 0), layer(&[4], 1, 1)];
        let times: Vec<StepTime> = times.iter().map(time).collect();
        Report::new(&plan, &network, &Measured { threads: 2, times, layers, peak: 1e9, memory: Some(3 << 20) })
    }

    #[test]
    fn another_class_is_advised_where_it_may_be_faster() {
        for (level, of_f32, of_bf16) in [
            (Level::Portable, None, Some("cpu-f32-v1")),
            (Level::Avx512Bf16, None, Some("cpu-f32-v1")),
            (Level::Amx, Some("cpu-bf16-v1"), None),
        ] {
            for (class, wanted) in [("cpu-f32-v1", of_f32), ("cpu-f32-direct-v1", of_f32), ("cpu-bf16-v1", of_bf16)] {
                let advice = advice(class, level);
                assert_eq!(advice.is_some(), wanted.is_some(), "{class} {level:?}");
                assert!(advice.is_none_or(|advice| advice.contains(wanted.unwrap())), "{class} {level:?}");
            }
        }
    }

    #[test]
    fn the_middle_of_steps_is_a_step_or_between_two() {
        assert_eq!(spread(vec![3.0, 1.0, 5.0]), Spread { best: 1.0, median: 3.0 });
        assert_eq!(spread(vec![3.0, 1.0, 5.0, 4.0]), Spread { best: 1.0, median: 3.5 });
        assert_eq!(report(&[10, 20]).speed.images_per_second, Spread { best: 1000.0, median: 1e4 / 15.0 });
    }

    #[test]
    fn operations_are_counted_forward_and_backward() {
        let report = report(&[10]);
        // 2 * 9 * 4 products at 64 places and no gradient of the samples; 2 * 256 * 2 products three times.
        assert_eq!(report.layers.iter().map(|layer| layer.flops).collect::<Vec<_>>(), [92_160, 0, 30_720]);
        assert_eq!(report.speed.flops, 122_880);
        // 6 ms of one thread are 3 ms of two.
        assert_eq!((report.layers[0].forward_ms, report.layers[0].backward_ms), (1.0, 2.0));
        assert!((report.layers[0].gflops.unwrap() - 92_160.0 / 3e-3 / 1e9).abs() < 1e-9);
        assert!((report.speed.of_peak - 122_880.0 / 10e-3 / 1e9).abs() < 1e-9);
        assert_eq!(report.layers[1].of_peak, None);
    }

    #[test]
    fn parts_add_up_to_the_step() {
        for times in [&[10][..], &[10, 14, 20]] {
            let report = report(times);
            let rest = &report.rest;
            let layers: f64 = report.layers.iter().map(|layer| layer.forward_ms + layer.backward_ms).sum();
            let sum = layers + rest.rest_ms + rest.sums_ms + rest.waiting_ms + rest.optimizer_ms;
            let mean = times.iter().sum::<u64>() as f64 / times.len() as f64;
            assert!((sum - mean).abs() < 1e-9, "{report:?}");
            assert!((rest.optimizer_ms - 1.0).abs() < 1e-9 && (rest.rest_ms - 2.0).abs() < 1e-9, "{report:?}");
        }
    }

    #[test]
    fn the_table_names_layers_that_are_computed_together() {
        let text = report(&[10]).to_string();
        let row = text.lines().find(|line| line.starts_with("layer0, layer1 ")).expect("a row of two layers");
        assert_eq!(
            row.split_whitespace().collect::<Vec<_>>()[2..],
            ["conv", "3x3", "padding", "1x1,", "relu", "1.000", "2.000", "30.0", "0.0", "3.1"]
        );
        assert!(text.contains("memory     3 MiB") && text.contains("optimizer"), "{text}");
    }
}
