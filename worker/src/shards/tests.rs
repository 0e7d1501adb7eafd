use convoy_common::manifest::{FileEntry, FileList, Manifest};
use convoy_common::{Digest, Targets};

use super::*;
use crate::fixtures::{Job, ROOT, SPEC, STRIPES, a_file_each};

fn samples(shards: &Shards, step: u64, shard: u32) -> Vec<u32> {
    shards.take(Work::Train, StepId(step), shard).0.unwrap().samples
}

#[test]
fn an_epoch_takes_each_sample_once_in_the_order_of_its_address() {
    let job = Job::at(ROOT);
    let shards = job.shards();
    let mut epochs = Vec::new();
    for epoch in 0..2 {
        let usable: Vec<u32> = (0..24).collect();
        let order = EpochOrder::shuffled(5, epoch, &usable);
        let steps = u64::from(epoch) * 3..u64::from(epoch) * 3 + 3;
        let taken: Vec<u32> =
            steps.flat_map(|step| (0..4).flat_map(|shard| samples(&shards, step, shard)).collect::<Vec<_>>()).collect();
        assert_eq!(taken, order.samples(0..24));
        epochs.push(taken);
    }
    assert_ne!(epochs[0], epochs[1], "each epoch has an order of its own");
    assert_eq!([0, 2, 3, 5].map(|step| shards.epoch(StepId(step))), [0, 0, 1, 1]);
}

#[test]
fn a_batch_does_not_depend_on_what_was_loaded_ahead() {
    let job = Job::at(ROOT);
    let (ahead, fresh) = (job.shards(), job.shards());
    ahead.prepare(Work::Train, StepId(1), Node { first: 0, last: 4 });
    for (step, shard) in [(2, 3), (1, 0), (2, 0), (1, 3)] {
        let [a, b] = [&ahead, &fresh].map(|shards| shards.take(Work::Train, StepId(step), shard).0.unwrap());
        assert_eq!((a.samples, a.x_nhwc), (b.samples, b.x_nhwc), "shard {shard} of step {step}");
    }
}

#[test]
fn an_evaluation_takes_the_validation_split_in_its_order() {
    let shards = Job::at(ROOT).shards();
    shards.prepare(Work::Evaluate, StepId(3), Node { first: 0, last: 4 });
    let batches = (0..4).map(|shard| shards.take(Work::Evaluate, StepId(3), shard).0.unwrap());
    let taken: Vec<u32> = batches.flat_map(|batch| batch.samples).collect();
    assert_eq!(taken, (0..8).collect::<Vec<u32>>());
}

#[test]
fn shards_that_do_not_exist_are_not_prepared() {
    let (job, _files) = with_remote_files();
    for shards in [Job::at(ROOT).shards(), job.shards()] {
        for work in [Work::Train, Work::Evaluate] {
            shards.prepare(work, StepId(0), Node { first: 0, last: 40 });
        }
    }
}

#[test]
fn the_last_step_prepares_none_after_it() {
    let shards = Job::at(ROOT).shards();
    shards.prepare(Work::Train, StepId(5), Node { first: 0, last: 4 });
    assert_eq!(shards.state.lock().requests.len(), 4);
}

#[test]
fn shards_loaded_for_earlier_steps_are_dropped() {
    let shards = Job::at(ROOT).shards();
    let steps = |shards: &Shards| shards.state.lock().requests.iter().map(|(step, _)| step.0).collect::<Vec<_>>();
    let node = Node { first: 1, last: 2 };
    shards.prepare(Work::Train, StepId(0), node);
    assert_eq!(steps(&shards), [0, 1]);
    shards.prepare(Work::Train, StepId(1), node);
    assert_eq!(steps(&shards), [1, 1, 2], "those of step 0 are gone");
    shards.prepare(Work::Train, StepId(3), node);
    assert_eq!(steps(&shards), [3, 4]);
}

#[test]
fn targets_are_those_of_the_manifest() {
    let job = Job::at(ROOT);
    let batch = job.shards().take(Work::Train, StepId(0), 0).0.unwrap();
    let class = |sample: &u32| (sample * 7 + sample / 5) % 3;
    assert_eq!(batch.targets, Targets::Classes(batch.samples.iter().map(class).collect()));
}

/// A job whose training samples each have a file of their own, with the coordinator.
fn with_remote_files() -> (Job, Arc<RunFiles>) {
    let mut manifest: Manifest = STRIPES.manifest(ROOT);
    let train = Arc::make_mut(&mut manifest.train);
    train.root = "dataset:remote".to_owned();
    train.files = FileList::default();
    for number in 10..34 {
        let path = number.to_string();
        train.files.push(FileEntry { path: &path, size: 1, blake3: Digest::of(&[number - 10]) });
    }
    train.samples = a_file_each(&train.samples);
    let files = Arc::new(RunFiles::new(&manifest, None, None));
    (Job::of(STRIPES.plan(ROOT, SPEC), manifest), files)
}

#[test]
fn files_are_fetched_for_the_same_place_in_the_next_steps_of_the_epoch() {
    let (job, files) = with_remote_files();
    let shards = Shards { remote: Some(files.clone()), ..job.shards() };
    let order = EpochOrder::shuffled(5, 0, &(0..24).collect::<Vec<u32>>());
    shards.fetch_ahead(Work::Train, StepId(1), Node { first: 2, last: 3 });
    let mut expected = [order.samples(12..14), order.samples(20..22)].concat();
    assert_eq!(files.take_batch(), expected, "shard 2 of steps 1 and 2; the epoch ends there");
    shards.fetch_ahead(Work::Train, StepId(0), Node { first: 0, last: 4 });
    expected.sort_unstable();
    let rest = files.take_batch();
    assert_eq!(rest.len(), 20, "no file is asked for twice");
    assert!(rest.iter().all(|file| expected.binary_search(file).is_err()));
}
