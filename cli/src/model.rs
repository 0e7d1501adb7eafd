//! A trained model at work on this machine's threads.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use convoy_common::Plan;
use convoy_model::{Model, Network, model_dir};
use convoy_nn::Executor;

use crate::device::Device;
use crate::error::CliError;

/// How a model is used; nothing here changes what comes out.
#[derive(Debug, Clone, clap::Args)]
pub struct Compute {
    /// Threads; one for each core when absent.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    #[command(flatten)]
    device: Device,
}

impl Compute {
    /// How many threads to use.
    ///
    /// # Errors
    /// When the device is not there.
    pub fn threads(&self) -> Result<usize, CliError> {
        self.device.check()?;
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Ok(self.threads.map_or_else(cores, |threads| threads as usize))
    }
}

/// A trained model.
pub struct Trained {
    /// What it was trained by.
    pub plan: Arc<Plan>,
    /// What it is.
    pub network: Arc<Network>,
    flat: Vec<f32>,
}

impl Trained {
    /// Reads a model: its folder, its `.safetensors` file, or a run folder, whose `model` is then meant.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub fn load(path: &Path) -> Result<Self, CliError> {
        let hint = || "name the model folder of a run, a run folder, or a model.safetensors".to_owned();
        if !path.exists() {
            return Err(CliError::NotFound { path: path.to_owned(), hint: hint() });
        }
        let inside = path.join("model");
        let is_run = path.is_dir() && !path.join(model_dir::TENSORS).exists() && inside.is_dir();
        let Model { plan, network, flat } = model_dir::load(if is_run { &inside } else { path })?;
        Ok(Trained { plan: Arc::new(plan), network: Arc::new(network), flat })
    }

    /// Does `work` for the indices `0..count` on `threads` threads, each with an executor of its own, and hands what
    /// comes out to `take` in the order of the indices.
    ///
    /// # Errors
    /// The first error of `work` or `take`; whatever else is under way is then given up.
    pub fn in_order<T: Send>(
        &self,
        threads: usize,
        count: usize,
        work: impl Fn(&Executor, usize) -> Result<T, CliError> + Sync,
        mut take: impl FnMut(usize, T) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let executors = (0..threads.clamp(1, count.max(1))).map(|_| self.executor()).collect::<Result<Vec<_>, _>>()?;
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            for executor in &executors {
                let (sender, next, stop, work) = (sender.clone(), &next, &stop, &work);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= count || sender.send((index, work(executor, index))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            let result = sort(&receiver, &mut take);
            stop.store(true, Ordering::Relaxed);
            result
        })
    }

    fn executor(&self) -> Result<Executor, CliError> {
        let mut executor = Executor::new(self.plan.clone(), self.network.clone())?;
        executor.load(&self.flat)?;
        Ok(executor)
    }
}

fn sort<T>(
    receiver: &mpsc::Receiver<(usize, Result<T, CliError>)>,
    take: &mut impl FnMut(usize, T) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut early = BTreeMap::new();
    let mut due = 0;
    for (index, result) in receiver {
        early.insert(index, result?);
        while let Some(result) = early.remove(&due) {
            take(due, result)?;
            due += 1;
        }
    }
    Ok(())
}
