//! `convoy workers`: who is connected, and who reaches whom.

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;

use convoy_proto::v1;
use serde::Deserialize;

use crate::endpoint::{Endpoint, read};
use crate::error::CliError;
use crate::out;
use crate::runtime::block_on;

/// List the workers that are connected to a coordinator, and for each job whether they reach each other.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  convoy workers")]
pub struct WorkersArgs {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Endpoint,
}

/// A worker, as the coordinator tells of it.
#[derive(Deserialize)]
struct WorkerRow {
    worker: u32,
    name: String,
    /// Shards it computes at a time; 0 where it only adds for others.
    threads: u32,
    job: Option<u64>,
    draining: bool,
    /// Of the members of a run.
    peers: Option<PeerRow>,
}

/// What is known of a worker and others of its job.
#[derive(Deserialize)]
struct PeerRow {
    /// Where it listens for others.
    listens: Vec<String>,
    /// Workers that it gets through to.
    reaches: Vec<u32>,
    /// To how many others that listen it does not get through.
    unreached: usize,
    /// Of how many it is not known yet.
    untried: usize,
    /// Why not to some of them.
    problems: BTreeMap<u32, String>,
}

/// Prints a row for each worker, and a line for each job.
///
/// # Errors
/// When the coordinator refuses.
pub fn run(args: WorkersArgs) -> Result<ExitCode, CliError> {
    let workers = block_on(async {
        let reply = args.at.connect().await?.workers(v1::WorkersRequest {}).await;
        Ok(reply.map_err(|status| args.at.refused(&status))?.into_inner().json)
    })?;
    if args.json {
        workers.iter().try_for_each(out::line)?;
        return Ok(ExitCode::SUCCESS);
    }
    out::line(format_args!("{:<8} {:<32} {:>13}  {:>5}  JOB", "WORKER", "NAME", "THREADS", "PEERS"))?;
    let rows = workers.iter().map(|json| read::<WorkerRow>(json)).collect::<Result<Vec<_>, _>>()?;
    rows.iter().try_for_each(out::line)?;
    let mut jobs: BTreeMap<u64, Vec<&WorkerRow>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.peers.is_some()) {
        jobs.entry(row.job.unwrap_or_default()).or_default().push(row);
    }
    for (job, members) in jobs.into_iter().filter(|(_, members)| members.len() > 1) {
        out::line(format_args!("job {job}: {}", who_reaches_whom(&members)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the workers of a job reach each other, or what keeps them from it.
fn who_reaches_whom(members: &[&WorkerRow]) -> String {
    let peers = || members.iter().filter_map(|row| Some((*row, row.peers.as_ref()?)));
    let name = |worker: &u32| {
        let row = members.iter().find(|row| row.worker == *worker);
        row.map_or_else(|| format!("worker {worker}"), |row| row.name.clone())
    };
    let listen: Vec<u32> = peers().filter(|(_, peer)| !peer.listens.is_empty()).map(|(row, _)| row.worker).collect();
    if listen.is_empty() {
        return "no worker reaches another, since none listens; start them with `--peer-listen`".to_owned();
    }
    let mut problems = peers().flat_map(|(row, peer)| peer.problems.iter().map(move |problem| (row, problem)));
    if let Some((row, (to, problem))) = problems.next() {
        let more = peers().map(|(_, peer)| peer.unreached).sum::<usize>().saturating_sub(1);
        let more = if more > 0 { format!("; and {more} more, see --json") } else { String::new() };
        return format!("{} does not reach {} ({problem}){more}", row.name, name(to));
    }
    let reached = |worker: &&u32| peers().all(|(row, peer)| row.worker == **worker || peer.reaches.contains(worker));
    let by_all: Vec<String> = listen.iter().filter(reached).map(name).collect();
    let untried: usize = peers().map(|(_, peer)| peer.untried).sum();
    match by_all.len() {
        _ if untried > 0 => format!("not known yet: attempts under way: {untried}"),
        all if all == members.len() => format!("all {all} workers reach each other"),
        0 => "workers that listen do so on the coordinator's machine alone; see `--peer-address`".to_owned(),
        _ => format!("all workers reach {}; the others do not listen for all", by_all.join(", ")),
    }
}

impl fmt::Display for WorkerRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WorkerRow { worker, name, threads, job, draining, peers } = self;
        let job = job.map_or_else(|| "-".to_owned(), |job| job.to_string());
        let leaving = if *draining { " (leaving)" } else { "" };
        let peers = peers.as_ref().map_or_else(|| "-".to_owned(), |peers| peers.reaches.len().to_string());
        let threads = if *threads == 0 { "0 (adds only)".to_owned() } else { threads.to_string() };
        write!(f, "{worker:<8} {name:<32} {threads:>13}  {peers:>5}  {job}{leaving}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_where_a_worker_is() {
        let row = |json: &str| read::<WorkerRow>(json).unwrap().to_string();
        assert_eq!(
            row(r#"{"worker":3,"name":"box-1","threads":8,"job":7,"draining":false,
                    "peers":{"listens":[],"reaches":[1,2],"unreached":0,"untried":0,"problems":{}}}"#),
            "3        box-1                                        8      2  7"
        );
        assert_eq!(
            row(r#"{"worker":12,"name":"b","threads":16,"job":null,"draining":true}"#),
            "12       b                                           16      -  - (leaving)"
        );
        assert_eq!(
            row(r#"{"worker":4,"name":"adder","threads":0,"job":7,"draining":false}"#),
            "4        adder                            0 (adds only)      -  7"
        );
    }

    /// A member called `w` and its number.
    fn member(worker: u32, listens: bool, reaches: &[u32], problems: &[(u32, &str)]) -> WorkerRow {
        let untried = 0;
        let listens = listens.then(|| format!("10.0.0.{worker}:7071")).into_iter().collect();
        let unreached = problems.len();
        let problems = problems.iter().map(|(to, problem)| (*to, problem.to_string())).collect();
        let peers = Some(PeerRow { listens, reaches: reaches.to_vec(), unreached, untried, problems });
        WorkerRow { worker, name: format!("w{worker}"), threads: 1, job: Some(7), draining: false, peers }
    }

    #[test]
    fn a_line_tells_who_reaches_whom_or_why_not() {
        let line = |members: &[WorkerRow]| who_reaches_whom(&members.iter().collect::<Vec<_>>());
        let deaf = [member(1, false, &[], &[]), member(2, false, &[], &[])];
        assert!(line(&deaf).contains("none listens") && line(&deaf).contains("--peer-listen"));
        let all = [member(1, true, &[2], &[]), member(2, true, &[1], &[])];
        assert_eq!(line(&all), "all 2 workers reach each other");
        let one = [member(1, true, &[], &[]), member(2, false, &[1], &[]), member(3, false, &[1], &[])];
        assert_eq!(line(&one), "all workers reach w1; the others do not listen for all");
        let mut trying = [member(1, true, &[], &[]), member(2, true, &[1], &[])];
        trying[0].peers.as_mut().unwrap().untried = 1;
        assert_eq!(line(&trying), "not known yet: attempts under way: 1");
        let beside = [member(1, true, &[2], &[]), member(2, true, &[1], &[]), member(3, false, &[], &[])];
        assert!(line(&beside).contains("--peer-address"));
        let refused = "10.0.0.1:7071: connection refused";
        let broken = [
            member(1, true, &[2], &[]),
            member(2, true, &[], &[(1, refused)]),
            member(3, false, &[2], &[(1, refused), (9, "x")]),
        ];
        assert_eq!(line(&broken), format!("w2 does not reach w1 ({refused}); and 2 more, see --json"));
    }
}
