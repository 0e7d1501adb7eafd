//! `convoy-faults`: tries the rows of the fault table, and prints what each fault cost.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use convoy_faults::job::Bench;
use convoy_faults::outcome::Outcome;
use convoy_faults::report;
use convoy_faults::rows::{ROWS, Row};

/// Lets faults happen to real processes, and prints what each cost.
#[derive(Parser)]
struct Args {
    /// The binary whose runs are disturbed.
    #[arg(long, default_value = "target/release/convoy")]
    convoy: PathBuf,
    /// The simulator, for the row that only it can show.
    #[arg(long)]
    sim: Option<PathBuf>,
    /// Tries of each row, instead of its own number.
    #[arg(long)]
    tries: Option<u64>,
    /// Print one JSON object for each row.
    #[arg(long)]
    json: bool,
    /// Rows by name; all when there is none.
    rows: Vec<String>,
}

fn main() -> io::Result<ExitCode> {
    let args = Args::parse();
    if let Some(unknown) = args.rows.iter().find(|name| ROWS.iter().all(|row| row.name != **name)) {
        let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        writeln!(io::stderr(), "error: no row `{unknown}`; there are {}", names.join(", "))?;
        return Ok(ExitCode::from(2));
    }
    let convoy = args.convoy.canonicalize()?;
    let mut bench = Bench::new(convoy);
    (bench.sim, bench.tries) = (args.sim.clone(), args.tries);
    let chosen = |row: &&Row| args.rows.is_empty() || args.rows.iter().any(|name| name == row.name);
    if !args.json {
        writeln!(io::stdout(), "{}", report::HEADER)?;
    }
    let mut failed = false;
    for row in ROWS.iter().filter(chosen) {
        let outcome: Outcome = row.run(&bench);
        failed |= outcome.held() == Some(false);
        let text = if args.json { report::json(row, &outcome).to_string() } else { report::line(row, &outcome) };
        writeln!(io::stdout(), "{text}")?;
    }
    Ok(ExitCode::from(u8::from(failed)))
}
