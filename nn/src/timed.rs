//! How long each layer takes inside a pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use convoy_model::Network;

use crate::flow::Flow;
use crate::fusion::{Group, groups};
use crate::ops::{Keeps, Operation, Ports, Wanted};

/// Thread time of each layer of a network, summed over shards. Executors on several threads may share one table.
#[derive(Debug)]
pub struct LayerTimes {
    rows: Vec<Row>,
}

/// Nodes that are computed by one operation, and for how long.
#[derive(Debug, Default)]
struct Row {
    nodes: Vec<usize>,
    output: usize,
    forward: AtomicU64,
    backward: AtomicU64,
}

/// A row of [`LayerTimes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerTime {
    /// Indices in the network of the nodes that were computed together, in the order of the network.
    pub nodes: Vec<usize>,
    /// Thread time of forward passes.
    pub forward: Duration,
    /// Thread time of backward passes.
    pub backward: Duration,
}

impl LayerTimes {
    /// A table of zeros for the layers of `network`.
    pub fn new(network: &Network) -> Self {
        let row = |group: Group| Row { nodes: nodes(network, &group), output: group.output, ..Row::default() };
        LayerTimes { rows: groups(network).into_iter().map(row).collect() }
    }

    /// All layers but the input, in an order in which they can be computed.
    pub fn layers(&self) -> Vec<LayerTime> {
        let time = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Ordering::Relaxed));
        let row = |row: &Row| LayerTime {
            nodes: row.nodes.clone(),
            forward: time(&row.forward),
            backward: time(&row.backward),
        };
        self.rows.iter().map(row).collect()
    }

    /// Forgets all times.
    pub fn clear(&self) {
        self.rows
            .iter()
            .flat_map(|row| [&row.forward, &row.backward])
            .for_each(|time| time.store(0, Ordering::Relaxed));
    }

    fn row(&self, output: usize) -> &Row {
        let row = self.rows.iter().find(|row| row.output == output);
        row.expect("the table is for this network")
    }
}

/// The nodes of `group` in the order of the network.
fn nodes(network: &Network, group: &Group) -> Vec<usize> {
    // The sum lies between the norm and what follows it, and is the norm's only reader.
    let sum = group.residual.and_then(|_| network.nodes.iter().position(|node| node.inputs.contains(&group.node)));
    [Some(group.node), sum, group.activation, group.pool].into_iter().flatten().collect()
}

/// An operation whose time is added to a table.
pub(crate) struct Timed {
    operation: Box<dyn Operation>,
    times: Arc<LayerTimes>,
}

impl Timed {
    /// `operation`, timed if there is a table.
    pub fn wrap(operation: Box<dyn Operation>, times: Option<&Arc<LayerTimes>>) -> Box<dyn Operation> {
        match times {
            Some(times) => Box::new(Timed { operation, times: times.clone() }),
            None => operation,
        }
    }
}

impl Operation for Timed {
    fn name(&self) -> &'static str {
        self.operation.name()
    }

    fn keeps(&self) -> Keeps {
        self.operation.keeps()
    }

    fn forward(&self, flow: &mut Flow, at: &Ports) {
        let begun = Instant::now();
        self.operation.forward(flow, at);
        add(&self.times.row(at.output).forward, begun);
    }

    fn backward(&self, flow: &mut Flow, at: &Ports, wanted: Wanted) {
        let begun = Instant::now();
        self.operation.backward(flow, at, wanted);
        add(&self.times.row(at.output).backward, begun);
    }
}

fn add(nanos: &AtomicU64, begun: Instant) {
    nanos.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
}
