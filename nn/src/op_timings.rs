//! How long each layer takes inside a pass.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use convoy_model::Network;

use crate::fusion::{Group, groups};

/// Thread time of each layer of a network, summed over shards. Executors on several threads may share one table.
#[derive(Debug)]
pub struct LayerTimes {
    /// In the order of [`groups`].
    rows: Vec<Row>,
}

/// Nodes that are computed by one operation, and for how long.
#[derive(Debug)]
struct Row {
    nodes: Vec<usize>,
    output: usize,
    /// Nanoseconds.
    forward: AtomicU64,
    /// Nanoseconds.
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

/// Which half of a pass is timed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Half {
    Forward,
    Backward,
}

impl LayerTimes {
    /// A table of zeros for the layers of `network`.
    pub fn new(network: &Network) -> Self {
        let row = |group: Group| Row {
            nodes: group.nodes(network),
            output: group.output,
            forward: AtomicU64::new(0),
            backward: AtomicU64::new(0),
        };
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
        let times = self.rows.iter().flat_map(|row| [&row.forward, &row.backward]);
        times.for_each(|time| time.store(0, Ordering::Relaxed));
    }

    /// Adds the time since `begun` to that of step `step` of a pass, which puts out node `output`.
    ///
    /// # Panics
    /// If the table is for another network.
    pub(crate) fn add(&self, step: usize, output: usize, half: Half, begun: Instant) {
        let row = self.rows.get(step).filter(|row| row.output == output).expect("the table is for this network");
        let nanos = match half {
            Half::Forward => &row.forward,
            Half::Backward => &row.backward,
        };
        nanos.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
}
