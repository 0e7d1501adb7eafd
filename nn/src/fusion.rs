//! Which nodes of a network are computed by one operation.

use convoy_model::{Activation, Network, Op};

/// Nodes that are computed together: a node alone, or a batch norm with what follows it and is read by nobody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// The first of them.
    pub node: usize,
    /// What is added to the norm's output.
    pub residual: Option<usize>,
    /// The node of the activation.
    pub activation: Option<usize>,
    /// The node of the max pooling, whose windows neither overlap nor are padded.
    pub pool: Option<usize>,
    /// The last of them, whose output others see.
    pub output: usize,
}

impl Group {
    /// One node.
    pub fn alone(node: usize) -> Self {
        Group { node, residual: None, activation: None, pool: None, output: node }
    }

    /// The nodes that it reads: those of its first node, then the residual.
    pub fn inputs(&self, network: &Network) -> Vec<usize> {
        match self.residual {
            Some(residual) => vec![network.nodes[self.node].inputs[0], residual],
            None => network.nodes[self.node].inputs.clone(),
        }
    }

    /// Its nodes in the order of the network.
    pub fn nodes(&self, network: &Network) -> Vec<usize> {
        // The sum lies between the norm and what follows it, and is the norm's only reader.
        let sum = self.residual.and_then(|_| network.nodes.iter().position(|node| node.inputs.contains(&self.node)));
        [Some(self.node), sum, self.activation, self.pool].into_iter().flatten().collect()
    }
}

/// All nodes of `network` but the input, in groups, in the order of their outputs, which is one in which they can be
/// computed.
pub(crate) fn groups(network: &Network) -> Vec<Group> {
    let nodes = &network.nodes;
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        node.inputs.iter().for_each(|&input| readers[input].push(index));
    }
    let only_reader = |index: usize| match readers[index][..] {
        [reader] => Some(reader),
        _ => None,
    };
    let mut taken = vec![false; nodes.len()];
    let mut groups = Vec::new();
    for (index, node) in nodes.iter().enumerate().skip(1) {
        if std::mem::replace(&mut taken[index], true) {
            continue;
        }
        let mut group = Group::alone(index);
        if matches!(node.op, Op::BatchNorm { .. }) {
            let next = |group: &Group| only_reader(group.output).filter(|&reader| !taken[reader]);
            if let Some(add) = next(&group).filter(|&reader| matches!(nodes[reader].op, Op::Add)) {
                group.residual = nodes[add].inputs.iter().copied().find(|&input| input != index);
                if group.residual.is_some() {
                    group.output = add;
                }
            }
            if let Some(reader) = next(&group)
                && let Op::Activation(activation) = nodes[reader].op
                && (group.residual.is_none() || matches!(activation, Activation::Relu | Activation::Relu6))
            {
                (group.activation, group.output) = (Some(reader), reader);
            }
            if let Some(reader) = next(&group)
                && let Op::MaxPool { kernel, stride, padding } = nodes[reader].op
                && group.residual.is_none()
                && kernel == stride
                && (padding.height, padding.width) == (0, 0)
            {
                (group.pool, group.output) = (Some(reader), reader);
            }
            let add = group.residual.and(only_reader(index));
            [add, group.activation, group.pool].into_iter().flatten().for_each(|node| taken[node] = true);
        }
        groups.push(group);
    }
    groups.sort_by_key(|group| group.output);
    groups
}

#[cfg(test)]
mod tests {
    use convoy_common::plan::Input;
    use convoy_common::spec::parse;

    use super::*;

    /// Groups of a network of these layers, by the names of their first and last nodes and the residual's.
    fn grouped(layers: &str) -> Vec<String> {
        let spec = parse(&format!("[network]\nlayers = [{layers}]\n[data]\ntrain = \"x\"\n"), &[]).unwrap();
        let input = Input { height: 8, width: 8, channels: 3 };
        let network = Network::build(&spec.network, input, 4).unwrap();
        let name = |index: usize| network.nodes[index].name.as_str();
        let show = |group: Group| {
            let mut text = name(group.node).to_owned();
            if let Some(residual) = group.residual {
                text += &format!(" + {}", name(residual));
            }
            for part in [group.activation, group.pool].into_iter().flatten() {
                text += &format!(", {}", name(part));
            }
            text
        };
        groups(&network).into_iter().map(show).collect()
    }

    #[test]
    fn a_norm_takes_what_follows_it() {
        let layers = r#"{ type = "conv", out = 8, kernel = 3, padding = 1 }, { type = "batch_norm" }, { type = "silu" },
            { type = "max_pool", kernel = 2 }, { type = "conv", out = 8, kernel = 1 }, { type = "batch_norm" },
            { type = "max_pool", kernel = 2 }, { type = "flatten" }, { type = "linear", out = 4 }"#;
        assert_eq!(
            grouped(layers),
            ["layer0", "layer1, layer2, layer3", "layer4", "layer5, layer6", "layer7", "layer8"]
        );
    }

    #[test]
    fn a_pooling_whose_windows_overlap_stands_alone() {
        let layers = r#"{ type = "conv", out = 8, kernel = 3, padding = 1 }, { type = "batch_norm" }, { type = "relu" },
            { type = "max_pool", kernel = 3, stride = 2, padding = 1 }, { type = "flatten" }, { type = "linear", out = 4 }"#;
        assert_eq!(grouped(layers), ["layer0", "layer1, layer2", "layer3", "layer4", "layer5"]);
    }

    #[test]
    fn of_two_norms_that_are_added_one_takes_the_sum() {
        let with = |activation: &str| {
            grouped(&format!(
                r#"{{ type = "residual", layers = [{{ type = "conv", out = 8, kernel = 1 }}, {{ type = "batch_norm" }}] }},
                {{ type = "{activation}" }}, {{ type = "flatten" }}, {{ type = "linear", out = 4 }}"#
            ))
        };
        for (activation, parts) in [("relu", 1), ("silu", 0)] {
            let groups = with(activation);
            let sums: Vec<&String> = groups.iter().filter(|group| group.contains(" + ")).collect();
            assert_eq!(sums.len(), 1, "{groups:?}");
            assert_eq!(sums[0].matches(", ").count(), parts, "{groups:?}");
        }
    }
}
