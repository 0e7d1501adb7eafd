//! What a network costs: a table of its layers.

use std::fmt;

use serde::Serialize;

use crate::{Network, Node, Role};

/// A network in figures; what `convoy describe` shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Description {
    /// Height, width and channels of a sample.
    pub input: String,
    /// One row for each node, the input first.
    pub layers: Vec<LayerRow>,
    /// Elements of all parameters.
    pub parameters: u64,
    /// Elements of all buffers.
    pub buffers: u64,
    /// Floating-point operations of one sample, forward.
    pub flops: u64,
    /// Bytes of one sample's outputs of all layers.
    pub activation_bytes: u64,
}

/// A layer in figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerRow {
    /// Its name.
    pub name: String,
    /// What it computes, with its settings.
    pub op: String,
    /// Names of the layers that it reads.
    pub inputs: Vec<String>,
    /// Height, width and channels, or features, of its output for one sample.
    pub output: String,
    /// Elements of its parameters.
    pub parameters: u64,
    /// Floating-point operations of one sample, forward: a multiplication and an addition of a convolution or
    /// fully connected layer are two; everything else is not counted.
    pub flops: u64,
    /// Bytes of its output for one sample.
    pub activation_bytes: u64,
}

/// The table of `network`: its layers in the order of computation, with their parameters, FLOPs and memory for one
/// sample, and the totals.
pub fn describe(network: &Network) -> Description {
    let layers: Vec<LayerRow> = network.nodes.iter().map(|node| row(network, node)).collect();
    Description {
        input: network.nodes[0].output.to_string(),
        parameters: network.parameters as u64,
        buffers: network.buffers as u64,
        flops: layers.iter().map(|layer| layer.flops).sum(),
        activation_bytes: layers.iter().map(|layer| layer.activation_bytes).sum(),
        layers,
    }
}

fn row(network: &Network, node: &Node) -> LayerRow {
    let is_parameter = |index: &usize| matches!(network.tensors[*index].role, Role::Parameter { .. });
    let elements = |index: usize| network.tensors[index].len() as u64;
    let places = node.output.len() as u64 / u64::from(node.output.channels());
    let flops = node.op.weight().map_or(0, |weight| 2 * places * elements(weight));
    LayerRow {
        name: node.name.clone(),
        op: node.op.to_string(),
        inputs: node.inputs.iter().map(|input| network.nodes[*input].name.clone()).collect(),
        output: node.output.to_string(),
        parameters: node.op.tensors().into_iter().filter(is_parameter).map(elements).sum(),
        flops,
        activation_bytes: 4 * node.output.len() as u64,
    }
}

/// A table with a row of totals; figures are for one sample.
impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["layer", "operation", "output", "parameters", "FLOPs", "memory"].map(str::to_owned);
        let totals = [
            "total".to_owned(),
            String::new(),
            String::new(),
            grouped(self.parameters),
            grouped(self.flops),
            bytes(self.activation_bytes),
        ];
        let rows = self.layers.iter().map(|layer| {
            let inputs = if layer.op == "add" { format!(" {}", layer.inputs.join(" + ")) } else { String::new() };
            let numbers = [layer.parameters, layer.flops].map(|n| if n == 0 { String::new() } else { grouped(n) });
            let [parameters, flops] = numbers;
            let op = layer.op.clone() + &inputs;
            [layer.name.clone(), op, layer.output.clone(), parameters, flops, bytes(layer.activation_bytes)]
        });
        let table: Vec<_> = std::iter::once(header).chain(rows).chain([totals]).collect();
        let width = |column: usize| table.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: [usize; 6] = std::array::from_fn(width);
        for row in &table {
            let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
                if column < 3 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// A number with a comma before every third digit from the right.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the largest unit of 1024 that leaves at least one, with one decimal.
pub fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = "B";
    for larger in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") }
}
