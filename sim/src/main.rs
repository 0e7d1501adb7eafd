//! Plays simulated runs by the thousand, or one of them line by line; or many workers with links of a rate.

mod table;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use convoy_sim::{Fault, Mutant, Scenario, Shape, Story, Violation, play, play_traced};
use parking_lot::Mutex;

use crate::table::LinkArgs;

/// Lines of the trace that are shown before a violation.
const SHOWN: usize = 60;

/// Plays training runs in virtual time, with the scheduler and driver of the coordinator and faults from a seed.
///
/// Every promise is checked at everything that happens. The first that does not hold ends the program with its name,
/// the seed and the lines before it; the exit code is then 1.
#[derive(Parser)]
#[command(name = "convoy-sim", after_help = EXAMPLES)]
struct Args {
    /// Replay the run of this seed and print all events, effects and faults.
    #[arg(required_unless_present_any = ["seeds", "mutants", "links"])]
    seed: Option<u64>,
    /// Play this many seeds.
    #[arg(long, value_name = "N", conflicts_with = "seed")]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, value_name = "SEED", default_value_t = 0, requires = "seeds")]
    from: u64,
    /// Put a fault into Convoy itself, to see it caught.
    #[arg(long, value_name = "NAME", value_parser = mutant)]
    mutant: Option<Mutant>,
    /// List the mutants.
    #[arg(long)]
    mutants: bool,
    /// Worker processes of a run.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,
    /// Steps of a run: 40, if it is not said; with --links 3, and no fewer.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    steps: Option<u16>,
    /// Threads that play runs; as many as there are cores, if it is not said.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    #[command(flatten)]
    links: LinkArgs,
}

const EXAMPLES: &str = "Examples:
  convoy-sim --seeds 10000                        play the seeds 0..10000
  convoy-sim --seeds 5000 --from 10000            play the seeds 10000..15000
  convoy-sim 8731                                 replay seed 8731, line by line
  convoy-sim --seeds 100 --mutant arrival-order   see a mutant caught
  convoy-sim --seeds 1000 --workers 3 --steps 12  smaller runs
  convoy-sim --mutants                            list the mutants
  convoy-sim --links 64,256,1000 --rate 10gbit    how long a step takes where links have a rate, in calm weather
  convoy-sim --links 64 --star                    the same where all gradients go to the coordinator";

/// Steps of a run, if they are not said.
const STEPS: u16 = 40;

fn mutant(name: &str) -> Result<Mutant, String> {
    Mutant::named(name).ok_or_else(|| "there is no such mutant; --mutants lists them".to_owned())
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.mutants {
        for mutant in Mutant::ALL {
            println!("{:16} {}", mutant.name(), mutant.about());
        }
        return ExitCode::SUCCESS;
    }
    if !args.links.links.is_empty() {
        return table::print(&args.links, args.steps);
    }
    match (args.seed, args.seeds) {
        (Some(seed), _) => replay(&args.scenario(seed)),
        (None, seeds) => sweep(&args, seeds.unwrap_or(0)),
    }
}

impl Args {
    fn steps(&self) -> u16 {
        self.steps.unwrap_or(STEPS)
    }

    fn scenario(&self, seed: u64) -> Scenario {
        let shape = Shape { workers: usize::from(self.workers), steps: u64::from(self.steps()) };
        Scenario { mutant: self.mutant, ..Scenario::drawn(seed, shape) }
    }
}

/// One run, with everything that happens.
fn replay(scenario: &Scenario) -> ExitCode {
    println!("{scenario}");
    let mut trace = Vec::new();
    let played = play_traced(scenario, &mut trace);
    trace.iter().for_each(|line| println!("{line}"));
    match played {
        Ok(story) => {
            let Story { outcome, committed, commits, starts, .. } = &story;
            println!("{outcome} at {committed}: {commits} commits, {starts} starts; every promise held");
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("seed {}: {violation}", scenario.seed);
            ExitCode::FAILURE
        }
    }
}

/// Sums over all runs so far.
#[derive(Default)]
struct Totals {
    runs: u64,
    commits: u64,
    starts: u64,
    ignored: u64,
    contradictions: u64,
    copies: u64,
    sliced: u64,
    moved: [u64; 3],
    /// Sums that were equal, wrong sums, disagreements, and machines that disagreed with too many.
    audits: [u64; 4],
    overdue: u64,
    longest_after_storm: f64,
    faults: BTreeMap<Fault, u64>,
}

impl Totals {
    fn add(&mut self, story: &Story) {
        self.runs += 1;
        self.commits += story.commits;
        self.starts += story.starts;
        self.ignored += story.ignored;
        self.contradictions += story.contradictions;
        self.copies += story.copies;
        self.overdue += story.overdue;
        self.sliced += story.sliced;
        self.moved.iter_mut().zip(story.moved).for_each(|(sum, moved)| *sum += moved);
        let audits = [story.audited_sums, story.wrong_sums, story.disagreements, story.outvoted];
        self.audits.iter_mut().zip(audits).for_each(|(sum, audits)| *sum += audits);
        self.longest_after_storm = self.longest_after_storm.max(story.after_storm.0 as f64 / 1e6);
        for fault in Fault::ALL {
            *self.faults.entry(*fault).or_default() += story.faults[*fault as usize];
        }
    }

    fn print(&self, took: Duration) {
        println!("{} runs, {} steps committed, {} starts of the coordinator", self.runs, self.commits, self.starts);
        println!(
            "{} events ignored, {} copies of leases revoked, {} leases overdue, {} nodes brought in two ways",
            self.ignored, self.copies, self.overdue, self.contradictions
        );
        let [gone, unreached, late] = self.moved;
        println!(
            "{} steps whose chunks workers owned; chunks moved in mid-step {gone} times from an owner that was gone, \
             {unreached} times from one that was not reached, {late} times from one that was late",
            self.sliced
        );
        let [equal, wrong, disagreements, outvoted] = self.audits;
        println!(
            "{equal} sums added anew and equal, {wrong} machines evicted for others; {disagreements} disagreements, \
             {outvoted} machines evicted for too many"
        );
        let faults: Vec<String> =
            self.faults.iter().map(|(fault, times)| format!("{} {times}", fault.name())).collect();
        println!("faults: {}", faults.join(", "));
        println!("longest time from the last fault to the end: {:.0} s, virtual", self.longest_after_storm);
        let minutes = took.as_secs_f64() / 60.0;
        println!("{:.0} simulated runs a minute ({:.1} s)", self.runs as f64 / minutes, took.as_secs_f64());
    }
}

/// Plays many runs. Says how far it is every few seconds, and stops at the first violation.
fn sweep(args: &Args, seeds: u64) -> ExitCode {
    let begun = Instant::now();
    let sweep = Sweep::new(args, seeds, begun);
    let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = args.threads.map_or_else(cores, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(|| sweep.work()))));
    let Sweep { totals, found, .. } = sweep;
    totals.into_inner().print(begun.elapsed());
    match found.into_inner() {
        None => {
            println!("every promise held");
            ExitCode::SUCCESS
        }
        Some((seed, violation)) => {
            explain(args, seed, &violation);
            ExitCode::FAILURE
        }
    }
}

/// Many runs, shared by the threads that play them.
struct Sweep<'a> {
    args: &'a Args,
    seeds: u64,
    next: AtomicU64,
    stop: AtomicBool,
    totals: Mutex<Totals>,
    /// The lowest seed so far whose run broke a promise.
    found: Mutex<Option<(u64, Violation)>>,
    begun: Instant,
    /// When it was said last how far the sweep is.
    told: Mutex<Instant>,
}

impl Sweep<'_> {
    fn new(args: &Args, seeds: u64, begun: Instant) -> Sweep<'_> {
        let (next, stop, totals, found) = Default::default();
        Sweep { args, seeds, next, stop, totals, found, begun, told: Mutex::new(begun) }
    }

    /// Plays seeds until there are no more, or until some promise is broken; each thread runs this.
    fn work(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let seed = self.args.from + self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.args.from + self.seeds {
                return;
            }
            match play(&self.args.scenario(seed)) {
                Ok(story) => self.held(&story),
                Err(violation) => self.broken(seed, violation),
            }
        }
    }

    fn held(&self, story: &Story) {
        let mut totals = self.totals.lock();
        totals.add(story);
        let mut told = self.told.lock();
        if told.elapsed() > Duration::from_secs(5) {
            *told = Instant::now();
            let left = self.begun.elapsed().as_secs_f64() * (self.seeds - totals.runs) as f64 / totals.runs as f64;
            eprintln!("{} of {} runs, {} steps; {left:.0} s left", totals.runs, self.seeds, totals.commits);
        }
    }

    fn broken(&self, seed: u64, violation: Violation) {
        self.stop.store(true, Ordering::Relaxed);
        let mut found = self.found.lock();
        if found.as_ref().is_none_or(|(other, _)| seed < *other) {
            *found = Some((seed, violation));
        }
    }
}

/// Shows what led to a violation: plays the same seed once more, with its trace.
fn explain(args: &Args, seed: u64, violation: &Violation) {
    let scenario = args.scenario(seed);
    let mut trace = Vec::new();
    // It goes as it went before, so its end is known.
    drop(play_traced(&scenario, &mut trace));
    println!("\n{scenario}\n...");
    trace[trace.len().saturating_sub(SHOWN)..].iter().for_each(|line| println!("{line}"));
    println!("\nseed {seed}: {violation}");
    let mutant = args.mutant.map_or(String::new(), |mutant| format!(" --mutant {}", mutant.name()));
    let (workers, steps) = (args.workers, args.steps());
    println!("replay it: cargo run --release -p convoy-sim -- {seed}{mutant} --workers {workers} --steps {steps}");
}
