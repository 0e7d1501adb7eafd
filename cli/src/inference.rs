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

/// How a model is used. Threads never change what comes out; a GPU rounds in another way than a CPU.
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
        self.device.get()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(self.threads.map_or(self.device.threads(cores), |threads| threads as usize))
    }

    /// Reads a model, as [`Trained::load`], to be computed here.
    ///
    /// # Errors
    /// When the device is not there, and as [`Trained::load`].
    pub fn load(&self, path: &Path) -> Result<Trained, CliError> {
        Ok(Trained { device: self.device.get()?, ..Trained::load(path)? })
    }
}

/// A trained model.
pub struct Trained {
    /// What it was trained by.
    pub plan: Arc<Plan>,
    /// What it is.
    pub network: Arc<Network>,
    flat: Arc<Vec<f32>>,
    device: convoy_nn::Device,
}

impl Trained {
    /// Reads a model, to be computed on the CPU: its folder, its `.safetensors` file, or a run folder, whose `model` is
    /// then meant.
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
        let device = convoy_nn::Device::Cpu;
        Ok(Trained { plan: Arc::new(plan), network: Arc::new(network), flat: Arc::new(flat), device })
    }

    /// At most `count` executors with the model's parameters, and at least one, on a team of `threads` threads: those
    /// that have nothing to do help the others.
    ///
    /// # Errors
    /// When a thread cannot be started, or the device cannot be had.
    pub fn executors(&self, threads: usize, count: usize) -> Result<Vec<Executor>, CliError> {
        let mut executors = Executor::team(self.device, &self.plan, &self.network, threads.max(1))?;
        executors.truncate(count.max(1));
        executors.iter_mut().try_for_each(|executor| executor.load(&self.flat))?;
        Ok(executors)
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
        let executors = self.executors(threads, count)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What arrives in this order is handed on as `sort` does.
    fn sorted(arrived: Vec<(usize, Result<char, CliError>)>) -> (Vec<(usize, char)>, Result<(), CliError>) {
        let (sender, receiver) = mpsc::channel();
        arrived.into_iter().for_each(|result| sender.send(result).expect("somebody listens"));
        drop(sender);
        let mut taken = Vec::new();
        let result = sort(&receiver, &mut |index, result| {
            taken.push((index, result));
            Ok(())
        });
        (taken, result)
    }

    #[test]
    fn results_are_taken_in_order() {
        let (taken, result) = sorted(vec![(2, Ok('c')), (0, Ok('a')), (3, Ok('d')), (1, Ok('b'))]);
        assert_eq!(taken, [(0, 'a'), (1, 'b'), (2, 'c'), (3, 'd')]);
        assert!(result.is_ok());
    }

    #[test]
    fn the_first_error_ends_it() {
        let (taken, result) = sorted(vec![(0, Ok('a')), (2, Err(CliError::BrokenPipe)), (1, Ok('b'))]);
        assert_eq!(taken, [(0, 'a')]);
        assert!(matches!(result, Err(CliError::BrokenPipe)));
    }

    #[test]
    fn a_model_that_is_not_there_is_named() {
        let error = Trained::load(Path::new("no/where")).err().expect("nothing is there");
        assert!(error.to_string().starts_with("no/where does not exist; name the model folder"), "{error}");
        let empty = tempfile::tempdir().unwrap();
        let error = Trained::load(empty.path()).err().expect("nothing is there");
        assert_eq!(error.exit_code(), 3);
    }
}
