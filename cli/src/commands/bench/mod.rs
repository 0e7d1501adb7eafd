//! `convoy bench`: how fast this machine trains a network, layer by layer.

mod report;
mod steps;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use convoy_common::spec::CPU_BF16_V1;
use convoy_kernels::peak_flops;
use convoy_planning::{Assumed, plan_without_data, spec_or_network};

use crate::error::CliError;
use crate::input_size::InputSize;
use crate::out;
use crate::progress::Counter;
use report::{Measured, Report};
use steps::Steps;

/// How long each look at the machine's peak takes.
const PEAK_TIME: Duration = Duration::from_millis(200);

/// Measure training steps on made-up data: images per second, time of each layer, how far from the machine's peak.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy bench examples/fashion-mnist.toml --input 28x28x1\n  \
    convoy bench resnet50 --input 224x224x3 --classes 1000 --set train.batch=32 --set train.shard=16 --json\n\n\
    A step is forward, backward, the sums over shards and the optimizer, for a whole batch. No data is read.")]
pub struct BenchArgs {
    /// A spec (.toml), whose data need not exist, or the name of a network.
    job: PathBuf,
    /// Override a key of the spec: key.path=value. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// The numerics class, in place of the spec's.
    #[arg(long, value_name = "CLASS")]
    numerics: Option<String>,
    /// Height, width and channels of a sample; as `prepare` says when absent, or else 32x32x3.
    #[arg(long, value_name = "HxWxC")]
    input: Option<InputSize>,
    /// Classes, or targets; as the last of the spec's layers says when absent, or else 10.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    classes: Option<u32>,
    /// Threads that compute shards; all cores when absent.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Steps that are measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    steps: u32,
    /// Steps before them that are not.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    warm_up: u32,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

/// Measures and prints a report.
///
/// # Errors
/// When spec and network do not fit, or a step is not finite.
pub fn run(mut args: BenchArgs) -> Result<ExitCode, CliError> {
    args.overrides.extend(args.numerics.iter().map(|class| format!("numerics={class}")));
    let mut file = spec_or_network(&args.job, &args.overrides, "a spec")?;
    // All of the network learns.
    file.spec.network.freeze_epochs = 0;
    let told = Assumed::of(&file.spec);
    let input = args.input.map_or(told.input, |InputSize(input)| input);
    let classes = args.classes.unwrap_or(told.classes);
    let (plan, network) = plan_without_data(file, Assumed { input, classes })?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or(cores, |threads| threads as usize);

    let peak_of_class = match plan.spec.numerics.as_str() {
        CPU_BF16_V1 => peak_flops::bf16_flops_per_second,
        _ => peak_flops::flops_per_second,
    };
    let before = machine_peak(threads, peak_of_class);
    let mut steps = Steps::new(&plan, &network, threads)?;
    let counter = Counter::new("measuring steps");
    let mut times = Vec::new();
    for number in 0..args.warm_up + args.steps {
        counter.show(number as usize, (args.warm_up + args.steps) as usize);
        if number == args.warm_up {
            steps.forget_layers();
        }
        let time = steps.step()?;
        if number >= args.warm_up {
            times.push(time);
        }
    }
    drop(counter);
    // Of two looks the better one: whoever else computes on this machine makes it look slow.
    let peak = machine_peak(threads, peak_of_class).max(before);
    let layers = steps.layers();
    let report = Report::new(&plan, &network, &Measured { threads, times, layers, peak, memory: peak_memory() });
    if args.json {
        out::json(&report)?
    } else {
        out::line(report)?
    }
    Ok(ExitCode::SUCCESS)
}

/// Floating-point operations per second of `threads` threads at the same time, each as `of_thread` finds.
fn machine_peak(threads: usize, of_thread: fn(Duration) -> f64) -> f64 {
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| of_thread(PEAK_TIME))).collect();
        running.into_iter().map(|thread| thread.join().expect("multiplying does not panic")).sum()
    })
}

/// The most memory that this process had at a time, in bytes, where the system tells.
fn peak_memory() -> Option<u64> {
    high_water(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// The bytes in the line `VmHWM:    1234 kB` of Linux's status of a process.
fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_found() {
        assert_eq!(high_water("Name:\tconvoy\nVmPeak:\t 9 kB\nVmHWM:\t    3 kB\nVmRSS:\t 2 kB\n"), Some(3072));
        assert_eq!(high_water("Name:\tconvoy\n"), None);
    }
}
