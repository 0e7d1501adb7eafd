//! How much memory a worker may have, and how many threads of a job fit into it.

use std::path::Path;

use convoy_common::Plan;
use convoy_model::{Network, memory_estimate};

use crate::error::WorkerError;

/// Code, stacks, queues and the samples that wait, beside what the network takes.
const BESIDES: u64 = 48 << 20;

/// How many of `wanted` threads compute `plan` in the memory that each of `workers` workers of this process can have:
/// at most `most` bytes, and no more than the machine, its control groups and its limits leave. `adds`: it may add
/// gradients for other workers.
///
/// # Errors
/// [`WorkerError::Memory`] when it is too little for one thread.
pub fn threads_that_fit(
    plan: &Plan,
    network: &Network,
    wanted: usize,
    workers: u32,
    most: Option<u64>,
    adds: bool,
) -> Result<usize, WorkerError> {
    fitting(plan, network, wanted, memory_for(most).map(|there| there / u64::from(workers.max(1))), adds)
}

/// Looks whether there is the memory, at most `most` bytes, to add gradients of `plan` for others and compute nothing.
///
/// # Errors
/// [`WorkerError::MemoryToAdd`] when it is too little.
pub(crate) fn adding_fits(plan: &Plan, network: &Network, most: Option<u64>) -> Result<(), WorkerError> {
    enough_to_add(plan, network, memory_for(most))
}

fn enough_to_add(plan: &Plan, network: &Network, there: Option<u64>) -> Result<(), WorkerError> {
    let need = BESIDES.saturating_add(memory_estimate(plan, network, 0).worker_adding);
    match there {
        Some(there) if there < need => Err(WorkerError::MemoryToAdd { need, there }),
        _ => Ok(()),
    }
}

/// Bytes that this process can have in all: at most `most`, and no more than its surroundings leave; `None` where
/// nothing bounds it.
pub(crate) fn memory_for(most: Option<u64>) -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    memory_there(&read).into_iter().chain(most).min()
}

fn fitting(
    plan: &Plan,
    network: &Network,
    wanted: usize,
    there: Option<u64>,
    adds: bool,
) -> Result<usize, WorkerError> {
    let need = |threads: usize| {
        let estimate = memory_estimate(plan, network, threads as u32);
        let exchange = if adds { estimate.worker_exchange } else { 0 };
        BESIDES.saturating_add(estimate.worker()).saturating_add(exchange)
    };
    let Some(there) = there else { return Ok(wanted) };
    let fits = (1..=wanted.max(1)).rev().find(|threads| need(*threads) <= there);
    fits.ok_or_else(|| WorkerError::Memory { need: need(1), there })
}

/// Bytes that this process can have in all, those that it has included; `None` where the system does not say. `read`
/// gives the text of a file.
fn memory_there(read: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let status = read("/proc/self/status").unwrap_or_default();
    let own = kib_of(&status, "VmRSS:").unwrap_or(0);
    let machine = read("/proc/meminfo").and_then(|text| kib_of(&text, "MemAvailable:"));
    let groups = read("/proc/self/cgroup").and_then(|groups| left_by_groups(&groups, read));
    let addresses = read("/proc/self/limits").and_then(|limits| most_addresses(&limits));
    let addresses = addresses.map(|most| most.saturating_sub(kib_of(&status, "VmSize:").unwrap_or(0)));
    let free = [machine, groups, addresses].into_iter().flatten().min()?;
    Some(free.saturating_add(own))
}

/// What stands behind `key` in a text of lines such as `VmRSS:  1024 kB`, in bytes.
fn kib_of(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The soft limit on address space.
fn most_addresses(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What the control groups in `/proc/self/cgroup` leave: of the second version in one tree, of the first in one for
/// each controller. All groups above count, too.
fn left_by_groups(groups: &str, read: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let left = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (controllers, path) = (parts.nth(1)?, parts.next()?);
        let tree = match controllers {
            "" => ("/sys/fs/cgroup", ["memory.max", "memory.current", "inactive_file"]),
            named if named.split(',').any(|name| name == "memory") => {
                let files = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"];
                ("/sys/fs/cgroup/memory", files)
            }
            _ => return None,
        };
        let above = Path::new(path).ancestors();
        above.filter_map(|group| left_by_group(tree.0, &group.display().to_string(), tree.1, read)).min()
    });
    left.min()
}

/// What one control group leaves. The system takes back the pages of files that nobody has looked at for a while.
fn left_by_group(
    tree: &str,
    group: &str,
    [most, used, idle]: [&str; 3],
    read: &dyn Fn(&str) -> Option<String>,
) -> Option<u64> {
    let file = |name: &str| read(&format!("{tree}{}/{name}", group.trim_end_matches('/')));
    let number = |name: &str| file(name)?.trim().parse::<u64>().ok();
    let (most, used) = (number(most)?, number(used)?);
    let stat = file("memory.stat").unwrap_or_default();
    let idle = stat.lines().find_map(|line| line.strip_prefix(idle)?.trim().parse::<u64>().ok());
    Some(most.saturating_sub(used.saturating_sub(idle.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{Job, ROOT};

    const MIB: u64 = 1 << 20;

    fn there(files: &[(&str, &str)]) -> Option<u64> {
        memory_there(&|path| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned()))
    }

    #[test]
    fn the_machine_a_group_or_a_limit_bounds_memory_whichever_leaves_least() {
        let status = ("/proc/self/status", "Name:\tconvoy\nVmSize:\t  204800 kB\nVmRSS:\t   10240 kB\n");
        let machine = ("/proc/meminfo", "MemTotal: 9999999 kB\nMemAvailable:   1048576 kB\n");
        assert_eq!(there(&[]), None);
        assert_eq!(there(&[status, machine]), Some(1034 * MIB), "what it has can be used again");
        let limits =
            |most: &str| format!("Limit   Soft  Hard  Units\nMax address space         {most}  unlimited  bytes\n");
        let (few, any) = (limits("524288000"), limits("unlimited"));
        assert_eq!(there(&[status, machine, ("/proc/self/limits", &any)]), Some(1034 * MIB));
        assert_eq!(there(&[status, machine, ("/proc/self/limits", &few)]), Some(310 * MIB));
        let second = [
            status,
            machine,
            ("/proc/self/cgroup", "0::/jobs/convoy\n"),
            ("/sys/fs/cgroup/jobs/convoy/memory.max", "max\n"),
            ("/sys/fs/cgroup/jobs/convoy/memory.current", "41943040\n"),
            ("/sys/fs/cgroup/jobs/memory.max", "209715200\n"),
            ("/sys/fs/cgroup/jobs/memory.current", "104857600\n"),
            ("/sys/fs/cgroup/jobs/memory.stat", "anon 1\ninactive_file 52428800\nactive_file 9\n"),
        ];
        assert_eq!(there(&second), Some(160 * MIB), "a group above has a limit, and half of its use is files");
        let first = [
            status,
            machine,
            ("/proc/self/cgroup", "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "314572800\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "104857600\n"),
        ];
        assert_eq!(there(&first), Some(210 * MIB), "a container sees its own group as the topmost");
    }

    #[test]
    fn as_many_threads_are_taken_as_fit_and_at_least_one_must() {
        let Job { plan, network, .. } = Job::at(ROOT);
        let need = |threads| BESIDES + memory_estimate(&plan, &network, threads).worker();
        let fit = |there| fitting(&plan, &network, 4, there, false).ok();
        assert_eq!(fit(None), Some(4));
        assert_eq!([need(9), need(4), need(4) - 1, need(1)].map(|there| fit(Some(there))), [4, 4, 3, 1].map(Some));
        let exchange = memory_estimate(&plan, &network, 1).worker_exchange;
        let adding = |there| fitting(&plan, &network, 4, Some(there), true).ok();
        assert_eq!([need(4) + exchange, need(4) + exchange - 1].map(adding), [4, 3].map(Some), "who adds takes more");
        let error = fitting(&plan, &network, 4, Some(need(1) - 1), false).unwrap_err();
        assert!(matches!(&error, WorkerError::Memory { there, .. } if *there == need(1) - 1), "{error}");
        assert!(error.to_string().contains("48.0 MiB"), "{error}");
    }

    #[test]
    fn who_only_adds_takes_no_memory_for_threads_and_nodes() {
        let Job { plan, network, .. } = Job::at(ROOT);
        let estimate = memory_estimate(&plan, &network, 1);
        let need = BESIDES + estimate.worker_adding;
        assert!(need < BESIDES + estimate.worker_exchange && estimate.worker_adding > 0);
        assert!([None, Some(need)].into_iter().all(|there| enough_to_add(&plan, &network, there).is_ok()));
        let error = enough_to_add(&plan, &network, Some(need - 1)).unwrap_err();
        assert!(matches!(error, WorkerError::MemoryToAdd { need: told, .. } if told == need), "{error}");
    }

    #[test]
    fn this_machine_says_something() {
        if cfg!(target_os = "linux") {
            let there = memory_there(&|path| std::fs::read_to_string(path).ok());
            assert!(there.is_some_and(|there| there > MIB), "{there:?}");
        }
    }
}
