//! A node of the reduce tree in the making: its shards' gradients come chunk by chunk, from any thread in any order.

use convoy_common::counted_sum::Summand;
use convoy_common::spec::Compression;
use convoy_common::tree_sum::TreeSum;
use convoy_proto::chunk_count;
use convoy_scheduler::Node;
use parking_lot::Mutex;

use crate::ChunkBuffer;

/// The sums over the shards of one node, each chunk for itself: always `left + right` as the tree says, so that a chunk
/// is whole as soon as all shards have brought that chunk, whatever else of them is missing.
#[derive(Debug)]
pub struct NodeSums {
    chunks: Vec<Mutex<TreeSum<ChunkBuffer>>>,
    compression: Compression,
}

impl NodeSums {
    /// The sums of vectors of `len` elements over the shards of `node`, of which nothing has come: all of them, and
    /// what is added, rounded as `compression` says.
    pub fn new(node: Node, len: usize, compression: Compression) -> Self {
        let chunks = (0..chunk_count(len)).map(|_| Mutex::new(TreeSum::new(node))).collect();
        NodeSums { chunks, compression }
    }

    /// Adds chunk `index` of a shard of the node, and gives the node's, once all of its shards' are there. Where the
    /// sibling's sum is there, the chunk is added to it in its memory; else it is copied.
    ///
    /// # Panics
    /// When there is no such chunk, or its length is not that of the same chunk of another shard.
    pub fn add(&self, shard: u32, index: usize, values: &[f32]) -> Option<ChunkBuffer> {
        let leaf = Node { first: shard, last: shard + 1 };
        let mut tree = self.chunks[index].lock();
        let sibling = if self.compression.is_none() { tree.take_sibling(leaf) } else { None };
        let (node, sum) = match sibling {
            // `left + right` in either order: addition of two numbers commutes.
            Some((parent, mut sibling)) => {
                sibling.add_slice(values);
                (parent, sibling)
            }
            None => (leaf, ChunkBuffer::rounded(values, self.compression)),
        };
        tree.insert(node, sum, Summand::add);
        #[cfg(feature = "faults")]
        return tree.take().map(|mut sum| {
            crate::faults::spoil(crate::faults::Wrong::Node, &mut sum);
            sum
        });
        #[cfg(not(feature = "faults"))]
        tree.take()
    }
}

#[cfg(test)]
mod tests {
    use convoy_proto::{CHUNK_ELEMENTS, chunk_range};
    use proptest::prelude::*;

    use super::*;

    const LEN: usize = CHUNK_ELEMENTS + 3;

    /// The gradient of a shard, all of whose numbers are the same.
    fn value(shard: u32) -> f32 {
        [1.0e8, 1.0, -1.0e8, 3.0, 0.1, -0.0, 7.5e-9, 1.0e30][shard as usize % 8] * (1.0 + shard as f32)
    }

    fn expected(node: Node) -> f32 {
        match node.children() {
            Some((left, right)) => expected(left) + expected(right),
            None => value(node.first),
        }
    }

    #[test]
    fn a_chunk_is_whole_though_another_is_not() {
        let sums = NodeSums::new(Node { first: 2, last: 4 }, LEN, Compression::None);
        assert_eq!(sums.add(3, 1, &[2.0; 3]), None);
        assert_eq!(sums.add(2, 1, &[1.0; 3]), Some(ChunkBuffer::of(&[3.0; 3])));
        assert_eq!(sums.add(2, 0, &[1.0; CHUNK_ELEMENTS]), None);
    }

    #[test]
    fn the_node_of_one_shard_is_the_shard() {
        let sums = NodeSums::new(Node { first: 5, last: 6 }, 3, Compression::None);
        assert_eq!(sums.add(5, 0, &[1.0, -0.0, 3.0]), Some(ChunkBuffer::of(&[1.0, -0.0, 3.0])));
    }

    #[test]
    fn threads_add_at_once() {
        let node = Node { first: 0, last: 8 };
        let sums = NodeSums::new(node, LEN, Compression::None);
        let whole = std::thread::scope(|scope| {
            let add = |shard| {
                let chunks = (0..2).rev().map(move |index| (index, vec![value(shard); chunk_range(LEN, index).len()]));
                chunks.filter_map(|(index, values)| Some((index, sums.add(shard, index, &values)?))).collect::<Vec<_>>()
            };
            let threads: Vec<_> = (0..8).map(|shard| scope.spawn(move || add(shard))).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
        });
        assert_eq!(whole.len(), 2, "each chunk once");
        for (index, sum) in whole {
            assert!(sum.len() == chunk_range(LEN, index).len() && sum.iter().all(|sum| *sum == expected(node)));
        }
    }

    #[test]
    fn where_it_is_said_shards_and_sums_are_rounded() {
        let node = Node { first: 0, last: 4 };
        let ulp = 1.0 / 128.0f32;
        let shards = [1.0, 0.6 * ulp, ulp / 3.0, 0.3 * ulp];
        let bf16 = |value: f32| convoy_kernels::bf16::Bf16::from_f32(value).to_f32();
        let [a, b, c, d] = shards.map(bf16);
        let expected = bf16(bf16(a + b) + bf16(c + d));
        for order in [[0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]] {
            let sums = NodeSums::new(node, 1, Compression::Bf16);
            let mut added = order.map(|shard| sums.add(shard, 0, &[shards[shard as usize]]));
            assert_eq!(added[3].take(), Some(ChunkBuffer::rounded(&[expected], Compression::Bf16)), "{order:?}");
        }
        assert_ne!(expected, bf16(shards.iter().sum()), "it matters where it is rounded");
    }

    proptest! {
        #[test]
        fn the_order_of_shards_does_not_matter(order in Just((0..8u32).collect::<Vec<_>>()).prop_shuffle()) {
            let node = Node { first: 0, last: 8 };
            let sums = NodeSums::new(node, 2, Compression::None);
            let added: Vec<_> = order.iter().map(|shard| sums.add(*shard, 0, &[value(*shard); 2])).collect();
            prop_assert!(added[..7].iter().all(Option::is_none));
            let bits = added[7].as_ref().map(|sum| sum[1].to_bits());
            prop_assert_eq!(bits, Some(expected(node).to_bits()));
        }
    }
}
