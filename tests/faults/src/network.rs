//! A network of this machine alone: the coordinator at a bridge, each worker in a network namespace of its own.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cluster::free_address;

/// Numbers of networks of this process.
static NETWORKS: AtomicU32 = AtomicU32::new(0);

/// A bridge and the namespaces at it. They are removed when it is dropped.
pub struct Network {
    name: String,
    /// The first three numbers of all addresses.
    prefix: String,
    workers: usize,
}

/// Which packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packets {
    /// Those that a worker sends.
    Sent,
    /// Those that come to it.
    Received,
}

/// Why there can be no network here.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces want root".into());
    }
    let missing = ["ip", "tc", "iptables"].into_iter().find(|program| !is_there(program));
    missing.map(|program| format!("there is no `{program}`: apt-get install iproute2 iptables"))
}

/// Whether a program can be started.
pub fn is_there(program: &str) -> bool {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("command -v {program}")]).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Network {
    /// Makes namespaces for so many workers.
    ///
    /// # Panics
    /// When the system refuses; see [`missing`].
    pub fn new(workers: usize) -> Self {
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let name = format!("cvy{:x}-{number:x}", process & 0xffff);
        let prefix = format!("10.{}.{}", 64 + process % 128, number % 256);
        let network = Network { name, prefix, workers };
        let bridge = &network.name;
        run(&format!("ip link add {bridge} type bridge"));
        run(&format!("ip addr add {}.1/24 dev {bridge}", network.prefix));
        run(&format!("ip link set {bridge} up"));
        (0..workers).for_each(|worker| network.add(worker));
        network
    }

    fn add(&self, worker: usize) {
        let (space, end, prefix, bridge) = (self.space(worker), self.end(worker), &self.prefix, &self.name);
        run(&format!("ip netns add {space}"));
        run(&format!("ip link add {end} type veth peer name eth0 netns {space}"));
        run(&format!("ip link set {end} master {bridge} up"));
        run(&format!("ip -n {space} addr add {prefix}.{}/24 dev eth0", worker + 2));
        run(&format!("ip -n {space} link set lo up"));
        run(&format!("ip -n {space} link set eth0 up"));
    }

    /// Where a coordinator may listen that workers reach.
    pub fn coordinator_address(&self) -> String {
        let port = free_address().rsplit_once(':').map_or("7070".into(), |(_, port)| port.to_owned());
        format!("{}.1:{port}", self.prefix)
    }

    /// What starts a program in the namespace of a worker.
    pub fn within(&self, worker: usize) -> Vec<String> {
        ["ip", "netns", "exec", &self.space(worker)].map(str::to_owned).into()
    }

    /// Drops that part of a worker's packets, in 0 to 1, from now on.
    pub fn drop_packets(&self, worker: usize, which: Packets, part: f64) {
        let chain = if which == Packets::Sent { "OUTPUT" } else { "INPUT" };
        let chance =
            if part >= 1.0 { String::new() } else { format!("-m statistic --mode random --probability {part}") };
        run(&format!("ip netns exec {} iptables -A {chain} {chance} -j DROP", self.space(worker)));
    }

    /// Drops nothing from now on.
    pub fn heal(&self, worker: usize) {
        run(&format!("ip netns exec {} iptables -F", self.space(worker)));
    }

    /// Limits what a worker sends and what comes to it, in megabits a second.
    pub fn limit(&self, worker: usize, megabits: u32) {
        let rule = format!("root tbf rate {megabits}mbit burst 64kb latency 100ms");
        run(&format!("ip netns exec {} tc qdisc replace dev eth0 {rule}", self.space(worker)));
        run(&format!("tc qdisc replace dev {} {rule}", self.end(worker)));
    }

    /// Limits nothing from now on.
    pub fn unlimit(&self, worker: usize) {
        run(&format!("ip netns exec {} tc qdisc del dev eth0 root", self.space(worker)));
        run(&format!("tc qdisc del dev {} root", self.end(worker)));
    }

    fn space(&self, worker: usize) -> String {
        format!("{}-{worker}", self.name)
    }

    fn end(&self, worker: usize) -> String {
        format!("{}v{worker}", self.name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let spaces = (0..self.workers).map(|worker| format!("ip netns del {}", self.space(worker)));
        for command in spaces.chain([format!("ip link del {}", self.name)]) {
            _ = words(&command).stderr(Stdio::null()).status();
        }
    }
}

fn words(command: &str) -> Command {
    let mut words = command.split_whitespace();
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words);
    command
}

fn run(command: &str) {
    let output = words(command).output().unwrap_or_else(|error| panic!("{command}: {error}"));
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}
