//! Training steps of a job without data, network and coordinator: what workers and coordinator compute, and nothing
//! else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use convoy_common::Plan;
use convoy_common::batch::{Batch, Targets};
use convoy_common::random::{Address, Purpose};
use convoy_common::spec::{Compression, Task};
use convoy_common::tree_sum::{TreeSum, add_f64};
use convoy_kernels::optimizer::global_norm_sq;
use convoy_model::Network;
use convoy_nn::{ChunkTaker, Device, Executor, GradientTarget, LayerTime, LayerTimes};
use convoy_proto::CHUNK_ELEMENTS;
use convoy_reduce::{ChunkBuffer, Elements, NodeSums, Scales, Update, moment_names};
use convoy_scheduler::Node;
use convoy_scheduler::tree::root;
use parking_lot::Mutex;

use crate::error::CliError;

/// Elements that the optimizer steps at a time.
const BLOCK: usize = 4096;

/// How long a step took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepTime {
    /// From parameters to parameters.
    pub whole: Duration,
    /// In which shards were computed and summed.
    pub shards: Duration,
    /// Thread time of forward and backward passes.
    pub passes: Duration,
    /// Thread time of the sums over shards.
    pub sums: Duration,
}

/// A job that can make one step after the other.
pub struct Steps {
    network: Arc<Network>,
    compression: Compression,
    update: Update,
    clip_norm: Option<f64>,
    /// One for each thread.
    executors: Vec<Executor>,
    /// One for each shard of a step; every step sees the same.
    batches: Vec<Batch>,
    /// Steps done.
    step: u64,
    now: State,
    next: State,
    /// What the executors load, in turns: the copy of the step before is theirs until they have loaded the next one.
    loaded: [Arc<Vec<f32>>; 2],
    /// Gradient buffers to be written over.
    spare: Mutex<Vec<Vec<f32>>>,
    times: Arc<LayerTimes>,
}

/// Parameters and buffers, and the optimizer's state.
#[derive(Debug, Clone, PartialEq)]
struct State {
    flat: Vec<f32>,
    moments: Vec<Vec<f32>>,
}

/// What the threads of a step share.
struct Shared<'a> {
    batches: &'a [Batch],
    flat: &'a Arc<Vec<f32>>,
    /// Shards that one thread computes one after the other.
    lease: usize,
    next_lease: AtomicUsize,
    gradient: Arc<StepGradient>,
    tree: Mutex<Tree>,
    spare: &'a Mutex<Vec<Vec<f32>>>,
    times: &'a Arc<LayerTimes>,
}

/// The sums of gradients, chunk by chunk.
struct StepGradient {
    sums: NodeSums,
    roots: Mutex<BTreeMap<usize, ChunkBuffer>>,
    /// Thread time of the sums, in nanoseconds.
    adding: AtomicU64,
}

struct Tree {
    /// Samples and loss weights.
    sums: TreeSum<Vec<f64>>,
    finite: bool,
    passes: Duration,
}

impl Steps {
    /// The job's first parameters and random samples of its seed, one batch of them.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn new(plan: &Arc<Plan>, network: &Arc<Network>, threads: usize) -> Result<Self, CliError> {
        let moments = moment_names(&plan.spec.optimizer).iter().map(|_| vec![0.0; network.parameters]).collect();
        let first = State { flat: network.initial(plan.spec.seed), moments };
        Ok(Steps {
            network: network.clone(),
            compression: plan.spec.train.compression,
            update: Update::new(plan, network),
            clip_norm: plan.spec.optimizer.clip_norm,
            executors: Executor::team(Device::Cpu, plan, network, threads)?,
            batches: batches(plan),
            loaded: [0, 1].map(|_| Arc::new(first.flat.clone())),
            step: 0,
            next: first.clone(),
            now: first,
            spare: Mutex::default(),
            times: Arc::new(LayerTimes::new(network)),
        })
    }

    /// Forward and backward of every shard, their sums in the order of the reduce tree, and the optimizer.
    ///
    /// # Errors
    /// When a shard cannot be computed, or is not finite.
    pub fn step(&mut self) -> Result<StepTime, CliError> {
        let begun = Instant::now();
        let shards = self.batches.len() as u32;
        self.loaded.reverse();
        Arc::make_mut(&mut self.loaded[0]).copy_from_slice(&self.now.flat);
        let shared = Shared {
            batches: &self.batches,
            flat: &self.loaded[0],
            // Siblings if there are enough of them: the second one is added while the first one's sum is still warm.
            lease: if self.batches.len() >= 2 * self.executors.len() { 2 } else { 1 },
            next_lease: AtomicUsize::new(0),
            gradient: Arc::new(StepGradient {
                sums: NodeSums::new(root(shards), self.network.len(), self.compression),
                roots: Mutex::default(),
                adding: AtomicU64::new(0),
            }),
            tree: Mutex::new(Tree { sums: TreeSum::over(shards), finite: true, passes: Duration::ZERO }),
            spare: &self.spare,
            times: &self.times,
        };
        std::thread::scope(|scope| {
            let executors = self.executors.iter_mut();
            let running: Vec<_> = executors.map(|executor| scope.spawn(|| shared.work(executor))).collect();
            running.into_iter().try_for_each(|thread| thread.join().expect("an executor catches panics"))
        })?;
        let computed = begun.elapsed();
        let mut tree = shared.tree.into_inner();
        if !tree.finite {
            return Err(CliError::Usage(format!(
                "step {} has a NaN or an infinity, with which no time is to be trusted; lower optimizer.lr",
                self.step + 1
            )));
        }
        let sums = tree.sums.take().expect("all shards are there");
        let adding = Duration::from_nanos(shared.gradient.adding.load(Ordering::Relaxed));
        let roots = std::mem::take(&mut *shared.gradient.roots.lock());
        self.optimize(roots, &sums);
        Ok(StepTime {
            whole: begun.elapsed(),
            shards: computed,
            passes: tree.passes.saturating_sub(adding),
            sums: adding,
        })
    }

    fn optimize(&mut self, mut roots: BTreeMap<usize, ChunkBuffer>, sums: &[f64]) {
        let parameters = self.network.parameters;
        let squares = || {
            let of = |(index, root): (&usize, &ChunkBuffer)| {
                global_norm_sq(&root[..root.len().min(parameters.saturating_sub(index * CHUNK_ELEMENTS))])
            };
            roots.iter().map(of).fold(0.0, |squares, chunk| squares + chunk)
        };
        let (scales, _norm) = Scales::new(sums[0], sums[1], self.clip_norm, squares);
        // As the coordinator does: a block stays in the cache while all kernels pass over it.
        let blocks = roots.iter_mut().flat_map(|(index, root)| {
            root.chunks_mut(BLOCK).enumerate().map(move |(i, sum)| (index * CHUNK_ELEMENTS + i * BLOCK, sum))
        });
        for (start, sum) in blocks {
            let block = start..start + sum.len();
            let State { flat, moments } = &mut self.next;
            let values = &mut flat[block.clone()];
            values.copy_from_slice(&self.now.flat[block.clone()]);
            let state = block.start.min(parameters)..block.end.min(parameters);
            let carried = moments.iter_mut().zip(&self.now.moments).map(|(moment, now)| {
                moment[state.clone()].copy_from_slice(&now[state.clone()]);
                &mut moment[state.clone()]
            });
            let moments = &mut carried.collect::<Vec<_>>();
            self.update.apply(self.step, scales, Elements { first: block.start, values, moments, sum });
        }
        self.step += 1;
        std::mem::swap(&mut self.now, &mut self.next);
    }

    /// Thread time of each layer since [`Steps::forget_layers`].
    pub fn layers(&self) -> Vec<LayerTime> {
        self.times.layers()
    }

    /// Begins to count the layers' times anew.
    pub fn forget_layers(&self) {
        self.times.clear();
    }
}

impl StepGradient {
    fn add(&self, shard: u32, index: usize, values: &[f32]) {
        let begun = Instant::now();
        if let Some(root) = self.sums.add(shard, index, values) {
            self.roots.lock().insert(index, root);
        }
        self.adding.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
}

impl Shared<'_> {
    /// Computes leases until there are no more.
    fn work(&self, executor: &mut Executor) -> Result<(), CliError> {
        executor.load(self.flat)?;
        loop {
            let first = self.lease * self.next_lease.fetch_add(1, Ordering::Relaxed);
            if first >= self.batches.len() {
                return Ok(());
            }
            (first..self.batches.len().min(first + self.lease)).try_for_each(|shard| self.shard(executor, shard))?;
        }
    }

    fn shard(&self, executor: &Executor, shard: usize) -> Result<(), CliError> {
        let leaf = Node { first: shard as u32, last: shard as u32 + 1 };
        let mut flat = self.spare.lock().pop().unwrap_or_else(|| vec![0.0; self.flat.len()]);
        let begun = Instant::now();
        let to = self.gradient.clone();
        let taker = ChunkTaker::new(CHUNK_ELEMENTS, move |index, values| to.add(leaf.first, index, values));
        let target = GradientTarget::Chunks(&mut flat, taker);
        let result = executor.train_shard(&self.batches[shard], 0, target, Some(self.times))?;
        let mut tree = self.tree.lock();
        tree.finite &= result.finite;
        tree.passes += begun.elapsed();
        tree.sums.insert(leaf, vec![f64::from(result.count), result.weight_sum], add_f64);
        drop(tree);
        self.spare.lock().push(flat);
        Ok(())
    }
}

/// One global batch of noise and any targets, in shards.
fn batches(plan: &Plan) -> Vec<Batch> {
    let samples: Vec<u32> = (0..plan.spec.train.batch).collect();
    samples.chunks(plan.spec.train.shard as usize).map(|samples| batch(plan, samples)).collect()
}

fn batch(plan: &Plan, samples: &[u32]) -> Batch {
    let address = |sample: u32| Address::new(plan.spec.seed, Purpose::Statistics, 0, sample);
    let pixels = plan.input.len() as u32;
    // Uniform, with the mean and variance that z-scores have.
    let pixel = |sample, index| (address(sample).uniform(index) - 0.5) * 12f32.sqrt();
    let x_nhwc = samples.iter().flat_map(|&sample| (0..pixels).map(move |index| pixel(sample, index))).collect();
    let names = plan.names.len();
    let targets = match plan.spec.task {
        Task::Auto | Task::Multiclass | Task::Binary => {
            Targets::Classes(samples.iter().map(|sample| sample % names as u32).collect())
        }
        Task::Multilabel | Task::Regression => Targets::Values {
            width: names,
            values: samples
                .iter()
                .flat_map(|sample| (0..names).map(move |name| ((*sample as usize + name) % 2) as f32))
                .collect(),
        },
    };
    Batch { x_nhwc, samples: samples.to_vec(), targets }
}

#[cfg(test)]
mod tests {
    use convoy_common::spec::parse;
    use convoy_planning::{Assumed, SpecFile, plan_without_data};

    use super::*;

    const LAYERS: &str = r#"
        layers = [{ type = "conv", out = 4, kernel = 3 }, { type = "batch_norm" }, { type = "relu" },
            { type = "global_avg_pool" }, { type = "flatten" }, { type = "linear", out = 2 }]
    "#;

    fn steps(more: &str, threads: usize) -> Steps {
        let layers = if more.contains("binary") { LAYERS.replace("out = 2", "out = 1") } else { LAYERS.to_owned() };
        let text = format!(
            "{more}\n[network]\n{layers}\n[prepare]\nsize = 8\nchannels = 1\n[train]\nbatch = 10\nshard = 4\n[data]\ntrain = \"x\""
        );
        let spec = parse(&text, &[]).unwrap();
        let told = Assumed::of(&spec);
        let (plan, network) = plan_without_data(SpecFile { spec, path: None, text }, told).unwrap();
        Steps::new(&plan, &network, threads).unwrap()
    }

    #[test]
    fn threads_change_no_bit_of_a_step() {
        let [one, three] = [1, 3].map(|threads| {
            let mut steps = steps("[optimizer]\nclip_norm = 0.1", threads);
            let first = steps.now.clone();
            (0..3).for_each(|_| _ = steps.step().unwrap());
            assert_ne!(steps.now.flat, first.flat);
            assert_eq!(steps.step, 3);
            steps.now
        });
        assert_eq!(one, three);
    }

    #[test]
    fn a_batch_is_cut_into_shards_of_seeded_noise() {
        let cut = |steps: &Steps| steps.batches.iter().map(|batch| batch.samples.len()).collect::<Vec<_>>();
        let [a, b, c] = ["seed = 1", "seed = 1", "seed = 2"].map(|seed| steps(seed, 1));
        assert_eq!(cut(&a), [4, 4, 2]);
        assert_eq!(a.batches, b.batches);
        assert_ne!(a.batches[0].x_nhwc, c.batches[0].x_nhwc);
    }

    #[test]
    fn every_task_has_targets() {
        for task in ["binary", "multilabel", "regression"] {
            steps(&format!("task = \"{task}\""), 1).step().unwrap();
        }
    }

    #[test]
    fn layers_are_timed_from_when_they_are_told() {
        let mut steps = steps("", 2);
        steps.step().unwrap();
        let layers = steps.layers();
        assert_eq!(layers.iter().flat_map(|layer| layer.nodes.clone()).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        assert!(layers.iter().all(|layer| !layer.forward.is_zero() && !layer.backward.is_zero()), "{layers:?}");
        steps.forget_layers();
        assert!(steps.layers().iter().all(|layer| layer.forward.is_zero() && layer.backward.is_zero()));
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused() {
        let mut steps = steps("", 1);
        steps.now.flat[0] = f32::NAN;
        assert!(steps.step().unwrap_err().to_string().contains("lower optimizer.lr"));
    }
}
