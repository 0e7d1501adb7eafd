//! The table of `--links`: how long a step takes with so many workers, and what travels.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use convoy_sim::rates::{Rates, RatesPlan, bytes, bytes_per_second, nanos, play};

/// Steps that are played, if they are not said: two that differ, and one that all others are like.
const STEPS: u16 = 3;

/// The most chunks that a gradient may have.
const MOST_CHUNKS: u32 = 100_000;

/// Many workers with links of a rate.
#[derive(Args)]
pub struct LinkArgs {
    /// Play calm weather with so many workers, whose links have a rate; one row for each number, such as 64,256.
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=4096),
        conflicts_with_all = ["seed", "seeds", "mutants", "mutant", "workers", "threads"]
    )]
    pub links: Vec<u32>,
    /// What a link carries each way in a second, such as 250mbit.
    #[arg(long, requires = "links", default_value = "10gbit", value_parser = bytes_per_second)]
    rate: u64,
    /// Bytes of a gradient, and of the parameters.
    #[arg(long, value_name = "SIZE", requires = "links", default_value = "45mb", value_parser = bytes)]
    gradient: u64,
    /// Bytes of a chunk of them.
    #[arg(long, value_name = "SIZE", requires = "links", default_value = "256kib", value_parser = bytes)]
    chunk: u64,
    /// What a byte takes from one machine to another.
    #[arg(long, value_name = "TIME", requires = "links", default_value = "100us", value_parser = nanos)]
    latency: u64,
    /// What each worker computes in a step.
    #[arg(long, value_name = "TIME", requires = "links", default_value = "200ms", value_parser = nanos)]
    compute: u64,
    /// Nobody reaches anybody but the coordinator, which then owns all chunks.
    #[arg(long, requires = "links")]
    star: bool,
}

impl LinkArgs {
    fn plan(&self, workers: u32, steps: u16) -> RatesPlan {
        let LinkArgs { rate, gradient, chunk, latency, compute, star, .. } = *self;
        let steps = u32::from(steps.max(STEPS));
        RatesPlan { rate, gradient, chunk, latency, compute, steps, star, ..RatesPlan::of_workers(workers) }
    }
}

/// Plays all that is asked for. Times are those of a step from the third on.
pub fn print(args: &LinkArgs, steps: Option<u16>) -> ExitCode {
    let steps = steps.unwrap_or(STEPS);
    if args.plan(1, steps).chunks() > MOST_CHUNKS {
        eprintln!("error: --chunk is too small: --gradient may have {MOST_CHUNKS} chunks at most");
        return ExitCode::from(2);
    }
    println!(
        "Seconds. \"Bytes\": of the busiest link, with as many owners as can be. \"Chunks\": with the owners there are, \
         each of whole chunks.\nIn and out: a coordinator's, and the most of a worker, in gradients.\n"
    );
    println!(
        "| workers | owners | step | exchange | by bytes | by chunks | coordinator in | out | worker in | out | events \
         | ms of the scheduler |\n|{}",
        "---|".repeat(12)
    );
    for workers in &args.links {
        let plan = args.plan(*workers, steps);
        let begun = Instant::now();
        match play(&plan, || begun.elapsed()) {
            Ok(rates) => println!("{}", row(&plan, &rates)),
            Err(odd) => {
                eprintln!("{workers} workers: the scheduler did in calm weather, at {odd}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn row(plan: &RatesPlan, rates: &Rates) -> String {
    let figures = rates.steady();
    let seconds = |nanos: u64| format!("{:.3}", nanos as f64 / 1e9);
    let gradients = |bytes: u64| format!("{:.3}", bytes as f64 / plan.gradient as f64);
    let columns = [
        plan.workers.to_string(),
        rates.owners.to_string(),
        seconds(figures.took),
        seconds(figures.exchange),
        seconds(plan.by_bytes()),
        seconds(plan.by_chunks(rates.owners)),
        gradients(figures.coordinator_in),
        gradients(figures.coordinator_out),
        gradients(figures.worker_in_most),
        gradients(figures.worker_out_most),
        figures.events.to_string(),
        format!("{:.1}", figures.heart.as_secs_f64() * 1e3),
    ];
    format!("| {} |", columns.join(" | "))
}
